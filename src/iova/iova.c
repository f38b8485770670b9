/* SPDX-License-Identifier: MIT */
/*
 * iova.c - which addresses are free
 *
 *    free[0]        free[1]                     free[2]
 *   |-------|xxxxx|---------|xxx|......hole......|------------|
 *   first  last              taken                         last
 *
 * Searching goes from the top down, so that low addresses are left for devices that can't send
 * high ones.
 */
#include "iova/iova.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void iova_space_init(struct iova_space *space)
{
	memset(space, 0, sizeof(*space));
}

void iova_space_destroy(struct iova_space *space)
{
	free(space->free);
	free(space->usable);
	iova_space_init(space);
}

/* Room for `more` ranges beside those that are free and those that may come back. */
static int space_reserve(struct iova_space *space, size_t more)
{
	size_t needed = space->count + space->taken + space->usable_count + 1 + more;
	struct iova_range *larger;

	if (needed <= space->room)
		return 0;
	larger = realloc(space->free, (needed + needed / 2) * sizeof(*larger));
	if (!larger)
		return -ENOMEM;
	space->free = larger;
	space->room = needed + needed / 2;
	return 0;
}

static void range_insert(struct iova_space *space, size_t at, uint64_t first, uint64_t last)
{
	memmove(&space->free[at + 1], &space->free[at],
		(space->count - at) * sizeof(space->free[0]));
	space->free[at] = (struct iova_range){first, last};
	space->count++;
}

static void range_remove(struct iova_space *space, size_t at)
{
	space->count--;
	memmove(&space->free[at], &space->free[at + 1],
		(space->count - at) * sizeof(space->free[0]));
}

/* Index of the first free range that begins above address. */
static size_t range_above(const struct iova_space *space, uint64_t address)
{
	size_t low = 0, high = space->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (space->free[middle].first > address)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* Make first..last free; neighbours merge. There is room. */
static void range_give(struct iova_space *space, uint64_t first, uint64_t last)
{
	size_t at = range_above(space, first);
	bool left = at > 0 && space->free[at - 1].last + 1 == first;
	bool right = at < space->count && last + 1 == space->free[at].first;

	if (left && right) {
		space->free[at - 1].last = space->free[at].last;
		range_remove(space, at);
	} else if (left) {
		space->free[at - 1].last = last;
	} else if (right) {
		space->free[at].first = first;
	} else {
		range_insert(space, at, first, last);
	}
}

int iova_space_add(struct iova_space *space, uint64_t first, uint64_t last)
{
	int err = space_reserve(space, 1);

	if (err)
		return err;
	if (first == 0)
		first = 1;
	if (first <= last)
		range_give(space, first, last);
	return 0;
}

/* Take first..last out of the free ranges, whatever of it is free. There is room for one more. */
static void range_cut(struct iova_space *space, uint64_t first, uint64_t last)
{
	size_t at = 0;

	while (at < space->count) {
		struct iova_range *r = &space->free[at];
		struct iova_range was = *r;

		if (was.last < first || was.first > last) {
			at++;
			continue;
		}
		if (was.first < first && was.last > last) {
			r->last = first - 1;
			range_insert(space, at + 1, last + 1, was.last);
			return;
		}
		if (was.first < first) {
			r->last = first - 1;
			at++;
		} else if (was.last > last) {
			r->first = last + 1;
			at++;
		} else {
			range_remove(space, at);
		}
	}
}

int iova_space_restrict(struct iova_space *space, const struct iova_range *usable, size_t n)
{
	struct iova_range *copy = malloc((n + 1) * sizeof(*copy));
	uint64_t next = 0;

	if (!copy || space_reserve(space, n + 1)) {
		free(copy);
		return -ENOMEM;
	}
	memcpy(copy, usable, n * sizeof(*copy));
	free(space->usable);
	space->usable = copy;
	space->usable_count = n;
	__atomic_store_n(&space->generation, space->generation + 1, __ATOMIC_RELEASE);
	for (size_t i = 0; i < n; i++) {
		if (usable[i].first > next)
			range_cut(space, next, usable[i].first - 1);
		next = usable[i].last + 1;
		if (next == 0)
			return 0;
	}
	range_cut(space, next, UINT64_MAX);
	return 0;
}

/* The highest place that fits; 0, which is never free, when there is none. */
static uint64_t place_find(const struct iova_space *space, uint64_t size, uint64_t align,
			   uint64_t last)
{
	for (size_t at = space->count; at-- > 0;) {
		const struct iova_range *r = &space->free[at];
		uint64_t end = r->last < last ? r->last : last;
		uint64_t start;

		if (r->first > last || end - r->first < size - 1)
			continue;
		start = (end - (size - 1)) & ~(align - 1);
		if (start >= r->first)
			return start;
	}
	return 0;
}

int iova_space_take(struct iova_space *space, uint64_t size, uint64_t align, uint64_t last,
		    uint64_t *first)
{
	uint64_t start;

	if (size == 0 || align == 0 || (align & (align - 1)))
		return -EINVAL;
	if (space_reserve(space, 1))
		return -ENOMEM;
	start = place_find(space, size, align, last);
	if (!start)
		return -ENOSPC;
	range_cut(space, start, start + (size - 1));
	space->taken++;
	*first = start;
	return 0;
}

bool iova_space_fits(const struct iova_space *space, uint64_t size, uint64_t align, uint64_t first,
		     uint64_t last)
{
	uint64_t start = place_find(space, size, align, last);

	return start && start >= first;
}

void iova_space_release(struct iova_space *space, uint64_t first, uint64_t size)
{
	uint64_t last = first + (size - 1);

	space->taken--;
	if (!space->usable) {
		range_give(space, first, last);
		return;
	}
	for (size_t i = 0; i < space->usable_count; i++) {
		const struct iova_range *r = &space->usable[i];

		if (r->first <= last && r->last >= first)
			range_give(space, r->first > first ? r->first : first,
				   r->last < last ? r->last : last);
	}
}

bool iova_space_has(const struct iova_space *space, uint64_t first, uint64_t last)
{
	for (size_t i = 0; i < space->usable_count; i++)
		if (first >= space->usable[i].first && last <= space->usable[i].last)
			return true;
	return !space->usable;
}

uint64_t iova_space_free(const struct iova_space *space, uint64_t last)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < space->count && space->free[i].first <= last; i++) {
		uint64_t end = space->free[i].last < last ? space->free[i].last : last;

		sum += end - space->free[i].first + 1;
	}
	return sum;
}
