/* SPDX-License-Identifier: MIT */
#include "test.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char text[65536];

static void capture(void *context, enum dmaland_log_level level, const char *line)
{
	size_t used;

	(void)context;
	(void)level;
	pthread_mutex_lock(&lock);
	used = strlen(text);
	snprintf(text + used, sizeof(text) - used, "%s\n", line);
	pthread_mutex_unlock(&lock);
}

void log_capture(void)
{
	log_clear();
	dmaland_set_log(capture, NULL);
}

void log_clear(void)
{
	text[0] = '\0';
}

const char *log_text(void)
{
	return text;
}

size_t log_lines(void)
{
	size_t n = 0;

	for (const char *c = text; *c; c++)
		n += *c == '\n';
	return n;
}

int only_child(void)
{
	char path[300];
	int pid = 0;
	struct dirent *entry;
	DIR *tasks = opendir("/proc/self/task");

	assert_non_null(tasks);
	while ((entry = readdir(tasks))) {
		int child;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/children", entry->d_name);
		f = entry->d_name[0] == '.' ? NULL : fopen(path, "r");
		if (f && fscanf(f, "%d", &child) == 1)
			pid = child;
		if (f)
			fclose(f);
	}
	closedir(tasks);
	return pid;
}

static struct sigaction bus_errors;

void bus_errors_note(void)
{
	sigaction(SIGBUS, NULL, &bus_errors);
}

void bus_errors_to_library(void)
{
	sigaction(SIGBUS, &bus_errors, NULL);
}
