/* SPDX-License-Identifier: MIT */
/*
 * slab_stand.h - what tests of a pool's insides stand on: players instead of threads, and a count of all that the pool has
 */
#ifndef TESTS_UNIT_SLAB_STAND_H
#define TESTS_UNIT_SLAB_STAND_H

#include "test.h"

#include "fake_domain.h"
#include "players.h"
#include "pool/pool_internal.h"

/* fake_place_setup(), and players that begin. */
int players_setup(void **state);

#define players_test(f) cmocka_unit_test_setup_teardown(f, players_setup, fake_place_teardown)

enum { STAND_BLOCKS = 8192 };

/* Blocks that are out, whoever has them. */
struct stand {
	struct dma_pool *pool;
	size_t count;
	void *vaddrs[STAND_BLOCKS];
	dma_addr_t handles[STAND_BLOCKS];
};

/* A pool without blocks. There is one stand at a time. */
struct stand *stand_begin(void *state, size_t size);

/* All blocks are given back, and the pool ends; nothing was wrong. */
void stand_end(struct stand *s);

/* The player takes n more; all are had. */
void stand_take(struct stand *s, size_t n, gfp_t gfp);

/* The player frees one of them; the last one has its place from now on. */
void stand_free(struct stand *s, size_t i);

/* The player frees the last n. */
void stand_free_last(struct stand *s, size_t n);

struct dmaland_pool_stats stats_of(struct dma_pool *pool);
struct cache *cache_of(struct dma_pool *pool, unsigned int player);
struct page *slab_of(struct dma_pool *pool, const void *block);
bool slab_is_owned_by(const struct page *slab, const struct cache *cache);
size_t list_length(const struct dma_pool *pool, uint32_t list);

/* Look at each block of each slab: the statistics say what is there, and no block is lost. Nobody is at work. */
void expect_statistics_hold(struct dma_pool *pool);

#endif
