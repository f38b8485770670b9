/* SPDX-License-Identifier: MIT */
/*
 * pool.c - dma_pool: small coherent blocks of one size, with alignment and boundary
 *
 *   thread A: magazine |blk|blk|blk|     thread B: magazine |blk|blk|
 *                  \ half a magazine at a time, a lock  /
 *   pool:   unit |.x..xx..|  unit |........|  unit |xxxxxxxx|      a state byte a block
 *                  | a unit at a time
 *   arena:  pages that are mapped for the device
 *
 * dma_pool_alloc() takes the top block of the thread's magazine, dma_pool_free() checks a block and
 * puts it there: no lock, no locked instruction, and the block itself is not touched. Nothing that
 * the pool trusts lies in its blocks (unit.c, magazine.c).
 *
 * Every free is checked: the page map says whether the address is this pool's; a multiplication
 * whether a block begins there; the page's dma offset whether the handle is the block's; and the
 * state byte whether it is out. The byte is written without a lock, so two frees of one block that
 * race may both find it out; the copy is found when it leaves a magazine and the block is out or
 * unused by then.
 */
#include "pool/pool_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"
#include "pool/debug.h"
#include "pool/magazine.h"

/* Where the public call came from, inside it; a function inlined into it may ask too. */
#define CALL_SITE __builtin_return_address(0)

static void pool_block_err(struct dma_pool *pool, const void *vaddr, dma_addr_t handle,
			   const char *what, const void *site)
{
	char more[256] = "";

	pool_note_bad(pool, 1);
	if (pool->debug)
		debug_describe(pool, vaddr, site, more, sizeof(more));
	log_line(DMALAND_LOG_ERR, "%s: dma_pool_free %s, %p/%llx %s%s", pool->place.name,
		 pool->name, vaddr, (unsigned long long)handle, what, more);
}

/* ---- alloc ---- */

/* The top block of a magazine: out now; false when there is none, or a racing free's copy of one. */
static inline bool block_take(const struct dma_pool *pool, struct magazine *m, struct block *block)
{
	block_code *top = *m->top - 1;

	*block = block_decode(pool, *top);
	if (unlikely(state_read(block->state) != BLOCK_FREE))
		return false;
	state_write(block->state, BLOCK_OUT);
	magazine_set_top(m, top);
	return true;
}

/* One block from its unit; false when there is none. */
static bool unit_take_one(struct dma_pool *pool, struct block *block, bool *copy)
{
	block_code code;
	bool n, look;

	shelves_lock(pool);
	n = units_search(pool, &code, 1);
	if (n) {
		*block = unit_block(pool, code);
		*copy = state_read(block->state) != BLOCK_FREE;
		if (!*copy)
			state_write(block->state, pool->debug ? BLOCK_MOVING : BLOCK_OUT);
	}
	look = shelf_note_fill(shelf_of_thread(pool), n);
	shelves_unlock(pool);
	if (look)
		pool_look(pool);
	return n;
}

/* One block, without a magazine. */
static bool take_one(struct dma_pool *pool, struct block *block)
{
	bool copy;

	while (unit_take_one(pool, block, &copy)) {
		if (!copy)
			return true;
		pool_block_err(pool, block->vaddr, block->handle, "already free", NULL);
	}
	return false;
}

/* The top block is in two magazines, and the other one's is or was out: this one is dropped. */
static void drop_copy(struct dma_pool *pool, struct magazine *m)
{
	struct block block = block_decode(pool, (*m->top)[-1]);

	magazine_set_top(m, *m->top - 1);
	pool_block_err(pool, block.vaddr, block.handle, "already free", NULL);
}

static bool take_by_magazine(struct dma_pool *pool, struct magazine *m, gfp_t gfp,
			     struct block *block)
{
	while (!magazine_is_empty(m) || magazine_fill(pool, m, gfp)) {
		if (likely(block_take(pool, m, block)))
			return true;
		drop_copy(pool, m);
	}
	return false;
}

bool pool_take_slowly(struct dma_pool *pool, gfp_t gfp, struct block *block, const void *site)
{
	struct magazine *m;

	if (pool_is_disowned(pool)) {
		error_forked(pool->place.name);
		return false;
	}
	if (gfp & __GFP_RECLAIM && units_reap_due(pool))
		units_reap(pool);
	m = magazine_get(pool, gfp);
	while (!(m ? take_by_magazine(pool, m, gfp, block) : take_one(pool, block)))
		if (units_grow(pool, gfp)) {
			__atomic_fetch_add(&pool->refused, 1, __ATOMIC_RELAXED);
			return false;
		}
	if (unlikely(pool->debug))
		debug_alloc(pool, gfp, block, site);
	return true;
}

/* Apart, so that dma_pool_alloc() needs no stack frame. */
static __attribute__((noinline)) void *alloc_slowly(struct dma_pool *pool, gfp_t gfp,
						    dma_addr_t *handle, const void *site)
{
	struct block block;

	if (!pool) {
		error_set(EINVAL, "dma_pool_alloc: no pool");
		return NULL;
	}
	if (!pool_take_slowly(pool, gfp, &block, site))
		return NULL;
	if (gfp & __GFP_ZERO)
		memset(block.vaddr, 0, pool->size);
	*handle = block.handle;
	return block.vaddr;
}

/* One branch leads to all that is not the usual: no block in the magazine, a copy, __GFP_ZERO. */
void *dma_pool_alloc(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle)
{
	const struct page *page;
	block_code *top, code;
	uint32_t number;
	uint8_t unusual;
	uint8_t *state;
	top_slot slot;
	char *vaddr;

	if (unlikely(!pool))
		return alloc_slowly(pool, gfp, handle, CALL_SITE);
	slot = thread_top_slot(pool);
	top = *slot;
	code = top[-1];
	number = code & CODE_NUMBER_MASK;
	page = code_page(pool, code);
	state = page->unit.state + number;
	unusual = (uint8_t)gfp | state_read(state);
	if (unlikely(unusual & (BLOCK_OUT | __GFP_ZERO)))
		return alloc_slowly(pool, unusual, handle, CALL_SITE);
	state_write(state, BLOCK_OUT);
	top_set(slot, top - 1);
	vaddr = page->unit.base + number * pool->stride;
	*handle = (uintptr_t)vaddr + page->dma_offset;
	return vaddr;
}

/* ---- free ---- */

static void put_watched(struct dma_pool *pool, block_code code, const void *site)
{
	struct block block = unit_block(pool, code);

	if (!debug_free(pool, code, site))
		pool_block_err(pool, block.vaddr, block.handle, "already free", site);
}

/* The magazine is not this pool's yet; or it works without. */
static __attribute__((noinline)) void put_first(struct dma_pool *pool, block_code code,
						const void *site)
{
	struct magazine *m;

	if (pool_is_disowned(pool)) {
		error_forked(pool->place.name);
		return;
	}
	if (unlikely(pool->debug)) {
		put_watched(pool, code, site);
		return;
	}
	m = magazine_get(pool, GFP_ATOMIC);
	state_write(block_decode(pool, code).state, BLOCK_FREE);
	if (m) {
		magazine_push(m, code);
		return;
	}
	units_put_back(pool, &code, 1);
}

/* A good free that finds no room in the magazine. */
static __attribute__((noinline)) void put_slowly(struct dma_pool *pool, block_code code,
						 const void *site)
{
	struct magazine *m = magazine_of(pool);

	if (m->pool != pool) {
		put_first(pool, code, site);
		return;
	}
	state_write(block_decode(pool, code).state, BLOCK_FREE);
	if (magazine_is_full(m))
		magazine_spill(pool, m);
	magazine_push(m, code);
}

void pool_free_slowly(struct dma_pool *pool, void *vaddr, uint64_t dma_offset, const void *site)
{
	dma_addr_t handle = (uintptr_t)vaddr + dma_offset;
	struct page *page = pagemap_find(&pool->place.arena->pagemap, vaddr);
	uint32_t number = UINT32_MAX;

	if (page && page_tenant(page) == &pool->tenant)
		number = unit_block_number(pool, ((size_t)page->run_offset << ARENA_PAGE_SHIFT) +
							 ((uintptr_t)vaddr & (ARENA_PAGE - 1)));
	if (number >= pool->per_unit) {
		pool_block_err(pool, vaddr, handle, "(bad vaddr)", site);
		return;
	}
	page = unit_of(page);
	if (dma_offset != page->dma_offset)
		pool_block_err(pool, vaddr, handle, "(bad dma)", site);
	else if (state_read(&page->unit.state[number]) != BLOCK_OUT)
		pool_block_err(pool, vaddr, handle, "already free", site);
	else
		put_slowly(pool, block_encode((size_t)(page - pool->pages), number), site);
}

void dma_pool_free(struct dma_pool *pool, void *vaddr, dma_addr_t handle)
{
	uint64_t dma_offset = handle - (uintptr_t)vaddr;
	block_code code, *top;
	struct page *page;
	uint64_t number;
	uint8_t *state;
	top_slot slot;
	size_t at;

	if (unlikely(!pool))
		return;
	at = entry_at(pool, vaddr);
	page = page_at(pool, at);
	number = block_number(pool, vaddr);
	if (unlikely(page_tenant(page) != &pool->tenant) || unlikely(number >= pool->blocks) ||
	    unlikely(dma_offset != page->dma_offset)) {
		pool_free_slowly(pool, vaddr, dma_offset, CALL_SITE);
		return;
	}
	state = page->unit.state + number;
	if (unlikely(state_read(state) != BLOCK_OUT)) {
		pool_free_slowly(pool, vaddr, dma_offset, CALL_SITE);
		return;
	}
	code = code_at(at, number);
	slot = thread_top_slot(pool);
	top = *slot;
	if (unlikely(*top == CODE_END)) {
		put_slowly(pool, code, CALL_SITE);
		return;
	}
	state_write(state, BLOCK_FREE);
	*top = code;
	top_set(slot, top + 1);
}

/* ---- create and destroy ---- */

/* Another pool, or coherent memory, of the domain finds no page any more. */
static void pool_shrink(struct arena_shrinker *shrinker)
{
	char *address = (char *)shrinker - offsetof(struct dma_pool, shrinker);
	struct dma_pool *pool = (struct dma_pool *)(void *)address;

	pool_set_crowded(pool); /* or it had them back at once */
	units_trim(pool, SIZE_MAX);
}

static void list_add(struct pool_list *list, struct dma_pool *pool)
{
	struct dma_pool **link = &list->first;

	pthread_mutex_lock(&list->lock);
	while (*link)
		link = &(*link)->next;
	*link = pool;
	pthread_mutex_unlock(&list->lock);
}

static void list_remove(struct pool_list *list, struct dma_pool *pool)
{
	struct dma_pool **link = &list->first;

	pthread_mutex_lock(&list->lock);
	while (*link != pool)
		link = &(*link)->next;
	*link = pool->next;
	pthread_mutex_unlock(&list->lock);
}

static void pool_end(struct dma_pool *pool)
{
	for (uint32_t i = 0; i < SHELVES; i++)
		pthread_spin_destroy(&pool->shelves[i].lock);
	pthread_spin_destroy(&pool->lock);
	free(pool);
}

struct dma_pool *pool_create(const char *name, const struct pool_place *place, size_t size,
			     size_t align, size_t boundary)
{
	const struct pagemap *map = &place->arena->pagemap;
	struct dma_pool *pool = aligned_alloc(64, align_up(sizeof(*pool), 64));

	if (!pool) {
		error_set(ENOMEM, "no memory for a pool");
		return NULL;
	}
	memset(pool, 0, sizeof(*pool));
	pool->place = *place;
	pool->shelf_count = 1;
	for (uint32_t i = 0; i < SHELVES; i++) {
		pool->shelves[i].units = UNIT_NONE;
		pthread_spin_init(&pool->shelves[i].lock, PTHREAD_PROCESS_PRIVATE);
	}
	pool->tenant.limits = pool->uncarved.limits = place->limits;
	pool->pages = map->pages;
	pool->coded = map->pages - 1;
	pool->window = (uintptr_t)map->window;
	pool->page_mask = map->mask * sizeof(struct page);
	pool->rest_mask = ~(map->mask << ARENA_PAGE_SHIFT);
	snprintf(pool->name, sizeof(pool->name), "%s", name ? name : "");
	pool->debug = (place->debug ? POOL_CHECKED : 0) | (place->annotate ? POOL_ANNOTATED : 0);
	pthread_spin_init(&pool->lock, PTHREAD_PROCESS_PRIVATE);
	if (pool_lay_out(pool, size, align, boundary))
		goto fail;
	if (states_prepare(pool) || magazines_begin(pool)) {
		units_end(pool);
		goto fail;
	}
	if (pool->debug)
		debug_begin(pool);
	pool->shrinker.shrink = pool_shrink;
	arena_add_shrinker(place->arena, &pool->shrinker);
	arena_prepare(place->arena, &pool->tenant);
	list_add(place->list, pool);
	return pool;
fail:
	pool_end(pool);
	return NULL;
}

void dma_pool_destroy(struct dma_pool *pool)
{
	if (!pool || pool_is_disowned(pool))
		return;
	list_remove(pool->place.list, pool);
	arena_remove_shrinker(pool->place.arena, &pool->shrinker);
	magazines_end(pool);
	if (pool->debug)
		debug_end(pool);
	if (units_end(pool))
		log_line(DMALAND_LOG_ERR, "%s: dma_pool_destroy %s busy", pool->place.name,
			 pool->name);
	pool_end(pool);
}

void dmaland_pool_trim(struct dma_pool *pool)
{
	struct magazine *m = magazine_of(pool);

	if (pool_is_disowned(pool))
		return;
	if (m->pool == pool)
		magazine_flush(pool, m);
	units_trim(pool, SIZE_MAX);
	arena_trim(pool->place.arena, ARENA_RESERVE_PAGES);
}

/* ---- statistics ---- */

void dmaland_pool_get_stats(struct dma_pool *pool, struct dmaland_pool_stats *stats)
{
	size_t away;

	memset(stats, 0, sizeof(*stats));
	memcpy(stats->name, pool->name, sizeof(stats->name));
	stats->block_size = pool->size;
	if (pool_is_disowned(pool))
		return;
	pthread_spin_lock(&pool->lock);
	stats->total = pool->unit_count * pool->per_unit;
	stats->pages = pool->unit_count;
	shelves_lock(pool);
	stats->parked = magazines_parked(pool);
	away = pool_away(pool);
	shelves_unlock(pool);
	pool_note_away(pool, away);
	stats->in_use = away > stats->parked ? away - stats->parked : 0;
	stats->high_water = pool->high_water;
	stats->grows = pool->grows;
	pthread_spin_unlock(&pool->lock);
	stats->refused = __atomic_load_n(&pool->refused, __ATOMIC_RELAXED);
	stats->bad_frees = __atomic_load_n(&pool->bad_frees, __ATOMIC_RELAXED);
}

size_t pool_list_stats(struct pool_list *list, struct dmaland_pool_stats *stats, size_t n)
{
	size_t count = 0;

	pthread_mutex_lock(&list->lock);
	for (struct dma_pool *pool = list->first; pool; pool = pool->next, count++)
		if (count < n)
			dmaland_pool_get_stats(pool, &stats[count]);
	pthread_mutex_unlock(&list->lock);
	return count;
}
