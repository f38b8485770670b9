/* SPDX-License-Identifier: MIT */
/*
 * pool_internal.h - what the files of this folder share
 *
 *   pool.c       the public calls; the fast paths
 *   magazine.c   each thread's stacks of free blocks
 *   unit.c       units of memory, and the state of every block in them
 *
 * A block is in one of three places, and its state byte, outside of the device's reach, says in
 * which: unused in its unit, parked in a thread's magazine, or out with the user.
 */
#ifndef POOL_POOL_INTERNAL_H
#define POOL_POOL_INTERNAL_H

#include "pool/pool.h"

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

enum block_state { BLOCK_UNUSED, BLOCK_PARKED, BLOCK_OUT };

/* A free block on its way between unit and user; all three are computed when it leaves the unit. */
struct parked {
	char *vaddr;
	dma_addr_t handle;
	uint8_t *state;
};

enum {
	HALF_MAX = 32,		 /* blocks that each half of a magazine may hold */
	HALF_MIN = 4,		 /* what a new one may hold; it doubles with use */
	MAGAZINE_BYTES = 131072, /* of blocks that a magazine may hold */
	POOL_IDS = 256,		 /* pools with magazines; the others work without */
};

/*
 * One thread's free blocks of one pool, in two halves: one is worked on, the other is full or
 * empty. Only its thread changes it, but for the pool's end, which empties it and leaves it no room:
 * so whoever finds a block or room in a magazine may use it. Magazines are never freed, but used
 * again.
 */
struct magazine {
	struct parked *top;	    /* of the half that is worked on: where the next block goes */
	struct parked *begin, *end; /* of that half; end as far as it may be filled today */
	struct parked *other;	    /* the other half */
	uint32_t other_count;
	uint32_t capacity;     /* blocks that a half may hold today */
	struct dma_pool *pool; /* NULL: nobody's */
	struct magazine *next; /* in the pool's list, or among those to be used again */
	struct parked halves[2][HALF_MAX];
};

struct thread_magazines {
	struct magazine *slots[POOL_IDS]; /* by the pool's id; never NULL */
	struct thread_magazines *next;
};

struct dma_pool {
	struct arena_tenant tenant; /* first: the page map leads here */

	/* What frees and allocations read; written once. */
	const struct page *pages;
	uintptr_t window;
	size_t page_count;
	uint32_t page_shift;
	uint32_t page_mask;    /* page size - 1 */
	uint32_t size;	       /* bytes of a block */
	uint32_t reciprocal;   /* 2^32 / size, rounded up; 0 where that does not lead to a block */
	uint32_t id;	       /* slot of its magazines; 0: it has none */
	uint32_t per_unit;     /* blocks of a unit */
	uint32_t state_count;  /* one more where there is waste behind the last block */
	uint32_t segment_log2; /* log2 of the boundary inside a unit */
	uint32_t per_segment;  /* blocks before each boundary */
	uint32_t half_max;     /* blocks that half a magazine may hold; 0: no magazines */
	size_t unit_size;      /* bytes */
	size_t unit_align;
	struct pool_place place;
	struct arena_shrinker shrinker;
	char name[32];

	/* Guards all that follows, and the units. */
	pthread_spinlock_t lock __attribute__((aligned(64)));
	struct page *units; /* those with unused blocks, the next to take from first */
	size_t unit_count, unused;
	struct magazine *magazines;
	uint8_t *spare; /* state arrays that are ready; each begins with a pointer to the next */
	size_t spare_count;
	size_t high_water, grows, refused, bad_frees;

	struct dma_pool *next; /* in the device's list */
};

static inline uint8_t state_read(const uint8_t *state)
{
	return __atomic_load_n(state, __ATOMIC_RELAXED);
}

static inline void state_write(uint8_t *state, enum block_state value)
{
	__atomic_store_n(state, (uint8_t)value, __ATOMIC_RELAXED);
}

/* ---- unit.c ---- */

/* The first page of the unit that a page of the pool belongs to. */
static inline struct page *unit_of(struct page *page)
{
	return page - page->run_offset;
}

/*
 * The number of the block that begins at an offset of the unit, or UINT32_MAX. Where the pool has a
 * reciprocal there is a shorter way, in pool.c.
 */
uint32_t unit_block_number(const struct dma_pool *pool, size_t offset);

/*
 * Take up to n unused blocks and give them the state; blocks[] has the lowest last. Lock held. How
 * many.
 */
uint32_t units_take(struct dma_pool *pool, struct parked *blocks, uint32_t n,
		    enum block_state state);

/*
 * Blocks that were parked are unused again. Lock held. How many were not parked, being in another
 * magazine as well: two frees of one block raced; these are left out.
 */
uint32_t units_put(struct dma_pool *pool, const struct parked *blocks, uint32_t n);

/* A unit more. 0 or -ENOMEM in words. */
int units_grow(struct dma_pool *pool, gfp_t gfp);

/* Give units with no block out or parked back to the arena. */
void units_trim(struct dma_pool *pool);

/* All units go: idle ones to the arena, busy ones to the device's orphans. True if any was busy. */
bool units_end(struct dma_pool *pool);

/* Have state arrays ready for GFP_ATOMIC. 0 or -ENOMEM in words. */
int units_prepare(struct dma_pool *pool);

/* ---- magazine.c ---- */

extern _Thread_local struct thread_magazines *thread_magazines
	__attribute__((tls_model("initial-exec")));

/*
 * This thread's magazine for the pool's id. It is the pool's if magazine->pool says so, and certainly
 * when it has blocks or room.
 */
static inline struct magazine *magazine_of(const struct dma_pool *pool)
{
	return thread_magazines->slots[pool->id];
}

/* This thread's magazine, made if need be; NULL when the pool has none or gfp forbids to get one. */
struct magazine *magazine_get(struct dma_pool *pool, gfp_t gfp);

/* Give the pool an id and magazines for threads to come. 0 or -errno in words. */
int magazines_begin(struct dma_pool *pool);

/* The pool has no magazines any more; what is parked in them is forgotten. */
void magazines_end(struct dma_pool *pool);

/* Blocks that are parked. Lock held. */
size_t magazines_parked(const struct dma_pool *pool);

/* The half that is worked on is empty: swap or fill it. False when the pool has no blocks. */
bool magazine_fill(struct dma_pool *pool, struct magazine *magazine);

/* The half that is worked on is full: make room in it. */
void magazine_spill(struct dma_pool *pool, struct magazine *magazine);

/* Put all blocks of this thread's magazine away. */
void magazine_flush(struct dma_pool *pool, struct magazine *magazine);

#endif
