/* SPDX-License-Identifier: MIT */
/*
 * test_nvme_drive.c - the NVMe driver and a drive that misbehaves: see soft_nvme.h
 *
 * Whatever the drive does, each request is answered once, and the drive touches nothing that is not
 * its own.
 */
#include "soft_nvme.h"

#include <errno.h>
#include <stdlib.h>

enum { TIMEOUT = 80, N = 6, UNTOUCHED = 1000 };

static struct soft_nvme drive;
static struct dmaland_device *dev;
static struct dmaland_nvme *ctrl;
static struct dmaland_nvme_queue *queue;

static struct dmaland_nvme *open_controller(void)
{
	const struct dmaland_nvme_options options = {
		.size = sizeof(options),
		.timeout_ms = TIMEOUT,
		.abort_timeout_ms = TIMEOUT / 2,
		.queue_timeout_ms = TIMEOUT,
		.reset_timeout_ms = TIMEOUT,
	};

	return dmaland_nvme_open(dev, &options);
}

static void begin(void)
{
	dev = soft_nvme_open(&drive);
	ctrl = open_controller();
	if (!ctrl)
		fail_msg("%s", dmaland_last_error());
	queue = dmaland_nvme_queue_create(ctrl, 32, 0);
	assert_non_null(queue);
	for (size_t i = 0; i < (size_t)SOFT_NVME_BLOCKS * SOFT_NVME_BLOCK; i++)
		drive.media[i] = (unsigned char)(i / SOFT_NVME_BLOCK + 1);
	log_clear();
}

static void end(void)
{
	struct dmaland_streaming_stats stats;

	dmaland_nvme_close(ctrl);
	dmaland_get_streaming_stats(dev, &stats);
	assert_int_equal(stats.live_mapped + stats.live_bounced, 0);
	assert_int_equal(stats.bad_calls, 0);
	dmaland_close(dev);
	assert_int_equal(drive.faults, 0);
	soft_nvme_free(&drive);
	log_clear();
}

static struct dmaland_nvme_stats stats(void)
{
	struct dmaland_nvme_stats stats;

	dmaland_nvme_get_stats(ctrl, &stats);
	return stats;
}

/* ---- requests of two blocks each, in memory that is mapped for them alone ---- */

static struct dmaland_nvme_request requests[N];
static struct iovec iov[N];
static int status[N];
static unsigned int answers[N], answered;
static char *memory[N];

static void on_answer(struct dmaland_nvme_request *request, int result)
{
	size_t i = request - requests;

	status[i] = result;
	answers[i]++;
	answered++;
}

enum { SIZE = 128 << 10, BLOCKS = SIZE / SOFT_NVME_BLOCK };

static void submit(uint8_t opcode)
{
	answered = 0;
	for (unsigned int i = 0; i < N; i++) {
		answers[i] = 0;
		status[i] = UNTOUCHED;
		memory[i] = aligned_alloc(4096, SIZE);
		memset(memory[i], 0x5a, SIZE);
		iov[i] = (struct iovec){memory[i], SIZE};
		requests[i] = (struct dmaland_nvme_request){
			.opcode = opcode,
			.nsid = 1,
			.block = i * BLOCKS,
			.blocks = BLOCKS,
			.iov = &iov[i],
			.iov_count = 1,
			.done = on_answer,
		};
		assert_int_equal(dmaland_nvme_submit(queue, &requests[i]), 0);
	}
}

static void finish(void)
{
	while (answered < N)
		dmaland_nvme_poll(queue);
	for (unsigned int i = 0; i < 100; i++)
		dmaland_nvme_poll(queue);
	for (unsigned int i = 0; i < N; i++) {
		assert_int_equal(answers[i], 1);
		if (status[i] == 0 && requests[i].opcode == DMALAND_NVME_READ)
			assert_memory_equal(memory[i], drive.media + (size_t)i * SIZE, SIZE);
		free(memory[i]);
	}
}

static void expect(int wanted)
{
	finish();
	for (unsigned int i = 0; i < N; i++)
		if (status[i] != wanted)
			fail_msg("request %u: %s", i, dmaland_nvme_status_text(status[i]));
}

static void all_is_well(void)
{
	drive.verdict = NULL;
	submit(DMALAND_NVME_WRITE);
	expect(0);
	submit(DMALAND_NVME_READ);
	expect(0);
}

/* ---- verdicts ---- */

static unsigned int times; /* that a verdict still has */
static int what;	   /* it is then */

static int some_times(struct soft_nvme *d, const struct nvme_command *command)
{
	(void)d;
	(void)command;
	if (times == 0)
		return SOFT_NVME_CARRY_OUT;
	times--;
	return what;
}

static void judge(int verdict, unsigned int n)
{
	drive.verdict = some_times;
	what = verdict;
	times = n;
}

/* ---- hostile completions ---- */

static void completions_that_come_twice_are_ignored_and_counted(void **state)
{
	(void)state;
	begin();
	judge(SOFT_NVME_TWICE, N);
	submit(DMALAND_NVME_READ);
	expect(0);
	assert_int_equal(stats().ignored, N);
	assert_logged("not in flight");
	all_is_well();
	end();
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
	begin();
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
	end();
}

static void forged_completions_are_ignored_and_counted(void **state)
{
	(void)state;
	begin();
	judge(SOFT_NVME_FORGED, 3);
	submit(DMALAND_NVME_READ);
	expect(0);
	assert_int_equal(stats().ignored, 12);
	log_clear();
	all_is_well();
	assert_string_equal(log_text(), ""); /* said once */
	end();
}

/* ---- statuses ---- */

static void a_command_that_may_be_tried_again_is(void **state)
{
	(void)state;
	begin();
	judge(0x281, 3 * N);
	submit(DMALAND_NVME_READ);
	expect(0);
	assert_int_equal(stats().repeated, 3 * N);
	judge(0x006, 5);
	assert_int_equal(dmaland_nvme_write(queue, 1, 0, 8, drive.media), 0);
	end();
}

static void a_command_that_fails_six_times_has_failed(void **state)
{
	char data[8 * SOFT_NVME_BLOCK];

	(void)state;
	begin();
	judge(0x281, 6);
	assert_int_equal(dmaland_nvme_read(queue, 1, 16, 8, data), 0x281);
	assert_error_says("read of blocks 16 to 23 of namespace 1: Unrecovered Read Error (0x281)");
	assert_int_equal(stats().repeated, 5);
	assert_int_equal(times, 0);
	end();
}

static void a_command_that_must_not_be_tried_again_is_not(void **state)
{
	char data[SOFT_NVME_BLOCK];

	(void)state;
	begin();
	judge(0x280 | SOFT_NVME_DNR, 1);
	assert_int_equal(dmaland_nvme_write(queue, 1, 0, 1, data), 0x280);
	assert_int_equal(stats().repeated, 0);
	all_is_well();
	end();
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
	begin();
	drive.verdict = bad_block;
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1024, data), 0x281);
	/* commands of 128 KiB are 256 blocks; the block itself is in the error log */
	assert_error_says("read of blocks 512 to 767 of namespace 1");
	assert_error_says("log names block 700");
	all_is_well();
	end();
}

/* ---- late commands ---- */

static void a_late_command_is_aborted_and_its_queue_stays(void **state)
{
	(void)state;
	begin();
	drive.aborts = true;
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_WRITE);
	expect(-ETIMEDOUT);
	assert_int_equal(drive.aborted, N);
	assert_int_equal(stats().aborts, N);
	assert_int_equal(stats().queues_remade, 0);
	all_is_well();
	end();
}

static void only_the_late_command_of_a_queue_times_out(void **state)
{
	(void)state;
	begin();
	drive.aborts = true;
	judge(SOFT_NVME_HOLD, 1);
	submit(DMALAND_NVME_READ);
	finish();
	assert_int_equal(status[0], -ETIMEDOUT);
	for (unsigned int i = 1; i < N; i++)
		assert_int_equal(status[i], 0);
	assert_int_equal(drive.aborted, 1);
	end();
}

static void a_command_that_cannot_be_aborted_ends_with_its_queue(void **state)
{
	(void)state;
	begin();
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_READ);
	expect(-ETIMEDOUT);
	assert_int_equal(stats().queues_remade, 1);
	assert_int_equal(stats().resets, 0);
	assert_int_equal(drive.enables, 1);
	all_is_well();
	end();
}

static void a_queue_that_cannot_be_deleted_means_a_reset(void **state)
{
	(void)state;
	begin();
	drive.silent_admin = NVME_ADMIN_DELETE_SQ;
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_WRITE);
	expect(-ETIMEDOUT);
	assert_int_equal(stats().queues_remade, 1);
	assert_int_equal(stats().resets, 1);
	assert_int_equal(drive.enables, 2);
	drive.silent_admin = -1;
	all_is_well();
	end();
}

static void an_abort_that_is_late_itself_means_a_reset(void **state)
{
	(void)state;
	begin();
	drive.silent_admin = NVME_ADMIN_ABORT;
	judge(SOFT_NVME_HOLD, 1);
	submit(DMALAND_NVME_READ);
	finish();
	assert_int_equal(status[0], -ETIMEDOUT);
	for (unsigned int i = 1; i < N; i++)
		assert_int_equal(status[i], 0);
	assert_int_equal(stats().resets, 1);
	all_is_well();
	end();
}

static void an_admin_command_that_is_late_means_a_reset(void **state)
{
	unsigned char data[512];

	(void)state;
	begin();
	drive.silent_admin = NVME_ADMIN_GET_LOG_PAGE;
	assert_int_equal(dmaland_nvme_get_log(ctrl, 2, UINT32_MAX, 0, data, 512), -ETIMEDOUT);
	assert_error_says("Get Log Page");
	assert_int_equal(stats().resets, 1);
	all_is_well();
	end();
}

/* What the drive had: those that change nothing are repeated, those that write are answered. */
static void commands_that_a_reset_cuts_off_are_repeated_or_answered(void **state)
{
	(void)state;
	begin();
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_READ);
	assert_int_equal(dmaland_nvme_reset(ctrl), 0);
	expect(0);
	assert_int_equal(stats().repeated, N);
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_WRITE);
	assert_int_equal(dmaland_nvme_reset(ctrl), 0);
	expect(-ECANCELED);
	all_is_well();
	end();
}

static void a_controller_that_does_not_come_back_is_out_of_service(void **state)
{
	static const struct {
		int silent;
		bool never, fatal;
		const char *says;
	} cases[] = {
		{NVME_ADMIN_SET_FEATURES, false, false, "Set Features"},
		{-1, true, false, "did not become ready"},
		{-1, false, true, "fatal status"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin();
		judge(SOFT_NVME_HOLD, N);
		submit(DMALAND_NVME_WRITE);
		drive.silent_admin = cases[i].silent;
		drive.never_ready = cases[i].never;
		drive.fatal_when_ready = cases[i].fatal;
		assert_int_equal(dmaland_nvme_reset(ctrl), -EIO);
		assert_error_says(cases[i].says);
		expect(-ECANCELED);
		assert_int_equal(dmaland_nvme_submit(queue, &requests[0]), -EIO);
		assert_error_says("out of service");
		end();
	}
}

static void a_queue_that_cannot_be_made_after_a_reset_ends_the_service(void **state)
{
	(void)state;
	begin();
	drive.silent_admin = NVME_ADMIN_CREATE_SQ;
	assert_int_equal(dmaland_nvme_reset(ctrl), 0);
	submit(DMALAND_NVME_READ); /* they wait for the queue */
	expect(-ECANCELED);
	assert_int_equal(dmaland_nvme_submit(queue, &requests[0]), -EIO);
	assert_error_says("can't be made again");
	end();
}

static void a_drive_that_is_gone_answers_with_enodev(void **state)
{
	(void)state;
	begin();
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_READ);
	atomic_store(&drive.gone, true);
	expect(-ENODEV);
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, memory), -ENODEV);
	assert_int_equal(dmaland_nvme_reset(ctrl), -ENODEV);
	assert_null(dmaland_nvme_queue_create(ctrl, 0, 0));
	assert_int_equal(errno, ENODEV);
	end();
}

/* ---- formatting, with commands in flight ---- */

static int hold_second(struct soft_nvme *d, const struct nvme_command *command)
{
	(void)d;
	return le32toh(command->cdw10) == BLOCKS ? SOFT_NVME_HOLD : SOFT_NVME_CARRY_OUT;
}

/* Of three commands one is done when the format is, one is the drive's still, one was not begun. */
static void a_format_amid_a_request_ends_it_once_when_the_drive_lets_go(void **state)
{
	static char data[3 * SIZE];
	struct dmaland_nvme_queue *small;

	(void)state;
	begin();
	drive.aborts = true;
	drive.verdict = hold_second;
	small = dmaland_nvme_queue_create(ctrl, 2, 0);
	assert_non_null(small);
	answers[0] = 0;
	iov[0] = (struct iovec){data, sizeof(data)};
	requests[0] = (struct dmaland_nvme_request){
		.opcode = DMALAND_NVME_READ,
		.nsid = 1,
		.blocks = 3ul * BLOCKS,
		.iov = &iov[0],
		.iov_count = 1,
		.done = on_answer,
	};
	assert_int_equal(dmaland_nvme_submit(small, &requests[0]), 0);
	assert_int_equal(dmaland_nvme_format(ctrl, 1, 0, 0), 0);
	assert_int_equal(drive.held_count, 1);
	while (drive.held_count > 0) {
		assert_int_equal(answers[0], 0);
		dmaland_nvme_poll(small);
	}
	for (unsigned int i = 0; i < 100; i++)
		dmaland_nvme_poll(small);
	assert_int_equal(answers[0], 1);
	assert_int_equal(status[0], -ESTALE);
	all_is_well();
	end();
}

/* ---- the end, with commands in flight ---- */

static void destroying_a_queue_ends_what_the_drive_holds(void **state)
{
	(void)state;
	begin();
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_WRITE);
	dmaland_nvme_queue_destroy(queue);
	queue = dmaland_nvme_queue_create(ctrl, 8, 0);
	assert_non_null(queue);
	expect(-ECANCELED);
	all_is_well();
	end();
}

static void destroying_a_queue_that_the_drive_will_not_delete_resets_it(void **state)
{
	(void)state;
	begin();
	drive.silent_admin = NVME_ADMIN_DELETE_SQ;
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_READ);
	dmaland_nvme_queue_destroy(queue);
	assert_int_equal(stats().resets, 1);
	drive.silent_admin = -1;
	queue = dmaland_nvme_queue_create(ctrl, 8, 0);
	assert_non_null(queue);
	expect(-ECANCELED);
	all_is_well();
	end();
}

static void closing_ends_what_the_drive_holds(void **state)
{
	(void)state;
	begin();
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_WRITE);
	end();
	for (unsigned int i = 0; i < N; i++) {
		assert_int_equal(answers[i], 1);
		assert_int_equal(status[i], -ECANCELED);
		free(memory[i]);
	}
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
		assert_null(open_controller());
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
		begin();
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
	begin();
	assert_null(dmaland_nvme_queue_create(ctrl, 0, DMALAND_NVME_QUEUE_IRQ));
	assert_int_equal(errno, EOPNOTSUPP);
	assert_error_says("poll it");
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(completions_that_come_twice_are_ignored_and_counted),
		cmocka_unit_test(a_completion_of_a_request_that_was_freed_is_ignored),
		cmocka_unit_test(forged_completions_are_ignored_and_counted),
		cmocka_unit_test(a_command_that_may_be_tried_again_is),
		cmocka_unit_test(a_command_that_fails_six_times_has_failed),
		cmocka_unit_test(a_command_that_must_not_be_tried_again_is_not),
		cmocka_unit_test(the_command_and_the_block_that_failed_are_named),
		cmocka_unit_test(a_late_command_is_aborted_and_its_queue_stays),
		cmocka_unit_test(only_the_late_command_of_a_queue_times_out),
		cmocka_unit_test(a_command_that_cannot_be_aborted_ends_with_its_queue),
		cmocka_unit_test(a_queue_that_cannot_be_deleted_means_a_reset),
		cmocka_unit_test(an_abort_that_is_late_itself_means_a_reset),
		cmocka_unit_test(an_admin_command_that_is_late_means_a_reset),
		cmocka_unit_test(commands_that_a_reset_cuts_off_are_repeated_or_answered),
		cmocka_unit_test(a_controller_that_does_not_come_back_is_out_of_service),
		cmocka_unit_test(a_queue_that_cannot_be_made_after_a_reset_ends_the_service),
		cmocka_unit_test(a_drive_that_is_gone_answers_with_enodev),
		cmocka_unit_test(a_format_amid_a_request_ends_it_once_when_the_drive_lets_go),
		cmocka_unit_test(destroying_a_queue_ends_what_the_drive_holds),
		cmocka_unit_test(destroying_a_queue_that_the_drive_will_not_delete_resets_it),
		cmocka_unit_test(closing_ends_what_the_drive_holds),
		cmocka_unit_test(a_controller_that_cannot_be_used_is_refused_in_words),
		cmocka_unit_test(namespaces_that_cannot_be_used_are_refused_in_words),
		cmocka_unit_test(a_drive_without_interrupts_has_polled_queues_alone),
	};

	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
