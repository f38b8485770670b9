/* SPDX-License-Identifier: MIT */
/*
 * workload.h - what is done to a pool while the clock runs
 *
 * A workload says how blocks are asked for and given back; one sample of it makes a fresh pool, runs
 * it on one or more threads, and gives nanoseconds per alloc+free pair and thread. Making and
 * ending the pool are outside of the clock.
 */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include "allocator.h"
#include "place.h"
#include "ring.h"

#define BLOCKS_MAX 8192
#define BURST	   32
#define LIVE_SET   4096

/* What a workload is run with; the rest follows from its name. */
struct workload {
	const char *row;   /* in names of rows: "1thread" */
	const char *title; /* in the table */
	enum workload_kind {
		/*
		 * The kernel's dmapool_test: allocate all blocks in order, free them in the same
		 * order, 100 rounds (fewer on more than two threads). Growth, in the first round,
		 * is inside the clock.
		 */
		WORKLOAD_KERNEL_TEST,
		WORKLOAD_APART,	  /* the same, each thread on a pool of its own */
		WORKLOAD_WRITTEN, /* the first, and each block's first 64 bytes are written */
		WORKLOAD_HOT,	  /* allocate and free, always the same block */
		WORKLOAD_BURST,	  /* allocate 32, free 32 */
		WORKLOAD_BULK,	  /* the same by the calls for many blocks */
		WORKLOAD_RANDOM,  /* allocate 4,096, free them in random order */
		WORKLOAD_PIPE,	  /* one thread allocates, another frees */
	} kind;
	unsigned int threads;
	size_t size, align, boundary;
};

/* The memory and CPUs that samples are taken with. */
struct workbench {
	struct bench_place place;
	int cpus[64];
	size_t cpu_count;
	struct held *held;     /* BLOCKS_MAX for each CPU */
	uint16_t *permutation; /* of 0 to LIVE_SET - 1 */
	struct ring *ring;
};

/* The calling thread is pinned to the first CPU. */
void workbench_open(struct workbench *bench);
void workbench_close(struct workbench *bench);

/* How many blocks the kernel's dmapool_test takes of this size. */
size_t kernel_test_blocks(size_t size);

/* Can this allocator do this, here? */
bool workload_suits(const struct workload *w, const struct allocator *a,
		    const struct workbench *bench);

/* Nanoseconds per pair. */
double workload_sample(struct workbench *bench, const struct workload *w,
		       const struct allocator *a);

/* For counting instructions: rounds of the kernel's test on one thread. How many pairs it made. */
size_t workload_count(struct workbench *bench, const struct workload *w, const struct allocator *a,
		      unsigned int rounds);

#endif
