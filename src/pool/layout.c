/* SPDX-License-Identifier: MIT */
/*
 * layout.c - where in a slab the blocks of a pool lie
 *
 *   |blk0|blk1|blk2|blk3|blk4|blk5|.waste.|      up to 64 blocks in up to 128 KiB
 *   |blk0|zone|blk1|zone|blk2|zone|.waste.|      in debug mode
 *   |blk0                    |.. zone     |      a block of several pages
 *
 * A block and its red zone together are a stride. A slab is aligned to its size, a power of two, so that its blocks keep to
 * boundaries of that size and above. Below, either the stride divides the boundary, or the slab is no larger than it.
 */
#include "pool/pool_internal.h"

#include <errno.h>
#include <limits.h>

#include "base/error.h"

/* The kernel's smallest block: a pointer and a dma address (mm/dmapool.c). */
#define POOL_BLOCK_MIN 16

/* Bytes of the smallest red zone, of which the half behind a block is its own. */
#define POOL_ZONE_MIN 16

enum {
	SLAB_BLOCKS_LOG2 = 6,	/* a bit of a word for each */
	SLAB_SIZE_MAX = 131072, /* of several blocks */
	SLAB_SIZE_MIN = 1024,	/* of the smallest blocks */
	IDLE_BYTES = 262144,	/* what a thread may keep of idle slabs */
	IDLE_MAX = 64,		/* slabs */
};

/* So that a slab of 64 blocks has a page at least. */
#define STRIDE_WATCHED_MIN 64

/*
 * From one block to the next. Blocks of 2^n bytes lie at multiples of that without being asked to;
 * drivers may count on it unknowingly, so they do in debug mode too.
 */
static size_t stride_of(const struct dma_pool *pool, size_t size)
{
	size_t stride =
		pool->debug & POOL_CHECKED ? align_up(size + POOL_ZONE_MIN, size & -size) : size;

	return pool->debug && stride < STRIDE_WATCHED_MIN ? STRIDE_WATCHED_MIN : stride;
}

/* Of an odd number, modulo 2^64: each step doubles the bits that are right, of which n has three. */
static uint64_t inverse_of(uint64_t n)
{
	uint64_t inverse = n;

	for (int bits = 3; bits < 64; bits *= 2)
		inverse *= 2 - n * inverse;
	return inverse;
}

/* Log2 of the largest power of two that is not above n. */
static uint32_t log2_below(uint64_t n)
{
	return 63 - (uint32_t)__builtin_clzll(n);
}

static size_t slab_size_of(size_t stride)
{
	size_t size = stride << SLAB_BLOCKS_LOG2;

	if (size > SLAB_SIZE_MAX)
		size = SLAB_SIZE_MAX;
	size = (size_t)1 << log2_below(size);
	return size < stride ? power_of_two_covering(stride) : size;
}

/* In a pool that is watched a slab has a page at least: records are found by the page. */
static size_t slab_size_min(const struct dma_pool *pool)
{
	return pool->debug ? ARENA_PAGE : SLAB_SIZE_MIN;
}

static void slab_lay_out(struct dma_pool *pool, size_t size, size_t boundary)
{
	size_t stride = stride_of(pool, size), slab = slab_size_of(stride);

	if (boundary && boundary < slab && boundary % stride) {
		if (boundary >= slab_size_min(pool) && boundary >= stride) {
			slab = boundary;
		} else {
			stride = power_of_two_covering(stride);
			slab = slab_size_of(stride);
		}
	}
	pool->size = (uint32_t)size;
	pool->stride = stride;
	pool->slab_size = slab;
	pool->blocks = slab / stride;
	pool->full = UINT64_MAX >> (64 - pool->blocks);
	pool->stride_log2 = (uint32_t)__builtin_ctzll(stride);
	pool->inverse = inverse_of(stride >> pool->stride_log2);
	pool->idle_max = (uint32_t)(IDLE_BYTES / slab);
	if (pool->idle_max > IDLE_MAX)
		pool->idle_max = IDLE_MAX;
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
	slab_lay_out(pool, size, boundary);
	return 0;
}
