/* SPDX-License-Identifier: MIT */
/*
 * unit.c - units of a pool's memory, and which of their blocks are unused
 *
 * A unit is a page, or a run of pages that holds one block larger than a page:
 *
 *   unit, aligned to the power of two that covers it
 *   |blk0|blk1|blk2|blk3|..|blk0|blk1|blk2|blk3|..|
 *   ^ boundary             ^ boundary: the blocks begin anew, the rest before it is waste
 *
 * Its entry in the page map holds a bit for each unused block and a state byte for each block, or
 * points to an array of them where there are more than fit (states.c); none of it can be reached by the
 * device. Units with unused blocks hang in lists, so that taking a block never searches; the others
 * are found by the page map when the pool ends.
 */
#include "pool/pool_internal.h"

#include <string.h>

#include "pool/magazine.h"
#include "pool/word.h"

/* So many units of another thread are looked at for one that is idle. */
#define UNIT_LOOKS 8

struct block unit_block(const struct dma_pool *pool, block_code code)
{
	struct block block = block_decode(pool, code);
	uint32_t number = code & CODE_NUMBER_MASK;
	uint32_t segment = number / pool->per_segment;
	size_t waste = ((size_t)1 << pool->segment_log2) - pool->per_segment * pool->stride;

	block.vaddr += segment * waste;
	block.handle += segment * waste;
	return block;
}

uint32_t unit_block_number(const struct dma_pool *pool, size_t offset)
{
	uint32_t segment, in_segment, number;

	if (pool->per_unit == 1)
		return offset ? UINT32_MAX : 0;
	segment = (uint32_t)offset >> pool->segment_log2;
	in_segment = (uint32_t)offset & ((1u << pool->segment_log2) - 1);
	number = in_segment / pool->stride;
	if (number >= pool->per_segment || number * pool->stride != in_segment)
		return UINT32_MAX;
	return segment * pool->per_segment + number;
}

/* ---- blocks ---- */

void unit_push(struct dma_pool *pool, struct shelf *shelf, struct page *unit)
{
	unit_set_link(unit, shelf->units, (uint32_t)(shelf - pool->shelves));
	shelf->units = (uint32_t)(unit - pool->pages);
}

void unit_unlink(struct dma_pool *pool, struct page *before, const struct page *unit)
{
	struct shelf *shelf = unit_shelf(pool, unit);

	if (before)
		unit_set_link(before, unit_next(unit), (uint32_t)(shelf - pool->shelves));
	else
		shelf->units = unit_next(unit);
}

/* From one word of bits of the first unit of a shelf, whose lock is held. */
static void unit_take(const struct dma_pool *pool, struct shelf *shelf, block_code **end,
		      uint32_t n)
{
	struct page *unit = &pool->pages[shelf->units];
	uint32_t w = pool->words == 1 ? 0 : (uint32_t)__builtin_ctzll(unit->unit.unused);
	uint64_t *word = unit_words(pool, unit) + w;

	*word = bits_take(*word, block_encode(shelf->units, 64 * w), end, n);
	if (!*word && pool->words > 1)
		unit->unit.unused &= ~(UINT64_C(1) << w);
	if (!unit->unit.unused)
		shelf->units = unit_next(unit);
}

bool unit_is_idle(const struct dma_pool *pool, struct page *unit)
{
	const uint64_t *words = unit_words(pool, unit);
	uint32_t unused = 0;

	for (uint32_t w = 0; w < pool->words; w++)
		unused += (uint32_t)__builtin_popcountll(words[w]);
	return unused == pool->per_unit;
}

bool unit_may_leave(const struct dma_pool *pool, struct page *unit)
{
	uint8_t states = BLOCK_FREE;

	if (!unit_is_idle(pool, unit))
		return false;
	for (uint32_t i = 0; i < pool->per_unit; i++)
		states |= state_read(&unit->unit.state[i]);
	return states == BLOCK_FREE;
}

/*
 * A unit with unused blocks moves to this thread's shelf from another: an idle one, if one of the
 * first of a shelf is; or any. False if there is none.
 */
static bool unit_fetch(struct dma_pool *pool, bool any)
{
	for (uint32_t i = 1; i < pool->shelf_count; i++) {
		uint32_t at = shelf_to_search(pool, i)->units;
		struct page *unit, *before = NULL;

		for (uint32_t k = 0; k < UNIT_LOOKS && at != UNIT_NONE; k++, before = unit) {
			unit = &pool->pages[at];
			if (any || unit_is_idle(pool, unit)) {
				unit_unlink(pool, before, unit);
				unit_push(pool, shelf_of_thread(pool), unit);
				return true;
			}
			at = unit_next(unit);
		}
	}
	return false;
}

/*
 * Blocks for a thread whose shelf has none. Those of a page are best left to one thread, since its
 * states are a line of the cache: so idle units come first, also those of a half that is opened,
 * and then what is left of others.
 */
static bool unit_find(struct dma_pool *pool)
{
	if (unit_fetch(pool, false))
		return true;
	while (depot_open(pool))
		if (shelf_of_thread(pool)->units != UNIT_NONE || unit_fetch(pool, false) ||
		    unit_fetch(pool, true))
			return true;
	return unit_fetch(pool, true);
}

/* From a shelf, below *end, which moves down, but not below codes. */
static void shelf_take(struct dma_pool *pool, struct shelf *shelf, const block_code *codes,
		       block_code **end)
{
	while (*end > codes && shelf->units != UNIT_NONE)
		unit_take(pool, shelf, end, (uint32_t)(*end - codes));
}

/* How many there are, of n that there was room for; they begin where the array begins. */
static uint32_t taken_of(block_code *codes, uint32_t n, const block_code *end)
{
	uint32_t taken = n - (uint32_t)(end - codes);

	if (taken < n)
		memmove(codes, end, taken * sizeof(*codes));
	return taken;
}

uint32_t units_take(struct dma_pool *pool, struct shelf *shelf, block_code *codes, uint32_t n)
{
	block_code *end = codes + n;

	shelf_take(pool, shelf, codes, &end);
	return taken_of(codes, n, end);
}

uint32_t units_search(struct dma_pool *pool, block_code *codes, uint32_t n)
{
	struct shelf *own = shelf_of_thread(pool);
	block_code *end = codes + n;
	bool elsewhere = own->units == UNIT_NONE && unit_find(pool);

	do {
		shelf_take(pool, own, codes, &end);
	} while (elsewhere && end > codes && unit_fetch(pool, false));
	return taken_of(codes, n, end);
}

/*
 * Blocks from the front of the array whose bits lie in one word; how many, of which *bad were not to
 * be put: a racing free's copies, whose page may not even be the pool's any more. The lock of their
 * unit's shelf is held.
 */
static uint32_t unit_put(struct dma_pool *pool, const block_code *codes, uint32_t n, uint32_t *bad)
{
	block_code base = codes[0] & ~(block_code)63;
	struct page *unit = code_page(pool, base);
	uint32_t w = (base & CODE_NUMBER_MASK) / 64, put;
	uint64_t bits = bits_of(codes, base, &n), *word;

	if (unlikely(page_tenant(unit) != &pool->tenant)) {
		*bad += n;
		return n;
	}
	word = unit_words(pool, unit) + w;
	bits = bits_of_free(bits, unit->unit.state + 64 * w) & ~*word;
	put = bits == UINT64_MAX ? 64 : (uint32_t)__builtin_popcountll(bits);
	if (put && !unit->unit.unused)
		unit_push(pool, unit_shelf(pool, unit), unit);
	*word |= bits;
	if (put && pool->words > 1)
		unit->unit.unused |= UINT64_C(1) << w;
	*bad += n - put;
	return n;
}

uint32_t units_put(struct dma_pool *pool, const block_code *codes, uint32_t n)
{
	uint32_t bad = 0;

	for (uint32_t i = 0; i < n;)
		i += unit_put(pool, codes + i, n - i, &bad);
	return bad;
}

/*
 * Those of a shelf, whose lock is held; the others move to the front. *n: how many those are. Where the
 * page is not the pool's any more it does not matter whom its link names: unit_put() is asked in the
 * end.
 */
static uint32_t units_put_own(struct dma_pool *pool, const struct shelf *own, block_code *codes,
			      uint32_t *n)
{
	uint32_t bad = 0, left = 0;

	for (uint32_t i = 0; i < *n;)
		if (unit_shelf(pool, code_page(pool, codes[i])) == own)
			i += unit_put(pool, codes + i, *n - i, &bad);
		else
			codes[left++] = codes[i++];
	*n = left;
	return bad;
}

void units_put_back(struct dma_pool *pool, block_code *codes, uint32_t n)
{
	struct shelf *own = shelf_of_thread(pool);
	uint32_t left = n, bad;

	pthread_spin_lock(&own->lock);
	bad = units_put_own(pool, own, codes, &left);
	shelf_set_taken(own, own->taken - (ptrdiff_t)(n - left - bad));
	pthread_spin_unlock(&own->lock);
	pool_note_bad(pool, bad);
	if (!left)
		return;
	shelves_lock(pool);
	bad = units_put(pool, codes, left);
	shelf_set_taken(own, own->taken - (ptrdiff_t)(left - bad));
	shelves_unlock(pool);
	pool_note_bad(pool, bad);
}
