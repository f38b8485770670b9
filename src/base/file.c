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

/* Both, or none. */
static int pair_raise(const int made[2], int pair[2])
{
	int raised[2], code;

	raised[0] = file_raise(made[0]);
	code = errno;
	raised[1] = file_raise(made[1]);
	if (raised[0] >= 0 && raised[1] >= 0) {
		pair[0] = raised[0];
		pair[1] = raised[1];
		return 0;
	}
	if (raised[0] >= 0) {
		code = errno;
		close(raised[0]);
	}
	if (raised[1] >= 0)
		close(raised[1]);
	errno = code;
	return -1;
}

int file_socketpair(int pair[2])
{
	int made[2];

	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, made) ? -1
									: pair_raise(made, pair);
}

int file_pipe(int pair[2])
{
	int made[2];

	return pipe2(made, O_CLOEXEC) ? -1 : pair_raise(made, pair);
}
