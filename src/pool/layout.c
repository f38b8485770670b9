/* SPDX-License-Identifier: MIT */
/*
 * layout.c - where in a unit the blocks of a pool lie
 *
 *   |blk0|blk1|blk2|..waste..|blk3|blk4|blk5|..waste..|     segments, where a boundary is inside
 *   |blk0|zone|blk1|zone|blk2|zone|.................. |     in debug mode
 *   |blk0                                    |.. zone |     a unit of several pages
 *
 * A block and its red zone together are a stride. Neither a block's alignment nor its size change
 * with a zone, and it keeps to the boundary; the zone need not.
 */
#include "pool/pool_internal.h"

#include <errno.h>
#include <limits.h>

#include "base/error.h"

/* The kernel's smallest block: a pointer and a dma address (mm/dmapool.c). */
#define POOL_BLOCK_MIN 16

/* Bytes of the smallest red zone, of which the half behind a block is its own. */
#define POOL_ZONE_MIN 16

/*
 * From one block to the next. Blocks of 2^n bytes lie at multiples of that without being asked to;
 * drivers may count on it unknowingly, so they do in debug mode too.
 */
static size_t stride_of(const struct dma_pool *pool, size_t size)
{
	return pool->debug & POOL_CHECKED ? align_up(size + POOL_ZONE_MIN, size & -size) : size;
}

/* Of an odd number, modulo 2^64: each step doubles the bits that are right, of which n has three. */
static uint64_t inverse_of(uint64_t n)
{
	uint64_t inverse = n;

	for (int bits = 3; bits < 64; bits *= 2)
		inverse *= 2 - n * inverse;
	return inverse;
}

/* A unit with several blocks is one page, so that a boundary inside is a power of two. */
static void unit_lay_out(struct dma_pool *pool, size_t size, size_t boundary)
{
	size_t stride = stride_of(pool, size), segment;

	pool->unit_size = stride > ARENA_PAGE ? size : ARENA_PAGE;
	pool->unit_align = power_of_two_covering(pool->unit_size);
	if (stride > ARENA_PAGE && stride > size) {
		pool->unit_size = size + POOL_ZONE_MIN;
		stride = pool->unit_size;
	}
	segment = boundary && boundary < pool->unit_size ? boundary : pool->unit_size;
	if (segment < stride)
		segment = power_of_two_covering(stride); /* a block alone keeps to the boundary */
	if (segment % stride == 0 || segment > pool->unit_size)
		segment = pool->unit_size; /* blocks meet this boundary by themselves */
	pool->size = (uint32_t)size;
	pool->stride = (uint32_t)stride;
	pool->segment_log2 = (uint32_t)__builtin_ctzll(power_of_two_covering(segment));
	pool->per_segment = (uint32_t)(segment / stride);
	pool->per_unit = pool->per_segment * (uint32_t)(pool->unit_size / segment);
	pool->words = (pool->per_unit + 63) / 64;
	pool->stride_log2 = (uint32_t)__builtin_ctzll(stride);
	pool->inverse = inverse_of(stride >> pool->stride_log2);
	pool->blocks = segment == pool->unit_size ? pool->per_unit : 0;
}

int pool_lay_out(struct dma_pool *pool, size_t size, size_t align, size_t boundary)
{
	if (align == 0)
		align = 1;
	if (!is_power_of_two(align))
		return error_set(EINVAL, "dma_pool_create %s: alignment %zu is not a power of two",
				 pool->name, align);
	if (size == 0 || size > INT_MAX)
		return error_set(EINVAL, "dma_pool_create %s: size %zu is not from 1 to %d",
				 pool->name, size, INT_MAX);
	if (size < POOL_BLOCK_MIN)
		size = POOL_BLOCK_MIN;
	size = align_up(size, align);
	if (size > INT_MAX)
		return error_set(EINVAL, "dma_pool_create %s: alignment %zu makes the size %zu",
				 pool->name, align, size);
	if (boundary && (boundary < size || !is_power_of_two(boundary)))
		return error_set(EINVAL,
				 "dma_pool_create %s: boundary %zu must be a power of two and not "
				 "below the size of a block, %zu rounded to its alignment",
				 pool->name, boundary, size);
	unit_lay_out(pool, size, boundary);
	return 0;
}
