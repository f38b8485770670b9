/* SPDX-License-Identifier: MIT */
/*
 * log.c - messages to the application's callback, or stderr
 *
 * The callback may call the library. So who holds a lock keeps his lines back until it is released:
 * a few for each thread, in buffers that all threads share, since there may be no memory to be had.
 * A thread has only their numbers: what it has of its own is to stay small (error.c).
 *
 * Threads may have small stacks: no line is copied there, and stdio formats nothing for stderr, for which glibc
 * has 8 KiB on the stack.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/mutex.h"
#include "base/text.h"

#define FRAME "dmaland: "

/* A line has room for what stands around it on stderr: the frame before, a newline behind. */
enum {
	LINE_SIZE = 512,
	TEXT_AT = sizeof(FRAME) - 1,
	LINE_ROOM = TEXT_AT + LINE_SIZE + 1,
	LINES_HELD = 4,
	LINES_SHARED = 32
};

static struct {
	void (*log)(void *context, enum dmaland_log_level level, const char *line);
	void *context;
} sink;

struct held_line {
	enum dmaland_log_level level;
	char line[LINE_ROOM];
};

static struct {
	uint32_t taken; /* a bit a line */
	struct held_line lines[LINES_SHARED];
} shared;

static _Thread_local struct {
	uint16_t holds;
	uint16_t
		count; /* of lines since the first hold, up to 65535; those that are not kept are lost */
	uint8_t kept;
	uint8_t lines[LINES_HELD]; /* which of the shared ones */
} held;

void dmaland_set_log(void (*log)(void *context, enum dmaland_log_level level, const char *line),
		     void *context)
{
	sink.log = log;
	sink.context = context;
}

/*
 * Said in the middle of a call, which is to come to its end though the thread is cancelled. The line and its
 * frame are one piece for stderr, so that lines of several threads do not mix.
 */
static void line_put(enum dmaland_log_level level, char line[LINE_ROOM])
{
	cancel_hold();
	if (sink.log) {
		sink.log(sink.context, level, line + TEXT_AT);
	} else if (level != DMALAND_LOG_INFO) {
		memcpy(line, FRAME, TEXT_AT);
		strcat(line, "\n");
		fputs(line, stderr);
	}
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

static void line_keep(enum dmaland_log_level level, const char text[LINE_ROOM])
{
	unsigned int line;

	if (held.count < UINT16_MAX)
		held.count++;
	if (held.kept == LINES_HELD || !line_take(&line))
		return;
	shared.lines[line].level = level;
	memcpy(shared.lines[line].line, text, LINE_ROOM);
	held.lines[held.kept++] = (uint8_t)line;
}

void dmaland_log(enum dmaland_log_level level, const char *format, ...)
{
	char line[LINE_ROOM];
	va_list args;

	va_start(args, format);
	vsnprintf(line + TEXT_AT, LINE_SIZE, format, args);
	va_end(args);
	text_clean(line + TEXT_AT);
	if (held.holds)
		line_keep(level, line);
	else
		line_put(level, line);
}

void log_hold(void)
{
	held.holds++;
}

/*
 * They are no more this thread's before they are said: the callback may hold lines, too. The failure that
 * the caller is about to return is not replaced by one of the callback's.
 */
void log_release(void)
{
	unsigned int count = held.count, kept = held.kept;
	uint8_t lines[LINES_HELD];
	struct error_state error;

	if (--held.holds || !count)
		return;
	error_keep(&error);
	memcpy(lines, held.lines, sizeof(lines));
	held.count = held.kept = 0;
	for (unsigned int i = 0; i < kept; i++) {
		struct held_line *line = &shared.lines[lines[i]];

		line_put(line->level, line->line);
		__atomic_fetch_and(&shared.taken, ~(UINT32_C(1) << lines[i]), __ATOMIC_RELEASE);
	}
	if (count > kept)
		dmaland_log(DMALAND_LOG_WARN, "%u more lines of this kind", count - kept);
	error_put_back(&error);
}
