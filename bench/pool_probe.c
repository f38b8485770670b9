/* SPDX-License-Identifier: MIT */
#include "pool_probe.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "callgrind.h"
#include "workload.h"

#define SHORT_ROUNDS	   4u
#define LONG_ROUNDS	   24u
#define HOT_FACTOR	   1000u /* a round of the hot pair is one pair */
#define BOOKKEEPING_MEMORY ((size_t)64 << 20)

static const struct workload probed[] = {
	{"1thread", NULL, WORKLOAD_KERNEL_TEST, 1, 64, 64, 0},
	{"hot", NULL, WORKLOAD_HOT, 1, 64, 64, 0},
};

static unsigned int probe_rounds(const char *workload, unsigned int rounds)
{
	return strcmp(workload, "hot") == 0 ? rounds * HOT_FACTOR : rounds;
}

/* ---- the process that answers ---- */

static const struct allocator *allocator_named(const char *row)
{
	for (size_t i = 0; i < ALLOCATOR_COUNT; i++)
		if (allocators[i].row && strcmp(allocators[i].row, row) == 0)
			return &allocators[i];
	return &allocator_none;
}

/* What there is to count; callgrind counts. Says how many pairs. */
static int answer_instructions(const char *allocator, const char *workload, const char *rounds)
{
	const struct workload *w = &probed[strcmp(workload, "hot") == 0];
	struct workbench bench;
	size_t pairs;

	workbench_open(&bench);
	pairs = workload_count(&bench, w, allocator_named(allocator),
			       (unsigned int)strtoul(rounds, NULL, 10));
	printf("pairs: %zu\n", pairs);
	workbench_close(&bench);
	return 0;
}

/* Bytes of this process's own memory: what it wrote to, hugepages too. */
static size_t private_memory(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "re");
	size_t bytes = 0, kib;
	char line[256];

	if (!f)
		bench_fail("no /proc/self/smaps_rollup: bookkeeping is not measured");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Private_Dirty: %zu", &kib) == 1 ||
		    sscanf(line, "Private_Hugetlb: %zu", &kib) == 1)
			bytes += kib << 10;
	fclose(f);
	return bytes;
}

/* What the process has beside the memory that the device sees. */
static size_t memory_beside(const struct bench_place *p)
{
	return private_memory() - p->domain.memory;
}

/* Allocate until there is no memory; how many blocks. */
static size_t pool_fill(struct dma_pool *pool, struct held *held, size_t max)
{
	size_t n = 0;

	while (n < max) {
		held[n].vaddr = dma_pool_alloc(pool, GFP_KERNEL, &held[n].handle);
		if (!held[n].vaddr)
			break;
		n++;
	}
	return n;
}

static int answer_bookkeeping(size_t size)
{
	size_t max = BOOKKEEPING_MEMORY / size, bytes = max * sizeof(struct held);
	size_t n, before, full, empty;
	struct bench_place p;
	struct dma_pool *pool;
	struct held *held = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (held == MAP_FAILED)
		bench_fail("no memory for %zu addresses of blocks", max);
	private_memory(); /* its buffers are not the pool's */
	before = private_memory();
	bench_place_open(&p, BOOKKEEPING_MEMORY);
	pool = pool_create("bench", &p.place, size, size, 0);
	if (!pool)
		bench_fail("no pool of %zu B", size);
	n = pool_fill(pool, held, max);
	if (n < max / 2)
		bench_fail("a pool of %zu B filled only %zu KiB", size, n * size >> 10);
	full = memory_beside(&p) - before;
	for (size_t i = 0; i < n; i++)
		dma_pool_free(pool, held[i].vaddr, held[i].handle);
	empty = memory_beside(&p) - before;
	printf("percent: %.6f\n",
	       100.0 * (double)(full > empty ? full : empty) / (double)(n * size));
	dma_pool_destroy(pool);
	bench_place_close(&p);
	munmap(held, bytes);
	return 0;
}

int probe_answer(int argc, char **argv)
{
	if (argc < 2 || strcmp(argv[1], "--probe") != 0)
		return -1;
	if (argc == 6 && strcmp(argv[2], "instructions") == 0)
		return answer_instructions(argv[3], argv[4], argv[5]);
	if (argc == 4 && strcmp(argv[2], "bookkeeping") == 0)
		return answer_bookkeeping(strtoul(argv[3], NULL, 10));
	return 2;
}

/* ---- the process that asks ---- */

static double instructions_count(const char *allocator, const char *workload, unsigned int rounds,
				 double *pairs)
{
	char text[16];
	const char *arguments[] = {"--probe", "instructions", allocator, workload, text, NULL};
	double count;

	snprintf(text, sizeof(text), "%u", probe_rounds(workload, rounds));
	count = callgrind_run(arguments, pairs);
	if (isnan(count))
		bench_fail("cannot run valgrind (%s): install it, or leave out --instructions",
			   strerror(errno));
	return count;
}

double probe_instructions(const char *allocator, const char *workload)
{
	double few, many, few_pairs, many_pairs;

	few = instructions_count(allocator, workload, SHORT_ROUNDS, &few_pairs);
	many = instructions_count(allocator, workload, LONG_ROUNDS, &many_pairs);
	return (many - few) / (many_pairs - few_pairs);
}

double probe_bookkeeping(size_t size)
{
	char text[32], answer[1024];
	const char *arguments[] = {"--probe", "bookkeeping", text, NULL};

	snprintf(text, sizeof(text), "%zu", size);
	if (bench_run_self(NULL, arguments, answer, sizeof(answer)) < 0)
		bench_fail("cannot run this program again: %s", strerror(errno));
	return answer_number(answer, "percent:");
}
