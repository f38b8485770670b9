/* SPDX-License-Identifier: MIT */
/*
 * drive.c - an NVMe drive opened and closed; its namespaces
 */
#include "drive.h"

#include <stdio.h>
#include <string.h>

static void log_all(void *context, enum dmaland_log_level level, const char *line)
{
	(void)context;
	(void)level;
	fprintf(stderr, "dmaland: %s\n", line);
}

int drive_open(struct drive *drive, const struct arguments *arguments)
{
	const char *spec = arguments->operands[0];

	memset(drive, 0, sizeof(*drive));
	if (arguments_have(arguments, 'v'))
		dmaland_set_log(log_all, NULL);
	drive->dev = dmaland_open(spec, NULL);
	if (!drive->dev)
		return signals_status() ? signals_status() : fail_library(NULL);
	drive->ctrl = dmaland_nvme_open(drive->dev, NULL);
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

int drive_namespace(struct drive *drive, uint32_t nsid, struct dmaland_nvme_namespace *ns)
{
	if (dmaland_nvme_get_namespace(drive->ctrl, nsid, ns))
		return fail_library(NULL);
	if (ns->metadata)
		return fail("namespace %u has %u bytes of metadata beside each block, which cannot "
			    "be transferred; format it without",
			    nsid, ns->metadata);
	if (ns->blocks == 0 || ns->block_size == 0)
		return fail("namespace %u has no blocks", nsid);
	return STATUS_OK;
}

int drive_range(const struct dmaland_nvme_namespace *ns, const struct arguments *arguments,
		uint64_t *first, uint64_t *blocks)
{
	*first = arguments->first;
	if (*first >= ns->blocks)
		return fail("block %llu is past the end: namespace %u has %llu blocks",
			    (unsigned long long)*first, ns->nsid, (unsigned long long)ns->blocks);
	*blocks = ns->blocks - *first;
	if (!arguments_have(arguments, 'c'))
		return STATUS_OK;
	if (arguments->blocks > *blocks)
		return fail("%llu blocks from block %llu go past the end: namespace %u has %llu "
			    "blocks, %llu from there",
			    (unsigned long long)arguments->blocks, (unsigned long long)*first,
			    ns->nsid, (unsigned long long)ns->blocks, (unsigned long long)*blocks);
	*blocks = arguments->blocks;
	return STATUS_OK;
}

void drive_say_ways(const struct drive *drive)
{
	struct dmaland_streaming_stats stats;

	dmaland_get_streaming_stats(drive->dev, &stats);
	fprintf(stderr, "requests: %llu mapped where they lie, %llu in DMA memory, %llu copied\n",
		(unsigned long long)stats.mapped,
		(unsigned long long)(stats.translated_arena + stats.translated_registered),
		(unsigned long long)(stats.bounced_small + stats.bounced_limit +
				     stats.bounced_unmappable + stats.bounced_untrusted));
}

void drive_say_moved(const char *what, const struct dmaland_nvme_namespace *ns, uint64_t first,
		     uint64_t blocks, double seconds)
{
	uint64_t bytes = blocks * ns->block_size;

	fprintf(stderr, "%s %s: %llu blocks of %u bytes from block %llu, %.2f s, %s\n", what,
		size_text(bytes).text, (unsigned long long)blocks, ns->block_size,
		(unsigned long long)first, seconds, rate_text(bytes, seconds).text);
}
