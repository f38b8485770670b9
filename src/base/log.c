/* SPDX-License-Identifier: MIT */
/*
 * log.c - messages to the application's callback, or stderr
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

static struct {
	void (*log)(void *context, enum dmaland_log_level level, const char *line);
	void *context;
} sink;

void dmaland_set_log(void (*log)(void *context, enum dmaland_log_level level, const char *line),
		     void *context)
{
	sink.log = log;
	sink.context = context;
}

void dmaland_log(enum dmaland_log_level level, const char *format, ...)
{
	char line[512];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (sink.log)
		sink.log(sink.context, level, line);
	else if (level != DMALAND_LOG_INFO)
		fprintf(stderr, "dmaland: %s\n", line);
}
