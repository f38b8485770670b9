/* SPDX-License-Identifier: MIT */
/*
 * opponent_dpdk.c - DPDK's rte_mempool with a cache of 512, on DPDK's main thread
 *
 * All its blocks are made with the pool, outside of the clock. The dma address is not looked up,
 * though a driver would have to: get and put alone are measured. All of it in DPDK's favour.
 */
#include <stdio.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mempool.h>

#include "allocator.h"

#define CACHE_SIZE 512

/* Behind struct dma_pool stands DPDK's own struct. */
static struct rte_mempool *mempool_of(struct dma_pool *pool)
{
	return (struct rte_mempool *)(void *)pool;
}

bool dpdk_start(int cpu)
{
	char core[16];
	char *argv[] = {"bench",
			"--no-huge",
			"--no-pci",
			"--no-shconf",
			"--no-telemetry",
			"-m",
			"64",
			"-l",
			core,
			"--iova-mode=va",
			"--log-level=lib.*:error",
			NULL};

	snprintf(core, sizeof(core), "%d", cpu);
	if (rte_eal_init((int)(sizeof(argv) / sizeof(argv[0])) - 1, argv) >= 0)
		return true;
	fprintf(stderr, "bench: DPDK does not start (%s): going on without it\n",
		rte_strerror(rte_errno));
	return false;
}

struct dma_pool *dpdk_pool_create(const struct pool_place *place, size_t size, size_t align,
				  size_t boundary, size_t blocks)
{
	(void)place, (void)align, (void)boundary;
	return (void *)rte_mempool_create("bench", (unsigned int)blocks + 2 * CACHE_SIZE,
					  (unsigned int)size, CACHE_SIZE, 0, NULL, NULL, NULL, NULL,
					  SOCKET_ID_ANY, 0);
}

void dpdk_pool_destroy(struct dma_pool *pool)
{
	rte_mempool_free(mempool_of(pool));
}

void *dpdk_pool_alloc(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle)
{
	void *block;

	(void)gfp, (void)handle;
	return rte_mempool_get(mempool_of(pool), &block) ? NULL : block;
}

void dpdk_pool_free(struct dma_pool *pool, void *vaddr, dma_addr_t handle)
{
	(void)handle;
	rte_mempool_put(mempool_of(pool), vaddr);
}
