/* SPDX-License-Identifier: MIT */
/*
 * latency_probe.h - threads and pools that come late: do they have what the first ones have?
 *
 * Each sample in a process of its own: it depends on what a process did before.
 */
#ifndef BENCH_LATENCY_PROBE_H
#define BENCH_LATENCY_PROBE_H

#include <stdbool.h>
#include <stddef.h>

/* Of a pair or a call in ns, medians; ratio is the median of the samples' own. */
struct latency_pair {
	double usual, here, ratio;
};

/* The exit status of a process that was started to answer one of these, or -1. */
int latency_probe_answer(int argc, char **argv);

/*
 * CPU time, n threads at work at once; keys: the program made 100 of pthread_key_create() before it used
 * the library.
 */

/* Threads that allocate with GFP_ATOMIC alone, per pair; usual: with GFP_KERNEL. */
struct latency_pair latency_atomic_threads(unsigned int n, bool keys, bool quick);

/* Threads that only free, per call; usual: after an allocation with GFP_KERNEL. */
struct latency_pair latency_freeing_threads(unsigned int n, bool keys, bool quick);

/* One block again and again in the first pool of a process (usual) and in the nth, all of them in use. */
struct latency_pair latency_pools(unsigned int n, bool quick);

#endif
