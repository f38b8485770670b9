/* SPDX-License-Identifier: MIT */
/*
 * magazine.h - what threads have at hand, and the shelves behind it
 */
#ifndef POOL_MAGAZINE_H
#define POOL_MAGAZINE_H

#include "pool/pool_internal.h"

enum {
	HALF_MAX = 256,		 /* blocks that each half of a magazine may hold */
	HALF_MIN = 4,		 /* what a new one may hold; it doubles with use */
	MAGAZINE_BYTES = 524288, /* of blocks that a magazine may hold */
	POOL_IDS = 256,		 /* pools with magazines; the others work without */
	POOL_TOPS = 10, /* of them, those whose magazines the fast paths reach: see thread_tops */
};

/* Half a magazine: what threads and the depot exchange. */
struct half {
	struct half *next;
	uint32_t count; /* while it lies in the depot, or is not the one that is worked on */
	uint32_t room;	/* for blocks, up to CODE_END */
	block_code codes[1 + HALF_MAX + 1]; /* the first is CODE_NONE */
};

/*
 * One thread's free blocks of one pool, in two halves: one is worked on, the other is full or
 * empty. Only its thread changes it, but for the pool's end, which leaves it neither blocks nor
 * room: so whoever finds a block or room in a magazine may use it.
 */
struct magazine {
	block_code **top; /* where it is kept: where the next block goes in the half worked on */
	struct half *half, *other;
	uint32_t capacity;     /* blocks that a half may hold today */
	struct dma_pool *pool; /* NULL: nobody's */
	struct magazine *next; /* in the pool's list */
	block_code *own_top;   /* the top that is not in thread_tops */
} __attribute__((aligned(64)));

struct thread_magazines {
	struct magazine slots[POOL_IDS]; /* by the pool's id; 0 is no pool's */
	uint32_t shelf;
	struct thread_magazines *next;
};

/* ---- depot.c ---- */

static inline struct half *half_pop(struct half **list)
{
	struct half *half = *list;

	*list = half->next;
	return half;
}

static inline void half_push(struct half **list, struct half *half)
{
	half->next = *list;
	*list = half;
}

static inline block_code *half_begin(struct half *half)
{
	return half->codes + 1;
}

static inline void half_set_count(struct half *half, uint32_t count)
{
	__atomic_store_n(&half->count, count, __ATOMIC_RELAXED);
}

/* The locks of all shelves, after pool->lock if both are to be had. */
void shelves_lock(struct dma_pool *pool);
void shelves_unlock(struct dma_pool *pool);

/* Blocks that are out or in magazines of threads. Exact with the locks of all shelves. */
size_t pool_away(const struct dma_pool *pool);

/* So many were away. pool->lock is held. */
void pool_note_away(struct dma_pool *pool, size_t away);

/* For a while it does not grow while it has free blocks. */
void pool_set_crowded(struct dma_pool *pool);

/* How many are away, and is it time for units_reap()? No lock is held. */
void pool_look(struct dma_pool *pool);

/* Its lock is held; pool_away() looks without. */
static inline void shelf_set_taken(struct shelf *shelf, ptrdiff_t taken)
{
	__atomic_store_n(&shelf->taken, taken, __ATOMIC_RELAXED);
}

/* So often a shelf fills magazines before all of them are counted. */
#define LOOK_FILLS 64

/* Blocks were taken; the lock is held. Is it time for pool_look(), without? */
static inline bool shelf_note_fill(struct shelf *shelf, uint32_t n)
{
	if (!n)
		return false;
	shelf_set_taken(shelf, shelf->taken + (ptrdiff_t)n);
	__atomic_store_n(&shelf->fills, shelf->fills + 1, __ATOMIC_RELAXED);
	if (shelf->taken <= shelf->peak)
		return shelf->fills % LOOK_FILLS == 0;
	shelf->peak = shelf->taken;
	return true;
}

/*
 * May a thread that uses many blocks have its own, also while others have some? Then these stay in the
 * cache of its CPU; and the pool grows until it has twice as many as are needed at once.
 */
bool depot_may_part(struct dma_pool *pool);

/*
 * Where a full half is to be had, or NULL. Others' are taken as they are only where pages have few
 * blocks: of others the two ends of a half would be pages of both threads (unit_find). The locks of
 * all shelves are held.
 */
struct shelf *depot_find_full(struct dma_pool *pool);

/* Exchange a full half for an empty one. False if there is none. No lock is held. */
bool depot_put(struct dma_pool *pool, struct half **full);

/*
 * The blocks of a full half go to their units. False if there is none. The locks of all shelves are
 * held.
 */
bool depot_open(struct dma_pool *pool);

/* Have as many halves as the pool may have. 0 or -ENOMEM in words. */
int depot_grow(struct dma_pool *pool);

/* Free empty halves that the pool is too small for. */
void depot_shrink(struct dma_pool *pool);

/* Free the depot's halves; what blocks they hold is forgotten. */
void depot_end(struct dma_pool *pool);

/* ---- magazine.c ---- */

static inline void magazine_set_top(struct magazine *magazine, block_code *top)
{
	__atomic_store_n(magazine->top, top, __ATOMIC_RELAXED);
}

/* No blocks in the half that is worked on. */
static inline bool magazine_is_empty(const struct magazine *magazine)
{
	return (*magazine->top)[-1] == CODE_NONE;
}

/* No room in it. */
static inline bool magazine_is_full(const struct magazine *magazine)
{
	return **magazine->top == CODE_END;
}

/* There is room. */
static inline void magazine_push(struct magazine *magazine, block_code code)
{
	**magazine->top = code;
	magazine_set_top(magazine, *magazine->top + 1);
}

extern _Thread_local struct thread_magazines *thread_magazines
	__attribute__((tls_model("initial-exec")));

/*
 * This thread's magazine for the pool's id. It is the pool's if magazine->pool says so, and certainly
 * when it has blocks or room.
 */
static inline struct magazine *magazine_of(const struct dma_pool *pool)
{
	return &thread_magazines->slots[pool->id];
}

/* Where this thread puts away and looks first. */
static inline struct shelf *shelf_of_thread(struct dma_pool *pool)
{
	return &pool->shelves[thread_magazines->shelf & (pool->shelf_count - 1)];
}

/* The i-th place where it looks. */
static inline struct shelf *shelf_to_search(struct dma_pool *pool, uint32_t i)
{
	return &pool->shelves[(thread_magazines->shelf + i) & (pool->shelf_count - 1)];
}

/*
 * Where this thread's magazine has its top, as fast as can be: at an offset from the thread's own
 * segment that the pool knows. Pools that have none there find neither blocks nor room. Sanitizers
 * can't follow that: under them all tops are in the magazines.
 */
#if defined(__SEG_FS) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define TOPS_BY_SEGMENT 1
typedef block_code *volatile __seg_fs *top_slot;
#else
#define TOPS_BY_SEGMENT 0
typedef block_code **top_slot;
#endif

static inline top_slot thread_top_slot(const struct dma_pool *pool)
{
#if TOPS_BY_SEGMENT
	return (top_slot)pool->slot;
#else
	return &magazine_of(pool)->own_top;
#endif
}

/* Does the fast path miss a magazine that the pool may well have? */
static inline bool tops_in_table(const struct dma_pool *pool)
{
	return TOPS_BY_SEGMENT && pool->id >= POOL_TOPS;
}

static inline void top_set(top_slot slot, block_code *top)
{
#if TOPS_BY_SEGMENT
	*slot = top;
#else
	__atomic_store_n(slot, top, __ATOMIC_RELAXED);
#endif
}

/* A magazine for this thread; NULL when the pool has none or gfp forbids to get one. */
struct magazine *magazine_make(struct dma_pool *pool, gfp_t gfp);

/* Blocks in the half that is worked on. */
static inline uint32_t magazine_count(const struct magazine *magazine)
{
	return (uint32_t)(*magazine->top - magazine->half->codes - 1);
}

/* This thread's magazine, made if need be. */
static inline struct magazine *magazine_get(struct dma_pool *pool, gfp_t gfp)
{
	struct magazine *magazine = magazine_of(pool);

	return likely(magazine->pool == pool) ? magazine : magazine_make(pool, gfp);
}

/* Give the pool an id and magazines for threads to come. 0 or -errno in words. */
int magazines_begin(struct dma_pool *pool);

/* The pool has no magazines any more; what is parked in them is forgotten. */
void magazines_end(struct dma_pool *pool);

/* Blocks that are parked. Lock held. */
size_t magazines_parked(const struct dma_pool *pool);

/*
 * The half that is worked on is empty: swap or fill it. False when the pool has no blocks. It may
 * grow, if gfp allows it, so as not to take them from other threads (depot_may_part).
 */
bool magazine_fill(struct dma_pool *pool, struct magazine *magazine, gfp_t gfp);

/* The half that is worked on is full: make room in it. */
void magazine_spill(struct dma_pool *pool, struct magazine *magazine);

/* Put all blocks of this thread's magazine away. */
void magazine_flush(struct dma_pool *pool, struct magazine *magazine);

#endif
