/* SPDX-License-Identifier: MIT */
/*
 * map.c - map: which way
 *
 *   ptr --> in the arena? registered? --yes, and the limits hold--> translated: arithmetic
 *             |no                |no, they don't
 *             v                  v
 *           not trusted:   whole granules -> mapped; others -> granules of their own
 *           small:         bounced
 *           large:         mapped, or bounced where the domain can't map
 *
 * Where the device has a copy of its own (coherent=no), memory of the arena takes the way of other memory, but with
 * no_syscalls; and registered memory is translated to the copy.
 */
#include "streaming/streaming_internal.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "backend/mmio.h"

/*
 * The dma offset of memory that begins in the arena's window, if it lies inside one chunk. The first page must be
 * somebody's, so that it has a chunk; what lies between first and last is in the same one.
 */
static inline __attribute__((always_inline)) bool window_offset(const struct streaming *s,
								size_t window_bytes,
								const char *ptr, size_t size,
								uint64_t *dma_offset)
{
	size_t begin = (uintptr_t)ptr - s->window, end = begin + (size - 1);
	const struct page *page = &s->pages[begin >> FRAME_SHIFT];

	if (unlikely(!__atomic_load_n(&page->tenant, __ATOMIC_ACQUIRE)))
		return false;
	*dma_offset = page->dma_offset;
	return !((begin ^ end) >> FRAME_SHIFT) ||
	       likely(end < window_bytes &&
		      __atomic_load_n(&s->pages[end >> FRAME_SHIFT].chunk, __ATOMIC_ACQUIRE) ==
			      __atomic_load_n(&page->chunk, __ATOMIC_ACQUIRE));
}

/* The dma address of memory inside one chunk of the arena; DMA_MAPPING_ERROR when it is not. */
static dma_addr_t window_address(const struct streaming *s, size_t window_bytes, const char *ptr,
				 size_t size)
{
	uint64_t offset;

	if ((uintptr_t)ptr - s->window >= window_bytes ||
	    !window_offset(s, window_bytes, ptr, size, &offset))
		return DMA_MAPPING_ERROR;
	return (uintptr_t)ptr + offset;
}

/* The dma address of memory that the device reaches already. */
static dma_addr_t known_address(struct streaming *s, const struct piece *piece, bool *registered)
{
	dma_addr_t dma;

	*registered = false;
	if (!s->translates)
		return DMA_MAPPING_ERROR;
	dma = window_address(s, s->window_bytes, piece->ptr, piece->size);
	if (dma != DMA_MAPPING_ERROR || !registered_any(&s->space->registered))
		return dma;
	*registered = true;
	return registered_find(&s->space->registered, piece->ptr, piece->size);
}

/* Does an address that the device reaches already hold the piece's limits? */
static bool address_holds(const struct streaming *s, const struct piece *piece, dma_addr_t dma)
{
	return limits_hold(s->limits, piece->ptr, dma, piece->size) &&
	       !((dma ^ (dma + (piece->size - 1))) & piece->same_bits);
}

/* Small enough to be copied rather than mapped, and to be copied at all. */
static bool piece_is_small(const struct streaming *s, const struct piece *piece)
{
	return piece->size < s->copy_below &&
	       piece->size <= BOUNCE_MAX - s->limits->min_align_mask &&
	       !(piece->attrs & DMA_ATTR_REQUIRE_COHERENT);
}

/* Is it mapped where it lies, not being translated? If not it is copied. */
static bool untranslated_is_mapped(const struct streaming *s, const struct piece *piece)
{
	if (!fits_in_place(s, piece))
		return false;
	if (!s->translates)
		return mapped_is_whole(s, piece->ptr, piece->size);
	return s->maps && !piece_is_small(s, piece);
}

bool piece_can_be_copied(const struct streaming *s, const struct piece *piece)
{
	return piece->size <= BOUNCE_MAX - s->limits->min_align_mask &&
	       !place_crosses(piece, s->limits->min_align_mask) &&
	       !(piece->attrs & DMA_ATTR_REQUIRE_COHERENT);
}

enum piece_way piece_way(struct streaming *s, const struct piece *piece)
{
	bool registered;
	dma_addr_t dma = known_address(s, piece, &registered);

	if (dma != DMA_MAPPING_ERROR && address_holds(s, piece, dma))
		return PIECE_TRANSLATED;
	if (untranslated_is_mapped(s, piece))
		return s->options.no_syscalls ? PIECE_REFUSED : PIECE_MAPPED;
	return piece_can_be_copied(s, piece) ? PIECE_COPIED : PIECE_REFUSED;
}

/* Memory that is not translated: limit, if a limit is why. */
static inline __attribute__((always_inline)) dma_addr_t
piece_map_untranslated(struct streaming *s, const struct piece *piece, bool limit)
{
	if (registers_check(s, piece->ptr, piece->size))
		return DMA_MAPPING_ERROR;
	if (unlikely(!s->translates))
		return untranslated_is_mapped(s, piece) ? mapped_map(s, piece)
							: mapped_bounce(s, piece);
	if (piece_is_small(s, piece))
		return bounce_map(s, piece, limit ? WAY_LIMIT : WAY_SMALL);
	if (likely(s->maps) && fits_in_place(s, piece))
		return mapped_map(s, piece);
	/* What could be mapped does not fit within its boundary where it lies. */
	limit |= s->maps;
	return bounce_map(s, piece, limit ? WAY_LIMIT : WAY_UNMAPPABLE);
}

static inline __attribute__((always_inline)) dma_addr_t
register_map(struct streaming *s, const struct piece *piece, dma_addr_t dma)
{
	count_way(s, WAY_REGISTERED);
	if (unlikely(s->shadow) && !(piece->attrs & DMA_ATTR_SKIP_CPU_SYNC))
		s->space->domain->ops->sync(s->space->domain, dma, piece->size, true);
	return dma;
}

/* A piece that the device reaches at dma, or not: DMA_MAPPING_ERROR. */
static inline __attribute__((always_inline)) dma_addr_t
piece_map_at(struct streaming *s, const struct piece *piece, dma_addr_t dma, bool registered)
{
	if (dma == DMA_MAPPING_ERROR)
		return piece_map_untranslated(s, piece, false);
	if (!address_holds(s, piece, dma))
		return piece_map_untranslated(s, piece, true);
	if (unlikely(s->follow != NULL) &&
	    ((registered && watch_check(s, piece->ptr, piece->size)) ||
	     follow_begin(s, dma, piece)))
		return DMA_MAPPING_ERROR;
	if (registered)
		return register_map(s, piece, dma);
	count_way(s, WAY_ARENA);
	return dma;
}

/*
 * Only coherent memory is seen by a device that has a copy of its own of what is mapped: it is translated to its own
 * address, also where memory of the arena is not otherwise.
 */
static dma_addr_t shadow_map_coherent(struct streaming *s, const struct piece *piece)
{
	dma_addr_t dma = DMA_MAPPING_ERROR;

	if (s->translates)
		dma = window_address(s, s->space->domain->window_size, piece->ptr, piece->size);
	if (dma != DMA_MAPPING_ERROR && address_holds(s, piece, dma)) {
		if (s->follow && follow_begin(s, dma, piece))
			return DMA_MAPPING_ERROR;
		count_way(s, WAY_ARENA);
		return dma;
	}
	error_set(EOPNOTSUPP,
		  "%s: the device has a copy of its own of %zu bytes at %p (coherent=no), and "
		  "DMA_ATTR_REQUIRE_COHERENT forbids it: take the memory from a pool",
		  s->name, piece->size, (void *)piece->ptr);
	return DMA_MAPPING_ERROR;
}

/*
 * Where the device has a copy of its own, what is mapped belongs to it: also what SKIP_CPU_SYNC leaves to the
 * driver's syncs, since the memory may have been handed over before. Coherent memory has no owner.
 */
static __attribute__((noinline)) dma_addr_t
shadow_map(struct streaming *s, const struct piece *piece, dma_addr_t dma, bool registered)
{
	bool coherent = dma != DMA_MAPPING_ERROR && !registered;

	if (piece->attrs & DMA_ATTR_REQUIRE_COHERENT)
		return shadow_map_coherent(s, piece);
	coherent = coherent && address_holds(s, piece, dma);
	dma = piece_map_at(s, piece, dma, registered);
	if (dma == DMA_MAPPING_ERROR || coherent)
		return dma;
	shadow_hand(s, HAND_BEGIN, dma, piece->size, piece->ptr);
	return dma;
}

dma_addr_t piece_map(struct streaming *s, const struct piece *piece)
{
	bool registered;
	dma_addr_t dma = known_address(s, piece, &registered);

	if (unlikely(s->shadow))
		return shadow_map(s, piece, dma, registered);
	return piece_map_at(s, piece, dma, registered);
}

/*
 * All is checked. An element of a list that no way holds within its boundary, since it does not fit, crosses it, as in the
 * kernel. Where it is memory that is short, it fails: later it may not.
 */
static __attribute__((noinline)) dma_addr_t map_otherwise(struct streaming *s, void *ptr,
							  size_t size,
							  enum dma_data_direction direction,
							  unsigned long attrs, uint32_t nents)
{
	struct piece piece = {ptr, size, direction, attrs, nents, nents, 0};
	dma_addr_t dma = DMA_MAPPING_ERROR;

	if (streaming_is_disowned(s))
		return DMA_MAPPING_ERROR;
	if (nents)
		piece.same_bits = ~s->limits->seg_boundary;
	if (!request_check(s, ptr, size, direction, attrs))
		dma = element_map(s, &piece);
	if (dma == DMA_MAPPING_ERROR)
		count_way(s, WAY_FAILED);
	return dma;
}

dma_addr_t element_map(struct streaming *s, struct piece *piece)
{
	dma_addr_t dma = piece_map(s, piece);

	if (dma != DMA_MAPPING_ERROR || errno == ENOMEM || !piece->same_bits)
		return dma;
	piece->same_bits = 0;
	return piece_map(s, piece);
}

/* A single mapping of memory that is not small, or near registers. */
static __attribute__((noinline)) dma_addr_t map_large(struct streaming *s, void *ptr, size_t size,
						      enum dma_data_direction direction,
						      unsigned long attrs)
{
	const struct piece piece = {ptr, size, direction, attrs, 0, 0, 0};
	dma_addr_t dma = piece_map_untranslated(s, &piece, false);

	if (unlikely(dma == DMA_MAPPING_ERROR))
		count_way(s, WAY_FAILED);
	return dma;
}

/*
 * Memory that is neither the arena's nor registered. A block to bounce through begins at a multiple of its size: no copy in it crosses
 * a boundary that it could be held within.
 */
static inline __attribute__((always_inline)) dma_addr_t
map_untranslated(struct streaming *s, void *ptr, size_t size, enum dma_data_direction direction,
		 unsigned long attrs, uint32_t nents)
{
	if (unlikely((uintptr_t)ptr - 1 > UINTPTR_MAX - size)) /* NULL, too */
		return map_otherwise(s, ptr, size, direction, attrs, nents);
	if (size < s->bounce_below && likely(!mmio_is_near(ptr, size)))
		return bounce_map_small(s, ptr, size, direction, nents);
	return nents ? map_otherwise(s, ptr, size, direction, attrs, nents)
		     : map_large(s, ptr, size, direction, attrs);
}

static __attribute__((noinline)) dma_addr_t counted_slowly(struct streaming *s, enum way way,
							   dma_addr_t dma)
{
	count_way_slowly(s, way);
	return dma;
}

/* count_way() as the last thing that is done: what is rare is a jump, and nothing is saved for it. */
static inline dma_addr_t counted(struct streaming *s, enum way way, dma_addr_t dma)
{
	size_t offset = thread_offset;

	if (unlikely(!offset))
		return counted_slowly(s, way, dma);
	count_own(thread_at(s, offset), way);
	return dma;
}

/* Does what lies at a dma offset hold the limits, and an element its boundary? */
static inline bool offset_holds(const struct streaming *s, const void *ptr, uint64_t offset,
				size_t size, uint32_t nents)
{
	dma_addr_t dma = (uintptr_t)ptr + offset, end = dma + (size - 1);

	return end <= s->limits->streaming_mask && !(offset & s->limits->min_align_mask) &&
	       (!nents || !((dma ^ end) & ~s->limits->seg_boundary));
}

static inline __attribute__((always_inline)) dma_addr_t
map_registered(struct streaming *s, void *ptr, size_t size, enum dma_data_direction direction,
	       unsigned long attrs, uint32_t nents)
{
	uintptr_t word = frames_get(&s->registered->frames, (uintptr_t)ptr);
	const struct registration *r = frame_registration(word);
	uint64_t offset;

	if (unlikely(!r))
		return word ? map_otherwise(s, ptr, size, direction, attrs, nents)
			    : map_untranslated(s, ptr, size, direction, attrs, nents);
	if (unlikely(!registration_offset(r, ptr, size, &offset) ||
		     !offset_holds(s, ptr, offset, size, nents)))
		return map_otherwise(s, ptr, size, direction, attrs, nents);
	return counted(s, WAY_REGISTERED, (uintptr_t)ptr + offset);
}

static inline __attribute__((always_inline)) dma_addr_t
map_in_arena(struct streaming *s, void *ptr, size_t size, enum dma_data_direction direction,
	     unsigned long attrs, uint32_t nents)
{
	uint64_t offset;

	if (unlikely(!window_offset(s, s->window_bytes, ptr, size, &offset) ||
		     !offset_holds(s, ptr, offset, size, nents)))
		return map_otherwise(s, ptr, size, direction, attrs, nents);
	return counted(s, WAY_ARENA, (uintptr_t)ptr + offset);
}

/*
 * The short ways, which are none where the device has a copy of its own, or in debug mode; what does not fit them goes
 * the long one, where all is checked again. What is rare is a call at the end, so that nothing is saved for it.
 */
static inline __attribute__((always_inline)) dma_addr_t map_one(struct streaming *s, void *ptr,
								size_t size,
								enum dma_data_direction direction,
								unsigned long attrs, uint32_t nents)
{
	if (unlikely(!is_direction(direction) || attrs & ~DMA_ATTR_SKIP_CPU_SYNC ||
		     size - 1 >= s->short_below))
		return map_otherwise(s, ptr, size, direction, attrs, nents);
	if ((uintptr_t)ptr - s->window < s->window_bytes)
		return map_in_arena(s, ptr, size, direction, attrs, nents);
	if (registered_any(s->registered))
		return map_registered(s, ptr, size, direction, attrs, nents);
	return map_untranslated(s, ptr, size, direction, attrs, nents);
}

dma_addr_t streaming_map(struct streaming *s, void *ptr, size_t size,
			 enum dma_data_direction direction, unsigned long attrs)
{
	return map_one(s, ptr, size, direction, attrs, 0);
}

dma_addr_t streaming_map_element(struct streaming *s, void *ptr, size_t size,
				 enum dma_data_direction direction, unsigned long attrs)
{
	return map_one(s, ptr, size, direction, attrs, 1);
}

/* 0, or -errno in words. */
static int registers_may_be_mapped(const struct streaming *s, const void *ptr, size_t size)
{
	if (!mmio_contains(ptr, size))
		return error_set(EINVAL,
				 "%s: %zu bytes at %p are not in one window of pci_iomap(); memory "
				 "is mapped by dma_map_single()",
				 s->name, size, ptr);
	if (mmio_overlaps(ptr, size, true) || !streaming_can_map(s))
		return error_set(
			EOPNOTSUPP,
			"%s: this backend does not map registers, so that no device reaches "
			"them; vfio does",
			s->name);
	if (!s->translates && !mapped_is_whole(s, ptr, size))
		return error_set(
			EPERM,
			"%s: the device is not trusted (trusted=no), and %zu bytes at %p are "
			"not whole granules of %zu bytes",
			s->name, size, ptr, s->granule);
	return s->options.no_syscalls
		       ? error_set(EPERM,
				   "%s: registers are mapped by a system call (no_syscalls=yes)",
				   s->name)
		       : 0;
}

dma_addr_t streaming_map_registers(struct streaming *s, void *ptr, size_t size,
				   enum dma_data_direction direction, unsigned long attrs)
{
	const struct piece piece = {ptr, size, direction, attrs, 0, 0, 0};
	dma_addr_t dma = DMA_MAPPING_ERROR;

	if (streaming_is_disowned(s))
		return DMA_MAPPING_ERROR;
	if (!request_check(s, ptr, size, direction, attrs) &&
	    !registers_may_be_mapped(s, ptr, size))
		dma = mapped_map(s, &piece);
	if (dma == DMA_MAPPING_ERROR)
		count_way(s, WAY_FAILED);
	return dma;
}
