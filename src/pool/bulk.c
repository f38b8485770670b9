/* SPDX-License-Identifier: MIT */
/*
 * bulk.c - the public calls for many blocks
 *
 * A word of bits is a slab's: so its entry is looked up once for the blocks of it that come in a row. Nothing is
 * checked less, and what is not the usual goes the slow ways.
 */
#include "pool/pool_internal.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"

/* The lowest bits that are set without a gap, up to n of them; *first: which is the lowest. */
static inline uint64_t bits_in_row(uint64_t word, size_t n, uint64_t *first, size_t *count)
{
	uint64_t rest;

	*first = bit_lowest(word);
	rest = ~(word >> *first);
	*count = rest ? bit_lowest(rest) : 64;
	if (*count > n)
		*count = n;
	return UINT64_MAX >> (64 - *count) << *first;
}

/* Up to n blocks of the current slab; how many. */
static size_t take_several(struct dma_pool *pool, struct cache *cache, size_t n, void **vaddrs,
			   dma_addr_t *handles)
{
	struct page *slab = slab_current(pool, cache);
	const uint64_t dma_offset = slab->dma_offset;
	const size_t stride = pool->stride;
	uint64_t free = racy_load(&slab->free), first;
	size_t i = 0, row;

	if (unlikely(free & racy_load(&slab->remote)))
		return 0;
	free &= ~cache->spent;
	while (free && i < n) {
		char *vaddr;

		free &= ~bits_in_row(free, n - i, &first, &row);
		vaddr = cache->base + first * stride;
		for (; row--; i++, vaddr += stride) {
			vaddrs[i] = vaddr;
			handles[i] = (uintptr_t)vaddr + dma_offset;
		}
	}
	if (!i)
		return 0;
	slab_set_free(slab, free | cache->spent);
	racy_add(&cache->allocs, i);
	return i;
}

HAS_CALL_SITE size_t dmaland_pool_alloc_bulk(struct dma_pool *pool, gfp_t gfp, size_t n,
					     void **vaddrs, dma_addr_t *handles)
{
	struct cache *cache;
	size_t got = 0;

	if (unlikely(!pool)) {
		error_set(EINVAL, "dmaland_pool_alloc_bulk: no pool");
		return 0;
	}
	while (got < n) {
		cache = cache_of_thread(pool);
		got += take_several(pool, cache, n - got, vaddrs + got, handles + got);
		if (got == n)
			break;
		vaddrs[got] = pool_take_slowly(pool, gfp, &handles[got], CALL_SITE);
		if (!vaddrs[got])
			break;
		got++;
	}
	pool_catch_up(pool, gfp);
	if (unlikely(gfp & __GFP_ZERO))
		for (size_t i = 0; i < got; i++)
			memset(vaddrs[i], 0, pool->size);
	return got;
}

/* So many from the front of the arrays are neighbours in a slab, going up, at most n. */
static inline size_t row_of(const struct dma_pool *pool, size_t n, void **vaddrs,
			    const dma_addr_t *handles, uint64_t dma_offset)
{
	const size_t stride = pool->stride;
	uintptr_t vaddr = (uintptr_t)vaddrs[0];
	size_t i = 0;

	while (i < n && (uintptr_t)vaddrs[i] == vaddr && handles[i] - vaddr == dma_offset) {
		vaddr += stride;
		i++;
	}
	return i;
}

/* Blocks from the front of the arrays that lie in one slab of this thread's, all good frees; how many. */
static size_t put_several(struct dma_pool *pool, struct cache *cache, size_t n, void **vaddrs,
			  const dma_addr_t *handles)
{
	struct page *slab = slab_entry(pool, vaddrs[0]);
	uint64_t free, dma_offset = slab->dma_offset, number = 0, bits;
	size_t i = 0, row;

	cache_set_at(cache, slab);
	if (unlikely(racy_load(&slab->owner) != (uintptr_t)cache))
		return 0;
	free = racy_load(&slab->free);
	while (i < n && slab_entry(pool, vaddrs[i]) == slab) {
		number = block_number(pool, vaddrs[i]);
		if (unlikely(number >= pool->blocks))
			break;
		row = pool->blocks - number;
		row = row_of(pool, row < n - i ? row : n - i, vaddrs + i, handles + i, dma_offset);
		if (unlikely(!row))
			break;
		bits = UINT64_MAX >> (64 - row) << number;
		if (unlikely(free & bits)) {
			row = 1; /* up to the first that is free already */
			bits = UINT64_C(1) << number;
			if (free & bits)
				break;
		}
		free |= bits;
		number += row - 1;
		i += row;
	}
	if (free == pool->full && i && slab != slab_current(pool, cache)) {
		i--; /* the last one goes the slow way */
		free &= ~(UINT64_C(1) << number);
	}
	if (!i)
		return 0;
	racy_add(&cache->frees, i);
	if (i <= SLAB_LAST_BLOCKS) {
		slab_set_free(slab, free);
		return i;
	}
	__atomic_exchange_n(&slab->free, free, __ATOMIC_SEQ_CST);
	if (unlikely(slab_is_complete(pool, slab))) /* by another's free, which could not know */
		__atomic_store_n(&cache->completed, 1, __ATOMIC_RELAXED);
	return i;
}

HAS_CALL_SITE void dmaland_pool_free_bulk(struct dma_pool *pool, size_t n, void **vaddrs,
					  const dma_addr_t *handles)
{
	size_t done = 0;

	if (unlikely(!pool))
		return;
	while (done < n) {
		struct cache *cache = cache_of_thread(pool);

		done += put_several(pool, cache, n - done, vaddrs + done, handles + done);
		if (done == n)
			break;
		pool_free_slowly(pool, vaddrs[done], handles[done] - (uintptr_t)vaddrs[done],
				 CALL_SITE);
		done++;
	}
}
