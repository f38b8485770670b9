/* SPDX-License-Identifier: MIT */
/*
 * registered.h - memory of the application that is mapped for good
 *
 * Each frame of the CPU's addresses leads to the registration that it is part of; looking up takes
 * no lock. A frame that several registrations share leads to a list of them, which is walked under a
 * spinlock. Only the first and the last frame of a registration can be shared. Who registers holds a
 * mutex, across system calls.
 */
#ifndef STREAMING_REGISTERED_H
#define STREAMING_REGISTERED_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dmaland/types.h>
#include "base/bits.h"
#include "iova/cache.h"
#include "streaming/page_table.h"

struct streaming;

/* Debug mode: by what the memory is known again: debug_registered.c. */
struct watch {
	enum watch_mark {
		MARK_NONE,   /* only what is gone is found */
		MARK_POLICY, /* the memory policy */
		MARK_FILE,   /* it is this file, from there on */
		MARK_ADVICE, /* MADV_RANDOM */
	} mark;
	uint64_t inode, device, offset; /* the offset less the address, modulo 2^64 */
};

/* Never freed while the domain lives, since a frame's word may have led somebody here; used again. */
struct registration {
	/*
	 * Written in this order, each after those before it, and read in the opposite one: while the
	 * generation stays the same, a length that is not 0 is that of begin and dma_offset.
	 */
	uintptr_t begin;     /* of the application's bytes */
	uint64_t dma_offset; /* dma address less CPU address, modulo 2^64 */
	size_t length;	     /* of them; 0: not in use */
	uint32_t generation;
	dma_addr_t dma; /* of the granules around them */
	size_t size;	/* of these */
	struct streaming *owner;
	struct watch watch; /* debug mode */

	struct registration
		*others[2];	    /* in its first frame, and in its last where that is another */
	struct registration *next;  /* of the owner's, or to be used again */
	struct registration **link; /* of the owner's: where the pointer to it is */
	struct registration *made;  /* the one that was allocated before */
};

/* In the word of a frame that several registrations share: they begin there, and others[] leads on. */
#define FRAME_SHARED ((uintptr_t)1 << 63)

/* The registration that a frame's word leads to; NULL where there is none, or several. */
static inline const struct registration *frame_registration(uintptr_t word)
{
	return (intptr_t)word > 0 ? (const struct registration *)word : NULL;
}

struct registered {
	struct frames frames;
	size_t count;
	size_t marked;	      /* by debug_registered.c; the lock guards it */
	pthread_mutex_t lock; /* of those who register; held across system calls */
	uint32_t spin;	      /* of the lists in shared frames; never held across one */
	struct registration *unused;
	struct registration *made; /* the last that was allocated */
};

int registered_init(struct registered *registered);
void registered_fini(struct registered *registered);

/* One that overlaps these bytes, or NULL. The lock is held, here and below. */
struct registration *registered_overlap(const struct registered *registered, uintptr_t begin,
					uintptr_t end);

/* A registration to fill in, and room for so many bytes in it; NULL with the error set. */
struct registration *registered_prepare(struct registered *registered, uintptr_t begin,
					size_t length);

/* It was not inserted, or was removed: it may be used again. */
void registered_recycle(struct registered *registered, struct registration *registration);

/* From now on it is found, at dma_offset from the CPU's addresses; and is one of the owner's. */
void registered_insert(struct registered *registered, struct registration *registration,
		       size_t length, uint64_t dma_offset, struct registration **of_owner);
void registered_remove(struct registered *registered, struct registration *registration);

/* It stays mapped and in the way of others, and is nobody's. */
void registered_orphan(struct registration *registration);

/* ---- looking up ---- */

static inline bool registered_any(const struct registered *registered)
{
	return __atomic_load_n(&registered->count, __ATOMIC_RELAXED);
}

/* The dma address of size bytes inside one registration; DMA_MAPPING_ERROR when there is none. */
dma_addr_t registered_find(struct registered *registered, const void *ptr, size_t size);

/*
 * The dma offset, in the registration that the frame's word leads to. False when they are not inside, also when
 * it changes meanwhile.
 */
static inline bool registration_offset(const struct registration *r, const void *ptr, size_t size,
				       uint64_t *dma_offset)
{
	uint32_t generation = __atomic_load_n(&r->generation, __ATOMIC_ACQUIRE);
	size_t length = __atomic_load_n(&r->length, __ATOMIC_ACQUIRE);

	if (unlikely(size > length) ||
	    unlikely((uintptr_t)ptr - racy_load(&r->begin) > length - size))
		return false;
	*dma_offset = racy_load(&r->dma_offset);
	racy_loads_done();
	return likely(racy_load(&r->generation) == generation);
}

#endif
