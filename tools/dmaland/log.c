/* SPDX-License-Identifier: MIT */
/*
 * log.c - `dmaland nvme log`: how a drive is, and which errors it remembers
 *
 * Numbers in comments refer to the NVM Express Base Specification 2.0.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "drive.h"
#include "report.h"

enum { SMART_PAGE = 2, SMART_BYTES = 512, ALL_NAMESPACES = -1 };

/* A counter of the page (5.16.1.3): 16 bytes, of which 8 last long. */
struct counter {
	unsigned int offset;
	const char *label, *key;
};

static const struct counter counters[] = {
	{64, "read commands", "read_commands"},	       {80, "write commands", "write_commands"},
	{112, "power cycles", "power_cycles"},	       {128, "hours powered on", "power_on_hours"},
	{144, "unsafe shutdowns", "unsafe_shutdowns"}, {160, "media errors", "media_errors"},
	{176, "errors logged", "errors_logged"},
};

static const char *const warnings[] = {
	"little spare left",	      "temperature",
	"reliability degraded",	      "read only",
	"backup of the cache failed", "persistent memory unreliable",
};

static uint64_t counter_at(const unsigned char *page, unsigned int offset)
{
	uint64_t low, high;

	memcpy(&low, page + offset, sizeof(low));
	memcpy(&high, page + offset + sizeof(low), sizeof(high));
	return high ? UINT64_MAX : le64toh(low);
}

static void report_warnings(struct report *report, unsigned int bits)
{
	char words[160] = "";

	for (unsigned int i = 0; i < sizeof(warnings) / sizeof(warnings[0]); i++)
		if (bits >> i & 1)
			snprintf(words + strlen(words), sizeof(words) - strlen(words), "%s%s",
				 words[0] ? ", " : "", warnings[i]);
	report_fact(report, "warnings", "%s", words[0] ? words : "none");
	report_member_number(report, "warnings", bits);
}

/* Data units are of 1,000 blocks of 512 bytes. */
static void report_moved(struct report *report, const char *label, const char *key, uint64_t units)
{
	uint64_t bytes = units > UINT64_MAX / 512000 ? UINT64_MAX : units * 512000;

	report_fact(report, label, "%s", size_text(bytes).text);
	report_member_number(report, key, bytes);
}

static void report_health(struct report *report, const unsigned char *page)
{
	unsigned int kelvin = page[1] | page[2] << 8;

	report_facts(report, "health");
	report_warnings(report, page[0]);
	report_fact(report, "temperature", "%d C", (int)kelvin - 273);
	report_member_number(report, "temperature_kelvin", kelvin);
	report_fact(report, "spare", "%u %% (a warning below %u %%)", page[3], page[4]);
	report_member_number(report, "spare_percent", page[3]);
	report_fact(report, "life used", "%u %%", page[5]);
	report_member_number(report, "life_used_percent", page[5]);
	report_moved(report, "read", "read_bytes", counter_at(page, 32));
	report_moved(report, "written", "written_bytes", counter_at(page, 48));
	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
		uint64_t value = counter_at(page, counters[i].offset);

		report_fact(report, counters[i].label, "%llu", (unsigned long long)value);
		report_member_number(report, counters[i].key, value);
	}
}

enum {
	ERROR_COUNT,
	ERROR_STATUS,
	ERROR_WORDS,
	ERROR_NSID,
	ERROR_BLOCK,
	ERROR_QUEUE,
	ERROR_COMMAND,
	ERROR_COLUMNS,
};

static const struct column error_columns[ERROR_COLUMNS] = {
	[ERROR_COUNT] = {"ERROR", "error", COLUMN_NUMBER, FIT_NO},
	[ERROR_STATUS] = {NULL, "status", COLUMN_NUMBER, FIT_NO},
	[ERROR_WORDS] = {"STATUS", "words", COLUMN_TEXT, FIT_CUT},
	[ERROR_NSID] = {"NSID", "nsid", COLUMN_NUMBER, FIT_NO},
	[ERROR_BLOCK] = {"BLOCK", "block", COLUMN_NUMBER, FIT_NO},
	[ERROR_QUEUE] = {"QUEUE", "queue", COLUMN_NUMBER, FIT_NO},
	[ERROR_COMMAND] = {"COMMAND", "command", COLUMN_NUMBER, FIT_NO},
};

static void report_error(struct report *report, const struct dmaland_nvme_error *error)
{
	report_row(report);
	report_number(report, ERROR_COUNT, error->count);
	report_number(report, ERROR_STATUS, (uint64_t)error->status);
	report_text(report, ERROR_WORDS, dmaland_nvme_status_text(error->status));
	report_number(report, ERROR_NSID, error->nsid);
	report_number(report, ERROR_BLOCK, error->block);
	report_number(report, ERROR_QUEUE, error->queue);
	report_number(report, ERROR_COMMAND, error->command);
}

static int report_errors(struct report *report, struct drive *drive)
{
	unsigned int max = drive->info.error_entries;
	struct dmaland_nvme_error *errors = calloc(max ? max : 1, sizeof(*errors));
	int count;

	if (!errors)
		return fail("no memory for %u errors", max);
	count = dmaland_nvme_get_errors(drive->ctrl, errors, max);
	report_space(report);
	if (count > 0 || report->json)
		report_table(report, "errors", error_columns, ERROR_COLUMNS);
	else
		report_note(report, "no error in the log, which has room for %u", max);
	for (int i = 0; i < count; i++)
		report_error(report, &errors[i]);
	free(errors);
	return count < 0 ? fail_library(NULL) : STATUS_OK;
}

static int log_run(const struct arguments *arguments)
{
	unsigned char page[SMART_BYTES];
	struct report report;
	struct drive drive;
	int health, status = drive_open(&drive, arguments);

	if (status)
		return status;
	report_begin(&report, arguments_have(arguments, 'J'));
	health = dmaland_nvme_get_log(drive.ctrl, SMART_PAGE, (uint32_t)ALL_NAMESPACES, 0, page,
				      sizeof(page));
	if (health)
		status = fail_library("health");
	else
		report_health(&report, page);
	if (health >= 0) /* a drive that refuses this page has errors to tell of all the same */
		status = report_errors(&report, &drive);
	drive_close(&drive);
	status = report_end(&report, status);
	return health && !status ? STATUS_FAILED : status;
}

const struct command nvme_log_command = {
	.name = "nvme log",
	.summary = "a drive's health, and the errors it remembers",
	.options = "Jv",
	.operands = "SPEC",
	.least = 1,
	.most = 1,
	.help = "What the drive says of its health (SMART), and a table of its error log,\n"
		"newest first.\n\n"
		"      --json     as one JSON object; sizes in bytes\n"
		"  -v, --verbose  more messages on stderr\n\n"
		"More: man dmaland-nvme\n",
	.run = log_run,
};
