/* SPDX-License-Identifier: MIT */
/*
 * qemu_doorbell.h - a register of a machine that turns messages of its devices into eventfds of ours
 */
#ifndef BACKEND_QEMU_DOORBELL_H
#define BACKEND_QEMU_DOORBELL_H

#include <stdbool.h>
#include <stdint.h>

struct qemu_function;
struct qemu_machine;

#define QEMU_DOORBELL_CHARDEV "doorbell"
#define QEMU_DOORBELL_VECTORS 256 /* that a message can name: QEMU takes 8 bits of it */

struct qemu_doorbell {
	int fd;				/* where QEMU is given its eventfds */
	struct qemu_function *function; /* the register's device; NULL: nobody has asked yet */
	uint64_t address;		/* of the register */
	unsigned int peers;		/* numbers of peers that were used */
	bool broken;			/* what was said to QEMU can't be said again */
	int *messages;			/* eventfds of peer 0; NULL: nobody has asked yet */
};

/* Its socket: QEMU's end goes to *theirs. 0 or -errno in words. */
int qemu_doorbell_init(struct qemu_doorbell *doorbell, int *theirs);
void qemu_doorbell_fini(struct qemu_doorbell *doorbell);

/* Close its files, in the child of a fork; once or more. */
void qemu_doorbell_disown(struct qemu_doorbell *doorbell);

/*
 * From now on a message with the data *peer << 16 | i makes fds[i] readable; n of them. Returns when
 * QEMU has them. After the second it does nothing.
 */
int qemu_doorbell_connect(struct qemu_machine *machine, const int *fds, unsigned int n,
			  unsigned int timeout, unsigned int *peer);
void qemu_doorbell_disconnect(struct qemu_machine *machine, unsigned int peer);

/*
 * Messages of 16 bits: an eventfd each for 0 to 2 * QEMU_SLOTS - 1, which stay the machine's. The
 * n-th, or -errno in words.
 */
int qemu_doorbell_message(struct qemu_machine *machine, unsigned int n, unsigned int timeout);

#endif
