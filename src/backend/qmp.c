/* SPDX-License-Identifier: MIT */
/*
 * qmp.c - QEMU's monitor: commands that QEMU answers in words
 *
 * QMP is JSON, an object a line. Most commands are human-monitor-command's, which takes devices in the
 * syntax of QEMU's command line, where a value needs no type, and answers with QEMU's own sentences; those
 * whose arguments the user gave as JSON are QMP's own. No JSON parser is needed: a line is an answer, an
 * error or an event, and of each one string matters. Quotes inside of a string come escaped, so that `"key": ` found in a
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
#include "base/file.h"
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
	if (file_poll(&p, 1, left) < 0 && errno != EINTR)
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

/* The number of the request that the line answers; NULL when it has none. */
static const char *number_of(const char *line)
{
	static const char label[] = "\"id\": ";
	const char *number = strstr(line, label);

	return number && !strstr(line, "\"event\": ") ? number + sizeof(label) - 1 : NULL;
}

static bool is_answer(const struct qmp *m, const char *line)
{
	const char *number = number_of(line);

	return number && strtoul(number, NULL, 10) == m->number;
}

/* What QEMU could not read as a request has no number. */
static bool is_unreadable(const char *line)
{
	return !number_of(line) && strstr(line, "\"error\": {");
}

/*
 * QEMU could not read the last request. It may complain of each piece of it, or wait for its end. A byte that is no JSON has
 * it begin anew (docs/interop/qmp-intro in QEMU: "Forcing the JSON parser into known-good state"); what it says until it
 * answers the request behind that is dropped.
 */
static int begin_anew(struct qmp *m, const struct timespec *deadline)
{
	char request[64], *line;
	int err;

	m->number++;
	snprintf(request, sizeof(request), "\xff{\"execute\": \"query-name\", \"id\": %u}\n",
		 m->number);
	err = send_all(m, request, strlen(request), deadline);
	do {
		if (!err)
			err = line_next(m, deadline, &line);
	} while (!err && !is_answer(m, line));
	return err;
}

static int refused_error(char *line)
{
	const char *words = string_of(line, "desc");

	return error_set(EINVAL, "QEMU's monitor says: %s", words ? words : "error");
}

/* The line that answers the last request; events and late answers before it are dropped. */
static int answer_next(struct qmp *m, const struct timespec *deadline, char **answer)
{
	struct error_state error;
	bool unreadable;
	int err;

	do {
		err = line_next(m, deadline, answer);
		if (err)
			return err;
		unreadable = is_unreadable(*answer);
	} while (!unreadable && !is_answer(m, *answer));
	if (!strstr(*answer, "\"error\": {"))
		return 0;
	err = refused_error(*answer);
	if (!unreadable)
		return err;
	error_keep(&error);
	err = begin_anew(m, deadline);
	if (err)
		return err;
	error_put_back(&error);
	return -EINVAL;
}

/* Send a request, which is to be the next number's, and return the line that answers it. */
static int execute_request(struct qmp *m, const char *request, const struct timespec *deadline,
			   char **answer)
{
	int err;

	m->number++;
	err = send_all(m, request, strlen(request), deadline);
	return err ? err : answer_next(m, deadline, answer);
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
		err = execute_request(m, "{\"execute\": \"qmp_capabilities\", \"id\": 1}\n",
				      &deadline, &line);
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

/* How many bytes a character of UTF-8 has (RFC 3629, 4), or 0: it is none that JSON may carry. */
static size_t utf8_length(const unsigned char *text)
{
	static const unsigned int lowest[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t length = *text < 0x80   ? 1
			: *text < 0xc0 ? 0
			: *text < 0xe0 ? 2
			: *text < 0xf0 ? 3
				       : 4;
	unsigned int c = *text & (0xffu >> (length + 1));

	if (length <= 1)
		return length;
	for (size_t i = 1; i < length; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (text[i] & 0x3f);
	}
	if (*text >= 0xf8 || c < lowest[length] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	if ((c & 0xfffe) == 0xfffe ||
	    (c >= 0xfdd0 && c < 0xfdf0)) /* noncharacters: QEMU has none */
		return 0;
	return length;
}

static int utf8_check(const char *text)
{
	for (const char *at = text; *at;) {
		size_t length = utf8_length((const unsigned char *)at);

		if (!length)
			return error_set(
				EILSEQ,
				"QEMU's monitor takes UTF-8 alone, and a name in the spec has "
				"the byte 0x%02x, which is none: rename the file, or make a "
				"link to it",
				(unsigned int)(unsigned char)*at);
		at += length;
	}
	return 0;
}

/* A request, to be freed; NULL without memory. execute NULL: text is a command of the human monitor. */
static char *request_make(const struct qmp *m, const char *execute, const char *text)
{
	char *request = NULL;
	size_t size;
	FILE *f = open_memstream(&request, &size);
	bool failed;

	if (!f)
		return NULL;
	if (execute) {
		fprintf(f, "{\"execute\": \"%s\", \"arguments\": %s", execute, text);
	} else {
		fputs("{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": "
		      "\"",
		      f);
		json_put(f, text);
		fputs("\"}", f);
	}
	fprintf(f, ", \"id\": %u}\n", m->number + 1);
	failed = ferror(f);
	if (fclose(f) || failed) {
		free(request);
		return NULL;
	}
	return request;
}

/* What the command printed. */
static const char *text_of(char *answer)
{
	const char *text = string_of(answer, "return");

	return text ? text : "";
}

int qmp_execute(struct qmp *m, const char *execute, const char *text, unsigned int timeout,
		const char **answer)
{
	struct timespec deadline = deadline_start(m, timeout);
	int err = utf8_check(text);
	char *request, *line;

	if (err)
		return err;
	request = request_make(m, execute, text);
	if (!request)
		return error_set(ENOMEM, "no memory for a command to QEMU");
	err = execute_request(m, request, &deadline, &line);
	free(request);
	if (!err)
		*answer = text_of(line);
	return err;
}

int qmp_answer(struct qmp *m, unsigned int timeout, const char **text)
{
	struct timespec deadline = deadline_start(m, timeout);
	char *answer;
	int err = answer_next(m, &deadline, &answer);

	if (!err)
		*text = text_of(answer);
	return err;
}

int qmp_quit(struct qmp *m)
{
	struct timespec deadline = deadline_start(m, QUIT_SEND_MS);
	static const char request[] = "{\"execute\": \"quit\"}\n";

	return send_all(m, request, strlen(request), &deadline);
}
