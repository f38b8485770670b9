/* SPDX-License-Identifier: MIT */
/*
 * bench.h - what all benchmarks share: options, the clock, medians, CPUs, runs of oneself
 *
 * A benchmark measures its contestants in turns: one sample of each, then the next of each, so that
 * a machine that is busy for a while is busy for all of them. What is reported is the median of a
 * contestant's samples, and the median of the ratios inside the turns.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#define BENCH_SAMPLES_MAX 31

struct bench_options {
	bool json, quick, full, instructions;
	const char *only; /* the beginning of the names of the rows that are wanted; NULL: all */
};

/*
 * Read the options that all benchmarks have; about is a line for --help. Returns -1 to go on, or
 * the exit status of a program that has nothing more to do.
 */
int bench_options_read(struct bench_options *options, int argc, char **argv, const char *about);

/* Is a row with this name wanted? */
bool bench_wants(const struct bench_options *options, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Nanoseconds of a clock that never jumps. */
static inline double bench_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* For loops that wait for another CPU. */
static inline void bench_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
}

/* Of up to BENCH_SAMPLES_MAX samples; NAN of none. */
double bench_median(const double *samples, size_t n);

/* The median of a[i] / b[i]. */
double bench_median_ratio(const double *a, const double *b, size_t n);

/* The CPUs that this process may use, ascending, up to max; how many they are. */
size_t bench_cpus(int *cpus, size_t max);

/* The calling thread stays on this CPU. Where that is refused it wanders: noise, not an error. */
void bench_pin(int cpu);

/*
 * Run this program again, with a fresh heap, and keep the first size - 1 bytes of what it says on
 * stdout and stderr. before is put in front of the program's name ("valgrind", ...), arguments
 * behind it; both end with NULL. The exit status, or -1 with errno when it could not be run.
 */
int bench_run_self(const char *const *before, const char *const *arguments, char *output,
		   size_t size);

/*
 * Stop with a sentence: a benchmark that can't do its work has nothing to report. It goes on
 * neither here nor in the threads that it started.
 */
_Noreturn void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
