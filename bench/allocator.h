/* SPDX-License-Identifier: MIT */
/*
 * allocator.h - who takes part in the benchmark of pools
 *
 * All are called in one way, through two pointers to functions in other translation units, with the
 * arguments of dma_pool_alloc() and dma_pool_free(): dmaland's are the public functions
 * themselves. Behind `struct dma_pool` each has a struct of its own.
 */
#ifndef BENCH_ALLOCATOR_H
#define BENCH_ALLOCATOR_H

#include <stdbool.h>

#include <dmaland/pool.h>
#include "pool/pool.h"

/* In the order of the table's columns. */
enum allocator_id {
	ALLOCATOR_DMALAND,
	ALLOCATOR_KERNEL,
	ALLOCATOR_DPDK,
	ALLOCATOR_MALLOC,
	ALLOCATOR_FLOOR,
	ALLOCATOR_COUNT,
};

struct allocator {
	const char *row;     /* in names of rows; NULL: not in this program */
	const char *heading; /* in the table */

	/* blocks is how many will be in use at once, for those who can't grow. */
	struct dma_pool *(*create)(const struct pool_place *place, size_t size, size_t align,
				   size_t boundary, size_t blocks);
	void (*destroy)(struct dma_pool *pool);
	void *(*alloc)(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle);
	void (*free)(struct dma_pool *pool, void *vaddr, dma_addr_t handle);

	bool threads;  /* several may call at once */
	bool boundary; /* keeps blocks from crossing one */

	/* What can't be compared, said in the table. */
	const char *checks, *grows, *gives_handle;
};

extern const struct allocator allocators[ALLOCATOR_COUNT];

/* Does nothing: what remains is the benchmark's own share. */
extern const struct allocator allocator_none;

/* malloc of the same size: opponent_malloc.c */
struct dma_pool *malloc_pool_create(const struct pool_place *place, size_t size, size_t align,
				    size_t boundary, size_t blocks);
void malloc_pool_destroy(struct dma_pool *pool);
void *malloc_pool_alloc(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle);
void malloc_pool_free(struct dma_pool *pool, void *vaddr, dma_addr_t handle);
void *none_pool_alloc(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle);
void none_pool_free(struct dma_pool *pool, void *vaddr, dma_addr_t handle);

/*
 * DPDK's rte_mempool with a cache of 512: opponent_dpdk.c. The calling thread becomes DPDK's main
 * thread, on this CPU. False, with a line on stderr, when DPDK does not start.
 */
bool dpdk_start(int cpu);
struct dma_pool *dpdk_pool_create(const struct pool_place *place, size_t size, size_t align,
				  size_t boundary, size_t blocks);
void dpdk_pool_destroy(struct dma_pool *pool);
void *dpdk_pool_alloc(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle);
void dpdk_pool_free(struct dma_pool *pool, void *vaddr, dma_addr_t handle);

#endif
