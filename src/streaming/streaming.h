/* SPDX-License-Identifier: MIT */
/*
 * streaming.h - mappings of one device, and what the mappings of a domain share
 *
 * What floor 6 needs; the structures are open since it embeds one.
 */
#ifndef STREAMING_STREAMING_H
#define STREAMING_STREAMING_H

#include <dmaland/scatterlist.h>
#include <dmaland/streaming.h>
#include "backend/revoke.h"
#include "iova/cache.h"
#include "memory/arena.h"
#include "pool/pool.h"
#include "streaming/page_table.h"
#include "streaming/registered.h"

/* Blocks to bounce through: 64 bytes, 128, ... 2 MiB. */
enum { BOUNCE_SHIFT_MIN = 6, BOUNCE_CLASSES = 16 };

/* Bytes that are copied at most. The largest blocks are twice that: a list's element keeps its offset. */
#define BOUNCE_MAX ((size_t)1 << 20)

/* Where nobody says from which size on mapping is cheaper than copying. */
#define COPY_BELOW_DEFAULT ((size_t)4096)

/*
 * Lazy mode, where the options leave it open. The kernel waits 10 ms too (drivers/iommu/dma-iommu.c);
 * its queues hold 256 for each CPU. 1,024 leave room for rows to become long when 64 mappings are in
 * flight and end in any order.
 */
enum { LAZY_COUNT_DEFAULT = 1024, LAZY_MS_DEFAULT = 10 };

enum way {
	WAY_ARENA,
	WAY_REGISTERED,
	WAY_SMALL, /* bounced, and why */
	WAY_LIMIT,
	WAY_UNMAPPABLE,
	WAY_UNTRUSTED,
	WAY_MAPPED,
	WAY_FAILED,
	WAY_BAD_CALL,
	WAY_BOUNCE_END, /* a bounced mapping is over */
	WAY_MAPPED_END, /* one that the domain made is */
	WAYS,
};

struct bounce_page;
struct streaming_thread;
struct thread_slots;
struct mapping;
struct mapping_slab;
struct follow;

/* Bookkeeping that was had where system calls are forbidden later, and not used yet: its pages are there once it is. */
struct bounce_ready {
	char *begin, *next, *end;
};

/* What the mappings of a domain share. Floor 6 makes one with the domain's arena. */
struct streaming_space {
	struct domain *domain;
	struct arena *arena;
	struct frames frames;
	struct registered registered;
	unsigned int users[2]; /* devices that are trusted, and that are not; guarded by lock */

	pthread_mutex_t lazy_lock;
	struct revoke_queue *revoke; /* NULL: no device is lazy */

	uint32_t lock;					 /* base/spin.h: all that follows */
	struct mapping *free_mappings;			 /* of ranges of addresses */
	struct mapping_slab *mapping_slabs, *free_slabs; /* all; those for slots to come */
	struct bounce_page *pages;			 /* all of them, page_count */
	size_t page_count;
	struct bounce_page *free_pages[BOUNCE_CLASSES];
	struct bounce_ready ready[BOUNCE_CLASSES];
};

struct streaming_options {
	bool untrusted, lazy, no_syscalls, debug;
	unsigned int lazy_count, lazy_ms; /* 0: the default */
	size_t copy_below;		  /* 0: the domain's */
};

/* A device's mappings; embedded in it. */
struct streaming {
	/* Read by every call, written when the device is set up. */
	const struct page
		*pages; /* the arena's, of its window; 0 bytes when it is not translated */
	uintptr_t window;
	size_t window_bytes;
	const struct dma_limits *limits;
	const struct frames *frames;
	struct streaming_thread *threads;  /* by their numbers, in a mapping of its own */
	struct thread_slots *shared_slots; /* of threads without slots of their own */
	struct thread_slots *all_slots;
	struct registered *registered; /* none: not translated, or not the short way */
	size_t short_below;	 /* bytes, less 1, of which little is to be checked; 0: all is */
	size_t bounce_below;	 /* bytes that are copied rather than mapped; 0: no */
	uintptr_t holds_nothing; /* word of a frame where an unmap or a sync has nothing to do */
	size_t slot_bytes; /* up to so many take a slot of addresses; 0 while limits forbid it */
	size_t granule;	   /* of the domain */
	bool translates;   /* false: the device is not trusted */
	bool disowned;	   /* this is the child of a fork: nothing is done */
	bool maps;	   /* the domain can map */
	bool shadow;	   /* the device has a copy of memory that is mapped: domain_ops.sync */

	struct streaming_options options;
	size_t copy_below;
	size_t page; /* bytes of a page of the CPU */
	struct streaming_space *space;
	struct dma_limits *own_limits; /* the same as limits */
	const char *name;
	struct iova_cache iova;
	struct arena_shrinker shrinker;
	struct follow *follow;		    /* debug mode: debug_mappings.c; or NULL */
	struct registration *registrations; /* that are its own; the registered lock guards them */

	/* Pools of blocks to bounce through, made when they are needed. */
	uint32_t slots_lock; /* base/spin.h: of shared_slots */
	pthread_mutex_t making;
	struct dma_limits bounce_limits; /* its coherent mask is the streaming mask */
	struct pool_list pool_list;
	struct arena_tenant *orphans;
	struct dma_pool *pools[BOUNCE_CLASSES];

	uint32_t granules_lock;		 /* base/spin.h */
	struct granule_buffer *granules; /* of devices that are not trusted, not in use */
	size_t granules_bytes;
};

/* ---- life ---- */

struct streaming_space *streaming_space_create(struct domain *domain, struct arena *arena);
void streaming_space_destroy(struct streaming_space *space);

/*
 * Begin; fills in the limits' part that mappings have alone. The options are checked: 0, -EINVAL,
 * -EOPNOTSUPP or -ENOMEM in words.
 */
int streaming_init(struct streaming *s, struct streaming_space *space, struct dma_limits *limits,
		   struct arena_tenant *orphans, const char *name,
		   const struct streaming_options *options);

/* Mappings that are not unmapped. */
uint64_t streaming_live(struct streaming *s);

/* The device is quiet: end all that is left. */
void streaming_fini(struct streaming *s);

/* In the child of a fork: from now on every call fails with EPERM. Takes no lock. */
void streaming_disown(struct streaming *s);

/* ---- limits ---- */

/* -EBUSY in words when memory above the mask is in use to bounce. */
int streaming_set_mask(struct streaming *s, uint64_t mask);
int streaming_set_boundary(struct streaming *s, uint64_t mask);
int streaming_set_min_align(struct streaming *s, uint64_t mask);
size_t streaming_max_size(const struct streaming *s);
bool streaming_can_map(const struct streaming *s);

/* Are elements of a list joined where they meet at granules? */
bool streaming_merges(const struct streaming *s);

/* ---- mappings ---- */

/* Registers of an open window, mapped where they lie. */
dma_addr_t streaming_map_registers(struct streaming *s, void *ptr, size_t size,
				   enum dma_data_direction direction, unsigned long attrs);
dma_addr_t streaming_map(struct streaming *s, void *ptr, size_t size, enum dma_data_direction dir,
			 unsigned long attrs);
void streaming_unmap(struct streaming *s, dma_addr_t dma, size_t size, enum dma_data_direction dir,
		     unsigned long attrs);
void streaming_sync(struct streaming *s, dma_addr_t dma, size_t size, enum dma_data_direction dir,
		    bool for_device);
bool streaming_need_sync(struct streaming *s, dma_addr_t dma);

/* The segments' count, or -errno. */
int streaming_map_sg(struct streaming *s, struct scatterlist *sg, int nents,
		     enum dma_data_direction dir, unsigned long attrs);
void streaming_unmap_sg(struct streaming *s, struct scatterlist *sg, int nents,
			enum dma_data_direction dir, unsigned long attrs);
void streaming_sync_sg(struct streaming *s, struct scatterlist *sg, int nents,
		       enum dma_data_direction dir, bool for_device);

int streaming_register(struct streaming *s, void *ptr, size_t size);
int streaming_unregister(struct streaming *s, void *ptr);

/* How many registrations are not what they were, each logged; -EOPNOTSUPP in words. */
int streaming_check(struct streaming *s);
void streaming_flush(struct streaming *s);
void streaming_get_stats(struct streaming *s, struct dmaland_streaming_stats *stats);

#endif
