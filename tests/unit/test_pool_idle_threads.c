/* SPDX-License-Identifier: MIT */
/*
 * test_pool_idle_threads.c - what threads that sleep keep from others: a slab or two a pool, however their blocks were freed
 *
 * A pool under a limit on memory. Threads take many blocks, free some of them, and wait; a helper frees the
 * rest. Then one more thread takes all that it can get.
 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>

#include "pool_stand.h"

enum {
	SLEEPERS = 8,
	EACH = 3000, /* blocks of a sleeper */
	LIMIT = 8 << 20,
	ROOM = LIMIT / 16 + 1,

	/* A thread's current slab, and the one that its last free went to. */
	STRANDED_SLABS = 2,
};

static struct dmaland_device *dev;
static struct dma_pool *pool;

/* How the sleepers' blocks come back, of each hundred. */
struct way {
	const char *what;
	size_t size;
	unsigned int
		by_sleepers; /* freed by those who took them; the rest by a helper, or by other sleepers */
	bool shuffled, by_other_sleepers;
	unsigned int
		stay_out; /* of each hundred, to the end: such slabs are not idle, and may be stranded */
};

static const struct way ways[] = {
	{"they freed all", 256, 100, false, false, 0},
	{"they freed all at random", 256, 100, true, false, 0},
	{"they freed half of each slab, another thread the rest", 256, 50, true, false, 0},
	{"another thread freed all", 256, 0, false, false, 0},
	{"another thread freed all at random", 256, 0, true, false, 0},
	{"they freed each other's", 256, 0, true, true, 0},
	{"they freed half, and each other's rest", 256, 50, true, true, 0},
	{"16 bytes", 16, 50, true, false, 0},
	{"64 bytes", 64, 50, true, false, 0},
	{"two to a page", 2000, 50, true, false, 0},
	{"one to a page", 4096, 50, true, false, 0},
	{"larger than a page", 5000, 50, true, false, 0},
	{"a quarter stays out", 256, 50, true, false, 25},
};

/* Each its own: where a test failed, its threads wait for ever. */
static pthread_barrier_t barriers[sizeof(ways) / sizeof(ways[0])];

struct sleeper {
	struct blocks own, others;
	const struct way *way;
	size_t each;
	uint64_t seed;
};

static void *take_free_and_sleep(void *context)
{
	struct sleeper *s = context;
	pthread_barrier_t *barrier = &barriers[s->way - ways];

	blocks_take(&s->own, s->each, GFP_KERNEL);
	if (s->way->shuffled)
		blocks_shuffle(&s->own, s->seed);
	pthread_barrier_wait(barrier); /* all are out: looked at */
	pthread_barrier_wait(barrier);
	blocks_give(&s->own, s->each * s->way->by_sleepers / 100);
	pthread_barrier_wait(barrier); /* what is left is dealt out */
	pthread_barrier_wait(barrier);
	blocks_give(&s->others, s->others.count);
	pthread_barrier_wait(barrier); /* asleep until the end */
	pthread_barrier_wait(barrier);
	return NULL;
}

static void *give_all(void *context)
{
	struct blocks *b = context;

	blocks_give(b, b->count);
	return NULL;
}

static void *take_all(void *context)
{
	struct blocks *b = context;

	blocks_take(b, b->room, GFP_KERNEL);
	return NULL;
}

/* Without the last @keep. */
static void move(struct blocks *from, struct blocks *to, size_t keep)
{
	for (; from->count > keep; to->count++) {
		from->count--;
		to->vaddrs[to->count] = from->vaddrs[from->count];
		to->handles[to->count] = from->handles[from->count];
	}
}

static void expect_sums(size_t in_use)
{
	struct dmaland_pool_stats stats = stand_stats(pool);

	assert_int_equal(stats.in_use, in_use);
	assert_int_equal(stats.bad_frees, 0);
	if (stats.total < stats.in_use + stats.parked)
		fail_msg("%zu blocks, of which %zu in use and %zu parked", stats.total,
			 stats.in_use, stats.parked);
}

static void pool_begin(const struct way *way)
{
	dev = stand_open(LIMIT, false);
	pool = dma_pool_create("idle threads", dev, way->size, 0, 0);
	assert_non_null(pool);
}

static void pool_end(void)
{
	dma_pool_destroy(pool);
	dmaland_close(dev);
	assert_string_equal(log_text(), "");
}

/* What a thread can have of such a pool that nobody else uses. */
static size_t capacity(const struct way *way)
{
	struct blocks b;
	size_t n;

	pool_begin(way);
	b = blocks_make(pool, ROOM);
	thread_run(take_all, &b);
	blocks_census(&b, 1, way->size, 1, 0);
	expect_sums(n = b.count);
	blocks_end(&b);
	pool_end();
	assert_in_range(n, 1, ROOM - 1);
	return n;
}

static void sleepers_start(struct sleeper *s, pthread_t *threads, const struct way *way,
			   size_t each)
{
	for (size_t i = 0; i < SLEEPERS; i++) {
		s[i] = (struct sleeper){.own = blocks_make(pool, each),
					.others = blocks_make(pool, each),
					.way = way,
					.each = each,
					.seed = 77 + i};
		thread_start(&threads[i], take_free_and_sleep, &s[i]);
	}
}

/* What stays out remains in the lists `own`; returns how much that is. */
static size_t deal_out(struct sleeper *s, const struct way *way, size_t each)
{
	struct blocks rest = blocks_make(pool, SLEEPERS * each);
	size_t stay = each * way->stay_out / 100;

	for (size_t i = 0; i < SLEEPERS; i++)
		move(&s[i].own, way->by_other_sleepers ? &s[(i + 1) % SLEEPERS].others : &rest,
		     stay);
	thread_run(give_all, &rest);
	blocks_end(&rest);
	return SLEEPERS * stay;
}

static void sleepers_strand_little(const struct way *way, size_t all)
{
	struct sleeper *s = calloc(SLEEPERS, sizeof(*s));
	pthread_barrier_t *barrier = &barriers[way - ways];
	struct blocks lists[SLEEPERS + 1];
	pthread_t threads[SLEEPERS];
	size_t each, stay, stranded;

	assert_non_null(s);
	pool_begin(way);
	each = all / (SLEEPERS + 1) < EACH ? all / (SLEEPERS + 1) : EACH;
	pthread_barrier_init(barrier, NULL, SLEEPERS + 1);
	sleepers_start(s, threads, way, each);
	pthread_barrier_wait(barrier);
	for (size_t i = 0; i < SLEEPERS; i++)
		lists[i] = s[i].own;
	blocks_census(lists, SLEEPERS, way->size, 1, 0);
	expect_sums(SLEEPERS * each);
	pthread_barrier_wait(barrier);
	pthread_barrier_wait(barrier);
	stay = deal_out(s, way, each);
	pthread_barrier_wait(barrier);
	pthread_barrier_wait(barrier);
	expect_sums(stay);

	for (size_t i = 0; i < SLEEPERS; i++)
		lists[i] = s[i].own;
	lists[SLEEPERS] = blocks_make(pool, ROOM);
	thread_run(take_all, &lists[SLEEPERS]);
	expect_sums(stay + lists[SLEEPERS].count);
	blocks_census(lists, SLEEPERS + 1, way->size, 1, 0);
	stranded = all - stay - lists[SLEEPERS].count;
	blocks_end(&lists[SLEEPERS]);

	pthread_barrier_wait(barrier);
	for (size_t i = 0; i < SLEEPERS; i++) {
		pthread_join(threads[i], NULL);
		blocks_end(&s[i].own);
		blocks_end(&s[i].others);
	}
	pthread_barrier_destroy(barrier);
	free(s);
	expect_sums(0);
	each = (SLEEPERS + 1) * STRANDED_SLABS * blocks_of_a_slab(dev, way->size);
	print_message("# %s: of %zu blocks %zu are stranded, %zu may be\n", way->what, all,
		      stranded, each);
	if (stranded > each && !way->stay_out)
		fail_msg("%s: %zu blocks are stranded, more than %zu", way->what, stranded, each);
	pool_end();
}

static void threads_that_sleep_strand_a_slab_or_two(void **state)
{
	const struct way *way = *state;

	sleepers_strand_little(way, capacity(way));
}

/* ---- what is taken from others is no failure ---- */

static void what_others_had_idle_leaves_no_error_behind(void **state)
{
	const struct way *way = &ways[0];
	size_t all = capacity(way), most;
	pthread_barrier_t *barrier = &barriers[0];
	struct blocks b;
	struct sleeper s;
	pthread_t thread;

	(void)state;
	pool_begin(way);
	pthread_barrier_init(barrier, NULL, 2);
	s = (struct sleeper){.own = blocks_make(pool, all),
			     .others = blocks_make(pool, 1),
			     .way = way,
			     .each = all};
	thread_start(&thread, take_free_and_sleep, &s);
	for (int i = 0; i < 5; i++)
		pthread_barrier_wait(barrier); /* all went back, and the thread sleeps */

	assert_null(dma_pool_create("no size", dev, 0, 0, 0));
	assert_error_says("no size");
	most = all - STRANDED_SLABS * blocks_of_a_slab(dev, way->size);
	b = blocks_make(pool, most);
	assert_int_equal(blocks_take(&b, most, GFP_KERNEL), most);
	assert_error_says("no size");
	blocks_end(&b);

	pthread_barrier_wait(barrier);
	pthread_join(thread, NULL);
	blocks_end(&s.own);
	blocks_end(&s.others);
	pthread_barrier_destroy(barrier);
	expect_sums(0);
	pool_end();
}

/* ---- the sums hold while threads work, too ---- */

static bool over;

static void *work(void *context)
{
	struct blocks *b = context;
	uint64_t seed = (uintptr_t)b;

	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		blocks_take(b, random_below(&seed, 100), GFP_KERNEL);
		blocks_give(b, random_below(&seed, 100));
	}
	blocks_give(b, b->count);
	return NULL;
}

static void there_are_never_more_blocks_in_use_and_parked_than_in_all(void **state)
{
	static struct blocks b[3];
	pthread_t threads[3];

	(void)state;
	pool_begin(&ways[0]);
	__atomic_store_n(&over, false, __ATOMIC_RELAXED);
	for (int i = 0; i < 3; i++) {
		b[i] = blocks_make(pool, 500);
		thread_start(&threads[i], work, &b[i]);
	}
	for (int i = 0; i < 2000; i++) {
		struct dmaland_pool_stats stats = stand_stats(pool);

		if (stats.total < stats.in_use + stats.parked)
			fail_msg("%zu blocks, of which %zu in use and %zu parked", stats.total,
				 stats.in_use, stats.parked);
	}
	__atomic_store_n(&over, true, __ATOMIC_RELAXED);
	for (int i = 0; i < 3; i++) {
		pthread_join(threads[i], NULL);
		blocks_end(&b[i]);
	}
	expect_sums(0);
	pool_end();
}

int main(void)
{
	enum { WAYS = sizeof(ways) / sizeof(ways[0]) };
	struct CMUnitTest tests[WAYS + 2];

	for (size_t i = 0; i < WAYS; i++)
		tests[i] = (struct CMUnitTest){
			.name = ways[i].what,
			.test_func = threads_that_sleep_strand_a_slab_or_two,
			.initial_state = (void *)(uintptr_t)&ways[i],
		};
	tests[WAYS] = (struct CMUnitTest)cmocka_unit_test(
		there_are_never_more_blocks_in_use_and_parked_than_in_all);
	tests[WAYS + 1] =
		(struct CMUnitTest)cmocka_unit_test(what_others_had_idle_leaves_no_error_behind);
	log_capture();
	return cmocka_run_group_tests_name("pool, idle threads", tests, NULL, NULL);
}
