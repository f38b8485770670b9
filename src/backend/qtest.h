/* SPDX-License-Identifier: MIT */
/*
 * qtest.h - QEMU's qtest protocol: memory and port accesses over a socket, a line each
 *
 * Requests are answered in their order. Any thread may call; one thread calls qtest_receive(), which
 * receives for all of them. A request that is not answered in time ends the connection for good,
 * since its answer could be taken for another's; whoever runs QEMU then sees qtest_receive() fail. No
 * time passes for requests between qtest_pause() and qtest_resume().
 */
#ifndef BACKEND_QTEST_H
#define BACKEND_QTEST_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* With thousands unread both sides block for good, each in send(). */
#define QTEST_UNREAD_MAX 32

/* Called from qtest_receive(): no accesses from here, nor a lock that is held during one. */
struct qtest_listener {
	void (*line)(void *context, unsigned int line, bool high); /* an interrupt line changed */
	void (*end)(void *context); /* called by whoever runs QEMU, when nothing of it is left */
	void *context;
};

struct qtest_request;

struct qtest {
	int fd;
	struct qtest_listener listener;
	pthread_mutex_t lock;
	pthread_cond_t changed;				/* an answer came, or the end */
	struct qtest_request *unread[QTEST_UNREAD_MAX]; /* a ring; NULL: nobody waits for it */
	unsigned int first, count;
	unsigned int paused; /* so many commands keep QEMU from answering */
	bool ended;
	char why[512]; /* it ended; "" while not known */

	char buffer[4096]; /* of who receives */
	size_t used;
};

enum qtest_space { QTEST_MEMORY, QTEST_PORT };

int qtest_init(struct qtest *q, int fd, const struct qtest_listener *listener);
void qtest_fini(struct qtest *q);

/*
 * Wait for answers and take them. False when the connection has ended, on either side: the caller finds out why and calls
 * qtest_end(), which those who wait for an answer are waiting for.
 */
bool qtest_receive(struct qtest *q);

/*
 * Around a command of the monitor, which QEMU carries out before it answers anything else. Requests
 * wait; all of their time is left to them when it is over.
 */
void qtest_pause(struct qtest *q);
void qtest_resume(struct qtest *q);

/* End the connection and all waiting. The first reason stays; NULL gives none. */
void qtest_end(struct qtest *q, const char *why);

bool qtest_has_ended(struct qtest *q);

/*
 * Read width bytes (1, 2, 4; 8 from memory). Waits up to timeout ms.
 * -ENODEV when the connection has ended, or ends by this; *value is then all ones.
 */
int qtest_read(struct qtest *q, enum qtest_space space, uint64_t address, unsigned int width,
	       unsigned int timeout, uint64_t *value);

/* Write and don't wait for the answer, unless too many are unread. Accesses keep their order. */
int qtest_post(struct qtest *q, enum qtest_space space, uint64_t address, unsigned int width,
	       unsigned int timeout, uint64_t value);

/* Write, and wait until it is done. */
int qtest_write(struct qtest *q, enum qtest_space space, uint64_t address, unsigned int width,
		unsigned int timeout, uint64_t value);

/* From now on the listener hears how the interrupt lines into this part of the machine change. */
int qtest_intercept(struct qtest *q, const char *part, unsigned int timeout);

#endif
