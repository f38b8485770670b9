/* SPDX-License-Identifier: MIT */
/*
 * chunk.c - chunks come from the domain, and go back: system calls under `growing`
 *
 *   page map   | page page page ...|        what each page is (pagemap.h)
 *   sides      | bytes beside each |        what pools keep of it, as many as asked
 *   chunk      | memory            |
 *
 * What stands in tables about a chunk's pages is there before the chunk is.
 */
#include "memory/arena_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mutex.h"

#define CHUNK_SIZE_MIN	((size_t)256 << 10)
#define CHUNK_SIZE_MAX	((size_t)32 << 20)
#define CHUNK_ALIGN_MAX ((size_t)2 << 20) /* a hugepage; more only when it is asked for */

struct arena_side {
	struct arena_side *next;
	char *base;
	size_t bytes; /* a page */
	unsigned int kind;
};

/* All pages of the chunk are free, here and in chunk_unlink(). */
static void chunk_link(struct arena *arena, struct arena_chunk *chunk)
{
	struct arena_chunk **link = &arena->chunks;

	while (*link && (*link)->memory.dma > chunk->memory.dma)
		link = &(*link)->next;
	chunk->next = *link;
	*link = chunk;
	arena->pages += chunk->pages;
	arena->free_pages += chunk->pages;
	arena->low_pages = 0;
	reserves_count(arena->reserves, chunk->memory.dma, chunk->pages, 1);
}

static void chunk_unlink(struct arena *arena, struct arena_chunk *chunk)
{
	struct arena_chunk **link = &arena->chunks;

	while (*link != chunk)
		link = &(*link)->next;
	*link = chunk->next;
	arena->pages -= chunk->pages;
	arena->free_pages -= chunk->pages;
	reserves_count(arena->reserves, chunk->memory.dma, chunk->pages, -1);
}

/* Who the pages belong to, in the page map: a chunk, or nobody. */
static void chunk_announce(struct arena *arena, const struct arena_chunk *chunk,
			   struct arena_chunk *owner)
{
	struct page *first = pagemap_find(&arena->pagemap, chunk->memory.cpu);

	for (size_t i = 0; i < chunk->pages; i++) {
		first[i].dma_offset = chunk->memory.dma - (uintptr_t)chunk->memory.cpu;
		__atomic_store_n(&first[i].chunk, owner, __ATOMIC_RELEASE);
	}
}

/* Are there addresses for it, from this one on? */
static int addresses_check(struct domain *domain, size_t size, size_t align, uint64_t lowest,
			   uint64_t mask)
{
	bool fits;

	mutex_lock(&domain->lock);
	fits = iova_space_fits(&domain->iova, size, align, lowest, mask);
	mutex_unlock(&domain->lock);
	if (fits)
		return 0;
	return error_set(ENOMEM, "no %zu KiB of dma addresses are free from 0x%llx to 0x%llx",
			 size >> 10, (unsigned long long)lowest, (unsigned long long)mask);
}

/* The entries of a chunk's pages, and what is beside them. `growing` is held. */
static int chunk_commit(struct arena *arena, const struct chunk *memory)
{
	const struct pagemap *map = &arena->pagemap;
	int err = pagemap_commit(&arena->pagemap, memory->cpu, memory->size);

	for (struct arena_side *side = arena->sides; side && !err; side = side->next)
		err = pagemap_side_commit(map, side->bytes, side->base, memory->cpu, memory->size);
	return err;
}

/* Add a chunk of size bytes; `growing` is held. lowest: the first dma address for it; 0: any. */
static int chunk_add(struct arena *arena, size_t size, size_t align, uint64_t lowest, uint64_t mask)
{
	size_t pages = size >> ARENA_PAGE_SHIFT;
	struct arena_chunk *chunk;
	int err;

	if (lowest && addresses_check(arena->domain, size, align, lowest, mask))
		return -ENOMEM;
	chunk = calloc(1, sizeof(*chunk) + bitmap_words(pages) * sizeof(chunk->free[0]));
	if (!chunk)
		return error_set(ENOMEM, "no memory for the bookkeeping of %zu KiB", size >> 10);
	err = arena->domain->ops->provide(arena->domain, size, align, mask, &chunk->memory);
	if (err)
		goto free_chunk;
	err = chunk_commit(arena, &chunk->memory);
	if (err)
		goto withdraw;
	chunk->pages = chunk->free_pages = pages;
	for (size_t i = 0; i < pages; i++)
		bitmap_set(chunk->free, i);

	pthread_spin_lock(&arena->lock);
	chunk_announce(arena, chunk, chunk);
	chunk_link(arena, chunk);
	pthread_spin_unlock(&arena->lock);
	return 0;

withdraw:
	arena->domain->ops->withdraw(arena->domain, &chunk->memory);
free_chunk:
	free(chunk);
	return err;
}

/* Bytes that are mapped there. `growing` is held: nobody else changes the list. */
static size_t mapped_between(const struct arena *arena, uint64_t lowest, uint64_t mask)
{
	size_t size = 0;

	for (const struct arena_chunk *chunk = arena->chunks; chunk; chunk = chunk->next)
		if (chunk->memory.dma >= lowest && chunk->memory.dma <= mask)
			size += chunk->memory.size;
	return size;
}

/* From a size that is wanted down to one that is asked. */
static int grow_from(struct arena *arena, size_t want, size_t size, size_t align, uint64_t lowest,
		     uint64_t mask)
{
	size_t granule = arena->domain->granule;
	int err;

	size = align_up(size, granule);
	if (want < CHUNK_SIZE_MIN)
		want = CHUNK_SIZE_MIN;
	if (want > CHUNK_SIZE_MAX)
		want = CHUNK_SIZE_MAX;
	for (;; want /= 2) {
		size_t chunk_size = want > size ? align_up(want, granule) : size;
		size_t chunk_align = power_of_two_covering(chunk_size);

		if (chunk_align > CHUNK_ALIGN_MAX)
			chunk_align = CHUNK_ALIGN_MAX;
		if (chunk_align < align)
			chunk_align = align;
		err = chunk_add(arena, chunk_size, chunk_align, lowest, mask);
		if (err != -ENOMEM || chunk_size == size)
			return err;
	}
}

int arena_grow(struct arena *arena, size_t size, size_t align, uint64_t lowest, uint64_t mask)
{
	return grow_from(arena, power_of_two_covering(mapped_between(arena, lowest, mask)), size,
			 align, lowest, mask);
}

int arena_grow_least(struct arena *arena, uint64_t lowest, uint64_t mask)
{
	return grow_from(arena, CHUNK_SIZE_MIN, CHUNK_SIZE_MIN / 2, ARENA_PAGE, lowest, mask);
}

/* Give a chunk back that nobody uses; `growing` is held. False when the domain can't take it. */
static bool chunk_remove(struct arena *arena, struct arena_chunk *chunk)
{
	pthread_spin_lock(&arena->lock);
	if (chunk->free_pages != chunk->pages) {
		pthread_spin_unlock(&arena->lock);
		return true;
	}
	chunk_unlink(arena, chunk);
	chunk_announce(arena, chunk, NULL);
	pthread_spin_unlock(&arena->lock);

	if (arena->domain->ops->withdraw(arena->domain, &chunk->memory)) {
		log_line(DMALAND_LOG_ERR, "%zu KiB at dma address 0x%llx stay mapped: %s",
			 chunk->memory.size >> 10, (unsigned long long)chunk->memory.dma,
			 error_last());
		pthread_spin_lock(&arena->lock);
		chunk_announce(arena, chunk, chunk);
		chunk_link(arena, chunk);
		pthread_spin_unlock(&arena->lock);
		return false;
	}
	free(chunk);
	return true;
}

void arena_trim_locked(struct arena *arena, size_t keep, uint64_t limit)
{
	struct arena_chunk *chunk, *next;

	/* Only those who hold `growing` change the list, so it may be read without the lock. */
	for (chunk = arena->chunks; chunk; chunk = next) {
		bool idle;

		next = chunk->next;
		pthread_spin_lock(&arena->lock);
		idle = chunk->free_pages == chunk->pages &&
		       (chunk->memory.size > CHUNK_SIZE_MAX ||
			reserves_hold(arena->reserves, keep, chunk->memory.dma, chunk->pages,
				      limit));
		pthread_spin_unlock(&arena->lock);
		if (idle && !chunk_remove(arena, chunk))
			return;
	}
}

void arena_trim(struct arena *arena, size_t keep)
{
	log_hold();
	mutex_lock(&arena->growing);
	arena_trim_locked(arena, keep, UINT64_MAX);
	mutex_unlock(&arena->growing);
	log_release();
}

void chunks_free(struct arena *arena)
{
	struct arena_chunk *chunk;

	while ((chunk = arena->chunks)) {
		arena->chunks = chunk->next;
		free(chunk);
	}
	while (arena->sides) {
		struct arena_side *side = arena->sides;

		arena->sides = side->next;
		pagemap_side_close(&arena->pagemap, side->bytes, side->base);
		free(side);
	}
}

/* ---- what is beside the page map ---- */

/* For all pages that are mapped, and for those to come. `growing` is held. */
static struct arena_side *side_make(struct arena *arena, size_t bytes, unsigned int kind)
{
	struct arena_side *side = calloc(1, sizeof(*side));
	int err;

	if (!side) {
		error_set(ENOMEM, "no memory for bookkeeping");
		return NULL;
	}
	side->bytes = bytes;
	side->kind = kind;
	err = pagemap_side_open(&arena->pagemap, bytes, &side->base);
	if (err)
		goto free_side;
	for (struct arena_chunk *chunk = arena->chunks; chunk && !err; chunk = chunk->next)
		err = pagemap_side_commit(&arena->pagemap, bytes, side->base, chunk->memory.cpu,
					  chunk->memory.size);
	if (err)
		goto close;
	side->next = arena->sides;
	arena->sides = side;
	return side;

close:
	pagemap_side_close(&arena->pagemap, bytes, side->base);
free_side:
	free(side);
	return NULL;
}

char *arena_side(struct arena *arena, size_t bytes, unsigned int kind)
{
	struct arena_side *side;

	mutex_lock(&arena->growing);
	side = arena->sides;
	while (side && (side->bytes != bytes || side->kind != kind))
		side = side->next;
	if (!side)
		side = side_make(arena, bytes, kind);
	mutex_unlock(&arena->growing);
	return side ? side->base : NULL;
}
