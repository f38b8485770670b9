/* SPDX-License-Identifier: MIT */
/*
 * debug.h - pools that are watched: what the other files of this folder call
 *
 * Only pools with pool->debug come here; all of their blocks go through pool->shared, whose lock guards the records.
 */
#ifndef POOL_DEBUG_H
#define POOL_DEBUG_H

#include "pool/pool_internal.h"

/* 0 or -ENOMEM in words. */
int debug_begin(struct dma_pool *pool);

/* The pool ends: say who has blocks of it, and which blocks were written to that should not have been. */
void debug_end(struct dma_pool *pool);

/* Memory has become a slab, whose blocks are free. */
void debug_slab_begin(struct dma_pool *pool, struct page *slab);

/* It is one no more. */
void debug_slab_end(struct dma_pool *pool, struct page *slab);

/* A block was taken; it is out when this returns. */
void debug_alloc(struct dma_pool *pool, gfp_t gfp, char *vaddr, const void *site);

/* May the block be given back? NULL, and it is neither out nor free until debug_free(); or what is wrong. The lock is held. */
const char *debug_release(struct dma_pool *pool, struct page *slab, uint32_t number,
			  const void *site);

/* The block is free when this returns. */
void debug_free(struct dma_pool *pool, struct page *slab, uint32_t number);

/* For the message of a bad free: where the block, if it is one, was allocated and freed. */
void debug_describe(struct dma_pool *pool, const void *vaddr, const void *site, char *text,
		    size_t size);

#endif
