/* SPDX-License-Identifier: MIT */
/*
 * dma.c - the public calls that take a device, for the floors below that don't know one
 */
#include <errno.h>
#include <stdio.h>

#include <dmaland/coherent.h>
#include "base/error.h"
#include "device/device.h"
#include "memory/coherent.h"

void *dma_alloc_coherent(struct dmaland_device *dev, size_t size, dma_addr_t *handle, gfp_t gfp)
{
	if (!dev) {
		error_set(EINVAL, "dma_alloc_coherent: no device");
		return NULL;
	}
	if (dmaland_check(dev))
		return NULL;
	return coherent_alloc(dev->arena, &dev->coherent, size, handle, gfp | dev->gfp);
}

void dma_free_coherent(struct dmaland_device *dev, size_t size, void *vaddr, dma_addr_t handle)
{
	if (dev && !dmaland_check(dev))
		coherent_free(dev->arena, &dev->coherent, dev->function->name, size, vaddr, handle);
}

/* That nothing is had for GFP_ATOMIC is no failure of the call. */
void dmaland_trim(struct dmaland_device *dev)
{
	struct error_state before;

	if (!dev || dmaland_check(dev))
		return;
	error_keep(&before);
	arena_reclaim(dev->arena, 0);
	if (!pool_list_stats(&dev->pools, NULL, 0)) /* until it allocates again */
		arena_forget(dev->arena, dev->coherent.limits);
	arena_refill(dev->arena);
	error_put_back(&before);
}

struct dma_pool *dma_pool_create(const char *name, struct dmaland_device *dev, size_t size,
				 size_t align, size_t boundary)
{
	return dma_pool_create_node(name, dev, size, align, boundary, NUMA_NO_NODE);
}

/*
 * The bookkeeping of a pool is small pieces of the heap, which share their pages with others: no
 * node can be given to it alone. The number comes from who knows where, and is used for nothing.
 */
struct dma_pool *dma_pool_create_node(const char *name, struct dmaland_device *dev, size_t size,
				      size_t align, size_t boundary, int node)
{
	(void)node;
	if (!dev) {
		error_set(EINVAL, "dma_pool_create %s: no device", name ? name : "");
		return NULL;
	}
	if (dmaland_check(dev))
		return NULL;
	const struct pool_place place = {
		.arena = dev->arena,
		.limits = &dev->limits,
		.list = &dev->pools,
		.orphans = &dev->orphans,
		.name = dev->function->name,
		.gfp = dev->gfp,
		.debug = dev->pool_debug || pool_debug_wanted(name),
		.annotate = pool_annotate_wanted(),
	};
	return pool_create(name, &place, size, align, boundary);
}

dma_addr_t dmaland_virt_to_dma(struct dmaland_device *dev, const void *vaddr, size_t size)
{
	if (dmaland_check(dev))
		return DMA_MAPPING_ERROR;
	return arena_translate(dev->arena, &dev->limits, vaddr, size);
}

size_t dmaland_get_pools(struct dmaland_device *dev, struct dmaland_pool_stats *stats, size_t n)
{
	return dmaland_check(dev) ? 0 : pool_list_stats(&dev->pools, stats, n);
}
