/* SPDX-License-Identifier: MIT */
/*
 * streaming.c - the public calls of mappings, for floor 5, which does not know a device
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "device/device.h"

/* Where the IOVA cache of a mapping ends is the largest that is cheap to map. */
#define OPT_MAPPING_GRANULES IOVA_SLOT_GRANULES

/*
 * In the child of a fork: errno and the sentence are set. Single mappings, which are to be fast, find
 * out by themselves: streaming_disown().
 */
static inline bool is_parents(const struct dmaland_device *dev)
{
	return __builtin_expect(dev->disowned, 0) && dmaland_check(dev);
}

dma_addr_t dma_map_single_attrs(struct dmaland_device *dev, void *ptr, size_t size,
				enum dma_data_direction dir, unsigned long attrs)
{
	return streaming_map(&dev->streaming, ptr, size, dir, attrs);
}

void dma_unmap_single_attrs(struct dmaland_device *dev, dma_addr_t addr, size_t size,
			    enum dma_data_direction dir, unsigned long attrs)
{
	streaming_unmap(&dev->streaming, addr, size, dir, attrs);
}

dma_addr_t dma_map_resource(struct dmaland_device *dev, phys_addr_t phys_addr, size_t size,
			    enum dma_data_direction dir, unsigned long attrs)
{
	return streaming_map_registers(&dev->streaming, (void *)(uintptr_t)phys_addr, size, dir,
				       attrs);
}

void dma_unmap_resource(struct dmaland_device *dev, dma_addr_t addr, size_t size,
			enum dma_data_direction dir, unsigned long attrs)
{
	streaming_unmap(&dev->streaming, addr, size, dir, attrs);
}

void dma_sync_single_for_cpu(struct dmaland_device *dev, dma_addr_t addr, size_t size,
			     enum dma_data_direction dir)
{
	streaming_sync(&dev->streaming, addr, size, dir, false);
}

void dma_sync_single_for_device(struct dmaland_device *dev, dma_addr_t addr, size_t size,
				enum dma_data_direction dir)
{
	streaming_sync(&dev->streaming, addr, size, dir, true);
}

/* ---- lists ---- */

int dma_map_sg_attrs(struct dmaland_device *dev, struct scatterlist *sg, int nents,
		     enum dma_data_direction dir, unsigned long attrs)
{
	int segments =
		is_parents(dev) ? 0 : streaming_map_sg(&dev->streaming, sg, nents, dir, attrs);

	return segments < 0 ? 0 : segments;
}

void dma_unmap_sg_attrs(struct dmaland_device *dev, struct scatterlist *sg, int nents,
			enum dma_data_direction dir, unsigned long attrs)
{
	if (is_parents(dev))
		return;
	streaming_unmap_sg(&dev->streaming, sg, nents, dir, attrs);
}

int dma_map_sgtable(struct dmaland_device *dev, struct sg_table *sgt, enum dma_data_direction dir,
		    unsigned long attrs)
{
	int segments;

	if (is_parents(dev))
		return -EPERM;
	segments = streaming_map_sg(&dev->streaming, sgt->sgl, (int)sgt->orig_nents, dir, attrs);
	if (segments < 0)
		return segments;
	sgt->nents = (unsigned int)segments;
	return 0;
}

void dma_sync_sg_for_cpu(struct dmaland_device *dev, struct scatterlist *sg, int nents,
			 enum dma_data_direction dir)
{
	if (is_parents(dev))
		return;
	streaming_sync_sg(&dev->streaming, sg, nents, dir, false);
}

void dma_sync_sg_for_device(struct dmaland_device *dev, struct scatterlist *sg, int nents,
			    enum dma_data_direction dir)
{
	if (is_parents(dev))
		return;
	streaming_sync_sg(&dev->streaming, sg, nents, dir, true);
}

void sg_init_table(struct scatterlist *sg, unsigned int nents)
{
	memset(sg, 0, nents * sizeof(*sg));
	if (nents)
		sg_mark_end(&sg[nents - 1]);
}

int sg_alloc_table(struct sg_table *table, unsigned int nents, gfp_t gfp)
{
	memset(table, 0, sizeof(*table));
	if (nents == 0)
		return error_set(EINVAL, "sg_alloc_table: a list has one element at least");
	if (!(gfp & __GFP_RECLAIM) && !atomic_may_grow_wanted())
		return error_set(ENOMEM,
				 "sg_alloc_table: lists come from malloc(), which may enter "
				 "the kernel: allocate ahead with GFP_KERNEL, or set "
				 "DMALAND_ATOMIC_MAY_GROW=1 if GFP_ATOMIC may enter it");
	table->sgl = calloc(nents, sizeof(*table->sgl));
	if (!table->sgl)
		return error_set(ENOMEM, "no memory for a list of %u elements", nents);
	sg_init_table(table->sgl, nents);
	table->nents = table->orig_nents = nents;
	return 0;
}

void sg_free_table(struct sg_table *table)
{
	free(table->sgl);
	memset(table, 0, sizeof(*table));
}

/* ---- limits ---- */

size_t dma_max_mapping_size(struct dmaland_device *dev)
{
	return streaming_max_size(&dev->streaming);
}

size_t dma_opt_mapping_size(struct dmaland_device *dev)
{
	size_t max = streaming_max_size(&dev->streaming);
	size_t opt = OPT_MAPPING_GRANULES * dev->function->domain->granule;

	return opt < max ? opt : max;
}

bool dma_need_sync(struct dmaland_device *dev, dma_addr_t addr)
{
	if (is_parents(dev))
		return false;
	return streaming_need_sync(&dev->streaming, addr);
}

unsigned long dma_get_merge_boundary(struct dmaland_device *dev)
{
	return streaming_merges(&dev->streaming) ? dev->function->domain->granule - 1 : 0;
}

int dma_set_max_seg_size(struct dmaland_device *dev, unsigned int size)
{
	if (is_parents(dev))
		return -EPERM;
	if (size == 0)
		return error_set(EINVAL, "%s: a segment of 0 bytes", dev->function->name);
	dev->limits.max_seg_size = size;
	return 0;
}

unsigned int dma_get_max_seg_size(struct dmaland_device *dev)
{
	return dev->limits.max_seg_size;
}

int dma_set_seg_boundary(struct dmaland_device *dev, unsigned long mask)
{
	if (is_parents(dev))
		return -EPERM;
	return streaming_set_boundary(&dev->streaming, mask);
}

unsigned long dma_get_seg_boundary(struct dmaland_device *dev)
{
	return dev->limits.seg_boundary;
}

int dma_set_min_align_mask(struct dmaland_device *dev, unsigned int mask)
{
	if (is_parents(dev))
		return -EPERM;
	return streaming_set_min_align(&dev->streaming, mask);
}

unsigned int dma_get_min_align_mask(struct dmaland_device *dev)
{
	return (unsigned int)dev->limits.min_align_mask;
}

/* ---- the rest ---- */

int dmaland_register(struct dmaland_device *dev, void *ptr, size_t size)
{
	if (is_parents(dev))
		return -EPERM;
	return streaming_register(&dev->streaming, ptr, size);
}

int dmaland_unregister(struct dmaland_device *dev, void *ptr)
{
	if (is_parents(dev))
		return -EPERM;
	return streaming_unregister(&dev->streaming, ptr);
}

int dmaland_check_registered(struct dmaland_device *dev)
{
	if (is_parents(dev))
		return -EPERM;
	return streaming_check(&dev->streaming);
}

void dmaland_flush(struct dmaland_device *dev)
{
	if (is_parents(dev))
		return;
	streaming_flush(&dev->streaming);
}

void dmaland_get_streaming_stats(struct dmaland_device *dev, struct dmaland_streaming_stats *stats)
{
	memset(stats, 0, sizeof(*stats));
	if (!is_parents(dev))
		streaming_get_stats(&dev->streaming, stats);
}
