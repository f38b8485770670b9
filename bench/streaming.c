/* SPDX-License-Identifier: MIT */
/*
 * streaming.c - what a mapping costs, each way: nanoseconds, and instructions where valgrind is there
 *
 * A pair is dma_map_single() and dma_unmap_single(), BIDIRECTIONAL, of one buffer. The domain is a
 * place in memory whose map and unmap do nothing: what is mapped is counted without system calls.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "device/device.h"
#include "place.h"
#include "report.h"

enum { BUFFER = 1 << 20, SAMPLES = 9, FEW = 1000, MANY = 11000 };

struct stream_bench {
	struct bench_place place;
	struct domain_ops ops;
	struct streaming_space *space;
	struct dmaland_device dev;
	char *arena, *registered, *other, *target;
};

enum way_of { ARENA, REGISTERED, BOUNCED, MAPPED, MEMCPY };

static const struct stream_case {
	const char *row; /* what the rows are called after "instructions." and "native.place." */
	enum way_of way;
	size_t size;
} cases[] = {
	{"map_unmap.arena", ARENA, 4096},	    {"map_unmap.arena.65536", ARENA, 65536},
	{"map_unmap.registered", REGISTERED, 4096}, {"map_unmap.bounced.64", BOUNCED, 64},
	{"map_unmap.bounced.256", BOUNCED, 256},    {"map_unmap.bounced.1024", BOUNCED, 1024},
	{"memcpy_both_ways.64", MEMCPY, 64},	    {"memcpy_both_ways.256", MEMCPY, 256},
	{"memcpy_both_ways.1024", MEMCPY, 1024},    {"map_unmap.mapped.65536", MAPPED, 65536},
};

enum { CASES = sizeof(cases) / sizeof(cases[0]) };

static int map_nothing(struct domain *domain, dma_addr_t dma, void *cpu, size_t size,
		       unsigned int access)
{
	(void)dma;
	(void)cpu;
	(void)size;
	(void)access;
	domain->mappings++;
	return 0;
}

static int unmap_nothing(struct domain *domain, dma_addr_t dma, size_t size, unsigned int n)
{
	(void)dma;
	(void)size;
	domain->mappings -= n;
	return 0;
}

static char *buffer_make(void)
{
	char *buffer = aligned_alloc(4096, BUFFER);

	if (!buffer)
		bench_fail("no memory for a buffer");
	return memset(buffer, 1, BUFFER);
}

static void bench_open(struct stream_bench *b)
{
	const struct streaming_options options = {.copy_below = 4096};
	struct bench_place *p = &b->place;
	struct page *first;

	bench_place_open(p, 0);
	b->ops = *p->domain.ops;
	b->ops.map = map_nothing;
	b->ops.unmap = unmap_nothing;
	p->domain.ops = &b->ops;
	b->space = streaming_space_create(&p->domain, p->arena);
	if (!b->space ||
	    streaming_init(&b->dev.streaming, b->space, &p->limits, &p->orphans, "bench", &options))
		bench_fail("%s", dmaland_last_error());
	if (arena_take(p->arena, &p->orphans, BUFFER, 4096, GFP_KERNEL, &first))
		bench_fail("%s", dmaland_last_error());
	b->arena = memset(pagemap_address(&p->arena->pagemap, first), 1, BUFFER);
	b->registered = buffer_make();
	b->other = buffer_make();
	b->target = buffer_make();
	if (dmaland_register(&b->dev, b->registered, BUFFER))
		bench_fail("%s", dmaland_last_error());
}

static void mappings_run(struct dmaland_device *dev, char *ptr, size_t size, size_t pairs)
{
	for (size_t i = 0; i < pairs; i++) {
		dma_addr_t dma = dma_map_single(dev, ptr, size, DMA_BIDIRECTIONAL);

		dma_unmap_single(dev, dma, size, DMA_BIDIRECTIONAL);
	}
}

static void copies_run(struct stream_bench *b, char *ptr, size_t size, size_t pairs)
{
	char *target = b->target;

	for (size_t i = 0; i < pairs; i++) {
		memcpy(target, ptr, size);
		__asm__ volatile("" : : "r"(target) : "memory");
		memcpy(ptr, target, size);
		__asm__ volatile("" : : "r"(ptr) : "memory");
	}
}

/* The other ways are measured with nothing registered, as their users have it. */
static void pairs_run(struct stream_bench *b, const struct stream_case *c, size_t pairs)
{
	char *ptr = c->way == ARENA ? b->arena : c->way == REGISTERED ? b->registered : b->other;

	if (c->way != REGISTERED && b->registered) {
		dmaland_unregister(&b->dev, b->registered);
		b->registered = NULL;
	}
	if (c->way == REGISTERED && !ptr) {
		ptr = b->registered = b->target;
		if (dmaland_register(&b->dev, ptr, BUFFER))
			bench_fail("%s", dmaland_last_error());
	}
	if (c->way == MEMCPY)
		copies_run(b, ptr, c->size, pairs);
	else
		mappings_run(&b->dev, ptr, c->size, pairs);
}

static double nanoseconds(struct stream_bench *b, const struct stream_case *c, size_t pairs)
{
	double samples[SAMPLES];

	pairs_run(b, c, pairs / 10);
	for (size_t i = 0; i < SAMPLES; i++) {
		double begin = bench_now();

		pairs_run(b, c, pairs);
		samples[i] = (bench_now() - begin) / (double)pairs;
	}
	return bench_median(samples, SAMPLES);
}

/* Instructions of a run of this program that does so many pairs. */
static double run_counted(size_t which, size_t pairs)
{
	static const char *const valgrind[] = {"valgrind", "--tool=callgrind",
					       "--callgrind-out-file=/dev/null", NULL};
	char text[2][24], answer[8192], *at;
	const char *arguments[] = {"--probe", text[0], text[1], NULL};
	int status;

	snprintf(text[0], sizeof(text[0]), "%zu", which);
	snprintf(text[1], sizeof(text[1]), "%zu", pairs);
	status = bench_run_self(valgrind, arguments, answer, sizeof(answer));
	if (status < 0)
		bench_fail("cannot run valgrind (%s): install it, or leave out --instructions",
			   strerror(errno));
	at = strstr(answer, "Collected :");
	if (status || !at)
		bench_fail("valgrind failed:\n%s", answer);
	return strtod(at + strlen("Collected :"), NULL);
}

static int probe(struct stream_bench *b, char **argv)
{
	size_t which = strtoul(argv[2], NULL, 10);

	if (which >= CASES)
		return 2;
	bench_open(b);
	pairs_run(b, &cases[which], strtoul(argv[3], NULL, 10));
	return 0;
}

static void print_table(const struct report *report, bool instructions)
{
	static const char *const headings[] = {"ns", "instructions"};
	size_t columns = instructions ? 2 : 1;
	struct table table;

	report_print_machine();
	printf("a mapping and its end, per pair; smaller is better; where mapped, the domain's "
	       "calls "
	       "do nothing\n");
	table_begin(&table, "", headings, columns);
	for (size_t i = 0; i + columns <= report->count; i += columns) {
		char text[2][32];
		const char *cells[2] = {text[0], text[1]};

		for (size_t k = 0; k < columns; k++)
			snprintf(text[k], sizeof(text[k]), "%.1f", report->rows[i + k].value);
		table_row(&table, report->rows[i].name + strlen("native.place."), cells);
	}
}

int main(int argc, char **argv)
{
	static struct stream_bench b;
	struct bench_options options;
	struct report report = {.bench = "streaming"};
	int status;

	if (argc == 4 && strcmp(argv[1], "--probe") == 0)
		return probe(&b, argv);
	status = bench_options_read(&options, argc, argv,
				    "Measures dma_map_single() and dma_unmap_single(), each way.");
	if (status >= 0)
		return status;
	bench_open(&b);
	for (size_t i = 0; i < CASES; i++) {
		size_t pairs = options.quick ? 20000 : 200000;

		if (bench_wants(&options, "native.place.%s", cases[i].row))
			report_add(&report, nanoseconds(&b, &cases[i], pairs), "ns",
				   "native.place.%s", cases[i].row);
		if (options.instructions && bench_wants(&options, "instructions.%s", cases[i].row))
			report_add(&report,
				   (run_counted(i, MANY) - run_counted(i, FEW)) / (MANY - FEW),
				   "instructions", "instructions.%s", cases[i].row);
	}
	if (options.json || options.only)
		report_print_json(&report);
	else
		print_table(&report, options.instructions);
	return 0;
}
