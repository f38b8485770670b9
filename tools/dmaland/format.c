/* SPDX-License-Identifier: MIT */
/*
 * format.c - `dmaland nvme format`: the formats that a namespace can have, and formatting
 */
#include <errno.h>
#include <stdio.h>

#include "drive.h"
#include "report.h"

enum {
	FORMAT_INDEX,
	FORMAT_BLOCK_SIZE,
	FORMAT_METADATA,
	FORMAT_SPEED,
	FORMAT_IN_USE,
	FORMAT_IN_USE_JSON,
	FORMAT_COLUMNS
};

static const struct column format_columns[FORMAT_COLUMNS] = {
	[FORMAT_INDEX] = {"FORMAT", "format", COLUMN_NUMBER, FIT_NO},
	[FORMAT_BLOCK_SIZE] = {"BLOCK SIZE", "block_size", COLUMN_NUMBER, FIT_NO},
	[FORMAT_METADATA] = {"METADATA", "metadata", COLUMN_NUMBER, FIT_NO},
	[FORMAT_SPEED] = {"SPEED", "speed", COLUMN_TEXT, FIT_NO},
	[FORMAT_IN_USE] = {"", NULL, COLUMN_TEXT, FIT_NO},
	[FORMAT_IN_USE_JSON] = {NULL, "in_use", COLUMN_BOOLEAN, FIT_NO},
};

/* The drive's own judgement (NVM Command Set 1.0, figure 98: RP). */
static const char *const speeds[] = {"best", "better", "good", "degraded"};

static int formats_print(const struct dmaland_nvme_namespace *ns, bool json)
{
	struct report report;

	report_begin(&report, json);
	report_table(&report, "formats", format_columns, FORMAT_COLUMNS);
	for (unsigned int i = 0; i < ns->format_count; i++) {
		const struct dmaland_nvme_lba_format *format = &ns->formats[i];

		if (!format->block_size)
			continue;
		report_row(&report);
		report_number(&report, FORMAT_INDEX, i);
		report_number(&report, FORMAT_BLOCK_SIZE, format->block_size);
		report_number(&report, FORMAT_METADATA, format->metadata);
		report_text(&report, FORMAT_SPEED, speeds[format->performance & 3]);
		report_text(&report, FORMAT_IN_USE, i == ns->format ? "in use" : "");
		report_text(&report, FORMAT_IN_USE_JSON, i == ns->format ? "1" : "0");
	}
	return report_end(&report, STATUS_OK);
}

/* The first format without metadata that has blocks of that size. */
static int format_choose(const struct dmaland_nvme_namespace *ns, const struct arguments *arguments,
			 unsigned int *format)
{
	if (arguments_have(arguments, 'F')) {
		*format = (unsigned int)arguments->format;
		if (*format < ns->format_count && ns->formats[*format].metadata &&
		    !arguments_have(arguments, 'M'))
			return fail(
				"format %u of namespace %u has %u bytes of metadata beside each "
				"block, which dmaland can't read or write; --metadata if that is "
				"meant",
				*format, ns->nsid, ns->formats[*format].metadata);
		return STATUS_OK;
	}
	for (unsigned int i = 0; i < ns->format_count; i++) {
		if (ns->formats[i].block_size != arguments->block_size || ns->formats[i].metadata)
			continue;
		*format = i;
		return STATUS_OK;
	}
	return fail(
		"namespace %u has no format with blocks of %llu bytes and no metadata; 'dmaland "
		"nvme format' without options lists what it has",
		ns->nsid, (unsigned long long)arguments->block_size);
}

static bool is_all(const struct arguments *arguments)
{
	return arguments->nsid == UINT32_MAX;
}

static void one_print(const struct dmaland_nvme_namespace *ns)
{
	printf("namespace %u has format %u now: %llu blocks of %u bytes\n", ns->nsid, ns->format,
	       (unsigned long long)ns->blocks, ns->block_size);
}

/* The first active namespace above one. 0; -ENODEV when there is none; or -errno. */
static int namespace_next(struct drive *drive, uint32_t above, struct dmaland_nvme_namespace *ns)
{
	int n, code = -ENODEV;

	do {
		n = dmaland_nvme_list_namespaces(drive->ctrl, above, &above, 1);
		if (n > 0)
			code = dmaland_nvme_get_namespace(drive->ctrl, above, ns);
	} while (n > 0 && code == -ENODEV && pci_device_is_present(drive->dev));
	return n < 0 ? n : code;
}

static int all_print(struct drive *drive)
{
	struct dmaland_nvme_namespace ns = {0};
	int code;

	while ((code = namespace_next(drive, ns.nsid, &ns)) == 0)
		one_print(&ns);
	return code == -ENODEV ? STATUS_OK : fail_library(NULL);
}

/* The one that is named; of all, the first, which stands for the others. */
static int namespace_find(struct drive *drive, const struct arguments *arguments,
			  struct dmaland_nvme_namespace *ns)
{
	uint32_t nsid = (uint32_t)arguments->nsid;
	int code = is_all(arguments) ? namespace_next(drive, 0, ns)
				     : dmaland_nvme_get_namespace(drive->ctrl, nsid, ns);

	if (code == -ENODEV && is_all(arguments) && pci_device_is_present(drive->dev))
		return fail("the drive has no namespace");
	return code ? fail_library(NULL) : STATUS_OK;
}

static int namespace_format(struct drive *drive, struct dmaland_nvme_namespace *ns,
			    const struct arguments *arguments)
{
	unsigned int format = 0, flags = 0;
	int status = format_choose(ns, arguments, &format);

	if (status)
		return status;
	if (arguments_have(arguments, 'E'))
		flags |= DMALAND_NVME_FORMAT_ERASE;
	if (arguments_have(arguments, 'C'))
		flags |= DMALAND_NVME_FORMAT_CRYPTO_ERASE;
	if (arguments_have(arguments, 'M'))
		flags |= DMALAND_NVME_FORMAT_METADATA;
	if (is_all(arguments))
		status = confirm_loss(drive, arguments, "all that its namespaces hold");
	else
		status = confirm_loss(drive, arguments, "all that namespace %u holds (%s)",
				      ns->nsid, size_text(ns->blocks * ns->block_size).text);
	if (status)
		return status;
	if (dmaland_nvme_format(drive->ctrl, (uint32_t)arguments->nsid, format, flags))
		return fail_library(NULL);
	if (is_all(arguments))
		return all_print(drive);
	if (dmaland_nvme_get_namespace(drive->ctrl, ns->nsid, ns))
		return fail_library(NULL);
	one_print(ns);
	return STATUS_OK;
}

static int format_run(const struct arguments *arguments)
{
	bool formats = arguments_have(arguments, 'F') || arguments_have(arguments, 'K');
	struct dmaland_nvme_namespace ns;
	struct drive drive;
	int status;

	if (arguments_have(arguments, 'F') && arguments_have(arguments, 'K'))
		return usage_error("nvme format", "--format and --block-size exclude each other");
	if (arguments_have(arguments, 'E') && arguments_have(arguments, 'C'))
		return usage_error("nvme format", "--erase and --crypto-erase exclude each other");
	if (!formats && (arguments_have(arguments, 'E') || arguments_have(arguments, 'C')))
		return usage_error("nvme format", "say into what: --format or --block-size");
	if (!arguments_have(arguments, 'F') && arguments_have(arguments, 'M'))
		return usage_error("nvme format", "--metadata goes with --format");
	if (!formats && arguments_have(arguments, 'O'))
		return usage_error("nvme format", "--timeout goes with --format or --block-size");
	if (formats && arguments_have(arguments, 'J'))
		return usage_error("nvme format",
				   "--json is for the table, and formatting prints none");
	status = drive_open(&drive, arguments);
	if (status)
		return status;
	status = namespace_find(&drive, arguments, &ns);
	if (!status && formats)
		status = namespace_format(&drive, &ns, arguments);
	else if (!status)
		status = formats_print(&ns, arguments_have(arguments, 'J'));
	drive_close(&drive);
	return status;
}

const struct command nvme_format_command = {
	.name = "nvme format",
	.summary = "list formats; format a namespace (destroys data)",
	.options = "nFKECMOyJv",
	.operands = "SPEC",
	.least = 1,
	.most = 1,
	.help = "Without --format and --block-size: a table of the formats that a namespace\n"
		"can have. With one of them the namespace is formatted. All that it holds is\n"
		"lost: a person at a terminal is asked before that.\n\n"
		"  -n, --namespace=NSID    the namespace; 1 when left out; all: all of the drive\n"
		"      --format=NUMBER     a format of the table\n"
		"      --block-size=BYTES  the first format that has such blocks and no metadata\n"
		"      --metadata          --format may name one with metadata, which dmaland\n"
		"                          cannot read\n"
		"      --erase             erase what was written\n"
		"      --crypto-erase      erase it by throwing away the key\n"
		"      --timeout=SECONDS   how long formatting may take; 600 when left out\n"
		"  -y, --yes               do not ask\n"
		"      --json              the table as one JSON object\n"
		"  -v, --verbose           more messages on stderr\n\n"
		"More: man dmaland-nvme\n",
	.run = format_run,
};
