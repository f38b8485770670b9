/* SPDX-License-Identifier: MIT */
/*
 * qemu_complaints.h - what QEMU says of a driver's mistakes, with what is known of the address
 */
#ifndef BACKEND_QEMU_COMPLAINTS_H
#define BACKEND_QEMU_COMPLAINTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* After so many lines of a machine no more are shown. */
#define QEMU_COMPLAINTS_SHOWN 16

struct qemu_complaints {
	/* of QEMU's thread */
	uint64_t next; /* address behind the last access, which may go on there */
	bool write;    /* that access */
	bool has_thread;
	pthread_t thread; /* says the lines */

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	unsigned int shown, said; /* lines: made; and those that the log has */
	bool end;
	char lines[QEMU_COMPLAINTS_SHOWN][640];
};

/* 0 or an error number. */
int qemu_complaints_init(struct qemu_complaints *complaints);

/* When there is no more of QEMU: what it said is in the log then. Not with a lock that the log's callback may want. */
void qemu_complaints_end(struct qemu_complaints *complaints);
void qemu_complaints_fini(struct qemu_complaints *complaints);

/* A line of QEMU's log, from the thread that receives what QEMU says. */
void qemu_complain(void *machine, char *line);

#endif
