/* SPDX-License-Identifier: MIT */
/*
 * watch.c - `dmaland nvme watch`: what a drive reports unasked, as it comes
 */
#include <stdio.h>
#include <time.h>

#include "drive.h"

/* One line, at once: there may be none for hours. A signal ends the wait between two looks. */
static int watch(struct drive *drive)
{
	const struct timespec moment = {.tv_nsec = 100 * 1000 * 1000};
	struct dmaland_nvme_event event;
	char text[120];
	int code = 0;

	while (code >= 0 && !signals_status()) {
		code = dmaland_nvme_event(drive->ctrl, &event);
		if (code == 0)
			nanosleep(&moment, NULL);
		else if (code > 0 &&
			 (puts(dmaland_nvme_event_text(&event, text, sizeof(text))) < 0 ||
			  fflush(stdout) != 0))
			break; /* stdout_close() says why */
	}
	if (code < 0)
		return fail_library(NULL);
	return signals_status();
}

static int watch_run(const struct arguments *arguments)
{
	struct drive drive;
	int status = drive_open(&drive, arguments);

	if (status)
		return status;
	if (arguments_have(arguments, 'v'))
		fprintf(stderr, "dmaland: watching; a signal ends it\n");
	status = watch(&drive);
	drive_close(&drive);
	return status;
}

const struct command nvme_watch_command = {
	.name = "nvme watch",
	.summary = "what a drive reports, as it comes",
	.options = "v",
	.operands = "SPEC",
	.least = 1,
	.most = 1,
	.help = "Prints namespaces that change, warnings of the drive's health, errors of its own\n"
		"and new firmware, a line each, until a signal ends it.\n\n"
		"  -v, --verbose  say on stderr when watching begins, and more messages\n\n"
		"More: man dmaland-nvme\n",
	.run = watch_run,
};
