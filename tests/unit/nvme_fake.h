/* SPDX-License-Identifier: MIT */
/*
 * nvme_fake.h - a library and a drive of a few lines, for drivers/nvme/map.c and prp.c
 *
 * DMA memory is one array, whose second half lies elsewhere for the drive; other memory of the
 * application is mapped where it lies, or copied, as a test likes it. Pools count what they hand
 * out. The drive walks PRPs strictly as NVMe 2.0, 4.1.1 says, and touches nothing that is not its
 * own at that moment, in that direction.
 *
 * Link with -Wl,--wrap=malloc,--wrap=aligned_alloc, so that the n-th of them can fail.
 */
#ifndef TESTS_UNIT_NVME_FAKE_H
#define TESTS_UNIT_NVME_FAKE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nvme_internal.h"

enum {
	HALF = 4 << 20, /* of the DMA memory that segments lie in */
	BLOCKS = 2048,	/* that a pool can hand out */
	MAPPINGS = 8192,
	LARGEST_PAGE = 16384,
	POISON = 0xd7,
};

struct dma_pool {
	const char *name;
	size_t size;
	char *memory;
	dma_addr_t dma;
	bool out[BLOCKS];
	size_t in_use, peak, next;
};

/* What the drive was given; of a list: one for each element. */
struct fake_mapping {
	char *original, *cpu; /* cpu: the copy, if there is one */
	size_t size;
	dma_addr_t dma;
	enum dma_data_direction direction;
};

struct fake {
	struct dma_pool pools[2];
	size_t pool_count;
	char *dma;	/* 2 * HALF bytes for segments */
	char *app;	/* 2 * HALF bytes that the drive sees when they are mapped */
	int fail_after; /* allocations and mappings until one fails; below 0: never */
	int map_errno;	/* what mapping fails with */
	bool copies;	/* mapping is copying */
	bool joins;	/* elements that meet at pages become one segment */
	size_t max_mapping;
	size_t min_align, max_seg;
	struct fake_mapping mappings[MAPPINGS];
	size_t live, calls, segments; /* mappings; calls to map; segments of the last list */
	dma_addr_t next_dma;
};

extern struct fake fake;

struct drive {
	size_t page_size;
	char *stream; /* its side of the data */
	bool write;   /* memory to drive */
};

/* Carry out the transfer of a command. Returns how many lists it has. */
size_t drive_transfer(const struct drive *drive, const uint64_t prp[2], size_t bytes);

#endif
