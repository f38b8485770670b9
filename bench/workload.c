/* SPDX-License-Identifier: MIT */
#include "workload.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define KERNEL_TEST_ROUNDS 100
#define KERNEL_TEST_MIN	   1024
#define HOT_PAIRS	   1000000
#define BURSTS		   30000
#define RANDOM_ROUNDS	   100
#define PIPE_PAIRS	   320000 /* a multiple of RING_BATCH */
#define WARM_MEMORY	   ((size_t)32 << 20)

size_t kernel_test_blocks(size_t size)
{
	size_t blocks = 4096 / size * 512; /* its page size, so that figures compare anywhere */

	return blocks < KERNEL_TEST_MIN ? KERNEL_TEST_MIN
	       : blocks > BLOCKS_MAX	? BLOCKS_MAX
					: blocks;
}

/* ---- the loops: all that lies inside the clock ---- */

static inline void block_take(const struct allocator *a, struct dma_pool *pool, struct held *held)
{
	held->vaddr = a->alloc(pool, GFP_KERNEL, &held->handle);
	if (!held->vaddr)
		bench_fail("%s gave no block", a->row);
}

static inline void block_give(const struct allocator *a, struct dma_pool *pool,
			      const struct held *held)
{
	a->free(pool, held->vaddr, held->handle);
}

static void run_kernel_test(const struct allocator *a, struct dma_pool *pool, struct held *held,
			    size_t blocks, unsigned int rounds)
{
	for (unsigned int round = 0; round < rounds; round++) {
#pragma GCC unroll 8
		for (size_t i = 0; i < blocks; i++)
			block_take(a, pool, &held[i]);
#pragma GCC unroll 8
		for (size_t i = 0; i < blocks; i++)
			block_give(a, pool, &held[i]);
	}
}

static void run_written(const struct allocator *a, struct dma_pool *pool, struct held *held,
			size_t blocks, size_t size, unsigned int rounds)
{
	size_t bytes = size < 64 ? size : 64;

	for (unsigned int round = 0; round < rounds; round++) {
		for (size_t i = 0; i < blocks; i++) {
			block_take(a, pool, &held[i]);
			memset(held[i].vaddr, (int)round, bytes);
		}
		for (size_t i = 0; i < blocks; i++)
			block_give(a, pool, &held[i]);
	}
}

static void run_hot(const struct allocator *a, struct dma_pool *pool, size_t pairs)
{
	struct held held = {0, NULL};

#pragma GCC unroll 8
	for (size_t i = 0; i < pairs; i++) {
		block_take(a, pool, &held);
		block_give(a, pool, &held);
	}
}

static void run_random(const struct allocator *a, struct dma_pool *pool, struct held *held,
		       const uint16_t *permutation, unsigned int rounds)
{
	for (unsigned int round = 0; round < rounds; round++) {
		for (size_t i = 0; i < LIVE_SET; i++)
			block_take(a, pool, &held[i]);
		for (size_t i = 0; i < LIVE_SET; i++)
			block_give(a, pool, &held[permutation[i]]);
	}
}

#ifdef BENCH_BULK
static void run_bulk(struct dma_pool *pool, size_t bursts)
{
	dma_addr_t handles[BURST];
	void *vaddrs[BURST];

	for (size_t i = 0; i < bursts; i++) {
		if (dmaland_pool_alloc_bulk(pool, GFP_KERNEL, BURST, vaddrs, handles) != BURST)
			bench_fail("ours gave fewer than %d blocks at once", BURST);
		dmaland_pool_free_bulk(pool, BURST, vaddrs, handles);
	}
}
#else
static void run_bulk(struct dma_pool *pool, size_t bursts)
{
	(void)pool, (void)bursts;
}
#endif

/* ---- one thread's part of a sample ---- */

struct worker {
	const struct workload *workload;
	const struct allocator *allocator;
	struct dma_pool *pool;
	struct workbench *bench;
	struct held *held;
	unsigned int index; /* of the thread */
	unsigned int *waiting;
	double begin, end;
};

/* Fewer where many threads queue for one lock: a sample would take seconds. */
static unsigned int kernel_test_rounds(const struct workload *w)
{
	unsigned int rounds =
		w->threads > 2 ? 2 * KERNEL_TEST_ROUNDS / w->threads : KERNEL_TEST_ROUNDS;

	return rounds < 4 ? 4 : rounds;
}

static size_t workload_pairs(const struct workload *w)
{
	switch (w->kind) {
	case WORKLOAD_KERNEL_TEST:
	case WORKLOAD_APART:
	case WORKLOAD_WRITTEN:
		return kernel_test_blocks(w->size) * kernel_test_rounds(w);
	case WORKLOAD_HOT:
		return HOT_PAIRS;
	case WORKLOAD_BURST:
	case WORKLOAD_BULK:
		return (size_t)BURST * BURSTS;
	case WORKLOAD_RANDOM:
		return (size_t)LIVE_SET * RANDOM_ROUNDS;
	case WORKLOAD_PIPE:
		return PIPE_PAIRS;
	}
	return 0;
}

/* Before the clock: a first pass, but for the kernel's test, which is to see the pool grow. */
static void worker_warm(struct worker *worker)
{
	const struct workload *w = worker->workload;
	const struct allocator *a = worker->allocator;

	if (w->kind == WORKLOAD_HOT || w->kind == WORKLOAD_BURST || w->kind == WORKLOAD_BULK)
		run_kernel_test(a, worker->pool, worker->held, BURST, 4);
	else if (w->kind == WORKLOAD_RANDOM)
		run_random(a, worker->pool, worker->held, worker->bench->permutation, 2);
}

static void run_pipe(struct worker *worker)
{
	struct ring *ring = worker->bench->ring;
	struct held held = {0, NULL};

	for (size_t i = 0; i < PIPE_PAIRS; i++) {
		if (worker->index == 0) {
			block_take(worker->allocator, worker->pool, &held);
			ring_put(ring, held);
		} else {
			held = ring_take(ring);
			block_give(worker->allocator, worker->pool, &held);
		}
	}
}

static void worker_loop(struct worker *worker)
{
	const struct workload *w = worker->workload;
	const struct allocator *a = worker->allocator;
	struct dma_pool *pool = worker->pool;
	struct held *held = worker->held;

	switch (w->kind) {
	case WORKLOAD_KERNEL_TEST:
	case WORKLOAD_APART:
		run_kernel_test(a, pool, held, kernel_test_blocks(w->size), kernel_test_rounds(w));
		break;
	case WORKLOAD_WRITTEN:
		run_written(a, pool, held, kernel_test_blocks(w->size), w->size,
			    kernel_test_rounds(w));
		break;
	case WORKLOAD_HOT:
		run_hot(a, pool, HOT_PAIRS);
		break;
	case WORKLOAD_BURST:
		run_kernel_test(a, pool, held, BURST, BURSTS);
		break;
	case WORKLOAD_BULK:
		run_bulk(pool, BURSTS);
		break;
	case WORKLOAD_RANDOM:
		run_random(a, pool, held, worker->bench->permutation, RANDOM_ROUNDS);
		break;
	case WORKLOAD_PIPE:
		run_pipe(worker);
		break;
	}
}

static void worker_run(struct worker *worker)
{
	worker_warm(worker);
	/* All begin together. */
	__atomic_sub_fetch(worker->waiting, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(worker->waiting, __ATOMIC_ACQUIRE))
		bench_relax();
	worker->begin = bench_now();
	worker_loop(worker);
	worker->end = bench_now();
}

static void *worker_thread(void *argument)
{
	struct worker *worker = argument;

	bench_pin(worker->bench->cpus[worker->index]);
	worker_run(worker);
	return NULL;
}

/* ---- samples ---- */

bool workload_suits(const struct workload *w, const struct allocator *a,
		    const struct workbench *bench)
{
	if (!a->row || w->threads > bench->cpu_count)
		return false;
	if (w->kind == WORKLOAD_BULK) {
#ifdef BENCH_BULK
		return a == &allocators[ALLOCATOR_DMALAND];
#else
		return false;
#endif
	}
	return (a->threads || w->threads == 1) && (a->boundary || !w->boundary);
}

static struct dma_pool *sample_pool(struct workbench *bench, const struct workload *w,
				    const struct allocator *a)
{
	size_t blocks = w->kind <= WORKLOAD_WRITTEN ? kernel_test_blocks(w->size) : LIVE_SET;
	struct dma_pool *pool =
		a->create(&bench->place.place, w->size, w->align, w->boundary, blocks);

	if (!pool)
		bench_fail("%s makes no pool of %zu B", a->row, w->size);
	return pool;
}

/* From when the first thread began until the last one had ended. */
static double workers_time(const struct worker *workers, unsigned int n)
{
	double begin = workers[0].begin, end = workers[0].end;

	for (unsigned int i = 1; i < n; i++) {
		begin = fmin(begin, workers[i].begin);
		end = fmax(end, workers[i].end);
	}
	return end - begin;
}

double workload_sample(struct workbench *bench, const struct workload *w, const struct allocator *a)
{
	struct dma_pool *pool = sample_pool(bench, w, a);
	struct worker workers[64];
	pthread_t threads[64];
	unsigned int waiting = w->threads;

	memset(bench->ring, 0, sizeof(*bench->ring));
	for (unsigned int i = 0; i < w->threads; i++) {
		workers[i] = (struct worker){
			.workload = w,
			.allocator = a,
			.pool = w->kind == WORKLOAD_APART && i ? sample_pool(bench, w, a) : pool,
			.bench = bench,
			.held = bench->held + (size_t)i * BLOCKS_MAX,
			.index = i,
			.waiting = &waiting};
	}
	if (w->threads == 1) {
		worker_run(&workers[0]);
	} else {
		for (unsigned int i = 0; i < w->threads; i++)
			if (pthread_create(&threads[i], NULL, worker_thread, &workers[i]))
				bench_fail("cannot start %u threads", w->threads);
		for (unsigned int i = 0; i < w->threads; i++)
			pthread_join(threads[i], NULL);
	}
	for (unsigned int i = 1; w->kind == WORKLOAD_APART && i < w->threads; i++)
		a->destroy(workers[i].pool);
	a->destroy(pool);
	return workers_time(workers, w->threads) / (double)workload_pairs(w);
}

size_t workload_count(struct workbench *bench, const struct workload *w, const struct allocator *a,
		      unsigned int rounds)
{
	struct dma_pool *pool = sample_pool(bench, w, a);
	size_t pairs = rounds;

	if (w->kind == WORKLOAD_HOT) {
		run_hot(a, pool, pairs);
	} else {
		pairs *= kernel_test_blocks(w->size);
		run_kernel_test(a, pool, bench->held, kernel_test_blocks(w->size), rounds);
	}
	a->destroy(pool);
	return pairs;
}

/* ---- what samples are taken with ---- */

/* Fisher and Yates, with the same numbers in every run. */
static void permutation_fill(uint16_t *permutation, size_t n)
{
	uint64_t random = 0x9e3779b97f4a7c15u;

	for (size_t i = 0; i < n; i++)
		permutation[i] = (uint16_t)i;
	for (size_t i = n - 1; i > 0; i--) {
		size_t j;
		uint16_t swap = permutation[i];

		random ^= random << 13; /* Marsaglia's xorshift64 */
		random ^= random >> 7;
		random ^= random << 17;
		j = (size_t)(random % (i + 1));
		permutation[i] = permutation[j];
		permutation[j] = swap;
	}
}

void workbench_open(struct workbench *bench)
{
	size_t held_size;

	memset(bench, 0, sizeof(*bench));
	bench->cpu_count = bench_cpus(bench->cpus, sizeof(bench->cpus) / sizeof(bench->cpus[0]));
	bench_pin(bench->cpus[0]);
	held_size = bench->cpu_count * BLOCKS_MAX * sizeof(*bench->held);
	bench->held = aligned_alloc(128, held_size);
	bench->permutation = malloc(LIVE_SET * sizeof(*bench->permutation));
	bench->ring = aligned_alloc(128, sizeof(*bench->ring));
	if (!bench->held || !bench->permutation || !bench->ring)
		bench_fail("no memory");
	memset(bench->held, 0, held_size);
	permutation_fill(bench->permutation, LIVE_SET);
	bench_place_open(&bench->place, 0);
	bench_place_warm(&bench->place, WARM_MEMORY);
}

void workbench_close(struct workbench *bench)
{
	bench_place_close(&bench->place);
	free(bench->ring);
	free(bench->permutation);
	free(bench->held);
}
