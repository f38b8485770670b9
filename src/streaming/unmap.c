/* SPDX-License-Identifier: MIT */
/*
 * unmap.c - unmap, sync: what is at a dma address, and the checks at the end
 *
 *   dma --> word of its frame --> slot, mapping, registration, or nothing: the arena
 *
 * What holds something is checked against what it holds; a translated address holds nothing, and is
 * followed in debug mode alone.
 */
#include "streaming/streaming_internal.h"

#include <string.h>

/* ---- what is at a dma address ---- */

/* What a word leads to. */
union place {
	struct bounce_page *page;
	struct mapping *mapping;
	struct registration *registration;
	uintptr_t word;
};

static union place word_place(uintptr_t word)
{
	return (union place){.word = word & ~(uintptr_t)FRAME_KIND_MASK};
}

/* Registered memory of which the device has a copy of its own. */
static bool is_registration(uintptr_t word)
{
	return (word & FRAME_KIND_MASK) == FRAME_TRANSLATED && word > FRAME_ARENA;
}

/* Do these bytes lie inside of it? */
static bool registration_has(uintptr_t word, dma_addr_t dma, size_t size)
{
	const struct registration *r = word_place(word).registration;
	size_t inside = (size_t)(dma - r->dma_offset - r->begin);

	return size <= r->length && inside <= r->length - size;
}

/* The live slot of this device that dma is in the copy of; or NULL. */
static struct bounce_slot *live_slot(const struct streaming *s, uintptr_t word, dma_addr_t dma)
{
	struct bounce_page *page = word_place(word).page;
	struct bounce_slot *slot = bounce_page_slot(page, dma);

	return __atomic_load_n(&page->owner, __ATOMIC_RELAXED) == s && slot_state(slot) == SLOT_LIVE
		       ? slot
		       : NULL;
}

static struct mapping *live_mapping(const struct streaming *s, uintptr_t word)
{
	struct mapping *mapping = word_place(word).mapping;

	return __atomic_load_n(&mapping->state, __ATOMIC_ACQUIRE) == MAPPING_LIVE &&
			       mapping->owner == s
		       ? mapping
		       : NULL;
}

/* What holds dma; false when nothing of this device does. */
static bool holding_find(const struct streaming *s, uintptr_t word, dma_addr_t dma,
			 struct holding *holding)
{
	const struct bounce_slot *slot;
	const struct mapping *m;

	switch (word & FRAME_KIND_MASK) {
	case FRAME_BOUNCE:
		slot = live_slot(s, word, dma);
		if (!slot)
			return false;
		*holding = (struct holding){slot->dma, slot->size, slot->original,
					    (uint32_t)(slot_get_key(slot) >> SLOT_NENTS_SHIFT),
					    slot_direction(slot)};
		return true;
	case FRAME_MAPPED:
		m = live_mapping(s, word);
		if (!m || dma - m->dma >= m->bytes)
			return false;
		*holding = (struct holding){m->dma + m->offset, m->size, m->original, m->nents,
					    m->direction};
		return true;
	default:
		return false;
	}
}

/*
 * Memory of the arena, other than blocks to bounce through? mark: then the frame's word, whose table
 * is there, says so from now on. Under the arena's lock, so that it is set before the memory becomes
 * a block to bounce through, and its word another. There is no answer without the lock: who can't have it
 * sleeps, by system calls, also with no_syscalls.
 */
static bool arena_look(struct streaming *s, dma_addr_t dma, bool mark)
{
	struct arena *arena = s->space->arena;
	const struct arena_tenant *tenant;
	const struct arena_chunk *chunk;
	bool found = false;

	rt_lock_try_or_take(&arena->lock);
	chunk = arena_chunk_at(arena, dma);
	if (chunk) {
		tenant = page_tenant(&chunk->entries[(dma - chunk->memory.dma) / ARENA_PAGE]);
		found = tenant && !tenant->limits->bouncing;
	}
	if (found && mark)
		frames_set(&s->space->frames, dma, 1, FRAME_ARENA);
	rt_lock_release(&arena->lock);
	return found;
}

/* A word stays when the memory goes, but memory that comes there later is found before. */
static bool arena_holds(struct streaming *s, dma_addr_t dma)
{
	return arena_look(s, dma, false) &&
	       (frames_reserve(&s->space->frames, dma, 1, !s->options.no_syscalls) ||
		arena_look(s, dma, true));
}

/* Is dma a translated address, holding nothing? */
static bool is_translated(struct streaming *s, uintptr_t word, dma_addr_t dma)
{
	if (word && (word & FRAME_KIND_MASK) == FRAME_TRANSLATED)
		return s->translates;
	return s->translates && arena_holds(s, dma);
}

/* ---- unmap ---- */

bool piece_check(struct streaming *s, dma_addr_t dma, const struct piece *claim)
{
	uintptr_t word = frames_get(s->frames, dma);
	struct holding holding;

	if (!holding_find(s, word, dma, &holding)) {
		if (dma != DMA_MAPPING_ERROR && is_translated(s, word, dma) &&
		    (!is_registration(word) || registration_has(word, dma, claim->size)))
			return !s->follow || follow_check(s, dma, claim);
		report_not_allocated(s, dma, claim->size, false);
		return false;
	}
	if (claim_holds(claim, dma, &holding))
		return true;
	report_bad_unmap(s, dma, claim, &holding);
	return false;
}

/* Of registered memory of which the device has a copy. */
static __attribute__((noinline)) void registered_unmap(struct streaming *s, dma_addr_t dma,
						       const struct piece *claim)
{
	struct domain *domain = s->space->domain;

	shadow_hand(s, HAND_END, dma, claim->size, NULL);
	if (copy_is_wanted(claim->direction, claim->attrs))
		domain->ops->sync(domain, dma, claim->size, false);
}

void piece_unmap(struct streaming *s, dma_addr_t dma, const struct piece *claim)
{
	uintptr_t word = frames_get(s->frames, dma);
	struct bounce_slot *slot;
	struct mapping *mapping;

	switch (word & FRAME_KIND_MASK) {
	case FRAME_BOUNCE:
		slot = live_slot(s, word, dma);
		if (slot)
			bounce_unmap(s, slot, copy_is_wanted(claim->direction, claim->attrs));
		break;
	case FRAME_MAPPED:
		mapping = live_mapping(s, word);
		if (mapping)
			mapped_unmap(s, mapping, claim->attrs);
		break;
	default:
		if (s->follow)
			follow_end(s, dma, claim);
		if (is_registration(word))
			registered_unmap(s, dma, claim);
		break;
	}
}

static __attribute__((noinline)) void unmap_otherwise(struct streaming *s, dma_addr_t dma,
						      size_t size,
						      enum dma_data_direction direction,
						      unsigned long attrs)
{
	const struct piece claim = {NULL, size, direction, attrs, 0, 0, 0};

	if (!streaming_is_disowned(s) && piece_check(s, dma, &claim))
		piece_unmap(s, dma, &claim);
}

static inline bool slot_is(const struct bounce_slot *slot, const struct streaming *s,
			   dma_addr_t dma, size_t size, uint64_t key)
{
	return racy_load(&slot->owner) == s && racy_load(&slot->dma) == dma &&
	       racy_load(&slot->size) == size && racy_load(&slot->key) == key;
}

static __attribute__((noinline)) void unmap_bounced(struct streaming *s, dma_addr_t dma,
						    size_t size, enum dma_data_direction direction,
						    unsigned long attrs, uintptr_t word)
{
	struct bounce_slot *slot = bounce_page_slot(bounce_page_at(word), dma);

	if (likely(slot_is(slot, s, dma, size, slot_key(direction, 0))))
		bounce_unmap(s, slot, copy_is_wanted(direction, attrs));
	else
		unmap_otherwise(s, dma, size, direction, attrs);
}

static __attribute__((noinline)) void unmap_mapped(struct streaming *s, dma_addr_t dma, size_t size,
						   enum dma_data_direction direction,
						   unsigned long attrs, uintptr_t word)
{
	struct mapping *m = live_mapping(s, word);

	if (likely(m && dma == m->dma + m->offset && size == m->size && !m->nents &&
		   direction == m->direction))
		mapped_unmap(s, m, attrs);
	else
		unmap_otherwise(s, dma, size, direction, attrs);
}

void streaming_unmap(struct streaming *s, dma_addr_t dma, size_t size,
		     enum dma_data_direction direction, unsigned long attrs)
{
	uintptr_t word = frames_get(s->frames, dma);

	if (likely(word == s->holds_nothing))
		return;
	if (word & FRAME_BOUNCE)
		unmap_bounced(s, dma, size, direction, attrs, word);
	else if (word & FRAME_MAPPED)
		unmap_mapped(s, dma, size, direction, attrs, word);
	else
		unmap_otherwise(s, dma, size, direction, attrs);
}

static __attribute__((noinline)) void element_unmap_otherwise(struct streaming *s,
							      const struct scatterlist *sg,
							      enum dma_data_direction direction,
							      unsigned long attrs)
{
	const struct piece claim = {sg->address, sg->length, direction, attrs, 1, 1, 0};

	if (piece_check(s, sg->dma_address, &claim))
		piece_unmap(s, sg->dma_address, &claim);
}

void element_unmap(struct streaming *s, const struct scatterlist *sg,
		   enum dma_data_direction direction, unsigned long attrs)
{
	uintptr_t word = frames_get(s->frames, sg->dma_address);
	struct bounce_slot *slot;

	if (likely(word == s->holds_nothing))
		return;
	if (word & FRAME_BOUNCE) {
		slot = bounce_page_slot(bounce_page_at(word), sg->dma_address);
		if (likely(slot_is(slot, s, sg->dma_address, sg->length, slot_key(direction, 1)) &&
			   slot->original == sg->address)) {
			bounce_unmap(s, slot, copy_is_wanted(direction, attrs));
			return;
		}
	}
	element_unmap_otherwise(s, sg, direction, attrs);
}

/* ---- sync ---- */

/* Memory that is translated is coherent, unless it is registered and the device has a copy of it. */
static void sync_move(struct streaming *s, uintptr_t word, dma_addr_t dma, size_t size,
		      bool for_device)
{
	struct bounce_slot *slot;
	struct mapping *mapping;

	switch (word & FRAME_KIND_MASK) {
	case FRAME_MAPPED:
		mapping = word_place(word).mapping;
		mapped_copy(s, mapping, (size_t)(dma - mapping->dma) - mapping->offset, size,
			    for_device);
		break;
	case FRAME_BOUNCE:
		slot = bounce_page_slot(word_place(word).page, dma);
		bounce_copy(slot, (size_t)(dma - slot->dma), size, for_device);
		break;
	default:
		if (is_registration(word))
			s->space->domain->ops->sync(s->space->domain, dma, size, for_device);
		break;
	}
}

/* May it be synced, being translated? Reported if not. */
static bool translated_holds(struct streaming *s, uintptr_t word, dma_addr_t dma, size_t size,
			     enum dma_data_direction direction)
{
	bool translated = dma != DMA_MAPPING_ERROR && is_translated(s, word, dma);

	if (translated && s->follow)
		return follow_sync(s, dma, size, direction);
	if (translated && (!is_registration(word) || registration_has(word, dma, size)))
		return true;
	report_not_allocated(s, dma, size, true);
	return false;
}

static __attribute__((noinline)) void sync_otherwise(struct streaming *s, dma_addr_t dma,
						     size_t size, enum dma_data_direction direction,
						     bool for_device, uintptr_t word)
{
	bool moves = direction == DMA_BIDIRECTIONAL ||
		     direction == (for_device ? DMA_TO_DEVICE : DMA_FROM_DEVICE);
	struct holding h;

	if (!holding_find(s, word, dma, &h)) {
		if (streaming_is_disowned(s) || !translated_holds(s, word, dma, size, direction))
			return;
	} else if (!sync_holds(dma, size, direction, &h)) {
		report_bad_sync(s, dma, size, direction, &h);
		return;
	}
	/* Also where nothing moves: what the CPU has but read is given back. */
	if (unlikely(s->shadow) && !for_device)
		shadow_hand(s, HAND_TO_CPU, dma, size, NULL);
	if (moves)
		sync_move(s, word, dma, size, for_device);
	if (unlikely(s->shadow) && for_device)
		shadow_hand(s, HAND_TO_DEVICE, dma, size, NULL);
}

void streaming_sync(struct streaming *s, dma_addr_t dma, size_t size,
		    enum dma_data_direction direction, bool for_device)
{
	uintptr_t word = frames_get(s->frames, dma);

	if (likely(word == s->holds_nothing))
		return;
	sync_otherwise(s, dma, size, direction, for_device, word);
}

bool streaming_need_sync(struct streaming *s, dma_addr_t dma)
{
	uintptr_t word = frames_get(s->frames, dma);
	struct mapping *mapping;

	switch (word & FRAME_KIND_MASK) {
	case FRAME_BOUNCE:
		return live_slot(s, word, dma) != NULL;
	case FRAME_MAPPED:
		mapping = live_mapping(s, word);
		return mapping && (s->shadow || mapping->buffer);
	default:
		return is_registration(word);
	}
}
