/* SPDX-License-Identifier: MIT */
/*
 * command_tests.c - what an NVMe drive can do besides reading and writing: compare, zeroes, discard,
 * verify, formats, logs
 */
#include "suite.h"
#include "nvme_internal.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

enum { BYTES = 4 << 20, EDGE = 65536 }; /* the edges stay as they are */

static struct drive drive;
static unsigned char *data, *back;

static void write_pattern(void)
{
	uint64_t seed = 99;

	for (size_t i = 0; i < BYTES; i++)
		data[i] = 1 + random_below(&seed, 255);
	if (dmaland_nvme_write(drive.queue, 1, 0, BYTES / drive.ns.block_size, data))
		fail_msg("%s", dmaland_last_error());
}

static int open_drive(void **state)
{
	(void)state;
	drive_open(&drive, device_spec, 0);
	drive.ctrl->info.commands |=
		1u << DMALAND_NVME_VERIFY; /* QEMU 7.2 has it and does not say so */
	data = malloc(BYTES);
	back = malloc(BYTES);
	assert_non_null(data);
	assert_non_null(back);
	return 0;
}

static int close_drive(void **state)
{
	(void)state;
	free(data);
	free(back);
	drive_close(&drive);
	assert_string_equal(log_text(), "");
	return 0;
}

static uint64_t blocks_of(size_t bytes)
{
	return bytes / drive.ns.block_size;
}

/* What lies between the edges, read; and the edges are what was written. */
static void read_between(void)
{
	memset(back, 0x77, BYTES);
	if (dmaland_nvme_read(drive.queue, 1, 0, blocks_of(BYTES), back))
		fail_msg("%s", dmaland_last_error());
	assert_memory_equal(back, data, EDGE);
	assert_memory_equal(back + BYTES - EDGE, data + BYTES - EDGE, EDGE);
}

static void equal_blocks_compare_and_one_byte_less_is_told(void **state)
{
	(void)state;
	write_pattern();
	if (dmaland_nvme_compare(drive.queue, 1, 0, blocks_of(BYTES), data))
		fail_msg("%s", dmaland_last_error());
	data[BYTES - 3] ^= 1;
	assert_int_equal(dmaland_nvme_compare(drive.queue, 1, 0, blocks_of(BYTES), data),
			 DMALAND_NVME_STATUS_COMPARE_FAILURE);
	assert_error_says("compare of");
	data[BYTES - 3] ^= 1;
	/* it was not written */
	assert_int_equal(dmaland_nvme_compare(drive.queue, 1, 0, blocks_of(BYTES), data), 0);
}

/* Commands of one block up to those whose limits make several of a request. */
static void zeroes_are_written_in_their_range_alone(void **state)
{
	(void)state;
	write_pattern();
	if (dmaland_nvme_write_zeroes(drive.queue, 1, blocks_of(EDGE), blocks_of(BYTES - 2 * EDGE)))
		fail_msg("%s", dmaland_last_error());
	read_between();
	for (size_t i = EDGE; i < BYTES - EDGE; i++)
		assert_int_equal(back[i], 0);
}

/* What is read of discarded blocks is the drive's choice (DLFEAT); QEMU's are zeroes or as before. */
static void discarded_blocks_are_zeroes_or_as_they_were_and_the_others_stay(void **state)
{
	(void)state;
	write_pattern();
	if (dmaland_nvme_discard(drive.queue, 1, blocks_of(EDGE), blocks_of(BYTES - 2 * EDGE)))
		fail_msg("%s", dmaland_last_error());
	read_between();
	for (size_t i = EDGE; i < BYTES - EDGE; i++)
		assert_true(back[i] == 0 || back[i] == data[i]);
}

/* Limits as small as a drive may have them make many commands and many ranges of one request. */
static void small_limits_of_a_drive_are_kept(void **state)
{
	struct nvme_ns *ns = (struct nvme_ns *)nvme_find_ns(drive.ctrl, 1);
	struct nvme_ns before = *ns;
	struct dmaland_nvme limits = *drive.ctrl;
	uint64_t blocks = blocks_of(BYTES - 2 * EDGE);

	(void)state;
	ns->max_zeroes = ns->max_verify = 3;
	drive.ctrl->discard_ranges = 7;
	drive.ctrl->discard_range_blocks = 5;
	drive.ctrl->discard_blocks = 33;
	write_pattern();
	assert_int_equal(dmaland_nvme_write_zeroes(drive.queue, 1, blocks_of(EDGE), blocks), 0);
	read_between();
	for (size_t i = EDGE; i < BYTES - EDGE; i++)
		assert_int_equal(back[i], 0);
	write_pattern();
	assert_int_equal(dmaland_nvme_discard(drive.queue, 1, blocks_of(EDGE), blocks), 0);
	read_between();
	assert_int_equal(dmaland_nvme_verify(drive.queue, 1, blocks_of(EDGE), blocks), 0);
	assert_int_equal(pool_stats(drive.dev, "prp list 256").in_use, 0);
	ns->max_zeroes = before.max_zeroes;
	ns->max_verify = before.max_verify;
	drive.ctrl->discard_ranges = limits.discard_ranges;
	drive.ctrl->discard_range_blocks = limits.discard_range_blocks;
	drive.ctrl->discard_blocks = limits.discard_blocks;
}

static void a_drive_verifies_all_of_itself(void **state)
{
	(void)state;
	write_pattern();
	if (dmaland_nvme_verify(drive.queue, 1, 0, drive.ns.blocks))
		fail_msg("%s", dmaland_last_error());
}

/* QEMU's drive answers a discard past the end with status 0. */
static void ranges_past_the_end_are_refused_for_every_command(void **state)
{
	uint64_t end = drive.ns.blocks;

	(void)state;
	assert_int_equal(dmaland_nvme_discard(drive.queue, 1, end - 1, 2), -ERANGE);
	assert_error_says("blocks");
	assert_int_equal(dmaland_nvme_discard(drive.queue, 1, UINT64_MAX, UINT64_MAX), -ERANGE);
	assert_int_equal(dmaland_nvme_write_zeroes(drive.queue, 1, end, 1), -ERANGE);
	assert_int_equal(dmaland_nvme_verify(drive.queue, 1, 1, UINT64_MAX), -ERANGE);
	assert_int_equal(dmaland_nvme_compare(drive.queue, 1, end, 1, data), -ERANGE);
	assert_int_equal(dmaland_nvme_discard(drive.queue, 1, 0, 0), -EINVAL);
}

static void requests_without_data_take_no_segments(void **state)
{
	static const uint8_t opcodes[] = {DMALAND_NVME_FLUSH, DMALAND_NVME_WRITE_ZEROES,
					  DMALAND_NVME_DISCARD, DMALAND_NVME_VERIFY};
	struct iovec iov = {data, drive.ns.block_size};

	(void)state;
	for (size_t i = 0; i < sizeof(opcodes); i++) {
		struct dmaland_nvme_request request = {
			.opcode = opcodes[i],
			.nsid = 1,
			.blocks = opcodes[i] != DMALAND_NVME_FLUSH,
			.iov = &iov,
			.iov_count = 1,
			.done = (void (*)(struct dmaland_nvme_request *, int))abort,
		};

		assert_int_equal(dmaland_nvme_submit(drive.queue, &request), -EINVAL);
		assert_error_says("segments");
	}
}

static void commands_that_a_drive_does_not_have_are_refused_in_words(void **state)
{
	uint32_t commands = drive.ctrl->info.commands;

	(void)state;
	assert_int_equal(drive.info.commands & 7, 7);
	drive.ctrl->info.commands = 7;
	assert_int_equal(dmaland_nvme_verify(drive.queue, 1, 0, 1), -EOPNOTSUPP);
	assert_error_says("has no verify command (ONCS");
	assert_int_equal(dmaland_nvme_discard(drive.queue, 1, 0, 1), -EOPNOTSUPP);
	assert_int_equal(dmaland_nvme_compare(drive.queue, 1, 0, 1, data), -EOPNOTSUPP);
	assert_int_equal(dmaland_nvme_write_zeroes(drive.queue, 1, 0, 1), -EOPNOTSUPP);
	drive.ctrl->info.commands = commands;
}

/* ---- formats ---- */

/* A format of blocks of this size, with or without metadata; fails where there is none. */
static unsigned int find_format(uint32_t block_size, bool metadata)
{
	for (unsigned int i = 0; i < drive.ns.format_count; i++)
		if (drive.ns.formats[i].block_size == block_size &&
		    (drive.ns.formats[i].metadata > 0) == metadata)
			return i;
	fail_msg("no format of %u bytes", block_size);
	return 0;
}

static void namespace_has(unsigned int format)
{
	if (dmaland_nvme_get_namespace(drive.ctrl, 1, &drive.ns))
		fail_msg("%s", dmaland_last_error());
	assert_int_equal(drive.ns.format, format);
	assert_int_equal(drive.ns.block_size, drive.ns.formats[format].block_size);
	assert_int_equal(drive.ns.metadata, drive.ns.formats[format].metadata);
}

static void format_as(unsigned int format, unsigned int flags)
{
	if (dmaland_nvme_format(drive.ctrl, 1, format, flags))
		fail_msg("%s", dmaland_last_error());
	namespace_has(format);
}

static void a_formatted_namespace_has_other_blocks_for_the_same_queue(void **state)
{
	unsigned int before = drive.ns.format;
	unsigned int other = find_format(drive.ns.block_size == 512 ? 4096 : 512, false);

	(void)state;
	write_pattern();
	format_as(other, 0);
	write_pattern(); /* by the queue that knew the old blocks */
	read_between();
	assert_memory_equal(back, data, BYTES);
	assert_int_equal(dmaland_nvme_read(drive.queue, 1, drive.ns.blocks, 1, back), -ERANGE);
	format_as(before, DMALAND_NVME_FORMAT_ERASE);
	write_pattern();
	read_between();
}

static void formats_with_metadata_are_refused_unless_they_are_meant(void **state)
{
	unsigned int before = drive.ns.format;
	unsigned int format = find_format(drive.ns.block_size, true);

	(void)state;
	assert_int_equal(dmaland_nvme_format(drive.ctrl, 1, format, 0), -EOPNOTSUPP);
	assert_error_says("metadata");
	namespace_has(before);
	format_as(format, DMALAND_NVME_FORMAT_METADATA);
	assert_int_equal(dmaland_nvme_read(drive.queue, 1, 0, 1, back), -EOPNOTSUPP);
	assert_error_says("metadata");
	assert_int_equal(dmaland_nvme_compare(drive.queue, 1, 0, 1, back), -EOPNOTSUPP);
	format_as(before, 0);
}

static void formats_that_cannot_be_right_are_refused_in_words(void **state)
{
	static const struct {
		uint32_t nsid;
		unsigned int format, flags;
		int code;
		const char *says;
	} cases[] = {
		{1, 63, 0, -EINVAL, "has no format 63"},
		{1, 0, 64, -EINVAL, "flags"},
		{1, 0, DMALAND_NVME_FORMAT_ERASE | DMALAND_NVME_FORMAT_CRYPTO_ERASE, -EINVAL,
		 "erase"},
		{77, 0, 0, -ENODEV, "namespace 77"},
		{0, 0, 0, -EINVAL, "count from 1"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int code = dmaland_nvme_format(drive.ctrl, cases[i].nsid, cases[i].format,
					       cases[i].flags);

		if (code != cases[i].code)
			fail_msg("case %zu gives %d", i, code);
		assert_error_says(cases[i].says);
	}
	drive.ctrl->info.can_format = false;
	assert_int_equal(dmaland_nvme_format(drive.ctrl, 1, 0, 0), -EOPNOTSUPP);
	assert_error_says("OACS");
	drive.ctrl->info.can_format = true;
}

static void ignore_status(struct dmaland_nvme_request *request, int status)
{
	*(int *)request->context = status;
}

/* With the old size of a block it would go to another place. */
static void a_request_that_waits_while_its_namespace_is_formatted_is_not_begun(void **state)
{
	struct dmaland_nvme_queue *queue = dmaland_nvme_queue_create(drive.ctrl, 1, 0);
	int status[2] = {1000, 1000};
	struct iovec iov = {data, drive.ns.block_size};
	struct dmaland_nvme_request requests[2];

	(void)state;
	assert_non_null(queue);
	for (int i = 0; i < 2; i++) {
		requests[i] = (struct dmaland_nvme_request){
			.opcode = DMALAND_NVME_WRITE,
			.nsid = 1,
			.blocks = 1,
			.iov = &iov,
			.iov_count = 1,
			.done = ignore_status,
			.context = &status[i],
		};
		assert_int_equal(dmaland_nvme_submit(queue, &requests[i]), 0);
	}
	format_as(drive.ns.format, 0);
	while (status[1] == 1000)
		dmaland_nvme_poll(queue);
	assert_true(status[0] >= 0); /* the drive had it */
	assert_int_equal(status[1], -ESTALE);
	dmaland_nvme_queue_destroy(queue);
}

/* ---- logs ---- */

static void log_pages_are_read_in_pieces_of_any_size(void **state)
{
	unsigned char whole[512], part[508];

	(void)state;
	if (dmaland_nvme_get_log(drive.ctrl, 2, UINT32_MAX, 0, whole, 512))
		fail_msg("%s", dmaland_last_error());
	assert_true(whole[1] | whole[2]); /* a temperature, in kelvin */
	if (dmaland_nvme_get_log(drive.ctrl, 2, UINT32_MAX, 4, part, 508))
		fail_msg("%s", dmaland_last_error());
	assert_memory_equal(part, whole + 4, 32);
	assert_int_equal(dmaland_nvme_get_log(drive.ctrl, 2, UINT32_MAX, 0, part, 3), -EINVAL);
	assert_int_equal(dmaland_nvme_get_log(drive.ctrl, 256, UINT32_MAX, 0, part, 4), -EINVAL);
	assert_true(dmaland_nvme_get_log(drive.ctrl, 0xef, UINT32_MAX, 0, part, 4) > 0);
	assert_error_says("Get Log Page");
}

static void the_error_log_is_read(void **state)
{
	struct dmaland_nvme_error errors[8];
	int n = dmaland_nvme_get_errors(drive.ctrl, errors, 8);

	(void)state;
	if (n < 0)
		fail_msg("%s", dmaland_last_error());
	assert_true(drive.info.error_entries > 0);
	assert_true(n <= 8 && (uint32_t)n <= drive.info.error_entries);
	for (int i = 0; i < n; i++)
		assert_true(errors[i].count > 0);
}

/* QEMU's log holds no errors; the layout is NVMe 2.0's, 5.16.1.2. */
static void an_entry_of_the_error_log_comes_in_words(void **state)
{
	uint8_t entry[64] = {17, 0,    0,    0,	   0,	 0, 0, 0, 2, 0, 3, 1, 2,
			     5,	 0xff, 0xff, 0x67, 0x12, 0, 0, 0, 0, 0, 0, 1};
	struct dmaland_nvme_error error;
	char text[200];

	(void)state;
	assert_true(nvme_parse_error(entry, &error));
	assert_int_equal(error.status, 0x281);
	assert_int_equal(error.block, 4711);
	assert_string_equal(dmaland_nvme_error_text(&error, text, sizeof(text)),
			    "error 17: Unrecovered Read Error (0x281), namespace 1, block 4711, "
			    "queue 2, command 0x0103");
	assert_int_equal(strlen(dmaland_nvme_error_text(&error, text, 20)), 19);
	entry[8] = entry[9] = 0xff;
	nvme_parse_error(entry, &error);
	assert_non_null(strstr(dmaland_nvme_error_text(&error, text, sizeof(text)), "no command"));
	entry[0] = 0;
	assert_false(nvme_parse_error(entry, &error));
}

/* A doorbell of no queue is the one thing that QEMU reports whenever it is asked to (NVMe 2.0, 5.2.1). */
static void what_the_drive_reports_is_told(void **state)
{
	size_t pair = 2 * (size_t)nvme_cap_stride(drive.ctrl->cap);
	struct dmaland_nvme_event event = {0};
	char text[120];

	(void)state;
	for (unsigned int round = 0; round < 3 * NVME_REPORTS; round++) {
		int code;

		writel(1, drive.ctrl->bar + NVME_REG_DOORBELLS + drive.info.max_queues * pair);
		while ((code = dmaland_nvme_event(drive.ctrl, &event)) == 0)
			sched_yield();
		assert_int_equal(code, 1);
		assert_int_equal(event.type, 0);
		assert_int_equal(event.missed, 0);
		assert_string_equal(dmaland_nvme_event_text(&event, text, sizeof(text)),
				    "error: a doorbell of a queue that there is not was rung");
	}
	assert_int_equal(dmaland_nvme_event(drive.ctrl, &event), 0);
	assert_int_equal(dmaland_nvme_rescan(drive.ctrl), 0);
}

int run_command_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_blocks_compare_and_one_byte_less_is_told),
		cmocka_unit_test(zeroes_are_written_in_their_range_alone),
		cmocka_unit_test(discarded_blocks_are_zeroes_or_as_they_were_and_the_others_stay),
		cmocka_unit_test(small_limits_of_a_drive_are_kept),
		cmocka_unit_test(a_drive_verifies_all_of_itself),
		cmocka_unit_test(ranges_past_the_end_are_refused_for_every_command),
		cmocka_unit_test(requests_without_data_take_no_segments),
		cmocka_unit_test(commands_that_a_drive_does_not_have_are_refused_in_words),
		cmocka_unit_test(a_formatted_namespace_has_other_blocks_for_the_same_queue),
		cmocka_unit_test(formats_with_metadata_are_refused_unless_they_are_meant),
		cmocka_unit_test(formats_that_cannot_be_right_are_refused_in_words),
		cmocka_unit_test(
			a_request_that_waits_while_its_namespace_is_formatted_is_not_begun),
		cmocka_unit_test(log_pages_are_read_in_pieces_of_any_size),
		cmocka_unit_test(the_error_log_is_read),
		cmocka_unit_test(an_entry_of_the_error_log_comes_in_words),
		cmocka_unit_test(what_the_drive_reports_is_told),
	};

	return cmocka_run_group_tests_name("commands", tests, open_drive, close_drive);
}
