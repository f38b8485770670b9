/* SPDX-License-Identifier: MIT */
/*
 * scenarios_pool.c - what concerns all of a pool: threads that end, prefill, growing, calls of every kind
 */
#include "scenario_parts.h"

#include "census.h"

/* ---- a few calls ---- */

static void take_atomic(int n)
{
	for (int i = 0; i < n; i++)
		take_from(w.pool, mine(i), GFP_ATOMIC);
}

static void give_2_take_2(void)
{
	give_n(2);
	take_n(2);
}

/* ---- threads that end ---- */

static void fill_lists_and_end(void)
{
	fill_lists();
	explore_thread_end();
}

/* What thread 2 left: as in begin_lists(), at 16 and so on. */
static void begin_ended(void)
{
	stage_begin(TWO_BLOCKS);
	explore_as(0, take_1);
	explore_as(1, take_1);
	explore_as(2, fill_lists_and_end);
}

static void give_ended(void)
{
	give(17);
	give(20);
}

static void give_17_take_give(void)
{
	give(17);
	take(mine(2));
	give(mine(2));
}

static void take_give_end(void)
{
	take(mine(2));
	give(mine(2));
	explore_thread_end();
}

static void use_number(void)
{
	take(mine(3));
	give(1);
}

/* ---- prefill ---- */

static void prefill(size_t n)
{
	if (dmaland_pool_prefill(w.pool, n))
		explore_fail("prefill failed");
}

static void prefill_0(void)
{
	prefill(0);
}

static void prefill_4(void)
{
	prefill(4);
}

static void take_prefilled(int n)
{
	for (int i = 0; i < n; i++)
		if (!take_from(w.pool, mine(5 + i), GFP_ATOMIC))
			explore_fail("a prefilled block is not there");
}

static void prefill_and_take(void)
{
	prefill(3);
	take_prefilled(3);
}

static void prefill_and_shrink(void)
{
	prefill(3);
	prefill(0);
}

static void take_2_prefilled(void)
{
	take_atomic(2);
}

/* Thread 0 has a slab in reserve, whose blocks at 0 and 1 are out; and there is no memory. */
static void begin_reserve(void)
{
	stage_begin(FOUR_BLOCKS);
	explore_as(1, take_1);
	explore_as(0, prefill_4);
	take_all_memory();
	explore_as(0, take_2_prefilled);
}

static void give_0_no_prefill(void)
{
	give(0);
	prefill_0();
	take_atomic(1);
	give(0);
}

static void give_0_take_prefilled(void)
{
	give(0);
	take_prefilled(2);
}

/* ---- growing and shrinking ---- */

static void begin_empty(void)
{
	stage_begin(TWO_BLOCKS);
}

static void begin_half_pages(void)
{
	stage_begin(HALF_PAGES);
	explore_as(1, take_1);
	explore_as(0, fill_lists);
}

/* Two more slabs are in the stack; a part of a page waits for the other. */
static void begin_half_page_waits(void)
{
	begin_half_pages();
	explore_as(1, trim);
}

static void begin_growing(void)
{
	stage_begin(GROWING);
	explore_as(1, take_1);
	explore_as(0, take_5_give_2);
}

static void begin_reap(void)
{
	begin_stack();
	w.pool->reap_due = true;
	w.pool->idle_low = 3;
}

static void begin_reap_parts(void)
{
	stage_begin(HALF_PAGES);
	explore_as(0, take_1);
	explore_as(1, take_1);
	explore_as(2, fill_stack);
	w.pool->reap_due = true;
	w.pool->idle_low = 5;
}

/* Nothing is left but what the pool has. */
static void begin_full(void)
{
	begin_lists();
	take_all_memory();
}

/* Thread 0 has all that there is. */
static void take_if_there(void)
{
	for (int i = 5; i < 8; i++)
		take_from(w.pool, mine(i), GFP_KERNEL);
}

static void give_1_and_steal(void)
{
	give(1);
	steal();
}

/* The pool has more idle slabs than a thread can have in hand, and the other none. */
static void begin_pools_short(void)
{
	begin_stack();
	explore_as(0, take_2);
	w.next = pool_of(TWO_BLOCKS);
	take_all_memory();
}

static void use_next_pool(void)
{
	if (take_from(w.next, mine(6), GFP_KERNEL))
		give_to(w.next, mine(6));
	else
		explore_fail("the other pool's pages were not given");
}

static void use_a_little(void)
{
	take_from(w.pool, mine(5), GFP_ATOMIC);
	give(1);
	give(mine(5));
}

static void end_pools_short(void)
{
	census(w.next, is_out, false);
	dma_pool_destroy(w.next);
	stage_end();
}

/* ---- and the rest ---- */

/* Thread 2 has a number, and the others do without. */
static void begin_numberless(void)
{
	stage_begin(TWO_BLOCKS);
	explore_as(2, take_3);
	threads_limit(1);
}

static void give_16_take_give(void)
{
	give(16);
	take(mine(2));
	give(mine(2));
}

static void begin_watched(void)
{
	stage_watch(true);
	stage_begin(TWO_BLOCKS);
	explore_as(0, take_3);
	stage_watch(false);
}

static void bulk(void)
{
	void *vaddrs[3];
	dma_addr_t handles[3];

	if (dmaland_pool_alloc_bulk(w.pool, GFP_KERNEL, 3, vaddrs, handles) != 3)
		explore_fail("there are no blocks");
	for (int i = 0; i < 3; i++) {
		if (is_out(vaddrs[i]))
			explore_fail("a block has two owners");
		w.blocks[mine(5 + i)] = (struct owned){vaddrs[i], handles[i]};
	}
	for (int i = 0; i < 3; i++)
		w.blocks[mine(5 + i)].vaddr = NULL;
	dmaland_pool_free_bulk(w.pool, 3, vaddrs, handles);
}

static void bulk_give_2(void)
{
	void *vaddrs[2] = {w.blocks[1].vaddr, w.blocks[4].vaddr};
	dma_addr_t handles[2] = {w.blocks[1].handle, w.blocks[4].handle};

	w.blocks[1].vaddr = w.blocks[4].vaddr = NULL;
	dmaland_pool_free_bulk(w.pool, 2, vaddrs, handles);
}

static void read_stats(void)
{
	struct dmaland_pool_stats stats;

	dmaland_pool_get_stats(w.pool, &stats);
	if (stats.in_use > stats.total)
		explore_fail("%zu blocks of %zu are in use", stats.in_use, stats.total);
	if (stats.parked > 64)
		explore_fail("%zu blocks are parked", stats.parked);
}

/* An address of the window where no memory is. */
static void give_nothing(void)
{
	size_t pages = w.pool->place.arena->pagemap.mask + 1;

	w.bad = 1;
	dma_pool_free(w.pool, (void *)(w.pool->window + (pages / 2 << ARENA_PAGE_SHIFT)), 0);
}

static const struct scenario scenarios[] = {
	SCENARIO("a thread's slabs are inherited while another frees into them", begin_ended, 2,
		 give_ended, trim),
	SCENARIO("two threads inherit", begin_ended, 1, give_17_take_give, trim, steal),
	SCENARIO("a thread ends while another frees its block, and a third gets its number",
		 begin_current_is_out, 2, take_give_end, give_0_and_1, use_number),
	SCENARIO("a thread ends while another trims", begin_lists, 2, take_give_end, trim),
	SCENARIO("prefill while another frees and trims", begin_lists, 2, prefill_and_take,
		 give_1_take_give),
	SCENARIO("prefill while another trims", begin_lists, 2, prefill_and_take, trim),
	SCENARIO("prefill and back while another steals", begin_lists, 2, prefill_and_shrink,
		 steal),
	SCENARIO("two threads prefill", begin_lists, 2, prefill_and_take, prefill_and_shrink),
	SCENARIO("a block of the reserve comes back, and prefill ends", begin_reserve, 2,
		 give_0_no_prefill, give_1),
	SCENARIO("a block of the reserve comes back while it is used", begin_reserve, 2,
		 give_0_take_prefilled, give_1),
	SCENARIO("two threads grow an empty pool", begin_empty, 2, take_3, take_3),
	SCENARIO("two threads take the parts of pages", begin_half_pages, 2, take_4_more,
		 take_third_and_fourth),
	SCENARIO("parts of pages are trimmed", begin_half_pages, 2, give_second_take_2, trim),
	SCENARIO("parts of pages wait", begin_half_page_waits, 2, give_second_and_fifth, trim),
	SCENARIO("parts of pages wait while a bad address is freed", begin_half_page_waits, 1,
		 give_nothing, trim),
	SCENARIO("slabs that are not full grown", begin_growing, 2, give_third_take_3, give_fourth),
	SCENARIO("slabs that are not full grown are trimmed", begin_growing, 2, give_third_take_3,
		 trim),
	SCENARIO("giving back what is not needed while others work", begin_reap, 2, take_3_give_3,
		 take_2_give_2),
	SCENARIO("parts of pages are given back while another trims", begin_reap_parts, 2,
		 take_third_and_fourth, trim),
	SCENARIO("growing fails while another thread frees", begin_full, 2, give_second_and_fifth,
		 take_if_there),
	SCENARIO("growing fails while others free and steal", begin_full, 1, take_if_there,
		 give_1_and_steal),
	BEGIN_END("memory is short and another pool shrinks", begin_pools_short, end_pools_short, 1,
		  use_a_little, use_next_pool),
	SCENARIO("threads without numbers", begin_numberless, 2, take_2_give_2, give_16_take_give),
	SCENARIO("threads without numbers, and a trim", begin_numberless, 1, take_2_give_2,
		 give_16_take_give, trim),
	SCENARIO("a pool that is watched", begin_watched, 1, take_2_more_give, give_1_take_give),
	SCENARIO("a pool that is watched is trimmed", begin_watched, 1, give_2_take_2, trim),
	SCENARIO("a pool that is watched has a reserve", begin_watched, 1, prefill_and_take,
		 give_1_take_give),
	SCENARIO("bulk calls of two threads", begin_lists, 2, bulk, bulk),
	SCENARIO("bulk calls while lists are taken", begin_lists, 2, bulk_give_2, steal),
	SCENARIO("statistics are read meanwhile", begin_lists, 2, give_second_take_2, read_stats),
};

const struct topic pool_scenarios = {scenarios, sizeof(scenarios) / sizeof(scenarios[0])};
