/* SPDX-License-Identifier: MIT */
/*
 * killed.c - processes with a busy drive are killed (kill -9) at random moments: ./killed SPEC COUNT
 *
 * A child opens the drive, looks whether it holds what was answered to those before, and then keeps it busy,
 * closes it, opens it, and so on, and tells of each step. It is killed at a random step and a
 * random part of the time that this step took the last time. So each start that follows a kill is
 * carried through, and kills fall into all that there is: opening, enabling, requests, closing.
 */
#include "test.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <dmaland/nvme.h>
#include "load.h"

enum {
	STEPS = 12, /* of a round: see child_run(); what is killed is in its first or second */
	ANSWERS_A_STEP = 48, /* of the load */
	HANGS_MS = 60000,    /* a step that takes longer than any time-out in it */
};

static const char *spec;
static unsigned long count;

/* ---- the child ---- */

struct child {
	struct load_record *record;
	int steps; /* a pipe */
	struct dmaland_device *dev;
	struct dmaland_nvme *ctrl;
	struct dmaland_nvme_queue *queue;
};

static void must(bool right, const char *what)
{
	if (right)
		return;
	fprintf(stderr, "the child: %s: %s\n", what, dmaland_last_error());
	_exit(1);
}

static void step(struct child *c)
{
	if (write(c->steps, "", 1) != 1)
		_exit(1); /* the parent has given up */
}

/* The QEMU of one that was killed holds the image for a moment longer, while it dies. */
static void child_open(struct child *c)
{
	while (!(c->dev = dmaland_open(spec, NULL)) && errno == EBUSY)
		poll(NULL, 0, 1);
	must(c->dev, "opening the device");
}

static void child_load(struct child *c)
{
	struct load load;

	must(load_begin(&load, c->ctrl, c->queue, c->record) == 0, "beginning");
	for (unsigned long i = 1; i <= 4; i++) {
		while (load.answers < i * ANSWERS_A_STEP && !load.status && !load.wrong)
			dmaland_nvme_poll(c->queue);
		must(!load.wrong, load.wrong);
		must(load.status == 0, dmaland_nvme_status_text(load.status));
		step(c);
	}
	load.ending = true;
	while (load.under_way > 0)
		dmaland_nvme_poll(c->queue);
	load_free(&load);
}

static _Noreturn void child_run(struct child *c)
{
	for (;;) {
		const char *wrong;

		child_open(c);
		step(c);
		c->ctrl = dmaland_nvme_open(c->dev, NULL);
		must(c->ctrl, "opening the drive");
		step(c);
		c->queue = dmaland_nvme_queue_create(c->ctrl, 0, 0);
		must(c->queue, "making a queue");
		step(c);
		wrong = load_verify(c->ctrl, c->queue, c->record);
		must(!wrong, wrong);
		step(c);
		child_load(c);
		step(c);
		dmaland_nvme_queue_destroy(c->queue);
		step(c);
		dmaland_nvme_close(c->ctrl);
		step(c);
		dmaland_close(c->dev);
		step(c);
	}
}

static pid_t child_start(struct load_record *record, int *steps)
{
	int fds[2];
	pid_t child;

	assert_int_equal(pipe(fds), 0);
	child = fork();
	if (child == 0) {
		close(fds[0]);
		child_run(&(struct child){.record = record, .steps = fds[1]});
	}
	assert_true(child > 0);
	close(fds[1]);
	*steps = fds[0];
	return child;
}

/* ---- the parent ---- */

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void wait_step(int steps, pid_t child)
{
	struct pollfd fd = {.fd = steps, .events = POLLIN};
	char byte;

	if (poll(&fd, 1, (int)patience(HANGS_MS)) == 1 && read(steps, &byte, 1) == 1)
		return;
	kill(child, SIGKILL);
	fail_msg("a start after a kill hangs or fails; see what the child says");
}

static void each_start_after_a_kill_works_and_what_was_answered_is_there(void **state)
{
	struct load_record *record = mmap(NULL, sizeof(*record), PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int64_t took[STEPS] = {0};
	uint64_t random = 5;

	(void)state;
	assert_ptr_not_equal(record, MAP_FAILED);
	for (unsigned long i = 0; i <= count; i++) {
		/* it is past its first verification; the last only shows that it starts */
		uint64_t last = 4 + random_below(&random, STEPS);
		int steps, status;
		pid_t child = child_start(record, &steps);

		for (uint64_t s = 0; s < last; s++) {
			int64_t begun = now_ns();

			wait_step(steps, child);
			took[s % STEPS] = now_ns() - begun;
		}
		if (i < count && took[last % STEPS] > 0) {
			uint64_t ns = random_below(&random, (uint64_t)took[last % STEPS]);
			struct timespec part = {.tv_sec = (time_t)(ns / 1000000000),
						.tv_nsec = (long)(ns % 1000000000)};

			nanosleep(&part, NULL);
		}
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		close(steps);
	}
	munmap(record, sizeof(*record));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_start_after_a_kill_works_and_what_was_answered_is_there),
	};

	if (argc != 3) {
		fprintf(stderr, "usage: %s SPEC COUNT\n", argv[0]);
		return 2;
	}
	spec = argv[1];
	count = strtoul(argv[2], NULL, 10);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
