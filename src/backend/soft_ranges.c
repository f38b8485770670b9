/* SPDX-License-Identifier: MIT */
/*
 * soft_ranges.c - what is mapped at which dma address, and what was
 *
 * A tree of nodes with 64 slots, as an IOMMU's page table is one, six bits of the address a level.
 * But a range hangs at the granule where it begins alone, so that a large one costs no more than a
 * small one; and each node has a bitmap of its slots, so that the range before any address is found
 * in one way down:
 *
 *   root   used .1..1...          the slot of the address is empty, or has only higher ranges:
 *              |  '-- x           the highest range under the nearest lower slot that was
 *              '--> used ..11..1  passed on the way down
 *
 * The places of ranges are made 64 at a time and never given back before the end.
 */
#include "backend/soft_ranges.h"

#include <stdlib.h>
#include <string.h>

#define SLOT_BITS  6
#define SLAB_SIZE  64
#define SPARES_MAX 256
#define LEVELS_MAX 11 /* of 64 bits */

struct soft_slab {
	struct soft_range ranges[SLAB_SIZE];
};

static unsigned int slot_of(uint64_t granule, unsigned int level)
{
	return (unsigned int)(granule >> (SLOT_BITS * level)) & 63;
}

static unsigned int highest_bit(uint64_t bits)
{
	return 63 - (unsigned int)__builtin_clzll(bits);
}

void soft_ranges_init(struct soft_ranges *ranges, unsigned int shift, unsigned int bits)
{
	memset(ranges, 0, sizeof(*ranges));
	ranges->shift = shift;
	ranges->bits = bits;
	ranges->levels = (bits - shift + SLOT_BITS - 1) / SLOT_BITS;
}

static void nodes_free(struct soft_node *node, unsigned int level)
{
	while (level && node->used) {
		unsigned int slot = highest_bit(node->used);

		nodes_free(node->slot[slot], level - 1);
		free(node->slot[slot]);
		node->used &= ~(UINT64_C(1) << slot);
	}
}

void soft_ranges_fini(struct soft_ranges *ranges)
{
	nodes_free(&ranges->root, ranges->levels - 1);
	while (ranges->spare) {
		struct soft_node *node = ranges->spare;

		ranges->spare = node->slot[0];
		free(node);
	}
	for (size_t i = 0; i < ranges->slab_count; i++)
		free(ranges->slabs[i]);
	free(ranges->slabs);
}

/* ---- nodes ---- */

static void node_put(struct soft_ranges *ranges, struct soft_node *node)
{
	if (ranges->spares >= SPARES_MAX) {
		free(node);
		return;
	}
	node->slot[0] = ranges->spare;
	ranges->spare = node;
	ranges->spares++;
}

static struct soft_node *node_get(struct soft_ranges *ranges)
{
	struct soft_node *node = ranges->spare;

	ranges->spare = node->slot[0];
	ranges->spares--;
	return node;
}

/* Spare nodes for one way down, so that adding does not fail halfway. */
static bool nodes_reserve(struct soft_ranges *ranges)
{
	while (ranges->spares < ranges->levels) {
		struct soft_node *node = calloc(1, sizeof(*node));

		if (!node)
			return false;
		node_put(ranges, node);
	}
	return true;
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

struct soft_range *soft_ranges_add(struct soft_ranges *ranges, dma_addr_t dma, uint64_t size)
{
	uint64_t granule = dma >> ranges->shift;
	struct soft_node *node = &ranges->root;
	struct soft_range *range;

	if (!nodes_reserve(ranges) || (!ranges->free && !slab_add(ranges)))
		return NULL;
	for (unsigned int level = ranges->levels - 1; level; level--) {
		unsigned int slot = slot_of(granule, level);

		if (!(node->used >> slot & 1)) {
			struct soft_node *below = node_get(ranges);

			below->used = 0;
			node->slot[slot] = below;
			node->used |= UINT64_C(1) << slot;
		}
		node = node->slot[slot];
	}
	range = ranges->free;
	ranges->free = range->next_free;
	node->slot[slot_of(granule, 0)] = range;
	node->used |= UINT64_C(1) << slot_of(granule, 0);
	range->dma = dma;
	range->size = size;
	return range;
}

void soft_ranges_remove(struct soft_ranges *ranges, struct soft_range *range)
{
	struct soft_node *way[LEVELS_MAX], *node = &ranges->root;
	uint64_t granule = range->dma >> ranges->shift;

	for (unsigned int level = ranges->levels - 1; level; level--) {
		way[level] = node;
		node = node->slot[slot_of(granule, level)];
	}
	node->used &= ~(UINT64_C(1) << slot_of(granule, 0));
	for (unsigned int level = 1; level < ranges->levels && !node->used; level++) {
		node_put(ranges, node);
		node = way[level];
		node->used &= ~(UINT64_C(1) << slot_of(granule, level));
	}
	ranges->notes[ranges->ended++ % SOFT_NOTES] = *range;
	range->size = 0;
	range->next_free = ranges->free;
	ranges->free = range;
}

/* The highest range under a node. */
static struct soft_range *highest(const struct soft_node *node, unsigned int level)
{
	while (level--)
		node = node->slot[highest_bit(node->used)];
	return node->slot[highest_bit(node->used)];
}

struct soft_range *soft_ranges_before(const struct soft_ranges *ranges, dma_addr_t dma)
{
	const struct soft_node *node = &ranges->root, *lower_node = NULL;
	unsigned int level = ranges->levels - 1, lower_level = 0;
	uint64_t granule = dma >> ranges->shift;

	if (dma >> ranges->bits) /* beyond all addresses: before it comes the last */
		granule = (UINT64_C(1) << (ranges->bits - ranges->shift)) - 1;
	for (;; level--) {
		unsigned int slot = slot_of(granule, level);
		uint64_t lower = node->used & ((UINT64_C(1) << slot) - 1);

		if (level == 0) {
			if (node->used >> slot & 1)
				return node->slot[slot];
			if (lower)
				return node->slot[highest_bit(lower)];
			break;
		}
		if (lower) {
			lower_node = node->slot[highest_bit(lower)];
			lower_level = level - 1;
		}
		if (!(node->used >> slot & 1))
			break;
		node = node->slot[slot];
	}
	return lower_node ? highest(lower_node, lower_level) : NULL;
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
