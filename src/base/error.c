/* SPDX-License-Identifier: MIT */
/*
 * error.c - a failure in words, kept per thread
 *
 * One buffer a thread, of fixed size: reporting that memory ran out must not need memory. Programs print it, and names in it are
 * anybody's: so it has no control characters.
 */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

static _Thread_local struct error_state last;

int dmaland_set_error(int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(last.text, sizeof(last.text), format, args);
	va_end(args);
	text_clean(last.text);
	last.code = code;
	errno = code;
	return -code;
}

int error_prefix(const char *format, ...)
{
	char rest[sizeof(last.text)];
	va_list args;
	size_t used;

	memcpy(rest, last.text, sizeof(rest));
	va_start(args, format);
	vsnprintf(last.text, sizeof(last.text), format, args);
	va_end(args);
	used = strlen(last.text);
	snprintf(last.text + used, sizeof(last.text) - used, ": %s", rest);
	text_clean(last.text);
	errno = last.code;
	return -last.code;
}

int error_system(const char *format, ...)
{
	int code = errno;
	va_list args;
	size_t used;

	va_start(args, format);
	vsnprintf(last.text, sizeof(last.text), format, args);
	va_end(args);
	used = strlen(last.text);
	snprintf(last.text + used, sizeof(last.text) - used, ": %s", strerror(code));
	text_clean(last.text);
	last.code = code;
	errno = code;
	return -code;
}

const char *error_last(void)
{
	return last.text;
}

void error_keep(struct error_state *state)
{
	*state = last;
	state->number = errno;
}

void error_put_back(const struct error_state *state)
{
	last = *state;
	errno = state->number;
}

const char *dmaland_last_error(void)
{
	return error_last();
}
