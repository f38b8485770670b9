/* SPDX-License-Identifier: MIT */
/*
 * opponent_malloc.c - the C library's malloc, set as it comes; and nothing at all
 *
 * Neither aligned nor reachable by a device: what memory costs that is for the CPU alone.
 */
#include <stdlib.h>

#include "allocator.h"

struct dma_pool {
	size_t size;
};

struct dma_pool *malloc_pool_create(const struct pool_place *place, size_t size, size_t align,
				    size_t boundary, size_t blocks)
{
	struct dma_pool *pool = malloc(sizeof(*pool));

	(void)place, (void)align, (void)boundary, (void)blocks;
	if (pool)
		pool->size = size;
	return pool;
}

void malloc_pool_destroy(struct dma_pool *pool)
{
	free(pool);
}

void *malloc_pool_alloc(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle)
{
	(void)gfp, (void)handle;
	return malloc(pool->size);
}

void malloc_pool_free(struct dma_pool *pool, void *vaddr, dma_addr_t handle)
{
	(void)pool, (void)handle;
	free(vaddr);
}

void *none_pool_alloc(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle)
{
	(void)gfp, (void)handle;
	return pool;
}

void none_pool_free(struct dma_pool *pool, void *vaddr, dma_addr_t handle)
{
	(void)pool, (void)vaddr, (void)handle;
}
