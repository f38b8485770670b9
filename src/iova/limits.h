/* SPDX-License-Identifier: MIT */
/*
 * limits.h - what a device can address
 *
 * Arenas, pools and mappings point to the limits of the device they work for.
 */
#ifndef IOVA_LIMITS_H
#define IOVA_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

struct dma_limits {
	uint64_t streaming_mask; /* the highest address for mappings; DMA_BIT_MASK(n) */
	uint64_t coherent_mask;	 /* the same for coherent memory and pools */

	/* For mappings; floor 5 fills in the kernel's defaults. */
	uint64_t seg_boundary;	 /* no segment crosses a multiple of this plus 1 */
	uint64_t min_align_mask; /* these bits of an address are the original's */
	uint32_t max_seg_size;	 /* up to so many bytes elements are joined */
	bool bouncing;		 /* of memory to bounce through, which is never translated */
	bool keeps_idle;	 /* pools keep idle pages for good: nothing may be mapped later */
};

#endif
