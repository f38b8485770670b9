/* SPDX-License-Identifier: MIT */
/*
 * test_pool_cache.c - whose slabs are whose: threads' slabs, nobody's, idle ones; blocks that come back from anywhere
 */
#include "slab_stand.h"

enum { SLAB = 64 }; /* blocks of 64 bytes */

static void the_lowest_block_of_a_slab_is_next_whatever_came_back_last(void **state)
{
	static const size_t freed[] = {50, 5, 30, 3, 40}, had[] = {3, 5, 30, 40, 50};
	struct stand *s = stand_begin(*state, 64);
	dma_addr_t handle;

	stand_take(s, SLAB, GFP_KERNEL);
	for (size_t i = 0; i < 5; i++)
		dma_pool_free(s->pool, s->vaddrs[freed[i]], s->handles[freed[i]]);
	for (size_t i = 0; i < 5; i++)
		assert_ptr_equal(dma_pool_alloc(s->pool, GFP_KERNEL, &handle), s->vaddrs[had[i]]);
	stand_end(s);
}

static void who_frees_the_first_block_of_a_slab_that_was_used_up_has_the_slab(void **state)
{
	struct stand *s = stand_begin(*state, 64);
	struct page *slab;

	stand_take(s, SLAB + 1, GFP_KERNEL);
	slab = slab_of(s->pool, s->vaddrs[7]);
	assert_int_equal(slab_owner(slab), SLAB_NOBODYS);
	player_switch(1);
	stand_free(s, 7);
	assert_true(slab_is_owned_by(slab, cache_of(s->pool, 1)));
	assert_int_equal(list_length(s->pool, cache_of(s->pool, 1)->partial), 1);
	expect_statistics_hold(s->pool);
	stand_take(s, 1, GFP_KERNEL);
	assert_ptr_equal(slab_of(s->pool, s->vaddrs[s->count - 1]), slab);
	assert_int_equal(stats_of(s->pool).grows, 1 + 1);
	stand_end(s);
}

static void blocks_of_anothers_slab_come_back_to_him(void **state)
{
	struct stand *s = stand_begin(*state, 64);
	struct page *slab;

	stand_take(s, SLAB, GFP_KERNEL); /* it is the current one yet */
	slab = slab_of(s->pool, s->vaddrs[0]);
	player_switch(1);
	for (int i = 0; i < 10; i++)
		stand_free(s, 20);
	assert_true(slab_is_owned_by(slab, cache_of(s->pool, 0)));
	assert_int_equal(__builtin_popcountll(slab->remote), 10);
	assert_int_equal(slab->free, 0);
	expect_statistics_hold(s->pool);
	player_switch(0);
	for (int i = 0; i < 10; i++) {
		stand_take(s, 1, GFP_ATOMIC);
		assert_ptr_equal(slab_of(s->pool, s->vaddrs[s->count - 1]), slab);
	}
	assert_int_equal(stats_of(s->pool).grows, 1);
	stand_end(s);
}

/* A consumer frees what a producer takes: no slab more is needed in the long run. */
static void slabs_go_to_the_consumer_and_by_the_stack_back(void **state)
{
	static const size_t sizes[] = {16, 64, 1024, 4096, 10000};

	for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
		struct stand *s = stand_begin(*state, sizes[k]);
		struct dmaland_pool_stats stats = {0};

		for (int round = 0; round < 60; round++) {
			player_switch(0);
			stand_take(s, 300, GFP_KERNEL);
			player_switch(1);
			stand_free_last(s, 300);
			expect_statistics_hold(s->pool);
			if (round == 30)
				stats = stats_of(s->pool);
		}
		assert_int_equal(stats_of(s->pool).grows, stats.grows);
		stand_end(s);
	}
}

/* ---- idle slabs ---- */

static void more_idle_slabs_than_a_thread_may_keep_go_to_the_stack(void **state)
{
	static const size_t sizes[] = {64, 1024, 4096};

	for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
		struct stand *s = stand_begin(*state, sizes[k]);
		struct cache *cache = cache_of(s->pool, 0);
		size_t slabs;

		stand_take(s, s->pool->idle_max * s->pool->blocks + 500, GFP_KERNEL);
		slabs = stats_of(s->pool).grows;
		assert_true(slabs > s->pool->idle_max + 1);
		stand_free_last(s, s->count);
		assert_in_range(cache->idle_count, s->pool->idle_max / 2, s->pool->idle_max);
		assert_int_equal(cache->idle_count + idle_stack_depth(s->pool) + 1, slabs);
		assert_true(stats_of(s->pool).parked * sizes[k] <= (256 + 128) << 10);
		expect_statistics_hold(s->pool);
		stand_end(s);
	}
}

/* One, and no more than a quarter of those that are there beside it. */
static void what_is_in_the_stack_is_used_before_memory(void **state)
{
	struct stand *s = stand_begin(*state, 64);
	size_t grows, depth;

	stand_take(s, 100 * SLAB, GFP_KERNEL);
	stand_free_last(s, s->count);
	grows = stats_of(s->pool).grows;
	depth = idle_stack_depth(s->pool);
	assert_true(depth > 30);
	player_switch(1);
	stand_take(s, 1, GFP_ATOMIC);
	assert_in_range(idle_stack_depth(s->pool), depth - 1 - depth / 4, depth - 1);
	expect_statistics_hold(s->pool);
	stand_take(s, depth * SLAB - 1, GFP_ATOMIC);
	assert_int_equal(stats_of(s->pool).grows, grows);
	assert_int_equal(idle_stack_depth(s->pool), 0);
	expect_statistics_hold(s->pool);
	stand_end(s);
}

/* Once each has its own, neither needs memory, nor the other's. */
static void two_threads_at_work_have_slabs_of_their_own(void **state)
{
	enum { N = 1500 };
	struct stand *s = stand_begin(*state, 64);
	size_t grows = 0;

	for (unsigned int round = 0; round < 12; round++) {
		player_switch(round & 1);
		stand_take(s, N, GFP_KERNEL);
		for (size_t i = 0; i < N; i++) {
			uintptr_t owner = slab_owner(slab_of(s->pool, s->vaddrs[i]));

			assert_true(owner != (uintptr_t)cache_of(s->pool, !(round & 1)));
		}
		stand_free_last(s, N);
		if (round == 1)
			grows = stats_of(s->pool).grows;
	}
	assert_int_equal(stats_of(s->pool).grows, grows);
	assert_int_equal(idle_stack_depth(s->pool), 0);
	stand_end(s);
}

/* ---- a thread whose lists are another's for a while ---- */

static void a_thread_whose_lists_are_revoked_does_without(void **state)
{
	struct stand *s = stand_begin(*state, 64);
	struct cache *cache = cache_of(s->pool, 0);
	struct page *slab;

	stand_take(s, 4 * SLAB, GFP_KERNEL);
	stand_free_last(s, 2 * SLAB + 10); /* one is idle at least, others are partial */
	assert_true(cache->idle && cache->partial);
	cache->revoked = 1;
	slab = slab_of(s->pool, s->vaddrs[0]);
	assert_int_equal(slab_owner(slab), SLAB_NOBODYS);
	for (size_t i = 0; i < SLAB; i++) /* it goes from nobody's to the stack */
		dma_pool_free(s->pool, s->vaddrs[i], s->handles[i]);
	assert_int_equal(slab_owner(slab), SLAB_IDLE);
	assert_int_equal(idle_stack_depth(s->pool), 1);
	expect_statistics_hold(s->pool);
	for (size_t i = 0; i < SLAB; i++)
		s->vaddrs[i] = dma_pool_alloc(s->pool, GFP_KERNEL, &s->handles[i]);
	stand_take(s, SLAB, GFP_KERNEL); /* from the stack, and from memory */
	expect_statistics_hold(s->pool);
	stand_free_last(s, SLAB);
	expect_statistics_hold(s->pool);
	assert_int_equal(cache->busy, 0);
	cache->revoked = 0;
	stand_end(s);
}

/* ---- second frees ---- */

static void expect_refused(struct stand *s, void *vaddr, dma_addr_t handle, const char *what)
{
	size_t bad = stats_of(s->pool).bad_frees, in_use = stats_of(s->pool).in_use;

	for (unsigned int player = 0; player < 3; player++) {
		player_switch(player);
		log_clear();
		dma_pool_free(s->pool, vaddr, handle);
		assert_logged(what);
		dmaland_pool_free_bulk(s->pool, 1, &vaddr, &handle);
	}
	assert_int_equal(stats_of(s->pool).bad_frees, bad + 6);
	assert_int_equal(stats_of(s->pool).in_use, in_use);
	player_switch(0);
}

static void a_second_free_is_found_wherever_the_block_has_come(void **state)
{
	struct stand *s = stand_begin(*state, 64);
	void *block;
	dma_addr_t handle;

	stand_take(s, 3 * SLAB, GFP_KERNEL);
	for (size_t i = 0; i < 3; i++) { /* nobody's until then, or the current one */
		block = s->vaddrs[i * SLAB];
		handle = s->handles[i * SLAB];
		player_switch(i == 1);
		dma_pool_free(s->pool, block, handle);
		expect_refused(s, block, handle, "already free");
		assert_ptr_equal(s->vaddrs[i * SLAB], block);
	}
	block = s->vaddrs[1];
	handle = s->handles[1];
	player_switch(1); /* of another's slab */
	dma_pool_free(s->pool, block, handle);
	expect_refused(s, block, handle, "already free");
	for (size_t i = 2; i < SLAB; i++) /* the slab is idle */
		dma_pool_free(s->pool, s->vaddrs[i], s->handles[i]);
	expect_refused(s, block, handle, "already free");
	cache_flush(s->pool, cache_of(s->pool, 0)); /* in the stack */
	assert_int_equal(slab_owner(slab_of(s->pool, block)), SLAB_IDLE);
	expect_refused(s, block, handle, "already free");
	dmaland_pool_trim(s->pool);
	cache_of(s->pool, 1)->at = cache_of(s->pool, 2)->at = NULL;
	dmaland_pool_trim(s->pool);
	expect_refused(s, block, handle, "(bad vaddr)");
	expect_statistics_hold(s->pool);
	for (size_t i = SLAB; i < 3 * SLAB; i++)
		if (i % SLAB)
			dma_pool_free(s->pool, s->vaddrs[i], s->handles[i]);
	assert_int_equal(stats_of(s->pool).in_use, 0);
	dma_pool_destroy(s->pool);
}

/* As two frees that race leave it: the owner's, and another's. It is handed out once, and told of. */
static void a_block_that_came_back_twice_is_handed_out_once(void **state)
{
	for (int how = 0; how < 4; how++) {
		struct stand *s = stand_begin(*state, 64);
		bool current = how & 1, bulk = how & 2;
		void *block;
		dma_addr_t handle;
		size_t n = 0;
		struct page *slab;

		stand_take(s, current ? SLAB : SLAB + 1, GFP_KERNEL);
		block = s->vaddrs[9];
		handle = s->handles[9];
		slab = slab_of(s->pool, block);
		stand_free(s, 9);
		__atomic_fetch_or(&slab->remote, UINT64_C(1) << 9, __ATOMIC_SEQ_CST);
		cache_of(s->pool, 0)->frees++;
		for (int i = 0; i < 3 * SLAB; i++) {
			void *vaddr = NULL;

			if (bulk)
				dmaland_pool_alloc_bulk(s->pool, GFP_KERNEL, 1, &vaddr, &handle);
			else
				vaddr = dma_pool_alloc(s->pool, GFP_KERNEL, &handle);
			n += vaddr == block;
			s->vaddrs[s->count] = vaddr;
			s->handles[s->count++] = handle;
		}
		assert_int_equal(n, 1);
		assert_int_equal(stats_of(s->pool).bad_frees, 1);
		stand_take(s, 2 * SLAB, GFP_KERNEL);
		assert_int_equal(stats_of(s->pool).in_use, s->count);
		expect_statistics_hold(s->pool);
		stand_free_last(s, s->count);
		assert_int_equal(stats_of(s->pool).bad_frees, 1);
		assert_logged("already free");
		log_clear();
		assert_int_equal(stats_of(s->pool).in_use, 0);
		expect_statistics_hold(s->pool);
		dma_pool_destroy(s->pool);
	}
}

/* ---- anything ---- */

static void step(struct stand *s, uint64_t *seed)
{
	size_t n = random_below(seed, 200);

	player_switch((unsigned int)random_below(seed, PLAYERS));
	if (n > s->count)
		n = s->count;
	switch (random_below(seed, 16)) {
	case 0:
		dmaland_pool_trim(s->pool);
		break;
	case 1:
		pool_steal(s->pool);
		break;
	case 2:
		pool_reap(s->pool);
		break;
	case 3:
		assert_int_equal(dmaland_pool_prefill(s->pool, random_below(seed, 150)), 0);
		break;
	case 4:
		player_end();
		assert_true(thread_number_take());
		break;
	case 5:
	case 6:
	case 7:
	case 8:
		while (n--)
			stand_free(s, random_below(seed, s->count));
		break;
	case 9:
		dmaland_pool_free_bulk(s->pool, n, s->vaddrs + s->count - n,
				       s->handles + s->count - n);
		s->count -= n;
		break;
	default:
		if (s->count + 200 < STAND_BLOCKS)
			stand_take(s, random_below(seed, 200),
				   random_below(seed, 2) ? GFP_KERNEL : GFP_KERNEL | __GFP_ZERO);
	}
}

static void statistics_are_what_is_there_whatever_threads_do(void **state)
{
	static const size_t sizes[] = {16, 48, 64, 1000, 4096, 5000};
	uint64_t seed = 11;

	for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
		struct stand *s = stand_begin(*state, sizes[k]);

		for (int i = 0; i < 800; i++) {
			step(s, &seed);
			expect_statistics_hold(s->pool);
		}
		stand_end(s);
		players_begin();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		players_test(the_lowest_block_of_a_slab_is_next_whatever_came_back_last),
		players_test(who_frees_the_first_block_of_a_slab_that_was_used_up_has_the_slab),
		players_test(blocks_of_anothers_slab_come_back_to_him),
		players_test(slabs_go_to_the_consumer_and_by_the_stack_back),
		players_test(more_idle_slabs_than_a_thread_may_keep_go_to_the_stack),
		players_test(what_is_in_the_stack_is_used_before_memory),
		players_test(two_threads_at_work_have_slabs_of_their_own),
		players_test(a_thread_whose_lists_are_revoked_does_without),
		players_test(a_second_free_is_found_wherever_the_block_has_come),
		players_test(a_block_that_came_back_twice_is_handed_out_once),
		players_test(statistics_are_what_is_there_whatever_threads_do),
	};

	return cmocka_run_group_tests_name("pool, caches", tests, NULL, NULL);
}
