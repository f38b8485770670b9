/* SPDX-License-Identifier: MIT */
/*
 * reserve.c - what is left free for GFP_ATOMIC, for each device under its own mask
 *
 *   dma address   0 ............ 16 MiB ................ 4 GiB ............. top
 *   24-bit mask   |--- free 40 ---|
 *   32-bit mask   |--- free 75 ------------------------------|
 *   64-bit mask   |--- free 90 ---------------------------------------------|
 *
 * The counts contain each other. What a mask may count on is what is free under it, less what it
 * leaves to narrower ones: here 40, 75 - 32 and 90 - 64. A way down the tree of chunks gives each count.
 */
#include "memory/arena_internal.h"

struct arena_reserve *reserve_find(struct arena_reserve *list, const struct dma_limits *limits)
{
	while (list && list->limits != limits)
		list = list->next;
	return list;
}

void reserve_link(struct arena_reserve **list, struct arena_reserve *reserve)
{
	while (*list && (*list)->mask < reserve->mask)
		list = &(*list)->next;
	reserve->next = *list;
	*list = reserve;
}

void reserve_unlink(struct arena_reserve **list, const struct arena_reserve *reserve)
{
	while (*list != reserve)
		list = &(*list)->next;
	*list = reserve->next;
}

uint64_t reserve_mask(const struct arena *arena, const struct arena_reserve *reserve)
{
	return reserve->mask < arena->last ? reserve->mask : arena->last;
}

static size_t free_under(const struct arena *arena, const struct arena_reserve *reserve)
{
	return chunks_free_under(arena, reserve_mask(arena, reserve));
}

uint64_t zone_begin(const struct arena *arena, uint64_t mask)
{
	uint64_t begin = 0;

	for (const struct arena_reserve *r = arena->reserves;
	     r && r->mask < mask && r->mask < arena->last; r = r->next)
		begin = r->mask + 1;
	return begin;
}

/* What the next wider mask leaves: so much, if it is there. */
static size_t narrower_pages(const struct arena *arena, const struct arena_reserve *reserve,
			     size_t narrower, size_t left, size_t keep)
{
	if (reserve->next && reserve_mask(arena, reserve->next) == reserve_mask(arena, reserve))
		return narrower; /* one reserve for both */
	return left < narrower + keep ? left : narrower + keep;
}

uint64_t reserves_lowest(const struct arena *arena, uint64_t mask, size_t n,
			 enum reserve_leave leave)
{
	size_t narrower = 0;
	uint64_t lowest = 0;

	if (leave == LEAVE_NOTHING)
		return 0;
	for (const struct arena_reserve *r = arena->reserves; r; r = r->next) {
		size_t left;

		if (leave == LEAVE_NARROWER && reserve_mask(arena, r) >= mask)
			break;
		left = free_under(arena, r);
		if (left < n + narrower + ARENA_RESERVE_PAGES ||
		    (leave == LEAVE_LOW && reserve_mask(arena, r) < mask))
			lowest = reserve_mask(arena, r) + 1;
		narrower = narrower_pages(arena, r, narrower, left, ARENA_RESERVE_PAGES);
	}
	return lowest;
}

bool reserve_is_short(struct arena *arena, const struct arena_reserve *reserve)
{
	size_t narrower = 0;
	bool is_short;

	rt_lock_take(&arena->lock);
	for (const struct arena_reserve *r = arena->reserves; r != reserve; r = r->next)
		narrower = narrower_pages(arena, r, narrower, free_under(arena, r),
					  ARENA_RESERVE_PAGES);
	is_short = free_under(arena, reserve) < narrower + ARENA_RESERVE_PAGES;
	rt_lock_release(&arena->lock);
	return is_short;
}

bool reserves_hold(const struct arena *arena, size_t keep, const struct arena_chunk *without,
		   uint64_t limit)
{
	size_t narrower = 0;

	for (const struct arena_reserve *r = arena->reserves; r && reserve_mask(arena, r) < limit;
	     r = r->next) {
		size_t below = chunk_last(without) <= reserve_mask(arena, r) ? without->pages : 0;
		size_t left = free_under(arena, r) - below;

		if (below && left < narrower + keep)
			return false;
		narrower = narrower_pages(arena, r, narrower, left, keep);
	}
	return true;
}
