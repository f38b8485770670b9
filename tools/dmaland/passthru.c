/* SPDX-License-Identifier: MIT */
/*
 * passthru.c - `dmaland nvme admin` and `dmaland nvme io`: a command as the user has it
 *
 * The options that there are have the names and letters of nvme-cli's admin-passthru and
 * io-passthru (-o was --opcode until nvme-cli made that -O). There are none for flags, the reserved
 * field, metadata, a prefilled buffer, latency, another output format, and for showing the command
 * only. The opcode says which way data go, so that --read and --write need not be given; --input-file is
 * only read.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "drive.h"

/* Bits of an opcode: which way data go (NVMe 2.0, 3.3.3.1). */
enum { TO_DRIVE = 1, FROM_DRIVE = 2 };

/* What makes no sense, before the drive is opened. */
static int passthru_check(const struct arguments *arguments, const char *command)
{
	unsigned int opcode = (unsigned int)arguments->opcode;

	if (!arguments_have(arguments, 'o'))
		return usage_error(command, "say which command: --opcode");
	if (arguments_have(arguments, 'r') && !(opcode & FROM_DRIVE))
		return usage_error(command, "--read, and opcode 0x%02x reads nothing (bit 1)",
				   opcode);
	if (arguments_have(arguments, 'w') && !(opcode & TO_DRIVE))
		return usage_error(command, "--write, and opcode 0x%02x writes nothing (bit 0)",
				   opcode);
	if (arguments_have(arguments, 'i') && !(opcode & TO_DRIVE))
		return usage_error(
			command, "--input-file, and opcode 0x%02x writes nothing (bit 0)", opcode);
	if (arguments_have(arguments, 'i') && arguments->data_len == 0)
		return usage_error(command, "--input-file wants --data-len");
	return STATUS_OK;
}

/* The data of a command that writes, from a file or stdin. */
static int input_read(const struct arguments *arguments, void *data)
{
	const char *name = arguments->input ? arguments->input : "stdin";
	int fd = arguments->input ? open(arguments->input, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	size_t got = 0;
	int status;

	if (fd < 0)
		return fail("cannot open %s: %s", name, strerror(errno));
	status = read_full(fd, name, data, arguments->data_len, &got);
	if (fd != STDIN_FILENO)
		close(fd);
	if (!status && got < arguments->data_len)
		return fail("%s has %zu bytes, and %llu were asked (--data-len)", name, got,
			    (unsigned long long)arguments->data_len);
	return status;
}

static void dump(const unsigned char *data, size_t size)
{
	enum { LINE = 16 };

	for (size_t at = 0; at < size; at += LINE) {
		size_t n = size - at < LINE ? size - at : LINE;

		printf("%06zx ", at);
		for (size_t i = 0; i < LINE; i++)
			if (i < n)
				printf(" %02x", data[at + i]);
			else
				fputs("   ", stdout);
		fputs("  |", stdout);
		for (size_t i = 0; i < n; i++)
			putchar(data[at + i] >= 0x20 && data[at + i] < 0x7f ? data[at + i] : '.');
		puts("|");
	}
}

static int output_write(const struct arguments *arguments, const void *data)
{
	size_t done = 0;

	if (arguments_have(arguments, 'b'))
		return write_all(STDOUT_FILENO, "stdout", data, arguments->data_len, &done);
	dump(data, arguments->data_len);
	return STATUS_OK;
}

static int io_give(struct drive *drive, struct dmaland_nvme_command *command)
{
	struct dmaland_nvme_queue *queue = dmaland_nvme_queue_create(drive->ctrl, 0, 0);
	int status = queue ? dmaland_nvme_io(queue, command) : -errno;

	dmaland_nvme_queue_destroy(queue);
	return status;
}

static int passthru_give(const struct arguments *arguments, bool admin, void *data)
{
	const uint64_t *cdw = arguments->cdw;
	struct dmaland_nvme_command command = {
		.opcode = (uint8_t)arguments->opcode,
		.nsid = (uint32_t)arguments->nsid,
		.cdw2 = (uint32_t)cdw[0],
		.cdw3 = (uint32_t)cdw[1],
		.cdw10 = (uint32_t)cdw[2],
		.cdw11 = (uint32_t)cdw[3],
		.cdw12 = (uint32_t)cdw[4],
		.cdw13 = (uint32_t)cdw[5],
		.cdw14 = (uint32_t)cdw[6],
		.cdw15 = (uint32_t)cdw[7],
		.data = data,
		.size = arguments->data_len,
		.timeout_ms = (unsigned int)arguments->timeout,
	};
	struct drive drive;
	int status = drive_open(&drive, arguments);

	if (status)
		return status;
	status = admin ? dmaland_nvme_admin(drive.ctrl, &command) : io_give(&drive, &command);
	if (status)
		status = fail_library(NULL);
	else
		fprintf(stderr, "result: 0x%08x 0x%08x\n", command.result[0], command.result[1]);
	drive_close(&drive);
	return status;
}

static int passthru_run(const struct arguments *arguments, bool admin)
{
	int status = passthru_check(arguments, admin ? "nvme admin" : "nvme io");
	void *data = NULL;

	if (status)
		return status;
	if (arguments->data_len > 0) {
		data = calloc(1, arguments->data_len);
		if (!data)
			return fail("no memory for %llu bytes of data",
				    (unsigned long long)arguments->data_len);
	}
	if (data && (arguments->opcode & TO_DRIVE))
		status = input_read(arguments, data);
	if (!status)
		status = passthru_give(arguments, admin, data);
	if (!status && data && (arguments->opcode & FROM_DRIVE))
		status = output_write(arguments, data);
	free(data);
	return status;
}

static int admin_run(const struct arguments *arguments)
{
	return passthru_run(arguments, true);
}

static int io_run(const struct arguments *arguments)
{
	return passthru_run(arguments, false);
}

#define PASSTHRU_HELP                                                                              \
	"The drive is given it once, as it is; what it does is not asked about. Data go\n"         \
	"the way that bits 1:0 of the opcode say. The result is printed on stderr.\n\n"            \
	"  -o, --opcode=NUMBER     which command\n"                                                \
	"  -n, --namespace=NSID    its namespace; 0, none, when left out; all: 0xffffffff\n"       \
	"      --namespace-id=NSID another name of that\n"                                         \
	"  -2, --cdw2=DWORD        its dwords; 0 when left out\n"                                  \
	"  -3, --cdw3=DWORD\n"                                                                     \
	"  -4, --cdw10=DWORD\n"                                                                    \
	"  -5, --cdw11=DWORD\n"                                                                    \
	"  -6, --cdw12=DWORD\n"                                                                    \
	"  -7, --cdw13=DWORD\n"                                                                    \
	"  -8, --cdw14=DWORD\n"                                                                    \
	"  -9, --cdw15=DWORD\n"                                                                    \
	"  -l, --data-len=BYTES    as many as it transfers\n"                                      \
	"  -i, --input-file=FILE   what it writes; stdin when left out\n"                          \
	"  -b, --raw-binary        what it read as it is, on stdout; else in hexadecimal\n"        \
	"  -r, --read, -w, --write refuse an opcode that does not\n"                               \
	"  -t, --timeout=MS        how long; 30 s when left out, of Format NVM 600 s\n"            \
	"  -v, --verbose           more messages on stderr\n\n"                                    \
	"More: man dmaland-nvme\n"

#define PASSTHRU_OPTIONS "onG23456789librwtv"

const struct command nvme_admin_command = {
	.name = "nvme admin",
	.summary = "any command to the admin queue (may destroy data)",
	.options = PASSTHRU_OPTIONS,
	.operands = "SPEC",
	.least = 1,
	.most = 1,
	.help = "A command of the admin queue that no other command here has.\n" PASSTHRU_HELP,
	.run = admin_run,
};

const struct command nvme_io_command = {
	.name = "nvme io",
	.summary = "any command to an I/O queue (may destroy data)",
	.options = PASSTHRU_OPTIONS,
	.operands = "SPEC",
	.least = 1,
	.most = 1,
	.help = "A command of an I/O queue that no other command here has.\n" PASSTHRU_HELP,
	.run = io_run,
};
