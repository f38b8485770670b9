/* SPDX-License-Identifier: MIT */
/*
 * growth_registered.c - registered memory, and what debug mode follows, by how much there is
 *
 * Registrations are of a page each, side by side, on soft:, whose own work is counted with the rest.
 */
#include "growth.h"

#include <stdlib.h>
#include <sys/mman.h>

#include <dmaland/dmaland.h>
#include "bench.h"

enum { PAGE = 4096, SMALL = 64 };

#define SPEC  "soft:,bits=57,mappings=4000000000"
#define PLAIN SPEC ",dma_debug=no"

struct registered_growth {
	const char *spec;
	struct dmaland_device *dev;
	char *memory;
	size_t n, bytes; /* registrations of so many bytes */
	uint64_t random;
};

static void device_open(struct registered_growth *g)
{
	g->dev = dmaland_open(g->spec, NULL);
	if (!g->dev || dma_set_mask_and_coherent(g->dev, DMA_BIT_MASK(57)))
		bench_fail("%s", dmaland_last_error());
}

static struct registered_growth *growth_open(const char *spec, size_t n, size_t bytes)
{
	struct registered_growth *g = calloc(1, sizeof(*g));

	if (!g)
		bench_fail("no memory");
	*g = (struct registered_growth){
		.spec = spec,
		.n = n,
		.bytes = bytes,
		.random = 0x9e3779b97f4a7c15u,
	};
	g->memory =
		mmap(NULL, n * bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g->memory == MAP_FAILED)
		bench_fail("no memory");
	device_open(g);
	return g;
}

static void end(void *state)
{
	struct registered_growth *g = state;

	dmaland_close(g->dev);
	munmap(g->memory, g->n * g->bytes);
	free(g);
}

static char *one_of(const struct registered_growth *g, size_t i)
{
	return g->memory + i * g->bytes;
}

/* Any of them: the same ones in every run (Marsaglia's xorshift64). */
static char *any_of(struct registered_growth *g)
{
	g->random ^= g->random << 13;
	g->random ^= g->random >> 7;
	g->random ^= g->random << 17;
	return one_of(g, g->random % g->n);
}

static void one_register(const struct registered_growth *g, char *ptr)
{
	if (dmaland_register(g->dev, ptr, g->bytes))
		bench_fail("%s", dmaland_last_error());
}

static struct registered_growth *fill(const char *spec, size_t n, size_t bytes)
{
	struct registered_growth *g = growth_open(spec, n, bytes);

	for (size_t i = 0; i < n; i++)
		one_register(g, one_of(g, i));
	return g;
}

static void *plain(size_t n)
{
	return fill(PLAIN, n, PAGE);
}

static void *plain_small(size_t n)
{
	return fill(PLAIN, n, SMALL);
}

static void *debug(size_t n)
{
	return fill(SPEC, n, PAGE);
}

static void step_last(void *state)
{
	struct registered_growth *g = state;

	dmaland_unregister(g->dev, one_of(g, g->n - 1));
	one_register(g, one_of(g, g->n - 1));
}

static void step_any(void *state)
{
	struct registered_growth *g = state;
	char *ptr = any_of(g);

	dmaland_unregister(g->dev, ptr);
	one_register(g, ptr);
}

static dma_addr_t one_map(const struct registered_growth *g, char *ptr)
{
	dma_addr_t dma = dma_map_single(g->dev, ptr, g->bytes, DMA_TO_DEVICE);

	if (dma_mapping_error(g->dev, dma))
		bench_fail("%s", dmaland_last_error());
	return dma;
}

static void step_map(void *state)
{
	struct registered_growth *g = state;
	dma_addr_t dma = one_map(g, any_of(g));

	dma_sync_single_for_device(g->dev, dma, g->bytes, DMA_TO_DEVICE);
	dma_unmap_single(g->dev, dma, g->bytes, DMA_TO_DEVICE);
}

/* All of them are mapped, too. */
static void *debug_live(size_t n)
{
	struct registered_growth *g = growth_open(SPEC, n, PAGE);

	if (dmaland_register(g->dev, g->memory, n * PAGE))
		bench_fail("%s", dmaland_last_error());
	for (size_t i = 0; i < n; i++)
		one_map(g, one_of(g, i));
	return g;
}

static void step_check(void *state)
{
	struct registered_growth *g = state;

	if (dmaland_check_registered(g->dev))
		bench_fail("registered memory is not what it was");
}

static void *none(size_t n)
{
	return growth_open(PLAIN, n, PAGE);
}

static void *none_debug(size_t n)
{
	return growth_open(SPEC, n, PAGE);
}

static void step_close(void *state)
{
	struct registered_growth *g = state;

	for (size_t i = 0; i < g->n; i++)
		one_register(g, one_of(g, i));
	dmaland_close(g->dev);
	device_open(g);
}

const struct growth_row growth_registered_rows[] = {
	{.name = "registered.last",
	 .what = "the last of n registered anew",
	 .begin = plain,
	 .step = step_last,
	 .end = end,
	 .max = 100000},
	{.name = "registered.any",
	 .what = "any of n registered anew",
	 .begin = plain,
	 .step = step_any,
	 .end = end,
	 .max = 100000},
	{.name = "registered.small",
	 .what = "any of n of 64 bytes anew",
	 .begin = plain_small,
	 .step = step_any,
	 .end = end,
	 .max = 100000},
	{.name = "registered.debug",
	 .what = "any of n anew, debug mode",
	 .begin = debug,
	 .step = step_any,
	 .end = end,
	 .max = 100000},
	{.name = "registered.map",
	 .what = "any of n mapped, synced, unmapped",
	 .begin = plain,
	 .step = step_map,
	 .end = end,
	 .max = 100000},
	{.name = "registered.map_debug",
	 .what = "the same in debug mode",
	 .begin = debug,
	 .step = step_map,
	 .end = end,
	 .max = 100000},
	{.name = "registered.live_debug",
	 .what = "the same, n are mapped already",
	 .begin = debug_live,
	 .step = step_map,
	 .max = 100000},
	{.name = "registered.check",
	 .what = "all of n are checked, for each",
	 .begin = debug,
	 .step = step_check,
	 .end = end,
	 .max = 100000,
	 .amount = GROWTH_EACH},
	{.name = "registered.close",
	 .what = "register n, close, for each",
	 .begin = none,
	 .step = step_close,
	 .end = end,
	 .max = 100000,
	 .amount = GROWTH_EACH},
	{.name = "registered.close_debug",
	 .what = "the same in debug mode",
	 .begin = none_debug,
	 .step = step_close,
	 .end = end,
	 .max = 100000,
	 .amount = GROWTH_EACH},
};
const size_t growth_registered_count =
	sizeof(growth_registered_rows) / sizeof(growth_registered_rows[0]);
