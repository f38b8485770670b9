/* SPDX-License-Identifier: MIT */
/*
 * qmp.h - QEMU's monitor: commands that QEMU answers in words
 *
 * Not locked: one caller at a time. Each request has a number, which its answer repeats, so that an
 * answer that comes late is not taken for another's. An error of QEMU's is an answer, too: -EINVAL.
 * -EPIPE and -EPROTO leave the connection of no further use.
 */
#ifndef BACKEND_QMP_H
#define BACKEND_QMP_H

#include <stddef.h>

struct qmp {
	int fd;
	char *buffer;	      /* what was received */
	size_t used;	      /* bytes in it */
	size_t taken;	      /* of these belong to the line that was handed out last */
	unsigned int timeout; /* ms, of the call that is under way */
	unsigned int number;  /* of the last request */
};

/* Greet QEMU; timeout in ms. Also sees that QEMU has started. qmp_fini() does not close fd. */
int qmp_init(struct qmp *m, int fd, unsigned int timeout);
void qmp_fini(struct qmp *m);

/*
 * A command with its arguments, which are JSON. Or, with NULL, a command of the human monitor: what it printed goes
 * to *answer, which is valid until the next call; that it was refused can only be told by these words.
 * -EILSEQ: it is not UTF-8, and was not sent.
 */
int qmp_execute(struct qmp *m, const char *execute, const char *text, unsigned int timeout,
		const char **answer);

/* After -ETIMEDOUT of qmp_execute(): wait for its answer once more. */
int qmp_answer(struct qmp *m, unsigned int timeout, const char **text);

/* Tell QEMU to end, without waiting for it. */
int qmp_quit(struct qmp *m);

#endif
