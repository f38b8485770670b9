/* SPDX-License-Identifier: MIT */
/*
 * queue_irq_tests.c - queues of the NVMe driver that are waited for, beside others that are polled
 */
#include "suite.h"
#include "nvme_internal.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <dmaland/irq.h>

static const unsigned int types[] = {PCI_IRQ_MSIX, PCI_IRQ_MSI, PCI_IRQ_INTX};
enum { TYPES = sizeof(types) / sizeof(types[0]), ANY = 0 };

/* False where the device has no interrupts of this kind, or the backend no interrupts at all. */
static bool open_with(struct drive *d, unsigned int irq_types)
{
	const struct dmaland_nvme_options options = {.size = sizeof(options),
						     .irq_types = irq_types};

	d->dev = dmaland_open(device_spec, NULL);
	if (!d->dev)
		fail_msg("%s", dmaland_last_error());
	d->ctrl = dmaland_nvme_open(d->dev, &options);
	if (!d->ctrl)
		fail_msg("%s", dmaland_last_error());
	assert_int_equal(dmaland_nvme_get_namespace(d->ctrl, 1, &d->ns), 0);
	d->queue = dmaland_nvme_queue_create(d->ctrl, 16, DMALAND_NVME_QUEUE_IRQ);
	if (d->queue)
		return true;
	assert_error_says("poll it");
	assert_int_equal(d->ctrl->vectors, 0);
	drive_close(d);
	return false;
}

static void count_done(struct dmaland_nvme_request *request, int status)
{
	assert_int_equal(status, 0);
	++*(unsigned int *)request->context;
}

/* To read a block, counted when it is done. */
static struct dmaland_nvme_request read_of(const struct drive *d, char *data, struct iovec *iov,
					   unsigned int *done)
{
	*iov = (struct iovec){data, d->ns.block_size};
	return (struct dmaland_nvme_request){.opcode = DMALAND_NVME_READ,
					     .nsid = 1,
					     .blocks = 1,
					     .iov = iov,
					     .iov_count = 1,
					     .done = count_done,
					     .context = done};
}

/* n reads, each completion waited for. Returns how often that was interrupted by signals. */
static unsigned int read_waiting(struct drive *d, struct dmaland_nvme_queue *queue, unsigned int n)
{
	static char data[16][4096];
	struct dmaland_nvme_request requests[16];
	unsigned int done = 0, begun, signals = 0;
	struct iovec iov[16];

	for (begun = 0; begun < 16; begun++) {
		requests[begun] = read_of(d, data[begun], &iov[begun], &done);
		requests[begun].block = begun;
	}
	for (begun = 0; begun < n; begun++) {
		unsigned int before = done;
		int code = dmaland_nvme_submit(queue, &requests[begun % 16]);

		assert_int_equal(code, 0);
		while (done == before) {
			code = dmaland_nvme_wait(queue, -1);
			if (code == -EINTR)
				signals++;
			else
				assert_int_equal(code, 1);
			dmaland_nvme_poll(queue);
		}
	}
	assert_int_equal(done, n);
	return signals;
}

static void completions_are_waited_for_by_each_kind_of_interrupt(void **state)
{
	unsigned int kinds = 0;

	(void)state;
	for (size_t i = 0; i < TYPES; i++) {
		struct pollfd fd = {.events = POLLIN};
		struct drive d;

		if (!open_with(&d, types[i]))
			continue;
		kinds++;
		assert_int_equal(d.ctrl->irq_type, types[i]);
		read_waiting(&d, d.queue, 50);
		/* synchronous calls sleep too */
		for (unsigned int n = 0; n < 10; n++) {
			char data[4096];

			assert_int_equal(dmaland_nvme_read(d.queue, 1, n, 1, data), 0);
		}
		assert_int_equal(dmaland_nvme_wait(d.queue, 100), 0); /* nothing is under way */
		fd.fd = dmaland_nvme_queue_fd(d.queue);
		assert_true(fd.fd >= 0);
		/* and what came was taken, late ones too */
		for (unsigned int n = 0; n < 10 && poll(&fd, 1, 0) == 1; n++)
			dmaland_nvme_wait(d.queue, 1);
		assert_int_equal(poll(&fd, 1, 0), 0);
		drive_close(&d);
	}
	assert_true(kinds > 0 || device_is_on("soft"));
	assert_string_equal(log_text(), "");
}

/* The interrupt alone ends the sleep: a tick takes half a second. */
static void an_interrupt_ends_the_sleep(void **state)
{
	struct dmaland_nvme_request request;
	unsigned int done = 0, woken = 0;
	struct pollfd fd = {.events = POLLIN};
	struct iovec iov;
	struct drive d;
	char data[4096];

	(void)state;
	assert_true(open_with(&d, ANY));
	fd.fd = dmaland_nvme_queue_fd(d.queue);
	request = read_of(&d, data, &iov, &done);
	for (unsigned int i = 0; i < 20; i++) {
		assert_int_equal(dmaland_nvme_submit(d.queue, &request), 0);
		woken += poll(&fd, 1, (int)patience(10000)) == 1; /* no time-out of ours, no tick */
		assert_int_equal(dmaland_nvme_wait(d.queue, 0), 1);
		dmaland_nvme_poll(d.queue);
		assert_int_equal(done, i + 1);
	}
	assert_int_equal(woken, 20);
	drive_close(&d);
}

static void take_interrupt(struct drive *d)
{
	struct pollfd fd = {.fd = dmaland_nvme_queue_fd(d->queue), .events = POLLIN};

	assert_int_equal(poll(&fd, 1, (int)patience(10000)), 1);
	assert_int_equal(dmaland_nvme_wait(d->queue, 0), 1);
}

/* A line is the admin queue's too, and may interrupt for that before the read is done. */
static void read_by_descriptor(struct drive *d, struct dmaland_nvme_request *request)
{
	unsigned int *done = request->context, before = *done;

	assert_int_equal(dmaland_nvme_submit(d->queue, request), 0);
	while (*done == before) {
		take_interrupt(d);
		dmaland_nvme_poll(d->queue);
	}
}

/* INTx is masked when it was taken: it must not stay so, whatever follows. */
static void nothing_but_the_descriptor_need_be_waited_for(void **state)
{
	(void)state;
	for (size_t i = 0; i < TYPES; i++) {
		struct dmaland_nvme_request request;
		unsigned int done = 0;
		struct iovec iov;
		struct drive d;
		char data[4096];

		if (!open_with(&d, types[i]))
			continue;
		request = read_of(&d, data, &iov, &done);
		for (unsigned int n = 0; n < 5; n++)
			read_by_descriptor(&d, &request);
		/* the queue ends with the interrupt taken, and another one gets its vector */
		assert_int_equal(dmaland_nvme_submit(d.queue, &request), 0);
		take_interrupt(&d);
		dmaland_nvme_queue_destroy(d.queue);
		d.queue = dmaland_nvme_queue_create(d.ctrl, 16, DMALAND_NVME_QUEUE_IRQ);
		assert_non_null(d.queue);
		read_by_descriptor(&d, &request);
		assert_int_equal(done, 7);
		drive_close(&d);
	}
	assert_string_equal(log_text(), "");
}

/* Who finds all done polls no more, and still gets the next interrupt. */
static void an_interrupt_for_what_was_seen_before_leaves_the_line_unmasked(void **state)
{
	(void)state;
	for (size_t i = 0; i < TYPES; i++) {
		struct dmaland_nvme_request request;
		struct pollfd fd = {.events = POLLIN};
		unsigned int done = 0;
		struct iovec iov;
		struct drive d;
		char data[4096];

		if (!open_with(&d, types[i]))
			continue;
		fd.fd = dmaland_nvme_queue_fd(d.queue);
		request = read_of(&d, data, &iov, &done);
		for (unsigned int n = 0; n < 3; n++) {
			assert_int_equal(dmaland_nvme_submit(d.queue, &request), 0);
			assert_int_equal(poll(&fd, 1, (int)patience(10000)), 1);
			while (done == n)
				dmaland_nvme_poll(d.queue);
			assert_int_equal(dmaland_nvme_wait(d.queue, 0), 0);
		}
		drive_close(&d);
	}
}

/* Who waits for a moment, over and over, is told to look at the clock too. */
static void short_waits_end_when_a_tick_is_over(void **state)
{
	struct drive d;
	int code = 0;

	(void)state;
	assert_true(open_with(&d, ANY));
	d.queue->free_count--; /* a command that never comes back */
	for (unsigned int i = 0; i < 2 * d.ctrl->tick_ms && code == 0; i++)
		code = dmaland_nvme_wait(d.queue, 1);
	assert_int_equal(code, 1);
	d.queue->free_count++;
	drive_close(&d);
}

static void polled_queues_and_those_waited_for_work_side_by_side(void **state)
{
	struct dmaland_nvme_queue *polled;
	struct drive d;
	char data[4096];

	(void)state;
	assert_true(open_with(&d, ANY));
	polled = dmaland_nvme_queue_create(d.ctrl, 4, 0);
	assert_non_null(polled);
	assert_int_equal(dmaland_nvme_queue_fd(polled), -EINVAL);
	assert_error_says("DMALAND_NVME_QUEUE_IRQ");
	assert_int_equal(dmaland_nvme_wait(polled, 0), -EINVAL);
	for (unsigned int i = 0; i < 10; i++) {
		read_waiting(&d, d.queue, 5);
		assert_int_equal(dmaland_nvme_read(polled, 1, i, 1, data), 0);
	}
	drive_close(&d);
}

static void a_reset_keeps_the_interrupts(void **state)
{
	(void)state;
	for (size_t i = 0; i < TYPES; i++) {
		struct drive d;

		if (!open_with(&d, types[i]))
			continue;
		for (unsigned int n = 0; n < 5; n++) {
			assert_int_equal(dmaland_nvme_reset(d.ctrl), 0);
			read_waiting(&d, d.queue, 5);
		}
		drive_close(&d);
	}
	log_clear();
}

static void on_alarm(int number)
{
	(void)number;
}

static void a_signal_interrupts_the_sleep_and_nothing_is_lost(void **state)
{
	const struct itimerval often = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
	struct sigaction action = {.sa_handler = on_alarm}, before;
	unsigned int signals = 0;
	struct drive d;

	(void)state;
	assert_true(open_with(&d, ANY));
	sigaction(SIGALRM, &action, &before);
	setitimer(ITIMER_REAL, &often, NULL);
	for (unsigned int i = 0; i < 100 && signals == 0; i++)
		signals += read_waiting(&d, d.queue, 20);
	setitimer(ITIMER_REAL, &never, NULL);
	sigaction(SIGALRM, &before, NULL);
	assert_true(signals > 0);
	drive_close(&d);
}

/* ---- queues that share a vector ---- */

enum { READS = 30, WAIT_MS = 10000 };

struct waiter {
	struct dmaland_nvme_queue *queue;
	pthread_t thread;
	unsigned int done;
	int status;
	bool lost; /* a wake-up */
};

static void waiter_done(struct dmaland_nvme_request *request, int status)
{
	struct waiter *waiter = request->context;

	waiter->done++;
	if (status != 0)
		waiter->status = status;
}

/* Reads, each of them waited for by the descriptor alone. */
static void *read_when_woken(void *context)
{
	struct waiter *waiter = context;
	struct pollfd fd = {.fd = dmaland_nvme_queue_fd(waiter->queue), .events = POLLIN};
	char data[4096];
	struct iovec iov = {data, waiter->queue->ns->info.block_size};
	struct dmaland_nvme_request request = {.opcode = DMALAND_NVME_READ,
					       .nsid = 1,
					       .blocks = 1,
					       .iov = &iov,
					       .iov_count = 1,
					       .done = waiter_done,
					       .context = waiter};

	for (unsigned int n = 0; n < READS && waiter->status == 0 && !waiter->lost; n++) {
		waiter->status = dmaland_nvme_submit(waiter->queue, &request);
		while (waiter->status == 0 && waiter->done == n && !waiter->lost) {
			waiter->lost = poll(&fd, 1, (int)patience(WAIT_MS)) != 1;
			dmaland_nvme_wait(waiter->queue, 0);
			dmaland_nvme_poll(waiter->queue);
		}
	}
	return NULL;
}

static void each_of_the_queues_that_share_a_vector_is_woken(void **state)
{
	enum { MOST = 16 };

	(void)state;
	for (size_t i = 0; i < TYPES; i++) {
		struct waiter waiters[MOST] = {0};
		unsigned int n;
		struct drive d;
		char data[4096];

		if (!open_with(&d, types[i]))
			continue;
		n = 2 * d.ctrl->vectors + 1;
		assert_in_range(n, 3, MOST);
		waiters[0].queue = d.queue;
		for (unsigned int w = 0; w < n; w++) {
			if (w > 0)
				waiters[w].queue = dmaland_nvme_queue_create(
					d.ctrl, 4, DMALAND_NVME_QUEUE_IRQ);
			if (!waiters[w].queue)
				fail_msg("%s", dmaland_last_error());
			assert_int_equal(dmaland_nvme_read(waiters[w].queue, 1, 0, 1, data), 0);
		}
		for (unsigned int w = 0; w < n; w++)
			assert_int_equal(pthread_create(&waiters[w].thread, NULL, read_when_woken,
							&waiters[w]),
					 0);
		for (unsigned int w = 0; w < n; w++) {
			pthread_join(waiters[w].thread, NULL);
			assert_int_equal(waiters[w].status, 0);
			assert_false(waiters[w].lost);
			assert_int_equal(waiters[w].done, READS);
		}
		drive_close(&d);
	}
	assert_string_equal(log_text(), "");
}

/* Completions that nobody takes keep an INTx line asserted, and leave the others' interrupts alone. */
static void a_queue_that_is_not_attended_to_does_not_stop_the_others(void **state)
{
	(void)state;
	for (size_t i = 0; i < TYPES; i++) {
		struct dmaland_nvme_request request, others;
		unsigned int done = 0, others_done = 0;
		struct pollfd fd = {.events = POLLIN};
		struct dmaland_nvme_queue *other;
		struct iovec iov;
		struct drive d;
		char data[4096];

		if (!open_with(&d, types[i]))
			continue;
		request = read_of(&d, data, &iov, &done);
		others = request;
		others.context = &others_done;
		do
			other = dmaland_nvme_queue_create(d.ctrl, 4, DMALAND_NVME_QUEUE_IRQ);
		while (other && other->vector != d.queue->vector);
		assert_non_null(other);
		fd.fd = dmaland_nvme_queue_fd(other);
		assert_int_equal(dmaland_nvme_submit(other, &others), 0);
		assert_int_equal(poll(&fd, 1, (int)patience(WAIT_MS)), 1);
		for (unsigned int n = 0; n < 5; n++)
			read_by_descriptor(&d, &request);
		assert_int_equal(poll(&fd, 1, 0), 1);
		while (others_done == 0) {
			assert_int_equal(poll(&fd, 1, (int)patience(WAIT_MS)), 1);
			assert_int_equal(dmaland_nvme_wait(other, 0), 1);
			dmaland_nvme_poll(other);
		}
		drive_close(&d);
	}
	assert_string_equal(log_text(), "");
}

/* NVMe 2.0, 3.1.3.3: INTMS reads as the mask. */
static void a_vector_without_a_queue_is_masked(void **state)
{
	(void)state;
	for (size_t i = 0; i < TYPES; i++) {
		struct dmaland_nvme_queue *other;
		struct drive d;

		if (types[i] == PCI_IRQ_MSIX || !open_with(&d, types[i]))
			continue;
		other = dmaland_nvme_queue_create(d.ctrl, 4, DMALAND_NVME_QUEUE_IRQ);
		assert_non_null(other);
		assert_int_equal(other->vector, d.queue->vector); /* QEMU's drive has but one */
		assert_int_equal(readl(d.ctrl->bar + NVME_REG_INTMS), ~1u);
		dmaland_nvme_queue_destroy(d.queue);
		assert_int_equal(readl(d.ctrl->bar + NVME_REG_INTMS), ~1u);
		dmaland_nvme_queue_destroy(other);
		assert_int_equal(readl(d.ctrl->bar + NVME_REG_INTMS), ~0u);
		drive_close(&d);
	}
}

static void a_queue_without_a_file_descriptor_is_refused_in_words(void **state)
{
	struct rlimit limit, none;
	struct drive d;

	(void)state;
	assert_true(open_with(&d, ANY));
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = (struct rlimit){0, limit.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_null(dmaland_nvme_queue_create(d.ctrl, 4, DMALAND_NVME_QUEUE_IRQ));
	assert_int_equal(errno, EMFILE);
	assert_error_says("ulimit -n");
	read_waiting(&d, d.queue, 5); /* poll(2) refuses files then */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_null(dmaland_nvme_queue_create(d.ctrl, 1, 2));
	assert_error_says("flags");
	read_waiting(&d, d.queue, 5);
	drive_close(&d);
}

int run_queue_irq_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(completions_are_waited_for_by_each_kind_of_interrupt),
		cmocka_unit_test(an_interrupt_ends_the_sleep),
		cmocka_unit_test(nothing_but_the_descriptor_need_be_waited_for),
		cmocka_unit_test(an_interrupt_for_what_was_seen_before_leaves_the_line_unmasked),
		cmocka_unit_test(short_waits_end_when_a_tick_is_over),
		cmocka_unit_test(polled_queues_and_those_waited_for_work_side_by_side),
		cmocka_unit_test(a_reset_keeps_the_interrupts),
		cmocka_unit_test(a_signal_interrupts_the_sleep_and_nothing_is_lost),
		cmocka_unit_test(each_of_the_queues_that_share_a_vector_is_woken),
		cmocka_unit_test(a_queue_that_is_not_attended_to_does_not_stop_the_others),
		cmocka_unit_test(a_vector_without_a_queue_is_masked),
		cmocka_unit_test(a_queue_without_a_file_descriptor_is_refused_in_words),
	};

	return cmocka_run_group_tests_name("queues with interrupts", tests, NULL, NULL);
}
