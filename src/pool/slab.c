/* SPDX-License-Identifier: MIT */
/*
 * slab.c - slabs: from the arena, and the pool's stack of idle ones
 *
 *   arena --> a run of pages --> slab, or several in a page --> a thread's cache --> stack --> a cache ...
 *
 * A cache's first slabs are small, each twice as large as the one before, so that a thread with few blocks holds few pages.
 * What the arena has no aligned place for is taken wherever there is one: such a slab is found by its run, and not by
 * slab_entry(), so its blocks come back by the slow ways.
 *
 * The stack is Treiber's (IBM RJ 5118, 1986): one word has the first slab's link, and a count of changes, so that a slab which
 * was taken and came back meanwhile is not taken for the same. A slab knows how many lie below it.
 */
#include "pool/pool_internal.h"

#include "base/error.h"
#include "pool/debug.h"

enum { LINK_BITS = 27 };

#define LINK_MASK ((UINT64_C(1) << LINK_BITS) - 1)

_Static_assert(PAGEMAP_PAGES_MAX * 4 + 1 < UINT64_C(1) << LINK_BITS, "a page has up to four slabs");

/* ---- from an address ---- */

uint64_t slab_missing_of_part(const struct dma_pool *pool, const struct page *slab)
{
	size_t blocks = ((size_t)slab->run_pages << ARENA_PAGE_SHIFT) / pool->stride;

	return pool->full & ~((UINT64_C(1) << blocks) - 1);
}

size_t slab_blocks(const struct dma_pool *pool, const struct page *slab)
{
	return pool->blocks - (size_t)__builtin_popcountll(slab_missing(pool, slab));
}

struct page *slab_find(struct dma_pool *pool, struct cache *cache, const void *vaddr,
		       uint32_t *number)
{
	struct page *page = pagemap_find(&pool->place.arena->pagemap, vaddr), *slab;
	uint32_t run_offset;
	uint64_t n;

	if (!page || page_tenant(page) != &pool->tenant)
		return NULL;
	run_offset = racy_load(&page->run_offset);
	slab = pool->slabs_a_page > 1 ? slab_entry(pool, vaddr) : page - run_offset;
	cache_set_at(cache, slab);
	if (slab_owner(slab) == SLAB_NONE || page_tenant(page) != &pool->tenant ||
	    racy_load(&page->run_offset) != run_offset) /* in this order: trim.c */
		return NULL;
	n = block_number_at(pool, (uintptr_t)vaddr - (uintptr_t)slab_base(pool, slab));
	if (n >= pool->blocks || slab_missing(pool, slab) >> n & 1)
		return NULL;
	*number = (uint32_t)n;
	return slab;
}

/* ---- the blocks that others gave back ---- */

void slab_collect_remote(struct dma_pool *pool, struct page *slab)
{
	uint64_t back = __atomic_exchange_n(&slab->remote, 0, __ATOMIC_ACQ_REL);
	uint64_t twice = back & slab->free;

	if (unlikely(twice)) { /* two frees of a block that raced, and were both counted */
		__atomic_fetch_add(&pool->freed_twice_count, (size_t)__builtin_popcountll(twice),
				   __ATOMIC_RELAXED);
		racy_store(&pool->freed_twice,
			   slab_base(pool, slab) + (size_t)__builtin_ctzll(twice) * pool->stride);
	}
	slab_set_free(slab, slab->free | back);
}

void slab_catch_up(struct dma_pool *pool, struct cache *cache, struct page *slab)
{
	uintptr_t remote = (uintptr_t)cache | SLAB_REMOTE;

	if (unlikely(slab_owner(slab) == remote))
		__atomic_compare_exchange_n(&slab->owner, &remote, (uintptr_t)cache, false,
					    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	slab_collect(pool, slab);
}

/*
 * Its blocks may come back while this looks, and it may become another's, and nobody's again. So it looks once more
 * when it has it, and once more when it has let go of it.
 */
void slab_settle(struct dma_pool *pool, struct page *slab)
{
	uintptr_t nobodys = SLAB_NOBODYS;

	while (slab_is_complete(pool, slab) &&
	       __atomic_compare_exchange_n(&slab->owner, &nobodys, SLAB_IDLE, false,
					   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
		if (slab_is_complete(pool, slab)) {
			__atomic_fetch_add(&pool->returned, slab_blocks(pool, slab),
					   __ATOMIC_RELAXED);
			slab_collect(pool, slab);
			idle_stack_push(pool, slab, slab);
			return;
		}
		__atomic_store_n(&slab->owner, SLAB_NOBODYS, __ATOMIC_SEQ_CST);
	}
}

/* ---- the stack ---- */

static uint32_t stack_link(uint64_t head)
{
	return (uint32_t)(head & LINK_MASK);
}

static size_t depth_at(const struct dma_pool *pool, uint32_t link)
{
	return link ? racy_load(&slab_at(pool, link)->prev) : 0;
}

static uint64_t stack_next(uint64_t head, uint32_t link)
{
	return ((head >> LINK_BITS) + 1) << LINK_BITS | link;
}

size_t idle_stack_depth(const struct dma_pool *pool)
{
	return depth_at(pool, stack_link(__atomic_load_n(&pool->stack, __ATOMIC_ACQUIRE)));
}

/* Written from the last to the first, each with how many lie below it and itself. */
static void chain_count(struct dma_pool *pool, struct page *first, const struct page *last,
			size_t depth)
{
	size_t n = 1;

	for (struct page *slab = first; slab != last; slab = slab_at(pool, slab->next))
		n++;
	for (struct page *slab = first;; slab = slab_at(pool, slab->next)) {
		racy_store(&slab->prev, (uint32_t)(depth + n--));
		if (slab == last)
			return;
	}
}

void idle_stack_push(struct dma_pool *pool, struct page *first, struct page *last)
{
	uint64_t head = __atomic_load_n(&pool->stack, __ATOMIC_ACQUIRE);

	do {
		racy_store(&last->next, stack_link(head));
		chain_count(pool, first, last, depth_at(pool, stack_link(head)));
	} while (!__atomic_compare_exchange_n(&pool->stack, &head,
					      stack_next(head, slab_link(pool, first)), true,
					      __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
}

/* What is read of slabs that others take meanwhile is not used: the stack has changed then. */
struct page *idle_stack_pop(struct dma_pool *pool, size_t max, size_t *n)
{
	uint64_t head = __atomic_load_n(&pool->stack, __ATOMIC_ACQUIRE);
	uint32_t link;

	do {
		link = stack_link(head);
		for (*n = 0; *n < max && link; ++*n)
			link = racy_load(&slab_at(pool, link)->next);
		if (!*n)
			return NULL;
	} while (!__atomic_compare_exchange_n(&pool->stack, &head, stack_next(head, link), true,
					      __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
	return slab_at(pool, stack_link(head));
}

/* ---- from the arena, and back ---- */

/* Pages that hold a block. */
static size_t least_size(const struct dma_pool *pool)
{
	return align_up(pool->stride, ARENA_PAGE);
}

static size_t size_wanted(const struct dma_pool *pool, const struct cache *cache, gfp_t gfp)
{
	size_t most = align_up(pool->blocks * pool->stride, ARENA_PAGE);
	size_t size = least_size(pool);

	if (gfp & __GFP_RECLAIM)
		for (uint32_t i = 0; i < racy_load(&cache->grows) && size < most; i++)
			size *= 2;
	return size < most ? size : most;
}

static int take(struct dma_pool *pool, size_t size, size_t align, gfp_t gfp, struct page **run)
{
	if (align < ARENA_PAGE)
		align = ARENA_PAGE;
	return arena_take(pool->place.arena, &pool->tenant, size, align, gfp, run);
}

/* Where the arena has no aligned place, a smaller one will do. 0 or -ENOMEM in words. */
static int run_take(struct dma_pool *pool, size_t size, gfp_t gfp, struct page **run)
{
	gfp_t cautious = gfp & __GFP_RECLAIM ? gfp | __GFP_NORETRY : gfp;
	size_t least = least_size(pool);
	struct error_state before;
	int err;

	error_keep(&before);
	err = take(pool, size, pool->slab_size, cautious, run);
	for (size /= 2; err && size > least; size = (size / 2) & ~(size_t)(ARENA_PAGE - 1))
		err = take(pool, size, power_of_two_covering(size), cautious, run);
	if (err)
		err = take(pool, least, power_of_two_covering(least), gfp, run);
	if (!err)
		error_put_back(&before);
	return err;
}

static void slab_begin(struct dma_pool *pool, struct page *slab)
{
	racy_store(&slab->remote, 0);
	slab_set_free(slab, pool->full);
	if (unlikely(pool->debug))
		debug_slab_begin(pool, slab);
	slab_set_owner(slab, SLAB_IDLE);
}

/* A page of several slabs: their entries lie beside the page map. The first one is the caller's; the second comes next. */
static struct page *page_split(struct dma_pool *pool, const struct page *run)
{
	char *base = pagemap_address(&pool->place.arena->pagemap, run);
	struct page *first = slab_entry(pool, base);

	for (uint32_t i = pool->slabs_a_page; i-- > 0;) {
		first[i].dma_offset = run->dma_offset;
		page_set_tenant(&first[i], &pool->tenant);
		slab_begin(pool, &first[i]);
		if (i)
			idle_stack_push(pool, &first[i], &first[i]);
	}
	return first;
}

static void pool_count(struct dma_pool *pool, size_t blocks, size_t pages)
{
	size_t total = __atomic_add_fetch(&pool->total, blocks, __ATOMIC_RELAXED);
	size_t high = racy_load(&pool->high_water);

	__atomic_fetch_add(&pool->pages, pages, __ATOMIC_RELAXED);
	__atomic_fetch_add(&pool->grows, 1, __ATOMIC_RELAXED);
	while (total > high && !__atomic_compare_exchange_n(&pool->high_water, &high, total, true,
							    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/* Who keeps something of its own for the pool's memory. */
static int memory_begin(struct dma_pool *pool, struct page *run)
{
	const struct pool_memory_ops *memory = pool->place.memory;
	char *cpu = pagemap_address(&pool->place.arena->pagemap, run);

	return memory ? memory->begin(pool->place.context, pool->size, cpu,
				      (uintptr_t)cpu + run->dma_offset,
				      (size_t)run->run_pages << ARENA_PAGE_SHIFT)
		      : 0;
}

void slab_memory_end(struct dma_pool *pool, struct page *run)
{
	const struct pool_memory_ops *memory = pool->place.memory;
	char *cpu = pagemap_address(&pool->place.arena->pagemap, run);

	if (memory)
		memory->end(pool->place.context, pool->size, (uintptr_t)cpu + run->dma_offset,
			    (size_t)run->run_pages << ARENA_PAGE_SHIFT);
}

struct page *slab_make(struct dma_pool *pool, struct cache *cache, gfp_t gfp)
{
	struct page *run;

	if (run_take(pool, size_wanted(pool, cache, gfp), gfp, &run))
		return NULL;
	if (memory_begin(pool, run)) {
		arena_give(pool->place.arena, run);
		return NULL;
	}
	if (pool->slabs_a_page > 1) {
		pool_count(pool, pool->blocks * pool->slabs_a_page, 1);
		return page_split(pool, run);
	}
	pool_count(pool, slab_blocks(pool, run), run->run_pages);
	slab_begin(pool, run);
	return run;
}

void slab_give(struct dma_pool *pool, struct page *first)
{
	struct page *run = pagemap_find(&pool->place.arena->pagemap, slab_base(pool, first));
	size_t blocks = slab_blocks(pool, first) * pool->slabs_a_page;

	for (uint32_t i = 0; unlikely(pool->debug) && i < pool->slabs_a_page; i++)
		debug_slab_end(pool, &first[i]);
	slab_memory_end(pool, run);
	__atomic_fetch_sub(&pool->total, blocks, __ATOMIC_RELAXED);
	__atomic_fetch_sub(&pool->pages, run->run_pages, __ATOMIC_RELAXED);
	arena_give(pool->place.arena, run);
}
