/* SPDX-License-Identifier: MIT */
/*
 * mapping_slab.c - where what is known of the domain's mappings is kept
 *
 *   addresses   |slot 0|slot 1| ... |slot 63|          |   range   |
 *   frames          |      |            |                  | | | |
 *   mappings    |  m0  |  m1  | ... |  m63  |          |m| from a list of free ones
 *
 * A slab of addresses (iova/cache.h) gets 64 mappings when it is made, and its frames lead to them as
 * long as it is there: who takes a slot has its mapping, and who gives it back leaves it. What has no
 * slot takes a mapping that is free, and sets its frames each time.
 *
 * Frames go on leading to mappings that have ended, also when the slab has: who comes there looks
 * whether one is live, and has the address.
 */
#include "streaming/streaming_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/error.h"

static struct mapping_slab *slab_new(struct streaming_space *space)
{
	struct mapping_slab *slab = calloc(1, sizeof(*slab));

	if (!slab) {
		error_set(ENOMEM, "no memory for the bookkeeping of mappings");
		return NULL;
	}
	for (uint8_t i = 0; i < IOVA_SLAB_SLOTS; i++)
		slab->mappings[i].which = i;
	spin_lock(&space->lock);
	slab->next = space->mapping_slabs;
	space->mapping_slabs = slab;
	spin_unlock(&space->lock);
	return slab;
}

/* Mappings of ranges, from now on free. */
static void slab_divide(struct streaming_space *space, struct mapping_slab *slab)
{
	spin_lock(&space->lock);
	for (int i = 0; i < IOVA_SLAB_SLOTS; i++) {
		slab->mappings[i].next = space->free_mappings;
		space->free_mappings = &slab->mappings[i];
	}
	spin_unlock(&space->lock);
}

struct mapping *mapping_get(struct streaming_space *space)
{
	struct mapping_slab *slab;
	struct mapping *mapping;

	for (;;) {
		spin_lock(&space->lock);
		mapping = space->free_mappings;
		if (mapping)
			space->free_mappings = mapping->next;
		spin_unlock(&space->lock);
		if (mapping)
			return mapping;
		slab = slab_new(space);
		if (!slab)
			return NULL;
		slab_divide(space, slab);
	}
}

void mapping_put(struct streaming_space *space, struct mapping *mapping)
{
	spin_lock(&space->lock);
	mapping->next = space->free_mappings;
	space->free_mappings = mapping;
	spin_unlock(&space->lock);
}

static struct mapping_slab *slab_get(struct streaming_space *space)
{
	struct mapping_slab *slab;

	spin_lock(&space->lock);
	slab = space->free_slabs;
	if (slab)
		space->free_slabs = slab->next_free;
	spin_unlock(&space->lock);
	return slab ? slab : slab_new(space);
}

static void slab_put(struct streaming_space *space, struct mapping_slab *slab)
{
	spin_lock(&space->lock);
	slab->next_free = space->free_slabs;
	space->free_slabs = slab;
	spin_unlock(&space->lock);
}

static struct streaming *streaming_of_cache(struct iova_cache *cache)
{
	char *s = (char *)cache - offsetof(struct streaming, iova);

	return (struct streaming *)(void *)s;
}

void mapping_mark(const struct mapping *mapping)
{
	frames_set(&mapping->owner->space->frames, mapping->dma, mapping->bytes,
		   (uintptr_t)mapping | FRAME_MAPPED);
}

static struct iova_slab *slab_begin(struct iova_cache *cache, uint64_t first, uint64_t slot_size)
{
	struct streaming *s = streaming_of_cache(cache);
	struct mapping_slab *slab;

	if (frames_reserve(&s->space->frames, first, slot_size * IOVA_SLAB_SLOTS, true))
		return NULL;
	slab = slab_get(s->space);
	if (!slab)
		return NULL;
	for (uint64_t i = 0; i < IOVA_SLAB_SLOTS; i++) {
		struct mapping *mapping = &slab->mappings[i];

		mapping->owner = s;
		mapping->dma = first + i * slot_size;
		mapping->bytes = slot_size;
		mapping_mark(mapping);
	}
	return &slab->addresses; /* the first member */
}

static void slab_end(struct iova_cache *cache, struct iova_slab *slab)
{
	slab_put(streaming_of_cache(cache)->space, (struct mapping_slab *)slab);
}

const struct iova_slab_ops mapping_slab_ops = {
	.begin = slab_begin,
	.end = slab_end,
};

struct mapping *mapping_first_live(struct streaming *s)
{
	struct mapping *found = NULL;

	spin_lock(&s->space->lock);
	for (struct mapping_slab *slab = s->space->mapping_slabs; slab && !found; slab = slab->next)
		for (int i = 0; i < IOVA_SLAB_SLOTS && !found; i++)
			if (__atomic_load_n(&slab->mappings[i].state, __ATOMIC_ACQUIRE) ==
				    MAPPING_LIVE &&
			    slab->mappings[i].owner == s)
				found = &slab->mappings[i];
	spin_unlock(&s->space->lock);
	return found;
}

void mappings_end(struct streaming_space *space)
{
	struct mapping_slab *slab, *next;

	for (slab = space->mapping_slabs; slab; slab = next) {
		next = slab->next;
		free(slab);
	}
}
