/* SPDX-License-Identifier: MIT */
/*
 * setup.c - pools begin, end, and tell of themselves
 *
 * A pool lies in a mapping of its own, whose pages are there once they are used: a cache of 128 bytes for each thread that
 * there may be. In a child of fork() no thread has a number that the parent had, so there they are empty.
 */
#include "pool/pool_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "backend/backend.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mutex.h"
#include "pool/debug.h"

static struct dma_pool *pool_of_shrinker(struct arena_shrinker *shrinker)
{
	char *pool = (char *)shrinker - offsetof(struct dma_pool, shrinker);

	return (struct dma_pool *)(void *)pool;
}

/* Somebody of the domain hits a limit. */
static void pool_shrink(struct arena_shrinker *shrinker)
{
	struct dma_pool *pool = pool_of_shrinker(shrinker);

	if (!pool->place.limits->keeps_idle)
		pool_trim(pool);
}

static void pool_count_idle(struct arena_shrinker *shrinker, struct arena_idle *idle)
{
	struct dma_pool *pool = pool_of_shrinker(shrinker);
	struct dmaland_pool_stats stats;

	dmaland_pool_get_stats(pool, &stats);
	idle->parked += stats.parked * pool->stride;
	if (stats.total > stats.in_use + stats.parked)
		idle->kept += (stats.total - stats.in_use - stats.parked) * pool->stride;
}

static void list_add(struct pool_list *list, struct dma_pool *pool)
{
	pthread_mutex_lock(&list->lock);
	pool->link = list->first ? list->end : &list->first;
	*pool->link = pool;
	list->end = &pool->next;
	pthread_mutex_unlock(&list->lock);
}

static void pool_unlist(struct pool_list *list, struct dma_pool *pool)
{
	pthread_mutex_lock(&list->lock);
	*pool->link = pool->next;
	if (pool->next)
		pool->next->link = pool->link;
	else
		list->end = pool->link;
	pthread_mutex_unlock(&list->lock);
}

/* How an address leads to its slab's entry: pool_internal.h. 0 or -ENOMEM in words. */
static int pool_set_entries(struct dma_pool *pool)
{
	const struct pagemap *map = &pool->place.arena->pagemap;
	uintptr_t window = ((map->mask + 1) << ARENA_PAGE_SHIFT) - 1, slab = pool->slab_size - 1;

	pool->window = (uintptr_t)map->window;
	pool->rest_mask = ~window | slab;
	pool->entries = map->pages;
	pool->entry_log2 = ARENA_PAGE_SHIFT;
	pool->slabs_a_page = 1;
	if (pool->slab_size < ARENA_PAGE) {
		pool->slabs_a_page = (uint32_t)(ARENA_PAGE / pool->slab_size);
		pool->entry_log2 = (uint32_t)__builtin_ctzll(pool->slab_size);
		pool->entries = (void *)arena_side(pool->place.arena,
						   pool->slabs_a_page * sizeof(struct page), 1);
	}
	pool->entry_mask = (window >> pool->entry_log2 & ~(slab >> pool->entry_log2))
			   << PAGE_ENTRY_SHIFT;
	pool->entry_log2 -= PAGE_ENTRY_SHIFT;
	if (pool->slabs_a_page == 1)
		pool->whole_pages =
			(uint32_t)(align_up(pool->blocks * pool->stride, ARENA_PAGE) / ARENA_PAGE);
	return pool->entries ? 0 : -ENOMEM;
}

static struct dma_pool *pool_map(void)
{
	void *memory = mmap(NULL, sizeof(struct dma_pool), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory != MAP_FAILED)
		return memory;
	error_mmap("no memory for a pool");
	return NULL;
}

static int pool_begin(struct dma_pool *pool, size_t size, size_t align, size_t boundary)
{
	int err = pool_lay_out(pool, size, align, boundary);

	if (!err)
		err = pool_set_entries(pool);
	if (!err && pool->debug)
		err = debug_begin(pool);
	if (!err && (mutex_init_inherit(&pool->trimming) || rt_lock_init(&pool->shared_lock)))
		err = error_set(ENOMEM, "no memory for a pool");
	return err;
}

struct dma_pool *pool_create(const char *name, const struct pool_place *place, size_t size,
			     size_t align, size_t boundary)
{
	struct dma_pool *pool = pool_map();

	if (!pool)
		return NULL;
	pool->place = *place;
	pool->tenant.limits = place->limits;
	snprintf(pool->name, sizeof(pool->name), "%s", name ? name : "");
	pool->debug = (place->debug ? POOL_CHECKED : 0) | (place->annotate ? POOL_ANNOTATED : 0);
	if (pool_begin(pool, size, align, boundary)) {
		munmap(pool, sizeof(*pool));
		return NULL;
	}
	pool->shrinker = (struct arena_shrinker){.shrink = pool_shrink, .count = pool_count_idle};
	arena_add_shrinker(place->arena, &pool->shrinker);
	arena_prepare(place->arena, &pool->tenant);
	list_add(place->list, pool);
	return pool;
}

struct end {
	struct dma_pool *pool;
	bool busy;
};

/* Nobody uses the pool any more: a run goes to the arena, or to the device's orphans. */
static void run_end(struct arena *arena, struct page *run, void *context)
{
	struct end *end = context;
	struct dma_pool *pool = end->pool;
	struct page *first;
	bool busy = false;

	first = slab_entry(pool, pagemap_address(&arena->pagemap, run));
	if (pool->slabs_a_page == 1)
		first = run;
	for (uint32_t i = 0; i < pool->slabs_a_page; i++) {
		busy |= !slab_is_complete(pool, &first[i]);
		slab_set_owner(&first[i], SLAB_NONE);
	}
	if (!busy) {
		slab_give(pool, first);
		return;
	}
	end->busy = true;
	slab_memory_end(pool, run);
	for (uint32_t i = 0; pool->debug && i < pool->slabs_a_page; i++)
		debug_slab_end(pool, &first[i]);
	arena_hand_over(arena, run, pool->place.orphans);
}

void dma_pool_destroy(struct dma_pool *pool)
{
	struct end end = {.pool = pool};

	if (!pool || pool_is_disowned(pool))
		return;
	pool_unlist(pool->place.list, pool);
	arena_remove_shrinker(pool->place.arena, &pool->shrinker);
	if (pool->debug)
		debug_end(pool);
	arena_for_each_run_of(pool->place.arena, &pool->tenant, run_end, &end);
	if (end.busy)
		log_line(DMALAND_LOG_ERR, "%s: dma_pool_destroy %s busy", pool->place.name,
			 pool->name);
	pthread_mutex_destroy(&pool->trimming);
	rt_lock_destroy(&pool->shared_lock);
	munmap(pool, sizeof(*pool));
}

void dmaland_pool_trim(struct dma_pool *pool)
{
	struct error_state before;

	if (!pool || pool_is_disowned(pool))
		return;
	error_keep(&before);
	pool_trim(pool);
	arena_trim(pool->place.arena, ARENA_RESERVE_PAGES);
	error_put_back(&before);
}

/* ---- statistics ---- */

struct counts {
	size_t allocs, frees, held, reserved;
};

static void counts_add(struct counts *counts, const struct cache *cache)
{
	counts->frees += racy_load(&cache->frees);
	counts->allocs += racy_load(&cache->allocs);
	counts->held += racy_load(&cache->held);
	counts->reserved += racy_load(&cache->reserved);
}

/* Others change what is added up meanwhile. */
static size_t difference(size_t a, size_t b)
{
	return (ptrdiff_t)(a - b) > 0 ? a - b : 0;
}

void dmaland_pool_get_stats(struct dma_pool *pool, struct dmaland_pool_stats *stats)
{
	uint32_t numbers = thread_numbers();
	struct counts counts = {.held = 0};

	memset(stats, 0, sizeof(*stats));
	memcpy(stats->name, pool->name, sizeof(stats->name));
	stats->block_size = pool->size;
	if (pool_is_disowned(pool))
		return;
	counts_add(&counts, &pool->shared);
	for (uint32_t i = 1; i < numbers; i++)
		counts_add(&counts, &pool->caches[i]);
	counts.held -= racy_load(&pool->returned);
	counts.frees -= racy_load(&pool->freed_twice_count);
	stats->total = racy_load(&pool->total);
	stats->pages = racy_load(&pool->pages);
	stats->in_use = difference(counts.allocs, counts.frees) + counts.reserved;
	if (stats->in_use > stats->total)
		stats->in_use = stats->total;
	stats->parked = difference(counts.held, stats->in_use);
	if (stats->parked > stats->total - stats->in_use)
		stats->parked = stats->total - stats->in_use;
	stats->high_water = racy_load(&pool->high_water);
	stats->grows = racy_load(&pool->grows);
	stats->refused = racy_load(&pool->refused);
	stats->bad_frees = racy_load(&pool->bad_frees);
}

size_t pool_list_stats(struct pool_list *list, struct dmaland_pool_stats *stats, size_t n)
{
	size_t count = 0;

	pthread_mutex_lock(&list->lock);
	for (struct dma_pool *pool = list->first; pool; pool = pool->next, count++)
		if (count < n)
			dmaland_pool_get_stats(pool, &stats[count]);
	pthread_mutex_unlock(&list->lock);
	return count;
}
