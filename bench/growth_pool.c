/* SPDX-License-Identifier: MIT */
/*
 * growth_pool.c - pools, their slabs and threads, by how many there are
 *
 * The pools have a place without a device (place.h), since those of a device tell Valgrind each of their
 * blocks: what would be counted is that. All else is public calls.
 *
 * Most blocks are of half a page, so that n pages have 2n of them. A whole slab has 16 pages.
 */
#include "growth.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/error.h"
#include "bench.h"
#include "place.h"

#define HALF (ARENA_PAGE / 2)

/* More than a thread's current and idle slabs have, which hide what is behind them. */
#define BLOCKS_AT_ONCE 1000

struct pool_growth {
	struct bench_place place;
	struct dma_pool *pool; /* that a step uses */
	struct dma_pool **pools;
	size_t n;

	void **vaddrs;
	dma_addr_t *handles;
	size_t *order; /* in which blocks go back */
	size_t at;

	pthread_attr_t attr;
	pthread_t *threads;
	size_t count; /* of threads */
	pthread_barrier_t begun;
};

static void *made(size_t n, size_t size)
{
	void *memory = calloc(n, size);

	if (!memory)
		bench_fail("no memory");
	return memory;
}

static struct dma_pool *pool_make(struct pool_growth *g, size_t size)
{
	struct dma_pool *pool = pool_create("growth", &g->place.place, size, size, 0);

	if (!pool)
		bench_fail("%s", error_last());
	return pool;
}

static void *block_take(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle)
{
	void *vaddr = dma_pool_alloc(pool, gfp, handle);

	if (!vaddr)
		bench_fail("%s", error_last());
	return vaddr;
}

static void pair(struct dma_pool *pool)
{
	dma_addr_t handle;
	void *vaddr = block_take(pool, GFP_KERNEL, &handle);

	dma_pool_free(pool, vaddr, handle);
}

static struct pool_growth *growth_open(size_t n)
{
	struct pool_growth *g = made(1, sizeof(*g));

	bench_place_open(&g->place, 0);
	g->n = n;
	return g;
}

/* ---- beside n pools ---- */

/* Each has been used, the first one first. */
static struct pool_growth *pools_fill(size_t n)
{
	struct pool_growth *g = growth_open(n);

	g->pools = made(n, sizeof(*g->pools));
	for (size_t i = 0; i < n; i++) {
		g->pools[i] = pool_make(g, HALF);
		pair(g->pools[i]);
	}
	return g;
}

static void *first_of_pools(size_t n)
{
	struct pool_growth *g = pools_fill(n);

	g->pool = g->pools[0];
	return g;
}

static void *last_of_pools(size_t n)
{
	struct pool_growth *g = pools_fill(n);

	g->pool = g->pools[n - 1];
	return g;
}

static void step_pair(void *state)
{
	struct pool_growth *g = state;

	pair(g->pool);
}

static void step_create(void *state)
{
	struct pool_growth *g = state;

	dma_pool_destroy(pool_make(g, HALF));
}

/* ---- beside n pages of coherent memory ---- */

static struct page *page_take(struct pool_growth *g, gfp_t gfp)
{
	struct page *first;

	return arena_take(g->place.arena, &g->place.orphans, ARENA_PAGE, ARENA_PAGE, gfp, &first)
		       ? NULL
		       : first;
}

static struct page **pages_fill(struct pool_growth *g)
{
	struct page **pages = made(g->n, sizeof(*pages));

	for (size_t i = 0; i < g->n; i++) {
		pages[i] = page_take(g, GFP_KERNEL);
		if (!pages[i])
			bench_fail("%s", error_last());
	}
	return pages;
}

static void *beside_pages(size_t n)
{
	struct pool_growth *g = growth_open(n);

	free(pages_fill(g));
	return g;
}

static void step_destroy(void *state)
{
	struct pool_growth *g = state;
	struct dma_pool *pool = pool_make(g, ARENA_PAGE);
	dma_addr_t handles[4];
	void *vaddrs[4];

	for (size_t i = 0; i < 4; i++)
		vaddrs[i] = block_take(pool, GFP_KERNEL, &handles[i]);
	for (size_t i = 0; i < 4; i++)
		dma_pool_free(pool, vaddrs[i], handles[i]);
	dma_pool_destroy(pool);
}

/* A pool that is large already, and nothing to grow by but every other of n pages. */
static void *beside_pieces(size_t n)
{
	struct pool_growth *g = growth_open(n);
	struct page **pages;
	dma_addr_t handle;

	g->pool = pool_make(g, HALF);
	for (size_t i = 0; i < 1024; i++)
		block_take(g->pool, GFP_KERNEL, &handle);
	pages = pages_fill(g);
	while (page_take(g, GFP_ATOMIC))
		;
	while (dma_pool_alloc(g->pool, GFP_ATOMIC, &handle))
		;
	for (size_t i = 0; i < n; i += 2)
		arena_give(g->place.arena, pages[i]);
	free(pages);
	return g;
}

/* So many pages' blocks are taken and given back in a step. */
#define PIECES_AT_ONCE ((size_t)16)
#define PAGES_AT_ONCE  ((size_t)64)

/* Slabs come from the arena if the pool has nothing free, and trimming gives them back. */
static void pages_pass(struct dma_pool *pool, size_t pages, gfp_t gfp)
{
	dma_addr_t handles[2 * PAGES_AT_ONCE];
	void *vaddrs[2 * PAGES_AT_ONCE];

	for (size_t i = 0; i < 2 * pages; i++)
		vaddrs[i] = block_take(pool, gfp, &handles[i]);
	for (size_t i = 0; i < 2 * pages; i++)
		dma_pool_free(pool, vaddrs[i], handles[i]);
	dmaland_pool_trim(pool);
}

static void step_grow(void *state)
{
	struct pool_growth *g = state;

	pages_pass(g->pool, PIECES_AT_ONCE, GFP_ATOMIC);
}

/* ---- beside n pages of the pool ---- */

/* All blocks of them are out. */
static struct pool_growth *full_fill(size_t n)
{
	struct pool_growth *g = growth_open(n);

	g->pool = pool_make(g, HALF);
	g->vaddrs = made(2 * n, sizeof(*g->vaddrs));
	g->handles = made(2 * n, sizeof(*g->handles));
	g->order = made(n, sizeof(*g->order));
	for (size_t i = 0; i < 2 * n; i++)
		g->vaddrs[i] = block_take(g->pool, GFP_KERNEL, &g->handles[i]);
	return g;
}

static void *beside_full(size_t n)
{
	return full_fill(n);
}

/* One block of two is out, in each page. Those that came first are side by side, mostly. */
static struct pool_growth *half_fill(size_t n)
{
	struct pool_growth *g = full_fill(n);

	for (size_t i = 0; i < n; i++) {
		dma_pool_free(g->pool, g->vaddrs[2 * i + 1], g->handles[2 * i + 1]);
		g->vaddrs[i] = g->vaddrs[2 * i];
		g->handles[i] = g->handles[2 * i];
		g->order[i] = i;
	}
	return g;
}

static void *beside_half(size_t n)
{
	return half_fill(n);
}

static void *beside_half_at_random(size_t n)
{
	struct pool_growth *g = half_fill(n);
	uint64_t random = 0x9e3779b97f4a7c15u; /* the same numbers in every run */

	for (size_t i = n - 1; i > 0; i--) {
		size_t j, other;

		random ^= random << 13; /* Marsaglia's xorshift64 */
		random ^= random >> 7;
		random ^= random << 17;
		j = random % (i + 1);
		other = g->order[i];
		g->order[i] = g->order[j];
		g->order[j] = other;
	}
	return g;
}

static void step_replace(void *state)
{
	struct pool_growth *g = state;
	const size_t *order = &g->order[g->at];

	for (size_t i = 0; i < BLOCKS_AT_ONCE; i++)
		dma_pool_free(g->pool, g->vaddrs[order[i]], g->handles[order[i]]);
	for (size_t i = 0; i < BLOCKS_AT_ONCE; i++)
		g->vaddrs[order[i]] = block_take(g->pool, GFP_KERNEL, &g->handles[order[i]]);
	g->at = (g->at + BLOCKS_AT_ONCE) % g->n;
}

/* A large pool takes many pages at a time: a step takes as many. */
static void step_trim_slabs(void *state)
{
	struct pool_growth *g = state;

	pages_pass(g->pool, PAGES_AT_ONCE, GFP_KERNEL);
}

static void step_trim(void *state)
{
	struct pool_growth *g = state;

	pair(g->pool);
	dmaland_pool_trim(g->pool);
}

static void step_stats(void *state)
{
	struct pool_growth *g = state;
	struct dmaland_pool_stats stats;

	dmaland_pool_get_stats(g->pool, &stats);
}

/* ---- threads ---- */

static void attr_make(struct pool_growth *g)
{
	if (pthread_attr_init(&g->attr) || pthread_attr_setstacksize(&g->attr, 128 << 10))
		bench_fail("no attributes of threads");
}

static pthread_t thread_begin(struct pool_growth *g, void *(*run)(void *))
{
	pthread_t thread;

	if (pthread_create(&thread, &g->attr, run, g))
		bench_fail("no thread");
	return thread;
}

static void *pools_use(void *state)
{
	struct pool_growth *g = state;

	for (size_t i = 0; i < g->n; i++)
		pair(g->pools[i]);
	return NULL;
}

static void *threads_for_pools(size_t n)
{
	struct pool_growth *g = pools_fill(n);

	attr_make(g);
	return g;
}

static void step_thread_in_pools(void *state)
{
	pthread_join(thread_begin(state, pools_use), NULL);
}

static void *use_and_sleep(void *state)
{
	struct pool_growth *g = state;
	pthread_mutex_t forever = PTHREAD_MUTEX_INITIALIZER;

	pools_use(g);
	pthread_barrier_wait(&g->begun);
	pthread_mutex_lock(&forever);
	pthread_mutex_lock(&forever);
	return NULL;
}

/* They end with the process. */
static struct pool_growth *threads_fill(size_t pools, size_t n)
{
	struct pool_growth *g = pools_fill(pools);

	attr_make(g);
	pthread_barrier_init(&g->begun, NULL, (unsigned int)n + 1);
	for (size_t i = 0; i < n; i++)
		pthread_detach(thread_begin(g, use_and_sleep));
	pthread_barrier_wait(&g->begun);
	return g;
}

static void *threads_of_one_pool(size_t n)
{
	return threads_fill(1, n);
}

#define POOLS_OF_THREADS 16

static void *threads_of_pools(size_t n)
{
	return threads_fill(POOLS_OF_THREADS, n);
}

static void *pools_use_together(void *state)
{
	struct pool_growth *g = state;

	pools_use(g);
	pthread_barrier_wait(&g->begun);
	return NULL;
}

/* All live at once, then all end at once. */
static void step_threads(void *state)
{
	struct pool_growth *g = state;

	for (size_t i = 0; i < g->count; i++)
		g->threads[i] = thread_begin(g, pools_use_together);
	for (size_t i = 0; i < g->count; i++)
		pthread_join(g->threads[i], NULL);
}

static void *threads_together(size_t n)
{
	struct pool_growth *g = pools_fill(POOLS_OF_THREADS);

	attr_make(g);
	g->threads = made(n, sizeof(*g->threads));
	g->count = n;
	pthread_barrier_init(&g->begun, NULL, (unsigned int)n);
	return g;
}

/* A million pools, or ten thousand threads, would measure the machine's memory. */
const struct growth_row growth_pool_rows[] = {
	{.name = "pool.pair_first",
	 .what = "a pair in the first of n pools",
	 .begin = first_of_pools,
	 .step = step_pair,
	 .max = 100000},
	{.name = "pool.pair_last",
	 .what = "a pair in the last of n pools",
	 .begin = last_of_pools,
	 .step = step_pair,
	 .max = 100000},
	{.name = "pool.create",
	 .what = "create, destroy beside n pools",
	 .begin = first_of_pools,
	 .step = step_create,
	 .max = 100000},
	{.name = "pool.destroy",
	 .what = "a pool of 4 pages, n elsewhere",
	 .begin = beside_pages,
	 .step = step_destroy,
	 .max = 1000000},
	{.name = "pool.order",
	 .what = "a pair, n pages, in order",
	 .begin = beside_half,
	 .step = step_replace,
	 .min = BLOCKS_AT_ONCE,
	 .max = 1000000,
	 .amount = BLOCKS_AT_ONCE},
	{.name = "pool.random",
	 .what = "a pair, n pages, at random",
	 .begin = beside_half_at_random,
	 .step = step_replace,
	 .min = BLOCKS_AT_ONCE,
	 .max = 1000000,
	 .amount = BLOCKS_AT_ONCE},
	{.name = "pool.trim",
	 .what = "a page more, trim; n are full",
	 .begin = beside_full,
	 .step = step_trim_slabs,
	 .max = 1000000,
	 .amount = PAGES_AT_ONCE},
	{.name = "pool.trim_half",
	 .what = "a pair, trim; n half free",
	 .begin = beside_half,
	 .step = step_trim,
	 .max = 1000000},
	{.name = "pool.grow",
	 .what = "a slab, every other of n pages",
	 .begin = beside_pieces,
	 .step = step_grow,
	 .max = 1000000,
	 .amount = PIECES_AT_ONCE},
	{.name = "pool.stats",
	 .what = "statistics, n pages",
	 .begin = beside_half,
	 .step = step_stats,
	 .max = 1000000},
	{.name = "pool.thread_pools",
	 .what = "a thread in n pools, for each",
	 .begin = threads_for_pools,
	 .step = step_thread_in_pools,
	 .max = 10000,
	 .amount = GROWTH_EACH},
	{.name = "pool.thread",
	 .what = "a thread, n are at rest",
	 .begin = threads_of_one_pool,
	 .step = step_thread_in_pools,
	 .max = 1000},
	{.name = "pool.thread_16",
	 .what = "a thread in 16 pools, n at rest",
	 .begin = threads_of_pools,
	 .step = step_thread_in_pools,
	 .max = 1000,
	 .amount = POOLS_OF_THREADS},
	{.name = "pool.threads_16",
	 .what = "one of n threads in 16 pools",
	 .begin = threads_together,
	 .step = step_threads,
	 .max = 1000,
	 .amount = GROWTH_EACH},
};
const size_t growth_pool_count = sizeof(growth_pool_rows) / sizeof(growth_pool_rows[0]);
