/* SPDX-License-Identifier: MIT */
/*
 * progress.c - how far a transfer has come, as one line on a terminal
 *
 *   reading  [##########----------]  50 %  32 MiB of 64 MiB  812.4 MiB/s  1 s left
 *
 * It is drawn over itself, a few times a second, with blanks over what is left of a longer one: so
 * any terminal will do. The rate is that of the whole transfer until now.
 */
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "command.h"

enum { BAR = 30, COLUMNS_DEFAULT = 80, LINE = 160 };

static const double interval = 0.2; /* seconds from one drawing to the next */

/* @verb: NULL: nothing to show; @drawn: columns that the line takes */
static struct {
	const char *verb;
	uint64_t bytes;
	double begin, last;
	int drawn;
} progress;

bool progress_is_watched(void)
{
	return isatty(STDERR_FILENO);
}

static int columns_count(void)
{
	struct winsize size;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col
									   : COLUMNS_DEFAULT;
}

static void bar_fill(char *bar, double part)
{
	memset(bar, '-', BAR);
	memset(bar, '#', (size_t)(part * BAR));
	bar[BAR] = '\0';
}

static void line_make(char *line, size_t size, uint64_t done, double seconds)
{
	double part, rate = seconds > 0 ? (double)done / seconds : 0;
	char bar[BAR + 1];

	if (!progress.bytes) {
		snprintf(line, size, "%s  %s  %s", progress.verb, size_text(done).text,
			 rate_text(done, seconds).text);
		return;
	}
	part = (double)done / (double)progress.bytes;
	bar_fill(bar, part < 1 ? part : 1);
	if (rate > 0)
		snprintf(line, size, "%s  [%s]  %.0f %%  %s of %s  %s  %.0f s left", progress.verb,
			 bar, part * 100, size_text(done).text, size_text(progress.bytes).text,
			 rate_text(done, seconds).text, (double)(progress.bytes - done) / rate);
	else
		snprintf(line, size, "%s  [%s]  %.0f %%", progress.verb, bar, part * 100);
}

static void draw(uint64_t done, double now)
{
	char line[LINE];
	int columns = columns_count() - 1, length; /* the last column would begin a new line */

	line_make(line, sizeof(line), done, now - progress.begin);
	length = (int)strlen(line) < columns ? (int)strlen(line) : columns;
	fprintf(stderr, "\r%.*s%*s", length, line,
		progress.drawn > length ? progress.drawn - length : 0, "");
	progress.drawn = length;
	progress.last = now;
}

void progress_begin(const char *verb, uint64_t bytes)
{
	if (!progress_is_watched())
		return;
	progress.verb = verb;
	progress.bytes = bytes;
	progress.begin = seconds_now();
	draw(0, progress.begin);
}

void progress_update(uint64_t done)
{
	double now;

	if (!progress.verb)
		return;
	now = seconds_now();
	if (now - progress.last >= interval)
		draw(done, now);
}

void progress_hide(void)
{
	if (progress.drawn)
		fprintf(stderr, "\r%*s\r", progress.drawn, "");
	progress.drawn = 0;
}

void progress_end(void)
{
	progress_hide();
	progress.verb = NULL;
}
