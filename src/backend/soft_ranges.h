/* SPDX-License-Identifier: MIT */
/*
 * soft_ranges.h - what is mapped at which dma address, and what was
 *
 * Not locked: the domain's lock serialises.
 */
#ifndef BACKEND_SOFT_RANGES_H
#define BACKEND_SOFT_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dmaland/soft.h>
#include "base/tree.h"

/* How many ranges that ended are remembered. */
#define SOFT_NOTES 1024

struct soft_range {
	struct tree_node node; /* its key is dma */
	dma_addr_t dma;
	uint64_t size; /* 0: the place is free */
	char *cpu;     /* where it lies for the application */
	char *device;  /* what the device sees: cpu, or its own copy */
	enum dmaland_soft_kind kind;
	unsigned int access; /* enum domain_access */
	union {
		struct soft_owners *owners; /* in use: who has its bytes, soft_owners.c; or NULL */
		struct soft_range *next_free;
	};
};

struct soft_ranges {
	struct tree tree;
	struct soft_slab **slabs; /* the places of ranges */
	size_t slab_count;
	struct soft_range *free;
	struct soft_range notes[SOFT_NOTES]; /* a ring of those that ended */
	size_t ended;			     /* ever */
};

void soft_ranges_init(struct soft_ranges *ranges);
void soft_ranges_fini(struct soft_ranges *ranges);

/*
 * Add a range that overlaps no other, behind the one before it: soft_ranges_before() its address. The caller
 * fills in what it is. NULL: no memory.
 */
struct soft_range *soft_ranges_add(struct soft_ranges *ranges, dma_addr_t dma, uint64_t size,
				   struct soft_range *before);

/* Remove it and remember it. */
void soft_ranges_remove(struct soft_ranges *ranges, struct soft_range *range);

/* The range that begins at an address, or NULL. */
struct soft_range *soft_ranges_at(const struct soft_ranges *ranges, dma_addr_t dma);

/* The range that begins last at or before an address, also when it ends before it; or NULL. */
struct soft_range *soft_ranges_before(const struct soft_ranges *ranges, dma_addr_t dma);

/* The range that an address lies in, or NULL. */
struct soft_range *soft_ranges_find(const struct soft_ranges *ranges, dma_addr_t dma);

/* The range that had an address and ended last, if it is remembered; or NULL. */
const struct soft_range *soft_ranges_was(const struct soft_ranges *ranges, dma_addr_t dma);

/* Any range: one for each number; NULL when there is none. */
struct soft_range *soft_ranges_pick(const struct soft_ranges *ranges, uint64_t number);

#endif
