/* SPDX-License-Identifier: MIT */
/*
 * test_pool_prefill.c - dmaland_pool_prefill(): the next n GFP_ATOMIC allocations of this thread can't fail
 *
 * Under a limit on memory, where other threads take all that they can get.
 */
#include "test.h"

#include <errno.h>

#include "pool_stand.h"

enum {
	BLOCK = 256,
	LIMIT = 1 << 20,
	ROOM = LIMIT / BLOCK + 1,
	N = 100, /* more than a slab has */
};

static struct dmaland_device *dev;
static struct dma_pool *pool;
static struct blocks mine, others;

static int open_pool(bool debug)
{
	log_capture();
	dev = stand_open(LIMIT, debug);
	pool = dma_pool_create("prefilled", dev, BLOCK, 0, 0);
	assert_non_null(pool);
	mine = blocks_make(pool, ROOM);
	others = blocks_make(pool, ROOM);
	return 0;
}

static int setup(void **state)
{
	(void)state;
	return open_pool(false);
}

static int setup_debug(void **state)
{
	(void)state;
	return open_pool(true);
}

static int teardown(void **state)
{
	(void)state;
	blocks_end(&mine);
	blocks_end(&others);
	dma_pool_destroy(pool);
	dmaland_close(dev);
	assert_string_equal(log_text(), "");
	return 0;
}

static size_t in_use(void)
{
	return stand_stats(pool).in_use;
}

static void *take_what_there_is(void *context)
{
	struct blocks *b = context;

	blocks_take(b, b->room, GFP_KERNEL);
	return NULL;
}

/* Another thread takes all that it can get, and ends. */
static void exhaust(void)
{
	thread_run(take_what_there_is, &others);
}

/* The next n succeed, with blocks that nobody else has. */
static void expect_atomic(size_t n)
{
	struct blocks all[2];

	assert_int_equal(blocks_take(&mine, n, GFP_ATOMIC), n);
	all[0] = mine;
	all[1] = others;
	blocks_census(all, 2, BLOCK, 1, 0);
}

static void no_pool_is_refused(void **state)
{
	(void)state;
	assert_int_equal(dmaland_pool_prefill(NULL, 1), -EINVAL);
	assert_int_equal(dmaland_pool_prefill(NULL, 0), -EINVAL);
}

static void what_is_prefilled_is_in_use_and_nobody_elses(void **state)
{
	(void)state;
	assert_int_equal(dmaland_pool_prefill(pool, N), 0);
	assert_int_equal(in_use(), N);
	exhaust();
	assert_int_equal(in_use(), N + others.count);
	expect_atomic(N);
	assert_int_equal(dmaland_pool_prefill(pool, 0), 0);
	assert_int_equal(in_use(), N + others.count);
}

/* All blocks of the pool are this thread's; it frees N and prefills N. So it has not one more. */
static void the_one_after_the_last_fails(void **state)
{
	(void)state;
	take_what_there_is(&mine);
	blocks_give(&mine, N);
	assert_int_equal(dmaland_pool_prefill(pool, N), 0);
	expect_atomic(N);
	assert_int_equal(blocks_take(&mine, 1, GFP_ATOMIC), 0);
	assert_int_equal(errno, ENOMEM);
}

static void allocations_that_may_sleep_leave_it_alone(void **state)
{
	(void)state;
	assert_int_equal(dmaland_pool_prefill(pool, N), 0);
	take_what_there_is(&mine);
	expect_atomic(N);
}

static void a_prefill_of_none_gives_all_back(void **state)
{
	size_t out;

	(void)state;
	assert_int_equal(blocks_take(&mine, 7, GFP_KERNEL), 7);
	assert_int_equal(dmaland_pool_prefill(pool, N), 0);
	assert_int_equal(in_use(), 7 + N);
	assert_int_equal(dmaland_pool_prefill(pool, 0), 0);
	assert_int_equal(in_use(), 7);
	assert_int_equal(dmaland_pool_prefill(pool, 0), 0);
	assert_int_equal(in_use(), 7);
	blocks_give(&mine, 7);
	take_what_there_is(&mine);
	out = mine.count;
	blocks_give(&mine, out);
	assert_int_equal(dmaland_pool_prefill(pool, out), 0); /* all of the pool */
	assert_int_equal(dmaland_pool_prefill(pool, 0), 0);
	take_what_there_is(&mine);
	assert_int_equal(mine.count, out);
}

static void a_second_prefill_says_how_many_there_are(void **state)
{
	static const size_t counts[] = {10, 25, 25, 5, 1, 64, 65, 63, 200, 0, 3};
	uint64_t seed = 5;

	(void)state;
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		assert_int_equal(dmaland_pool_prefill(pool, counts[i]), 0);
		assert_int_equal(in_use(), mine.count + counts[i]);
		/* Some are taken, and are the thread's. */
		expect_atomic(random_below(&seed, counts[i] + 1));
	}
	assert_int_equal(dmaland_pool_prefill(pool, 20), 0);
	exhaust();
	expect_atomic(20);
}

static void *trim(void *context)
{
	dmaland_pool_trim(context);
	return NULL;
}

static void trimming_does_not_take_them(void **state)
{
	(void)state;
	assert_int_equal(dmaland_pool_prefill(pool, N), 0);
	trim(pool);
	thread_run(trim, pool);
	dmaland_trim(dev);
	assert_int_equal(in_use(), N);
	exhaust();
	expect_atomic(N);
}

static void *prefill_and_end(void *context)
{
	*(int *)context = dmaland_pool_prefill(pool, N);
	return NULL;
}

static void a_thread_that_ends_gives_them_back(void **state)
{
	size_t all;
	int result;

	(void)state;
	exhaust();
	all = others.count;
	blocks_give(&others, all);
	for (int i = 0; i < 100; i++) {
		thread_run(prefill_and_end, &result);
		assert_int_equal(result, 0);
	}
	dmaland_pool_trim(pool);
	assert_int_equal(in_use(), 0);
	exhaust();
	assert_int_equal(others.count, all);
}

static void a_pool_may_end_with_them(void **state)
{
	int result;

	(void)state;
	for (int i = 0; i < 100; i++) {
		struct dma_pool *one = dma_pool_create("ends", dev, BLOCK, 0, 0);

		assert_int_equal(dmaland_pool_prefill(one, N), 0);
		dma_pool_destroy(one);
	}
	assert_string_equal(log_text(), "");
	/* Nothing of theirs is left: the limit would be met. */
	thread_run(prefill_and_end, &result);
	assert_int_equal(result, 0);
}

static void at_a_limit_it_fails_in_words_and_changes_nothing(void **state)
{
	(void)state;
	assert_int_equal(dmaland_pool_prefill(pool, N), 0);
	exhaust();
	assert_int_equal(dmaland_pool_prefill(pool, ROOM), -ENOMEM);
	assert_error_says("memory_limit");
	assert_int_equal(in_use(), N + others.count);
	assert_int_equal(dmaland_pool_prefill(pool, SIZE_MAX), -ENOMEM);
	assert_int_equal(in_use(), N + others.count);
	expect_atomic(N);
}

/* It gets as far as memory goes before it fails. All of that is others' to take again. */
static void one_that_fails_keeps_no_block_more(void **state)
{
	size_t had;

	(void)state;
	assert_int_equal(dmaland_pool_prefill(pool, N), 0);
	exhaust();
	had = others.count;
	blocks_give(&others, had);
	assert_int_equal(dmaland_pool_prefill(pool, ROOM), -ENOMEM);
	exhaust();
	/* This thread's current slab stays, and that of its last free. */
	assert_in_range(others.count, had - 2 * SLAB_BLOCKS_MOST, had);
	expect_atomic(N);
}

/* As the user's own: who has had such a block before does not have it now. */
static void a_second_free_of_one_is_refused(void **state)
{
	struct dmaland_pool_stats stats;

	(void)state;
	take_what_there_is(&mine);
	blocks_give(&mine, 1);
	assert_int_equal(dmaland_pool_prefill(pool, 1), 0);
	mine.count++; /* the list has it still */
	blocks_give(&mine, 1);
	stats = stand_stats(pool);
	assert_int_equal(stats.bad_frees, 1);
	assert_int_equal(stats.in_use, mine.count + 1);
	assert_logged("already free");
	log_clear();
	expect_atomic(1);
}

/* ---- beside threads that are at the same lists ---- */

struct taker {
	struct blocks blocks;
	const bool *stop;
};

static void *take_and_give(void *context)
{
	struct taker *t = context;

	while (!__atomic_load_n(t->stop, __ATOMIC_ACQUIRE)) {
		blocks_take(&t->blocks, t->blocks.room, GFP_KERNEL);
		blocks_give(&t->blocks, t->blocks.count);
	}
	return NULL;
}

/*
 * In a watched pool a slab goes from the cache that all share into the reserve, and frees may find it meanwhile.
 * The others have few blocks, so that slabs are complete again and again.
 */
static void slabs_come_and_go_while_others_take_and_give(void **state)
{
	enum { ROUNDS = 2000, TAKERS = 2, ROOM_EACH = 3 };
	struct taker takers[TAKERS];
	pthread_t threads[TAKERS];
	bool stop = false;
	int failed = 0;

	(void)state;
	watchdog(patience(60)); /* who waited for another's lists for ever has hung here */
	for (int i = 0; i < TAKERS; i++) {
		takers[i] = (struct taker){blocks_make(pool, ROOM_EACH), &stop};
		thread_start(&threads[i], take_and_give, &takers[i]);
	}
	for (int i = 0; i < ROUNDS; i++) {
		failed |= dmaland_pool_prefill(pool, N);
		failed |= dmaland_pool_prefill(pool, 0);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	for (int i = 0; i < TAKERS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		blocks_end(&takers[i].blocks);
	}
	watchdog(0);
	assert_int_equal(failed, 0);
	assert_int_equal(in_use(), 0);
	assert_int_equal(stand_stats(pool).bad_frees, 0);
	assert_string_equal(log_text(), "");
	/* All that there is can be had: no slab is lost. */
	exhaust();
	assert_int_equal(others.count, stand_stats(pool).total);
}

#define prefill_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define debug_test(f)                                                                              \
	{                                                                                          \
#f ", debug", f, setup_debug, teardown, NULL                                       \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		prefill_test(no_pool_is_refused),
		prefill_test(what_is_prefilled_is_in_use_and_nobody_elses),
		prefill_test(the_one_after_the_last_fails),
		prefill_test(allocations_that_may_sleep_leave_it_alone),
		prefill_test(a_prefill_of_none_gives_all_back),
		prefill_test(a_second_prefill_says_how_many_there_are),
		prefill_test(trimming_does_not_take_them),
		prefill_test(a_thread_that_ends_gives_them_back),
		prefill_test(a_pool_may_end_with_them),
		prefill_test(at_a_limit_it_fails_in_words_and_changes_nothing),
		prefill_test(one_that_fails_keeps_no_block_more),
		prefill_test(a_second_free_of_one_is_refused),
		prefill_test(slabs_come_and_go_while_others_take_and_give),
		debug_test(what_is_prefilled_is_in_use_and_nobody_elses),
		debug_test(the_one_after_the_last_fails),
		debug_test(a_second_free_of_one_is_refused),
		debug_test(a_prefill_of_none_gives_all_back),
		debug_test(a_second_prefill_says_how_many_there_are),
		debug_test(trimming_does_not_take_them),
		debug_test(a_thread_that_ends_gives_them_back),
		debug_test(a_pool_may_end_with_them),
		debug_test(slabs_come_and_go_while_others_take_and_give),
	};

	return cmocka_run_group_tests_name("pool prefill", tests, NULL, NULL);
}
