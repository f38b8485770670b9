/* SPDX-License-Identifier: MIT */
/*
 * test_reserve.c - what is left for GFP_ATOMIC, where devices of narrow and wide masks share a domain
 */
#include "test.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "fake_domain.h"
#include "memory/coherent.h"

enum { MANY = 400 };

#define NARROW DMA_BIT_MASK(24)

/* Another device of the place's domain; the place's own is the wide one. */
static struct narrow {
	struct dma_limits limits;
	struct arena_tenant coherent, orphans;
	struct pool_list pools;
	struct dma_pool *pool; /* of pages */
} narrow;

static void narrow_open(struct fake_place *p, uint64_t mask)
{
	struct pool_place place = p->place;

	narrow.limits = (struct dma_limits){.coherent_mask = mask, .streaming_mask = mask};
	narrow.coherent.limits = narrow.orphans.limits = &narrow.limits;
	pthread_mutex_init(&narrow.pools.lock, NULL);
	place.limits = &narrow.limits;
	place.list = &narrow.pools;
	place.orphans = &narrow.orphans;
	narrow.pool = pool_create("narrow", &place, ARENA_PAGE, ARENA_PAGE, 0);
	assert_non_null(narrow.pool);
}

static void free_all(struct fake_place *p)
{
	dma_pool_destroy(narrow.pool);
	fake_give_all(p->arena, &narrow.coherent);
	fake_give_all(p->arena, &narrow.orphans);
	fake_give_all(p->arena, &p->coherent);
	fake_give_all(p->arena, &p->orphans);
	pthread_mutex_destroy(&narrow.pools.lock);
	log_clear();
}

/* Pages that a pool gets without growth, up to the reserve. */
static size_t atomic_pages(struct dma_pool *pool)
{
	dma_addr_t handle;
	size_t n = 0;

	while (n < ARENA_RESERVE_PAGES && dma_pool_alloc(pool, GFP_ATOMIC, &handle))
		n++;
	return n;
}

/* Pages that a wide device takes; how many of them lie under the narrow mask. */
static size_t take_wide(struct fake_place *p, size_t n, gfp_t gfp)
{
	dma_addr_t handle;
	size_t low = 0;

	while (n--) {
		assert_non_null(coherent_alloc(p->arena, &p->coherent, 1, &handle, gfp));
		low += handle <= narrow.limits.coherent_mask;
	}
	return low;
}

/* 4 MiB under the narrow mask, mapped and free. */
static void map_low(struct fake_place *p)
{
	dma_addr_t handle;
	void *memory = coherent_alloc(p->arena, &narrow.coherent, 4 << 20, &handle, GFP_KERNEL);

	assert_non_null(memory);
	coherent_free(p->arena, &narrow.coherent, "fake", 4 << 20, memory, handle);
}

static void trimming_leaves_the_reserve_under_each_mask(void **state)
{
	struct fake_place *p = *state;

	take_wide(p, 1, GFP_KERNEL); /* high pages are left, and no reserve of a narrow device */
	narrow_open(p, NARROW);
	arena_trim(p->arena, ARENA_RESERVE_PAGES);
	assert_int_equal(atomic_pages(narrow.pool), ARENA_RESERVE_PAGES);
	free_all(p);
}

static void trimming_gives_back_what_is_beyond_the_reserves(void **state)
{
	struct fake_place *p = *state;
	dma_addr_t handle[3];
	void *memory[3];

	narrow_open(p, NARROW);
	for (int i = 0; i < 3; i++)
		memory[i] =
			coherent_alloc(p->arena, &narrow.coherent, 4 << 20, &handle[i], GFP_KERNEL);
	for (int i = 0; i < 3; i++)
		coherent_free(p->arena, &narrow.coherent, "fake", 4 << 20, memory[i], handle[i]);
	arena_trim(p->arena, ARENA_RESERVE_PAGES);
	assert_true(p->fake.domain.memory <= 4 << 20); /* one chunk */
	assert_int_equal(atomic_pages(narrow.pool), ARENA_RESERVE_PAGES);
	free_all(p);
}

static void a_wide_device_takes_nothing_low_while_it_can_grow(void **state)
{
	struct fake_place *p = *state;

	narrow_open(p, NARROW);
	map_low(p);
	assert_int_equal(take_wide(p, 2000, GFP_KERNEL), 0);
	assert_int_equal(atomic_pages(narrow.pool), ARENA_RESERVE_PAGES);
	free_all(p);
}

static void one_that_cannot_grow_takes_low_pages_and_leaves_the_reserve(void **state)
{
	struct fake_place *p = *state;
	size_t low = 0;
	dma_addr_t handle;

	narrow_open(p, NARROW);
	map_low(p);
	p->fake.provides_left = 1;
	while (coherent_alloc(p->arena, &p->coherent, 1, &handle, GFP_KERNEL))
		low += handle <= NARROW;
	assert_int_equal(errno, ENOMEM);
	assert_error_says("gives no more");
	assert_true(low > 512);
	assert_int_equal(p->arena->free_pages, ARENA_RESERVE_PAGES);
	assert_null(coherent_alloc(p->arena, &p->coherent, 1, &handle, GFP_ATOMIC));
	assert_int_equal(atomic_pages(narrow.pool), ARENA_RESERVE_PAGES);
	free_all(p);
}

static void count_call(void *context)
{
	++*(unsigned int *)context;
}

static void growing_that_fails_is_not_tried_again_for_each_page(void **state)
{
	struct fake_place *p = *state;
	unsigned int calls = 0;

	narrow_open(p, NARROW);
	map_low(p);
	p->fake.provides_left = 0;
	p->fake.before_provide = count_call;
	p->fake.context = &calls;
	assert_int_equal(take_wide(p, MANY, GFP_KERNEL), MANY);
	assert_true(calls < MANY);
	p->fake.provides_left = UINT_MAX; /* and tried again in time */
	assert_true(take_wide(p, MANY, GFP_KERNEL) < MANY / 2);
	free_all(p);
}

static void addresses_above_that_are_used_up_end_in_low_ones(void **state)
{
	static const struct iova_range ranges[] = {{0x100000, 0x4fffff}, {0x1000000, 0x10fffff}};
	struct fake_place *p = *state;

	fake_place_close(p);
	fake_place_open(p, ranges, 2);
	narrow_open(p, NARROW);
	assert_int_equal(take_wide(p, 256, GFP_KERNEL), 0);
	assert_int_equal(take_wide(p, MANY, GFP_KERNEL), MANY);
	assert_int_equal(atomic_pages(narrow.pool), ARENA_RESERVE_PAGES);
	free_all(p);
}

static void each_mask_has_a_reserve_of_its_own(void **state)
{
	struct fake_place *p = *state;
	dma_addr_t handle;

	narrow_open(p, NARROW);
	arena_prepare(p->arena, &p->coherent);
	for (int i = 0; i < ARENA_RESERVE_PAGES; i++)
		assert_non_null(coherent_alloc(p->arena, &p->coherent, 1, &handle, GFP_ATOMIC));
	assert_int_equal(atomic_pages(narrow.pool), ARENA_RESERVE_PAGES);
	free_all(p);
}

static void a_new_mask_has_its_reserve(void **state)
{
	struct fake_place *p = *state;

	narrow_open(p, DMA_BIT_MASK(32));
	assert_int_equal(arena_set_mask(p->arena, &narrow.limits, NARROW, "narrow"), 0);
	assert_int_equal(atomic_pages(narrow.pool), ARENA_RESERVE_PAGES);
	free_all(p);
}

static void pages_above_a_mask_within_a_chunk_are_no_reserve(void **state)
{
	struct fake_place *p = *state;
	dma_addr_t handle;

	assert_non_null(coherent_alloc(p->arena, &p->coherent, 1, &handle, GFP_KERNEL));
	narrow_open(p, handle + 2 * ARENA_PAGE - 1);
	assert_int_equal(atomic_pages(narrow.pool), ARENA_RESERVE_PAGES);
	free_all(p);
}

static void masks_above_all_addresses_are_one(void **state)
{
	struct fake_place *p = *state;
	unsigned int provides;

	p->fake.domain.usable = calloc(1, sizeof(*p->fake.domain.usable));
	p->fake.domain.usable[0] = (struct iova_range){0x1000, DMA_BIT_MASK(36)};
	p->fake.domain.usable_count = 1;
	narrow_open(p, DMA_BIT_MASK(48));
	provides = p->fake.provides;
	take_wide(p, 8, GFP_KERNEL);
	assert_int_equal(p->fake.provides, provides);
	free_all(p);
	free(p->fake.domain.usable);
	p->fake.domain.usable = NULL;
	p->fake.domain.usable_count = 0;
}

static void the_next_call_that_may_grow_fills_the_reserve_again(void **state)
{
	struct fake_place *p = *state;
	struct dmaland_pool_stats stats;
	dma_addr_t handle[2];
	struct dma_pool *pool;
	void *block;

	narrow_open(p, NARROW);
	pool = pool_create("wide", &p->place, 64, 64, 0);
	block = dma_pool_alloc(pool, GFP_KERNEL, &handle[0]);
	assert_int_equal(atomic_pages(narrow.pool), ARENA_RESERVE_PAGES);
	while (coherent_alloc(p->arena, &narrow.coherent, 1, &handle[1], GFP_ATOMIC))
		;
	assert_error_says("allocate ahead with GFP_KERNEL");
	dmaland_pool_get_stats(pool, &stats);
	for (size_t i = 0; i < stats.total; i++) /* its slab is used up, and a block more */
		assert_non_null(dma_pool_alloc(pool, GFP_KERNEL, &handle[1]));
	dma_pool_free(pool, block, handle[0]);
	assert_int_equal(atomic_pages(narrow.pool), ARENA_RESERVE_PAGES);
	dma_pool_destroy(pool);
	free_all(p);
}

static void a_large_pool_takes_one_page_of_what_is_left_for_gfp_atomic(void **state)
{
	struct fake_place *p = *state;
	struct dmaland_pool_stats stats;
	struct dma_pool *large;
	size_t pages, free_pages;
	dma_addr_t handle;

	large = pool_create("large", &p->place, 2048, 2048, 0);
	for (int i = 0; i < 10 * MANY; i++)
		assert_non_null(dma_pool_alloc(large, GFP_KERNEL, &handle));
	dmaland_pool_get_stats(large, &stats);
	pages = stats.pages;
	do {
		free_pages = p->arena->free_pages;
		assert_non_null(dma_pool_alloc(large, GFP_ATOMIC, &handle));
		dmaland_pool_get_stats(large, &stats);
	} while (stats.pages == pages || p->arena->free_pages == free_pages);
	assert_int_equal(p->arena->free_pages, free_pages - 1);
	dma_pool_destroy(large);
	fake_give_all(p->arena, &p->orphans);
	log_clear();
}

/*
 * GFP_ATOMIC gets all that is mapped, in a pool that never grew: all of its pages, and all blocks of them. What is
 * beside the blocks is less than a twentieth.
 */
static void take_all_by_atomic(const struct pool_place *place, size_t size)
{
	struct dma_pool *pool = pool_create("atomic", place, size, 0, 0);
	struct dmaland_pool_stats stats;
	size_t pages = place->arena->free_pages, n = 0;
	dma_addr_t handle;

	assert_non_null(pool);
	while (dma_pool_alloc(pool, GFP_ATOMIC, &handle))
		n++;
	assert_error_says("DMALAND_ATOMIC_MAY_GROW=1");
	assert_int_equal(place->arena->free_pages, 0);
	dmaland_pool_get_stats(pool, &stats);
	assert_int_equal(stats.pages, pages);
	assert_int_equal(stats.total, n);
	assert_int_equal(stats.in_use, n);
	assert_true(place->debug || n * size >= pages * ARENA_PAGE / 20 * 19);
	dma_pool_destroy(pool);
	fake_give_all(place->arena, place->orphans);
}

/* Mapped before a pool of such blocks was made, and after. */
static void gfp_atomic_uses_up_all_that_is_mapped(void **state)
{
	static const size_t sizes[] = {16, 24, 32, 48, 64, 256, 1024, 4096, 256, 16};
	struct fake_place *p = *state;
	struct pool_place watched = p->place;

	watched.debug = true;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t bytes = (size_t)(4 << 20) << i / 4;
		dma_addr_t handle;
		void *memory = coherent_alloc(p->arena, &p->coherent, bytes, &handle, GFP_KERNEL);

		assert_non_null(memory);
		coherent_free(p->arena, &p->coherent, "fake", bytes, memory, handle);
		take_all_by_atomic(&p->place, sizes[i]);
		take_all_by_atomic(&watched, sizes[i]);
		log_clear();
	}
}

static void gfp_atomic_that_may_grow_does(void **state)
{
	struct fake_place *p = *state;
	struct pool_place place = p->place;
	struct dma_pool *pool;
	dma_addr_t handle;

	place.gfp = __GFP_RECLAIM;
	pool = pool_create("ported", &place, 256, 256, 0);
	for (int i = 0; i < 100 * MANY; i++)
		assert_non_null(dma_pool_alloc(pool, GFP_ATOMIC, &handle));
	assert_true(p->arena->free_pages >= ARENA_RESERVE_PAGES);
	dma_pool_destroy(pool);
	fake_give_all(p->arena, &p->orphans);
	log_clear();
}

/* A thread of the wide device that takes a page and gives it back, time and again. */
static struct taker {
	atomic_bool stop;
	atomic_uint taken, refused;
	pthread_t thread;
} taker;

static void *take_often(void *context)
{
	struct fake_place *p = context;
	struct page *first;

	while (!taker.stop) {
		if (arena_take(p->arena, &p->coherent, ARENA_PAGE, ARENA_PAGE, GFP_ATOMIC,
			       &first)) {
			taker.refused += !another_held_the_arena();
			continue;
		}
		arena_give(p->arena, first);
		taker.taken++;
	}
	return NULL;
}

static void taker_begin(struct fake_place *p)
{
	taker.stop = false;
	taker.taken = taker.refused = 0;
	assert_int_equal(pthread_create(&taker.thread, NULL, take_often, p), 0);
	while (!taker.taken && !taker.refused)
		;
}

/* How often it was refused. */
static unsigned int taker_end(void)
{
	taker.stop = true;
	pthread_join(taker.thread, NULL);
	return taker.refused;
}

/* ThreadSanitizer watches, too; moment by moment it is tried in test_arena_moments.c. */
static void what_is_taken_while_a_mask_changes_is_counted(void **state)
{
	struct fake_place *p = *state;
	unsigned int met = 0;

	narrow_open(p, NARROW);
	map_low(p);
	take_wide(p, 1, GFP_KERNEL);
	taker_begin(p);
	for (unsigned int i = 0; met < 20; i++) {
		unsigned int before = taker.taken;

		assert_int_equal(arena_set_mask(p->arena, &narrow.limits,
						i % 2 ? NARROW : DMA_BIT_MASK(64), "narrow"),
				 0);
		met += taker.taken != before;
	}
	assert_int_equal(taker_end(), 0);
	for (const struct arena_reserve *r = p->arena->reserves; r; r = r->next) {
		size_t pages = 0;

		for (const struct arena_chunk *c = p->arena->chunks; c; c = c->next)
			if (c->memory.dma + (c->memory.size - 1) <= r->mask)
				pages += c->free_pages;
		assert_int_equal(chunks_free_under(p->arena, r->mask), pages);
	}
	free_all(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		place_test(trimming_leaves_the_reserve_under_each_mask),
		place_test(trimming_gives_back_what_is_beyond_the_reserves),
		place_test(a_wide_device_takes_nothing_low_while_it_can_grow),
		place_test(one_that_cannot_grow_takes_low_pages_and_leaves_the_reserve),
		place_test(growing_that_fails_is_not_tried_again_for_each_page),
		place_test(addresses_above_that_are_used_up_end_in_low_ones),
		place_test(each_mask_has_a_reserve_of_its_own),
		place_test(a_new_mask_has_its_reserve),
		place_test(pages_above_a_mask_within_a_chunk_are_no_reserve),
		place_test(masks_above_all_addresses_are_one),
		place_test(the_next_call_that_may_grow_fills_the_reserve_again),
		place_test(a_large_pool_takes_one_page_of_what_is_left_for_gfp_atomic),
		place_test(gfp_atomic_uses_up_all_that_is_mapped),
		place_test(gfp_atomic_that_may_grow_does),
		place_test(what_is_taken_while_a_mask_changes_is_counted),
	};

	return cmocka_run_group_tests_name("reserve", tests, NULL, NULL);
}
