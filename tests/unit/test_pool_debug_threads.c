/* SPDX-License-Identifier: MIT */
/*
 * test_pool_debug_threads.c - pools in debug mode: frees that race, calls from a log callback, checking beside work
 */
#include "test.h"

#include <pthread.h>
#include <sched.h>

#include "fake_domain.h"

static struct dma_pool *create(void *state, size_t size, size_t align, size_t boundary)
{
	struct pool_place place = ((struct fake_place *)state)->place;

	place.debug = true;
	return pool_create("watched", &place, size, align, boundary);
}

struct race {
	struct dma_pool *pool;
	void *block;
	dma_addr_t handle;
	bool bulk, over;
	size_t arrived; /* both count up */
};

/* Both leave as soon as both are there; a barrier of the system's would wake one after the other. */
static void race_meet(struct race *r, size_t meeting)
{
	__atomic_fetch_add(&r->arrived, 1, __ATOMIC_ACQ_REL);
	for (size_t i = 1; __atomic_load_n(&r->arrived, __ATOMIC_ACQUIRE) < 2 * meeting; i++)
		if (i % 4096 == 0)
			sched_yield();
}

static void free_once(struct race *r)
{
	if (r->bulk)
		dmaland_pool_free_bulk(r->pool, 1, &r->block, &r->handle);
	else
		dma_pool_free(r->pool, r->block, r->handle);
}

static void *free_as_well(void *context)
{
	struct race *r = context;

	for (size_t meeting = 1;; meeting += 2) {
		race_meet(r, meeting);
		if (r->over)
			return NULL;
		free_once(r);
		race_meet(r, meeting + 1);
	}
}

static void of_two_frees_that_race_exactly_one_is_refused(void **state)
{
	enum { RACES = 10000 };
	struct race r = {.pool = create(*state, 64, 0, 0)};
	struct dmaland_pool_stats stats;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, free_as_well, &r), 0);
	for (size_t i = 1; i <= RACES; i++) {
		r.block = dma_pool_alloc(r.pool, GFP_KERNEL, &r.handle);
		r.bulk = i % 2;
		race_meet(&r, 2 * i - 1);
		free_once(&r);
		race_meet(&r, 2 * i);
		dmaland_pool_get_stats(r.pool, &stats);
		assert_int_equal(stats.bad_frees, i);
		assert_int_equal(stats.in_use, 0);
		assert_logged(" already free (freed at test_pool_debug_threads+0x");
		assert_int_equal(log_lines(), 1);
		log_clear();
	}
	r.over = true;
	race_meet(&r, 2 * RACES + 1);
	pthread_join(thread, NULL);
	dma_pool_destroy(r.pool);
}

/* Second frees by whoever hears of the damage that the first has found. */
static struct {
	struct dma_pool *pool;
	void *block;
	dma_addr_t handle;
	int calls;
} within;

static void free_within(void *context, enum dmaland_log_level level, const char *line)
{
	(void)context;
	(void)level;
	if (within.calls++ == 0) {
		assert_non_null(strstr(line, "(overrun)"));
		dma_pool_free(within.pool, within.block, within.handle);
		assert_int_equal(within.calls, 2);
		assert_int_equal(dmaland_pool_check(within.pool), 0);
	} else {
		assert_non_null(strstr(line, "already free"));
	}
}

static void a_log_callback_may_use_the_pool_and_the_block_is_free_by_then(void **state)
{
	struct dmaland_pool_stats stats;

	within.pool = create(*state, 64, 0, 0);
	within.block = dma_pool_alloc(within.pool, GFP_KERNEL, &within.handle);
	((char *)within.block)[64] = 1;
	dmaland_set_log(free_within, NULL);
	dma_pool_free(within.pool, within.block, within.handle);
	log_capture();
	assert_int_equal(within.calls, 2);
	dmaland_pool_get_stats(within.pool, &stats);
	assert_int_equal(stats.bad_frees, 1);
	assert_int_equal(stats.in_use, 0);
	dma_pool_destroy(within.pool);
}

struct worker {
	struct dma_pool *pool;
	uint64_t seed;
	bool *over;
};

static void *work(void *context)
{
	enum { LIVE = 10 };
	struct worker *w = context;
	char *blocks[LIVE] = {0};
	dma_addr_t handles[LIVE];

	for (int step = 0; step < 5000; step++) {
		size_t i = random_below(&w->seed, LIVE);

		if (blocks[i]) {
			dma_pool_free(w->pool, blocks[i], handles[i]);
			blocks[i] = NULL;
		} else {
			blocks[i] = dma_pool_alloc(w->pool, GFP_KERNEL, &handles[i]);
			memset(blocks[i], (int)i, 200);
		}
		if (step % 10 == 0)
			dmaland_pool_trim(w->pool);
	}
	for (size_t i = 0; i < LIVE; i++)
		if (blocks[i])
			dma_pool_free(w->pool, blocks[i], handles[i]);
	return NULL;
}

static void checking_while_others_work_finds_nothing(void **state)
{
	struct worker workers[3];
	struct dma_pool *pool = create(*state, 200, 0, 0);
	pthread_t threads[3];

	for (int i = 0; i < 3; i++) {
		workers[i] = (struct worker){.pool = pool, .seed = 5 + (uint64_t)i};
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (int i = 0; i < 200; i++)
		assert_int_equal(dmaland_pool_check(pool), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(dmaland_pool_check(pool), 0);
	dma_pool_destroy(pool);
	assert_string_equal(log_text(), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		place_test(of_two_frees_that_race_exactly_one_is_refused),
		place_test(a_log_callback_may_use_the_pool_and_the_block_is_free_by_then),
		place_test(checking_while_others_work_finds_nothing),
	};

	return cmocka_run_group_tests_name("pool debug, threads", tests, NULL, NULL);
}
