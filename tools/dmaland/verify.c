/* SPDX-License-Identifier: MIT */
/*
 * verify.c - `dmaland nvme verify`: can the drive read its blocks?
 *
 * By the Verify command, for which nothing is transferred; a drive that lacks it reads the blocks to
 * buffers that nobody looks at. The drive is not changed.
 */
#include <stdio.h>

#include "drive.h"
#include "progress.h"

enum { PIECE = 32 << 20, MOST_FAILURES = 16 };

/* @done: blocks from @first on that were looked at */
struct verification {
	struct transfer transfer;
	enum dmaland_nvme_opcode opcode;
	uint64_t first, blocks, next, done;
	unsigned int failures; /* requests */
};

static int verification_submit(struct verification *v)
{
	struct transfer *transfer = &v->transfer;
	uint64_t piece = v->opcode == DMALAND_NVME_READ ? transfer->slot_blocks
							: PIECE / transfer->ns.block_size;
	uint64_t end = v->first + v->blocks, n;
	int status = STATUS_OK;

	while (!status && v->next < end && transfer_buffer(transfer)) {
		n = end - v->next < piece ? end - v->next : piece;
		status = transfer_submit(transfer, v->opcode, v->next, n);
		if (!status)
			v->next += n;
	}
	return status;
}

/* What a drive fails is named, and the rest is looked at too; a drive that is gone is not asked on. */
static int verification_reap(struct verification *v)
{
	struct transfer_slot *slot;
	int status = transfer_wait(&v->transfer, &slot);

	if (status && (slot->status < 0 || ++v->failures == MOST_FAILURES))
		return status;
	v->done += slot->blocks;
	transfer_release(&v->transfer);
	progress_update(v->done * v->transfer.ns.block_size);
	return STATUS_OK;
}

static int verification_work(struct verification *v)
{
	int status = STATUS_OK;

	progress_begin("verifying", v->blocks * v->transfer.ns.block_size);
	while (!status && v->done < v->blocks) {
		if (!signals_status())
			status = verification_submit(v);
		if (!status && !v->transfer.used)
			status = signals_status();
		else if (!status)
			status = verification_reap(v);
	}
	progress_end();
	return status;
}

static int verification_say(const struct verification *v, int status)
{
	if (!status && !v->failures) {
		printf("namespace %u: the drive can read %llu blocks of %u bytes from block %llu "
		       "on\n",
		       v->transfer.ns.nsid, (unsigned long long)v->blocks,
		       v->transfer.ns.block_size, (unsigned long long)v->first);
		return STATUS_OK;
	}
	fail("%s%llu of %llu blocks, from block %llu on, were verified; %u requests failed",
	     status > STATUS_SIGNAL ? "interrupted: " : "", (unsigned long long)v->done,
	     (unsigned long long)v->blocks, (unsigned long long)v->first, v->failures);
	return status ? status : STATUS_FAILED;
}

static int verify_run(const struct arguments *arguments)
{
	struct verification v = {.opcode = DMALAND_NVME_READ};
	struct dmaland_nvme_namespace ns;
	struct drive drive;
	int status = drive_open(&drive, arguments);

	if (status)
		return status;
	if (drive.info.commands >> DMALAND_NVME_VERIFY & 1)
		v.opcode = DMALAND_NVME_VERIFY;
	status = drive_namespace(&drive, (uint32_t)arguments->nsid,
				 v.opcode == DMALAND_NVME_READ ? DRIVE_TRANSFERS : 0, &ns);
	if (!status)
		status = drive_range(&ns, arguments, &v.first, &v.blocks);
	v.next = v.first;
	if (!status)
		status = transfer_begin(&v.transfer, &drive, &ns);
	if (!status) {
		status = verification_say(&v, verification_work(&v));
		transfer_end(&v.transfer);
	}
	if (!status)
		transfer_say(&v.transfer, arguments, "verified", v.first, v.done);
	drive_close(&drive);
	return status;
}

const struct command nvme_verify_command = {
	.name = "nvme verify",
	.summary = "can the drive read its blocks? (changes nothing)",
	.options = "nscv",
	.operands = "SPEC",
	.least = 1,
	.most = 1,
	.help = "The drive reads blocks of a namespace, by its Verify command, or to nowhere\n"
		"if it has none. What it can't read is named. Nothing is written; a pattern is\n"
		"written and read back by 'dmaland nvme test'.\n\n"
		"  -n, --namespace=NSID  the namespace; 1 when left out\n"
		"  -s, --start=BLOCK     the first block; 0 when left out\n"
		"  -c, --count=BLOCKS    how many; to the namespace's end when left out\n"
		"  -v, --verbose         say how fast it was, on stderr\n\n"
		"More: man dmaland-nvme\n",
	.run = verify_run,
};
