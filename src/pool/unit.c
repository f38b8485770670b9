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

static void unit_push(struct dma_pool *pool, uint32_t *list, struct page *unit)
{
	unit->unit.next = *list;
	*list = (uint32_t)(unit - pool->pages);
}

/* From one word of bits of the first unit of a list; the lock is held. */
static void unit_take(const struct dma_pool *pool, uint32_t *list, block_code **end, uint32_t n)
{
	struct page *unit = &pool->pages[*list];
	uint32_t w = pool->words == 1 ? 0 : (uint32_t)__builtin_ctzll(unit->unit.unused);
	uint64_t *word = unit_words(pool, unit) + w;

	*word = bits_take(*word, block_encode(*list, 64 * w), end, n);
	if (!*word && pool->words > 1)
		unit->unit.unused &= ~(UINT64_C(1) << w);
	if (!unit->unit.unused)
		*list = unit->unit.next;
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
	for (uint32_t i = 1; i < SHELVES && pool->unused; i++) {
		uint32_t *link = &shelf_to_search(pool, i)->units;

		for (uint32_t k = 0; k < UNIT_LOOKS && *link != UNIT_NONE; k++) {
			struct page *unit = &pool->pages[*link];

			if (any || unit_is_idle(pool, unit)) {
				*link = unit->unit.next;
				unit_push(pool, &shelf_of_thread(pool)->units, unit);
				return true;
			}
			link = &unit->unit.next;
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

uint32_t units_take(struct dma_pool *pool, block_code *codes, uint32_t n)
{
	uint32_t *list = &shelf_of_thread(pool)->units, taken;
	block_code *end = codes + n;
	bool elsewhere;

	elsewhere = *list == UNIT_NONE && unit_find(pool);
	do {
		while (end > codes && *list != UNIT_NONE)
			unit_take(pool, list, &end, (uint32_t)(end - codes));
	} while (elsewhere && end > codes && unit_fetch(pool, false));
	taken = n - (uint32_t)(end - codes);
	pool->unused -= taken;
	if (taken < n)
		memmove(codes, end, taken * sizeof(*codes));
	return taken;
}

/*
 * Blocks from the front of the array whose bits lie in one word; how many, of which *bad were not to
 * be put.
 */
static uint32_t unit_put(struct dma_pool *pool, struct shelf *shelf, const block_code *codes,
			 uint32_t n, uint32_t *bad)
{
	block_code base = codes[0] & ~(block_code)63;
	struct page *unit = code_page(pool, base);
	uint32_t w = (base & CODE_NUMBER_MASK) / 64, put;
	uint64_t *word = unit_words(pool, unit) + w;
	uint64_t bits = bits_of_free(bits_of(codes, base, &n), unit->unit.state + 64 * w) & ~*word;

	put = bits == UINT64_MAX ? 64 : (uint32_t)__builtin_popcountll(bits);
	if (put && !unit->unit.unused)
		unit_push(pool, &shelf->units, unit);
	*word |= bits;
	if (put && pool->words > 1)
		unit->unit.unused |= UINT64_C(1) << w;
	pool->unused += put;
	*bad += n - put;
	return n;
}

uint32_t units_put(struct dma_pool *pool, struct shelf *shelf, const block_code *codes, uint32_t n)
{
	uint32_t bad = 0;

	for (uint32_t i = 0; i < n;)
		i += unit_put(pool, shelf, codes + i, n - i, &bad);
	return bad;
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

/* The next page of the run that waits to be carved, or NULL. */
static struct page *run_next(struct dma_pool *pool)
{
	struct page *page = NULL;

	pthread_spin_lock(&pool->lock);
	if (pool->run_pages) {
		page = pool->run++;
		pool->run_pages--;
	}
	pthread_spin_unlock(&pool->lock);
	return page;
}

/* Pages that wait to be carved go back to the arena. */
static void run_give(struct dma_pool *pool)
{
	struct page *page;

	while ((page = run_next(pool)))
		arena_give(pool->place.arena, page);
}

/* The more the larger the pool. */
static size_t run_want(struct dma_pool *pool)
{
	size_t want;

	pthread_spin_lock(&pool->lock);
	want = pool->unit_count / 4 < UNIT_RUN_MAX ? pool->unit_count / 4 : UNIT_RUN_MAX;
	pthread_spin_unlock(&pool->lock);
	return want;
}

/* Several pages at a time; the first is for now, the others wait. */
static struct page *run_take(struct dma_pool *pool, gfp_t gfp)
{
	struct page *first, *old;
	size_t n, old_pages;

	if (pool->unit_size != ARENA_PAGE)
		return NULL;
	n = arena_take_pages(pool->place.arena, &pool->uncarved, run_want(pool), gfp, &first);
	if (!n)
		return NULL;
	pthread_spin_lock(&pool->lock);
	old = pool->run; /* another thread's, which came first */
	old_pages = pool->run_pages;
	pool->run = first + 1;
	pool->run_pages = n - 1;
	pthread_spin_unlock(&pool->lock);
	while (old_pages--)
		arena_give(pool->place.arena, old++);
	return first;
}

/* Memory for a unit. 0 or -ENOMEM in words. */
static int unit_get(struct dma_pool *pool, gfp_t gfp, struct page **unit)
{
	*unit = run_next(pool);
	if (!*unit)
		*unit = run_take(pool, gfp);
	if (*unit)
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

/* Make a unit of pages that `uncarved` has. */
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
	unit_set_tenant(unit, &pool->tenant); /* frees may look at it now */

	pthread_spin_lock(&pool->lock);
	unit_push(pool, &shelf_of_thread(pool)->units, unit);
	pool->unit_count++;
	pool->unused += pool->per_unit;
	pool->grows++;
	pthread_spin_unlock(&pool->lock);
}

static int unit_add(struct dma_pool *pool, gfp_t gfp)
{
	uint8_t *states = NULL;
	struct page *unit;
	int err;

	if (!states_inline(pool)) {
		states = states_get(pool, gfp);
		if (!states)
			return -ENOMEM;
	}
	err = unit_get(pool, gfp, &unit);
	if (err && states)
		states_put(pool, states);
	if (!err)
		unit_carve(pool, unit, states);
	return err;
}

int units_grow(struct dma_pool *pool, gfp_t gfp)
{
	size_t more;
	int err;

	if (gfp & __GFP_RECLAIM)
		depot_grow(pool); /* that there are fewer is no failure */
	err = unit_add(pool, gfp);
	if (err || !states_inline(pool))
		return err;

	/* A large pool grows by several: no more than it may have too many of. */
	pthread_spin_lock(&pool->lock);
	more = pool->unit_count / UNIT_EXCESS;
	if (more > pool->run_pages)
		more = pool->run_pages;
	pthread_spin_unlock(&pool->lock);
	while (more-- && !unit_add(pool, GFP_ATOMIC))
		if (gfp & __GFP_RECLAIM)
			depot_grow(pool);
	return 0;
}

/* Units that are in no list any more go to the arena. */
static void units_give(struct dma_pool *pool, uint32_t list)
{
	while (list != UNIT_NONE) {
		struct page *unit = &pool->pages[list];

		list = unit->unit.next;

		if (unlikely(pool->debug))
			debug_unit_end(pool, unit);
		if (!states_inline(pool))
			states_put(pool, unit->unit.state);
		arena_give(pool->place.arena, unit);
	}
}

/* Idle units of a shelf, up to max, move to a list; how many. The lock is held. */
static size_t shelf_trim(struct dma_pool *pool, struct shelf *shelf, uint32_t *idle, size_t max)
{
	uint32_t *link = &shelf->units;
	size_t n = 0;

	while (*link != UNIT_NONE && n < max) {
		struct page *unit = &pool->pages[*link];

		if (!unit_is_idle(pool, unit)) {
			link = &unit->unit.next;
			continue;
		}
		*link = unit->unit.next;
		unit_set_tenant(unit, &pool->uncarved); /* nobody finds it any more */
		unit_push(pool, idle, unit);
		pool->unit_count--;
		pool->unused -= pool->per_unit;
		n++;
	}
	return n;
}

size_t units_trim(struct dma_pool *pool, size_t max)
{
	uint32_t idle = UNIT_NONE;
	size_t n = 0;

	pthread_spin_lock(&pool->lock);
	while (depot_open(pool))
		;
	for (uint32_t i = 0; i < SHELVES; i++)
		n += shelf_trim(pool, shelf_to_search(pool, i), &idle, max - n);
	pthread_spin_unlock(&pool->lock);
	units_give(pool, idle);
	run_give(pool);
	depot_shrink(pool);
	return n;
}

void units_reap(struct dma_pool *pool)
{
	size_t a_pass, blocks, surplus = 0;

	pthread_spin_lock(&pool->lock);
	blocks = pool->unit_count * pool->per_unit;
	a_pass = pool->id ? blocks / pool->half_max : blocks; /* fills to take all its blocks */
	if (pool->fills >= UNIT_REAP_FILLS && pool->fills >= 4 * a_pass) {
		if (pool->recent_high < blocks)
			surplus = (blocks - pool->recent_high) / pool->per_unit / 2;
		pool_set_fills(pool, 0);
		pool->recent_high = pool_away(pool);
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
		unit->unit.next = UNIT_NONE;
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

	run_give(pool);
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
