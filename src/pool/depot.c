/* SPDX-License-Identifier: MIT */
/*
 * depot.c - the shelves, and halves of magazines that wait there
 *
 *   shelf   full  [c c c c c c c c] [c c c c c c c c]     empty  [. . . . . . . .]
 *           units with unused blocks (unit.c)
 *
 * A thread exchanges halves with the shelf that is its own, under a lock that hardly anybody else
 * wants: so two threads that use a pool do not wait for each other, nor for the lock's line of the
 * cache. What is not to be had there is looked for on the others, with the locks of all.
 *
 * How many blocks are away is not counted but summed up over the shelves, where it matters: when one
 * gave more than ever since look_anew(), and now and then.
 */
#include "pool/magazine.h"

#include <errno.h>
#include <stdlib.h>

#include "base/error.h"

/* So often magazines are filled at the least, before it is looked whether the pool has too much. */
#define UNIT_REAP_FILLS 1024

void shelves_lock(struct dma_pool *pool)
{
	for (uint32_t i = 0; i < pool->shelf_count; i++)
		pthread_spin_lock(&pool->shelves[i].lock);
}

void shelves_unlock(struct dma_pool *pool)
{
	for (uint32_t i = pool->shelf_count; i-- > 0;)
		pthread_spin_unlock(&pool->shelves[i].lock);
}

size_t pool_away(const struct dma_pool *pool)
{
	ptrdiff_t away = 0;

	for (uint32_t i = 0; i < pool->shelf_count; i++)
		away += racy_load(&pool->shelves[i].taken);
	return away > 0 ? (size_t)away : 0; /* some may have been put since they were counted */
}

void pool_note_away(struct dma_pool *pool, size_t away)
{
	if (away > pool->recent_high)
		pool->recent_high = away;
	if (away > pool->high_water)
		pool->high_water = away;
}

/* Four passes over all of the pool's blocks, and not a few fills. Lock held. */
static bool fills_are_many(const struct dma_pool *pool)
{
	size_t blocks = pool->unit_count * pool->per_unit, fills = 0;

	for (uint32_t i = 0; i < pool->shelf_count; i++)
		fills += racy_load(&pool->shelves[i].fills);
	return fills >= UNIT_REAP_FILLS &&
	       fills >= 4 * (pool->id ? blocks / pool->half_max : blocks);
}

/*
 * A shelf whose blocks are put on others gives more than ever at each fill, which means nothing:
 * until look_anew() it has no peaks. pool->lock is held.
 */
static void shelf_forget_peak(struct dma_pool *pool, struct shelf *shelf)
{
	pthread_spin_lock(&shelf->lock);
	if (shelf->taken > (ptrdiff_t)(pool->unit_count * pool->per_unit))
		shelf->peak = PTRDIFF_MAX;
	pthread_spin_unlock(&shelf->lock);
}

void pool_look(struct dma_pool *pool)
{
	pthread_spin_lock(&pool->lock);
	if (fills_are_many(pool))
		pool_set_reap_due(pool, true);
	shelf_forget_peak(pool, shelf_of_thread(pool));
	if (pool_away(pool) > pool->recent_high) { /* it may seem so while blocks change hands */
		shelves_lock(pool);
		pool_note_away(pool, pool_away(pool));
		shelves_unlock(pool);
	}
	pthread_spin_unlock(&pool->lock);
}

void pool_set_crowded(struct dma_pool *pool)
{
	pthread_spin_lock(&pool->lock);
	pool->crowded = true;
	pthread_spin_unlock(&pool->lock);
}

bool depot_may_part(struct dma_pool *pool)
{
	size_t blocks;
	bool may;

	pthread_spin_lock(&pool->lock);
	blocks = pool->unit_count * pool->per_unit;
	may = !pool->crowded && blocks < 2 * pool->recent_high;
	if (may && pool_away(pool) < blocks)
		pool->parted = true;
	pthread_spin_unlock(&pool->lock);
	return may;
}

/* ---- exchanges ---- */

struct shelf *depot_find_full(struct dma_pool *pool)
{
	struct shelf *own = shelf_of_thread(pool);

	if (own->full || own->units != UNIT_NONE || !states_inline(pool))
		return own->full ? own : NULL;
	for (uint32_t i = 1; i < pool->shelf_count; i++)
		if (shelf_to_search(pool, i)->full)
			return shelf_to_search(pool, i);
	return NULL;
}

/* An empty half comes to this thread's shelf from where there are more. */
static void empty_fetch(struct dma_pool *pool)
{
	struct shelf *own = shelf_of_thread(pool);

	shelves_lock(pool);
	for (uint32_t i = 1; i < pool->shelf_count && !own->empty; i++) {
		struct shelf *other = shelf_to_search(pool, i);

		if (other->empty && other->halves > own->halves) {
			half_push(&own->empty, half_pop(&other->empty));
			other->halves--;
			own->halves++;
		}
	}
	own->searched = own->empty ? 0 : racy_load(&pool->half_count);
	shelves_unlock(pool);
}

bool depot_put(struct dma_pool *pool, struct half **full)
{
	struct shelf *own = shelf_of_thread(pool);
	bool put;

	pthread_spin_lock(&own->lock);
	if (!own->empty && own->searched != racy_load(&pool->half_count)) {
		pthread_spin_unlock(&own->lock);
		empty_fetch(pool);
		pthread_spin_lock(&own->lock);
	}
	put = own->empty;
	if (put) {
		half_push(&own->full, *full);
		shelf_set_taken(own, own->taken - (ptrdiff_t)own->full->count);
		__atomic_store_n(full, half_pop(&own->empty), __ATOMIC_RELAXED);
	}
	pthread_spin_unlock(&own->lock);
	return put;
}

bool depot_open(struct dma_pool *pool)
{
	for (uint32_t i = 0; i < pool->shelf_count; i++) {
		struct shelf *shelf = shelf_to_search(pool, i);

		if (shelf->full) {
			struct half *half = half_pop(&shelf->full);
			uint32_t bad = units_put(pool, half_begin(half), half->count);

			shelf_set_taken(shelf, shelf->taken + (ptrdiff_t)bad); /* not there */
			pool_note_bad(pool, bad);
			half_set_count(half, 0);
			half_push(&shelf->empty, half);
			return true;
		}
	}
	return false;
}

/* ---- growing and shrinking ---- */

/*
 * So many halves may a pool have. A half takes some 4 bytes a block, so all but the largest blocks have
 * halves for some only: all bookkeeping is to stay below 8 % of 64 bytes and 2 % of 1024. Lock
 * held.
 */
static size_t halves_max(const struct dma_pool *pool)
{
	size_t sixteenths = pool->size < 128 ? 11 : pool->size < ARENA_PAGE ? 12 : 16;

	return pool->id ? sixteenths * pool->unit_count * pool->per_unit / (16 * pool->half_max)
			: 0;
}

/* Lock held; others peek without it. */
static void half_count_set(struct dma_pool *pool, size_t n)
{
	__atomic_store_n(&pool->half_count, n, __ATOMIC_RELAXED);
}

/* How many halves more the pool may have; they count as made. */
static size_t halves_reserve(struct dma_pool *pool)
{
	size_t max, n = 0;

	pthread_spin_lock(&pool->lock);
	max = halves_max(pool);
	if (pool->half_count < max) {
		n = max - pool->half_count;
		half_count_set(pool, max);
	}
	pthread_spin_unlock(&pool->lock);
	return n;
}

int depot_grow(struct dma_pool *pool)
{
	struct shelf *own = shelf_of_thread(pool);
	size_t missing = halves_reserve(pool);
	struct half *made = NULL, *half;

	if (!missing)
		return 0;
	for (; missing && (half = calloc(1, sizeof(*half))); missing--)
		half_push(&made, half);
	pthread_spin_lock(&pool->lock);
	half_count_set(pool, pool->half_count - missing);
	pthread_spin_lock(&own->lock);
	while (made) {
		half_push(&own->empty, half_pop(&made));
		own->halves++;
	}
	pthread_spin_unlock(&own->lock);
	pthread_spin_unlock(&pool->lock);
	if (missing)
		return error_set(ENOMEM, "no memory for the bookkeeping of pool %s", pool->name);
	return 0;
}

void depot_shrink(struct dma_pool *pool)
{
	struct half *surplus = NULL;
	size_t max;

	pthread_spin_lock(&pool->lock);
	shelves_lock(pool);
	max = halves_max(pool);
	for (uint32_t i = 0; i < pool->shelf_count; i++) {
		struct shelf *shelf = &pool->shelves[i];

		while (shelf->empty && pool->half_count > max) {
			half_push(&surplus, half_pop(&shelf->empty));
			shelf->halves--;
			half_count_set(pool, pool->half_count - 1);
		}
	}
	shelves_unlock(pool);
	pthread_spin_unlock(&pool->lock);
	while (surplus)
		free(half_pop(&surplus));
}

void depot_end(struct dma_pool *pool)
{
	for (uint32_t i = 0; i < pool->shelf_count; i++) {
		struct shelf *shelf = &pool->shelves[i];

		while (shelf->full)
			free(half_pop(&shelf->full));
		while (shelf->empty)
			free(half_pop(&shelf->empty));
	}
}
