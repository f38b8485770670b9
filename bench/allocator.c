/* SPDX-License-Identifier: MIT */
#include "allocator.h"

#include "kernel_pool.h"

static struct dma_pool *dmaland_create(const struct pool_place *place, size_t size, size_t align,
				       size_t boundary, size_t blocks)
{
	(void)blocks;
	return pool_create("bench", place, size, align, boundary);
}

static struct dma_pool *kernel_create(const struct pool_place *place, size_t size, size_t align,
				      size_t boundary, size_t blocks)
{
	(void)blocks;
	return kernel_pool_create("bench", place, size, align, boundary);
}

const struct allocator allocators[ALLOCATOR_COUNT] = {
	[ALLOCATOR_DMALAND] = {.row = "ours",
			       .heading = "dmaland",
			       .create = dmaland_create,
			       .destroy = dma_pool_destroy,
			       .alloc = dma_pool_alloc,
			       .free = dma_pool_free,
			       .threads = true,
			       .boundary = true,
			       .checks = "yes",
			       .grows = "yes",
			       .gives_handle = "yes"},
	[ALLOCATOR_KERNEL] = {.row = "kernel",
			      .heading = "kernel's algorithm",
			      .create = kernel_create,
			      .destroy = kernel_pool_destroy,
			      .alloc = kernel_pool_alloc,
			      .free = kernel_pool_free,
			      .threads = true,
			      .boundary = true,
			      .checks = "no",
			      .grows = "yes",
			      .gives_handle = "yes"},
#ifdef BENCH_DPDK
	[ALLOCATOR_DPDK] = {.row = "dpdk",
			    .heading = "DPDK mempool",
			    .create = dpdk_pool_create,
			    .destroy = dpdk_pool_destroy,
			    .alloc = dpdk_pool_alloc,
			    .free = dpdk_pool_free,
			    .threads = false, /* only DPDK's own threads have a cache */
			    .boundary = false,
			    .checks = "no",
			    .grows = "no",
			    .gives_handle = "no"},
#endif
	[ALLOCATOR_MALLOC] = {.row = "malloc",
			      .heading = "malloc",
			      .create = malloc_pool_create,
			      .destroy = malloc_pool_destroy,
			      .alloc = malloc_pool_alloc,
			      .free = malloc_pool_free,
			      .threads = true,
			      .boundary = false,
			      .checks = "some",
			      .grows = "yes",
			      .gives_handle = "no"},
	[ALLOCATOR_FLOOR] = {.row = "floor",
			     .heading = "no lock",
			     .create = kernel_create,
			     .destroy = kernel_pool_destroy,
			     .alloc = floor_pool_alloc,
			     .free = floor_pool_free,
			     .threads = false,
			     .boundary = true,
			     .checks = "no",
			     .grows = "yes",
			     .gives_handle = "yes"},
};

const struct allocator allocator_none = {
	.row = "none",
	.create = malloc_pool_create,
	.destroy = malloc_pool_destroy,
	.alloc = none_pool_alloc,
	.free = none_pool_free,
	.threads = true,
	.boundary = true,
};
