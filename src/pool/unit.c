/* SPDX-License-Identifier: MIT */
/*
 * unit.c - units of a pool's memory, and the state of every block in them
 *
 * A unit is a page, or a run of pages that holds one block larger than a page:
 *
 *   unit, aligned to the power of two that covers it
 *   |blk0|blk1|blk2|blk3|..|blk0|blk1|blk2|blk3|..|
 *   ^ boundary             ^ boundary: the blocks begin anew, the rest before it is waste
 *
 * Its entry in the page map holds a state byte for each block, or points to an array of them where
 * there are more than fit; none of it can be reached by the device. Units with unused blocks hang in
 * a list, so that taking a block never searches; the others are found by the page map when the pool
 * ends.
 */
#include "pool/pool_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"

/* State arrays kept ready for GFP_ATOMIC, where a unit has more blocks than its entry holds. */
#define UNIT_SPARE_ARRAYS ARENA_RESERVE_PAGES

static uint32_t block_offset(const struct dma_pool *pool, uint32_t block)
{
	uint32_t segment = pool->reciprocal ? 0 : block / pool->per_segment;

	return (segment << pool->segment_log2) + (block - segment * pool->per_segment) * pool->size;
}

uint32_t unit_block_number(const struct dma_pool *pool, size_t offset)
{
	uint32_t segment, in_segment, number;

	if (pool->per_unit == 1)
		return offset ? UINT32_MAX : 0;
	segment = (uint32_t)offset >> pool->segment_log2;
	in_segment = (uint32_t)offset & ((1u << pool->segment_log2) - 1);
	number = in_segment / pool->size;
	if (number >= pool->per_segment || number * pool->size != in_segment)
		return UINT32_MAX;
	return segment * pool->per_segment + number;
}

/* ---- state arrays ---- */

static bool states_inline(const struct dma_pool *pool)
{
	return pool->state_count <= sizeof(((struct page *)NULL)->unit.inline_state);
}

static uint8_t *spare_pop(struct dma_pool *pool)
{
	uint8_t *states;

	pthread_spin_lock(&pool->lock);
	states = pool->spare;
	if (states) {
		memcpy(&pool->spare, states, sizeof(pool->spare));
		pool->spare_count--;
	}
	pthread_spin_unlock(&pool->lock);
	return states;
}

static void spare_push(struct dma_pool *pool, uint8_t *states)
{
	pthread_spin_lock(&pool->lock);
	memcpy(states, &pool->spare, sizeof(pool->spare));
	pool->spare = states;
	pool->spare_count++;
	pthread_spin_unlock(&pool->lock);
}

int units_prepare(struct dma_pool *pool)
{
	size_t missing = 0;

	if (states_inline(pool))
		return 0;
	pthread_spin_lock(&pool->lock);
	if (pool->spare_count < UNIT_SPARE_ARRAYS)
		missing = UNIT_SPARE_ARRAYS - pool->spare_count;
	pthread_spin_unlock(&pool->lock);
	while (missing--) {
		uint8_t *states = calloc(1, pool->state_count);

		if (!states)
			return error_set(ENOMEM, "no memory for the bookkeeping of pool %s",
					 pool->name);
		spare_push(pool, states);
	}
	return 0;
}

/* ---- blocks ---- */

static void unit_push(struct page **list, struct page *unit)
{
	unit->unit.next = *list;
	*list = unit;
}

/* From the first unit of the list, the lowest last; the lock is held. */
static uint32_t unit_take(struct dma_pool *pool, struct parked *end, uint32_t n,
			  enum block_state state)
{
	struct page *unit = pool->units;
	char *base = pagemap_address(&pool->place.arena->pagemap, unit);
	uint64_t dma_offset = unit->dma_offset;
	uint8_t *states = unit->unit.state;
	uint32_t block = unit->unit.lowest, left;

	if (n > unit->unit.unused_count)
		n = unit->unit.unused_count;
	for (left = n; left; block++) {
		if (state_read(&states[block]) != BLOCK_UNUSED)
			continue;
		state_write(&states[block], state);
		end--;
		end->vaddr = base + block_offset(pool, block);
		end->handle = (uintptr_t)end->vaddr + dma_offset;
		end->state = &states[block];
		left--;
	}
	unit->unit.lowest = block;
	unit->unit.unused_count -= n;
	if (!unit->unit.unused_count)
		pool->units = unit->unit.next;
	return n;
}

uint32_t units_take(struct dma_pool *pool, struct parked *blocks, uint32_t n,
		    enum block_state state)
{
	struct parked *end = blocks + n;
	uint32_t taken = 0;
	size_t away;

	while (taken < n && pool->units)
		taken += unit_take(pool, end - taken, n - taken, state);
	pool->unused -= taken;
	away = pool->unit_count * pool->per_unit - pool->unused;
	if (away > pool->high_water)
		pool->high_water = away;
	if (taken < n)
		memmove(blocks, end - taken, taken * sizeof(*blocks));
	return taken;
}

/* Blocks from the front of the array that lie in one unit; how many, of which *bad were not parked. */
static uint32_t unit_put(struct dma_pool *pool, const struct parked *blocks, uint32_t n,
			 uint32_t *bad)
{
	const struct pagemap *map = &pool->place.arena->pagemap;
	struct page *unit = unit_of(pagemap_find(map, blocks->vaddr));
	uint8_t *states = unit->unit.state;
	uint32_t lowest = unit->unit.lowest, put = 0, i;

	for (i = 0; i < n; i++) {
		size_t block = (size_t)(blocks[i].state - states);

		if (block >= pool->per_unit)
			break;
		if (unlikely(state_read(&states[block]) != BLOCK_PARKED))
			continue;
		state_write(&states[block], BLOCK_UNUSED);
		lowest = block < lowest ? (uint32_t)block : lowest;
		put++;
	}
	if (put && unit->unit.unused_count == 0)
		unit_push(&pool->units, unit);
	unit->unit.lowest = lowest;
	unit->unit.unused_count += put;
	pool->unused += put;
	*bad += i - put;
	return i;
}

uint32_t units_put(struct dma_pool *pool, const struct parked *blocks, uint32_t n)
{
	uint32_t bad = 0;

	for (uint32_t i = 0; i < n;)
		i += unit_put(pool, blocks + i, n - i, &bad);
	return bad;
}

/* ---- growing and shrinking ---- */

/* A state array for a unit to come; NULL when gfp does not let it be had. */
static uint8_t *states_get(struct dma_pool *pool, gfp_t gfp)
{
	uint8_t *states = spare_pop(pool);

	if (!states && (gfp & __GFP_RECLAIM))
		states = calloc(1, pool->state_count);
	if (!states)
		error_set(ENOMEM, "pool %s: no memory for bookkeeping%s", pool->name,
			  gfp & __GFP_RECLAIM ? ""
					      : " is ready, and GFP_ATOMIC does not get more: "
						"allocate ahead with GFP_KERNEL");
	return states;
}

int units_grow(struct dma_pool *pool, gfp_t gfp)
{
	uint8_t *states = NULL;
	struct page *unit;
	int err;

	if (gfp & __GFP_RECLAIM)
		units_prepare(pool); /* for others; our own is had below */
	if (!states_inline(pool)) {
		states = states_get(pool, gfp);
		if (!states)
			return -ENOMEM;
	}
	err = arena_take(pool->place.arena, &pool->tenant, pool->unit_size, pool->unit_align, gfp,
			 &unit);
	if (err) {
		if (states)
			spare_push(pool, states);
		return err;
	}
	if (!states)
		states = unit->unit.inline_state;
	memset(states, BLOCK_UNUSED, pool->state_count);
	unit->unit.state = states;
	unit->unit.unused_count = pool->per_unit;
	unit->unit.lowest = 0;

	pthread_spin_lock(&pool->lock);
	unit_push(&pool->units, unit);
	pool->unit_count++;
	pool->unused += pool->per_unit;
	pool->grows++;
	pthread_spin_unlock(&pool->lock);
	return 0;
}

/* Units that are in no list any more go to the arena. */
static void units_give(struct dma_pool *pool, struct page *unit)
{
	while (unit) {
		struct page *next = unit->unit.next;

		if (!states_inline(pool))
			free(unit->unit.state);
		arena_give(pool->place.arena, unit);
		unit = next;
	}
}

void units_trim(struct dma_pool *pool)
{
	struct page **link = &pool->units, *idle = NULL, *unit;

	pthread_spin_lock(&pool->lock);
	while ((unit = *link)) {
		if (unit->unit.unused_count != pool->per_unit) {
			link = &unit->unit.next;
			continue;
		}
		*link = unit->unit.next;
		unit_push(&idle, unit);
		pool->unit_count--;
		pool->unused -= pool->per_unit;
	}
	pthread_spin_unlock(&pool->lock);
	units_give(pool, idle);
}

static bool unit_is_busy(const struct dma_pool *pool, const struct page *unit)
{
	for (uint32_t i = 0; i < pool->per_unit; i++)
		if (state_read(&unit->unit.state[i]) == BLOCK_OUT)
			return true;
	return false;
}

struct end {
	struct dma_pool *pool;
	bool busy;
};

static void unit_end(struct arena *arena, struct page *unit, void *context)
{
	struct end *end = context;

	if (unit->tenant != &end->pool->tenant)
		return;
	if (!unit_is_busy(end->pool, unit)) {
		unit->unit.next = NULL;
		units_give(end->pool, unit);
		return;
	}
	end->busy = true;
	if (!states_inline(end->pool))
		free(unit->unit.state);
	arena_hand_over(arena, unit, end->pool->place.orphans);
}

bool units_end(struct dma_pool *pool)
{
	struct end end = {.pool = pool};
	uint8_t *states;

	if (pool->unit_count)
		arena_for_each_run(pool->place.arena, pool->place.limits, unit_end, &end);
	while ((states = spare_pop(pool)))
		free(states);
	return end.busy;
}
