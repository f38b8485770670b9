/* SPDX-License-Identifier: MIT */
/*
 * test_nvme_raw.c - commands as the caller has them, and the control bits of requests
 */
#include "nvme_stand.h"

#include <errno.h>
#include <stdlib.h>

/* ---- what the drive was given last ---- */

static struct nvme_command last;
static uint64_t list[32];
static size_t list_entries;

static int notes(struct soft_nvme *d, const struct nvme_command *command)
{
	(void)d;
	last = *command;
	return SOFT_NVME_CARRY_OUT;
}

static int notes_admin(struct soft_nvme *d, const struct nvme_command *command, unsigned char *data)
{
	(void)data;
	return notes(d, command);
}

/* ---- I/O ---- */

static struct dmaland_nvme_command raw_read(void *data, uint32_t block, uint32_t blocks)
{
	return (struct dmaland_nvme_command){
		.opcode = DMALAND_NVME_READ,
		.nsid = 1,
		.cdw10 = block,
		.cdw12 = blocks - 1,
		.data = data,
		.size = (size_t)blocks * SOFT_NVME_BLOCK,
	};
}

static void a_raw_read_and_a_raw_write_move_their_data(void **state)
{
	enum { MOST = 256 }; /* blocks */
	unsigned char *data = aligned_alloc(4096, MOST * SOFT_NVME_BLOCK + 4096);

	(void)state;
	for (unsigned int blocks = 1; blocks <= MOST; blocks = blocks * 3 + 1) {
		for (size_t offset = 0; offset <= 4; offset += 2) {
			struct dmaland_nvme_command raw = raw_read(data + offset, 7, blocks);

			memset(data, 0, MOST * SOFT_NVME_BLOCK);
			if (dmaland_nvme_io(queue, &raw) != 0)
				fail_msg("%s", dmaland_last_error());
			assert_memory_equal(data + offset, drive.media + 7 * SOFT_NVME_BLOCK,
					    blocks * SOFT_NVME_BLOCK);
			memset(data, 0xa5, MOST * SOFT_NVME_BLOCK + 4096);
			raw.opcode = DMALAND_NVME_WRITE;
			raw.cdw10 = 1000;
			assert_int_equal(dmaland_nvme_io(queue, &raw), 0);
			assert_memory_equal(drive.media + 1000 * SOFT_NVME_BLOCK, data,
					    blocks * SOFT_NVME_BLOCK);
		}
	}
	free(data);
}

/* A vendor's command may know no SGLs, and those of the admin queue know none at all (NVMe 2.0, 3.3.3.1). */
static void raw_commands_carry_their_data_by_prps_where_the_drive_takes_sgls(void **state)
{
	static _Alignas(4096) unsigned char data[3 * 4096];

	(void)state;
	dev = soft_nvme_open(&drive);
	drive.sgls = 1;
	begin_on_device(command_ms(), command_ms() / 2);
	for (size_t offset = 0; offset < 4; offset++) {
		struct dmaland_nvme_command raw = raw_read(data + offset, 0, 16);
		struct dmaland_nvme_command ask = {
			.opcode = NVME_ADMIN_IDENTIFY,
			.cdw10 = NVME_IDENTIFY_CONTROLLER,
			.data = data + offset,
			.size = 4096,
		};

		memset(data, 0, sizeof(data));
		assert_int_equal(dmaland_nvme_io(queue, &raw), 0);
		assert_memory_equal(data + offset, drive.media, raw.size);
		memset(data, 0, sizeof(data));
		assert_int_equal(dmaland_nvme_admin(ctrl, &ask), 0);
		assert_memory_equal(data + offset + 24, "soft drive", 10);
	}
	assert_int_equal(drive.sgls_used, 0);
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 16, data), 0);
	assert_int_equal(drive.sgls_used, 1);
	end();
}

/* What is known of the namespace that it is about is in doubt then, as after any other command. */
static void a_raw_command_that_hints_at_a_change_has_the_drive_asked_again(void **state)
{
	static unsigned char data[SOFT_NVME_BLOCK];
	struct dmaland_nvme_command raw = raw_read(data, 0, 1);
	unsigned int before;

	(void)state;
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, data), 0);
	before = drive.identified;
	judge(0x00b | SOFT_NVME_DNR, 1);
	assert_int_equal(dmaland_nvme_io(queue, &raw), 0x00b);
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, data), 0);
	assert_int_equal(drive.identified, before + 1);
}

static void every_dword_arrives_and_both_of_the_answer_do(void **state)
{
	struct dmaland_nvme_command raw = {
		.opcode = 0xc0,
		.nsid = 0xfffffffe,
		.cdw2 = 2,
		.cdw3 = 3,
		.cdw11 = 11,
		.cdw13 = 13,
		.cdw14 = 14,
		.cdw15 = 0xffffffff,
		.result = {7, 7},
	};

	(void)state;
	drive.verdict = notes;
	drive.answer_dw0 = 0x12345678;
	assert_int_equal(dmaland_nvme_io(queue, &raw), 0);
	assert_int_equal(raw.result[0], 0x12345678);
	assert_int_equal(raw.result[1], 0);
	assert_int_equal(last.opcode, 0xc0);
	assert_int_equal(last.flags, 0);
	assert_int_equal(le32toh(last.nsid), 0xfffffffe);
	assert_int_equal(le32toh(last.cdw2), 2);
	assert_int_equal(le32toh(last.cdw3), 3);
	assert_int_equal(le32toh(last.cdw11), 11);
	assert_int_equal(le32toh(last.cdw13), 13);
	assert_int_equal(le32toh(last.cdw14), 14);
	assert_int_equal(le32toh(last.cdw15), 0xffffffff);
	assert_int_equal(last.prp[0], 0);
}

static void raw_commands_that_cannot_be_are_refused_in_words(void **state)
{
	static char data[4096];
	static const struct {
		uint8_t opcode;
		size_t size;
		const char *says;
	} cases[] = {
		{0xc0, 512, "has no data, or goes both ways"},
		{0xc3, 512, "has no data, or goes both ways"},
		{0xc2, 511, "no multiple of 4"},
		{0xc1, SIZE + 4, "carries 131072 at most (info.max_transfer"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct dmaland_nvme_command raw = {
			.opcode = cases[i].opcode, .data = data, .size = cases[i].size};

		assert_int_equal(dmaland_nvme_io(queue, &raw), -EINVAL);
		assert_error_says(cases[i].says);
		assert_int_equal(dmaland_nvme_admin(ctrl, &raw), -EINVAL);
		assert_error_says(cases[i].says);
	}
	requests[0] = (struct dmaland_nvme_request){.opcode = DMALAND_NVME_RAW, .done = on_answer};
	assert_int_equal(dmaland_nvme_submit(queue, &requests[0]), -EINVAL);
	assert_error_says("a raw request has a command");
	assert_int_equal(drive.commands, 0);
}

/* Of a write nobody knows whether it was carried out; it may be another's by then. */
static void a_raw_command_is_never_given_twice(void **state)
{
	unsigned char data[SOFT_NVME_BLOCK];
	struct dmaland_nvme_command raw = raw_read(data, 0, 1);

	(void)state;
	judge(0x281, 1); /* may be tried again */
	assert_int_equal(dmaland_nvme_io(queue, &raw), 0x281);
	assert_error_says("command of opcode 0x02 to namespace 1: Unrecovered Read Error (0x281)");
	assert_int_equal(drive.commands, 1);
	assert_int_equal(stats().repeated, 0);
	all_is_well();
}

/* Nor is it when a reset cuts it off, one that reads as little as another. */
static void raw_commands_that_a_reset_cuts_off_are_not_given_again(void **state)
{
	static const uint8_t opcodes[N] = {
		DMALAND_NVME_READ, DMALAND_NVME_WRITE, 0xc0, DMALAND_NVME_COMPARE, 0xc2, 0xc1};
	static struct dmaland_nvme_command raws[N];
	static unsigned char data[N][SOFT_NVME_BLOCK];

	(void)state;
	judge(SOFT_NVME_HOLD, N);
	answered = 0;
	for (unsigned int i = 0; i < N; i++) {
		status[i] = UNTOUCHED;
		answers[i] = 0;
		raws[i] = raw_read(NULL, i, 1);
		raws[i].opcode = opcodes[i];
		iov[i] = (struct iovec){data[i], SOFT_NVME_BLOCK};
		requests[i] = (struct dmaland_nvme_request){.opcode = DMALAND_NVME_RAW,
							    .raw = &raws[i],
							    .iov = &iov[i],
							    .iov_count = (opcodes[i] & 3) != 0,
							    .done = on_answer};
		assert_int_equal(dmaland_nvme_submit(queue, &requests[i]), 0);
	}
	assert_int_equal(drive.commands, N);
	assert_int_equal(dmaland_nvme_reset(ctrl), 0);
	while (answered < N)
		dmaland_nvme_poll(queue);
	for (unsigned int i = 0; i < N; i++) {
		assert_int_equal(answers[i], 1);
		assert_int_equal(status[i], -ECANCELED);
	}
	assert_int_equal(drive.commands, N);
	assert_int_equal(stats().repeated, 0);
	all_is_well();
}

static void a_raw_command_has_the_time_outs_of_its_queue(void **state)
{
	unsigned char data[SOFT_NVME_BLOCK];
	struct dmaland_nvme_command raw = raw_read(data, 0, 1);

	(void)state;
	drive.aborts = true;
	judge(SOFT_NVME_HOLD, 1);
	assert_int_equal(dmaland_nvme_io(queue, &raw), -ETIMEDOUT);
	assert_int_equal(stats().aborts, 1);
	drive.aborts = false;
	judge(SOFT_NVME_HOLD, 1);
	assert_int_equal(dmaland_nvme_io(queue, &raw), -ETIMEDOUT);
	assert_int_equal(stats().queues_remade, 1);
	all_is_well();
}

/* With a queue of one slot, all but the first of them wait. */
static void raw_requests_wait_for_slots_among_others(void **state)
{
	static struct dmaland_nvme_command raws[N];
	static unsigned char data[N][SOFT_NVME_BLOCK];
	struct dmaland_nvme_queue *narrow = dmaland_nvme_queue_create(ctrl, 1, 0);

	(void)state;
	assert_non_null(narrow);
	answered = 0;
	for (unsigned int i = 0; i < N; i++) {
		status[i] = UNTOUCHED;
		answers[i] = 0;
		raws[i] = raw_read(NULL, i, 1);
		iov[i] = (struct iovec){data[i], SOFT_NVME_BLOCK};
		requests[i] = (struct dmaland_nvme_request){.opcode = DMALAND_NVME_RAW,
							    .raw = &raws[i],
							    .iov = &iov[i],
							    .iov_count = 1,
							    .done = on_answer};
		if (i % 2 == 1) {
			requests[i].opcode = DMALAND_NVME_READ;
			requests[i].nsid = 1;
			requests[i].block = i;
			requests[i].blocks = 1;
		}
		assert_int_equal(dmaland_nvme_submit(narrow, &requests[i]), 0);
	}
	while (answered < N)
		dmaland_nvme_poll(narrow);
	for (unsigned int i = 0; i < N; i++) {
		assert_int_equal(status[i], 0);
		assert_int_equal(answers[i], 1);
		assert_memory_equal(data[i], drive.media + i * SOFT_NVME_BLOCK, SOFT_NVME_BLOCK);
	}
	dmaland_nvme_queue_destroy(narrow);
}

/* The block of the pool held a longer list before; a drive that goes on finds nothing behind the new one's end. */
static int looks_at_list(struct soft_nvme *d, const struct nvme_command *command)
{
	list_entries = soft_nvme_look(d, le64toh(command->prp[1]), list, sizeof(list)) / 8;
	return SOFT_NVME_CARRY_OUT;
}

static void nothing_lies_behind_the_end_of_a_raw_commands_list(void **state)
{
	unsigned char *data = aligned_alloc(4096, 32 * 4096);
	struct dmaland_nvme_command raw = raw_read(data, 0, 32 * 8);

	(void)state;
	assert_int_equal(dmaland_nvme_io(queue, &raw), 0);
	drive.verdict = looks_at_list;
	raw = raw_read(data, 0, 4 * 8);
	assert_int_equal(dmaland_nvme_io(queue, &raw), 0);
	assert_int_equal(list_entries, 32);
	for (size_t i = 0; i < list_entries; i++)
		assert_true((list[i] != 0) == (i < 3));
	free(data);
}

/* ---- admin ---- */

static void an_admin_command_fetches_what_identify_does(void **state)
{
	static unsigned char data[4096], same[4096];
	struct dmaland_nvme_command raw = {
		.opcode = NVME_ADMIN_IDENTIFY,
		.cdw10 = NVME_IDENTIFY_CONTROLLER,
		.data = data,
		.size = sizeof(data),
	};

	(void)state;
	assert_int_equal(dmaland_nvme_identify(ctrl, NVME_IDENTIFY_CONTROLLER, 0, same), 0);
	assert_int_equal(dmaland_nvme_admin(ctrl, &raw), 0);
	assert_memory_equal(data, same, sizeof(data));
	raw.cdw10 = 0x55;
	assert_int_equal(dmaland_nvme_admin(ctrl, &raw), 0x002);
	assert_error_says("Identify: Invalid Field in Command (0x002)");
	raw = (struct dmaland_nvme_command){.opcode = 0xc0};
	assert_int_equal(dmaland_nvme_admin(ctrl, &raw), 0x001);
	assert_error_says("of opcode 0xc0: Invalid Command Opcode (0x001)");
}

static void the_drivers_own_admin_commands_are_refused(void **state)
{
	static const uint8_t own[] = {0x00, 0x01, 0x04, 0x05, 0x0c, 0x7c};

	(void)state;
	for (size_t i = 0; i < sizeof(own); i++) {
		struct dmaland_nvme_command raw = {.opcode = own[i]};

		assert_int_equal(dmaland_nvme_admin(ctrl, &raw), -EPERM);
		assert_error_says("is the driver's own");
	}
}

static void after_a_raw_format_the_drive_is_asked_again(void **state)
{
	struct dmaland_nvme_command raw = {.opcode = NVME_ADMIN_FORMAT, .nsid = 1};
	struct dmaland_nvme_namespace ns;

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(dmaland_nvme_get_namespace(ctrl, 1, &ns), 0);
		assert_int_equal(ns.block_size, 512);
		drive.lba_shift = 12;
		assert_int_equal(dmaland_nvme_admin(ctrl, &raw), i == 0 ? 0 : 0x001);
		assert_int_equal(dmaland_nvme_get_namespace(ctrl, 1, &ns), 0);
		assert_int_equal(ns.block_size, 4096);
		drive.lba_shift = 9;
		raw.opcode = 0x0d; /* Namespace Management, of which this drive knows nothing */
		assert_int_equal(dmaland_nvme_admin(ctrl, &raw), 0x001);
	}
}

static void an_admin_command_that_is_late_means_a_reset(void **state)
{
	static unsigned char data[8192];
	struct dmaland_nvme_command raw = {
		.opcode = 0xc2,
		.data = data,
		.size = sizeof(data),
		.timeout_ms = command_ms(),
	};

	(void)state;
	drive.silent_admin = 0xc2;
	assert_int_equal(dmaland_nvme_admin(ctrl, &raw), -ETIMEDOUT);
	assert_error_says("the admin command of opcode 0xc2 did not complete");
	assert_int_equal(stats().resets, 1);
	all_is_well();
}

static void a_log_page_is_asked_for_with_all_that_it_takes(void **state)
{
	const struct dmaland_nvme_log_page page = {.id = 0x0d,
						   .lsp = 0x55,
						   .lsi = 0x1234,
						   .retain_event = true,
						   .nsid = 3,
						   .offset = 8};
	struct dmaland_nvme_log_page wrong = page;
	char data[16];

	(void)state;
	drive.answer = notes_admin;
	assert_int_equal(dmaland_nvme_get_log_page(ctrl, &page, data, sizeof(data)), 0);
	assert_int_equal(le32toh(last.cdw10), 3 << 16 | 1 << 15 | 0x55 << 8 | 0x0d);
	assert_int_equal(le32toh(last.cdw11), 0x12340000);
	assert_int_equal(le32toh(last.cdw12), 8);
	assert_int_equal(le32toh(last.nsid), 3);
	wrong.lsp = 0x80;
	assert_int_equal(dmaland_nvme_get_log_page(ctrl, &wrong, data, sizeof(data)), -EINVAL);
	assert_error_says("LSP has 7 bits");
}

/* ---- control bits ---- */

static void control_bits_reach_every_command_of_a_request(void **state)
{
	static const uint8_t opcodes[] = {DMALAND_NVME_READ, DMALAND_NVME_WRITE,
					  DMALAND_NVME_WRITE_ZEROES, DMALAND_NVME_VERIFY};
	static unsigned char data[SOFT_NVME_BLOCK];

	(void)state;
	drive.verdict = notes;
	for (size_t i = 0; i < sizeof(opcodes); i++) {
		bool has_data = i < 2;

		iov[0] = (struct iovec){data, sizeof(data)};
		requests[0] = (struct dmaland_nvme_request){
			.opcode = opcodes[i],
			.control = DMALAND_NVME_FUA | DMALAND_NVME_LIMITED_RETRY,
			.nsid = 1,
			.blocks = 1,
			.iov = &iov[0],
			.iov_count = has_data,
			.done = on_answer,
		};
		answered = 0;
		assert_int_equal(dmaland_nvme_submit(queue, &requests[0]), 0);
		while (answered == 0)
			dmaland_nvme_poll(queue);
		assert_int_equal(status[0], 0);
		assert_int_equal(last.opcode, opcodes[i]);
		assert_int_equal(le32toh(last.cdw12), 0xc0000000);
	}
	requests[0] = (struct dmaland_nvme_request){.opcode = DMALAND_NVME_FLUSH,
						    .control = DMALAND_NVME_FUA,
						    .nsid = 1,
						    .done = on_answer};
	assert_int_equal(dmaland_nvme_submit(queue, &requests[0]), -EINVAL);
	assert_error_says("a flush has no control bits, and 0x4000 were given");
}

static unsigned int commands_seen, with_bits, repeats;

/* The drive fails the first of them once. */
static int notes_bits(struct soft_nvme *d, const struct nvme_command *command)
{
	(void)d;
	commands_seen++;
	with_bits +=
		le32toh(command->cdw12) >> 16 == (DMALAND_NVME_FUA | DMALAND_NVME_LIMITED_RETRY);
	return commands_seen <= repeats ? 0x281 : SOFT_NVME_CARRY_OUT;
}

static void control_bits_reach_every_command_that_a_request_is_split_into(void **state)
{
	enum { PARTS = 3, COUNT = PARTS * BLOCKS / 2 };
	static const uint8_t opcodes[] = {DMALAND_NVME_READ, DMALAND_NVME_WRITE,
					  DMALAND_NVME_COMPARE, DMALAND_NVME_WRITE_ZEROES};
	static unsigned char data[COUNT * SOFT_NVME_BLOCK];

	(void)state;
	ctrl->info.max_transfer = SIZE / 2;
	ctrl->max_zeroes = SIZE / 2;
	drive.verdict = notes_bits;
	for (repeats = 0; repeats < 2; repeats++) {
		for (size_t i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++) {
			iov[0] = (struct iovec){data, sizeof(data)};
			requests[0] = (struct dmaland_nvme_request){
				.opcode = opcodes[i],
				.control = DMALAND_NVME_FUA | DMALAND_NVME_LIMITED_RETRY,
				.nsid = 1,
				.blocks = COUNT,
				.iov = &iov[0],
				.iov_count = opcodes[i] != DMALAND_NVME_WRITE_ZEROES,
				.done = on_answer,
			};
			answered = commands_seen = with_bits = 0;
			assert_int_equal(dmaland_nvme_submit(queue, &requests[0]), 0);
			while (answered == 0)
				dmaland_nvme_poll(queue);
			assert_int_equal(status[0], 0);
			assert_int_equal(commands_seen, PARTS + repeats);
			assert_int_equal(with_bits, PARTS + repeats);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		on_a_drive(a_raw_read_and_a_raw_write_move_their_data),
		on_a_drive(every_dword_arrives_and_both_of_the_answer_do),
		on_a_drive(raw_commands_that_cannot_be_are_refused_in_words),
		on_a_drive(a_raw_command_is_never_given_twice),
		on_a_drive(raw_commands_that_a_reset_cuts_off_are_not_given_again),
		on_a_drive(a_raw_command_has_the_time_outs_of_its_queue),
		cmocka_unit_test(raw_commands_carry_their_data_by_prps_where_the_drive_takes_sgls),
		on_a_drive(a_raw_command_that_hints_at_a_change_has_the_drive_asked_again),
		on_a_drive(raw_requests_wait_for_slots_among_others),
		on_a_drive(nothing_lies_behind_the_end_of_a_raw_commands_list),
		on_a_drive(an_admin_command_fetches_what_identify_does),
		on_a_drive(the_drivers_own_admin_commands_are_refused),
		on_a_drive(after_a_raw_format_the_drive_is_asked_again),
		on_a_drive(an_admin_command_that_is_late_means_a_reset),
		on_a_drive(a_log_page_is_asked_for_with_all_that_it_takes),
		on_a_drive(control_bits_reach_every_command_of_a_request),
		on_a_drive(control_bits_reach_every_command_that_a_request_is_split_into),
	};

	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
