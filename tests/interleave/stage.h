/* SPDX-License-Identifier: MIT */
/*
 * stage.h - what scenarios are made of: a pool, places for its blocks, and a few calls
 */
#ifndef TESTS_INTERLEAVE_STAGE_H
#define TESTS_INTERLEAVE_STAGE_H

#include "pool/magazine.h"

enum { BLOCKS = 24 };

struct owned {
	void *vaddr; /* NULL: not out */
	dma_addr_t handle;
};

struct stage {
	struct dma_pool *pool, *next;
	struct owned blocks[BLOCKS];
	struct owned kept; /* what was taken once */
};

extern struct stage w;

/* The memory for all schedules: one chunk, and there will be no other. */
void stage_open(void);
void stage_close(void);

/* Before a schedule: a pool of which half a magazine holds so many blocks. */
void stage_begin(size_t size, uint32_t half);
struct dma_pool *pool_of(size_t size, uint32_t half);

/* Pools that are made from now on are in debug mode, or not. */
void stage_watch(bool debug);

/* No memory is left but what pools have. */
void take_all_memory(void);

/* After it: every block is where it should be, and no good free was refused. */
void stage_end(void);

/* Threads end, blocks go back, pages go back: part of stage_end(). */
void stage_clear(void);

/* ---- what threads do, with places by their numbers ---- */

bool is_out(const void *vaddr);
bool take_from(struct dma_pool *pool, int i, gfp_t gfp);
void give_to(struct dma_pool *pool, int i);
void take(int i);
void give(int i);
void trim(void);

/* Places of its own for each thread. */
int mine(int i);

void take_two(void);
void give_two(void);
void take_and_give_two(void);
void give_and_take_two(void);

#endif
