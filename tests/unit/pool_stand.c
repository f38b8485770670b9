/* SPDX-License-Identifier: MIT */
#include "pool_stand.h"

#include <errno.h>
#include <stdlib.h>

struct dmaland_device *stand_open(uint64_t memory_limit, bool pool_debug)
{
	struct dmaland_options options = {
		.size = sizeof(options),
		.memory_limit = memory_limit,
		.pool_debug = pool_debug,
	};
	struct dmaland_device *dev = dmaland_open("soft:", &options);

	assert_non_null(dev);
	assert_int_equal(dma_set_mask_and_coherent(dev, DMA_BIT_MASK(64)), 0);
	return dev;
}

struct blocks blocks_make(struct dma_pool *pool, size_t room)
{
	struct blocks b = {.pool = pool, .room = room};

	b.vaddrs = calloc(room, sizeof(*b.vaddrs));
	b.handles = calloc(room, sizeof(*b.handles));
	assert_true(b.vaddrs && b.handles);
	return b;
}

size_t blocks_take(struct blocks *b, size_t n, gfp_t gfp)
{
	size_t taken = 0;

	for (; taken < n && b->count < b->room; taken++, b->count++) {
		b->vaddrs[b->count] = dma_pool_alloc(b->pool, gfp, &b->handles[b->count]);
		if (!b->vaddrs[b->count])
			break;
	}
	return taken;
}

void blocks_give(struct blocks *b, size_t n)
{
	while (n-- && b->count) {
		b->count--;
		dma_pool_free(b->pool, b->vaddrs[b->count], b->handles[b->count]);
	}
}

void blocks_end(struct blocks *b)
{
	blocks_give(b, b->count);
	free(b->vaddrs);
	free(b->handles);
	*b = (struct blocks){0};
}

void blocks_shuffle(struct blocks *b, uint64_t seed)
{
	for (size_t i = b->count; i > 1; i--) {
		size_t k = random_below(&seed, i);
		void *vaddr = b->vaddrs[k];
		dma_addr_t handle = b->handles[k];

		b->vaddrs[k] = b->vaddrs[i - 1];
		b->handles[k] = b->handles[i - 1];
		b->vaddrs[i - 1] = vaddr;
		b->handles[i - 1] = handle;
	}
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void expect_apart(uint64_t *starts, size_t n, size_t size, const char *what)
{
	qsort(starts, n, sizeof(*starts), compare);
	for (size_t i = 1; i < n; i++)
		if (starts[i] - starts[i - 1] < size)
			fail_msg("size %zu: blocks at %s 0x%llx and 0x%llx", size, what,
				 (unsigned long long)starts[i - 1], (unsigned long long)starts[i]);
}

void blocks_census(const struct blocks *lists, size_t n, size_t size, size_t align, size_t boundary)
{
	uint64_t *vaddrs, *handles;
	size_t count = 0, k = 0;

	for (size_t i = 0; i < n; i++)
		count += lists[i].count;
	vaddrs = calloc(count + 1, sizeof(*vaddrs));
	handles = calloc(count + 1, sizeof(*handles));
	assert_true(vaddrs && handles);
	for (size_t i = 0; i < n; i++)
		for (size_t b = 0; b < lists[i].count; b++, k++) {
			vaddrs[k] = (uintptr_t)lists[i].vaddrs[b];
			handles[k] = lists[i].handles[b];
			if (handles[k] & (align - 1) ||
			    (boundary && (handles[k] ^ (handles[k] + size - 1)) & ~(boundary - 1)))
				fail_msg("size %zu align %zu boundary %zu: a block at 0x%llx", size,
					 align, boundary, (unsigned long long)handles[k]);
		}
	expect_apart(vaddrs, count, size, "address");
	expect_apart(handles, count, size, "dma address");
	free(vaddrs);
	free(handles);
}

struct dmaland_pool_stats stand_stats(struct dma_pool *pool)
{
	struct dmaland_pool_stats stats;

	dmaland_pool_get_stats(pool, &stats);
	return stats;
}

/* What the pool grows by at the most, in blocks and in pages. */
static struct dmaland_pool_stats slab_stats(struct dmaland_device *dev, size_t size)
{
	enum { TAKEN = 1000 };
	struct dma_pool *pool = dma_pool_create("many blocks", dev, size, 0, 0);
	struct dmaland_pool_stats stats, before = {.total = 0}, most = {.total = 0};
	struct blocks blocks = blocks_make(pool, TAKEN);

	for (size_t i = 0; i < TAKEN && blocks_take(&blocks, 1, GFP_KERNEL); i++) {
		stats = stand_stats(pool);
		if (stats.total - before.total > most.total)
			most.total = stats.total - before.total;
		if (stats.pages - before.pages > most.pages)
			most.pages = stats.pages - before.pages;
		before = stats;
	}
	blocks_give(&blocks, blocks.count);
	blocks_end(&blocks);
	dma_pool_destroy(pool);
	return most;
}

size_t blocks_of_a_slab(struct dmaland_device *dev, size_t size)
{
	return slab_stats(dev, size).total;
}

size_t slab_pages(struct dmaland_device *dev, size_t size)
{
	return slab_stats(dev, size).pages;
}

void expect_idle(struct dma_pool *pool, size_t pages)
{
	struct dmaland_pool_stats stats;

	dmaland_pool_trim(pool);
	stats = stand_stats(pool);
	assert_int_equal(stats.in_use, 0);
	assert_int_equal(stats.bad_frees, 0);
	if (stats.pages > pages)
		fail_msg("%s has %zu pages, more than %zu, and parks %zu blocks", stats.name,
			 stats.pages, pages, stats.parked);
}

void thread_start(pthread_t *thread, void *(*f)(void *), void *context)
{
	assert_int_equal(pthread_create(thread, NULL, f, context), 0);
}

void thread_run(void *(*f)(void *), void *context)
{
	pthread_t thread;

	thread_start(&thread, f, context);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

void thread_start_small(pthread_t *thread, void *(*f)(void *), void *context)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, SANITIZED ? 256 << 10 : 64 << 10);
	assert_int_equal(pthread_create(thread, &attr, f, context), 0);
	pthread_attr_destroy(&attr);
}
