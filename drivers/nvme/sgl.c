/* SPDX-License-Identifier: MIT */
/*
 * sgl.c - from data that are mapped (map.c) to SGLs (NVMe 2.0, 4.1.2), where the drive takes them
 *
 *   1 segment   a descriptor in the command
 *   more        the command's points to a list of the others, in a block of the pools that PRP lists
 *               come from: up to 16 in "prp list 256", up to a page in "prp list page"
 *
 * A PRP says where data begin, and the drive goes on for as long as it takes the blocks to be. A
 * descriptor has a length: a drive whose blocks have become larger ends the command with Data SGL Length
 * Invalid, and touches nothing behind the data. Nor do descriptors mind where pages begin, so that nothing
 * has to be gathered.
 */
#include "data.h"

/* A descriptor's last byte: type and subtype, an address (NVMe 2.0, 4.1.2.1, figures 92 to 95) */
enum { SGL_DATA = 0x00, SGL_LAST_SEGMENT = 0x30 };

/* SGLS, bits 1:0: what the drive takes, and how data have to lie (NVMe 2.0, 5.17.2.1, figure 275) */
enum { SGLS_MASK = 3, SGLS_BYTES = 1, SGLS_DWORDS = 2 };

void nvme_use_sgls(struct nvme_prp_pools *pools, uint32_t sgls)
{
	pools->sgls = (sgls & SGLS_MASK) == SGLS_BYTES || (sgls & SGLS_MASK) == SGLS_DWORDS;
	pools->misaligned = (sgls & SGLS_MASK) == SGLS_BYTES ? 0 : 3;
}

static void write_descriptor(uint64_t descriptor[2], dma_addr_t dma, uint32_t length, uint8_t type)
{
	descriptor[0] = htole64(dma);
	descriptor[1] = htole64((uint64_t)type << 56 | length);
}

/* How many segments the data became. */
static size_t segment_count(const struct nvme_iod *iod)
{
	size_t n = 0, bytes = 0;

	while (bytes < iod->bytes)
		bytes += sg_dma_len(&iod->sg[n++]);
	return n;
}

/* The descriptors, the list taken, but for that of nvme_write_piece(). */
void nvme_write_sgl(struct nvme_iod *iod, struct nvme_command *command)
{
	uint64_t *list = iod->list.vaddr;
	size_t n, i;

	command->flags = NVME_PSDT_SGL;
	n = segment_count(iod);
	if (n == 1) {
		write_descriptor(command->prp, sg_dma_address(iod->sg), iod->bytes, SGL_DATA);
		return;
	}
	for (i = 0; i < n; i++)
		write_descriptor(list + 2 * i, sg_dma_address(&iod->sg[i]), sg_dma_len(&iod->sg[i]),
				 SGL_DATA);
	write_descriptor(command->prp, iod->list.dma, n * NVME_SGL_DESCRIPTOR, SGL_LAST_SEGMENT);
}

/* The same, with the list, if they need one. 0 or -ENOMEM; nvme_unmap_data() undoes it. */
int nvme_list_sgl(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
		  struct nvme_command *command)
{
	size_t n = segment_count(iod);
	int code = n > 1 ? nvme_take_list(pools, iod, n * NVME_SGL_DESCRIPTOR) : 0;

	if (code == 0)
		nvme_write_sgl(iod, command);
	return code;
}
