/* SPDX-License-Identifier: MIT */
/*
 * bits.h - powers of two, words of bits, bitmaps of them, and what compilers do not know
 */
#ifndef BASE_BITS_H
#define BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

static inline bool is_power_of_two(uint64_t n)
{
	return n && !(n & (n - 1));
}

static inline uint64_t align_up(uint64_t n, uint64_t align)
{
	return (n + align - 1) & ~(align - 1);
}

static inline uint64_t align_down(uint64_t n, uint64_t align)
{
	return n & ~(align - 1);
}

/* The smallest power of two that is not below n; n from 1 to 2^63. */
static inline uint64_t power_of_two_covering(uint64_t n)
{
	return n <= 1 ? 1 : UINT64_C(1) << (64 - __builtin_clzll(n - 1));
}

static inline bool bitmap_test(const uint64_t *map, size_t bit)
{
	return map[bit / 64] >> (bit % 64) & 1;
}

static inline void bitmap_set(uint64_t *map, size_t bit)
{
	map[bit / 64] |= UINT64_C(1) << (bit % 64);
}

/* The lowest bit that is set, of a word that is not 0. Compilers extend their own's int. */
static inline uint64_t bit_lowest(uint64_t word)
{
#ifdef __x86_64__
	uint64_t bit;

	__asm__("rep bsf %1, %0" : "=r"(bit) : "r"(word) : "cc"); /* tzcnt, where there is one */
	return bit;
#else
	return (uint64_t)__builtin_ctzll(word);
#endif
}

/* Set a bit, 0 to 63; was it? In one instruction, which compilers do not find. */
static inline bool bit_test_and_set(uint64_t *word, uint64_t bit)
{
#if defined(__x86_64__) && defined(__GCC_ASM_FLAG_OUTPUTS__)
	bool was;

	__asm__("btsq %2, %0" : "+r"(*word), "=@ccc"(was) : "r"(bit));
	return was;
#else
	bool was = *word >> bit & 1;

	*word |= UINT64_C(1) << bit;
	return was;
#endif
}

static inline void bit_clear(uint64_t *word, uint64_t bit)
{
#ifdef __x86_64__
	__asm__("btrq %1, %0" : "+r"(*word) : "r"(bit) : "cc");
#else
	*word &= ~(UINT64_C(1) << bit);
#endif
}

static inline bool bit_is_set(uint64_t word, uint64_t bit)
{
	return word >> bit & 1;
}

/* Has a word a bit that another, in memory, has as well? */
static inline bool words_meet(uint64_t word, const uint64_t *other)
{
#if defined(__x86_64__) && defined(__GCC_ASM_FLAG_OUTPUTS__) && !defined(__SANITIZE_THREAD__)
	bool meet;

	__asm__("testq %1, %2" : "=@ccnz"(meet) : "r"(word), "m"(*other));
	return meet;
#else
	return word & __atomic_load_n(other, __ATOMIC_RELAXED);
#endif
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

/* Such loads before this are done before any that follows. ThreadSanitizer knows no fences. */
#ifdef __SANITIZE_THREAD__
#define racy_loads_done() ((void)0)
#else
#define racy_loads_done() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#endif

/* Words that several threads may be at; any of their values will do. */
#define racy_store(p, value) __atomic_store_n(p, value, __ATOMIC_RELAXED)

/* A count that this thread alone changes. Compilers do not fold an atomic store into it. */
#ifdef __SANITIZE_THREAD__
#define racy_add(p, n) __atomic_store_n(p, *(p) + (n), __ATOMIC_RELAXED)
#else
#define racy_add(p, n) ((void)(*(p) += (n)))
#endif

#endif
