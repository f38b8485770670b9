/* SPDX-License-Identifier: MIT */
/*
 * test_nvme_prepared.c - requests that are prepared, while they are under way and when something changes
 *
 * Nothing is touched that was given back, and what is stale never reaches the drive.
 */
#include "prepared_stand.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

/* ---- under way ---- */

static void one_that_is_under_way_is_neither_submitted_nor_taken_back(void **state)
{
	struct dmaland_nvme_queue *second = dmaland_nvme_queue_create(ctrl, 8, 0);

	(void)state;
	assert_non_null(second);
	describe(DMALAND_NVME_READ, room, PIECE);
	prepare();
	assert_int_equal(dmaland_nvme_submit(queue, &request), 0); /* complete, and not polled */
	refused(EALREADY, "is under way");
	assert_int_equal(dmaland_nvme_submit(second, &request), -EALREADY);
	assert_int_equal(dmaland_nvme_unprepare(ctrl, &request), -EBUSY);
	assert_error_says("under way");
	wait_for(1);
	assert_int_equal(result, 0);
	assert_int_equal(dmaland_nvme_submit(second, &request), 0);
	while (dones < 2)
		dmaland_nvme_poll(second);
	assert_int_equal(dmaland_nvme_unprepare(ctrl, &request), 0);
}

static void again_until_taken_back(struct dmaland_nvme_request *done, int code)
{
	on_done(done, code);
	if (dones < 5)
		assert_int_equal(dmaland_nvme_submit(queue, done), 0);
	else
		assert_int_equal(dmaland_nvme_unprepare(ctrl, done), 0);
}

static void done_may_submit_it_again_or_take_it_back(void **state)
{
	(void)state;
	describe(DMALAND_NVME_READ, room, PIECE);
	request.done = again_until_taken_back;
	prepare();
	assert_int_equal(dmaland_nvme_submit(queue, &request), 0);
	wait_for(5);
	assert_null(request.prepared);
	assert_int_equal(live(), 0);
	request.done = on_done;
	assert_int_equal(run(), 0);
}

static void a_failure_is_told_as_of_any_request(void **state)
{
	char text[120];

	(void)state;
	describe(DMALAND_NVME_READ, room, PIECE);
	prepare();
	request.block = 96;
	judge(0x281, 3);
	assert_int_equal(run(), 0);
	assert_int_equal(stats().repeated, 3);
	assert_memory_equal(room, drive.media + 96 * BLOCK, PIECE);
	judge(0x281 | SOFT_NVME_DNR, 1);
	assert_int_equal(run(), 0x281);
	assert_string_equal(
		dmaland_nvme_request_text(&request, text, sizeof(text)),
		"read of blocks 96 to 103 of namespace 1: Unrecovered Read Error (0x281)");
	assert_int_equal(run(), 0);
}

static void one_that_is_late_is_aborted_and_can_be_submitted_again(void **state)
{
	(void)state;
	describe(DMALAND_NVME_WRITE, room, PIECE);
	prepare();
	drive.aborts = true;
	judge(SOFT_NVME_HOLD, 1);
	assert_int_equal(run(), -ETIMEDOUT);
	assert_int_equal(run(), 0);
}

/* ---- stale ---- */

static void by_format(void)
{
	assert_int_equal(dmaland_nvme_format(ctrl, 1, 0, 0), 0);
}

static void by_reset(void)
{
	assert_int_equal(dmaland_nvme_reset(ctrl), 0);
}

static void by_others(void)
{
	soft_nvme_become(&drive, 12, SOFT_NVME_BLOCKS / 8);
	assert_int_equal(dmaland_nvme_rescan(ctrl), 1);
	soft_nvme_become(&drive, 9, SOFT_NVME_BLOCKS);
}

static void by_notice(void)
{
	soft_nvme_become(&drive, 9, SOFT_NVME_BLOCKS / 2);
	drive.changed[0] = 1;
	assert_true(
		soft_nvme_report(&drive, 0x00040002)); /* notice: a namespace has changed, page 4 */
	while (drive.logs_read[4] == 0)
		dmaland_nvme_poll(queue);
	drive.logs_read[4] = 0;
	drive.changed[0] = 0;
}

static void by_status(void)
{
	judge(0x080 | SOFT_NVME_DNR, 1);
	assert_int_equal(run(), 0x080);
}

static void (*const changes[])(void) = {by_format, by_reset, by_others, by_notice, by_status};

enum { CHANGES = sizeof(changes) / sizeof(changes[0]) };

static void a_change_makes_it_stale_before_it_is_sent(void **state)
{
	struct dmaland_nvme_namespace ns;

	for (unsigned int i = 0; i < CHANGES; i++) {
		with_room(state);
		describe(DMALAND_NVME_READ, room, PIECE);
		prepare();
		assert_int_equal(run(), 0);
		changes[i]();
		refused(ESTALE, "prepare it anew");
		dmaland_nvme_poll(queue); /* makes the queue again after a reset */
		refused(ESTALE, "prepare it anew");
		assert_int_equal(dmaland_nvme_get_namespace(ctrl, 1, &ns), 0);
		refused(ESTALE, "prepare it anew");
		assert_int_equal(dmaland_nvme_unprepare(ctrl, &request), 0);
		assert_int_equal(run(), 0);
		prepare();
		assert_int_equal(run(), 0);
		without_room(state);
	}
}

/* All slots are taken; it is the last of those that wait. */
static void one_that_waits_is_not_begun_once_it_is_stale(void **state)
{
	struct dmaland_nvme_queue *small = dmaland_nvme_queue_create(ctrl, 1, 0);
	static struct dmaland_nvme_request other;
	static struct iovec its;

	(void)state;
	assert_non_null(small);
	describe(DMALAND_NVME_READ, room, PIECE);
	prepare();
	many_done = 0;
	its = (struct iovec){room + PIECE, PIECE};
	other = (struct dmaland_nvme_request){.opcode = DMALAND_NVME_READ,
					      .nsid = 1,
					      .blocks = 8,
					      .iov = &its,
					      .iov_count = 1,
					      .done = count_done};
	assert_int_equal(dmaland_nvme_submit(small, &other), 0);
	assert_int_equal(dmaland_nvme_submit(small, &request), 0);
	assert_int_equal(dmaland_nvme_unprepare(ctrl, &request), -EBUSY);
	by_others();
	while (dones == 0)
		dmaland_nvme_poll(small);
	assert_int_equal(result, -ESTALE);
	assert_int_equal(many_done, 1);
	assert_int_equal(drive.commands, 1);
	assert_int_equal(dmaland_nvme_unprepare(ctrl, &request), 0);
}

static void one_that_a_reset_cuts_off_is_not_sent_again(void **state)
{
	for (unsigned int write = 0; write < 2; write++) {
		with_room(state);
		describe(write ? DMALAND_NVME_WRITE : DMALAND_NVME_READ, room, PIECE);
		prepare();
		judge(SOFT_NVME_HOLD, 1);
		assert_int_equal(dmaland_nvme_submit(queue, &request), 0);
		by_reset();
		wait_for(1);
		assert_int_equal(result, write ? -ECANCELED : -ESTALE);
		assert_int_equal(drive.commands, 1);
		assert_int_equal(dmaland_nvme_unprepare(ctrl, &request), 0);
		without_room(state);
	}
}

/* Its own queue is made again, since another command was late; the controller is not reset. */
static void one_whose_queue_is_made_again_goes_on(void **state)
{
	struct dmaland_nvme_stats before;

	(void)state;
	describe(DMALAND_NVME_READ, room, PIECE);
	prepare();
	judge(SOFT_NVME_HOLD, 1);
	assert_int_equal(run(), -ETIMEDOUT);
	before = stats();
	assert_int_equal(before.queues_remade, 1);
	assert_int_equal(before.resets, 0);
	assert_int_equal(run(), 0);
	assert_memory_equal(room, drive.media, PIECE);
}

/* ---- the end ---- */

static void the_end_of_a_queue_answers_it_and_another_takes_it(void **state)
{
	(void)state;
	describe(DMALAND_NVME_WRITE, room, PIECE);
	prepare();
	judge(SOFT_NVME_HOLD, 1);
	assert_int_equal(dmaland_nvme_submit(queue, &request), 0);
	dmaland_nvme_queue_destroy(queue);
	assert_int_equal(dones, 1);
	assert_int_equal(result, -ECANCELED);
	queue = dmaland_nvme_queue_create(ctrl, 8, 0);
	assert_non_null(queue);
	assert_int_equal(run(), 0);
	assert_memory_equal(room, drive.media, PIECE);
}

/* end() finds nothing mapped. */
static void closing_takes_back_what_is_prepared(void **state)
{
	static struct dmaland_nvme_request idle;

	(void)state;
	describe(DMALAND_NVME_WRITE, room, 64 << 10);
	prepare();
	idle = request;
	idle.prepared = NULL;
	assert_int_equal(dmaland_nvme_prepare(ctrl, &idle), 0);
	judge(SOFT_NVME_HOLD, 1);
	assert_int_equal(dmaland_nvme_submit(queue, &request), 0);
	end();
	assert_int_equal(dones, 1);
	assert_int_equal(result, -ECANCELED);
	assert_null(request.prepared);
	assert_null(idle.prepared);
}

static void a_drive_that_is_gone_takes_none_and_they_can_be_taken_back(void **state)
{
	(void)state;
	describe(DMALAND_NVME_READ, room, 64 << 10);
	prepare();
	assert_int_equal(run(), 0);
	atomic_store(&drive.gone, true);
	while (dmaland_nvme_submit(queue, &request) == 0)
		while (dmaland_nvme_poll(queue) == 0)
			;
	assert_int_equal(errno, ENODEV);
	refused(ENODEV, "does not answer any more");
	assert_int_equal(dmaland_nvme_unprepare(ctrl, &request), 0);
	assert_int_equal(dmaland_nvme_prepare(ctrl, &request), -ENODEV);
}

/* ---- threads ---- */

enum { SUBMISSIONS = 300 };

static atomic_uint taken, refusals;
static atomic_bool two_done;

static void note_two(struct dmaland_nvme_request *done, int code)
{
	(void)done;
	assert_int_equal(code, 0);
	atomic_store(&two_done, true);
}

/* Whoever gets it waits until it is done. */
static void *submit_the_same(void *argument)
{
	struct dmaland_nvme_queue *own = argument;

	while (atomic_load(&taken) < SUBMISSIONS) {
		int code = dmaland_nvme_submit(own, &request);

		if (code == -EALREADY) {
			atomic_fetch_add(&refusals, 1);
			sched_yield();
			continue;
		}
		assert_int_equal(code, 0);
		atomic_fetch_add(&taken, 1);
		while (dmaland_nvme_poll(own) == 0)
			sched_yield();
	}
	return NULL;
}

static void of_two_threads_one_gets_it(void **state)
{
	struct dmaland_nvme_queue *queues[2] = {queue, dmaland_nvme_queue_create(ctrl, 8, 0)};
	pthread_t threads[2];

	(void)state;
	assert_non_null(queues[1]);
	describe(DMALAND_NVME_READ, room, PIECE);
	request.done = note_two;
	prepare();
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, submit_the_same, queues[i]), 0);
	for (unsigned int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_true(atomic_load(&taken) >= SUBMISSIONS);
	assert_int_equal(drive.commands, atomic_load(&taken));
	assert_memory_equal(room, drive.media, PIECE);
}

static atomic_bool stop;
static atomic_uint prepared_by_others;

static void *prepare_and_take_back(void *argument)
{
	static struct dmaland_nvme_request own;
	struct iovec its = {argument, PIECE};

	while (!atomic_load(&stop)) {
		int code;

		own = (struct dmaland_nvme_request){.opcode = DMALAND_NVME_READ,
						    .nsid = 1,
						    .blocks = 8,
						    .iov = &its,
						    .iov_count = 1,
						    .done = count_done};
		code = dmaland_nvme_prepare(ctrl, &own);
		if (code == 0)
			assert_int_equal(dmaland_nvme_unprepare(ctrl, &own), 0);
		else /* the namespace is being formatted, or the controller reset */
			assert_true(code == -EBUSY || code == -ECANCELED);
		prepared_by_others += code == 0;
	}
	return NULL;
}

static void others_may_prepare_while_namespaces_change_and_the_controller_is_reset(void **state)
{
	pthread_t thread;

	(void)state;
	atomic_store(&stop, false);
	describe(DMALAND_NVME_READ, room, PIECE);
	assert_int_equal(pthread_create(&thread, NULL, prepare_and_take_back, room + ROOM / 2), 0);
	for (unsigned int i = 0; i < 20 || prepared_by_others < 20; i++) {
		prepare();
		assert_int_equal(run(), 0);
		if (i % 2)
			by_format();
		else
			by_reset();
		refused(ESTALE, "prepare it anew");
		assert_int_equal(dmaland_nvme_unprepare(ctrl, &request), 0);
		dmaland_nvme_poll(queue);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_a_drive(one_that_is_under_way_is_neither_submitted_nor_taken_back),
		with_a_drive(done_may_submit_it_again_or_take_it_back),
		with_a_drive(a_failure_is_told_as_of_any_request),
		with_a_drive(one_that_is_late_is_aborted_and_can_be_submitted_again),
		cmocka_unit_test(a_change_makes_it_stale_before_it_is_sent),
		with_a_drive(one_that_waits_is_not_begun_once_it_is_stale),
		cmocka_unit_test(one_that_a_reset_cuts_off_is_not_sent_again),
		with_a_drive(one_whose_queue_is_made_again_goes_on),
		with_a_drive(the_end_of_a_queue_answers_it_and_another_takes_it),
		with_a_drive(closing_takes_back_what_is_prepared),
		with_a_drive(a_drive_that_is_gone_takes_none_and_they_can_be_taken_back),
		with_a_drive(of_two_threads_one_gets_it),
		with_a_drive(
			others_may_prepare_while_namespaces_change_and_the_controller_is_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
