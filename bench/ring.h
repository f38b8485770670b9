/* SPDX-License-Identifier: MIT */
/*
 * ring.h - blocks on their way from one thread to another, without a lock
 *
 * One thread puts, one takes. Each tells the other of its progress once in 32 blocks, and keeps a
 * copy of the other's until that says full or empty: the ring is to cost little beside what is
 * measured. What is put is a multiple of 32 in all, since the rest would not be told of.
 */
#ifndef BENCH_RING_H
#define BENCH_RING_H

#include <stddef.h>

#include <dmaland/types.h>
#include "bench.h"

#define RING_SIZE  1024 /* a power of two */
#define RING_BATCH 32

struct held {
	dma_addr_t handle;
	void *vaddr;
};

struct ring {
	struct {
		size_t put;		    /* blocks put so far */
		size_t taken_seen;	    /* copy of taken */
	} __attribute__((aligned(128))) in; /* for who puts */
	struct {
		size_t taken;			    /* blocks taken so far */
		size_t put_seen;		    /* copy of put */
	} __attribute__((aligned(128))) out;	    /* for who takes */
	size_t put __attribute__((aligned(128)));   /* told to who takes */
	size_t taken __attribute__((aligned(128))); /* told to who puts */
	struct held slots[RING_SIZE] __attribute__((aligned(128)));
};

static inline void ring_put(struct ring *ring, struct held held)
{
	size_t at = ring->in.put++;

	while (at - ring->in.taken_seen == RING_SIZE) {
		ring->in.taken_seen = __atomic_load_n(&ring->taken, __ATOMIC_ACQUIRE);
		bench_relax();
	}
	ring->slots[at % RING_SIZE] = held;
	if ((at + 1) % RING_BATCH == 0)
		__atomic_store_n(&ring->put, at + 1, __ATOMIC_RELEASE);
}

static inline struct held ring_take(struct ring *ring)
{
	size_t at = ring->out.taken++;
	struct held held;

	while (at == ring->out.put_seen) {
		ring->out.put_seen = __atomic_load_n(&ring->put, __ATOMIC_ACQUIRE);
		bench_relax();
	}
	held = ring->slots[at % RING_SIZE];
	if ((at + 1) % RING_BATCH == 0)
		__atomic_store_n(&ring->taken, at + 1, __ATOMIC_RELEASE);
	return held;
}

#endif
