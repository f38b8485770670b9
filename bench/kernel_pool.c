/* SPDX-License-Identifier: MIT */
/*
 * kernel_pool.c - the kernel's algorithm for dma_pool, as an opponent
 *
 * One list of free blocks for the whole pool. Its links, and the dma address of each block, lie in
 * the blocks themselves:
 *
 *   pool->free --> | next | dma | ...unused... |      a free block: 16 bytes of it in use
 *                     |
 *                     +-----> | next | dma | ... |
 *
 * A pool that has none left takes a page and puts all its blocks in front, so that they are handed
 * out in ascending order. free() believes what it is told, and stores it in the block. One spinlock
 * around all of it.
 *
 * What the kernel does and this does not: disable interrupts (two to four costly instructions a
 * call), clear pages. Both are in the opponent's favour.
 */
#include "kernel_pool.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "bench.h"

struct block {
	struct block *next;
	dma_addr_t dma;
};

/* What the pool took from the arena. */
struct allocation {
	struct allocation *next;
	struct page *page;
	char *cpu;
	dma_addr_t dma;
};

struct dma_pool {
	struct arena_tenant tenant;
	struct arena *arena;
	uint32_t lock; /* guards free, allocations and the counters */
	struct block *free;
	struct allocation *allocations;
	size_t allocation_count, block_count, in_use;
	size_t size, allocation_size, boundary;
	char name[32];
};

/* ---- the lock: look before trying to take it, let go by a plain store ---- */

static void pool_lock(struct dma_pool *pool)
{
	while (__atomic_load_n(&pool->lock, __ATOMIC_RELAXED) ||
	       __atomic_exchange_n(&pool->lock, 1, __ATOMIC_ACQUIRE))
		bench_relax();
}

static void pool_unlock(struct dma_pool *pool)
{
	__atomic_store_n(&pool->lock, 0, __ATOMIC_RELEASE);
}

/* ---- the list ---- */

static inline struct block *block_pop(struct dma_pool *pool)
{
	struct block *block = pool->free;

	if (block) {
		pool->free = block->next;
		pool->in_use++;
	}
	return block;
}

static inline void block_push(struct dma_pool *pool, void *vaddr, dma_addr_t dma)
{
	struct block *block = vaddr;

	block->dma = dma;
	block->next = pool->free;
	pool->free = block;
	pool->in_use--;
}

/* Put the blocks of fresh memory in front of the list, the lowest first; the lock is held. */
static void allocation_carve(struct dma_pool *pool, struct allocation *a)
{
	size_t offset = 0, next_boundary = pool->boundary;
	struct block *first = NULL, **link = &first;

	while (offset + pool->size <= pool->allocation_size) {
		struct block *block;

		if (offset + pool->size > next_boundary) {
			offset = next_boundary;
			next_boundary += pool->boundary;
			continue;
		}
		block = (struct block *)(void *)(a->cpu + offset);
		block->dma = a->dma + offset;
		*link = block;
		link = &block->next;
		offset += pool->size;
		pool->block_count++;
	}
	*link = pool->free;
	pool->free = first;
	a->next = pool->allocations;
	pool->allocations = a;
	pool->allocation_count++;
}

/* Memory from where the kernel has it: the floor below, which is the same as dmaland's pool's. */
static struct allocation *allocation_new(struct dma_pool *pool, gfp_t gfp)
{
	struct allocation *a = malloc(sizeof(*a));

	if (!a)
		return NULL;
	if (arena_take(pool->arena, &pool->tenant, pool->allocation_size,
		       power_of_two_covering(pool->allocation_size), gfp, &a->page)) {
		free(a);
		return NULL;
	}
	a->cpu = pagemap_address(&pool->arena->pagemap, a->page);
	a->dma = chunk_dma(a->page->chunk, a->cpu);
	return a;
}

/* ---- the calls ---- */

/* Apart from the calls, so that they save no registers for it: in the opponents' favour too. */
static __attribute__((noinline, cold)) struct block *block_pop_growing(struct dma_pool *pool,
								       gfp_t gfp, bool locked)
{
	struct allocation *a = allocation_new(pool, gfp & ~__GFP_ZERO);
	struct block *block;

	if (!a)
		return NULL;
	if (locked)
		pool_lock(pool);
	allocation_carve(pool, a);
	block = block_pop(pool);
	if (locked)
		pool_unlock(pool);
	return block;
}

void *kernel_pool_alloc(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle)
{
	struct block *block;

	pool_lock(pool);
	block = block_pop(pool);
	pool_unlock(pool);
	if (!block) {
		block = block_pop_growing(pool, gfp, true);
		if (!block)
			return NULL;
	}
	*handle = block->dma;
	if (gfp & __GFP_ZERO)
		memset(block, 0, pool->size);
	return block;
}

void kernel_pool_free(struct dma_pool *pool, void *vaddr, dma_addr_t handle)
{
	pool_lock(pool);
	block_push(pool, vaddr, handle);
	pool_unlock(pool);
}

void *floor_pool_alloc(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle)
{
	struct block *block = block_pop(pool);

	if (!block) {
		block = block_pop_growing(pool, gfp, false);
		if (!block)
			return NULL;
	}
	*handle = block->dma;
	if (gfp & __GFP_ZERO)
		memset(block, 0, pool->size);
	return block;
}

void floor_pool_free(struct dma_pool *pool, void *vaddr, dma_addr_t handle)
{
	block_push(pool, vaddr, handle);
}

struct dma_pool *kernel_pool_create(const char *name, const struct pool_place *place, size_t size,
				    size_t align, size_t boundary)
{
	size_t page_size = ARENA_PAGE;
	struct dma_pool *pool;

	if (align == 0)
		align = 1;
	if (!is_power_of_two(align) || size == 0 || size > INT_MAX)
		return NULL;
	if (size < sizeof(struct block))
		size = sizeof(struct block);
	size = align_up(size, align);
	if (boundary && (boundary < size || !is_power_of_two(boundary)))
		return NULL;
	pool = calloc(1, sizeof(*pool));
	if (!pool)
		return NULL;
	snprintf(pool->name, sizeof(pool->name), "%s", name ? name : "");
	pool->tenant.limits = place->limits;
	pool->arena = place->arena;
	pool->size = size;
	pool->allocation_size = size > page_size ? size : page_size;
	pool->boundary =
		boundary && boundary < pool->allocation_size ? boundary : pool->allocation_size;
	return pool;
}

/* Unlike the kernel this gives blocks back that are still in use: the arena is to be empty. */
void kernel_pool_destroy(struct dma_pool *pool)
{
	if (!pool)
		return;
	while (pool->allocations) {
		struct allocation *a = pool->allocations;

		pool->allocations = a->next;
		arena_give(pool->arena, a->page);
		free(a);
	}
	free(pool);
}
