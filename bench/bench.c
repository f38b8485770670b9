/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- options ---- */

static void help_print(const char *program, const char *about)
{
	printf("usage: %s [--json] [--quick | --full] [--instructions] [--only PREFIX]\n\n%s\n\n"
	       "  --json          print one JSON object and nothing else\n"
	       "  --quick         fewer samples: a first impression\n"
	       "  --full          the largest sizes too, where that takes minutes\n"
	       "  --instructions  count instructions too (valgrind must be installed)\n"
	       "  --only PREFIX   only the rows of the JSON whose names begin so\n",
	       program, about);
}

int bench_options_read(struct bench_options *options, int argc, char **argv, const char *about)
{
	static const struct option known[] = {{"json", no_argument, NULL, 'j'},
					      {"quick", no_argument, NULL, 'q'},
					      {"instructions", no_argument, NULL, 'i'},
					      {"only", required_argument, NULL, 'o'},
					      {"full", no_argument, NULL, 'f'},
					      {"help", no_argument, NULL, 'h'},
					      {NULL, 0, NULL, 0}};
	int c;

	memset(options, 0, sizeof(*options));
	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 'j':
			options->json = true;
			break;
		case 'q':
			options->quick = true;
			break;
		case 'f':
			options->full = true;
			break;
		case 'i':
			options->instructions = true;
			break;
		case 'o':
			options->only = optarg;
			break;
		case 'h':
			help_print(argv[0], about);
			return 0;
		default:
			return 2;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "%s: '%s' is not an option; --help names them\n", argv[0],
			argv[optind]);
		return 2;
	}
	return -1;
}

bool bench_wants(const struct bench_options *options, const char *format, ...)
{
	char name[128];
	va_list ap;

	if (!options->only)
		return true;
	va_start(ap, format);
	vsnprintf(name, sizeof(name), format, ap);
	va_end(ap);
	return strncmp(name, options->only, strlen(options->only)) == 0;
}

/* ---- medians ---- */

static int double_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double bench_median(const double *samples, size_t n)
{
	double sorted[BENCH_SAMPLES_MAX];

	if (n == 0)
		return NAN;
	memcpy(sorted, samples, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), double_compare);
	return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

double bench_median_ratio(const double *a, const double *b, size_t n)
{
	double ratios[BENCH_SAMPLES_MAX];

	for (size_t i = 0; i < n; i++)
		ratios[i] = a[i] / b[i];
	return bench_median(ratios, n);
}

/* ---- CPUs ---- */

size_t bench_cpus(int *cpus, size_t max)
{
	cpu_set_t allowed;
	size_t n = 0;

	if (sched_getaffinity(0, sizeof(allowed), &allowed)) {
		cpus[0] = 0;
		return 1;
	}
	for (int cpu = 0; cpu < CPU_SETSIZE && n < max; cpu++)
		if (CPU_ISSET(cpu, &allowed))
			cpus[n++] = cpu;
	return n;
}

void bench_pin(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
}

/* ---- running oneself ---- */

/* Read to the end, keeping what fits: a writer must never wait for us. */
static void output_read(int fd, char *output, size_t size)
{
	char rest[512];
	size_t kept = 0;

	for (;;) {
		bool full = kept == size - 1;
		ssize_t n = full ? read(fd, rest, sizeof(rest))
				 : read(fd, output + kept, size - 1 - kept);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		if (!full)
			kept += (size_t)n;
	}
	output[kept] = '\0';
}

static size_t arguments_append(const char **argv, size_t argc, size_t max, const char *const *more)
{
	while (more && *more && argc < max)
		argv[argc++] = *more++;
	return argc;
}

int bench_run_self(const char *const *before, const char *const *arguments, char *output,
		   size_t size)
{
	posix_spawn_file_actions_t actions;
	const char *argv[32], *self[2] = {NULL, NULL};
	char program[4096];
	int fds[2], err, status;
	size_t argc;
	ssize_t n;
	pid_t pid;

	n = readlink("/proc/self/exe", program, sizeof(program) - 1);
	if (n < 0 || pipe(fds))
		return -1;
	program[n] = '\0';
	self[0] = program;
	argc = arguments_append(argv, 0, 31, before);
	argc = arguments_append(argv, argc, 31, self);
	argc = arguments_append(argv, argc, 31, arguments);
	argv[argc] = NULL;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDERR_FILENO);
	posix_spawn_file_actions_addclose(&actions, fds[0]);
	posix_spawn_file_actions_addclose(&actions, fds[1]);
	err = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	if (!err)
		output_read(fds[0], output, size);
	close(fds[0]);
	if (err) {
		errno = err;
		return -1;
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

void bench_fail(const char *format, ...)
{
	va_list ap;

	fputs("bench: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	_exit(1);
}
