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
 * What is free is counted for each device's mask: reserve.c.
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

/* So many pages are taken from narrower devices' addresses until growing is tried again. */
#define LOW_PAGES 64

int arena_create(struct domain *domain, struct arena **result)
{
	struct arena *arena = calloc(1, sizeof(*arena));
	int err;

	if (!arena)
		return error_set(ENOMEM, "no memory for an arena");
	arena->domain = domain;
	arena->shrinkers_end = &arena->shrinkers;
	arena->last = DMA_MAPPING_ERROR - 1;
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

/*
 * The first page of the chunk where n free ones begin, aligned, from a dma address on and under a
 * mask; chunk->pages when there is none.
 */
static size_t chunk_find(const struct arena_chunk *chunk, size_t n, size_t align, uint64_t lowest,
			 uint64_t mask)
{
	const struct chunk *m = &chunk->memory;
	size_t step = align > ARENA_PAGE ? align / ARENA_PAGE : 1;
	size_t phase = (step - (m->dma / ARENA_PAGE) % step) % step;
	size_t end = pages_below(m->dma, chunk->pages, mask), at = phase;

	if (((uintptr_t)m->cpu ^ m->dma) & (align - 1))
		return chunk->pages;
	if (lowest > m->dma + phase * ARENA_PAGE)
		at = align_up((size_t)((lowest - m->dma + ARENA_PAGE - 1) / ARENA_PAGE) - phase,
			      step) +
		     phase;

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
	reserves_count(arena->reserves, chunk->memory.dma + at * ARENA_PAGE, n, -1);
	return first;
}

/* The dma addresses that the tenant can send; the lock is held. */
static uint64_t mask_of(const struct arena *arena, const struct arena_tenant *tenant)
{
	uint64_t mask = tenant->limits->coherent_mask;

	return mask < arena->last ? mask : arena->last;
}

/* Where n pages may be taken, from this dma address on; the lock is held. */
static uint64_t lowest_for(struct arena *arena, uint64_t mask, size_t n, enum reserve_leave leave)
{
	if (leave == LEAVE_LOW && arena->low_pages >= n) {
		leave = LEAVE_ALL;
		arena->low_pages -= n;
	}
	return reserves_lowest(arena->reserves, mask, n, leave);
}

/* Pages from what is mapped, leaving others their reserves; NULL when there are none. */
static struct page *arena_find(struct arena *arena, struct arena_tenant *tenant, size_t n,
			       size_t align, enum reserve_leave leave, enum take take)
{
	struct page *first = NULL;
	uint64_t lowest, mask;

	pthread_spin_lock(&arena->lock);
	mask = mask_of(arena, tenant);
	lowest = lowest_for(arena, mask, n, leave);
	if (lowest > mask)
		goto unlock;
	for (struct arena_chunk *chunk = arena->chunks; chunk && !first; chunk = chunk->next) {
		size_t at;

		if (chunk->memory.dma + (chunk->memory.size - 1) < lowest)
			break;
		if (chunk->free_pages < n)
			continue;
		at = chunk_find(chunk, n, align, lowest, mask);
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
	reserves_count(arena->reserves, chunk->memory.dma + at * ARENA_PAGE, n, 1);
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

/* All pages of the chunk are free, here and in chunk_unlink(). */
static void chunk_link(struct arena *arena, struct arena_chunk *chunk)
{
	struct arena_chunk **link = &arena->chunks;

	while (*link && (*link)->memory.dma > chunk->memory.dma)
		link = &(*link)->next;
	chunk->next = *link;
	*link = chunk;
	arena->pages += chunk->pages;
	arena->free_pages += chunk->pages;
	arena->low_pages = 0;
	reserves_count(arena->reserves, chunk->memory.dma, chunk->pages, 1);
}

static void chunk_unlink(struct arena *arena, struct arena_chunk *chunk)
{
	struct arena_chunk **link = &arena->chunks;

	while (*link != chunk)
		link = &(*link)->next;
	*link = chunk->next;
	arena->pages -= chunk->pages;
	arena->free_pages -= chunk->pages;
	reserves_count(arena->reserves, chunk->memory.dma, chunk->pages, -1);
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

/* Are there addresses for it, from this one on? */
static int addresses_check(struct domain *domain, size_t size, size_t align, uint64_t lowest,
			   uint64_t mask)
{
	bool fits;

	mutex_lock(&domain->lock);
	fits = iova_space_fits(&domain->iova, size, align, lowest, mask);
	mutex_unlock(&domain->lock);
	if (fits)
		return 0;
	return error_set(ENOMEM, "no %zu KiB of dma addresses are free from 0x%llx to 0x%llx",
			 size >> 10, (unsigned long long)lowest, (unsigned long long)mask);
}

struct arena_side {
	struct arena_side *next;
	char *base;
	size_t bytes; /* a page */
	unsigned int kind;
};

/* The entries of a chunk's pages, and what is beside them. `growing` is held. */
static int chunk_commit(struct arena *arena, const struct chunk *memory)
{
	const struct pagemap *map = &arena->pagemap;
	int err = pagemap_commit(&arena->pagemap, memory->cpu, memory->size);

	for (struct arena_side *side = arena->sides; side && !err; side = side->next)
		err = pagemap_side_commit(map, side->bytes, side->base, memory->cpu, memory->size);
	return err;
}

/* Add a chunk of size bytes; `growing` is held. lowest: the first dma address for it; 0: any. */
static int chunk_add(struct arena *arena, size_t size, size_t align, uint64_t lowest, uint64_t mask)
{
	size_t pages = size >> ARENA_PAGE_SHIFT;
	struct arena_chunk *chunk;
	int err;

	if (lowest && addresses_check(arena->domain, size, align, lowest, mask))
		return -ENOMEM;
	chunk = calloc(1, sizeof(*chunk) + bitmap_words(pages) * sizeof(chunk->free[0]));
	if (!chunk)
		return error_set(ENOMEM, "no memory for the bookkeeping of %zu KiB", size >> 10);
	err = arena->domain->ops->provide(arena->domain, size, align, mask, &chunk->memory);
	if (err)
		goto free_chunk;
	err = chunk_commit(arena, &chunk->memory);
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

/* Bytes that are mapped there. `growing` is held: nobody else changes the list. */
static size_t mapped_between(const struct arena *arena, uint64_t lowest, uint64_t mask)
{
	size_t size = 0;

	for (const struct arena_chunk *chunk = arena->chunks; chunk; chunk = chunk->next)
		if (chunk->memory.dma >= lowest && chunk->memory.dma <= mask)
			size += chunk->memory.size;
	return size;
}

/*
 * Add a chunk in which size bytes with this alignment fit, under the mask: as much again as there
 * is, or less where that can't be had. `growing` is held. lowest: as for chunk_add().
 */
static int arena_grow(struct arena *arena, size_t size, size_t align, uint64_t lowest,
		      uint64_t mask)
{
	size_t want = power_of_two_covering(mapped_between(arena, lowest, mask));
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
		err = chunk_add(arena, chunk_size, chunk_align, lowest, mask);
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

/* Leaves masks below a limit `keep` pages each. `growing` is held. */
static void trim_locked(struct arena *arena, size_t keep, uint64_t limit)
{
	struct arena_chunk *chunk, *next;

	/* Only those who hold `growing` change the list, so it may be read without the lock. */
	for (chunk = arena->chunks; chunk; chunk = next) {
		bool idle;

		next = chunk->next;
		pthread_spin_lock(&arena->lock);
		idle = chunk->free_pages == chunk->pages &&
		       (chunk->memory.size > CHUNK_SIZE_MAX ||
			reserves_hold(arena->reserves, keep, chunk->memory.dma, chunk->pages,
				      limit));
		pthread_spin_unlock(&arena->lock);
		if (idle && !chunk_remove(arena, chunk))
			return;
	}
}

void arena_trim(struct arena *arena, size_t keep)
{
	log_hold();
	mutex_lock(&arena->growing);
	trim_locked(arena, keep, UINT64_MAX);
	mutex_unlock(&arena->growing);
	log_release();
}

/* ---- what is idle; `growing` is held ---- */

static void shrink_all(struct arena *arena)
{
	for (struct arena_shrinker *s = arena->shrinkers; s; s = s->next)
		s->shrink(s);
}

static int explain_locked(struct arena *arena)
{
	struct domain *domain = arena->domain;
	struct arena_idle idle = {0};
	uint64_t memory, in_use;

	for (struct arena_shrinker *s = arena->shrinkers; s; s = s->next)
		s->count(s, &idle);
	mutex_lock(&domain->lock);
	memory = __atomic_load_n(&domain->memory, __ATOMIC_RELAXED);
	mutex_unlock(&domain->lock);
	pthread_spin_lock(&arena->lock);
	idle.kept += arena->free_pages * ARENA_PAGE;
	pthread_spin_unlock(&arena->lock);
	in_use = memory > idle.kept + idle.parked ? memory - idle.kept - idle.parked : 0;
	return error_append(
		"; of what is mapped %llu KiB are in use, %zu KiB kept idle and %zu KiB "
		"parked with threads%s",
		(unsigned long long)(in_use >> 10), idle.kept >> 10, idle.parked >> 10,
		idle.parked ? ", each of which gives its own back by dmaland_trim()" : "");
}

void arena_reclaim(struct arena *arena, size_t keep)
{
	log_hold();
	mutex_lock(&arena->growing);
	shrink_all(arena);
	trim_locked(arena, keep, UINT64_MAX);
	mutex_unlock(&arena->growing);
	log_release();
}

int arena_explain(struct arena *arena)
{
	int err;

	mutex_lock(&arena->growing);
	err = explain_locked(arena);
	mutex_unlock(&arena->growing);
	return err;
}

void arena_destroy(struct arena *arena)
{
	struct arena_chunk *chunk;

	arena_trim(arena, 0);
	while ((chunk = arena->chunks)) {
		arena->chunks = chunk->next;
		free(chunk);
	}
	while (arena->sides) {
		struct arena_side *side = arena->sides;

		arena->sides = side->next;
		pagemap_side_close(&arena->pagemap, side->bytes, side->base);
		free(side);
	}
	while (arena->reserves) {
		struct arena_reserve *reserve = arena->reserves;

		arena->reserves = reserve->next;
		free(reserve);
	}
	pthread_spin_destroy(&arena->lock);
	pthread_mutex_destroy(&arena->growing);
	pagemap_close(&arena->pagemap);
	free(arena);
}

/* ---- what the floors above call ---- */

/* The last dma address of the domain: masks above it are no wider. */
static uint64_t domain_last(struct domain *domain)
{
	uint64_t last = DMA_MAPPING_ERROR - 1;

	mutex_lock(&domain->lock);
	if (domain->usable_count && domain->usable[domain->usable_count - 1].last < last)
		last = domain->usable[domain->usable_count - 1].last;
	mutex_unlock(&domain->lock);
	return last;
}

/* What is free under a reserve's mask; the lock is held. */
static size_t free_pages_below(const struct arena *arena, uint64_t mask)
{
	size_t sum = 0;

	for (const struct arena_chunk *chunk = arena->chunks; chunk; chunk = chunk->next) {
		size_t below = pages_below(chunk->memory.dma, chunk->pages, mask);

		if (below == chunk->pages)
			sum += chunk->free_pages;
		else
			sum += bitmap_count(chunk->free, below);
	}
	return sum;
}

/* Masks, or the domain's addresses, have changed: count anew. `growing` and the lock are held. */
static void reserves_renew(struct arena *arena, uint64_t last)
{
	struct arena_reserve *old = arena->reserves, *reserve;

	arena->reserves = NULL;
	arena->last = last;
	while ((reserve = old)) {
		old = reserve->next;
		reserve->mask = reserve->wanted < last ? reserve->wanted : last;
		reserve->free_pages = free_pages_below(arena, reserve->mask);
		reserve_link(&arena->reserves, reserve);
	}
}

/* There is a reserve for these limits, if memory is to be had. `growing` is held. */
static void reserve_begin(struct arena *arena, const struct dma_limits *limits)
{
	struct arena_reserve *reserve;
	uint64_t last;

	if (reserve_find(arena->reserves, limits)) /* only those who hold `growing` change them */
		return;
	reserve = calloc(1, sizeof(*reserve));
	if (!reserve)
		return;
	reserve->limits = limits;
	reserve->wanted = limits->coherent_mask;
	last = domain_last(arena->domain);
	pthread_spin_lock(&arena->lock);
	reserve_link(&arena->reserves, reserve);
	reserves_renew(arena, last);
	pthread_spin_unlock(&arena->lock);
}

/* The first dma address above narrower masks; 0 where there are none. `growing` is held. */
static uint64_t zone_begin(struct arena *arena, uint64_t mask)
{
	uint64_t narrower;

	narrower = reserves_narrower(arena->reserves, mask < arena->last ? mask : arena->last);
	return narrower ? narrower + 1 : 0;
}

static bool reserve_wants(struct arena *arena, const struct arena_reserve *reserve)
{
	bool wants;

	pthread_spin_lock(&arena->lock);
	wants = reserve_is_short(arena->reserves, reserve);
	pthread_spin_unlock(&arena->lock);
	return wants;
}

/* Grow until all reserves are there, or can't be had. `growing` is held. */
static void reserves_fill(struct arena *arena)
{
	struct error_state before;

	error_keep(&before);
	for (const struct arena_reserve *r = arena->reserves; r; r = r->next)
		while (reserve_wants(arena, r) && !arena_grow(arena, ARENA_PAGE, ARENA_PAGE,
							      zone_begin(arena, r->mask), r->mask))
			;
	error_put_back(&before);
}

void arena_refill(struct arena *arena)
{
	fork_hold();
	mutex_lock(&arena->growing);
	pthread_spin_lock(&arena->lock);
	__atomic_store_n(&arena->refill_due, false, __ATOMIC_RELAXED);
	pthread_spin_unlock(&arena->lock);
	reserves_fill(arena);
	mutex_unlock(&arena->growing);
	fork_release();
}

/*
 * The arena can't grow for this tenant: pages under narrower masks, and for some time to come, so that
 * growing is not tried for each; or the tenant's own reserve. `growing` is held.
 */
static struct page *find_below(struct arena *arena, struct arena_tenant *tenant, size_t n,
			       size_t align)
{
	struct page *first = arena_find(arena, tenant, n, align, LEAVE_ALL, TAKE_RUN);

	if (!first)
		return arena_find(arena, tenant, n, align, LEAVE_NARROWER, TAKE_RUN);
	pthread_spin_lock(&arena->lock);
	arena->low_pages = LOW_PAGES;
	pthread_spin_unlock(&arena->lock);
	return first;
}

/* Grow, then take the run; from lower addresses or the reserve when growing fails. */
static int arena_take_growing(struct arena *arena, struct arena_tenant *tenant, size_t size,
			      size_t n, size_t align, gfp_t gfp, struct page **first)
{
	uint64_t lowest, mask;
	int err = 0;

	fork_hold(); /* opening a device does so too, and takes the same locks after it */
	mutex_lock(&arena->growing);
	reserve_begin(arena, tenant->limits);
	mask = tenant->limits->coherent_mask; /* does not change meanwhile: arena_set_mask() */
	lowest = zone_begin(arena, mask);
	*first = arena_find(arena, tenant, n, align, LEAVE_LOW, TAKE_RUN);
	while (!*first) {
		err = arena_grow(arena, size, align, lowest, mask);
		*first = arena_find(arena, tenant, n, align, LEAVE_LOW, TAKE_RUN);
		if (!*first && gfp & __GFP_NORETRY) {
			err = error_set(ENOMEM, "nothing is left but what others need");
			break;
		}
		if (!*first)
			*first =
				err ? find_below(arena, tenant, n, align)
				    : arena_find(arena, tenant, n, align, LEAVE_NARROWER, TAKE_RUN);
		if (*first || !err)
			continue;
		/* What others hold idle may do; or its chunks make room for one that does. */
		shrink_all(arena);
		*first = arena_find(arena, tenant, n, align, LEAVE_NARROWER, TAKE_RUN);
		if (*first)
			break;
		trim_locked(arena, ARENA_RESERVE_PAGES, lowest);
		err = arena_grow(arena, size, align, 0, mask);
		*first = arena_find(arena, tenant, n, align, LEAVE_NARROWER, TAKE_RUN);
		if (err && !*first)
			explain_locked(arena);
		if (err)
			break;
	}
	mutex_unlock(&arena->growing);
	fork_release();
	return *first ? 0 : err;
}

/* The next call that may grow had better do so. */
static void note_atomic(struct arena *arena)
{
	pthread_spin_lock(&arena->lock);
	__atomic_store_n(&arena->refill_due, true, __ATOMIC_RELAXED);
	pthread_spin_unlock(&arena->lock);
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
	enum reserve_leave leave = gfp & __GFP_RECLAIM ? LEAVE_LOW : LEAVE_NARROWER;

	if (arena->disowned)
		return error_forked("the memory of a device");
	if (n > UINT32_MAX || size > arena->domain->window_size)
		return window_is_small(arena->domain, size);
	if (gfp & __GFP_RECLAIM && arena_refill_due(arena))
		arena_refill(arena);
	*first = arena_find(arena, tenant, n, align, leave, TAKE_RUN);
	if (!(gfp & __GFP_RECLAIM))
		note_atomic(arena);
	if (*first)
		return 0;
	if (!(gfp & __GFP_RECLAIM))
		return error_set(
			ENOMEM,
			"no %zu KiB are mapped and free, and GFP_ATOMIC does not map more: "
			"allocate ahead with GFP_KERNEL, or let it enter the kernel: "
			"options.atomic_may_grow, or DMALAND_ATOMIC_MAY_GROW=1",
			n * ARENA_PAGE >> 10);
	return arena_take_growing(arena, tenant, size, n, align, gfp, first);
}

size_t arena_take_pages(struct arena *arena, struct arena_tenant *tenant, size_t n, gfp_t gfp,
			struct page **first)
{
	enum reserve_leave leave = gfp & __GFP_RECLAIM ? LEAVE_LOW : LEAVE_NARROWER;

	for (; n; n /= 2) {
		*first = arena_find(arena, tenant, n, ARENA_PAGE, leave, TAKE_PAGES);
		if (*first)
			break;
	}
	return n;
}

/* For all pages that are mapped, and for those to come. `growing` is held. */
static struct arena_side *side_make(struct arena *arena, size_t bytes, unsigned int kind)
{
	struct arena_side *side = calloc(1, sizeof(*side));
	int err;

	if (!side) {
		error_set(ENOMEM, "no memory for bookkeeping");
		return NULL;
	}
	side->bytes = bytes;
	side->kind = kind;
	err = pagemap_side_open(&arena->pagemap, bytes, &side->base);
	if (err)
		goto free_side;
	for (struct arena_chunk *chunk = arena->chunks; chunk && !err; chunk = chunk->next)
		err = pagemap_side_commit(&arena->pagemap, bytes, side->base, chunk->memory.cpu,
					  chunk->memory.size);
	if (err)
		goto close;
	side->next = arena->sides;
	arena->sides = side;
	return side;

close:
	pagemap_side_close(&arena->pagemap, bytes, side->base);
free_side:
	free(side);
	return NULL;
}

char *arena_side(struct arena *arena, size_t bytes, unsigned int kind)
{
	struct arena_side *side;

	mutex_lock(&arena->growing);
	side = arena->sides;
	while (side && (side->bytes != bytes || side->kind != kind))
		side = side->next;
	if (!side)
		side = side_make(arena, bytes, kind);
	mutex_unlock(&arena->growing);
	return side ? side->base : NULL;
}

void arena_add_shrinker(struct arena *arena, struct arena_shrinker *shrinker)
{
	mutex_lock(&arena->growing);
	shrinker->next = NULL;
	*arena->shrinkers_end = shrinker;
	arena->shrinkers_end = &shrinker->next;
	mutex_unlock(&arena->growing);
}

void arena_remove_shrinker(struct arena *arena, struct arena_shrinker *shrinker)
{
	struct arena_shrinker **link = &arena->shrinkers;

	mutex_lock(&arena->growing);
	while (*link != shrinker)
		link = &(*link)->next;
	*link = shrinker->next;
	if (!*link)
		arena->shrinkers_end = link;
	mutex_unlock(&arena->growing);
}

void arena_prepare(struct arena *arena, struct arena_tenant *tenant)
{
	struct error_state before;
	struct page *first;

	if (arena->disowned)
		return;
	error_keep(&before);
	fork_hold();
	mutex_lock(&arena->growing);
	reserve_begin(arena, tenant->limits);
	reserves_fill(arena);
	first = arena_find(arena, tenant, 1, ARENA_PAGE, LEAVE_NARROWER, TAKE_RUN);
	mutex_unlock(&arena->growing);
	fork_release();
	if (first || !arena_take(arena, tenant, ARENA_PAGE, ARENA_PAGE, GFP_KERNEL, &first))
		arena_give(arena, first);
	error_put_back(&before);
}

void arena_forget(struct arena *arena, const struct dma_limits *limits)
{
	struct arena_reserve *reserve;

	mutex_lock(&arena->growing);
	pthread_spin_lock(&arena->lock);
	reserve = reserve_find(arena->reserves, limits);
	if (reserve)
		reserve_unlink(&arena->reserves, reserve);
	pthread_spin_unlock(&arena->lock);
	mutex_unlock(&arena->growing);
	free(reserve);
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

/* Set the mask if nothing of the device lies above; `growing` is held. What lies highest. */
static dma_addr_t mask_try(struct arena *arena, struct dma_limits *limits, uint64_t mask)
{
	struct arena_reserve *reserve;
	dma_addr_t highest;
	uint64_t last;

	last = domain_last(arena->domain);
	pthread_spin_lock(&arena->lock);
	highest = highest_in_use(arena, limits);
	reserve = reserve_find(arena->reserves, limits);
	if (highest <= mask) {
		limits->coherent_mask = mask;
		if (reserve)
			reserve->wanted = mask;
		reserves_renew(arena, last);
	}
	pthread_spin_unlock(&arena->lock);
	return highest;
}

int arena_set_mask(struct arena *arena, struct dma_limits *limits, uint64_t mask, const char *name)
{
	dma_addr_t highest;
	int err = 0;

	log_hold(); /* what shrinks may report */
	fork_hold();
	mutex_lock(&arena->growing);
	highest = mask_try(arena, limits, mask);
	if (highest > mask) {
		shrink_all(arena);
		highest = mask_try(arena, limits, mask);
	}
	if (highest > mask) {
		error_set(EBUSY,
			  "%s has memory in use up to dma address 0x%llx, above the mask 0x%llx: "
			  "set the mask before allocating",
			  name, (unsigned long long)highest, (unsigned long long)mask);
		err = explain_locked(arena);
	} else if (reserve_find(arena->reserves, limits)) {
		reserves_fill(arena);
	}
	mutex_unlock(&arena->growing);
	fork_release();
	log_release();
	return err;
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
