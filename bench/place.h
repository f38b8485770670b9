/* SPDX-License-Identifier: MIT */
/*
 * place.h - a domain without a device, and what a device would hold: enough for a pool to work in
 *
 * Its memory is the same that the VFIO backend would map: anonymous, in hugepages where there are
 * some, faulted in. Only the mapping for a device is missing.
 */
#ifndef BENCH_PLACE_H
#define BENCH_PLACE_H

#include <stddef.h>

#include "backend/backend.h"
#include "backend/window.h"
#include "memory/arena.h"
#include "pool/pool.h"

struct bench_place {
	struct domain domain;
	struct memory_window window;
	struct arena *arena;
	struct dma_limits limits;
	struct arena_tenant orphans;
	struct pool_list pools;
	struct pool_place place;
};

/*
 * memory_limit is in bytes; 0: none. Ends the program with a sentence when there is no memory.
 */
void bench_place_open(struct bench_place *p, uint64_t memory_limit);

/* Have this many bytes mapped in one piece, so that nobody's first sample pays for system calls. */
void bench_place_warm(struct bench_place *p, size_t size);

void bench_place_close(struct bench_place *p);

#endif
