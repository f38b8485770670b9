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
#include "data.h"

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

static struct dma_pool *list_pool(const struct nvme_prp_pools *pools, const struct nvme_iod *iod)
{
	return iod->small_list ? pools->small : pools->page;
}

static void free_chain(const struct nvme_prp_pools *pools, struct nvme_iod *iod)
{
	while (iod->list_count > 0) {
		const struct nvme_block *list = &iod->lists[--iod->list_count];

		dma_pool_free(pools->page, list->vaddr, list->dma);
	}
	free(iod->lists);
	iod->lists = &iod->list;
}

void nvme_free_iod(const struct nvme_prp_pools *pools, struct nvme_iod *iod)
{
	if (iod->lists != &iod->list) {
		free_chain(pools, iod);
	} else if (iod->list_count > 0) {
		dma_pool_free(list_pool(pools, iod), iod->list.vaddr, iod->list.dma);
		iod->list_count = 0;
	}
}

/* For more entries than a page has: all lists but the last give one entry to the chain. */
static int take_chain(const struct nvme_prp_pools *pools, struct nvme_iod *iod, size_t entries)
{
	size_t lists = (entries - 2) / (pools->page_size / PRP_ENTRY - 1) + 1;

	iod->lists = malloc(lists * sizeof(*iod->lists));
	if (!iod->lists) {
		iod->lists = &iod->list;
		return dmaland_set_error(ENOMEM, "no memory to note %zu PRP lists", lists);
	}
	while (iod->list_count < lists) {
		struct nvme_block *list = &iod->lists[iod->list_count];

		list->vaddr = dma_pool_alloc(pools->page, GFP_KERNEL, &list->dma);
		if (!list->vaddr)
			return -ENOMEM;
		iod->list_count++;
	}
	return 0;
}

/* Take the lists for so many entries. 0 or -ENOMEM; nvme_free_iod() undoes it. */
static int take_lists(const struct nvme_prp_pools *pools, struct nvme_iod *iod, size_t entries)
{
	iod->small_list = entries <= SMALL_LIST / PRP_ENTRY;
	if (entries > pools->page_size / PRP_ENTRY)
		return take_chain(pools, iod, entries);
	iod->list.vaddr = dma_pool_alloc(list_pool(pools, iod), GFP_KERNEL, &iod->list.dma);
	if (!iod->list.vaddr)
		return -ENOMEM;
	iod->list_count = 1;
	return 0;
}

/* One list for something else than PRPs: at most a page. 0 or -ENOMEM; nvme_unmap_data() undoes it. */
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

static size_t list_room(const struct nvme_prp_pools *pools, const struct nvme_iod *iod)
{
	return (iod->small_list ? SMALL_LIST : pools->page_size) / PRP_ENTRY;
}

static struct prp_writer start_writing(const struct nvme_prp_pools *pools,
				       const struct nvme_iod *iod, uint64_t prp[2], size_t pages)
{
	return (struct prp_writer){
		.entry = prp,
		.room = 2,
		.left = pages,
		.next_list = iod->lists,
		.list_room = list_room(pools, iod),
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

/* Data in one piece of more than two pages: the entries follow from the first. */
static void write_single(const struct nvme_prp_pools *pools, const struct nvme_iod *iod,
			 uint64_t prp[2], size_t pages)
{
	dma_addr_t page_size = pools->page_size, dma = (iod->dma & ~(page_size - 1)) + page_size;
	size_t room = list_room(pools, iod), left = pages - 1;
	const struct nvme_block *list = iod->lists;

	prp[0] = htole64(iod->dma);
	prp[1] = htole64(list->dma);
	for (;; list++) {
		size_t i, n = left > room ? room - 1 : left;
		uint64_t *entry = list->vaddr;

#pragma GCC unroll 5
		for (i = 0; i < n; i++, dma += page_size)
			entry[i] = htole64(dma);
		left -= n;
		if (left == 0)
			return;
		entry[n] = htole64(list[1].dma);
	}
}

/*
 * Data in segments. A segment covers whole pages of the stream: what map.c makes elements of ends with
 * a page, or with the stream.
 */
static void write_scattered(const struct nvme_prp_pools *pools, const struct nvme_iod *iod,
			    uint64_t prp[2], size_t pages)
{
	struct prp_writer writer = start_writing(pools, iod, prp, pages);
	const struct scatterlist *sg = iod->sg;
	size_t page, used = 0;

	prp[1] = 0;
	for (page = 0; page < pages; page++) {
		write_entry(&writer, sg_dma_address(sg) + used);
		used += nvme_page_bytes(pools, iod, page);
		if (used == sg_dma_len(sg)) {
			sg++;
			used = 0;
		}
	}
}

static void write_prps(const struct nvme_prp_pools *pools, const struct nvme_iod *iod,
		       uint64_t prp[2], size_t pages)
{
	if (nvme_is_piece(iod))
		write_single(pools, iod, prp, pages);
	else
		write_scattered(pools, iod, prp, pages);
}

/* The PRPs of data that are mapped, their lists taken, but for those of nvme_write_piece(). */
void nvme_write_prps(const struct nvme_prp_pools *pools, const struct nvme_iod *iod,
		     uint64_t prp[2])
{
	write_prps(pools, iod, prp, nvme_page_count(pools, iod));
}

/* The same, with lists that are taken first, if there are to be some. 0 or -ENOMEM; nvme_unmap_data() undoes it. */
int nvme_list_prps(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
		   struct nvme_command *command)
{
	size_t pages = nvme_page_count(pools, iod);
	int code = pages > 2 ? take_lists(pools, iod, pages - 1) : 0;

	if (code == 0)
		write_prps(pools, iod, command->prp, pages);
	return code;
}
