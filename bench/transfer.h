/* SPDX-License-Identifier: MIT */
/*
 * transfer.h - what is done to a buffer for a transfer, again and again, while somebody counts
 *
 * A transfer maps a buffer and unmaps it, or does what is set beside that. Each is a call of a
 * driver's with all that it is: arguments, call, return, and the question dma_mapping_error(). What
 * is the loop's own is there as a transfer that does nothing, to be subtracted.
 */
#ifndef BENCH_TRANSFER_H
#define BENCH_TRANSFER_H

#include <stddef.h>

#include <dmaland/device.h>
#include <dmaland/scatterlist.h>
#include "lookup.h"

#define TRANSFER_MAX	((size_t)64 << 10) /* bytes of the largest */
#define TRANSFER_PAGES	16		   /* elements of the longest list */
#define TRANSFER_PIECES 64 /* pieces of registered memory; a loop goes round them all */

struct transfer {
	const char *row; /* in names of rows: "map_unmap.arena" */
	enum transfer_kind {
		TRANSFER_NOTHING,
		TRANSFER_ARENA,	     /* memory of dma_alloc_coherent() */
		TRANSFER_REGISTERED, /* memory of dmaland_register(), in pieces */
		TRANSFER_BOUNCED,    /* both ways: DMA_BIDIRECTIONAL, as all of them */
		TRANSFER_MEMCPY,     /* to another buffer and back */
		TRANSFER_MAPPED,
		TRANSFER_SG_ARENA,   /* a list of one element, in the arena */
		TRANSFER_SG_BOUNCED, /* a list of one element, copied */
		TRANSFER_SG_PAGES,   /* a list of pages that lie apart, joined to one segment */
		TRANSFER_BY_HAND,    /* the same by VFIO's ioctls */
		TRANSFER_TABLE,	     /* a lookup as SPDK has it */
		TRANSFER_LIST,	     /* a lookup as libvfn has it */
	} kind;
	size_t size;
};

#define TRANSFERS 20

extern const struct transfer transfers[TRANSFERS];

/* What transfers are made with. */
struct transfer_place {
	struct dmaland_device *dev;
	int by_hand; /* container; -1: none */
	char *plain; /* memory of ours; 2 * TRANSFER_MAX */
	char *pieces;
	char *arena;
	dma_addr_t arena_dma;
	struct scatterlist sg[TRANSFER_PAGES];
	char *steps; /* addresses without memory, for lookups */
	struct lookup_table *table;
	struct lookup_list *list;
};

/* spec is dmaland's device; address, that of another device for VFIO by hand, or NULL. */
void transfer_open(struct transfer_place *place, const char *spec, const char *address);
void transfer_close(struct transfer_place *place);

/* A piece of memory of its own, TRANSFER_MAX bytes; there are TRANSFER_PIECES. */
char *transfer_piece(const struct transfer_place *place, size_t i);

/* NULL when there is none. */
const struct transfer *transfer_named(const char *row);

/* What is not for the clock. */
void transfer_begin(struct transfer_place *place, const struct transfer *transfer);
void transfer_end(struct transfer_place *place, const struct transfer *transfer);

void transfer_run(struct transfer_place *place, const struct transfer *transfer, size_t count);

/*
 * The same for a test before the measurement: did they go the way that they are named after? Ends
 * the program with a sentence if not.
 */
void transfer_check(struct transfer_place *place, const struct transfer *transfer);

#endif
