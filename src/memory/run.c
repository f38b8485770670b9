/* SPDX-License-Identifier: MIT */
/*
 * run.c - runs of pages, taken from chunks and given back: some loads and stores under `lock`
 *
 *   chunk  |####....##......|          a bit a page: free or not
 *               ^ a run of two: its first page says how long it is, each page who has it
 */
#include "memory/arena_internal.h"

#include "base/bits.h"

/*
 * The first page of the chunk where n free ones begin, aligned, from a dma address on and under a
 * mask; chunk->pages when there is none.
 */
static size_t chunk_find(const struct arena_chunk *chunk, size_t n, size_t align, uint64_t lowest,
			 uint64_t mask)
{
	const struct chunk *m = &chunk->memory;
	size_t step = align > ARENA_PAGE ? align / ARENA_PAGE : 1;
	size_t phase = (step - (m->dma / ARENA_PAGE) % step) % step;
	size_t end = pages_below(m->dma, chunk->pages, mask), at = phase;

	if (((uintptr_t)m->cpu ^ m->dma) & (align - 1))
		return chunk->pages;
	if (lowest > m->dma + phase * ARENA_PAGE)
		at = align_up((size_t)((lowest - m->dma + ARENA_PAGE - 1) / ARENA_PAGE) - phase,
			      step) +
		     phase;

	while (at + n <= end) {
		size_t begin = bitmap_next(chunk->free, at, end, true);
		size_t used;

		begin = align_up(begin - phase, step) + phase;
		if (begin + n > end)
			break;
		used = bitmap_next(chunk->free, begin, begin + n, false);
		if (used == begin + n)
			return begin;
		at = align_up(used + 1 - phase, step) + phase;
	}
	return chunk->pages;
}

/* Mark pages as taken; the lock is held. */
static struct page *chunk_take(struct arena *arena, struct arena_chunk *chunk, size_t at, size_t n,
			       struct arena_tenant *tenant, enum take take)
{
	struct page *first = pagemap_find(&arena->pagemap, chunk->memory.cpu + at * ARENA_PAGE);

	for (size_t i = 0; i < n; i++) {
		bitmap_clear(chunk->free, at + i);
		first[i].run_offset = take == TAKE_RUN ? (uint32_t)i : 0;
		first[i].run_pages = take == TAKE_RUN ? 0 : 1;
		page_set_tenant(&first[i], tenant);
	}
	if (take == TAKE_RUN)
		first->run_pages = (uint32_t)n;
	chunk->free_pages -= n;
	arena->free_pages -= n;
	reserves_count(arena->reserves, chunk->memory.dma + at * ARENA_PAGE, n, -1);
	return first;
}

/* The dma addresses that the tenant can send; the lock is held. */
static uint64_t mask_of(const struct arena *arena, const struct arena_tenant *tenant)
{
	uint64_t mask = tenant->limits->coherent_mask;

	return mask < arena->last ? mask : arena->last;
}

/* Where n pages may be taken, from this dma address on; the lock is held. */
static uint64_t lowest_for(struct arena *arena, uint64_t mask, size_t n, enum reserve_leave leave)
{
	if (leave == LEAVE_LOW && arena->low_pages >= n) {
		leave = LEAVE_ALL;
		arena->low_pages -= n;
	}
	return reserves_lowest(arena->reserves, mask, n, leave);
}

struct page *arena_find(struct arena *arena, struct arena_tenant *tenant, size_t n, size_t align,
			enum reserve_leave leave, enum take take)
{
	struct page *first = NULL;
	uint64_t lowest, mask;

	pthread_spin_lock(&arena->lock);
	mask = mask_of(arena, tenant);
	lowest = lowest_for(arena, mask, n, leave);
	if (lowest > mask)
		goto unlock;
	for (struct arena_chunk *chunk = arena->chunks; chunk && !first; chunk = chunk->next) {
		size_t at;

		if (chunk->memory.dma + (chunk->memory.size - 1) < lowest)
			break;
		if (chunk->free_pages < n)
			continue;
		at = chunk_find(chunk, n, align, lowest, mask);
		if (at < chunk->pages)
			first = chunk_take(arena, chunk, at, n, tenant, take);
	}
unlock:
	pthread_spin_unlock(&arena->lock);
	return first;
}

/* Mark a run as free; the lock is held. */
static void run_release(struct arena *arena, struct page *first)
{
	struct arena_chunk *chunk = first->chunk;
	size_t n = first->run_pages;
	size_t at = (size_t)(pagemap_address(&arena->pagemap, first) - chunk->memory.cpu) >>
		    ARENA_PAGE_SHIFT;

	for (size_t i = 0; i < n; i++) {
		page_set_tenant(&first[i], NULL);
		bitmap_set(chunk->free, at + i);
	}
	first->run_pages = 0;
	chunk->free_pages += n;
	arena->free_pages += n;
	reserves_count(arena->reserves, chunk->memory.dma + at * ARENA_PAGE, n, 1);
}

void arena_give(struct arena *arena, struct page *first)
{
	pthread_spin_lock(&arena->lock);
	run_release(arena, first);
	pthread_spin_unlock(&arena->lock);
}

void arena_hand_over(struct arena *arena, struct page *first, struct arena_tenant *tenant)
{
	pthread_spin_lock(&arena->lock);
	for (size_t i = 0; i < first->run_pages; i++)
		page_set_tenant(&first[i], tenant);
	pthread_spin_unlock(&arena->lock);
}

bool arena_give_if(struct arena *arena, struct arena_tenant *tenant, const void *address,
		   bool (*accept)(struct page *first, void *context), void *context)
{
	struct page *page = pagemap_find(&arena->pagemap, address);
	bool accepted;

	if (!page || ((uintptr_t)address & (ARENA_PAGE - 1)))
		return false;
	pthread_spin_lock(&arena->lock);
	accepted = page->chunk && page_tenant(page) == tenant && page->run_offset == 0 &&
		   accept(page, context);
	if (accepted)
		run_release(arena, page);
	pthread_spin_unlock(&arena->lock);
	return accepted;
}
