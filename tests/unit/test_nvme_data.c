/* SPDX-License-Identifier: MIT */
/*
 * test_nvme_data.c - the NVMe driver and other memory than a request's: what the drive can read, and what
 * a request can get to see
 *
 * The drive is one that may be asked what it reaches, and that does less than it says.
 */
#include "nvme_stand.h"

#include <errno.h>
#include <stdlib.h>

enum { BLOCK = SOFT_NVME_BLOCK, ROOM = 256 << 10 };

/* As memory lies, from which on what the drive is given can't be told by PRPs; or can. */
static const size_t offsets[] = {0, 1, 4, 511, 4093};

enum { OFFSETS = sizeof(offsets) / sizeof(offsets[0]) };

static const char secret[] = "written by a request that is over";

/* Does the drive reach memory that has the secret in it? */
static bool drive_finds_secret(void)
{
	struct soft_ranges *ranges = &((struct soft_domain *)drive.engine->domain)->ranges;
	const struct soft_range *range = soft_ranges_before(ranges, UINT64_MAX);
	bool found = false;

	while (range && !found) {
		char *copy = malloc(range->size); /* as a device reads: sanitizers forbid us to */

		assert_non_null(copy);
		assert_int_equal(soft_memory_copy(range->device, copy, range->size, false),
				 range->size);
		found = memmem(copy, range->size, secret, sizeof(secret) - 1) != NULL;
		free(copy);
		range = range->dma ? soft_ranges_before(ranges, range->dma - 1) : NULL;
	}
	return found;
}

static void fill_with_secret(char *buffer, size_t bytes)
{
	for (size_t at = 0; at + sizeof(secret) <= bytes; at += sizeof(secret))
		memcpy(buffer + at, secret, sizeof(secret));
}

static void on_pieces(struct dmaland_nvme_request *request, int result)
{
	*(int *)request->context = result;
}

/* Two pieces that share a page of the stream, so that the driver has to gather. */
static int transfer_pieces(uint8_t opcode, char *buffer, size_t bytes)
{
	struct iovec pieces[] = {{buffer, bytes / 2}, {buffer + bytes / 2 + 64, bytes / 2}};
	int result = UNTOUCHED;
	struct dmaland_nvme_request request = {
		.opcode = opcode,
		.nsid = 1,
		.block = 8,
		.blocks = bytes / BLOCK,
		.iov = pieces,
		.iov_count = 2,
		.done = on_pieces,
		.context = &result,
	};

	assert_int_equal(dmaland_nvme_submit(queue, &request), 0);
	while (result == UNTOUCHED)
		dmaland_nvme_poll(queue);
	return result;
}

static void a_drive_that_is_not_trusted_reaches_nothing_of_a_request_that_is_over(void **state)
{
	static const size_t sizes[] = {BLOCK, 4096, 3 * BLOCK, 64 << 10};
	char *buffer = aligned_alloc(4096, ROOM);

	(void)state;
	dev = soft_nvme_open_on(&drive, "soft:,trusted=no");
	begin_on_device(command_ms(), command_ms() / 2);
	for (size_t i = 0; i < OFFSETS; i++) {
		for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
			fill_with_secret(buffer, ROOM);
			assert_int_equal(dmaland_nvme_write(queue, 1, 0, sizes[k] / BLOCK,
							    buffer + offsets[i]),
					 0);
			assert_memory_equal(drive.media, buffer + offsets[i], sizes[k]);
			assert_false(drive_finds_secret());
			assert_int_equal(
				transfer_pieces(DMALAND_NVME_WRITE, buffer + offsets[i], sizes[k]),
				0);
			assert_false(drive_finds_secret());
		}
	}
	free(buffer);
	end();
}

/* While it is in flight, the drive reaches the granules of that request, and no byte of another. */
static int look(struct soft_nvme *d, const struct nvme_command *command)
{
	(void)d;
	(void)command;
	assert_false(drive_finds_secret());
	return SOFT_NVME_CARRY_OUT;
}

static void a_request_in_flight_lends_the_drive_no_memory_of_one_before(void **state)
{
	char *buffer = aligned_alloc(4096, ROOM);

	(void)state;
	dev = soft_nvme_open_on(&drive, "soft:,trusted=no");
	begin_on_device(command_ms(), command_ms() / 2);
	for (size_t i = 0; i < OFFSETS; i++) {
		drive.verdict = NULL;
		fill_with_secret(buffer, ROOM);
		assert_int_equal(dmaland_nvme_write(queue, 1, 0, 8, buffer + offsets[i]), 0);
		memset(buffer, 0, ROOM);
		drive.verdict = look;
		assert_int_equal(dmaland_nvme_write(queue, 1, 0, 1, buffer + offsets[i]), 0);
		assert_int_equal(transfer_pieces(DMALAND_NVME_READ, buffer + offsets[i], BLOCK), 0);
	}
	free(buffer);
	end();
}

/* ---- reads that are not carried out ---- */

static void reads_that_move_nothing_change_nothing(const char *spec)
{
	static const size_t sizes[] = {BLOCK, 4096, 3 * BLOCK, 64 << 10, 160 << 10};
	char *secrets = aligned_alloc(4096, ROOM), *buffer = aligned_alloc(4096, ROOM);
	char *before = malloc(ROOM), *coherent;
	dma_addr_t dma;

	dev = soft_nvme_open_on(&drive, spec);
	begin_on_device(command_ms(), command_ms() / 2);
	coherent = dma_alloc_coherent(dev, ROOM, &dma, GFP_KERNEL);
	assert_non_null(coherent);
	fill_with_secret(secrets, ROOM);
	for (size_t i = 0; i < 2 * OFFSETS; i++) {
		char *to = i < OFFSETS ? buffer : coherent;
		size_t offset = offsets[i % OFFSETS];

		for (size_t at = 0; at < ROOM; at++)
			to[at] = before[at] = (char)(at * 7 + i);
		for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
			drive.verdict = NULL;
			assert_int_equal(
				dmaland_nvme_write(queue, 1, 0, sizes[k] / BLOCK, secrets + offset),
				0);
			transfer_pieces(DMALAND_NVME_WRITE, secrets + offset, sizes[k]);
			judge(SOFT_NVME_NOTHING, UINT32_MAX);
			assert_int_equal(
				dmaland_nvme_read(queue, 1, 0, sizes[k] / BLOCK, to + offset), 0);
			assert_int_equal(transfer_pieces(DMALAND_NVME_READ, to + offset, sizes[k]),
					 0);
			assert_memory_equal(to, before, ROOM);
		}
	}
	dma_free_coherent(dev, ROOM, coherent, dma);
	end();
	free(before);
	free(buffer);
	free(secrets);
}

static void a_read_that_is_not_carried_out_leaves_memory_as_it_was(void **state)
{
	static const char *const specs[] = {"soft:", "soft:,trusted=no", "soft:,unmap=lazy",
					    "soft:,coherent=no", "soft:,copy_below=262144"};

	(void)state;
	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++)
		reads_that_move_nothing_change_nothing(specs[i]);
}

/* ---- discards ---- */

enum { MOST_RANGES = 4096 };

static struct {
	uint64_t block;
	uint32_t blocks;
} ranges[MOST_RANGES];

static unsigned int range_count, most_in_a_command;
static uint64_t most_blocks_in_a_command;

static int note_ranges(struct soft_nvme *d, const struct nvme_command *command)
{
	struct soft_domain *sd = (struct soft_domain *)d->engine->domain;
	unsigned int n = (le32toh(command->cdw10) & 0xff) + 1;
	uint64_t sum = 0, dma = le64toh(command->prp[0]);

	assert_int_equal(command->opcode, DMALAND_NVME_DISCARD);
	for (unsigned int i = 0; i < n; i++) {
		struct {
			uint32_t attributes, blocks;
			uint64_t block;
		} range;
		const struct soft_access access = {dma, dma + i * sizeof(range), &range,
						   sizeof(range), false};
		struct dmaland_soft_fault fault;

		assert_int_equal(soft_domain_access(sd, &access, &fault), sizeof(range));
		assert_true(range_count < MOST_RANGES);
		ranges[range_count].block = le64toh(range.block);
		ranges[range_count++].blocks = le32toh(range.blocks);
		sum += le32toh(range.blocks);
	}
	if (n > most_in_a_command)
		most_in_a_command = n;
	if (sum > most_blocks_in_a_command)
		most_blocks_in_a_command = sum;
	return SOFT_NVME_NOTHING;
}

/* What a drive says of discards, and the request. */
struct discard {
	bool tells;
	uint16_t npdg, npda;
	uint8_t shift;
	uint32_t unit;		       /* blocks, that follow from these */
	uint32_t ranges, range_blocks; /* DMRL, DMRSL; 0: the most that can be said */
	uint64_t most;		       /* DMSL; 0: no limit */
	uint64_t block, blocks;
	bool tight; /* a unit is more than the limits allow */
};

static void check_discard(const struct discard *c)
{
	uint64_t next = c->block;

	dev = soft_nvme_open(&drive);
	drive.tells_discards = c->tells;
	drive.npdg = c->npdg;
	drive.npda = c->npda;
	drive.lba_shift = c->shift;
	drive.blocks = UINT64_C(1) << 40;
	drive.verdict = note_ranges;
	begin_on_device(command_ms(), command_ms() / 2);
	if (c->ranges)
		ctrl->discard_ranges = c->ranges;
	if (c->range_blocks)
		ctrl->discard_range_blocks = c->range_blocks;
	if (c->most)
		ctrl->discard_blocks = c->most;
	range_count = most_in_a_command = 0;
	most_blocks_in_a_command = 0;
	assert_int_equal(dmaland_nvme_discard(queue, 1, c->block, c->blocks), 0);
	for (unsigned int i = 0; i < range_count; i++) {
		assert_int_equal(ranges[i].block, next);
		assert_true(ranges[i].blocks > 0 && ranges[i].blocks <= ctrl->discard_range_blocks);
		if (i > 0 && !c->tight)
			assert_int_equal(ranges[i].block % c->unit, 0);
		next += ranges[i].blocks;
	}
	assert_int_equal(next, c->block + c->blocks);
	assert_true(most_in_a_command <= ctrl->discard_ranges);
	assert_true(most_blocks_in_a_command <= ctrl->discard_blocks);
	end();
}

static void a_discard_is_cut_where_the_drive_discards(void **state)
{
	static const struct discard cases[] = {
		/* nothing to be cut */
		{.shift = 9, .unit = 8, .block = 3, .blocks = 1},
		{.shift = 9, .unit = 8, .block = 0, .blocks = UINT32_MAX},
		/* above 2^32 - 1 blocks */
		{.shift = 9, .unit = 8, .block = 0, .blocks = UINT64_C(5) << 32},
		{.shift = 9, .unit = 8, .block = 5, .blocks = (UINT64_C(5) << 32) + 2},
		{.shift = 12, .unit = 1, .block = 5, .blocks = UINT64_C(3) << 32},
		{.tells = true,
		 .npdg = 255,
		 .npda = 255,
		 .shift = 9,
		 .unit = 256,
		 .block = 1,
		 .blocks = UINT64_C(3) << 32},
		/* size and start of a unit are not one another's multiples */
		{.tells = true,
		 .npdg = 5,
		 .npda = 3,
		 .shift = 9,
		 .unit = 12,
		 .block = 7,
		 .blocks = UINT64_C(3) << 32},
		{.tells = true,
		 .npdg = 0,
		 .npda = 31,
		 .shift = 9,
		 .unit = 32,
		 .block = 7,
		 .blocks = UINT64_C(3) << 32},
		{.tells = true,
		 .npdg = 65535,
		 .npda = 0,
		 .shift = 12,
		 .unit = 65536,
		 .block = 7,
		 .blocks = UINT64_C(3) << 32},
		/* limits of the drive */
		{.shift = 9, .unit = 8, .range_blocks = 100, .block = 3, .blocks = 10001},
		{.shift = 9,
		 .unit = 8,
		 .ranges = 3,
		 .range_blocks = 100,
		 .block = 3,
		 .blocks = 10001},
		{.shift = 9, .unit = 8, .most = 1000, .block = 3, .blocks = 10001},
		{.shift = 9,
		 .unit = 8,
		 .range_blocks = 100,
		 .most = 250,
		 .block = 3,
		 .blocks = 10001},
		{.shift = 9,
		 .unit = 8,
		 .range_blocks = 100,
		 .most = 101,
		 .block = 3,
		 .blocks = 10001},
		{.tells = true,
		 .npdg = 63,
		 .npda = 63,
		 .shift = 9,
		 .unit = 64,
		 .range_blocks = 100,
		 .most = 130,
		 .block = 9,
		 .blocks = 10001},
		{.tells = true,
		 .npdg = 63,
		 .npda = 63,
		 .shift = 9,
		 .unit = 64,
		 .range_blocks = 50,
		 .most = 130,
		 .block = 9,
		 .blocks = 5000,
		 .tight = true},
		{.tells = true,
		 .npdg = 65535,
		 .npda = 65534,
		 .shift = 9,
		 .unit = 1,
		 .range_blocks = 50,
		 .block = 9,
		 .blocks = 5000,
		 .tight = true},
		{.shift = 9,
		 .unit = 8,
		 .range_blocks = 1,
		 .most = 1,
		 .block = 3,
		 .blocks = 100,
		 .tight = true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		check_discard(&cases[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_drive_that_is_not_trusted_reaches_nothing_of_a_request_that_is_over),
		cmocka_unit_test(a_request_in_flight_lends_the_drive_no_memory_of_one_before),
		cmocka_unit_test(a_read_that_is_not_carried_out_leaves_memory_as_it_was),
		cmocka_unit_test(a_discard_is_cut_where_the_drive_discards),
	};

	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
