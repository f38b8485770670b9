/* SPDX-License-Identifier: MIT */
/*
 * pool_internal.h - what the files of this folder share
 *
 *   pool.c       the public calls; the fast paths
 *   bulk.c       the public calls for many blocks
 *   layout.c     where in a unit the blocks lie
 *   magazine.c   each thread's stacks of free blocks: magazine.h
 *   depot.c      where halves of them wait, full and empty: magazine.h
 *   unit.c       units of memory, and the bits of their unused blocks
 *   grow.c       units that come and go
 *   states.c     arrays of state bytes
 *   word.h       bits of unused blocks, to codes and back
 *   debug.c      pools that are watched
 *
 * A block is out with the user or free; its state byte, outside of the device's reach, says which. A
 * free one is unused in its unit, where it has a bit, or parked in a thread's magazine.
 */
#ifndef POOL_POOL_INTERNAL_H
#define POOL_POOL_INTERNAL_H

#include "base/bits.h"
#include "pool/pool.h"

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/*
 * Where the public call came from, inside it; a function inlined into it may ask too. The call itself is never
 * inlined, by link-time optimization, since this would be where its caller came from.
 */
#define CALL_SITE     __builtin_return_address(0)
#define HAS_CALL_SITE __attribute__((noinline))

/* Moving: between the two, in a thread that looks at the block; only in pools with pool->debug. */
enum block_state { BLOCK_FREE, BLOCK_MOVING, BLOCK_OUT = PAGE_NOBODYS_STATE };

/* dma_pool_alloc() looks at a block's state and its own flags at a time. */
_Static_assert(!(BLOCK_OUT & (__GFP_RECLAIM | __GFP_ZERO)) && BLOCK_OUT <= UINT8_MAX &&
		       (__GFP_RECLAIM | __GFP_ZERO) <= UINT8_MAX,
	       "both go into a byte, and can be told apart");

/* What a pool without magazines does beside: flags of pool->debug. */
enum { POOL_CHECKED = 1, POOL_ANNOTATED = 2 };

/* Who had a block last, where the pool is watched: return addresses, NULL for none. */
struct block_record {
	const void *allocated, *freed;
};

/*
 * A free block as magazines hold it: one more than the index of its page in the page map, and its
 * number in its unit. All else is computed from it when it leaves.
 *
 * Two are no block's. CODE_NONE lies below the blocks of a half, and is found where they end: it
 * leads to the entry before the page map's first, whose block is never free. CODE_END lies above
 * the room of a half.
 */
typedef uint32_t block_code;

enum { CODE_NUMBER_BITS = 8, CODE_NUMBER_MASK = (1 << CODE_NUMBER_BITS) - 1 };

#define CODE_NONE 0u
#define CODE_END  UINT32_MAX

/* 16 bytes is the smallest block, and the window has no more pages than a code can tell. */
_Static_assert(ARENA_PAGE / 16 <= 1 << CODE_NUMBER_BITS, "a code holds a block's number");
_Static_assert(PAGEMAP_PAGES_MAX + 2 <= UINT64_C(1) << (32 - CODE_NUMBER_BITS), "and its page");

struct block {
	char *vaddr;
	dma_addr_t handle;
	uint8_t *state;
};

/* Of threads, by what they put away; a power of two. */
enum { SHELVES = 8 };

/*
 * What the threads of a shelf put away: lines of the cache that hardly leave their CPU. They look
 * here first, so that codes, states and entries stay in its cache too; and elsewhere before the
 * pool grows.
 *
 * The lock guards the shelf and the bits of all units that belong to it, in its list or in none.
 * What concerns several shelves is done with all of their locks held, in the order of the shelves:
 * so whoever has one may rely on which unit belongs where.
 */
struct shelf {
	pthread_spinlock_t lock;
	uint32_t units;	 /* list of those with unused blocks, the next to take from first */
	uint32_t halves; /* in both lists */
	uint32_t fills;	 /* of magazines, since look_anew() */
	size_t searched; /* pool->half_count when others had no empty half for this one */
	struct half *full, *empty; /* the depot */
	ptrdiff_t taken, peak;	   /* by its threads less put; the most since look_anew() */

	/*
	 * Its units are neighbours, as are their states: where those of two threads take turns, the
	 * CPU that fetches the lines ahead of one takes them from the other.
	 */
	struct page *run; /* pages that will be units: `uncarved` has them */
	size_t run_pages;
} __attribute__((aligned(64)));

struct dma_pool {
	struct arena_tenant tenant; /* first: the page map leads here */
	struct arena_tenant uncarved;

	/* What frees and allocations read; written once. */
	struct page *pages, *coded; /* coded: by the codes' indexes */
	uintptr_t window;
	size_t page_mask;      /* which bytes of an offset in the page map count */
	uintptr_t rest_mask;   /* an offset's bits in its page, and those beyond the page map */
	uintptr_t slot;	       /* of the tops of its magazines in thread_tops: bytes behind %fs */
	uint64_t inverse;      /* of stride's odd part, modulo 2^64: layout.c */
	uint64_t blocks;       /* per_unit; 0 where there is waste between the blocks of a unit */
	uint32_t stride_log2;  /* of the largest power of two that divides stride */
	uint32_t stride;       /* bytes from one block to the next: layout.c */
	uint32_t per_unit;     /* blocks of a unit */
	uint32_t words;	       /* of bits, that a unit has */
	uint32_t segment_log2; /* log2 of the boundary inside a unit */
	uint32_t per_segment;  /* blocks before each boundary */
	uint32_t half_max;     /* blocks that half a magazine may hold; 0: no magazines */
	uint32_t id;	       /* of its magazines in the tables of threads; 0: it has none */
	uint32_t shelf_count;  /* SHELVES; 1 in pools without magazines, which have one lock then */
	uint32_t size;	       /* bytes of a block */
	uint32_t debug;	       /* POOL_CHECKED, POOL_ANNOTATED */
	size_t unit_size;      /* bytes */
	size_t unit_align;
	char *arrays;	   /* of states, one for each page of the page map: states.c */
	size_t array_size; /* bytes */
	struct pool_place place;
	struct arena_shrinker shrinker;
	char name[32];

	struct shelf shelves[SHELVES];

	/* Guards all that follows; taken before those of shelves. */
	pthread_spinlock_t lock __attribute__((aligned(64)));
	size_t unit_count;
	size_t half_count;  /* of all shelves */
	size_t recent_high; /* the most that was away since look_anew() */
	bool reap_due;	    /* so long ago that it may have too much */
	bool parted;	    /* it may grow where there are blocks on other shelves */
	bool crowded;	    /* since look_anew(): it could not, or had to shrink */
	size_t high_water;
	struct magazine *magazines;
	size_t grows, refused, bad_frees;

	struct dma_pool *next, **link; /* in the device's list, and what leads here */
};

/* Other threads may write the byte meanwhile; either value will do. */
static inline uint8_t state_read(const uint8_t *state)
{
	return racy_load(state);
}

static inline void state_write(uint8_t *state, enum block_state value)
{
	__atomic_store_n(state, (uint8_t)value, __ATOMIC_RELAXED);
}

static inline block_code block_encode(size_t page_index, uint64_t number)
{
	return (block_code)(((page_index + 1) << CODE_NUMBER_BITS) + number);
}

static inline struct page *code_page(const struct dma_pool *pool, block_code code)
{
	return &pool->coded[code >> CODE_NUMBER_BITS];
}

/* In the child of a fork a pool is the parent's: none of its locks may be taken. */
static inline bool pool_is_disowned(const struct dma_pool *pool)
{
	return pool->place.arena->disowned;
}

/* Frees were found bad; any thread, with and without the lock. */
static inline void pool_note_bad(struct dma_pool *pool, uint32_t n)
{
	if (n)
		__atomic_fetch_add(&pool->bad_frees, n, __ATOMIC_RELAXED);
}

/* ---- layout.c ---- */

/*
 * The checks of dma_pool_create() in the kernel's order (mm/dmapool.c); fills in the layout. 0 or
 * -EINVAL in words.
 */
int pool_lay_out(struct dma_pool *pool, size_t size, size_t align, size_t boundary);

/* ---- pool.c ---- */

/* What the fast paths leave: no block or room, a bad free, a pool that is watched. */
bool pool_take_slowly(struct dma_pool *pool, gfp_t gfp, struct block *block, const void *site);

/*
 * All checks in the kernel's order, under a lock, and the free if they hold. dma_offset: the handle
 * less the address, which is to be the page's.
 */
void pool_free_slowly(struct dma_pool *pool, void *vaddr, uint64_t dma_offset, const void *site);

/* ---- from an address to its block, whatever the address ---- */

/* Where in the page map its page has an entry: bytes. */
static inline size_t entry_at(const struct dma_pool *pool, const void *vaddr)
{
	return ((uintptr_t)vaddr - pool->window) >> (ARENA_PAGE_SHIFT - PAGE_ENTRY_SHIFT) &
	       pool->page_mask;
}

static inline struct page *page_at(const struct dma_pool *pool, size_t at)
{
	return (struct page *)(void *)((char *)pool->pages + at);
}

static inline block_code code_at(size_t at, uint64_t number)
{
	return (block_code)(at << (CODE_NUMBER_BITS - PAGE_ENTRY_SHIFT)) + (block_code)number +
	       block_encode(0, 0);
}

/*
 * The number of the block of its page that begins there, if that is below pool->blocks: else none
 * does. A page in the middle of a unit has a number 0 that is never out.
 *
 * entry_at() drops the bits of an address that lead out of the page map. They count here, so that
 * the number of such an address is above all that a page has.
 *
 * The offset is divided by stride without a division. The product with the inverse of stride's odd
 * part is the quotient times 2^stride_log2, modulo 2^64, if there is no rest. Turned right by
 * stride_log2, any bit of a rest is above all that a number has: so this holds for any offset
 * (Granlund, Montgomery 1994; Warren: Hacker's Delight, 10-17).
 */
static inline uint64_t block_number(const struct dma_pool *pool, const void *vaddr)
{
	uint64_t product = (((uintptr_t)vaddr - pool->window) & pool->rest_mask) * pool->inverse;

	return product >> pool->stride_log2 | product << (-pool->stride_log2 & 63);
}

/* ---- unit.c ---- */

/* Units hang in lists by the index of their first page; this ends them. */
#define UNIT_NONE ((1u << 24) - 1)

_Static_assert(PAGEMAP_PAGES_MAX < UNIT_NONE, "no page's index ends a list");

/* The next one in its list. */
static inline uint32_t unit_next(const struct page *unit)
{
	return racy_load(&unit->unit.link) & UNIT_NONE;
}

/* The shelf that a unit belongs to, wherever it hangs. The lock of any shelf is held. */
static inline struct shelf *unit_shelf(struct dma_pool *pool, const struct page *unit)
{
	return &pool->shelves[racy_load(&unit->unit.link) / (UNIT_NONE + 1)];
}

static inline void unit_set_link(struct page *unit, uint32_t next, uint32_t shelf)
{
	__atomic_store_n(&unit->unit.link, next + shelf * (UNIT_NONE + 1), __ATOMIC_RELAXED);
}

/* The first page of the unit that a page of the pool belongs to. */
static inline struct page *unit_of(struct page *page)
{
	return page - page->run_offset;
}

/* The block of a code that a magazine held. */
static inline struct block block_decode(const struct dma_pool *pool, block_code code)
{
	const struct page *page = code_page(pool, code);
	uint32_t number = code & CODE_NUMBER_MASK;
	struct block block;

	block.state = racy_load(&page->unit.state) + number;
	block.vaddr = racy_load(&page->unit.base) + number * pool->stride;
	block.handle = (uintptr_t)block.vaddr + page->dma_offset;
	return block;
}

/*
 * The same for a code that may be a racing free's copy, which may have outlived its page's time with
 * the pool: false if it has, and then nothing may be read or written there. The unit's words are read
 * before the tenant, as in dma_pool_free().
 */
static inline bool block_find(const struct dma_pool *pool, block_code code, struct block *block)
{
	const struct page *page = code_page(pool, code);

	*block = block_decode(pool, code);
	return page_tenant_after(page, block->state) == &pool->tenant;
}

/* The same in pools whose units have waste between their blocks, and which have no magazines. */
struct block unit_block(const struct dma_pool *pool, block_code code);

/*
 * The number of the block that begins at an offset of the unit, or UINT32_MAX. There is a shorter
 * way, in pool.c, but for units with waste between their blocks.
 */
uint32_t unit_block_number(const struct dma_pool *pool, size_t offset);

/* Records of the unit's blocks, in pools that are watched. */
struct block_record *unit_records(const struct dma_pool *pool, const struct page *unit);

/*
 * The indexes of the pool's units; how many. By the time that they are looked at, some may be units
 * no more: then their page is not the pool's. NULL when there is no memory. The caller frees.
 */
uint32_t *units_list(struct dma_pool *pool, size_t *count);

/*
 * Take up to n unused blocks from a shelf, whose lock is held; codes[] has the lowest last. How
 * many.
 */
uint32_t units_take(struct dma_pool *pool, struct shelf *shelf, block_code *codes, uint32_t n);

/* The same from wherever there are some, for this thread. The locks of all shelves are held. */
uint32_t units_search(struct dma_pool *pool, block_code *codes, uint32_t n);

/*
 * Blocks that were parked are unused again. How many were so already or are out, being in another
 * magazine as well: two frees of one block raced; these are left out. The locks of all shelves are
 * held.
 */
uint32_t units_put(struct dma_pool *pool, const block_code *codes, uint32_t n);

/*
 * The same for blocks that this thread took; those that were refused are noted. Changes the array. No
 * lock of a shelf is held.
 */
void units_put_back(struct dma_pool *pool, block_code *codes, uint32_t n);

/*
 * The bits of a unit's unused blocks. One word lies in its entry; several lie before the states, and
 * the entry's then has a bit for each that is not 0.
 */
static inline uint64_t *unit_words(const struct dma_pool *pool, struct page *unit)
{
	void *states = unit->unit.state;

	return pool->words == 1 ? &unit->unit.unused : (uint64_t *)states - pool->words;
}

/* The unit belongs to this shelf from now on, and is the first of its list. */
void unit_push(struct dma_pool *pool, struct shelf *shelf, struct page *unit);

/* A unit leaves its shelf's list, where it is behind another one, or NULL if it is the first. */
void unit_unlink(struct dma_pool *pool, struct page *before, const struct page *unit);

/* Is none of its blocks out or parked? */
bool unit_is_idle(const struct dma_pool *pool, struct page *unit);

/* Nor is a block out that a racing free's copy says is unused? */
bool unit_may_leave(const struct dma_pool *pool, struct page *unit);

/* ---- grow.c ---- */

/* A unit more. 0 or -ENOMEM in words. */
int units_grow(struct dma_pool *pool, gfp_t gfp);

/* The same where there are blocks elsewhere: not at others' expense, nor again once it failed. */
bool units_grow_apart(struct dma_pool *pool);

/* Give up to max units with no block out or in a thread's magazine back to the arena; how many. */
size_t units_trim(struct dma_pool *pool, size_t max);

/*
 * Give back half of the units that were not needed since the last time, if that is long enough ago,
 * and idle chunks of the arena with them. Makes system calls.
 */
void units_reap(struct dma_pool *pool);

/* May it be? The lock is not held. */
static inline bool units_reap_due(const struct dma_pool *pool)
{
	return unlikely(racy_load(&pool->reap_due));
}

/* The lock is held. */
static inline void pool_set_reap_due(struct dma_pool *pool, bool due)
{
	__atomic_store_n(&pool->reap_due, due, __ATOMIC_RELAXED);
}

/* All units go: idle ones to the arena, busy ones to the device's orphans. True if any was busy. */
bool units_end(struct dma_pool *pool);

/* ---- states.c ---- */

/* Do the states of a unit lie in its entry? */
static inline bool states_inline(const struct dma_pool *pool)
{
	return pool->per_unit <= sizeof(((struct page *)NULL)->unit.inline_state) && !pool->debug;
}

/* Have an array for each page that is mapped, or will be. 0 or -ENOMEM in words. */
int states_prepare(struct dma_pool *pool);

/* Where the states of a unit to come are. */
uint8_t *states_of(const struct dma_pool *pool, struct page *unit);

#endif
