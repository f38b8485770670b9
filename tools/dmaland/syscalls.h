/* SPDX-License-Identifier: MIT */
/*
 * syscalls.h - system calls of this thread, counted by a child that traces it
 *
 * Each call stops the thread twice: what is counted is not to be timed. No privilege is wanted, but a debugger, strace, or a
 * sandbox may keep the child out.
 */
#ifndef SYSCALLS_H
#define SYSCALLS_H

#include <sys/types.h>

struct syscalls {
	pid_t counter;
	int answer; /* a pipe from the child */
};

/* Count from here on: 0, or -errno, and nothing to be ended. */
int syscalls_begin(struct syscalls *syscalls);

/* The calls since; -errno when the child was kept from counting. */
long syscalls_end(struct syscalls *syscalls);

#endif
