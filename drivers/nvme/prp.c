/* SPDX-License-Identifier: MIT */
/*
 * prp.c - from segments of memory to PRPs (NVMe 2.0, 4.1.1)
 *
 * The drive sees the data of a command as a stream that is cut into controller pages. Only the
 * first page may begin at an offset; so all later cuts follow from that one offset:
 *
 *   stream    |-- page 0 --|---- page 1 ----|---- page 2 ----|-- page 3 --|
 *             ^ PRP1 = page + first_offset, all others at offset 0
 *
 * A page whose bytes lie one after the other in DMA memory, at the right offset, is given to the
 * drive as it is. Any other is bounced: a block of the pool "bounce page" stands in for it, filled
 * before submission for a write, emptied at completion of a read. The offset is chosen such that
 * the longest segment in DMA memory needs no copy.
 *
 *   1 page     PRP1
 *   2 pages    PRP1, PRP2
 *   more       PRP1, and PRP2 points to a list of the others. Up to 32 entries: a block of the pool
 *              "prp list 256"; more: pages of the pool "prp list page", each full one ending in the
 *              address of the next
 */
#include "nvme_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL_LIST = 256, PRP_ENTRY = sizeof(uint64_t) };

int nvme_setup_prp_pools(struct nvme_prp_pools *pools, struct dmaland_device *dev, size_t page_size)
{
	int code;

	pools->dev = dev;
	pools->page_size = page_size;
	pools->page_shift = __builtin_ctzl(page_size);
	pools->page = dma_pool_create("prp list page", dev, page_size, page_size, 0);
	if (pools->page)
		pools->small = dma_pool_create("prp list 256", dev, SMALL_LIST, SMALL_LIST, 0);
	if (pools->small)
		pools->bounce = dma_pool_create("bounce page", dev, page_size, page_size, 0);
	if (pools->bounce)
		return 0;
	code = errno;
	nvme_release_prp_pools(pools);
	errno = code;
	return -code;
}

void nvme_release_prp_pools(struct nvme_prp_pools *pools)
{
	dma_pool_destroy(pools->bounce);
	dma_pool_destroy(pools->small);
	dma_pool_destroy(pools->page);
	pools->bounce = NULL;
	pools->small = NULL;
	pools->page = NULL;
}

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Step over segments that are used up or empty; there are bytes left behind them. */
static size_t piece_at(const struct iovec *iov, struct nvme_position *at)
{
	while (at->offset == iov[at->segment].iov_len) {
		at->segment++;
		at->offset = 0;
	}
	return iov[at->segment].iov_len - at->offset;
}

static char *address_at(const struct iovec *iov, const struct nvme_position *at)
{
	return (char *)iov[at->segment].iov_base + at->offset;
}

static void skip(const struct iovec *iov, struct nvme_position *at, size_t bytes)
{
	while (bytes > 0) {
		size_t piece = smaller(bytes, piece_at(iov, at));

		at->offset += piece;
		bytes -= piece;
	}
}

static void copy_in(const struct iovec *iov, struct nvme_position *at, char *to, size_t bytes)
{
	while (bytes > 0) {
		size_t piece = smaller(bytes, piece_at(iov, at));

		memcpy(to, address_at(iov, at), piece);
		at->offset += piece;
		to += piece;
		bytes -= piece;
	}
}

static void copy_out(const struct iovec *iov, struct nvme_position *at, const char *from,
		     size_t bytes)
{
	while (bytes > 0) {
		size_t piece = smaller(bytes, piece_at(iov, at));

		memcpy(address_at(iov, at), from, piece);
		at->offset += piece;
		from += piece;
		bytes -= piece;
	}
}

/* The dma address of bytes that are one piece for the drive, over segment ends too. */
static dma_addr_t contiguous_dma(const struct nvme_prp_pools *pools, const struct iovec *iov,
				 struct nvme_position at, size_t bytes)
{
	dma_addr_t first = DMA_MAPPING_ERROR;
	size_t done = 0;

	while (done < bytes) {
		size_t piece = smaller(bytes - done, piece_at(iov, &at));
		dma_addr_t dma = dmaland_virt_to_dma(pools->dev, address_at(iov, &at), piece);

		if (dma == DMA_MAPPING_ERROR || (done > 0 && dma != first + done))
			return DMA_MAPPING_ERROR;
		if (done == 0)
			first = dma;
		at.offset += piece;
		done += piece;
	}
	return first;
}

/*
 * The offset in the first page that spares the longest segment in DMA memory the copy. A PRP entry
 * is dword aligned (NVMe 2.0, 4.1.1), so segments that aren't don't count. *direct tells whether
 * there is any that does; when not, all pages have to be bounced. The first byte stands for its
 * segment: a segment that lies in several pieces for the drive changes pieces at page ends.
 */
static uint32_t choose_first_offset(const struct nvme_prp_pools *pools, const struct iovec *iov,
				    struct nvme_position at, size_t bytes, bool *direct)
{
	size_t longest = 0, done = 0;
	uint32_t offset = 0;

	while (done < bytes) {
		size_t piece = smaller(bytes - done, piece_at(iov, &at));

		if (piece > longest) {
			dma_addr_t dma = dmaland_virt_to_dma(pools->dev, address_at(iov, &at), 1);

			if (dma != DMA_MAPPING_ERROR && ((dma - done) & 3) == 0) {
				longest = piece;
				offset = (dma - done) & (pools->page_size - 1);
			}
		}
		at.offset += piece;
		done += piece;
	}
	*direct = longest > 0;
	return offset;
}

/* Stream bytes in front of a page. */
static size_t page_start(const struct nvme_prp_pools *pools, const struct nvme_iod *iod,
			 size_t page)
{
	return page == 0 ? 0 : (page << pools->page_shift) - iod->first_offset;
}

static size_t page_bytes(const struct nvme_prp_pools *pools, const struct nvme_iod *iod,
			 size_t page)
{
	size_t start = page_start(pools, iod, page);

	return smaller(iod->bytes, page_start(pools, iod, page + 1)) - start;
}

static void free_arrays(struct nvme_iod *iod)
{
	if (iod->lists != &iod->list)
		free(iod->lists);
	if (iod->bounces != iod->few)
		free(iod->bounces);
	iod->lists = &iod->list;
	iod->bounces = iod->few;
	iod->list_count = 0;
	iod->bounce_count = 0;
}

static void nvme_free_iod(const struct nvme_prp_pools *pools, struct nvme_iod *iod)
{
	struct dma_pool *pool = iod->small_list ? pools->small : pools->page;
	uint32_t i;

	for (i = 0; i < iod->list_count; i++)
		dma_pool_free(pool, iod->lists[i].vaddr, iod->lists[i].dma);
	for (i = 0; i < iod->bounce_count; i++)
		dma_pool_free(pools->bounce, iod->bounces[i].block.vaddr,
			      iod->bounces[i].block.dma);
	free_arrays(iod);
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
static void write_entry(struct prp_writer *writer, dma_addr_t dma)
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

/* A block that stands in for a page. NULL when memory ran out; nvme_free_iod() undoes it. */
static struct nvme_bounce *take_bounce(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
				       size_t page, size_t pages)
{
	struct nvme_bounce *bounce;

	if (iod->bounce_count == NVME_INLINE_BOUNCES && iod->bounces == iod->few) {
		size_t most = iod->bounce_count + pages - page;
		struct nvme_bounce *many = malloc(most * sizeof(*many));

		if (!many) {
			dmaland_set_error(ENOMEM, "no memory to note %zu bounced pages", most);
			return NULL;
		}
		memcpy(many, iod->few, sizeof(iod->few));
		iod->bounces = many;
	}
	bounce = &iod->bounces[iod->bounce_count];
	bounce->block.vaddr = dma_pool_alloc(pools->bounce, GFP_KERNEL, &bounce->block.dma);
	if (!bounce->block.vaddr)
		return NULL;
	bounce->page = page;
	iod->bounce_count++;
	return bounce;
}

/* The address of a page that lies in DMA memory as a PRP wants it, or DMA_MAPPING_ERROR. */
static dma_addr_t direct_page(const struct nvme_prp_pools *pools, const struct iovec *iov,
			      const struct nvme_position *at, size_t bytes, uint32_t offset)
{
	dma_addr_t dma = contiguous_dma(pools, iov, *at, bytes);

	/* the offset is a multiple of 4, so that DMA_MAPPING_ERROR never has it */
	return (dma & (pools->page_size - 1)) == offset ? dma : DMA_MAPPING_ERROR;
}

/* The address of a copy of a page for the drive, or DMA_MAPPING_ERROR when memory ran out. */
static dma_addr_t bounced_page(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
			       const struct iovec *iov, struct nvme_position at, size_t page,
			       size_t pages)
{
	struct nvme_bounce *bounce = take_bounce(pools, iod, page, pages);
	uint32_t offset = page == 0 ? iod->first_offset : 0;

	if (!bounce)
		return DMA_MAPPING_ERROR;
	if (iod->write)
		copy_in(iov, &at, (char *)bounce->block.vaddr + offset,
			page_bytes(pools, iod, page));
	return bounce->block.dma + offset;
}

/* Data in one piece: the entries follow from the first. */
static void write_contiguous(const struct nvme_prp_pools *pools, const struct nvme_iod *iod,
			     struct prp_writer *writer, dma_addr_t dma, size_t pages)
{
	size_t page;

	for (page = 0; page < pages; page++)
		write_entry(writer, dma + page_start(pools, iod, page));
}

/* Data in pieces: each page as it is, where that can be, or bounced. 0 or -ENOMEM. */
static int write_scattered(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
			   const struct iovec *iov, struct prp_writer *writer, size_t pages,
			   bool direct)
{
	struct nvme_position at = iod->start;
	size_t page;

	for (page = 0; page < pages; page++) {
		size_t bytes = page_bytes(pools, iod, page);
		dma_addr_t dma = DMA_MAPPING_ERROR;

		if (direct)
			dma = direct_page(pools, iov, &at, bytes,
					  page == 0 ? iod->first_offset : 0);
		if (dma == DMA_MAPPING_ERROR)
			dma = bounced_page(pools, iod, iov, at, page, pages);
		if (dma == DMA_MAPPING_ERROR)
			return -ENOMEM;
		write_entry(writer, dma);
		skip(iov, &at, bytes);
	}
	return 0;
}

/*
 * Make the PRPs of a command: iod->bytes (at least 1) of the segments from *at on, which moves
 * behind them; iod->write says where they go. On failure *at stays and nothing is held.
 */
int nvme_setup_prps(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
		    const struct iovec *iov, struct nvme_position *at, uint64_t prp[2])
{
	dma_addr_t whole = contiguous_dma(pools, iov, *at, iod->bytes);
	bool one_piece = whole != DMA_MAPPING_ERROR && (whole & 3) == 0, direct = true;
	struct prp_writer writer;
	size_t pages;

	iod->start = *at;
	iod->first_offset = one_piece ? whole & (pools->page_size - 1)
				      : choose_first_offset(pools, iov, *at, iod->bytes, &direct);
	pages = (iod->first_offset + iod->bytes + pools->page_size - 1) >> pools->page_shift;
	if (pages > 2 && take_lists(pools, iod, pages - 1) != 0)
		goto no_memory;

	prp[1] = 0;
	writer = start_writing(pools, iod, prp, pages);
	if (one_piece)
		write_contiguous(pools, iod, &writer, whole, pages);
	else if (write_scattered(pools, iod, iov, &writer, pages, direct) != 0)
		goto no_memory;
	skip(iov, at, iod->bytes);
	return 0;

no_memory:
	nvme_free_iod(pools, iod);
	return -ENOMEM;
}

/*
 * The drive is through with a command: copy out what was read, if it arrived, and free its lists
 * and bounced pages.
 */
void nvme_unmap_data(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
		     const struct iovec *iov, bool arrived)
{
	struct nvme_position at = iod->start;
	size_t done = 0;
	uint32_t i;

	if (iod->list_count == 0 && iod->bounce_count == 0)
		return;
	for (i = 0; arrived && !iod->write && i < iod->bounce_count; i++) {
		const struct nvme_bounce *bounce = &iod->bounces[i];
		size_t start = page_start(pools, iod, bounce->page);
		size_t bytes = page_bytes(pools, iod, bounce->page);
		uint32_t offset = bounce->page == 0 ? iod->first_offset : 0;

		skip(iov, &at, start - done);
		copy_out(iov, &at, (const char *)bounce->block.vaddr + offset, bytes);
		done = start + bytes;
	}
	nvme_free_iod(pools, iod);
}

/* Forget a command whose memory the drive may still use: its blocks are never freed. */
void nvme_leak_iod(struct nvme_iod *iod)
{
	free_arrays(iod);
}
