/* SPDX-License-Identifier: MIT */
/*
 * pool.h - what floor 6 needs of pools beside the public calls
 */
#ifndef POOL_POOL_H
#define POOL_POOL_H

#include <stdbool.h>

#include <dmaland/pool.h>
#include "memory/arena.h"

/* The pools of a device. */
struct pool_list {
	pthread_mutex_t lock;
	struct dma_pool *first, **end; /* the oldest first */
};

/*
 * Who keeps something of its own for a pool's memory: it begins before a block of it can be handed out, and ends when
 * none is out and none will be. begin: 0, or -ENOMEM in words. They are called by any thread; end under locks of the pool and the
 * arena: it allocates nothing, and calls neither.
 */
struct pool_memory_ops {
	int (*begin)(void *context, size_t block_size, char *cpu, dma_addr_t dma, size_t size);
	void (*end)(void *context, size_t block_size, dma_addr_t dma, size_t size);
};

/* Where the pool works: the device's parts that it uses. */
struct pool_place {
	struct arena *arena;
	const struct dma_limits *limits;
	struct pool_list *list;
	struct arena_tenant *orphans; /* takes over pages of pools that are destroyed busy */
	const struct pool_memory_ops *memory; /* or NULL */
	void *context;			      /* of memory */
	const char *name;		      /* the device's, for messages */
	gfp_t gfp;			      /* what any allocation may do, beside its own flags */
	bool debug;			      /* poison, red zones, call sites */
	bool annotate; /* AddressSanitizer or Valgrind is to know what is free */
};

struct dma_pool *pool_create(const char *name, const struct pool_place *place, size_t size,
			     size_t align, size_t boundary);

/* Does the environment want pools of this name to be debugged? */
bool pool_debug_wanted(const char *name);

/* Is AddressSanitizer or Valgrind there? */
bool pool_annotate_wanted(void);

/* Fill in up to n; how many there are. */
size_t pool_list_stats(struct pool_list *list, struct dmaland_pool_stats *stats, size_t n);

#endif
