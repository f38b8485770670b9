/* SPDX-License-Identifier: MIT */
/*
 * bench-latency: what a call of dma_pool waits for, and what those who come late wait longer
 *
 * Rows of the JSON, each with these behind its name: .without and .with, what is named; .above, what is
 * more (us) or times as much (x); and of the first four .most, the worst sample with it.
 *
 *   trim.ORDER.N        the slowest call of a SCHED_FIFO thread in us, while another CPU trims N free
 *                       blocks of the pool; ORDER in which they came back: order, random
 *   grow.N              while another CPU takes N blocks of a pool that has none
 *   same_cpu            while an ordinary thread has that CPU in turn and uses the pool
 *   threads.atomic.N    CPU time of a pair in ns: N threads with GFP_ATOMIC alone, against GFP_KERNEL
 *   threads.free.N      of a free: N threads that only free, against those that once allocated
 *   threads.WHAT.N.keys the program has 100 thread-specific keys already
 *   pools.N             ns of a pair: in the Nth pool of a process, against the first
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "latency_probe.h"
#include "realtime.h"
#include "report.h"

#define SAMPLES	      9u
#define SAMPLES_QUICK 3u
#define SECONDS	      2.0
#define SECONDS_QUICK 0.5
#define ROWS_MAX      64
#define COLUMNS	      4
#define POOLS	      1000

static const char *const columns[COLUMNS] = {"without", "with", "above", "most"};

/* A line of the table. */
struct latency_row {
	char name[40], what[64];
	const char *unit;
	bool is_ratio; /* above is */
	double values[COLUMNS];
};

struct latency_bench {
	struct bench_options options;
	struct report report;
	struct latency_row rows[ROWS_MAX];
	size_t count;
	int cpus[2];
	size_t cpu_count;
	bool allowed, bounded; /* SCHED_FIFO */
};

/* ---- rows ---- */

static bool row_wanted(const struct latency_bench *b, const char *name)
{
	for (size_t i = 0; i < COLUMNS; i++)
		if (bench_wants(&b->options, "%s.%s", name, columns[i]))
			return true;
	return false;
}

static void row_add(struct latency_bench *b, const struct latency_row *row)
{
	if (b->count == ROWS_MAX)
		bench_fail("more than %d rows: raise ROWS_MAX", ROWS_MAX);
	b->rows[b->count++] = *row;
	for (size_t i = 0; i < COLUMNS; i++) {
		const char *unit = row->is_ratio && i == 2 ? "x" : row->unit;

		if (bench_wants(&b->options, "%s.%s", row->name, columns[i]))
			report_add(&b->report, row->values[i], unit, "%s.%s", row->name,
				   columns[i]);
	}
}

static void pair_add(struct latency_bench *b, struct latency_row *row,
		     const struct latency_pair *pair)
{
	row->unit = "ns";
	row->is_ratio = true;
	row->values[0] = pair->usual;
	row->values[1] = pair->here;
	row->values[2] = pair->ratio;
	row->values[3] = NAN;
	row_add(b, row);
}

static void worst_add(struct latency_bench *b, struct latency_row *row,
		      const struct realtime_worst *worst, size_t n)
{
	double alone[SAMPLES], beside[SAMPLES], above[SAMPLES], most = 0;

	for (size_t i = 0; i < n; i++) {
		alone[i] = worst[i].alone / 1000;
		beside[i] = worst[i].beside / 1000;
		above[i] = beside[i] - alone[i];
		most = fmax(most, beside[i]);
	}
	row->unit = "us";
	row->is_ratio = false;
	row->values[0] = bench_median(alone, n);
	row->values[1] = bench_median(beside, n);
	row->values[2] = bench_median(above, n);
	row->values[3] = most;
	row_add(b, row);
}

/* ---- measuring ---- */

static size_t samples_of(const struct latency_bench *b)
{
	return b->options.quick ? SAMPLES_QUICK : SAMPLES;
}

static void threads_measure(struct latency_bench *b, unsigned int n, bool keys)
{
	const char *plural = n == 1 ? "" : "s", *end = keys ? ", keys" : "";
	struct latency_row row;
	struct latency_pair pair;

	snprintf(row.name, sizeof(row.name), "threads.atomic.%u%s", n, keys ? ".keys" : "");
	snprintf(row.what, sizeof(row.what), "GFP_ATOMIC, %u thread%s%s, ns", n, plural, end);
	if (row_wanted(b, row.name)) {
		pair = latency_atomic_threads(n, keys, b->options.quick);
		pair_add(b, &row, &pair);
	}
	snprintf(row.name, sizeof(row.name), "threads.free.%u%s", n, keys ? ".keys" : "");
	snprintf(row.what, sizeof(row.what), "only free, %u thread%s%s, ns", n, plural, end);
	if (row_wanted(b, row.name)) {
		pair = latency_freeing_threads(n, keys, b->options.quick);
		pair_add(b, &row, &pair);
	}
}

static void pools_measure(struct latency_bench *b, unsigned int n)
{
	struct latency_row row;
	struct latency_pair pair;

	snprintf(row.name, sizeof(row.name), "pools.%u", n);
	snprintf(row.what, sizeof(row.what), "pool %u of a process, ns", n);
	if (!row_wanted(b, row.name))
		return;
	pair = latency_pools(n, b->options.quick);
	pair_add(b, &row, &pair);
}

static void case_measure(struct latency_bench *b, const struct realtime_case *c)
{
	struct realtime_worst worst[SAMPLES];
	struct latency_row row;
	int zeroes = (int)lround(log10((double)c->n));

	if (c->work == REALTIME_GROW) {
		snprintf(row.name, sizeof(row.name), "grow.%zu", c->n);
		snprintf(row.what, sizeof(row.what), "grow by 10^%d blocks, us", zeroes);
	} else {
		snprintf(row.name, sizeof(row.name), "trim.%s.%zu", c->random ? "random" : "order",
			 c->n);
		snprintf(row.what, sizeof(row.what), "trim 10^%d, %s, us", zeroes,
			 c->random ? "back at random" : "back in order");
	}
	if (!row_wanted(b, row.name))
		return;
	for (size_t i = 0; i < samples_of(b); i++)
		worst[i] = realtime_sample(c, b->cpus[0], b->cpus[1]);
	worst_add(b, &row, worst, samples_of(b));
}

static void cases_measure(struct latency_bench *b)
{
	static const size_t sizes[] = {1000, 100000, 1000000, 10000000};
	size_t n = b->options.full ? 4 : b->options.quick ? 2 : 3;

	for (int kind = 0; kind < 3; kind++)
		for (size_t i = 0; i < n; i++) {
			const struct realtime_case c = {
				.work = kind == 2 ? REALTIME_GROW : REALTIME_TRIM,
				.n = sizes[i],
				.random = kind == 1,
			};

			case_measure(b, &c);
		}
}

static void same_cpu_measure(struct latency_bench *b)
{
	struct realtime_worst worst[SAMPLES];
	size_t samples = samples_of(b) / 2 + 1; /* each takes seconds */
	struct latency_row row = {.name = "same_cpu", .what = "an ordinary thread's CPU, us"};

	if (!row_wanted(b, row.name))
		return;
	for (size_t i = 0; i < samples; i++)
		worst[i] = realtime_on_one_cpu(b->cpus[b->cpu_count - 1],
					       b->options.quick ? SECONDS_QUICK : SECONDS);
	worst_add(b, &row, worst, samples);
}

/* Where a program reads the rows, or there are none, it must be told elsewhere. */
static void left_out_print(const struct latency_bench *b, FILE *f)
{
	if (!b->allowed)
		fputs("left out: SCHED_FIFO threads (refused: that wants root, CAP_SYS_NICE or "
		      "ulimit -r)\n",
		      f);
	if (b->allowed && b->cpu_count < 2)
		fputs("left out: two threads on a CPU each (there is one CPU)\n", f);
	if (b->allowed && !b->bounded)
		fputs("left out: two threads on one CPU (sched_rt_runtime_us is -1: one that spun "
		      "would do so for ever)\n",
		      f);
}

static void measure(void *state)
{
	static const unsigned int threads[] = {1, 2, 8};
	struct latency_bench *b = state;

	b->cpu_count = bench_cpus(b->cpus, 2);
	b->allowed = realtime_allowed();
	b->bounded = realtime_is_bounded();
	if (b->allowed && b->cpu_count == 2)
		cases_measure(b);
	if (b->allowed && b->bounded)
		same_cpu_measure(b);
	for (int keys = 0; keys < 2; keys++)
		for (size_t i = 0; i < sizeof(threads) / sizeof(threads[0]); i++)
			threads_measure(b, threads[i], keys);
	pools_measure(b, POOLS);
	if (b->options.json || b->count == 0)
		left_out_print(b, stderr);
}

/* ---- the table ---- */

static void notes_print(const struct latency_bench *b)
{
	putchar('\n');
	puts("trim, grow: the slowest call of a SCHED_FIFO thread (GFP_ATOMIC) while another CPU\n"
	     "  does that to its pool; without: while nobody does\n"
	     "an ordinary thread's CPU: the two take turns on it; without: each with its own pool\n"
	     "threads: CPU time of a pair, or a free; without: with GFP_KERNEL, or once it was\n"
	     "  used; keys: after 100 of pthread_key_create()\n"
	     "most: the worst of all samples");
	left_out_print(b, stdout);
}

static void table_print(const void *state)
{
	const struct latency_bench *b = state;
	struct table table;

	report_print_machine();
	putchar('\n');
	table_begin(&table, "smaller is better, medians", columns, COLUMNS);
	for (size_t i = 0; i < b->count; i++) {
		const struct latency_row *row = &b->rows[i];
		char text[COLUMNS][24];
		const char *cells[COLUMNS];

		for (size_t c = 0; c < COLUMNS; c++) {
			snprintf(text[c], sizeof(text[c]),
				 row->is_ratio && c == 2 ? "%.2fx" : "%.1f", row->values[c]);
			cells[c] = isnan(row->values[c]) ? NULL : text[c];
		}
		table_row(&table, row->what, cells);
	}
	notes_print(b);
}

int main(int argc, char **argv)
{
	static struct latency_bench b;
	static const struct benchmark benchmark = {
		.name = "latency",
		.about = "Measures what calls of dma_pool wait for.",
		.answer = latency_probe_answer,
		.measure = measure,
		.print = table_print,
		.state = &b,
		.options = &b.options,
		.report = &b.report,
	};

	return benchmark_run(&benchmark, argc, argv);
}
