/* SPDX-License-Identifier: MIT */
/*
 * console.c - messages, sizes in words, signals, reading and writing of files
 *
 * A signal that asks to end does not end the process: the drive is to be closed first. Its handler
 * notes it, and makes an eventfd readable: who waits for a file waits for that, too, so that no signal
 * comes too early to be noticed. Another one, half a second later or more, ends the process. What comes
 * sooner is the first: timeout(1) sends one to the process and again to its group.
 */
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <dmaland/device.h>

#include "base/text.h"
#include "progress.h"

#define SIGNAL_AGAIN_NS 500000000

static volatile sig_atomic_t signal_seen;
static int64_t signal_ns;  /* when it came; the handler's, which no other interrupts */
static int signal_fd = -1; /* -1: poll() leaves it out */

/* One line, in which anybody's names may be. */
static void message_print(const char *format, va_list args)
{
	char *text = NULL;

	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	if (text)
		text_clean(text);
	fprintf(stderr, "dmaland: %s\n", text ? text : "no memory for a message");
	free(text);
}

int fail(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	progress_hide();
	va_start(args, format);
	message_print(format, args);
	va_end(args);
	return STATUS_FAILED;
}

int fail_library(const char *context)
{
	return fail("%s%s%s", context ? context : "", context ? ": " : "", dmaland_last_error());
}

static void log_line(void *context, enum dmaland_log_level level, const char *line)
{
	(void)context;
	(void)level;
	fprintf(stderr, "dmaland: %s\n", line);
}

void log_show(void)
{
	dmaland_set_log(log_line, NULL);
}

int usage_error(const char *command, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	message_print(format, args);
	va_end(args);
	fprintf(stderr, "Try 'dmaland %s%s--help'.\n", command ? command : "", command ? " " : "");
	return STATUS_USAGE;
}

/* Does a shell read it as one word, and as it stands? */
static bool is_plain(const char *text)
{
	static const char plain[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";

	return text[0] && text[strspn(text, plain)] == '\0';
}

/* $'...', as POSIX.1-2024 has it, for what can't be shown. */
void shell_word(const char *text, char *word, size_t size)
{
	size_t used = 0, length = strlen(text);
	char *shown = strdup(text);

	if (is_plain(text) || !shown) {
		snprintf(word, size, "%s", text);
		free(shown);
		return;
	}
	text_clean(shown);
	used = (size_t)snprintf(word, size, "%s", strcmp(text, shown) ? "$'" : "'");
	for (size_t i = 0; i < length && used + sizeof("'\\''") < size; i++) {
		unsigned char byte = (unsigned char)text[i];

		if (word[0] == '\'' && byte == '\'')
			used += (size_t)snprintf(word + used, size - used, "'\\''");
		else if (word[0] == '$' &&
			 (byte < ' ' || byte > '~' || byte == '\'' || byte == '\\'))
			used += (size_t)snprintf(word + used, size - used, "\\%03o", byte);
		else
			word[used++] = (char)byte;
	}
	snprintf(word + used, size - used, "'");
	free(shown);
}

struct text size_text(uint64_t bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned int unit = 0;
	uint64_t whole = bytes;
	struct text text;

	while (whole >= 1024 && unit < 6) {
		whole /= 1024;
		unit++;
	}
	if (whole << (10 * unit) == bytes)
		snprintf(text.text, sizeof(text.text), "%llu %s", (unsigned long long)whole,
			 units[unit]);
	else
		snprintf(text.text, sizeof(text.text), "%.1f %s",
			 (double)bytes / (double)(UINT64_C(1) << (10 * unit)), units[unit]);
	return text;
}

struct text rate_text(uint64_t bytes, double seconds)
{
	struct text text;

	snprintf(text.text, sizeof(text.text), "%.1f MiB/s",
		 (double)bytes / (1 << 20) / (seconds > 1e-9 ? seconds : 1e-9));
	return text;
}

double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void signal_note(int number)
{
	int error = errno;
	struct timespec now;
	int64_t ns;

	clock_gettime(CLOCK_MONOTONIC, &now);
	ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
	if (!signal_seen) {
		signal_ns = ns;
		signal_seen = number;
		eventfd_write(signal_fd, 1);
	} else if (ns - signal_ns >= SIGNAL_AGAIN_NS) {
		signal(number, SIG_DFL);
		raise(number); /* and it comes when the handler returns */
	}
	errno = error;
}

static void signal_ignore(int number)
{
	(void)number;
}

void signals_catch(void)
{
	static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction note = {.sa_handler = signal_note};
	struct sigaction ignore = {.sa_handler = signal_ignore}, before;

	signal_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		sigaddset(&note.sa_mask, ends[i]);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (sigaction(ends[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
			sigaction(ends[i], &note, NULL);
	/* write() says EPIPE or EFBIG; a handler, since SIG_IGN would be inherited by programs */
	sigaction(SIGPIPE, &ignore, NULL);
	sigaction(SIGXFSZ, &ignore, NULL);
}

int signals_status(void)
{
	return signal_seen ? STATUS_SIGNAL + signal_seen : STATUS_OK;
}

/*
 * Until the file is ready; where it is not, and a signal asks to end, a status above STATUS_SIGNAL.
 * So what can be written at once is written also after a signal.
 */
static int file_wait(int fd, short events)
{
	struct pollfd fds[] = {{.fd = fd, .events = events}, {.fd = signal_fd, .events = POLLIN}};

	while (poll(fds, 2, -1) < 0 && errno == EINTR && !signals_status())
		;
	return fds[0].revents ? STATUS_OK : signals_status();
}

/* After a failed read() or write(): 0 to try again. A closed pipe ends a tool without words. */
static int file_retry(const char *what, const char *name)
{
	if (errno == EINTR || errno == EAGAIN)
		return STATUS_OK;
	if (errno == EPIPE)
		return STATUS_PIPE;
	return fail("%s %s: %s", what, name, strerror(errno));
}

/*
 * A pipe to write to without waiting, which the program at its other end does not notice: O_NONBLOCK is the opening's. -1: it
 * is no pipe, or can't be opened anew; then a pipe that is ready takes PIPE_BUF bytes (pipe(7)).
 */
static int pipe_open(int fd, size_t *limit)
{
	struct stat stat;
	char path[32];
	int own;

	*limit = SSIZE_MAX;
	if (fstat(fd, &stat) || !S_ISFIFO(stat.st_mode))
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (own < 0)
		*limit = PIPE_BUF;
	return own;
}

int write_all(int fd, const char *name, const void *data, size_t size, size_t *done)
{
	size_t limit;
	int own = pipe_open(fd, &limit), to = own >= 0 ? own : fd;
	const char *at = data;
	int status = STATUS_OK;

	for (*done = 0; *done < size && !status;) {
		size_t left = size - *done;
		ssize_t n;

		status = file_wait(to, POLLOUT);
		if (status)
			break;
		n = write(to, at + *done, left < limit ? left : limit);
		if (n < 0)
			status = file_retry("cannot write to", name);
		else
			*done += (size_t)n;
	}
	if (own >= 0)
		close(own);
	return status;
}

int read_full(int fd, const char *name, void *data, size_t size, size_t *got)
{
	int status = STATUS_OK;

	for (*got = 0; *got < size && !status;) {
		ssize_t n;

		status = file_wait(fd, POLLIN);
		if (status)
			break;
		n = read(fd, (char *)data + *got, size - *got);
		if (n == 0)
			break;
		if (n < 0)
			status = file_retry("cannot read", name);
		else
			*got += (size_t)n;
	}
	return status;
}

int stdout_close(int status)
{
	bool failed = ferror(stdout);

	errno = failed ? EIO : 0;
	failed |= fclose(stdout) != 0;
	if (!failed || status)
		return status;
	if (errno == EPIPE)
		return STATUS_PIPE;
	return fail("cannot write to stdout: %s", strerror(errno));
}
