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

	if (w.blocks[i].vaddr)
		explore_fail("the scenario is wrong: place %d is in use", i);
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
	return (int)explore_thread() * 8 + i;
}

void take_n(int n)
{
	for (int i = 0; i < n; i++)
		take(mine(i));
}

void give_n(int n)
{
	for (int i = 0; i < n; i++)
		give(mine(i));
}

void trim(void)
{
	dmaland_pool_trim(w.pool);
}

/* ---- before and after ---- */

static const struct {
	size_t size, boundary;
} layouts[] = {
	[ONE_BLOCK] = {2500, 4096},  [TWO_BLOCKS] = {1500, 4096}, [FOUR_BLOCKS] = {1000, 4096},
	[HALF_PAGES] = {1000, 2048}, [GROWING] = {20000, 0},
};

struct dma_pool *pool_of(enum slabs slabs)
{
	struct dma_pool *pool =
		pool_create("steps", &place.place, layouts[slabs].size, 0, layouts[slabs].boundary);

	pool->idle_max = 1;
	return pool;
}

void stage_watch(bool debug)
{
	place.place.debug = debug;
}

void stage_begin(enum slabs slabs)
{
	memset(&w, 0, sizeof(w));
	threads_reset();
	w.pool = pool_of(slabs);
}

static bool is_of_cache(const struct cache *cache, const volatile void *address)
{
	return address == &cache->allocs || address == &cache->frees || address == &cache->held ||
	       address == &cache->grows;
}

bool stage_is_private(const volatile void *address)
{
	const struct dma_pool *pool = w.pool;
	size_t at = (size_t)((const volatile char *)address - (const char *)pool->caches);

	if (at < sizeof(pool->caches))
		return is_of_cache(&pool->caches[at / sizeof(pool->caches[0])], address);
	return address == &pool->total || address == &pool->pages || address == &pool->grows ||
	       address == &pool->high_water || address == &pool->bad_frees ||
	       address == &pool->returned || address == &pool->refused ||
	       is_of_cache(&pool->shared, address);
}

/* The last of them may be known, but not told of yet. */
static void bad_are_found(void)
{
	size_t found = w.pool->bad_frees + (w.pool->freed_twice != NULL);

	if (found != w.bad)
		explore_fail("%zu bad frees were found, and there were %zu", found, w.bad);
}

static void give_all(void)
{
	for (int i = 0; i < BLOCKS; i++)
		give(i);
}

/* What threads that ended left is inherited, and given back. */
void stage_clear(void)
{
	struct dma_pool *pool = w.pool;

	if (explore_failed())
		return;
	explore_as(0, give_all);
	threads_limit(THREADS - 1);
	thread_number_take(); /* before there are any to take over */
	for (unsigned int i = 0; i < THREADS_MAX; i++)
		explore_as(i, explore_thread_end);
	census(pool, is_out, w.twice);
	if (explore_failed())
		return;
	dmaland_pool_trim(pool);
	if (pool->total || pool->pages || pool->waiting || idle_stack_depth(pool))
		explore_fail("%zu blocks in %zu pages stay at the end", pool->total, pool->pages);
	bad_are_found();
	dma_pool_destroy(pool);
	if (place.arena->free_pages + (hog ? hog->run_pages : 0) != place.arena->pages)
		explore_fail("pages are lost");
	if (hog)
		arena_give(place.arena, hog);
	hog = NULL;
}

void stage_end(void)
{
	census(w.pool, is_out, w.twice);
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

/* What failed has left everything as it was. */
void stage_reopen(void)
{
	hog = NULL;
	stage_open();
}

void stage_close(void)
{
	fake_place_close(&place);
}
