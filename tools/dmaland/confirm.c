/* SPDX-License-Identifier: MIT */
/*
 * confirm.c - before all of a namespace is lost, a person is asked
 *
 * A person is there if stdin, stdout or stderr is a terminal: any of them may be redirected, stdin since it is what
 * is to be written, stderr to keep what is said. So the question goes to the terminal itself, and the answer comes
 * from there. A program that has no terminal at all is asked nothing.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "drive.h"

/* The first characters of the line that comes: 0, or a status with the user told. */
static int line_read(int fd, char *line, size_t size)
{
	size_t length = 0, got = 1;
	char c = '\0';
	int status = STATUS_OK;

	while (!status && got && c != '\n') {
		status = read_full(fd, "the terminal", &c, 1, &got);
		if (!status && got && c != '\n' && length + 1 < size)
			line[length++] = c;
	}
	line[length] = '\0';
	return status;
}

static bool is_yes(const char *line)
{
	line += strspn(line, " \t");
	return tolower((unsigned char)line[0]) == 'y';
}

static bool person_is_there(void)
{
	return isatty(STDIN_FILENO) || isatty(STDOUT_FILENO) || isatty(STDERR_FILENO);
}

int confirm_loss(const struct drive *drive, const struct arguments *arguments, const char *format,
		 ...)
{
	char what[200], line[16];
	va_list args;
	int fd, status;

	if (arguments_have(arguments, 'y') || !person_is_there())
		return STATUS_OK;
	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	fd = open("/dev/tty", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return fail("%s would be lost, and nobody can be asked (/dev/tty: %s): --yes if "
			    "that is meant",
			    what, strerror(errno));
	dprintf(fd, "%s, serial %s: %s will be lost. Go on? [y/N] ", drive->info.model,
		drive->info.serial, what);
	status = line_read(fd, line, sizeof(line));
	close(fd);
	if (status || is_yes(line))
		return status;
	return fail("nothing was done; --yes asks nothing");
}
