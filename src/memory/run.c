/* SPDX-License-Identifier: MIT */
/*
 * run.c - runs of pages: whose they are
 *
 *   page map   | A, 3 | A, +1 | A, +2 |     a run of three: its first page says how long it is, each whose
 *                                           it is, and how far from the first
 *
 * The first page becomes somebody's under `lock`, with the step that takes the run from those that are
 * free: who finds it there knows the whole run. The others are written without the lock, once the run is
 * taken, and before it is free or another's. Who looks into a page's tenant has the lock, and what a tenant
 * is in goes only after a step of the tenant's under it. Without the lock a tenant is compared, and no more.
 *
 * The runs of a tenant are a list, by the numbers of their first pages in the page map: so going through them
 * costs what the tenant has. It changes in the step in which the run does.
 */
#include "memory/arena_internal.h"

#include "base/bits.h"

/* ---- the runs of a tenant; the lock is held ---- */

/* Somebody who goes through a tenant's runs: on his stack. */
struct arena_visit {
	struct arena_visit *next;
	uint32_t run; /* whose turn is next; 0: none */
};

static uint32_t page_number(const struct arena *arena, const struct page *page)
{
	return (uint32_t)(page - arena->pagemap.pages) + 1;
}

static struct page *page_of(const struct arena *arena, uint32_t number)
{
	return &arena->pagemap.pages[number - 1];
}

static struct run_links *links_of(const struct arena *arena, uint32_t run)
{
	const struct page *first = page_of(arena, run);

	return &first->chunk->links[first - first->chunk->entries];
}

/* The run, whose first page this is, becomes the tenant's. */
static void run_link(const struct arena *arena, struct page *first, struct arena_tenant *tenant)
{
	uint32_t run = page_number(arena, first);

	*links_of(arena, run) = (struct run_links){.next = tenant->runs};
	if (tenant->runs)
		links_of(arena, tenant->runs)->prev = run;
	tenant->runs = run;
	page_set_tenant(first, tenant);
}

/* Out of the list; those whose next run it would be go on to the one behind it. */
static void run_unlink(const struct arena *arena, struct page *first)
{
	struct arena_tenant *tenant = page_tenant(first);
	uint32_t run = page_number(arena, first);
	struct run_links links = *links_of(arena, run);

	if (links.prev)
		links_of(arena, links.prev)->next = links.next;
	else
		tenant->runs = links.next;
	if (links.next)
		links_of(arena, links.next)->prev = links.prev;
	for (struct arena_visit *visit = tenant->visits; visit; visit = visit->next)
		if (visit->run == run)
			visit->run = links.next;
}

void arena_for_each_run_of(struct arena *arena, struct arena_tenant *tenant,
			   void (*visit)(struct arena *arena, struct page *first, void *context),
			   void *context)
{
	struct arena_visit self, **link = &tenant->visits;

	rt_lock_take(&arena->lock);
	self = (struct arena_visit){.next = tenant->visits, .run = tenant->runs};
	tenant->visits = &self;
	while (self.run) {
		struct page *first = page_of(arena, self.run);

		self.run = links_of(arena, self.run)->next;
		rt_lock_release(&arena->lock);
		visit(arena, first, context);
		rt_lock_take(&arena->lock);
	}
	while (*link != &self)
		link = &(*link)->next;
	*link = self.next;
	rt_lock_release(&arena->lock);
}

/* So many pages are taken from narrower devices' addresses until growing is tried again. */
#define LOW_PAGES 64

/* The lock is held. */
static struct page *run_take(struct arena *arena, struct arena_tenant *tenant, size_t n,
			     size_t align, enum reserve_leave leave)
{
	uint64_t mask = tenant->limits->coherent_mask;
	struct fit_request request = {.n = n, .mask = mask < arena->last ? mask : arena->last};
	bool low = leave == LEAVE_LOW && arena->low_pages >= n;
	struct fit_place place;
	struct page *first;

	if (align > ARENA_PAGE)
		request.order = (unsigned int)__builtin_ctzll(align) - ARENA_PAGE_SHIFT;
	request.lowest = reserves_lowest(arena, request.mask, n, low ? LEAVE_ALL : leave);
	if (request.lowest > request.mask)
		return NULL;
	place = free_runs_find(arena, &request);
	if (!place.chunk)
		return NULL;
	free_runs_take(&place, n);
	arena->free_pages -= n;
	if (leave == LEAVE_ALL) /* growing failed */
		arena->low_pages = LOW_PAGES;
	else if (low)
		arena->low_pages -= n;
	first = &place.chunk->entries[place.at];
	first->run_offset = 0;
	first->run_pages = (uint32_t)n;
	run_link(arena, first, tenant);
	return first;
}

struct page *arena_find_locked(struct arena *arena, struct arena_tenant *tenant, size_t n,
			       size_t align, enum reserve_leave leave)
{
	struct page *first = run_take(arena, tenant, n, align, leave);

	rt_lock_release(&arena->lock);
	for (size_t i = 1; first && i < n; i++) {
		first[i].run_offset = (uint32_t)i;
		first[i].run_pages = 0;
		page_set_tenant(&first[i], tenant);
	}
	return first;
}

struct page *arena_find(struct arena *arena, struct arena_tenant *tenant, size_t n, size_t align,
			enum reserve_leave leave)
{
	rt_lock_take(&arena->lock);
	return arena_find_locked(arena, tenant, n, align, leave);
}

/* The pages of a run behind the first, which says how many they are. */
static void pages_set_tenant(struct page *first, struct arena_tenant *tenant)
{
	for (size_t i = 1; i < first->run_pages; i++)
		page_set_tenant(&first[i], tenant);
}

void arena_give(struct arena *arena, struct page *first)
{
	struct arena_chunk *chunk = first->chunk;
	size_t n = first->run_pages;

	pages_set_tenant(first, NULL);
	rt_lock_try_or_take(&arena->lock);
	if (page_tenant(first)) /* else it was unlinked already */
		run_unlink(arena, first);
	page_set_tenant(first, NULL);
	free_runs_give(chunk, (size_t)(first - chunk->entries), n);
	arena->free_pages += n;
	rt_lock_release(&arena->lock);
}

void arena_hand_over(struct arena *arena, struct page *first, struct arena_tenant *tenant)
{
	pages_set_tenant(first, tenant);
	rt_lock_take(&arena->lock);
	run_unlink(arena, first);
	run_link(arena, first, tenant);
	rt_lock_release(&arena->lock);
}

bool arena_give_if(struct arena *arena, struct arena_tenant *tenant, const void *address,
		   bool (*accept)(struct page *first, void *context), void *context)
{
	struct page *page = pagemap_find(&arena->pagemap, address);
	bool accepted;

	if (!page || ((uintptr_t)address & (ARENA_PAGE - 1)))
		return false;
	rt_lock_try_or_take(&arena->lock);
	accepted = __atomic_load_n(&page->tenant, __ATOMIC_ACQUIRE) == tenant && page->chunk &&
		   page->run_offset == 0 && accept(page, context);
	if (accepted) { /* nobody else gives it back */
		run_unlink(arena, page);
		page_set_tenant(page, NULL);
	}
	rt_lock_release(&arena->lock);
	if (accepted)
		arena_give(arena, page);
	return accepted;
}
