/* SPDX-License-Identifier: MIT */
/*
 * cache.h - dma addresses for mappings that come and go
 *
 * A cache stands between one device's mappings and the free addresses of its domain. Mappings of up
 * to IOVA_SLOT_GRANULES granules take slots of slabs; others take a range from the domain's space.
 *
 * A slab is 64 slots of one exact size, side by side. Slots are handed out in ascending order until
 * the slab is used up: what is mapped one after the other, and unmapped in about that order, lies
 * side by side, so that one system call can revoke it.
 *
 * Beside each slot lies a record of the user's, for what is mapped there. It is made with the slab, so
 * that who takes a slot has its record, and needs no other bookkeeping.
 *
 * A device that joins the domain may bring addresses that can't be used any more (iova_space_restrict).
 * Slots that hold such are found at the next call that wants one, and not handed out again.
 */
#ifndef IOVA_CACHE_H
#define IOVA_CACHE_H

#include <pthread.h>

#include "iova/iova.h"

enum { IOVA_SLOT_GRANULES = 32, IOVA_SLAB_SLOTS = 64, IOVA_SHARDS = 4 };

struct iova_slab;

struct iova_cache;

/* A slot that was taken. */
struct iova_slot {
	struct iova_slab *slab;
	uint64_t bit; /* in the slab */
};

/* The user's records, each of which begins with the struct iova_slot of its slot. */
struct iova_records {
	size_t size;
	/*
	 * IOVA_SLAB_SLOTS of them for slots from first on, one after the other; their struct
	 * iova_slot is filled in later. NULL: none can be had. The space's lock is held.
	 */
	void *(*begin)(struct iova_cache *cache, uint64_t first, uint64_t slot_size);
	/* All slots are free, and the slab is no more. */
	void (*end)(struct iova_cache *cache, void *records);
};

/* Slabs of one size. */
struct iova_class {
	struct iova_slab *first, *last; /* those with free slots */
	unsigned int idle;		/* those with nothing but free slots */
};

struct iova_shard {
	uint32_t lock;	       /* base/spin.h */
	struct iova_slab *all; /* slabs of all classes, those without free slots too */
	struct iova_class classes[IOVA_SLOT_GRANULES];
} __attribute__((aligned(64)));

struct iova_cache {
	struct iova_space *space;
	pthread_mutex_t *lock; /* guards the space; taken before a shard's */
	const struct iova_records *records;
	uint64_t granule;
	unsigned int shift;  /* log2 of it */
	uint64_t last;	     /* no byte of a slot above this */
	uint32_t generation; /* of the space, when slabs were last looked through */
	struct iova_shard shards[IOVA_SHARDS];
};

void iova_cache_init(struct iova_cache *cache, struct iova_space *space, pthread_mutex_t *lock,
		     uint64_t granule, const struct iova_records *records);

/* All slots are back: give all slabs to the space. */
void iova_cache_fini(struct iova_cache *cache);

/* From now on no byte of a slot that is taken lies above last; any may at first. */
void iova_cache_limit(struct iova_cache *cache, uint64_t last);

/* How large a slot may be, so that no slab crosses a multiple of boundary plus 1; 0: none. */
uint64_t iova_cache_slot_max(const struct iova_cache *cache, uint64_t boundary);

/*
 * The record of a slot of size bytes, whole granules up to iova_cache_slot_max(); shard tells
 * threads apart, so that they meet at different locks. NULL when there is none; a range may find a
 * place.
 */
void *iova_cache_take_slot(struct iova_cache *cache, uint64_t size, unsigned int shard);

/* Nothing is mapped there any more. Never fails. */
void iova_cache_give_slot(struct iova_cache *cache, const struct iova_slot *slot);

/* Take a range from the space. 0, -ENOSPC or -ENOMEM, without the error text. */
int iova_cache_take(struct iova_cache *cache, const struct iova_wish *wish, uint64_t *first);

/* Give it back, whole. */
void iova_cache_give(struct iova_cache *cache, uint64_t first, uint64_t size);

/* Give slabs that nobody uses back to the space. */
void iova_cache_trim(struct iova_cache *cache);

#endif
