/* SPDX-License-Identifier: MIT */
/*
 * arena.c - memory that is mapped for the device and stays mapped
 *
 *   arena --> chunk (dma 0xfee0_0000) --> chunk (dma 0xfec0_0000) --> ...
 *             |####....##......|          |########........|          bit per page: free or not
 *
 * Chunks hang in one list by descending dma address: devices with wide masks are served from high
 * addresses, so that low ones are left for those that need them. Who holds a page stands in the
 * page map. Chunks start small and double with use, so that a small program pins little and a
 * large one makes few system calls; where a large one can't be had, smaller ones are tried down
 * to what was asked.
 *
 * Two locks: `growing` serialises those who add and remove chunks and is held across system calls;
 * `lock` guards lists and bitmaps and is held for some loads and stores only, so that
 * GFP_ATOMIC never waits for the kernel.
 */
#include "memory/arena.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/log.h"
#include "base/mutex.h"

#define CHUNK_SIZE_MIN	((size_t)256 << 10)
#define CHUNK_SIZE_MAX	((size_t)32 << 20)
#define CHUNK_ALIGN_MAX ((size_t)2 << 20) /* a hugepage; more only when it is asked for */

int arena_create(struct domain *domain, struct arena **result)
{
	struct arena *arena = calloc(1, sizeof(*arena));
	int err;

	if (!arena)
		return error_set(ENOMEM, "no memory for an arena");
	arena->domain = domain;
	err = pagemap_open(&arena->pagemap, domain->window, domain->window_size);
	if (err)
		goto free_arena;
	err = pthread_mutex_init(&arena->growing, NULL);
	if (err) {
		err = error_set(err, "cannot make a lock for an arena: %s", strerror(err));
		goto close_pagemap;
	}
	pthread_spin_init(&arena->lock, PTHREAD_PROCESS_PRIVATE);
	*result = arena;
	return 0;

close_pagemap:
	pagemap_close(&arena->pagemap);
free_arena:
	free(arena);
	return err;
}

/* ---- runs ---- */

/* The first page of the chunk where n free ones begin, aligned; chunk->pages when there is none. */
static size_t chunk_find(const struct arena_chunk *chunk, size_t n, size_t align, uint64_t mask)
{
	const struct chunk *m = &chunk->memory;
	size_t step = align > ARENA_PAGE ? align / ARENA_PAGE : 1;
	size_t phase = (step - (m->dma / ARENA_PAGE) % step) % step;
	size_t end = chunk->pages, at = phase;

	if (m->dma > mask || (((uintptr_t)m->cpu ^ m->dma) & (align - 1)))
		return chunk->pages;
	if (mask - m->dma < m->size - 1)
		end = (size_t)((mask - m->dma + 1) / ARENA_PAGE);

	while (at + n <= end) {
		size_t begin = bitmap_next(chunk->free, at, end, true);
		size_t used;

		begin = align_up(begin - phase, step) + phase;
		if (begin + n > end)
			break;
		used = bitmap_next(chunk->free, begin, begin + n, false);
		if (used == begin + n)
			return begin;
		at = align_up(used + 1 - phase, step) + phase;
	}
	return chunk->pages;
}

/* How n pages are taken: as one run, or each a run of its own. */
enum take { TAKE_RUN, TAKE_PAGES };

/* Mark pages as taken; the lock is held. */
static struct page *chunk_take(struct arena *arena, struct arena_chunk *chunk, size_t at, size_t n,
			       struct arena_tenant *tenant, enum take take)
{
	struct page *first = pagemap_find(&arena->pagemap, chunk->memory.cpu + at * ARENA_PAGE);

	for (size_t i = 0; i < n; i++) {
		bitmap_clear(chunk->free, at + i);
		first[i].run_offset = take == TAKE_RUN ? (uint32_t)i : 0;
		first[i].run_pages = take == TAKE_RUN ? 0 : 1;
		page_set_tenant(&first[i], tenant);
	}
	if (take == TAKE_RUN)
		first->run_pages = (uint32_t)n;
	chunk->free_pages -= n;
	arena->free_pages -= n;
	return first;
}

/* Free pages of the chunks that begin under a mask; the lock is held. */
static size_t free_pages_below(const struct arena *arena, uint64_t mask)
{
	size_t sum = 0;

	for (const struct arena_chunk *chunk = arena->chunks; chunk; chunk = chunk->next)
		if (chunk->memory.dma <= mask)
			sum += chunk->free_pages;
	return sum;
}

/*
 * Pages from what is mapped, leaving `keep` pages free under the tenant's mask; NULL when there are
 * none.
 */
static struct page *arena_find(struct arena *arena, struct arena_tenant *tenant, size_t n,
			       size_t align, size_t keep, enum take take)
{
	struct page *first = NULL;

	pthread_spin_lock(&arena->lock);
	if (free_pages_below(arena, tenant->limits->coherent_mask) < n + keep)
		goto unlock;
	for (struct arena_chunk *chunk = arena->chunks; chunk && !first; chunk = chunk->next) {
		size_t at;

		if (chunk->free_pages < n)
			continue;
		at = chunk_find(chunk, n, align, tenant->limits->coherent_mask);
		if (at < chunk->pages)
			first = chunk_take(arena, chunk, at, n, tenant, take);
	}
unlock:
	pthread_spin_unlock(&arena->lock);
	return first;
}

/* Mark a run as free; the lock is held. */
static void run_release(struct arena *arena, struct page *first)
{
	struct arena_chunk *chunk = first->chunk;
	size_t n = first->run_pages;
	size_t at = (size_t)(pagemap_address(&arena->pagemap, first) - chunk->memory.cpu) >>
		    ARENA_PAGE_SHIFT;

	for (size_t i = 0; i < n; i++) {
		page_set_tenant(&first[i], NULL);
		bitmap_set(chunk->free, at + i);
	}
	first->run_pages = 0;
	chunk->free_pages += n;
	arena->free_pages += n;
}

void arena_give(struct arena *arena, struct page *first)
{
	pthread_spin_lock(&arena->lock);
	run_release(arena, first);
	pthread_spin_unlock(&arena->lock);
}

void arena_hand_over(struct arena *arena, struct page *first, struct arena_tenant *tenant)
{
	pthread_spin_lock(&arena->lock);
	for (size_t i = 0; i < first->run_pages; i++)
		page_set_tenant(&first[i], tenant);
	pthread_spin_unlock(&arena->lock);
}

bool arena_give_if(struct arena *arena, struct arena_tenant *tenant, const void *address,
		   bool (*accept)(struct page *first, void *context), void *context)
{
	struct page *page = pagemap_find(&arena->pagemap, address);
	bool accepted;

	if (!page || ((uintptr_t)address & (ARENA_PAGE - 1)))
		return false;
	pthread_spin_lock(&arena->lock);
	accepted = page->chunk && page_tenant(page) == tenant && page->run_offset == 0 &&
		   accept(page, context);
	if (accepted)
		run_release(arena, page);
	pthread_spin_unlock(&arena->lock);
	return accepted;
}

/* ---- chunks ---- */

static void chunk_link(struct arena *arena, struct arena_chunk *chunk)
{
	struct arena_chunk **link = &arena->chunks;

	while (*link && (*link)->memory.dma > chunk->memory.dma)
		link = &(*link)->next;
	chunk->next = *link;
	*link = chunk;
	arena->pages += chunk->pages;
	arena->free_pages += chunk->free_pages;
}

static void chunk_unlink(struct arena *arena, struct arena_chunk *chunk)
{
	struct arena_chunk **link = &arena->chunks;

	while (*link != chunk)
		link = &(*link)->next;
	*link = chunk->next;
	arena->pages -= chunk->pages;
	arena->free_pages -= chunk->free_pages;
}

/* Who the pages belong to, in the page map: a chunk, or nobody. */
static void chunk_announce(struct arena *arena, const struct arena_chunk *chunk,
			   struct arena_chunk *owner)
{
	struct page *first = pagemap_find(&arena->pagemap, chunk->memory.cpu);

	for (size_t i = 0; i < chunk->pages; i++) {
		first[i].dma_offset = chunk->memory.dma - (uintptr_t)chunk->memory.cpu;
		__atomic_store_n(&first[i].chunk, owner, __ATOMIC_RELEASE);
	}
}

/* Add a chunk of size bytes; `growing` is held. */
static int chunk_add(struct arena *arena, size_t size, size_t align, uint64_t mask)
{
	size_t pages = size >> ARENA_PAGE_SHIFT;
	struct arena_chunk *chunk;
	int err;

	chunk = calloc(1, sizeof(*chunk) + bitmap_words(pages) * sizeof(chunk->free[0]));
	if (!chunk)
		return error_set(ENOMEM, "no memory for the bookkeeping of %zu KiB", size >> 10);
	err = arena->domain->ops->provide(arena->domain, size, align, mask, &chunk->memory);
	if (err)
		goto free_chunk;
	err = pagemap_commit(&arena->pagemap, chunk->memory.cpu, size);
	if (err)
		goto withdraw;
	chunk->pages = chunk->free_pages = pages;
	for (size_t i = 0; i < pages; i++)
		bitmap_set(chunk->free, i);

	pthread_spin_lock(&arena->lock);
	chunk_announce(arena, chunk, chunk);
	chunk_link(arena, chunk);
	pthread_spin_unlock(&arena->lock);
	return 0;

withdraw:
	arena->domain->ops->withdraw(arena->domain, &chunk->memory);
free_chunk:
	free(chunk);
	return err;
}

/*
 * Add a chunk in which size bytes with this alignment fit, under the mask: as much again as there
 * is, or less where that can't be had. `growing` is held.
 */
static int arena_grow(struct arena *arena, size_t size, size_t align, uint64_t mask)
{
	size_t want = power_of_two_covering(arena->pages * ARENA_PAGE);
	size_t granule = arena->domain->granule;
	int err;

	size = align_up(size, granule);
	if (want < CHUNK_SIZE_MIN)
		want = CHUNK_SIZE_MIN;
	if (want > CHUNK_SIZE_MAX)
		want = CHUNK_SIZE_MAX;
	for (;; want /= 2) {
		size_t chunk_size = want > size ? align_up(want, granule) : size;
		size_t chunk_align = power_of_two_covering(chunk_size);

		if (chunk_align > CHUNK_ALIGN_MAX)
			chunk_align = CHUNK_ALIGN_MAX;
		if (chunk_align < align)
			chunk_align = align;
		err = chunk_add(arena, chunk_size, chunk_align, mask);
		if (err != -ENOMEM || chunk_size == size)
			return err;
	}
}

/* Give a chunk back that nobody uses; `growing` is held. False when the domain can't take it. */
static bool chunk_remove(struct arena *arena, struct arena_chunk *chunk)
{
	pthread_spin_lock(&arena->lock);
	if (chunk->free_pages != chunk->pages) {
		pthread_spin_unlock(&arena->lock);
		return true;
	}
	chunk_unlink(arena, chunk);
	chunk_announce(arena, chunk, NULL);
	pthread_spin_unlock(&arena->lock);

	if (arena->domain->ops->withdraw(arena->domain, &chunk->memory)) {
		log_line(DMALAND_LOG_ERR, "%zu KiB at dma address 0x%llx stay mapped: %s",
			 chunk->memory.size >> 10, (unsigned long long)chunk->memory.dma,
			 error_last());
		pthread_spin_lock(&arena->lock);
		chunk_announce(arena, chunk, chunk);
		chunk_link(arena, chunk);
		pthread_spin_unlock(&arena->lock);
		return false;
	}
	free(chunk);
	return true;
}

/* `growing` is held. */
static void trim_locked(struct arena *arena, size_t keep)
{
	struct arena_chunk *chunk, *next;

	/* Only those who hold `growing` change the list, so it may be read without the lock. */
	for (chunk = arena->chunks; chunk; chunk = next) {
		bool idle;

		next = chunk->next;
		pthread_spin_lock(&arena->lock);
		idle = chunk->free_pages == chunk->pages &&
		       (arena->free_pages - chunk->pages >= keep ||
			chunk->memory.size > CHUNK_SIZE_MAX);
		pthread_spin_unlock(&arena->lock);
		if (idle && !chunk_remove(arena, chunk))
			return;
	}
}

void arena_trim(struct arena *arena, size_t keep)
{
	log_hold();
	mutex_lock(&arena->growing);
	trim_locked(arena, keep);
	mutex_unlock(&arena->growing);
	log_release();
}

void arena_destroy(struct arena *arena)
{
	struct arena_chunk *chunk;

	arena_trim(arena, 0);
	while ((chunk = arena->chunks)) {
		arena->chunks = chunk->next;
		free(chunk);
	}
	pthread_spin_destroy(&arena->lock);
	pthread_mutex_destroy(&arena->growing);
	pagemap_close(&arena->pagemap);
	free(arena);
}

/* ---- what the floors above call ---- */

/* Grow, then take the run; from the reserve when growing fails. */
static int arena_take_growing(struct arena *arena, struct arena_tenant *tenant, size_t size,
			      size_t n, size_t align, gfp_t gfp, struct page **first)
{
	size_t keep = gfp & __GFP_NORETRY ? ARENA_RESERVE_PAGES : 0;
	uint64_t mask;
	int err = 0;

	fork_hold(); /* opening a device does so too, and takes the same locks after it */
	mutex_lock(&arena->growing);
	mask = tenant->limits->coherent_mask; /* does not change meanwhile: arena_set_mask() */
	*first = arena_find(arena, tenant, n, align, ARENA_RESERVE_PAGES, TAKE_RUN);
	while (!*first) {
		err = arena_grow(arena, size, align, mask);
		*first = arena_find(arena, tenant, n, align, keep, TAKE_RUN);
		if (!*first && gfp & __GFP_NORETRY) {
			err = error_set(ENOMEM, "nothing is left but what others need");
			break;
		}
		if (*first || !err)
			continue;
		/* What others hold idle may do; or its chunks make room for one that does. */
		for (struct arena_shrinker *s = arena->shrinkers; s; s = s->next)
			s->shrink(s);
		*first = arena_find(arena, tenant, n, align, 0, TAKE_RUN);
		if (*first)
			break;
		trim_locked(arena, 0);
		err = arena_grow(arena, size, align, mask);
		*first = arena_find(arena, tenant, n, align, 0, TAKE_RUN);
		if (err)
			break;
	}
	mutex_unlock(&arena->growing);
	fork_release();
	return *first ? 0 : err;
}

static int window_is_small(const struct domain *domain, size_t size)
{
	return error_set(
		ENOMEM,
		"%zu MiB of the device's memory were asked in one piece, and it can have %zu "
		"MiB in all: %s",
		size >> 20, domain->window_size >> 20,
		domain->window_cure ? domain->window_cure : "ask for smaller pieces");
}

int arena_take(struct arena *arena, struct arena_tenant *tenant, size_t size, size_t align,
	       gfp_t gfp, struct page **first)
{
	size_t n = (size + ARENA_PAGE - 1) >> ARENA_PAGE_SHIFT;
	size_t keep = gfp & __GFP_RECLAIM ? ARENA_RESERVE_PAGES : 0;

	if (arena->disowned)
		return error_forked("the memory of a device");
	if (n > UINT32_MAX || size > arena->domain->window_size)
		return window_is_small(arena->domain, size);
	*first = arena_find(arena, tenant, n, align, keep, TAKE_RUN);
	if (*first)
		return 0;
	if (!(gfp & __GFP_RECLAIM))
		return error_set(
			ENOMEM,
			"no %zu KiB are mapped and free, and GFP_ATOMIC does not map more: "
			"allocate ahead with GFP_KERNEL",
			n * ARENA_PAGE >> 10);
	return arena_take_growing(arena, tenant, size, n, align, gfp, first);
}

size_t arena_take_pages(struct arena *arena, struct arena_tenant *tenant, size_t n, gfp_t gfp,
			struct page **first)
{
	size_t keep = gfp & __GFP_RECLAIM ? ARENA_RESERVE_PAGES : 0;

	for (; n; n /= 2) {
		*first = arena_find(arena, tenant, n, ARENA_PAGE, keep, TAKE_PAGES);
		if (*first)
			break;
	}
	return n;
}

void arena_add_shrinker(struct arena *arena, struct arena_shrinker *shrinker)
{
	mutex_lock(&arena->growing);
	shrinker->next = arena->shrinkers;
	arena->shrinkers = shrinker;
	mutex_unlock(&arena->growing);
}

void arena_remove_shrinker(struct arena *arena, struct arena_shrinker *shrinker)
{
	struct arena_shrinker **link = &arena->shrinkers;

	mutex_lock(&arena->growing);
	while (*link != shrinker)
		link = &(*link)->next;
	*link = shrinker->next;
	mutex_unlock(&arena->growing);
}

void arena_prepare(struct arena *arena, struct arena_tenant *tenant)
{
	struct page *first;

	if (arena_take(arena, tenant, ARENA_PAGE, ARENA_PAGE, GFP_KERNEL, &first) == 0)
		arena_give(arena, first);
}

/* The first page at or after index whose run belongs to a device; the lock is held. */
static struct page *run_of_device(struct arena *arena, const struct arena_chunk *chunk,
				  size_t index, const struct dma_limits *limits)
{
	struct page *pages = pagemap_find(&arena->pagemap, chunk->memory.cpu);

	for (; index < chunk->pages; index++)
		if (page_tenant(&pages[index]) && pages[index].run_offset == 0 &&
		    page_tenant(&pages[index])->limits == limits)
			return &pages[index];
	return NULL;
}

void arena_for_each_run(struct arena *arena, const struct dma_limits *limits,
			void (*visit)(struct arena *arena, struct page *first, void *context),
			void *context)
{
	mutex_lock(&arena->growing);
	for (struct arena_chunk *chunk = arena->chunks; chunk; chunk = chunk->next) {
		struct page *base = pagemap_find(&arena->pagemap, chunk->memory.cpu);
		size_t index = 0;

		while (index < chunk->pages) {
			struct page *first;

			pthread_spin_lock(&arena->lock);
			first = run_of_device(arena, chunk, index, limits);
			index = first ? (size_t)(first - base) + first->run_pages : chunk->pages;
			pthread_spin_unlock(&arena->lock);
			if (first)
				visit(arena, first, context);
		}
	}
	mutex_unlock(&arena->growing);
}

/* The highest dma address that a device has in use; 0: none. The lock is held. */
static dma_addr_t highest_in_use(struct arena *arena, const struct dma_limits *limits)
{
	for (struct arena_chunk *chunk = arena->chunks; chunk; chunk = chunk->next) {
		struct page *pages = pagemap_find(&arena->pagemap, chunk->memory.cpu);

		if (chunk->free_pages == chunk->pages)
			continue;
		for (size_t i = chunk->pages; i-- > 0;)
			if (page_tenant(&pages[i]) && page_tenant(&pages[i])->limits == limits)
				return chunk->memory.dma + (i + 1) * ARENA_PAGE - 1;
	}
	return 0;
}

int arena_set_mask(struct arena *arena, struct dma_limits *limits, uint64_t mask, const char *name)
{
	dma_addr_t highest;

	mutex_lock(&arena->growing);
	pthread_spin_lock(&arena->lock);
	highest = highest_in_use(arena, limits);
	if (highest <= mask)
		limits->coherent_mask = mask;
	pthread_spin_unlock(&arena->lock);
	mutex_unlock(&arena->growing);
	if (highest > mask)
		return error_set(
			EBUSY,
			"%s has memory in use up to dma address 0x%llx, above the mask 0x%llx: "
			"set the mask before allocating",
			name, (unsigned long long)highest, (unsigned long long)mask);
	return 0;
}

dma_addr_t arena_translate(struct arena *arena, const struct dma_limits *limits,
			   const void *address, size_t size)
{
	struct page *page = pagemap_find(&arena->pagemap, address);
	const char *end = (const char *)address + size;
	struct arena_chunk *chunk;
	dma_addr_t dma;

	if (!page || !size || end < (const char *)address ||
	    !pagemap_find(&arena->pagemap, end - 1))
		return DMA_MAPPING_ERROR;
	chunk = __atomic_load_n(&page->chunk, __ATOMIC_ACQUIRE);
	if (!chunk)
		return DMA_MAPPING_ERROR;
	dma = (uintptr_t)address + page->dma_offset;
	if (dma + (size - 1) > limits->coherent_mask)
		return DMA_MAPPING_ERROR;
	/* The chunk is compared and not looked into: it may be on its way back to the domain. */
	for (; pagemap_address(&arena->pagemap, page) < end; page++)
		if (__atomic_load_n(&page->chunk, __ATOMIC_ACQUIRE) != chunk ||
		    !__atomic_load_n(&page->tenant, __ATOMIC_ACQUIRE))
			return DMA_MAPPING_ERROR;
	return dma;
}
