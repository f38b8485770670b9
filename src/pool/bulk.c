/* SPDX-License-Identifier: MIT */
/*
 * bulk.c - the public calls for many blocks
 *
 * Blocks that were handed out in a row come back in a row, mostly. So eight neighbours of a page, one
 * after the other up or down, are taken and put as one: their page is looked up once, their states
 * are a word. Others go one by one, and what is not the usual goes the slow ways of pool.c. Nothing is
 * checked less.
 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "pool/magazine.h"
#include "pool/word.h"

/* Where the states of a row begin whose first block's is given. */
static inline uint8_t *row_begin(uint8_t *state, int step)
{
	return step > 0 ? state : state - (ROW - 1);
}

/* Does a row lie below top, from this block on to the next or the last ones? Then it is taken. */
static inline __attribute__((always_inline)) bool row_take(const struct dma_pool *pool,
							   const block_code *top,
							   const struct block *block, int step,
							   void **vaddrs, dma_addr_t *handles)
{
	const uint64_t dma_offset = block->handle - (uintptr_t)block->vaddr;
	const ptrdiff_t stride = step * (ptrdiff_t)pool->stride;
	const block_code first = top[-1];
	char *vaddr = block->vaddr;

	if ((first ^ (first + (block_code)(step * (ROW - 1)))) >> CODE_NUMBER_BITS)
		return false; /* of two pages */
#pragma GCC unroll 8
	for (int i = 1; i < ROW; i++)
		if (top[-1 - i] != first + (block_code)(step * i))
			return false;
	if (!row_is(row_begin(block->state, step), BLOCK_FREE))
		return false;
	row_write(row_begin(block->state, step), BLOCK_OUT);
#pragma GCC unroll 8
	for (int i = 0; i < ROW; i++, vaddr += stride) {
		vaddrs[i] = vaddr;
		handles[i] = (uintptr_t)vaddr + dma_offset;
	}
	return true;
}

/* From below top, of n blocks that lie there. How many; none when a racing free's copy comes up. */
static inline size_t take_next(const struct dma_pool *pool, const block_code *top, size_t n,
			       void **vaddrs, dma_addr_t *handles)
{
	struct block block;

	if (unlikely(!block_find(pool, top[-1], &block)))
		return 0;
	if (n >= ROW && top[-2] == top[-1] + 1 && row_take(pool, top, &block, 1, vaddrs, handles))
		return ROW;
	if (n >= ROW && top[-2] == top[-1] - 1 && row_take(pool, top, &block, -1, vaddrs, handles))
		return ROW;
	if (unlikely(state_read(block.state) != BLOCK_FREE))
		return 0;
	state_write(block.state, BLOCK_OUT);
	vaddrs[0] = block.vaddr;
	handles[0] = block.handle;
	return 1;
}

/* What the half that is worked on has. */
static size_t take_several(const struct dma_pool *pool, size_t n, void **vaddrs,
			   dma_addr_t *handles)
{
	struct magazine *m = magazine_of(pool);
	block_code *top, *last;
	size_t taken;

	if (m->pool != pool)
		return 0;
	if (n > magazine_count(m))
		n = magazine_count(m);
	top = *m->top;
	last = top - n;
	while (top > last) {
		taken = take_next(pool, top, (size_t)(top - last), vaddrs, handles);
		if (unlikely(!taken))
			break;
		top -= taken;
		vaddrs += taken;
		handles += taken;
	}
	n -= (size_t)(top - last);
	magazine_set_top(m, top);
	return n;
}

HAS_CALL_SITE size_t dmaland_pool_alloc_bulk(struct dma_pool *pool, gfp_t gfp, size_t n,
					     void **vaddrs, dma_addr_t *handles)
{
	size_t got = 0;

	if (unlikely(!pool)) {
		error_set(EINVAL, "dmaland_pool_alloc_bulk: no pool");
		return 0;
	}
	while (got < n) {
		struct block block;

		got += take_several(pool, n - got, vaddrs + got, handles + got);
		if (got == n || !pool_take_slowly(pool, gfp, &block, CALL_SITE))
			break;
		vaddrs[got] = block.vaddr;
		handles[got++] = block.handle;
	}
	if (unlikely(gfp & __GFP_ZERO))
		for (size_t i = 0; i < got; i++)
			memset(vaddrs[i], 0, pool->size);
	return got;
}

/* Are the blocks from the front of the arrays a row, all good frees? Then it is put to top. */
static inline __attribute__((always_inline)) bool row_put(const struct dma_pool *pool,
							  block_code *top, block_code code,
							  uint8_t *state, int step, void **vaddrs,
							  const dma_addr_t *handles)
{
	const uintptr_t stride = (uintptr_t)(step * (ptrdiff_t)pool->stride);
	const uint64_t dma_offset = handles[0] - (uintptr_t)vaddrs[0];
	const uint64_t last = (code & CODE_NUMBER_MASK) + (uint64_t)(int64_t)(step * (ROW - 1));
	uintptr_t vaddr = (uintptr_t)vaddrs[0];
	uint64_t wrong = 0;

	if (last >= pool->blocks)
		return false; /* of two pages */
#pragma GCC unroll 8
	for (int i = 1; i < ROW; i++) {
		vaddr += stride;
		wrong |= vaddr ^ (uintptr_t)vaddrs[i];
		wrong |= (vaddr + dma_offset) ^ handles[i];
	}
	if (wrong || !row_is(row_begin(state, step), BLOCK_OUT))
		return false;
	row_write(row_begin(state, step), BLOCK_FREE);
#pragma GCC unroll 8
	for (int i = 0; i < ROW; i++)
		top[i] = code + (block_code)(step * i);
	return true;
}

/* To top, of n blocks for which there is room. How many; none when the first is no good free. */
static inline size_t put_next(const struct dma_pool *pool, block_code *top, size_t n, void **vaddrs,
			      const dma_addr_t *handles)
{
	const size_t at = entry_at(pool, vaddrs[0]);
	const struct page *page = page_at(pool, at);
	const uint64_t number = block_number(pool, vaddrs[0]);
	const block_code code = code_at(at, number);
	uint8_t *const states = racy_load(&page->unit.state), *state;

	if (unlikely(page_tenant_after(page, states) != &pool->tenant) ||
	    unlikely(number >= pool->blocks) ||
	    unlikely(handles[0] - (uintptr_t)vaddrs[0] != page->dma_offset))
		return 0; /* in this order: dma_pool_free() */
	state = states + number;
	if (n >= ROW && (char *)vaddrs[1] == (char *)vaddrs[0] + pool->stride &&
	    row_put(pool, top, code, state, 1, vaddrs, handles))
		return ROW;
	if (n >= ROW && (char *)vaddrs[1] == (char *)vaddrs[0] - pool->stride &&
	    row_put(pool, top, code, state, -1, vaddrs, handles))
		return ROW;
	if (unlikely(state_read(state) != BLOCK_OUT))
		return 0;
	state_write(state, BLOCK_FREE);
	top[0] = code;
	return 1;
}

/* As many as there is room for in the half that is worked on. */
static size_t put_several(const struct dma_pool *pool, size_t n, void **vaddrs,
			  const dma_addr_t *handles)
{
	struct magazine *m = magazine_of(pool);
	block_code *top, *end;
	size_t room, put;

	if (m->pool != pool)
		return 0;
	room = m->half->room - magazine_count(m);
	if (n > room)
		n = room;
	top = *m->top;
	end = top + n;
	while (top < end) {
		put = put_next(pool, top, (size_t)(end - top), vaddrs, handles);
		if (unlikely(!put))
			break;
		top += put;
		vaddrs += put;
		handles += put;
	}
	n -= (size_t)(end - top);
	magazine_set_top(m, top);
	return n;
}

HAS_CALL_SITE void dmaland_pool_free_bulk(struct dma_pool *pool, size_t n, void **vaddrs,
					  const dma_addr_t *handles)
{
	size_t done = 0;

	if (unlikely(!pool))
		return;
	while (done < n) {
		done += put_several(pool, n - done, vaddrs + done, handles + done);
		if (done == n)
			break;
		pool_free_slowly(pool, vaddrs[done], handles[done] - (uintptr_t)vaddrs[done],
				 CALL_SITE);
		done++;
	}
}
