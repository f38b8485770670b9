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
 * leaves to narrower ones: here 40, 75 - 32 and 90 - 64.
 */
#include "memory/reserve.h"

#include "memory/arena.h"

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

size_t pages_below(uint64_t dma, size_t pages, uint64_t mask)
{
	if (dma > mask)
		return 0;
	if (mask - dma >= ((uint64_t)pages << ARENA_PAGE_SHIFT) - 1)
		return pages;
	return (size_t)((mask - dma + 1) >> ARENA_PAGE_SHIFT);
}

void reserves_count(struct arena_reserve *list, uint64_t last, size_t pages, int sign)
{
	for (; list; list = list->next)
		if (last <= list->mask)
			list->free_pages += sign > 0 ? pages : -pages;
}

uint64_t reserves_narrower(const struct arena_reserve *list, uint64_t mask)
{
	uint64_t narrower = 0;

	for (; list && list->mask < mask; list = list->next)
		narrower = list->mask;
	return narrower;
}

/* What the next wider mask leaves: so much, if it is there. */
static size_t narrower_pages(const struct arena_reserve *reserve, size_t narrower, size_t left,
			     size_t keep)
{
	if (reserve->next && reserve->next->mask == reserve->mask)
		return narrower; /* one reserve for both */
	return left < narrower + keep ? left : narrower + keep;
}

uint64_t reserves_lowest(const struct arena_reserve *list, uint64_t mask, size_t n,
			 enum reserve_leave leave)
{
	size_t narrower = 0;
	uint64_t lowest = 0;

	if (leave == LEAVE_NOTHING)
		return 0;
	for (; list && (leave != LEAVE_NARROWER || list->mask < mask); list = list->next) {
		if (list->free_pages < n + narrower + ARENA_RESERVE_PAGES ||
		    (leave == LEAVE_LOW && list->mask < mask))
			lowest = list->mask + 1;
		narrower = narrower_pages(list, narrower, list->free_pages, ARENA_RESERVE_PAGES);
	}
	return lowest;
}

bool reserve_is_short(const struct arena_reserve *list, const struct arena_reserve *reserve)
{
	size_t narrower = 0;

	for (; list != reserve; list = list->next)
		narrower = narrower_pages(list, narrower, list->free_pages, ARENA_RESERVE_PAGES);
	return reserve->free_pages < narrower + ARENA_RESERVE_PAGES;
}

bool reserves_hold(const struct arena_reserve *list, size_t keep, uint64_t last, size_t pages,
		   uint64_t limit)
{
	size_t narrower = 0;

	for (; list && list->mask < limit; list = list->next) {
		size_t below = last <= list->mask ? pages : 0;
		size_t left = list->free_pages - below;

		if (below && left < narrower + keep)
			return false;
		narrower = narrower_pages(list, narrower, left, keep);
	}
	return true;
}
