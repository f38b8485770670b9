/* SPDX-License-Identifier: MIT */
/*
 * bounce_page.c - what is known of the pages that blocks to bounce through lie in
 *
 * From a block to its slot, and from a dma address: the word of the page's frame. The bookkeeping lives as long as the domain; that
 * of a page which its pool gave back serves another.
 */
#include "streaming/streaming_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"

/* Pages' bookkeeping for each class that is had ready where no system calls are allowed later. */
enum { READY_PAGES = 32 };

/* So many are asked for, at least, between two looks for those that are idle. */
enum { SWEEP_PAGES = 64 };

static size_t page_bytes(uint32_t class)
{
	return bounce_class_size(class) > FRAME_SIZE ? bounce_class_size(class) : FRAME_SIZE;
}

static size_t page_slots(uint32_t class)
{
	return page_bytes(class) / bounce_class_size(class);
}

static struct bounce_page *page_alloc(struct streaming_space *space, uint32_t class)
{
	size_t originals = page_slots(class) > 1 ? 0 : page_bytes(class) / FRAME_SIZE;
	size_t bytes = sizeof(struct bounce_page) + page_slots(class) * sizeof(struct bounce_slot) +
		       align_up(originals * sizeof(uintptr_t), 64);
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
			  bounce_class_size(class));
	return page;
}

/*
 * What is known of the page, if it is of this device and class now, and the same memory: the dma address
 * may have been another chunk's before. The lock is held.
 */
static struct bounce_page *page_find(struct streaming *s, uint32_t class, const char *cpu,
				     dma_addr_t dma)
{
	uintptr_t word = frames_get(s->frames, dma);
	struct bounce_page *page = (struct bounce_page *)(word & ~(uintptr_t)FRAME_KIND_MASK);

	if ((word & FRAME_KIND_MASK) != FRAME_BOUNCE || page->owner != s ||
	    page->shift != BOUNCE_SHIFT_MIN + class || page->dma != dma || page->cpu != cpu)
		return NULL;
	return page;
}

static void page_begin(struct streaming *s, struct bounce_page *page, char *cpu, dma_addr_t dma)
{
	uint32_t class = page->shift - BOUNCE_SHIFT_MIN;

	page->dma = dma;
	page->cpu = cpu;
	for (size_t i = 0; i < page_slots(class); i++) {
		page->slots[i].cpu = cpu + i * bounce_class_size(class);
		page->slots[i].dma = dma + i * bounce_class_size(class);
		page->slots[i].offset = 0;
		page->slots[i].gathered = false;
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

struct bounce_slot *bounce_slot_of_block(struct streaming *s, uint32_t class, char *cpu,
					 dma_addr_t block)
{
	struct streaming_space *space = s->space;
	size_t inside = block & (page_bytes(class) - 1);
	dma_addr_t dma = block - inside;
	struct bounce_slot *slot = NULL;
	struct bounce_page *page, *fresh;

	spin_lock(&space->lock);
	page = page_find(s, class, cpu - inside, dma);
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
	page = page_find(s, class, cpu - inside, dma);
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

/* Pages are never freed while the domain lives, nor is their list shortened. */
size_t bounce_parked(struct streaming *s)
{
	const struct bounce_page *page;
	size_t bytes = 0;

	spin_lock(&s->space->lock);
	page = s->space->pages;
	spin_unlock(&s->space->lock);
	for (; page; page = page->next) {
		uint32_t class = page->shift - BOUNCE_SHIFT_MIN;

		if (__atomic_load_n(&page->owner, __ATOMIC_RELAXED) != s)
			continue;
		for (size_t i = 0; i < page_slots(class); i++)
			if (slot_state(&page->slots[i]) == SLOT_PARKED)
				bytes += bounce_class_size(class);
	}
	return bytes;
}

static int count_free(struct streaming_space *space, uint32_t class)
{
	int n = 0;

	spin_lock(&space->lock);
	for (struct bounce_page *page = space->free_pages[class]; page; page = page->next_free)
		n++;
	spin_unlock(&space->lock);
	return n;
}

int bounce_pages_ready(struct streaming_space *space, uint32_t class)
{
	for (int i = count_free(space, class); i < READY_PAGES; i++) {
		struct bounce_page *page = page_alloc(space, class);

		if (!page)
			return error_set(ENOMEM, "no memory to have bounce buffers ready");
		spin_lock(&space->lock);
		page_free(space, page);
		spin_unlock(&space->lock);
	}
	return 0;
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
		if (slot_state(slot) == SLOT_LIVE && s->shadow)
			shadow_hand(s, HAND_END, slot->dma, slot->size, NULL);
		slot_set(slot, SLOT_NONE, 0);
		dma_pool_free(s->pools[slot_class(slot)], slot->cpu - slot->offset,
			      slot->dma - slot->offset);
	}
}

void bounce_pages_end(struct streaming *s)
{
	struct bounce_page *page, *next;

	for (page = pages_detach(s); page; page = next) {
		next = page->next_free;
		page_end(s, page);
		spin_lock(&s->space->lock);
		page_free(s->space, page);
		spin_unlock(&s->space->lock);
	}
}
