/* SPDX-License-Identifier: MIT */
/*
 * arena.c - memory that is mapped for the device and stays mapped
 *
 *   arena --> chunk (dma 0xfee0_0000) --> chunk (dma 0xfec0_0000) --> ...
 *             |....####..##......|          |########........|          free pages, and others
 *
 * Devices with wide masks are served from high addresses, so that low ones are left for those that need
 * them. Who holds a page stands in the page map. Chunks start small and double with use, so that a
 * small program pins little and a large one makes few system calls; where a large one can't be had,
 * smaller ones are tried down to what was asked.
 *
 * Here is who gets what, and what is given up for it. chunk.c adds and removes chunks, free_runs.c knows
 * which pages are free, run.c whose the others are. What is free is counted for each device's mask:
 * reserve.c.
 *
 * Two locks: `growing` serialises those who add and remove chunks and is held across system calls; a thread
 * that holds it inherits the priority of those who wait;
 * `lock` guards what is free and is held for some loads and stores only, a number that has a bound
 * (docs/design/memory.md), so that GFP_ATOMIC waits neither for the kernel nor for others' work.
 */
#include "memory/arena_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/fork.h"
#include "base/log.h"
#include "base/mutex.h"

int arena_create(struct domain *domain, struct arena **result)
{
	struct arena *arena = calloc(1, sizeof(*arena));
	int err;

	if (!arena)
		return error_set(ENOMEM, "no memory for an arena");
	arena->domain = domain;
	arena->tree.renew = chunk_joined;
	arena->shrinkers_end = &arena->shrinkers;
	arena->last = DMA_MAPPING_ERROR - 1;
	err = pagemap_open(&arena->pagemap, domain->window, domain->window_size);
	if (err) {
		free(arena);
		return err;
	}
	err = mutex_init_inherit(&arena->growing);
	if (err)
		goto close_pagemap;
	err = rt_lock_init(&arena->lock);
	if (err)
		goto destroy_growing;
	*result = arena;
	return 0;

destroy_growing:
	pthread_mutex_destroy(&arena->growing);
close_pagemap:
	err = error_set(err, "cannot make a lock for an arena: %s", strerror(err));
	pagemap_close(&arena->pagemap);
	free(arena);
	return err;
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
	rt_lock_take(&arena->lock);
	idle.kept += arena->free_pages * ARENA_PAGE;
	rt_lock_release(&arena->lock);
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
	arena_trim_locked(arena, keep, UINT64_MAX);
	mutex_unlock(&arena->growing);
	log_release();
}

void arena_keep_idle(struct arena *arena, struct dma_limits *limits)
{
	mutex_lock(&arena->growing); /* under which shrinkers look */
	limits->keeps_idle = true;
	mutex_unlock(&arena->growing);
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
	while ((chunk = arena->chunks)) { /* the domain did not take it back */
		arena->chunks = chunk->next;
		free(chunk);
	}
	while (arena->reserves)
		arena_forget(arena, arena->reserves->limits);
	rt_lock_destroy(&arena->lock);
	pthread_mutex_destroy(&arena->growing);
	pagemap_close(&arena->pagemap);
	free(arena);
}

/* ---- what the floors above call ---- */

/* Masks above the last dma address of the domain are no wider. */
static void last_renew(struct arena *arena)
{
	struct domain *domain = arena->domain;
	uint64_t last = DMA_MAPPING_ERROR - 1;

	mutex_lock(&domain->lock);
	if (domain->usable_count && domain->usable[domain->usable_count - 1].last < last)
		last = domain->usable[domain->usable_count - 1].last;
	mutex_unlock(&domain->lock);
	rt_lock_take(&arena->lock);
	arena->last = last;
	rt_lock_release(&arena->lock);
}

/* There is a reserve for these limits, if memory is to be had. `growing` is held. */
static void reserve_begin(struct arena *arena, const struct dma_limits *limits)
{
	struct arena_reserve *reserve;

	if (reserve_find(arena->reserves, limits))
		return;
	reserve = calloc(1, sizeof(*reserve));
	if (!reserve)
		return;
	reserve->limits = limits;
	reserve->mask = limits->coherent_mask;
	last_renew(arena);
	rt_lock_take(&arena->lock);
	reserve_link(&arena->reserves, reserve);
	rt_lock_release(&arena->lock);
}

/* Grow until all reserves are there, or can't be had. `growing` is held. */
static void reserves_fill(struct arena *arena)
{
	struct error_state before;

	error_keep(&before);
	for (const struct arena_reserve *r = arena->reserves; r; r = r->next)
		while (reserve_is_short(arena, r) &&
		       !arena_grow_least(arena, zone_begin(arena, r->mask), reserve_mask(arena, r)))
			;
	error_put_back(&before);
}

void arena_refill(struct arena *arena)
{
	fork_hold();
	mutex_lock(&arena->growing);
	__atomic_store_n(&arena->refill_due, false, __ATOMIC_SEQ_CST);
	reserves_fill(arena);
	mutex_unlock(&arena->growing);
	fork_release();
}

/*
 * The arena has grown by as much: where reserves are short, they are no shorter than before. Or it can't grow
 * for this tenant: pages under narrower masks, or the tenant's own reserve. `growing` is held.
 */
static struct page *find_grown(struct arena *arena, struct arena_tenant *tenant, size_t n,
			       size_t align, bool grown)
{
	struct page *first;

	first = arena_find(arena, tenant, n, align, grown ? LEAVE_NARROWER : LEAVE_ALL);
	return first ? first
		     : arena_find(arena, tenant, n, align, grown ? LEAVE_NOTHING : LEAVE_NARROWER);
}

/* Grow, then take the run; from lower addresses or the reserve when growing fails. */
static int arena_take_growing(struct arena *arena, struct arena_tenant *tenant, size_t n,
			      size_t align, gfp_t gfp, struct page **first)
{
	size_t size = n * ARENA_PAGE;
	struct error_state before;
	uint64_t lowest, mask;
	int err = 0;

	error_keep(&before);

	fork_hold(); /* opening a device does so too, and takes the same locks after it */
	mutex_lock(&arena->growing);
	reserve_begin(arena, tenant->limits);
	mask = tenant->limits->coherent_mask; /* does not change meanwhile: arena_set_mask() */
	lowest = zone_begin(arena, mask);
	*first = arena_find(arena, tenant, n, align, LEAVE_LOW);
	while (!*first) {
		err = arena_grow(arena, size, align, lowest, mask);
		*first = arena_find(arena, tenant, n, align, LEAVE_LOW);
		if (!*first && gfp & __GFP_NORETRY) {
			err = error_set(ENOMEM, "nothing is left but what others need");
			break;
		}
		if (!*first)
			*first = find_grown(arena, tenant, n, align, !err);
		if (*first || !err)
			continue;
		/* What others hold idle may do; or its chunks make room for one that does. */
		shrink_all(arena);
		*first = arena_find(arena, tenant, n, align, LEAVE_NARROWER);
		if (*first)
			break;
		arena_trim_locked(arena, ARENA_RESERVE_PAGES, lowest);
		err = arena_grow(arena, size, align, 0, mask);
		*first = find_grown(arena, tenant, n, align, !err);
		if (!*first && !err) /* GFP_ATOMIC has taken what was mapped for this */
			err = error_set(ENOMEM, "nothing is left but what others need");
		if (!*first)
			explain_locked(arena);
		break;
	}
	mutex_unlock(&arena->growing);
	fork_release();
	if (!*first)
		return err;
	error_put_back(&before);
	return 0;
}

/* After the pages were taken: who clears it looks at what is free only then. */
void arena_refill_later(struct arena *arena)
{
	__atomic_store_n(&arena->refill_due, true, __ATOMIC_RELEASE);
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

static int arena_take_atomic(struct arena *arena, struct arena_tenant *tenant, size_t n,
			     size_t align, struct page **first)
{
	if (!rt_lock_try(&arena->lock))
		return error_set(ENOMEM, "another thread holds the arena, and GFP_ATOMIC does not "
					 "wait for it: try again, or allocate with GFP_KERNEL");
	*first = arena_find_locked(arena, tenant, n, align, LEAVE_NARROWER);
	arena_refill_later(arena);
	if (*first)
		return 0;
	return error_set(ENOMEM,
			 "no %zu KiB are mapped and free, and GFP_ATOMIC does not map more: "
			 "allocate ahead with GFP_KERNEL, or let it enter the kernel: "
			 "options.atomic_may_grow, or DMALAND_ATOMIC_MAY_GROW=1",
			 n * ARENA_PAGE >> 10);
}

int arena_take(struct arena *arena, struct arena_tenant *tenant, size_t size, size_t align,
	       gfp_t gfp, struct page **first)
{
	size_t n = (size + ARENA_PAGE - 1) >> ARENA_PAGE_SHIFT;

	if (arena->disowned)
		return error_forked("the memory of a device");
	if (n > UINT32_MAX || size > arena->domain->window_size)
		return window_is_small(arena->domain, size);
	if (!(gfp & __GFP_RECLAIM))
		return arena_take_atomic(arena, tenant, n, align, first);
	if (arena_refill_due(arena))
		arena_refill(arena);
	*first = arena_find(arena, tenant, n, align, LEAVE_LOW);
	return *first ? 0 : arena_take_growing(arena, tenant, n, align, gfp, first);
}

void arena_add_shrinker(struct arena *arena, struct arena_shrinker *shrinker)
{
	mutex_lock(&arena->growing);
	shrinker->next = NULL;
	shrinker->link = arena->shrinkers_end;
	*arena->shrinkers_end = shrinker;
	arena->shrinkers_end = &shrinker->next;
	mutex_unlock(&arena->growing);
}

void arena_remove_shrinker(struct arena *arena, struct arena_shrinker *shrinker)
{
	mutex_lock(&arena->growing);
	*shrinker->link = shrinker->next;
	if (shrinker->next)
		shrinker->next->link = shrinker->link;
	else
		arena->shrinkers_end = shrinker->link;
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
	first = arena_find(arena, tenant, 1, ARENA_PAGE, LEAVE_NARROWER);
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
	rt_lock_take(&arena->lock);
	reserve = reserve_find(arena->reserves, limits);
	if (reserve)
		reserve_unlink(&arena->reserves, reserve);
	rt_lock_release(&arena->lock);
	mutex_unlock(&arena->growing);
	free(reserve);
}

/*
 * Some pages of a chunk are looked at under the lock, under which they are given back: so long the tenant
 * is there.
 */
static bool page_is_of(const struct page *page, const struct dma_limits *limits)
{
	const struct arena_tenant *tenant = __atomic_load_n(&page->tenant, __ATOMIC_ACQUIRE);

	return tenant && tenant->limits == limits;
}

/* The end of the device's highest run in pages `from` up to `end` of a chunk, or 0. */
static dma_addr_t end_in_use(struct arena *arena, const struct arena_chunk *chunk, size_t from,
			     size_t end, const struct dma_limits *limits)
{
	dma_addr_t dma = 0;

	rt_lock_take(&arena->lock);
	while (!dma && end-- > from)
		if (page_is_of(&chunk->entries[end], limits)) {
			size_t first = end - chunk->entries[end].run_offset;

			/* Of a run that is just being taken the first page tells. */
			dma = chunk->memory.dma - 1 +
			      (first + chunk->entries[first].run_pages) * ARENA_PAGE;
		}
	rt_lock_release(&arena->lock);
	return dma;
}

/* The highest dma address above a mask that a device has in use; 0: none. `growing` is held. */
static dma_addr_t highest_in_use(struct arena *arena, const struct dma_limits *limits,
				 uint64_t mask)
{
	for (const struct arena_chunk *chunk = arena->chunks; chunk && chunk_last(chunk) > mask;
	     chunk = chunk->next)
		for (size_t end = chunk->pages, from; end; end = from) {
			dma_addr_t dma;

			from = end > ARENA_PAGES_AT_ONCE ? end - ARENA_PAGES_AT_ONCE : 0;
			dma = end_in_use(arena, chunk, from, end, limits);
			if (dma > mask)
				return dma;
		}
	return 0;
}

static void mask_put(struct arena *arena, struct dma_limits *limits, uint64_t mask)
{
	struct arena_reserve *reserve;

	rt_lock_take(&arena->lock);
	limits->coherent_mask = mask;
	reserve = reserve_find(arena->reserves, limits);
	if (reserve) {
		reserve_unlink(&arena->reserves, reserve);
		reserve->mask = mask;
		reserve_link(&arena->reserves, reserve);
	}
	rt_lock_release(&arena->lock);
}

/*
 * Set the mask if nothing of the device lies above; `growing` is held. What lies highest there, or 0. It is
 * looked twice: before, since a mask that is refused would hinder others; and once it is set, for what was
 * taken above it meanwhile.
 */
static dma_addr_t mask_try(struct arena *arena, struct dma_limits *limits, uint64_t mask)
{
	uint64_t before = limits->coherent_mask;
	dma_addr_t highest = highest_in_use(arena, limits, mask);

	if (highest)
		return highest;
	mask_put(arena, limits, mask);
	highest = highest_in_use(arena, limits, mask);
	if (highest) {
		mask_put(arena, limits, before);
		return highest;
	}
	last_renew(arena);
	return 0;
}

int arena_set_mask(struct arena *arena, struct dma_limits *limits, uint64_t mask, const char *name)
{
	dma_addr_t highest;
	int err = 0;

	log_hold(); /* what shrinks may report */
	fork_hold();
	mutex_lock(&arena->growing);
	highest = mask_try(arena, limits, mask);
	if (highest) {
		shrink_all(arena);
		highest = mask_try(arena, limits, mask);
	}
	if (highest) {
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
