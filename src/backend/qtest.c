/* SPDX-License-Identifier: MIT */
/*
 * qtest.c - QEMU's qtest protocol: memory and port accesses over a socket, a line each
 *
 *   caller                      QEMU              the thread that calls qtest_receive()
 *   "readl 0xc0000000"  ------>
 *   waits on q->changed         "OK 0x..." -----> takes the oldest of q->unread, fills it in
 *
 * q->unread holds what was asked and not yet answered, oldest first: a pointer to the request on
 * the caller's stack, or NULL for a posted write. Once q->ended is set nobody follows those
 * pointers any more, so that a caller whose time is up may leave.
 */
#include "backend/qtest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/mutex.h"
#include "backend/deadline.h"

struct qtest_request {
	bool answered;
	bool refused; /* QEMU said something else than OK */
	uint64_t value;
};

int qtest_init(struct qtest *q, int fd, const struct qtest_listener *listener)
{
	int err;

	memset(q, 0, sizeof(*q));
	q->fd = fd;
	q->listener = *listener;
	err = pthread_mutex_init(&q->lock, NULL);
	if (err)
		return error_set(err, "cannot make a lock for QEMU's socket: %s", strerror(err));
	err = deadline_cond_init(&q->changed);
	if (err) {
		pthread_mutex_destroy(&q->lock);
		return error_set(err, "cannot make a condition for QEMU's socket: %s",
				 strerror(err));
	}
	return 0;
}

void qtest_fini(struct qtest *q)
{
	pthread_cond_destroy(&q->changed);
	pthread_mutex_destroy(&q->lock);
}

/* With the lock held. The shutdown wakes the thread that calls qtest_receive(). */
static void end_locked(struct qtest *q, const char *why)
{
	if (why && !q->why[0])
		snprintf(q->why, sizeof(q->why), "%s", why);
	if (q->ended)
		return;
	q->ended = true;
	shutdown(q->fd, SHUT_RDWR);
	pthread_cond_broadcast(&q->changed);
}

void qtest_end(struct qtest *q, const char *why)
{
	mutex_lock(&q->lock);
	end_locked(q, why);
	mutex_unlock(&q->lock);
}

/* Those who wait wake up, and find out how to go on waiting. */
static void pause_change(struct qtest *q, unsigned int change)
{
	pthread_mutex_lock(&q->lock);
	q->paused += change;
	pthread_cond_broadcast(&q->changed);
	pthread_mutex_unlock(&q->lock);
}

void qtest_pause(struct qtest *q)
{
	pause_change(q, 1);
}

void qtest_resume(struct qtest *q)
{
	pause_change(q, -1u);
}

/* Wait for a change, with the lock held. True when time is up; after a pause it begins again. */
static bool change_wait(struct qtest *q, unsigned int timeout, struct timespec *deadline)
{
	if (q->paused) {
		pthread_cond_wait(&q->changed, &q->lock);
		*deadline = deadline_in(timeout);
		return false;
	}
	return pthread_cond_timedwait(&q->changed, &q->lock, deadline) == ETIMEDOUT && !q->paused;
}

bool qtest_has_ended(struct qtest *q)
{
	bool ended;

	mutex_lock(&q->lock);
	ended = q->ended;
	mutex_unlock(&q->lock);
	return ended;
}

/* An answer to the oldest request. False when nothing was asked. */
static bool answer_take(struct qtest *q, const char *line)
{
	struct qtest_request *request;
	bool expected, was_full;

	mutex_lock(&q->lock);
	expected = q->count > 0 && !q->ended;
	if (expected) {
		request = q->unread[q->first];
		was_full = q->count == QTEST_UNREAD_MAX;
		q->first = (q->first + 1) % QTEST_UNREAD_MAX;
		q->count--;
		if (request) {
			request->refused = strncmp(line, "OK", 2) != 0;
			request->value = strncmp(line, "OK ", 3) ? 0 : strtoull(line + 3, NULL, 0);
			request->answered = true;
		}
		if (request || was_full)
			pthread_cond_broadcast(&q->changed);
	}
	mutex_unlock(&q->lock);
	return expected;
}

/* "IRQ raise 10" comes in between. */
static bool line_take(struct qtest *q, const char *line)
{
	static const char raise[] = "IRQ raise ", lower[] = "IRQ lower ";
	bool high = strncmp(line, raise, sizeof(raise) - 1) == 0;

	if (!high && strncmp(line, lower, sizeof(lower) - 1) != 0)
		return answer_take(q, line);
	q->listener.line(q->listener.context,
			 (unsigned int)strtoul(line + sizeof(raise) - 1, NULL, 10), high);
	return true;
}

/* Take the whole lines out of buffer; what is left of the last one moves to the front. */
static bool lines_take(struct qtest *q, char *buffer, size_t *used)
{
	char *line = buffer, *end;

	while ((end = memchr(line, '\n', (size_t)(buffer + *used - line)))) {
		*end = '\0';
		if (!line_take(q, line))
			return false;
		line = end + 1;
	}
	*used -= (size_t)(line - buffer);
	memmove(buffer, line, *used);
	return true;
}

bool qtest_receive(struct qtest *q)
{
	ssize_t n = recv(q->fd, q->buffer + q->used, sizeof(q->buffer) - q->used, 0);

	if (n < 0 && errno == EINTR)
		return true;
	if (n <= 0)
		return false;
	q->used += (size_t)n;
	if (lines_take(q, q->buffer, &q->used) && q->used < sizeof(q->buffer))
		return true;
	qtest_end(q, "QEMU answered what it was not asked");
	return false;
}

static int ended_error(struct qtest *q)
{
	return error_set(ENODEV, "the device is gone: %s", q->why[0] ? q->why : "QEMU has ended");
}

/* Time is up. What the answer, should it come, belongs to can't be told: the end. Locked. */
static int timeout_error(struct qtest *q, const char *line, unsigned int timeout)
{
	char why[sizeof(q->why)];

	snprintf(why, sizeof(why), "QEMU did not answer '%.*s' within %u ms",
		 (int)strcspn(line, "\n"), line, timeout);
	end_locked(q, why);
	return error_set(ENODEV,
			 "the device is gone: %s and is killed: timeout=MS gives it "
			 "more time",
			 why);
}

/* Send a line when there is room for its answer. With the lock held. */
static int request_send(struct qtest *q, const char *line, struct qtest_request *request,
			unsigned int timeout, struct timespec *deadline)
{
	size_t length = strlen(line);
	bool late = false;

	while (!q->ended && q->count == QTEST_UNREAD_MAX && !late)
		late = change_wait(q, timeout, deadline);
	if (q->ended)
		return ended_error(q);
	if (q->count == QTEST_UNREAD_MAX)
		return timeout_error(q, line, timeout);
	/* What is unread is far less than a socket buffers: only its end can be in the way. */
	if (send(q->fd, line, length, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)length) {
		shutdown(q->fd, SHUT_RDWR);
		while (!q->ended && !late)
			late = change_wait(q, timeout, deadline);
		return q->ended ? ended_error(q) : timeout_error(q, line, timeout);
	}
	q->unread[(q->first + q->count++) % QTEST_UNREAD_MAX] = request;
	return 0;
}

/* Wait until a request is answered. With the lock held. */
static int request_wait(struct qtest *q, const char *line, struct qtest_request *request,
			unsigned int timeout, struct timespec *deadline)
{
	bool late = false;

	while (!request->answered && !q->ended && !late)
		late = change_wait(q, timeout, deadline);
	if (!request->answered)
		return q->ended ? ended_error(q) : timeout_error(q, line, timeout);
	if (request->refused)
		return error_set(EIO, "QEMU refused '%.*s'", (int)strcspn(line, "\n"), line);
	return 0;
}

/* One line; request is NULL when nobody waits for the answer. */
static int qtest_call(struct qtest *q, struct qtest_request *request, unsigned int timeout,
		      const char *line)
{
	struct timespec deadline = deadline_in(timeout);
	int err;

	mutex_lock(&q->lock);
	err = request_send(q, line, request, timeout, &deadline);
	if (!err && request)
		err = request_wait(q, line, request, timeout, &deadline);
	mutex_unlock(&q->lock);
	return err;
}

/* "readl", "outw": QEMU's names for an access; NULL when it has none. */
static const char *verb(enum qtest_space space, bool write, unsigned int width)
{
	static const char *const verbs[2][2][4] = {
		[QTEST_MEMORY] = {{"readb", "readw", "readl", "readq"},
				  {"writeb", "writew", "writel", "writeq"}},
		[QTEST_PORT] = {{"inb", "inw", "inl", NULL}, {"outb", "outw", "outl", NULL}},
	};

	switch (width) {
	case 1:
		return verbs[space][write][0];
	case 2:
		return verbs[space][write][1];
	case 4:
		return verbs[space][write][2];
	case 8:
		return verbs[space][write][3];
	default:
		return NULL;
	}
}

int qtest_read(struct qtest *q, enum qtest_space space, uint64_t address, unsigned int width,
	       unsigned int timeout, uint64_t *value)
{
	const char *name = verb(space, false, width);
	struct qtest_request request = {0};
	char line[64];
	int err;

	*value = UINT64_MAX;
	if (!name)
		return error_set(EINVAL, "a device has no registers of %u bytes", width);
	snprintf(line, sizeof(line), "%s 0x%" PRIx64 "\n", name, address);
	err = qtest_call(q, &request, timeout, line);
	if (!err)
		*value = request.value;
	return err;
}

static int write_call(struct qtest *q, struct qtest_request *request, enum qtest_space space,
		      uint64_t address, unsigned int width, unsigned int timeout, uint64_t value)
{
	const char *name = verb(space, true, width);
	char line[64];

	if (!name)
		return error_set(EINVAL, "a device has no registers of %u bytes", width);
	if (width < 8)
		value &= (UINT64_C(1) << 8 * width) - 1;
	snprintf(line, sizeof(line), "%s 0x%" PRIx64 " 0x%" PRIx64 "\n", name, address, value);
	return qtest_call(q, request, timeout, line);
}

int qtest_post(struct qtest *q, enum qtest_space space, uint64_t address, unsigned int width,
	       unsigned int timeout, uint64_t value)
{
	return write_call(q, NULL, space, address, width, timeout, value);
}

int qtest_write(struct qtest *q, enum qtest_space space, uint64_t address, unsigned int width,
		unsigned int timeout, uint64_t value)
{
	struct qtest_request request = {0};

	return write_call(q, &request, space, address, width, timeout, value);
}

int qtest_intercept(struct qtest *q, const char *part, unsigned int timeout)
{
	struct qtest_request request = {0};
	char line[64];

	snprintf(line, sizeof(line), "irq_intercept_in %s\n", part);
	return qtest_call(q, &request, timeout, line);
}
