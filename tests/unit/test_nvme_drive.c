/* SPDX-License-Identifier: MIT */
/*
 * test_nvme_drive.c - the NVMe driver and a drive that answers what it should not, or can't be used
 *
 * Whatever the drive says, each request is answered once, with what a driver may believe.
 */
#include "nvme_stand.h"

#include <errno.h>
#include <stdlib.h>

/* ---- hostile completions ---- */

static void completions_that_come_twice_are_ignored_and_counted(void **state)
{
	(void)state;
	judge(SOFT_NVME_TWICE, N);
	submit(DMALAND_NVME_READ);
	expect(0);
	assert_int_equal(stats().ignored, N);
	assert_logged("not in flight");
	all_is_well();
}

/* Its slot has another command by then: one queue has but one. */
static void a_completion_that_comes_again_is_not_taken_for_the_next_command(void **state)
{
	struct dmaland_nvme_queue *small = dmaland_nvme_queue_create(ctrl, 1, 0);
	char data[SOFT_NVME_BLOCK];

	(void)state;
	assert_non_null(small);
	assert_int_equal(dmaland_nvme_read(small, 1, 0, 1, data), 0);
	judge(SOFT_NVME_REPLAY, 3);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(dmaland_nvme_read(small, 1, i, 1, data), 0);
	assert_int_equal(stats().ignored, 3);
}

static void on_answer_free(struct dmaland_nvme_request *request, int result)
{
	answered += result == 0;
	free(request);
}

/* Who looked at a request again would be told by AddressSanitizer. */
static void a_completion_of_a_request_that_was_freed_is_ignored(void **state)
{
	static char data[SOFT_NVME_BLOCK];

	(void)state;
	judge(SOFT_NVME_TWICE, N);
	answered = 0;
	iov[0] = (struct iovec){data, sizeof(data)};
	for (unsigned int i = 0; i < N; i++) {
		struct dmaland_nvme_request *request = calloc(1, sizeof(*request));

		assert_non_null(request);
		*request = (struct dmaland_nvme_request){.opcode = DMALAND_NVME_READ,
							 .nsid = 1,
							 .blocks = 1,
							 .iov = &iov[0],
							 .iov_count = 1,
							 .done = on_answer_free};
		assert_int_equal(dmaland_nvme_submit(queue, request), 0);
	}
	while (answered < N)
		dmaland_nvme_poll(queue);
	while (stats().ignored < N)
		dmaland_nvme_poll(queue);
	assert_int_equal(answered, N);
	assert_logged("not in flight");
	log_clear();
	all_is_well();
}

static void forged_completions_are_ignored_and_counted(void **state)
{
	(void)state;
	judge(SOFT_NVME_FORGED, 3);
	submit(DMALAND_NVME_READ);
	expect(0);
	assert_int_equal(stats().ignored, 15);
	log_clear();
	all_is_well();
	assert_string_equal(log_text(), ""); /* said once */
}

/* ---- statuses ---- */

static void a_command_that_may_be_tried_again_is(void **state)
{
	(void)state;
	judge(0x281, 3 * N);
	submit(DMALAND_NVME_READ);
	expect(0);
	assert_int_equal(stats().repeated, 3 * N);
	judge(0x006, 5);
	assert_int_equal(dmaland_nvme_write(queue, 1, 0, 8, drive.media), 0);
}

static void a_failure_that_comes_twice_is_not_taken_for_that_of_the_second_try(void **state)
{
	char data[SOFT_NVME_BLOCK];

	(void)state;
	judge(0x281 | SOFT_NVME_AGAIN, 1);
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, data), 0);
	assert_int_equal(stats().repeated, 1);
	assert_int_equal(stats().ignored, 1);
}

static void a_command_that_fails_six_times_has_failed(void **state)
{
	char data[8 * SOFT_NVME_BLOCK];

	(void)state;
	judge(0x281, 6);
	assert_int_equal(dmaland_nvme_read(queue, 1, 16, 8, data), 0x281);
	assert_error_says("read of blocks 16 to 23 of namespace 1: Unrecovered Read Error (0x281)");
	assert_int_equal(stats().repeated, 5);
	assert_int_equal(times, 0);
}

static void a_command_that_must_not_be_tried_again_is_not(void **state)
{
	char data[SOFT_NVME_BLOCK];

	(void)state;
	judge(0x280 | SOFT_NVME_DNR, 1);
	assert_int_equal(dmaland_nvme_write(queue, 1, 0, 1, data), 0x280);
	assert_int_equal(stats().repeated, 0);
	all_is_well();
}

static void blocks_that_differ_are_compared_once(void **state)
{
	char data[SOFT_NVME_BLOCK];

	(void)state;
	judge(DMALAND_NVME_STATUS_COMPARE_FAILURE, 1);
	assert_int_equal(dmaland_nvme_compare(queue, 1, 0, 1, data),
			 DMALAND_NVME_STATUS_COMPARE_FAILURE);
	assert_int_equal(stats().repeated, 0);
}

static int bad_block(struct soft_nvme *d, const struct nvme_command *command)
{
	uint64_t first = le32toh(command->cdw10);

	if (first > 700 || first + le32toh(command->cdw12) < 700)
		return SOFT_NVME_CARRY_OUT;
	d->error_block = 700;
	return 0x281 | SOFT_NVME_DNR | SOFT_NVME_MORE;
}

static void the_command_and_the_block_that_failed_are_named(void **state)
{
	static char data[1024 * SOFT_NVME_BLOCK];

	(void)state;
	drive.verdict = bad_block;
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1024, data), 0x281);
	/* commands of 128 KiB are 256 blocks; the block itself is in the error log */
	assert_error_says("read of blocks 512 to 767 of namespace 1");
	assert_error_says("log names block 700");
	all_is_well();
}

/* ---- opening ---- */

static void a_controller_that_cannot_be_used_is_refused_in_words(void **state)
{
	static const struct {
		bool never, fatal;
		int silent;
		uint32_t class_code;
		uint64_t cap;
		uint8_t entry_sizes[2];
		const char *says;
	} cases[] = {
		{.never = true, .says = "did not become ready within 500 ms (CAP.TO)"},
		{.fatal = true, .says = "controller fatal status (CSTS.CFS)"},
		{.silent = NVME_ADMIN_IDENTIFY, .says = "Identify did not complete"},
		{.class_code = 0x010601, .says = "no NVMe controller: its class is 0x010601"},
		{.cap = 63 | 1 << 24, .says = "does not offer the NVM command set"},
		{.cap = 1 << 24 | 1ull << 37, .says = "offers no queue"},
		{.cap = 63 | 1 << 24 | 15ull << 32 | 1ull << 37, .says = "no room for doorbells"},
		{.cap = UINT64_MAX, .says = "does not answer"},
		{.entry_sizes = {0x77, 0x44},
		 .says = "other sizes than 64 and 16 bytes (SQES 0x77"},
		{.entry_sizes = {0x55, 0x44},
		 .says = "other sizes than 64 and 16 bytes (SQES 0x55"},
		{.entry_sizes = {0x66, 0x55}, .says = "CQES 0x55"},
		{.entry_sizes = {0x66, 0x33}, .says = "CQES 0x33"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		dev = soft_nvme_open(&drive);
		drive.never_ready = cases[i].never;
		drive.fatal_when_ready = cases[i].fatal;
		if (cases[i].silent)
			drive.silent_admin = cases[i].silent;
		if (cases[i].class_code)
			drive.class_code = cases[i].class_code;
		if (cases[i].cap)
			drive.cap = cases[i].cap;
		if (cases[i].entry_sizes[0])
			memcpy(drive.entry_sizes, cases[i].entry_sizes, 2);
		assert_null(open_controller(command_ms(), command_ms() / 2));
		assert_error_says(cases[i].says);
		dmaland_close(dev);
		soft_nvme_free(&drive);
		log_clear();
	}
}

/* Their doorbells would lie outside of its registers. */
static void a_drive_is_not_believed_to_have_more_queues_than_doorbells(void **state)
{
	struct dmaland_nvme_info info;

	(void)state;
	dev = soft_nvme_open(&drive);
	drive.queues_claimed = 0xffff;
	ctrl = open_controller(command_ms(), command_ms() / 2);
	assert_non_null(ctrl);
	dmaland_nvme_get_info(ctrl, &info);
	assert_int_equal(info.max_queues, (8192 - 4096) / 8 - 1);
	end();
}

static void namespaces_that_cannot_be_used_are_refused_in_words(void **state)
{
	static const struct {
		uint64_t blocks;
		uint8_t shift;
		uint16_t metadata;
		const char *says;
	} cases[] = {
		{SOFT_NVME_BLOCKS, 8, 0, "2^8 bytes"},
		{SOFT_NVME_BLOCKS, 0, 0, "2^0 bytes"},
		{SOFT_NVME_BLOCKS, 40, 0, "2^40 bytes"},
		{UINT64_MAX / 512 + 1, 9, 0, "with 36028797018963968 blocks"},
		{SOFT_NVME_BLOCKS, 9, 8, "8 bytes of metadata beside each block"},
	};
	char data[4096];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin(command_ms(), command_ms() / 2);
		drive.blocks = cases[i].blocks;
		drive.lba_shift = cases[i].shift;
		drive.metadata = cases[i].metadata;
		assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, data), -EOPNOTSUPP);
		assert_error_says(cases[i].says);
		end();
	}
}

static void a_read_that_does_not_fit_the_blocks_is_refused_in_words(void **state)
{
	static const struct {
		uint64_t block, blocks;
		size_t bytes;
		int code;
		const char *says;
	} cases[] = {
		{0, 1, 512, -EINVAL, "the segments hold 512 bytes, 1 blocks have 4096"},
		{0, 8, 4096, -EINVAL, "the segments hold 4096 bytes, 8 blocks have 32768"},
		{0, 1, 8192, -EINVAL, "more than the 4096 bytes of 1 blocks"},
		{0, 0, 0, -EINVAL, "no blocks"},
		{SOFT_NVME_BLOCKS, 1, 4096, -ERANGE, "namespace 1 has 4096"},
		{SOFT_NVME_BLOCKS - 1, 2, 8192, -ERANGE, "blocks 4095 to 4096 asked"},
		{UINT64_MAX, 2, 8192, -ERANGE, "blocks 18446744073709551615 to"},
		{2, UINT64_MAX, 4096, -ERANGE, "blocks 2 to 18446744073709551615"},
		{1, 1ull << 52, 0, -ERANGE, "namespace 1 has 4096"}, /* whose bytes are 2^64 */
	};
	char data[8192];

	(void)state;
	drive.lba_shift = 12;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		iov[0] = (struct iovec){data, cases[i].bytes};
		requests[0] = (struct dmaland_nvme_request){.opcode = DMALAND_NVME_READ,
							    .nsid = 1,
							    .block = cases[i].block,
							    .blocks = cases[i].blocks,
							    .iov = &iov[0],
							    .iov_count = 1,
							    .done = on_answer};
		assert_int_equal(dmaland_nvme_submit(queue, &requests[0]), cases[i].code);
		assert_error_says(cases[i].says);
	}
	assert_int_equal(drive.commands, 0);
}

static void a_drive_without_interrupts_has_polled_queues_alone(void **state)
{
	(void)state;
	assert_null(dmaland_nvme_queue_create(ctrl, 0, DMALAND_NVME_QUEUE_IRQ));
	assert_int_equal(errno, EOPNOTSUPP);
	assert_error_says("poll it");
}

/* ---- closing ---- */

/* RTD3E is in microseconds, and a drive may say anything. */
static void how_long_a_drive_may_take_to_shut_down_is_bounded(void **state)
{
	static const struct {
		uint32_t rtd3e;
		unsigned int option, ms;
	} cases[] = {
		{0, 0, 5000},	      {1, 0, 1000},	    {2500000, 0, 3500},
		{58999999, 0, 59999}, {59000000, 0, 60000}, {UINT32_MAX, 0, 60000},
		{UINT32_MAX, 77, 77}, {0, 90000, 90000},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct dmaland_nvme_options options = {
			.size = sizeof(options), .shutdown_timeout_ms = cases[i].option};

		dev = soft_nvme_open(&drive);
		drive.rtd3e = cases[i].rtd3e;
		ctrl = dmaland_nvme_open(dev, &options);
		assert_non_null(ctrl);
		assert_int_equal(ctrl->shutdown_ms, cases[i].ms);
		end();
	}
}

/* Who spins would look a hundred thousand times. */
static void a_drive_that_does_not_shut_down_is_waited_for_asleep(void **state)
{
	const struct dmaland_nvme_options options = {.size = sizeof(options),
						     .shutdown_timeout_ms = 300};
	unsigned int before;

	(void)state;
	dev = soft_nvme_open(&drive);
	drive.rtd3e = UINT32_MAX;
	drive.never_shuts_down = true;
	ctrl = dmaland_nvme_open(dev, &options);
	assert_non_null(ctrl);
	log_clear();
	before = drive.status_reads;
	dmaland_nvme_close(ctrl);
	ctrl = NULL;
	assert_logged("did not become shut down within 300 ms");
	assert_true(drive.status_reads - before < 2000);
	dmaland_close(dev);
	soft_nvme_free(&drive);
	log_clear();
}

/* A healthy drive deletes queues at once; this one is not given queue_timeout_ms for each beside. */
static void a_drive_that_is_silent_when_its_queues_end_has_no_more_time_to_shut_down(void **state)
{
	const struct dmaland_nvme_options options = {.size = sizeof(options),
						     .queue_timeout_ms = patience(20000),
						     .shutdown_timeout_ms = 10 * command_ms()};
	uint64_t begun;

	(void)state;
	for (unsigned int never = 0; never < 2; never++) {
		dev = soft_nvme_open(&drive);
		ctrl = dmaland_nvme_open(dev, &options);
		assert_non_null(ctrl);
		for (unsigned int i = 0; i < 3; i++)
			assert_non_null(dmaland_nvme_queue_create(ctrl, 8, 0));
		drive.silent_admin = NVME_ADMIN_DELETE_SQ;
		drive.never_shuts_down = never;
		drive.shutdown_looks = never ? 0 : 10;
		log_clear();
		begun = nvme_now_ms();
		dmaland_nvme_close(ctrl);
		ctrl = NULL;
		assert_true(nvme_now_ms() - begun < options.queue_timeout_ms);
		/* it was told to shut down, and had time left for that */
		assert_int_equal(strstr(log_text(), "did not become shut down") != NULL, never);
		dmaland_close(dev);
		assert_int_equal(drive.cut_off, 0);
		soft_nvme_free(&drive);
		log_clear();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		on_a_drive(completions_that_come_twice_are_ignored_and_counted),
		on_a_drive(a_completion_that_comes_again_is_not_taken_for_the_next_command),
		on_a_drive(a_completion_of_a_request_that_was_freed_is_ignored),
		on_a_drive(forged_completions_are_ignored_and_counted),
		on_a_drive(a_command_that_may_be_tried_again_is),
		on_a_drive(a_failure_that_comes_twice_is_not_taken_for_that_of_the_second_try),
		on_a_drive(a_command_that_fails_six_times_has_failed),
		on_a_drive(a_command_that_must_not_be_tried_again_is_not),
		on_a_drive(blocks_that_differ_are_compared_once),
		on_a_drive(the_command_and_the_block_that_failed_are_named),
		cmocka_unit_test(a_controller_that_cannot_be_used_is_refused_in_words),
		cmocka_unit_test(a_drive_is_not_believed_to_have_more_queues_than_doorbells),
		cmocka_unit_test(namespaces_that_cannot_be_used_are_refused_in_words),
		on_a_drive(a_read_that_does_not_fit_the_blocks_is_refused_in_words),
		on_a_drive(a_drive_without_interrupts_has_polled_queues_alone),
		cmocka_unit_test(how_long_a_drive_may_take_to_shut_down_is_bounded),
		cmocka_unit_test(a_drive_that_does_not_shut_down_is_waited_for_asleep),
		cmocka_unit_test(
			a_drive_that_is_silent_when_its_queues_end_has_no_more_time_to_shut_down),
	};

	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
