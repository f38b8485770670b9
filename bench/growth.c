/* SPDX-License-Identifier: MIT */
/*
 * growth.c - does the cost of a call grow with what there is?
 *
 * Each row is one step beside 10^2 to 10^6 of something (growth.h). Rows of the JSON:
 *
 *   instructions.ROW.N   a step's, counted by callgrind
 *   ns.ROW.N             the same in time: caches have their say
 *   growth.ROW           the most instructions over those at the row's first size
 */
#include "growth.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "callgrind.h"
#include "report.h"

#define STEPS_COUNTED 200
#define STEPS_TIMED   20000
#define NS_MAX	      500e6 /* what takes longer is done less often, at least once */
#define SIZE_MIN      100
#define SIZES_MAX     5

static const struct {
	const struct growth_row *rows;
	const size_t *count;
} topics[] = {
	{growth_arena_rows, &growth_arena_count},
	{growth_pool_rows, &growth_pool_count},
	{growth_streaming_rows, &growth_streaming_count},
	{growth_registered_rows, &growth_registered_count},
};

/* ---- the process that is counted ---- */

/* As many again each time, up to n or until it has taken long: how many. Callgrind counts in here. */
static unsigned int steps_run(const struct growth_row *row, void *state, unsigned int n, double *ns)
{
	double start = bench_now();
	unsigned int done = 0;

	do {
		unsigned int some = done == 0 ? 1 : done;

		some = n - done < some ? n - done : some;
		callgrind_begin();
		for (unsigned int i = 0; i < some; i++)
			row->step(state);
		callgrind_end();
		done += some;
		*ns = bench_now() - start;
	} while (done < n && *ns < NS_MAX);
	return done;
}

static const struct growth_row *row_find(const char *name)
{
	for (size_t t = 0; t < sizeof(topics) / sizeof(topics[0]); t++)
		for (size_t i = 0; i < *topics[t].count; i++)
			if (strcmp(topics[t].rows[i].name, name) == 0)
				return &topics[t].rows[i];
	return NULL;
}

static int probe_answer(int argc, char **argv)
{
	const struct growth_row *row;
	size_t n, amount;
	double pairs, ns;
	void *state;

	if (argc != 5 || strcmp(argv[1], "--probe") != 0)
		return -1;
	row = row_find(argv[2]);
	if (!row)
		return 2;
	n = strtoul(argv[3], NULL, 10);
	amount = row->amount == GROWTH_EACH ? n : row->amount ? row->amount : 1;
	state = row->begin(n);
	row->step(state); /* what only the first one does */
	pairs = steps_run(row, state, (unsigned int)strtoul(argv[4], NULL, 10), &ns);
	pairs *= (double)amount;
	printf("pairs: %.0f\nns: %.3f\n", pairs, ns / pairs);
	fflush(stdout);
	if (!row->end)
		_exit(0);
	row->end(state);
	return 0;
}

/* ---- the process that asks ---- */

static double ns_of(const struct growth_row *row, const char *n)
{
	char answer[1024], steps[16];
	const char *arguments[] = {"--probe", row->name, n, steps, NULL};

	snprintf(steps, sizeof(steps), "%u", STEPS_TIMED);
	if (bench_run_self(NULL, arguments, answer, sizeof(answer)))
		bench_fail("%s of %s failed:\n%s", row->name, n, answer);
	return answer_number(answer, "ns:");
}

static double instructions_of(const struct growth_row *row, const char *n)
{
	char steps[16];
	const char *arguments[] = {"--probe", row->name, n, steps, NULL};
	double count, pairs;

	snprintf(steps, sizeof(steps), "%u", STEPS_COUNTED);
	count = callgrind_run_part(arguments, &pairs);
	if (isnan(count))
		bench_fail("cannot run valgrind (%s): install it", strerror(errno));
	return count / pairs;
}

static void row_measure(struct report *report, const struct bench_options *options,
			const struct table *table, const struct growth_row *row)
{
	char cells[SIZES_MAX + 2][24] = {{0}};
	const char *shown[SIZES_MAX + 2];
	double first = NAN, most = 0, ns_first = NAN, ns = NAN;
	size_t i = 0;

	for (size_t n = SIZE_MIN; n <= row->max && n <= (options->quick ? 10000 : 1000000);
	     n *= 10, i++) {
		char text[24];
		double count;

		if (n < row->min)
			continue;

		snprintf(text, sizeof(text), "%zu", n);
		count = instructions_of(row, text);
		ns = ns_of(row, text);
		first = isnan(first) ? count : first;
		ns_first = isnan(ns_first) ? ns : ns_first;
		most = count > most ? count : most;
		report_add(report, count, "instructions", "instructions.%s.%zu", row->name, n);
		report_add(report, ns, "ns", "ns.%s.%zu", row->name, n);
		snprintf(cells[i], sizeof(cells[0]), "%.0f", count);
	}
	report_add(report, most / first, "x", "growth.%s", row->name);
	snprintf(cells[SIZES_MAX], sizeof(cells[0]), "%.2f", most / first);
	snprintf(cells[SIZES_MAX + 1], sizeof(cells[0]), "%.0f - %.0f", ns_first, ns);
	for (size_t c = 0; c < SIZES_MAX + 2; c++)
		shown[c] = cells[c][0] ? cells[c] : NULL;
	if (!options->json)
		table_row(table, row->what, shown);
}

int main(int argc, char **argv)
{
	static const char *const headings[] = {"10^2", "10^3", "10^4", "10^5", "10^6", "x", "ns"};
	static struct report report = {.bench = "growth"};
	struct bench_options options;
	struct table table;
	int status = probe_answer(argc, argv);

	if (status >= 0)
		return status;
	status = bench_options_read(&options, argc, argv,
				    "Instructions of a call by how much there is; wants valgrind.");
	if (status >= 0)
		return status;
	if (!options.json)
		table_begin(&table, "instructions a step, smaller is better", headings,
			    SIZES_MAX + 2);
	for (size_t t = 0; t < sizeof(topics) / sizeof(topics[0]); t++)
		for (size_t i = 0; i < *topics[t].count; i++) {
			const struct growth_row *row = &topics[t].rows[i];

			if (bench_wants(&options, "growth.%s", row->name))
				row_measure(&report, &options, &table, row);
		}
	if (!report_is_json(&report, &options))
		report_print_machine();
	return 0;
}
