/* SPDX-License-Identifier: MIT */
/*
 * soft_ranges.h - what is mapped at which dma address, and what was
 *
 * Adding, removing and finding take at most as many steps as the tree has levels: five for 39 bits
 * of addresses in pages of 4 KiB, however many ranges there are.
 *
 * Not locked: the domain's lock serialises.
 */
#ifndef BACKEND_SOFT_RANGES_H
#define BACKEND_SOFT_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dmaland/soft.h>

/* Levels of a tree for 64 bits of granules. */
#define SOFT_LEVELS 11

/* How many ranges that ended are remembered. */
#define SOFT_NOTES 1024

struct soft_range {
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

struct soft_node {
	uint64_t used;	/* bit i: slot[i] is not NULL */
	void *slot[64]; /* nodes that hold something; on the lowest level ranges */
};

struct soft_ranges {
	unsigned int shift, bits; /* log2 of the granule; width of addresses, below 64 */
	unsigned int levels;
	struct soft_node root;
	struct soft_node *way[SOFT_LEVELS]; /* to the leaf used last; way[0] is it */
	uint64_t way_leaf;		    /* its granules, without their lowest six bits */
	struct soft_node *spare;	    /* nodes not in use, linked by slot[0] */
	size_t spares;
	struct soft_slab **slabs; /* the places of ranges */
	size_t slab_count;
	struct soft_range *free;
	struct soft_range notes[SOFT_NOTES]; /* a ring of those that ended */
	size_t ended;			     /* ever */
};

void soft_ranges_init(struct soft_ranges *ranges, unsigned int shift, unsigned int bits);
void soft_ranges_fini(struct soft_ranges *ranges);

/*
 * Add a range of whole granules that overlaps no other; the caller fills in what it is. NULL: no
 * memory.
 */
struct soft_range *soft_ranges_add(struct soft_ranges *ranges, dma_addr_t dma, uint64_t size);

/* Remove it and remember it. */
void soft_ranges_remove(struct soft_ranges *ranges, struct soft_range *range);

/* The range that begins at an address, or NULL. */
struct soft_range *soft_ranges_at(struct soft_ranges *ranges, dma_addr_t dma);

/* The range that begins last at or before an address, also when it ends before it; or NULL. */
struct soft_range *soft_ranges_before(struct soft_ranges *ranges, dma_addr_t dma);

/* The range that an address lies in, or NULL. */
struct soft_range *soft_ranges_find(struct soft_ranges *ranges, dma_addr_t dma);

/* The range that had an address and ended last, if it is remembered; or NULL. */
const struct soft_range *soft_ranges_was(const struct soft_ranges *ranges, dma_addr_t dma);

/* Any range: one for each number; NULL when there is none. */
struct soft_range *soft_ranges_pick(const struct soft_ranges *ranges, uint64_t number);

#endif
