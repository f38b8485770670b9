/* SPDX-License-Identifier: MIT */
/*
 * pool.c - dma_pool: small coherent blocks of one size, with alignment and boundary
 *
 * A pool takes units of memory from the arena (a page, or a run that holds one block that is larger
 * than a page) and carves them:
 *
 *   unit, aligned to the power of two that covers it
 *   |blk0|blk1|blk2|blk3|..|blk0|blk1|blk2|blk3|..|
 *   ^ boundary             ^ boundary: the blocks begin anew, the rest before it is waste
 *
 * Nothing that the pool trusts lies in this memory. Each unit has two bitmaps in the page map:
 *
 *   out      the block is with the user. What a free must find set.
 *   unused   the block is neither with the user nor in the cache.
 *
 * In front of the bitmaps stands a cache, a small stack of free blocks: the block freed last is
 * handed out first, while its lines are warm. An empty cache is filled from the first unit that has
 * unused blocks, in ascending order, and a full one gives its older half back to the units.
 *
 * The dma address of a block is computed from its page's chunk; an address becomes a block number
 * by a multiplication. One spinlock, held for some loads and stores.
 */
#include "pool/pool.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"

#define POOL_CACHE_SIZE 64

/* The kernel's smallest block: a pointer and a dma address (mm/dmapool.c). */
#define POOL_BLOCK_MIN 16

/* Bitmaps kept ready for GFP_ATOMIC, where a unit has more blocks than the page map holds. */
#define POOL_SPARE_BITMAPS 16

struct dma_pool {
	struct arena_tenant tenant; /* first: the page map leads here */
	struct pool_place place;
	char name[32];

	uint32_t size;	       /* bytes of a block */
	uint32_t reciprocal;   /* 2^32 / size, rounded up; 0 where a unit has one block */
	uint32_t segment_log2; /* log2 of the boundary inside a unit */
	uint32_t per_segment;  /* blocks before each boundary */
	uint32_t per_unit;     /* blocks of a unit */
	size_t unit_size;      /* bytes */
	size_t unit_align;

	pthread_spinlock_t lock; /* all that follows, and the units' bitmaps */
	struct page *units;	 /* those with unused blocks, the next to carve from first */
	struct page *full;	 /* the others */
	size_t unit_count, in_use, bad_frees;
	uint64_t *spare; /* free pairs of bitmaps; each begins with a pointer to the next */
	size_t spare_count;
	unsigned int cached;
	char *cache[POOL_CACHE_SIZE]; /* blocks; the top is at cached - 1 */

	struct dma_pool *next; /* in the device's list */
};

/* ---- from a block to its number and back ---- */

static uint32_t block_offset(const struct dma_pool *pool, uint32_t block)
{
	uint32_t segment = block / pool->per_segment;

	return (segment << pool->segment_log2) + (block - segment * pool->per_segment) * pool->size;
}

/*
 * The number of the block that begins at an offset of the unit, or UINT32_MAX. The product is exact:
 * the offset inside a unit of several blocks and the size are both below 2^16 (the unit is one
 * page; with larger pages pool_carve() does not set the reciprocal).
 */
static uint32_t block_number(const struct dma_pool *pool, size_t offset)
{
	uint32_t segment, in_segment, number;

	if (pool->per_unit == 1)
		return offset ? UINT32_MAX : 0;
	segment = (uint32_t)offset >> pool->segment_log2;
	in_segment = (uint32_t)offset & ((1u << pool->segment_log2) - 1);
	number = pool->reciprocal ? (uint32_t)(((uint64_t)in_segment * pool->reciprocal) >> 32)
				  : in_segment / pool->size;
	if (number >= pool->per_segment || number * pool->size != in_segment)
		return UINT32_MAX;
	return segment * pool->per_segment + number;
}

/* The unit of an address in a page that belongs to the pool. */
static struct page *unit_of(struct page *page)
{
	return page - page->run_offset;
}

/* ---- units ---- */

static void unit_push(struct page **list, struct page *unit)
{
	unit->unit.previous = NULL;
	unit->unit.next = *list;
	if (*list)
		(*list)->unit.previous = unit;
	*list = unit;
}

static void unit_remove(struct page **list, struct page *unit)
{
	if (unit->unit.previous)
		unit->unit.previous->unit.next = unit->unit.next;
	else
		*list = unit->unit.next;
	if (unit->unit.next)
		unit->unit.next->unit.previous = unit->unit.previous;
}

static size_t bitmap_pair_words(const struct dma_pool *pool)
{
	return 2 * bitmap_words(pool->per_unit);
}

static bool bitmaps_inline(const struct dma_pool *pool)
{
	return pool->per_unit <= 64;
}

/* Bitmaps for a unit with many blocks, from those kept ready. */
static uint64_t *spare_pop(struct dma_pool *pool)
{
	uint64_t *bits;

	pthread_spin_lock(&pool->lock);
	bits = pool->spare;
	if (bits) {
		memcpy(&pool->spare, bits, sizeof(pool->spare));
		pool->spare_count--;
	}
	pthread_spin_unlock(&pool->lock);
	return bits;
}

static void spare_push(struct dma_pool *pool, uint64_t *bits)
{
	pthread_spin_lock(&pool->lock);
	memcpy(bits, &pool->spare, sizeof(pool->spare));
	pool->spare = bits;
	pool->spare_count++;
	pthread_spin_unlock(&pool->lock);
}

/* Have bitmaps ready; may enter the kernel. */
static int spares_fill(struct dma_pool *pool)
{
	size_t bytes = bitmap_pair_words(pool) * sizeof(uint64_t);
	size_t missing;

	if (bitmaps_inline(pool))
		return 0;
	pthread_spin_lock(&pool->lock);
	missing =
		pool->spare_count < POOL_SPARE_BITMAPS ? POOL_SPARE_BITMAPS - pool->spare_count : 0;
	pthread_spin_unlock(&pool->lock);
	while (missing--) {
		uint64_t *bits = calloc(1, bytes);

		if (!bits)
			return error_set(ENOMEM, "no memory for the bookkeeping of pool %s",
					 pool->name);
		spare_push(pool, bits);
	}
	return 0;
}

static uint64_t *unit_bitmaps(struct dma_pool *pool, struct page *unit)
{
	return bitmaps_inline(pool) ? unit->unit.inline_bits : spare_pop(pool);
}

/* Take a unit from the arena and make all its blocks unused. */
static int pool_grow(struct dma_pool *pool, gfp_t gfp)
{
	struct page *unit;
	uint64_t *bits;
	int err = 0;

	if (gfp & __GFP_RECLAIM)
		err = spares_fill(pool);
	if (!err)
		err = arena_take(pool->place.arena, &pool->tenant, pool->unit_size,
				 pool->unit_align, gfp, &unit);
	if (err)
		return err;
	bits = unit_bitmaps(pool, unit);
	if (!bits) {
		arena_give(pool->place.arena, unit);
		return error_set(
			ENOMEM,
			"pool %s has no bookkeeping ready, and GFP_ATOMIC does not get more: "
			"allocate ahead with GFP_KERNEL",
			pool->name);
	}
	memset(bits, 0, bitmap_pair_words(pool) * sizeof(*bits));
	unit->unit.out = bits;
	unit->unit.unused = bits + bitmap_words(pool->per_unit);
	for (uint32_t i = 0; i < pool->per_unit; i++)
		bitmap_set(unit->unit.unused, i);
	unit->unit.unused_count = pool->per_unit;
	unit->unit.out_count = 0;

	pthread_spin_lock(&pool->lock);
	unit_push(&pool->units, unit);
	pool->unit_count++;
	pthread_spin_unlock(&pool->lock);
	return 0;
}

/* The unit goes back to the arena, its bitmaps with it. */
static void unit_give(struct dma_pool *pool, struct page *unit)
{
	if (!bitmaps_inline(pool))
		free(unit->unit.out);
	arena_give(pool->place.arena, unit);
}

/* ---- the cache ---- */

/* Fill the empty cache from one unit, so that the lowest block is on top; the lock is held. */
static bool cache_fill(struct dma_pool *pool)
{
	struct page *unit = pool->units;
	uint32_t take, block = 0;
	char *base;

	if (!unit)
		return false;
	base = pagemap_address(&pool->place.arena->pagemap, unit);
	take = unit->unit.unused_count;
	if (take > POOL_CACHE_SIZE)
		take = POOL_CACHE_SIZE;
	for (uint32_t i = take; i-- > 0; block++) {
		block = (uint32_t)bitmap_next(unit->unit.unused, block, pool->per_unit, true);
		bitmap_clear(unit->unit.unused, block);
		pool->cache[i] = base + block_offset(pool, block);
	}
	pool->cached = take;
	unit->unit.unused_count -= take;
	if (!unit->unit.unused_count) {
		unit_remove(&pool->units, unit);
		unit_push(&pool->full, unit);
	}
	return true;
}

/* The block is in nobody's hands and leaves the cache; the lock is held. */
static void block_put_away(struct dma_pool *pool, char *vaddr)
{
	const struct pagemap *map = &pool->place.arena->pagemap;
	struct page *unit = unit_of(pagemap_find(map, vaddr));
	uint32_t block = block_number(pool, (size_t)(vaddr - pagemap_address(map, unit)));

	bitmap_set(unit->unit.unused, block);
	if (unit->unit.unused_count++ == 0) {
		unit_remove(&pool->full, unit);
		unit_push(&pool->units, unit);
	}
}

/* Make room in the full cache: the older half goes back to its units; the lock is held. */
static void cache_spill(struct dma_pool *pool)
{
	const unsigned int half = POOL_CACHE_SIZE / 2;

	for (unsigned int i = 0; i < half; i++)
		block_put_away(pool, pool->cache[i]);
	memmove(pool->cache, pool->cache + half, half * sizeof(pool->cache[0]));
	pool->cached = half;
}

/* ---- alloc and free ---- */

/* A block that is marked as out, or NULL when all are. */
static char *pool_block_pop(struct dma_pool *pool, dma_addr_t *handle)
{
	const struct pagemap *map = &pool->place.arena->pagemap;
	char *vaddr = NULL;

	pthread_spin_lock(&pool->lock);
	if (pool->cached || cache_fill(pool)) {
		struct page *unit;

		vaddr = pool->cache[--pool->cached];
		unit = unit_of(pagemap_find(map, vaddr));
		bitmap_set(unit->unit.out,
			   block_number(pool, (size_t)(vaddr - pagemap_address(map, unit))));
		unit->unit.out_count++;
		pool->in_use++;
		*handle = chunk_dma(unit->chunk, vaddr);
	}
	pthread_spin_unlock(&pool->lock);
	return vaddr;
}

void *dma_pool_alloc(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle)
{
	char *vaddr;

	while (!(vaddr = pool_block_pop(pool, handle)))
		if (pool_grow(pool, gfp))
			return NULL;
	if (gfp & __GFP_ZERO)
		memset(vaddr, 0, pool->size);
	return vaddr;
}

static void pool_block_err(struct dma_pool *pool, const void *vaddr, dma_addr_t handle,
			   const char *what)
{
	__atomic_fetch_add(&pool->bad_frees, 1, __ATOMIC_RELAXED);
	log_line(DMALAND_LOG_ERR, "%s: dma_pool_free %s, %p/%llx %s", pool->place.name, pool->name,
		 vaddr, (unsigned long long)handle, what);
}

/* Put a block on the stack unless it is free already. */
static bool pool_block_push(struct dma_pool *pool, struct page *unit, uint32_t block, char *vaddr)
{
	bool was_out;

	pthread_spin_lock(&pool->lock);
	was_out = bitmap_test(unit->unit.out, block);
	if (was_out) {
		bitmap_clear(unit->unit.out, block);
		unit->unit.out_count--;
		pool->in_use--;
		if (pool->cached == POOL_CACHE_SIZE)
			cache_spill(pool);
		pool->cache[pool->cached++] = vaddr;
	}
	pthread_spin_unlock(&pool->lock);
	return was_out;
}

void dma_pool_free(struct dma_pool *pool, void *vaddr, dma_addr_t handle)
{
	const struct pagemap *map = &pool->place.arena->pagemap;
	struct page *page = pagemap_find(map, vaddr), *unit;
	uint32_t block;

	if (!page || __atomic_load_n(&page->tenant, __ATOMIC_ACQUIRE) != &pool->tenant) {
		pool_block_err(pool, vaddr, handle, "(bad vaddr)");
		return;
	}
	unit = unit_of(page);
	block = block_number(pool, (size_t)((char *)vaddr - pagemap_address(map, unit)));
	if (block == UINT32_MAX)
		pool_block_err(pool, vaddr, handle, "(bad vaddr)");
	else if (handle != chunk_dma(unit->chunk, vaddr))
		pool_block_err(pool, vaddr, handle, "(bad dma)");
	else if (!pool_block_push(pool, unit, block, vaddr))
		pool_block_err(pool, vaddr, handle, "already free");
}

/* ---- create and destroy ---- */

/* The checks of dma_pool_create() in the kernel's order (mm/dmapool.c); fills in the geometry. */
static int pool_carve(struct dma_pool *pool, size_t size, size_t align, size_t boundary)
{
	size_t page_size = pool->place.arena->page_size, segment;

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
	pool->unit_size = size > page_size ? size : page_size;
	if (boundary == 0)
		boundary = pool->unit_size;
	else if (boundary < size || !is_power_of_two(boundary))
		return error_set(EINVAL,
				 "dma_pool_create %s: boundary %zu must be a power of two and not "
				 "below the size of a block, %zu rounded to its alignment",
				 pool->name, boundary, size);

	/* A unit with several blocks is one page, so that a boundary inside is a power of two. */
	segment = boundary < pool->unit_size ? boundary : pool->unit_size;
	pool->size = (uint32_t)size;
	pool->segment_log2 = (uint32_t)__builtin_ctzll(power_of_two_covering(segment));
	pool->per_segment = (uint32_t)(segment / size);
	pool->per_unit = pool->per_segment * (uint32_t)(pool->unit_size / segment);
	pool->unit_align = power_of_two_covering(pool->unit_size);
	if (page_size <= 65536 && pool->per_unit > 1)
		pool->reciprocal = (uint32_t)(((UINT64_C(1) << 32) + size - 1) / size);
	return 0;
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

static void spares_free(struct dma_pool *pool)
{
	uint64_t *bits;

	while ((bits = spare_pop(pool)))
		free(bits);
}

struct dma_pool *pool_create(const char *name, const struct pool_place *place, size_t size,
			     size_t align, size_t boundary)
{
	struct dma_pool *pool = calloc(1, sizeof(*pool));

	if (!pool) {
		error_set(ENOMEM, "no memory for a pool");
		return NULL;
	}
	pool->place = *place;
	pool->tenant.limits = place->limits;
	snprintf(pool->name, sizeof(pool->name), "%s", name ? name : "");
	if (pool_carve(pool, size, align, boundary))
		goto fail;
	pthread_spin_init(&pool->lock, PTHREAD_PROCESS_PRIVATE);
	if (spares_fill(pool)) {
		spares_free(pool);
		goto fail;
	}
	arena_prepare(place->arena, &pool->tenant);
	list_add(place->list, pool);
	return pool;
fail:
	free(pool);
	return NULL;
}

/* Give idle units back; busy ones pass to the device, which frees them when it is closed. */
static void units_end(struct dma_pool *pool, struct page *unit)
{
	while (unit) {
		struct page *next = unit->unit.next;

		if (unit->unit.out_count == 0) {
			unit_give(pool, unit);
		} else {
			if (!bitmaps_inline(pool))
				free(unit->unit.out);
			arena_hand_over(pool->place.arena, unit, pool->place.orphans);
		}
		unit = next;
	}
}

void dma_pool_destroy(struct dma_pool *pool)
{
	if (!pool)
		return;
	list_remove(pool->place.list, pool);
	if (pool->in_use)
		log_line(DMALAND_LOG_ERR, "%s: dma_pool_destroy %s busy", pool->place.name,
			 pool->name);
	units_end(pool, pool->units);
	units_end(pool, pool->full);
	spares_free(pool);
	pthread_spin_destroy(&pool->lock);
	free(pool);
}

/* ---- statistics ---- */

void dmaland_pool_get_stats(struct dma_pool *pool, struct dmaland_pool_stats *stats)
{
	memcpy(stats->name, pool->name, sizeof(stats->name));
	stats->block_size = pool->size;
	pthread_spin_lock(&pool->lock);
	stats->in_use = pool->in_use;
	stats->total = pool->unit_count * pool->per_unit;
	stats->pages = pool->unit_count;
	pthread_spin_unlock(&pool->lock);
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
