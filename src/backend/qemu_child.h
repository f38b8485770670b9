/* SPDX-License-Identifier: MIT */
/*
 * qemu_child.h - QEMU's process, as long as it is still ours
 */
#ifndef BACKEND_QEMU_CHILD_H
#define BACKEND_QEMU_CHILD_H

#include <sys/types.h>

#include "backend/qemu_process.h"

#define QEMU_EXEC_FAILED 127 /* exit status; its standard error then holds errno as an int */

struct qemu_launch {
	struct qemu_process *process;
	const struct qemu_command *command;
	int fds[QEMU_FDS]; /* what QEMU finds as 0, 1, 2, ... */
	int fd_limit;
	pid_t parent;
};

/* Fork, and execute QEMU in the child; the child's number, or -1 with errno set. */
pid_t qemu_child_fork(struct qemu_launch *launch);

#endif
