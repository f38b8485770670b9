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
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"

#define HUGEPAGE   ((uint64_t)2 << 20)
#define GIANT_PAGE ((uint64_t)1 << 30)

/* ---- addresses ---- */

static int no_addresses(struct streaming *s, size_t bytes, uint64_t boundary)
{
	const struct dma_limits *limits = s->limits;
	struct domain *domain = s->space->domain;
	char within[96] = "";
	uint64_t unused;

	pthread_mutex_lock(&domain->lock);
	unused = iova_space_free(&domain->iova, limits->streaming_mask);
	pthread_mutex_unlock(&domain->lock);
	if (boundary != UINT64_MAX)
		snprintf(within, sizeof(within),
			 ", within the segment boundary 0x%llx (dma_set_seg_boundary)",
			 (unsigned long long)limits->seg_boundary);
	return error_set(ENOMEM,
			 "%s: no %zu KiB of dma addresses are free under the mask 0x%llx%s (%llu "
			 "KiB are, in pieces): unmap something, or set a wider mask",
			 s->name, bytes >> 10, (unsigned long long)limits->streaming_mask, within,
			 (unsigned long long)(unused >> 10));
}

/* With the memory's low bits, as far as they are below the alignment. */
static int take_congruent(struct streaming *s, struct iova_wish wish, const void *cpu,
			  uint64_t align, dma_addr_t *dma)
{
	wish.align = align > s->granule ? align : s->granule;
	wish.offset = (uintptr_t)cpu & (wish.align - s->granule);
	return iova_cache_take(&s->iova, &wish, dma);
}

int mapped_take_range(struct streaming *s, const void *cpu, size_t bytes, uint64_t boundary,
		      dma_addr_t *dma)
{
	const struct dma_limits *limits = s->limits;
	const struct iova_wish wish = {
		.size = bytes,
		.last = limits->streaming_mask,
		.boundary = boundary,
	};
	uint64_t need = limits->min_align_mask + 1;
	int err = -ENOSPC;

	/* An IOMMU maps a hugepage as one where memory and address agree in the bits below. */
	if (bytes >= GIANT_PAGE)
		err = take_congruent(s, wish, cpu, GIANT_PAGE, dma);
	if (err && bytes >= HUGEPAGE)
		err = take_congruent(s, wish, cpu, HUGEPAGE, dma);
	if (err)
		err = take_congruent(s, wish, cpu, need, dma);
	if (err == -ENOSPC)
		return no_addresses(s, bytes, boundary);
	return err ? error_set(ENOMEM, "no memory for a domain's bookkeeping") : 0;
}

/* ---- what is idle and in the way ---- */

/* In the order of what it costs to have it again. */
enum { IDLE_OWN, IDLE_ALL, IDLE_RESERVE, IDLE_KINDS };

static void idle_give_up(struct streaming *s, unsigned int kind)
{
	switch (kind) {
	case IDLE_OWN: /* what waits to be revoked, and addresses */
		streaming_flush(s);
		iova_cache_trim(&s->iova);
		break;
	case IDLE_ALL:
		arena_reclaim(s->space->arena, ARENA_RESERVE_PAGES);
		break;
	default: /* what GFP_ATOMIC would find; who can makes it ready again */
		arena_reclaim(s->space->arena, 0);
		arena_refill_later(s->space->arena);
	}
}

/* Ranges of addresses that are taken, and mappings: one less of either is room. */
static uint64_t domain_holds(struct domain *domain)
{
	uint64_t n;

	pthread_mutex_lock(&domain->lock);
	n = domain->iova.taken + __atomic_load_n(&domain->mappings, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&domain->lock);
	return n;
}

bool mapped_try_again(struct streaming *s, int err, unsigned int *given_up)
{
	uint64_t before;
	struct error_state why;

	if (err != -ENOMEM)
		return false;
	error_keep(&why);
	before = domain_holds(s->space->domain);
	while (*given_up < IDLE_KINDS) {
		idle_give_up(s, (*given_up)++);
		if (domain_holds(s->space->domain) < before) {
			error_clear();
			return true;
		}
	}
	if (arena_refill_due(s->space->arena))
		arena_refill(s->space->arena);
	error_put_back(&why);
	arena_explain(s->space->arena);
	return false;
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

/* The map of the domain failed with err. */
static __attribute__((noinline)) int map_again(struct streaming *s, dma_addr_t dma, char *cpu,
					       size_t size, unsigned int access, int err)
{
	struct domain *domain = s->space->domain;
	unsigned int given_up = 0;

	while (mapped_try_again(s, err, &given_up))
		err = domain->ops->map(domain, dma, cpu, size, access);
	return err;
}

static inline int domain_map(struct streaming *s, dma_addr_t dma, char *cpu, size_t size,
			     unsigned int access)
{
	struct domain *domain = s->space->domain;
	int err = domain->ops->map(domain, dma, cpu, size, access);

	return likely(!err) ? 0 : map_again(s, dma, cpu, size, access, err);
}

static void sync_shadow(struct streaming *s, dma_addr_t dma, size_t size, bool for_device)
{
	struct domain *domain = s->space->domain;

	if (s->shadow)
		domain->ops->sync(domain, dma, size, for_device);
}

/* End what the domain mapped at once; what can't be ended is never used again. True: it can. */
static inline __attribute__((always_inline)) bool domain_unmap(const struct mapping *mapping,
							       size_t bytes)
{
	struct streaming *s = mapping->owner;
	struct domain *domain = s->space->domain;
	int err = domain->ops->unmap(domain, mapping->dma, bytes, mapping->maps);

	if (unlikely(err))
		log_line(
			DMALAND_LOG_ERR,
			"%s: %zu KiB at dma address 0x%llx stay mapped, and are not used again: %s",
			s->name, bytes >> 10, (unsigned long long)mapping->dma, error_last());
	return !err;
}

static void revoke_what_is_due(struct streaming *s)
{
	struct revoke_queue *revoke = __atomic_load_n(&s->space->revoke, __ATOMIC_ACQUIRE);

	if (revoke)
		revoke_if_due(revoke);
}

/* The device reaches it no more: its addresses and itself can be used again. */
static inline void mapping_release(struct mapping *mapping)
{
	struct mapping_slab *slab = mapping_slab_of(mapping);
	struct streaming *s = mapping->owner;

	if (unlikely(mapping->buffer != NULL)) {
		granules_put(s, mapping->buffer);
		mapping->buffer = NULL;
	}
	if (likely(slab->addresses.slot_size)) {
		iova_cache_give_slot(&s->iova, &slab->addresses, mapping->which);
		return;
	}
	iova_cache_give(&s->iova, mapping->dma, mapping->bytes);
	mapping_put(s->space, mapping);
}

struct revoke_entry mapped_entry(const struct revoke_group *group, unsigned int which)
{
	const struct mapping *mapping = &mapping_slab_of_group(group)->mappings[which];

	return (struct revoke_entry){mapping->dma, mapping->bytes, mapping->maps};
}

/* What could not be revoked stays as it is, for good: its addresses, its state, its memory. */
void mapped_released(struct revoke_group *group, unsigned int which, bool revoked)
{
	if (revoked)
		mapping_release(&mapping_slab_of_group(group)->mappings[which]);
}

/*
 * With addresses for granules that begin with those at ptr; or NULL. Within a granule, and where the
 * memory gives the low bits, the address crosses no boundary where the memory does not.
 */
static __attribute__((noinline)) struct mapping *range_mapping(struct streaming *s, const void *ptr,
							       size_t bytes, uint64_t same_bits)
{
	uint64_t boundary = ~same_bits | (s->granule - 1) | s->limits->min_align_mask;
	struct mapping *mapping = mapping_get(s->space);
	unsigned int given_up = 0;
	int err;

	if (!mapping)
		return NULL;
	mapping->owner = s;
	mapping->bytes = bytes;
	do
		err = mapped_take_range(s, ptr, bytes, boundary, &mapping->dma);
	while (unlikely(err) && mapped_try_again(s, err, &given_up));
	if (err)
		goto put;
	if (frames_reserve(&s->space->frames, mapping->dma, bytes, true))
		goto give;
	mapping_mark(mapping);
	return mapping;
give:
	iova_cache_give(&s->iova, mapping->dma, bytes);
put:
	mapping_put(s->space, mapping);
	return NULL;
}

static struct mapping *refuse_mapping(struct streaming *s, const void *ptr, size_t bytes)
{
	error_set(EPERM,
		  "%s: %zu KiB at %p would have to be mapped, and no_syscalls forbids it: register "
		  "the memory, or raise copy_below (%zu)",
		  s->name, bytes >> 10, ptr, s->copy_below);
	return NULL;
}

/*
 * A mapping for so many bytes of granules, that begin with those at ptr; NULL with the error set.
 * in_place: they are the memory from ptr on, which is looked for first where it is large. same_bits
 * as in struct piece; slots hold it.
 */
static inline __attribute__((always_inline)) struct mapping *
mapping_new(struct streaming *s, const void *ptr, size_t bytes, uint64_t same_bits, bool in_place)
{
	struct iova_slab *slab = NULL;
	unsigned int which;

	if (unlikely(s->options.no_syscalls))
		return refuse_mapping(s, ptr, bytes);
	revoke_what_is_due(s);
	if (likely(bytes <= s->slot_bytes))
		slab = iova_cache_take_slot(&s->iova, bytes, thread_offset / THREAD_STRIDE, &which);
	if (likely(slab != NULL)) /* the first member */
		return &((struct mapping_slab *)slab)->mappings[which];
	if (in_place && unlikely(bytes >= PRESENCE_CHECK_FROM) && presence_check(s, ptr, bytes))
		return NULL;
	return range_mapping(s, ptr, bytes, same_bits);
}

/* From now on it is live. */
static inline __attribute__((always_inline)) dma_addr_t
mapping_begin(struct streaming *s, struct mapping *mapping, enum way way, unsigned long attrs)
{
	dma_addr_t dma = mapping->dma + mapping->offset;

	if (unlikely(s->shadow) && (!(attrs & DMA_ATTR_SKIP_CPU_SYNC) || mapping->buffer))
		sync_shadow(s, dma, mapping->size, true);
	count_way(s, way);
	__atomic_store_n(&mapping->state, MAPPING_LIVE, __ATOMIC_RELEASE);
	return dma;
}

/* The granules around a piece. */
static inline char *granules_around(const struct streaming *s, const char *ptr, size_t size,
				    size_t *bytes)
{
	uintptr_t granule = s->granule;
	uintptr_t begin = (uintptr_t)ptr & ~(granule - 1);

	*bytes = align_up((uintptr_t)ptr + size, granule) - begin;
	return (char *)begin;
}

static inline __attribute__((always_inline)) dma_addr_t
map_in_place(struct streaming *s, char *ptr, size_t size, enum dma_data_direction direction,
	     unsigned long attrs, uint32_t nents, uint64_t same_bits)
{
	struct mapping *mapping;
	size_t bytes;
	char *cpu = granules_around(s, ptr, size, &bytes);

	mapping = mapping_new(s, ptr, bytes, same_bits, true);
	if (unlikely(!mapping))
		return DMA_MAPPING_ERROR;
	mapping->offset = (size_t)(ptr - cpu);
	mapping->size = size;
	mapping->original = ptr;
	mapping->nents = nents;
	mapping->maps = 1;
	mapping->direction = (uint8_t)direction;
	if (likely(!domain_map(s, mapping->dma, cpu, bytes, access_of(direction))))
		return mapping_begin(s, mapping, WAY_MAPPED, attrs);
	mapping_release(mapping);
	return DMA_MAPPING_ERROR;
}

dma_addr_t mapped_map(struct streaming *s, const struct piece *piece)
{
	return map_in_place(s, piece->ptr, piece->size, piece->direction, piece->attrs,
			    piece->nents, piece->same_bits);
}

/* What is copied, or has several maps. */
static void mapping_describe(struct mapping *mapping, const struct piece *piece, size_t offset)
{
	mapping->offset = offset;
	mapping->size = piece->size;
	mapping->original = piece->ptr;
	mapping->nents = piece->nents;
	mapping->maps = 0;
	mapping->direction = (uint8_t)piece->direction;
}

/* Of n elements those whose memory lies side by side with the first's: their bytes. */
static size_t side_by_side(const struct scatterlist *sg, uint32_t n, uint32_t *entries)
{
	size_t size = sg->length;
	uint32_t i = 1;

	while (i < n && (char *)sg[i].address == (char *)sg->address + size)
		size += sg[i++].length;
	*entries = i;
	return size;
}

/* May all of it be mapped? 0, or -errno in words. */
static int list_check(struct streaming *s, const struct piece *piece, const struct scatterlist *sg)
{
	uint32_t n;
	int err = 0;

	for (uint32_t i = 0; !err && i < piece->entries; i += n) {
		size_t size = side_by_side(sg + i, piece->entries - i, &n);

		err = registers_check(s, sg[i].address, size);
		if (!err && !s->options.no_syscalls)
			err = presence_check(s, sg[i].address, size);
	}
	return err;
}

/*
 * What lies side by side, by a call each. -errno: nothing is mapped, unless *stuck: some could not be
 * ended, and stays mapped.
 */
static int list_map(struct streaming *s, struct mapping *mapping, const struct piece *piece,
		    const struct scatterlist *sg, bool *stuck)
{
	dma_addr_t dma = mapping->dma;
	uint32_t n;
	int err;

	for (uint32_t i = 0; i < piece->entries; i += n) {
		size_t size = side_by_side(sg + i, piece->entries - i, &n), bytes;
		char *cpu = granules_around(s, sg[i].address, size, &bytes);

		err = domain_map(s, dma, cpu, bytes, access_of(piece->direction));
		if (err)
			goto unmap;
		dma += bytes;
		mapping->maps++;
	}
	return 0;
unmap:
	*stuck = mapping->maps && !domain_unmap(mapping, dma - mapping->dma);
	return err;
}

dma_addr_t mapped_map_list(struct streaming *s, const struct piece *piece,
			   const struct scatterlist *sg)
{
	size_t offset = (uintptr_t)piece->ptr & (s->granule - 1);
	struct mapping *mapping;
	bool stuck = false;

	if (list_check(s, piece, sg))
		return DMA_MAPPING_ERROR;
	mapping = mapping_new(s, piece->ptr, align_up(offset + piece->size, s->granule),
			      piece->same_bits, false);
	if (!mapping)
		return DMA_MAPPING_ERROR;
	mapping_describe(mapping, piece, offset);
	if (!list_map(s, mapping, piece, sg, &stuck))
		return mapping_begin(s, mapping, WAY_MAPPED, piece->attrs);
	if (!stuck) /* if it is, nothing of it is used again */
		mapping_release(mapping);
	return DMA_MAPPING_ERROR;
}

dma_addr_t mapped_bounce(struct streaming *s, const struct piece *piece)
{
	size_t granule = s->granule, offset, bytes;
	struct granule_buffer *buffer;
	struct mapping *mapping;

	if (piece->attrs & DMA_ATTR_REQUIRE_COHERENT) {
		error_set(EOPNOTSUPP,
			  "%s: %zu bytes at %p are not whole granules and would be copied for a "
			  "device that is not trusted, and DMA_ATTR_REQUIRE_COHERENT forbids it",
			  s->name, piece->size, (void *)piece->ptr);
		return DMA_MAPPING_ERROR;
	}
	if (!piece_can_be_copied(s, piece)) {
		error_set(
			EINVAL,
			"%s: %zu bytes at %p must be copied for a device that is not trusted, not "
			"being whole granules of %zu bytes: at most %zu in one mapping, and of a "
			"list not across the segment boundary 0x%llx",
			s->name, piece->size, (void *)piece->ptr, granule, streaming_max_size(s),
			(unsigned long long)s->limits->seg_boundary);
		return DMA_MAPPING_ERROR;
	}
	offset = (uintptr_t)piece->ptr & piece_kept_bits(s, piece) & (granule - 1);
	bytes = align_up(offset + piece->size, granule);
	buffer = granules_get(s, bytes);
	if (!buffer)
		return DMA_MAPPING_ERROR;
	memcpy(buffer->cpu + offset, piece->ptr, piece->size);
	mapping = mapping_new(s, piece->ptr, bytes, piece->same_bits, false);
	if (!mapping)
		goto free_buffer;
	if (domain_map(s, mapping->dma, buffer->cpu, bytes, access_of(piece->direction)))
		goto release;
	mapping_describe(mapping, piece, offset);
	mapping->maps = 1;
	mapping->buffer = buffer;
	return mapping_begin(s, mapping, WAY_UNTRUSTED, piece->attrs);

release:
	mapping_release(mapping);
free_buffer:
	granules_put(s, buffer);
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

static __attribute__((noinline)) void shadow_end(struct streaming *s, const struct mapping *mapping,
						 bool wanted)
{
	dma_addr_t dma = mapping->dma + mapping->offset;

	shadow_hand(s, HAND_END, dma, mapping->size, NULL);
	if (wanted)
		sync_shadow(s, dma, mapping->size, false);
}

void mapped_unmap(struct streaming *s, struct mapping *mapping, unsigned long attrs)
{
	bool wanted = copy_is_wanted((enum dma_data_direction)mapping->direction, attrs);
	uint8_t live = MAPPING_LIVE;
	bool ended;

	if (unlikely(!__atomic_compare_exchange_n(&mapping->state, &live, MAPPING_ENDED, false,
						  __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))) {
		report_not_allocated(s, mapping->dma + mapping->offset, mapping->size, false);
		return;
	}
	count_way(s, WAY_MAPPED_END);
	if (unlikely(s->shadow))
		shadow_end(s, mapping, wanted);
	if (unlikely(s->options.lazy)) {
		revoke_later(s->space->revoke, &mapping_slab_of(mapping)->group, mapping->which);
		return;
	}
	ended = domain_unmap(mapping, mapping->bytes);
	if (unlikely(mapping->buffer != NULL) && wanted)
		memcpy(mapping->original, mapping->buffer->cpu + mapping->offset, mapping->size);
	if (likely(ended))
		mapping_release(mapping);
}

void mapped_end(struct streaming *s)
{
	struct mapping *mapping;

	while ((mapping = mapping_first_live(s)))
		mapped_unmap(s, mapping, DMA_ATTR_SKIP_CPU_SYNC);
	streaming_flush(s);
	granules_free(s);
}
