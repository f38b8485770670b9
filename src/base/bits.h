/* SPDX-License-Identifier: MIT */
/*
 * bits.h - powers of two, and bitmaps of 64-bit words
 */
#ifndef BASE_BITS_H
#define BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool is_power_of_two(uint64_t n)
{
	return n && !(n & (n - 1));
}

static inline uint64_t align_up(uint64_t n, uint64_t align)
{
	return (n + align - 1) & ~(align - 1);
}

/* The smallest power of two that is not below n; n from 1 to 2^63. */
static inline uint64_t power_of_two_covering(uint64_t n)
{
	return n <= 1 ? 1 : UINT64_C(1) << (64 - __builtin_clzll(n - 1));
}

static inline size_t bitmap_words(size_t bits)
{
	return (bits + 63) / 64;
}

static inline bool bitmap_test(const uint64_t *map, size_t bit)
{
	return map[bit / 64] >> (bit % 64) & 1;
}

static inline void bitmap_set(uint64_t *map, size_t bit)
{
	map[bit / 64] |= UINT64_C(1) << (bit % 64);
}

static inline void bitmap_clear(uint64_t *map, size_t bit)
{
	map[bit / 64] &= ~(UINT64_C(1) << (bit % 64));
}

/* The first bit at or above `from` that is `value`; end when there is none below end. */
static inline size_t bitmap_next(const uint64_t *map, size_t from, size_t end, bool value)
{
	uint64_t flip = value ? 0 : UINT64_MAX;

	while (from < end) {
		uint64_t word = (map[from / 64] ^ flip) >> (from % 64);

		if (word) {
			from += (size_t)__builtin_ctzll(word);
			return from < end ? from : end;
		}
		from = (from / 64 + 1) * 64;
	}
	return end;
}

/* How many of the first bits are set. */
static inline size_t bitmap_count(const uint64_t *map, size_t bits)
{
	size_t n = 0;

	for (size_t w = 0; w < bits / 64; w++)
		n += (size_t)__builtin_popcountll(map[w]);
	if (bits % 64)
		n += (size_t)__builtin_popcountll(map[bits / 64] << (64 - bits % 64));
	return n;
}

/*
 * Load what another thread may be writing, where any of its values will do. Not an atomic load
 * where nobody looks, since compilers do not fold those into the comparison that follows.
 */
#ifdef __SANITIZE_THREAD__
#define racy_load(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#else
#define racy_load(p) (*(p))
#endif

#endif
