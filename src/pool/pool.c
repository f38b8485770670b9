/* SPDX-License-Identifier: MIT */
/*
 * pool.c - dma_pool: small coherent blocks of one size, with alignment and boundary
 *
 *   thread A: magazine |blk|blk|blk|     thread B: magazine |blk|blk|
 *                  \ half a magazine at a time, one lock  /
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

/* The top block of a magazine that is not empty: out now; false when it was a racing free's copy. */
static inline bool block_take(const struct dma_pool *pool, struct magazine *m, struct block *block)
{
	block_code *top = m->top - 1;

	__atomic_store_n(&m->top, top, __ATOMIC_RELAXED);
	*block = block_decode(pool, *top);
	if (unlikely(state_read(block->state) != BLOCK_FREE))
		return false;
	state_write(block->state, BLOCK_OUT);
	return true;
}

/* One block from its unit; false when there is none. */
static bool unit_take_one(struct dma_pool *pool, struct block *block, bool *copy)
{
	block_code code;
	bool n;

	pthread_spin_lock(&pool->lock);
	n = units_take(pool, &code, 1);
	if (n) {
		*block = unit_block(pool, code);
		*copy = state_read(block->state) != BLOCK_FREE;
		if (!*copy)
			state_write(block->state, pool->debug ? BLOCK_MOVING : BLOCK_OUT);
	}
	pool_note_fill(pool);
	pthread_spin_unlock(&pool->lock);
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

static bool take_by_magazine(struct dma_pool *pool, struct magazine *m, struct block *block)
{
	while (m->top != m->begin || magazine_fill(pool, m)) {
		if (block_take(pool, m, block))
			return true;
		pool_block_err(pool, block->vaddr, block->handle, "already free", NULL);
	}
	return false;
}

static bool take_slowly(struct dma_pool *pool, gfp_t gfp, struct block *block, const void *site)
{
	struct magazine *m;

	if (pool_is_disowned(pool)) {
		error_forked(pool->place.name);
		return false;
	}
	m = magazine_get(pool, gfp);
	if (gfp & __GFP_RECLAIM)
		units_reap(pool);
	while (!(m ? take_by_magazine(pool, m, block) : take_one(pool, block)))
		if (units_grow(pool, gfp)) {
			__atomic_fetch_add(&pool->refused, 1, __ATOMIC_RELAXED);
			return false;
		}
	if (unlikely(pool->debug))
		debug_alloc(pool, gfp, block, site);
	return true;
}

static __attribute__((noinline)) void *alloc_slowly(struct dma_pool *pool, gfp_t gfp,
						    dma_addr_t *handle, const void *site)
{
	struct block block;

	if (!take_slowly(pool, gfp, &block, site))
		return NULL;
	if (gfp & __GFP_ZERO)
		memset(block.vaddr, 0, pool->size);
	*handle = block.handle;
	return block.vaddr;
}

/* The top block was in two magazines, and the other one's is or was out: drop it, take another. */
static __attribute__((noinline, cold)) void *alloc_after_copy(struct dma_pool *pool, gfp_t gfp,
							      dma_addr_t *handle, void *copy,
							      dma_addr_t copy_handle)
{
	pool_block_err(pool, copy, copy_handle, "already free", NULL);
	return alloc_slowly(pool, gfp, handle, NULL);
}

/* Apart, so that dma_pool_alloc() needs no stack frame. */
static __attribute__((noinline, cold)) void *alloc_from_nothing(void)
{
	error_set(EINVAL, "dma_pool_alloc: no pool");
	return NULL;
}

void *dma_pool_alloc(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle)
{
	struct magazine *m;
	struct block block;

	if (unlikely(!pool))
		return alloc_from_nothing();
	m = magazine_of(pool);
	if (unlikely(m->top == m->begin))
		return alloc_slowly(pool, gfp, handle, CALL_SITE);
	if (unlikely(!block_take(pool, m, &block)))
		return alloc_after_copy(pool, gfp, handle, block.vaddr, block.handle);
	*handle = block.handle;
	if (unlikely(gfp & __GFP_ZERO))
		return memset(block.vaddr, 0, pool->size);
	return block.vaddr;
}

/* As many blocks as the magazine has; fewer when a racing free's copy comes up: it is dropped. */
static size_t take_several(struct dma_pool *pool, struct magazine *m, size_t n, void **vaddrs,
			   dma_addr_t *handles)
{
	const block_code *top = m->top;
	size_t have = (size_t)(top - m->begin), i;

	n = n < have ? n : have;
	if (!n)
		return 0; /* the magazine may be the one of all threads that have none */
#pragma GCC unroll 4
	for (i = 0; i < n; i++) {
		struct block block = block_decode(pool, *--top);

		if (unlikely(state_read(block.state) != BLOCK_FREE)) {
			pool_block_err(pool, block.vaddr, block.handle, "already free", NULL);
			break;
		}
		state_write(block.state, BLOCK_OUT);
		vaddrs[i] = block.vaddr;
		handles[i] = block.handle;
	}
	magazine_set_top(m, m->begin + (top - m->begin));
	return i;
}

size_t dmaland_pool_alloc_bulk(struct dma_pool *pool, gfp_t gfp, size_t n, void **vaddrs,
			       dma_addr_t *handles)
{
	size_t got = 0;

	if (unlikely(!pool)) {
		error_set(EINVAL, "dmaland_pool_alloc_bulk: no pool");
		return 0;
	}
	while (got < n) {
		struct block block;

		got += take_several(pool, magazine_of(pool), n - got, vaddrs + got, handles + got);
		if (got == n || !take_slowly(pool, gfp, &block, CALL_SITE))
			break;
		vaddrs[got] = block.vaddr;
		handles[got++] = block.handle;
	}
	if (unlikely(gfp & __GFP_ZERO))
		for (size_t i = 0; i < got; i++)
			memset(vaddrs[i], 0, pool->size);
	return got;
}

/* ---- free ---- */

static void put_watched(struct dma_pool *pool, block_code code, const void *site)
{
	struct block block = unit_block(pool, code);

	if (!debug_free(pool, code, site))
		pool_block_err(pool, block.vaddr, block.handle, "already free", site);
}

static __attribute__((noinline)) void put_slowly(struct dma_pool *pool, block_code code,
						 uint8_t *state, const void *site)
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
	state_write(state, BLOCK_FREE);
	if (!m) {
		pthread_spin_lock(&pool->lock);
		pool_note_bad(pool, units_put(pool, &code, 1));
		pthread_spin_unlock(&pool->lock);
		return;
	}
	if (m->top == m->end)
		magazine_spill(pool, m);
	*m->top = code;
	__atomic_store_n(&m->top, m->top + 1, __ATOMIC_RELAXED);
}

/* The block is out and now the thread's. Site: NULL means where the public call came from. */
static inline __attribute__((always_inline)) void block_put(struct dma_pool *pool, block_code code,
							    uint8_t *state, const void *site)
{
	struct magazine *m = magazine_of(pool);
	block_code *top = m->top;

	if (unlikely(top == m->end)) {
		put_slowly(pool, code, state, site ? site : CALL_SITE);
		return;
	}
	state_write(state, BLOCK_FREE);
	*top = code;
	__atomic_store_n(&m->top, top + 1, __ATOMIC_RELAXED);
}

static __attribute__((noinline, cold)) void bad_vaddr(struct dma_pool *pool, void *vaddr,
						      dma_addr_t handle, const void *site)
{
	pool_block_err(pool, vaddr, handle, "(bad vaddr)", site);
}

static __attribute__((noinline, cold)) void bad_dma(struct dma_pool *pool, void *vaddr,
						    dma_addr_t handle, const void *site)
{
	pool_block_err(pool, vaddr, handle, "(bad dma)", site);
}

/* Also for the waste behind the last block, whose state is never "out". */
static __attribute__((noinline, cold)) void already_free(struct dma_pool *pool, void *vaddr,
							 dma_addr_t handle, uint64_t number,
							 const void *site)
{
	pool_block_err(pool, vaddr, handle,
		       number < pool->per_unit ? "already free" : "(bad vaddr)", site);
}

/* The checks that are left once the block's number is known, then the free. */
static inline __attribute__((always_inline)) void block_free(struct dma_pool *pool, void *vaddr,
							     dma_addr_t handle,
							     const struct page *unit, size_t index,
							     uint64_t number, const void *site)
{
	uint8_t *state = unit->unit.state + number;

	if (unlikely(handle != (uintptr_t)vaddr + unit->dma_offset))
		bad_dma(pool, vaddr, handle, site ? site : CALL_SITE);
	else if (unlikely(state_read(state) != BLOCK_OUT))
		already_free(pool, vaddr, handle, number, site ? site : CALL_SITE);
	else
		block_put(pool, block_encode(index, number), state, site);
}

/* Not the start of a block; or a unit of several pages, or with waste between its blocks. */
static __attribute__((noinline)) void free_odd_block(struct dma_pool *pool, void *vaddr,
						     dma_addr_t handle, size_t index,
						     const void *site)
{
	const struct page *page = &pool->pages[index];
	size_t offset = ((size_t)page->run_offset << ARENA_PAGE_SHIFT) +
			((uintptr_t)vaddr & (ARENA_PAGE - 1));
	uint32_t number = unit_block_number(pool, offset);

	if (number == UINT32_MAX)
		bad_vaddr(pool, vaddr, handle, site);
	else
		block_free(pool, vaddr, handle, page - page->run_offset, index - page->run_offset,
			   number, site);
}

/*
 * Offset times reciprocal has the block's number in its upper half, and its lower half is below the
 * reciprocal just when the division leaves no rest; both hold as offset and size are below 2^16
 * (Lemire, Kaser, Kurz: Faster remainder by direct computation, 2019).
 */
static inline __attribute__((always_inline)) void pool_free(struct dma_pool *pool, void *vaddr,
							    dma_addr_t handle)
{
	size_t offset = (uintptr_t)vaddr - pool->window;
	size_t index = offset >> ARENA_PAGE_SHIFT;
	const struct page *page = &pool->pages[index];
	uint64_t product = ((uintptr_t)vaddr & (ARENA_PAGE - 1)) * (uint64_t)pool->reciprocal;

	if (unlikely(offset >= pool->window_size || page_tenant(page) != &pool->tenant))
		bad_vaddr(pool, vaddr, handle, CALL_SITE);
	else if (unlikely((uint32_t)product >= pool->reciprocal))
		free_odd_block(pool, vaddr, handle, index, CALL_SITE);
	else
		block_free(pool, vaddr, handle, page, index, product >> 32, NULL);
}

void dma_pool_free(struct dma_pool *pool, void *vaddr, dma_addr_t handle)
{
	if (likely(pool))
		pool_free(pool, vaddr, handle);
}

/*
 * Frees from the front of the arrays, as long as they lie in one page of the pool, each a good one,
 * and the magazine has room; how many. The others take the way of dma_pool_free(), which says why.
 */
static size_t put_several(struct dma_pool *pool, struct magazine *m, size_t n, void **vaddrs,
			  const dma_addr_t *handles)
{
	uintptr_t first = (uintptr_t)vaddrs[0] & ~(uintptr_t)(ARENA_PAGE - 1);
	size_t room = (size_t)(m->end - m->top), index = (first - pool->window) >> ARENA_PAGE_SHIFT;
	const struct page *page = &pool->pages[index];
	uint64_t reciprocal = pool->reciprocal, dma_offset;
	block_code *top = m->top;
	uint8_t *states;
	size_t i;

	if (first - pool->window >= pool->window_size || page_tenant(page) != &pool->tenant)
		return 0;
	states = page->unit.state;
	dma_offset = page->dma_offset;
	n = n < room ? n : room;
	if (!n)
		return 0;
#pragma GCC unroll 4
	for (i = 0; i < n; i++) {
		uintptr_t vaddr = (uintptr_t)vaddrs[i];
		uint64_t product = (vaddr - first) * reciprocal, number = product >> 32;

		if (vaddr - first >= ARENA_PAGE || (uint32_t)product >= reciprocal ||
		    handles[i] != vaddr + dma_offset || state_read(&states[number]) != BLOCK_OUT)
			break;
		state_write(&states[number], BLOCK_FREE);
		*top++ = block_encode(index, number);
	}
	magazine_set_top(m, top);
	return i;
}

void dmaland_pool_free_bulk(struct dma_pool *pool, size_t n, void **vaddrs,
			    const dma_addr_t *handles)
{
	size_t done = 0;

	if (unlikely(!pool))
		return;
	while (done < n) {
		done += put_several(pool, magazine_of(pool), n - done, vaddrs + done,
				    handles + done);
		if (done == n)
			break;
		pool_free(pool, vaddrs[done], handles[done]);
		done++;
	}
}

/* ---- create and destroy ---- */

/* Another pool, or coherent memory, of the domain finds no page any more. */
static void pool_shrink(struct arena_shrinker *shrinker)
{
	char *pool = (char *)shrinker - offsetof(struct dma_pool, shrinker);

	units_trim((struct dma_pool *)(void *)pool, SIZE_MAX);
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
	pool->units = UNIT_NONE;
	pool->tenant.limits = pool->uncarved.limits = place->limits;
	pool->pages = map->pages;
	pool->window = (uintptr_t)map->window;
	pool->window_size = map->count << ARENA_PAGE_SHIFT;
	snprintf(pool->name, sizeof(pool->name), "%s", name ? name : "");
	pool->debug = (place->debug ? POOL_CHECKED : 0) | (place->annotate ? POOL_ANNOTATED : 0);
	if (pool_lay_out(pool, size, align, boundary))
		goto fail;
	pthread_spin_init(&pool->lock, PTHREAD_PROCESS_PRIVATE);
	if (units_prepare(pool) || (!pool->debug && magazines_begin(pool))) {
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
	free(pool);
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
	pthread_spin_destroy(&pool->lock);
	free(pool);
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
	stats->parked = magazines_parked(pool);
	away = pool_away(pool);
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
