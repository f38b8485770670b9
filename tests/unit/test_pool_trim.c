/* SPDX-License-Identifier: MIT */
/*
 * test_pool_trim.c - what is idle goes back, wherever it lies, and nothing that a thread is at
 */
#include "slab_stand.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>

static const size_t sizes[] = {16, 48, 64, 1024, 4096, 10000};

enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

/* One block keeps its slab; where a page has several, its page. */
static void trimming_gives_idle_pages_back(void **state)
{
	for (size_t k = 0; k < SIZES; k++) {
		struct stand *s = stand_begin(*state, sizes[k]);
		struct dmaland_pool_stats stats;

		stand_take(s, 3000, GFP_KERNEL);
		stand_free_last(s, 2999);
		dmaland_pool_trim(s->pool);
		stats = stats_of(s->pool);
		assert_int_equal(stats.pages, sizes[k] == 10000 ? 3 : 1);
		assert_int_equal(stats.in_use, 1);
		expect_statistics_hold(s->pool);
		stand_free_last(s, 1);
		dmaland_pool_trim(s->pool);
		assert_int_equal(stats_of(s->pool).pages, 0);
		stand_end(s);
	}
}

/* In any order, more than is done at a time. */
static void trimming_gives_all_back_however_it_came(void **state)
{
	uint64_t seed = 3;

	for (size_t k = 0; k < SIZES; k++) {
		struct stand *s = stand_begin(*state, sizes[k]);

		stand_take(s, STAND_BLOCKS, GFP_KERNEL);
		while (s->count)
			stand_free(s, random_below(&seed, s->count));
		dmaland_pool_trim(s->pool);
		assert_int_equal(stats_of(s->pool).pages, 0);
		assert_int_equal(stats_of(s->pool).total, 0);
		stand_end(s);
	}
}

/* But for the slab that the other thread allocates from, and the one of its last free. */
static void trimming_takes_what_other_threads_have_idle(void **state)
{
	for (size_t k = 0; k < SIZES; k++) {
		struct stand *s = stand_begin(*state, sizes[k]);
		struct cache *cache;

		stand_take(s, 2000, GFP_KERNEL);
		stand_free_last(s, 2000);
		assert_true(stats_of(s->pool).parked > 0);
		cache = cache_of(s->pool, 0);
		assert_true(cache->idle);
		player_switch(1);
		dmaland_pool_trim(s->pool);
		assert_int_equal(cache->idle | cache->idle_count, 0);
		assert_in_range(stats_of(s->pool).total, 1, 2 * s->pool->slabs_a_page * 64);
		expect_statistics_hold(s->pool);
		player_switch(0);
		stand_take(s, 100, GFP_KERNEL);
		stand_end(s);
	}
}

/* Slabs of one thread that another one completed: their owner need not look. */
static void trimming_takes_what_others_completed(void **state)
{
	struct stand *s = stand_begin(*state, 1024);
	struct cache *cache = cache_of(s->pool, 0);

	stand_take(s, 1000, GFP_KERNEL);
	for (size_t i = 0; i < s->count;
	     i += 8) /* each slab has a block free, and is the thread's */
		stand_free(s, i);
	assert_true(list_length(s->pool, cache->partial) > 10);
	player_switch(1);
	stand_free_last(s, s->count);
	assert_int_equal(cache->completed, 1);
	dmaland_pool_trim(s->pool);
	assert_in_range(list_length(s->pool, cache->partial), 0, 1); /* where its last free was */
	assert_in_range(stats_of(s->pool).total, 1, 2 * 64);
	expect_statistics_hold(s->pool);
	stand_end(s);
}

static void a_thread_at_its_lists_is_left_alone(void **state)
{
	struct stand *s = stand_begin(*state, 1024);
	struct cache *cache = cache_of(s->pool, 0);
	uint32_t idle;

	stand_take(s, 1000, GFP_KERNEL);
	stand_free_last(s, 1000);
	idle = cache->idle_count;
	assert_int_not_equal(idle, 0);
	cache->busy = 1;
	player_switch(1);
	dmaland_pool_trim(s->pool);
	pool_steal(s->pool);
	assert_int_equal(cache->idle_count, idle);
	assert_int_equal(cache->revoked, 0);
	expect_statistics_hold(s->pool);
	cache->busy = 0;
	pool_steal(s->pool);
	assert_int_equal(cache->idle_count, 0);
	assert_int_equal(cache->revoked, 0);
	expect_statistics_hold(s->pool);
	stand_end(s);
}

/* What fails of it can't be said: the call has no result. */
static void trimming_leaves_the_last_error(void **state)
{
	struct fake_place *p = *state;
	struct stand *s = stand_begin(p, 1024);

	stand_take(s, 8000, GFP_KERNEL);
	stand_free_last(s, 8000);
	dmaland_pool_prefill(NULL, 1);
	errno = EINTR;
	p->fake.refuse_withdraw = true;
	dmaland_pool_trim(s->pool);
	p->fake.refuse_withdraw = false;
	assert_int_equal(errno, EINTR);
	assert_error_says("no pool");
	assert_logged("stay mapped");
	log_clear();
	stand_end(s);
}

static void no_pool_may_be_trimmed(void **state)
{
	(void)state;
	errno = EINTR;
	dmaland_pool_trim(NULL);
	assert_int_equal(errno, EINTR);
	assert_string_equal(log_text(), "");
}

/* ---- a free amid another ---- */

/* The lists of a bulk free, in part unreadable until player 1 has freed a block. */
static struct {
	struct stand *s;
	size_t block;
	char *shut;
	size_t size;
	unsigned int faults;
} amid;

static void free_amid(int number)
{
	(void)number;
	mprotect(amid.shut, amid.size, PROT_READ | PROT_WRITE);
	if (amid.faults++)
		return;
	player_switch(1);
	dma_pool_free(amid.s->pool, amid.s->vaddrs[amid.block], amid.s->handles[amid.block]);
	player_switch(0);
}

/* Neither free sees the other one's bits in time; so the slab is complete, and who freed last does not know. */
static void a_slab_that_a_bulk_free_and_another_complete_is_found(void **state)
{
	enum { SLAB = 64, ROOM = 2 * 4096 };
	struct stand *s = stand_begin(*state, 64);
	struct cache *cache = cache_of(s->pool, 0);
	struct sigaction on_fault = {.sa_handler = free_amid}, before;
	struct dmaland_pool_stats stats;
	struct page *slab;
	void **vaddrs;
	char *room;

	stand_take(s, 2 * SLAB, GFP_KERNEL);
	slab = slab_of(s->pool, s->vaddrs[0]);
	room = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(room, MAP_FAILED);
	vaddrs = (void **)(void *)(room + ROOM / 2) - 1; /* all but the first are shut */
	memcpy(vaddrs, s->vaddrs + 1, (SLAB - 2) * sizeof(*vaddrs));
	dma_pool_free(s->pool, s->vaddrs[0], s->handles[0]); /* the slab is player 0's */
	assert_true(slab_is_owned_by(slab, cache));
	amid.s = s;
	amid.block = SLAB - 1;
	amid.shut = room + ROOM / 2;
	amid.size = ROOM / 2;
	amid.faults = 0;
	assert_int_equal(sigaction(SIGSEGV, &on_fault, &before), 0);
	assert_int_equal(mprotect(amid.shut, amid.size, PROT_NONE), 0);
	dmaland_pool_free_bulk(s->pool, SLAB - 2, vaddrs, s->handles + 1);
	sigaction(SIGSEGV, &before, NULL);
	munmap(room, ROOM);
	assert_int_equal(amid.faults, 1);
	assert_true(slab_is_complete(s->pool, slab));
	assert_true(slab_is_owned_by(slab, cache));
	memmove(s->vaddrs, s->vaddrs + SLAB, SLAB * sizeof(*s->vaddrs));
	memmove(s->handles, s->handles + SLAB, SLAB * sizeof(*s->handles));
	s->count = SLAB;
	expect_statistics_hold(s->pool);
	for (unsigned int player = 0; player < 2; player++) { /* so that none is at the slab */
		player_switch(player);
		stand_free_last(s, 1);
	}
	stats = stats_of(s->pool);
	player_switch(2);
	dmaland_pool_trim(s->pool);
	assert_int_equal(stats_of(s->pool).pages, stats.pages - 1);
	expect_statistics_hold(s->pool);
	stand_end(s);
}

/* ---- hazard pointers ---- */

static void a_slab_stays_while_another_thread_frees_into_it(void **state)
{
	for (size_t k = 0; k < SIZES; k++) {
		struct stand *s = stand_begin(*state, sizes[k]);
		size_t pages;
		struct page *slab;
		void *block;
		dma_addr_t handle;

		player_switch(0);
		stand_take(s, 1, GFP_KERNEL);
		pages = stats_of(s->pool).pages;
		block = s->vaddrs[0];
		handle = s->handles[0];
		slab = slab_of(s->pool, block);
		player_switch(1);
		cache_of(s->pool, 1)->at = slab; /* it is about to free the block a second time */
		player_switch(0);
		stand_free(s, 0);
		dmaland_pool_trim(s->pool);
		assert_int_equal(stats_of(s->pool).pages, pages);
		expect_statistics_hold(s->pool);
		dmaland_pool_trim(s->pool);
		assert_int_equal(stats_of(s->pool).pages, pages);
		assert_int_equal(slab_owner(slab), SLAB_TRIMMED);
		player_switch(1);
		dma_pool_free(s->pool, block, handle);
		assert_logged("already free");
		cache_of(s->pool, 1)->at = NULL;
		player_switch(0);
		dmaland_pool_trim(s->pool);
		assert_int_equal(stats_of(s->pool).pages, 0);
		assert_int_equal(slab_owner(slab), SLAB_NONE);
		player_switch(1);
		log_clear();
		dma_pool_free(s->pool, block, handle);
		assert_logged("(bad vaddr)");
		assert_int_equal(stats_of(s->pool).bad_frees, 2);
		dma_pool_destroy(s->pool);
	}
}

/* There is no memory at such an address, nor is its entry in the page map to be written. */
static void a_bad_free_far_from_all_memory_does_not_hurt_those_who_trim(void **state)
{
	struct fake_place *p = *state;
	struct stand *s = stand_begin(p, 1024);
	const struct pagemap *map = &p->arena->pagemap;
	char *far = (char *)(uintptr_t)map->window + map->count / 2 * ARENA_PAGE;
	struct page *slab;

	assert_null(pagemap_find(map, far)->chunk);
	stand_take(s, 1, GFP_KERNEL);
	slab = slab_of(s->pool, s->vaddrs[0]);
	stand_free(s, 0);
	cache_of(s->pool, 1)->at = slab;
	dmaland_pool_trim(s->pool);
	assert_int_equal(slab_owner(slab), SLAB_TRIMMED);
	for (unsigned int player = 2; player > 0; player--) {
		player_switch(player);
		dma_pool_free(s->pool, far, 0x1000);
		assert_ptr_equal(cache_of(s->pool, player)->at, slab_entry(s->pool, far));
		player_switch(0);
		dmaland_pool_trim(s->pool);
	}
	assert_int_equal(stats_of(s->pool).pages, 0);
	assert_int_equal(stats_of(s->pool).bad_frees, 2);
	dma_pool_destroy(s->pool);
}

/* Slabs that waited are used again, before memory. */
static void a_slab_that_waited_serves_again(void **state)
{
	struct stand *s = stand_begin(*state, 64);
	struct page *slab;

	stand_take(s, 1, GFP_KERNEL);
	slab = slab_of(s->pool, s->vaddrs[0]);
	cache_of(s->pool, 1)->at = slab;
	stand_free(s, 0);
	dmaland_pool_trim(s->pool);
	assert_int_equal(slab_owner(slab), SLAB_TRIMMED);
	cache_of(s->pool, 1)->at = NULL;
	pool_steal(s->pool);
	assert_int_equal(idle_stack_depth(s->pool), 1);
	stand_take(s, 64, GFP_KERNEL);
	assert_int_equal(stats_of(s->pool).grows, 1);
	stand_end(s);
}

/* ---- threads that ended ---- */

static void what_an_ended_thread_had_is_the_trimmers(void **state)
{
	for (size_t k = 0; k < SIZES; k++) {
		struct stand *s = stand_begin(*state, sizes[k]);
		struct cache *ended;
		size_t total, grows, n;

		player_switch(2);
		ended = cache_of(s->pool, 2);
		stand_take(s, 1000, GFP_KERNEL);
		assert_int_equal(dmaland_pool_prefill(s->pool, 50), 0);
		for (size_t i = 0; i < s->count; i += 2)
			stand_free(s, i);
		n = s->count;
		player_end();
		player_switch(0);
		assert_int_equal(stats_of(s->pool).in_use, n + 50); /* so far */
		dmaland_pool_trim(s->pool);
		assert_int_equal(stats_of(s->pool).in_use, n);
		assert_int_equal(ended->partial | ended->idle | ended->reserve | ended->reserved,
				 0);
		assert_int_equal(ended->held | (size_t)ended->current, 0);
		expect_statistics_hold(s->pool);
		/* Each block that is not out can be had. */
		total = stats_of(s->pool).total;
		grows = stats_of(s->pool).grows;
		stand_take(s, total - n, GFP_ATOMIC);
		assert_int_equal(stats_of(s->pool).grows, grows);
		assert_int_equal(stats_of(s->pool).in_use, total);
		stand_end(s);
		players_begin();
	}
}

/* ---- at a limit ---- */

static void idle_slabs_of_others_are_had_before_an_allocation_fails(void **state)
{
	struct fake_place *p = *state;

	for (size_t k = 0; k < SIZES; k++) {
		struct stand *s = stand_begin(p, sizes[k]);
		size_t all;

		p->fake.domain.memory_limit = p->fake.domain.memory + 100 * sizes[k];
		player_switch(1);
		while (s->count < STAND_BLOCKS &&
		       (s->vaddrs[s->count] =
				dma_pool_alloc(s->pool, GFP_KERNEL, &s->handles[s->count])))
			s->count++;
		all = s->count;
		stand_free_last(s, all);
		player_switch(0);
		while (s->count < all && (s->vaddrs[s->count] = dma_pool_alloc(
						  s->pool, GFP_KERNEL, &s->handles[s->count])))
			s->count++;
		/* But for the slab that it allocated from last, and that of its last free. */
		assert_in_range(all, 2 * s->pool->blocks + 1, STAND_BLOCKS);
		assert_in_range(s->count, all - 2 * s->pool->blocks, all);
		expect_statistics_hold(s->pool);
		stand_end(s);
		p->fake.domain.memory_limit = 0;
	}
}

static void idle_pages_of_one_pool_serve_another_when_memory_ends(void **state)
{
	enum { N = 240 };
	struct fake_place *p = *state;
	struct stand *s;
	struct dma_pool *poor;
	static void *blocks[2 * N];
	static dma_addr_t handles[2 * N];

	p->fake.domain.memory_limit = 1 << 20;
	s = stand_begin(p, 4096);
	poor = pool_create("poor", &p->place, 2048, 0, 0);
	stand_take(s, N, GFP_KERNEL);
	stand_free_last(s, N);
	assert_int_equal(dmaland_pool_alloc_bulk(poor, GFP_KERNEL, 2 * N, blocks, handles), 2 * N);
	expect_statistics_hold(poor);
	assert_int_equal(stats_of(s->pool).in_use, 0);
	dmaland_pool_free_bulk(poor, 2 * N, blocks, handles);
	dma_pool_destroy(poor);
	stand_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		players_test(trimming_gives_idle_pages_back),
		players_test(trimming_gives_all_back_however_it_came),
		players_test(trimming_takes_what_other_threads_have_idle),
		players_test(trimming_takes_what_others_completed),
		players_test(a_thread_at_its_lists_is_left_alone),
		players_test(trimming_leaves_the_last_error),
		players_test(no_pool_may_be_trimmed),
		players_test(a_slab_that_a_bulk_free_and_another_complete_is_found),
		players_test(a_slab_stays_while_another_thread_frees_into_it),
		players_test(a_bad_free_far_from_all_memory_does_not_hurt_those_who_trim),
		players_test(a_slab_that_waited_serves_again),
		players_test(what_an_ended_thread_had_is_the_trimmers),
		players_test(idle_slabs_of_others_are_had_before_an_allocation_fails),
		players_test(idle_pages_of_one_pool_serve_another_when_memory_ends),
	};

	return cmocka_run_group_tests_name("pool, trimming", tests, NULL, NULL);
}
