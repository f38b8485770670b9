/* SPDX-License-Identifier: MIT */
/*
 * kernel_pool.h - the kernel's algorithm for dma_pool, as an opponent, and the same without a lock
 *
 * Written afresh after what Linux 6.4 and later do (mm/dmapool.c). The functions are those of
 * <dmaland/pool.h> with the same rules but one: nothing is checked. Behind their `struct dma_pool`
 * stands another struct, so a pool that was made here is only for the functions here.
 */
#ifndef BENCH_KERNEL_POOL_H
#define BENCH_KERNEL_POOL_H

#include <dmaland/pool.h>
#include "pool/pool.h"

struct dma_pool *kernel_pool_create(const char *name, const struct pool_place *place, size_t size,
				    size_t align, size_t boundary);
void kernel_pool_destroy(struct dma_pool *pool);

void *kernel_pool_alloc(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle);
void kernel_pool_free(struct dma_pool *pool, void *vaddr, dma_addr_t handle);

/* The same list without any lock: the least that a free list in the blocks can cost. One thread. */
void *floor_pool_alloc(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle);
void floor_pool_free(struct dma_pool *pool, void *vaddr, dma_addr_t handle);

#endif
