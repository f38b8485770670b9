/* SPDX-License-Identifier: MIT */
/*
 * pool.c - dma_pool: small coherent blocks of one size, with alignment and boundary
 *
 *   thread A: cache --> slab |.x..xx..|  its bits beside it      thread B: cache --> slab |xx.x....|
 *                  \           idle slabs, a few at a time          /
 *   pool:   stack of idle slabs
 *                  | a slab at a time
 *   arena:  pages that are mapped for the device
 *
 * dma_pool_alloc() takes the lowest free block of the thread's current slab; dma_pool_free() checks a block and sets its
 * bit: no lock, no locked instruction, and the block itself is not touched.
 * Nothing that the pool trusts lies in its blocks. docs/design/pool.md is about all this.
 *
 * Every free is checked: the page map says whether the address is in a slab of this pool; a multiplication
 * whether a block begins there; the slab's dma offset whether the handle is the block's; and its bits whether it is out.
 */
#include "pool/pool_internal.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "pool/debug.h"

/*
 * The second and third argument of a call stay in their registers up to here, for a tail call that takes them on. Compilers
 * would use the registers anew, and keep copies.
 */
#ifdef __x86_64__
#define stay_in_argument_registers(second, third) __asm__("" : "+S"(second), "+d"(third))
#else
#define stay_in_argument_registers(second, third)
#endif

void pool_tell_bad(struct dma_pool *pool, const void *vaddr, dma_addr_t handle, const char *what,
		   const void *site)
{
	char more[256] = "";

	__atomic_fetch_add(&pool->bad_frees, 1, __ATOMIC_RELAXED);
	if (pool->debug)
		debug_describe(pool, vaddr, site, more, sizeof(more));
	log_line(DMALAND_LOG_ERR, "%s: dma_pool_free %s, %p/%llx %s%s", pool->place.name,
		 pool->name, vaddr, (unsigned long long)handle, what, more);
}

/* Two frees of one block raced, and it was found afterwards. The log may call the library: no lock and no list is held. */
static __attribute__((noinline)) void tell_freed_twice(struct dma_pool *pool)
{
	void *vaddr = __atomic_exchange_n(&pool->freed_twice, NULL, __ATOMIC_RELAXED);
	struct page *page = pagemap_find(&pool->place.arena->pagemap, vaddr);

	if (vaddr && page)
		pool_tell_bad(pool, vaddr, (uintptr_t)vaddr + page->dma_offset, "already free",
			      NULL);
}

void pool_catch_up(struct dma_pool *pool, gfp_t gfp)
{
	if (unlikely(racy_load(&pool->freed_twice)))
		tell_freed_twice(pool);
	if (unlikely(racy_load(&pool->reap_due)) && gfp & __GFP_RECLAIM)
		pool_reap(pool);
}

/* ---- alloc ---- */

static inline __attribute__((always_inline)) void *
take_from_cache(struct dma_pool *pool, struct cache *cache, dma_addr_t *handle)
{
	for (;;) {
		struct page *slab = slab_current(pool, cache);
		uint64_t free = racy_load(&slab->free);

		if (likely(free != cache->spent) && likely(!(free & racy_load(&slab->remote))))
			return cache_take(pool, cache, slab, handle);
		if (free != cache->spent)
			slab_collect(pool, slab); /* some came back twice */
		else if (!cache_turn(pool, cache))
			return NULL;
	}
}

static void *take_from_slabs(struct dma_pool *pool, dma_addr_t *handle)
{
	struct cache *cache = cache_get(pool);
	void *vaddr = take_from_cache(pool, cache, handle);

	cache_put(pool, cache);
	return vaddr;
}

/* The same from a slab more. */
static void *take_from_arena(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle)
{
	struct page *slab = slab_make(pool, cache_find(pool), gfp);
	struct cache *cache;
	void *vaddr;

	if (!slab)
		return NULL;
	cache = cache_get(pool);
	cache_add_new(pool, cache, slab);
	vaddr = take_from_cache(pool, cache, handle);
	cache_put(pool, cache);
	return vaddr;
}

/*
 * From the thread's slabs, or the stack; from the arena; from other threads' idle slabs; from what other pools and
 * devices hold.
 */
static void *take(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle)
{
	void *vaddr = take_from_slabs(pool, handle);
	struct error_state before;

	if (vaddr || !(gfp & __GFP_RECLAIM))
		return vaddr ? vaddr : take_from_arena(pool, gfp, handle);
	error_keep(&before);
	vaddr = take_from_arena(pool, gfp | __GFP_NORETRY, handle);
	if (vaddr)
		return vaddr;
	pool_steal(pool);
	vaddr = take_from_slabs(pool, handle);
	if (!vaddr)
		vaddr = take_from_arena(pool, gfp, handle);
	if (vaddr)
		error_put_back(&before);
	return vaddr;
}

void *pool_take_slowly(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle, const void *site)
{
	struct error_state before;
	void *vaddr;

	if (pool_is_disowned(pool)) {
		error_forked(pool->place.name);
		return NULL;
	}
	if (gfp & __GFP_RECLAIM && unlikely(arena_refill_due(pool->place.arena)))
		arena_refill(pool->place.arena);
	if (cache_of_thread(pool)->reserved)
		error_keep(&before);
	vaddr = take(pool, gfp | pool->place.gfp, handle);
	if (!vaddr && !(gfp & __GFP_RECLAIM)) {
		vaddr = prefill_take(pool, handle);
		if (vaddr)
			error_put_back(&before);
	}
	if (vaddr && unlikely(pool->debug))
		debug_alloc(pool, gfp, vaddr, site);
	if (!vaddr)
		__atomic_fetch_add(&pool->refused, 1, __ATOMIC_RELAXED);
	return vaddr;
}

/* Apart, so that dma_pool_alloc() needs no stack frame. */
static __attribute__((noinline)) void *alloc_next(struct dma_pool *pool, gfp_t gfp,
						  dma_addr_t *handle, const void *site)
{
	struct cache *cache;
	void *vaddr;

	if (!pool) {
		error_set(EINVAL, "dma_pool_alloc: no pool");
		return NULL;
	}
	cache = cache_of_thread(pool);
	vaddr = NULL;
	if (likely(thread_offset && !pool->debug))
		vaddr = take_from_cache(pool, cache, handle);
	if (unlikely(!vaddr))
		vaddr = pool_take_slowly(pool, gfp, handle, site);
	pool_catch_up(pool, gfp);
	if (vaddr && gfp & __GFP_ZERO)
		memset(vaddr, 0, pool->size);
	return vaddr;
}

HAS_CALL_SITE void *dma_pool_alloc(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle)
{
	struct cache *cache;
	struct page *slab;
	uint64_t free;

	if (unlikely(!pool))
		return alloc_next(pool, gfp, handle, CALL_SITE);
	cache = cache_of_thread(pool);
	slab = slab_current(pool, cache);
	free = racy_load(&slab->free);
	if (unlikely(free == cache->spent) || unlikely(words_meet(free, &slab->remote)) ||
	    unlikely(gfp & __GFP_ZERO))
		return alloc_next(pool, gfp, handle, CALL_SITE);
	return cache_take(pool, cache, slab, handle);
}

/* ---- free ---- */

void pool_free_slowly(struct dma_pool *pool, void *vaddr, uint64_t dma_offset, const void *site)
{
	struct cache *cache;
	struct page *slab;
	uint32_t number;
	const char *wrong;

	if (pool_is_disowned(pool)) {
		error_forked(pool->place.name);
		return;
	}
	cache = cache_get(pool);
	slab = slab_find(pool, cache, vaddr, &number);
	if (!slab)
		wrong = "(bad vaddr)";
	else if (dma_offset != slab->dma_offset)
		wrong = "(bad dma)";
	else if (unlikely(pool->debug))
		wrong = debug_release(pool, slab, number, site);
	else
		wrong = cache_free(pool, cache, slab, number);
	cache_put(pool, cache);
	if (unlikely(wrong))
		pool_tell_bad(pool, vaddr, (uintptr_t)vaddr + dma_offset, wrong, site);
	else if (unlikely(pool->debug))
		debug_free(pool, slab, number);
	pool_catch_up(pool, GFP_ATOMIC);
}

/*
 * As dma_pool_free(), which found that the slab is not this thread's, or complete, or that others gave back blocks of it. It may
 * be nobody's, of this pool: then this thread adopts it.
 */
static __attribute__((noinline)) void free_next(struct dma_pool *pool, void *vaddr,
						uint64_t dma_offset, const void *site)
{
	struct cache *cache = cache_of_thread(pool);
	struct page *slab = slab_entry(pool, vaddr);
	uint64_t number = block_number(pool, vaddr), free;
	uintptr_t owner = slab_owner(slab); /* read before the tenant: trim.c */
	bool own = owner_is(owner, cache);

	if (unlikely(owner == SLAB_NONE) || unlikely(page_tenant(slab) != &pool->tenant) ||
	    unlikely(!thread_offset) || unlikely(pool->debug) || unlikely(number >= pool->blocks) ||
	    unlikely(dma_offset != slab->dma_offset) ||
	    unlikely(bit_is_set(racy_load(&slab->free), number)) ||
	    (!own && !slab_adopt(pool, cache, slab))) {
		pool_free_slowly(pool, vaddr, dma_offset, site);
		return;
	}
	if (own)
		slab_catch_up(pool, cache, slab);
	free = slab->free;
	if (unlikely(bit_test_and_set(&free, number))) {
		pool_free_slowly(pool, vaddr, dma_offset, site);
		return;
	}
	slab_set_free(slab, free);
	racy_add(&cache->frees, 1);
	if ((free | racy_load(&slab->remote)) == pool->full && slab != slab_current(pool, cache))
		cache_add_idle(pool, cache, slab);
}

/*
 * No lock holds the slab while it is looked at. Another free of the block may win, so that the slab is complete,
 * and goes: trim.c says why that is harmless.
 */
HAS_CALL_SITE void dma_pool_free(struct dma_pool *pool, void *vaddr, dma_addr_t handle)
{
	uint64_t dma_offset = handle - (uintptr_t)vaddr, free, number;
	struct cache *cache;
	struct page *slab;

	if (unlikely(!pool))
		return;
	cache = cache_of_thread(pool);
	slab = slab_entry(pool, vaddr);
	number = block_number(pool, vaddr);
	cache_set_at(cache, slab);
	stay_in_argument_registers(vaddr, dma_offset);
	if (unlikely(racy_load(&slab->owner) != (uintptr_t)cache) ||
	    unlikely(number >= pool->blocks) || unlikely(dma_offset != slab->dma_offset)) {
		free_next(pool, vaddr, dma_offset, CALL_SITE);
		return;
	}
	free = racy_load(&slab->free);
	if (unlikely(bit_test_and_set(&free, number))) {
		free_next(pool, vaddr, dma_offset, CALL_SITE);
		return;
	}
	slab_set_free(slab, free);
	racy_add(&cache->frees, 1);
	if (unlikely(free == pool->full) && slab != slab_current(pool, cache))
		cache_add_idle(pool, cache, slab);
}
