/* SPDX-License-Identifier: MIT */
#include "scenario_parts.h"

/* ---- a few calls ---- */

void give_range(int from, int end)
{
	for (int i = from; i < end; i++)
		give(i);
}

void take_1(void)
{
	take_n(1);
}

void take_2(void)
{
	take_n(2);
}

void take_3(void)
{
	take_n(3);
}

void take_2_give_2(void)
{
	take_n(2);
	give_n(2);
}

void take_3_give_3(void)
{
	take_n(3);
	give_n(3);
}

void give_1(void)
{
	give(1);
}

void give_0_and_1(void)
{
	give_range(0, 2);
}

void take_third_and_fourth(void)
{
	take(mine(2));
	take(mine(3));
}

void steal(void)
{
	pool_steal(w.pool);
}

void fill_stack(void)
{
	for (int i = 24; i < 31; i++)
		take(i);
	for (int i = 24; i < 31; i++)
		give(i);
}

/* ---- a slab whose blocks are out is nobody's ---- */

void begin_current_is_out(void)
{
	stage_begin(TWO_BLOCKS);
	explore_as(1, take_1);
	explore_as(0, take_2);
}

/* ---- a slab that two complete ---- */

void take_5_give_2(void)
{
	take_n(5);
	give_n(2);
}

void begin_partial(void)
{
	stage_begin(FOUR_BLOCKS);
	explore_as(1, take_1);
	explore_as(0, take_5_give_2);
}

void give_third(void)
{
	give(2);
}

void give_fourth(void)
{
	give(3);
}

void give_third_take_3(void)
{
	give(2);
	for (int i = 5; i < 8; i++)
		take(i);
}

void give_fourth_and_trim(void)
{
	give(3);
	trim();
}

/* ---- the stack ---- */

void begin_stack(void)
{
	stage_begin(ONE_BLOCK);
	explore_as(2, fill_stack);
}

/* ---- lists that are taken ---- */

void fill_lists(void)
{
	take_n(5);
	give(mine(0));
	give(mine(2));
	give(mine(3));
}

void begin_lists(void)
{
	stage_begin(TWO_BLOCKS);
	explore_as(1, take_1);
	explore_as(0, fill_lists);
}

void take_4_more(void)
{
	for (int i = 0; i < 4; i++)
		take(i == 1 ? 7 : i == 0 ? 5 : i);
}

void give_second_and_fifth(void)
{
	give(1);
	give(4);
}

void give_second_take_2(void)
{
	give(1);
	take(5);
	take(6);
}

void take_2_more_give(void)
{
	take(5);
	take(6);
	give(5);
	give(1);
}

void give_1_take_give(void)
{
	give(1);
	take(mine(2));
	give(mine(2));
}
