/* SPDX-License-Identifier: MIT */
/*
 * iova.h - which addresses are free
 *
 * A space is a sorted array of free ranges. Taking a range may split one in two, so each take
 * makes sure that there is room for one range more; giving back therefore never allocates and
 * never fails. The same structure serves dma addresses and places in a window of memory.
 *
 * Not locked: the owner of a space serialises.
 */
#ifndef IOVA_IOVA_H
#define IOVA_IOVA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Both ends belong to the range, so that a space can reach up to the last 64-bit address. */
struct iova_range {
	uint64_t first, last;
};

struct iova_space {
	struct iova_range *free; /* ascending, never touching each other */
	size_t count, room;	 /* room >= count + number of ranges taken + usable_count */
	size_t taken;

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
 * Take size bytes aligned to align (a power of two), none of them above last; the highest place
 * that fits. Returns 0 with the first address in *first, -ENOSPC when there is none, -ENOMEM.
 * Does not set the error text: only the caller knows what the space stands for.
 */
int iova_space_take(struct iova_space *space, uint64_t size, uint64_t align, uint64_t last,
		    uint64_t *first);

/* Would it succeed, with the range's first address not below first? */
bool iova_space_fits(const struct iova_space *space, uint64_t size, uint64_t align, uint64_t first,
		     uint64_t last);

/* Give back what was taken, whole. Neighbours merge. */
void iova_space_release(struct iova_space *space, uint64_t first, uint64_t size);

/* May these be handed out, as far as the space was restricted? */
bool iova_space_has(const struct iova_space *space, uint64_t first, uint64_t last);

/* Bytes that are free at or below last. */
uint64_t iova_space_free(const struct iova_space *space, uint64_t last);

#endif
