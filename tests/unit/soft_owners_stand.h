/* SPDX-License-Identifier: MIT */
/*
 * soft_owners_stand.h - what tests of a machine that is not coherent stand on: memory of two kinds, and a look at who has its bytes
 *
 * What the CPU has is told by `from` and `to`: none where both are the same.
 */
#ifndef TESTS_UNIT_SOFT_OWNERS_STAND_H
#define TESTS_UNIT_SOFT_OWNERS_STAND_H

#include <stdbool.h>

#include <dmaland/dmaland.h>
#include <dmaland/soft.h>

enum { PAGE = 4096, MOST = 5 * PAGE };

extern struct dmaland_device *dev;
extern unsigned char *memory; /* MOST bytes of the application, and MOST of pools */
extern unsigned char *pool;
extern dma_addr_t pool_dma;
extern struct dmaland_soft_fault fault; /* the last */

void open_spec(const char *spec);
void close_quietly(void);
dma_addr_t map(void *ptr, size_t size, enum dma_data_direction dir);
void sync_cpu(dma_addr_t dma, size_t from, size_t to, enum dma_data_direction dir);
void sync_device(dma_addr_t dma, size_t from, size_t to, enum dma_data_direction dir);

/* What of it the device can do. */
size_t touches(dma_addr_t dma, size_t size, bool write);

/* Of size bytes mapped at dma the CPU has those from `from` up to `to`, and they are ptr's: near the borders each. */
void check_owners(const void *ptr, dma_addr_t dma, size_t size, enum dma_data_direction dir,
		  size_t from, size_t to);

/* Maps it, and hands parts of it to and fro. */
void check_memory(unsigned char *ptr, size_t size, enum dma_data_direction dir);

#endif
