/* SPDX-License-Identifier: MIT */
/*
 * command.c - the commands that are not on the hot path: what they want of a request, and how they look
 *
 * Flush, and those that are about blocks and carry no data: write zeroes, discard, verify. Compare
 * looks like a write, see nvme_setup_rw(); here it is only checked whether the drive has it.
 * A drive answers some requests that go past the end with status 0 (QEMU's does for discards), so
 * all ranges are checked here.
 */
#include "ring.h"

#include <errno.h>
#include <stdio.h>

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

/* Blocks that are none. -errno with the error set. */
int nvme_refuse_range(const struct dmaland_nvme_request *request, const struct nvme_ns *ns)
{
	return request->blocks == 0 ? dmaland_set_error(EINVAL, "no blocks asked")
				    : past_end(request, ns);
}

static int check_blocks(const struct dmaland_nvme_request *request, const struct nvme_ns *ns)
{
	int code = nvme_check_range(request, ns);

	if (code == 0 && request->opcode == DMALAND_NVME_WRITE_ZEROES)
		code = nvme_check_zoned_write(request, ns, ns->max_zeroes);
	return code;
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
	if (request->control != 0 &&
	    (request->opcode == DMALAND_NVME_FLUSH || request->opcode == DMALAND_NVME_DISCARD))
		return dmaland_set_error(EINVAL, "a %s has no control bits, and 0x%04x were given",
					 name, request->control);
	if (nvme_has_data(request))
		return 0;
	if (request->iov_count != 0)
		return dmaland_set_error(EINVAL, "a %s has no segments", name);
	if (request->opcode != DMALAND_NVME_FLUSH)
		return check_blocks(request, ns);
	if (request->blocks != 0)
		return dmaland_set_error(EINVAL, "a flush has no blocks");
	return 0;
}

/* Command dwords 10 to 12 of what is about blocks (NVM 1.0, 3.2). */
static void fill_blocks(const struct nvme_iod *iod, struct nvme_command *command)
{
	uint64_t blocks = iod->bytes >> iod->request->driver.ns->block_shift;

	command->cdw10 = htole32(iod->block);
	command->cdw11 = htole32(iod->block >> 32);
	command->cdw12 = htole32((uint32_t)iod->request->control << 16 | (blocks - 1));
}

/* A range of Dataset Management (NVM 1.0, 3.2.3). */
struct dsm_range {
	uint32_t attributes, blocks;
	uint64_t block;
};

static_assert(sizeof(struct dsm_range) == 16, "range definition");

/*
 * How long a range that begins with a block may be, if so many blocks are left and so many are allowed:
 * a cut lies between two units, for drives ignore the rest of a unit. 0: no such cut is allowed.
 */
static uint64_t range_to_cut(const struct nvme_ns *ns, uint64_t block, uint64_t left, uint64_t most)
{
	uint64_t cut = block + most;

	if (left <= most)
		return left;
	cut -= cut % ns->discard_unit;
	return cut > block ? cut - block : 0;
}

/*
 * The ranges of one discard, from a block on: how many, and the blocks in them, which may be fewer
 * than are left. A range within a unit that is larger than the drive's limits is cut anywhere. The same
 * blocks have the same ranges when they are asked for once more.
 */
static uint32_t cut_ranges(const struct dmaland_nvme *ctrl, const struct nvme_ns *ns,
			   uint64_t block, uint64_t left, struct dsm_range *ranges,
			   uint64_t *blocks)
{
	uint64_t done = 0;
	uint32_t n = 0;

	while (done < left && n < ctrl->discard_ranges) {
		uint64_t room = ctrl->discard_blocks - done;
		uint64_t most =
			room < ctrl->discard_range_blocks ? room : ctrl->discard_range_blocks;
		uint64_t piece = range_to_cut(ns, block + done, left - done, most);

		if (piece == 0 && n > 0 && most == room)
			break; /* the next command has room for a whole unit, perhaps */
		if (piece == 0)
			piece = most;
		if (ranges)
			ranges[n] = (struct dsm_range){.blocks = htole32(piece),
						       .block = htole64(block + done)};
		done += piece;
		n++;
	}
	*blocks = done;
	return n;
}

static void fill_discard(const struct dmaland_nvme *ctrl, const struct nvme_iod *iod,
			 struct nvme_command *command)
{
	const struct nvme_ns *ns = iod->request->driver.ns;
	uint64_t blocks = iod->bytes >> ns->block_shift;

	command->prp[0] = htole64(iod->list.dma);
	command->cdw11 = htole32(1u << 2); /* AD: deallocate */
	command->cdw10 =
		htole32(cut_ranges(ctrl, ns, iod->block, blocks, iod->list.vaddr, &blocks) - 1);
}

/* How many of the blocks that are left one command takes that is no discard. */
static uint64_t most_blocks(const struct nvme_ns *ns, uint8_t opcode, uint64_t block, uint64_t left)
{
	uint64_t most = left;

	if (opcode == DMALAND_NVME_WRITE_ZEROES)
		most = ns->max_zeroes;
	else if (opcode == DMALAND_NVME_VERIFY && ns->max_verify < nvme_zone_left(ns, block))
		most = ns->max_verify;
	else if (opcode == DMALAND_NVME_VERIFY)
		most = nvme_zone_left(ns, block);
	return most < left ? most : left;
}

/*
 * Take the next blocks of a request that carries no data: as many as a command may have. The
 * ranges of a discard lie in a block of the pools for PRP lists. 0 or -ENOMEM.
 */
int nvme_setup_no_data(struct dmaland_nvme_queue *queue, struct nvme_iod *iod,
		       struct dmaland_nvme_request *request)
{
	struct dmaland_nvme *ctrl = queue->ctrl;
	const struct nvme_ns *ns = request->driver.ns;
	uint64_t block, blocks;

	if (request->opcode == DMALAND_NVME_RAW)
		return nvme_setup_raw(queue, iod, request);
	block = request->block + (request->blocks - request->driver.left);
	if (request->opcode == DMALAND_NVME_DISCARD) {
		uint32_t ranges = cut_ranges(ctrl, ns, block, request->driver.left, NULL, &blocks);
		int code = nvme_take_list(&ctrl->pools, iod, ranges * sizeof(struct dsm_range));

		if (code != 0)
			return code;
		iod->holds = NVME_LIST;
	} else {
		blocks = most_blocks(ns, request->opcode, block, request->driver.left);
	}
	iod->block = block;
	iod->bytes = blocks << ns->block_shift;
	request->driver.left -= blocks;
	return 0;
}

/* The command of a slot that was set up; once more, when it is repeated. */
void nvme_fill_command(struct dmaland_nvme *ctrl, struct nvme_iod *iod,
		       struct nvme_command *command)
{
	const struct dmaland_nvme_request *request = iod->request;

	if (request->prepared) {
		nvme_write_prepared(request->prepared, request, command);
		return;
	}
	*command = (struct nvme_command){
		.opcode = request->opcode,
		.nsid = htole32(request->nsid),
	};
	if (request->opcode == DMALAND_NVME_RAW) {
		nvme_fill_raw(&ctrl->pools, iod, command);
		return;
	}
	if (request->opcode == DMALAND_NVME_FLUSH)
		return;
	if (request->opcode == DMALAND_NVME_DISCARD) {
		fill_discard(ctrl, iod, command);
		return;
	}
	fill_blocks(iod, command);
	if (nvme_has_data(request))
		nvme_write_data(&ctrl->pools, iod, command);
}

/* ---- words ---- */

const char *dmaland_nvme_request_text(const struct dmaland_nvme_request *request, char *text,
				      size_t size)
{
	bool raw = request->opcode == DMALAND_NVME_RAW;
	const char *name = nvme_opcode_name(request->opcode);
	const char *result = dmaland_nvme_status_text(request->driver.status);
	uint64_t first = request->block, blocks = request->blocks;

	if (request->driver.status != 0 && request->driver.failed_blocks > 0) {
		first = request->driver.failed_block;
		blocks = request->driver.failed_blocks;
	}
	if (request->driver.status == -ETIMEDOUT)
		result = "it took too long";
	else if (request->driver.status == -ECANCELED)
		result =
			"cut off, by a reset or the end of its queue; it may have been carried out";
	if (raw)
		snprintf(text, size, "command of opcode 0x%02x to namespace %u: %s",
			 request->raw->opcode, request->raw->nsid, result);
	else if (blocks == 0)
		snprintf(text, size, "%s of namespace %u: %s", name ? name : "request",
			 request->nsid, result);
	else
		snprintf(text, size, "%s of blocks %llu to %llu of namespace %u: %s",
			 name ? name : "request", (unsigned long long)first,
			 (unsigned long long)(first + blocks - 1), request->nsid, result);
	return text;
}
