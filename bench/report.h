/* SPDX-License-Identifier: MIT */
/*
 * report.h - what a benchmark found: rows for programs (JSON), tables for people
 *
 *   {"bench": "pool", "machine": {...}, "rows": [{"name": "vs_kernel.1thread.64", ...}, ...]}
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stddef.h>

#include "bench.h"

#define REPORT_ROWS_MAX 512

struct report {
	const char *bench;
	size_t count;
	struct report_row {
		char name[64];
		double value;
		const char *unit;
	} rows[REPORT_ROWS_MAX];
};

/* Add a row; a value that is not a number is left out: it was not measured. */
void report_add(struct report *report, double value, const char *unit, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/*
 * The rows and the machine as one JSON object on stdout, if that is asked for; false: it is not, and
 * tables are wanted. Stops with a sentence where none of the rows that are wanted was measured.
 */
bool report_is_json(const struct report *report, const struct bench_options *options);

/* The value of a row; NAN when it isn't there. */
double report_value(const struct report *report, const char *name);

/* A benchmark's program: what is measured is in *state, of which options and report are part. */
struct benchmark {
	const char *name, *about; /* a line for --help */
	/* The part that runs in a VM or a process of its own: its exit status, or -1: not asked. */
	int (*answer)(int argc, char **argv);
	void (*measure)(void *state);
	void (*print)(const void *state); /* tables */
	void *state;
	struct bench_options *options;
	struct report *report;
};

/* main() of all: the exit status. */
int benchmark_run(const struct benchmark *benchmark, int argc, char **argv);

/* One line on stdout: CPU, kernel, compiler. */
void report_print_machine(void);

#define TABLE_COLUMNS_MAX 8

/* A table on stdout: a wide first column, then right-aligned ones. */
struct table {
	size_t columns;
	int width[TABLE_COLUMNS_MAX];
};

/* Print the headings; empty ones have no column. */
void table_begin(struct table *table, const char *title, const char *const *headings,
		 size_t columns);

/* Print a row; a cell that is NULL shows "-". */
void table_row(const struct table *table, const char *title, const char *const *cells);

#endif
