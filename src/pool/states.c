/* SPDX-License-Identifier: MIT */
/*
 * states.c - arrays of state bytes, for units with more blocks than their entry has room for
 *
 *   slab | next |records|words|states..| |records|words|states..| |records|words|states..|
 *               ^ a line of the cache    ^ another one
 *
 * An array has a record a block in pools that are watched, then the words of bits of a unit with more
 * than 64 blocks, then a state a block: there the unit points. Each begins on a line of its own:
 * threads that use blocks of different units don't write to the same line.
 *
 * Some are always ready, since GFP_ATOMIC makes none: with the shelf whose threads made them or gave
 * their units back. They are freed when the pool ends and not before: a bad free may be looking at
 * one whose unit was given back meanwhile.
 */
#include "pool/pool_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "pool/magazine.h"

/* Made at a time, and kept ready at least. */
#define STATES_READY ARENA_RESERVE_PAGES

enum { LINE = 64 };

/* A link in an array that is ready: seven bits a byte. */
enum { LINK_BYTES = 8, LINK_BITS = 7, LINK_MARK = 1 << LINK_BITS };

_Static_assert((int)BLOCK_OUT < (int)LINK_MARK, "no byte of a link says that a block is out");

struct slab {
	struct slab *next;
	uint8_t arrays[] __attribute__((aligned(LINE)));
};

/* Where in an array the states begin. */
static size_t states_begin(const struct dma_pool *pool)
{
	size_t records = pool->debug ? pool->per_unit * sizeof(struct block_record) : 0;

	return records + (pool->words > 1 ? pool->words * sizeof(uint64_t) : 0);
}

static size_t array_size(const struct dma_pool *pool)
{
	size_t states = pool->per_unit > LINK_BYTES ? pool->per_unit : LINK_BYTES;

	return align_up(states_begin(pool) + states, LINE);
}

struct block_record *unit_records(const struct dma_pool *pool, const struct page *unit)
{
	void *array = unit->unit.state - states_begin(pool);

	return array;
}

static void link_write(uint8_t *states, const uint8_t *next)
{
	for (int i = 0; i < LINK_BYTES; i++)
		states[i] = (uint8_t)((uintptr_t)next >> LINK_BITS * i | LINK_MARK);
}

/* False when a byte was written to since: a bad free found a block out that is so no more (pool.c). */
static bool link_read(const uint8_t *states, uint8_t **next)
{
	uintptr_t address = 0;
	uint8_t marks = LINK_MARK;

	for (int i = 0; i < LINK_BYTES; i++) {
		uint8_t byte = state_read(&states[i]);

		marks &= byte;
		address |= (uintptr_t)(byte & ~LINK_MARK) << LINK_BITS * i;
	}
	*next = (uint8_t *)address;
	return marks;
}

/* The shelf's lock is held. */
static void spare_push(struct shelf *shelf, uint8_t *states)
{
	link_write(states, shelf->spare);
	shelf->spare = states;
	shelf->spare_count++;
}

/* More of them for this thread's shelf. 0 or -ENOMEM in words. */
static int slab_add(struct dma_pool *pool)
{
	struct shelf *own = shelf_of_thread(pool);
	size_t size = array_size(pool), all = sizeof(struct slab) + STATES_READY * size;
	struct slab *slab = aligned_alloc(LINE, all);

	if (!slab)
		return error_set(ENOMEM, "no memory for the bookkeeping of pool %s", pool->name);
	memset(slab, 0, all);
	pthread_spin_lock(&pool->lock);
	slab->next = pool->slabs;
	pool->slabs = slab;
	pthread_spin_unlock(&pool->lock);
	pthread_spin_lock(&own->lock);
	for (size_t i = STATES_READY; i-- > 0;) /* used in the order of their addresses */
		spare_push(own, slab->arrays + i * size + states_begin(pool));
	pthread_spin_unlock(&own->lock);
	return 0;
}

int states_prepare(struct dma_pool *pool)
{
	return states_inline(pool) ? 0 : slab_add(pool);
}

/* NULL if there would be fewer than so many left. */
static uint8_t *spare_pop(struct shelf *shelf, size_t keep)
{
	uint8_t *states = NULL;

	pthread_spin_lock(&shelf->lock);
	if (shelf->spare_count > keep) {
		states = shelf->spare;
		shelf->spare_count--;
		if (unlikely(!link_read(states, &shelf->spare))) {
			shelf->spare = NULL; /* the others wait for the pool's end */
			shelf->spare_count = 0;
		}
	}
	pthread_spin_unlock(&shelf->lock);
	return states;
}

uint8_t *states_get(struct dma_pool *pool, gfp_t gfp)
{
	size_t keep = gfp & __GFP_RECLAIM ? STATES_READY : 0;
	uint8_t *states = spare_pop(shelf_of_thread(pool), keep);

	for (uint32_t i = 1; !states && keep && i < pool->shelf_count; i++)
		states = spare_pop(shelf_to_search(pool, i),
				   2 * keep); /* of units that were given back */
	if (!states && keep)
		slab_add(pool); /* that it can't be had is a failure when none is left */
	for (uint32_t i = 0; !states && i < pool->shelf_count; i++)
		states = spare_pop(shelf_to_search(pool, i), 0);
	if (!states)
		error_set(ENOMEM, "pool %s: no memory for bookkeeping%s", pool->name,
			  gfp & __GFP_RECLAIM ? ""
					      : " is ready, and GFP_ATOMIC does not get more: "
						"allocate ahead with GFP_KERNEL");
	return states;
}

void states_put(struct dma_pool *pool, uint8_t *states)
{
	struct shelf *own = shelf_of_thread(pool);

	memset(states, BLOCK_FREE, pool->per_unit);
	pthread_spin_lock(&own->lock);
	spare_push(own, states);
	pthread_spin_unlock(&own->lock);
}

void states_end(struct dma_pool *pool)
{
	while (pool->slabs) {
		struct slab *slab = pool->slabs;

		pool->slabs = slab->next;
		free(slab);
	}
}
