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
 * A slab lies in memory of the user's, who keeps what is known of each slot beside it: who takes a slot
 * has that, too, and needs no other bookkeeping.
 *
 * Addresses may become unusable: of a device whose mask is narrowed, or when another joins the domain
 * (iova_space_restrict), which is found at the next call that wants a slot. Then nothing is taken from the slabs
 * that are there any more, and each goes back to the space with its last slot.
 */
#ifndef IOVA_CACHE_H
#define IOVA_CACHE_H

#include <pthread.h>

#include "iova/iova.h"

enum { IOVA_SLOT_GRANULES = 32, IOVA_SLAB_SLOTS = 64, IOVA_SHARDS = 4 };

struct iova_slab {
	uint64_t first, slot_size; /* where its addresses begin; bytes of each slot */
	uint64_t free;		   /* a bit a slot */
	uint32_t generation;	   /* the shard's, when it was made */
	struct iova_shard *shard;
	struct iova_class *class;	   /* of the shard */
	struct iova_slab *next, *previous; /* in its class; meaningless while nothing is free */
};

struct iova_cache;

struct iova_slab_ops {
	/*
	 * Memory for a slab, with what is known of its slots from first on; the struct iova_slab at
	 * its beginning is filled in later. NULL: none can be had. The space's lock is held.
	 */
	struct iova_slab *(*begin)(struct iova_cache *cache, uint64_t first, uint64_t slot_size);
	/* All slots are free, and the slab is no more. */
	void (*end)(struct iova_cache *cache, struct iova_slab *slab);
};

/* Slabs of one size. */
struct iova_class {
	struct iova_slab *first, *last; /* those with free slots */
	unsigned int idle;		/* those with nothing but free slots */
};

struct iova_shard {
	uint32_t lock;	     /* base/spin.h */
	uint32_t generation; /* nothing is taken from slabs of an older one */
	struct iova_class classes[IOVA_SLOT_GRANULES];
} __attribute__((aligned(64)));

struct iova_cache {
	struct iova_space *space;
	pthread_mutex_t *lock; /* guards the space; taken before a shard's */
	const struct iova_slab_ops *ops;
	uint64_t granule;
	unsigned int shift;  /* log2 of it */
	uint64_t last;	     /* no byte of a slot above this */
	uint32_t generation; /* of the space, when slabs were last retired */
	struct iova_shard shards[IOVA_SHARDS];
};

void iova_cache_init(struct iova_cache *cache, struct iova_space *space, pthread_mutex_t *lock,
		     uint64_t granule, const struct iova_slab_ops *ops);

/* From now on no byte of a slot that is taken lies above last; any may at first. */
void iova_cache_limit(struct iova_cache *cache, uint64_t last);

/* How large a slot may be, so that no slab crosses a multiple of boundary plus 1; 0: none. */
uint64_t iova_cache_slot_max(const struct iova_cache *cache, uint64_t boundary);

/*
 * A slot of size bytes, whole granules up to iova_cache_slot_max(); shard tells threads apart, so that
 * they meet at different locks. The slab, and *which of its slots; NULL when there is none: a range may
 * find a place.
 */
struct iova_slab *iova_cache_take_slot(struct iova_cache *cache, uint64_t size, unsigned int shard,
				       unsigned int *which);

/* Nothing is mapped there any more. Never fails. */
void iova_cache_give_slot(struct iova_cache *cache, struct iova_slab *slab, unsigned int which);

/* Take a range from the space. 0, -ENOSPC or -ENOMEM, without the error text. */
int iova_cache_take(struct iova_cache *cache, const struct iova_wish *wish, uint64_t *first);

/* Give it back, whole. */
void iova_cache_give(struct iova_cache *cache, uint64_t first, uint64_t size);

/* Give slabs that nobody uses back to the space. */
void iova_cache_trim(struct iova_cache *cache);

#endif
