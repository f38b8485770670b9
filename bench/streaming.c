/* SPDX-License-Identifier: MIT */
/*
 * bench-streaming: what it costs to hand memory to a device for one transfer, and to end that
 *
 * Rows of the JSON. A pair is dma_map_single() and dma_unmap_single(), DMA_BIDIRECTIONAL, with all of
 * both calls and dma_mapping_error(); only an empty loop is subtracted. The first are from the VM, on a VFIO
 * device behind an IOMMU: the kernel's instructions and ours.
 *
 *   instructions.map_unmap.WAY[.SIZE]    a pair that goes this way: 4096 bytes where no SIZE is told
 *   instructions.map_unmap_sg.WAY.SIZE   dma_map_sg() and dma_unmap_sg(), a list of one element
 *   instructions.map_unmap_sg.pages.N    the same, of N pages that lie apart and become one segment
 *   instructions.memcpy_both_ways.SIZE   two calls of memcpy()
 *   instructions.vfio_by_hand.SIZE       VFIO_IOMMU_MAP_DMA and _UNMAP_DMA
 *   instructions.lookup.KIND             what others do: see lookup.h
 *   unmap_syscalls_per_mapping.MODE.SIZE system calls other than VFIO_IOMMU_MAP_DMA, by the kernel's count; 64
 *                                        mappings are in flight and end in order, or lazy_any_order
 *   native.soft.instructions.*           the same here, on `soft:`, by callgrind
 *   native.soft.ns.*                     nanoseconds, median
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "report.h"
#include "streaming_probe.h"
#include "transfer.h"
#include "vm.h"

#define SAMPLES	      15
#define SAMPLES_QUICK 3
#define CHEAP_COUNT   20000
#define MAPPED_COUNT  1000

struct streaming_bench {
	struct bench_options options;
	struct report report;
	size_t samples;
	bool no_callgrind, vm; /* could not be had; could */
	char answer[8192];     /* of the VM */
};

/* ---- natively ---- */

/* What a transfer is without the device that only the VM has. */
static bool is_native(const struct transfer *t)
{
	return t->kind != TRANSFER_BY_HAND;
}

static double ns_sample(struct transfer_place *place, const struct transfer *t)
{
	bool dear = t->kind == TRANSFER_MAPPED || t->kind == TRANSFER_SG_PAGES;
	size_t count = dear ? MAPPED_COUNT : CHEAP_COUNT;
	double began, ended;

	transfer_begin(place, t);
	transfer_check(place, t);
	began = bench_now();
	transfer_run(place, t, count);
	ended = bench_now();
	transfer_end(place, t);
	return (ended - began) / (double)count;
}

/* The loop's own part is subtracted turn by turn. */
static void ns_measure(struct streaming_bench *b)
{
	static double ns[TRANSFERS][BENCH_SAMPLES_MAX];
	struct transfer_place place;
	int cpu;

	bench_cpus(&cpu, 1);
	bench_pin(cpu);
	transfer_open(&place, "soft:,dma_debug=no", NULL);
	for (size_t i = 0; i < b->samples; i++)
		for (size_t t = 0; t < TRANSFERS; t++)
			if (is_native(&transfers[t]))
				ns[t][i] = ns_sample(&place, &transfers[t]) - (t ? ns[0][i] : 0);
	transfer_close(&place);
	for (size_t t = 1; t < TRANSFERS; t++)
		if (is_native(&transfers[t]) &&
		    bench_wants(&b->options, "native.soft.ns.%s", transfers[t].row))
			report_add(&b->report, bench_median(ns[t], b->samples), "ns",
				   "native.soft.ns.%s", transfers[t].row);
}

static void instructions_measure(struct streaming_bench *b)
{
	double loop = probe_instructions(transfers[0].row);

	b->no_callgrind = isnan(loop);
	for (size_t t = 1; t < TRANSFERS && !b->no_callgrind; t++)
		if (is_native(&transfers[t]) &&
		    bench_wants(&b->options, "native.soft.instructions.%s", transfers[t].row))
			report_add(&b->report, probe_instructions(transfers[t].row) - loop,
				   "instructions", "native.soft.instructions.%s", transfers[t].row);
}

/* ---- in the VM ---- */

static const struct {
	const char *row, *title;
} unmaps[] = {
	{"unmap_syscalls_per_mapping.strict.4096", "strict, 4 KiB"},
	{"unmap_syscalls_per_mapping.strict.65536", "strict, 64 KiB"},
	{"unmap_syscalls_per_mapping.lazy.4096", "lazy, 4 KiB, ended in order"},
	{"unmap_syscalls_per_mapping.lazy.65536", "lazy, 64 KiB, ended in order"},
	{"unmap_syscalls_per_mapping.lazy_any_order.4096", "lazy, 4 KiB, at random"},
	{"unmap_syscalls_per_mapping.lazy_any_order.65536", "lazy, 64 KiB, at random"},
};

#define UNMAP_ROWS (sizeof(unmaps) / sizeof(unmaps[0]))

static void vm_measure(struct streaming_bench *b)
{
	const char *vm_sh = getenv("DMALAND_BENCH_VM");
	double loop;

	b->vm = vm_sh && probe_vm(vm_sh, b->answer, sizeof(b->answer));
	if (!b->vm)
		return;
	loop = vm_row(b->answer, transfers[0].row);
	for (size_t t = 1; t < TRANSFERS; t++)
		if (bench_wants(&b->options, "instructions.%s", transfers[t].row))
			report_add(&b->report, vm_row(b->answer, transfers[t].row) - loop,
				   "instructions", "instructions.%s", transfers[t].row);
	for (size_t i = 0; i < UNMAP_ROWS; i++)
		if (bench_wants(&b->options, "%s", unmaps[i].row))
			report_add(&b->report, vm_row(b->answer, unmaps[i].row), "calls", "%s",
				   unmaps[i].row);
}

/* ---- which of them ---- */

static bool any_wanted(const struct bench_options *o, const char *prefix)
{
	for (size_t t = 1; t < TRANSFERS; t++)
		if (bench_wants(o, "%s%s", prefix, transfers[t].row))
			return true;
	return false;
}

static void measure(void *state)
{
	struct streaming_bench *b = state;
	const struct bench_options *o = &b->options;
	bool show = !o->json && isatty(STDERR_FILENO), vm = any_wanted(o, "instructions.");

	for (size_t i = 0; i < UNMAP_ROWS; i++)
		vm |= bench_wants(o, "%s", unmaps[i].row);
	b->samples = o->quick ? SAMPLES_QUICK : SAMPLES;
	if (show)
		fputs("measuring, a minute or so\r", stderr);
	if (vm)
		vm_measure(b);
	if (any_wanted(o, "native.soft.ns."))
		ns_measure(b);
	if (any_wanted(o, "native.soft.instructions."))
		instructions_measure(b);
	if (show)
		fprintf(stderr, "%*s\r", 40, "");
}

/* ---- tables ---- */

static double row_value(const struct streaming_bench *b, const char *format, const char *name)
{
	char row[64];

	snprintf(row, sizeof(row), format, name);
	return report_value(&b->report, row);
}

/* A line of the table: a row, the one that stands beside it, and what is aimed at. */
struct line {
	const char *title, *row, *beside, *aim;
};

static const struct line lines[] = {
	{"arena, 4 KiB", "map_unmap.arena", "vfio_by_hand.4096", "120"},
	{"arena, 64 KiB", "map_unmap.arena.65536", "vfio_by_hand.65536", "120"},
	{"registered, 4 KiB", "map_unmap.registered", "vfio_by_hand.4096", "120"},
	{"registered, 64 KiB", "map_unmap.registered.65536", "vfio_by_hand.65536", "120"},
	{"bounced, 64 B", "map_unmap.bounced.64", "memcpy_both_ways.64", "memcpy + 150"},
	{"bounced, 256 B", "map_unmap.bounced.256", "memcpy_both_ways.256", "memcpy + 150"},
	{"bounced, 1024 B", "map_unmap.bounced.1024", "memcpy_both_ways.1024", "memcpy + 150"},
	{"mapped, 64 KiB", "map_unmap.mapped.65536", "vfio_by_hand.65536", "by hand + 500"},
	{"a list of one, arena", "map_unmap_sg.arena", "vfio_by_hand.4096", NULL},
	{"a list of one, 64 B", "map_unmap_sg.bounced.64", "memcpy_both_ways.64", NULL},
	{"4 pages, joined", "map_unmap_sg.pages.4", NULL, NULL},
	{"16 pages, joined", "map_unmap_sg.pages.16", "vfio_by_hand.65536", NULL},
	{"a table, as in SPDK", "lookup.table", NULL, NULL},
	{"a skip list, as in libvfn", "lookup.skiplist", NULL, NULL},
};

static void line_print(const struct streaming_bench *b, const struct table *table,
		       const struct line *line)
{
	double ours = row_value(b, "instructions.%s", line->row);
	double beside = line->beside ? row_value(b, "instructions.%s", line->beside) : NAN;
	bool memcpy_beside = line->beside && strncmp(line->beside, "memcpy", 6) == 0;
	char text[4][32];
	const char *cells[5] = {text[0], NULL, NULL, isnan(beside) ? NULL : text[3], line->aim};

	if (isnan(ours))
		return;
	snprintf(text[0], sizeof(text[0]), "%.0f", ours);
	if (!isnan(beside)) {
		if (memcpy_beside)
			snprintf(text[1], sizeof(text[1]), "%.0f", beside);
		else
			snprintf(text[1], sizeof(text[1]), "%.0f %6.1fx", beside, beside / ours);
		cells[memcpy_beside ? 2 : 1] = text[1];
		snprintf(text[3], sizeof(text[3]), "%+.0f", ours - beside);
	}
	table_row(table, line->title, cells);
}

static void vm_print(const struct streaming_bench *b)
{
	static const char *const headings[] = {"dmaland", "VFIO by hand", "memcpy both ways",
					       "difference", "aim"};
	struct table table;

	if (!b->vm || !any_wanted(&b->options, "instructions."))
		return;
	putchar('\n');
	table_begin(&table, "in the VM, behind an IOMMU", headings, 5);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		line_print(b, &table, &lines[i]);
}

static void unmaps_print(const struct streaming_bench *b)
{
	static const char *const headings[] = {"dmaland", "aim"};
	struct table table;
	bool any = false;

	for (size_t i = 0; i < UNMAP_ROWS; i++) {
		double calls = row_value(b, "%s", unmaps[i].row);
		bool lazy = strstr(unmaps[i].row, "lazy");
		char text[32];
		const char *cells[2] = {text, lazy ? "1/32" : NULL};

		if (isnan(calls))
			continue;
		if (!any) {
			putchar('\n');
			table_begin(&table, "system calls to unmap a mapping", headings, 2);
		}
		any = true;
		if (lazy)
			snprintf(text, sizeof(text), "1/%.0f", 1 / calls);
		else
			snprintf(text, sizeof(text), "%.2f", calls);
		table_row(&table, unmaps[i].title, cells);
	}
}

static void native_print(const struct streaming_bench *b)
{
	static const char *const headings[] = {"instructions", "ns"};
	struct table table;
	bool any = false;

	for (size_t t = 1; t < TRANSFERS; t++) {
		double instructions = row_value(b, "native.soft.instructions.%s", transfers[t].row);
		double ns = row_value(b, "native.soft.ns.%s", transfers[t].row);
		char text[2][32];
		const char *cells[2] = {isnan(instructions) ? NULL : text[0],
					isnan(ns) ? NULL : text[1]};

		if (isnan(instructions) && isnan(ns))
			continue;
		if (!any) {
			putchar('\n');
			table_begin(&table, "here, on soft:", headings, 2);
		}
		any = true;
		snprintf(text[0], sizeof(text[0]), "%.0f", instructions);
		snprintf(text[1], sizeof(text[1]), "%.1f", ns);
		table_row(&table, transfers[t].row, cells);
	}
}

static void notes_print(const struct streaming_bench *b)
{
	puts("\na pair: both calls with their arguments, and dma_mapping_error(); an empty loop is "
	     "subtracted");
	puts("the VM's clock counts instructions of kernel and program alike; what waits for an "
	     "IOMMU costs nothing there");
	puts("registered: 64 pieces of memory, in turn; tables and lists have as many");
	puts("a table, a skip list: stand-ins; they check neither limits nor ends, and whole 2 MiB "
	     "only (the table)");
	puts("system calls: the kernel's count of all but VFIO_IOMMU_MAP_DMA; 64 mappings in "
	     "flight. Lazy "
	     "mode revokes after 10 ms, which is soon where an instruction takes 1 ns");
	if (!b->vm)
		puts("left out: the VM (./run bench streaming boots it, where it has a kernel)");
	if (b->no_callgrind)
		puts("left out: instructions here (valgrind is not installed)");
}

static void tables_print(const void *state)
{
	const struct streaming_bench *b = state;

	printf("dma_map_single + dma_unmap_single, instructions per pair: smaller is better; x: "
	       "theirs over dmaland's\n");
	report_print_machine();
	vm_print(b);
	unmaps_print(b);
	native_print(b);
	notes_print(b);
}

int main(int argc, char **argv)
{
	static struct streaming_bench b;
	static const struct benchmark benchmark = {
		.name = "streaming",
		.about = "Measures dma_map_single() and dma_unmap_single().",
		.answer = probe_answer,
		.measure = measure,
		.print = tables_print,
		.state = &b,
		.options = &b.options,
		.report = &b.report,
	};

	return benchmark_run(&benchmark, argc, argv);
}
