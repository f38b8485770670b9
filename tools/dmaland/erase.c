/* SPDX-License-Identifier: MIT */
/*
 * erase.c - `dmaland nvme zero` and `dmaland nvme discard`: blocks that lose what they hold
 *
 * To zero, the drive itself writes zeroes; to discard, it is told that nobody needs the blocks, and
 * what they read as afterwards is its choice. No data are transferred, so the pieces are large.
 */
#include "drive.h"
#include "progress.h"

enum { PIECE = 32 << 20 };

/* @done: blocks from @first on that the drive has confirmed */
struct erasure {
	struct transfer transfer;
	enum dmaland_nvme_opcode opcode;
	const char *verb, *past;
	uint64_t first, blocks, next, done;
};

static int erasure_submit(struct erasure *erasure)
{
	uint64_t piece = PIECE / erasure->transfer.ns.block_size;
	uint64_t end = erasure->first + erasure->blocks, n;
	int status = STATUS_OK;

	while (!status && erasure->next < end && transfer_buffer(&erasure->transfer)) {
		n = end - erasure->next < piece ? end - erasure->next : piece;
		status = transfer_submit(&erasure->transfer, erasure->opcode, erasure->next, n);
		if (!status)
			erasure->next += n;
	}
	return status;
}

/* A signal ends it when what is under way is done. */
static int erasure_work(struct erasure *erasure)
{
	struct transfer *transfer = &erasure->transfer;
	struct transfer_slot *slot;
	int status = STATUS_OK;

	while (erasure->done < erasure->blocks) {
		if (!signals_status())
			status = erasure_submit(erasure);
		if (!status && !transfer->used)
			status = signals_status();
		if (!status)
			status = transfer_wait(transfer, &slot);
		if (status)
			return status;
		erasure->done += slot->blocks;
		transfer_release(transfer);
		progress_update(erasure->done * transfer->ns.block_size);
	}
	return STATUS_OK;
}

static int erase_blocks(struct erasure *erasure)
{
	struct transfer *transfer = &erasure->transfer;
	int status;

	progress_begin(erasure->verb, erasure->blocks * transfer->ns.block_size);
	status = erasure_work(erasure);
	progress_end();
	if (erasure->done && status != STATUS_FAILED &&
	    dmaland_nvme_flush(transfer->queue, transfer->ns.nsid))
		status = fail_library(NULL);
	if (status && erasure->next > erasure->first)
		fail("%s%llu of %llu blocks, from block %llu on, were %s",
		     status > STATUS_SIGNAL ? "interrupted: " : "",
		     (unsigned long long)erasure->done, (unsigned long long)erasure->blocks,
		     (unsigned long long)erasure->first, erasure->past);
	return status;
}

static int erase_run(struct erasure *erasure, const struct arguments *arguments,
		     const char *command)
{
	struct dmaland_nvme_namespace ns;
	struct drive drive;
	int status;

	if (!arguments_have(arguments, 'c') && !arguments_have(arguments, 'A'))
		return usage_error(command, "say which blocks: --count, or --all from --start on");
	if (arguments_have(arguments, 'c') && arguments_have(arguments, 'A'))
		return usage_error(command, "--count and --all exclude each other");
	status = drive_open(&drive, arguments);
	if (status)
		return status;
	status = drive_namespace(&drive, arguments->nsid,
				 erasure->opcode == DMALAND_NVME_WRITE_ZEROES ? DRIVE_WRITES : 0,
				 &ns);
	if (!status)
		status = drive_range(&ns, arguments, &erasure->first, &erasure->blocks);
	erasure->next = erasure->first;
	if (!status && arguments_have(arguments, 'A'))
		status = confirm_loss(&drive, arguments,
				      "%s from block %llu to the end of namespace %u",
				      size_text(erasure->blocks * ns.block_size).text,
				      (unsigned long long)erasure->first, ns.nsid);
	if (!status)
		status = transfer_begin(&erasure->transfer, &drive, &ns);
	if (!status) {
		status = erase_blocks(erasure);
		transfer_end(&erasure->transfer);
	}
	if (!status)
		transfer_say(&erasure->transfer, arguments, erasure->past, erasure->first,
			     erasure->done);
	drive_close(&drive);
	return status;
}

static int zero_run(const struct arguments *arguments)
{
	struct erasure erasure = {
		.opcode = DMALAND_NVME_WRITE_ZEROES, .verb = "zeroing", .past = "zeroed"};

	return erase_run(&erasure, arguments, "nvme zero");
}

static int discard_run(const struct arguments *arguments)
{
	struct erasure erasure = {
		.opcode = DMALAND_NVME_DISCARD, .verb = "discarding", .past = "discarded"};

	return erase_run(&erasure, arguments, "nvme discard");
}

#define ERASE_HELP                                                                                 \
	"  -n, --namespace=NSID  the namespace; 1 when left out\n"                                 \
	"  -s, --start=BLOCK     the first block; 0 when left out\n"                               \
	"  -c, --count=BLOCKS    how many\n"                                                       \
	"      --all             all, from the first block to the namespace's end; a\n"            \
	"                        person at a terminal is asked before that\n"                      \
	"  -y, --yes             do not ask\n"                                                     \
	"  -v, --verbose         say what was done, on stderr\n\n"                                 \
	"Blocks are of the namespace's size, which 'dmaland nvme identify' shows.\n"               \
	"More: man dmaland-nvme\n"

const struct command nvme_zero_command = {
	.name = "nvme zero",
	.summary = "blocks become zeroes (destroys data)",
	.options = "nscAyv",
	.operands = "SPEC",
	.least = 1,
	.most = 1,
	.help = "The drive writes zeroes to blocks. What they held is lost.\n"
		"\n" ERASE_HELP,
	.run = zero_run,
};

const struct command nvme_discard_command = {
	.name = "nvme discard",
	.summary = "blocks are needed no more (destroys data)",
	.options = "nscAyv",
	.operands = "SPEC",
	.least = 1,
	.most = 1,
	.help = "The drive is told that nobody needs the content of blocks (TRIM). It is lost.\n"
		"What they read as afterwards is the drive's choice.\n"
		"\n" ERASE_HELP,
	.run = discard_run,
};
