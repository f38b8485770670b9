/* SPDX-License-Identifier: MIT */
/*
 * bench-net: what a frame costs, beside the kernel's driver through AF_PACKET
 *
 * Measured in the VM, the same card and the same boot for all; how, net_probe.h says. Rows of the JSON; DIRECTION is rx or tx, SIZE
 * 64, 256, 1024 or 1514 bytes:
 *
 *   instructions_per_packet.WHO.DIRECTION.SIZE  of program and kernel together. WHO:
 *       ours_keep, ours_map, ours_copybreak     polled, received in this way; sent as by default
 *       ours_sg, ours_linear                    polled, sent in this way; received as by default
 *       ours_irq                                by interrupts, else as by default; rx alone
 *       kernel                                  8139cp with AF_PACKET and mapped rings (TPACKET_V3); the ring is polled
 *       kernel_irq                              the same, but it sleeps in poll(2); rx alone
 *   instructions_per_packet.WHO.tx4.SIZE        ours_sg, ours_linear: frames in four pieces
 *   vs_kernel.DIRECTION.SIZE                    the kernel's over the best of ours, all polled
 *   vs_kernel_irq.rx.SIZE                       the same of those that sleep
 *   syscalls_per_packet.WHO.DIRECTION.SIZE      by the kernel's count
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "net_probe.h"
#include "report.h"
#include "vm.h"

#define ROUNDS	     "9"
#define ROUNDS_QUICK "3"

static const char *const contestants[] = {"ours_keep", "ours_map",    "ours_copybreak",
					  "ours_sg",   "ours_linear", "ours_irq",
					  "kernel",    "kernel_irq"};

static const char *const directions[] = {"rx", "tx", "tx4"};

#define CONTESTANTS (sizeof(contestants) / sizeof(contestants[0]))
#define DIRECTIONS  (sizeof(directions) / sizeof(directions[0]))

static const struct {
	const char *row, *direction, *theirs, *ours[4];
} ratios[] = {
	{"vs_kernel", "rx", "kernel", {"ours_keep", "ours_map", "ours_copybreak"}},
	{"vs_kernel", "tx", "kernel", {"ours_copybreak", "ours_sg", "ours_linear"}},
	{"vs_kernel_irq", "rx", "kernel_irq", {"ours_irq"}},
};

/* Columns of the tables, and what each row of ours stands beside. */
static const struct table_of {
	const char *direction, *title, *headings[5], *who[5], *beside[5];
} tables[] = {
	{"rx",
	 "received, polled",
	 {"keep", "map", "copybreak", "kernel"},
	 {"ours_keep", "ours_map", "ours_copybreak", "kernel"},
	 {NULL, NULL, NULL, "ours_copybreak"}},
	{"rx",
	 "received, by interrupts",
	 {"copybreak", "kernel"},
	 {"ours_irq", "kernel_irq"},
	 {NULL, "ours_irq"}},
	{"tx",
	 "sent, in one piece",
	 {"sg", "linear", "default", "kernel"},
	 {"ours_sg", "ours_linear", "ours_copybreak", "kernel"},
	 {NULL, NULL, NULL, "ours_copybreak"}},
	{"tx4", "sent, in four pieces", {"sg", "linear"}, {"ours_sg", "ours_linear"}, {NULL}},
};

#define TABLES (sizeof(tables) / sizeof(tables[0]))

struct net_bench {
	struct bench_options options;
	struct report report;
	bool vm; /* could be had */
};

/* ---- measuring ---- */

static double answer_value(const char *answer, const char *what, const char *who,
			   const char *direction, unsigned int size)
{
	char name[80];

	snprintf(name, sizeof(name), "%s.%s.%s.%u", what, who, direction, size);
	return vm_row(answer, name);
}

static void rows_take(struct net_bench *b, const char *answer, const char *what, const char *unit)
{
	for (size_t c = 0; c < CONTESTANTS; c++)
		for (size_t d = 0; d < DIRECTIONS; d++)
			for (size_t i = 0; i < NET_SIZES; i++)
				if (bench_wants(&b->options, "%s.%s.%s.%u", what, contestants[c],
						directions[d], net_sizes[i]))
					report_add(&b->report,
						   answer_value(answer, what, contestants[c],
								directions[d], net_sizes[i]),
						   unit, "%s.%s.%s.%u", what, contestants[c],
						   directions[d], net_sizes[i]);
}

static void ratios_take(struct net_bench *b, const char *answer)
{
	static const char what[] = "instructions_per_packet";

	for (size_t r = 0; r < sizeof(ratios) / sizeof(ratios[0]); r++)
		for (size_t i = 0; i < NET_SIZES; i++) {
			double best = NAN;

			if (!bench_wants(&b->options, "%s.%s.%u", ratios[r].row,
					 ratios[r].direction, net_sizes[i]))
				continue;
			for (size_t o = 0; ratios[r].ours[o]; o++)
				best = fmin(best, answer_value(answer, what, ratios[r].ours[o],
							       ratios[r].direction, net_sizes[i]));
			report_add(&b->report,
				   answer_value(answer, what, ratios[r].theirs, ratios[r].direction,
						net_sizes[i]) /
					   best,
				   "x", "%s.%s.%u", ratios[r].row, ratios[r].direction,
				   net_sizes[i]);
		}
}

static void measure(void *state)
{
	struct net_bench *b = state;
	static char answer[32768];
	const char *vm_sh = getenv("DMALAND_BENCH_VM");
	const char *arguments[] = {b->options.quick ? ROUNDS_QUICK : ROUNDS, NULL};
	bool show = !b->options.json && isatty(STDERR_FILENO);

	if (!vm_sh)
		return;
	if (show)
		fputs("measuring, half a minute or so\r", stderr);
	b->vm = vm_run_guest(vm_sh, "iommu.strict=1", "bench-net", arguments, answer,
			     sizeof(answer));
	if (b->vm) {
		rows_take(b, answer, "instructions_per_packet", "instructions");
		rows_take(b, answer, "syscalls_per_packet", "calls");
		ratios_take(b, answer);
	}
	if (show)
		fprintf(stderr, "%*s\r", 40, "");
}

/* ---- tables ---- */

static double row_value(const struct net_bench *b, const char *who, const char *direction,
			unsigned int size)
{
	char row[80];

	snprintf(row, sizeof(row), "instructions_per_packet.%s.%s.%u", who, direction, size);
	return report_value(&b->report, row);
}

/* What stands in a size's line; false when none of it was measured. */
static bool line_cells(const struct net_bench *b, const struct table_of *t, size_t columns,
		       unsigned int size, char text[][32], const char **cells)
{
	bool any = false;

	for (size_t i = 0; i < columns; i++) {
		double value = row_value(b, t->who[i], t->direction, size);
		double ours = t->beside[i] ? row_value(b, t->beside[i], t->direction, size) : NAN;

		cells[i] = isnan(value) ? NULL : text[i];
		any |= !isnan(value);
		if (isnan(ours))
			snprintf(text[i], sizeof(text[i]), "%.0f", value);
		else
			snprintf(text[i], sizeof(text[i]), "%.0f %6.1fx", value, value / ours);
	}
	return any;
}

static void table_print(const struct net_bench *b, const struct table_of *t)
{
	const char *cells[5];
	char text[5][32], title[32];
	struct table table;
	bool begun = false;
	size_t columns = 0;

	while (columns < 5 && t->who[columns])
		columns++;
	for (size_t i = 0; i < NET_SIZES; i++) {
		if (!line_cells(b, t, columns, net_sizes[i], text, cells))
			continue;
		if (!begun)
			table_begin(&table, t->title, t->headings, columns);
		begun = true;
		snprintf(title, sizeof(title), "%u bytes", net_sizes[i]);
		table_row(&table, title, cells);
	}
	if (begun)
		putchar('\n');
}

static void tables_print(const void *state)
{
	const struct net_bench *b = state;

	puts("frames through an RTL8139C+, instructions for each: smaller is better; x: over "
	     "dmaland's");
	report_print_machine();
	putchar('\n');
	for (size_t i = 0; i < TABLES; i++)
		table_print(b, &tables[i]);
	puts("the VM's clock counts instructions of kernel and program alike; waiting, caches and "
	     "what a device register costs do not show");
	puts("32 frames at a time; received: less what the sender costs, which is one for all. The "
	     "IOMMU is strict");
	puts("kernel: 8139cp, AF_PACKET with mapped rings (TPACKET_V3), past the queueing "
	     "discipline");
	if (!b->vm)
		puts("left out: the VM (./run bench net boots it, where it has a kernel)");
}

int main(int argc, char **argv)
{
	static struct net_bench b;
	static const struct benchmark benchmark = {
		.name = "net",
		.about = "Measures frames through a network card, beside AF_PACKET.",
		.answer = net_probe_answer,
		.measure = measure,
		.print = tables_print,
		.state = &b,
		.options = &b.options,
		.report = &b.report,
	};

	return benchmark_run(&benchmark, argc, argv);
}
