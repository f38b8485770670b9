/* SPDX-License-Identifier: MIT */
/*
 * test_magazine.c - what threads keep of a pool: bulk calls, trimming, threads that come and go
 */
#include "test.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>

#include "fake_domain.h"
#include "pool/magazine.h"

static struct dma_pool *create(void *state, size_t size, size_t align, size_t boundary)
{
	return pool_create("test pool", &((struct fake_place *)state)->place, size, align,
			   boundary);
}

static void bulk_gives_and_takes_what_single_calls_do(void **state)
{
	enum { N = 500 };
	struct dma_pool *pool = create(*state, 64, 0, 0);
	static void *blocks[N];
	static dma_addr_t handles[N];
	struct dmaland_pool_stats stats;

	assert_int_equal(dmaland_pool_alloc_bulk(pool, GFP_KERNEL | __GFP_ZERO, N, blocks, handles),
			 N);
	for (int i = 0; i < N; i++)
		for (int k = 0; k < i; k++)
			assert_ptr_not_equal(blocks[i], blocks[k]);
	dmaland_pool_get_stats(pool, &stats);
	assert_int_equal(stats.in_use, N);
	dmaland_pool_free_bulk(pool, N, blocks, handles);
	dmaland_pool_free_bulk(pool, 3, blocks, handles);
	dmaland_pool_get_stats(pool, &stats);
	assert_int_equal(stats.in_use, 0);
	assert_int_equal(stats.bad_frees, 3);
	dma_pool_destroy(pool);
}

static void bulk_refuses_what_single_frees_refuse(void **state)
{
	struct dma_pool *pool = create(*state, 64, 0, 0), *other = create(*state, 64, 0, 0);
	dma_addr_t handles[3], bad_handles[3];
	void *blocks[3], *bad[3];
	struct dmaland_pool_stats stats;

	assert_int_equal(dmaland_pool_alloc_bulk(pool, GFP_KERNEL, 2, blocks, handles), 2);
	blocks[2] = dma_pool_alloc(other, GFP_KERNEL, &handles[2]);
	memcpy(bad, blocks, sizeof(bad));
	memcpy(bad_handles, handles, sizeof(bad_handles));
	bad_handles[0] += 64;
	bad[1] = (char *)bad[1] + 16;
	bad_handles[1] += 16;
	/* By themselves, so that each is what a page's run of frees begins with. */
	for (int i = 0; i < 3; i++)
		dmaland_pool_free_bulk(pool, 1, &bad[i], &bad_handles[i]);
	dmaland_pool_get_stats(pool, &stats);
	assert_int_equal(stats.bad_frees, 3);
	assert_int_equal(stats.in_use, 2);
	dmaland_pool_free_bulk(pool, 2, blocks, handles);
	dma_pool_free(other, blocks[2], handles[2]);
	dmaland_pool_get_stats(pool, &stats);
	assert_int_equal(stats.bad_frees, 3);
	dma_pool_destroy(pool);
	dma_pool_destroy(other);
	assert_logged("(bad dma)");
	assert_logged("(bad vaddr)");
}

static void bulk_stops_where_memory_ends(void **state)
{
	struct fake_place *p = *state;
	struct dma_pool *pool;
	static void *blocks[100];
	static dma_addr_t handles[100];

	p->fake.domain.memory_limit = 256 << 10;
	pool = create(p, 4096, 0, 0);
	assert_int_equal(dmaland_pool_alloc_bulk(pool, GFP_KERNEL, 100, blocks, handles), 64);
	assert_int_equal(errno, ENOMEM);
	dmaland_pool_free_bulk(pool, 64, blocks, handles);
	dma_pool_destroy(pool);
}

static void trimming_gives_idle_pages_back(void **state)
{
	enum { N = 1000 };
	struct fake_place *p = *state;
	struct dma_pool *pool = create(p, 1024, 0, 0);
	static void *blocks[N];
	static dma_addr_t handles[N];
	struct dmaland_pool_stats stats;

	assert_int_equal(dmaland_pool_alloc_bulk(pool, GFP_KERNEL, N, blocks, handles), N);
	dmaland_pool_free_bulk(pool, N - 1, blocks + 1, handles + 1);
	dmaland_pool_get_stats(pool, &stats);
	assert_in_range(stats.pages, N / 4, N / 4 + N / 4 / 32);
	assert_true(stats.parked > 0 && stats.parked <= 2 * HALF_MAX);
	dmaland_pool_trim(pool);
	dmaland_pool_get_stats(pool, &stats);
	assert_int_equal(stats.pages, 1);
	assert_int_equal(stats.parked, 0);
	assert_int_equal(stats.in_use, 1);
	assert_true(p->fake.domain.memory < N * 1024);
	dma_pool_free(pool, blocks[0], handles[0]);
	dma_pool_destroy(pool);
}

/* Bursts of a few blocks, more than a magazine holds, as often as it takes. */
static void use_lightly(struct dma_pool *pool, gfp_t gfp)
{
	enum { BURST = 600 };
	void *blocks[BURST];
	dma_addr_t handles[BURST];

	for (int i = 0; i < 10000; i++) {
		assert_int_equal(dmaland_pool_alloc_bulk(pool, gfp, BURST, blocks, handles), BURST);
		dmaland_pool_free_bulk(pool, BURST, blocks, handles);
	}
}

static void allocation_that_may_sleep_gives_back_what_is_not_needed_any_more(void **state)
{
	enum { N = 8000 };
	struct fake_place *p = *state;
	struct dma_pool *pool = create(p, 1024, 0, 0);
	static void *blocks[N];
	static dma_addr_t handles[N];
	struct dmaland_pool_stats before, after;
	uint64_t memory;

	assert_int_equal(dmaland_pool_alloc_bulk(pool, GFP_KERNEL, N, blocks, handles), N);
	dmaland_pool_free_bulk(pool, N, blocks, handles);
	dmaland_pool_get_stats(pool, &before);
	memory = p->fake.domain.memory;
	use_lightly(pool, GFP_ATOMIC);
	dmaland_pool_get_stats(pool, &after);
	assert_int_equal(after.pages, before.pages);
	assert_int_equal(p->fake.domain.memory, memory);
	use_lightly(pool, GFP_KERNEL);
	dmaland_pool_get_stats(pool, &after);
	assert_in_range(after.pages, 600 / 4, before.pages / 8);
	assert_true(p->fake.domain.memory < memory);
	dma_pool_destroy(pool);
}

static void a_pool_that_is_used_whole_again_and_again_gives_nothing_back(void **state)
{
	enum { N = 2000 };
	struct fake_place *p = *state;
	struct dma_pool *pool = create(p, 1024, 0, 0);
	static void *blocks[N];
	static dma_addr_t handles[N];
	struct dmaland_pool_stats first, last;

	for (int i = 0; i < 200; i++) {
		assert_int_equal(dmaland_pool_alloc_bulk(pool, GFP_KERNEL, N, blocks, handles), N);
		if (i == 0)
			dmaland_pool_get_stats(pool, &first);
		dmaland_pool_free_bulk(pool, N, blocks, handles);
	}
	dmaland_pool_get_stats(pool, &last);
	assert_int_equal(last.pages, first.pages);
	assert_int_equal(last.grows, first.grows);
	dma_pool_destroy(pool);
}

static void idle_pages_of_one_pool_serve_another_when_memory_ends(void **state)
{
	enum { N = 240 };
	struct fake_place *p = *state;
	struct dma_pool *rich, *poor;
	static void *blocks[N];
	static dma_addr_t handles[N];

	p->fake.domain.memory_limit = 1 << 20;
	rich = create(p, 4096, 0, 0);
	poor = create(p, 2048, 0, 0);
	assert_int_equal(dmaland_pool_alloc_bulk(rich, GFP_KERNEL, N, blocks, handles), N);
	dmaland_pool_free_bulk(rich, N, blocks, handles);
	/* All but what this thread has parked can be had. */
	assert_int_equal(dmaland_pool_alloc_bulk(poor, GFP_KERNEL, N, blocks, handles), N);
	dmaland_pool_free_bulk(poor, N, blocks, handles);
	dma_pool_destroy(rich);
	dma_pool_destroy(poor);
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
	assert_int_equal(stats.parked, 0);
	run_in_thread(free_all, &x);
	dmaland_pool_get_stats(x.pool, &stats);
	assert_int_equal(stats.in_use, 0);
	assert_int_equal(stats.parked, 0);
	dmaland_pool_trim(x.pool);
	dmaland_pool_get_stats(x.pool, &stats);
	assert_int_equal(stats.pages, 0);
	dma_pool_destroy(x.pool);
}

static pthread_key_t last_words;

/* Uses the pool in each round of the thread's destructors. */
static void use_while_ending(void *context)
{
	struct exchange *x = context;
	dma_addr_t handle;
	void *block;

	if (++x->count < PTHREAD_DESTRUCTOR_ITERATIONS)
		pthread_setspecific(last_words, x);
	block = dma_pool_alloc(x->pool, GFP_KERNEL, &handle);
	assert_non_null(block);
	dma_pool_free(x->pool, block, handle);
	dma_pool_free(x->pool, x->blocks[x->count], x->handles[x->count]);
}

static void *end_with_last_words(void *context)
{
	struct exchange *x = context;

	assert_int_equal(dmaland_pool_alloc_bulk(x->pool, GFP_KERNEL, 200, x->blocks, x->handles),
			 200);
	pthread_setspecific(last_words, x);
	return NULL;
}

static void a_thread_may_use_a_pool_in_its_last_destructor(void **state)
{
	struct exchange x = {0};
	struct dmaland_pool_stats stats;

	need_last_destructors();
	x.pool = create(*state, 64, 0, 0);
	assert_int_equal(pthread_key_create(&last_words, use_while_ending), 0);
	for (int i = 0; i < 20; i++) {
		x.count = 0;
		run_in_thread(end_with_last_words, &x);
		assert_int_equal(x.count, PTHREAD_DESTRUCTOR_ITERATIONS);
		assert_null(x.pool->magazines);
		for (size_t k = 0; k < 200; k++)
			if (k == 0 || k > PTHREAD_DESTRUCTOR_ITERATIONS)
				dma_pool_free(x.pool, x.blocks[k], x.handles[k]);
		dmaland_pool_trim(x.pool);
		dmaland_pool_get_stats(x.pool, &stats);
		assert_int_equal(stats.in_use, 0);
		assert_int_equal(stats.parked, 0);
		assert_int_equal(stats.pages, 0);
		dma_pool_destroy(x.pool);
		x.pool = create(*state, 64, 0, 0);
	}
	pthread_key_delete(last_words);
	dma_pool_destroy(x.pool);
	assert_string_equal(log_text(), "");
}

static void a_second_free_is_found_in_another_threads_magazine(void **state)
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

/* Have blocks parked while the pool ends, then use a new pool that has the old one's id. */
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

static void pools_beyond_those_with_magazines_work_all_the_same(void **state)
{
	enum { POOLS = 300 };
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

static void a_pool_that_ended_leaves_its_magazines_to_others(void **state)
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

static void *take_and_free_one(void *context)
{
	struct exchange *x = context;
	struct dmaland_pool_stats stats;
	dma_addr_t handle;
	void *block = dma_pool_alloc(x->pool, GFP_KERNEL, &handle);

	dma_pool_free(x->pool, block, handle);
	dmaland_pool_get_stats(x->pool, &stats);
	x->count = stats.parked;
	return NULL;
}

static bool only_full_halves(const struct dma_pool *pool)
{
	size_t full = 0;

	for (uint32_t i = 0; i < pool->shelf_count; i++) {
		if (pool->shelves[i].units != UNIT_NONE)
			return false;
		full += pool->shelves[i].full != NULL;
	}
	return full;
}

static void a_thread_that_takes_little_parks_little(void **state)
{
	enum { N = 700 };
	struct exchange x = {.pool = create(*state, 64, 0, 0)};
	static void *blocks[N];
	static dma_addr_t handles[N];
	struct dmaland_pool_stats stats, after;

	assert_int_equal(dmaland_pool_alloc_bulk(x.pool, GFP_KERNEL, N, blocks, handles), N);
	dmaland_pool_free_bulk(x.pool, N, blocks, handles);
	dmaland_pool_get_stats(x.pool, &stats);
	assert_true(only_full_halves(x.pool)); /* of which it must not get one at once */
	run_in_thread(take_and_free_one, &x);
	assert_in_range(x.count - stats.parked, 1, 2 * HALF_MIN);
	dmaland_pool_get_stats(x.pool, &after);
	assert_int_equal(after.pages, stats.pages); /* what is there is enough */
	dma_pool_destroy(x.pool);
}

/* Eight neighbours are put as one, in a row up or down; not with a bad one among them. */
static void a_bad_free_in_a_row_is_refused_alone(void **state)
{
	enum { N = 64, ROW_LENGTH = 8 };

	for (int i = 0; i < 4 * ROW_LENGTH; i++) {
		struct dma_pool *pool = create(*state, 64, 0, 0);
		int bad = i / 4;
		void *blocks[N], *row[ROW_LENGTH];
		dma_addr_t handles[N], row_handles[ROW_LENGTH];
		struct dmaland_pool_stats stats;
		char *first;

		assert_int_equal(dmaland_pool_alloc_bulk(pool, GFP_KERNEL, N, blocks, handles), N);
		first = (char *)((uintptr_t)blocks[0] & ~(uintptr_t)(ARENA_PAGE - 1));
		for (int k = 0; k < ROW_LENGTH; k++) {
			row[k] = first + 64 * (i & 1 ? ROW_LENGTH - k : k);
			row_handles[k] = (uintptr_t)row[k] + handles[0] - (uintptr_t)blocks[0];
		}
		if (i & 2)
			row_handles[bad] ^= 64;
		else
			dma_pool_free(pool, row[bad], row_handles[bad]);
		dmaland_pool_free_bulk(pool, ROW_LENGTH, row, row_handles);
		dmaland_pool_get_stats(pool, &stats);
		assert_int_equal(stats.bad_frees, 1);
		assert_int_equal(stats.in_use, N - ROW_LENGTH + (i & 2 ? 1 : 0));
		dmaland_pool_free_bulk(pool, N, blocks, handles);
		dmaland_pool_get_stats(pool, &stats);
		assert_int_equal(stats.in_use, 0);
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
		place_test(bulk_gives_and_takes_what_single_calls_do),
		place_test(bulk_refuses_what_single_frees_refuse),
		place_test(bulk_stops_where_memory_ends),
		place_test(trimming_gives_idle_pages_back),
		place_test(allocation_that_may_sleep_gives_back_what_is_not_needed_any_more),
		place_test(a_pool_that_is_used_whole_again_and_again_gives_nothing_back),
		place_test(idle_pages_of_one_pool_serve_another_when_memory_ends),
		place_test(a_thread_that_ends_gives_its_blocks_back),
		place_test(a_thread_may_use_a_pool_in_its_last_destructor),
		place_test(a_second_free_is_found_in_another_threads_magazine),
		place_test(a_pool_may_end_while_other_threads_have_its_blocks_parked),
		place_test(pools_beyond_those_with_magazines_work_all_the_same),
		place_test(a_pool_that_ended_leaves_its_magazines_to_others),
		place_test(a_thread_that_takes_little_parks_little),
		place_test(a_bad_free_in_a_row_is_refused_alone),
		place_test(many_threads_that_wait_for_the_same_growth_all_get_blocks),
	};

	return cmocka_run_group_tests_name("magazine", tests, NULL, NULL);
}
