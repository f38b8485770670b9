/* SPDX-License-Identifier: MIT */
/*
 * soft_ranges.c - what is mapped at which dma address, and what was
 *
 * A tree of nodes with 64 slots, as an IOMMU's page table is one, six bits of the address a level.
 * But a range hangs at the granule where it begins alone, so that a large one costs no more than a
 * small one; and each node has a bitmap of its slots, so that the range before any address is found
 * in one way down, up to the nearest node with a lower slot in use, and down to the highest range
 * there:
 *
 *   root   used ..1..1...
 *               |  '-- used .......1..       the address is below all of these
 *               '----- used ..1.....1.
 *                                   '-- the range before it
 *
 * The way to the leaf that was used last is kept, since what is mapped and unmapped next mostly lies
 * there too. That leaf alone may be empty; it goes when the way is left, so that whoever comes down
 * another way finds none.
 *
 * The places of ranges are made 64 at a time and never given back before the end.
 */
#include "backend/soft_ranges.h"

#include <stdlib.h>
#include <string.h>

#define SLOT_BITS  6
#define SLAB_SIZE  64
#define SPARES_MAX 256
#define NO_LEAF	   UINT64_MAX

struct soft_slab {
	struct soft_range ranges[SLAB_SIZE];
};

static unsigned int highest_bit(uint64_t bits)
{
	return 63 - (unsigned int)__builtin_clzll(bits);
}

void soft_ranges_init(struct soft_ranges *ranges, unsigned int shift, unsigned int bits)
{
	memset(ranges, 0, sizeof(*ranges));
	ranges->shift = shift;
	ranges->bits = bits;
	ranges->way_leaf = NO_LEAF;
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
	node->slot[0] = NULL;
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

static unsigned int slot_of(uint64_t granule, unsigned int level)
{
	return (unsigned int)(granule >> (SLOT_BITS * level)) & 63;
}

static void slot_put(struct soft_node *node, unsigned int slot, void *what)
{
	node->slot[slot] = what;
	node->used |= UINT64_C(1) << slot;
}

static void slot_clear(struct soft_node *node, unsigned int slot)
{
	node->slot[slot] = NULL;
	node->used &= ~(UINT64_C(1) << slot);
}

/* Leave the way at hand: a leaf that has become empty goes, and what that makes empty above it. */
static void way_leave(struct soft_ranges *ranges)
{
	if (ranges->way_leaf == NO_LEAF)
		return;
	for (unsigned int level = 1; level < ranges->levels; level++) {
		if (ranges->way[level - 1]->used)
			break;
		node_put(ranges, ranges->way[level - 1]);
		slot_clear(ranges->way[level], slot_of(ranges->way_leaf << SLOT_BITS, level));
	}
	ranges->way_leaf = NO_LEAF;
}

/* Down from the root: see way_take(). */
static __attribute__((noinline)) unsigned int way_walk(struct soft_ranges *ranges, uint64_t granule)
{
	struct soft_node *node = &ranges->root;
	unsigned int level = ranges->levels - 1;

	way_leave(ranges);
	for (;; level--) {
		ranges->way[level] = node;
		if (!level)
			break;
		node = node->slot[slot_of(granule, level)];
		if (!node)
			return level;
	}
	ranges->way_leaf = granule >> SLOT_BITS;
	return 0;
}

/* Go to a granule as far as there are nodes: the lowest level; all above stand in way. */
static inline unsigned int way_take(struct soft_ranges *ranges, uint64_t granule)
{
	return granule >> SLOT_BITS == ranges->way_leaf ? 0 : way_walk(ranges, granule);
}

/* Make what is missing on the way. */
static bool way_make(struct soft_ranges *ranges, uint64_t granule, unsigned int level)
{
	if (!nodes_reserve(ranges))
		return false;
	for (; level; level--) {
		struct soft_node *node = node_get(ranges);

		slot_put(ranges->way[level], slot_of(granule, level), node);
		ranges->way[level - 1] = node;
	}
	ranges->way_leaf = granule >> SLOT_BITS;
	return true;
}

struct soft_range *soft_ranges_add(struct soft_ranges *ranges, dma_addr_t dma, uint64_t size)
{
	uint64_t granule = dma >> ranges->shift;
	unsigned int level = way_take(ranges, granule);
	struct soft_range *range;

	if (!ranges->free && !slab_add(ranges))
		return NULL;
	if (level && !way_make(ranges, granule, level))
		return NULL;
	range = ranges->free;
	ranges->free = range->next_free;
	slot_put(ranges->way[0], slot_of(granule, 0), range);
	range->dma = dma;
	range->size = size;
	return range;
}

void soft_ranges_remove(struct soft_ranges *ranges, struct soft_range *range)
{
	uint64_t granule = range->dma >> ranges->shift;

	way_take(ranges, granule);
	slot_clear(ranges->way[0], slot_of(granule, 0));
	ranges->notes[ranges->ended++ % SOFT_NOTES] = *range;
	range->size = 0;
	range->next_free = ranges->free;
	ranges->free = range;
}

struct soft_range *soft_ranges_at(struct soft_ranges *ranges, dma_addr_t dma)
{
	uint64_t granule = dma >> ranges->shift;
	struct soft_range *range;

	if (dma >> ranges->bits || way_take(ranges, granule))
		return NULL;
	range = ranges->way[0]->slot[slot_of(granule, 0)];
	return range && range->dma == dma ? range : NULL;
}

struct soft_range *soft_ranges_before(struct soft_ranges *ranges, dma_addr_t dma)
{
	uint64_t granule = dma >> ranges->shift, lower;
	const struct soft_node *node;
	unsigned int level;

	if (dma >> ranges->bits) /* beyond all addresses: before it comes the last */
		granule = (UINT64_C(1) << (ranges->bits - ranges->shift)) - 1;
	level = way_take(ranges, granule);
	node = ranges->way[level];
	/* Where the way ends its slot is empty, or on the lowest level the range itself. */
	lower = node->used & ((UINT64_C(2) << slot_of(granule, level)) - 1);
	while (!lower) {
		if (++level == ranges->levels)
			return NULL;
		node = ranges->way[level];
		lower = node->used & ((UINT64_C(1) << slot_of(granule, level)) - 1);
	}
	for (; level; level--) {
		node = node->slot[highest_bit(lower)];
		lower = node->used;
	}
	return node->slot[highest_bit(lower)];
}

struct soft_range *soft_ranges_find(struct soft_ranges *ranges, dma_addr_t dma)
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
