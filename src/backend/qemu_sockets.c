/* SPDX-License-Identifier: MIT */
/*
 * qemu_sockets.c - end what QEMU waits for while it opens an image
 */
#include "backend/qemu_sockets.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/file.h"

static DIR *files_open(pid_t pid)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	return opendir(path);
}

/* The next file's number; -1 at the end. */
static int files_next(DIR *dir)
{
	const struct dirent *entry;

	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			return atoi(entry->d_name);
	return -1;
}

void qemu_files_note(pid_t pid, struct qemu_files *files)
{
	DIR *dir = files_open(pid);
	int fd;

	memset(files->open, dir ? 0 : 0xff, sizeof(files->open));
	if (!dir)
		return;
	while ((fd = files_next(dir)) >= 0)
		if (fd < QEMU_FILES_MAX)
			bitmap_set(files->open, (size_t)fd);
	closedir(dir);
}

#if defined(SYS_pidfd_open) && defined(SYS_pidfd_getfd)

/* The process; -1 if it is not our child any more, and its number perhaps another's. */
static int process_open(pid_t pid)
{
	int process = file_raise((int)syscall(SYS_pidfd_open, pid, 0));
	siginfo_t info;

	if (process >= 0 && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT)) {
		close(process);
		process = -1;
	}
	return process;
}

/* A copy is of the same socket. */
static void socket_end(int process, int number)
{
	int copy = file_raise((int)syscall(SYS_pidfd_getfd, process, number, 0));
	struct stat stat;

	if (copy < 0)
		return;
	if (fstat(copy, &stat) == 0 && S_ISSOCK(stat.st_mode))
		shutdown(copy, SHUT_RDWR);
	close(copy);
}

void qemu_sockets_end(pid_t pid, const struct qemu_files *files)
{
	int process = process_open(pid), fd;
	DIR *dir = process < 0 ? NULL : files_open(pid);

	while (dir && (fd = files_next(dir)) >= 0)
		if (fd < QEMU_FILES_MAX && !bitmap_test(files->open, (size_t)fd))
			socket_end(process, fd);
	if (dir)
		closedir(dir);
	if (process >= 0)
		close(process);
}

#else

void qemu_sockets_end(pid_t pid, const struct qemu_files *files)
{
	(void)pid;
	(void)files;
}

#endif
