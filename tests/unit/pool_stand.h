/* SPDX-License-Identifier: MIT */
/*
 * pool_stand.h - what tests of pools stand on that use the public calls alone: a soft device, blocks in a list, a census
 */
#ifndef TESTS_UNIT_POOL_STAND_H
#define TESTS_UNIT_POOL_STAND_H

#include "test.h"

#include <pthread.h>

/* A block is one bit of a slab's word. */
enum { SLAB_BLOCKS_MOST = 64, PAGE_BYTES = 4096 };

/* AddressSanitizer and ThreadSanitizer: slower, and their own memory hides the library's. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

/* Blocks that one thread took and has. */
struct blocks {
	struct dma_pool *pool;
	void **vaddrs;
	dma_addr_t *handles;
	size_t count, room;
};

/* A device in software; @memory_limit 0: none. */
struct dmaland_device *stand_open(uint64_t memory_limit, bool pool_debug);

struct blocks blocks_make(struct dma_pool *pool, size_t room);

/* Take @n blocks more, or as many as there are. Returns how many. No assertion: any thread may call it. */
size_t blocks_take(struct blocks *b, size_t n, gfp_t gfp);

/* Give the last @n back. */
void blocks_give(struct blocks *b, size_t n);

/* Give all back, and the list's memory. */
void blocks_end(struct blocks *b);

/* Bring the list in an order that is the same in each run. */
void blocks_shuffle(struct blocks *b, uint64_t seed);

/*
 * blocks_census() - all blocks of @n lists are distinct, do not overlap, neither in memory nor for the
 * device, and keep to @align and @boundary (0: none) by their dma addresses
 */
void blocks_census(const struct blocks *lists, size_t n, size_t size, size_t align,
		   size_t boundary);

struct dmaland_pool_stats stand_stats(struct dma_pool *pool);

/*
 * Blocks and pages of one slab of such a pool: what a pool has that handed out one block. Never more than
 * 64 blocks, or one page's.
 */
size_t blocks_of_a_slab(struct dmaland_device *dev, size_t size);
size_t slab_pages(struct dmaland_device *dev, size_t size);

/* Nothing is out, no free was refused, and once it is trimmed the pool holds no more than @pages. */
void expect_idle(struct dma_pool *pool, size_t pages);

void thread_start(pthread_t *thread, void *(*f)(void *), void *context);
void thread_run(void *(*f)(void *), void *context);

/* On a stack of 64 KiB, more with a sanitizer, so that there can be very many. */
void thread_start_small(pthread_t *thread, void *(*f)(void *), void *context);

#endif
