/* SPDX-License-Identifier: MIT */
/*
 * file.c - files of the library stay clear of standard input, output and error
 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

int file_raise(int fd)
{
	int raised, code;

	if (fd < 0 || fd >= FILE_FIRST)
		return fd;
	raised = fcntl(fd, F_DUPFD_CLOEXEC, FILE_FIRST);
	code = errno;
	close(fd);
	errno = code;
	return raised;
}

int file_socketpair(int pair[2])
{
	int code;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -1;
	pair[0] = file_raise(pair[0]);
	code = errno;
	pair[1] = file_raise(pair[1]);
	if (pair[0] >= 0 && pair[1] >= 0)
		return 0;
	if (pair[0] >= 0) {
		code = errno;
		close(pair[0]);
	}
	if (pair[1] >= 0)
		close(pair[1]);
	errno = code;
	return -1;
}
