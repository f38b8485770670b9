/* SPDX-License-Identifier: MIT */
/*
 * scenarios_lists.c - a thread's lists that others take, and blocks that two free
 */
#include "scenario_parts.h"

#include "census.h"

/* ---- lists that are taken ---- */

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

#define TWICE(name, begin, preemptions, ...)                                                       \
	BEGIN_END(name, begin, end_twice, preemptions, __VA_ARGS__)

static const struct scenario scenarios[] = {
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
};

const struct topic list_scenarios = {scenarios, sizeof(scenarios) / sizeof(scenarios[0])};
