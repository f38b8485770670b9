/* SPDX-License-Identifier: MIT */
/* arena_internal.h - between arena.c, chunk.c and run.c */
#ifndef MEMORY_ARENA_INTERNAL_H
#define MEMORY_ARENA_INTERNAL_H

#include "memory/arena.h"
#include "memory/reserve.h"

/*
 * run.c: a run of n pages from what is mapped, leaving others their reserves; NULL when there is none.
 * Takes the lock, and may sleep for it.
 */
struct page *arena_find(struct arena *arena, struct arena_tenant *tenant, size_t n, size_t align,
			enum reserve_leave leave);

/* The same for who has the lock, which is released. */
struct page *arena_find_locked(struct arena *arena, struct arena_tenant *tenant, size_t n,
			       size_t align, enum reserve_leave leave);

static inline uint64_t chunk_last(const struct arena_chunk *chunk)
{
	return chunk->memory.dma + (chunk->memory.size - 1);
}

/* ---- chunk.c; `growing` is held ---- */

/*
 * Add a chunk in which size bytes with this alignment fit, under the mask: as much again as there
 * is, or less where that can't be had. lowest: the first dma address for it; 0: any.
 */
int arena_grow(struct arena *arena, size_t size, size_t align, uint64_t lowest, uint64_t mask);

/* The same for a reserve: as little as there may be, so that what can't be had is cheap. */
int arena_grow_least(struct arena *arena, uint64_t lowest, uint64_t mask);

/* Give back chunks that nobody uses, leaving masks below a limit `keep` pages each. */
void arena_trim_locked(struct arena *arena, size_t keep, uint64_t limit);

#endif
