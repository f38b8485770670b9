/* SPDX-License-Identifier: MIT */
/*
 * log.c - messages to the application's callback, or stderr
 *
 * The callback may call the library. So who holds a lock keeps his lines back until it is released:
 * a few for each thread, in buffers that all threads share, since there may be no memory to be had.
 * A thread has only their numbers: what it has of its own is to stay small, or programs can't dlopen()
 * the library (glibc keeps 1664 bytes a thread for all libraries that come so).
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/mutex.h"
#include "base/text.h"

enum { LINE_SIZE = 512, LINES_HELD = 4, LINES_SHARED = 32 };

static struct {
	void (*log)(void *context, enum dmaland_log_level level, const char *line);
	void *context;
} sink;

struct held_line {
	enum dmaland_log_level level;
	char text[LINE_SIZE];
};

static struct {
	uint32_t taken; /* a bit a line */
	struct held_line lines[LINES_SHARED];
} shared;

static _Thread_local struct {
	unsigned int holds;
	unsigned int count; /* of lines since the first hold; those that are not kept are lost */
	unsigned int kept;
	uint8_t lines[LINES_HELD]; /* which of the shared ones */
} held;

void dmaland_set_log(void (*log)(void *context, enum dmaland_log_level level, const char *line),
		     void *context)
{
	sink.log = log;
	sink.context = context;
}

/* In the middle of a call, which is to come to its end though the thread is cancelled. */
static void line_put(enum dmaland_log_level level, const char *line)
{
	cancel_hold();
	if (sink.log)
		sink.log(sink.context, level, line);
	else if (level != DMALAND_LOG_INFO)
		fprintf(stderr, "dmaland: %s\n", line);
	cancel_release();
}

/* A shared line; false when all are taken. */
static bool line_take(unsigned int *line)
{
	uint32_t taken = __atomic_load_n(&shared.taken, __ATOMIC_RELAXED);

	do {
		if (taken == UINT32_MAX)
			return false;
		*line = (unsigned int)__builtin_ctz(~taken);
	} while (!__atomic_compare_exchange_n(&shared.taken, &taken, taken | UINT32_C(1) << *line,
					      false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
	return true;
}

static void line_keep(enum dmaland_log_level level, const char *text)
{
	unsigned int line;

	held.count++;
	if (held.kept == LINES_HELD || !line_take(&line))
		return;
	shared.lines[line].level = level;
	memcpy(shared.lines[line].text, text, LINE_SIZE);
	held.lines[held.kept++] = (uint8_t)line;
}

void dmaland_log(enum dmaland_log_level level, const char *format, ...)
{
	char line[LINE_SIZE];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	text_clean(line);
	if (!held.holds) {
		line_put(level, line);
		return;
	}
	line_keep(level, line);
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
	unsigned int count = held.count, kept = held.kept;
	struct held_line lines[LINES_HELD];
	struct error_state error;

	if (--held.holds || !count)
		return;
	error_keep(&error);
	for (unsigned int i = 0; i < kept; i++) {
		lines[i] = shared.lines[held.lines[i]];
		__atomic_fetch_and(&shared.taken, ~(UINT32_C(1) << held.lines[i]),
				   __ATOMIC_RELEASE);
	}
	held.count = held.kept = 0;
	for (unsigned int i = 0; i < kept; i++)
		line_put(lines[i].level, lines[i].text);
	if (count > kept)
		dmaland_log(DMALAND_LOG_WARN, "%u more lines of this kind", count - kept);
	error_put_back(&error);
}
