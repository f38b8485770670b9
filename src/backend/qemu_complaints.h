/* SPDX-License-Identifier: MIT */
/*
 * qemu_complaints.h - what QEMU says of a driver's mistakes, with what is known of the address
 */
#ifndef BACKEND_QEMU_COMPLAINTS_H
#define BACKEND_QEMU_COMPLAINTS_H

#include <stdbool.h>
#include <stdint.h>

/* After so many lines of a machine no more are shown. */
#define QEMU_COMPLAINTS_SHOWN 16

struct qemu_complaints {
	uint64_t next; /* address behind the last access, which may go on there */
	bool write;    /* that access */
	unsigned int shown;
};

/* A line of QEMU's log, from the thread that receives what QEMU says. */
void qemu_complain(void *machine, char *line);

#endif
