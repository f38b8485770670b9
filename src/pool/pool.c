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
 * unused by then, or its page another's.
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

	if (unlikely(!block_find(pool, *top, block) || state_read(block->state) != BLOCK_FREE))
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

/*
 * The top block is in two magazines, and the other one's is or was out, or even its page is not the
 * pool's any more: this one is dropped.
 */
static void drop_copy(struct dma_pool *pool, struct magazine *m)
{
	block_code code = (*m->top)[-1];
	const struct page *page = code_page(pool, code);
	const char *vaddr = pagemap_address(&pool->place.arena->pagemap, page) +
			    (code & CODE_NUMBER_MASK) * pool->stride;

	magazine_set_top(m, *m->top - 1);
	pool_block_err(pool, vaddr, (uintptr_t)vaddr + page->dma_offset, "already free", NULL);
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
	gfp |= pool->place.gfp;
	if (gfp & __GFP_RECLAIM && units_reap_due(pool))
		units_reap(pool);
	if (gfp & __GFP_RECLAIM && unlikely(arena_refill_due(pool->place.arena)))
		arena_refill(pool->place.arena);
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

/*
 * As dma_pool_alloc(), which found no block: of a pool whose magazines have their tops in the thread's
 * table.
 */
static __attribute__((noinline)) void *alloc_by_table(struct dma_pool *pool, gfp_t gfp,
						      dma_addr_t *handle, const void *site)
{
	block_code **slot = &magazine_of(pool)->own_top;
	block_code *top = *slot;
	struct block block;

	if (!block_find(pool, top[-1], &block) ||
	    (((uint8_t)gfp | state_read(block.state)) & (BLOCK_OUT | __GFP_ZERO)))
		return alloc_slowly(pool, gfp, handle, site);
	state_write(block.state, BLOCK_OUT);
	__atomic_store_n(slot, top - 1, __ATOMIC_RELAXED);
	*handle = block.handle;
	return block.vaddr;
}

/* One branch leads to all that is not the usual: no block in the magazine, a copy, __GFP_ZERO. */
HAS_CALL_SITE void *dma_pool_alloc(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle)
{
	struct block block;
	block_code *top;
	uint8_t unusual;
	top_slot slot;

	if (unlikely(!pool))
		return alloc_slowly(pool, gfp, handle, CALL_SITE);
	slot = thread_top_slot(pool);
	top = *slot;
	if (unlikely(!block_find(pool, top[-1], &block))) {
		if (tops_in_table(pool))
			return alloc_by_table(pool, gfp, handle, CALL_SITE);
		return alloc_slowly(pool, gfp, handle, CALL_SITE);
	}
	unusual = (uint8_t)gfp | state_read(block.state);
	if (unlikely(unusual & (BLOCK_OUT | __GFP_ZERO)))
		return alloc_slowly(pool, unusual, handle, CALL_SITE);
	state_write(block.state, BLOCK_OUT);
	top_set(slot, top - 1);
	*handle = block.handle;
	return block.vaddr;
}

/* ---- free ---- */

/*
 * NULL if the free is a good one, whose block is this thread's from now on; else what is wrong. The
 * lock of a shelf is held, so that no page stops being the pool's meanwhile: what is read of it and
 * of its states once the tenant was seen is the pool's.
 */
static const char *free_check(struct dma_pool *pool, const void *vaddr, uint64_t dma_offset,
			      block_code *code, const void *site)
{
	struct page *page = pagemap_find(&pool->place.arena->pagemap, vaddr);
	uint32_t number = UINT32_MAX;

	if (page && page_tenant(page) == &pool->tenant)
		number = unit_block_number(pool, ((size_t)page->run_offset << ARENA_PAGE_SHIFT) +
							 ((uintptr_t)vaddr & (ARENA_PAGE - 1)));
	if (number >= pool->per_unit)
		return "(bad vaddr)";
	page = unit_of(page);
	if (dma_offset != page->dma_offset)
		return "(bad dma)";
	if (state_read(&page->unit.state[number]) != BLOCK_OUT)
		return "already free";
	if (unlikely(pool->debug))
		unit_records(pool, page)[number].freed = site;
	state_write(&page->unit.state[number], pool->debug ? BLOCK_MOVING : BLOCK_FREE);
	*code = block_encode((size_t)(page - pool->pages), number);
	return NULL;
}

/* A free block goes to the magazine, or to its unit where there is none. */
static void block_put(struct dma_pool *pool, block_code code)
{
	struct magazine *m = magazine_get(pool, GFP_ATOMIC);

	if (!m) {
		units_put_back(pool, &code, 1);
		return;
	}
	if (magazine_is_full(m))
		magazine_spill(pool, m);
	magazine_push(m, code);
}

void pool_free_slowly(struct dma_pool *pool, void *vaddr, uint64_t dma_offset, const void *site)
{
	struct shelf *own = shelf_of_thread(pool);
	const char *wrong;
	block_code code;

	if (pool_is_disowned(pool)) {
		error_forked(pool->place.name);
		return;
	}
	pthread_spin_lock(&own->lock);
	wrong = free_check(pool, vaddr, dma_offset, &code, site);
	pthread_spin_unlock(&own->lock);
	if (wrong)
		pool_block_err(pool, vaddr, (uintptr_t)vaddr + dma_offset, wrong, site);
	else if (unlikely(pool->debug))
		debug_free(pool, code);
	else
		block_put(pool, code);
}

/*
 * As dma_pool_free(), which found no room: for a pool whose magazines have their tops in the thread's table.
 * What is said there holds here.
 */
static __attribute__((noinline)) void free_by_table(struct dma_pool *pool, void *vaddr,
						    uint64_t dma_offset, const void *site)
{
	size_t at = entry_at(pool, vaddr);
	struct page *page = page_at(pool, at);
	uint64_t number = block_number(pool, vaddr);
	uint8_t *states = racy_load(&page->unit.state);
	block_code **slot = &magazine_of(pool)->own_top;
	block_code *top = *slot;

	if (page_tenant_after(page, states) != &pool->tenant || number >= pool->blocks ||
	    dma_offset != page->dma_offset || state_read(&states[number]) != BLOCK_OUT ||
	    *top == CODE_END) {
		pool_free_slowly(pool, vaddr, dma_offset, site);
		return;
	}
	state_write(&states[number], BLOCK_FREE);
	*top = code_at(at, number);
	__atomic_store_n(slot, top + 1, __ATOMIC_RELAXED);
}

/*
 * No lock holds the page while it is looked at. Another free of the block may win: then the block goes
 * to its unit, the page to the arena, and to another pool. What is read and written here all the same
 * does no harm:
 *
 * - The states' address is read first and the tenant after it. So where the tenant is the pool's, the
 *   address is the page's entry or the page's array, which lives as long as the arena does. It
 *   could be another kind of array only if the page came from another pool between these two loads.
 * - No byte of an array whose page is no unit says that a block is out. If another unit has the page
 *   by then, one of its blocks may be marked free that is out: arrays of one kind have states at the same
 *   places (states.c). Its own free is refused then, and it is lost until its pool ends; but nobody else gets
 *   it.
 * - The code that goes into the magazine is a copy, and its page is looked at when it comes out.
 */
HAS_CALL_SITE void dma_pool_free(struct dma_pool *pool, void *vaddr, dma_addr_t handle)
{
	uint64_t dma_offset = handle - (uintptr_t)vaddr;
	block_code *top;
	struct page *page;
	uint64_t number;
	uint8_t *states;
	top_slot slot;
	size_t at;

	if (unlikely(!pool))
		return;
	at = entry_at(pool, vaddr);
	page = page_at(pool, at);
	number = block_number(pool, vaddr);
	states = racy_load(&page->unit.state);
	if (unlikely(page_tenant_after(page, states) != &pool->tenant) ||
	    unlikely(number >= pool->blocks) || unlikely(dma_offset != page->dma_offset)) {
		pool_free_slowly(pool, vaddr, dma_offset, CALL_SITE);
		return;
	}
	slot = thread_top_slot(pool);
	top = *slot;
	if (unlikely(state_read(&states[number]) != BLOCK_OUT) || unlikely(*top == CODE_END)) {
		if (tops_in_table(pool))
			free_by_table(pool, vaddr, dma_offset, CALL_SITE);
		else
			pool_free_slowly(pool, vaddr, dma_offset, CALL_SITE);
		return;
	}
	state_write(&states[number], BLOCK_FREE);
	*top = code_at(at, number);
	top_set(slot, top + 1);
}

/* ---- create and destroy ---- */

static struct dma_pool *pool_of_shrinker(struct arena_shrinker *shrinker)
{
	char *pool = (char *)shrinker - offsetof(struct dma_pool, shrinker);

	return (struct dma_pool *)(void *)pool;
}

/* What this thread has parked goes to its units. */
static void pool_flush(struct dma_pool *pool)
{
	struct magazine *m = magazine_of(pool);

	if (m->pool == pool)
		magazine_flush(pool, m);
}

/* Somebody of the domain hits a limit. */
static void pool_shrink(struct arena_shrinker *shrinker)
{
	struct dma_pool *pool = pool_of_shrinker(shrinker);

	if (pool->place.limits->keeps_idle)
		return;
	pool_set_crowded(pool); /* or it had them back at once */
	pool_flush(pool);
	units_trim(pool, SIZE_MAX);
}

static void pool_count_idle(struct arena_shrinker *shrinker, struct arena_idle *idle)
{
	struct dma_pool *pool = pool_of_shrinker(shrinker);
	struct dmaland_pool_stats stats;

	dmaland_pool_get_stats(pool, &stats);
	idle->parked += stats.parked * pool->stride;
	if (stats.total > stats.in_use + stats.parked)
		idle->kept += (stats.total - stats.in_use - stats.parked) * pool->stride;
}

static void list_add(struct pool_list *list, struct dma_pool *pool)
{
	pthread_mutex_lock(&list->lock);
	pool->link = list->first ? list->end : &list->first;
	*pool->link = pool;
	list->end = &pool->next;
	pthread_mutex_unlock(&list->lock);
}

static void list_remove(struct pool_list *list, struct dma_pool *pool)
{
	pthread_mutex_lock(&list->lock);
	*pool->link = pool->next;
	if (pool->next)
		pool->next->link = pool->link;
	else
		list->end = pool->link;
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
	pool->tenant.taker = &pool->uncarved;
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
	pool->shrinker = (struct arena_shrinker){.shrink = pool_shrink, .count = pool_count_idle};
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
	if (pool_is_disowned(pool))
		return;
	pool_flush(pool);
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
