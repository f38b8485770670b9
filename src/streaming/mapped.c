/* SPDX-License-Identifier: MIT */
/*
 * mapped.c - mappings made by the domain, in place or through granules of their own
 *
 *   dma address    |  granule  |  granule  |  granule  |     each frame's word leads to the mapping
 *   memory         |    xxxxxxxxxxxxxxxxxxxxxxxx       |
 *                       ^ original
 *
 * A device that is not trusted gets whole granules: where the memory does not fill them, others that
 * hold nothing else, zeroed, and mapped for this transfer alone. They are not taken from the arena,
 * which the device reaches always.
 *
 * A mapping's end is decided by one compare-and-exchange of its state, so of several unmap calls at
 * a time one finds it. In lazy mode it then waits in the domain's queue, with its addresses.
 */
#include "streaming/streaming_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"

#define HUGEPAGE   ((uint64_t)2 << 20)
#define GIANT_PAGE ((uint64_t)1 << 30)

enum { SLAB_MAPPINGS = 64 };

struct mapping_slab {
	struct mapping_slab *next;
	struct mapping mappings[SLAB_MAPPINGS];
};

/* ---- bookkeeping ---- */

static int slab_add(struct streaming_space *space)
{
	struct mapping_slab *slab = calloc(1, sizeof(*slab));

	if (!slab)
		return error_set(ENOMEM, "no memory for the bookkeeping of mappings");
	spin_lock(&space->lock);
	slab->next = space->mapping_slabs;
	space->mapping_slabs = slab;
	for (int i = 0; i < SLAB_MAPPINGS; i++) {
		slab->mappings[i].next = space->free_mappings;
		space->free_mappings = &slab->mappings[i];
	}
	spin_unlock(&space->lock);
	return 0;
}

static inline struct mapping *mapping_get(struct streaming_space *space)
{
	struct mapping *mapping;

	do {
		spin_lock(&space->lock);
		mapping = space->free_mappings;
		if (mapping)
			space->free_mappings = mapping->next;
		spin_unlock(&space->lock);
	} while (!mapping && slab_add(space) == 0);
	return mapping;
}

static inline __attribute__((always_inline)) void mapping_put(struct streaming_space *space,
							      struct mapping *mapping)
{
	__atomic_store_n(&mapping->state, MAPPING_FREE, __ATOMIC_RELAXED);
	spin_lock(&space->lock);
	mapping->next = space->free_mappings;
	space->free_mappings = mapping;
	spin_unlock(&space->lock);
}

/* ---- addresses ---- */

static int no_addresses(struct streaming *s, size_t bytes)
{
	const struct dma_limits *limits = s->limits;
	struct domain *domain = s->space->domain;
	uint64_t unused;

	pthread_mutex_lock(&domain->lock);
	unused = iova_space_free(&domain->iova, limits->streaming_mask);
	pthread_mutex_unlock(&domain->lock);
	return error_set(ENOMEM,
			 "%s: no %zu KiB of dma addresses are free under the mask 0x%llx, within "
			 "the segment boundary 0x%llx (%llu KiB are, in pieces): unmap something, "
			 "or set a wider mask",
			 s->name, bytes >> 10, (unsigned long long)limits->streaming_mask,
			 (unsigned long long)limits->seg_boundary,
			 (unsigned long long)(unused >> 10));
}

static int take_congruent(struct streaming *s, struct iova_wish wish, uint64_t modulus,
			  struct iova_place *place, dma_addr_t *dma)
{
	int err;

	wish.modulus = modulus > s->granule ? modulus : 0;
	err = iova_cache_take(&s->iova, &wish, shard_number(), place);
	if (!err)
		*dma = place->first + (place->size - wish.size);
	return err;
}

/* The long way to addresses. */
static int take_addresses(struct streaming *s, const void *cpu, size_t bytes, bool many,
			  struct iova_place *place, dma_addr_t *dma)
{
	const struct dma_limits *limits = s->limits;
	const struct iova_wish wish = {
		.size = bytes,
		.last = limits->streaming_mask,
		.boundary = many && bytes - 1 > limits->seg_boundary ? UINT64_MAX
								     : limits->seg_boundary,
		.congruent = (uintptr_t)cpu & ~(s->granule - 1),
	};
	uint64_t need = limits->min_align_mask + 1;
	int err = -ENOSPC;

	/* An IOMMU maps a hugepage as one where memory and address agree in the bits below. */
	if (bytes >= GIANT_PAGE)
		err = take_congruent(s, wish, GIANT_PAGE, place, dma);
	if (err && bytes >= HUGEPAGE)
		err = take_congruent(s, wish, HUGEPAGE, place, dma);
	if (err)
		err = take_congruent(s, wish, need, place, dma);
	if (err != -ENOSPC)
		return err ? error_set(ENOMEM, "no memory for a domain's bookkeeping") : 0;

	streaming_flush(s);
	iova_cache_trim(&s->iova);
	err = take_congruent(s, wish, need, place, dma);
	return err ? no_addresses(s, bytes) : 0;
}

int mapped_take_addresses(struct streaming *s, const void *cpu, size_t bytes, bool many,
			  struct iova_place *place, dma_addr_t *dma)
{
	if (bytes > s->slot_bytes ||
	    !iova_cache_take_slot(&s->iova, bytes, s->limits->streaming_mask, shard_number(),
				  place))
		return take_addresses(s, cpu, bytes, many, place, dma);
	*dma = place->first;
	return 0;
}

void mapped_give_addresses(struct streaming *s, const struct iova_place *place)
{
	iova_cache_give(&s->iova, place);
}

/* ---- making and ending ---- */

bool mapped_is_whole(const struct streaming *s, const void *ptr, size_t size)
{
	return !(((uintptr_t)ptr | size) & (s->granule - 1));
}

static unsigned int access_of(enum dma_data_direction direction)
{
	return (direction != DMA_FROM_DEVICE ? DOMAIN_READ : 0u) |
	       (direction != DMA_TO_DEVICE ? DOMAIN_WRITE : 0u);
}

/*
 * The map of the domain failed with err. What waits to be revoked counts against the limits that may
 * have been hit; which it was is not told, and trying once more does no harm.
 */
static __attribute__((noinline)) int map_again(struct streaming *s, dma_addr_t dma, char *cpu,
					       size_t size, unsigned int access, int err)
{
	struct revoke_queue *revoke = __atomic_load_n(&s->space->revoke, __ATOMIC_ACQUIRE);
	struct domain *domain = s->space->domain;

	if (err != -ENOMEM || !revoke || !revoke_waiting(revoke))
		return err;
	revoke_flush(revoke);
	return domain->ops->map(domain, dma, cpu, size, access);
}

static inline int domain_map(struct streaming *s, dma_addr_t dma, char *cpu, size_t size,
			     unsigned int access)
{
	struct domain *domain = s->space->domain;
	int err = domain->ops->map(domain, dma, cpu, size, access);

	return likely(!err) ? 0 : map_again(s, dma, cpu, size, access, err);
}

int mapped_domain_map(struct streaming *s, dma_addr_t dma, char *cpu, size_t size,
		      unsigned int access)
{
	return domain_map(s, dma, cpu, size, access);
}

static void sync_shadow(struct streaming *s, dma_addr_t dma, size_t size, bool for_device)
{
	struct domain *domain = s->space->domain;

	if (s->shadow)
		domain->ops->sync(domain, dma, size, for_device);
}

/* End what the domain mapped at once; what can't be ended is never used again. True: it can. */
static inline __attribute__((always_inline)) bool domain_unmap(struct mapping *mapping)
{
	struct streaming *s = mapping->owner;
	struct domain *domain = s->space->domain;
	int err = domain->ops->unmap(domain, mapping->dma, mapping->bytes, mapping->maps);

	if (err)
		log_line(
			DMALAND_LOG_ERR,
			"%s: %zu KiB at dma address 0x%llx stay mapped, and are not used again: %s",
			s->name, mapping->bytes >> 10, (unsigned long long)mapping->dma,
			error_last());
	return !err;
}

static void revoke_what_is_due(struct streaming *s)
{
	struct revoke_queue *revoke = __atomic_load_n(&s->space->revoke, __ATOMIC_ACQUIRE);

	if (revoke)
		revoke_if_due(revoke);
}

/*
 * Its frames lead to it. They go on doing so when it has ended: whoever comes there looks whether it
 * is live, and has the address.
 */
static inline void mapping_mark(const struct mapping *mapping)
{
	uintptr_t word = (uintptr_t)mapping | FRAME_MAPPED;

	if (likely(mapping->words))
		frames_fill(mapping->words, mapping->bytes >> FRAME_SHIFT, word);
	else
		frames_set(&mapping->owner->space->frames, mapping->dma, mapping->bytes, word);
}

/* The device reaches it no more: its addresses and itself can be used again. */
static inline void mapping_release(struct mapping *mapping)
{
	struct streaming *s = mapping->owner;

	mapped_give_addresses(s, &mapping->place);
	if (mapping->buffer)
		granules_put(s, mapping->buffer);
	mapping_put(s->space, mapping);
}

/* What could not be revoked stays as it is, for good: its addresses, its state, its memory. */
void mapped_released(void *what, bool revoked)
{
	if (revoked)
		mapping_release(what);
}

/* Take addresses for a mapping whose bytes are filled in, and frames to find it by. */
static inline __attribute__((always_inline)) int
mapping_place(struct streaming *s, struct mapping *mapping, const void *cpu)
{
	int err = mapped_take_addresses(s, cpu, mapping->bytes, false, &mapping->place,
					&mapping->dma);

	if (err)
		return err;
	mapping->words = frames_span(s->frames, mapping->dma, mapping->bytes);
	if (likely(mapping->words))
		return 0;
	err = frames_reserve(&s->space->frames, mapping->dma, mapping->bytes, true);
	if (err)
		mapped_give_addresses(s, &mapping->place);
	return err;
}

static inline __attribute__((always_inline)) dma_addr_t
mapping_begin(struct streaming *s, struct mapping *mapping, unsigned long attrs)
{
	dma_addr_t dma = mapping->dma + mapping->offset;

	mapping_mark(mapping);
	if (!(attrs & DMA_ATTR_SKIP_CPU_SYNC) || mapping->buffer)
		sync_shadow(s, dma, mapping->size, true);
	__atomic_fetch_add(&s->live_mapped, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&mapping->state, MAPPING_LIVE, __ATOMIC_RELEASE);
	return dma;
}

static inline __attribute__((always_inline)) struct mapping *mapping_new(struct streaming *s,
									 const struct piece *piece)
{
	struct mapping *mapping;

	if (s->options.no_syscalls) {
		error_set(EPERM,
			  "%s: %zu bytes at %p would have to be mapped, and no_syscalls forbids "
			  "it: register the memory, or raise copy_below (%zu)",
			  s->name, piece->size, (void *)piece->ptr, s->copy_below);
		return NULL;
	}
	revoke_what_is_due(s);
	mapping = mapping_get(s->space);
	if (!mapping)
		return NULL;
	mapping->owner = s;
	mapping->original = piece->ptr;
	mapping->size = piece->size;
	mapping->direction = (uint8_t)piece->direction;
	mapping->nents = piece->nents;
	mapping->buffer = NULL;
	mapping->maps = 0;
	return mapping;
}

/* The granules around a piece. */
static inline char *granules_around(const struct streaming *s, const struct piece *piece,
				    size_t *bytes)
{
	uintptr_t granule = s->granule;
	uintptr_t begin = (uintptr_t)piece->ptr & ~(granule - 1);

	*bytes = align_up((uintptr_t)piece->ptr + piece->size, granule) - begin;
	return (char *)begin;
}

dma_addr_t mapped_map(struct streaming *s, const struct piece *piece)
{
	struct mapping *mapping = mapping_new(s, piece);
	char *cpu;

	if (!mapping)
		return DMA_MAPPING_ERROR;
	cpu = granules_around(s, piece, &mapping->bytes);
	mapping->offset = (size_t)(piece->ptr - cpu);
	if (mapping_place(s, mapping, cpu))
		goto put;
	if (domain_map(s, mapping->dma, cpu, mapping->bytes, access_of(piece->direction)))
		goto give;
	mapping->maps = 1;
	count_way(s, WAY_MAPPED);
	return mapping_begin(s, mapping, piece->attrs);

give:
	mapped_give_addresses(s, &mapping->place);
put:
	mapping_put(s->space, mapping);
	return DMA_MAPPING_ERROR;
}

/*
 * Each piece by a call of its own. -errno: none is, unless *stuck: some could not be ended, and stay
 * mapped.
 */
static int pieces_map(struct streaming *s, struct mapping *mapping, const struct piece *pieces,
		      size_t n, bool *stuck)
{
	dma_addr_t dma = mapping->dma;
	int err;

	for (size_t i = 0; i < n; i++) {
		size_t bytes;
		char *cpu = granules_around(s, &pieces[i], &bytes);

		err = domain_map(s, dma, cpu, bytes, access_of(pieces[i].direction));
		if (err)
			goto unmap;
		dma += bytes;
		mapping->maps++;
	}
	return 0;
unmap:
	mapping->bytes = dma - mapping->dma;
	*stuck = mapping->maps && !domain_unmap(mapping);
	return err;
}

dma_addr_t mapped_map_pieces(struct streaming *s, const struct piece *pieces, size_t n)
{
	struct mapping *mapping = mapping_new(s, pieces);
	bool stuck = false;
	size_t bytes = 0;
	char *cpu;
	int err;

	if (!mapping)
		return DMA_MAPPING_ERROR;
	cpu = granules_around(s, pieces, &mapping->bytes);
	mapping->offset = (size_t)(pieces->ptr - cpu);
	for (size_t i = 1; i < n; i++) {
		granules_around(s, &pieces[i], &bytes);
		mapping->bytes += bytes;
		mapping->size += pieces[i].size;
	}
	err = mapping_place(s, mapping, cpu);
	if (err)
		goto put;
	err = pieces_map(s, mapping, pieces, n, &stuck);
	if (stuck)
		return DMA_MAPPING_ERROR; /* nothing of it is used again */
	if (err)
		goto give;
	count_way(s, WAY_MAPPED);
	return mapping_begin(s, mapping, pieces->attrs);
give:
	mapped_give_addresses(s, &mapping->place);
put:
	mapping_put(s->space, mapping);
	return DMA_MAPPING_ERROR;
}

dma_addr_t mapped_bounce(struct streaming *s, const struct piece *piece)
{
	size_t granule = s->granule;
	struct mapping *mapping;

	if (piece->attrs & DMA_ATTR_REQUIRE_COHERENT) {
		error_set(EOPNOTSUPP,
			  "%s: %zu bytes at %p are not whole granules and would be copied for a "
			  "device that is not trusted, and DMA_ATTR_REQUIRE_COHERENT forbids it",
			  s->name, piece->size, (void *)piece->ptr);
		return DMA_MAPPING_ERROR;
	}
	if (piece->size > streaming_max_size(s)) {
		error_set(EINVAL,
			  "%s: %zu bytes at %p are not whole granules of %zu bytes and must be "
			  "copied for a device that is not trusted: at most %zu in one mapping",
			  s->name, piece->size, (void *)piece->ptr, granule, streaming_max_size(s));
		return DMA_MAPPING_ERROR;
	}
	mapping = mapping_new(s, piece);
	if (!mapping)
		return DMA_MAPPING_ERROR;
	mapping->offset = (uintptr_t)piece->ptr & s->limits->min_align_mask & (granule - 1);
	mapping->bytes = align_up(mapping->offset + piece->size, granule);
	mapping->buffer = granules_get(s, mapping->bytes);
	if (!mapping->buffer)
		goto put;
	if (mapping_place(s, mapping, piece->ptr))
		goto free_buffer;
	memcpy(mapping->buffer->cpu + mapping->offset, piece->ptr, piece->size);
	if (domain_map(s, mapping->dma, mapping->buffer->cpu, mapping->bytes,
		       access_of(piece->direction)))
		goto give;
	mapping->maps = 1;
	count_way(s, WAY_UNTRUSTED);
	return mapping_begin(s, mapping, piece->attrs);

give:
	mapped_give_addresses(s, &mapping->place);
free_buffer:
	granules_put(s, mapping->buffer);
put:
	mapping_put(s->space, mapping);
	return DMA_MAPPING_ERROR;
}

void mapped_copy(struct streaming *s, struct mapping *mapping, size_t offset, size_t size,
		 bool for_device)
{
	dma_addr_t dma = mapping->dma + mapping->offset + offset;
	char *copy = mapping->buffer ? mapping->buffer->cpu + mapping->offset + offset : NULL;

	if (copy && for_device)
		memcpy(copy, mapping->original + offset, size);
	sync_shadow(s, dma, size, for_device);
	if (copy && !for_device)
		memcpy(mapping->original + offset, copy, size);
}

static void wait_to_be_revoked(struct streaming *s, struct mapping *mapping)
{
	const struct revoke_entry entry = {
		.dma = mapping->dma,
		.size = mapping->bytes,
		.maps = mapping->maps,
		.what = mapping,
	};

	revoke_later(s->space->revoke, &entry);
}

void mapped_unmap(struct streaming *s, struct mapping *mapping, unsigned long attrs)
{
	bool wanted = mapping->direction != DMA_TO_DEVICE && !(attrs & DMA_ATTR_SKIP_CPU_SYNC);
	uint8_t live = MAPPING_LIVE;
	bool ended;

	if (!__atomic_compare_exchange_n(&mapping->state, &live, MAPPING_ENDED, false,
					 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
		report_not_allocated(s, mapping->dma + mapping->offset, mapping->size, false);
		return;
	}
	__atomic_fetch_sub(&s->live_mapped, 1, __ATOMIC_RELAXED);
	if (wanted)
		sync_shadow(s, mapping->dma + mapping->offset, mapping->size, false);
	if (s->options.lazy) {
		wait_to_be_revoked(s, mapping);
		return;
	}
	ended = domain_unmap(mapping);
	if (wanted && mapping->buffer)
		memcpy(mapping->original, mapping->buffer->cpu + mapping->offset, mapping->size);
	if (ended)
		mapping_release(mapping);
}

/* The next one of the device's that is live; NULL at the end. */
static struct mapping *mapping_live(struct streaming *s)
{
	struct mapping *found = NULL;

	spin_lock(&s->space->lock);
	for (struct mapping_slab *slab = s->space->mapping_slabs; slab && !found; slab = slab->next)
		for (int i = 0; i < SLAB_MAPPINGS && !found; i++)
			if (__atomic_load_n(&slab->mappings[i].state, __ATOMIC_ACQUIRE) ==
				    MAPPING_LIVE &&
			    slab->mappings[i].owner == s)
				found = &slab->mappings[i];
	spin_unlock(&s->space->lock);
	return found;
}

void mapped_end(struct streaming *s)
{
	struct mapping *mapping;

	while ((mapping = mapping_live(s)))
		mapped_unmap(s, mapping, DMA_ATTR_SKIP_CPU_SYNC);
	streaming_flush(s);
	granules_free(s);
}

void mapped_space_end(struct streaming_space *space)
{
	struct mapping_slab *slab, *next;

	for (slab = space->mapping_slabs; slab; slab = next) {
		next = slab->next;
		free(slab);
	}
}
