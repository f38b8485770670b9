/* SPDX-License-Identifier: MIT */
/*
 * scatterlist.h - pieces of memory that are one transfer
 *
 * The kernel's structure in user space's terms: an element has an address where the kernel's has a
 * page and an offset. Lists are arrays; there is no chaining.
 */
#ifndef DMALAND_SCATTERLIST_H
#define DMALAND_SCATTERLIST_H

#include <dmaland/streaming.h>
#include <dmaland/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct scatterlist {
	void *address;
	unsigned int length;
	unsigned int flags; /* bit 0: the last element */
	/* Filled in by mapping: segment i of the device is in element i. */
	dma_addr_t dma_address;
	unsigned int dma_length;
};

/* Elements of the application, and how many segments they became for the device. */
struct sg_table {
	struct scatterlist *sgl;
	unsigned int nents;	 /* segments, after dma_map_sgtable() */
	unsigned int orig_nents; /* elements */
};

#define SG_LAST 1u

#define sg_dma_address(sg) ((sg)->dma_address)
#define sg_dma_len(sg)	   ((sg)->dma_length)

/** sg_init_table() - clear @nents elements, and mark the last. */
void sg_init_table(struct scatterlist *sg, unsigned int nents);

/** sg_set_buf() - the element is @size bytes at @buf. */
static inline void sg_set_buf(struct scatterlist *sg, const void *buf, unsigned int size)
{
	sg->address = (void *)(uintptr_t)buf;
	sg->length = size;
}

/** sg_init_one() - a list of one element. */
static inline void sg_init_one(struct scatterlist *sg, const void *buf, unsigned int size)
{
	sg_init_table(sg, 1);
	sg_set_buf(sg, buf, size);
}

/** sg_virt() - where the element's memory is. */
static inline void *sg_virt(const struct scatterlist *sg)
{
	return sg->address;
}

static inline bool sg_is_last(const struct scatterlist *sg)
{
	return sg->flags & SG_LAST;
}

/** sg_mark_end() - the list ends with this element. */
static inline void sg_mark_end(struct scatterlist *sg)
{
	sg->flags |= SG_LAST;
}

/** sg_next() - the element after @sg, or NULL. */
static inline struct scatterlist *sg_next(struct scatterlist *sg)
{
	return sg_is_last(sg) ? NULL : sg + 1;
}

/** sg_nents() - how many elements there are up to the last. */
static inline int sg_nents(struct scatterlist *sg)
{
	int n = 0;

	for (; sg; sg = sg_next(sg))
		n++;
	return n;
}

#define for_each_sg(sglist, sg, nr, i)                                                             \
	for ((i) = 0, (sg) = (sglist); (i) < (nr); (i)++, (sg) = sg_next(sg))
#define for_each_sgtable_sg(sgt, sg, i)	    for_each_sg((sgt)->sgl, sg, (sgt)->orig_nents, i)
#define for_each_sgtable_dma_sg(sgt, sg, i) for_each_sg((sgt)->sgl, sg, (sgt)->nents, i)

/** sg_alloc_table() - a list of @nents cleared elements. 0, -EINVAL or -ENOMEM. */
int sg_alloc_table(struct sg_table *table, unsigned int nents, gfp_t gfp);

/** sg_free_table() - free it; the table is empty afterwards. */
void sg_free_table(struct sg_table *table);

/**
 * dma_map_sg_attrs() - hand a list to the device
 * @dev:   the device
 * @sg:    the first element
 * @nents: elements, at least 1; none of them empty
 * @dir:   who writes
 * @attrs: DMA_ATTR_*, or 0
 *
 * Elements that lie one behind the other, or that meet at a granule (dma_get_merge_boundary()),
 * become one segment, within the device's segment size and boundary. Each segment goes its own way, as
 * with dma_map_single(): what lies one behind the other is joined only if that is no dearer, and what
 * meets at a granule is copied together if each would be copied, and mapped if not.
 *
 * A list maps when each of its elements does: where a segment can't be had, its elements go alone.
 * An element that is more than the device's segment size or boundary allow goes alone too, as in the kernel.
 *
 * In a list of several elements, an element that begins or ends at the edge of a page, or crosses
 * one, keeps its offset in the page, also where it is copied: segments meet at the edges of pages as
 * the elements do, and a driver may walk them in pages. The segment boundary goes first: an element
 * that would cross it at its offset, wherever it is put, is copied to another, if it can be.
 *
 * Return: how many segments there are, to be read with sg_dma_address() and sg_dma_len() from
 * the first element on; 0 when nothing was mapped, with errno set.
 */
int dma_map_sg_attrs(struct dmaland_device *dev, struct scatterlist *sg, int nents,
		     enum dma_data_direction dir, unsigned long attrs);

/**
 * dma_unmap_sg_attrs() - the transfer is over
 * @nents: elements, as dma_map_sg() was given: not what it returned
 *
 * Checked as dma_unmap_single() is; of a list with something wrong nothing is unmapped.
 */
void dma_unmap_sg_attrs(struct dmaland_device *dev, struct scatterlist *sg, int nents,
			enum dma_data_direction dir, unsigned long attrs);

/** dma_map_sg() - dma_map_sg_attrs() without attributes. */
static inline int dma_map_sg(struct dmaland_device *dev, struct scatterlist *sg, int nents,
			     enum dma_data_direction dir)
{
	return dma_map_sg_attrs(dev, sg, nents, dir, 0);
}

/** dma_unmap_sg() - dma_unmap_sg_attrs() without attributes. */
static inline void dma_unmap_sg(struct dmaland_device *dev, struct scatterlist *sg, int nents,
				enum dma_data_direction dir)
{
	dma_unmap_sg_attrs(dev, sg, nents, dir, 0);
}

/**
 * dma_map_sgtable() - dma_map_sg_attrs() of a table
 *
 * Return: 0, with the segments' count in @sgt->nents; -EINVAL: do not try again; -ENOMEM: later it
 * may work; -EIO; the table as it was.
 */
int dma_map_sgtable(struct dmaland_device *dev, struct sg_table *sgt, enum dma_data_direction dir,
		    unsigned long attrs);

/** dma_unmap_sgtable() - and its end. */
static inline void dma_unmap_sgtable(struct dmaland_device *dev, struct sg_table *sgt,
				     enum dma_data_direction dir, unsigned long attrs)
{
	dma_unmap_sg_attrs(dev, sgt->sgl, (int)sgt->orig_nents, dir, attrs);
}

/** dma_sync_sg_for_cpu() - the CPU may look at all of a list that stays mapped. */
void dma_sync_sg_for_cpu(struct dmaland_device *dev, struct scatterlist *sg, int nents,
			 enum dma_data_direction dir);

/** dma_sync_sg_for_device() - and back to the device. */
void dma_sync_sg_for_device(struct dmaland_device *dev, struct scatterlist *sg, int nents,
			    enum dma_data_direction dir);

/** dma_sync_sgtable_for_cpu() - dma_sync_sg_for_cpu() of a table. */
static inline void dma_sync_sgtable_for_cpu(struct dmaland_device *dev, struct sg_table *sgt,
					    enum dma_data_direction dir)
{
	dma_sync_sg_for_cpu(dev, sgt->sgl, (int)sgt->orig_nents, dir);
}

/** dma_sync_sgtable_for_device() - dma_sync_sg_for_device() of a table. */
static inline void dma_sync_sgtable_for_device(struct dmaland_device *dev, struct sg_table *sgt,
					       enum dma_data_direction dir)
{
	dma_sync_sg_for_device(dev, sgt->sgl, (int)sgt->orig_nents, dir);
}

#ifdef __cplusplus
}
#endif

#endif
