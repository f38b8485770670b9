/* SPDX-License-Identifier: MIT */
/*
 * word.h - a word of bits for 64 blocks of a unit, and their codes
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
	typedef uint64_t __attribute__((may_alias)) eight_states;
	const eight_states *eight = (const eight_states *)(const void *)states;
	uint64_t not_free = 0;

	for (int i = 0; i < 8 && bits == UINT64_MAX; i++)
		not_free |= __atomic_load_n(&eight[i], __ATOMIC_RELAXED);
	if (bits == UINT64_MAX && !not_free)
		return bits;
	for (uint64_t left = bits; left; left &= left - 1)
		if (unlikely(state_read(&states[__builtin_ctzll(left)]) != BLOCK_FREE))
			bits &= ~(left & -left);
	return bits;
}

#endif
