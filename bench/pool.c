/* SPDX-License-Identifier: MIT */
/*
 * bench-pool: dma_pool against the kernel's algorithm, DPDK's rte_mempool, malloc and no lock at all
 *
 * Rows of the JSON (figures of the kernel's dmapool_test where no other workload is named):
 *
 *   vs_OPPONENT.WORKLOAD.SIZE   their time over ours: more is better
 *   ns.WHO.WORKLOAD.SIZE        nanoseconds per alloc+free pair and thread
 *   bulk32_vs_single.64         ours per block, 32 in one call over one by one: less is better
 *   flatness                    ours, the slowest power of two over 64 B: less is better
 *   scaling.2threads.64         ours per thread, two threads over one: less is better
 *   sharing.2threads.64         ours, two threads on one pool over the same on a pool each: what
 *                               the pool has to do with it, and not that a CPU is slower
 *   noise                       ours, 1thread.64: the slowest sample over the fastest; what lies far
 *                               above 1 is a machine that was busy with other things
 *   bookkeeping.percent.SIZE    beside the blocks' bytes
 *   instructions.pair.64        with --instructions; also kernel_pair, hot_pair and loop, which is
 *                               the part of the others that is the benchmark's own
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "pool_probe.h"
#include "report.h"
#include "workload.h"

#define SAMPLES	      15
#define SAMPLES_QUICK 3

/* In the order of the tables: first by size, then by what is done. */
static struct workload workloads[] = {
	{"1thread", "16 B", WORKLOAD_KERNEL_TEST, 1, 16, 16, 0},
	{"1thread", "64 B", WORKLOAD_KERNEL_TEST, 1, 64, 64, 0},
	{"1thread", "256 B", WORKLOAD_KERNEL_TEST, 1, 256, 256, 0},
	{"1thread", "1024 B", WORKLOAD_KERNEL_TEST, 1, 1024, 1024, 0},
	{"1thread", "4096 B", WORKLOAD_KERNEL_TEST, 1, 4096, 4096, 0},
	{"1thread", "68 B (align 32, boundary 4096)", WORKLOAD_KERNEL_TEST, 1, 68, 32, 4096},
	{"written", "dmapool_test, blocks written", WORKLOAD_WRITTEN, 1, 64, 64, 0},
	{"hot", "one block again and again", WORKLOAD_HOT, 1, 64, 64, 0},
	{"burst32", "32 blocks, then back", WORKLOAD_BURST, 1, 64, 64, 0},
	{"bulk32", "32 blocks in one call", WORKLOAD_BULK, 1, 64, 64, 0},
	{"random", "4,096 blocks, back at random", WORKLOAD_RANDOM, 1, 64, 64, 0},
	{"2threads", "dmapool_test on 2 threads", WORKLOAD_KERNEL_TEST, 2, 64, 64, 0},
	{"2apart", "the same, a pool for each", WORKLOAD_APART, 2, 64, 64, 0},
	{NULL, "dmapool_test on all CPUs", WORKLOAD_KERNEL_TEST, 0, 64, 64, 0},
	{"producer_consumer", "one allocates, another frees", WORKLOAD_PIPE, 2, 64, 64, 0},
};

#define WORKLOADS   (sizeof(workloads) / sizeof(workloads[0]))
#define BY_SIZE	    6 /* how many of them are the first table */
#define CONTESTANTS (ALLOCATOR_COUNT + 1)
#define NONE	    ALLOCATOR_COUNT /* the contestant that does nothing, for the ring's own cost */

struct pool_bench {
	struct bench_options options;
	struct workbench workbench;
	struct report report;
	bool dpdk;
	size_t samples;
	bool measured[WORKLOADS][CONTESTANTS];
	double ns[WORKLOADS][CONTESTANTS][BENCH_SAMPLES_MAX];
};

static const struct allocator *contestant(size_t i)
{
	return i == NONE ? &allocator_none : &allocators[i];
}

/* ---- what is to be measured ---- */

static const struct workload *workload_find(const char *row, size_t size)
{
	for (size_t i = 0; i < WORKLOADS; i++)
		if (workloads[i].row && strcmp(workloads[i].row, row) == 0 &&
		    workloads[i].size == size)
			return &workloads[i];
	return NULL;
}

/* The row that is a number of threads has its name from this machine; none up to two CPUs. */
static void workloads_name(size_t cpus)
{
	static char row[32];

	for (size_t i = 0; i < WORKLOADS; i++) {
		if (workloads[i].row || cpus <= 2)
			continue;
		snprintf(row, sizeof(row), "%zuthreads", cpus);
		workloads[i].row = row;
		workloads[i].threads = (unsigned int)cpus;
	}
}

/* Does a row that is computed from several of our figures need this one? */
static bool ours_needed(const struct bench_options *o, const struct workload *w)
{
	bool one = strcmp(w->row, "1thread") == 0;

	return (one && !w->boundary && bench_wants(o, "flatness")) ||
	       (one && w->size == 64 &&
		(bench_wants(o, "scaling.2threads.64") || bench_wants(o, "noise"))) ||
	       (strcmp(w->row, "2threads") == 0 &&
		(bench_wants(o, "scaling.2threads.64") || bench_wants(o, "sharing.2threads.64"))) ||
	       (w->kind == WORKLOAD_APART && bench_wants(o, "sharing.2threads.64")) ||
	       ((w->kind == WORKLOAD_BURST || w->kind == WORKLOAD_BULK) &&
		bench_wants(o, "bulk32_vs_single.64"));
}

static bool contestant_wanted(const struct pool_bench *b, const struct workload *w, size_t who)
{
	const struct bench_options *o = &b->options;

	if (!w->row || !workload_suits(w, contestant(who), &b->workbench))
		return false;
	if (who == NONE)
		return w->kind == WORKLOAD_PIPE &&
		       bench_wants(o, "ns.none.%s.%zu", w->row, w->size);
	if (bench_wants(o, "ns.%s.%s.%zu", contestant(who)->row, w->row, w->size))
		return true;
	if (who != ALLOCATOR_DMALAND)
		return bench_wants(o, "vs_%s.%s.%zu", contestant(who)->row, w->row, w->size);
	for (size_t i = 0; i < ALLOCATOR_COUNT; i++)
		if (i != who && workload_suits(w, contestant(i), &b->workbench) &&
		    bench_wants(o, "vs_%s.%s.%zu", contestant(i)->row, w->row, w->size))
			return true;
	return ours_needed(o, w);
}

static void measurements_choose(struct pool_bench *b)
{
	for (size_t w = 0; w < WORKLOADS; w++)
		for (size_t who = 0; who < CONTESTANTS; who++)
			b->measured[w][who] = contestant_wanted(b, &workloads[w], who);

	/* DPDK starts slowly: only for those who want its figures. */
	for (size_t w = 0; w < WORKLOADS; w++)
		b->dpdk |= b->measured[w][ALLOCATOR_DPDK];
#ifdef BENCH_DPDK
	if (b->dpdk && !dpdk_start(b->workbench.cpus[0]))
		b->dpdk = false;
#endif
	for (size_t w = 0; w < WORKLOADS && !b->dpdk; w++)
		b->measured[w][ALLOCATOR_DPDK] = false;
}

/* ---- measuring ---- */

/* One sample of everything, in one order and then in the other. Sweep 0 warms up and is dropped. */
static void sweep(struct pool_bench *b, size_t number)
{
	size_t sample = number ? number - 1 : 0;

	for (size_t w = 0; w < WORKLOADS; w++)
		for (size_t i = 0; i < CONTESTANTS; i++) {
			size_t who = number % 2 ? i : CONTESTANTS - 1 - i;

			if (b->measured[w][who])
				b->ns[w][who][sample] = workload_sample(
					&b->workbench, &workloads[w], contestant(who));
		}
}

static void samples_take(struct pool_bench *b)
{
	bool show = !b->options.json && isatty(STDERR_FILENO);

	b->samples = b->options.quick ? SAMPLES_QUICK : SAMPLES;
	for (size_t i = 0; i <= b->samples; i++) {
		if (show)
			fprintf(stderr, "\rmeasuring: %zu of %zu", i, b->samples);
		sweep(b, i);
	}
	if (show)
		fprintf(stderr, "\r%*s\r", 40, "");
}

static double time_of(const struct pool_bench *b, size_t w, size_t who)
{
	return b->measured[w][who] ? bench_median(b->ns[w][who], b->samples) : NAN;
}

static double ratio_of(const struct pool_bench *b, size_t w, size_t who)
{
	if (!b->measured[w][who] || !b->measured[w][ALLOCATOR_DMALAND])
		return NAN;
	return bench_median_ratio(b->ns[w][who], b->ns[w][ALLOCATOR_DMALAND], b->samples);
}

/* Ours in one workload over ours in another. */
static double ours_ratio(const struct pool_bench *b, const char *row, size_t size,
			 const char *base_row, size_t base_size)
{
	const struct workload *w = workload_find(row, size),
			      *base = workload_find(base_row, base_size);
	size_t i = (size_t)(w - workloads), j = (size_t)(base - workloads);

	if (!b->measured[i][ALLOCATOR_DMALAND] || !b->measured[j][ALLOCATOR_DMALAND])
		return NAN;
	return bench_median_ratio(b->ns[i][ALLOCATOR_DMALAND], b->ns[j][ALLOCATOR_DMALAND],
				  b->samples);
}

/* ---- rows ---- */

static void wanted_add(struct pool_bench *b, double value, const char *unit, const char *name)
{
	if (bench_wants(&b->options, "%s", name))
		report_add(&b->report, value, unit, "%s", name);
}

static void workload_rows_add(struct pool_bench *b, size_t w)
{
	char name[64];

	for (size_t who = 0; who < CONTESTANTS; who++) {
		if (!b->measured[w][who])
			continue;
		snprintf(name, sizeof(name), "ns.%s.%s.%zu", contestant(who)->row, workloads[w].row,
			 workloads[w].size);
		wanted_add(b, time_of(b, w, who), "ns", name);
		if (who == ALLOCATOR_DMALAND || who == NONE)
			continue;
		snprintf(name, sizeof(name), "vs_%s.%s.%zu", contestant(who)->row, workloads[w].row,
			 workloads[w].size);
		wanted_add(b, ratio_of(b, w, who), "x", name);
	}
}

static double flatness(const struct pool_bench *b)
{
	double worst = NAN;

	for (size_t w = 0; w < BY_SIZE; w++)
		if (!workloads[w].boundary)
			worst = fmax(worst,
				     ours_ratio(b, "1thread", workloads[w].size, "1thread", 64));
	return worst;
}

/* The slowest of our samples over the fastest. */
static double noise(const struct pool_bench *b)
{
	size_t w = (size_t)(workload_find("1thread", 64) - workloads);
	const double *ns = b->ns[w][ALLOCATOR_DMALAND];
	double fastest = ns[0], slowest = ns[0];

	if (!b->measured[w][ALLOCATOR_DMALAND])
		return NAN;
	for (size_t i = 1; i < b->samples; i++) {
		fastest = fmin(fastest, ns[i]);
		slowest = fmax(slowest, ns[i]);
	}
	return slowest / fastest;
}

static void instructions_add(struct pool_bench *b, const char *name, const char *allocator,
			     const char *workload)
{
	if (b->options.instructions && bench_wants(&b->options, "%s", name))
		wanted_add(b, probe_instructions(allocator, workload), "instructions", name);
}

static void rows_add(struct pool_bench *b)
{
	for (size_t w = 0; w < WORKLOADS; w++)
		workload_rows_add(b, w);
	wanted_add(b, ours_ratio(b, "bulk32", 64, "burst32", 64), "x", "bulk32_vs_single.64");
	wanted_add(b, flatness(b), "x", "flatness");
	wanted_add(b, ours_ratio(b, "2threads", 64, "1thread", 64), "x", "scaling.2threads.64");
	wanted_add(b, ours_ratio(b, "2threads", 64, "2apart", 64), "x", "sharing.2threads.64");
	wanted_add(b, noise(b), "x", "noise");
	if (bench_wants(&b->options, "bookkeeping.percent.64"))
		wanted_add(b, probe_bookkeeping(64), "%", "bookkeeping.percent.64");
	if (bench_wants(&b->options, "bookkeeping.percent.1024"))
		wanted_add(b, probe_bookkeeping(1024), "%", "bookkeeping.percent.1024");
	instructions_add(b, "instructions.pair.64", "ours", "1thread");
	instructions_add(b, "instructions.kernel_pair.64", "kernel", "1thread");
	instructions_add(b, "instructions.hot_pair.64", "ours", "hot");
	instructions_add(b, "instructions.loop.64", "none", "1thread");
}

/* ---- tables ---- */

static void workload_print(const struct pool_bench *b, const struct table *table, size_t w)
{
	char text[ALLOCATOR_COUNT][32];
	const char *cells[ALLOCATOR_COUNT];
	bool any = false;

	for (size_t who = 0; who < ALLOCATOR_COUNT; who++) {
		cells[who] = b->measured[w][who] ? text[who] : NULL;
		any |= b->measured[w][who];
		if (who == ALLOCATOR_DMALAND)
			snprintf(text[who], sizeof(text[who]), "%.1f", time_of(b, w, who));
		else
			snprintf(text[who], sizeof(text[who]), "%.1f %5.1fx", time_of(b, w, who),
				 ratio_of(b, w, who));
	}
	if (any)
		table_row(table, workloads[w].title, cells);
}

/* What the figures don't show, in the same columns. */
static void differences_print(const struct table *table)
{
	const char *checks[ALLOCATOR_COUNT], *grows[ALLOCATOR_COUNT], *handle[ALLOCATOR_COUNT];

	for (size_t who = 0; who < ALLOCATOR_COUNT; who++) {
		checks[who] = allocators[who].checks;
		grows[who] = allocators[who].grows;
		handle[who] = allocators[who].gives_handle;
	}
	putchar('\n');
	table_row(table, "checks every free", checks);
	table_row(table, "grows inside the clock", grows);
	table_row(table, "gives the dma address", handle);
}

static bool measured_in(const struct pool_bench *b, size_t who, size_t begin, size_t end)
{
	for (size_t w = begin; w < end; w++)
		if (b->measured[w][who])
			return true;
	return false;
}

/* One table of the workloads from begin to end; none when nothing of it was measured. */
static bool table_print(const struct pool_bench *b, struct table *table, const char *title,
			size_t begin, size_t end)
{
	const char *headings[ALLOCATOR_COUNT];
	bool any = false;

	for (size_t who = 0; who < ALLOCATOR_COUNT; who++) {
		headings[who] = measured_in(b, who, 0, WORKLOADS) ? allocators[who].heading : "";
		any |= measured_in(b, who, begin, end);
	}
	if (!any)
		return false;
	putchar('\n');
	table_begin(table, title, headings, ALLOCATOR_COUNT);
	for (size_t w = begin; w < end; w++)
		workload_print(b, table, w);
	return true;
}

/* Rows that stand in no table. */
static void others_print(const struct pool_bench *b)
{
	static const struct {
		const char *row, *text;
	} others[] = {
		{"bulk32_vs_single.64", "32 blocks in one call over one by one, per block: x"},
		{"flatness", "the slowest power of two over 64 B: x"},
		{"scaling.2threads.64", "each of two threads over one alone: x"},
		{"sharing.2threads.64", "two threads on one pool over a pool each: x"},
		{"noise", "the slowest sample over the fastest, 64 B (busy machine?): x"},
		{"bookkeeping.percent.64", "bookkeeping beside blocks of 64 B: %"},
		{"bookkeeping.percent.1024", "bookkeeping beside blocks of 1024 B: %"},
		{"instructions.pair.64", "instructions a pair, dmapool_test"},
		{"instructions.hot_pair.64", "instructions a pair, one block again and again"},
		{"instructions.kernel_pair.64",
		 "beside them: the kernel's algorithm, dmapool_test"},
		{"instructions.loop.64", "in each of them: the benchmark's loop, two empty calls"},
		{"ns.none.producer_consumer.64", "in 'one allocates, another frees': the ring, ns"},
	};
	bool any = false;

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		for (size_t r = 0; r < b->report.count; r++) {
			const struct report_row *row = &b->report.rows[r];

			if (strcmp(row->name, others[i].row) != 0)
				continue;
			if (!any)
				printf("\ndmaland, smaller is better\n");
			any = true;
			printf(" %-60s %8.2f\n", others[i].text, row->value);
		}
}

static void notes_print(const struct pool_bench *b)
{
	putchar('\n');
	if (measured_in(b, ALLOCATOR_KERNEL, 0, WORKLOADS))
		puts("kernel's algorithm: one spinlock, list and dma address in the blocks; "
		     "interrupts stay on");
	if (measured_in(b, ALLOCATOR_DPDK, 0, WORKLOADS))
		puts("DPDK mempool: cache of 512, DPDK's main thread, all blocks made "
		     "beforehand");
	if (measured_in(b, ALLOCATOR_MALLOC, 0, WORKLOADS))
		puts("malloc: neither aligned nor visible to a device");
	if (measured_in(b, ALLOCATOR_FLOOR, 0, WORKLOADS))
		puts("no lock: the kernel's list without its lock; one thread only");
#ifndef BENCH_DPDK
	puts("left out: DPDK mempool (libdpdk was not there when this was built)");
#endif
	if (b->workbench.cpu_count < 2)
		puts("left out: threads (there is one CPU)");
}

static void tables_print(const void *state)
{
	const struct pool_bench *b = state;
	struct table table;
	bool any;

	printf("dma_pool, ns per alloc+free pair, median of %zu: smaller is better; x: their time "
	       "over dmaland's\n",
	       b->samples);
	report_print_machine();
	any = table_print(b, &table, "1 thread, dmapool_test", 0, BY_SIZE);
	any |= table_print(b, &table, "64 B blocks", BY_SIZE, WORKLOADS);
	if (any)
		differences_print(&table);
	others_print(b);
	notes_print(b);
}

static void measure(void *state)
{
	struct pool_bench *b = state;

	workbench_open(&b->workbench);
	workloads_name(b->workbench.cpu_count);
	measurements_choose(b);
	samples_take(b);
	rows_add(b);
	workbench_close(&b->workbench);
}

int main(int argc, char **argv)
{
	static struct pool_bench b;
	static const struct benchmark benchmark = {
		.name = "pool",
		.about = "Measures dma_pool beside other ways to hand out blocks.",
		.answer = probe_answer,
		.measure = measure,
		.print = tables_print,
		.state = &b,
		.options = &b.options,
		.report = &b.report,
	};

	return benchmark_run(&benchmark, argc, argv);
}
