/* SPDX-License-Identifier: MIT */
/*
 * syscalls.h - system calls of this thread, counted by the kernel's tracepoints
 *
 * The kernel counts as it enters a call; nothing stops, and nothing of ours is asked. Needs root and
 * tracefs.
 */
#ifndef BENCH_SYSCALLS_H
#define BENCH_SYSCALLS_H

#include <stdint.h>

struct syscalls {
	int all, maps; /* events of perf_event_open(2) */
	uint64_t all_before, maps_before;
};

/* Ends the program with a sentence when this kernel can't. */
void syscalls_open(struct syscalls *syscalls);
void syscalls_close(struct syscalls *syscalls);

/* From here to the next; the system calls that are not VFIO_IOMMU_MAP_DMA, and those that are. */
void syscalls_begin(struct syscalls *syscalls);
uint64_t syscalls_end(struct syscalls *syscalls, uint64_t *maps);

#endif
