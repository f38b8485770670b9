/* SPDX-License-Identifier: MIT */
/*
 * registered.h - memory of the application that is mapped for good
 *
 * A sorted table of ranges. Looking up takes no lock: a number tells readers that the table changed
 * under them. Those who change it hold the lock, and the system calls are theirs.
 */
#ifndef STREAMING_REGISTERED_H
#define STREAMING_REGISTERED_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dmaland/types.h>
#include "iova/cache.h"

struct streaming;

/* Never freed while the domain lives, since a frame's word may have led somebody here; used again. */
struct registration {
	uintptr_t begin, end; /* of the application's bytes; end is behind them */
	dma_addr_t dma;	      /* of the granules around them */
	size_t size;
	struct iova_place place; /* of the owner's cache */
	struct streaming *owner;
	struct registration *next; /* to be used again */
};

struct registered_range {
	uintptr_t begin, end;
	uint64_t dma_offset; /* dma address less CPU address, modulo 2^64 */
	struct registration *registration;
};

struct registered_table {
	struct registered_table *older; /* readers may still look into it */
	size_t room;
	size_t count;
	struct registered_range ranges[]; /* ascending */
};

struct registered {
	uint32_t sequence; /* odd while the table changes */
	struct registered_table *table;
	struct registration *unused;
	pthread_mutex_t lock; /* of those who change it */
};

int registered_init(struct registered *registered);
void registered_fini(struct registered *registered);

/* The dma address of size bytes inside one registration; DMA_MAPPING_ERROR when there is none. */
dma_addr_t registered_find(const struct registered *registered, const void *ptr, size_t size);

/* One that overlaps these bytes, or NULL. The lock is held, here and below. */
struct registration *registered_overlap(const struct registered *registered, uintptr_t begin,
					uintptr_t end);

/* A registration to fill in, and room to insert it; NULL with the error set. */
struct registration *registered_prepare(struct registered *registered);

/* It was not inserted, or was removed: it may be used again. */
void registered_recycle(struct registered *registered, struct registration *registration);

void registered_insert(struct registered *registered, struct registration *registration,
		       uint64_t dma_offset);
void registered_remove(struct registered *registered, struct registration *registration);

/* The first that a device has registered, or NULL. */
struct registration *registered_of(const struct registered *registered,
				   const struct streaming *owner);

static inline bool registered_any(const struct registered *registered)
{
	const struct registered_table *table = __atomic_load_n(&registered->table, __ATOMIC_ACQUIRE);

	return __atomic_load_n(&table->count, __ATOMIC_RELAXED);
}

#endif
