/* SPDX-License-Identifier: MIT */
/*
 * bounce.c - slots: blocks of pools, with what is copied through them
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
 * that is not live asks the arena whether the page is still a pool's of ours (map.c).
 *
 * A slot that is unmapped twice at the same moment by two threads may get into two stacks. The copy
 * is found when it is taken, since the slot is not parked any more by then.
 */
#include "streaming/streaming_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/mutex.h"

/* Pages' bookkeeping for each class that is had ready where no system calls are allowed later. */
enum { READY_PAGES = 32 };

/* So many are asked for, at least, between two looks for those that are idle. */
enum { SWEEP_PAGES = 64 };

static size_t class_size(uint32_t class)
{
	return (size_t)1 << (BOUNCE_SHIFT_MIN + class);
}

static size_t page_bytes(uint32_t class)
{
	return class_size(class) > FRAME_SIZE ? class_size(class) : FRAME_SIZE;
}

static size_t page_slots(uint32_t class)
{
	return page_bytes(class) / class_size(class);
}

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
		.seldom = true, /* a page of slots at a time */
	};
	struct dma_pool *pool;
	char name[32];

	fork_hold(); /* as the arena does when it grows, and opening a device, before other locks */
	mutex_lock(&s->making);
	pool = s->pools[class];
	if (!pool) {
		snprintf(name, sizeof(name), "bounce %zu", class_size(class));
		pool = pool_create(name, &place, class_size(class), class_size(class), 0);
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
		error_set(ENOMEM,
			  "%s: nothing is ready to bounce %zu bytes, and no_syscalls forbids to "
			  "get it",
			  s->name, class_size(class));
		return NULL;
	}
	return pool_make(s, class) ? NULL : s->pools[class];
}

/* ---- pages ---- */

static struct bounce_page *page_alloc(struct streaming_space *space, uint32_t class)
{
	size_t bytes = sizeof(struct bounce_page) + page_slots(class) * sizeof(struct bounce_slot);
	struct bounce_page *page = aligned_alloc(64, bytes);

	if (!page)
		return NULL;
	memset(page, 0, bytes);
	page->shift = BOUNCE_SHIFT_MIN + class;
	page->mask = page_slots(class) > 1 ? FRAME_SIZE - 1 : 0;
	for (size_t i = 0; i < page_slots(class); i++)
		page->slots[i].stack = class * (uint32_t)sizeof(struct slot_stack);
	spin_lock(&space->lock);
	page->next = space->pages;
	space->pages = page;
	space->page_count++;
	spin_unlock(&space->lock);
	return page;
}

/* The lock is held, here and below. */
static void page_free(struct streaming_space *space, struct bounce_page *page)
{
	uint32_t class = page->shift - BOUNCE_SHIFT_MIN;

	__atomic_store_n(&page->owner, NULL, __ATOMIC_RELAXED);
	page->next_free = space->free_pages[class];
	space->free_pages[class] = page;
}

/* Nothing leads to it any more. Its addresses may be somebody else's by now. */
static void page_unlink(struct streaming_space *space, const struct bounce_page *page)
{
	uintptr_t word = (uintptr_t)page | FRAME_BOUNCE;

	for (size_t at = 0; at < page_bytes(page->shift - BOUNCE_SHIFT_MIN); at += FRAME_SIZE)
		frames_replace(&space->frames, page->dma + at, word, 0);
}

/* Who gave a block back has done with its slot, too: bounce_slot_put(). */
static bool page_is_idle(const struct bounce_page *page)
{
	for (size_t i = 0; i < page_slots(page->shift - BOUNCE_SHIFT_MIN); i++)
		if (__atomic_load_n(&page->slots[i].state, __ATOMIC_ACQUIRE) != SLOT_NONE)
			return false;
	return true;
}

/*
 * Nobody tells when a pool gives a page back. But where none of its blocks is ours there is nothing
 * to be known of it, and its bookkeeping can be another's. The next sweep is when as many have been
 * asked for as are in use now: what lies around stays bounded, and looking for it cheap.
 */
static void pages_sweep(struct streaming_space *space)
{
	size_t in_use = 0;

	for (struct bounce_page *page = space->pages; page; page = page->next) {
		if (!page->owner)
			continue;
		if (!page_is_idle(page)) {
			in_use++;
			continue;
		}
		page_unlink(space, page);
		page_free(space, page);
	}
	space->sweep_in = in_use + SWEEP_PAGES;
}

static struct bounce_page *page_pop(struct streaming_space *space, uint32_t class)
{
	struct bounce_page *page = space->free_pages[class];

	if (page)
		space->free_pages[class] = page->next_free;
	return page;
}

static struct bounce_page *page_get(struct streaming *s, uint32_t class)
{
	struct streaming_space *space = s->space;
	struct bounce_page *page;

	spin_lock(&space->lock);
	if (space->sweep_in)
		space->sweep_in--;
	page = page_pop(space, class);
	if (!page && (s->options.no_syscalls || !space->sweep_in)) {
		pages_sweep(space);
		page = page_pop(space, class);
	}
	spin_unlock(&space->lock);
	if (!page && !s->options.no_syscalls)
		page = page_alloc(space, class);
	if (!page)
		error_set(ENOMEM, "%s: no bookkeeping for %zu bytes to bounce through", s->name,
			  class_size(class));
	return page;
}

/* The page's word, if the page is of this device and class now; the lock is held. */
static struct bounce_page *page_find(struct streaming *s, uint32_t class, dma_addr_t dma)
{
	uintptr_t word = frames_get(s->frames, dma);
	struct bounce_page *page = (struct bounce_page *)(word & ~(uintptr_t)FRAME_KIND_MASK);

	if ((word & FRAME_KIND_MASK) != FRAME_BOUNCE || page->owner != s ||
	    page->shift != BOUNCE_SHIFT_MIN + class || page->dma != dma)
		return NULL;
	return page;
}

static void page_begin(struct streaming *s, struct bounce_page *page, char *cpu, dma_addr_t dma)
{
	uint32_t class = page->shift - BOUNCE_SHIFT_MIN;

	page->dma = dma;
	for (size_t i = 0; i < page_slots(class); i++) {
		page->slots[i].cpu = cpu + i * class_size(class);
		page->slots[i].dma = dma + i * class_size(class);
		page->slots[i].offset = 0;
		__atomic_store_n(&page->slots[i].owner, s, __ATOMIC_RELAXED);
		slot_set(&page->slots[i], SLOT_NONE, 0);
	}
	__atomic_store_n(&page->owner, s, __ATOMIC_RELEASE);
}

/* What lay in these frames before is over: pools of those pages have given them back. */
static void stale_free(struct streaming *s, dma_addr_t dma, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += FRAME_SIZE) {
		uintptr_t word = frames_get(s->frames, dma + at);
		struct bounce_page *old =
			(struct bounce_page *)(word & ~(uintptr_t)FRAME_KIND_MASK);

		if ((word & FRAME_KIND_MASK) != FRAME_BOUNCE)
			continue;
		page_unlink(s->space, old);
		page_free(s->space, old);
	}
}

/* A slot that is parked: from now on its page is not idle. The lock is held. */
static struct bounce_slot *slot_park(struct bounce_page *page, dma_addr_t dma)
{
	struct bounce_slot *slot = bounce_page_slot(page, dma);

	slot_set(slot, SLOT_PARKED, 0);
	return slot;
}

/* The slot of a block that the caller has taken from the pool; NULL with the error set. */
static struct bounce_slot *slot_of_block(struct streaming *s, uint32_t class, char *cpu,
					 dma_addr_t block)
{
	struct streaming_space *space = s->space;
	size_t inside = block & (page_bytes(class) - 1);
	dma_addr_t dma = block - inside;
	struct bounce_slot *slot = NULL;
	struct bounce_page *page, *fresh;

	spin_lock(&space->lock);
	page = page_find(s, class, dma);
	if (page)
		slot = slot_park(page, block);
	spin_unlock(&space->lock);
	if (slot)
		return slot;
	if (frames_reserve(&space->frames, dma, page_bytes(class), !s->options.no_syscalls))
		return NULL;
	fresh = page_get(s, class);
	if (!fresh)
		return NULL;

	spin_lock(&space->lock);
	page = page_find(s, class, dma);
	if (page) { /* another block of it was quicker */
		page_free(space, fresh);
	} else {
		stale_free(s, dma, page_bytes(class));
		page = fresh;
		page_begin(s, page, cpu - inside, dma);
		frames_set(&space->frames, dma, page_bytes(class), (uintptr_t)page | FRAME_BOUNCE);
	}
	slot = slot_park(page, block);
	spin_unlock(&space->lock);
	return slot;
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
		slot = slot_of_block(s, class, blocks[i], handles[i]);
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

dma_addr_t bounce_map(struct streaming *s, const struct piece *piece, enum way why)
{
	const struct dma_limits *limits = s->limits;
	uint64_t bits = piece_kept_bits(s, piece);
	size_t offset = (uintptr_t)piece->ptr & bits;
	size_t need = offset + piece->size;
	struct bounce_slot *slot;

	if (bits && need <= bits)
		need = bits + 1;
	if (piece->size > BOUNCE_MAX ||
	    (offset ^ (offset + piece->size - 1)) & ~limits->seg_boundary) {
		refuse_size(s, piece);
		return DMA_MAPPING_ERROR;
	}
	if (piece->attrs & DMA_ATTR_REQUIRE_COHERENT) {
		error_set(EOPNOTSUPP,
			  "%s: %zu bytes at %p would be copied, and DMA_ATTR_REQUIRE_COHERENT "
			  "forbids it: register the memory, or take it from a pool",
			  s->name, piece->size, (void *)piece->ptr);
		return DMA_MAPPING_ERROR;
	}
	slot = slot_take(s, bounce_class(need));
	if (!slot)
		return DMA_MAPPING_ERROR;
	slot->original = piece->ptr;
	slot->size = piece->size;
	slot->direction = (uint8_t)piece->direction;
	slot->offset = (uint16_t)offset;
	slot->cpu += offset;
	slot->dma += offset;
	slot->nents = piece->nents;
	/* Always: what the device leaves alone is there again after the copy back. */
	memcpy(slot->cpu, piece->ptr, piece->size);
	slot_set(slot, SLOT_LIVE, offset || piece->nents ? 0 : (uint32_t)piece->direction + 1);
	count_way(s, why);
	return slot->dma;
}

void bounce_unmap(struct streaming *s, struct bounce_slot *slot, unsigned long attrs)
{
	if (slot_direction(slot) != DMA_TO_DEVICE && !(attrs & DMA_ATTR_SKIP_CPU_SYNC))
		memcpy(slot->original, slot->cpu, slot->size);
	slot->cpu -= slot->offset;
	slot->dma -= slot->offset;
	slot->offset = 0;
	slot_set(slot, SLOT_PARKED, 0);
	count_way(s, WAY_BOUNCE_END);
	if (!slot_push(s, slot))
		bounce_slot_put(s, slot);
}

/* ---- beginning and end ---- */

static int count_free(struct streaming_space *space, uint32_t class)
{
	int n = 0;

	spin_lock(&space->lock);
	for (struct bounce_page *page = space->free_pages[class]; page; page = page->next_free)
		n++;
	spin_unlock(&space->lock);
	return n;
}

static int class_prepare(struct streaming *s, uint32_t class)
{
	struct bounce_page *page;
	struct bounce_slot *slot;
	int err = pool_make(s, class);

	if (err)
		return err;
	slot = bounce_slot_get(s, class);
	if (!slot)
		return -ENOMEM;
	bounce_slot_put(s, slot);
	for (int i = count_free(s->space, class); i < READY_PAGES; i++) {
		page = page_alloc(s->space, class);
		if (!page)
			return error_set(ENOMEM, "no memory to have bounce buffers ready");
		spin_lock(&s->space->lock);
		page_free(s->space, page);
		spin_unlock(&s->space->lock);
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
	for (uint32_t class = 0; !err && class < BOUNCE_CLASSES && class <= last; class ++)
		err = class_prepare(s, class);
	s->options.no_syscalls = no_syscalls;
	return err;
}

/* Pages of this device, which nobody else finds any more, chained by next_free. */
static struct bounce_page *pages_detach(struct streaming *s)
{
	struct bounce_page *list = NULL;

	spin_lock(&s->space->lock);
	for (struct bounce_page *page = s->space->pages; page; page = page->next) {
		if (page->owner != s)
			continue;
		page_unlink(s->space, page);
		__atomic_store_n(&page->owner, NULL, __ATOMIC_RELAXED);
		page->next_free = list;
		list = page;
	}
	spin_unlock(&s->space->lock);
	return list;
}

static void page_end(struct streaming *s, struct bounce_page *page)
{
	for (size_t i = 0; i < page_slots(page->shift - BOUNCE_SHIFT_MIN); i++) {
		struct bounce_slot *slot = &page->slots[i];

		if (slot_state(slot) == SLOT_NONE)
			continue;
		slot_set(slot, SLOT_NONE, 0);
		dma_pool_free(s->pools[slot_class(slot)], slot->cpu - slot->offset,
			      slot->dma - slot->offset);
	}
}

void bounce_end(struct streaming *s)
{
	struct bounce_page *page, *next;

	threads_forget_slots(s);
	for (page = pages_detach(s); page; page = next) {
		next = page->next_free;
		page_end(s, page);
		spin_lock(&s->space->lock);
		page_free(s->space, page);
		spin_unlock(&s->space->lock);
	}
	for (uint32_t class = 0; class < BOUNCE_CLASSES; class ++) {
		dma_pool_destroy(s->pools[class]);
		s->pools[class] = NULL;
	}
}
