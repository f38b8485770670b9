/* SPDX-License-Identifier: MIT */
/*
 * test_nvme_recovery.c - the NVMe driver and a drive that is late, silent, reset or taken away
 *
 * Whatever becomes of the drive, each request is answered once, and the drive touches nothing that is not
 * its own.
 */
#include "nvme_stand.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>

/* ---- late commands ---- */

static void a_late_command_is_aborted_and_its_queue_stays(void **state)
{
	(void)state;
	drive.aborts = true;
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_WRITE);
	expect(-ETIMEDOUT);
	assert_int_equal(drive.aborted, N);
	assert_int_equal(stats().aborts, N);
	assert_int_equal(stats().queues_remade, 0);
	all_is_well();
}

/* The drive holds back the first of the requests, which is answered so; the others succeed. */
static void the_first_alone_is_late(void)
{
	judge(SOFT_NVME_HOLD, 1);
	submit(DMALAND_NVME_READ);
	finish();
	assert_int_equal(status[0], -ETIMEDOUT);
	for (unsigned int i = 1; i < N; i++)
		assert_int_equal(status[i], 0);
}

static void only_the_late_command_of_a_queue_times_out(void **state)
{
	(void)state;
	drive.aborts = true;
	the_first_alone_is_late();
	assert_int_equal(drive.aborted, 1);
}

/* It failed as it was to be aborted, and so is tried again; and is late again. */
static void a_command_that_is_tried_again_can_be_aborted_again(void **state)
{
	char data[SOFT_NVME_BLOCK];

	(void)state;
	drive.aborts = true;
	drive.abort_status = 0x281;
	judge(SOFT_NVME_HOLD, 2);
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, data), 0);
	assert_int_equal(stats().aborts, 2);
	assert_int_equal(stats().repeated, 2);
	assert_int_equal(stats().queues_remade, 0);
}

/* Half of the patience is left: the drive may have completed long ago what nobody looked for. */
static void time_without_polls_makes_no_command_late(void **state)
{
	uint64_t begun;

	(void)state;
	drive.aborts = true;
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_READ);
	while (queue->iods[0].age == 0)
		dmaland_nvme_poll(queue);
	for (begun = nvme_now_ms(); nvme_now_ms() - begun < 3 * command_ms();)
		sched_yield();
	queue->polls = NVME_POLLS_LOOK;
	dmaland_nvme_poll(queue);
	assert_int_equal(stats().aborts + stats().queues_remade, 0);
	expect(-ETIMEDOUT);
}

static void a_command_that_cannot_be_aborted_ends_with_its_queue(void **state)
{
	(void)state;
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_READ);
	expect(-ETIMEDOUT);
	assert_int_equal(stats().queues_remade, 1);
	assert_int_equal(stats().resets, 0);
	assert_int_equal(drive.enables, 1);
	all_is_well();
}

static void a_queue_that_cannot_be_deleted_means_a_reset(void **state)
{
	(void)state;
	drive.silent_admin = NVME_ADMIN_DELETE_SQ;
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_WRITE);
	expect(-ETIMEDOUT);
	assert_int_equal(stats().queues_remade, 1);
	assert_int_equal(stats().resets, 1);
	assert_int_equal(drive.enables, 2);
	drive.silent_admin = -1;
	all_is_well();
}

static void an_abort_that_is_late_itself_means_a_reset(void **state)
{
	(void)state;
	drive.silent_admin = NVME_ADMIN_ABORT;
	the_first_alone_is_late();
	assert_int_equal(stats().resets, 1);
	all_is_well();
}

/* However long an Abort may take, whether a command is late is looked at in time. */
static void a_long_time_for_aborts_delays_none(void **state)
{
	(void)state;
	begin(command_ms() / 10, UINT_MAX);
	drive.aborts = true;
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_WRITE);
	expect(-ETIMEDOUT);
	assert_int_equal(drive.aborted, N);
	assert_int_equal(stats().queues_remade, 0);
	end();
}

static void an_admin_command_that_is_late_means_a_reset(void **state)
{
	unsigned char data[512];

	(void)state;
	drive.silent_admin = NVME_ADMIN_GET_LOG_PAGE;
	assert_int_equal(dmaland_nvme_get_log(ctrl, 2, UINT32_MAX, 0, data, 512), -ETIMEDOUT);
	assert_error_says("Get Log Page");
	assert_int_equal(stats().resets, 1);
	all_is_well();
}

static void set_status(uint32_t csts)
{
	pthread_mutex_lock(&drive.lock);
	drive.csts = csts;
	pthread_mutex_unlock(&drive.lock);
}

/* Before anything is late: what changes nothing is repeated, and asked again. */
static void a_drive_that_fails_by_itself_is_reset_at_once(void **state)
{
	static const uint32_t failures[] = {NVME_CSTS_RDY | NVME_CSTS_CFS, 0};
	unsigned char data[512];

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		judge(SOFT_NVME_HOLD, N);
		submit(DMALAND_NVME_READ);
		set_status(failures[i]);
		expect(0);
		assert_int_equal(stats().resets, i + 1);
		assert_int_equal(stats().aborts, 0);
	}
	ctrl->timeout_ms = 20000;
	set_status(failures[0]);
	assert_int_equal(dmaland_nvme_get_log(ctrl, 2, UINT32_MAX, 0, data, sizeof(data)), 0);
	assert_int_equal(stats().resets, 3);
	all_is_well();
}

/* What the drive had: those that change nothing are repeated, those that write are answered. */
static void commands_that_a_reset_cuts_off_are_repeated_or_answered(void **state)
{
	(void)state;
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
		begin(command_ms(), command_ms() / 2);
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
	drive.silent_admin = NVME_ADMIN_CREATE_SQ;
	assert_int_equal(dmaland_nvme_reset(ctrl), 0);
	submit(DMALAND_NVME_READ); /* they wait for the queue */
	expect(-ECANCELED);
	assert_int_equal(dmaland_nvme_submit(queue, &requests[0]), -EIO);
	assert_error_says("can't be made again");
}

/* Only a reset makes the drive give back what it keeps: all its queues can be had afterwards. */
static void half_a_queue_that_the_drive_keeps_means_a_reset(void **state)
{
	(void)state;
	drive.keeps_half = true;
	assert_null(dmaland_nvme_queue_create(ctrl, 8, 0));
	assert_int_equal(errno, EIO);
	assert_error_says("Create I/O Submission Queue 2");
	assert_int_equal(stats().resets, 1);
	drive.keeps_half = false;
	for (unsigned int i = 1; i < SOFT_NVME_QUEUES; i++)
		assert_non_null(dmaland_nvme_queue_create(ctrl, 8, 0));
	all_is_well();
}

static void a_drive_that_is_gone_answers_with_enodev(void **state)
{
	(void)state;
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_READ);
	atomic_store(&drive.gone, true);
	expect(-ENODEV);
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, memory), -ENODEV);
	assert_int_equal(dmaland_nvme_reset(ctrl), -ENODEV);
	assert_null(dmaland_nvme_queue_create(ctrl, 0, 0));
	assert_int_equal(errno, ENODEV);
}

/* ---- formatting, with commands in flight ---- */

static pthread_t formatter;
static int formatted;

static void *format(void *nsid)
{
	formatted = dmaland_nvme_format(ctrl, *(uint32_t *)nsid, 0, 0);
	return NULL;
}

/* Returns when the drive is at it. */
static void begin_format(uint32_t *nsid)
{
	drive.keeps_format = true;
	formatted = UNTOUCHED;
	assert_int_equal(pthread_create(&formatter, NULL, format, nsid), 0);
	while (!atomic_load(&drive.formatting))
		sched_yield();
}

static void end_format(void)
{
	soft_nvme_end_format(&drive);
	pthread_join(formatter, NULL);
	assert_int_equal(formatted, 0);
}

static void *ask_for_log(void *result)
{
	unsigned char data[512];

	*(int *)result = dmaland_nvme_get_log(ctrl, 2, UINT32_MAX, 0, data, sizeof(data));
	return NULL;
}

static void a_long_format_makes_no_other_command_late(void **state)
{
	uint32_t other = 2;
	int asked = UNTOUCHED;
	pthread_t asker;
	uint64_t begun;

	(void)state;
	all_is_well(); /* the namespace is known */
	begin_format(&other);
	submit(DMALAND_NVME_READ);
	assert_int_equal(pthread_create(&asker, NULL, ask_for_log, &asked), 0);
	for (begun = nvme_now_ms(); nvme_now_ms() - begun < 5 * command_ms();)
		dmaland_nvme_poll(queue);
	assert_int_equal(answered, 0);
	end_format();
	expect(0);
	pthread_join(asker, NULL);
	assert_int_equal(asked, 0);
	assert_int_equal(stats().aborts + stats().queues_remade + stats().resets, 0);
}

/* They would be blocks of the old size, to a drive that has blocks of the new one. */
static void a_namespace_takes_no_requests_while_it_is_formatted(void **state)
{
	struct dmaland_nvme_namespace ns;
	uint32_t nsid = 1;

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		all_is_well();
		begin_format(&nsid);
		assert_int_equal(dmaland_nvme_submit(queue, &requests[0]), -EBUSY);
		assert_error_says("namespace 1 is being formatted");
		assert_int_equal(dmaland_nvme_get_namespace(ctrl, 1, &ns), -EBUSY);
		end_format();
		assert_int_equal(dmaland_nvme_get_namespace(ctrl, 1, &ns), 0);
		nsid = UINT32_MAX;
	}
	all_is_well();
}

/* And what is late afterwards is so again. */
static void a_format_that_is_late_itself_means_a_reset(void **state)
{
	(void)state;
	ctrl->format_ms = command_ms();
	drive.keeps_format = true;
	assert_int_equal(dmaland_nvme_format(ctrl, 1, 0, 0), -ETIMEDOUT);
	assert_int_equal(stats().resets, 1);
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_READ);
	expect(-ETIMEDOUT);
	all_is_well();
}

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
}

/* ---- the end, with commands in flight ---- */

static void destroying_a_queue_ends_what_the_drive_holds(void **state)
{
	(void)state;
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_WRITE);
	dmaland_nvme_queue_destroy(queue);
	queue = dmaland_nvme_queue_create(ctrl, 8, 0);
	assert_non_null(queue);
	expect(-ECANCELED);
	all_is_well();
}

static void destroying_a_queue_that_the_drive_will_not_delete_resets_it(void **state)
{
	(void)state;
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
}

static int refused;

static void on_answer_again(struct dmaland_nvme_request *request, int result)
{
	on_answer(request, result);
	refused += dmaland_nvme_submit(queue, request) == -ECANCELED;
}

static void a_queue_that_is_destroyed_takes_nothing_from_done(void **state)
{
	(void)state;
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_WRITE);
	for (unsigned int i = 0; i < N; i++)
		requests[i].done = on_answer_again;
	dmaland_nvme_queue_destroy(queue);
	assert_int_equal(refused, N);
	queue = dmaland_nvme_queue_create(ctrl, 8, 0);
	assert_non_null(queue);
	expect(-ECANCELED);
}

/* What the drive says may be tried again is not when its queue ends. */
static void failures_that_come_when_a_queue_ends_are_answered(void **state)
{
	(void)state;
	judge(0x281, N);
	submit(DMALAND_NVME_READ);
	dmaland_nvme_queue_destroy(queue);
	assert_int_equal(stats().repeated, 0);
	queue = dmaland_nvme_queue_create(ctrl, 8, 0);
	assert_non_null(queue);
	expect(0x281);
}

static void closing_ends_what_the_drive_holds(void **state)
{
	(void)state;
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_WRITE);
	end();
	for (unsigned int i = 0; i < N; i++) {
		assert_int_equal(answers[i], 1);
		assert_int_equal(status[i], -ECANCELED);
		free(memory[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		on_a_drive(a_late_command_is_aborted_and_its_queue_stays),
		on_a_drive(only_the_late_command_of_a_queue_times_out),
		on_a_drive(a_command_that_is_tried_again_can_be_aborted_again),
		on_a_drive(time_without_polls_makes_no_command_late),
		on_a_drive(a_command_that_cannot_be_aborted_ends_with_its_queue),
		on_a_drive(a_queue_that_cannot_be_deleted_means_a_reset),
		on_a_drive(an_abort_that_is_late_itself_means_a_reset),
		cmocka_unit_test(a_long_time_for_aborts_delays_none),
		on_a_drive(an_admin_command_that_is_late_means_a_reset),
		on_a_drive(a_drive_that_fails_by_itself_is_reset_at_once),
		on_a_drive(commands_that_a_reset_cuts_off_are_repeated_or_answered),
		cmocka_unit_test(a_controller_that_does_not_come_back_is_out_of_service),
		on_a_drive(a_queue_that_cannot_be_made_after_a_reset_ends_the_service),
		on_a_drive(half_a_queue_that_the_drive_keeps_means_a_reset),
		on_a_drive(a_drive_that_is_gone_answers_with_enodev),
		on_a_drive(a_long_format_makes_no_other_command_late),
		on_a_drive(a_namespace_takes_no_requests_while_it_is_formatted),
		on_a_drive(a_format_that_is_late_itself_means_a_reset),
		on_a_drive(a_format_amid_a_request_ends_it_once_when_the_drive_lets_go),
		on_a_drive(destroying_a_queue_ends_what_the_drive_holds),
		on_a_drive(destroying_a_queue_that_the_drive_will_not_delete_resets_it),
		on_a_drive(a_queue_that_is_destroyed_takes_nothing_from_done),
		on_a_drive(failures_that_come_when_a_queue_ends_are_answered),
		on_a_drive(closing_ends_what_the_drive_holds),
	};

	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
