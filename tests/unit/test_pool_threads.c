/* SPDX-License-Identifier: MIT */
/*
 * test_pool_threads.c - threads that come and go: what they leave in pools, however they end
 */
#include "test.h"

#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "pool_stand.h"

enum {
	COMERS = SANITIZED ? 640 : 10000,
	GROUP = 64, /* so many at a time */
	POOLS = 8,
	BLOCK = 64,
	TAKES = 5,
	LEAVES = 2, /* of them, for whoever comes next */

	TOGETHER = SANITIZED ? 150 : 1000, /* threads that live at the same time */
	POOLS_TOGETHER = SANITIZED ? 16 : 64,
	CROWD = SANITIZED ? 1150 : 1500,

	/* What the process may have kept of it all. Stacks of blocks for each of 1,000 threads in 64 pools were 160 MiB. */
	KEPT_MIB =
		56, /* a chunk of 32 MiB that the arena keeps for its reserve; 128 bytes for each thread in each pool */
};

static struct dmaland_device *dev;
static struct dma_pool *pools[POOLS_TOGETHER];
static pthread_barrier_t barrier;

static void pools_open(size_t n)
{
	dev = stand_open(0, false);
	for (size_t i = 0; i < n; i++) {
		pools[i] = dma_pool_create("threads", dev, BLOCK, 0, 0);
		assert_non_null(pools[i]);
	}
}

/* Nothing is left in them but a slab each. */
static void pools_close_idle(size_t n)
{
	size_t pages = slab_pages(dev, BLOCK);

	for (size_t i = 0; i < n; i++)
		expect_idle(pools[i], pages);
	for (size_t i = 0; i < n; i++)
		dma_pool_destroy(pools[i]);
	dmaland_close(dev);
	assert_string_equal(log_text(), "");
}

static size_t resident_kib(void)
{
	char line[128];
	size_t kib = 0;
	FILE *f = fopen("/proc/self/status", "re");

	assert_non_null(f);
	malloc_trim(0);
	while (fgets(line, sizeof(line), f) && sscanf(line, "VmRSS: %zu", &kib) != 1)
		;
	fclose(f);
	assert_true(kib > 0);
	return kib;
}

/* A sanitizer keeps what was freed, so there it tells nothing. */
static void expect_memory_back(size_t before_kib)
{
	size_t now = resident_kib();

	print_message("# %zu KiB before, %zu KiB after\n", before_kib, now);
	if (!SANITIZED)
		assert_true(now < before_kib + KEPT_MIB * 1024);
}

/* ---- many, one after another and in groups: each frees what one before it left ---- */

static struct {
	pthread_mutex_t lock;
	void *vaddrs[POOLS][GROUP * LEAVES];
	dma_addr_t handles[POOLS][GROUP * LEAVES];
	size_t count[POOLS], failed;
} left = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void free_what_was_left(int pool)
{
	pthread_mutex_lock(&left.lock);
	for (int i = 0; i < LEAVES && left.count[pool]; i++) {
		size_t last = --left.count[pool];

		dma_pool_free(pools[pool], left.vaddrs[pool][last], left.handles[pool][last]);
	}
	pthread_mutex_unlock(&left.lock);
}

static void leave(int pool, void *vaddr, dma_addr_t handle)
{
	size_t *count = &left.count[pool];

	pthread_mutex_lock(&left.lock);
	if (vaddr && *count < GROUP * LEAVES) {
		left.vaddrs[pool][*count] = vaddr;
		left.handles[pool][(*count)++] = handle;
	} else {
		left.failed++;
	}
	pthread_mutex_unlock(&left.lock);
}

static void *come_and_go(void *context)
{
	void *vaddrs[TAKES];
	dma_addr_t handles[TAKES];

	for (int p = 0; p < POOLS; p++) {
		for (int i = 0; i < TAKES; i++)
			vaddrs[i] = dma_pool_alloc(pools[p], i % 2 ? GFP_ATOMIC : GFP_KERNEL,
						   &handles[i]);
		for (int i = LEAVES; i < TAKES; i++)
			if (vaddrs[i])
				dma_pool_free(pools[p], vaddrs[i], handles[i]);
		free_what_was_left(p);
		for (int i = 0; i < LEAVES; i++)
			leave(p, vaddrs[i], handles[i]);
	}
	return context;
}

static void come_in_groups(size_t threads, size_t group)
{
	pthread_t ids[GROUP];

	for (size_t i = 0; i < threads; i += group) {
		for (size_t k = 0; k < group; k++)
			thread_start(&ids[k], come_and_go, NULL);
		for (size_t k = 0; k < group; k++)
			pthread_join(ids[k], NULL);
	}
}

static void ten_thousand(size_t group)
{
	size_t before, most = 0;

	pools_open(POOLS);
	come_in_groups(2 * GROUP, GROUP); /* of their stacks the process keeps some */
	before = resident_kib();
	come_in_groups(COMERS, group);
	expect_memory_back(before);
	assert_int_equal(left.failed, 0);
	for (int p = 0; p < POOLS; p++) {
		size_t pages = stand_stats(pools[p]).pages;

		most = pages > most ? pages : most;
		while (left.count[p])
			free_what_was_left(p);
	}
	print_message("# at most %zu pages a pool before trimming\n", most);
	pools_close_idle(POOLS);
}

static void ten_thousand_threads_one_after_another_leave_nothing(void **state)
{
	(void)state;
	ten_thousand(1);
}

static void ten_thousand_threads_in_groups_leave_nothing(void **state)
{
	(void)state;
	ten_thousand(GROUP);
}

/* ---- many that live at the same time ---- */

static void *meet(void *context)
{
	pthread_barrier_wait(&barrier);
	return context;
}

static void *use_all_pools(void *context)
{
	for (size_t p = 0; p < POOLS_TOGETHER; p++) {
		dma_addr_t handle;
		void *block = dma_pool_alloc(pools[p], GFP_KERNEL, &handle);

		if (block)
			dma_pool_free(pools[p], block, handle);
		else
			__atomic_fetch_add((size_t *)context, 1, __ATOMIC_RELAXED);
	}
	pthread_barrier_wait(&barrier);
	return NULL;
}

static void run_together(size_t threads, void *(*f)(void *), void *context, size_t each)
{
	static pthread_t ids[CROWD];

	pthread_barrier_init(&barrier, NULL, (unsigned int)threads);
	for (size_t i = 0; i < threads; i++)
		thread_start_small(&ids[i], f, (char *)context + i * each);
	for (size_t i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	pthread_barrier_destroy(&barrier);
}

static void a_thousand_threads_at_a_time_leave_nothing(void **state)
{
	size_t before, failed = 0;

	(void)state;
	pools_open(POOLS_TOGETHER);
	run_together(TOGETHER, meet, NULL, 0);
	before = resident_kib();
	for (int round = 0; round < 2; round++)
		run_together(TOGETHER, use_all_pools, &failed, 0);
	assert_int_equal(failed, 0);
	for (size_t p = 0; p < POOLS_TOGETHER; p++)
		dmaland_pool_trim(pools[p]);
	expect_memory_back(before);
	pools_close_idle(POOLS_TOGETHER);
}

static struct member {
	struct blocks blocks;
	bool ok;
} crowd[CROWD];

/* Takes and stamps some, frees its neighbour's, and takes and frees some more; all at the same time. */
static void *take_and_free_the_neighbours(void *context)
{
	struct member *m = context, *next = &crowd[(size_t)(m - crowd + 1) % CROWD];

	m->ok = blocks_take(&m->blocks, TAKES, GFP_KERNEL) == TAKES;
	for (size_t i = 0; i < m->blocks.count; i++)
		*(struct member **)m->blocks.vaddrs[i] = m;
	pthread_barrier_wait(&barrier);
	for (size_t i = 0; i < next->blocks.count; i++)
		m->ok = m->ok && *(struct member **)next->blocks.vaddrs[i] == next;
	blocks_give(&next->blocks, TAKES);
	pthread_barrier_wait(&barrier);
	m->ok = m->ok && blocks_take(&m->blocks, TAKES, GFP_KERNEL) == TAKES;
	pthread_barrier_wait(&barrier);
	blocks_give(&m->blocks, TAKES);
	return NULL;
}

static void more_threads_than_there_are_numbers_for_allocate_and_free(void **state)
{
	(void)state;
	pools_open(1);
	for (size_t i = 0; i < CROWD; i++)
		crowd[i].blocks = blocks_make(pools[0], TAKES);
	run_together(CROWD, take_and_free_the_neighbours, crowd, sizeof(crowd[0]));
	for (size_t i = 0; i < CROWD; i++) {
		assert_true(crowd[i].ok);
		blocks_end(&crowd[i].blocks);
	}
	pools_close_idle(1);
}

/* ---- threads that share a cache ---- */

static void *take_all(void *context)
{
	struct blocks *b = context;

	pthread_barrier_wait(&barrier);
	blocks_take(b, b->room, GFP_KERNEL);
	return NULL;
}

/* Those of a watched pool. Each may find that it needs a slab, and none pushes another's away with its own. */
static void threads_that_share_a_cache_use_the_slabs_they_made(void **state)
{
	enum { SIZE = 1008, SHARERS = 8, EACH = 2000, HELD = SHARERS * EACH };
	struct blocks blocks[SHARERS];
	pthread_t threads[SHARERS];
	struct dma_pool *pool;
	size_t most, total;

	(void)state;
	dev = stand_open(0, true);
	most = HELD + SHARERS * blocks_of_a_slab(dev, SIZE);
	pool = dma_pool_create("shared", dev, SIZE, 0, 0);
	assert_non_null(pool);
	assert_int_equal(pthread_barrier_init(&barrier, NULL, SHARERS), 0);
	for (int i = 0; i < SHARERS; i++) {
		blocks[i] = blocks_make(pool, EACH);
		thread_start(&threads[i], take_all, &blocks[i]);
	}
	for (int i = 0; i < SHARERS; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&barrier);
	total = stand_stats(pool).total;
	assert_int_equal(stand_stats(pool).in_use, HELD);
	for (int i = 0; i < SHARERS; i++)
		blocks_end(&blocks[i]);
	dma_pool_destroy(pool);
	dmaland_close(dev);
	print_message("# %zu blocks for %d that are held\n", total, HELD);
	assert_in_range(total, HELD, most);
	assert_string_equal(log_text(), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ten_thousand_threads_one_after_another_leave_nothing),
		cmocka_unit_test(ten_thousand_threads_in_groups_leave_nothing),
		cmocka_unit_test(a_thousand_threads_at_a_time_leave_nothing),
		cmocka_unit_test(more_threads_than_there_are_numbers_for_allocate_and_free),
		cmocka_unit_test(threads_that_share_a_cache_use_the_slabs_they_made),
	};

	log_capture();
	return cmocka_run_group_tests_name("pool threads", tests, NULL, NULL);
}
