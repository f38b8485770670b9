/* SPDX-License-Identifier: MIT */
/*
 * limits.h - what a device can address
 *
 * Arenas, pools and mappings point to the limits of the device they work for.
 */
#ifndef IOVA_LIMITS_H
#define IOVA_LIMITS_H

#include <stdint.h>

struct dma_limits {
	uint64_t streaming_mask; /* the highest address for mappings; DMA_BIT_MASK(n) */
	uint64_t coherent_mask;	 /* the same for coherent memory and pools */
};

#endif
