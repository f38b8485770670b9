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
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"

/* The kernel's smallest block: a pointer and a dma address (mm/dmapool.c). */
#define POOL_BLOCK_MIN 16

static void pool_block_err(struct dma_pool *pool, const void *vaddr, dma_addr_t handle,
			   const char *what)
{
	pool_note_bad(pool, 1);
	log_line(DMALAND_LOG_ERR, "%s: dma_pool_free %s, %p/%llx %s", pool->place.name, pool->name,
		 vaddr, (unsigned long long)handle, what);
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
			state_write(block->state, BLOCK_OUT);
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
		pool_block_err(pool, block->vaddr, block->handle, "already free");
	}
	return false;
}

static bool take_by_magazine(struct dma_pool *pool, struct magazine *m, struct block *block)
{
	while (m->top != m->begin || magazine_fill(pool, m)) {
		if (block_take(pool, m, block))
			return true;
		pool_block_err(pool, block->vaddr, block->handle, "already free");
	}
	return false;
}

static bool take_slowly(struct dma_pool *pool, gfp_t gfp, struct block *block)
{
	struct magazine *m = magazine_get(pool, gfp);

	if (gfp & __GFP_RECLAIM)
		units_reap(pool);
	while (!(m ? take_by_magazine(pool, m, block) : take_one(pool, block)))
		if (units_grow(pool, gfp)) {
			__atomic_fetch_add(&pool->refused, 1, __ATOMIC_RELAXED);
			return false;
		}
	return true;
}

static __attribute__((noinline)) void *alloc_slowly(struct dma_pool *pool, gfp_t gfp,
						    dma_addr_t *handle)
{
	struct block block;

	if (!take_slowly(pool, gfp, &block))
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
	pool_block_err(pool, copy, copy_handle, "already free");
	return alloc_slowly(pool, gfp, handle);
}

void *dma_pool_alloc(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle)
{
	struct magazine *m;
	struct block block;

	if (unlikely(!pool)) {
		error_set(EINVAL, "dma_pool_alloc: no pool");
		return NULL;
	}
	m = magazine_of(pool);
	if (unlikely(m->top == m->begin))
		return alloc_slowly(pool, gfp, handle);
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
	for (i = 0; i < n; i++) {
		struct block block = block_decode(pool, *--top);

		if (unlikely(state_read(block.state) != BLOCK_FREE)) {
			pool_block_err(pool, block.vaddr, block.handle, "already free");
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
		if (got == n || !take_slowly(pool, gfp, &block))
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

static __attribute__((noinline)) void put_slowly(struct dma_pool *pool, block_code code,
						 uint8_t *state)
{
	struct magazine *m = magazine_get(pool, GFP_ATOMIC);

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

/* The block is out and now the thread's. */
static inline void block_put(struct dma_pool *pool, block_code code, uint8_t *state)
{
	struct magazine *m = magazine_of(pool);
	block_code *top = m->top;

	if (unlikely(top == m->end)) {
		put_slowly(pool, code, state);
		return;
	}
	state_write(state, BLOCK_FREE);
	*top = code;
	__atomic_store_n(&m->top, top + 1, __ATOMIC_RELAXED);
}

static __attribute__((noinline, cold)) void bad_vaddr(struct dma_pool *pool, void *vaddr,
						      dma_addr_t handle)
{
	pool_block_err(pool, vaddr, handle, "(bad vaddr)");
}

static __attribute__((noinline, cold)) void bad_dma(struct dma_pool *pool, void *vaddr,
						    dma_addr_t handle)
{
	pool_block_err(pool, vaddr, handle, "(bad dma)");
}

/* Also for the waste behind the last block, whose state is never "out". */
static __attribute__((noinline, cold)) void already_free(struct dma_pool *pool, void *vaddr,
							 dma_addr_t handle, uint64_t number)
{
	pool_block_err(pool, vaddr, handle,
		       number < pool->per_unit ? "already free" : "(bad vaddr)");
}

/* The checks that are left once the block's number is known, then the free. */
static inline __attribute__((always_inline)) void block_free(struct dma_pool *pool, void *vaddr,
							     dma_addr_t handle,
							     const struct page *unit, size_t index,
							     uint64_t number)
{
	uint8_t *state = unit->unit.state + number;

	if (unlikely(handle != (uintptr_t)vaddr + unit->dma_offset))
		bad_dma(pool, vaddr, handle);
	else if (unlikely(state_read(state) != BLOCK_OUT))
		already_free(pool, vaddr, handle, number);
	else
		block_put(pool, block_encode(index, number), state);
}

/* Not the start of a block; or a unit of several pages, or with waste between its blocks. */
static __attribute__((noinline)) void free_odd_block(struct dma_pool *pool, void *vaddr,
						     dma_addr_t handle, size_t index)
{
	const struct page *page = &pool->pages[index];
	size_t offset = ((size_t)page->run_offset << ARENA_PAGE_SHIFT) +
			((uintptr_t)vaddr & (ARENA_PAGE - 1));
	uint32_t number = unit_block_number(pool, offset);

	if (number == UINT32_MAX)
		bad_vaddr(pool, vaddr, handle);
	else
		block_free(pool, vaddr, handle, page - page->run_offset, index - page->run_offset,
			   number);
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
		bad_vaddr(pool, vaddr, handle);
	else if (unlikely((uint32_t)product >= pool->reciprocal))
		free_odd_block(pool, vaddr, handle, index);
	else
		block_free(pool, vaddr, handle, page, index, product >> 32);
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

/* The checks of dma_pool_create() in the kernel's order (mm/dmapool.c); fills in the geometry. */
static int pool_carve(struct dma_pool *pool, size_t size, size_t align, size_t boundary)
{
	size_t segment;

	if (align == 0)
		align = 1;
	if (!is_power_of_two(align))
		return error_set(EINVAL, "dma_pool_create %s: alignment %zu is not a power of two",
				 pool->name, align);
	if (size == 0 || size > INT_MAX)
		return error_set(EINVAL, "dma_pool_create %s: size %zu is not from 1 to %d",
				 pool->name, size, INT_MAX);
	if (size < POOL_BLOCK_MIN)
		size = POOL_BLOCK_MIN;
	size = align_up(size, align);
	if (size > INT_MAX)
		return error_set(EINVAL, "dma_pool_create %s: alignment %zu makes the size %zu",
				 pool->name, align, size);
	pool->unit_size = size > ARENA_PAGE ? size : ARENA_PAGE;
	if (boundary == 0)
		boundary = pool->unit_size;
	else if (boundary < size || !is_power_of_two(boundary))
		return error_set(EINVAL,
				 "dma_pool_create %s: boundary %zu must be a power of two and not "
				 "below the size of a block, %zu rounded to its alignment",
				 pool->name, boundary, size);

	/* A unit with several blocks is one page, so that a boundary inside is a power of two. */
	segment = boundary < pool->unit_size ? boundary : pool->unit_size;
	if (segment % size == 0)
		segment = pool->unit_size; /* blocks meet this boundary by themselves */
	pool->size = (uint32_t)size;
	pool->segment_log2 = (uint32_t)__builtin_ctzll(power_of_two_covering(segment));
	pool->per_segment = (uint32_t)(segment / size);
	pool->per_unit = pool->per_segment * (uint32_t)(pool->unit_size / segment);
	pool->unit_align = power_of_two_covering(pool->unit_size);
	pool->state_count = pool->per_unit + (pool->unit_size - pool->per_unit * size >= 1);
	pool->words = (pool->per_unit + 63) / 64;
	if (pool->unit_size == ARENA_PAGE && segment == ARENA_PAGE)
		pool->reciprocal = (uint32_t)(((UINT64_C(1) << 32) + size - 1) / size);
	return 0;
}

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
	if (pool_carve(pool, size, align, boundary))
		goto fail;
	pthread_spin_init(&pool->lock, PTHREAD_PROCESS_PRIVATE);
	if (units_prepare(pool) || magazines_begin(pool)) {
		units_end(pool);
		goto fail;
	}
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
	if (!pool)
		return;
	list_remove(pool->place.list, pool);
	arena_remove_shrinker(pool->place.arena, &pool->shrinker);
	magazines_end(pool);
	if (units_end(pool))
		log_line(DMALAND_LOG_ERR, "%s: dma_pool_destroy %s busy", pool->place.name,
			 pool->name);
	pthread_spin_destroy(&pool->lock);
	free(pool);
}

void dmaland_pool_trim(struct dma_pool *pool)
{
	struct magazine *m = magazine_of(pool);

	if (m->pool == pool)
		magazine_flush(pool, m);
	units_trim(pool, SIZE_MAX);
	arena_trim(pool->place.arena, ARENA_RESERVE_PAGES);
}

/* ---- statistics ---- */

void dmaland_pool_get_stats(struct dma_pool *pool, struct dmaland_pool_stats *stats)
{
	size_t away;

	memcpy(stats->name, pool->name, sizeof(stats->name));
	stats->block_size = pool->size;
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
