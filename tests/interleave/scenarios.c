/* SPDX-License-Identifier: MIT */
/*
 * scenarios.c - what two or three threads do, a few calls each
 *
 * Slabs have one, two or four blocks, and a thread keeps one idle slab, so that a few calls go
 * through all of the pool. After each schedule it is looked where every slab and block is.
 *
 * Places of blocks: 0 to 7 are thread 0's, 8 to 15 thread 1's, 16 to 23 thread 2's.
 */
#include "scenarios.h"

#include "test.h"

#include "census.h"
#include "stage.h"

/* ---- a few calls ---- */

static void give_range(int from, int end)
{
	for (int i = from; i < end; i++)
		give(i);
}

static void take_atomic(int n)
{
	for (int i = 0; i < n; i++)
		take_from(w.pool, mine(i), GFP_ATOMIC);
}

static void take_1(void)
{
	take_n(1);
}

static void take_2(void)
{
	take_n(2);
}

static void take_3(void)
{
	take_n(3);
}

static void give_2(void)
{
	give_n(2);
}

static void take_2_give_2(void)
{
	take_n(2);
	give_n(2);
}

static void take_3_give_3(void)
{
	take_n(3);
	give_n(3);
}

static void give_2_take_2(void)
{
	give_n(2);
	take_n(2);
}

static void give_0(void)
{
	give(0);
}

static void give_1(void)
{
	give(1);
}

static void give_0_and_1(void)
{
	give_range(0, 2);
}

static void take_third(void)
{
	take(mine(2));
}

static void take_third_and_fourth(void)
{
	take(mine(2));
	take(mine(3));
}

static void steal(void)
{
	pool_steal(w.pool);
}

static void fill_stack(void)
{
	for (int i = 24; i < 31; i++)
		take(i);
	for (int i = 24; i < 31; i++)
		give(i);
}

/* ---- a slab whose blocks are out is nobody's ---- */

/* The blocks at 16 and 17 are all of a slab, and it is nobody's. */
static void begin_nobodys(void)
{
	stage_begin(TWO_BLOCKS);
	explore_as(2, take_3);
}

static void give_16(void)
{
	give(16);
}

static void give_17(void)
{
	give(17);
}

/* The same, and the threads have an idle slab each, so that others take their lists. */
static void begin_nobodys_with_idle(void)
{
	begin_nobodys();
	explore_as(0, take_3);
	explore_as(0, give_2);
	explore_as(1, take_3);
	explore_as(1, give_2);
}

/* Thread 0 has a current slab all of whose blocks are out, at 0 and 1. */
static void begin_current_is_out(void)
{
	stage_begin(TWO_BLOCKS);
	explore_as(1, take_1);
	explore_as(0, take_2);
}

/* One of its two blocks is out. */
static void begin_current_is_half_out(void)
{
	stage_begin(TWO_BLOCKS);
	explore_as(1, take_1);
	explore_as(0, take_1);
}

static void take_second_and_third(void)
{
	take(mine(1));
	take(mine(2));
}

/* The current slab's only block is out, at 0; the stack has others. */
static void begin_current_is_one(void)
{
	stage_begin(ONE_BLOCK);
	explore_as(2, fill_stack);
	explore_as(1, take_1);
	explore_as(0, take_1);
}

static void take_second(void)
{
	take(mine(1));
}

/* What comes back, and one more. */
static void give_0_take_2(void)
{
	give(0);
	take(mine(1));
	take(mine(2));
}

static void give_0_and_5(void)
{
	give(0);
	give(5);
}

/* ---- a slab that two complete ---- */

static void take_5_give_2(void)
{
	take_n(5);
	give_n(2);
}

/* Thread 0 has a partial slab of which the blocks at 2 and 3 are out. */
static void begin_partial(void)
{
	stage_begin(FOUR_BLOCKS);
	explore_as(1, take_1);
	explore_as(0, take_5_give_2);
}

static void give_third(void)
{
	give(2);
}

static void give_fourth(void)
{
	give(3);
}

static void give_third_take_3(void)
{
	give(2);
	for (int i = 5; i < 8; i++)
		take(i);
}

static void give_fourth_and_trim(void)
{
	give(3);
	trim();
}

static void give_fifth_and_trim(void)
{
	give(4);
	trim();
}

/*
 * A slab that another one completed goes with a trim of its owner's, or with another's once it is
 * not looked at.
 */
static void end_completed(void)
{
	census(w.pool, is_out, false);
	explore_as(0, give_fifth_and_trim);
	if (w.pool->total != 4)
		explore_fail("%zu blocks are there after the trim", w.pool->total);
	stage_end();
}

/* The block at 2 came back last. */
static void begin_partial_last(void)
{
	begin_partial();
	explore_as(0, give_third);
}

static void give_fifth(void)
{
	give(4);
}

static void end_completed_by_another(void)
{
	census(w.pool, is_out, false);
	explore_as(1, trim);
	if (w.pool->total != 8)
		explore_fail("%zu blocks are there after the trim", w.pool->total);
	stage_end();
}

/* ---- the stack ---- */

/* Six slabs of a block. */
static void begin_stack(void)
{
	stage_begin(ONE_BLOCK);
	explore_as(2, fill_stack);
}

/* Two or three are taken at a time. */
static void begin_stack_of_many(void)
{
	begin_stack();
	w.pool->idle_max = 2;
	explore_as(1, take_2);
	explore_as(1, give_2);
}

/* Of the slabs that the stack had first, the second stays out, and the first and third go back. */
static void take_4_give_third_and_first(void)
{
	take_n(4);
	give(mine(2));
	give(mine(0));
}

/* ---- lists that are taken ---- */

static void fill_lists(void)
{
	take_n(5);
	give(mine(0));
	give(mine(2));
	give(mine(3));
}

/*
 * Thread 0 has slabs of two blocks: current, with the block at 4 out; partial, with that at 1 out;
 * and idle.
 */
static void begin_lists(void)
{
	stage_begin(TWO_BLOCKS);
	explore_as(1, take_1);
	explore_as(0, fill_lists);
}

static void take_4_more(void)
{
	for (int i = 0; i < 4; i++)
		take(i == 1 ? 7 : i == 0 ? 5 : i);
}

static void give_second_and_fifth(void)
{
	give(1);
	give(4);
}

static void give_second_take_2(void)
{
	give(1);
	take(5);
	take(6);
}

static void take_2_more_give(void)
{
	take(5);
	take(6);
	give(5);
	give(1);
}

static void give_1_take_give(void)
{
	give(1);
	take(mine(2));
	give(mine(2));
}

static void fill_two_slabs(void)
{
	take_n(8);
	take(24);
	give_range(0, 2);
	give_range(4, 7);
}

static void give_eighth(void)
{
	give(7);
}

static void give_24(void)
{
	give(24);
}

/*
 * Thread 0 has a slab that thread 1 completed, and one of which the blocks at 2 and 3 are out. Its
 * last free was elsewhere.
 */
static void begin_completed(void)
{
	stage_begin(FOUR_BLOCKS);
	explore_as(1, take_1);
	explore_as(0, fill_two_slabs);
	explore_as(1, give_eighth);
	explore_as(0, give_24);
}

static void give_third_take_first(void)
{
	give(2);
	take(0);
}

static void give_third_take_first_give_more(void)
{
	give_third_take_first();
	take(1);
	give(1);
}

static void bulk_give_third_take_first(void)
{
	struct owned block = w.blocks[2];

	w.blocks[2].vaddr = NULL;
	dmaland_pool_free_bulk(w.pool, 1, &block.vaddr, &block.handle);
	take(0);
}

/* ---- one block, freed by two ---- */

static void keep_first(void)
{
	w.kept = w.blocks[0];
	w.blocks[0].vaddr = NULL;
	w.twice = true;
	w.bad = 1;
}

static void give_kept(void)
{
	dma_pool_free(w.pool, w.kept.vaddr, w.kept.handle);
}

static void give_kept_and_trim(void)
{
	give_kept();
	trim();
}

static void give_kept_and_steal(void)
{
	give_kept();
	steal();
}

/* It is of the current slab of thread 0. */
static void begin_twice_current(void)
{
	stage_begin(TWO_BLOCKS);
	explore_as(1, take_1);
	explore_as(0, take_1);
	keep_first();
}

/* Of a slab that is nobody's, and another block of it is out, too. */
static void begin_twice_nobodys(void)
{
	stage_begin(TWO_BLOCKS);
	explore_as(1, take_1);
	explore_as(0, take_3);
	keep_first();
}

/* Its only one. */
static void begin_twice_alone(void)
{
	stage_begin(ONE_BLOCK);
	explore_as(1, take_1);
	explore_as(0, take_2);
	keep_first();
}

/* Of a slab that may be completed, and taken. */
static void begin_twice_completed(void)
{
	begin_completed();
	explore_as(1, give_third);
	w.kept = w.blocks[3];
	w.blocks[3].vaddr = NULL;
	w.twice = true;
	w.bad = 1;
}

/* In a page with another slab. */
static void begin_twice_half_page(void)
{
	stage_begin(HALF_PAGES);
	explore_as(1, take_1);
	explore_as(0, take_5_give_2);
	explore_as(0, give_fourth);
	w.kept = w.blocks[2];
	w.blocks[2].vaddr = NULL;
	w.twice = true;
	w.bad = 1;
}

/* Of one that is thread 0's and has another block out. */
static void begin_twice_partial(void)
{
	begin_partial();
	explore_as(0, give_third);
	w.kept = w.blocks[3];
	w.blocks[3].vaddr = NULL;
	w.twice = true;
	w.bad = 1;
}

static void take_many(void)
{
	for (int i = 1; i < 8; i++)
		if (!w.blocks[mine(i)].vaddr)
			take_from(w.pool, mine(i), GFP_ATOMIC);
}

static void give_many(void)
{
	give_n(8);
}

/* All threads take all that there is: a block that came back twice is found. */
static void end_twice(void)
{
	census(w.pool, is_out, true);
	for (unsigned int i = 0; i < THREADS_MAX; i++)
		explore_as(i, take_many);
	census(w.pool, is_out, true);
	for (unsigned int i = 0; i < THREADS_MAX; i++)
		explore_as(i, give_many);
	stage_end();
}

/* What was taken last. */
static void end_twice_trimmed(void)
{
	explore_as(2, trim);
	end_twice();
}

/* The page goes to another pool, which hands out all of it. */
static void begin_twice_next(void)
{
	begin_twice_alone();
	w.next = pool_of(FOUR_BLOCKS);
}

/* Who frees and does not trim has no number. */
static void begin_twice_numberless(void)
{
	stage_begin(ONE_BLOCK);
	explore_as(0, take_2);
	threads_limit(1);
	explore_as(1, take_1);
	keep_first();
	w.next = pool_of(FOUR_BLOCKS);
}

static void begin_twice_watched(void)
{
	stage_watch(true);
	stage_begin(ONE_BLOCK);
	explore_as(0, take_2);
	keep_first();
	w.next = pool_of(FOUR_BLOCKS);
	stage_watch(false);
}

static void give_kept_to_next_pool(void)
{
	give_kept_and_trim();
	for (int i = 24; i < 32; i++)
		take_from(w.next, i, GFP_ATOMIC);
}

static void give_all_of_next_pool(void)
{
	for (int i = 24; i < 32; i++)
		give_to(w.next, i);
}

static void give_kept_to_ended_pool(void)
{
	give_kept_to_next_pool();
	give_all_of_next_pool();
	dma_pool_destroy(w.next);
	w.next = NULL;
}

/* Whoever was too late did no harm to the other pool. */
static void end_twice_next(void)
{
	if (w.next) {
		explore_as(0, give_all_of_next_pool);
		if (w.next->bad_frees)
			explore_fail("the other pool's good frees were refused");
		census(w.next, is_out, false);
		if (w.next->debug && dmaland_pool_check(w.next))
			explore_fail("the other pool's blocks were written to");
		dma_pool_destroy(w.next);
	}
	end_twice();
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

#define BEGIN_END(name, begin, end, preemptions, ...)                                              \
	{                                                                                          \
		name, begin, {__VA_ARGS__}, end, stage_is_private, preemptions                     \
	}
#define SCENARIO(name, begin, preemptions, ...)                                                    \
	BEGIN_END(name, begin, stage_end, preemptions, __VA_ARGS__)
#define TWICE(name, begin, preemptions, ...)                                                       \
	BEGIN_END(name, begin, end_twice, preemptions, __VA_ARGS__)

const struct scenario scenarios[SCENARIOS] = {
	SCENARIO("two threads adopt a slab", begin_nobodys, 4, give_16, give_17),
	SCENARIO("two threads can't adopt a slab while a third one steals", begin_nobodys_with_idle,
		 2, give_16, give_17, steal),
	SCENARIO("a slab is abandoned while its blocks come back", begin_current_is_out, 2,
		 take_third, give_0, give_1),
	SCENARIO("a slab is abandoned while both blocks come back from a thread",
		 begin_current_is_out, 3, take_third, give_0_and_1),
	SCENARIO("a slab is abandoned while a block comes back, then the other",
		 begin_current_is_half_out, 3, take_second_and_third, give_0_and_5),
	SCENARIO("a slab is settled by two, and used between", begin_current_is_one, 3, take_second,
		 give_0_take_2),
	SCENARIO("blocks come back while they are collected", begin_current_is_out, 3,
		 take_third_and_fourth, give_0_and_1),
	SCENARIO("owner and another complete a slab", begin_partial, 4, give_third, give_fourth),
	SCENARIO("owner completes a slab, and turns to it", begin_partial, 3, give_third_take_3,
		 give_fourth),
	BEGIN_END("a slab is completed while it is looked at, and its owner trims", begin_partial,
		  end_completed, 3, give_third, give_fourth_and_trim),
	BEGIN_END("a slab is completed while it is looked at, and others trim", begin_partial_last,
		  end_completed_by_another, 3, give_fifth, give_fourth_and_trim),
	SCENARIO("two threads exchange slabs by the stack", begin_stack, 2, take_3_give_3,
		 take_3_give_3),
	SCENARIO("a slab is taken from the stack and comes back meanwhile", begin_stack, 2, take_1,
		 take_4_give_third_and_first),
	SCENARIO("several slabs are taken from the stack at a time", begin_stack_of_many, 2,
		 take_3_give_3, take_3_give_3),
	SCENARIO("three threads use the stack", begin_stack, 1, take_3_give_3, take_2_give_2,
		 take_3),
	SCENARIO("a thread allocates while its lists are taken", begin_lists, 3, take_4_more,
		 steal),
	SCENARIO("a thread frees while its lists are taken", begin_lists, 3, give_second_and_fifth,
		 steal),
	SCENARIO("a thread frees and allocates while its lists are taken", begin_lists, 2,
		 give_second_take_2, steal),
	SCENARIO("a thread allocates and frees while another trims", begin_lists, 2,
		 take_2_more_give, trim),
	SCENARIO("a thread frees into lists that a third one takes", begin_lists, 2,
		 take_2_more_give, give_1_take_give, steal),
	SCENARIO("a thread frees and takes what others complete while a third one steals",
		 begin_completed, 2, give_third_take_first, give_fourth, steal),
	SCENARIO("a thread frees and takes what is completed while another trims", begin_completed,
		 2, give_third_take_first_give_more, give_fourth_and_trim),
	SCENARIO("a bulk call frees what others complete while a third one steals", begin_completed,
		 2, bulk_give_third_take_first, give_fourth, steal),
	SCENARIO("two threads trim while a third one frees", begin_lists, 1, give_second_take_2,
		 trim, trim),
	TWICE("two frees of one block of the current slab", begin_twice_current, 4, give_kept,
	      give_kept),
	TWICE("two frees of one block of a slab that is nobody's", begin_twice_nobodys, 4,
	      give_kept, give_kept),
	TWICE("two frees of a slab's only block", begin_twice_alone, 4, give_kept, give_kept),
	TWICE("two frees of one block of a partial slab", begin_twice_partial, 4, give_kept,
	      give_kept),
	TWICE("two frees of one block while a third thread trims", begin_twice_alone, 1, give_kept,
	      give_kept, trim),
	TWICE("two frees of one block while a third thread steals", begin_twice_partial, 2,
	      give_kept, give_kept, steal),
	TWICE("two frees of one block that complete a slab while a third thread steals",
	      begin_twice_completed, 2, give_kept, give_kept, steal),
	TWICE("two frees of one block, of which one trims", begin_twice_nobodys, 2,
	      give_kept_and_trim, give_kept),
	TWICE("two frees of one block, of which one trims a partial slab", begin_twice_partial, 2,
	      give_kept_and_trim, give_kept),
	TWICE("two frees of one block, of which one steals", begin_twice_partial, 2, give_kept,
	      give_kept_and_steal),
	TWICE("two frees of one block in half a page, of which one trims", begin_twice_half_page, 2,
	      give_kept_and_trim, give_kept),
	BEGIN_END("two frees of one block that trim both, and it is trimmed again",
		  begin_twice_alone, end_twice_trimmed, 2, give_kept_and_trim, give_kept_and_trim),
	BEGIN_END("two frees of one block, and its page becomes another pool's", begin_twice_next,
		  end_twice_next, 1, give_kept_to_next_pool, give_kept),
	BEGIN_END("two frees of one block, and its page becomes a pool's that ends",
		  begin_twice_next, end_twice_next, 1, give_kept_to_ended_pool, give_kept),
	BEGIN_END("a second free by a thread without a number, and the page becomes another pool's",
		  begin_twice_numberless, end_twice_next, 2, give_kept_to_next_pool, give_kept),
	BEGIN_END("two frees of one block that is watched, and its page becomes another pool's",
		  begin_twice_watched, end_twice_next, 1, give_kept_to_next_pool, give_kept),
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

bool scenario_touches_blocks(const struct scenario *scenario)
{
	return scenario->begin == begin_watched || scenario->begin == begin_twice_watched;
}
