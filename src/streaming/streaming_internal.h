/* SPDX-License-Identifier: MIT */
/*
 * streaming_internal.h - what the files of this folder share
 *
 *   map.c          which way
 *   unmap.c        what is at an address; unmap and sync, and the checks at the end
 *   bounce.c       slots: blocks of pools, with what is copied through them
 *   bounce_page.c  what is known of the pages that these lie in
 *   mapped.c       mappings made by the domain, in place or through granules of their own
 *   mapping_slab.c      where what is known of the latter is kept
 *   granules.c     memory to copy through for devices that are not trusted
 *   sg.c           lists
 *   register.c     memory that is mapped until further notice
 *   setup.c         making, ending, limits
 *   debug_registered.c  debug mode: registered memory that the program unmapped
 *   debug_mappings.c    debug mode: mappings that are translated
 *   report.c       what is said about bad calls
 *
 * What is known of a mapping lies in slots and mappings, which no device can reach. They are used
 * again, but never freed while the domain lives: a bad call may come too late, and find another
 * mapping's, but never something else.
 */
#ifndef STREAMING_STREAMING_INTERNAL_H
#define STREAMING_STREAMING_INTERNAL_H

#include "backend/mmio.h"
#include "base/bits.h"
#include "base/spin.h"
#include "base/thread.h"
#include "streaming/streaming.h"

#define ATTRS_KNOWN                                                                                \
	(DMA_ATTR_WEAK_ORDERING | DMA_ATTR_WRITE_COMBINE | DMA_ATTR_NO_KERNEL_MAPPING |            \
	 DMA_ATTR_SKIP_CPU_SYNC | DMA_ATTR_FORCE_CONTIGUOUS | DMA_ATTR_ALLOC_SINGLE_PAGES |        \
	 DMA_ATTR_NO_WARN | DMA_ATTR_PRIVILEGED | DMA_ATTR_DEBUGGING_IGNORE_CACHELINES |           \
	 DMA_ATTR_REQUIRE_COHERENT)

/* A piece of memory to be mapped, or what is claimed of one that is. */
struct piece {
	char *ptr; /* NULL in a claim: not told */
	size_t size;
	enum dma_data_direction direction;
	unsigned long attrs;
	uint32_t nents;	    /* of the list that it is of; 0: none */
	uint32_t entries;   /* how many of them it covers */
	uint64_t same_bits; /* in all its dma addresses: of a list, ~seg_boundary; or 0 */
};

struct bounce_slot;

/* Slots that a thread parks of a class, at most. */
enum { STACK_MAX = 31 };

/* Free slots of one class; 256 bytes. */
struct slot_stack {
	uint32_t count, room; /* 0 until it is used */
	struct bounce_slot *slots[STACK_MAX];
};

struct thread_slots {
	struct slot_stack of[BOUNCE_CLASSES];
	struct thread_slots *next; /* in the device's list of all */
};

/* What a thread has for itself; the first is of threads that have no number, which count by atomic operations. */
struct streaming_thread {
	uint64_t ways[WAYS];	    /* how often */
	struct thread_slots *slots; /* NULL: none yet */
} __attribute__((aligned(THREAD_STRIDE)));

_Static_assert(sizeof(struct streaming_thread) == THREAD_STRIDE,
	       "it is found by the thread's offset");

static inline struct streaming_thread *thread_at(const struct streaming *s, size_t offset)
{
	return (struct streaming_thread *)(void *)((char *)s->threads + offset);
}

/* With errno and the sentence set. */
static inline bool streaming_is_disowned(const struct streaming *s)
{
	return s->disowned && error_forked(s->name);
}

/* ---- counting ---- */

/* Not the first: without a locked instruction. */
static inline void count_own(struct streaming_thread *thread, enum way way)
{
	racy_add(&thread->ways[way], 1);
}

/* By a thread that has no number yet, and may get none. */
void count_way_slowly(struct streaming *s, enum way way);

static inline void count_way(struct streaming *s, enum way way)
{
	size_t offset = thread_offset;

	if (likely(offset))
		count_own(thread_at(s, offset), way);
	else
		count_way_slowly(s, way);
}

uint64_t streaming_count(const struct streaming *s, enum way way);

/* ---- limits ---- */

/* Does a dma address for this memory hold the limits that all mappings have? */
static inline bool limits_hold(const struct dma_limits *limits, const void *ptr, dma_addr_t dma,
			       size_t size)
{
	dma_addr_t end = dma + (size - 1);

	return end <= limits->streaming_mask && !((dma ^ (uintptr_t)ptr) & limits->min_align_mask);
}

/* Would an address with these low bits of the piece's own cross the segment boundary? */
static inline bool place_crosses(const struct piece *piece, uint64_t bits)
{
	uint64_t first = (uintptr_t)piece->ptr & bits, last = first + (piece->size - 1);

	return (first ^ last) & piece->same_bits;
}

/* Can the domain map the piece where it lies, so that it does not? */
static inline bool fits_in_place(const struct streaming *s, const struct piece *piece)
{
	return !piece->same_bits ||
	       !place_crosses(piece, s->limits->min_align_mask | (s->granule - 1));
}

/* Does the piece begin or end at the edge of a page, or cross one? */
static inline bool piece_touches_edge(const struct streaming *s, const struct piece *piece)
{
	size_t inside = (uintptr_t)piece->ptr & (s->page - 1);

	return !inside || inside + piece->size >= s->page;
}

/*
 * The low bits of a copy's dma address that must be the original's. A driver walks a list in pages
 * from the first segment's offset on: it takes for granted that segments meet at the edges of pages,
 * as the elements do. Where no address keeps the offset within the segment boundary, the offset goes.
 */
static inline uint64_t piece_kept_bits(const struct streaming *s, const struct piece *piece)
{
	uint64_t bits = s->limits->min_align_mask, page = bits | (s->page - 1);

	if (likely(piece->nents < 2))
		return bits;
	return piece_touches_edge(s, piece) && !place_crosses(piece, page) ? page : bits;
}

/* ---- who has the bytes of a mapping: where s->shadow is set ---- */

static inline void shadow_hand(struct streaming *s, enum domain_hand what, dma_addr_t dma,
			       size_t size, const void *memory)
{
	s->space->domain->ops->hand(s->space->domain, what, dma, size, memory);
}

/* ---- bounce.c ---- */

enum slot_state { SLOT_NONE, SLOT_PARKED, SLOT_LIVE };

/* Of a slot's `rare`, above the offset in the block, for low bits to be as the original's. */
enum {
	SLOT_OFFSET = 0xffff,
	SLOT_GATHERED = 1 << 16, /* original is where the first element lies: bounce_originals() */
	SLOT_SHADOW = 1 << 17,	 /* the device has a copy of its own */
};

/* A block that the pool has given to us: live, or parked in a stack; and who is copied through it. */
struct bounce_slot {
	uint64_t
		key; /* enum slot_state; of a live one also direction, and nents as in struct piece */
	size_t size;
	dma_addr_t dma; /* of the copy */
	char *cpu;	/* the same, for us; at the block's offset */
	char *original;
	struct streaming *owner;
	uint32_t stack; /* where in a thread's slots its stack is, in bytes */
	uint32_t rare;	/* what is to be done at its end beside the copy */
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct bounce_slot) == 64, "a slot is a line of the cache");

/* Whatever direction is claimed, it is no other key's. */
enum { SLOT_DIRECTION_SHIFT = 2, SLOT_NENTS_SHIFT = 34 };

/* Of a live slot. */
static inline uint64_t slot_key(enum dma_data_direction direction, uint32_t nents)
{
	return SLOT_LIVE | (uint64_t)direction << SLOT_DIRECTION_SHIFT |
	       (uint64_t)nents << SLOT_NENTS_SHIFT;
}

static inline uint64_t slot_get_key(const struct bounce_slot *slot)
{
	return __atomic_load_n(&slot->key, __ATOMIC_RELAXED);
}

static inline void slot_set_key(struct bounce_slot *slot, uint64_t key)
{
	__atomic_store_n(&slot->key, key, __ATOMIC_RELAXED);
}

static inline enum slot_state slot_state(const struct bounce_slot *slot)
{
	return (enum slot_state)(slot_get_key(slot) & 3);
}

static inline enum dma_data_direction slot_direction(const struct bounce_slot *slot)
{
	return (enum dma_data_direction)(uint32_t)(slot_get_key(slot) >> SLOT_DIRECTION_SHIFT);
}

static inline uint32_t slot_class(const struct bounce_slot *slot)
{
	return slot->stack / (uint32_t)sizeof(struct slot_stack);
}

/*
 * A page that has blocks of one of our pools, or the pages of one block. The slots are ours. Behind the
 * slot of a block of several pages lies, for each of them, which memory is copied through it.
 */
struct bounce_page {
	struct streaming *owner;
	uint32_t shift; /* log2 of a block's size; never changes */
	uint32_t mask;	/* what of a dma address tells the block: offset in the page, or nothing */
	struct bounce_page *next_free;
	struct bounce_page *next; /* in the space's list of all */
	bool is_ready;		  /* of space->ready */
	struct bounce_slot slots[];
};

/* That a frame's word of kind FRAME_BOUNCE leads to. */
static inline struct bounce_page *bounce_page_at(uintptr_t word)
{
	return (struct bounce_page *)(word - FRAME_BOUNCE);
}

static inline struct bounce_slot *bounce_page_slot(struct bounce_page *page, dma_addr_t dma)
{
	struct bounce_slot *slot = &page->slots[(dma & page->mask) >> page->shift];

	__asm__("" : "+r"(slot)); /* gcc would compute it at each use */
	return slot;
}

/* For each frame of a gathered slot's block, where in the program's memory it would begin. */
static inline uintptr_t *bounce_originals(struct bounce_slot *slot)
{
	return (uintptr_t *)(void *)(slot + 1);
}

/* Bytes of a block of the class. */
static inline size_t bounce_class_size(uint32_t class)
{
	return (size_t)1 << (BOUNCE_SHIFT_MIN + class);
}

static inline uint32_t bounce_class(size_t size)
{
	return (uint32_t)(63 ^ __builtin_clzll((size - 1) | ((1u << BOUNCE_SHIFT_MIN) - 1))) -
	       (BOUNCE_SHIFT_MIN - 1);
}

/* The top slot of a stack, or NULL. The stack is the thread's, or locked. */
static inline struct bounce_slot *stack_pop(struct slot_stack *stack)
{
	if (unlikely(!stack->count))
		return NULL;
	return stack->slots[--stack->count];
}

/* False when there is no room. */
static inline bool stack_push(struct slot_stack *stack, struct bounce_slot *slot)
{
	if (unlikely(stack->count == stack->room))
		return false;
	stack->slots[stack->count++] = slot;
	return true;
}

/* A slot from the pool, the stack being empty; NULL with the error set. */
struct bounce_slot *bounce_slot_get(struct streaming *s, uint32_t class);

/* A slot whose state is SLOT_PARKED goes back to the pool, the stack being full. */
void bounce_slot_put(struct streaming *s, struct bounce_slot *slot);

/* Bounce a piece, whatever the limits. DMA_MAPPING_ERROR with the error set. */
dma_addr_t bounce_map(struct streaming *s, const struct piece *piece, enum way why);

/* The same for what is below s->bounce_below, and alone: nents is 0 or 1. It is counted, too, when it fails. */
dma_addr_t bounce_map_small(struct streaming *s, void *ptr, size_t size,
			    enum dma_data_direction direction, uint32_t nents);

/* The same for elements that meet at granules, and are copied to lie side by side; as one piece. */
dma_addr_t bounce_map_list(struct streaming *s, const struct piece *piece,
			   const struct scatterlist *sg);

/* A part, to the copy or from it. */
void bounce_copy(struct bounce_slot *slot, size_t offset, size_t size, bool for_device);

/* It has ended; the checks have been made. wanted: what the device wrote. */
void bounce_unmap(struct streaming *s, struct bounce_slot *slot, bool wanted);

static inline bool copy_is_wanted(enum dma_data_direction direction, unsigned long attrs)
{
	return direction != DMA_TO_DEVICE && !(attrs & DMA_ATTR_SKIP_CPU_SYNC);
}

/* Slots that this thread has parked, and threads that ended, go back to the pools. */
void bounce_flush(struct streaming *s);

/* All slots and pools of a device go. No shrinker of it is called meanwhile. */
void bounce_end(struct streaming *s);

/* Have pools and bookkeeping for a device that makes no system calls later. 0 or -ENOMEM. */
int bounce_prepare(struct streaming *s);

/* ---- bounce_page.c ---- */

/* Keeps it with the pools' memory; the context is the device. */
extern const struct pool_memory_ops bounce_pages;

/* Bytes of blocks that are parked, with any thread. */
size_t bounce_parked(struct streaming *s);

/* From now on there is bookkeeping for some pages that nobody uses. 0, or -ENOMEM in words. */
int bounce_pages_ready(struct streaming_space *space, uint32_t class);

/* The domain's last device is closed. */
void bounce_ready_end(struct streaming_space *space);

/* All of the device's blocks go back to their pools. */
void bounce_slots_end(struct streaming *s);

/* ---- mapped.c ---- */

enum mapping_state { MAPPING_ENDED, MAPPING_LIVE };

/*
 * A mapping made by the domain. It lies beside a slot of addresses, for as long as the slab is there,
 * and frames lead to it all the while; or is taken for a range of them.
 */
struct mapping {
	dma_addr_t dma; /* of the granules */
	size_t bytes;
	struct streaming *owner;
	size_t offset, size; /* of the memory in them */
	char *original;
	struct granule_buffer *buffer; /* NULL: mapped in place */
	uint32_t nents;		       /* as in struct piece */
	uint32_t maps;		       /* calls of the domain's map */
	uint8_t state;		       /* enum mapping_state */
	uint8_t direction;
	uint8_t which;	      /* of its slab */
	struct mapping *next; /* free, of ranges */
};

/* Never freed while the domain lives: a frame's word may lead somebody here. */
struct mapping_slab {
	struct iova_slab addresses; /* its slot_size is 0 where each mapping has a range */
	struct revoke_group group;
	struct mapping_slab *next, *next_free;
	struct mapping mappings[IOVA_SLAB_SLOTS];
};

static inline struct mapping_slab *mapping_slab_of(struct mapping *mapping)
{
	char *mappings = (char *)(mapping - mapping->which);

	return (struct mapping_slab *)(void *)(mappings - offsetof(struct mapping_slab, mappings));
}

static inline struct mapping_slab *mapping_slab_of_group(const struct revoke_group *group)
{
	char *member = (char *)(uintptr_t)group;

	return (struct mapping_slab *)(void *)(member - offsetof(struct mapping_slab, group));
}

/* Map a piece where it lies, or through granules of its own. DMA_MAPPING_ERROR with the error set. */
dma_addr_t mapped_map(struct streaming *s, const struct piece *piece);
dma_addr_t mapped_bounce(struct streaming *s, const struct piece *piece);

/* Map elements that lie side by side or meet at granules; piece is the first, with the size of all. */
dma_addr_t mapped_map_list(struct streaming *s, const struct piece *piece,
			   const struct scatterlist *sg);

/* It has ended; the checks have been made. */
void mapped_unmap(struct streaming *s, struct mapping *mapping, unsigned long attrs);

/* Part of a mapping to the device or from it, whatever the direction. */
void mapped_copy(struct streaming *s, struct mapping *mapping, size_t offset, size_t size,
		 bool for_device);

/* Bytes that lie at ptr are whole granules. */
bool mapped_is_whole(const struct streaming *s, const void *ptr, size_t size);

/* End all mappings of a device. */
void mapped_end(struct streaming *s);

/* Of the space's revoke queue. */
struct revoke_entry mapped_entry(const struct revoke_group *group, unsigned int which);
void mapped_released(struct revoke_group *group, unsigned int which, bool revoked);

/*
 * dma addresses for granules at cpu, with the device's limits, congruent for hugepages where it
 * pays. None crosses a multiple of boundary plus 1.
 */
int mapped_take_range(struct streaming *s, const void *cpu, size_t bytes, uint64_t boundary,
		      dma_addr_t *dma);

/*
 * Mapping something failed with err: is it to be tried again, since something idle was given up that may
 * have been in the way? *given_up: 0 at first. If not, the error's sentence says what is in the way. Takes
 * the arena's locks.
 */
bool mapped_try_again(struct streaming *s, int err, unsigned int *given_up);

/* ---- mapping_slab.c ---- */

/* A device's cache of addresses has its slabs in mapping_slab. */
extern const struct iova_slab_ops mapping_slab_ops;

/* A mapping for a range of addresses; NULL with the error set. */
struct mapping *mapping_get(struct streaming_space *space);
void mapping_put(struct streaming_space *space, struct mapping *mapping);

/* From now on its frames, whose tables are there, lead to it. */
void mapping_mark(const struct mapping *mapping);

/* One of the device's that is live; NULL when there is none. */
struct mapping *mapping_first_live(struct streaming *s);

/* The bookkeeping of a domain that nobody uses any more. */
void mappings_end(struct streaming_space *space);

/* ---- granules.c ---- */

struct granule_buffer {
	struct granule_buffer *next;
	char *cpu;
	size_t size;
};

/* Zeroed granules, a power of two of bytes that covers size; NULL with the error set. */
struct granule_buffer *granules_get(struct streaming *s, size_t size);
void granules_put(struct streaming *s, struct granule_buffer *buffer);

/* Those that are kept go. */
void granules_free(struct streaming *s);

/* ---- map.c ---- */

/* streaming_map() of a list of one. */
dma_addr_t streaming_map_element(struct streaming *s, void *ptr, size_t size,
				 enum dma_data_direction direction, unsigned long attrs);

/* Choose a way for a piece of a list. */
dma_addr_t piece_map(struct streaming *s, const struct piece *piece);

/* The same for an element alone, which may cross its boundary where no way holds it. */
dma_addr_t element_map(struct streaming *s, struct piece *piece);

/* Which way a piece would go. */
enum piece_way {
	PIECE_TRANSLATED,
	PIECE_MAPPED,
	PIECE_COPIED,
	PIECE_REFUSED, /* within the limits and options there is none */
};

enum piece_way piece_way(struct streaming *s, const struct piece *piece);

/* May so many bytes be copied, so that the boundary holds? */
bool piece_can_be_copied(const struct streaming *s, const struct piece *piece);

/* ---- unmap.c ---- */

/* Is there something of s at dma that is as claimed? Reported if not. */
bool piece_check(struct streaming *s, dma_addr_t dma, const struct piece *claim);

/* dma_unmap_sg() of a list of one. */
void element_unmap(struct streaming *s, const struct scatterlist *sg,
		   enum dma_data_direction direction, unsigned long attrs);

/* End it, after piece_check(). */
void piece_unmap(struct streaming *s, dma_addr_t dma, const struct piece *claim);

/* ---- register.c ---- */

/* What the device has registered is no more. Where some of it stays mapped, it is nobody's, and keeps its addresses. */
void registrations_end(struct streaming *s);

/* ---- debug_registered.c: nothing unless the device is in debug mode ---- */

/* The registered lock is held. The memory is registered now; will be no more. */
void watch_begin(struct streaming *s, struct registration *registration);
void watch_end(struct streaming *s, struct registration *registration);

/* Is registered memory what it was? 0; -EFAULT in words. The lock is not held. */
int watch_check(struct streaming *s, const void *ptr, size_t size);

/* ---- report.c ---- */

static inline bool is_direction(unsigned int direction)
{
	return direction <= DMA_FROM_DEVICE;
}

/* May this be mapped? 0, or -EINVAL in words. */
int request_check(struct streaming *s, const void *ptr, size_t size,
		  enum dma_data_direction direction, unsigned long attrs);

/*
 * Is all of it memory of the program? A size that is wrong by far is refused here in microseconds, before
 * bookkeeping is made for it, which grows with the size and stays. Less than this is left to the domain.
 */
#define PRESENCE_CHECK_FROM ((size_t)2 << 20)
int presence_check(struct streaming *s, const void *ptr, size_t size);

/* Memory that is not translated: 0, or -EINVAL in words where it is a window of registers, of whatever device. */
int registers_check_near(struct streaming *s, const void *ptr, size_t size);

static inline int registers_check(struct streaming *s, const void *ptr, size_t size)
{
	return unlikely(mmio_is_near(ptr, size)) ? registers_check_near(s, ptr, size) : 0;
}

/* What is at an address; also for what is not as it is claimed to be. */
struct holding {
	dma_addr_t dma;
	size_t size;
	const char *original;
	uint32_t nents;
	enum dma_data_direction direction;
};

/* Is it what is claimed of it? */
static inline bool claim_holds(const struct piece *claim, dma_addr_t dma,
			       const struct holding *holding)
{
	return dma == holding->dma && claim->size == holding->size &&
	       claim->direction == holding->direction && claim->nents == holding->nents &&
	       (!claim->ptr || claim->ptr == holding->original);
}

/* May this be synced? As in the kernel, what is mapped for both may be synced for one. */
static inline bool sync_holds(dma_addr_t dma, size_t size, enum dma_data_direction direction,
			      const struct holding *holding)
{
	return dma >= holding->dma && dma - holding->dma <= holding->size &&
	       size <= holding->size - (dma - holding->dma) && is_direction(direction) &&
	       (holding->direction == DMA_BIDIRECTIONAL || holding->direction == direction);
}

void report_bad_unmap(struct streaming *s, dma_addr_t dma, const struct piece *claim,
		      const struct holding *holding);
void report_not_allocated(struct streaming *s, dma_addr_t dma, size_t size, bool sync);
void report_bad_sync(struct streaming *s, dma_addr_t dma, size_t size,
		     enum dma_data_direction direction, const struct holding *holding);
void report_bad_list(struct streaming *s, const char *what, int nents);

/* ---- debug_mappings.c: where s->follow is not NULL ---- */

int follow_start(struct streaming *s); /* 0 or -ENOMEM in words */
void follow_stop(struct streaming *s);

/* Mappings that are not unmapped. */
uint64_t follow_live(struct streaming *s);

/* A mapping that is translated begins; 0 or -ENOMEM in words. */
int follow_begin(struct streaming *s, dma_addr_t dma, const struct piece *piece);

/* Is there one as claimed, or one that may be synced so? Reported if not. */
bool follow_check(struct streaming *s, dma_addr_t dma, const struct piece *claim);
bool follow_sync(struct streaming *s, dma_addr_t dma, size_t size,
		 enum dma_data_direction direction);

/* One that is as claimed ends, if it is there. */
void follow_end(struct streaming *s, dma_addr_t dma, const struct piece *claim);

#endif
