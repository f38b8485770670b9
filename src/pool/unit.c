/* SPDX-License-Identifier: MIT */
/*
 * unit.c - units of a pool's memory, and which of their blocks are unused
 *
 * A unit is a page, or a run of pages that holds one block larger than a page:
 *
 *   unit, aligned to the power of two that covers it
 *   |blk0|blk1|blk2|blk3|..|blk0|blk1|blk2|blk3|..|
 *   ^ boundary             ^ boundary: the blocks begin anew, the rest before it is waste
 *
 * Its entry in the page map holds a bit for each unused block and a state byte for each block, or
 * points to an array of them where there are more than fit (states.c); none of it can be reached by the
 * device. Units with unused blocks hang in lists, so that taking a block never searches; the others
 * are found by the page map when the pool ends.
 */
#include "pool/pool_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "pool/debug.h"
#include "pool/word.h"

/* Pages that a large pool takes from the arena at a time. */
#define UNIT_RUN_MAX 64

/* One in so many units may be carved ahead. */
#define UNIT_EXCESS 32

/* So many units of another thread are looked at for one that is idle. */
#define UNIT_LOOKS 8

struct block unit_block(const struct dma_pool *pool, block_code code)
{
	struct block block = block_decode(pool, code);
	uint32_t number = code & CODE_NUMBER_MASK;
	uint32_t segment = number / pool->per_segment;
	uint32_t waste = (1u << pool->segment_log2) - pool->per_segment * pool->stride;

	block.vaddr += (size_t)segment * waste;
	block.handle += (size_t)segment * waste;
	return block;
}

uint32_t unit_block_number(const struct dma_pool *pool, size_t offset)
{
	uint32_t segment, in_segment, number;

	if (pool->per_unit == 1)
		return offset ? UINT32_MAX : 0;
	segment = (uint32_t)offset >> pool->segment_log2;
	in_segment = (uint32_t)offset & ((1u << pool->segment_log2) - 1);
	number = in_segment / pool->stride;
	if (number >= pool->per_segment || number * pool->stride != in_segment)
		return UINT32_MAX;
	return segment * pool->per_segment + number;
}

/* ---- blocks ---- */

/*
 * The bits of a unit's unused blocks. One word lies in its entry; several lie before the states, and
 * the entry's then has a bit for each that is not 0.
 */
static uint64_t *unit_words(const struct dma_pool *pool, struct page *unit)
{
	void *states = unit->unit.state;

	return pool->words == 1 ? &unit->unit.unused : (uint64_t *)states - pool->words;
}

/* The unit belongs to this shelf from now on, and is the first of its list. */
static void unit_push(struct dma_pool *pool, struct shelf *shelf, struct page *unit)
{
	unit_set_link(unit, shelf->units, (uint32_t)(shelf - pool->shelves));
	shelf->units = (uint32_t)(unit - pool->pages);
}

/* A unit leaves its shelf's list, where it is behind another one, or NULL if it is the first. */
static void unit_unlink(struct dma_pool *pool, struct page *before, const struct page *unit)
{
	struct shelf *shelf = unit_shelf(pool, unit);

	if (before)
		unit_set_link(before, unit_next(unit), (uint32_t)(shelf - pool->shelves));
	else
		shelf->units = unit_next(unit);
}

/* From one word of bits of the first unit of a shelf, whose lock is held. */
static void unit_take(const struct dma_pool *pool, struct shelf *shelf, block_code **end,
		      uint32_t n)
{
	struct page *unit = &pool->pages[shelf->units];
	uint32_t w = pool->words == 1 ? 0 : (uint32_t)__builtin_ctzll(unit->unit.unused);
	uint64_t *word = unit_words(pool, unit) + w;

	*word = bits_take(*word, block_encode(shelf->units, 64 * w), end, n);
	if (!*word && pool->words > 1)
		unit->unit.unused &= ~(UINT64_C(1) << w);
	if (!unit->unit.unused)
		shelf->units = unit_next(unit);
}

static bool unit_is_idle(const struct dma_pool *pool, struct page *unit)
{
	const uint64_t *words = unit_words(pool, unit);
	uint32_t unused = 0;

	for (uint32_t w = 0; w < pool->words; w++)
		unused += (uint32_t)__builtin_popcountll(words[w]);
	return unused == pool->per_unit;
}

/*
 * A unit with unused blocks moves to this thread's shelf from another: an idle one, if one of the
 * first of a shelf is; or any. False if there is none.
 */
static bool unit_fetch(struct dma_pool *pool, bool any)
{
	for (uint32_t i = 1; i < pool->shelf_count; i++) {
		uint32_t at = shelf_to_search(pool, i)->units;
		struct page *unit, *before = NULL;

		for (uint32_t k = 0; k < UNIT_LOOKS && at != UNIT_NONE; k++, before = unit) {
			unit = &pool->pages[at];
			if (any || unit_is_idle(pool, unit)) {
				unit_unlink(pool, before, unit);
				unit_push(pool, shelf_of_thread(pool), unit);
				return true;
			}
			at = unit_next(unit);
		}
	}
	return false;
}

/*
 * Blocks for a thread whose shelf has none. Those of a page are best left to one thread, since its
 * states are a line of the cache: so idle units come first, also those of a half that is opened,
 * and then what is left of others.
 */
static bool unit_find(struct dma_pool *pool)
{
	if (unit_fetch(pool, false))
		return true;
	while (depot_open(pool))
		if (shelf_of_thread(pool)->units != UNIT_NONE || unit_fetch(pool, false) ||
		    unit_fetch(pool, true))
			return true;
	return unit_fetch(pool, true);
}

/* From a shelf, below *end, which moves down, but not below codes. */
static void shelf_take(struct dma_pool *pool, struct shelf *shelf, const block_code *codes,
		       block_code **end)
{
	while (*end > codes && shelf->units != UNIT_NONE)
		unit_take(pool, shelf, end, (uint32_t)(*end - codes));
}

/* How many there are, of n that there was room for; they begin where the array begins. */
static uint32_t taken_of(block_code *codes, uint32_t n, const block_code *end)
{
	uint32_t taken = n - (uint32_t)(end - codes);

	if (taken < n)
		memmove(codes, end, taken * sizeof(*codes));
	return taken;
}

uint32_t units_take(struct dma_pool *pool, struct shelf *shelf, block_code *codes, uint32_t n)
{
	block_code *end = codes + n;

	shelf_take(pool, shelf, codes, &end);
	return taken_of(codes, n, end);
}

uint32_t units_search(struct dma_pool *pool, block_code *codes, uint32_t n)
{
	struct shelf *own = shelf_of_thread(pool);
	block_code *end = codes + n;
	bool elsewhere = own->units == UNIT_NONE && unit_find(pool);

	do {
		shelf_take(pool, own, codes, &end);
	} while (elsewhere && end > codes && unit_fetch(pool, false));
	return taken_of(codes, n, end);
}

/*
 * Blocks from the front of the array whose bits lie in one word; how many, of which *bad were not to
 * be put. The lock of their unit's shelf is held.
 */
static uint32_t unit_put(struct dma_pool *pool, const block_code *codes, uint32_t n, uint32_t *bad)
{
	block_code base = codes[0] & ~(block_code)63;
	struct page *unit = code_page(pool, base);
	uint32_t w = (base & CODE_NUMBER_MASK) / 64, put;
	uint64_t *word = unit_words(pool, unit) + w;
	uint64_t bits = bits_of_free(bits_of(codes, base, &n), unit->unit.state + 64 * w) & ~*word;

	put = bits == UINT64_MAX ? 64 : (uint32_t)__builtin_popcountll(bits);
	if (put && !unit->unit.unused)
		unit_push(pool, unit_shelf(pool, unit), unit);
	*word |= bits;
	if (put && pool->words > 1)
		unit->unit.unused |= UINT64_C(1) << w;
	*bad += n - put;
	return n;
}

uint32_t units_put(struct dma_pool *pool, const block_code *codes, uint32_t n)
{
	uint32_t bad = 0;

	for (uint32_t i = 0; i < n;)
		i += unit_put(pool, codes + i, n - i, &bad);
	return bad;
}

/* Those of a shelf, whose lock is held; the others move to the front. *n: how many those are. */
static uint32_t units_put_own(struct dma_pool *pool, const struct shelf *own, block_code *codes,
			      uint32_t *n)
{
	uint32_t bad = 0, left = 0;

	for (uint32_t i = 0; i < *n;)
		if (unit_shelf(pool, code_page(pool, codes[i])) == own)
			i += unit_put(pool, codes + i, *n - i, &bad);
		else
			codes[left++] = codes[i++];
	*n = left;
	return bad;
}

void units_put_back(struct dma_pool *pool, block_code *codes, uint32_t n)
{
	struct shelf *own = shelf_of_thread(pool);
	uint32_t left = n, bad;

	pthread_spin_lock(&own->lock);
	bad = units_put_own(pool, own, codes, &left);
	shelf_set_taken(own, own->taken - (ptrdiff_t)(n - left - bad));
	pthread_spin_unlock(&own->lock);
	pool_note_bad(pool, bad);
	if (!left)
		return;
	shelves_lock(pool);
	bad = units_put(pool, codes, left);
	shelf_set_taken(own, own->taken - (ptrdiff_t)(left - bad));
	shelves_unlock(pool);
	pool_note_bad(pool, bad);
}

/* ---- growing and shrinking ---- */

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

/* Several pages at a time; the first is for now, the others wait. */
static bool run_take(struct dma_pool *pool, struct shelf *shelf, gfp_t gfp, struct page **first)
{
	size_t n;

	if (pool->unit_size != ARENA_PAGE)
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
static void unit_carve(struct dma_pool *pool, struct page *unit, uint8_t *states)
{
	if (!states)
		states = unit->unit.inline_state;
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

/* A unit in these pages. Nothing of them is used if there are no states for it. */
static int unit_add(struct dma_pool *pool, gfp_t gfp, struct page *unit)
{
	uint8_t *states = NULL;

	if (!states_inline(pool)) {
		states = states_get(pool, gfp);
		if (!states) {
			arena_give(pool->place.arena, unit);
			return -ENOMEM;
		}
	}
	unit_carve(pool, unit, states);
	units_enter(pool, unit, 1);
	return 0;
}

/* A large pool grows by several units: no more than it may have too many of. */
static void units_add_ahead(struct dma_pool *pool)
{
	struct shelf *own = shelf_of_thread(pool);
	struct page *first;
	size_t n = run_next(own, units_used(pool, own) / UNIT_EXCESS, &first);

	for (size_t i = 0; i < n; i++)
		unit_carve(pool, &first[i], NULL);
	if (n)
		units_enter(pool, first, n);
}

int units_grow(struct dma_pool *pool, gfp_t gfp)
{
	struct page *unit;
	int err = unit_get(pool, gfp, &unit);

	if (!err)
		err = unit_add(pool, gfp, unit);
	if (err)
		return err;
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
			states_put(pool, unit->unit.state);
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
		if (!unit_is_idle(pool, unit)) {
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
	pool_set_fills(pool, 0);
}

void units_reap(struct dma_pool *pool)
{
	size_t a_pass, blocks, needed, surplus = 0;

	pthread_spin_lock(&pool->lock);
	blocks = pool->unit_count * pool->per_unit;
	a_pass = pool->id ? blocks / pool->half_max : blocks; /* fills to take all its blocks */
	if (pool->fills >= UNIT_REAP_FILLS && pool->fills >= 4 * a_pass) {
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

	if (unit->tenant != &end->pool->tenant)
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
	states_end(pool);
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
