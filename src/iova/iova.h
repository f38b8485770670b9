/* SPDX-License-Identifier: MIT */
/*
 * iova.h - which addresses are free
 *
 * A space is a tree of free ranges. Taking a range may split one in two, so each take makes sure that
 * there is a node for one range more; giving back therefore never allocates and never fails. The same
 * structure serves dma addresses and places in a window of memory.
 *
 * Not locked: the owner of a space serialises.
 */
#ifndef IOVA_IOVA_H
#define IOVA_IOVA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tree.h"

/* Both ends belong to the range, so that a space can reach up to the last 64-bit address. */
struct iova_range {
	uint64_t first, last;
};

/* What is asked of addresses. */
struct iova_wish {
	uint64_t size;	   /* bytes, a multiple of IOVA_UNIT */
	uint64_t align;	   /* a power of two */
	uint64_t offset;   /* below align: first % align */
	uint64_t boundary; /* none crosses a multiple of this plus 1, a power of two; 0: any may */
	uint64_t last;	   /* no byte above this */
};

enum { IOVA_UNIT = 4096 };

/* So many pairs of alignment and boundary are searched for without looking twice. */
enum { IOVA_LANES = 16 };

struct iova_lane {
	uint64_t align, boundary;
	uint64_t used; /* when it was wanted last */
};

struct iova_space {
	struct tree free; /* of struct iova_hole, none touching another */
	size_t count;	  /* of them */
	size_t taken;	  /* ranges */

	struct iova_hole *spare;
	struct iova_block *blocks; /* of holes, spare or not */
	size_t holes, added;	   /* in blocks; iova_space_add() */

	struct iova_lane lanes[IOVA_LANES];
	unsigned int lane_count;
	uint64_t clock;

	/* Where it was restricted: only what lies in these becomes free again. */
	struct iova_range *usable;
	size_t usable_count;
	uint32_t generation; /* how often; read without the owner's lock */
};

/* Begin with nothing free. */
void iova_space_init(struct iova_space *space);
void iova_space_destroy(struct iova_space *space);

/* Make first..last free; it must not touch a taken range. Address 0 is left out. 0 or -ENOMEM. */
int iova_space_add(struct iova_space *space, uint64_t first, uint64_t last);

/*
 * From now on nothing outside of the n ascending ranges is handed out; what is taken there is not free
 * when it comes back. 0, or -ENOMEM, and all is as it was.
 */
int iova_space_restrict(struct iova_space *space, const struct iova_range *usable, size_t n);

/*
 * Take the highest place that fits. With an offset, what is below it up to a multiple of the alignment must be
 * free, too, and stays free. Returns 0 with the first address in *first, -ENOSPC when there is none, -ENOMEM.
 * Does not set the error text: only the caller knows what the space stands for.
 */
int iova_space_take(struct iova_space *space, const struct iova_wish *wish, uint64_t *first);

/* Would it succeed, with the range's first address not below lowest? */
bool iova_space_fits(struct iova_space *space, const struct iova_wish *wish, uint64_t lowest);

/* Give back what was taken, whole. Neighbours merge. */
void iova_space_release(struct iova_space *space, uint64_t first, uint64_t size);

/* Bytes that are free at or below last. */
uint64_t iova_space_free(const struct iova_space *space, uint64_t last);

/* The lowest free range that begins above an address; false: there is none. */
bool iova_space_next(const struct iova_space *space, uint64_t address, struct iova_range *range);

#endif
