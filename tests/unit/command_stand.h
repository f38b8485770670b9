/* SPDX-License-Identifier: MIT */
/*
 * command_stand.h - commands of `dmaland nvme`, run on a drive in software
 *
 * dmaland_open() is the stand's: with the spec that commands are given here it opens soft_nvme.h's drive. What a command prints
 * goes to files in memory.
 */
#ifndef TESTS_UNIT_COMMAND_STAND_H
#define TESTS_UNIT_COMMAND_STAND_H

#include "drive.h" /* whose fail() is none of cmocka's */

#include "soft_nvme.h"

extern struct soft_nvme soft;
extern void (*soft_prepare)(void);		/* the drive is made, and not open yet; or NULL */
extern struct dmaland_nvme_options opened_with; /* of the last drive */

/* What the last command printed. */
extern char out[8192], err[8192];

/* Its exit status; @options have blanks between them. */
int run(const struct command *command, const char *options);

#define assert_says(text, words)                                                                   \
	do {                                                                                       \
		if (!strstr(text, words))                                                          \
			fail_msg("'%s' lacks '%s'", text, words);                                  \
	} while (0)

#endif
