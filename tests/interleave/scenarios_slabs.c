/* SPDX-License-Identifier: MIT */
/*
 * scenarios_slabs.c - a slab that is adopted, abandoned or completed, and the stack of idle ones
 */
#include "scenario_parts.h"

#include "census.h"

/* ---- a few calls ---- */

static void give_2(void)
{
	give_n(2);
}

static void give_0(void)
{
	give(0);
}

static void take_third(void)
{
	take(mine(2));
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

/* The slab is the owner's `at`. */
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

static const struct scenario scenarios[] = {
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
};

const struct topic slab_scenarios = {scenarios, sizeof(scenarios) / sizeof(scenarios[0])};
