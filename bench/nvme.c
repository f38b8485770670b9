/* SPDX-License-Identifier: MIT */
/*
 * bench-nvme: what a request to a drive costs, beside the kernel's driver through io_uring
 *
 * Measured in the VM, the same drive and the same boot for all; how, nvme_probe.h says. Rows of the JSON;
 * LOAD is randread, randwrite, read (sequential) or write, bytes, and depth: randread.4096.qd32.
 *
 *   instructions_per_io.WHO.LOAD  of program and kernel together. WHO:
 *       ours          polled; memory of dmaland_register()
 *       ours_irq      by interrupts, else the same
 *       ours_prepared as ours, requests prepared
 *       ours_plain    polled; any memory: copied, or mapped for each request
 *       io_uring      polled (IOPOLL), buffers and files registered
 *       io_uring_irq  by interrupts, else the same
 *   vs_io_uring.LOAD              io_uring's over ours, both polled
 *   vs_io_uring_irq.LOAD          the same, by interrupts
 *   syscalls_per_io.WHO.LOAD      by the kernel's count
 *   hidden.WHO                    instructions that each delay of a load hid; none is to be expected
 *   pt.*                          the same, booted with iommu=pt: the kernel's driver then maps nothing, and its
 *                                 drive can reach all memory; ours is confined as before
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "nvme_probe.h"
#include "report.h"
#include "vm.h"

#define ROUNDS	     "15"
#define ROUNDS_QUICK "5"

/* The last two are set beside the first two. */
static const char *const contestants[] = {"ours",	"ours_irq", "ours_prepared",
					  "ours_plain", "io_uring", "io_uring_irq"};

#define CONTESTANTS (sizeof(contestants) / sizeof(contestants[0]))

static const struct {
	const char *row, *ours, *theirs;
} ratios[] = {
	{"vs_io_uring", "ours", "io_uring"},
	{"vs_io_uring_irq", "ours_irq", "io_uring_irq"},
};

/* Two ways to boot. */
static const struct boot {
	const char *prefix, *append, *title; /* title: in front of the kernel's release */
} boots[] = {
	{"", "", "Linux "},
	{"pt.", "iommu=pt", "iommu=pt "},
};

#define BOOTS (sizeof(boots) / sizeof(boots[0]))

struct nvme_bench {
	struct bench_options options;
	struct report report;
	bool vm;	  /* could be had */
	char release[32]; /* of its kernel */
};

/* ---- measuring ---- */

static void row_take(struct nvme_bench *b, const struct boot *boot, const char *answer,
		     const char *unit, const char *name)
{
	if (bench_wants(&b->options, "%s%s", boot->prefix, name))
		report_add(&b->report, vm_row(answer, name), unit, "%s%s", boot->prefix, name);
}

static void contestant_take(struct nvme_bench *b, const struct boot *boot, const char *answer,
			    const char *who)
{
	char name[64];

	for (size_t i = 0; i < NVME_LOADS; i++) {
		snprintf(name, sizeof(name), "instructions_per_io.%s.%s", who, nvme_loads[i].row);
		row_take(b, boot, answer, "instructions", name);
	}
	for (size_t i = 0; i < NVME_LOADS; i++) {
		snprintf(name, sizeof(name), "syscalls_per_io.%s.%s", who, nvme_loads[i].row);
		row_take(b, boot, answer, "calls", name);
	}
	snprintf(name, sizeof(name), "hidden.%s", who);
	row_take(b, boot, answer, "instructions", name);
}

static double answer_value(const char *answer, const char *who, const struct nvme_load *load)
{
	char name[64];

	snprintf(name, sizeof(name), "instructions_per_io.%s.%s", who, load->row);
	return vm_row(answer, name);
}

static void answer_word(const char *answer, const char *key, char *word, size_t size)
{
	const char *at = strstr(answer, key);

	if (at)
		at += strlen(key) + 1;
	snprintf(word, size, "%.*s", at ? (int)strcspn(at, "\n") : 0, at ? at : "");
}

static void ratios_take(struct nvme_bench *b, const struct boot *boot, const char *answer)
{
	for (size_t r = 0; r < sizeof(ratios) / sizeof(ratios[0]); r++)
		for (size_t i = 0; i < NVME_LOADS; i++)
			if (bench_wants(&b->options, "%s%s.%s", boot->prefix, ratios[r].row,
					nvme_loads[i].row))
				report_add(&b->report,
					   answer_value(answer, ratios[r].theirs, &nvme_loads[i]) /
						   answer_value(answer, ratios[r].ours,
								&nvme_loads[i]),
					   "x", "%s%s.%s", boot->prefix, ratios[r].row,
					   nvme_loads[i].row);
}

static bool boot_wanted(const struct bench_options *o, const struct boot *boot)
{
	size_t length = strlen(boot->prefix);

	if (!o->only)
		return !(o->quick && length);
	return length ? strncmp(o->only, boot->prefix, length) == 0
		      : strncmp(o->only, "pt.", 3) != 0;
}

static void boot_measure(struct nvme_bench *b, const struct boot *boot, const char *vm_sh)
{
	static char answer[32768];
	const char *arguments[] = {b->options.quick ? ROUNDS_QUICK : ROUNDS, NULL};

	if (!vm_run_guest(vm_sh, boot->append, "bench-nvme", arguments, answer, sizeof(answer)))
		return;
	b->vm = true;
	answer_word(answer, "linux:", b->release, sizeof(b->release));
	for (size_t i = 0; i < CONTESTANTS; i++)
		contestant_take(b, boot, answer, contestants[i]);
	ratios_take(b, boot, answer);
}

static void measure(void *state)
{
	struct nvme_bench *b = state;
	const char *vm_sh = getenv("DMALAND_BENCH_VM");
	bool show = !b->options.json && isatty(STDERR_FILENO);

	if (show)
		fputs("measuring, a minute or so\r", stderr);
	for (size_t i = 0; vm_sh && i < BOOTS; i++)
		if (boot_wanted(&b->options, &boots[i]))
			boot_measure(b, &boots[i], vm_sh);
	if (show)
		fprintf(stderr, "%*s\r", 40, "");
}

/* ---- tables ---- */

static double row_value(const struct nvme_bench *b, const struct boot *boot, const char *what,
			const char *who, const struct nvme_load *load)
{
	char row[80];

	snprintf(row, sizeof(row), "%s%s.%s.%s", boot->prefix, what, who, load->row);
	return report_value(&b->report, row);
}

static const char *load_title(const struct nvme_load *load, char *title, size_t size)
{
	snprintf(title, size, "%s %s, %u KiB, depth %u", load->random ? "random" : "sequential",
		 load->write ? "writes" : "reads", load->bytes / 1024, load->depth);
	return title;
}

/* What stands beside a contestant's figure: the row that it is compared with, or NULL. */
static const char *compared_with(const char *who)
{
	for (size_t r = 0; r < sizeof(ratios) / sizeof(ratios[0]); r++)
		if (strcmp(ratios[r].theirs, who) == 0)
			return ratios[r].ours;
	return NULL;
}

/* What stands in a load's line; false when none of it was measured. */
static bool line_cells(const struct nvme_bench *b, const struct boot *boot,
		       const struct nvme_load *load, char text[CONTESTANTS][32], const char **cells)
{
	bool any = false;

	for (size_t i = 0; i < CONTESTANTS; i++) {
		double value = row_value(b, boot, "instructions_per_io", contestants[i], load);
		const char *other = compared_with(contestants[i]);
		double ours = other ? row_value(b, boot, "instructions_per_io", other, load) : NAN;

		cells[i] = isnan(value) ? NULL : text[i];
		any |= !isnan(value);
		if (isnan(ours))
			snprintf(text[i], sizeof(text[i]), "%.0f", value);
		else
			snprintf(text[i], sizeof(text[i]), "%.0f %6.1fx", value, value / ours);
	}
	return any;
}

static void boot_print(const struct nvme_bench *b, const struct boot *boot)
{
	static const char *const headings[] = {"dmaland",	   "interrupts",
					       "prepared",	   "plain memory",
					       "io_uring, polled", "io_uring, interrupts"};
	char text[CONTESTANTS][32], title[64];
	const char *cells[CONTESTANTS];
	struct table table;
	bool any = false;

	for (size_t i = 0; i < NVME_LOADS; i++) {
		if (!line_cells(b, boot, &nvme_loads[i], text, cells))
			continue;
		if (!any) {
			snprintf(title, sizeof(title), "%s%s", boot->title, b->release);
			putchar('\n');
			table_begin(&table, title, headings, CONTESTANTS);
		}
		any = true;
		table_row(&table, load_title(&nvme_loads[i], title, sizeof(title)), cells);
	}
}

static void notes_print(const struct nvme_bench *b)
{
	puts("\nthe VM's clock counts instructions of kernel and program alike; waiting, caches "
	     "and "
	     "what a device register costs do not show");
	puts("a depth's requests are submitted together, and reaped together once all have "
	     "completed; "
	     "where fewer complete at a time, one costs up to what it does at depth 1");
	puts("io_uring: O_DIRECT; file, buffers and ring registered. Polled: IOPOLL, on a poll "
	     "queue. "
	     "In sequence, the kernel merges the 4 KiB requests of a batch");
	puts("dmaland: polled, memory registered, no system calls. Interrupts: the same, but it "
	     "sleeps. Prepared: the requests are. Plain memory: 4 KiB are copied, 64 KiB mapped "
	     "for each request");
	puts("iommu=pt: the kernel's driver maps nothing, and its drive reaches all memory; "
	     "dmaland's is confined in both");
#ifndef BENCH_IO_URING
	puts("left out: io_uring (liburing-dev is not installed)");
#endif
	if (!b->vm)
		puts("left out: the VM (./run bench nvme boots it, where it has a kernel)");
}

static void tables_print(const void *state)
{
	const struct nvme_bench *b = state;

	puts("requests to an NVMe drive, instructions for each: smaller is better; x: over "
	     "dmaland's, which polls or sleeps likewise");
	report_print_machine();
	for (size_t i = 0; i < BOOTS; i++)
		boot_print(b, &boots[i]);
	notes_print(b);
}

int main(int argc, char **argv)
{
	static struct nvme_bench b;
	static const struct benchmark benchmark = {
		.name = "nvme",
		.about = "Measures requests to an NVMe drive, beside io_uring.",
		.answer = nvme_probe_answer,
		.measure = measure,
		.print = tables_print,
		.state = &b,
		.options = &b.options,
		.report = &b.report,
	};

	return benchmark_run(&benchmark, argc, argv);
}
