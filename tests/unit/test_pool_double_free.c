/* SPDX-License-Identifier: MIT */
/*
 * test_pool_double_free.c - two threads free a block at the same instant
 *
 * Both can find the block out, and then there are two copies of it in the pool, or one (docs/design/pool.md).
 * However that ends: no block is handed out while it is out. Where both copies are taken at the same instant that can't be
 * told, so here the threads allocate by turns after each race. By hand and one copy at a time: test_pool_cache.c.
 */
#include "test.h"

#include <sched.h>

#include "pool_stand.h"

enum {
	RACES = SANITIZED ? 2000 : 20000,
	BLOCK = 64,
	SOME = 200,	/* that each takes after a race: more than a slab */
	MANY = 4500,	/* and now and then: more than a thread's idle slabs have */
	RARELY = 500,	/* races between those */
	FOUND_OF = 100, /* one at least */
};

/* Who allocated the block, and so may own its slab. */
enum owner { OWNER_MAIN, OWNER_OTHER, OWNER_NONE, OWNERS };

/* Passed by its address, so that a compiler does not take its fields for one thread's. */
struct race {
	void *block;
	dma_addr_t handle;
	size_t arrived; /* counts up */
};

static struct dmaland_device *dev;
static struct dma_pool *pool;
static struct blocks by_main, by_other;

/* Both leave as soon as both are there; a barrier of the system's would wake one after the other. */
static void meet(struct race *r, size_t *meeting)
{
	*meeting += 2;
	__atomic_fetch_add(&r->arrived, 1, __ATOMIC_ACQ_REL);
	for (size_t i = 1; __atomic_load_n(&r->arrived, __ATOMIC_ACQUIRE) < *meeting; i++)
		if (i % 4096 == 0)
			sched_yield();
}

static void allocate(struct race *r)
{
	r->block = dma_pool_alloc(pool, GFP_KERNEL, &r->handle);
}

static void *allocate_and_end(void *context)
{
	allocate(context);
	return context;
}

static enum owner owner_of(size_t race)
{
	return race % OWNERS;
}

/* Blocks that a thread takes after a race, and whether the other's turn is first. */
static size_t turn_takes(size_t race)
{
	return race % RARELY ? SOME : MANY;
}

static bool turn_is_mains(size_t race)
{
	return race / OWNERS % 2;
}

/* Each block has a stamp of its own: a list's, and a number in the list. */
static void stamp(const struct blocks *b, uint64_t list)
{
	for (size_t i = 0; i < b->count; i++)
		*(uint64_t *)b->vaddrs[i] = list << 32 | i;
}

static void expect_stamps(const struct blocks *b, uint64_t list, size_t race)
{
	for (size_t i = 0; i < b->count; i++)
		if (*(uint64_t *)b->vaddrs[i] != (list << 32 | i))
			fail_msg("race %zu: block %p is two users'", race, b->vaddrs[i]);
}

static void expect_apart(size_t race)
{
	assert_int_equal(by_main.count, turn_takes(race));
	assert_int_equal(by_other.count, turn_takes(race));
	stamp(&by_main, 1);
	stamp(&by_other, 2);
	expect_stamps(&by_main, 1, race);
	expect_stamps(&by_other, 2, race);
}

/* One takes blocks, then the other; they are looked at; both give them back at the same time. */
static void turn(struct race *r, struct blocks *b, size_t race, bool first, size_t *meeting)
{
	if (!first)
		meet(r, meeting);
	blocks_take(b, turn_takes(race), GFP_KERNEL);
	if (first)
		meet(r, meeting);
	meet(r, meeting);
	if (b == &by_main)
		expect_apart(race);
	meet(r, meeting);
	blocks_give(b, b->count);
}

static void *race_as_well(void *context)
{
	struct race *r = context;
	size_t meeting = 0;

	for (size_t race = 0; race < RACES; race++) {
		meet(r, &meeting);
		if (owner_of(race) == OWNER_OTHER)
			allocate(r);
		meet(r, &meeting);
		dma_pool_free(pool, r->block, r->handle);
		meet(r, &meeting);
		turn(r, &by_other, race, !turn_is_mains(race), &meeting);
		meet(r, &meeting);
	}
	return context;
}

static void a_block_freed_twice_at_a_time_is_handed_out_once(void **state)
{
	static struct race races;
	struct race *r = &races;
	size_t meeting = 0, found, looks = 0, at_once = 0;
	pthread_t thread;

	(void)state;
	thread_start(&thread, race_as_well, r);
	for (size_t race = 0; race < RACES; race++) {
		meet(r, &meeting);
		if (owner_of(race) == OWNER_MAIN)
			allocate(r);
		else if (owner_of(race) == OWNER_NONE)
			thread_run(allocate_and_end, r);
		found = stand_stats(pool).bad_frees;
		meet(r, &meeting);
		dma_pool_free(pool, r->block, r->handle);
		meet(r, &meeting);
		if (turn_is_mains(race)) { /* the other waits */
			at_once += stand_stats(pool).bad_frees - found;
			looks++;
		}
		turn(r, &by_main, race, turn_is_mains(race), &meeting);
		meet(r, &meeting);
		log_clear();
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	found = stand_stats(pool).bad_frees;
	print_message(
		"# of %d frees too many %zu were found; of %zu, %zu by a free, the rest later\n",
		(int)RACES, found, looks, at_once);
	assert_in_range(found, RACES / FOUND_OF, RACES);
	if (found == RACES)
		assert_int_equal(stand_stats(pool).in_use, 0);
}

static int setup(void **state)
{
	(void)state;
	log_capture();
	dev = stand_open(0, false);
	pool = dma_pool_create("double free", dev, BLOCK, 0, 0);
	assert_non_null(pool);
	by_main = blocks_make(pool, MANY);
	by_other = blocks_make(pool, MANY);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	blocks_end(&by_main);
	blocks_end(&by_other);
	dma_pool_destroy(pool);
	dmaland_close(dev);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_block_freed_twice_at_a_time_is_handed_out_once,
						setup, teardown),
	};

	return cmocka_run_group_tests_name("pool, double frees that race", tests, NULL, NULL);
}
