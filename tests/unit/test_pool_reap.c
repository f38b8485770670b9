/* SPDX-License-Identifier: MIT */
/*
 * test_pool_reap.c - what is not needed any more goes back by itself; what is needed again and again stays
 */
#include "slab_stand.h"

#include <errno.h>

static const size_t sizes[] = {16, 48, 64, 1024, 4096, 10000};

enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

/* As often as it takes until it is asked what is needed. */
static void use_lightly(struct stand *s, gfp_t gfp)
{
	for (int i = 0; i < 4000; i++) {
		stand_take(s, 600, gfp);
		stand_free_last(s, 600);
	}
}

static void allocation_that_may_sleep_gives_back_what_is_not_needed_any_more(void **state)
{
	struct fake_place *p = *state;
	struct stand *s = stand_begin(p, 1024);
	struct dmaland_pool_stats before;
	uint64_t memory;

	stand_take(s, 8000, GFP_KERNEL);
	stand_free_last(s, 8000);
	before = stats_of(s->pool);
	memory = p->fake.domain.memory;
	use_lightly(s, GFP_ATOMIC);
	assert_int_equal(stats_of(s->pool).pages, before.pages);
	assert_int_equal(p->fake.domain.memory, memory);
	use_lightly(s, GFP_KERNEL);
	assert_in_range(stats_of(s->pool).pages, 600 / 4, before.pages / 6);
	assert_true(p->fake.domain.memory < memory);
	stand_end(s);
}

static void calls_for_many_blocks_give_back_too(void **state)
{
	struct stand *s = stand_begin(*state, 1024);
	struct dmaland_pool_stats before;
	dma_addr_t handles[200];
	void *vaddrs[200];

	stand_take(s, 8000, GFP_KERNEL);
	stand_free_last(s, 8000);
	before = stats_of(s->pool);
	for (int i = 0; i < 4000; i++) {
		assert_int_equal(dmaland_pool_alloc_bulk(s->pool, GFP_KERNEL, 200, vaddrs, handles),
				 200);
		dmaland_pool_free_bulk(s->pool, 200, vaddrs, handles);
	}
	assert_in_range(stats_of(s->pool).pages, 200 / 4, before.pages / 6);
	stand_end(s);
}

/*
 * Of slabs that all have as many blocks. Where some have fewer, one of those may be what was not needed, and another
 * one goes: that is seldom.
 */
static void a_pool_that_is_used_whole_again_and_again_gives_nothing_back(void **state)
{
	enum { ROUNDS = 400, SELDOM = 20 };

	for (size_t k = 0; k < SIZES; k++) {
		struct stand *s = stand_begin(*state, sizes[k]);
		struct dmaland_pool_stats first = {0};

		for (int i = 0; i < ROUNDS; i++) {
			stand_take(s, 5000, GFP_KERNEL);
			if (i == 0)
				first = stats_of(s->pool);
			stand_free_last(s, 5000);
		}
		assert_in_range(stats_of(s->pool).grows, first.grows,
				first.grows + (sizes[k] > 64 ? ROUNDS / SELDOM : 0));
		if (sizes[k] <= 64)
			assert_int_equal(stats_of(s->pool).pages, first.pages);
		stand_end(s);
	}
}

/* Half of what the stack never went below goes, each time. */
static void reaping_gives_back_half_of_the_surplus(void **state)
{
	struct stand *s = stand_begin(*state, 64);
	size_t depth;

	stand_take(s, 8000, GFP_KERNEL);
	stand_free_last(s, 8000);
	pool_reap(s->pool); /* nothing was known of the time before */
	depth = idle_stack_depth(s->pool);
	assert_true(depth >= 50);
	for (int i = 0; i < 3; i++) {
		pool_reap(s->pool);
		assert_int_equal(idle_stack_depth(s->pool), depth - (depth + 1) / 2);
		depth = idle_stack_depth(s->pool);
		expect_statistics_hold(s->pool);
	}
	/* What was used meanwhile stays. */
	stand_take(s, stats_of(s->pool).total, GFP_KERNEL);
	stand_free_last(s, s->count);
	depth = idle_stack_depth(s->pool);
	pool_reap(s->pool);
	assert_int_equal(idle_stack_depth(s->pool), depth);
	stand_end(s);
}

/* What fails of it is no failure of the allocation. */
static void an_allocation_that_reaps_leaves_the_last_error(void **state)
{
	struct fake_place *p = *state;
	struct stand *s = stand_begin(p, 1024);
	int rounds = 0;

	stand_take(s, 8000, GFP_KERNEL);
	stand_free_last(s, 8000);
	pool_reap(s->pool); /* nothing was known of the time before */
	dmaland_pool_prefill(NULL, 1);
	p->fake.refuse_withdraw = true;
	for (; !strstr(log_text(), "stay mapped") && rounds < 20; rounds++) {
		s->pool->reap_due = true;
		player_switch(1); /* who has no block, and so goes the way that looks */
		cache_flush(s->pool, cache_of(s->pool, 1));
		errno = EINTR;
		stand_take(s, 1, GFP_KERNEL);
		assert_int_equal(errno, EINTR);
		assert_error_says("no pool");
		stand_free_last(s, 1);
	}
	p->fake.refuse_withdraw = false;
	assert_logged("stay mapped");
	log_clear();
	stand_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		players_test(allocation_that_may_sleep_gives_back_what_is_not_needed_any_more),
		players_test(calls_for_many_blocks_give_back_too),
		players_test(a_pool_that_is_used_whole_again_and_again_gives_nothing_back),
		players_test(reaping_gives_back_half_of_the_surplus),
		players_test(an_allocation_that_reaps_leaves_the_last_error),
	};

	return cmocka_run_group_tests_name("pool, reaping", tests, NULL, NULL);
}
