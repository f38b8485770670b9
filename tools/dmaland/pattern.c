/* SPDX-License-Identifier: MIT */
/*
 * pattern.c - `dmaland nvme test`: a pattern to blocks, and read back
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

struct pattern {
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

static void slot_fill(const struct pattern *pattern, char *data, uint64_t block, uint64_t blocks)
{
	uint32_t size = pattern->transfer.ns.block_size;

	for (uint64_t i = 0; i < blocks; i++)
		pattern_fill(data + i * size, size, block + i, pattern->seed);
}

/* Name a block that is not as it was written, and what it is. */
static void mismatch_print(struct pattern *pattern, const char *data, uint64_t block)
{
	uint32_t size = pattern->transfer.ns.block_size, at = 0;
	uint64_t other;

	if (pattern->mismatches++ >= MISMATCHES_NAMED)
		return;
	progress_hide();
	while (data[at] == pattern->expected[at])
		at++;
	memcpy(&other, data, sizeof(other));
	other = le64toh(other);
	printf("block %llu differs from byte %u on: %02x instead of %02x",
	       (unsigned long long)block, at, (unsigned char)data[at],
	       (unsigned char)pattern->expected[at]);
	pattern_fill(pattern->expected, size, other, pattern->seed);
	if (memcmp(data, pattern->expected, size) == 0)
		printf("; it holds what was written to block %llu", (unsigned long long)other);
	putchar('\n');
}

static void slot_compare(struct pattern *pattern, const struct transfer_slot *slot)
{
	uint32_t size = pattern->transfer.ns.block_size;

	for (uint64_t i = 0; i < slot->blocks; i++) {
		const char *data = (const char *)slot->data + i * size;

		pattern_fill(pattern->expected, size, slot->block + i, pattern->seed);
		if (memcmp(data, pattern->expected, size) != 0)
			mismatch_print(pattern, data, slot->block + i);
	}
}

/* Write all blocks, or read and compare them. A signal ends it when what is under way is done. */
static int pass(struct pattern *pattern, enum dmaland_nvme_opcode opcode)
{
	struct transfer *transfer = &pattern->transfer;
	uint64_t next = pattern->first, end = pattern->first + pattern->blocks, n;
	const char *verb = opcode == DMALAND_NVME_WRITE ? "writing" : "reading back";
	struct transfer_slot *slot;
	int status = STATUS_OK;
	void *data;

	memset(&transfer->latency, 0, sizeof(transfer->latency));
	progress_begin(verb, pattern->blocks * transfer->ns.block_size);
	for (pattern->done = 0; !status && pattern->done < pattern->blocks;) {
		while (!status && next < end && !signals_status() &&
		       (data = transfer_buffer(transfer))) {
			n = end - next < transfer->slot_blocks ? end - next : transfer->slot_blocks;
			if (opcode == DMALAND_NVME_WRITE)
				slot_fill(pattern, data, next, n);
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
			slot_compare(pattern, slot);
		pattern->done += slot->blocks;
		transfer_release(transfer);
		progress_update(pattern->done * transfer->ns.block_size);
	}
	progress_end();
	if (status > STATUS_SIGNAL)
		fail("interrupted, %s: %llu of %llu blocks from block %llu on done", verb,
		     (unsigned long long)pattern->done, (unsigned long long)pattern->blocks,
		     (unsigned long long)pattern->first);
	return status;
}

static void pass_print(const struct pattern *pattern, const char *what, double seconds)
{
	uint64_t bytes = pattern->blocks * pattern->transfer.ns.block_size;

	printf("%s %s in %.2f s, %s; latency %s\n", what, size_text(bytes).text, seconds,
	       rate_text(bytes, seconds).text, latency_words(&pattern->transfer.latency).text);
}

static int pattern_blocks(struct pattern *pattern)
{
	const struct dmaland_nvme_namespace *ns = &pattern->transfer.ns;
	double begin = seconds_now();
	int status;

	printf("namespace %u, %llu blocks of %u bytes from block %llu, seed %llu\n", ns->nsid,
	       (unsigned long long)pattern->blocks, ns->block_size,
	       (unsigned long long)pattern->first, (unsigned long long)pattern->seed);
	status = pass(pattern, DMALAND_NVME_WRITE);
	if (!status && dmaland_nvme_flush(pattern->transfer.queue, ns->nsid))
		status = fail_library(NULL);
	if (status)
		return status;
	pass_print(pattern, "wrote    ", seconds_now() - begin);
	begin = seconds_now();
	status = pass(pattern, DMALAND_NVME_READ);
	if (status)
		return status;
	pass_print(pattern, "read back", seconds_now() - begin);
	if (pattern->mismatches > MISMATCHES_NAMED)
		printf("and %llu blocks more\n",
		       (unsigned long long)(pattern->mismatches - MISMATCHES_NAMED));
	if (pattern->mismatches)
		return fail("%llu of %llu blocks are not as they were written",
			    (unsigned long long)pattern->mismatches,
			    (unsigned long long)pattern->blocks);
	puts("all blocks are as they were written");
	return STATUS_OK;
}

static int pattern_namespace(struct drive *drive, const struct dmaland_nvme_namespace *ns,
			     const struct arguments *arguments)
{
	struct pattern *pattern = calloc(1, sizeof(*pattern) + ns->block_size);
	int status;

	if (!pattern)
		return fail("no memory for a block of %u bytes", ns->block_size);
	pattern->seed = arguments->seed;
	if (!arguments_have(arguments, 'S') &&
	    getrandom(&pattern->seed, sizeof(uint32_t), 0) != sizeof(uint32_t))
		pattern->seed = (uint64_t)seconds_now();
	status = drive_range(ns, arguments, &pattern->first, &pattern->blocks);
	if (!status)
		status = transfer_begin(&pattern->transfer, drive, ns);
	if (!status) {
		status = pattern_blocks(pattern);
		transfer_end(&pattern->transfer);
	}
	free(pattern);
	return status;
}

static int pattern_run(const struct arguments *arguments)
{
	struct dmaland_nvme_namespace ns;
	struct drive drive;
	int status;

	if (!arguments_have(arguments, 'X'))
		return usage_error("nvme test",
				   "it overwrites blocks, all of them without --count: "
				   "--destroy-data if that is meant ('nvme verify' only reads)");
	status = drive_open(&drive, arguments);
	if (status)
		return status;
	status = drive_namespace(&drive, arguments->nsid, DRIVE_TRANSFERS | DRIVE_WRITES, &ns);
	if (!status)
		status = pattern_namespace(&drive, &ns, arguments);
	drive_close(&drive);
	return status;
}

const struct command nvme_test_command = {
	.name = "nvme test",
	.summary = "write a pattern and read it back (destroys data)",
	.options = "nscSXv",
	.operands = "SPEC",
	.least = 1,
	.most = 1,
	.help = "Write a pattern to blocks of a namespace, read it back and compare. What the\n"
		"blocks held is lost. Blocks that differ are named.\n\n"
		"      --destroy-data    yes, that is meant; else nothing is done\n"
		"  -n, --namespace=NSID  the namespace; 1 when left out\n"
		"  -s, --start=BLOCK     the first block; 0 when left out\n"
		"  -c, --count=BLOCKS    how many; to the namespace's end when left out\n"
		"      --seed=NUMBER     what the pattern follows from; random when left out\n"
		"  -v, --verbose         more messages on stderr\n\n"
		"More: man dmaland-nvme\n",
	.run = pattern_run,
};
