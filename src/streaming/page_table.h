/* SPDX-License-Identifier: MIT */
/*
 * page_table.h - from an address to what lives there, in one step
 *
 * The dma addresses of a domain, or the CPU's, in frames of 4 KiB, each with a word that says what lies there. The
 * words lie in tables of one GiB each, made when something first lies in it; a hash leads to the
 * table. Looking up takes no lock. Two who write the same word take turns by other means.
 */
#ifndef STREAMING_PAGE_TABLE_H
#define STREAMING_PAGE_TABLE_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include <dmaland/types.h>

enum {
	FRAME_SHIFT = 12,
	FRAME_SIZE = 1 << FRAME_SHIFT,
	TABLE_SHIFT = 30, /* bytes of dma addresses in a table */
	TABLE_FRAMES = 1 << (TABLE_SHIFT - FRAME_SHIFT),
	TABLE_BUCKETS = 256,
};

/*
 * What a word says by its two low bits; the others are a pointer. Of kind FRAME_TRANSLATED there are
 * 0: nothing is known; FRAME_ARENA: an address that is translated, and holds nothing; and, where the
 * device has a copy of its own, a struct registration.
 */
enum frame_kind {
	FRAME_TRANSLATED,
	FRAME_BOUNCE, /* struct bounce_page */
	FRAME_MAPPED, /* struct mapping */
	FRAME_KIND_MASK,
};

#define FRAME_ARENA ((uintptr_t)FRAME_KIND_MASK + 1)

struct frame_table {
	uint64_t number; /* dma address >> TABLE_SHIFT */
	struct frame_table *next;
	uintptr_t words[]; /* TABLE_FRAMES of them; reads as zeroes until written */
};

struct frames {
	struct frame_table *buckets[TABLE_BUCKETS];
	pthread_mutex_t lock; /* making tables */
};

int frames_init(struct frames *frames);
void frames_fini(struct frames *frames);

/* The table of an address; NULL where nothing was ever set. */
static inline struct frame_table *frames_table(const struct frames *frames, dma_addr_t dma)
{
	uint64_t number = dma >> TABLE_SHIFT;
	struct frame_table *table =
		__atomic_load_n(&frames->buckets[number % TABLE_BUCKETS], __ATOMIC_ACQUIRE);

	while (__builtin_expect(table && table->number != number, 0))
		table = table->next;
	return table;
}

static inline uintptr_t *frames_word(const struct frames *frames, dma_addr_t dma)
{
	struct frame_table *table = frames_table(frames, dma);

	return table ? &table->words[(dma >> FRAME_SHIFT) % TABLE_FRAMES] : NULL;
}

/* 0 where nothing was ever set. */
static inline uintptr_t frames_get(const struct frames *frames, dma_addr_t dma)
{
	struct frame_table *table = frames_table(frames, dma);

	return __builtin_expect(table != NULL, 1)
		       ? __atomic_load_n(&table->words[(dma >> FRAME_SHIFT) % TABLE_FRAMES],
					 __ATOMIC_ACQUIRE)
		       : 0;
}

static inline void frames_fill(uintptr_t *words, size_t n, uintptr_t word)
{
	for (; n >= 4; n -= 4, words += 4) {
		__atomic_store_n(&words[0], word, __ATOMIC_RELEASE);
		__atomic_store_n(&words[1], word, __ATOMIC_RELEASE);
		__atomic_store_n(&words[2], word, __ATOMIC_RELEASE);
		__atomic_store_n(&words[3], word, __ATOMIC_RELEASE);
	}
	while (n--)
		__atomic_store_n(words++, word, __ATOMIC_RELEASE);
}

/* Have the tables of a range, so that it can be set. 0; -ENOMEM in words, also for !may_make. */
int frames_reserve(struct frames *frames, dma_addr_t dma, size_t size, bool may_make);

/* Set all frames of a range whose tables are there. */
void frames_set(struct frames *frames, dma_addr_t dma, size_t size, uintptr_t word);

/* The first frame from that of dma on whose word is not 0: where it begins, or end and more: none below it. */
dma_addr_t frames_next(const struct frames *frames, dma_addr_t dma, dma_addr_t end);

#endif
