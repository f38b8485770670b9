/* SPDX-License-Identifier: MIT */
/*
 * file.c - files of the library stay clear of standard input, output and error
 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/select.h>
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

/*
 * poll() refuses more files than RLIMIT_NOFILE has room for at the moment, which a program may lower with files open, so that
 * it gets no more. select() refuses none.
 */
enum { SET_WORDS = 1024, WORD_BITS = 8 * sizeof(unsigned long) };

struct set {
	unsigned long words[SET_WORDS];
};

static void set_add(struct set *set, int fd)
{
	set->words[(unsigned int)fd / WORD_BITS] |= 1ul << (unsigned int)fd % WORD_BITS;
}

static bool set_has(const struct set *set, int fd)
{
	return set->words[(unsigned int)fd / WORD_BITS] >> (unsigned int)fd % WORD_BITS & 1;
}

static int select_instead(struct pollfd *files, unsigned int n, int timeout)
{
	struct timeval time = {timeout / 1000, timeout % 1000 * 1000};
	struct set in = {{0}}, out = {{0}};
	int top = 0, ready = 0;

	for (unsigned int i = 0; i < n; i++) {
		if (files[i].fd < 0)
			continue;
		if (files[i].fd >= (int)(SET_WORDS * WORD_BITS))
			return -1;
		if (files[i].events & POLLIN)
			set_add(&in, files[i].fd);
		if (files[i].events & POLLOUT)
			set_add(&out, files[i].fd);
		if (files[i].fd >= top)
			top = files[i].fd + 1;
	}
	if (select(top, (fd_set *)(void *)&in, (fd_set *)(void *)&out, NULL,
		   timeout < 0 ? NULL : &time) < 0)
		return -1;
	for (unsigned int i = 0; i < n; i++) {
		files[i].revents = 0;
		if (files[i].fd < 0)
			continue;
		if (files[i].events & POLLIN && set_has(&in, files[i].fd))
			files[i].revents |= POLLIN;
		if (files[i].events & POLLOUT && set_has(&out, files[i].fd))
			files[i].revents |= POLLOUT;
		ready += files[i].revents != 0;
	}
	return ready;
}

int file_poll(struct pollfd *files, unsigned int n, int timeout)
{
	int ready = poll(files, n, timeout);

	return ready < 0 && errno == EINVAL ? select_instead(files, n, timeout) : ready;
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
