/* SPDX-License-Identifier: MIT */
/*
 * streaming_internal.h - what the files of this folder share
 *
 *   map.c          the calls: which way, and the checks at the end
 *   bounce.c       slots: blocks of pools, with what is copied through them
 *   mapped.c       mappings made by the domain, in place or through granules of their own
 *   sg.c           lists
 *   life.c         making, registering, ending
 *   report.c       what is said about bad calls
 *
 * What is known of a mapping lies in slots and mappings, which no device can reach. They are used
 * again, but never freed while the domain lives: a bad call may come too late, and find another
 * mapping's, but never something else.
 */
#ifndef STREAMING_STREAMING_INTERNAL_H
#define STREAMING_STREAMING_INTERNAL_H

#include "base/spin.h"
#include "streaming/streaming.h"

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define ATTRS_KNOWN                                                                                \
	(DMA_ATTR_WEAK_ORDERING | DMA_ATTR_WRITE_COMBINE | DMA_ATTR_NO_KERNEL_MAPPING |            \
	 DMA_ATTR_SKIP_CPU_SYNC | DMA_ATTR_FORCE_CONTIGUOUS | DMA_ATTR_ALLOC_SINGLE_PAGES |        \
	 DMA_ATTR_NO_WARN | DMA_ATTR_PRIVILEGED | DMA_ATTR_REQUIRE_COHERENT)

/* A piece of memory to be mapped, or what is claimed of one that is. */
struct piece {
	char *ptr; /* NULL in a claim: not told */
	size_t size;
	enum dma_data_direction direction;
	unsigned long attrs;
	uint32_t nents;	  /* of the list that it is of; 0: none */
	uint32_t entries; /* how many of them it covers */
};

/* ---- counting ---- */

extern _Thread_local uint32_t streaming_shard __attribute__((tls_model("initial-exec")));

/* A thread's first call. */
uint32_t streaming_shard_choose(void);

static inline uint32_t shard_number(void)
{
	uint32_t number = streaming_shard;

	return likely(number != UINT32_MAX) ? number : streaming_shard_choose();
}

/* A shard that is one thread's is counted in without a locked instruction. */
static inline void count_in(struct shard *shard, uint32_t number, enum way way)
{
	uint64_t *counter = &shard->ways[way];

	if (likely(number < EXCLUSIVE_SHARDS))
		__atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + 1,
				 __ATOMIC_RELAXED);
	else
		__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static inline void count_way(struct streaming *s, enum way way)
{
	uint32_t number = shard_number();

	count_in(&s->shards[number], number, way);
}

uint64_t streaming_count(const struct streaming *s, enum way way);

/* ---- limits ---- */

/* Does a dma address for this memory hold the device's limits? */
static inline bool limits_hold(const struct dma_limits *limits, const void *ptr, dma_addr_t dma,
			       size_t size)
{
	dma_addr_t end = dma + (size - 1);

	return end <= limits->streaming_mask && !((dma ^ end) & ~limits->seg_boundary) &&
	       !((dma ^ (uintptr_t)ptr) & limits->min_align_mask);
}

/* ---- bounce.c ---- */

enum slot_state { SLOT_NONE, SLOT_PARKED, SLOT_LIVE };

/* A block that the pool has given to us: live, or parked in a stack; and who is copied through it. */
struct bounce_slot {
	char *original;
	char *cpu;	/* where the copy is, at the block's offset */
	dma_addr_t dma; /* of the copy */
	uint32_t size;
	uint32_t offset; /* in the block, for low bits to be as the original's */
	uint32_t nents;	 /* as in struct piece */
	uint32_t entries;
	uint8_t state; /* enum slot_state */
	uint8_t direction;
	uint8_t class;
};

/* A page that has blocks of one of our pools, or the pages of one block. The slots are ours. */
struct bounce_page {
	struct streaming *owner;
	dma_addr_t dma;
	uint32_t shift; /* log2 of a block's size; never changes */
	uint32_t mask;	/* what of a dma address tells the block: offset in the page, or nothing */
	struct bounce_page *next_free;
	struct bounce_page *next; /* in the space's list of all */
	struct bounce_slot slots[];
};

static inline struct bounce_slot *bounce_page_slot(struct bounce_page *page, dma_addr_t dma)
{
	return &page->slots[(dma & page->mask) >> page->shift];
}

static inline uint8_t slot_state(const struct bounce_slot *slot)
{
	return __atomic_load_n(&slot->state, __ATOMIC_RELAXED);
}

static inline void slot_set_state(struct bounce_slot *slot, enum slot_state state)
{
	__atomic_store_n(&slot->state, (uint8_t)state, __ATOMIC_RELAXED);
}

static inline uint32_t bounce_class(size_t size)
{
	return size <= 1u << BOUNCE_SHIFT_MIN
		       ? 0
		       : 64 - BOUNCE_SHIFT_MIN - (uint32_t)__builtin_clzll(size - 1);
}

/* The top slot of this thread's stack, or NULL. */
static inline struct bounce_slot *slot_pop(struct shard *shard, uint32_t number, uint32_t class)
{
	struct bounce_slot *slot = NULL;
	uint32_t n;

	if (unlikely(number >= EXCLUSIVE_SHARDS))
		spin_lock(&shard->lock);
	n = shard->stacks[class].count;
	if (likely(n)) {
		slot = shard->stacks[class].slots[n - 1];
		shard->stacks[class].count = n - 1;
	}
	if (unlikely(number >= EXCLUSIVE_SHARDS))
		spin_unlock(&shard->lock);
	return slot;
}

/* False when there is no room. */
static inline bool slot_push(struct shard *shard, uint32_t number, struct bounce_slot *slot,
			     uint32_t room)
{
	uint32_t class = slot->class, n;

	if (unlikely(number >= EXCLUSIVE_SHARDS))
		spin_lock(&shard->lock);
	n = shard->stacks[class].count;
	if (likely(n < room)) {
		shard->stacks[class].slots[n] = slot;
		shard->stacks[class].count = n + 1;
	}
	if (unlikely(number >= EXCLUSIVE_SHARDS))
		spin_unlock(&shard->lock);
	return n < room;
}

/* A slot from the pool, the stack being empty; NULL with the error set. */
struct bounce_slot *bounce_slot_get(struct streaming *s, uint32_t class);

/* A slot whose state is SLOT_PARKED goes back to the pool, the stack being full. */
void bounce_slot_put(struct streaming *s, struct bounce_slot *slot);

/* Bounce a piece, whatever the limits. DMA_MAPPING_ERROR with the error set. */
dma_addr_t bounce_map(struct streaming *s, const struct piece *piece, enum way why);

/* It has ended; the checks have been made. */
void bounce_unmap(struct streaming *s, struct bounce_slot *slot, unsigned long attrs);

/* All slots and pools of a device go. */
void bounce_end(struct streaming *s);

/* Have pools and bookkeeping for a device that makes no system calls later. 0 or -ENOMEM. */
int bounce_prepare(struct streaming *s);

/* ---- mapped.c ---- */

enum mapping_state { MAPPING_FREE, MAPPING_LIVE, MAPPING_ENDED };

/* A mapping made by the domain. */
struct mapping {
	dma_addr_t dma; /* of the granules */
	size_t bytes;
	size_t offset, size; /* of the memory in them */
	char *original;
	struct granule_buffer *buffer; /* NULL: mapped in place */
	struct iova_place place;
	struct streaming *owner;
	uint32_t nents, entries; /* as in struct piece */
	uint32_t maps;		 /* calls of the domain's map */
	uint8_t state;		 /* enum mapping_state */
	uint8_t direction;
	struct mapping *next; /* free */
};

/* Map a piece where it lies, or through granules of its own. */
dma_addr_t mapped_map(struct streaming *s, const struct piece *piece);
dma_addr_t mapped_bounce(struct streaming *s, const struct piece *piece);

/* Map pieces, each but the last ending and each but the first beginning on a granule, side by side. */
dma_addr_t mapped_map_pieces(struct streaming *s, const struct piece *pieces, size_t n);

/* It has ended; the checks have been made. */
void mapped_unmap(struct streaming *s, struct mapping *mapping, unsigned long attrs);

/* Part of a mapping to the device or from it, whatever the direction. */
void mapped_copy(struct streaming *s, struct mapping *mapping, size_t offset, size_t size,
		 bool for_device);

/* Bytes that lie at ptr are whole granules. */
bool mapped_is_whole(const struct streaming *s, const void *ptr, size_t size);

/* End all mappings of a device. */
void mapped_end(struct streaming *s);

/* released() of the space's revoke queue. */
void mapped_released(void *mapping, bool revoked);

/*
 * dma addresses for granules at cpu, with the device's limits, congruent for hugepages where it
 * pays. many: they are for many mappings, and only those need not cross the segment boundary.
 */
int mapped_take_addresses(struct streaming *s, const void *cpu, size_t bytes, bool many,
			  struct iova_place *place, dma_addr_t *dma);

void mapped_give_addresses(struct streaming *s, const struct iova_place *place);

/* The domain's map; what waits to be revoked counts against its limits, and goes if need be. */
int mapped_domain_map(struct streaming *s, dma_addr_t dma, char *cpu, size_t size,
		      unsigned int access);

/* The bookkeeping of a domain that nobody uses any more. */
void mapped_space_end(struct streaming_space *space);

/* ---- map.c ---- */

/* Choose a way for a piece of a list. */
dma_addr_t piece_map(struct streaming *s, const struct piece *piece);

/* Is there something of s at dma that is as claimed? Reported if not. */
bool piece_check(struct streaming *s, dma_addr_t dma, const struct piece *claim);

/* End it, after piece_check(). */
void piece_unmap(struct streaming *s, dma_addr_t dma, size_t size,
		 enum dma_data_direction direction, unsigned long attrs);

/* Which way would it go? Neither: it would be bounced. */
bool piece_is_translated(struct streaming *s, const struct piece *piece);
bool piece_is_mapped(struct streaming *s, const struct piece *piece);

/* 0, or -EINVAL in words. */
int request_check(struct streaming *s, const void *ptr, size_t size,
		  enum dma_data_direction direction, unsigned long attrs);

/* ---- report.c ---- */

/* What is at an address; also for what is not as it is claimed to be. */
struct holding {
	dma_addr_t dma;
	size_t size;
	const char *original;
	uint32_t nents, entries;
	enum dma_data_direction direction;
};

void report_bad_unmap(struct streaming *s, dma_addr_t dma, const struct piece *claim,
		      const struct holding *holding);
void report_not_allocated(struct streaming *s, dma_addr_t dma, size_t size, bool sync);
void report_bad_sync(struct streaming *s, dma_addr_t dma, size_t size,
		     enum dma_data_direction direction, const struct holding *holding);
void report_bad_list(struct streaming *s, const char *what, int nents);

#endif
