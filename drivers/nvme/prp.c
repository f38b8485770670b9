/* SPDX-License-Identifier: MIT */
/*
 * prp.c - from data that are mapped (map.c) to PRPs (NVMe 2.0, 4.1.1)
 *
 *   1 page     PRP1
 *   2 pages    PRP1, PRP2
 *   more       PRP1, and PRP2 points to a list of the others. Up to 32 entries: a block of the pool
 *              "prp list 256"; more: pages of the pool "prp list page", each full one ending in the
 *              address of the next
 */
#include "nvme_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

enum { SMALL_LIST = NVME_SMALL_LIST, PRP_ENTRY = sizeof(uint64_t) };

/*
 * What mappings have to be like for PRPs: at the offset in a page that the memory has, as the
 * kernel's driver asks for it; of any length that can be had, across any boundary.
 */
static int set_limits(struct nvme_prp_pools *pools)
{
	enum { LARGEST_RUN = 1 << 30 };
	size_t most;
	int code = dma_set_min_align_mask(pools->dev, pools->page_size - 1);

	if (code == 0)
		code = dma_set_seg_boundary(pools->dev, ULONG_MAX);
	if (code != 0)
		return code;
	most = dma_max_mapping_size(pools->dev);
	pools->max_run = LARGEST_RUN;
	while (pools->max_run > most && pools->max_run > pools->page_size)
		pools->max_run /= 2;
	return dma_set_max_seg_size(pools->dev, pools->max_run);
}

int nvme_setup_prp_pools(struct nvme_prp_pools *pools, struct dmaland_device *dev, size_t page_size)
{
	int code;

	pools->dev = dev;
	pools->page_size = page_size;
	pools->page_shift = __builtin_ctzl(page_size);
	pools->misaligned = 3; /* a PRP entry is dword aligned (NVMe 2.0, 4.1.1) */
	code = set_limits(pools);
	if (code != 0)
		return code;
	pools->page = dma_pool_create("prp list page", dev, page_size, page_size, 0);
	if (pools->page)
		pools->small = dma_pool_create("prp list 256", dev, SMALL_LIST, SMALL_LIST, 0);
	if (pools->small)
		return 0;
	code = errno;
	nvme_release_prp_pools(pools);
	errno = code;
	return -code;
}

void nvme_release_prp_pools(struct nvme_prp_pools *pools)
{
	dma_pool_destroy(pools->small);
	dma_pool_destroy(pools->page);
	pools->small = NULL;
	pools->page = NULL;
}

void nvme_free_iod(const struct nvme_prp_pools *pools, struct nvme_iod *iod)
{
	struct dma_pool *pool = iod->small_list ? pools->small : pools->page;
	uint32_t i;

	for (i = 0; i < iod->list_count; i++)
		dma_pool_free(pool, iod->lists[i].vaddr, iod->lists[i].dma);
	if (iod->lists != &iod->list)
		free(iod->lists);
	iod->lists = &iod->list;
	iod->list_count = 0;
}

/* Take the lists for so many entries. 0 or -ENOMEM; nvme_free_iod() undoes it. */
static int take_lists(const struct nvme_prp_pools *pools, struct nvme_iod *iod, size_t entries)
{
	size_t per_page = pools->page_size / PRP_ENTRY, lists = 1;
	struct dma_pool *pool;

	iod->small_list = entries <= SMALL_LIST / PRP_ENTRY;
	if (entries > per_page) {
		/* all lists but the last give one entry to the chain */
		lists = (entries - 2) / (per_page - 1) + 1;
		iod->lists = malloc(lists * sizeof(*iod->lists));
		if (!iod->lists) {
			iod->lists = &iod->list;
			return dmaland_set_error(ENOMEM, "no memory to note %zu PRP lists", lists);
		}
	}
	pool = iod->small_list ? pools->small : pools->page;
	while (iod->list_count < lists) {
		struct nvme_block *list = &iod->lists[iod->list_count];

		list->vaddr = dma_pool_alloc(pool, GFP_KERNEL, &list->dma);
		if (!list->vaddr)
			return -ENOMEM;
		iod->list_count++;
	}
	return 0;
}

/* One list for something else than PRPs: at most a page. 0 or -ENOMEM; nvme_free_iod() undoes it. */
int nvme_take_list(const struct nvme_prp_pools *pools, struct nvme_iod *iod, size_t bytes)
{
	return take_lists(pools, iod, bytes / PRP_ENTRY);
}

/* Where the next entry goes. PRP1 and PRP2 follow the rule of a list with two entries. */
struct prp_writer {
	uint64_t *entry;
	size_t room; /* entries from there to the end of this list */
	size_t left; /* pages that have no entry yet */
	const struct nvme_block *next_list;
	size_t list_room;
};

static struct prp_writer start_writing(const struct nvme_prp_pools *pools,
				       const struct nvme_iod *iod, uint64_t prp[2], size_t pages)
{
	return (struct prp_writer){
		.entry = prp,
		.room = 2,
		.left = pages,
		.next_list = iod->lists,
		.list_room = (iod->small_list ? SMALL_LIST : pools->page_size) / PRP_ENTRY,
	};
}

/* The last place of a list is for the address of the next, unless the stream ends there. */
static inline void write_entry(struct prp_writer *writer, dma_addr_t dma)
{
	if (writer->room == 1 && writer->left > 1) {
		*writer->entry = htole64(writer->next_list->dma);
		writer->entry = writer->next_list->vaddr;
		writer->room = writer->list_room;
		writer->next_list++;
	}
	*writer->entry++ = htole64(dma);
	writer->room--;
	writer->left--;
}

/* Data in one piece: the entries follow from the first. */
static void write_single(const struct nvme_prp_pools *pools, const struct nvme_iod *iod,
			 struct prp_writer *writer, size_t pages)
{
	dma_addr_t dma = iod->dma;
	size_t page;

	for (page = 0; page < pages; page++) {
		write_entry(writer, dma);
		dma = (dma | (pools->page_size - 1)) + 1;
	}
}

/*
 * Data in segments. A segment covers whole pages of the stream: what map.c makes elements of ends with
 * a page, or with the stream.
 */
static void write_scattered(const struct nvme_prp_pools *pools, const struct nvme_iod *iod,
			    struct prp_writer *writer, size_t pages)
{
	const struct scatterlist *sg = iod->sg;
	size_t page, used = 0;

	for (page = 0; page < pages; page++) {
		write_entry(writer, sg_dma_address(sg) + used);
		used += nvme_page_bytes(pools, iod, page);
		if (used == sg_dma_len(sg)) {
			sg++;
			used = 0;
		}
	}
}

static size_t page_count(const struct nvme_prp_pools *pools, const struct nvme_iod *iod)
{
	return (iod->first_offset + iod->bytes + pools->page_size - 1) >> pools->page_shift;
}

/* The PRPs of data that are mapped, their lists taken. A command that is repeated needs them again. */
void nvme_write_prps(const struct nvme_prp_pools *pools, struct nvme_iod *iod, uint64_t prp[2])
{
	size_t pages = page_count(pools, iod);
	struct prp_writer writer = start_writing(pools, iod, prp, pages);

	prp[1] = 0;
	if (iod->single)
		write_single(pools, iod, &writer, pages);
	else
		write_scattered(pools, iod, &writer, pages);
}

/* Take the lists for data that are mapped, if they need some. 0 or -ENOMEM; nvme_free_iod() undoes it. */
int nvme_take_prp_lists(const struct nvme_prp_pools *pools, struct nvme_iod *iod)
{
	size_t pages = page_count(pools, iod);

	return pages > 2 ? take_lists(pools, iod, pages - 1) : 0;
}
