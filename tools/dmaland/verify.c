/* SPDX-License-Identifier: MIT */
/*
 * verify.c - `dmaland nvme verify`: a pattern to blocks, and read back
 *
 * The pattern of a block, in 64-bit words, little-endian: its number, the seed, and a sequence that
 * follows from both. So each block differs from all others and from those of another seed, and a
 * block that lies in a wrong place tells where it belongs.
 *
 * Before a read the buffer is filled with what no pattern holds there, so that data that never
 * arrive are not taken for good.
 */
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "drive.h"
#include "progress.h"

enum { MISMATCHES_NAMED = 16 };

struct verify {
	struct transfer transfer;
	uint64_t first, blocks, seed, mismatches;
	uint64_t done; /* blocks of this pass */
	char expected[];
};

/* splitmix64, by Sebastiano Vigna: one step of a sequence of well mixed numbers */
static uint64_t mix(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static void pattern_fill(char *data, uint32_t block_size, uint64_t block, uint64_t seed)
{
	uint64_t state = seed, word;

	state = mix(&state) ^ block;
	for (uint32_t at = 0; at < block_size; at += sizeof(word)) {
		word = at == 0 ? block : at == sizeof(word) ? seed : mix(&state);
		word = htole64(word);
		memcpy(data + at, &word, sizeof(word));
	}
}

static void slot_fill(const struct verify *verify, char *data, uint64_t block, uint64_t blocks)
{
	uint32_t size = verify->transfer.ns.block_size;

	for (uint64_t i = 0; i < blocks; i++)
		pattern_fill(data + i * size, size, block + i, verify->seed);
}

/* Name a block that is not as it was written, and what it is. */
static void mismatch_print(struct verify *verify, const char *data, uint64_t block)
{
	uint32_t size = verify->transfer.ns.block_size, at = 0;
	uint64_t other;

	if (verify->mismatches++ >= MISMATCHES_NAMED)
		return;
	progress_hide();
	while (data[at] == verify->expected[at])
		at++;
	memcpy(&other, data, sizeof(other));
	other = le64toh(other);
	printf("block %llu differs from byte %u on: %02x instead of %02x",
	       (unsigned long long)block, at, (unsigned char)data[at],
	       (unsigned char)verify->expected[at]);
	pattern_fill(verify->expected, size, other, verify->seed);
	if (memcmp(data, verify->expected, size) == 0)
		printf("; it holds what was written to block %llu", (unsigned long long)other);
	putchar('\n');
}

static void slot_compare(struct verify *verify, const struct transfer_slot *slot)
{
	uint32_t size = verify->transfer.ns.block_size;

	for (uint64_t i = 0; i < slot->blocks; i++) {
		const char *data = (const char *)slot->data + i * size;

		pattern_fill(verify->expected, size, slot->block + i, verify->seed);
		if (memcmp(data, verify->expected, size) != 0)
			mismatch_print(verify, data, slot->block + i);
	}
}

/* Write all blocks, or read and compare them. A signal ends it when what is under way is done. */
static int pass(struct verify *verify, enum dmaland_nvme_opcode opcode)
{
	struct transfer *transfer = &verify->transfer;
	uint64_t next = verify->first, end = verify->first + verify->blocks, n;
	const char *verb = opcode == DMALAND_NVME_WRITE ? "writing" : "reading back";
	struct transfer_slot *slot;
	int status = STATUS_OK;
	void *data;

	memset(&transfer->latency, 0, sizeof(transfer->latency));
	progress_begin(verb, verify->blocks * transfer->ns.block_size);
	for (verify->done = 0; !status && verify->done < verify->blocks;) {
		while (!status && next < end && !signals_status() &&
		       (data = transfer_buffer(transfer))) {
			n = end - next < transfer->slot_blocks ? end - next : transfer->slot_blocks;
			if (opcode == DMALAND_NVME_WRITE)
				slot_fill(verify, data, next, n);
			else
				memset(data, 0x5a, transfer->slot_bytes);
			status = transfer_submit(transfer, opcode, next, n);
			next += n;
		}
		if (!status && !transfer->used)
			status = signals_status();
		else if (!status)
			status = transfer_wait(transfer, &slot);
		if (status)
			break;
		if (opcode == DMALAND_NVME_READ)
			slot_compare(verify, slot);
		verify->done += slot->blocks;
		transfer_release(transfer);
		progress_update(verify->done * transfer->ns.block_size);
	}
	progress_end();
	if (status > STATUS_SIGNAL)
		fail("interrupted, %s: %llu of %llu blocks from block %llu on done", verb,
		     (unsigned long long)verify->done, (unsigned long long)verify->blocks,
		     (unsigned long long)verify->first);
	return status;
}

static void pass_print(const struct verify *verify, const char *what, double seconds)
{
	uint64_t bytes = verify->blocks * verify->transfer.ns.block_size;

	printf("%s %s in %.2f s, %s; latency %s\n", what, size_text(bytes).text, seconds,
	       rate_text(bytes, seconds).text, latency_words(&verify->transfer.latency).text);
}

static int verify_blocks(struct verify *verify)
{
	const struct dmaland_nvme_namespace *ns = &verify->transfer.ns;
	double begin = seconds_now();
	int status;

	printf("namespace %u, %llu blocks of %u bytes from block %llu, seed %llu\n", ns->nsid,
	       (unsigned long long)verify->blocks, ns->block_size,
	       (unsigned long long)verify->first, (unsigned long long)verify->seed);
	status = pass(verify, DMALAND_NVME_WRITE);
	if (!status && dmaland_nvme_flush(verify->transfer.queue, ns->nsid))
		status = fail_library(NULL);
	if (status)
		return status;
	pass_print(verify, "wrote    ", seconds_now() - begin);
	begin = seconds_now();
	status = pass(verify, DMALAND_NVME_READ);
	if (status)
		return status;
	pass_print(verify, "read back", seconds_now() - begin);
	if (verify->mismatches > MISMATCHES_NAMED)
		printf("and %llu blocks more\n",
		       (unsigned long long)(verify->mismatches - MISMATCHES_NAMED));
	if (verify->mismatches)
		return fail("%llu of %llu blocks are not as they were written",
			    (unsigned long long)verify->mismatches,
			    (unsigned long long)verify->blocks);
	puts("all blocks are as they were written");
	return STATUS_OK;
}

static int verify_namespace(struct drive *drive, const struct dmaland_nvme_namespace *ns,
			    const struct arguments *arguments)
{
	struct verify *verify = calloc(1, sizeof(*verify) + ns->block_size);
	int status;

	if (!verify)
		return fail("no memory for a block of %u bytes", ns->block_size);
	verify->seed = arguments->seed;
	if (!arguments_have(arguments, 'S') &&
	    getrandom(&verify->seed, sizeof(uint32_t), 0) != sizeof(uint32_t))
		verify->seed = (uint64_t)seconds_now();
	status = drive_range(ns, arguments, &verify->first, &verify->blocks);
	if (!status)
		status = transfer_begin(&verify->transfer, drive, ns);
	if (!status) {
		status = verify_blocks(verify);
		transfer_end(&verify->transfer);
	}
	free(verify);
	return status;
}

static int verify_run(const struct arguments *arguments)
{
	struct dmaland_nvme_namespace ns;
	struct drive drive;
	int status = drive_open(&drive, arguments);

	if (status)
		return status;
	status = drive_namespace(&drive, arguments->nsid, DRIVE_TRANSFERS | DRIVE_WRITES, &ns);
	if (!status)
		status = verify_namespace(&drive, &ns, arguments);
	drive_close(&drive);
	return status;
}

const struct command nvme_verify_command = {
	.name = "nvme verify",
	.summary = "write a pattern and read it back (destroys data)",
	.options = "nscSv",
	.operands = "SPEC",
	.least = 1,
	.most = 1,
	.help = "Write a pattern to blocks of a namespace, read it back and compare.\n"
		"What the blocks held is lost; nothing is asked. Blocks that differ are named.\n\n"
		"  -n, --namespace=NSID  the namespace; 1 when left out\n"
		"  -s, --start=BLOCK     the first block; 0 when left out\n"
		"  -c, --count=BLOCKS    how many; to the namespace's end when left out\n"
		"      --seed=NUMBER     what the pattern follows from; random when left out\n"
		"  -v, --verbose         more messages on stderr\n\n"
		"More: man dmaland-nvme\n",
	.run = verify_run,
};
