/* SPDX-License-Identifier: MIT */
/*
 * zoned.c - namespaces whose command set is the zoned one
 *
 *   | zone 0           | zone 1           | zone 2           |  zones of zone_blocks each
 *   |#########|        |###|              |                  |  written up to a write pointer
 *
 * A zone is written from its beginning on, block after block. Reads go anywhere, but most drives fail
 * those that cross from a zone into the next: so such requests are split there. A write may be
 * carried out by several commands nowhere, since the drive chooses the order of commands in flight; it
 * is refused. Where in its zone a write goes is between the caller and the drive, which fails what
 * does not begin at the write pointer. Append, and what is done to zones, are raw commands (raw.c).
 *
 * Numbers in comments: "ZNS 1.1" is the NVM Express Zoned Namespace Command Set Specification 1.1.
 */
#include "nvme_internal.h"

#include <errno.h>

/*
 * A namespace's command set, from its list of descriptors (NVMe 2.0, 5.17.2.3). Only drives that know several
 * (CAP.CSS) are asked; one that refuses has the NVM command set. 0 or -errno with the error set.
 */
int nvme_identify_command_set(struct dmaland_nvme *ctrl, nvme_identify_fn *identify, uint32_t nsid,
			      unsigned int *command_set)
{
	enum { DESCRIPTOR_CSI = 4, HEADER = 4 };
	uint8_t data[NVME_ADMIN_DATA];
	size_t at = 0;
	int status;

	*command_set = DMALAND_NVME_SET_NVM;
	if (!nvme_cap_command_sets(ctrl->cap))
		return 0;
	status = identify(ctrl, NVME_IDENTIFY_DESCRIPTORS, DMALAND_NVME_SET_NVM, nsid, data);
	while (status == 0 && at + HEADER < sizeof(data) && data[at + 1] > 0) {
		if (data[at] == DESCRIPTOR_CSI)
			*command_set = data[at + HEADER];
		at += HEADER + data[at + 1];
	}
	return status < 0 ? status : 0;
}

/* 0 or -errno with the error set. */
int nvme_check_command_set(const struct dmaland_nvme_namespace *info)
{
	if (nvme_knows_command_set(info->command_set))
		return 0;
	return dmaland_set_error(EOPNOTSUPP,
				 "namespace %u has the command set %u, of which this driver knows "
				 "nothing: DMALAND_NVME_RAW gives the drive its commands",
				 info->nsid, info->command_set);
}

/* Where zones begin, for the format in use (ZNS 1.1, 4.1.5.1). 0 or -errno with the error set. */
int nvme_parse_zones(const uint8_t *data, struct nvme_ns *ns)
{
	enum { READ_ACROSS = 1 << 0, FORMATS = 2816, FORMAT_BYTES = 16 };

	ns->special = true;
	ns->info.zone_blocks = nvme_get64(data, FORMATS + (size_t)ns->info.format * FORMAT_BYTES);
	ns->zones_apart = !(nvme_get16(data, 2) & READ_ACROSS); /* OZCS */
	if (ns->info.zone_blocks > 0)
		return 0;
	return dmaland_set_error(EOPNOTSUPP, "namespace %u is zoned, and its zones have no blocks",
				 ns->info.nsid);
}

/* How many blocks from this one on a command may be about that stays in its zone. */
uint64_t nvme_zone_left(const struct nvme_ns *ns, uint64_t block)
{
	return ns->zones_apart ? ns->info.zone_blocks - block % ns->info.zone_blocks : UINT64_MAX;
}

/* May a request that writes, and is within the namespace, be one command of at most so many blocks? */
int nvme_check_zoned_write(const struct dmaland_nvme_request *request, const struct nvme_ns *ns,
			   uint64_t most)
{
	uint64_t zone_blocks = ns->info.zone_blocks;
	const char *name = nvme_opcode_name(request->opcode);

	if (zone_blocks == 0)
		return 0;
	if (request->blocks > zone_blocks - request->block % zone_blocks)
		return dmaland_set_error(
			EOPNOTSUPP,
			"namespace %u is zoned: a %s of blocks %llu to %llu goes past the end of "
			"their zone; zones have %llu blocks, and each is written by itself",
			ns->info.nsid, name, (unsigned long long)request->block,
			(unsigned long long)(request->block + request->blocks - 1),
			(unsigned long long)zone_blocks);
	if (request->blocks > most)
		return dmaland_set_error(
			EOPNOTSUPP,
			"namespace %u is zoned: a %s of %llu blocks takes several commands, whose "
			"order the drive chooses, and zones are written in order: %llu blocks are "
			"the most at once, the next when those are done",
			ns->info.nsid, name, (unsigned long long)request->blocks,
			(unsigned long long)most);
	return 0;
}
