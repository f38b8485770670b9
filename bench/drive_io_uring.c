/* SPDX-License-Identifier: MIT */
/*
 * drive_io_uring.c - the kernel's driver through io_uring: O_DIRECT, the file, the buffers and the ring
 * registered, one system call for all that is submitted
 *
 * Polled: IORING_SETUP_IOPOLL, on a poll queue of the driver (nvme.poll_queues), so that there are no
 * interrupts. Otherwise the thread sleeps, and all completions come when it is woken
 * (IORING_SETUP_DEFER_TASKRUN), in the same system call that submits.
 */
#include "drive.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

struct uring {
	struct io_uring ring;
	int fd;
};

static void check(int result, const char *what)
{
	if (result < 0)
		bench_fail("io_uring: %s: %s", what, strerror(-result));
}

static void *uring_new(const char *drive, char *buffers, unsigned int flags)
{
	struct iovec memory = {.iov_base = buffers, .iov_len = DRIVE_ALL_BYTES};
	struct uring *uring = calloc(1, sizeof(*uring));

	if (!uring)
		bench_fail("no memory");
	uring->fd = open(drive, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (uring->fd < 0)
		bench_fail("%s: %s", drive, strerror(errno));
	check(io_uring_queue_init(DRIVE_DEPTH, &uring->ring, flags | IORING_SETUP_SINGLE_ISSUER),
	      "io_uring_setup");
	check(io_uring_register_ring_fd(&uring->ring), "registering the ring");
	check(io_uring_register_files(&uring->ring, &uring->fd, 1), "registering the drive");
	check(io_uring_register_buffers(&uring->ring, &memory, 1), "registering the buffers");
	return uring;
}

static void *uring_open_polled(const char *drive, char *buffers)
{
	return uring_new(drive, buffers, IORING_SETUP_IOPOLL);
}

static void *uring_open_irq(const char *drive, char *buffers)
{
	return uring_new(drive, buffers, IORING_SETUP_DEFER_TASKRUN);
}

static void uring_close(void *contestant)
{
	struct uring *uring = contestant;

	io_uring_queue_exit(&uring->ring);
	close(uring->fd);
	free(uring);
}

static void uring_prepare(struct uring *uring, const struct drive_io *ios, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

		if (ios[i].write)
			io_uring_prep_write_fixed(sqe, 0, ios[i].data, ios[i].bytes, ios[i].offset,
						  0);
		else
			io_uring_prep_read_fixed(sqe, 0, ios[i].data, ios[i].bytes, ios[i].offset,
						 0);
		sqe->flags |= IOSQE_FIXED_FILE;
		io_uring_sqe_set_data64(sqe, ios[i].bytes);
	}
}

static void uring_prepare_only(void *contestant, const struct drive_io *ios, unsigned int count)
{
	uring_prepare(contestant, ios, count);
}

static void uring_submit(void *contestant, const struct drive_io *ios, unsigned int count)
{
	struct uring *uring = contestant;

	uring_prepare(uring, ios, count);
	check(io_uring_submit(&uring->ring), "io_uring_submit");
}

/* Take what the ring shows. */
static unsigned int uring_take(struct uring *uring)
{
	struct io_uring_cqe *cqe;
	unsigned int head, n = 0;

	io_uring_for_each_cqe(&uring->ring, head, cqe)
	{
		if (cqe->res < 0 || (uint64_t)cqe->res != cqe->user_data)
			bench_fail("io_uring: a request ended with %d", cqe->res);
		n++;
	}
	io_uring_cq_advance(&uring->ring, n);
	return n;
}

/* Asked for no completion, the kernel looks once. */
static unsigned int uring_poll(void *contestant, unsigned int count)
{
	struct uring *uring = contestant;

	(void)count;
	check(io_uring_get_events(&uring->ring), "io_uring_enter");
	return uring_take(uring);
}

static unsigned int uring_wait(void *contestant, unsigned int count)
{
	struct uring *uring = contestant;

	check(io_uring_submit_and_wait(&uring->ring, count), "io_uring_submit_and_wait");
	return uring_take(uring);
}

const struct contestant drive_io_uring = {
	.row = "io_uring",
	.open = uring_open_polled,
	.close = uring_close,
	.submit = uring_submit,
	.reap = uring_poll,
};

const struct contestant drive_io_uring_irq = {
	.row = "io_uring_irq",
	.sleeps = true,
	.open = uring_open_irq,
	.close = uring_close,
	.submit = uring_prepare_only,
	.reap = uring_wait,
};
