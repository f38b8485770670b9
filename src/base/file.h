/* SPDX-License-Identifier: MIT */
/*
 * file.h - files of the library stay clear of standard input, output and error
 *
 * A daemon closes 0, 1 and 2, and the kernel gives the lowest free number to the next file. What the
 * program or the C library then writes to stderr would go into a device's registers or into DMA memory.
 * So every file that outlives the call that opened it, or that memory of the device is in, gets a number
 * from FILE_FIRST on.
 */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <poll.h>

#define FILE_FIRST 3

/*
 * Around a call that opens a file: the file, moved to a number from FILE_FIRST on, close-on-exec, if it
 * has a lower one. -1, as the call gave it or where no number is left, with errno set and nothing open.
 */
int file_raise(int fd);

/* socketpair() of stream sockets, or pipe(): close-on-exec, both from FILE_FIRST on. 0, or -1 with errno set; then pair is as it was. */
int file_socketpair(int pair[2]);
int file_pipe(int pair[2]);

/*
 * poll(2), for POLLIN and POLLOUT, that works while RLIMIT_NOFILE is below n, too. There an end or an error of a
 * file is told as POLLIN or POLLOUT, as asked for, and files above 65,535 are refused with EINVAL.
 */
int file_poll(struct pollfd *files, unsigned int n, int timeout);

#endif
