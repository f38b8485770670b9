/* SPDX-License-Identifier: MIT */
/*
 * free_runs.h - which pages are free, and where so many in one run are
 *
 * All of it is guarded by arena.lock, and takes a number of steps that has a bound, however many pages
 * are meant: see free_runs.c.
 */
#ifndef MEMORY_FREE_RUNS_H
#define MEMORY_FREE_RUNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tree.h"

struct arena;
struct arena_chunk;
struct chunk;

/* Alignments to 2^0 ... 2^14 pages have a lane each; one more says that a chunk is free whole. */
enum { FIT_ORDERS = 15, FIT_IDLE = 15, FIT_LANES = 16 };

/*
 * The most pages that fit somewhere, by alignment: longest[k] is that of the runs, each counted from its
 * first page aligned to 2^k pages. INT16_MAX: so many or more.
 */
struct fit {
	int16_t longest[FIT_LANES];
} __attribute__((aligned(8)));

/* What is asked for: n pages aligned to 2^order, inside of lowest..mask. */
struct fit_request {
	size_t n;
	unsigned int order;
	uint64_t lowest, mask;
};

/* Pages of a chunk, and the free run that they are part of. */
struct fit_place {
	struct arena_chunk *chunk; /* NULL: there are none */
	size_t at, run;
};

/*
 * A chunk of this memory, whose entries in the page map are there: all of it is free. NULL when there is no
 * memory for its bookkeeping; free() ends it.
 */
struct arena_chunk *chunk_new(const struct arena *arena, const struct chunk *memory);

/* Into the arena's list and tree of chunks, and out of them. */
void chunks_insert(struct arena *arena, struct arena_chunk *chunk);
void chunks_remove(struct arena *arena, struct arena_chunk *chunk);

/* The highest chunk that begins at or below an address and has as much in a lane; 0: any. */
struct arena_chunk *chunks_find(const struct arena *arena, unsigned int lane, int want,
				uint64_t last);

/* renew() of the arena's tree. */
bool chunk_joined(const struct tree *tree, struct tree_node *node);

/* Free pages of the chunks that lie under a mask. */
size_t chunks_free_under(const struct arena *arena, uint64_t mask);

/* The lowest such place of the highest chunk that has one. */
struct fit_place free_runs_find(const struct arena *arena, const struct fit_request *request);

/* Take n pages from a place that was found, and give some back; neighbours merge. */
void free_runs_take(const struct fit_place *place, size_t n);
void free_runs_give(struct arena_chunk *chunk, size_t at, size_t n);

#endif
