/* SPDX-License-Identifier: MIT */
#include "test.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

#include "fake_domain.h"
#include "pool/pool_internal.h"

static struct dma_pool *create(void *state, size_t size, size_t align, size_t boundary)
{
	return pool_create("test pool", &((struct fake_place *)state)->place, size, align,
			   boundary);
}

static struct dmaland_pool_stats stats_of(struct dma_pool *pool)
{
	struct dmaland_pool_stats stats;

	dmaland_pool_get_stats(pool, &stats);
	return stats;
}

static void arguments_are_checked_in_the_kernels_order(void **state)
{
	static const struct {
		size_t size, align, boundary;
		const char *says; /* NULL: the pool is made */
		size_t rounded;
	} cases[] = {
		{0, 0, 0, "size 0", 0},
		{0, 3, 0, "alignment 3", 0},
		{64, 3, 0, "alignment 3", 0},
		{64, 0, 0, NULL, 64},
		{1, 0, 0, NULL, 16},
		{1, 64, 0, NULL, 64},
		{17, 1, 0, NULL, 17},
		{17, 16, 0, NULL, 32},
		{40, 64, 32, "boundary 32", 0},
		{40, 8, 32, "boundary 32", 0},
		{40, 8, 96, "boundary 96", 0},
		{40, 8, 64, NULL, 40},
		{64, 64, 64, NULL, 64},
		{64, 64, 1ul << 40, NULL, 64},
		{5000, 0, 4096, "boundary 4096", 0},
		{5000, 0, 8192, NULL, 5000},
		{(size_t)INT_MAX + 1, 0, 0, "is not from 1 to", 0},
		{INT_MAX, 4096, 0, "makes the size", 0},
		{256, 1ul << 40, 0, "makes the size", 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct dma_pool *pool;
		struct dmaland_pool_stats stats;

		errno = 0;
		pool = create(*state, cases[i].size, cases[i].align, cases[i].boundary);
		if (cases[i].says) {
			assert_null(pool);
			assert_int_equal(errno, EINVAL);
			assert_error_says(cases[i].says);
			continue;
		}
		assert_non_null(pool);
		dmaland_pool_get_stats(pool, &stats);
		assert_int_equal(stats.block_size, cases[i].rounded);
		dma_pool_destroy(pool);
	}
}

/* Slab by slab; each begins at a multiple of its size. */
static void fresh_blocks_are_handed_out_in_ascending_order(void **state)
{
	static const size_t sizes[] = {16, 17, 48, 64, 68, 256, 1000, 2048};

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		struct dma_pool *pool = create(*state, sizes[s], 0, 0);
		dma_addr_t handles[256];
		char *blocks[256];
		size_t n = 1;

		blocks[0] = dma_pool_alloc(pool, GFP_KERNEL, &handles[0]);
		assert_non_null(blocks[0]);
		for (; n < stats_of(pool).total; n++) { /* the whole page that it has */
			size_t in_slab = (handles[n - 1] & (pool->slab_size - 1)) + 2 * sizes[s];
			size_t step = in_slab <= pool->slab_size
					      ? sizes[s]
					      : pool->slab_size - in_slab + 2 * sizes[s];

			assert_in_range(n, 1, 255);
			blocks[n] = dma_pool_alloc(pool, GFP_KERNEL, &handles[n]);
			assert_non_null(blocks[n]);
			assert_true(handles[n] == handles[n - 1] + step);
			assert_ptr_equal(blocks[n], blocks[n - 1] + step);
		}
		assert_int_equal(stats_of(pool).pages, 1);
		for (size_t i = 0; i < n; i++)
			dma_pool_free(pool, blocks[i], handles[i]);
		dma_pool_destroy(pool);
	}
	assert_string_equal(log_text(), "");
}

static void the_lowest_free_block_is_handed_out_next(void **state)
{
	struct dma_pool *pool = create(*state, 64, 64, 0);
	dma_addr_t h[3], again;
	void *b[3];

	for (int i = 0; i < 3; i++)
		b[i] = dma_pool_alloc(pool, GFP_KERNEL, &h[i]);
	dma_pool_free(pool, b[0], h[0]);
	dma_pool_free(pool, b[2], h[2]);
	assert_ptr_equal(dma_pool_alloc(pool, GFP_KERNEL, &again), b[0]);
	assert_true(again == h[0]);
	assert_ptr_equal(dma_pool_alloc(pool, GFP_KERNEL, &again), b[2]);
	assert_true(again == h[2]);
	for (int i = 0; i < 3; i++)
		dma_pool_free(pool, b[i], h[i]);
	dma_pool_destroy(pool);
}

static void the_boundary_holds_on_the_dma_address_of_odd_slabs(void **state)
{
	/* 12 KiB in a page-aligned place would cross a 16 KiB boundary two times in four. */
	struct dma_pool *pool = create(*state, 12288, 4096, 16384);
	dma_addr_t handles[40];
	void *blocks[40];

	for (int i = 0; i < 40; i++) {
		blocks[i] = dma_pool_alloc(pool, GFP_KERNEL, &handles[i]);
		assert_true(handles[i] / 16384 == (handles[i] + 12287) / 16384);
	}
	for (int i = 0; i < 40; i++)
		dma_pool_free(pool, blocks[i], handles[i]);
	dma_pool_destroy(pool);
}

static void zalloc_clears_the_whole_rounded_block(void **state)
{
	struct dma_pool *pool = create(*state, 100, 64, 0);
	dma_addr_t handle;

	for (int round = 0; round < 3; round++) {
		char *block = dma_pool_zalloc(pool, GFP_KERNEL, &handle);

		for (int i = 0; i < 128; i++)
			assert_int_equal(block[i], 0);
		memset(block, 0xff, 128);
		dma_pool_free(pool, block, handle);
	}
	dma_pool_destroy(pool);
}

static void a_pool_destroyed_busy_keeps_only_its_busy_slab(void **state)
{
	struct fake_place *p = *state;
	struct dma_pool *pool = create(p, 1024, 0, 0);
	dma_addr_t h[16];
	char *b[16];
	struct page *page;
	size_t free_pages;

	for (int i = 0; i < 16; i++)
		b[i] = dma_pool_alloc(pool, GFP_KERNEL, &h[i]);
	free_pages = p->arena->free_pages + stats_of(pool).pages;
	for (int i = 0; i < 16; i++)
		if (i != 5)
			dma_pool_free(pool, b[i], h[i]);
	dma_pool_destroy(pool);
	assert_string_equal(log_text(), "fake: dma_pool_destroy test pool busy\n");
	page = pagemap_find(&p->arena->pagemap, b[5]);
	page -= page->run_offset;
	assert_int_equal(page->run_pages, 2); /* its second slab */
	assert_int_equal(p->arena->free_pages, free_pages - page->run_pages);
	memset(b[5], 0x11, 1024); /* still mapped */
	assert_true(arena_translate(p->arena, &p->limits, b[5], 1024) == h[5]);
	assert_ptr_equal(page_tenant(page), &p->orphans);
	arena_give(p->arena, page);
}

/* Whichever of a page's slabs it is. */
static void a_pool_destroyed_busy_keeps_the_page_of_a_small_slab(void **state)
{
	enum { BLOCKS = ARENA_PAGE / 16 };
	struct fake_place *p = *state;
	dma_addr_t h[BLOCKS];
	char *b[BLOCKS];

	for (size_t busy = 0; busy < BLOCKS; busy += 50) {
		struct dma_pool *pool = create(p, 16, 0, 0);
		struct page *page;

		for (size_t i = 0; i < BLOCKS; i++)
			b[i] = dma_pool_alloc(pool, GFP_KERNEL, &h[i]);
		for (size_t i = 0; i < BLOCKS; i++)
			if (i != busy)
				dma_pool_free(pool, b[i], h[i]);
		log_clear();
		dma_pool_destroy(pool);
		assert_string_equal(log_text(), "fake: dma_pool_destroy test pool busy\n");
		page = pagemap_find(&p->arena->pagemap, b[busy]);
		assert_ptr_equal(page_tenant(page), &p->orphans);
		assert_int_equal(p->arena->free_pages, p->arena->pages - 1);
		arena_give(p->arena, page);
	}
}

static void a_pool_of_one_block_costs_one_page(void **state)
{
	struct fake_place *p = *state;
	struct dma_pool *pool = create(p, 64, 0, 0);
	struct dmaland_pool_stats stats;
	dma_addr_t handle;
	void *block;

	assert_int_equal(p->arena->free_pages, p->arena->pages);
	block = dma_pool_alloc(pool, GFP_KERNEL, &handle);
	assert_int_equal(p->arena->free_pages, p->arena->pages - 1);
	dmaland_pool_get_stats(pool, &stats);
	assert_int_equal(stats.pages, 1);
	assert_int_equal(stats.total, 64);
	dma_pool_free(pool, block, handle);
	dma_pool_destroy(pool);
	assert_int_equal(p->arena->free_pages, p->arena->pages);
}

static void when_memory_runs_out_the_handle_is_untouched_and_freeing_helps(void **state)
{
	struct fake_place *p = *state;
	struct dma_pool *pool;
	dma_addr_t handle = 0, last = 0, untouched = 42;
	void *block, *last_block = NULL;
	size_t n = 0;

	p->fake.domain.memory_limit = 256 << 10;
	pool = create(p, 4096, 0, 0);
	for (; (block = dma_pool_alloc(pool, GFP_KERNEL, &handle)); n++) {
		last = handle;
		last_block = block;
	}
	assert_int_equal(n, 64);
	assert_int_equal(errno, ENOMEM);
	assert_error_says("memory_limit");
	assert_null(dma_pool_alloc(pool, GFP_ATOMIC, &untouched));
	assert_int_equal(untouched, 42);
	dma_pool_free(pool, last_block, last);
	assert_ptr_equal(dma_pool_alloc(pool, GFP_ATOMIC, &untouched), last_block);
	dma_pool_destroy(pool);
	fake_give_all(p->arena, &p->orphans);
}

static void atomic_is_served_from_a_fresh_pool_without_growing_the_arena(void **state)
{
	static const size_t sizes[] = {16, 64, 4096};
	struct fake_place *p = *state;

	for (size_t s = 0; s < 3; s++) {
		struct dma_pool *pool = create(p, sizes[s], 0, 0);
		unsigned int provides = p->fake.provides;
		dma_addr_t handles[ARENA_RESERVE_PAGES / 2];
		void *blocks[ARENA_RESERVE_PAGES / 2];

		for (int i = 0; i < ARENA_RESERVE_PAGES / 2; i++)
			assert_non_null(blocks[i] = dma_pool_alloc(pool, GFP_ATOMIC, &handles[i]));
		assert_int_equal(p->fake.provides, provides);
		for (int i = 0; i < ARENA_RESERVE_PAGES / 2; i++)
			dma_pool_free(pool, blocks[i], handles[i]);
		dma_pool_destroy(pool);
	}
}

static void a_name_is_cut_to_31_characters(void **state)
{
	struct fake_place *p = *state;
	struct dma_pool *pool =
		pool_create("a name that is a good deal longer than 31", &p->place, 64, 0, 0);
	struct dmaland_pool_stats stats;

	dmaland_pool_get_stats(pool, &stats);
	assert_string_equal(stats.name, "a name that is a good deal long");
	assert_int_equal(strlen(stats.name), 31);
	dma_pool_destroy(pool);
	dma_pool_destroy(NULL);
}

struct worker {
	struct dma_pool *pool;
	uint64_t seed;
	bool ok;
};

/* Write a pattern of one's own into each block; a block given to two shows. */
static void *work(void *context)
{
	enum { LIVE = 100 };
	struct worker *w = context;
	uint64_t *blocks[LIVE] = {0};
	dma_addr_t handles[LIVE];

	w->ok = true;
	for (int step = 0; step < 20000; step++) {
		size_t i = random_below(&w->seed, LIVE);

		if (blocks[i]) {
			w->ok = w->ok && blocks[i][0] == (uintptr_t)w && blocks[i][7] == i;
			dma_pool_free(w->pool, blocks[i], handles[i]);
			blocks[i] = NULL;
		} else {
			blocks[i] = dma_pool_alloc(w->pool, step % 3 ? GFP_KERNEL : GFP_ATOMIC,
						   &handles[i]);
			if (!blocks[i])
				continue;
			blocks[i][0] = (uintptr_t)w;
			blocks[i][7] = i;
		}
	}
	for (size_t i = 0; i < LIVE; i++)
		if (blocks[i])
			dma_pool_free(w->pool, blocks[i], handles[i]);
	return NULL;
}

static void threads_never_share_a_block(void **state)
{
	struct dma_pool *pool = create(*state, 64, 64, 0);
	struct worker workers[4];
	pthread_t threads[4];
	struct dmaland_pool_stats stats;

	for (int i = 0; i < 4; i++) {
		workers[i] = (struct worker){.pool = pool, .seed = 100 + (uint64_t)i};
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_true(workers[i].ok);
	}
	dmaland_pool_get_stats(pool, &stats);
	assert_int_equal(stats.in_use, 0);
	assert_int_equal(stats.bad_frees, 0);
	dma_pool_destroy(pool);
}

/* Makes a pool, uses some pages of it, ends it, again and again. */
static void *come_and_go(void *context)
{
	enum { N = 256 };
	void *blocks[N];
	dma_addr_t handles[N];

	for (int round = 0; round < 50; round++) {
		struct dma_pool *pool = create(context, 1024, 0, 0);
		size_t n = dmaland_pool_alloc_bulk(pool, GFP_KERNEL, N, blocks, handles);

		dmaland_pool_free_bulk(pool, n, blocks, handles);
		if (round % 2)
			dmaland_pool_trim(pool);
		dma_pool_destroy(pool);
	}
	return NULL;
}

static void pools_come_and_go_beside_each_other(void **state)
{
	pthread_t threads[3];

	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, *state), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	assert_string_equal(log_text(), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		place_test(arguments_are_checked_in_the_kernels_order),
		place_test(fresh_blocks_are_handed_out_in_ascending_order),
		place_test(the_lowest_free_block_is_handed_out_next),
		place_test(the_boundary_holds_on_the_dma_address_of_odd_slabs),
		place_test(zalloc_clears_the_whole_rounded_block),
		place_test(a_pool_destroyed_busy_keeps_only_its_busy_slab),
		place_test(a_pool_destroyed_busy_keeps_the_page_of_a_small_slab),
		place_test(a_pool_of_one_block_costs_one_page),
		place_test(when_memory_runs_out_the_handle_is_untouched_and_freeing_helps),
		place_test(atomic_is_served_from_a_fresh_pool_without_growing_the_arena),
		place_test(a_name_is_cut_to_31_characters),
		place_test(threads_never_share_a_block),
		place_test(pools_come_and_go_beside_each_other),
	};

	return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
