/* SPDX-License-Identifier: MIT */
#include "census.h"

#include <stddef.h>
#include <string.h>

#include "explore.h"

enum { SLABS = 512 };

static struct {
	struct dma_pool *pool;
	struct page *first; /* of the slabs that there may be */
	const char *place[SLABS];
	size_t held; /* blocks of slabs that are caches' or nobody's */
	size_t blocks, pages, out;
	bool twice;
	bool (*is_out)(const void *vaddr);
} all;

/* ---- lists ---- */

static struct page *see_link(uint32_t link, const char *place)
{
	struct page *slab = slab_at(all.pool, link);
	size_t i = (size_t)(slab - all.first);

	if (i >= SLABS) {
		explore_fail("%s leads to no slab", place);
		return NULL;
	}
	if (all.place[i]) {
		explore_fail("a slab is in %s and in %s", all.place[i], place);
		return NULL;
	}
	all.place[i] = place;
	return slab;
}

static void see_slab(const struct page *slab, uintptr_t owner, bool complete, const char *place)
{
	if ((owner < SLAB_OWNERS ? slab->owner : slab->owner & ~(uintptr_t)SLAB_REMOTE) != owner)
		explore_fail("a slab in %s is %zx's, not %zx's", place, slab->owner, owner);
	if (slab->remote & ~slab->free && slab->owner == owner && owner >= SLAB_OWNERS &&
	    !(owner & SLAB_RESERVED))
		explore_fail("frees of a slab in %s do not look at what others gave back", place);
	if (complete && !slab_is_complete(all.pool, slab))
		explore_fail("a slab in %s is not complete", place);
}

static size_t see_list(uint32_t link, uintptr_t owner, bool complete, const char *place)
{
	uint32_t before = 0;
	size_t n = 0;

	for (const struct page *slab; link && !explore_failed(); link = slab->next, n++) {
		slab = see_link(link, place);
		if (!slab)
			break;
		see_slab(slab, owner, complete, place);
		if (slab->prev != before)
			explore_fail("a list of %s is not linked back", place);
		before = link;
	}
	return n;
}

static size_t reserve_free(const struct cache *cache)
{
	size_t n = 0;

	for (uint32_t link = cache->reserve; link; link = slab_at(all.pool, link)->next)
		n += (size_t)__builtin_popcountll(slab_at(all.pool, link)->free &
						  ~slab_missing(all.pool, slab_at(all.pool, link)));
	return n;
}

static void see_cache(struct cache *cache)
{
	uintptr_t owner = (uintptr_t)cache;
	size_t idle;

	if (cache->current)
		see_slab(see_link(slab_link(all.pool, slab_current(all.pool, cache)), "current"),
			 owner, false, "current");
	see_list(cache->partial, owner, false, "partial");
	idle = see_list(cache->idle, owner, true, "idle");
	if (idle != cache->idle_count)
		explore_fail("%zu slabs are idle, and %u counted", idle, cache->idle_count);
	see_list(cache->reserve, owner | SLAB_RESERVED, false, "the reserve");
	if (explore_failed())
		return;
	if (reserve_free(cache) < cache->reserved)
		explore_fail("%zu blocks are in reserve, and %u counted", reserve_free(cache),
			     cache->reserved);
	if (cache->busy || cache->revoked)
		explore_fail("a cache is busy, or revoked");
}

static void see_stack(void)
{
	size_t depth = idle_stack_depth(all.pool);
	const struct page *slab;

	for (uint32_t link = (uint32_t)(all.pool->stack & ((1u << 27) - 1)); link;
	     link = slab->next) {
		slab = see_link(link, "the stack");
		if (!slab)
			return;
		see_slab(slab, SLAB_IDLE, true, "the stack");
		if (slab->prev != depth--)
			explore_fail("a slab of the stack counts %u", slab->prev);
	}
	if (depth)
		explore_fail("the stack is not as deep as it counts");
}

/* ---- slabs ---- */

static void see_block(const struct page *slab, uint32_t number)
{
	const char *vaddr = slab_base(all.pool, slab) + number * all.pool->stride;
	bool free = slab->free >> number & 1, remote = slab->remote >> number & 1;

	if (free && remote && !all.twice)
		explore_fail("a block is free twice");
	if ((free || remote) == all.is_out(vaddr))
		explore_fail(free || remote ? "a block is out, and free" : "a block is lost");
	all.out += !free && !remote;
}

static void see_bits(const struct page *slab)
{
	uint64_t missing = slab_missing(all.pool, slab);
	const char *place = all.place[slab - all.first];

	if (slab->free & ~all.pool->full || slab->remote & missing ||
	    (slab->free & missing) != missing)
		explore_fail("blocks that are not there are free");
	for (uint32_t i = 0; i < all.pool->blocks; i++)
		if (!(missing >> i & 1))
			see_block(slab, i);
	all.blocks += slab_blocks(all.pool, slab);
	if (!place && slab->owner != SLAB_NOBODYS)
		explore_fail("a slab is nowhere, and %zx's", slab->owner);
	if (!place && slab_is_complete(all.pool, slab))
		explore_fail("a complete slab is lost");
	if (!place || (slab->owner != SLAB_IDLE && slab->owner != SLAB_TRIMMED))
		all.held += slab_blocks(all.pool, slab);
}

/* Only one chunk of memory is there, which tests see to. */
static void see_pages(void)
{
	const struct arena_chunk *chunk = all.pool->place.arena->chunks;
	struct page *page = pagemap_find(&all.pool->place.arena->pagemap, chunk->memory.cpu);

	for (size_t i = 0; i < chunk->pages; i++) {
		if (page[i].tenant != &all.pool->tenant || page[i].run_offset)
			continue;
		all.pages += page[i].run_pages;
		for (size_t j = 0; j < all.pool->slabs_a_page; j++)
			see_bits(all.pool->slabs_a_page > 1
					 ? &all.first[i * all.pool->slabs_a_page + j]
					 : &page[i]);
	}
}

/* ---- counts ---- */

static void counts_add(size_t *counts, const struct cache *cache)
{
	counts[0] += cache->allocs - cache->frees;
	counts[1] += cache->held;
}

static void see_counts(void)
{
	struct dma_pool *pool = all.pool;
	size_t counts[2] = {0, -pool->returned};

	counts_add(counts, &pool->shared);
	for (uint32_t i = 1; i < thread_numbers(); i++)
		counts_add(counts, &pool->caches[i]);
	if (!all.twice && counts[0] != all.out)
		explore_fail("%zu blocks are out, and %zu counted", all.out, counts[0]);
	if (counts[1] != all.held)
		explore_fail("caches hold slabs of %zu blocks, and count %zd", all.held,
			     (ptrdiff_t)counts[1]);
	if (pool->total != all.blocks || pool->pages != all.pages)
		explore_fail("%zu blocks in %zu pages; counted: %zu, %zu", all.blocks, all.pages,
			     pool->total, pool->pages);
}

void census(struct dma_pool *pool, bool (*is_out)(const void *vaddr), bool twice)
{
	const struct pagemap *map = &pool->place.arena->pagemap;
	size_t page =
		(size_t)(pagemap_find(map, pool->place.arena->chunks->memory.cpu) - map->pages);

	if (explore_failed())
		return;
	memset(&all, 0, sizeof(all));
	all.pool = pool;
	all.first = pool->entries + page * pool->slabs_a_page;
	all.is_out = is_out;
	all.twice = twice;
	see_cache(&pool->shared);
	for (uint32_t i = 1; i < thread_numbers() && !explore_failed(); i++)
		see_cache(&pool->caches[i]);
	if (pool->caches[0].current || pool->caches[0].partial || pool->caches[0].idle)
		explore_fail("a thread without a number has slabs");
	see_stack();
	see_list(pool->waiting, SLAB_TRIMMED, true, "those that wait");
	if (!explore_failed())
		see_pages();
	if (!explore_failed())
		see_counts();
}
