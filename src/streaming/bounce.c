/* SPDX-License-Identifier: MIT */
/*
 * bounce.c - slots: blocks of pools, with what is copied through them; their pages are bounce_page.c's
 *
 *   thread: stack of slots of 64 bytes, of 128, ...    (parked; no lock, nothing looked up)
 *              |
 *   pools of blocks of 64 bytes, of 128, ... 2 MiB     made when they are first needed
 *
 *   bounce_page: one page of a pool, and a slot for each of its blocks: where the copy is, whose
 *   memory is copied, how much, which way
 *
 * A dma address leads to the page's word in the frames, that to the bounce_page, and the offset to
 * the slot. A page's word stays when the pool gives the page back to the arena; whoever meets a slot
 * that is not live asks the arena whether the page is still a pool's of ours (unmap.c).
 *
 * A slot that is unmapped twice at the same moment by two threads may get into two stacks. The copy
 * is found when it is taken, since the slot is not parked any more by then.
 */
#include "streaming/streaming_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/fork.h"
#include "base/mutex.h"

static gfp_t may_grow(const struct streaming *s)
{
	return s->options.no_syscalls ? GFP_ATOMIC : GFP_KERNEL;
}

/* ---- pools ---- */

static int pool_make(struct streaming *s, uint32_t class)
{
	const struct pool_place place = {
		.arena = s->space->arena,
		.limits = &s->bounce_limits,
		.list = &s->pool_list,
		.orphans = s->orphans,
		.name = s->name,
	};
	struct dma_pool *pool;
	char name[32];

	fork_hold(); /* as the arena does when it grows, and opening a device, before other locks */
	mutex_lock(&s->making);
	pool = s->pools[class];
	if (!pool) {
		snprintf(name, sizeof(name), "bounce %zu", bounce_class_size(class));
		pool = pool_create(name, &place, bounce_class_size(class), bounce_class_size(class),
				   0);
		__atomic_store_n(&s->pools[class], pool, __ATOMIC_RELEASE);
	}
	mutex_unlock(&s->making);
	fork_release();
	return pool ? 0 : -errno;
}

static struct dma_pool *pool_of(struct streaming *s, uint32_t class)
{
	struct dma_pool *pool = __atomic_load_n(&s->pools[class], __ATOMIC_ACQUIRE);

	if (pool)
		return pool;
	if (s->options.no_syscalls) {
		error_set(EPERM,
			  "%s: nothing is ready to bounce %zu bytes, and no_syscalls forbids to "
			  "get it",
			  s->name, bounce_class_size(class));
		return NULL;
	}
	return pool_make(s, class) ? NULL : s->pools[class];
}

/* ---- slots ---- */

static bool slot_push(struct streaming *s, struct bounce_slot *slot)
{
	struct shard *shard = shard_of(s);
	bool exclusive = shard_is_exclusive(s, shard), pushed;

	if (!exclusive)
		spin_lock(&shard->lock);
	pushed = stack_push(slot_stack(slot, shard), slot);
	if (!exclusive)
		spin_unlock(&shard->lock);
	return pushed;
}

static struct bounce_slot *slot_pop(struct streaming *s, uint32_t class)
{
	struct shard *shard = shard_of(s);
	bool exclusive = shard_is_exclusive(s, shard);
	struct bounce_slot *slot;

	if (!exclusive)
		spin_lock(&shard->lock);
	slot = stack_pop(&shard->stacks[class]);
	if (!exclusive)
		spin_unlock(&shard->lock);
	return slot;
}

struct bounce_slot *bounce_slot_get(struct streaming *s, uint32_t class)
{
	uint32_t room = s->shards->stacks[class].room;
	uint32_t want = room > 1 ? room / 2 : 1, got;
	struct dma_pool *pool = pool_of(s, class);
	struct bounce_slot *slot, *best = NULL;
	dma_addr_t handles[STACK_MAX];
	void *blocks[STACK_MAX];

	if (!pool)
		return NULL;
	got = (uint32_t)dmaland_pool_alloc_bulk(pool, may_grow(s), want, blocks, handles);
	for (uint32_t i = 0; i < got; i++) {
		slot = bounce_slot_of_block(s, class, blocks[i], handles[i]);
		if (!slot)
			dma_pool_free(pool, blocks[i], handles[i]);
		else if (!best)
			best = slot;
		else if (!slot_push(s, slot))
			bounce_slot_put(s, slot);
	}
	return best;
}

void bounce_slot_put(struct streaming *s, struct bounce_slot *slot)
{
	struct dma_pool *pool = s->pools[slot_class(slot)];
	dma_addr_t dma = slot->dma;
	char *cpu = slot->cpu;

	/* From then on it may be of another page. */
	__atomic_store_n(&slot->plain, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->state, SLOT_NONE, __ATOMIC_RELEASE);
	dma_pool_free(pool, cpu, dma);
}

void bounce_slot_end(struct bounce_slot *slot, bool wanted)
{
	if (wanted)
		memcpy(slot->original, slot->cpu, slot->size);
	bounce_slot_put(slot->owner, slot);
}

/* A slot that is nobody else's. */
static struct bounce_slot *slot_take(struct streaming *s, uint32_t class)
{
	struct bounce_slot *slot;

	/* What is not parked is the copy of a slot that was unmapped twice at a time. */
	do {
		slot = slot_pop(s, class);
	} while (slot && slot_state(slot) != SLOT_PARKED);
	return slot ? slot : bounce_slot_get(s, class);
}

/* ---- mapping ---- */

static int refuse_size(struct streaming *s, const struct piece *piece)
{
	return error_set(EINVAL,
			 "%s: %zu bytes at %p can't be copied for the device: at most %zu in one "
			 "mapping (dma_max_mapping_size), and not across its segment boundary "
			 "0x%llx",
			 s->name, piece->size, (void *)piece->ptr, streaming_max_size(s),
			 (unsigned long long)s->limits->seg_boundary);
}

/* A slot for a piece, with all that is known of it but the copy; NULL with the error set. */
static struct bounce_slot *slot_begin(struct streaming *s, const struct piece *piece)
{
	uint64_t bits = piece_kept_bits(s, piece);
	size_t offset = (uintptr_t)piece->ptr & bits;
	size_t need = offset + piece->size;
	struct bounce_slot *slot;

	if (bits && need <= bits)
		need = bits + 1;
	if (piece->size > BOUNCE_MAX || place_crosses(piece, bits)) {
		refuse_size(s, piece);
		return NULL;
	}
	if (piece->attrs & DMA_ATTR_REQUIRE_COHERENT) {
		error_set(EOPNOTSUPP,
			  "%s: %zu bytes at %p would be copied, and DMA_ATTR_REQUIRE_COHERENT "
			  "forbids it: register the memory, or take it from a pool",
			  s->name, piece->size, (void *)piece->ptr);
		return NULL;
	}
	slot = slot_take(s, bounce_class(need));
	if (!slot)
		return NULL;
	slot->original = piece->ptr;
	slot->size = piece->size;
	slot->direction = (uint8_t)piece->direction;
	slot->offset = (uint16_t)offset;
	slot->cpu += offset;
	slot->dma += offset;
	slot->nents = piece->nents;
	return slot;
}

/* Frame by frame. */
static __attribute__((noinline)) void gathered_copy(struct bounce_slot *slot, size_t offset,
						    size_t size, bool for_device)
{
	for (size_t part; size; size -= part, offset += part) {
		size_t at = slot->offset + offset, inside = at & (FRAME_SIZE - 1);
		char *original = (char *)bounce_originals(slot)[at >> FRAME_SHIFT] + inside;

		part = size < FRAME_SIZE - inside ? size : FRAME_SIZE - inside;
		memcpy(for_device ? slot->cpu + offset : original,
		       for_device ? original : slot->cpu + offset, part);
	}
}

/* It is copied always: what the device leaves alone is there again after the copy back. */
dma_addr_t bounce_map(struct streaming *s, const struct piece *piece, enum way why)
{
	struct bounce_slot *slot = slot_begin(s, piece);
	bool plain;

	if (!slot)
		return DMA_MAPPING_ERROR;
	plain = !slot->offset && !slot->nents && !s->shadow;
	memcpy(slot->cpu, piece->ptr, piece->size);
	slot_set(slot, SLOT_LIVE, plain ? (uint32_t)piece->direction + 1 : 0);
	count_way(s, why);
	return slot->dma;
}

dma_addr_t bounce_map_list(struct streaming *s, const struct piece *piece,
			   const struct scatterlist *sg)
{
	struct bounce_slot *slot;
	size_t at, frame = 0;

	for (uint32_t i = 0; i < piece->entries; i++)
		if (registers_check(s, sg[i].address, sg[i].length))
			return DMA_MAPPING_ERROR;
	slot = slot_begin(s, piece);
	if (!slot)
		return DMA_MAPPING_ERROR;
	at = slot->offset;
	for (uint32_t i = 0; i < piece->entries; at += sg[i++].length)
		for (; frame << FRAME_SHIFT < at + sg[i].length; frame++)
			bounce_originals(slot)[frame] =
				(uintptr_t)sg[i].address + ((frame << FRAME_SHIFT) - at);
	slot->gathered = true;
	gathered_copy(slot, 0, slot->size, true);
	slot_set(slot, SLOT_LIVE, 0);
	count_way(s, WAY_SMALL);
	return slot->dma;
}

void bounce_copy(struct bounce_slot *slot, size_t offset, size_t size, bool for_device)
{
	if (unlikely(slot->gathered))
		gathered_copy(slot, offset, size, for_device);
	else if (for_device)
		memcpy(slot->cpu + offset, slot->original + offset, size);
	else
		memcpy(slot->original + offset, slot->cpu + offset, size);
}

void bounce_unmap(struct streaming *s, struct bounce_slot *slot, unsigned long attrs)
{
	if (slot_direction(slot) != DMA_TO_DEVICE && !(attrs & DMA_ATTR_SKIP_CPU_SYNC))
		bounce_copy(slot, 0, slot->size, false);
	slot->cpu -= slot->offset;
	slot->dma -= slot->offset;
	slot->offset = 0;
	slot->gathered = false;
	slot_set(slot, SLOT_PARKED, 0);
	count_way(s, WAY_BOUNCE_END);
	if (!slot_push(s, slot))
		bounce_slot_put(s, slot);
}

void bounce_flush(struct streaming *s)
{
	struct bounce_slot *slot;

	if (streaming_shard == UINT32_MAX)
		return;
	for (uint32_t class = 0; class < BOUNCE_CLASSES; class ++)
		while ((slot = slot_pop(s, class)))
			if (slot_state(slot) == SLOT_PARKED) /* or unmapped twice at a time */
				bounce_slot_put(s, slot);
}

/* ---- beginning and end ---- */

static int class_prepare(struct streaming *s, uint32_t class)
{
	struct bounce_slot *slot;
	int err = pool_make(s, class);

	if (err)
		return err;
	slot = bounce_slot_get(s, class);
	if (!slot)
		return -ENOMEM;
	bounce_slot_put(s, slot);
	return bounce_pages_ready(s->space, class);
}

int bounce_prepare(struct streaming *s)
{
	size_t most = s->copy_below > FRAME_SIZE ? s->copy_below : FRAME_SIZE;
	uint32_t last = bounce_class(s->page - 1 + most); /* at its offset in a page */
	bool no_syscalls = s->options.no_syscalls;
	int err = 0;

	s->options.no_syscalls = false;
	for (uint32_t class = 0; !err && class < BOUNCE_CLASSES && class <= last; class ++)
		err = class_prepare(s, class);
	s->options.no_syscalls = no_syscalls;
	return err;
}

void bounce_end(struct streaming *s)
{
	threads_forget_slots(s);
	bounce_pages_end(s);
	for (uint32_t class = 0; class < BOUNCE_CLASSES; class ++) {
		dma_pool_destroy(s->pools[class]);
		s->pools[class] = NULL;
	}
}
