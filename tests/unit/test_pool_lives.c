/* SPDX-License-Identifier: MIT */
/*
 * test_pool_lives.c - pools and threads begin and end in any order, and nothing is lost
 */
#include "test.h"

#include <poll.h>
#include <pthread.h>

#include "fake_domain.h"

static struct dma_pool *create(void *state, size_t size, size_t align, size_t boundary)
{
	return pool_create("test pool", &((struct fake_place *)state)->place, size, align,
			   boundary);
}

struct exchange {
	struct dma_pool *pool;
	void *blocks[200];
	dma_addr_t handles[200];
	size_t count;
};

static void *take_all(void *context)
{
	struct exchange *x = context;

	x->count = dmaland_pool_alloc_bulk(x->pool, GFP_KERNEL, 200, x->blocks, x->handles);
	return NULL;
}

static void *free_all(void *context)
{
	struct exchange *x = context;

	dmaland_pool_free_bulk(x->pool, x->count, x->blocks, x->handles);
	return NULL;
}

static void run_in_thread(void *(*f)(void *), void *context)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, f, context), 0);
	pthread_join(thread, NULL);
}

static void a_thread_that_ends_gives_its_blocks_back(void **state)
{
	struct exchange x = {.pool = create(*state, 64, 0, 0)};
	struct dmaland_pool_stats stats;

	run_in_thread(take_all, &x);
	assert_int_equal(x.count, 200);
	dmaland_pool_get_stats(x.pool, &stats);
	assert_int_equal(stats.in_use, 200);
	dmaland_pool_trim(x.pool);
	dmaland_pool_get_stats(x.pool, &stats);
	assert_int_equal(stats.in_use, 200);
	run_in_thread(free_all, &x);
	dmaland_pool_get_stats(x.pool, &stats);
	assert_int_equal(stats.in_use, 0);
	dmaland_pool_trim(x.pool);
	dmaland_pool_get_stats(x.pool, &stats);
	assert_int_equal(stats.pages, 0);
	assert_int_equal(stats.parked, 0);
	dma_pool_destroy(x.pool);
}

static void a_second_free_is_found_in_another_threads_slab(void **state)
{
	struct exchange x = {.pool = create(*state, 64, 0, 0)};
	struct dmaland_pool_stats stats;

	take_all(&x);
	free_all(&x);
	run_in_thread(free_all, &x);
	dmaland_pool_get_stats(x.pool, &stats);
	assert_int_equal(stats.bad_frees, 200);
	assert_int_equal(stats.in_use, 0);
	dma_pool_destroy(x.pool);
}

struct holder {
	struct dma_pool *first, *second;
	pthread_barrier_t barrier;
	bool ok;
};

/* Have blocks parked while the pool ends, then use a new pool that may lie where the old one was. */
static void *hold(void *context)
{
	struct holder *h = context;
	dma_addr_t handle[40];
	void *block[40];

	for (int round = 0; round < 2; round++) {
		struct dma_pool *pool = round ? h->second : h->first;

		h->ok = dmaland_pool_alloc_bulk(pool, GFP_KERNEL, 40, block, handle) == 40;
		for (int i = 0; i < 40; i++)
			memset(block[i], round, 64);
		dmaland_pool_free_bulk(pool, 40, block, handle);
		pthread_barrier_wait(&h->barrier);
		pthread_barrier_wait(&h->barrier);
	}
	return NULL;
}

static void a_pool_may_end_while_other_threads_have_its_blocks_parked(void **state)
{
	struct holder h = {.first = create(*state, 64, 0, 0)};
	pthread_t thread;

	pthread_barrier_init(&h.barrier, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, hold, &h), 0);
	pthread_barrier_wait(&h.barrier);
	dma_pool_destroy(h.first);
	h.second = create(*state, 128, 0, 0);
	pthread_barrier_wait(&h.barrier);
	pthread_barrier_wait(&h.barrier);
	dma_pool_destroy(h.second);
	pthread_barrier_wait(&h.barrier);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&h.barrier);
	assert_true(h.ok);
	assert_string_equal(log_text(), "");
}

static void hundreds_of_pools_work_beside_each_other(void **state)
{
	enum { POOLS = 1000 };
	static struct dma_pool *pools[POOLS];
	dma_addr_t handle, again;

	for (int i = 0; i < POOLS; i++)
		assert_non_null(pools[i] = create(*state, 256, 0, 0));
	for (int i = 0; i < POOLS; i++) {
		void *block = dma_pool_alloc(pools[i], GFP_KERNEL, &handle);

		dma_pool_free(pools[i], block, handle);
		assert_ptr_equal(dma_pool_alloc(pools[i], GFP_KERNEL, &again), block);
		dma_pool_free(pools[i], block, again);
	}
	for (int i = 0; i < POOLS; i++)
		dma_pool_destroy(pools[i]);
	assert_string_equal(log_text(), "");
}

static void a_pool_that_ended_leaves_nothing_to_the_next(void **state)
{
	struct dmaland_pool_stats stats;
	dma_addr_t handle;
	void *block;

	for (int i = 0; i < 300; i++) {
		struct dma_pool *pool = create(*state, 256, 0, 0);

		block = dma_pool_alloc(pool, GFP_KERNEL, &handle);
		dma_pool_free(pool, block, handle);
		dmaland_pool_get_stats(pool, &stats);
		assert_int_not_equal(stats.parked, 0);
		dma_pool_destroy(pool);
	}
}

static void wait_a_moment(void *context)
{
	poll(NULL, 0, *(int *)context);
}

static void many_threads_that_wait_for_the_same_growth_all_get_blocks(void **state)
{
	enum { THREADS = 48 };
	struct fake_place *p = *state;
	static struct exchange x[THREADS];
	struct dma_pool *pool = create(p, 16, 0, 0);
	pthread_t threads[THREADS];
	int ms = 5;

	p->fake.before_provide = wait_a_moment;
	p->fake.context = &ms;
	for (int i = 0; i < THREADS; i++) {
		x[i].pool = pool;
		assert_int_equal(pthread_create(&threads[i], NULL, take_all, &x[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(x[i].count, 200);
	}
	for (int i = 0; i < THREADS; i++)
		free_all(&x[i]);
	dma_pool_destroy(pool);
	assert_string_equal(log_text(), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		place_test(a_thread_that_ends_gives_its_blocks_back),
		place_test(a_second_free_is_found_in_another_threads_slab),
		place_test(a_pool_may_end_while_other_threads_have_its_blocks_parked),
		place_test(hundreds_of_pools_work_beside_each_other),
		place_test(a_pool_that_ended_leaves_nothing_to_the_next),
		place_test(many_threads_that_wait_for_the_same_growth_all_get_blocks),
	};

	return cmocka_run_group_tests_name("pool lives", tests, NULL, NULL);
}
