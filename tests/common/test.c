/* SPDX-License-Identifier: MIT */
#include "test.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

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
	pthread_mutex_lock(&lock);
	text[0] = '\0';
	pthread_mutex_unlock(&lock);
}

const char *log_text(void)
{
	return text;
}

size_t log_lines(void)
{
	size_t n = 0;

	pthread_mutex_lock(&lock);
	for (const char *c = text; *c; c++)
		n += *c == '\n';
	pthread_mutex_unlock(&lock);
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

unsigned int patience(unsigned int amount)
{
	const char *set = getenv("DMALAND_PATIENCE");
	unsigned int times = set ? (unsigned int)atoi(set) : 1;

	return amount * (times ? times : 1);
}

uint64_t memory_available(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[128];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) && sscanf(line, "MemAvailable: %llu", &kib) != 1)
		;
	fclose(f);
	return kib << 10;
}

void need_memory(uint64_t bytes)
{
	const uint64_t margin = 32 << 20;

	if (memory_available() >= bytes + margin)
		return;
	print_message("# wants %llu MiB; %llu MiB are available, and more cannot be had here\n",
		      (unsigned long long)(bytes + margin) >> 20,
		      (unsigned long long)memory_available() >> 20);
	skip();
}

void need_last_destructors(void)
{
#ifdef __SANITIZE_THREAD__
	print_message("# of a thread's last destructors, a report cannot be had here\n");
	skip();
#endif
}

/* Formatted beforehand: the handler may interrupt malloc(). */
static char bark[96], watched[16];

#ifndef __SANITIZE_THREAD__
static void bite(int number)
{
	pid_t gdb;

	if (write(STDERR_FILENO, bark, strlen(bark)) > 0 && (gdb = _Fork()) >= 0) {
		if (gdb == 0) {
			alarm(patience(60));
			dup2(STDERR_FILENO, STDOUT_FILENO);
			execlp("gdb", "gdb", "-p", watched, "-batch", "-nx", "-iex",
			       "set debuginfod enabled off", "-ex", "thread apply all backtrace 30",
			       NULL);
			_exit(127);
		}
		waitpid(gdb, NULL, 0);
	}
	_exit(128 + number);
}
#endif

void watchdog(unsigned int seconds)
{
	snprintf(watched, sizeof(watched), "%d", (int)getpid());
	snprintf(bark, sizeof(bark),
		 "process %d hangs: its watchdog ends it after %u s (DMALAND_PATIENCE=%u)\n",
		 (int)getpid(), patience(seconds), patience(1));
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
#ifdef __SANITIZE_THREAD__
	signal(SIGALRM, SIG_DFL);
#else
	signal(SIGALRM, bite);
#endif
	alarm(patience(seconds));
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
