/* SPDX-License-Identifier: MIT */
/*
 * qemu_lines.h - a machine's interrupt lines, and who hears of them and of its end
 */
#ifndef BACKEND_QEMU_LINES_H
#define BACKEND_QEMU_LINES_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A device's share in it; in the list from open to close. */
struct qemu_listener {
	struct qemu_listener *next;
	int event_fd;	   /* made readable by the end */
	int intx;	   /* eventfd of its INTx; -1: not enabled */
	unsigned int line; /* where it arrives */
	bool masked;	   /* by itself, or by the driver */
};

struct qemu_lines {
	pthread_mutex_t lock; /* guards all of it; no access to QEMU is made while it is held */
	struct qemu_listener *first;
	uint32_t high; /* bitmap of lines */
};

int qemu_lines_init(struct qemu_lines *lines);
void qemu_lines_fini(struct qemu_lines *lines);

void qemu_lines_add(struct qemu_lines *lines, struct qemu_listener *listener);
void qemu_lines_remove(struct qemu_lines *lines, struct qemu_listener *listener);

/* Where INTx of a device in this slot arrives; pin as in its configuration space: 1 is INTA. */
unsigned int qemu_line_of(unsigned int slot, unsigned int pin);

/* What PIRQRCA to PIRQRCD of the PIIX3 (Intel 82371SB, 2.3.9) must hold for that. */
uint32_t qemu_lines_routes(void);

/* The device's INTx arrives on this line and from now on goes to this eventfd, not masked; -1: nowhere. */
void qemu_line_set(struct qemu_lines *lines, struct qemu_listener *listener, unsigned int line,
		   int intx);
void qemu_line_mask(struct qemu_lines *lines, struct qemu_listener *listener, bool masked);

/* The device is known to interrupt: signal, unless it is masked, and mask. */
void qemu_line_signal(struct qemu_lines *lines, struct qemu_listener *listener);

bool qemu_line_is_high(struct qemu_lines *lines, unsigned int line);

/*
 * Whose INTx goes somewhere from this line: how many, the first of them in users[size]. They stay
 * as long as the caller keeps qemu_line_set() from being called.
 */
size_t qemu_line_users(struct qemu_lines *lines, unsigned int line, struct qemu_listener **users,
		       size_t size);

/* struct qtest_listener, with the lines for context. */
void qemu_lines_change(void *lines, unsigned int line, bool high);
void qemu_lines_end(void *lines);

#endif
