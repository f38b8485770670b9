/* SPDX-License-Identifier: MIT */
/*
 * test_pool_reserve.c - where a thread's prefilled blocks lie, and who leaves them alone
 */
#include "slab_stand.h"

#include <errno.h>

static size_t reserved_slabs(struct stand *s, unsigned int player)
{
	return list_length(s->pool, cache_of(s->pool, player)->reserve);
}

static size_t free_in_reserve(struct stand *s, unsigned int player)
{
	size_t n = 0;

	for (uint32_t link = cache_of(s->pool, player)->reserve; link;
	     link = slab_at(s->pool, link)->next)
		n += (size_t)__builtin_popcountll(slab_at(s->pool, link)->free);
	return n;
}

/* No slab more than is needed, of those that are there first. */
static void a_reserve_is_of_slabs_with_as_many_free_blocks(void **state)
{
	static const size_t sizes[] = {16, 64, 1000, 4096, 10000},
			    counts[] = {1, 64, 65, 10, 300, 0, 7};

	for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
		struct stand *s = stand_begin(*state, sizes[k]);
		size_t total;

		stand_take(s, 500, GFP_KERNEL);
		stand_free_last(s, 450);
		total = stats_of(s->pool).total;
		for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
			assert_int_equal(dmaland_pool_prefill(s->pool, counts[i]), 0);
			assert_int_equal(cache_of(s->pool, 0)->reserved, counts[i]);
			assert_in_range(free_in_reserve(s, 0), counts[i],
					counts[i] + s->pool->blocks);
			assert_int_equal(!reserved_slabs(s, 0), !counts[i]);
			expect_statistics_hold(s->pool);
		}
		assert_int_equal(stats_of(s->pool).total, total);
		assert_int_equal(dmaland_pool_prefill(s->pool, 0), 0);
		stand_end(s);
	}
}

static void gfp_atomic_takes_them_when_there_is_nothing_else(void **state)
{
	struct fake_place *p = *state;
	struct stand *s = stand_begin(p, 4096);
	dma_addr_t handle;

	assert_int_equal(dmaland_pool_prefill(s->pool, 20), 0);
	stand_take(s, 1, GFP_ATOMIC);
	assert_int_equal(cache_of(s->pool, 0)->reserved, 20); /* there was something else */
	p->fake.domain.memory_limit = p->fake.domain.memory;
	while (cache_of(s->pool, 0)->reserved == 20)
		stand_take(s, 1, GFP_ATOMIC);
	stand_take(s, 19, GFP_ATOMIC);
	assert_int_equal(cache_of(s->pool, 0)->reserved, 0);
	expect_statistics_hold(s->pool);
	/* Beyond it the slabs of the reserve have a block or another one. */
	while (reserved_slabs(s, 0) && stats_of(s->pool).total > s->count &&
	       dma_pool_alloc(s->pool, GFP_ATOMIC, &handle))
		fail_msg("a block more than was prefilled");
	assert_int_equal(dmaland_pool_prefill(s->pool, 0), 0);
	p->fake.domain.memory_limit = 0;
	stand_end(s);
}

static bool in_reserve(struct stand *s, const struct page *slab)
{
	uint32_t link = cache_of(s->pool, 0)->reserve;

	while (link && slab_at(s->pool, link) != slab)
		link = slab_at(s->pool, link)->next;
	return link;
}

static void nobody_takes_them(void **state)
{
	struct stand *s = stand_begin(*state, 64);
	size_t slabs;

	assert_int_equal(dmaland_pool_prefill(s->pool, 1000), 0);
	slabs = reserved_slabs(s, 0);
	for (unsigned int player = 0; player < 3; player++) {
		player_switch(player);
		dmaland_pool_trim(s->pool);
		pool_steal(s->pool);
		pool_reap(s->pool);
		stand_take(s, 500, GFP_KERNEL);
		assert_int_equal(reserved_slabs(s, 0), slabs);
		assert_int_equal(free_in_reserve(s, 0), slabs * 64);
		for (size_t i = 0; i < s->count; i++)
			assert_false(in_reserve(s, slab_of(s->pool, s->vaddrs[i])));
		expect_statistics_hold(s->pool);
	}
	player_switch(0);
	assert_int_equal(dmaland_pool_prefill(s->pool, 0), 0);
	stand_end(s);
}

/* Blocks of its slabs that were out, and come back: from its thread, and from another. */
static void what_comes_back_to_a_slab_of_a_reserve_stays_there(void **state)
{
	struct stand *s = stand_begin(*state, 64);
	struct page *slab;

	stand_take(s, 40, GFP_KERNEL);
	slab = slab_of(s->pool, s->vaddrs[0]);
	assert_int_equal(dmaland_pool_prefill(s->pool, 10), 0); /* of the rest of the slab */
	assert_true(in_reserve(s, slab));
	for (int i = 0; i < 20; i++) {
		player_switch(i & 1);
		stand_free_last(s, 1);
		expect_statistics_hold(s->pool);
	}
	stand_free_last(s, 20); /* it is complete */
	assert_int_equal(__builtin_popcountll(slab_back(slab)), 64);
	player_switch(2);
	dmaland_pool_trim(s->pool);
	assert_true(in_reserve(s, slab));
	assert_int_equal(cache_of(s->pool, 0)->reserved, 10);
	expect_statistics_hold(s->pool);
	player_switch(0);
	assert_int_equal(dmaland_pool_prefill(s->pool, 64), 0); /* with what another gave back */
	assert_int_equal(stats_of(s->pool).in_use, 64);
	assert_int_equal(dmaland_pool_prefill(s->pool, 0), 0);
	dmaland_pool_trim(s->pool);
	stand_end(s);
}

/* Many slabs go back at once: a thread does not keep more of them than it may. */
static void what_is_given_back_is_for_all(void **state)
{
	struct stand *s = stand_begin(*state, 4096);

	assert_int_equal(dmaland_pool_prefill(s->pool, 2000), 0);
	assert_int_equal(stats_of(s->pool).in_use, 2000);
	assert_int_equal(dmaland_pool_prefill(s->pool, 0), 0);
	assert_in_range(cache_of(s->pool, 0)->idle_count, 1, s->pool->idle_max);
	assert_true(idle_stack_depth(s->pool) > 20);
	assert_int_equal(stats_of(s->pool).in_use, 0);
	expect_statistics_hold(s->pool);
	stand_end(s);
}

/*
 * The thread's slabs have one block out each, and one that it knows to be free: the rest came back by another thread,
 * which the thread finds out when it looks.
 */
static void no_slab_with_blocks_that_others_gave_back_is_lost(void **state)
{
	enum { SLAB = 64, SLABS = 10 };
	struct stand *s = stand_begin(*state, 64);
	struct dmaland_pool_stats before;
	struct page *slabs[SLABS];

	stand_take(s, (SLABS + 1) * SLAB, GFP_KERNEL);
	for (size_t i = SLABS; i-- > 0;) { /* the thread's again */
		slabs[i] = slab_of(s->pool, s->vaddrs[i * SLAB + 1]);
		stand_free(s, i * SLAB + 1);
	}
	player_switch(1);
	for (size_t i = SLABS * (SLAB - 1); i-- > 0;)
		if (i % (SLAB - 1))
			stand_free(s, i);
	for (size_t i = 0; i < SLABS; i++) {
		assert_true(slab_is_owned_by(slabs[i], cache_of(s->pool, 0)));
		assert_int_equal(slabs[i]->free, 1 << 1);
	}
	assert_int_equal(s->count, SLABS + SLAB);
	player_switch(0);
	assert_int_equal(dmaland_pool_prefill(s->pool, 100), 0);
	assert_int_equal(dmaland_pool_prefill(s->pool, 0), 0);
	dmaland_pool_trim(s->pool);
	expect_statistics_hold(s->pool);
	before = stats_of(s->pool);
	assert_int_equal(before.in_use, SLABS + SLAB);
	stand_take(s, before.total - before.in_use, GFP_KERNEL);
	assert_int_equal(stats_of(s->pool).pages, before.pages);
	assert_int_equal(stats_of(s->pool).grows, before.grows);
	stand_end(s);
}

/* That there was nothing else is no failure of the call. */
static void what_the_reserve_serves_leaves_the_last_error(void **state)
{
	struct fake_place *p = *state;
	struct stand *s = stand_begin(p, 4096);

	assert_int_equal(dmaland_pool_prefill(s->pool, 20), 0);
	p->fake.domain.memory_limit = p->fake.domain.memory;
	while (cache_of(s->pool, 0)->reserved) {
		dmaland_pool_prefill(NULL, 1);
		errno = EINTR;
		stand_take(s, 1, GFP_ATOMIC);
		assert_int_equal(errno, EINTR);
		assert_error_says("no pool");
	}
	p->fake.domain.memory_limit = 0;
	stand_end(s);
}

/* ThreadSanitizer has no room for a thread with 1,000 locks. */
#ifndef __SANITIZE_THREAD__
/* The last test: no number is left afterwards. */
static void a_thread_without_a_number_has_none(void **state)
{
	struct stand *s;

	numbers_use_up();
	players_begin();
	s = stand_begin(*state, 64);
	player_switch(PLAYERS - 1);
	assert_int_equal(thread_offset, 0);
	assert_int_equal(dmaland_pool_prefill(s->pool, 1), -EAGAIN);
	assert_error_says("1023 threads use pools");
	assert_int_equal(dmaland_pool_prefill(s->pool, 0), -EAGAIN);
	stand_take(s, 200, GFP_KERNEL); /* from the shared cache */
	assert_true(s->pool->shared.allocs >= 200);
	stand_free_last(s, 100);
	expect_statistics_hold(s->pool);
	player_switch(1);
	stand_free_last(s, 50);
	expect_statistics_hold(s->pool);
	player_end(); /* whose number is free now */
	assert_int_equal(thread_offset, 0);
	player_switch(PLAYERS - 1);
	for (int i = 0; i < 2 * THREADS && !thread_offset; i++)
		dmaland_pool_prefill(s->pool, 1);
	assert_int_not_equal(thread_offset, 0);
	assert_int_equal(dmaland_pool_prefill(s->pool, 0), 0);
	stand_end(s);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		players_test(a_reserve_is_of_slabs_with_as_many_free_blocks),
		players_test(gfp_atomic_takes_them_when_there_is_nothing_else),
		players_test(nobody_takes_them),
		players_test(what_comes_back_to_a_slab_of_a_reserve_stays_there),
		players_test(what_is_given_back_is_for_all),
		players_test(no_slab_with_blocks_that_others_gave_back_is_lost),
		players_test(what_the_reserve_serves_leaves_the_last_error),
#ifndef __SANITIZE_THREAD__
		players_test(a_thread_without_a_number_has_none),
#endif
	};

	return cmocka_run_group_tests_name("pool, reserves of threads", tests, NULL, NULL);
}
