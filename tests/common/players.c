/* SPDX-License-Identifier: MIT */
#include "players.h"

static struct {
	uint32_t numbers[PLAYERS]; /* each his first one; 0: has none */
	size_t offsets[PLAYERS];   /* thread_offset of those who are not on */
	unsigned int on;
} players;

void players_begin(void)
{
	for (uint32_t i = 0; i < PLAYERS; i++) {
		if (players.numbers[i]) {
			thread_number_inherit(players.numbers[i]); /* if he ended */
		} else {
			thread_offset = 0;
			thread_number_take();
			players.numbers[i] = player_number();
		}
		players.offsets[i] = (size_t)players.numbers[i] * THREAD_STRIDE;
	}
	players.on = 0;
	thread_offset = players.offsets[0];
}

void numbers_use_up(void)
{
	players_begin();
	players.numbers[PLAYERS - 1] = 0;
	do
		thread_offset = 0;
	while (thread_number_take());
}

uint32_t player_number_of(unsigned int player)
{
	return players.numbers[player];
}

void player_switch(unsigned int to)
{
	players.offsets[players.on] = thread_offset;
	players.on = to;
	thread_offset = players.offsets[to];
}

void player_end(void)
{
	uint32_t number = player_number();

	thread_offset = 0;
	if (number)
		thread_number_release(number);
}
