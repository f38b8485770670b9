/* SPDX-License-Identifier: MIT */
/*
 * soft_ranges.c - what is mapped at which dma address, and what was
 *
 * A tree of ranges by address (base/tree.h).
 *
 * The places of ranges are made 64 at a time and never given back before the end.
 */
#include "backend/soft_ranges.h"

#include <stdlib.h>
#include <string.h>

#define SLAB_SIZE 64

struct soft_slab {
	struct soft_range ranges[SLAB_SIZE];
};

void soft_ranges_init(struct soft_ranges *ranges)
{
	memset(ranges, 0, sizeof(*ranges));
}

void soft_ranges_fini(struct soft_ranges *ranges)
{
	for (size_t i = 0; i < ranges->slab_count; i++)
		free(ranges->slabs[i]);
	free(ranges->slabs);
}

/* ---- places of ranges ---- */

static bool slab_add(struct soft_ranges *ranges)
{
	struct soft_slab *slab = calloc(1, sizeof(*slab)), **larger;
	size_t n = ranges->slab_count;

	if (!slab)
		return false;
	/* Room for a power of two of them. */
	if ((n & (n - 1)) == 0) {
		larger = realloc(ranges->slabs, (n ? 2 * n : 1) * sizeof(struct soft_slab *));
		if (!larger) {
			free(slab);
			return false;
		}
		ranges->slabs = larger;
	}
	ranges->slabs[ranges->slab_count++] = slab;
	for (size_t i = 0; i < SLAB_SIZE; i++) {
		slab->ranges[i].next_free = ranges->free;
		ranges->free = &slab->ranges[i];
	}
	return true;
}

/* ---- the tree ---- */

struct soft_range *soft_ranges_add(struct soft_ranges *ranges, dma_addr_t dma, uint64_t size,
				   struct soft_range *before)
{
	struct soft_range *range;

	if (!ranges->free && !slab_add(ranges))
		return NULL;
	range = ranges->free;
	ranges->free = range->next_free;
	range->node.key = range->dma = dma;
	range->size = size;
	tree_insert(&ranges->tree, &range->node, before ? &before->node : NULL);
	return range;
}

void soft_ranges_remove(struct soft_ranges *ranges, struct soft_range *range)
{
	tree_remove(&ranges->tree, &range->node);
	ranges->notes[ranges->ended++ % SOFT_NOTES] = *range;
	range->size = 0;
	range->next_free = ranges->free;
	ranges->free = range;
}

struct soft_range *soft_ranges_before(const struct soft_ranges *ranges, dma_addr_t dma)
{
	/* The first member. */
	return (struct soft_range *)tree_before(&ranges->tree, dma);
}

struct soft_range *soft_ranges_at(const struct soft_ranges *ranges, dma_addr_t dma)
{
	struct soft_range *range = soft_ranges_before(ranges, dma);

	return range && range->dma == dma ? range : NULL;
}

struct soft_range *soft_ranges_find(const struct soft_ranges *ranges, dma_addr_t dma)
{
	struct soft_range *range = soft_ranges_before(ranges, dma);

	return range && dma - range->dma < range->size ? range : NULL;
}

const struct soft_range *soft_ranges_was(const struct soft_ranges *ranges, dma_addr_t dma)
{
	size_t kept = ranges->ended < SOFT_NOTES ? ranges->ended : SOFT_NOTES;

	for (size_t i = 1; i <= kept; i++) {
		const struct soft_range *note = &ranges->notes[(ranges->ended - i) % SOFT_NOTES];

		if (dma - note->dma < note->size)
			return note;
	}
	return NULL;
}

static struct soft_range *place(const struct soft_ranges *ranges, size_t at)
{
	return &ranges->slabs[at / SLAB_SIZE]->ranges[at % SLAB_SIZE];
}

/* Places are tried at random, which is fair; where hardly any is in use, then in their order. */
struct soft_range *soft_ranges_pick(const struct soft_ranges *ranges, uint64_t number)
{
	size_t places = ranges->slab_count * SLAB_SIZE;
	struct soft_range *range;

	for (size_t i = 0; i < places; i++) {
		range = place(ranges, (size_t)((number >> 32) % places));
		if (range->size)
			return range;
		/* The next of a linear congruential generator (Knuth's MMIX). */
		number = number * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	}
	for (size_t i = 0; i < places; i++) {
		range = place(ranges, i);
		if (range->size)
			return range;
	}
	return NULL;
}
