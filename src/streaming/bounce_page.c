/* SPDX-License-Identifier: MIT */
/*
 * bounce_page.c - what is known of the pages that blocks to bounce through lie in
 *
 * From a dma address to its slot: the word of the page's frame leads there as long as the page is a pool's. The bookkeeping lives as
 * long as the domain; that of a page which its pool gave back serves another.
 */
#include "streaming/streaming_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "base/error.h"

/*
 * Pages' bookkeeping for each class that is had ready where no system calls are allowed later: for a chunk of the arena,
 * of which GFP_ATOMIC may take whatever is free.
 */
enum { READY_PAGES = 512 };

static size_t page_bytes(uint32_t class)
{
	return bounce_class_size(class) > FRAME_SIZE ? bounce_class_size(class) : FRAME_SIZE;
}

static size_t page_slots(uint32_t class)
{
	return page_bytes(class) / bounce_class_size(class);
}

/* Of a page's bookkeeping. */
static size_t record_bytes(uint32_t class)
{
	size_t originals = page_slots(class) > 1 ? 0 : page_bytes(class) / FRAME_SIZE;

	return sizeof(struct bounce_page) + page_slots(class) * sizeof(struct bounce_slot) +
	       align_up(originals * sizeof(uintptr_t), 64);
}

/* All zeroes. The lock is held. */
static void page_add(struct streaming_space *space, struct bounce_page *page, uint32_t class)
{
	page->shift = BOUNCE_SHIFT_MIN + class;
	page->mask = page_slots(class) > 1 ? FRAME_SIZE - 1 : 0;
	for (size_t i = 0; i < page_slots(class); i++)
		page->slots[i].stack = class * (uint32_t)sizeof(struct slot_stack);
	page->next = space->pages;
	space->pages = page;
	space->page_count++;
}

static struct bounce_page *page_alloc(struct streaming_space *space, uint32_t class)
{
	struct bounce_page *page = aligned_alloc(64, record_bytes(class));

	if (!page)
		return NULL;
	memset(page, 0, record_bytes(class));
	spin_lock(&space->lock);
	page_add(space, page, class);
	spin_unlock(&space->lock);
	return page;
}

/* One that was given back, or had ready; or NULL. The lock is held. */
static struct bounce_page *page_take(struct streaming_space *space, uint32_t class)
{
	struct bounce_page *page = space->free_pages[class];
	struct bounce_ready *ready = &space->ready[class];

	if (page) {
		space->free_pages[class] = page->next_free;
	} else if (ready->next < ready->end) {
		page = (void *)ready->next;
		ready->next += record_bytes(class);
		page->is_ready = true;
		page_add(space, page, class);
	}
	return page;
}

/* Nothing leads to it any more. */
static void page_free(struct streaming_space *space, struct bounce_page *page)
{
	uint32_t class = page->shift - BOUNCE_SHIFT_MIN;

	spin_lock(&space->lock);
	__atomic_store_n(&page->owner, NULL, __ATOMIC_RELAXED);
	page->next_free = space->free_pages[class];
	space->free_pages[class] = page;
	spin_unlock(&space->lock);
}

static struct bounce_page *page_get(struct streaming *s, uint32_t class)
{
	struct streaming_space *space = s->space;
	struct bounce_page *page;

	spin_lock(&space->lock);
	page = page_take(space, class);
	spin_unlock(&space->lock);
	if (!page && !s->options.no_syscalls)
		page = page_alloc(space, class);
	if (!page)
		error_set(ENOMEM, "%s: no bookkeeping for %zu bytes to bounce through", s->name,
			  bounce_class_size(class));
	return page;
}

static void page_begin(struct streaming *s, struct bounce_page *page, char *cpu, dma_addr_t dma)
{
	uint32_t class = page->shift - BOUNCE_SHIFT_MIN;

	for (size_t i = 0; i < page_slots(class); i++) {
		page->slots[i].cpu = cpu + i * bounce_class_size(class);
		page->slots[i].dma = dma + i * bounce_class_size(class);
		page->slots[i].rare = 0;
		__atomic_store_n(&page->slots[i].owner, s, __ATOMIC_RELAXED);
		slot_set_key(&page->slots[i], SLOT_NONE);
	}
	__atomic_store_n(&page->owner, s, __ATOMIC_RELEASE);
}

static void pages_end(void *context, size_t block_size, dma_addr_t dma, size_t size)
{
	const size_t step = page_bytes(bounce_class(block_size));
	struct streaming *s = context;

	for (size_t at = 0; at < size; at += step) {
		struct bounce_page *page = bounce_page_at(frames_get(&s->space->frames, dma + at));

		frames_set(&s->space->frames, dma + at, step, 0);
		page_free(s->space, page);
	}
}

static int pages_begin(void *context, size_t block_size, char *cpu, dma_addr_t dma, size_t size)
{
	const uint32_t class = bounce_class(block_size);
	const size_t step = page_bytes(class);
	struct streaming *s = context;
	struct bounce_page *page;
	size_t at = 0;

	if (frames_reserve(&s->space->frames, dma, size, !s->options.no_syscalls))
		return -ENOMEM;
	for (; at < size; at += step) {
		page = page_get(s, class);
		if (!page)
			goto end;
		page_begin(s, page, cpu + at, dma + at);
		frames_set(&s->space->frames, dma + at, step, (uintptr_t)page | FRAME_BOUNCE);
	}
	return 0;
end:
	pages_end(context, block_size, dma, at);
	return -ENOMEM;
}

const struct pool_memory_ops bounce_pages = {.begin = pages_begin, .end = pages_end};

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

int bounce_pages_ready(struct streaming_space *space, uint32_t class)
{
	size_t size = READY_PAGES * record_bytes(class);
	char *memory;

	if (space->ready[class].begin)
		return 0;
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return error_mmap("no memory to have bounce buffers ready");
	spin_lock(&space->lock);
	if (!space->ready[class].begin)
		space->ready[class] = (struct bounce_ready){memory, memory, memory + size};
	else
		memory = NULL;
	spin_unlock(&space->lock);
	return 0;
}

void bounce_ready_end(struct streaming_space *space)
{
	for (uint32_t class = 0; class < BOUNCE_CLASSES; class ++)
		if (space->ready[class].begin)
			munmap(space->ready[class].begin,
			       (size_t)(space->ready[class].end - space->ready[class].begin));
}

/* Has the device slots in it? Then its pool keeps it. Others may trim the pool, which gives back pages without such. */
static bool page_is_in_use(struct streaming *s, const struct bounce_page *page)
{
	bool in_use = false;

	spin_lock(&s->space->lock);
	if (racy_load(&page->owner) == s)
		for (size_t i = 0; i < page_slots(page->shift - BOUNCE_SHIFT_MIN); i++)
			in_use |= slot_state(&page->slots[i]) != SLOT_NONE;
	spin_unlock(&s->space->lock);
	return in_use;
}

static void slot_end(struct streaming *s, struct bounce_slot *slot)
{
	if (slot_state(slot) == SLOT_NONE)
		return;
	if (slot_state(slot) == SLOT_LIVE && s->shadow)
		shadow_hand(s, HAND_END, slot->dma, slot->size, NULL);
	slot->dma -= slot->rare & SLOT_OFFSET;
	slot->cpu -= slot->rare & SLOT_OFFSET;
	bounce_slot_put(s, slot);
}

void bounce_slots_end(struct streaming *s)
{
	struct bounce_page *page;

	spin_lock(&s->space->lock);
	page = s->space->pages;
	spin_unlock(&s->space->lock);
	for (; page; page = page->next)
		if (page_is_in_use(s, page))
			for (size_t i = 0; i < page_slots(page->shift - BOUNCE_SHIFT_MIN); i++)
				slot_end(s, &page->slots[i]);
}
