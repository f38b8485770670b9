/* SPDX-License-Identifier: MIT */
/*
 * command.c - the commands that are not on the hot path: what they want of a request, and how they look
 *
 * Flush, and those that are about blocks and carry no data: write zeroes, discard, verify. Compare
 * looks like a write, see nvme_setup_rw(); here it is only checked whether the drive has it.
 * A drive answers some requests that go past the end with status 0 (QEMU's does for discards), so
 * all ranges are checked here.
 */
#include "nvme_internal.h"

#include <errno.h>

const char *nvme_opcode_name(uint8_t opcode)
{
	switch (opcode) {
	case DMALAND_NVME_FLUSH:
		return "flush";
	case DMALAND_NVME_WRITE:
		return "write";
	case DMALAND_NVME_READ:
		return "read";
	case DMALAND_NVME_COMPARE:
		return "compare";
	case DMALAND_NVME_WRITE_ZEROES:
		return "write zeroes";
	case DMALAND_NVME_DISCARD:
		return "discard";
	case DMALAND_NVME_VERIFY:
		return "verify";
	default:
		return NULL;
	}
}

static int past_end(const struct dmaland_nvme_request *request, const struct nvme_ns *ns)
{
	uint64_t most = UINT64_MAX - request->block;
	uint64_t last = request->block + (request->blocks - 1 < most ? request->blocks - 1 : most);

	return dmaland_set_error(
		ERANGE, "blocks %llu to %llu asked, namespace %u has %llu, of %u bytes each",
		(unsigned long long)request->block, (unsigned long long)last, ns->info.nsid,
		(unsigned long long)ns->info.blocks, ns->info.block_size);
}

int nvme_check_range(const struct dmaland_nvme_request *request, const struct nvme_ns *ns)
{
	if (request->blocks == 0)
		return dmaland_set_error(EINVAL, "no blocks asked");
	if (request->blocks > ns->info.blocks || request->block > ns->info.blocks - request->blocks)
		return past_end(request, ns);
	return 0;
}

/* What is neither read nor write: does the drive have it, and is the request of its form? */
int nvme_check_command(struct dmaland_nvme *ctrl, const struct dmaland_nvme_request *request,
		       const struct nvme_ns *ns)
{
	const char *name = nvme_opcode_name(request->opcode);

	if (!name)
		return dmaland_set_error(EINVAL, "opcode %u is none of enum dmaland_nvme_opcode",
					 request->opcode);
	if (!(ctrl->info.commands >> request->opcode & 1))
		return dmaland_set_error(EOPNOTSUPP, "%s has no %s command (ONCS is 0x%04x)",
					 dmaland_name(ctrl->dev), name, ctrl->oncs);
	if (nvme_has_data(request))
		return 0;
	if (request->iov_count != 0)
		return dmaland_set_error(EINVAL, "a %s has no segments", name);
	if (request->opcode != DMALAND_NVME_FLUSH)
		return nvme_check_range(request, ns);
	if (request->blocks != 0)
		return dmaland_set_error(EINVAL, "a flush has no blocks");
	return 0;
}

/* The request's next block. */
static uint64_t next_block(const struct dmaland_nvme_request *request)
{
	return request->block + (request->blocks - request->driver.left);
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Write Zeroes and Verify (NVM 1.0, 3.2.8 and 3.2.5). */
static void setup_range(struct dmaland_nvme_request *request, struct nvme_command *command,
			uint64_t most)
{
	uint64_t block = next_block(request), blocks = smaller(request->driver.left, most);

	command->cdw10 = htole32(block);
	command->cdw11 = htole32(block >> 32);
	command->cdw12 = htole32(blocks - 1);
	request->driver.left -= blocks;
}

/* A range of Dataset Management (NVM 1.0, 3.2.3). */
struct dsm_range {
	uint32_t attributes, blocks;
	uint64_t block;
};

static_assert(sizeof(struct dsm_range) == 16, "range definition");

/*
 * Dataset Management: the request's next blocks, in as many ranges as one command takes, and their
 * list in a block of the pools for PRP lists.
 */
static int setup_discard(struct dmaland_nvme *ctrl, struct nvme_iod *iod,
			 struct dmaland_nvme_request *request, struct nvme_command *command)
{
	uint64_t blocks = smaller(request->driver.left, ctrl->discard_blocks);
	uint32_t per_range = ctrl->discard_range_blocks, n;
	struct dsm_range *range;
	int code;

	blocks = smaller(blocks, (uint64_t)ctrl->discard_ranges * per_range);
	n = (blocks - 1) / per_range + 1;
	code = nvme_take_list(&ctrl->pools, iod, n * sizeof(*range));
	if (code != 0)
		return code;
	command->prp[0] = htole64(iod->list.dma);
	command->cdw10 = htole32(n - 1);
	command->cdw11 = htole32(1u << 2); /* AD: deallocate */
	for (range = iod->list.vaddr; blocks > 0; range++) {
		uint32_t piece = smaller(blocks, per_range);

		*range = (struct dsm_range){
			.blocks = htole32(piece),
			.block = htole64(next_block(request)),
		};
		request->driver.left -= piece;
		blocks -= piece;
	}
	return 0;
}

/* Fill in a command that carries no data. 0 or -ENOMEM. */
int nvme_setup_no_data(struct dmaland_nvme *ctrl, struct nvme_iod *iod,
		       struct dmaland_nvme_request *request, struct nvme_command *command)
{
	const struct nvme_ns *ns = request->driver.ns;

	switch (request->opcode) {
	case DMALAND_NVME_DISCARD:
		return setup_discard(ctrl, iod, request, command);
	case DMALAND_NVME_WRITE_ZEROES:
		setup_range(request, command, ns->max_zeroes);
		return 0;
	case DMALAND_NVME_VERIFY:
		setup_range(request, command, ns->max_verify);
		return 0;
	default:
		request->driver.left = 0;
		return 0;
	}
}
