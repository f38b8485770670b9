/* SPDX-License-Identifier: MIT */
/*
 * trim.c - slabs back to the arena
 *
 * A slab leaves the pool in steps, since no lock keeps a free from looking at it:
 *
 *   1. It is complete, and taken from the stack, or from a list of another thread's: its idle ones, and those in `partial`
 *      that others completed, which are claimed first (SLAB_CLAIMED). It waits for the other slabs of its page (SLAB_TRIMMED).
 *   2. It is marked as no slab (SLAB_NONE). A barrier has all CPUs see that (membarrier(2)).
 *   3. If a cache's `at` names it, a free may have looked before: it waits for another time. By then that free, of a block
 *      that came back twice, has found the block's bit.
 *   4. Its run goes to the arena.
 *
 * What waits goes back to the stack next time, but for slabs that a cache's `at` still names (SLAB_NAMED).
 *
 * So a free looks whether there is a slab first, and whose its page is after it: between 2. and the page's next slab it finds
 * none. This is done for up to 64 runs at a time.
 */
#include "pool/pool_internal.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"

enum { ROUND_MAX = 64 };

/* Values of `revoked`: its thread may be in the lists still; it is not, and some slabs are claimed. */
enum { REVOKED = 1, REVOKED_CLAIMED };

struct round {
	bool stays;   /* what is found stays in the pool */
	size_t slabs; /* that were found */
	size_t n;
	struct page *first[ROUND_MAX]; /* the first slab of each run that goes */
	bool named[ROUND_MAX];
};

/* All threads of this process have done what they were at, this one, too: false where the kernel has no such call. */
static bool barrier_all(void)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0)
		return true;
	return errno == EPERM &&
	       syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0 &&
	       syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
}

/* The first slab of those in the same page. */
static struct page *siblings(const struct dma_pool *pool, struct page *slab)
{
	return slab - (size_t)(slab - pool->entries) % pool->slabs_a_page;
}

static void siblings_set_owner(const struct dma_pool *pool, struct page *first, uintptr_t owner)
{
	for (uint32_t i = 0; i < pool->slabs_a_page; i++)
		slab_set_owner(&first[i], owner);
}

/* ---- a round ---- */

/* A slab that is in no list any more. When all of its page are there, the page can go. */
static void round_add(struct dma_pool *pool, struct round *round, struct page *slab)
{
	struct page *first = siblings(pool, slab);

	slab_set_owner(slab, SLAB_TRIMMED);
	list_push(pool, &pool->waiting, slab);
	round->slabs++;
	if (round->stays) {
		round->n++;
		return;
	}
	for (uint32_t i = 0; i < pool->slabs_a_page; i++)
		if (slab_owner(&first[i]) != SLAB_TRIMMED)
			return;
	for (uint32_t i = 0; i < pool->slabs_a_page; i++)
		list_remove(pool, &pool->waiting, &first[i]);
	siblings_set_owner(pool, first, SLAB_NONE);
	first->prev = (uint32_t)round->n;
	round->first[round->n++] = first;
}

static void round_add_stack(struct dma_pool *pool, struct round *round, size_t max)
{
	struct page *slab;
	size_t n;

	while (round->n < ROUND_MAX && max-- && (slab = idle_stack_pop(pool, 1, &n)))
		round_add(pool, round, slab);
}

/*
 * Another thread's slabs that are complete. `revoked` is set, and all CPUs have seen it. What its thread may be at is a free
 * of a block that came back twice, which looked at the slab before it was complete. It is over for the idle ones, which their
 * own thread found complete. Slabs that others completed are claimed first, and all CPUs see that: from now on such a free finds
 * the block's bit, or its slab is `at`.
 */

/* A slab that stays complete leaves its cache's list. */
static void round_take(struct dma_pool *pool, struct round *round, uint32_t *list,
		       struct page *slab)
{
	list_remove(pool, list, slab);
	slab_collect(pool, slab);
	__atomic_fetch_add(&pool->returned, slab_blocks(pool, slab), __ATOMIC_RELAXED);
	round_add(pool, round, slab);
}

/* Its idle ones. The slab of its `at` may be looked at: it stays. */
static void round_add_idle(struct dma_pool *pool, struct round *round, struct cache *cache)
{
	struct page *slab, *next;

	for (slab = cache->idle ? slab_at(pool, cache->idle) : NULL; slab && round->n < ROUND_MAX;
	     slab = next) {
		next = slab->next ? slab_at(pool, slab->next) : NULL;
		if (slab == __atomic_load_n(&cache->at, __ATOMIC_ACQUIRE))
			continue;
		cache->idle_count--;
		round_take(pool, round, &cache->idle, slab);
	}
}

/* Claim its slabs that others completed, but for the current one. How many. */
static size_t cache_claim(struct dma_pool *pool, struct cache *cache)
{
	struct page *slab;
	size_t n = 0;

	if (!__atomic_exchange_n(&cache->completed, 0, __ATOMIC_SEQ_CST))
		return 0;
	for (uint32_t link = cache->partial; link; link = slab->next) {
		uint64_t out;

		slab = slab_at(pool, link);
		out = slab_out(pool, slab);
		if (!out) {
			slab_set_owner(slab, SLAB_CLAIMED);
			n++;
		} else if (__builtin_popcountll(out) <=
			   SLAB_LAST_BLOCKS) { /* perhaps another time */
			__atomic_store_n(&cache->completed, 1, __ATOMIC_RELAXED);
		}
	}
	return n;
}

/* What can't be taken is the cache's again, and looked at another time. */
static void round_add_claimed(struct dma_pool *pool, struct round *round, struct cache *cache,
			      bool sure)
{
	struct page *slab, *next;

	for (slab = cache->partial ? slab_at(pool, cache->partial) : NULL; slab; slab = next) {
		next = slab->next ? slab_at(pool, slab->next) : NULL;
		if (slab_owner(slab) != SLAB_CLAIMED)
			continue;
		if (sure && round->n < ROUND_MAX &&
		    slab != __atomic_load_n(&cache->at, __ATOMIC_ACQUIRE) &&
		    slab_is_complete(pool, slab)) {
			round_take(pool, round, &cache->partial, slab);
			continue;
		}
		slab_set_owner(slab, (uintptr_t)cache | SLAB_REMOTE);
		__atomic_store_n(&cache->completed, 1, __ATOMIC_RELAXED);
	}
}

static void round_add_revoked(struct dma_pool *pool, struct round *round, uint32_t numbers)
{
	size_t n, claimed = 0;
	bool sure;

	for (uint32_t i = 1; i < numbers; i++) {
		struct cache *cache = &pool->caches[i];

		if (!racy_load(&cache->revoked) || __atomic_load_n(&cache->busy, __ATOMIC_ACQUIRE))
			continue;
		round_add_idle(pool, round, cache);
		n = round->n < ROUND_MAX ? cache_claim(pool, cache) : 0;
		if (n)
			racy_store(&cache->revoked, REVOKED_CLAIMED);
		claimed += n;
	}
	if (!claimed)
		return;
	sure = barrier_all();
	for (uint32_t i = 1; i < numbers; i++)
		if (racy_load(&pool->caches[i].revoked) == REVOKED_CLAIMED)
			round_add_claimed(pool, round, &pool->caches[i], sure);
}

/* What other threads have idle. */
static void round_add_caches(struct dma_pool *pool, struct round *round, const struct cache *own)
{
	uint32_t numbers = thread_numbers(), revoked = 0;

	for (uint32_t i = 1; i < numbers; i++) {
		struct cache *cache = &pool->caches[i];

		if (cache == own || !(racy_load(&cache->idle) | racy_load(&cache->completed)))
			continue;
		racy_store(&cache->revoked, REVOKED);
		revoked++;
	}
	if (!revoked)
		return;
	if (barrier_all())
		round_add_revoked(pool, round, numbers);
	for (uint32_t i = 1; i < numbers; i++)
		if (racy_load(&pool->caches[i].revoked))
			__atomic_store_n(&pool->caches[i].revoked, 0, __ATOMIC_RELEASE);
}

/* A free that looked at a slab of the round before it was marked may still be at it. */
static void round_name(struct dma_pool *pool, struct round *round, struct cache *cache)
{
	struct page *slab = __atomic_load_n(&cache->at, __ATOMIC_ACQUIRE), *first;
	size_t i;

	if (!slab)
		return;
	first = siblings(pool, slab);
	i = racy_load(&first->prev);
	if (i < round->n && round->first[i] == first)
		round->named[i] = true;
}

static void round_end(struct dma_pool *pool, struct round *round)
{
	uint32_t numbers = pool->debug ? 0 : thread_numbers();
	bool sure;

	sure = barrier_all(); /* else any of them may be looked at: none goes */
	for (uint32_t i = 1; i < numbers; i++)
		round_name(pool, round, &pool->caches[i]);
	round_name(pool, round, &pool->shared);
	for (size_t i = 0; i < round->n; i++) {
		if (sure && !round->named[i]) {
			for (uint32_t j = 0; j < pool->slabs_a_page; j++) /* what came back twice */
				slab_collect(pool, &round->first[i][j]);
			slab_give(pool, round->first[i]);
			continue;
		}
		siblings_set_owner(pool, round->first[i], SLAB_TRIMMED);
		for (uint32_t j = 0; j < pool->slabs_a_page; j++)
			list_push(pool, &pool->waiting, &round->first[i][j]);
	}
}

/* Up to max slabs of the stack, and others' idle ones if wanted. How many were found. */
static size_t round_run(struct dma_pool *pool, size_t max, const struct cache *own)
{
	struct round round = {.n = 0};

	round_add_stack(pool, &round, max);
	if (own && round.n < ROUND_MAX)
		round_add_caches(pool, &round, own);
	if (round.n)
		round_end(pool, &round);
	return round.slabs;
}

/* ---- what waits ---- */

static void waiting_name(struct cache *cache)
{
	struct page *slab = __atomic_load_n(&cache->at, __ATOMIC_ACQUIRE);
	uintptr_t trimmed = SLAB_TRIMMED;

	if (slab && slab_owner(slab) == trimmed) /* of a bad free it may be read-only */
		__atomic_compare_exchange_n(&slab->owner, &trimmed, SLAB_NAMED, false,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* What no `at` names any more, and parts of pages whose other parts are in use, may be used again. */
static void waiting_end(struct dma_pool *pool)
{
	uint32_t numbers = pool->debug ? 0 : thread_numbers();
	struct page *slab, *next;

	if (!pool->waiting)
		return;
	barrier_all();
	for (uint32_t i = 1; i < numbers; i++)
		waiting_name(&pool->caches[i]);
	waiting_name(&pool->shared);
	for (slab = slab_at(pool, pool->waiting); slab; slab = next) {
		next = slab->next ? slab_at(pool, slab->next) : NULL;
		if (slab_owner(slab) == SLAB_NAMED) {
			slab_set_owner(slab, SLAB_TRIMMED);
			continue;
		}
		list_remove(pool, &pool->waiting, slab);
		slab_set_owner(slab, SLAB_IDLE);
		idle_stack_push(pool, slab, slab);
	}
}

/* ---- the calls ---- */

static bool cache_was_used(const struct cache *cache)
{
	return __atomic_load_n(&cache->at, __ATOMIC_ACQUIRE) || racy_load(&cache->current) ||
	       racy_load(&cache->reserve) || (racy_load(&cache->partial) | racy_load(&cache->idle));
}

/* What threads that ended have left becomes this thread's. */
static void inherit_all(struct dma_pool *pool)
{
	uint32_t numbers = thread_numbers();

	for (uint32_t i = 1; i < numbers; i++) {
		struct cache *ended = &pool->caches[i], *heir;

		if (!cache_was_used(ended))
			continue;
		if (!thread_number_inherit(i))
			continue;
		heir = cache_get(pool);
		if (cache_enter(heir)) {
			cache_inherit(pool, ended, heir);
			cache_leave(heir);
		}
		cache_put(pool, heir);
		thread_number_release(i);
	}
}

/* This thread's cache, and that of those without a number. */
static void flush_own(struct dma_pool *pool)
{
	struct cache *cache = cache_get(pool);

	cache_flush(pool, cache);
	cache_put(pool, cache);
	rt_lock_try_or_take(&pool->shared_lock);
	cache_flush(pool, &pool->shared);
	rt_lock_release(&pool->shared_lock);
}

void pool_trim(struct dma_pool *pool)
{
	const struct cache *own = cache_of_thread(pool);
	size_t n;

	mutex_lock(&pool->trimming);
	inherit_all(pool);
	flush_own(pool);
	waiting_end(pool);
	do {
		n = round_run(pool, ROUND_MAX, own);
		mutex_unlock(&pool->trimming);
		mutex_lock(&pool->trimming);
	} while (n >= ROUND_MAX);
	waiting_end(pool);
	mutex_unlock(&pool->trimming);
}

void pool_steal(struct dma_pool *pool)
{
	struct round round = {.stays = true};

	mutex_lock(&pool->trimming);
	inherit_all(pool);
	round_add_caches(pool, &round, cache_of_thread(pool));
	waiting_end(pool);
	mutex_unlock(&pool->trimming);
}

void pool_reap(struct dma_pool *pool)
{
	struct error_state before;
	size_t surplus, n;

	if (mutex_trylock(&pool->trimming))
		return;
	error_keep(&before); /* what fails is no failure of the call */
	surplus = (racy_load(&pool->idle_low) + 1) / 2;
	racy_store(&pool->reap_due, false);
	for (; surplus; surplus -= n < surplus ? n : surplus) {
		n = round_run(pool, surplus < ROUND_MAX ? surplus : ROUND_MAX, NULL);
		if (!n)
			break;
		mutex_unlock(&pool->trimming);
		mutex_lock(&pool->trimming);
	}
	waiting_end(pool);
	racy_store(&pool->idle_low, idle_stack_depth(pool));
	mutex_unlock(&pool->trimming);
	arena_trim(pool->place.arena, ARENA_RESERVE_PAGES);
	error_put_back(&before);
}
