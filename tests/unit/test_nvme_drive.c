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
		const char *says;
	} cases[] = {
		{true, false, -1, "did not become ready within 500 ms (CAP.TO)"},
		{false, true, -1, "controller fatal status (CSTS.CFS)"},
		{false, false, NVME_ADMIN_IDENTIFY, "Identify did not complete"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		dev = soft_nvme_open(&drive);
		drive.never_ready = cases[i].never;
		drive.fatal_when_ready = cases[i].fatal;
		drive.silent_admin = cases[i].silent;
		assert_null(open_controller(TIMEOUT, TIMEOUT / 2));
		assert_error_says(cases[i].says);
		dmaland_close(dev);
		soft_nvme_free(&drive);
		log_clear();
	}
}

static void namespaces_that_cannot_be_used_are_refused_in_words(void **state)
{
	static const struct {
		uint8_t shift;
		uint16_t metadata;
		const char *says;
	} cases[] = {
		{8, 0, "2^8 bytes"},
		{0, 0, "2^0 bytes"},
		{40, 0, "2^40 bytes"},
		{9, 8, "8 bytes of metadata beside each block"},
	};
	char data[4096];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin(TIMEOUT, TIMEOUT / 2);
		drive.lba_shift = cases[i].shift;
		drive.metadata = cases[i].metadata;
		assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, data), -EOPNOTSUPP);
		assert_error_says(cases[i].says);
		end();
	}
}

static void a_drive_without_interrupts_has_polled_queues_alone(void **state)
{
	(void)state;
	assert_null(dmaland_nvme_queue_create(ctrl, 0, DMALAND_NVME_QUEUE_IRQ));
	assert_int_equal(errno, EOPNOTSUPP);
	assert_error_says("poll it");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		on_a_drive(completions_that_come_twice_are_ignored_and_counted),
		on_a_drive(a_completion_that_comes_again_is_not_taken_for_the_next_command),
		on_a_drive(a_completion_of_a_request_that_was_freed_is_ignored),
		on_a_drive(forged_completions_are_ignored_and_counted),
		on_a_drive(a_command_that_may_be_tried_again_is),
		on_a_drive(a_command_that_fails_six_times_has_failed),
		on_a_drive(a_command_that_must_not_be_tried_again_is_not),
		on_a_drive(the_command_and_the_block_that_failed_are_named),
		cmocka_unit_test(a_controller_that_cannot_be_used_is_refused_in_words),
		cmocka_unit_test(namespaces_that_cannot_be_used_are_refused_in_words),
		on_a_drive(a_drive_without_interrupts_has_polled_queues_alone),
	};

	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
