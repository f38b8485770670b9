/* SPDX-License-Identifier: MIT */
/*
 * nvme_probe.h - the part of bench-nvme that runs in the VM: instructions per request, of one contestant after
 * another
 *
 * What is to be counted is work, not waiting, and a round is made so that they can be told apart. As
 * many requests as the depth says are submitted together, and reaped together:
 *
 *   polls    submit | a delay | poll      The delay is long enough that all have completed before the
 *                                         poll; a round whose poll does not find all is dropped. The
 *                                         delay is not counted, but checked for work that hides in it.
 *   sleeps   submit, sleep, wake up       All is counted, interrupts too, but for what another thread of
 *                                         the lowest priority ran meanwhile: it counts its own
 *                                         instructions. A round without sleep is dropped.
 *
 * So both batch as well as can be at their depth: a poll that finds fewer costs more for each.
 */
#ifndef BENCH_NVME_PROBE_H
#define BENCH_NVME_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nvme_load {
	const char *row; /* in names of rows: "randread.4096.qd1" */
	bool write, random;
	uint32_t bytes;
	unsigned int depth;
};

#define NVME_LOADS 16

extern const struct nvme_load nvme_loads[NVME_LOADS];

/* In the VM: `--drive DRIVE ROUNDS`, a spec of dmaland's or the kernel's block device. -1: not asked. */
int nvme_probe_answer(int argc, char **argv);

#endif
