/* SPDX-License-Identifier: MIT */
/*
 * run.c - runs of pages: whose they are
 *
 *   page map   | A, 3 | A, +1 | A, +2 |     a run of three: its first page says how long it is, each whose
 *                                           it is, and how far from the first
 *
 * The first page becomes somebody's under `lock`, with the step that takes the run from those that are
 * free: who finds it there knows the whole run. So do all pages of a run of up to
 * ARENA_PAGES_AT_ONCE; those of a longer one are written before it is free, or once it is not.
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

static struct arena_tenant *taker_of(struct arena_tenant *tenant)
{
	return tenant->taker ? tenant->taker : tenant;
}

/* The run, whose first page this is, becomes the tenant's. */
static void run_link(const struct arena *arena, struct page *first, struct arena_tenant *tenant)
{
	struct arena_tenant *taker = taker_of(tenant);
	uint32_t run = page_number(arena, first);

	*links_of(arena, run) = (struct run_links){.next = taker->runs};
	if (taker->runs)
		links_of(arena, taker->runs)->prev = run;
	taker->runs = run;
	page_set_tenant(first, tenant);
}

/* Out of the list; those whose next run it would be go on to the one behind it. */
static void run_unlink(const struct arena *arena, struct page *first)
{
	struct arena_tenant *taker = taker_of(page_tenant(first));
	uint32_t run = page_number(arena, first);
	struct run_links links = *links_of(arena, run);

	if (links.prev)
		links_of(arena, links.prev)->next = links.next;
	else
		taker->runs = links.next;
	if (links.next)
		links_of(arena, links.next)->prev = links.prev;
	for (struct arena_visit *visit = taker->visits; visit; visit = visit->next)
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

/* How n pages are taken: as one run, or each a run of its own. */
enum take { TAKE_RUN, TAKE_PAGES };

void arena_count(struct arena *arena, const struct arena_chunk *chunk, size_t pages, int sign)
{
	arena->free_pages += sign > 0 ? pages : -pages;
	reserves_count(arena->reserves, chunk_last(chunk), pages, sign);
	if (arena->counting && chunk->memory.dma >= arena->counted_from)
		reserves_count(arena->counting, chunk_last(chunk), pages, sign);
}

/* Pages `from` up to n of what begins here are the tenant's; not the first, which says how many. */
static void pages_own(struct page *first, size_t from, size_t n, struct arena_tenant *tenant,
		      enum take take)
{
	for (size_t i = from; i < n; i++) {
		first[i].run_offset = take == TAKE_RUN ? (uint32_t)i : 0;
		first[i].run_pages = take == TAKE_RUN ? 0 : 1;
		page_set_tenant(&first[i], tenant);
	}
}

static void pages_disown(struct page *first, size_t from, size_t n)
{
	for (size_t i = from; i < n; i++)
		page_set_tenant(&first[i], NULL);
}

/* How many of a run's pages are written under the lock. */
static size_t at_once(size_t n)
{
	return n <= ARENA_PAGES_AT_ONCE ? n : 1;
}

/* Where n pages may be taken: what the tenant can send, less what it leaves to others. The lock is held. */
static bool request_limit(const struct arena *arena, const struct arena_tenant *tenant,
			  enum reserve_leave leave, struct fit_request *request)
{
	uint64_t mask = tenant->limits->coherent_mask;

	request->mask = mask < arena->last ? mask : arena->last;
	request->lowest = reserves_lowest(arena->reserves, request->mask, request->n, leave);
	return request->lowest <= request->mask;
}

/* The lock is held. */
static struct page *pages_take(struct arena *arena, struct arena_tenant *tenant, size_t n,
			       size_t align, enum reserve_leave leave, enum take take)
{
	struct fit_request request = {.n = n, .order = 0};
	bool low = leave == LEAVE_LOW && arena->low_pages >= n;
	struct fit_place place;
	struct page *first;

	if (align > ARENA_PAGE)
		request.order = (unsigned int)__builtin_ctzll(align) - ARENA_PAGE_SHIFT;
	if (!request_limit(arena, tenant, low ? LEAVE_ALL : leave, &request))
		return NULL;
	place = free_runs_find(arena, &request);
	if (!place.chunk)
		return NULL;
	free_runs_take(&place, n);
	arena_count(arena, place.chunk, n, -1);
	if (low)
		arena->low_pages -= n;
	first = &place.chunk->entries[place.at];
	first->run_offset = 0;
	first->run_pages = take == TAKE_RUN ? (uint32_t)n : 1;
	run_link(arena, first, tenant);
	pages_own(first, 1, at_once(n), tenant, take);
	for (size_t i = 1; i < n && take == TAKE_PAGES; i++)
		run_link(arena, &first[i], tenant);
	return first;
}

struct page *arena_find(struct arena *arena, struct arena_tenant *tenant, size_t n, size_t align,
			enum reserve_leave leave)
{
	struct page *first;

	rt_lock_take(&arena->lock);
	first = pages_take(arena, tenant, n, align, leave, TAKE_RUN);
	rt_lock_release(&arena->lock);
	if (first)
		pages_own(first, at_once(n), n, tenant, TAKE_RUN);
	return first;
}

bool arena_find_atomic(struct arena *arena, struct arena_tenant *tenant, size_t n, size_t align,
		       struct page **first)
{
	if (!rt_lock_try(&arena->lock))
		return false;
	*first = pages_take(arena, tenant, n, align, LEAVE_NARROWER, TAKE_RUN);
	rt_lock_release(&arena->lock);
	if (*first)
		pages_own(*first, at_once(n), n, tenant, TAKE_RUN);
	return true;
}

/* What is not there in one run is known at the root of the tree, so that halving costs nothing. */
size_t arena_take_pages(struct arena *arena, struct arena_tenant *tenant, size_t n, gfp_t gfp,
			struct page **first)
{
	enum reserve_leave leave = gfp & __GFP_RECLAIM ? LEAVE_LOW : LEAVE_NARROWER;

	if (n > ARENA_PAGES_AT_ONCE)
		n = ARENA_PAGES_AT_ONCE;
	if (gfp & __GFP_RECLAIM)
		rt_lock_take(&arena->lock);
	else if (!rt_lock_try(&arena->lock))
		return 0;
	for (; n; n /= 2) {
		*first = pages_take(arena, tenant, n, ARENA_PAGE, leave, TAKE_PAGES);
		if (*first)
			break;
	}
	rt_lock_release(&arena->lock);
	return n;
}

/* A run is free; the lock is held. Its pages behind those written at once are nobody's already. */
static void run_release(struct arena *arena, struct page *first)
{
	struct arena_chunk *chunk = first->chunk;
	size_t n = first->run_pages;

	if (page_tenant(first)) /* else it was unlinked already */
		run_unlink(arena, first);
	pages_disown(first, 0, at_once(n));
	free_runs_give(chunk, (size_t)(first - chunk->entries), n);
	arena_count(arena, chunk, n, 1);
}

void arena_give(struct arena *arena, struct page *first)
{
	pages_disown(first, at_once(first->run_pages), first->run_pages);
	rt_lock_try_or_take(&arena->lock);
	run_release(arena, first);
	rt_lock_release(&arena->lock);
}

void arena_hand_over(struct arena *arena, struct page *first, struct arena_tenant *tenant)
{
	size_t n = first->run_pages;

	for (size_t from = 0; from < n; from += ARENA_PAGES_AT_ONCE) {
		rt_lock_take(&arena->lock);
		if (!from) {
			run_unlink(arena, first);
			run_link(arena, first, tenant);
		}
		for (size_t i = from; i < n && i < from + ARENA_PAGES_AT_ONCE; i++)
			page_set_tenant(&first[i], tenant);
		rt_lock_release(&arena->lock);
	}
}

bool arena_give_if(struct arena *arena, struct arena_tenant *tenant, const void *address,
		   bool (*accept)(struct page *first, void *context), void *context)
{
	struct page *page = pagemap_find(&arena->pagemap, address);
	bool accepted, released = false;

	if (!page || ((uintptr_t)address & (ARENA_PAGE - 1)))
		return false;
	rt_lock_try_or_take(&arena->lock);
	accepted = __atomic_load_n(&page->tenant, __ATOMIC_ACQUIRE) == tenant && page->chunk &&
		   page->run_offset == 0 && accept(page, context);
	if (accepted && page->run_pages <= ARENA_PAGES_AT_ONCE) {
		run_release(arena, page);
		released = true;
	} else if (accepted) {
		run_unlink(arena, page); /* nobody else gives it back */
		page_set_tenant(page, NULL);
	}
	rt_lock_release(&arena->lock);
	if (accepted && !released)
		arena_give(arena, page);
	return accepted;
}
