/* SPDX-License-Identifier: MIT */
/*
 * debug.h - pools that are watched: what the other files of this folder call
 *
 * Only pools with pool->debug come here; they have no magazines, so that each of their blocks passes
 * the slow paths of pool.c.
 */
#ifndef POOL_DEBUG_H
#define POOL_DEBUG_H

#include "pool/pool_internal.h"

void debug_begin(struct dma_pool *pool);

/* The pool ends: say who has blocks of it, and which blocks were written to that should not have been. */
void debug_end(struct dma_pool *pool);

/* Memory has become a unit, whose blocks are unused. */
void debug_unit_begin(struct dma_pool *pool, struct page *unit);

/* It is one no more. */
void debug_unit_end(struct dma_pool *pool, struct page *unit);

/* A block was taken, its state BLOCK_MOVING; it is out when this returns. */
void debug_alloc(struct dma_pool *pool, gfp_t gfp, const struct block *block, const void *site);

/* A block was given back, its state BLOCK_MOVING; it is free when this returns. */
void debug_free(struct dma_pool *pool, block_code code);

/* For the message of a bad free: where the block, if it is one, was allocated and freed. */
void debug_describe(struct dma_pool *pool, const void *vaddr, const void *site, char *text,
		    size_t size);

#endif
