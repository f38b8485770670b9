/* SPDX-License-Identifier: MIT */
/*
 * iova.c - which addresses are free
 *
 *   addresses    |-hole-|xxxxx|--hole--|xxx|......not usable......|----hole----|      x: taken
 *
 *                           hole              a tree, by address: base/tree.h
 *                          /    \
 *                       hole    hole          each with the longest fit below it, in each lane
 *
 * A lane is an alignment and a boundary that somebody asks for. A hole's fit in it is the longest range
 * that begins in the hole at such an alignment and crosses no such boundary; so that a range fits into
 * a hole exactly if it is not longer than the fit, and the highest place is found by one way down:
 *
 *   hole, 10 granules      |. . . . . . . . . .|
 *   boundary, 8 granules       |               |               its fit in this lane is 8
 *
 * Fits are counted in units of IOVA_UNIT, up to FIT_MAX, so that taking some of what is very large changes no
 * fit on the way up. A lane begins when its pair is first asked for, and is the next pair's when all lanes are in
 * use and nobody has asked for it for longest: then each hole's fit is computed once.
 *
 * Searching goes from the top down, so that low addresses are left for devices that can't send
 * high ones.
 */
#include "iova/iova.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

/* In units: 16 TiB, or more. */
#define FIT_MAX UINT32_MAX

enum { BLOCK_HOLES = 64 };

struct iova_hole {
	struct tree_node node; /* its key is the first address */
	uint64_t last;
	uint32_t best[IOVA_LANES];
};

/* What is searched for, offset and all. */
struct fit_request {
	const struct iova_lane *lane;
	uint64_t size, want; /* in bytes, and in units */
	uint64_t last;
};

struct iova_block {
	struct iova_block *next;
	struct iova_hole holes[BLOCK_HOLES];
};

static struct iova_hole *hole_of(struct tree_node *node)
{
	return (struct iova_hole *)node; /* the first member */
}

static void hole_put(struct iova_space *space, struct iova_hole *hole)
{
	hole->node.parent = space->spare ? &space->spare->node : NULL;
	space->spare = hole;
}

static struct iova_hole *hole_before(const struct iova_space *space, uint64_t address)
{
	return hole_of(tree_before(&space->free, address));
}

/* The next higher one; of NULL the lowest. */
static struct iova_hole *hole_next(const struct iova_space *space, const struct iova_hole *hole)
{
	return hole_of(tree_next(&space->free, hole ? &hole->node : NULL, TREE_HIGHER));
}

/* ---- fits ---- */

static inline uint64_t longer(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static inline uint64_t shorter(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The longest range that fits into a hole, in a lane. */
static uint32_t hole_fit(const struct iova_hole *hole, const struct iova_lane *lane)
{
	uint64_t first = align_up(hole->node.key, lane->align), end, size;

	if (first > hole->last || first < hole->node.key)
		return 0;
	/* Up to the boundary; or from there on, to the next one at most. */
	end = first | lane->boundary;
	if (hole->last <= end)
		size = hole->last - first + 1;
	else
		size = longer(end - first + 1, shorter(hole->last - end, lane->boundary + 1));
	return (uint32_t)shorter(size / IOVA_UNIT, FIT_MAX);
}

/* The highest place in a hole; 0, which is never free, when there is none. */
static inline uint64_t hole_place(const struct iova_hole *hole, const struct fit_request *request)
{
	uint64_t last = shorter(hole->last, request->last), size = request->size, first, edge;

	if (last < hole->node.key || last - hole->node.key < size - 1)
		return 0;
	first = (last - (size - 1)) & ~(request->lane->align - 1);
	/* If it crosses a boundary: what ends in front of that. */
	edge = (first + (size - 1)) & ~request->lane->boundary;
	if (edge > first)
		first = (edge - size) & ~(request->lane->align - 1);
	return first >= hole->node.key ? first : 0;
}

static uint32_t best_of(const struct tree_node *node, unsigned int lane)
{
	return node ? ((const struct iova_hole *)node)->best[lane] : 0;
}

static bool lane_renew(const struct iova_space *space, struct iova_hole *hole, unsigned int lane)
{
	uint32_t best = hole_fit(hole, &space->lanes[lane]);
	uint32_t lower = best_of(hole->node.child[TREE_LOWER], lane);
	uint32_t higher = best_of(hole->node.child[TREE_HIGHER], lane);
	uint32_t before = hole->best[lane];

	best = best > lower ? best : lower;
	hole->best[lane] = best > higher ? best : higher;
	return hole->best[lane] != before;
}

static bool hole_renew(const struct tree *tree, struct tree_node *node)
{
	const struct iova_space *space = (const struct iova_space *)tree; /* the first member */
	bool changed = false;

	for (unsigned int lane = 0; lane < space->lane_count; lane++)
		changed |= lane_renew(space, hole_of(node), lane);
	return changed;
}

/* All holes' fits in a new lane. */
static void lane_fill(const struct iova_space *space, struct tree_node *node, unsigned int lane)
{
	if (!node)
		return;
	lane_fill(space, node->child[TREE_LOWER], lane);
	lane_fill(space, node->child[TREE_HIGHER], lane);
	lane_renew(space, hole_of(node), lane);
}

static __attribute__((noinline)) unsigned int lane_begin(struct iova_space *space, uint64_t align,
							 uint64_t boundary)
{
	unsigned int lane = 0;

	if (space->lane_count < IOVA_LANES)
		lane = space->lane_count++;
	else
		for (unsigned int i = 1; i < IOVA_LANES; i++)
			if (space->lanes[i].used < space->lanes[lane].used)
				lane = i;
	space->lanes[lane] = (struct iova_lane){align, boundary, 0};
	lane_fill(space, space->free.root, lane);
	return lane;
}

static struct iova_lane *lane_of(struct iova_space *space, uint64_t align, uint64_t boundary)
{
	unsigned int lane = 0;

	while (lane < space->lane_count &&
	       (space->lanes[lane].align != align || space->lanes[lane].boundary != boundary))
		lane++;
	if (lane == space->lane_count)
		lane = lane_begin(space, align, boundary);
	space->lanes[lane].used = ++space->clock;
	return &space->lanes[lane];
}

/* ---- holes ---- */

/* Holes for `more` ranges beside those that are free and those that may come back. */
static int space_reserve(struct iova_space *space, size_t more)
{
	while (space->holes < space->taken + space->added + space->usable_count + more) {
		struct iova_block *block = calloc(1, sizeof(*block));

		if (!block)
			return -ENOMEM;
		block->next = space->blocks;
		space->blocks = block;
		space->holes += BLOCK_HOLES;
		for (size_t i = 0; i < BLOCK_HOLES; i++)
			hole_put(space, &block->holes[i]);
	}
	return 0;
}

static void hole_insert(struct iova_space *space, uint64_t first, uint64_t last,
			struct iova_hole *before)
{
	struct iova_hole *hole = space->spare;

	space->spare = hole_of(hole->node.parent);
	hole->node.key = first;
	hole->last = last;
	space->count++;
	tree_insert(&space->free, &hole->node, before ? &before->node : NULL);
}

static void hole_remove(struct iova_space *space, struct iova_hole *hole)
{
	tree_remove(&space->free, &hole->node);
	space->count--;
	hole_put(space, hole);
}

/* Make first..last free; neighbours merge. */
static void range_give(struct iova_space *space, uint64_t first, uint64_t last)
{
	struct iova_hole *lower = hole_before(space, first), *higher = hole_next(space, lower);
	bool joins_lower = lower && lower->last + 1 == first;
	bool joins_higher = higher && higher->node.key == last + 1;

	if (!joins_lower && !joins_higher) {
		hole_insert(space, first, last, lower);
		return;
	}
	if (joins_lower && joins_higher) {
		last = higher->last;
		hole_remove(space, higher);
	}
	if (joins_lower)
		lower->last = last;
	else
		higher->node.key = first;
	tree_renew(&space->free, joins_lower ? &lower->node : &higher->node);
}

/* Take first..last out of a hole that they lie in. There is a hole for one more. */
static void range_take(struct iova_space *space, struct iova_hole *hole, uint64_t first,
		       uint64_t last)
{
	uint64_t end = hole->last;

	if (first == hole->node.key && last == end) {
		hole_remove(space, hole);
		return;
	}
	if (first == hole->node.key)
		hole->node.key = last + 1;
	else
		hole->last = first - 1;
	tree_renew(&space->free, &hole->node);
	if (hole->last != end && last != end)
		hole_insert(space, last + 1, end, hole);
}

/* Take first..last out of the holes, whatever of it is free. */
static void range_cut(struct iova_space *space, uint64_t first, uint64_t last)
{
	struct iova_hole *hole = hole_before(space, first), *next;

	if (!hole || hole->last < first)
		hole = hole_next(space, hole);
	for (; hole && hole->node.key <= last; hole = next) {
		next = hole_next(space, hole);
		range_take(space, hole, longer(first, hole->node.key), shorter(last, hole->last));
	}
}

/* ---- searching: the hole, or NULL; *place is the highest place in it ---- */

/* Beyond what fits tell: one hole after the other. There are a few as large. */
static struct iova_hole *find_huge(const struct iova_space *space,
				   const struct fit_request *request, uint64_t *place)
{
	struct tree_node *node = tree_before(&space->free, request->last);

	while (node && !(*place = hole_place(hole_of(node), request)))
		node = tree_next(&space->free, node, TREE_LOWER);
	return hole_of(node);
}

/* There is one in the subtree, and all of that is below the limit. */
static struct iova_hole *find_below(struct tree_node *node, unsigned int lane,
				    const struct fit_request *request, uint64_t *place)
{
	for (;;) {
		if (best_of(node->child[TREE_HIGHER], lane) >= request->want)
			node = node->child[TREE_HIGHER];
		else if ((*place = hole_place(hole_of(node), request)))
			return hole_of(node);
		else
			node = node->child[TREE_LOWER];
	}
}

static struct iova_hole *find_hole(const struct iova_space *space,
				   const struct fit_request *request, uint64_t *place)
{
	unsigned int lane = (unsigned int)(request->lane - space->lanes);
	struct tree_node *node = space->free.root, *found = NULL;

	/* Down beside the limit. Of what begins at or below it one hole may reach above it: the last one. */
	while (best_of(node, lane) >= request->want) {
		bool below = node->key <= request->last;
		uint64_t at = below ? hole_place(hole_of(node), request) : 0;

		if (at || (below && best_of(node->child[TREE_LOWER], lane) >= request->want)) {
			found = node;
			*place = at;
		}
		node = node->child[below];
	}
	if (!found || *place)
		return hole_of(found);
	return find_below(found->child[TREE_LOWER], lane, request, place);
}

static struct iova_hole *find(struct iova_space *space, const struct iova_wish *wish,
			      uint64_t *first)
{
	uint64_t boundary = wish->boundary ? wish->boundary : UINT64_MAX;
	struct fit_request request = {
		.size = wish->size + wish->offset,
		.want = (wish->size + wish->offset) / IOVA_UNIT,
		.last = wish->last,
	};
	struct iova_hole *hole;
	uint64_t place = 0;

	if (request.size < wish->size || request.size - 1 > boundary)
		return NULL;
	/* What is aligned to more than the boundary crosses none. */
	if (wish->align > boundary)
		boundary = UINT64_MAX;
	request.lane = lane_of(space, wish->align, boundary);
	hole = request.want < FIT_MAX ? find_hole(space, &request, &place)
				      : find_huge(space, &request, &place);
	if (hole)
		*first = place + wish->offset;
	return hole;
}

/* ---- what others call ---- */

void iova_space_init(struct iova_space *space)
{
	memset(space, 0, sizeof(*space));
	space->free.renew = hole_renew;
}

void iova_space_destroy(struct iova_space *space)
{
	struct iova_block *block, *next;

	for (block = space->blocks; block; block = next) {
		next = block->next;
		free(block);
	}
	free(space->usable);
	iova_space_init(space);
}

int iova_space_add(struct iova_space *space, uint64_t first, uint64_t last)
{
	int err = space_reserve(space, 1);

	if (err)
		return err;
	space->added++;
	if (first == 0)
		first = 1;
	if (first <= last)
		range_give(space, first, last);
	return 0;
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

int iova_space_take(struct iova_space *space, const struct iova_wish *wish, uint64_t *first)
{
	struct iova_hole *hole;

	if (wish->size == 0 || wish->size % IOVA_UNIT || !is_power_of_two(wish->align) ||
	    wish->offset >= wish->align)
		return -EINVAL;
	if (space_reserve(space, 1))
		return -ENOMEM;
	hole = find(space, wish, first);
	if (!hole)
		return -ENOSPC;
	range_take(space, hole, *first, *first + (wish->size - 1));
	space->taken++;
	return 0;
}

bool iova_space_fits(struct iova_space *space, const struct iova_wish *wish, uint64_t lowest)
{
	uint64_t first;

	return find(space, wish, &first) && first >= lowest;
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
			range_give(space, longer(r->first, first), shorter(r->last, last));
	}
}

bool iova_space_next(const struct iova_space *space, uint64_t address, struct iova_range *range)
{
	const struct iova_hole *hole = hole_next(space, hole_before(space, address));

	if (hole)
		*range = (struct iova_range){hole->node.key, hole->last};
	return hole;
}

uint64_t iova_space_free(const struct iova_space *space, uint64_t last)
{
	const struct iova_hole *hole = hole_next(space, NULL);
	uint64_t sum = 0;

	for (; hole && hole->node.key <= last; hole = hole_next(space, hole))
		sum += shorter(hole->last, last) - hole->node.key + 1;
	return sum;
}
