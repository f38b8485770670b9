/* SPDX-License-Identifier: MIT */
/*
 * arena.h - memory that is mapped for the device and stays mapped
 *
 * One arena a domain. It holds chunks that the domain provided, each with one dma offset, and hands
 * out runs of pages from them. Growing is the only thing that enters the kernel.
 */
#ifndef MEMORY_ARENA_H
#define MEMORY_ARENA_H

#include <pthread.h>

#include <dmaland/types.h>
#include "backend/backend.h"
#include "base/rt_lock.h"
#include "iova/limits.h"
#include "memory/free_runs.h"
#include "memory/pagemap.h"
#include "memory/reserve.h"

/*
 * As in the kernel: fail rather than have others give up what they hold. Here, too, rather than take
 * from what is left for GFP_ATOMIC. For callers in the library.
 */
#define __GFP_NORETRY 8u

/* In the list of its tenant's runs; as in page_number(), 0: none. */
struct run_links {
	uint32_t next, prev;
};

struct arena_chunk {
	struct tree_node node;	  /* first; its key is the dma address */
	struct arena_chunk *next; /* descending dma addresses */
	struct chunk memory;
	size_t pages, free_pages;

	/* free_runs.c */
	struct fit best;	 /* of the chunk and those below it in the tree */
	size_t free_below;	 /* so too: free pages */
	struct page *entries;	 /* in the page map */
	unsigned int orders;	 /* alignments to fewer than 2^this hold for CPU and device alike */
	size_t leaves;		 /* a power of two */
	uint32_t *edges;	 /* a bit a page: the first or last of a free run */
	struct run_links *links; /* run.c: one a page, for runs that begin there */
	struct fit fits[]; /* of leaf i at leaves + i; of 2i and 2i + 1 at i; of the chunk at 1 */
};

/* Who takes runs; embedded in what uses them. But for the first it begins as zeroes. */
struct arena_tenant {
	const struct dma_limits *limits; /* those of its device: also tells devices apart */
	uint32_t runs;			 /* page_number() of the latest; guarded by arena.lock */
	struct arena_visit *visits;	 /* those who go through the list; so too */
};

/* Bytes of pages that are taken and not in use. */
struct arena_idle {
	size_t kept;   /* free: pages, and blocks of slabs that no thread has */
	size_t parked; /* free blocks in threads' slabs, and those that threads copy through */
};

/*
 * Somebody who holds pages, or addresses, that he could give back when they run short. `growing` is held.
 */
struct arena_shrinker {
	struct arena_shrinker *next, **link; /* in arena.shrinkers; link is what points here */
	void (*shrink)(struct arena_shrinker *shrinker);
	void (*count)(struct arena_shrinker *shrinker, struct arena_idle *idle); /* adds */
};

struct arena {
	struct domain *domain;
	unsigned int devices;	/* that use it; guarded by the domain's lock */
	bool disowned;		/* in the child of a fork: no lock of it may be taken */
	struct pagemap pagemap; /* its list of arrays: guarded by growing */

	/* One at a time adds or removes chunks; held across system calls. */
	pthread_mutex_t growing;
	struct arena_shrinker *shrinkers; /* guarded by growing; the oldest first */
	struct arena_shrinker **shrinkers_end;

	struct rt_lock lock;	    /* all that follows; never held across a system call */
	struct arena_chunk *chunks; /* the list changes under growing, too */
	struct tree tree;	    /* the same, by dma address */
	size_t pages, free_pages;
	struct arena_reserve *reserves;
	uint64_t last;	  /* highest dma address that can come: wider masks are one */
	bool refill_due;  /* GFP_ATOMIC took pages; others look without the lock */
	size_t low_pages; /* since growing failed, so many may be taken under narrower masks */
};

/*
 * Pages that GFP_KERNEL leaves for GFP_ATOMIC under each mask as long as the arena can grow. The
 * kernel keeps 128 KiB at the least for its atomic pools (kernel/dma/pool.c); so do we, with 4 KiB
 * pages.
 */
#define ARENA_RESERVE_PAGES 32

/* Looking for a device's runs, the lock is held over the entries of so many pages at most. */
#define ARENA_PAGES_AT_ONCE 64

int arena_create(struct domain *domain, struct arena **arena);

/* End the arena, which nobody uses any more; what the domain does not take back is left to it. */
void arena_destroy(struct arena *arena);

/*
 * Take a run of size bytes, rounded up to pages, aligned to align (a power of two) for CPU and
 * device, under the tenant's coherent mask. On success *first is the entry of its first page.
 * -ENOMEM in words otherwise; of GFP_ATOMIC, too, where another thread holds the lock for longer than
 * rt_lock_try() tries. Content is undefined.
 */
int arena_take(struct arena *arena, struct arena_tenant *tenant, size_t size, size_t align,
	       gfp_t gfp, struct page **first);

/* Give a run back. Makes no system call, but where another thread holds the lock for long. */
void arena_give(struct arena *arena, struct page *first);

/* From now on the run is another tenant's. May sleep. */
void arena_hand_over(struct arena *arena, struct page *first, struct arena_tenant *tenant);

/*
 * Give back a run if address is its start, the tenant has it and accept(first, context) agrees, in
 * one step against others that give it back. The answer of accept, or false. System calls as arena_give().
 */
bool arena_give_if(struct arena *arena, struct arena_tenant *tenant, const void *address,
		   bool (*accept)(struct page *first, void *context), void *context);

/*
 * Call visit for each run that the tenant took and has not given back, the latest first. It costs what the
 * tenant has. No lock is held while visit() runs: it may give the run back or hand it over, take others, and
 * go through the same list.
 *
 * A run that the tenant gets meanwhile is not visited. One that it loses meanwhile is not, unless its turn
 * was before. All others are, once each, whatever other threads take and give. The one that is being visited
 * may be given back by another thread just then, or not be written whole yet: the caller keeps that from happening, or looks at no more than where its entry is.
 */
void arena_for_each_run_of(struct arena *arena, struct arena_tenant *tenant,
			   void (*visit)(struct arena *arena, struct page *first, void *context),
			   void *context);

/*
 * Memory beside the page map that no device can reach, so many bytes for each page of it: there, and
 * faulted in, for all pages that are mapped, until the arena ends. Who asks for the same size and kind
 * gets the same. Its beginning, aligned to a page; NULL in words. Content is undefined.
 */
char *arena_side(struct arena *arena, size_t bytes, unsigned int kind);

/*
 * From now on, until it is removed, the shrinker is called when memory runs short; after those that are
 * older.
 */
void arena_add_shrinker(struct arena *arena, struct arena_shrinker *shrinker);
void arena_remove_shrinker(struct arena *arena, struct arena_shrinker *shrinker);

/*
 * Make sure that GFP_ATOMIC finds something under the tenant's mask, if it can be had. From now on
 * there is a reserve under it, also when arena_set_mask() changes it, until arena_forget(). What fails
 * is no failure of the caller: the thread's error stays as it was.
 */
void arena_prepare(struct arena *arena, struct arena_tenant *tenant);

/*
 * GFP_ATOMIC took pages since it was asked last: who may make system calls fills the reserves again.
 * Takes nothing from others, and what fails is no failure.
 */
void arena_refill(struct arena *arena);

/* The next call that may make system calls had better do so. */
void arena_refill_later(struct arena *arena);

static inline bool arena_refill_due(const struct arena *arena)
{
	return racy_load(&arena->refill_due);
}

/* These limits end. */
void arena_forget(struct arena *arena, const struct dma_limits *limits);

/*
 * Give chunks that nobody uses back to the domain, but for `keep` free pages under each mask; chunks
 * that were made for one large request always.
 */
void arena_trim(struct arena *arena, size_t keep);

/*
 * Give up all that is idle in the domain, whoever holds it: for its limits, which others run into. `keep` as
 * in arena_trim().
 */
void arena_reclaim(struct arena *arena, size_t keep);

/* The device may go on using what it had: its pools' idle pages are not given up from now on. */
void arena_keep_idle(struct arena *arena, struct dma_limits *limits);

/* Some limit of the domain was hit: say behind the error's sentence what its memory is. Returns -errno. */
int arena_explain(struct arena *arena);

/*
 * Change the coherent mask; -EBUSY in words when a run of this device lies above it that is not idle, the
 * highest one named.
 */
int arena_set_mask(struct arena *arena, struct dma_limits *limits, uint64_t mask, const char *name);

/*
 * The dma address of size bytes in runs that are taken; DMA_MAPPING_ERROR when they aren't, or lie
 * above the coherent mask.
 */
dma_addr_t arena_translate(struct arena *arena, const struct dma_limits *limits,
			   const void *address, size_t size);

/* The chunk that a dma address lies in, or NULL. The lock is held. */
struct arena_chunk *arena_chunk_at(const struct arena *arena, dma_addr_t dma);

/* The dma address of an address inside a chunk. */
static inline dma_addr_t chunk_dma(const struct arena_chunk *chunk, const void *address)
{
	return chunk->memory.dma + (dma_addr_t)((const char *)address - chunk->memory.cpu);
}

#endif
