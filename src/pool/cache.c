/* SPDX-License-Identifier: MIT */
/*
 * cache.c - a thread's slabs
 *
 *   current    the slab that it allocates from
 *   partial    slabs with blocks out and blocks free
 *   idle       slabs with none out: a few; more go to the pool's stack
 *
 * A slab whose blocks are all handed out is nobody's, and in no list. Who gives its first block back adopts it: so the blocks
 * of a slab come back to a thread that frees them, and a producer's slabs move to its consumer whole, and by the stack back.
 */
#include "pool/pool_internal.h"

#include <stddef.h>

#include "base/mutex.h"

struct cache *cache_find(struct dma_pool *pool)
{
	return likely(!pool->debug && thread_number_take()) ? cache_of_thread(pool) : &pool->shared;
}

struct cache *cache_get(struct dma_pool *pool)
{
	struct cache *cache = cache_find(pool);

	if (unlikely(cache == &pool->shared))
		rt_lock_try_or_take(&pool->shared_lock);
	return cache;
}

void cache_put(struct dma_pool *pool, struct cache *cache)
{
	if (unlikely(cache == &pool->shared))
		rt_lock_release(&pool->shared_lock);
}

/* ---- the current slab ---- */

void slab_abandon(struct dma_pool *pool, struct page *slab)
{
	__atomic_exchange_n(&slab->owner, SLAB_NOBODYS, __ATOMIC_SEQ_CST);
	if (unlikely(slab_is_complete(pool, slab)))
		slab_settle(pool, slab);
}

/* A slab with free blocks becomes the current one. */
static inline void cache_set_current(struct dma_pool *pool, struct cache *cache, struct page *slab)
{
	struct page *before = slab_current(pool, cache);

	if (!owner_is(slab_owner(slab), cache))
		slab_set_owner(slab, (uintptr_t)cache);
	cache->base = slab_base(pool, slab);
	cache->spent = slab_missing(pool, slab);
	racy_store(&cache->current, (char *)slab - (char *)pool);
	if (before != &pool->none)
		slab_abandon(pool, before);
}

void cache_count_new(struct dma_pool *pool, struct cache *cache, const struct page *slab)
{
	racy_store(&cache->grows, cache->grows + 1);
	cache_add_held(cache, slab_blocks(pool, slab));
}

/* Entered. */
static void idle_push(struct dma_pool *pool, struct cache *cache, struct page *slab)
{
	list_push(pool, &cache->idle, slab);
	cache->idle_count++;
}

static struct page *idle_pop(struct dma_pool *pool, struct cache *cache)
{
	struct page *slab = list_pop(pool, &cache->idle);

	if (slab)
		cache->idle_count--;
	return slab;
}

/* From the stack; where there are many, up to `more` beside it for the idle list. */
static struct page *cache_refill(struct dma_pool *pool, struct cache *cache, size_t more)
{
	size_t depth = idle_stack_depth(pool), n;
	struct page *slab, *next;

	slab = idle_stack_pop(pool, 1 + (more < depth / 4 ? more : depth / 4), &n);
	if (!slab)
		return NULL;
	depth = depth > n ? depth - n : 0;
	if (depth < racy_load(&pool->idle_low))
		racy_store(&pool->idle_low, depth);
	while (n-- > 1) {
		next = slab_at(pool, slab->next);
		cache_add_held(cache, slab_blocks(pool, slab));
		slab_set_owner(slab, (uintptr_t)cache);
		idle_push(pool, cache, slab);
		slab = next;
	}
	cache_add_held(cache, slab_blocks(pool, slab));
	return slab;
}

enum { TURNS_LEAST = 1024 };

/* So many slabs become current before it is asked whether the pool has too many. */
static uint32_t turns_a_look(const struct dma_pool *pool)
{
	return TURNS_LEAST + 4 * (uint32_t)(racy_load(&pool->total) / pool->blocks);
}

bool cache_turn(struct dma_pool *pool, struct cache *cache)
{
	struct page *slab = slab_current(pool, cache), *next = NULL;
	bool entered;

	if (slab != &pool->none && slab_collect(pool, slab))
		return true;
	entered = cache_enter(cache);
	if (entered) {
		next = list_pop(pool, &cache->partial);
		if (!next)
			next = idle_pop(pool, cache);
	}
	if (!next)
		next = cache_refill(pool, cache, entered ? pool->idle_max / 2 : 0);
	if (entered)
		cache_leave(cache);
	if (!next)
		return false;
	cache_set_current(pool, cache, next);
	if (unlikely(++cache->turns >= TURNS_LEAST) && cache->turns >= turns_a_look(pool)) {
		cache->turns = 0;
		racy_store(&pool->reap_due, true);
	}
	return true;
}

/* ---- blocks that come back ---- */

bool slab_adopt(struct dma_pool *pool, struct cache *cache, struct page *slab)
{
	uintptr_t nobodys = SLAB_NOBODYS;
	bool adopted;

	if (!cache_enter(cache))
		return false;
	adopted = __atomic_compare_exchange_n(&slab->owner, &nobodys, (uintptr_t)cache, false,
					      __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	if (adopted)
		list_push(pool, &cache->partial, slab);
	cache_leave(cache);
	if (adopted)
		slab_collect(pool, slab);
	return adopted;
}

/* Half of the idle ones, the latest, go to the stack. Entered, and left here. Apart, so that who has few saves no registers. */
static __attribute__((noinline)) void idle_shed(struct dma_pool *pool, struct cache *cache)
{
	uint32_t n = cache->idle_count - pool->idle_max / 2;
	struct page *first = slab_at(pool, cache->idle), *last = NULL;
	size_t blocks = 0;

	cache->idle_count -= n;
	for (struct page *slab = first; n; n--, slab = slab_at(pool, slab->next)) {
		slab_set_owner(slab, SLAB_IDLE);
		blocks += slab_blocks(pool, slab);
		last = slab;
	}
	cache->idle = last->next;
	if (cache->idle)
		racy_store(&slab_at(pool, cache->idle)->prev, 0);
	cache_add_held(cache, -blocks);
	cache_leave(cache);
	idle_stack_push(pool, first, last);
}

void cache_add_idle(struct dma_pool *pool, struct cache *cache, struct page *slab)
{
	if (!cache_enter(cache)) { /* who has the lists may find it there */
		__atomic_store_n(&cache->completed, 1, __ATOMIC_RELAXED);
		return;
	}
	list_remove(pool, &cache->partial, slab);
	slab_collect(pool, slab);
	idle_push(pool, cache, slab);
	cache_set_at(cache, NULL);
	if (unlikely(cache->idle_count > pool->idle_max))
		idle_shed(pool, cache);
	else
		cache_leave(cache);
}

/* Whose a slab is in which a bit of `remote` was set: its frees look at that from now on. */
static uintptr_t owner_mark(struct page *slab)
{
	uintptr_t owner = __atomic_load_n(&slab->owner, __ATOMIC_SEQ_CST);

	while (owner >= SLAB_OWNERS && !(owner & (SLAB_RESERVED | SLAB_REMOTE)) &&
	       !__atomic_compare_exchange_n(&slab->owner, &owner, owner | SLAB_REMOTE, true,
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	return owner;
}

/*
 * Somebody else's slab, or nobody's: one step. Its owner is told that it may be complete: whether it is can't be seen here, since the
 * owner's last frees may be in its CPU's store buffer yet.
 */
static const char *free_remotely(struct dma_pool *pool, struct cache *cache, struct page *slab,
				 uint64_t bit)
{
	uintptr_t owner;

	if ((racy_load(&slab->free) & bit) ||
	    (__atomic_fetch_or(&slab->remote, bit, __ATOMIC_SEQ_CST) & bit))
		return "already free";
	racy_add(&cache->frees, 1);
	owner = owner_mark(slab);
	if (owner < SLAB_OWNERS && slab_is_complete(pool, slab))
		slab_settle(pool, slab);
	else if (owner >= SLAB_OWNERS && !racy_load(&owner_cache(owner)->completed))
		__atomic_store_n(&owner_cache(owner)->completed, 1, __ATOMIC_RELAXED);
	return NULL;
}

const char *cache_free(struct dma_pool *pool, struct cache *cache, struct page *slab,
		       uint32_t number)
{
	uint64_t bit = UINT64_C(1) << number;
	uintptr_t owner = slab_owner(slab);

	if (owner == SLAB_NOBODYS && slab_adopt(pool, cache, slab))
		owner = (uintptr_t)cache;
	if (!owner_is(owner, cache))
		return free_remotely(pool, cache, slab, bit);
	slab_catch_up(pool, cache, slab);
	if (slab->free & bit)
		return "already free";
	slab_set_free(slab, slab->free | bit);
	racy_add(&cache->frees, 1);
	if (slab_is_complete(pool, slab) && slab != slab_current(pool, cache))
		cache_add_idle(pool, cache, slab);
	return NULL;
}

/* ---- all of them ---- */

/* A complete slab of the cache's, in no list. */
static void stack_put(struct dma_pool *pool, struct cache *cache, struct page *slab)
{
	slab_set_owner(slab, SLAB_IDLE);
	cache_add_held(cache, -slab_blocks(pool, slab));
	idle_stack_push(pool, slab, slab);
}

/* Complete slabs of a list go to the stack; those that others completed too. Entered. */
static void flush_list(struct dma_pool *pool, struct cache *cache, uint32_t *list)
{
	struct page *slab, *next;

	for (slab = *list ? slab_at(pool, *list) : NULL; slab; slab = next) {
		next = slab->next ? slab_at(pool, slab->next) : NULL;
		if (!slab_is_complete(pool, slab))
			continue;
		list_remove(pool, list, slab);
		slab_collect(pool, slab);
		stack_put(pool, cache, slab);
	}
}

/* A slab that is in no list becomes the cache's. Entered. */
static void accept(struct dma_pool *pool, struct cache *cache, struct page *slab)
{
	__atomic_exchange_n(&slab->owner, (uintptr_t)cache, __ATOMIC_SEQ_CST);
	slab_collect(pool, slab);
	if (slab->free == pool->full && cache->idle_count == pool->idle_max)
		stack_put(pool, cache, slab);
	else if (slab->free == pool->full)
		idle_push(pool, cache, slab);
	else if (slab_has_free(pool, slab))
		list_push(pool, &cache->partial, slab);
	else
		slab_abandon(pool, slab);
}

/* There is no current slab any more. Entered. */
static void current_put(struct dma_pool *pool, struct cache *cache)
{
	struct page *slab = slab_current(pool, cache);

	if (slab == &pool->none)
		return;
	racy_store(&cache->current, 0);
	cache->spent = 0;
	accept(pool, cache, slab);
}

static bool try_accept(struct dma_pool *pool, struct page *slab)
{
	struct cache *cache = cache_get(pool);
	bool entered = cache_enter(cache);

	if (entered) {
		accept(pool, cache, slab);
		cache_leave(cache);
	}
	cache_put(pool, cache);
	return entered;
}

/* Who has the lists, if anybody, holds the mutex. */
void cache_accept(struct dma_pool *pool, struct page *slab)
{
	if (try_accept(pool, slab))
		return;
	mutex_lock(&pool->trimming);
	try_accept(pool, slab);
	mutex_unlock(&pool->trimming);
}

void cache_add_new(struct dma_pool *pool, struct cache *cache, struct page *slab)
{
	cache_count_new(pool, cache, slab);
	if (unlikely(slab_current(pool, cache)->free != cache->spent) && cache_enter(cache)) {
		accept(pool, cache,
		       slab); /* another thread of those that share the cache was faster */
		cache_leave(cache);
	} else {
		cache_set_current(pool, cache, slab);
	}
}

struct page *cache_give_up(struct dma_pool *pool, struct cache *cache)
{
	struct page *slab = NULL;

	if (cache_enter(cache)) {
		current_put(pool, cache);
		slab = list_pop(pool, &cache->partial);
		if (!slab)
			slab = idle_pop(pool, cache);
		cache_leave(cache);
	}
	return slab ? slab : cache_refill(pool, cache, 0);
}

static void flush(struct dma_pool *pool, struct cache *cache)
{
	cache_set_at(cache, NULL);
	current_put(pool, cache);
	flush_list(pool, cache, &cache->idle);
	cache->idle_count = 0;
	if (__atomic_exchange_n(&cache->completed, 0, __ATOMIC_SEQ_CST))
		flush_list(pool, cache, &cache->partial);
}

void cache_flush(struct dma_pool *pool, struct cache *cache)
{
	if (!cache_enter(cache))
		return;
	flush(pool, cache);
	cache_leave(cache);
}

void cache_inherit(struct dma_pool *pool, struct cache *ended, struct cache *heir)
{
	struct page *slab;

	flush(pool, ended);
	while ((slab = list_pop(pool, &ended->partial)) || (slab = list_pop(pool, &ended->reserve)))
		accept(pool, heir, slab);
	__atomic_store_n(&heir->completed, 1,
			 __ATOMIC_RELAXED); /* who looked at the old owner told that */
	racy_store(&ended->reserved, 0);
	cache_add_held(heir, ended->held);
	racy_store(&ended->held, 0);
}
