/* SPDX-License-Identifier: MIT */
/*
 * pool_internal.h - what the files of this folder share
 *
 *   pool.c      the public calls; the fast paths
 *   bulk.c      the public calls for many blocks
 *   layout.c    where in a slab the blocks lie
 *   cache.c     a thread's slabs: which is current, which has free blocks, which is idle
 *   slab.c      slabs: from the arena, and the pool's stack of idle ones
 *   trim.c      slabs back to the arena
 *   prefill.c   blocks that GFP_ATOMIC is certain of
 *   setup.c     create, destroy, statistics
 *   debug.c     pools that are watched
 */
#ifndef POOL_POOL_INTERNAL_H
#define POOL_POOL_INTERNAL_H

#include <stddef.h>

#include "base/bits.h"
#include "base/mutex.h"
#include "base/rt_lock.h"
#include "base/thread.h"
#include "pool/pool.h"

/*
 * Where the public call came from, inside it; a function inlined into it may ask too. The call itself is never
 * inlined, by link-time optimization, since this would be where its caller came from.
 */
#define CALL_SITE     __builtin_return_address(0)
#define HAS_CALL_SITE __attribute__((noinline))

/* What a pool does beside: flags of pool->debug. Its blocks go the slow ways then. */
enum { POOL_CHECKED = 1, POOL_ANNOTATED = 2 };

/*
 * A slab: up to 64 blocks side by side, in one run of pages or, where blocks are small, a part of a page. What is
 * known of it stands in a struct page that no device can reach: that of its first page, or one of several beside the
 * page map (pool->entries).
 *
 *   free     a bit for each block that its owner may hand out, changed by the owner alone; and for each that is not there,
 *            where a slab has fewer blocks than the pool's slabs may have: those are the highest
 *   remote   a bit for each block that other threads gave back since the owner looked
 *
 * A block is out when it has neither bit. A slab is complete when each block has one.
 *
 *   owner    whose it is: the address of a struct cache, with SLAB_RESERVED where it is in the reserve, or SLAB_REMOTE
 *            where its `remote` is to be looked at when a block comes back; or one of these
 */
enum slab_owner {
	SLAB_NONE,    /* no slab, or none any more */
	SLAB_NOBODYS, /* all blocks were handed out: it belongs to who gives the first one back */
	SLAB_IDLE,    /* complete, and in the pool's stack */
	SLAB_TRIMMED, /* complete, and in pool->waiting: on its way to the arena or the stack */
	SLAB_NAMED,   /* the same, and some cache's `at`: while waiting_end() looks */
	SLAB_CLAIMED, /* in a cache's `partial`, and another thread is about to take it */
	SLAB_OWNERS   /* addresses are above */
};

enum { SLAB_RESERVED = 1, SLAB_REMOTE = 2 };

/*
 * A thread's cache: its slabs of one pool. Its thread alone changes it, but for what is said to be others'. Those in
 * its lists may be taken by others, as said at cache_enter().
 */
struct cache {
	/* What the fast paths use: one line of the CPU's cache. */
	ptrdiff_t
		current; /* the slab it allocates from, by its bytes from the pool; 0: pool->none */
	char *base;	 /* where its blocks begin */
	uint64_t spent;	 /* its `free` when all blocks are out */
	struct page *at; /* hazard pointer: the slab of the last free, which stays the pool's */
	size_t allocs, frees;

	uint32_t partial; /* list of slabs with free blocks, but for the current one */
	uint32_t idle;	  /* list of complete ones */
	uint32_t idle_count;
	uint32_t busy;	    /* its thread is at the lists */
	uint32_t revoked;   /* others': another thread is at the lists */
	uint32_t completed; /* others': they may have completed slabs of it since it was looked */
	uint32_t
		turns; /* slabs that became current, since it asked whether the pool has too many */
	uint32_t grows; /* slabs that it took from the arena */
	size_t held; /* blocks of slabs that it took from arena or stack, less of those it put there */
	uint32_t reserve;  /* list of slabs with blocks for GFP_ATOMIC: prefill.c */
	uint32_t reserved; /* so many blocks */
} __attribute__((aligned(THREAD_STRIDE)));

_Static_assert(sizeof(struct cache) == THREAD_STRIDE, "a cache is found by the thread's offset");

struct dma_pool {
	struct page none; /* first: a slab without blocks, for caches that have no current one */

	/* What the fast paths read; written once. */
	uintptr_t window;
	struct page *entries; /* of slabs: the page map, or memory beside it */
	size_t entry_mask;    /* which bytes of an entry's offset count */
	uintptr_t rest_mask;  /* an address' bits in its slab, and those beyond the page map */
	uint64_t inverse;     /* of stride's odd part, modulo 2^64: block_number() */
	uint64_t full;	      /* a bit for each block of a slab */
	size_t stride;	      /* bytes from one block to the next: layout.c */
	uint32_t
		entry_log2; /* log2 of the bytes that an entry is for, less that of an entry's own */
	uint32_t stride_log2;  /* of the largest power of two that divides stride */
	uint64_t blocks;       /* of a slab: 1 to 64 */
	uint32_t size;	       /* bytes of a block */
	uint32_t debug;	       /* POOL_CHECKED, POOL_ANNOTATED */
	uint32_t slabs_a_page; /* 1 where a slab has a page or more */
	uint32_t whole_pages;  /* of a slab with all blocks; 0 where a page has several slabs */
	size_t slab_size;      /* bytes, a power of two: a slab is aligned to that, and no larger */
	uint32_t idle_max;     /* slabs that a thread may keep in its list of idle ones */
	char *records;	       /* of blocks, in pools that are watched: debug.c */
	size_t records_size;   /* bytes a page */
	struct arena_tenant tenant;
	struct pool_place place;
	struct arena_shrinker shrinker;
	char name[32];
	struct dma_pool *next, **link; /* in the device's list, and what leads here */

	/* Any thread changes these, by atomic operations. */
	uint64_t stack __attribute__((aligned(64))); /* of idle slabs: slab.c */
	size_t total, pages, high_water;
	size_t grows, refused, bad_frees;
	size_t idle_low;   /* the fewest idle slabs in the stack since reap() looked */
	size_t returned;   /* blocks of slabs that caches hold no more, without their doing */
	void *freed_twice; /* a block that was, to be told of; NULL: none */
	size_t freed_twice_count;
	bool reap_due;

	pthread_mutex_t trimming; /* one at a time trims, steals, inherits; guards the list */
	uint32_t
		waiting; /* slabs that are trimmed, but for the rest of their page, or a cache's `at` */

	/* For pools that are watched, and threads without a number: used under its lock. */
	struct rt_lock shared_lock __attribute__((aligned(64)));
	struct cache shared;

	struct cache caches[THREADS]; /* by the thread's number; the first stays as it is */
};

/* In the child of a fork a pool is the parent's: none of its locks may be taken. */
static inline bool pool_is_disowned(const struct dma_pool *pool)
{
	return pool->place.arena->disowned;
}

/* ---- from an address to its block, whatever the address ---- */

static inline struct cache *cache_of_thread(struct dma_pool *pool)
{
	return (struct cache *)(void *)((char *)pool->caches + thread_offset);
}

static inline struct page *slab_current(struct dma_pool *pool, const struct cache *cache)
{
	return (struct page *)(void *)((char *)pool + cache->current);
}

/* The entry of the slab that an address lies in, if it is a slab's at all, and that is aligned as whole ones are. */
static inline struct page *slab_entry(const struct dma_pool *pool, const void *vaddr)
{
	uintptr_t offset = (uintptr_t)vaddr - pool->window;

	return (struct page *)(void *)((char *)pool->entries +
				       (offset >> pool->entry_log2 & pool->entry_mask));
}

/*
 * The number of the block of its slab that begins there, if that is below pool->blocks: else none does.
 *
 * slab_entry() drops the bits of an address that lead out of the page map. They count here, so that
 * the number of such an address is above all that a slab has.
 *
 * The offset is divided by stride without a division. The product with the inverse of stride's odd
 * part is the quotient times 2^stride_log2, modulo 2^64, if there is no rest. Turned right by
 * stride_log2, any bit of a rest is above all that a number has: so this holds for any offset
 * (Granlund, Montgomery 1994; Warren: Hacker's Delight, 10-17).
 */
static inline uint64_t block_number_at(const struct dma_pool *pool, uintptr_t offset)
{
	uint64_t product = offset * pool->inverse;

	return product >> pool->stride_log2 | product << (-pool->stride_log2 & 63);
}

static inline uint64_t block_number(const struct dma_pool *pool, const void *vaddr)
{
	return block_number_at(pool, ((uintptr_t)vaddr - pool->window) & pool->rest_mask);
}

/* ---- slab.c ---- */

/* Lists and the stack hold slabs by this: 0 is no slab's. */
static inline uint32_t slab_link(const struct dma_pool *pool, const struct page *slab)
{
	return (uint32_t)(slab - pool->entries) + 1;
}

static inline struct page *slab_at(const struct dma_pool *pool, uint32_t link)
{
	return pool->entries + link - 1;
}

static inline char *slab_base(const struct dma_pool *pool, const struct page *slab)
{
	return (char *)pool->window +
	       ((size_t)((const char *)slab - (const char *)pool->entries) << pool->entry_log2);
}

static inline uintptr_t slab_owner(const struct page *slab)
{
	return __atomic_load_n(&slab->owner, __ATOMIC_ACQUIRE);
}

static inline void slab_set_owner(struct page *slab, uintptr_t owner)
{
	__atomic_store_n(&slab->owner, owner, __ATOMIC_RELEASE);
}

/* The cache that an owner word names, above SLAB_OWNERS. */
static inline struct cache *owner_cache(uintptr_t owner)
{
	return (struct cache *)(owner & ~(uintptr_t)(SLAB_RESERVED | SLAB_REMOTE));
}

static inline bool owner_is(uintptr_t owner, const struct cache *cache)
{
	return (owner & ~(uintptr_t)SLAB_REMOTE) == (uintptr_t)cache;
}

/* What its owner changes is seen by who finds the slab complete. */
static inline void slab_set_free(struct page *slab, uint64_t free)
{
	__atomic_store_n(&slab->free, free, __ATOMIC_RELEASE);
}

static inline uint64_t slab_back(const struct page *slab)
{
	return __atomic_load_n(&slab->free, __ATOMIC_SEQ_CST) |
	       __atomic_load_n(&slab->remote, __ATOMIC_SEQ_CST);
}

/* The bits of blocks that are out. */
static inline uint64_t slab_out(const struct dma_pool *pool, const struct page *slab)
{
	return pool->full & ~slab_back(slab);
}

/* So many of them its owner may be about to set: a slab that lacks no more may be complete in a moment. */
enum { SLAB_LAST_BLOCKS = 4 };

static inline bool slab_is_complete(const struct dma_pool *pool, const struct page *slab)
{
	return slab_back(slab) == pool->full;
}

uint64_t slab_missing_of_part(const struct dma_pool *pool, const struct page *slab);

/* Bits of blocks that the slab does not have. */
static inline uint64_t slab_missing(const struct dma_pool *pool, const struct page *slab)
{
	return likely(slab->run_pages >= pool->whole_pages) ? 0 : slab_missing_of_part(pool, slab);
}

/*
 * The slab of an address that may be anything, and the number of the block that begins there; NULL when none does. The slab
 * stays the pool's until the cache's `at` is another one.
 */
struct page *slab_find(struct dma_pool *pool, struct cache *cache, const void *vaddr,
		       uint32_t *number);

/* Has its owner a block of it to hand out? */
static inline bool slab_has_free(const struct dma_pool *pool, const struct page *slab)
{
	return slab->free != slab_missing(pool, slab);
}

/*
 * Blocks that others gave back become the owner's to hand out; the caller is the owner. False when there
 * are none.
 */
void slab_collect_remote(struct dma_pool *pool, struct page *slab);

static inline bool slab_collect(struct dma_pool *pool, struct page *slab)
{
	/* In order behind a change of the owner word: owner_mark(). */
	if (likely(!__atomic_load_n(&slab->remote, __ATOMIC_SEQ_CST)))
		return false;
	slab_collect_remote(pool, slab);
	return true;
}

/* The same as long as the slab is the cache's: from now on its frees need not look at `remote`. */
void slab_catch_up(struct dma_pool *pool, struct cache *cache, struct page *slab);

/* A slab that is nobody's may be complete: then it goes to the stack. */
void slab_settle(struct dma_pool *pool, struct page *slab);

/* Blocks that it has. */
size_t slab_blocks(const struct dma_pool *pool, const struct page *slab);

/* The stack: complete slabs that are no thread's. A chain leads from the first to the last by `next`. */
void idle_stack_push(struct dma_pool *pool, struct page *first, struct page *last);

/* Up to max, *n of them, as a chain; NULL when there is none. */
struct page *idle_stack_pop(struct dma_pool *pool, size_t max, size_t *n);
size_t idle_stack_depth(const struct dma_pool *pool);

/* A new slab, idle and in no list, as large as the cache may have it. NULL in words. */
struct page *slab_make(struct dma_pool *pool, struct cache *cache, gfp_t gfp);

/* Nobody keeps anything for this run any more: pool_memory_ops. */
void slab_memory_end(struct dma_pool *pool, struct page *run);

/* A run goes to the arena whose slabs, of which the first is given, nobody can reach any more. */
void slab_give(struct dma_pool *pool, struct page *first);

/* ---- cache.c ---- */

/*
 * A cache's lists are its thread's, but another one may take them away for a while: it sets `revoked`, has all CPUs see
 * that (membarrier(2)), and leaves a cache alone whose thread is at the lists. A thread whose lists are
 * taken does without: it takes slabs from the stack and the arena, and gives blocks back as if the slab were
 * another's.
 */
static inline bool cache_enter(struct cache *cache)
{
	racy_store(&cache->busy, 1);
	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* the other side has the barrier for the CPU */
	if (likely(!__atomic_load_n(&cache->revoked, __ATOMIC_ACQUIRE)))
		return true;
	__atomic_store_n(&cache->busy, 0, __ATOMIC_RELEASE);
	return false;
}

static inline void cache_leave(struct cache *cache)
{
	__atomic_store_n(&cache->busy, 0, __ATOMIC_RELEASE);
}

/* The slab of a free is this from now on; what is read of the slab is read after it. */
static inline void cache_set_at(struct cache *cache, struct page *slab)
{
	__atomic_store_n(&cache->at, slab, __ATOMIC_RELEASE);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* Blocks of slabs that came from the arena or the stack; less than none for those that go to the stack. */
static inline void cache_add_held(struct cache *cache, size_t blocks)
{
	racy_store(&cache->held, cache->held + blocks);
}

/* The cache for this thread's slabs: its own; pool->shared where it has none. */
struct cache *cache_find(struct dma_pool *pool);

/* The same, locked if it is the shared one. */
struct cache *cache_get(struct dma_pool *pool);
void cache_put(struct dma_pool *pool, struct cache *cache);

static inline void list_push(struct dma_pool *pool, uint32_t *list, struct page *slab)
{
	uint32_t link = slab_link(pool, slab), next = *list;

	racy_store(&slab->next, next);
	racy_store(&slab->prev, 0);
	if (next)
		racy_store(&slab_at(pool, next)->prev, link);
	racy_store(list, link);
}

static inline void list_remove(struct dma_pool *pool, uint32_t *list, struct page *slab)
{
	if (slab->prev)
		racy_store(&slab_at(pool, slab->prev)->next, slab->next);
	else
		racy_store(list, slab->next);
	if (slab->next)
		racy_store(&slab_at(pool, slab->next)->prev, slab->prev);
}

static inline struct page *list_pop(struct dma_pool *pool, uint32_t *list)
{
	struct page *slab;

	if (!*list)
		return NULL;
	slab = slab_at(pool, *list);
	racy_store(list, slab->next);
	if (slab->next)
		racy_store(&slab_at(pool, slab->next)->prev, 0);
	return slab;
}

/* Another slab with free blocks becomes the current one. False when neither the cache nor the stack has one. */
bool cache_turn(struct dma_pool *pool, struct cache *cache);

/* A block of the current slab, which has one. */
static inline void *cache_take(struct dma_pool *pool, struct cache *cache, struct page *slab,
			       dma_addr_t *handle)
{
	uint64_t free = racy_load(&slab->free);
	void *vaddr = cache->base + bit_lowest(free) * pool->stride;

	slab_set_free(slab, free & (free - 1));
	*handle = (uintptr_t)vaddr + slab->dma_offset;
	racy_add(&cache->allocs, 1);
	return vaddr;
}

/* The slab becomes the cache's, with the partial ones, if it is nobody's. It is the cache's `at`. */
bool slab_adopt(struct dma_pool *pool, struct cache *cache, struct page *slab);

/* The block, which slab_find() found, is free from now on; NULL, or what is wrong. */
const char *cache_free(struct dma_pool *pool, struct cache *cache, struct page *slab,
		       uint32_t number);

/* A slab of its own leaves the cache that has free blocks, or one of the stack; NULL when there is none. It is counted as the cache's. */
struct page *cache_give_up(struct dma_pool *pool, struct cache *cache);

/* The cache took a slab from the arena. */
void cache_count_new(struct dma_pool *pool, struct cache *cache, const struct page *slab);

/* A slab that slab_make() made becomes the current one; or one of the cache's, when the current one has free blocks. */
void cache_add_new(struct dma_pool *pool, struct cache *cache, struct page *slab);

/* A slab that is in no list becomes this thread's. */
void cache_accept(struct dma_pool *pool, struct page *slab);

/* All blocks of a slab are out that was the current one: it is nobody's, unless they came back this very moment. */
void slab_abandon(struct dma_pool *pool, struct page *slab);

/* A slab of the cache's is complete: it goes to its idle ones, and half of too many to the stack. */
void cache_add_idle(struct dma_pool *pool, struct cache *cache, struct page *slab);

/* Its complete slabs go to the stack. Its thread calls this. */
void cache_flush(struct dma_pool *pool, struct cache *cache);

/* The slabs of a thread that ended become the heir's. pool->trimming is held. */
void cache_inherit(struct dma_pool *pool, struct cache *ended, struct cache *heir);

/* ---- pool.c ---- */

/* A block by the slow ways. NULL in words. */
void *pool_take_slowly(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle, const void *site);
void pool_free_slowly(struct dma_pool *pool, void *vaddr, uint64_t dma_offset, const void *site);

/* What waits for a call without a list at hand: a free that was found bad is told of, idle slabs go back if gfp may. */
void pool_catch_up(struct dma_pool *pool, gfp_t gfp);

/* A free was found bad: in the log, and counted. */
void pool_tell_bad(struct dma_pool *pool, const void *vaddr, dma_addr_t handle, const char *what,
		   const void *site);

/* ---- layout.c ---- */

/*
 * The checks of dma_pool_create() in the kernel's order (mm/dmapool.c); fills in the layout. 0 or
 * -EINVAL in words.
 */
int pool_lay_out(struct dma_pool *pool, size_t size, size_t align, size_t boundary);

/* ---- trim.c ---- */

/* All idle slabs go to the arena: this thread's, other threads', those of threads that ended, the stack's. */
void pool_trim(struct dma_pool *pool);

/* Other threads' idle slabs, up to 64 of them, go to the stack. Makes system calls. */
void pool_steal(struct dma_pool *pool);

/*
 * Give back half of the idle slabs that were not needed since the last time, and idle chunks of the arena with them.
 * Makes system calls.
 */
void pool_reap(struct dma_pool *pool);

/* ---- prefill.c ---- */

/* One of the thread's prefilled blocks, or NULL. */
void *prefill_take(struct dma_pool *pool, dma_addr_t *handle);

#endif
