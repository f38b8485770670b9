/* SPDX-License-Identifier: MIT */
/*
 * data.h - a command in flight, and its data: mapped, and told of by PRPs or SGLs
 *
 *   segments --> map.c --> what the drive reaches --> prp.c, sgl.c --> the command, and lists
 *
 * Nothing here knows a queue or the controller.
 */
#ifndef NVME_DATA_H
#define NVME_DATA_H

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <sys/uio.h>

#include <dmaland/dmaland.h>
#include <dmaland/nvme.h>

#include "nvme_spec.h"

/* A block of a pool. */
struct nvme_block {
	void *vaddr;
	dma_addr_t dma;
};

enum { NVME_INLINE_SG = 4 };

enum { NVME_SMALL_LIST = 256 }; /* bytes of a block of the pool "prp list 256" */

/* What a command has to give back. */
enum nvme_holds {
	NVME_NOTHING,
	NVME_PIECE,	   /* data that are mapped in one piece, at iod.dma */
	NVME_LISTED_PIECE, /* ... and lists */
	NVME_ELEMENTS,	   /* iod.sg, and lists, or none */
	NVME_LIST,	   /* alone */
};

/*
 * A command in flight. Its data are one piece, or elements of sg, some of which may be
 * pages that PRPs can't express as they lie, and that were gathered in memory of the command's own. The
 * fields up to sg_count are what every command touches; one whose data are one piece, and need no list, touches
 * nothing else.
 */
struct nvme_iod {
	union {
		struct dmaland_nvme_request *request;
		struct nvme_iod *next_free; /* of a free slot */
	};
	dma_addr_t dma;	       /* of data in one piece */
	size_t bytes;	       /* of blocks, also where no data are carried */
	uint32_t first_offset; /* of the data in the first controller page, where they need lists */
	uint32_t list_count;   /* lists[0..list_count) are this command's */
	uint64_t block;	       /* the first */
	uint32_t age; /* in ticks, see nvme_watch(); from here to repeats: zero in a free slot */
	bool busy;    /* between submission and completion */
	bool late;    /* it takes too long ... */
	bool asked;   /* ... and the drive was asked to abort it */
	uint8_t repeats;
	uint16_t cid;		  /* its low bits are the slot, see queue.c */
	uint8_t holds;		  /* enum nvme_holds */
	bool sgl;		  /* described by an SGL, not by PRPs */
	uint8_t direction;	  /* enum dma_data_direction, see nvme_direction_of() */
	bool small_list;	  /* lists[0] is of the small pool */
	uint32_t sg_count;	  /* sg[0..sg_count) are mapped */
	const struct iovec *iov;  /* where their data begin: segment ... */
	size_t iov_offset;	  /* ... and byte */
	struct nvme_block list;	  /* the first list */
	struct nvme_block *lists; /* &list, or an array when there are more */
	struct scatterlist *sg;	  /* few_sg, or an array when there are more */
	char *gathered;		  /* pages; or NULL */
	size_t gathered_bytes;
	struct scatterlist few_sg[NVME_INLINE_SG];
};

/* What PRPs are made of. page_size is the controller's (CC.MPS). */
struct nvme_prp_pools {
	struct dmaland_device *dev;
	size_t page_size;
	unsigned int page_shift;
	bool sgls;	      /* data are described by SGLs where these can; else by PRPs */
	uintptr_t misaligned; /* bits that are 0 in an address that can be described */
	size_t max_run;	      /* bytes of whole pages that one mapping may cover; a power of two */
	struct dma_pool *page, *small;
};

/* map.c: 0 or -errno with the error set */
void nvme_init_iod(struct nvme_iod *iod);
int nvme_setup_data(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
		    const struct iovec *iov, struct nvme_position *at,
		    struct nvme_command *command);
void nvme_unmap_more(const struct nvme_prp_pools *pools, struct nvme_iod *iod, bool arrived);
void nvme_leak_iod(struct nvme_iod *iod);
int nvme_take_lists(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
		    struct nvme_command *command);

/* Which way data go, by bits 1:0 of an opcode (NVMe 2.0, 3.3.3.1); the kernel has the same numbers. */
static inline enum dma_data_direction nvme_direction_of(uint8_t opcode)
{
	static_assert((int)DMA_TO_DEVICE == 1 && (int)DMA_FROM_DEVICE == 2, "data transfer");
	return (enum dma_data_direction)(opcode & 3);
}

/* Stream bytes in front of a page. */
static inline size_t nvme_page_start(const struct nvme_prp_pools *pools, const struct nvme_iod *iod,
				     size_t page)
{
	return page == 0 ? 0 : (page << pools->page_shift) - iod->first_offset;
}

/* Stream bytes in a page. */
static inline size_t nvme_page_bytes(const struct nvme_prp_pools *pools, const struct nvme_iod *iod,
				     size_t page)
{
	size_t start = nvme_page_start(pools, iod, page);
	size_t end = nvme_page_start(pools, iod, page + 1);

	return (end < iod->bytes ? end : iod->bytes) - start;
}

/* Controller pages that the data touch. */
static inline size_t nvme_page_count(const struct nvme_prp_pools *pools, const struct nvme_iod *iod)
{
	return (iod->first_offset + iod->bytes + pools->page_size - 1) >> pools->page_shift;
}

/* prp.c: 0 or -errno with the error set; *pools begins as zeroes */
int nvme_setup_prp_pools(struct nvme_prp_pools *pools, struct dmaland_device *dev,
			 size_t page_size);
void nvme_release_prp_pools(struct nvme_prp_pools *pools);
int nvme_list_prps(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
		   struct nvme_command *command);
int nvme_take_list(const struct nvme_prp_pools *pools, struct nvme_iod *iod, size_t bytes);
void nvme_write_prps(const struct nvme_prp_pools *pools, const struct nvme_iod *iod,
		     uint64_t prp[2]);
void nvme_free_iod(const struct nvme_prp_pools *pools, struct nvme_iod *iod);

/* sgl.c */
void nvme_use_sgls(struct nvme_prp_pools *pools, uint32_t sgls);
int nvme_list_sgl(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
		  struct nvme_command *command);
void nvme_write_sgl(struct nvme_iod *iod, struct nvme_command *command);

void nvme_write_data(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
		     struct nvme_command *command);

/*
 * One piece of data can mostly be told of in the command itself: by a descriptor (4.1.2), or by PRPs of two pages at
 * most (4.1.1). False when it needs a list.
 */
static inline bool nvme_write_piece(const struct nvme_prp_pools *pools, const struct nvme_iod *iod,
				    struct nvme_command *command)
{
	uint64_t page_size = pools->page_size;
	uint64_t end = (iod->dma & (page_size - 1)) + iod->bytes;

	command->prp[0] = htole64(iod->dma);
	command->prp[1] = 0;
	if (iod->sgl) {
		command->prp[1] = htole64(iod->bytes); /* of the type "data block", which is 0 */
		command->flags = NVME_PSDT_SGL;
	} else if (end > page_size) {
		command->prp[1] = htole64((iod->dma | (page_size - 1)) + 1);
		return end <= 2 * page_size;
	}
	return true;
}

static inline bool nvme_is_piece(const struct nvme_iod *iod)
{
	return iod->holds == NVME_PIECE || iod->holds == NVME_LISTED_PIECE;
}

/* Map data that lie side by side, at an address that PRPs can express. 0 or -errno with the error set. */
static inline int nvme_map_piece(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
				 char *address)
{
	iod->sgl = pools->sgls;
	iod->dma = dma_map_single(pools->dev, address, iod->bytes,
				  (enum dma_data_direction)iod->direction);
	if (dma_mapping_error(pools->dev, iod->dma))
		return -errno;
	iod->holds = NVME_PIECE;
	return 0;
}

/*
 * The drive is through with a command: take its memory back, with what was read if that arrived,
 * and free its lists and gathered pages. A command that holds none of these may be given too.
 */
static inline void nvme_unmap_data(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
				   bool arrived)
{
	if (iod->holds == NVME_PIECE) {
		dma_unmap_single_attrs(pools->dev, iod->dma, iod->bytes,
				       (enum dma_data_direction)iod->direction,
				       arrived ? 0 : DMA_ATTR_SKIP_CPU_SYNC);
		iod->holds = NVME_NOTHING;
	} else if (iod->holds != NVME_NOTHING) {
		nvme_unmap_more(pools, iod, arrived);
	}
}

#endif
