/* SPDX-License-Identifier: MIT */
/*
 * states.c - arrays of state bytes, for units with more blocks than their entry has room for
 *
 *   side memory of the arena, as much for each page as an array takes:
 *
 *   |records|words|states..| |records|words|states..| |records|words|states..|
 *    ^ page 0: a line of the cache ^ page 1
 *
 * An array has a record a block in pools that are watched, then the words of bits of a unit with more
 * than 64 blocks, then a state a block: there the unit points. Each begins on a line of its own:
 * threads that use blocks of different units don't write to the same line.
 *
 * The array of a unit is that of its first page. It is there with the page, whoever has it: so no
 * unit waits for it, under GFP_ATOMIC neither. Pools whose arrays are alike use the same ones; each
 * page is one pool's. They end with the arena: a bad free may be looking at one whose unit was given back
 * meanwhile.
 */
#include "pool/pool_internal.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"

enum { LINE = 64 };

/* Where in an array the states begin. */
static size_t states_begin(const struct dma_pool *pool)
{
	size_t records = pool->debug ? pool->per_unit * sizeof(struct block_record) : 0;

	return records + (pool->words > 1 ? pool->words * sizeof(uint64_t) : 0);
}

/* Of pools that are watched there are sizes of many kinds: powers of two, so that few are made. */
static size_t array_size(const struct dma_pool *pool)
{
	size_t size = align_up(states_begin(pool) + pool->per_unit, LINE);

	return pool->debug ? power_of_two_covering(size) : size;
}

/*
 * Arrays are alike where they have the same size and as many words: what a racing free writes to a
 * page that is another pool's by then is a state there, too. In pools that are watched it writes nothing.
 */
static unsigned int array_kind(const struct dma_pool *pool)
{
	return pool->debug ? 0 : pool->words;
}

struct block_record *unit_records(const struct dma_pool *pool, const struct page *unit)
{
	void *array = unit->unit.state - states_begin(pool);

	return array;
}

int states_prepare(struct dma_pool *pool)
{
	if (states_inline(pool))
		return 0;
	pool->array_size = array_size(pool);
	pool->arrays = arena_side(pool->place.arena, pool->array_size, array_kind(pool));
	return pool->arrays ? 0 : -ENOMEM;
}

uint8_t *states_of(const struct dma_pool *pool, struct page *unit)
{
	char *array;

	if (states_inline(pool))
		return unit->unit.inline_state;
	array = pool->arrays + (size_t)(unit - pool->pages) * pool->array_size;
	if (unlikely(pool->debug))
		memset(array, 0, pool->array_size);
	return (uint8_t *)array + states_begin(pool);
}
