/* SPDX-License-Identifier: MIT */
/*
 * log.c - messages to the application's callback, or stderr
 *
 * The callback may call the library. So who holds a lock keeps his lines back until it is released:
 * a few for each thread, in a buffer of fixed size, since there may be no memory to be had.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

enum { LINE_SIZE = 512, LINES_HELD = 4 };

static struct {
	void (*log)(void *context, enum dmaland_log_level level, const char *line);
	void *context;
} sink;

struct held_line {
	enum dmaland_log_level level;
	char text[LINE_SIZE];
};

static _Thread_local struct {
	unsigned int holds;
	unsigned int count; /* of lines since the first hold; those above LINES_HELD are lost */
	struct held_line lines[LINES_HELD];
} held;

void dmaland_set_log(void (*log)(void *context, enum dmaland_log_level level, const char *line),
		     void *context)
{
	sink.log = log;
	sink.context = context;
}

static void line_put(enum dmaland_log_level level, const char *line)
{
	if (sink.log)
		sink.log(sink.context, level, line);
	else if (level != DMALAND_LOG_INFO)
		fprintf(stderr, "dmaland: %s\n", line);
}

void dmaland_log(enum dmaland_log_level level, const char *format, ...)
{
	char line[LINE_SIZE];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (!held.holds) {
		line_put(level, line);
		return;
	}
	if (held.count < LINES_HELD) {
		held.lines[held.count].level = level;
		memcpy(held.lines[held.count].text, line, sizeof(line));
	}
	held.count++;
}

void log_hold(void)
{
	held.holds++;
}

/*
 * They are taken out of the buffer before they are said: the callback may hold lines, too. The
 * failure that the caller is about to return is not replaced by one of the callback's.
 */
void log_release(void)
{
	unsigned int count = held.count;
	struct held_line lines[LINES_HELD];
	struct error_state error;

	if (--held.holds || !count)
		return;
	error_keep(&error);
	memcpy(lines, held.lines, sizeof(lines));
	held.count = 0;
	for (unsigned int i = 0; i < count && i < LINES_HELD; i++)
		line_put(lines[i].level, lines[i].text);
	if (count > LINES_HELD)
		dmaland_log(DMALAND_LOG_WARN, "%u more lines of this kind", count - LINES_HELD);
	error_put_back(&error);
}
