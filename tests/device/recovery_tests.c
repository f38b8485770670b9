/* SPDX-License-Identifier: MIT */
/*
 * recovery_tests.c - a drive that is late, in trouble, or reset: every request is answered once
 *
 * A doorbell that leads nowhere makes a queue's commands late; bus mastering off makes QEMU's drive
 * report a fatal error.
 */
#include "suite.h"
#include "nvme_internal.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

enum { N = 8, TIMEOUT = 200, UNTOUCHED = 1000 };

static char nowhere[8];

/* The drive is not told of commands any more, not by shadow doorbells either, until the queue is made again. */
static void lead_nowhere(struct dmaland_nvme_queue *queue)
{
	queue->sq_doorbell = (struct nvme_doorbell){.reg = nowhere};
}

/* Requests of one block each, from block on; the block's number is in each of its bytes. */
struct batch {
	struct dmaland_nvme_queue *queue;
	struct dmaland_nvme_request requests[N];
	struct iovec iov[N];
	int status[N];
	unsigned int answers[N], answered;
	char *memory;
};

static void on_answer(struct dmaland_nvme_request *request, int status)
{
	struct batch *batch = request->context;
	size_t i = request - batch->requests;

	batch->status[i] = status;
	batch->answers[i]++;
	batch->answered++;
}

static void batch_submit(struct batch *batch, struct dmaland_nvme_queue *queue,
			 const struct drive *d, uint8_t opcode, uint64_t block)
{
	memset(batch, 0, sizeof(*batch));
	batch->queue = queue;
	batch->memory = malloc((size_t)N * d->ns.block_size);
	assert_non_null(batch->memory);
	for (unsigned int i = 0; i < N; i++) {
		batch->status[i] = UNTOUCHED;
		batch->iov[i] = (struct iovec){batch->memory + (size_t)i * d->ns.block_size,
					       d->ns.block_size};
		memset(batch->iov[i].iov_base, (int)(block + i), d->ns.block_size);
		batch->requests[i] = (struct dmaland_nvme_request){
			.opcode = opcode,
			.nsid = 1,
			.block = block + i,
			.blocks = 1,
			.iov = &batch->iov[i],
			.iov_count = 1,
			.done = on_answer,
			.context = batch,
		};
		if (dmaland_nvme_submit(queue, &batch->requests[i]))
			fail_msg("%s", dmaland_last_error());
	}
}

/* Until all are answered, and then a little more, in which no second answer may come. */
static void batch_finish(struct batch *batch)
{
	while (batch->answered < N)
		dmaland_nvme_poll(batch->queue);
	for (unsigned int i = 0; i < 100; i++)
		dmaland_nvme_poll(batch->queue);
	for (unsigned int i = 0; i < N; i++)
		assert_int_equal(batch->answers[i], 1);
	free(batch->memory);
}

static void batch_expect(struct batch *batch, int status)
{
	batch_finish(batch);
	for (unsigned int i = 0; i < N; i++)
		if (batch->status[i] != status)
			fail_msg("request %u: %s", i, dmaland_nvme_status_text(batch->status[i]));
}

static void write_and_read(struct drive *d, struct dmaland_nvme_queue *queue, uint64_t block)
{
	struct batch batch;

	batch_submit(&batch, queue, d, DMALAND_NVME_WRITE, block);
	batch_expect(&batch, 0);
	batch_submit(&batch, queue, d, DMALAND_NVME_READ, block);
	batch_finish(&batch);
	for (unsigned int i = 0; i < N; i++)
		assert_int_equal(batch.status[i], 0);
}

static struct dmaland_nvme_stats stats_of(struct drive *d)
{
	struct dmaland_nvme_stats stats;

	dmaland_nvme_get_stats(d->ctrl, &stats);
	return stats;
}

static struct dmaland_nvme_queue *another_queue(struct drive *d)
{
	struct dmaland_nvme_queue *queue = dmaland_nvme_queue_create(d->ctrl, N / 2, 0);

	if (!queue)
		fail_msg("%s", dmaland_last_error());
	return queue;
}

/* Not the controller: the other queue has a command in flight all the time, which is not cut off. */
static void a_late_queue_is_made_again_and_the_others_go_on(void **state)
{
	struct dmaland_nvme_queue *other;
	struct drive d;
	struct batch late, more;
	volatile char *doorbell;

	(void)state;
	drive_open(&d, device_spec, patience(TIMEOUT));
	other = another_queue(&d);
	doorbell = d.queue->sq_doorbell.reg;
	lead_nowhere(d.queue);
	batch_submit(&late, d.queue, &d, DMALAND_NVME_WRITE, 0);
	while (late.answered == 0) {
		write_and_read(&d, other, 64);
		dmaland_nvme_poll(d.queue);
	}
	batch_expect(&late, -ETIMEDOUT);
	assert_true(stats_of(&d).aborts >= 1);
	assert_int_equal(stats_of(&d).queues_remade, 1);
	assert_int_equal(stats_of(&d).resets, 0);
	assert_logged("making it again");
	d.queue->sq_doorbell.reg = doorbell;
	batch_submit(&more, d.queue, &d, DMALAND_NVME_READ, 0);
	batch_expect(&more, 0);
	write_and_read(&d, d.queue, 0);
	drive_close(&d);
	log_clear();
}

static void requests_that_wait_for_a_slot_go_on_when_their_queue_is_made_again(void **state)
{
	struct dmaland_nvme_queue *queue;
	struct drive d;
	struct batch batch;
	volatile char *doorbell;
	unsigned int late = 0;

	(void)state;
	drive_open(&d, device_spec, patience(TIMEOUT));
	queue = another_queue(&d); /* for half of a batch */
	doorbell = queue->sq_doorbell.reg;
	lead_nowhere(queue);
	batch_submit(&batch, queue, &d, DMALAND_NVME_READ, 0);
	queue->sq_doorbell.reg = doorbell; /* too late for those that were submitted */
	queue->sq_rung = queue->sq_next;
	batch_finish(&batch);
	for (unsigned int i = 0; i < N; i++)
		late += batch.status[i] == -ETIMEDOUT;
	assert_int_equal(late, N / 2);
	for (unsigned int i = N / 2; i < N; i++)
		assert_int_equal(batch.status[i], 0);
	drive_close(&d);
	log_clear();
}

/* QEMU's drive reports CSTS.CFS; a real one may be silent, and is reset after the other steps. */
static void a_drive_in_trouble_is_reset_and_works_again(void **state)
{
	struct dmaland_nvme_queue *other;
	struct drive d;
	struct batch reads, writes;

	(void)state;
	drive_open(&d, device_spec, patience(TIMEOUT));
	other = another_queue(&d);
	write_and_read(&d, d.queue, 0);
	assert_int_equal(pci_clear_master(d.dev), 0);
	batch_submit(&reads, d.queue, &d, DMALAND_NVME_READ, 0);
	batch_submit(&writes, other, &d, DMALAND_NVME_WRITE, 64);
	while (reads.answered < N || writes.answered < N / 2) {
		dmaland_nvme_poll(d.queue);
		dmaland_nvme_poll(other);
	}
	batch_finish(&reads);
	batch_finish(&writes);
	/* those that change nothing are repeated; writes that the drive had are answered */
	for (unsigned int i = 0; i < N; i++) {
		assert_true(reads.status[i] == 0 || reads.status[i] == -ETIMEDOUT);
		assert_true(writes.status[i] == -ECANCELED || writes.status[i] == -ETIMEDOUT ||
			    writes.status[i] == 0);
	}
	for (unsigned int i = 0; i < N / 2; i++)
		assert_true(writes.status[i] < 0);
	assert_true(stats_of(&d).resets >= 1);
	assert_logged("resetting the controller");
	write_and_read(&d, d.queue, 0);
	write_and_read(&d, other, 64);
	drive_close(&d);
	log_clear();
}

static void a_reset_that_is_asked_for_answers_or_repeats_all_requests(void **state)
{
	struct drive d;
	struct batch reads, writes;

	(void)state;
	drive_open(&d, device_spec, 0);
	for (unsigned int round = 0; round < 20; round++) {
		struct dmaland_nvme_queue *other = another_queue(&d);

		batch_submit(&reads, d.queue, &d, DMALAND_NVME_READ, 0);
		batch_submit(&writes, other, &d, DMALAND_NVME_WRITE, 64);
		if (dmaland_nvme_reset(d.ctrl))
			fail_msg("%s", dmaland_last_error());
		batch_expect(&reads, 0);
		if (round % 2) /* a queue may end before it is made again */
			dmaland_nvme_queue_destroy(other);
		else
			batch_finish(&writes);
		for (unsigned int i = 0; i < N; i++)
			assert_true(writes.status[i] == 0 || writes.status[i] == -ECANCELED);
		if (round % 2)
			free(writes.memory);
		else
			dmaland_nvme_queue_destroy(other);
	}
	assert_int_equal(stats_of(&d).resets, 20);
	write_and_read(&d, d.queue, 0);
	drive_close(&d);
	log_clear();
}

static void submit_again(struct dmaland_nvme_request *request, int status)
{
	struct batch *batch = request->context;

	batch->answered++;
	if (status == -ETIMEDOUT) {
		int code = dmaland_nvme_submit(batch->queue, request);

		assert_int_equal(code, 0);
	} else {
		batch->status[request - batch->requests] = status;
		batch->answers[request - batch->requests]++;
	}
}

static void what_done_submits_while_its_queue_is_made_again_is_carried_out(void **state)
{
	struct drive d;
	struct batch batch;
	volatile char *doorbell;

	(void)state;
	drive_open(&d, device_spec, patience(TIMEOUT));
	doorbell = d.queue->sq_doorbell.reg;
	lead_nowhere(d.queue);
	batch_submit(&batch, d.queue, &d, DMALAND_NVME_WRITE, 0);
	d.queue->sq_doorbell.reg = doorbell;
	for (unsigned int i = 0; i < N; i++)
		batch.requests[i].done = submit_again;
	while (batch.answered < 2 * N)
		dmaland_nvme_poll(d.queue);
	for (unsigned int i = 0; i < N; i++) {
		assert_int_equal(batch.status[i], 0);
		assert_int_equal(batch.answers[i], 1);
	}
	free(batch.memory);
	drive_close(&d);
	log_clear();
}

/* The admin queue's doorbell leads nowhere too, so that neither abort nor reset can succeed. */
static void a_drive_that_cannot_be_reset_is_taken_out_of_service(void **state)
{
	struct drive d;
	struct batch batch;

	(void)state;
	drive_open(&d, device_spec, patience(TIMEOUT));
	lead_nowhere(d.queue);
	lead_nowhere(d.ctrl->admin);
	batch_submit(&batch, d.queue, &d, DMALAND_NVME_READ, 0);
	batch_expect(&batch, -ETIMEDOUT);
	assert_int_equal(dmaland_nvme_read(d.queue, 1, 0, 1, nowhere), -EIO);
	assert_error_says("resetting it failed");
	assert_int_equal(dmaland_nvme_reset(d.ctrl), -EIO);
	assert_error_says("out of service");
	assert_null(dmaland_nvme_queue_create(d.ctrl, 0, 0));
	drive_close(&d);
	log_clear();
	drive_open(&d, device_spec, 0); /* and opened again it works */
	write_and_read(&d, d.queue, 0);
	drive_close(&d);
	assert_string_equal(log_text(), "");
}

/* ---- threads ---- */

struct worker {
	pthread_t thread;
	struct drive *d;
	uint64_t block;
	atomic_bool *stop;
	unsigned long rounds;
};

/* A queue of its own, blocks of its own; what was written is read, whatever is reset meanwhile. */
static void *work(void *context)
{
	struct worker *worker = context;
	struct dmaland_nvme_queue *queue = another_queue(worker->d);
	size_t bytes = 8 * (size_t)worker->d->ns.block_size;
	unsigned char *data = malloc(bytes), *back = malloc(bytes);

	while (!atomic_load(worker->stop)) {
		int code;

		memset(data, (int)(worker->rounds++ + worker->block), bytes);
		do
			code = dmaland_nvme_write(queue, 1, worker->block, 8, data);
		while (code == -ECANCELED);
		assert_int_equal(code, 0);
		assert_int_equal(dmaland_nvme_read(queue, 1, worker->block, 8, back), 0);
		assert_memory_equal(back, data, bytes);
	}
	dmaland_nvme_queue_destroy(queue);
	free(data);
	free(back);
	return NULL;
}

static void threads_with_queues_of_their_own_outlive_resets(void **state)
{
	enum { THREADS = 3, RESETS = 30 };
	struct worker workers[THREADS];
	atomic_bool stop = false;
	struct drive d;

	(void)state;
	drive_open(&d, device_spec, 0);
	for (unsigned int i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){.d = &d, .block = 64 * i, .stop = &stop};
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (unsigned int i = 0; i < RESETS; i++) {
		unsigned char data[4096];

		if (dmaland_nvme_reset(d.ctrl))
			fail_msg("%s", dmaland_last_error());
		assert_int_equal(dmaland_nvme_identify(d.ctrl, 1, 0, data), 0);
		assert_memory_equal(data + 24, d.info.model, strlen(d.info.model));
		write_and_read(&d, d.queue, 1024);
	}
	atomic_store(&stop, true);
	for (unsigned int i = 0; i < THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		assert_true(workers[i].rounds > 0);
	}
	assert_int_equal(stats_of(&d).resets, RESETS);
	drive_close(&d);
	log_clear();
}

static void more_queues_than_a_drive_has_are_refused_with_their_number(void **state)
{
	struct dmaland_nvme_queue *queue = NULL;
	struct drive d;
	unsigned int n;
	char words[64];

	(void)state;
	drive_open(&d, device_spec, 0);
	for (n = 1; n <= d.info.max_queues; n++) {
		queue = dmaland_nvme_queue_create(d.ctrl, 1, 0);
		if (!queue)
			break;
	}
	assert_int_equal(n, d.info.max_queues);
	snprintf(words, sizeof(words), "all %u I/O queues", d.info.max_queues);
	assert_error_says(words);
	dmaland_nvme_queue_destroy(d.queue);
	assert_non_null(dmaland_nvme_queue_create(d.ctrl, 1, 0));
	drive_close(&d);
}

int run_recovery_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_late_queue_is_made_again_and_the_others_go_on),
		cmocka_unit_test(
			requests_that_wait_for_a_slot_go_on_when_their_queue_is_made_again),
		cmocka_unit_test(a_drive_in_trouble_is_reset_and_works_again),
		cmocka_unit_test(a_reset_that_is_asked_for_answers_or_repeats_all_requests),
		cmocka_unit_test(what_done_submits_while_its_queue_is_made_again_is_carried_out),
		cmocka_unit_test(a_drive_that_cannot_be_reset_is_taken_out_of_service),
		cmocka_unit_test(threads_with_queues_of_their_own_outlive_resets),
		cmocka_unit_test(more_queues_than_a_drive_has_are_refused_with_their_number),
	};

	return cmocka_run_group_tests_name("recovery", tests, NULL, NULL);
}
