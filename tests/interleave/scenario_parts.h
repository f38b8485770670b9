/* SPDX-License-Identifier: MIT */
/*
 * scenario_parts.h - what scenarios of several topics begin with and do
 *
 * Slabs have one, two or four blocks, and a thread keeps one idle slab, so that a few calls go
 * through all of the pool. After each schedule it is looked where every slab and block is.
 *
 * Places of blocks: 0 to 7 are thread 0's, 8 to 15 thread 1's, 16 to 23 thread 2's.
 */
#ifndef TESTS_INTERLEAVE_SCENARIO_PARTS_H
#define TESTS_INTERLEAVE_SCENARIO_PARTS_H

#include "scenarios.h"
#include "stage.h"

#define BEGIN_END(name, begin, end, preemptions, ...)                                              \
	{                                                                                          \
		name, begin, {__VA_ARGS__}, end, stage_is_private, preemptions                     \
	}
#define SCENARIO(name, begin, preemptions, ...)                                                    \
	BEGIN_END(name, begin, stage_end, preemptions, __VA_ARGS__)

/* ---- how it begins ---- */

/* Thread 0 has a current slab all of whose blocks are out, at 0 and 1. */
void begin_current_is_out(void);

/* Thread 0 has a partial slab of which the blocks at 2 and 3 are out. */
void begin_partial(void);

/* Six slabs of a block. */
void begin_stack(void);

/*
 * Thread 0 has slabs of two blocks: current, with the block at 4 out; partial, with that at 1 out;
 * and idle.
 */
void begin_lists(void);

/* ---- what threads do ---- */

void give_range(int from, int end);
void take_1(void);
void take_2(void);
void take_3(void);
void take_2_give_2(void);
void take_3_give_3(void);
void give_1(void);
void give_0_and_1(void);
void take_third_and_fourth(void);
void steal(void);
void fill_stack(void);
void take_5_give_2(void);
void give_third(void);
void give_fourth(void);
void give_third_take_3(void);
void give_fourth_and_trim(void);
void fill_lists(void);
void take_4_more(void);
void give_second_and_fifth(void);
void give_second_take_2(void);
void take_2_more_give(void);
void give_1_take_give(void);

#endif
