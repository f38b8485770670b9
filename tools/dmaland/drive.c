/* SPDX-License-Identifier: MIT */
/*
 * drive.c - an NVMe drive opened and closed; its namespaces
 */
#include "drive.h"

#include <string.h>

int drive_open(struct drive *drive, const struct arguments *arguments)
{
	const struct dmaland_nvme_options options = {
		.size = sizeof(options),
		.format_timeout_ms = (unsigned int)arguments->format_timeout * 1000,
		.timeout_ms = (unsigned int)arguments->timeout,
	};

	return drive_open_with(drive, arguments, &options);
}

int drive_open_with(struct drive *drive, const struct arguments *arguments,
		    const struct dmaland_nvme_options *options)
{
	const char *spec = arguments->operands[0];

	memset(drive, 0, sizeof(*drive));
	if (arguments_have(arguments, 'v'))
		log_show();
	drive->dev = dmaland_open(spec, NULL);
	if (!drive->dev)
		return signals_status() ? signals_status() : fail_library(NULL);
	drive->ctrl = dmaland_nvme_open(drive->dev, options);
	if (!drive->ctrl) {
		int status = signals_status() ? signals_status() : fail_library(NULL);

		drive_close(drive);
		return status;
	}
	dmaland_nvme_get_info(drive->ctrl, &drive->info);
	return STATUS_OK;
}

void drive_close(struct drive *drive)
{
	dmaland_nvme_close(drive->ctrl);
	dmaland_close(drive->dev);
}

int drive_namespace(struct drive *drive, uint32_t nsid, unsigned int use,
		    struct dmaland_nvme_namespace *ns)
{
	if (dmaland_nvme_get_namespace(drive->ctrl, nsid, ns))
		return fail_library(NULL);
	if (ns->metadata && (use & DRIVE_TRANSFERS))
		return fail("namespace %u has %u bytes of metadata beside each block, which cannot "
			    "be transferred; format it without",
			    nsid, ns->metadata);
	if (ns->zone_blocks && (use & DRIVE_WRITES))
		return fail(
			"namespace %u is zoned: each of its zones of %llu blocks is written in "
			"order, by commands of its own, such as 'dmaland nvme io --opcode=0x7d'",
			nsid, (unsigned long long)ns->zone_blocks);
	if (ns->blocks == 0 || ns->block_size == 0)
		return fail("namespace %u has no blocks", nsid);
	return STATUS_OK;
}

int drive_range(const struct dmaland_nvme_namespace *ns, const struct arguments *arguments,
		uint64_t *first, uint64_t *blocks)
{
	*first = arguments->first;
	if (*first >= ns->blocks)
		return fail("block %llu is past the end: namespace %u has %llu blocks of %u bytes",
			    (unsigned long long)*first, ns->nsid, (unsigned long long)ns->blocks,
			    ns->block_size);
	*blocks = ns->blocks - *first;
	if (!arguments_have(arguments, 'c'))
		return STATUS_OK;
	if (arguments->blocks > *blocks)
		return fail("%llu blocks from block %llu go past the end: namespace %u has %llu "
			    "blocks of %u bytes, %llu from there",
			    (unsigned long long)arguments->blocks, (unsigned long long)*first,
			    ns->nsid, (unsigned long long)ns->blocks, ns->block_size,
			    (unsigned long long)*blocks);
	*blocks = arguments->blocks;
	return STATUS_OK;
}
