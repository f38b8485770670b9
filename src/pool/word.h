/* SPDX-License-Identifier: MIT */
/*
 * word.h - blocks by the word: bits of 64, states of eight, and their codes
 *
 * Blocks that are handed out in a row and come back in a row are a whole word. Compilers make vectors
 * of the loops for that: some instructions for four blocks.
 */
#ifndef POOL_WORD_H
#define POOL_WORD_H

#include "pool/pool_internal.h"

/*
 * The codes of the set bits, at most n, lowest last and ending at *end, which moves down; the bits
 * that are left.
 */
static inline uint64_t bits_take(uint64_t bits, block_code base, block_code **end, uint32_t n)
{
	block_code *at = *end, *last = *end - n;

	if (bits == UINT64_MAX && n >= 64) {
		at -= 64;
#pragma GCC unroll 4
		for (block_code i = 0; i < 64; i++)
			at[i] = (base + 63) ^ i;
		bits = 0;
	}
	for (; bits && at > last; bits &= bits - 1)
		*--at = base + (block_code)__builtin_ctzll(bits);
	*end = at;
	return bits;
}

/* Is it all blocks of a word of bits, in the order in which they were handed out or the other? */
static inline bool is_whole_word(const block_code *codes)
{
	block_code wrong = 0;

#pragma GCC unroll 4
	for (block_code i = 0; i < 64; i++)
		wrong |= codes[i] ^ codes[0] ^ i;
	return !wrong;
}

/* Neighbours in a page whose states are read and written at a time, wherever the first one's is. */
enum { ROW = 8 };

#define ROW_STATES(state) ((state)*UINT64_C(0x0101010101010101))

typedef uint64_t __attribute__((may_alias, aligned(1))) row_states;

/* Other threads may write these bytes meanwhile: what is read of each is one of its values. */
static inline bool row_is(const uint8_t *states, enum block_state state)
{
#ifdef __SANITIZE_THREAD__
	for (int i = 0; i < ROW; i++)
		if (state_read(&states[i]) != state)
			return false;
	return true;
#else
	return *(const row_states *)(const void *)states == ROW_STATES(state);
#endif
}

static inline void row_write(uint8_t *states, enum block_state state)
{
#ifdef __SANITIZE_THREAD__
	for (int i = 0; i < ROW; i++)
		state_write(&states[i], state);
#else
	*(row_states *)(void *)states = ROW_STATES(state);
#endif
}

/* Bits of the blocks from the front of the array that lie in one word; *n: how many. */
static inline uint64_t bits_of(const block_code *codes, block_code base, uint32_t *n)
{
	uint64_t bits = 0;
	uint32_t i;

	if (*n >= 64 && is_whole_word(codes)) {
		*n = 64;
		return UINT64_MAX;
	}
	for (i = 0; i < *n && codes[i] - base < 64; i++)
		bits |= UINT64_C(1) << (codes[i] - base);
	*n = i;
	return bits;
}

/* Those of the bits whose blocks are free. */
static inline uint64_t bits_of_free(uint64_t bits, const uint8_t *states)
{
	bool all_free = bits == UINT64_MAX;

	for (unsigned int i = 0; i < 64 && all_free; i += ROW)
		all_free = row_is(states + i, BLOCK_FREE);
	if (all_free)
		return bits;
	for (uint64_t left = bits; left; left &= left - 1)
		if (unlikely(state_read(&states[__builtin_ctzll(left)]) != BLOCK_FREE))
			bits &= ~(left & -left);
	return bits;
}

#endif
