/* SPDX-License-Identifier: MIT */
/*
 * prefill.c - blocks that GFP_ATOMIC is certain of
 *
 * A thread's reserve is a list of slabs that have as many free blocks as it asked for. They are free, as far as checks are
 * concerned, but GFP_ATOMIC alone takes them, when there is nothing else. Blocks that are out of such a slab come back as those of
 * another's slab do, the thread's own frees too: so nothing else moves it.
 */
#include "pool/pool_internal.h"

#include <errno.h>

#include "base/error.h"
#include "pool/debug.h"

static uint32_t free_blocks(const struct dma_pool *pool, const struct page *slab)
{
	return (uint32_t)__builtin_popcountll(racy_load(&slab->free) & ~slab_missing(pool, slab));
}

static void add_reserved(struct cache *own, uint32_t n)
{
	racy_store(&own->reserved, own->reserved + n);
}

/* Free blocks of the reserve. */
static uint32_t reserve_count(struct dma_pool *pool, const struct cache *own)
{
	uint32_t n = 0;

	for (uint32_t link = own->reserve; link; link = slab_at(pool, link)->next) {
		slab_collect(pool, slab_at(pool, link));
		n += free_blocks(pool, slab_at(pool, link));
	}
	return n;
}

static void *take(struct dma_pool *pool, struct cache *own, dma_addr_t *handle)
{
	struct page *slab;
	uint64_t free;
	void *vaddr;

	slab = slab_at(pool, own->reserve);
	slab_collect(pool, slab);
	free = slab->free;
	vaddr = slab_base(pool, slab) + (size_t)__builtin_ctzll(free) * pool->stride;
	*handle = (uintptr_t)vaddr + slab->dma_offset;
	slab_set_free(slab, free & (free - 1));
	add_reserved(own, -1u);
	racy_store(&own->allocs, own->allocs + 1);
	if (!slab_has_free(pool, slab)) {
		list_remove(pool, &own->reserve, slab);
		slab_abandon(pool, slab);
	}
	return vaddr;
}

/* Who looks at a watched pool's blocks relies on its lock. */
void *prefill_take(struct dma_pool *pool, dma_addr_t *handle)
{
	struct cache *own = cache_of_thread(pool);
	void *vaddr;

	if (!own->reserved)
		return NULL;
	if (pool->debug)
		rt_lock_try_or_take(&pool->shared_lock);
	vaddr = take(pool, own, handle);
	if (pool->debug)
		rt_lock_release(&pool->shared_lock);
	return vaddr;
}

/* A slab of this thread's or an idle one that has free blocks. NULL when there is none. */
static struct page *slab_with_free(struct dma_pool *pool, struct cache *own)
{
	struct cache *cache = cache_get(pool);
	struct page *slab = cache_give_up(pool, cache);

	if (slab) /* before others have the lock, whose frees may find it */
		slab_set_owner(slab, (uintptr_t)own | SLAB_RESERVED);
	cache_put(pool, cache);
	return slab;
}

static struct page *slab_grow(struct dma_pool *pool, struct cache *own, gfp_t gfp)
{
	struct page *slab = slab_make(pool, own, gfp);

	if (slab)
		cache_count_new(pool, own, slab);
	return slab;
}

/* The same from other threads, and from the arena. NULL in words. */
static struct page *slab_get(struct dma_pool *pool, struct cache *own)
{
	struct page *slab = slab_with_free(pool, own);
	struct error_state before;

	if (slab)
		return slab;
	error_keep(&before);
	slab = slab_grow(pool, own, GFP_KERNEL | __GFP_NORETRY);
	if (slab)
		return slab;
	pool_steal(pool);
	slab = slab_with_free(pool, own);
	if (!slab)
		slab = slab_grow(pool, own, GFP_KERNEL);
	if (slab)
		error_put_back(&before);
	return slab;
}

/* Slabs go from the reserve as long as n blocks stay in it. */
static void prefill_shrink(struct dma_pool *pool, struct cache *own, uint32_t n)
{
	struct page *slab, *next;
	uint32_t have = reserve_count(pool, own);

	for (slab = own->reserve ? slab_at(pool, own->reserve) : NULL; slab; slab = next) {
		next = slab->next ? slab_at(pool, slab->next) : NULL;
		if (have - free_blocks(pool, slab) < n)
			continue;
		have -= free_blocks(pool, slab);
		list_remove(pool, &own->reserve, slab);
		cache_accept(pool, slab);
	}
	racy_store(&own->reserved, n);
}

int dmaland_pool_prefill(struct dma_pool *pool, size_t n)
{
	struct cache *own;
	struct page *slab;
	uint32_t have, before;

	if (!pool)
		return error_set(EINVAL, "dmaland_pool_prefill: no pool");
	if (pool_is_disowned(pool))
		return error_forked(pool->place.name);
	if (!thread_number_take())
		return error_set(EAGAIN,
				 "dmaland_pool_prefill %s: %d threads use pools, no more can have "
				 "blocks of their own",
				 pool->name, THREADS - 1);
	if (n > INT32_MAX)
		return error_set(ENOMEM, "dmaland_pool_prefill %s: %zu blocks are above %d",
				 pool->name, n, INT32_MAX);
	own = cache_of_thread(pool);
	before = own->reserved;
	have = reserve_count(pool, own);
	while (have < n) {
		slab = slab_get(pool, own);
		if (!slab) {
			prefill_shrink(pool, own, before);
			return -ENOMEM;
		}
		slab_set_owner(slab, (uintptr_t)own | SLAB_RESERVED);
		list_push(pool, &own->reserve, slab);
		have += free_blocks(pool, slab);
	}
	prefill_shrink(pool, own, (uint32_t)n);
	return 0;
}
