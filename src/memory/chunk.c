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

/* All pages of the chunk are free, here and in chunk_unlink(). The lock is held. */
static void chunk_link(struct arena *arena, struct arena_chunk *chunk)
{
	chunks_insert(arena, chunk);
	arena->pages += chunk->pages;
	arena->free_pages += chunk->pages;
	arena->low_pages = 0;
}

static void chunk_unlink(struct arena *arena, struct arena_chunk *chunk)
{
	chunks_remove(arena, chunk);
	arena->pages -= chunk->pages;
	arena->free_pages -= chunk->pages;
}

/* Who the pages belong to, in the page map: a chunk, or nobody. It is in no list: they are nobody's. */
static void chunk_announce(const struct arena_chunk *chunk, struct arena_chunk *owner)
{
	for (size_t i = 0; i < chunk->pages; i++) {
		chunk->entries[i].dma_offset = chunk->memory.dma - (uintptr_t)chunk->memory.cpu;
		__atomic_store_n(&chunk->entries[i].chunk, owner, __ATOMIC_RELEASE);
	}
}

/* Are there addresses for it, from this one on? */
static int addresses_check(struct domain *domain, size_t size, size_t align, uint64_t lowest,
			   uint64_t mask)
{
	const struct iova_wish wish = {.size = size, .align = align, .last = mask};
	bool fits;

	mutex_lock(&domain->lock);
	fits = iova_space_fits(&domain->iova, &wish, lowest);
	mutex_unlock(&domain->lock);
	if (fits)
		return 0;
	return error_set(ENOMEM, "no %zu KiB of dma addresses are free from 0x%llx to 0x%llx",
			 size >> 10, (unsigned long long)lowest, (unsigned long long)mask);
}

/* The entries of a chunk's pages, in all arrays. `growing` is held. */
static int chunk_commit(struct arena *arena, const struct chunk *memory)
{
	const struct pagemap *map = &arena->pagemap;
	int err = 0;

	for (struct page_array *array = map->arrays; array && !err; array = array->next)
		err = page_array_commit(map, array, memory->cpu, memory->size);
	return err;
}

/* Add a chunk of size bytes; `growing` is held. lowest: the first dma address for it; 0: any. */
static int chunk_add(struct arena *arena, size_t size, size_t align, uint64_t lowest, uint64_t mask)
{
	struct arena_chunk *chunk;
	struct chunk memory;
	int err;

	if (lowest && addresses_check(arena->domain, size, align, lowest, mask))
		return -ENOMEM;
	err = arena->domain->ops->provide(arena->domain, size, align, mask, &memory);
	if (err)
		return err;
	err = chunk_commit(arena, &memory);
	if (err)
		goto withdraw;
	chunk = chunk_new(arena, &memory);
	if (!chunk) {
		err = error_set(ENOMEM, "no memory for the bookkeeping of %zu KiB", size >> 10);
		goto withdraw;
	}
	chunk_announce(chunk, chunk);
	rt_lock_take(&arena->lock);
	chunk_link(arena, chunk);
	rt_lock_release(&arena->lock);
	return 0;

withdraw:
	arena->domain->ops->withdraw(arena->domain, &memory);
	return err;
}

/*
 * Bytes that are mapped there, as far as that matters: up to CHUNK_SIZE_MAX, and not in chunks so small that
 * larger ones are not to be had. `growing` is held: nobody else changes the list.
 */
static size_t mapped_between(struct arena *arena, uint64_t lowest, uint64_t mask)
{
	size_t size = 0, chunks = CHUNK_SIZE_MAX / CHUNK_SIZE_MIN;
	const struct arena_chunk *chunk;

	rt_lock_take(&arena->lock);
	chunk = chunks_find(arena, 0, 0, mask);
	rt_lock_release(&arena->lock);
	for (; chunk && chunk->memory.dma >= lowest && size < CHUNK_SIZE_MAX && chunks--;
	     chunk = chunk->next)
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

/*
 * Out of the list: the highest chunk up to an address that nobody uses, if it may go; then the next is looked
 * for below it. `growing` is held.
 */
static struct arena_chunk *chunk_unlink_idle(struct arena *arena, size_t keep, uint64_t limit,
					     uint64_t *last)
{
	struct arena_chunk *chunk;
	bool leaves;

	do {
		rt_lock_take(&arena->lock);
		chunk = chunks_find(arena, FIT_IDLE, 1, *last);
		leaves = chunk && (chunk->memory.size > CHUNK_SIZE_MAX ||
				   reserves_hold(arena, keep, chunk, limit));
		if (leaves)
			chunk_unlink(arena, chunk);
		rt_lock_release(&arena->lock);
		if (chunk)
			*last = chunk->memory.dma - 1;
	} while (chunk && !leaves);
	return chunk;
}

void arena_trim_locked(struct arena *arena, size_t keep, uint64_t limit)
{
	struct arena_chunk *chunk;
	uint64_t last = UINT64_MAX;

	while ((chunk = chunk_unlink_idle(arena, keep, limit, &last))) {
		chunk_announce(chunk, NULL);
		if (arena->domain->ops->withdraw(arena->domain, &chunk->memory))
			break;
		free(chunk);
	}
	if (!chunk)
		return;
	log_line(DMALAND_LOG_ERR, "%zu KiB at dma address 0x%llx stay mapped: %s",
		 chunk->memory.size >> 10, (unsigned long long)chunk->memory.dma, error_last());
	chunk_announce(chunk, chunk);
	rt_lock_take(&arena->lock);
	chunk_link(arena, chunk);
	rt_lock_release(&arena->lock);
}

void arena_trim(struct arena *arena, size_t keep)
{
	log_hold();
	mutex_lock(&arena->growing);
	arena_trim_locked(arena, keep, UINT64_MAX);
	mutex_unlock(&arena->growing);
	log_release();
}

struct arena_chunk *arena_chunk_at(const struct arena *arena, dma_addr_t dma)
{
	struct arena_chunk *chunk = chunks_find(arena, 0, 0, dma);

	return chunk && dma - chunk->memory.dma < chunk->memory.size ? chunk : NULL;
}

/* ---- what is beside the page map ---- */

/* For all pages that are mapped, and for those to come. `growing` is held. */
static struct page_array *side_make(struct arena *arena, size_t bytes, unsigned int kind)
{
	struct pagemap *map = &arena->pagemap;
	struct page_array *side = page_array_open(map, bytes, kind);

	if (!side)
		return NULL;
	for (struct arena_chunk *chunk = arena->chunks; chunk; chunk = chunk->next)
		if (page_array_commit(map, side, chunk->memory.cpu, chunk->memory.size)) {
			page_array_close(map, side);
			return NULL;
		}
	side->next = map->arrays;
	map->arrays = side;
	return side;
}

char *arena_side(struct arena *arena, size_t bytes, unsigned int kind)
{
	struct page_array *side;

	mutex_lock(&arena->growing);
	side = arena->pagemap.arrays;
	while (side->next && (side->bytes != bytes || side->kind != kind))
		side = side->next;
	if (!side->next) /* the page map itself */
		side = side_make(arena, bytes, kind);
	mutex_unlock(&arena->growing);
	return side ? side->base : NULL;
}
