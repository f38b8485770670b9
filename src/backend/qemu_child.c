/* SPDX-License-Identifier: MIT */
/*
 * qemu_child.c - from fork() to QEMU's main(): a program that has QEMU's files as 0, 1, 2, ... and ends with its parent
 *
 * Between fork and exec only async-signal-safe functions are called: other threads may have held
 * any lock at the moment of the fork.
 */
#include "backend/qemu_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"
#include "backend/qemu_process.h"

static void close_from(int first, int limit)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, first, ~0U, 0) == 0)
		return;
#endif
	for (int fd = first; fd < limit; fd++)
		close(fd);
}

/* For the opener, which looks for it in the file of QEMU's messages. */
static void child_fail(int errors_fd)
{
	int code = errno;

	if (pwrite(errors_fd, &code, sizeof(code), 0) < 0)
		_exit(QEMU_EXEC_FAILED);
	_exit(QEMU_EXEC_FAILED);
}

/* Put fds[i] at i. First all go out of the way, so that none is overwritten before its turn. */
static void child_place_fds(struct qemu_launch *l)
{
	l->fds[0] = open("/dev/null", O_RDONLY);
	l->fds[1] = open("/dev/null", O_WRONLY);
	for (int i = 0; i < QEMU_FDS; i++) {
		int fd = fcntl(l->fds[i], F_DUPFD_CLOEXEC, QEMU_FDS);

		if (fd < 0)
			child_fail(l->fds[STDERR_FILENO]);
		l->fds[i] = fd;
	}
	for (int i = 0; i < QEMU_FDS; i++)
		if (dup2(l->fds[i], i) < 0)
			child_fail(l->fds[STDERR_FILENO]);
	close_from(QEMU_FDS, l->fd_limit);
}

/* In the child: never returns. A session of its own keeps the terminal's ctrl-C from it. */
static void child_run(struct qemu_launch *l)
{
	sigset_t none;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL))
		_exit(QEMU_EXEC_FAILED);
	if (getppid() != l->parent) /* it ended before the prctl */
		_exit(QEMU_EXEC_FAILED);
	setsid();
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	child_place_fds(l);
	execv(l->command->path, (char *const *)l->command->arguments);
	child_fail(STDERR_FILENO);
}

#ifdef __SANITIZE_THREAD__
/*
 * ThreadSanitizer does not know of _Fork(). Unless it is told, its part of dup2() in the child may wait for good for a lock of its own
 * that another thread held: one start in some thousands. From sanitizer/linux_syscall_hooks.h, which gcc does not install.
 */
void __sanitizer_syscall_pre_impl_fork(void);
void __sanitizer_syscall_post_impl_fork(long result);
#endif

/* The child runs nothing of the program, nor what it has for fork(). */
static pid_t fork_bare(void)
{
	pid_t pid;

#ifdef __SANITIZE_THREAD__
	__sanitizer_syscall_pre_impl_fork();
	pid = _Fork();
	__sanitizer_syscall_post_impl_fork(pid);
#else
	pid = _Fork();
#endif
	return pid;
}

pid_t qemu_child_fork(struct qemu_launch *l)
{
	pid_t pid = fork_bare();

	if (pid == 0)
		child_run(l);
	return pid;
}

/* The first file of this name in PATH that can be executed. */
static char *path_search(const char *name)
{
	const char *path = getenv("PATH");

	if (!path)
		path = "/usr/local/bin:/usr/bin:/bin";
	while (*path) {
		size_t length = strcspn(path, ":");
		char *file;

		if (asprintf(&file, "%.*s/%s", (int)length, path, name) < 0) {
			errno = ENOMEM;
			return NULL;
		}
		if (length && access(file, X_OK) == 0)
			return file;
		free(file);
		path += length + (path[length] == ':');
	}
	errno = ENOENT;
	return NULL;
}

char *qemu_find_program(const char *name)
{
	char *file;

	if (strchr(name, '/')) {
		if (access(name, X_OK)) {
			error_system("cannot execute %s", name);
			return NULL;
		}
		file = strdup(name);
	} else {
		file = path_search(name);
	}
	if (file)
		return file;
	if (errno != ENOENT)
		error_set(ENOMEM, "no memory for the name of QEMU's program");
	else
		error_set(ENOENT, "%s is not installed: apt-get install qemu-system-x86", name);
	return NULL;
}
