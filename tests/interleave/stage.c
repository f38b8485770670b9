/* SPDX-License-Identifier: MIT */
#include "stage.h"

#include "test.h"

#include <stdlib.h>

#include "census.h"
#include "explore.h"
#include "fake_domain.h"

enum { MEMORY = 128 * ARENA_PAGE };

static struct fake_place place;
static struct page *hog; /* all memory that is not needed */

struct stage w;

/* ---- what threads do ---- */

bool is_out(const void *vaddr)
{
	for (int i = 0; i < BLOCKS; i++)
		if (w.blocks[i].vaddr == vaddr)
			return true;
	return false;
}

bool take_from(struct dma_pool *pool, int i, gfp_t gfp)
{
	dma_addr_t handle;
	void *vaddr = dma_pool_alloc(pool, gfp, &handle);

	if (vaddr && is_out(vaddr))
		explore_fail("a block has two owners");
	w.blocks[i] = (struct owned){vaddr, handle};
	return vaddr;
}

void take(int i)
{
	if (!take_from(w.pool, i, GFP_KERNEL))
		explore_fail("there is no block");
}

void give_to(struct dma_pool *pool, int i)
{
	struct owned block = w.blocks[i];

	w.blocks[i].vaddr = NULL;
	if (block.vaddr)
		dma_pool_free(pool, block.vaddr, block.handle);
}

void give(int i)
{
	give_to(w.pool, i);
}

int mine(int i)
{
	return (int)explore_thread() * 6 + i;
}

void take_two(void)
{
	take(mine(0));
	take(mine(1));
}

void give_two(void)
{
	give(mine(0));
	give(mine(1));
}

void take_and_give_two(void)
{
	take_two();
	give_two();
}

void give_and_take_two(void)
{
	give_two();
	take_two();
}

void trim(void)
{
	dmaland_pool_trim(w.pool);
}

/* ---- before and after ---- */

struct dma_pool *pool_of(size_t size, uint32_t half)
{
	struct dma_pool *pool = pool_create("steps", &place.place, size, 0, 0);

	pool->half_max = half;
	if (pool->id)
		pool->shelf_count = 2; /* there are no more threads at a time that work much */
	return pool;
}

void stage_watch(bool debug)
{
	place.place.debug = debug;
}

void stage_begin(size_t size, uint32_t half)
{
	memset(&w, 0, sizeof(w));
	w.pool = pool_of(size, half);
}

static void nothing_bad(void)
{
	struct dmaland_pool_stats stats;

	if (explore_failed())
		return;
	dmaland_pool_get_stats(w.pool, &stats);
	if (stats.bad_frees)
		explore_fail("%zu good frees were refused", stats.bad_frees);
}

static void give_all(void)
{
	for (int i = 0; i < BLOCKS; i++)
		give(i);
}

void stage_clear(void)
{
	if (explore_failed())
		return;
	explore_as(0, give_all);
	for (unsigned int i = 0; i < THREADS_MAX; i++)
		explore_as(i, explore_thread_end);
	census(w.pool, is_out);
	if (explore_failed())
		return;
	dmaland_pool_trim(w.pool);
	if (w.pool->unit_count || w.pool->half_count)
		explore_fail("%zu units and %zu halves stay at the end", w.pool->unit_count,
			     w.pool->half_count);
	dma_pool_destroy(w.pool);
	if (place.arena->free_pages + (hog ? hog->run_pages : 0) != place.arena->pages)
		explore_fail("pages are lost");
	if (hog)
		arena_give(place.arena, hog);
	hog = NULL;
	registry_reset();
}

void stage_end(void)
{
	census(w.pool, is_out);
	nothing_bad();
	stage_clear();
}

void take_all_memory(void)
{
	assert_int_equal(arena_take(place.arena, &place.coherent,
				    place.arena->free_pages * ARENA_PAGE, ARENA_PAGE, GFP_ATOMIC,
				    &hog),
			 0);
}

void stage_open(void)
{
	struct page *run;

	fake_place_open(&place, NULL, 0);
	place.fake.domain.memory_limit = MEMORY;
	assert_int_equal(
		arena_take(place.arena, &place.coherent, MEMORY, ARENA_PAGE, GFP_KERNEL, &run), 0);
	arena_give(place.arena, run);
	assert_int_equal(place.arena->pages * ARENA_PAGE, MEMORY);
}

void stage_close(void)
{
	fake_place_close(&place);
}
