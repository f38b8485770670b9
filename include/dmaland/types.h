/* SPDX-License-Identifier: MIT */
/*
 * types.h - the words that all of dmaland shares: dma addresses, gfp flags, masks
 */
#ifndef DMALAND_TYPES_H
#define DMALAND_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What is given to a device: never 0, never DMA_MAPPING_ERROR. */
typedef uint64_t dma_addr_t;
typedef uint64_t phys_addr_t; /* of registers: the address of a window of pci_iomap() */

#define DMA_MAPPING_ERROR (~(dma_addr_t)0)
#define DMA_BIT_MASK(n)	  (((n) == 64) ? ~0ULL : ((1ULL << (n)) - 1))

/*
 * How an allocation may go about it. GFP_KERNEL may grow by system calls. GFP_ATOMIC and
 * GFP_NOWAIT make no system call and take no lock that is held across one, unless the device was opened
 * with atomic_may_grow. __GFP_ZERO clears.
 */
typedef unsigned int gfp_t;

#define __GFP_RECLAIM 1u
#define __GFP_ZERO    2u
#define GFP_KERNEL    __GFP_RECLAIM
#define GFP_ATOMIC    0u
#define GFP_NOWAIT    0u

#define NUMA_NO_NODE (-1)

/* One function that does DMA, opened by dmaland_open(). */
struct dmaland_device;

#ifdef __cplusplus
}
#endif

#endif
