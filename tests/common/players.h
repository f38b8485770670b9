/* SPDX-License-Identifier: MIT */
/*
 * players.h - one thread plays several: to a pool, a thread is its number
 *
 * So what threads do at each other's slabs can be tried step by step. The numbers are real ones, which the
 * calling thread holds all (base/thread.h).
 */
#ifndef TESTS_COMMON_PLAYERS_H
#define TESTS_COMMON_PLAYERS_H

#include "base/thread.h"

enum { PLAYERS = 5 };

/* From now on there are no numbers left but those of players who end. */
void numbers_use_up(void);

/* Player 0 is on. Each has a number of his own; the last one has none where there is none left. */
void players_begin(void);

/* Another one is on, until the next call. */
void player_switch(unsigned int to);

/* The one who is on ends, and begins anew without a number. */
void player_end(void);

/* The number that a player had when players_begin() was called. */
uint32_t player_number_of(unsigned int player);

/* The number of the one who is on. */
static inline uint32_t player_number(void)
{
	return (uint32_t)(thread_offset / THREAD_STRIDE);
}

#endif
