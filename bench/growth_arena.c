/* SPDX-License-Identifier: MIT */
/*
 * growth_arena.c - pages and chunks of the arena, by how many there are
 *
 * The domain has addresses and no memory, since the arena does not touch what it hands out.
 */
#include "growth.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "backend/backend.h"
#include "base/bits.h"
#include "base/error.h"
#include "bench.h"
#include "memory/arena.h"

#define WINDOW_PAGES ((size_t)4 << 20)

struct arena_growth {
	struct domain domain;
	struct arena *arena;
	struct dma_limits limits, narrow_limits;
	struct arena_tenant tenant, narrow;
	size_t chunk_max, provided; /* bytes */
	size_t n, align;	    /* of a step, in pages */
	struct page *spare;	    /* four pages */
	struct page **runs;
	size_t count;
};

/* The CPU's addresses, one after the other; those that come back last are given out again. */
static int paper_provide(struct domain *domain, size_t size, size_t align, dma_addr_t last,
			 struct chunk *chunk)
{
	struct arena_growth *g = (struct arena_growth *)domain;
	uintptr_t base = (uintptr_t)domain->window;
	size_t at = align_up(base + g->provided, align) - base;

	if (size > g->chunk_max || at + size > domain->window_size || base + at + size - 1 > last)
		return -ENOMEM;
	g->provided = at + size;
	*chunk = (struct chunk){.cpu = (char *)base + at, .dma = base + at, .size = size};
	return 0;
}

static int paper_withdraw(struct domain *domain, const struct chunk *chunk)
{
	struct arena_growth *g = (struct arena_growth *)domain;

	if (chunk->cpu + chunk->size == domain->window + g->provided)
		g->provided -= chunk->size;
	return 0;
}

static const struct domain_ops paper_ops = {
	.backend = "paper",
	.provide = paper_provide,
	.withdraw = paper_withdraw,
};

static struct page *pages_take(struct arena_growth *g, size_t n, size_t align, gfp_t gfp)
{
	struct page *first;

	if (arena_take(g->arena, &g->tenant, n * ARENA_PAGE, align * ARENA_PAGE, gfp, &first))
		bench_fail("%s", error_last());
	return first;
}

static void take_the_rest(struct arena_growth *g)
{
	struct page *first;

	while (!arena_take(g->arena, &g->tenant, ARENA_PAGE, ARENA_PAGE, GFP_ATOMIC, &first))
		g->runs[g->count++] = first;
}

/* An arena with n runs of one page in use, and nothing free. */
static struct arena_growth *arena_fill(size_t n, size_t chunk_max)
{
	struct arena_growth *g = calloc(1, sizeof(*g));

	if (!g || domain_init(&g->domain, &paper_ops, 0))
		bench_fail("no memory for a domain");
	g->domain.window_size = WINDOW_PAGES * ARENA_PAGE;
	g->domain.window = mmap(NULL, g->domain.window_size, PROT_NONE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (g->domain.window == MAP_FAILED)
		bench_fail("no %zu MiB of addresses", g->domain.window_size >> 20);
	g->domain.granule = ARENA_PAGE;
	g->chunk_max = chunk_max;
	g->limits.coherent_mask = UINT64_MAX >> 1;
	g->tenant.limits = &g->limits;
	g->narrow.limits = &g->narrow_limits;
	g->runs = calloc(2 * n + 20000, sizeof(struct page *));
	if (!g->runs || arena_create(&g->domain, &g->arena))
		bench_fail("no memory for an arena");
	if (chunk_max > ARENA_PAGE)
		g->spare = pages_take(g, 4, 4, GFP_KERNEL);
	while (g->count < n)
		g->runs[g->count++] = pages_take(g, 1, 1, GFP_KERNEL);
	take_the_rest(g);
	g->n = g->align = 1;
	return g;
}

static void run_give(struct arena_growth *g, size_t which)
{
	arena_give(g->arena, g->runs[which]);
	g->runs[which] = NULL;
}

/* Every other page of the first n is free. */
static struct arena_growth *arena_in_pieces(size_t n)
{
	struct arena_growth *g = arena_fill(n, (size_t)32 << 20);

	for (size_t i = 0; i + 8 < g->count; i += 2)
		run_give(g, i);
	return g;
}

static void *one_left(size_t n)
{
	struct arena_growth *g = arena_fill(n, (size_t)32 << 20);

	run_give(g, g->count / 2);
	return g;
}

static void *one_in_pieces(size_t n)
{
	return arena_in_pieces(n);
}

/* Four pages are together, in the chunk that is looked at last. */
static void *four_in_pieces(size_t n)
{
	struct arena_growth *g = arena_in_pieces(n);

	arena_give(g->arena, g->spare);
	g->spare = NULL;
	g->n = g->align = 4;
	return g;
}

static void *many_in_the_empty(size_t n)
{
	struct arena_growth *g = arena_fill(n, (size_t)32 << 20);

	while (g->count)
		run_give(g, --g->count);
	g->n = g->align = 64;
	return g;
}

static void *one_in_small_chunks(size_t n)
{
	struct arena_growth *g = arena_fill(n, ARENA_PAGE);

	for (size_t i = 0; i < g->count; i += 2)
		run_give(g, i);
	return g;
}

/* A narrower device needs what is below the middle of a free run. */
static void *one_above_a_mask(size_t n)
{
	struct arena_growth *g = arena_fill(1, WINDOW_PAGES * ARENA_PAGE);
	struct page *first = pages_take(g, 2 * n, 1, GFP_KERNEL);

	g->narrow_limits.coherent_mask =
		chunk_dma(first->chunk, pagemap_address(&g->arena->pagemap, first + n) - 1);
	take_the_rest(g);
	arena_give(g->arena, first);
	arena_prepare(g->arena, &g->narrow);
	return g;
}

static void step_run(void *state)
{
	struct arena_growth *g = state;

	arena_give(g->arena, pages_take(g, g->n, g->align, GFP_ATOMIC));
}

/* A chunk comes, is used and goes. */
static void step_chunk(void *state)
{
	struct arena_growth *g = state;

	arena_give(g->arena, pages_take(g, 64, 64, GFP_KERNEL));
	arena_trim(g->arena, 0);
}

static void *chunk_beside(size_t n)
{
	struct arena_growth *g = arena_fill(n, (size_t)256 << 10);

	return g;
}

static void arena_end(void *state)
{
	struct arena_growth *g = state;

	for (size_t i = 0; i < g->count; i++)
		if (g->runs[i])
			run_give(g, i);
	if (g->spare)
		arena_give(g->arena, g->spare);
	arena_forget(g->arena, &g->limits);
	arena_forget(g->arena, &g->narrow_limits);
	arena_destroy(g->arena);
	munmap(g->domain.window, g->domain.window_size);
	domain_fini(&g->domain);
	free(g->runs);
	free(g);
}

const struct growth_row growth_arena_rows[] = {
	{.name = "arena.page_full",
	 .what = "a page, one of n free",
	 .begin = one_left,
	 .step = step_run,
	 .end = arena_end,
	 .max = 1000000},
	{.name = "arena.page_pieces",
	 .what = "a page, every other of n free",
	 .begin = one_in_pieces,
	 .step = step_run,
	 .end = arena_end,
	 .max = 1000000},
	{.name = "arena.four_pieces",
	 .what = "four, the only ones together",
	 .begin = four_in_pieces,
	 .step = step_run,
	 .end = arena_end,
	 .max = 1000000},
	{.name = "arena.run_empty",
	 .what = "a run of 64, n free",
	 .begin = many_in_the_empty,
	 .step = step_run,
	 .end = arena_end,
	 .max = 1000000},
	{.name = "arena.page_chunks",
	 .what = "a page, every other chunk free",
	 .begin = one_in_small_chunks,
	 .step = step_run,
	 .end = arena_end,
	 .max = 1000000},
	{.name = "arena.page_above",
	 .what = "a page above a mask, n free",
	 .begin = one_above_a_mask,
	 .step = step_run,
	 .end = arena_end,
	 .max = 1000000},
	{.name = "arena.chunk",
	 .what = "a chunk comes and goes, n pages",
	 .begin = chunk_beside,
	 .step = step_chunk,
	 .end = arena_end,
	 .max = 1000000},
};
const size_t growth_arena_count = sizeof(growth_arena_rows) / sizeof(growth_arena_rows[0]);
