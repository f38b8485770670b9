/* SPDX-License-Identifier: MIT */
/*
 * stage.h - what scenarios are made of: a pool, places for its blocks, and a few calls
 */
#ifndef TESTS_INTERLEAVE_STAGE_H
#define TESTS_INTERLEAVE_STAGE_H

#include "pool/pool_internal.h"

enum { BLOCKS = 32 };

struct owned {
	void *vaddr; /* NULL: not out */
	dma_addr_t handle;
};

struct stage {
	struct dma_pool *pool, *next;
	struct owned blocks[BLOCKS];
	struct owned kept; /* what was taken once */
	bool twice;	   /* and freed by two */
	size_t bad;	   /* frees that are to be found */
};

extern struct stage w;

/* The memory for all schedules: one chunk, and there will be no other. */
void stage_open(void);
void stage_close(void);

/* After a failure. */
void stage_reopen(void);

/*
 * What the pool's slabs are like. A thread keeps one idle slab, so that a second is one too many.
 */
enum slabs {
	ONE_BLOCK, /* each has a page, and one block */
	TWO_BLOCKS,
	FOUR_BLOCKS,
	HALF_PAGES, /* two to a page, of two blocks each */
	GROWING,    /* three blocks in several pages; first ones have fewer */
};

/* Before a schedule. */
void stage_begin(enum slabs slabs);
struct dma_pool *pool_of(enum slabs slabs);

/* Pools that are made from now on are in debug mode, or not. */
void stage_watch(bool debug);

/* No memory is left but what pools have. */
void take_all_memory(void);

/* After it: every block is where it should be, and w.bad frees were refused. */
void stage_end(void);

/* Threads end, blocks go back, pages go back: part of stage_end(). */
void stage_clear(void);

/* No steps: only one thread is at them, or nobody minds. */
bool stage_is_private(const volatile void *address);

/* ---- what threads do, with places by their numbers ---- */

bool is_out(const void *vaddr);
bool take_from(struct dma_pool *pool, int i, gfp_t gfp);
void give_to(struct dma_pool *pool, int i);
void take(int i);
void give(int i);
void trim(void);

/* Eight places of its own for each thread; there are eight more. */
int mine(int i);

/* So many of its own, from the first one. */
void take_n(int n);
void give_n(int n);

#endif
