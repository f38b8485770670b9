/* SPDX-License-Identifier: MIT */
/*
 * test_shelves.c - threads that work at the same time: whose blocks each of them gets
 *
 * They take turns, so that it is known what lies where. Each keeps its turn's blocks in an array of
 * its own.
 */
#include "test.h"

#include <pthread.h>
#include <semaphore.h>

#include "fake_domain.h"
#include "pool/magazine.h"

enum {
	WORKERS = SHELVES,
	MANY = 1500, /* so that halves as large as they become are exchanged */
};

struct worker {
	pthread_t thread;
	sem_t turn, done;
	void (*job)(struct worker *worker); /* NULL: to end */
	struct dma_pool *pool;
	gfp_t gfp;
	size_t want, count;
	char *blocks[MANY];
	dma_addr_t handles[MANY];
};

static struct worker workers[WORKERS];

static void *worker_main(void *context)
{
	struct worker *worker = context;

	for (;;) {
		sem_wait(&worker->turn);
		if (!worker->job)
			return NULL;
		worker->job(worker);
		sem_post(&worker->done);
	}
}

static void workers_begin(struct dma_pool *pool)
{
	memset(workers, 0, sizeof(workers));
	for (int i = 0; i < WORKERS; i++) {
		workers[i].pool = pool;
		workers[i].gfp = GFP_KERNEL;
		sem_init(&workers[i].turn, 0, 0);
		sem_init(&workers[i].done, 0, 0);
		assert_int_equal(pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]),
				 0);
	}
}

static void turn(int i, void (*job)(struct worker *worker), size_t want)
{
	workers[i].job = job;
	workers[i].want = want;
	sem_post(&workers[i].turn);
	sem_wait(&workers[i].done);
}

/* As many as it wants more, or as there are. */
static void take(struct worker *worker)
{
	size_t n = worker->count + worker->want;

	while (worker->count < n) {
		size_t i = worker->count;

		worker->blocks[i] = dma_pool_alloc(worker->pool, worker->gfp, &worker->handles[i]);
		if (!worker->blocks[i])
			return;
		worker->count++;
	}
}

static void give(struct worker *worker)
{
	for (size_t i = 0; i < worker->count; i++)
		dma_pool_free(worker->pool, worker->blocks[i], worker->handles[i]);
	worker->count = 0;
}

static void take_and_give(struct worker *worker)
{
	take(worker);
	give(worker);
}

/* What the first one took; another one frees it. */
static void give_the_firsts(struct worker *worker)
{
	(void)worker;
	give(&workers[0]);
}

static void workers_end(void)
{
	for (int i = 0; i < WORKERS; i++) {
		turn(i, give, 0);
		workers[i].job = NULL;
		sem_post(&workers[i].turn);
		pthread_join(workers[i].thread, NULL);
		sem_destroy(&workers[i].turn);
		sem_destroy(&workers[i].done);
	}
}

static struct dma_pool *pool_begin(void **state, size_t size)
{
	struct fake_place *p = *state;
	struct dma_pool *pool = pool_create("shelves", &p->place, size, 0, 0);

	workers_begin(pool);
	return pool;
}

static void pool_end(struct dma_pool *pool)
{
	struct dmaland_pool_stats stats;

	workers_end();
	dmaland_pool_get_stats(pool, &stats);
	assert_int_equal(stats.in_use + stats.bad_frees, 0);
	dma_pool_destroy(pool);
}

static size_t pages_of(struct dma_pool *pool)
{
	struct dmaland_pool_stats stats;

	dmaland_pool_get_stats(pool, &stats);
	return stats.pages;
}

/* Whose page it is: that of the last one who had a block of it. All pages lie close together. */
static unsigned char owners[1 << 16];

static size_t page_of(const struct dma_pool *pool, const char *block)
{
	size_t index = (size_t)(pagemap_find(&pool->place.arena->pagemap, block) - pool->pages);

	return index % sizeof(owners);
}

/* A worker takes and gives back; how many of its pages were another's before. */
static size_t pages_of_others(int i)
{
	struct worker *worker = &workers[i];
	size_t n = 0;

	turn(i, take, MANY);
	assert_int_equal(worker->count, MANY);
	for (size_t k = 0; k < MANY; k++) {
		unsigned char *owner = &owners[page_of(worker->pool, worker->blocks[k])];

		n += *owner && *owner != i + 1;
		*owner = (unsigned char)(i + 1);
	}
	turn(i, give, 0);
	return n;
}

/* Once each has its own, none is taken from the other. */
static void two_threads_at_work_have_blocks_of_their_own(void **state)
{
	struct dma_pool *pool = pool_begin(state, 64);
	size_t pages;

	memset(owners, 0, sizeof(owners));
	for (int i = 0; i < 4; i++)
		pages_of_others(i & 1);
	pages = pages_of(pool);
	for (int round = 0; round < 6; round++)
		assert_int_equal(pages_of_others(round & 1), 0);
	assert_int_equal(pages_of(pool), pages);
	pool_end(pool);
}

/* What they have for themselves is not given back as too much, to be had again at once. */
static void a_pool_that_grew_apart_rests(void **state)
{
	static const size_t sizes[] = {64, 1024, 4096};

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		struct dma_pool *pool = pool_begin(state, sizes[s]);
		struct dmaland_pool_stats before, after;

		for (int round = 0; round < 400; round++)
			turn(round & 1, take_and_give, MANY);
		dmaland_pool_get_stats(pool, &before);
		for (int round = 0; round < 400; round++)
			turn(round & 1, take_and_give, MANY);
		dmaland_pool_get_stats(pool, &after);
		assert_int_equal(after.grows, before.grows);
		pool_end(pool);
	}
}

/* All shelves are counted at a new peak; there a peak at each fill tells nothing. */
static void a_shelf_whose_blocks_are_put_on_another_has_no_peaks(void **state)
{
	struct dma_pool *pool = pool_begin(state, 64);
	struct dmaland_pool_stats stats;
	ptrdiff_t taken = 0, peak = 0;

	for (int round = 0; round < 20; round++) {
		turn(0, take, MANY);
		turn(1, give_the_firsts, 0);
	}
	for (int k = 0; k < SHELVES; k++)
		if (pool->shelves[k].taken > taken) {
			taken = pool->shelves[k].taken;
			peak = pool->shelves[k].peak;
		}
	dmaland_pool_get_stats(pool, &stats);
	assert_true(taken > (ptrdiff_t)stats.total);
	assert_true(peak == PTRDIFF_MAX);
	assert_in_range(stats.high_water, MANY, stats.total);
	pool_end(pool);
}

/* A pool that is watched has one shelf, whoever makes it. */
static void make_watched(struct worker *worker)
{
	struct pool_place place = worker->pool->place;
	struct dma_pool *pool;
	dma_addr_t handle;
	void *block;

	place.debug = true;
	pool = pool_create("watched", &place, 64, 0, 0);
	block = dma_pool_alloc(pool, GFP_ATOMIC, &handle);
	worker->count = block != NULL;
	dma_pool_free(pool, block, handle);
	dma_pool_destroy(pool);
}

static void a_watched_pool_is_ready_for_atomic_allocations(void **state)
{
	struct dma_pool *pool = pool_begin(state, 64);

	for (int i = 0; i < WORKERS; i++) {
		turn(i, take_and_give, 1); /* it has a shelf now */
		turn(i, make_watched, 0);
		assert_int_equal(workers[i].count, 1);
		workers[i].count = 0;
	}
	pool_end(pool);
}

/* Twice as many blocks as are needed at once are enough for any number of threads. */
static void a_pool_grows_to_twice_what_is_needed_at_once(void **state)
{
	struct dma_pool *pool = pool_begin(state, 64);
	struct dmaland_pool_stats stats;

	for (int round = 0; round < 3; round++)
		for (int i = 0; i < WORKERS; i++)
			pages_of_others(i);
	dmaland_pool_get_stats(pool, &stats);
	assert_in_range(stats.high_water, MANY, MANY + WORKERS * 512); /* with what they parked */
	assert_in_range(stats.total, MANY, 2 * stats.high_water + 64);
	pool_end(pool);
}

static void give_back(struct arena *arena, struct page *first, void *tenant)
{
	if (page_tenant(first) == tenant)
		arena_give(arena, first);
}

enum { LIMIT = 512 }; /* four times what a thread may park of blocks of a page */

/* All but what others have in their magazines: no allocation fails while a block is on a shelf. */
static void take_all_there_is(int i)
{
	struct dmaland_pool_stats stats;

	turn(i, take, MANY - 1);
	dmaland_pool_get_stats(workers[i].pool, &stats);
	assert_int_equal(stats.total, LIMIT);
	assert_int_equal(stats.in_use, workers[i].count);
	assert_int_equal(stats.in_use + stats.parked, LIMIT);
	assert_in_range(stats.in_use, LIMIT / 2, LIMIT);
	turn(i, give, 0);
}

static void count_call(void *context)
{
	++*(int *)context;
}

static void threads_share_what_there_is_where_a_pool_cannot_grow(void **state)
{
	struct fake_place *p = *state;
	struct dma_pool *pool = pool_begin(state, 4096);
	int provides = 0;

	p->fake.domain.memory_limit = LIMIT * ARENA_PAGE;
	turn(0, take, LIMIT);
	turn(0, give, 0);
	turn(1, take, LIMIT / 2);
	assert_int_equal(workers[1].count, LIMIT / 2);
	turn(1, give, 0);
	p->fake.before_provide = count_call;
	p->fake.context = &provides;
	for (int i = 0; i < 6; i++) {
		turn(i % 2, take, LIMIT / 2);
		assert_int_equal(workers[i % 2].count, LIMIT / 2);
		turn(i % 2, give, 0);
	}
	assert_int_equal(provides, 0); /* nor tries to, after the first time */
	assert_true(pool->crowded);
	for (int i = 0; i < 6; i++)
		take_all_there_is(i % 2);
	p->fake.domain.memory_limit = 0;
	for (int i = 0; i < 1000 && pool->crowded; i++) {
		turn(i % 2, take, LIMIT);
		turn(i % 2, give, 0);
	}
	assert_false(pool->crowded); /* but some time it does */
	pool_end(pool);
}

/* A thread that only wants blocks of its own leaves it to those who need some. */
static void the_reserve_stays_where_a_pool_grows_apart(void **state)
{
	struct fake_place *p = *state;
	struct dma_pool *pool = pool_begin(state, 4096);

	p->fake.domain.memory_limit = LIMIT * ARENA_PAGE;
	turn(0, take_and_give, LIMIT - 2 * ARENA_RESERVE_PAGES);
	turn(1, take, LIMIT / 2);
	assert_int_equal(workers[1].count, LIMIT / 2);
	assert_true(pool->crowded);
	assert_in_range(p->arena->free_pages, ARENA_RESERVE_PAGES, 2 * ARENA_RESERVE_PAGES);
	pool_end(pool);
}

/* Pages that wait to be carved, and states that are ready, are for all threads. */
static void an_atomic_allocation_grows_by_what_others_have_ready(void **state)
{
	struct fake_place *p = *state;
	struct dma_pool *pool = pool_begin(state, 64);
	struct page *hog;
	size_t waiting = 0;

	for (int i = 0; i < WORKERS; i++) {
		workers[i].gfp = GFP_ATOMIC;
		turn(i, take, 1);
		assert_int_equal(workers[i].count, 1);
	}
	workers[0].gfp = GFP_KERNEL;
	for (size_t i = 0; i < MANY - 1 && waiting < 2; i++) {
		turn(0, take, 1);
		waiting = 0;
		for (int k = 0; k < SHELVES; k++)
			waiting += pool->shelves[k].run_pages;
	}
	assert_in_range(waiting, 2, 64);
	while (arena_take(p->arena, &p->coherent, ARENA_PAGE, ARENA_PAGE, GFP_ATOMIC, &hog) == 0)
		;
	for (int i = 1; i < WORKERS; i++)
		turn(i, take, MANY - 1);
	for (int k = 0; k < SHELVES; k++)
		assert_int_equal(pool->shelves[k].run_pages, 0);
	arena_for_each_run(p->arena, &p->limits, give_back, &p->coherent);
	pool_end(pool);
}

/* GFP_ATOMIC takes what others put away before it takes from the arena's reserve. */
static void an_atomic_allocation_takes_what_others_put_away(void **state)
{
	struct dma_pool *pool = pool_begin(state, 64);
	size_t pages;

	pages_of_others(0);
	pages = pages_of(pool);
	workers[1].gfp = GFP_ATOMIC;
	for (int round = 0; round < 3; round++)
		turn(1, take, MANY / 6);
	assert_int_equal(workers[1].count, MANY / 6 * 3);
	assert_int_equal(pages_of(pool), pages);
	pool_end(pool);
}

/* Their states are one line of the cache. */
static void a_thread_takes_pages_of_which_another_has_no_block(void **state)
{
	enum { HELD = 300 };
	struct dma_pool *pool = pool_begin(state, 64);
	struct worker *first = &workers[0];

	turn(0, take, MANY);
	for (size_t i = 0; i < MANY; i++)
		if (i % HELD)
			dma_pool_free(pool, first->blocks[i], first->handles[i]);
	workers[1].gfp = GFP_ATOMIC;
	turn(1, take, MANY / 2);
	assert_int_equal(workers[1].count, MANY / 2);
	for (size_t i = 0; i < MANY / 2; i++)
		for (size_t k = 0; k < MANY; k += HELD)
			assert_int_not_equal(page_of(pool, workers[1].blocks[i]),
					     page_of(pool, first->blocks[k]));
	for (size_t k = 0; k < MANY; k += HELD)
		dma_pool_free(pool, first->blocks[k], first->handles[k]);
	first->count = 0;
	pool_end(pool);
}

/* They grow by turns, a page's blocks at a time, and yet most neighbours are of one thread. */
static void neighbouring_pages_belong_to_one_thread(void **state)
{
	enum { TURNS = 48, BLOCKS = MANY / TURNS };
	struct dma_pool *pool = pool_begin(state, 256);
	size_t neighbours = 0, foreign = 0;

	memset(owners, 0, sizeof(owners));
	for (int n = 0; n < TURNS; n++)
		for (int i = 0; i < 2; i++)
			turn(i, take, BLOCKS);
	for (int i = 0; i < 2; i++)
		for (size_t k = 0; k < workers[i].count; k++)
			owners[page_of(pool, workers[i].blocks[k])] = (unsigned char)(i + 1);
	for (size_t page = 1; page < sizeof(owners); page++)
		if (owners[page] && owners[page - 1]) {
			neighbours++;
			foreign += owners[page] != owners[page - 1];
		}
	assert_in_range(neighbours, 100, 400);
	assert_in_range(foreign, 1, neighbours / 4);
	pool_end(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		place_test(two_threads_at_work_have_blocks_of_their_own),
		place_test(a_pool_that_grew_apart_rests),
		place_test(a_shelf_whose_blocks_are_put_on_another_has_no_peaks),
		place_test(a_watched_pool_is_ready_for_atomic_allocations),
		place_test(a_pool_grows_to_twice_what_is_needed_at_once),
		place_test(threads_share_what_there_is_where_a_pool_cannot_grow),
		place_test(an_atomic_allocation_takes_what_others_put_away),
		place_test(the_reserve_stays_where_a_pool_grows_apart),
		place_test(an_atomic_allocation_grows_by_what_others_have_ready),
		place_test(a_thread_takes_pages_of_which_another_has_no_block),
		place_test(neighbouring_pages_belong_to_one_thread),
	};

	return cmocka_run_group_tests_name("shelves", tests, NULL, NULL);
}
