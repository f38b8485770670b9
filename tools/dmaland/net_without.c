/* SPDX-License-Identifier: MIT */
/*
 * net_without.c - `dmaland net ping` and `dmaland net echo` where there was no lwIP: they say so
 */
#include "command.h"

static int without_run(const struct arguments *arguments)
{
	(void)arguments;
	return fail("this dmaland was built without lwIP, which `net ping` and `net echo` stand "
		    "on: install liblwip-dev, and build it again");
}

const struct command net_ping_command = {
	.name = "net ping",
	.summary = "(built without lwIP)",
	.options = "YecVZtuJv",
	.operands = "SPEC ADDRESS",
	.least = 0,
	.most = -1,
	.help = "This dmaland was built without lwIP.\n",
	.run = without_run,
};

const struct command net_echo_command = {
	.name = "net echo",
	.summary = "(built without lwIP)",
	.options = "YcLJv",
	.operands = "SPEC",
	.least = 0,
	.most = -1,
	.help = "This dmaland was built without lwIP.\n",
	.run = without_run,
};
