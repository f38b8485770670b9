/* SPDX-License-Identifier: MIT */
#include "streaming_probe.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dmaland/streaming.h>
#include "bench.h"
#include "callgrind.h"
#include "syscalls.h"
#include "transfer.h"
#include "vm.h"

#define SHORT_COUNT 1000u
#define LONG_COUNT  3000u

#define VM_OTHER_DEVICE "0000:00:04.0" /* tests/vm/vm.sh */

/* ---- the process that answers: under callgrind ---- */

/* What there is to count. */
static int answer_instructions(const char *row, const char *count)
{
	const struct transfer *transfer = transfer_named(row);
	size_t pairs = strtoul(count, NULL, 10);
	struct transfer_place place;

	if (!transfer)
		bench_fail("no transfer %s", row);
	transfer_open(&place, "soft:,dma_debug=no", NULL);
	transfer_begin(&place, transfer);
	transfer_check(&place, transfer);
	transfer_run(&place, transfer, pairs);
	transfer_end(&place, transfer);
	transfer_close(&place);
	printf("pairs: %zu\n", pairs);
	return 0;
}

/* ---- the process that answers: in the VM ---- */

#define VM_SAMPLES 9
#define VM_CHEAP   2048 /* transfers a sample: few enough that most see no timer interrupt */
#define VM_DEAR	   64

static double vm_sample(struct transfer_place *place, const struct transfer *transfer)
{
	bool dear = transfer->kind == TRANSFER_MAPPED || transfer->kind == TRANSFER_SG_PAGES ||
		    transfer->kind == TRANSFER_BY_HAND;
	size_t count = dear ? VM_DEAR : VM_CHEAP;
	double began, ended;

	transfer_begin(place, transfer);
	transfer_check(place, transfer);
	began = bench_now();
	transfer_run(place, transfer, count);
	ended = bench_now();
	transfer_end(place, transfer);
	return (ended - began) / (double)count;
}

static void vm_instructions(const char *spec, const char *address)
{
	static double samples[TRANSFERS][VM_SAMPLES];
	struct transfer_place place;

	transfer_open(&place, spec, address);
	for (size_t i = 0; i < VM_SAMPLES; i++)
		for (size_t t = 0; t < TRANSFERS; t++)
			samples[t][i] = vm_sample(&place, &transfers[t]);
	transfer_close(&place);
	for (size_t t = 0; t < TRANSFERS; t++)
		printf("row %s %.3f\n", transfers[t].row, bench_median(samples[t], VM_SAMPLES));
}

/* ---- system calls ---- */

#define IN_FLIGHT 64
#define ENDED	  4096 /* mappings, and those that are in flight at the end */

/* All directions in turn. */
static enum dma_data_direction flight_direction(size_t i)
{
	return (enum dma_data_direction)(i % 3);
}

static void flight_map(struct transfer_place *place, dma_addr_t *dma, size_t i, size_t size)
{
	dma[i] = dma_map_single(place->dev, transfer_piece(place, i), size, flight_direction(i));
	if (dma_mapping_error(place->dev, dma[i]))
		bench_fail("%s", dmaland_last_error());
}

/* As with a device's queue: what is in flight ends, in order or at random; the next takes its place. */
static void flight_run(struct transfer_place *place, size_t size, bool in_order)
{
	uint64_t random = 0x9e3779b97f4a7c15u;
	dma_addr_t dma[IN_FLIGHT];

	for (size_t i = 0; i < IN_FLIGHT; i++)
		flight_map(place, dma, i, size);
	for (size_t i = 0; i < ENDED - IN_FLIGHT; i++) {
		size_t at = (in_order ? i : random) % IN_FLIGHT;

		random ^= random << 13; /* Marsaglia's xorshift64 */
		random ^= random >> 7;
		random ^= random << 17;
		dma_unmap_single(place->dev, dma[at], size, flight_direction(at));
		flight_map(place, dma, at, size);
	}
	for (size_t i = 0; i < IN_FLIGHT; i++)
		dma_unmap_single(place->dev, dma[i], size, flight_direction(i));
	dmaland_flush(place->dev);
}

static void vm_unmap_syscalls(const char *spec, const char *mode, const char *options,
			      bool in_order, size_t size)
{
	char mapped[128];
	struct transfer_place place;
	struct syscalls syscalls;
	uint64_t others, maps;

	snprintf(mapped, sizeof(mapped), "%s,copy_below=1,%s", spec, options);
	transfer_open(&place, mapped, NULL);
	flight_run(&place, size, in_order);
	syscalls_open(&syscalls);
	syscalls_begin(&syscalls);
	flight_run(&place, size, in_order);
	others = syscalls_end(&syscalls, &maps);
	syscalls_close(&syscalls);
	transfer_close(&place);
	if (maps != ENDED)
		bench_fail("%d mappings made %llu calls to map", ENDED, (unsigned long long)maps);
	printf("row unmap_syscalls_per_mapping.%s.%zu %.6f\n", mode, size, (double)others / ENDED);
}

static int answer_vm(const char *spec, const char *address)
{
	vm_clock_check();
	vm_instructions(spec, address);
	for (size_t size = 4096; size <= 65536; size *= 16) {
		vm_unmap_syscalls(spec, "strict", "unmap=strict", false, size);
		vm_unmap_syscalls(spec, "lazy", "unmap=lazy", true, size);
		vm_unmap_syscalls(spec, "lazy_any_order", "unmap=lazy", false, size);
	}
	return 0;
}

int probe_answer(int argc, char **argv)
{
	if (argc != 4)
		return -1;
	if (strcmp(argv[1], "--probe") == 0)
		return answer_instructions(argv[2], argv[3]);
	if (strcmp(argv[1], "--vm") == 0)
		return answer_vm(argv[2], argv[3]);
	return -1;
}

/* ---- the process that asks ---- */

static double instructions_count(const char *row, unsigned int count, double *pairs)
{
	char text[16];
	const char *arguments[] = {"--probe", row, text, NULL};

	snprintf(text, sizeof(text), "%u", count);
	return callgrind_run(arguments, pairs);
}

double probe_instructions(const char *row)
{
	double few_pairs, many_pairs, few = instructions_count(row, SHORT_COUNT, &few_pairs);

	if (isnan(few))
		return NAN;
	return (instructions_count(row, LONG_COUNT, &many_pairs) - few) / (many_pairs - few_pairs);
}

bool probe_vm(const char *vm_sh, char *answer, size_t size)
{
	static const char *const options[] = {"--timeout", "500",	    "--bind", VM_DRIVE,
					      "--bind",	   VM_OTHER_DEVICE, "--",     NULL};
	static const char *const arguments[] = {"--vm", "vfio:" VM_DRIVE, VM_OTHER_DEVICE, NULL};

	return vm_run(vm_sh, options, arguments, answer, size);
}
