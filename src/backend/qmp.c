/* SPDX-License-Identifier: MIT */
/*
 * qmp.c - QEMU's monitor: commands that QEMU answers in words
 *
 * QMP is JSON, an object a line. Of its commands only human-monitor-command is used (and quit),
 * since it takes devices in the syntax of QEMU's command line and answers with QEMU's own
 * sentences. So no JSON parser is needed: a line is an answer, an error or an event, and of each
 * one string matters. Quotes inside of a string come escaped, so that `"key": ` found in a
 * line is always a key.
 */
#include "backend/qmp.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "backend/deadline.h"

/* The longest line; answers to the commands used here have some hundred bytes. */
#define QMP_LINE_MAX ((size_t)64 << 10)

#define QUIT_SEND_MS 100

static struct timespec deadline_start(struct qmp *m, unsigned int timeout)
{
	m->timeout = timeout;
	return deadline_in(timeout);
}

static int ended_error(void)
{
	return error_set(EPIPE, "QEMU's monitor has closed");
}

/* Wait for the socket; EINTR only costs another round. */
static int socket_wait(struct qmp *m, short events, const struct timespec *deadline)
{
	struct pollfd p = {.fd = m->fd, .events = events};
	int left = deadline_left(deadline);

	if (left == 0)
		return error_set(ETIMEDOUT, "QEMU's monitor did not answer within %u ms",
				 m->timeout);
	if (poll(&p, 1, left) < 0 && errno != EINTR)
		return error_set(EPIPE, "cannot wait for QEMU's monitor: %s", strerror(errno));
	return 0;
}

static int send_all(struct qmp *m, const char *text, size_t length, const struct timespec *deadline)
{
	while (length > 0) {
		ssize_t n = send(m->fd, text, length, MSG_NOSIGNAL | MSG_DONTWAIT);
		int err;

		if (n >= 0) {
			text += n;
			length -= (size_t)n;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return ended_error();
		err = socket_wait(m, POLLOUT, deadline);
		if (err)
			return err;
	}
	return 0;
}

/* The next line, without its end. It stays in the buffer until the next call. */
static int line_next(struct qmp *m, const struct timespec *deadline, char **line)
{
	char *end;

	m->used -= m->taken;
	memmove(m->buffer, m->buffer + m->taken, m->used);
	m->taken = 0;
	while (!(end = memchr(m->buffer, '\n', m->used))) {
		ssize_t n;
		int err;

		if (m->used == QMP_LINE_MAX)
			return error_set(EPROTO, "QEMU's monitor sent a line above %zu KiB",
					 QMP_LINE_MAX >> 10);
		n = recv(m->fd, m->buffer + m->used, QMP_LINE_MAX - m->used, MSG_DONTWAIT);
		if (n > 0) {
			m->used += (size_t)n;
			continue;
		}
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			return ended_error();
		err = socket_wait(m, POLLIN, deadline);
		if (err)
			return err;
	}
	*end = '\0';
	m->taken = (size_t)(end - m->buffer) + 1;
	*line = m->buffer;
	return 0;
}

/* A character of \uXXXX as UTF-8. QEMU's words are ASCII; a name of a file may not be. */
static char *utf8_put(char *to, unsigned int c)
{
	if (c < 0x80) {
		*to++ = (char)c;
	} else if (c < 0x800) {
		*to++ = (char)(0xc0 | c >> 6);
		*to++ = (char)(0x80 | (c & 0x3f));
	} else if (c >= 0xd800 && c < 0xe000) {
		*to++ = '?'; /* half of a pair */
	} else {
		*to++ = (char)(0xe0 | c >> 12);
		*to++ = (char)(0x80 | (c >> 6 & 0x3f));
		*to++ = (char)(0x80 | (c & 0x3f));
	}
	return to;
}

/* Undo a JSON string's escapes in place, up to its closing quote. It only becomes shorter. */
static void string_decode(char *text)
{
	static const char from[] = "bfnrt", into[] = "\b\f\n\r\t";
	char *to = text;

	while (*text && *text != '"') {
		const char *found;
		unsigned int c;

		if (*text != '\\') {
			*to++ = *text++;
		} else if (text[1] == 'u' && sscanf(text + 2, "%4x", &c) == 1) {
			to = utf8_put(to, c);
			text += strnlen(text, 6);
		} else if (text[1]) {
			found = strchr(from, text[1]);
			*to++ = found ? into[found - from] : text[1];
			text += 2;
		} else {
			break;
		}
	}
	*to = '\0';
}

/* The string of a key, decoded; NULL when the line has no such key, or it is no string. */
static char *string_of(char *line, const char *key)
{
	char label[32];
	char *found;

	snprintf(label, sizeof(label), "\"%s\": \"", key);
	found = strstr(line, label);
	if (!found)
		return NULL;
	found += strlen(label);
	string_decode(found);
	return found;
}

/* Send a request and return the line that answers it; events in between are dropped. */
static int execute(struct qmp *m, const char *request, const struct timespec *deadline,
		   char **answer)
{
	int err = send_all(m, request, strlen(request), deadline);

	if (err)
		return err;
	do {
		err = line_next(m, deadline, answer);
		if (err)
			return err;
	} while (strstr(*answer, "\"event\": "));
	if (strstr(*answer, "\"error\": {")) {
		const char *words = string_of(*answer, "desc");

		return error_set(EPROTO, "QEMU's monitor says: %s", words ? words : "error");
	}
	return 0;
}

int qmp_init(struct qmp *m, int fd, unsigned int timeout)
{
	struct timespec deadline;
	char *line;
	int err;

	memset(m, 0, sizeof(*m));
	m->fd = fd;
	deadline = deadline_start(m, timeout);
	m->buffer = malloc(QMP_LINE_MAX);
	if (!m->buffer)
		return error_set(ENOMEM, "no memory for QEMU's monitor");
	err = line_next(m, &deadline, &line); /* the greeting */
	if (!err)
		err = execute(m, "{\"execute\": \"qmp_capabilities\"}\n", &deadline, &line);
	if (err)
		qmp_fini(m);
	return err;
}

void qmp_fini(struct qmp *m)
{
	free(m->buffer);
	m->buffer = NULL;
}

static void json_put(FILE *f, const char *text)
{
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fprintf(f, "\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			fprintf(f, "\\u%04x", (unsigned int)*text);
		else
			fputc(*text, f);
	}
}

/* The request for a command of the human monitor, to be freed; NULL without memory. */
static char *command_request(const char *command)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	bool failed;

	if (!f)
		return NULL;
	fputs("{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": \"", f);
	json_put(f, command);
	fputs("\"}}\n", f);
	failed = ferror(f);
	if (fclose(f) || failed) {
		free(text);
		return NULL;
	}
	return text;
}

int qmp_command(struct qmp *m, const char *command, unsigned int timeout, const char **text)
{
	struct timespec deadline = deadline_start(m, timeout);
	char *request = command_request(command);
	char *answer;
	int err;

	if (!request)
		return error_set(ENOMEM, "no memory for a command to QEMU");
	err = execute(m, request, &deadline, &answer);
	free(request);
	if (err)
		return err;
	*text = string_of(answer, "return");
	if (!*text)
		*text = "";
	return 0;
}

int qmp_quit(struct qmp *m)
{
	struct timespec deadline = deadline_start(m, QUIT_SEND_MS);
	static const char request[] = "{\"execute\": \"quit\"}\n";

	return send_all(m, request, strlen(request), &deadline);
}

int qmp_wait_deleted(struct qmp *m, const char *id, unsigned int timeout)
{
	struct timespec deadline = deadline_start(m, timeout);
	char *line;
	int err;

	for (;;) {
		const char *device;

		err = line_next(m, &deadline, &line);
		if (err)
			return err;
		if (!strstr(line, "\"event\": \"DEVICE_DELETED\""))
			continue;
		device = string_of(line, "device");
		if (device && strcmp(device, id) == 0)
			return 0;
	}
}
