/* SPDX-License-Identifier: MIT */
/*
 * identify.c - `dmaland nvme identify`
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "drive.h"
#include "report.h"

static void report_controller(struct report *report, const struct dmaland_nvme_info *info)
{
	char version[24];

	snprintf(version, sizeof(version), "%u.%u.%u", info->version >> 16,
		 info->version >> 8 & 0xff, info->version & 0xff);
	report_facts(report, "controller");
	report_fact(report, "model", "%s", info->model);
	report_fact(report, "serial", "%s", info->serial);
	report_fact(report, "firmware", "%s", info->firmware);
	report_fact(report, "NVMe version", "%s", version);
	report_fact(report, "transfer limit", "%s a command", size_text(info->max_transfer).text);
	report_fact(report, "queues", "%u, of up to %u commands", info->max_queues,
		    info->max_queue_depth);

	report_member_text(report, "model", info->model);
	report_member_text(report, "serial", info->serial);
	report_member_text(report, "firmware", info->firmware);
	report_member_text(report, "version", version);
	report_member_number(report, "max_transfer", info->max_transfer);
	report_member_number(report, "page_size", info->page_size);
	report_member_number(report, "max_queues", info->max_queues);
	report_member_number(report, "max_queue_depth", info->max_queue_depth);
}

enum {
	NS_ID,
	NS_BLOCKS,
	NS_BLOCK_SIZE,
	NS_METADATA,
	NS_CAPACITY,
	NS_COMMAND_SET,
	NS_ZONE_BLOCKS,
	NS_COLUMNS
};

static const struct column namespace_columns[NS_COLUMNS] = {
	[NS_ID] = {"NSID", "nsid", COLUMN_NUMBER, FIT_NO},
	[NS_BLOCKS] = {"BLOCKS", "blocks", COLUMN_NUMBER, FIT_NO},
	[NS_BLOCK_SIZE] = {"BLOCK SIZE", "block_size", COLUMN_NUMBER, FIT_NO},
	[NS_METADATA] = {"METADATA", "metadata", COLUMN_NUMBER, FIT_NO},
	[NS_CAPACITY] = {"CAPACITY", "capacity", COLUMN_NUMBER, FIT_NO},
	[NS_COMMAND_SET] = {NULL, "command_set", COLUMN_TEXT, FIT_NO},
	[NS_ZONE_BLOCKS] = {NULL, "zone_blocks", COLUMN_NUMBER, FIT_NO},
};

/* @failed: a namespace could not be told of; @zoned: ids of those that are, for the notes */
struct found {
	bool failed;
	uint32_t *zoned;
	size_t zoned_count;
};

static int note_zoned(struct found *found, uint32_t nsid)
{
	size_t n = found->zoned_count;
	uint32_t *zoned = realloc(found->zoned, (n + 1) * sizeof(*zoned));

	if (!zoned)
		return fail("no memory for the report");
	zoned[n] = nsid;
	found->zoned = zoned;
	found->zoned_count++;
	return STATUS_OK;
}

/* One that the drive does not tell of is named, and the others are shown. */
static int report_namespace(struct report *report, struct drive *drive, uint32_t nsid,
			    struct found *found)
{
	struct dmaland_nvme_namespace ns;
	int code = dmaland_nvme_get_namespace(drive->ctrl, nsid, &ns);
	char context[32], data[4096];

	if (code == -ENODEV && pci_device_is_present(drive->dev))
		return STATUS_OK; /* not active, or gone since it was listed */
	if (code) {
		snprintf(context, sizeof(context), "namespace %u", nsid);
		fail_library(context);
		found->failed = true;
		/* does the controller still answer? */
		return dmaland_nvme_identify(drive->ctrl, 1, 0, data) < 0 ? STATUS_FAILED
									  : STATUS_OK;
	}
	report_row(report);
	report_number(report, NS_ID, ns.nsid);
	report_number(report, NS_BLOCKS, ns.blocks);
	report_number(report, NS_BLOCK_SIZE, ns.block_size);
	report_number(report, NS_METADATA, ns.metadata);
	report_size(report, NS_CAPACITY, ns.blocks * ns.block_size);
	report_text(report, NS_COMMAND_SET, ns.zone_blocks ? "zoned" : "nvm");
	report_number(report, NS_ZONE_BLOCKS, ns.zone_blocks);
	return ns.zone_blocks ? note_zoned(found, nsid) : STATUS_OK;
}

static void report_zones(struct report *report, struct drive *drive, const struct found *found)
{
	struct dmaland_nvme_namespace ns;

	if (found->zoned_count)
		report_space(report);
	for (size_t i = 0; i < found->zoned_count; i++) {
		if (dmaland_nvme_get_namespace(drive->ctrl, found->zoned[i], &ns) ||
		    !ns.zone_blocks)
			continue; /* formatted meanwhile */
		report_note(report, "namespace %u is zoned: %llu zones of %llu blocks (%s)",
			    ns.nsid, (unsigned long long)(ns.blocks / ns.zone_blocks),
			    (unsigned long long)ns.zone_blocks,
			    size_text(ns.zone_blocks * ns.block_size).text);
	}
}

static int report_namespaces(struct report *report, struct drive *drive, struct found *found)
{
	enum { IDS = 1024 };
	uint32_t ids[IDS], last = 0;
	int i, n, status = STATUS_OK;

	report_space(report);
	report_table(report, "namespaces", namespace_columns, NS_COLUMNS);
	do {
		n = dmaland_nvme_list_namespaces(drive->ctrl, last, ids, IDS);
		if (n < 0)
			return fail_library(NULL);
		for (i = 0; i < n && !status; i++) {
			last = ids[i];
			status = report_namespace(report, drive, last, found);
			if (!status)
				status = signals_status();
		}
	} while (n == IDS && !status);
	if (!status)
		report_zones(report, drive, found);
	return status;
}

static int identify_run(const struct arguments *arguments)
{
	struct report report;
	struct drive drive;
	struct found found = {0};
	int status = drive_open(&drive, arguments);

	if (status)
		return status;
	report_begin(&report, arguments_have(arguments, 'J'));
	report_controller(&report, &drive.info);
	status = report_namespaces(&report, &drive, &found);
	drive_close(&drive);
	free(found.zoned);
	status = report_end(&report, status);
	return status || !found.failed ? status : STATUS_FAILED;
}

const struct command nvme_identify_command = {
	.name = "nvme identify",
	.summary = "what a drive says of itself, and its namespaces",
	.options = "Jv",
	.operands = "SPEC",
	.least = 1,
	.most = 1,
	.help = "What the drive says of itself, and a table of its namespaces.\n\n"
		"      --json     as one JSON object; sizes in bytes\n"
		"  -v, --verbose  more messages on stderr\n\n"
		"More: man dmaland-nvme\n",
	.run = identify_run,
};
