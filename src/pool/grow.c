/* SPDX-License-Identifier: MIT */
/*
 * grow.c - units that come and go: pages of the arena, carved; and given back
 *
 *   arena --> run of a shelf |page|page|page|page|  --> units in the shelf's list
 *                                                   <-- idle ones
 *
 * A shelf takes several pages at a time, the more the more its threads use. Until they are carved they
 * are no units, and go back when the pool is trimmed. Units go back when they are idle: when the pool
 * is trimmed, when others need them, and when they were not needed for long.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "pool/debug.h"
#include "pool/magazine.h"

/* Pages that a shelf takes from the arena at a time. */
#define UNIT_RUN_MAX 64

/* One in so many units may be carved ahead. */
#define UNIT_EXCESS 32

/* All blocks of a unit are unused. */
static void unit_fill(const struct dma_pool *pool, struct page *unit)
{
	uint64_t *words;

	unit->unit.unused = (UINT64_C(2) << (pool->words - 1)) - 1;
	words = unit_words(pool, unit);
	for (uint32_t w = 0; w < pool->words; w++)
		words[w] = ~UINT64_C(0);
	if (pool->per_unit % 64)
		words[pool->words - 1] >>= 64 - pool->per_unit % 64;
}

/* Up to n pages of a shelf's run that waits to be carved; how many, which may be none. */
static size_t run_next(struct shelf *shelf, size_t n, struct page **first)
{
	pthread_spin_lock(&shelf->lock);
	if (n > shelf->run_pages)
		n = shelf->run_pages;
	*first = shelf->run;
	if (n) {
		shelf->run += n;
		shelf->run_pages -= n;
	}
	pthread_spin_unlock(&shelf->lock);
	return n;
}

/* Pages that wait to be carved go back to the arena. */
static void runs_give(struct dma_pool *pool)
{
	for (uint32_t i = 0; i < pool->shelf_count; i++) {
		struct page *first;
		size_t n = run_next(&pool->shelves[i], SIZE_MAX, &first);

		while (n--)
			arena_give(pool->place.arena, first++);
	}
}

/* So many units, about, do the shelf's threads use. Those that hand blocks over have any number. */
static size_t units_used(struct dma_pool *pool, const struct shelf *shelf)
{
	ptrdiff_t taken = racy_load(&shelf->taken);
	size_t used = taken > 0 ? (size_t)taken / pool->per_unit : 0;

	pthread_spin_lock(&pool->lock);
	if (used > pool->unit_count)
		used = pool->unit_count;
	pthread_spin_unlock(&pool->lock);
	return used;
}

/* The more the more its threads use. */
static size_t run_want(struct dma_pool *pool, const struct shelf *shelf)
{
	size_t want = units_used(pool, shelf) / 4;

	return want < UNIT_RUN_MAX ? want : UNIT_RUN_MAX;
}

/*
 * Several pages at a time; the first is for now, the others wait. GFP_ATOMIC takes no more than it
 * needs: what is left for it is for all pools.
 */
static bool run_take(struct dma_pool *pool, struct shelf *shelf, gfp_t gfp, struct page **first)
{
	size_t n;

	if (pool->unit_size != ARENA_PAGE || !(gfp & __GFP_RECLAIM))
		return false;
	n = arena_take_pages(pool->place.arena, &pool->uncarved, run_want(pool, shelf), gfp, first);
	if (!n)
		return false;
	pthread_spin_lock(&shelf->lock);
	if (!shelf->run_pages) { /* else another thread came first */
		shelf->run = *first + 1;
		shelf->run_pages = n - 1;
		n = 1;
	}
	pthread_spin_unlock(&shelf->lock);
	while (--n)
		arena_give(pool->place.arena, *first + n);
	return true;
}

/* Memory for a unit. 0 or -ENOMEM in words. */
static int unit_get(struct dma_pool *pool, gfp_t gfp, struct page **unit)
{
	struct shelf *own = shelf_of_thread(pool);

	if (run_next(own, 1, unit) || run_take(pool, own, gfp, unit))
		return 0;
	for (uint32_t i = 1; !(gfp & __GFP_RECLAIM) && i < pool->shelf_count; i++)
		if (run_next(shelf_to_search(pool, i), 1, unit))
			return 0;
	return arena_take(pool->place.arena, &pool->uncarved, pool->unit_size, pool->unit_align,
			  gfp, unit);
}

static void unit_set_tenant(struct page *unit, struct arena_tenant *tenant)
{
	for (uint32_t i = 0; i < unit->run_pages; i++)
		page_set_tenant(&unit[i], tenant);
}

/* A free looks at the page that it is told: no block is out where none begins. */
static void unit_set_states(struct page *unit, uint8_t *states)
{
	unit->unit.state = states;
	for (uint32_t i = 1; i < unit->run_pages; i++) {
		unit[i].unit.state = unit[i].unit.inline_state;
		unit[i].unit.inline_state[0] = BLOCK_FREE;
	}
}

/* Pages that `uncarved` has become a unit. */
static void unit_carve(struct dma_pool *pool, struct page *unit)
{
	uint8_t *states = states_of(pool, unit);

	memset(states, BLOCK_FREE, pool->per_unit);
	unit->unit.base = pagemap_address(&pool->place.arena->pagemap, unit);
	unit_set_states(unit, states);
	unit_fill(pool, unit);
	if (unlikely(pool->debug))
		debug_unit_begin(pool, unit);
}

/* So many units, neighbours, are the pool's from now on: the lowest is the next to take from. */
static void units_enter(struct dma_pool *pool, struct page *first, size_t n)
{
	struct shelf *own = shelf_of_thread(pool);

	pthread_spin_lock(&pool->lock);
	pool->unit_count += n;
	pool->grows += n;
	pthread_spin_lock(&own->lock);
	while (n-- > 0) {
		unit_push(pool, own, &first[n]);
		unit_set_tenant(&first[n], &pool->tenant); /* frees may look at it now */
	}
	pthread_spin_unlock(&own->lock);
	pthread_spin_unlock(&pool->lock);
}

/* A large pool grows by several units: no more than it may have too many of. */
static void units_add_ahead(struct dma_pool *pool)
{
	struct shelf *own = shelf_of_thread(pool);
	struct page *first;
	size_t n = run_next(own, units_used(pool, own) / UNIT_EXCESS, &first);

	for (size_t i = 0; i < n; i++)
		unit_carve(pool, &first[i]);
	if (n)
		units_enter(pool, first, n);
}

int units_grow(struct dma_pool *pool, gfp_t gfp)
{
	struct page *unit;
	int err = unit_get(pool, gfp, &unit);

	if (err)
		return err;
	unit_carve(pool, unit);
	units_enter(pool, unit, 1);
	if (states_inline(pool))
		units_add_ahead(pool);
	if (gfp & __GFP_RECLAIM)
		depot_grow(pool); /* that there are fewer is no failure */
	return 0;
}

bool units_grow_apart(struct dma_pool *pool)
{
	struct error_state before;
	bool grown;

	error_keep(&before); /* that it fails is no failure of the call */
	grown = units_grow(pool, GFP_KERNEL | __GFP_NORETRY) == 0;
	error_put_back(&before);
	if (!grown)
		pool_set_crowded(pool);
	return grown;
}

/* Units that are in no list any more go to the arena. */
static void units_give(struct dma_pool *pool, uint32_t list)
{
	while (list != UNIT_NONE) {
		struct page *unit = &pool->pages[list];

		list = unit_next(unit);

		if (unlikely(pool->debug))
			debug_unit_end(pool, unit);
		if (!states_inline(pool))
			memset(unit->unit.state, BLOCK_FREE, pool->per_unit);
		arena_give(pool->place.arena, unit);
	}
}

/* Idle units of a shelf, up to max, move to a list; how many. The locks are held. */
static size_t shelf_trim(struct dma_pool *pool, const struct shelf *shelf, uint32_t *idle,
			 size_t max)
{
	struct page *unit, *before = NULL;
	size_t n = 0;

	for (uint32_t at = shelf->units; at != UNIT_NONE && n < max;) {
		unit = &pool->pages[at];
		at = unit_next(unit);
		if (!unit_may_leave(pool, unit)) {
			before = unit;
			continue;
		}
		unit_unlink(pool, before, unit);
		unit_set_tenant(unit, &pool->uncarved); /* nobody finds it any more */
		unit_set_link(unit, *idle, 0);
		*idle = (uint32_t)(unit - pool->pages);
		n++;
	}
	return n;
}

size_t units_trim(struct dma_pool *pool, size_t max)
{
	uint32_t idle = UNIT_NONE;
	size_t n = 0;

	pthread_spin_lock(&pool->lock);
	shelves_lock(pool);
	while (depot_open(pool))
		;
	for (uint32_t i = 0; i < pool->shelf_count; i++)
		n += shelf_trim(pool, shelf_to_search(pool, i), &idle, max - n);
	shelves_unlock(pool);
	pool->unit_count -= n;
	pthread_spin_unlock(&pool->lock);
	units_give(pool, idle);
	runs_give(pool);
	depot_shrink(pool);
	return n;
}

/* What is needed is found out from now on. Lock held. */
static void look_anew(struct dma_pool *pool)
{
	uint32_t at_work = 0;

	shelves_lock(pool);
	for (uint32_t i = 0; i < pool->shelf_count; i++) {
		struct shelf *shelf = &pool->shelves[i];

		at_work += shelf->fills != 0;
		__atomic_store_n(&shelf->fills, 0, __ATOMIC_RELAXED);
		shelf->searched = 0;
		shelf->peak = shelf->taken;
	}
	pool->recent_high = 0;
	pool_note_away(pool, pool_away(pool));
	shelves_unlock(pool);
	pool->parted = pool->parted && at_work > 1;
	pool->crowded = false;
	pool_set_reap_due(pool, false);
}

void units_reap(struct dma_pool *pool)
{
	size_t blocks, needed, surplus = 0;

	pthread_spin_lock(&pool->lock);
	if (pool->reap_due) {
		blocks = pool->unit_count * pool->per_unit;
		needed = pool->parted ? 2 * pool->recent_high : pool->recent_high;
		if (needed < blocks)
			surplus = (blocks - needed) / pool->per_unit / 2;
		look_anew(pool);
	}
	pthread_spin_unlock(&pool->lock);
	if (surplus && units_trim(pool, surplus))
		arena_trim(pool->place.arena, ARENA_RESERVE_PAGES);
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

	if (page_tenant(unit) != &end->pool->tenant) /* other pools' come and go meanwhile */
		return;
	if (!unit_is_busy(end->pool, unit)) {
		unit_set_link(unit, UNIT_NONE, 0);
		units_give(end->pool, (uint32_t)(unit - end->pool->pages));
		return;
	}
	end->busy = true;
	if (unlikely(end->pool->debug))
		debug_unit_end(end->pool, unit);
	arena_hand_over(arena, unit, end->pool->place.orphans);
}

bool units_end(struct dma_pool *pool)
{
	struct end end = {.pool = pool};

	runs_give(pool);
	if (pool->unit_count)
		arena_for_each_run(pool->place.arena, pool->place.limits, unit_end, &end);
	depot_end(pool);
	return end.busy;
}

struct list {
	const struct dma_pool *pool;
	uint32_t *units;
	size_t count, max;
};

static void unit_list(struct arena *arena, struct page *unit, void *context)
{
	struct list *list = context;

	(void)arena;
	if (page_tenant(unit) == &list->pool->tenant && list->count < list->max)
		list->units[list->count++] = (uint32_t)(unit - list->pool->pages);
}

uint32_t *units_list(struct dma_pool *pool, size_t *count)
{
	struct list list = {.pool = pool};

	pthread_spin_lock(&pool->lock);
	list.max = pool->unit_count;
	pthread_spin_unlock(&pool->lock);
	list.units = malloc((list.max + 1) * sizeof(*list.units));
	if (list.units && list.max)
		arena_for_each_run(pool->place.arena, pool->place.limits, unit_list, &list);
	*count = list.count;
	return list.units;
}
