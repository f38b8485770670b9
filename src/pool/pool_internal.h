/* SPDX-License-Identifier: MIT */
/*
 * pool_internal.h - what the files of this folder share
 *
 *   pool.c       the public calls; the fast paths
 *   bulk.c       the public calls for many blocks
 *   layout.c     where in a unit the blocks lie
 *   magazine.c   each thread's stacks of free blocks
 *   depot.c      where halves of them wait, full and empty
 *   unit.c       units of memory, and the bits of their unused blocks
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

enum {
	HALF_MAX = 256,		 /* blocks that each half of a magazine may hold */
	HALF_MIN = 4,		 /* what a new one may hold; it doubles with use */
	MAGAZINE_BYTES = 524288, /* of blocks that a magazine may hold */
	POOL_IDS = 256,		 /* pools with magazines; the others work without */
	POOL_TOPS = 32,		 /* of them, those whose magazines the fast paths reach */
	SHELVES = 8,		 /* of threads; a power of two */
	LOOK_FILLS = 64,	 /* fills from a shelf, until all of them are counted again */
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
	uint8_t *spare; /* arrays of states that are ready, each with a link to the next */
	size_t spare_count;
} __attribute__((aligned(64)));

struct dma_pool {
	struct arena_tenant tenant; /* first: the page map leads here */
	struct arena_tenant uncarved;

	/* What frees and allocations read; written once. */
	struct page *pages, *coded; /* coded: by the codes' indexes */
	uintptr_t window;
	size_t page_mask;      /* which bytes of an offset in the page map count */
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
	struct pool_place place;
	struct arena_shrinker shrinker;
	char name[32];

	struct shelf shelves[SHELVES];

	/* Guards all that follows; taken before those of shelves. */
	pthread_spinlock_t lock __attribute__((aligned(64)));
	size_t unit_count;
	size_t half_count;	   /* of all shelves */
	size_t fills, recent_high; /* since look_anew(): of magazines; the most that was away */
	bool parted;		   /* it may grow where there are blocks on other shelves */
	bool crowded;		   /* since look_anew(): it could not, or had to shrink */
	size_t high_water;
	struct magazine *magazines;
	struct slab *slabs; /* of state arrays */
	size_t grows, refused, bad_frees;

	struct dma_pool *next; /* in the device's list */
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

/* Lock held; units_reap_due() peeks without it. */
static inline void pool_set_fills(struct dma_pool *pool, size_t fills)
{
	__atomic_store_n(&pool->fills, fills, __ATOMIC_RELAXED);
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
 * All checks in the kernel's order, and the free if they hold. dma_offset: the handle less the
 * address, which is to be the page's.
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
 * The offset is divided by stride without a division. The product with the inverse of stride's odd
 * part is the quotient times 2^stride_log2, modulo 2^64, if there is no rest. Turned right by
 * stride_log2, any bit of a rest is above all that a number has: so this holds for any offset
 * (Granlund, Montgomery 1994; Warren: Hacker's Delight, 10-17).
 */
static inline uint64_t block_number(const struct dma_pool *pool, const void *vaddr)
{
	uint64_t product = ((uintptr_t)vaddr & (ARENA_PAGE - 1)) * pool->inverse;

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
	uint32_t number = code & CODE_NUMBER_MASK;
	const struct page *page = code_page(pool, code);
	struct block block;

	block.state = page->unit.state + number;
	block.vaddr = page->unit.base + number * pool->stride;
	block.handle = (uintptr_t)block.vaddr + page->dma_offset;
	return block;
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

/* A unit more. 0 or -ENOMEM in words. */
int units_grow(struct dma_pool *pool, gfp_t gfp);

/* The same where there are blocks elsewhere: not at others' expense, nor again once it failed. */
bool units_grow_apart(struct dma_pool *pool);

/* Give up to max units with no block out or in a thread's magazine back to the arena; how many. */
size_t units_trim(struct dma_pool *pool, size_t max);

/* So often magazines are filled before it is looked whether the pool has too much. */
#define UNIT_REAP_FILLS 1024

/*
 * Give back half of the units that were not needed since the last time, if that is long enough ago,
 * and idle chunks of the arena with them. Makes system calls.
 */
void units_reap(struct dma_pool *pool);

/* May it be? */
static inline bool units_reap_due(const struct dma_pool *pool)
{
	return unlikely(racy_load(&pool->fills) >= UNIT_REAP_FILLS);
}

/* All units go: idle ones to the arena, busy ones to the device's orphans. True if any was busy. */
bool units_end(struct dma_pool *pool);

/* ---- states.c ---- */

/* Do the states of a unit lie in its entry? */
static inline bool states_inline(const struct dma_pool *pool)
{
	return pool->per_unit <= sizeof(((struct page *)NULL)->unit.inline_state) && !pool->debug;
}

/* Have arrays ready for GFP_ATOMIC. 0 or -ENOMEM in words. */
int states_prepare(struct dma_pool *pool);

/* An array for a unit to come; NULL when none is ready, in words. */
uint8_t *states_get(struct dma_pool *pool, gfp_t gfp);

/* No unit needs it any more. */
void states_put(struct dma_pool *pool, uint8_t *states);

/* The pool ends, and all arrays with it. */
void states_end(struct dma_pool *pool);

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

/* How many are away, and how often magazines were filled; no lock is held. */
void pool_look(struct dma_pool *pool);

/* Its lock is held; pool_away() looks without. */
static inline void shelf_set_taken(struct shelf *shelf, ptrdiff_t taken)
{
	__atomic_store_n(&shelf->taken, taken, __ATOMIC_RELAXED);
}

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
