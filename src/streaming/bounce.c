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
 * the slot. What a thread that ended has parked is found by its number: it is the next one's that has the number.
 *
 * A slot that is unmapped twice at the same moment by two threads may get into two stacks. The copy
 * is found when it is taken, since the slot is not parked any more by then.
 */
#include "streaming/streaming_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/fork.h"
#include "base/mutex.h"

/* So many threads have stacks of slots had ready where no system calls are allowed later. */
enum { READY_THREADS = 64 };

/* Bytes that are parked in one stack of slots at most. */
#define STACK_BYTES ((size_t)32 << 10)

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
		.memory = &bounce_pages,
		.context = s,
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

static uint32_t stack_room(uint32_t class)
{
	size_t room = STACK_BYTES >> (BOUNCE_SHIFT_MIN + class);

	return room < STACK_MAX ? (uint32_t)room : STACK_MAX;
}

/* They stay until the device is closed. False without memory. */
static bool slots_make(struct streaming *s, struct thread_slots **place)
{
	struct thread_slots *slots = calloc(1, sizeof(*slots));

	if (!slots)
		return false;
	spin_lock(&s->slots_lock);
	slots->next = s->all_slots;
	s->all_slots = slots;
	spin_unlock(&s->slots_lock);
	__atomic_store_n(place, slots, __ATOMIC_RELEASE);
	return true;
}

/* Its own slots, if it can have some. */
static struct thread_slots *slots_get(struct streaming *s)
{
	struct thread_slots **slots;

	if (!thread_number_take())
		return NULL;
	slots = &thread_at(s, thread_offset)->slots;
	if (!*slots && !s->options.no_syscalls)
		slots_make(s, slots);
	return *slots;
}

/* This thread's stack, or that of those without slots of their own, locked. */
static struct slot_stack *stack_get(struct streaming *s, uint32_t class, bool *locked)
{
	struct thread_slots *slots = slots_get(s);

	*locked = !slots;
	if (*locked) {
		spin_lock(&s->slots_lock);
		slots = s->shared_slots;
	}
	slots->of[class].room = stack_room(class);
	return &slots->of[class];
}

static void stack_put(struct streaming *s, bool locked)
{
	if (locked)
		spin_unlock(&s->slots_lock);
}

static bool slot_push(struct streaming *s, struct bounce_slot *slot)
{
	bool locked, pushed = stack_push(stack_get(s, slot_class(slot), &locked), slot);

	stack_put(s, locked);
	return pushed;
}

static struct bounce_slot *slot_pop(struct streaming *s, uint32_t class)
{
	bool locked;
	struct bounce_slot *slot = stack_pop(stack_get(s, class, &locked));

	stack_put(s, locked);
	return slot;
}

/* The slot of a block that was taken from the pool. */
static struct bounce_slot *slot_of_block(const struct streaming *s, dma_addr_t dma)
{
	struct bounce_slot *slot =
		bounce_page_slot(bounce_page_at(frames_get(s->frames, dma)), dma);

	slot_set_key(slot, SLOT_PARKED);
	return slot;
}

struct bounce_slot *bounce_slot_get(struct streaming *s, uint32_t class)
{
	uint32_t room = stack_room(class);
	uint32_t want = room > 1 ? room / 2 : 1, got;
	struct dma_pool *pool = pool_of(s, class);
	struct bounce_slot *slot, *best = NULL;
	dma_addr_t handles[STACK_MAX];
	void *blocks[STACK_MAX];

	if (!pool)
		return NULL;
	got = (uint32_t)dmaland_pool_alloc_bulk(pool, may_grow(s), want, blocks, handles);
	for (uint32_t i = 0; i < got; i++) {
		slot = slot_of_block(s, handles[i]);
		if (!best)
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
	__atomic_store_n(&slot->key, SLOT_NONE, __ATOMIC_RELEASE);
	dma_pool_free(pool, cpu, dma);
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

/* A slot for a piece, with all that is known of it but the key and the copy; NULL with the error set. */
static struct bounce_slot *slot_begin(struct streaming *s, const struct piece *piece)
{
	uint64_t bits = piece_kept_bits(s, piece);
	size_t offset = (uintptr_t)piece->ptr & bits;
	size_t need = offset + piece->size;
	struct bounce_slot *slot;

	if (bits && need <= bits)
		need = bits + 1;
	if (piece->attrs & DMA_ATTR_REQUIRE_COHERENT) {
		error_set(EOPNOTSUPP,
			  "%s: %zu bytes at %p would be copied, and DMA_ATTR_REQUIRE_COHERENT "
			  "forbids it: register the memory, or take it from a pool",
			  s->name, piece->size, (void *)piece->ptr);
		return NULL;
	}
	if (piece->size > BOUNCE_MAX || place_crosses(piece, bits)) {
		error_set(EINVAL,
			  "%s: %zu bytes at %p can't be copied for the device: at most %zu in one "
			  "mapping (dma_max_mapping_size), and not across its segment boundary "
			  "0x%llx",
			  s->name, piece->size, (void *)piece->ptr, streaming_max_size(s),
			  (unsigned long long)s->limits->seg_boundary);
		return NULL;
	}
	slot = slot_take(s, bounce_class(need));
	if (!slot)
		return NULL;
	slot->original = piece->ptr;
	racy_store(&slot->size, piece->size);
	slot->cpu += offset;
	racy_store(&slot->dma, slot->dma + offset);
	racy_store(&slot->rare, (uint32_t)offset | (s->shadow ? SLOT_SHADOW : 0));
	return slot;
}

/* Frame by frame. */
static __attribute__((noinline)) void gathered_copy(struct bounce_slot *slot, size_t offset,
						    size_t size, bool for_device)
{
	for (size_t part; size; size -= part, offset += part) {
		size_t at = (slot->rare & SLOT_OFFSET) + offset, inside = at & (FRAME_SIZE - 1);
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

	if (!slot)
		return DMA_MAPPING_ERROR;
	slot_set_key(slot, slot_key(piece->direction, piece->nents));
	count_way(s, why);
	memcpy(slot->cpu, piece->ptr, piece->size);
	return slot->dma;
}

static __attribute__((noinline)) dma_addr_t map_small_slowly(struct streaming *s, void *ptr,
							     size_t size,
							     enum dma_data_direction direction,
							     uint32_t nents)
{
	const struct piece piece = {ptr, size, direction, 0, nents, nents, 0};
	dma_addr_t dma = bounce_map(s, &piece, WAY_SMALL);

	if (dma == DMA_MAPPING_ERROR)
		count_way(s, WAY_FAILED);
	return dma;
}

dma_addr_t bounce_map_small(struct streaming *s, void *ptr, size_t size,
			    enum dma_data_direction direction, uint32_t nents)
{
	struct streaming_thread *thread = thread_at(s, thread_offset);
	struct thread_slots *slots = thread->slots;
	struct bounce_slot *slot;
	struct slot_stack *stack;

	if (unlikely(!slots))
		return map_small_slowly(s, ptr, size, direction, nents);
	stack = &slots->of[bounce_class(size)];
	if (unlikely(!stack->count))
		return map_small_slowly(s, ptr, size, direction, nents);
	slot = stack->slots[--stack->count];
	if (unlikely(slot_get_key(slot) != SLOT_PARKED))
		return map_small_slowly(s, ptr, size, direction, nents);
	slot->original = ptr;
	racy_store(&slot->size, size);
	slot_set_key(slot, slot_key(direction, nents));
	count_own(thread, WAY_SMALL);
	memcpy(slot->cpu, ptr, size);
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
	at = slot->rare & SLOT_OFFSET;
	for (uint32_t i = 0; i < piece->entries; at += sg[i++].length)
		for (; frame << FRAME_SHIFT < at + sg[i].length; frame++)
			bounce_originals(slot)[frame] =
				(uintptr_t)sg[i].address + ((frame << FRAME_SHIFT) - at);
	slot->rare |= SLOT_GATHERED;
	gathered_copy(slot, 0, slot->size, true);
	slot_set_key(slot, slot_key(piece->direction, piece->nents));
	count_way(s, WAY_SMALL);
	return slot->dma;
}

void bounce_copy(struct bounce_slot *slot, size_t offset, size_t size, bool for_device)
{
	if (unlikely(slot->rare & SLOT_GATHERED))
		gathered_copy(slot, offset, size, for_device);
	else if (for_device)
		memcpy(slot->cpu + offset, slot->original + offset, size);
	else
		memcpy(slot->original + offset, slot->cpu + offset, size);
}

/* The stack is full, or there is more to it than a copy back. */
static __attribute__((noinline)) void unmap_slowly(struct streaming *s, struct bounce_slot *slot,
						   bool wanted)
{
	size_t offset = racy_load(&slot->rare) & SLOT_OFFSET;
	uint64_t key = slot_get_key(slot);
	dma_addr_t dma = racy_load(&slot->dma);

	/* Of those that unmap it at a time, one goes on. Nobody has the slot before it is in a stack. */
	if (slot_state(slot) != SLOT_LIVE ||
	    !__atomic_compare_exchange_n(&slot->key, &key, SLOT_PARKED, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_RELAXED)) {
		report_not_allocated(s, dma, racy_load(&slot->size), false);
		return;
	}
	if (slot->rare & SLOT_SHADOW)
		shadow_hand(s, HAND_END, slot->dma, slot->size, NULL);
	if (wanted)
		bounce_copy(slot, 0, slot->size, false);
	slot->cpu -= offset;
	racy_store(&slot->dma, slot->dma - offset);
	racy_store(&slot->rare, 0);
	count_way(s, WAY_BOUNCE_END);
	if (!slot_push(s, slot))
		bounce_slot_put(s, slot);
}

void bounce_unmap(struct streaming *s, struct bounce_slot *slot, bool wanted)
{
	struct streaming_thread *thread = thread_at(s, thread_offset);
	struct thread_slots *slots = thread->slots;
	struct slot_stack *stack;

	if (unlikely(racy_load(&slot->rare) || !slots)) {
		unmap_slowly(s, slot, wanted);
		return;
	}
	stack = (struct slot_stack *)(void *)((char *)slots + slot->stack);
	if (unlikely(stack->count == stack->room)) {
		unmap_slowly(s, slot, wanted);
		return;
	}
	slot_set_key(slot, SLOT_PARKED);
	count_own(thread, WAY_BOUNCE_END);
	stack->slots[stack->count++] = slot;
	if (wanted) /* only this thread takes from the stack: nobody has the slot before */
		memcpy(slot->original, slot->cpu, slot->size);
}

static struct bounce_slot *slot_pop_shared(struct streaming *s, uint32_t class)
{
	struct bounce_slot *slot;

	spin_lock(&s->slots_lock);
	slot = stack_pop(&s->shared_slots->of[class]);
	spin_unlock(&s->slots_lock);
	return slot;
}

/* Of this thread, or one that has ended; NULL: of those that have none of their own. */
static void stacks_empty(struct streaming *s, struct thread_slots *slots)
{
	struct bounce_slot *slot;

	for (uint32_t class = 0; class < BOUNCE_CLASSES; class ++)
		while ((slot = slots ? stack_pop(&slots->of[class]) : slot_pop_shared(s, class)))
			if (slot_state(slot) == SLOT_PARKED) /* or unmapped twice at a time */
				bounce_slot_put(s, slot);
}

void bounce_flush(struct streaming *s)
{
	uint32_t numbers = thread_numbers();

	stacks_empty(s, NULL);
	if (thread_at(s, thread_offset)->slots)
		stacks_empty(s, thread_at(s, thread_offset)->slots);
	for (uint32_t i = 1; i < numbers; i++) {
		if (!racy_load(&s->threads[i].slots) || !thread_number_inherit(i))
			continue;
		stacks_empty(s, s->threads[i].slots);
		thread_number_release(i);
	}
}

static void slots_forget(struct thread_slots *slots)
{
	for (uint32_t class = 0; class < BOUNCE_CLASSES; class ++)
		slots->of[class].count = 0;
}

static void stacks_forget(struct streaming *s)
{
	for (struct thread_slots *slots = s->all_slots; slots; slots = slots->next)
		slots_forget(slots);
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

/* Slots for some threads; others share. */
static int slots_prepare(struct streaming *s)
{
	for (uint32_t i = 1; i <= READY_THREADS; i++) {
		if (s->threads[i].slots)
			continue;
		if (!slots_make(s, &s->threads[i].slots))
			return error_set(ENOMEM, "no memory to have bounce buffers ready");
	}
	return 0;
}

int bounce_prepare(struct streaming *s)
{
	size_t most = s->copy_below > FRAME_SIZE ? s->copy_below : FRAME_SIZE;
	uint32_t last = bounce_class(s->page - 1 + most); /* at its offset in a page */
	bool no_syscalls = s->options.no_syscalls;
	int err = 0;

	s->options.no_syscalls = false;
	if (no_syscalls)
		err = slots_prepare(s);
	for (uint32_t class = 0; !err && class < BOUNCE_CLASSES && class <= last; class ++)
		err = class_prepare(s, class);
	s->options.no_syscalls = no_syscalls;
	return err;
}

void bounce_end(struct streaming *s)
{
	stacks_forget(s);
	bounce_slots_end(s);
	for (uint32_t class = 0; class < BOUNCE_CLASSES; class ++) {
		dma_pool_destroy(s->pools[class]);
		s->pools[class] = NULL;
	}
}
