/* SPDX-License-Identifier: MIT */
/*
 * pool_probe.h - figures that need a process of their own: instructions and bookkeeping
 *
 * The benchmark starts itself again with `--probe KIND ARGUMENTS...`; the second process answers.
 */
#ifndef BENCH_POOL_PROBE_H
#define BENCH_POOL_PROBE_H

#include <stddef.h>

/* Is this a process that was started to answer? Then its exit status, otherwise -1. */
int probe_answer(int argc, char **argv);

/*
 * Instructions per pair in rounds of the kernel's dmapool_test at 64 B ("1thread") or of one block
 * ("hot"), by callgrind: the difference of a long and a short run over the difference in pairs, so
 * that start and growth don't count; calls and the benchmark's own loop do. allocator is a row name
 * ("ours", "kernel"), or "none" for the loop and two empty calls alone.
 */
double probe_instructions(const char *allocator, const char *workload);

/*
 * Percent of bookkeeping beside the blocks of a large pool: a pool takes blocks until 64 MiB of the
 * device's memory are full, and gets them all back. What the process's private memory grew by, full
 * or empty, whichever is more, less the memory that the device sees, over the blocks' bytes.
 */
double probe_bookkeeping(size_t size);

#endif
