/* SPDX-License-Identifier: MIT */
/*
 * growth_streaming.c - mappings and their dma addresses, by how many there are
 *
 * All is public calls on `soft:` without its debug mode. The same memory is mapped over and over; as a
 * list of one element where there is a boundary, which single mappings need not hold. What
 * takes no slot of a slab (iova/cache.h) takes a range of free addresses: 33 granules and more, and
 * everything at a segment boundary that no slab fits into.
 */
#include "growth.h"

#include <stdlib.h>
#include <sys/mman.h>

#include <dmaland/dmaland.h>
#include "bench.h"

#define GRANULE ((size_t)4096)
#define RANGE	(33 * GRANULE)
#define LARGER	(40 * GRANULE)

struct streaming_growth {
	struct dmaland_device *dev;
	char *memory;
	dma_addr_t *live;
	size_t n, size; /* of a step's mapping */
	bool bounded;	/* lists hold a segment boundary, of one element too */
};

static dma_addr_t map(struct streaming_growth *g, size_t size)
{
	struct scatterlist sg;
	dma_addr_t dma;

	sg_init_one(&sg, g->memory, (unsigned int)size);
	if (g->bounded)
		dma = dma_map_sg(g->dev, &sg, 1, DMA_TO_DEVICE) == 1 ? sg_dma_address(&sg)
								     : DMA_MAPPING_ERROR;
	else
		dma = dma_map_single(g->dev, g->memory, size, DMA_TO_DEVICE);
	if (dma_mapping_error(g->dev, dma))
		bench_fail("%s", dmaland_last_error());
	return dma;
}

static void unmap(struct streaming_growth *g, dma_addr_t dma, size_t size)
{
	struct scatterlist sg;

	if (!g->bounded) {
		dma_unmap_single(g->dev, dma, size, DMA_TO_DEVICE);
		return;
	}
	sg_init_one(&sg, g->memory, (unsigned int)size);
	sg_dma_address(&sg) = dma;
	sg_dma_len(&sg) = (unsigned int)size;
	dma_unmap_sg(g->dev, &sg, 1, DMA_TO_DEVICE);
}

/* n mappings are live. */
static struct streaming_growth *live_fill(size_t n, size_t size, uint64_t boundary)
{
	struct streaming_growth *g = calloc(1, sizeof(*g));

	if (!g || !(g->live = calloc(n, sizeof(*g->live))))
		bench_fail("no memory");
	g->dev = dmaland_open("soft:,dma_debug=no,mappings=4000000000,bits=57", NULL);
	if (!g->dev)
		bench_fail("%s", dmaland_last_error());
	if (dma_set_mask_and_coherent(g->dev, DMA_BIT_MASK(57)) ||
	    dma_set_seg_boundary(g->dev, boundary))
		bench_fail("%s", dmaland_last_error());
	g->memory = mmap(NULL, LARGER, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (g->memory == MAP_FAILED)
		bench_fail("no memory");
	g->n = n;
	g->size = size;
	g->bounded = boundary != UINT64_MAX;
	for (size_t i = 0; i < n; i++)
		g->live[i] = map(g, size);
	return g;
}

static void *slots_live(size_t n)
{
	return live_fill(n, GRANULE, UINT64_MAX);
}

/* One slot of each slab is live, above the device's mask. */
static void *slots_above(size_t n)
{
	struct streaming_growth *g = live_fill(n, GRANULE, UINT64_MAX);

	for (size_t i = 0; i < n; i++)
		if (i % 64)
			unmap(g, g->live[i], GRANULE);
	if (dma_set_mask(g->dev, DMA_BIT_MASK(36)))
		bench_fail("%s", dmaland_last_error());
	return g;
}

static void *ranges_live(size_t n)
{
	return live_fill(n, RANGE, UINT64_MAX);
}

/* Every other of 2n mappings ends; the step's is larger, or has room in each hole. */
static void *holes(size_t n, size_t size, size_t step_size, uint64_t boundary)
{
	struct streaming_growth *g = live_fill(2 * n, size, boundary);

	for (size_t i = 0; i < 2 * n; i += 2)
		unmap(g, g->live[i], size);
	g->size = step_size;
	return g;
}

static void *holes_too_small(size_t n)
{
	return holes(n, RANGE, LARGER, UINT64_MAX);
}

static void *holes_that_fit(size_t n)
{
	return holes(n, RANGE, RANGE, UINT64_MAX);
}

static void *at_4_gib(size_t n)
{
	return holes(n, RANGE, LARGER, DMA_BIT_MASK(32));
}

/* Of each 64 KiB 24 are left. */
static void *at_a_boundary(size_t n)
{
	return live_fill(n, 10 * GRANULE, DMA_BIT_MASK(16));
}

static void *small_at_a_boundary(size_t n)
{
	struct streaming_growth *g = at_a_boundary(n);

	g->size = GRANULE;
	return g;
}

static void *holes_at_a_boundary(size_t n)
{
	return holes(n, 10 * GRANULE, 16 * GRANULE, DMA_BIT_MASK(16));
}

static void step_pair(void *state)
{
	struct streaming_growth *g = state;

	unmap(g, map(g, g->size), g->size);
}

/* The process ends with all of it. */
#define ROW(name_, what_, begin_)                                                                  \
	{                                                                                          \
		.name = name_, .what = what_, .begin = begin_, .step = step_pair, .max = 1000000   \
	}

const struct growth_row growth_streaming_rows[] = {
	ROW("streaming.slot", "map and unmap 4 KiB, n live", slots_live),
	ROW("streaming.slot_mask", "4 KiB, n / 64 live above a mask", slots_above),
	ROW("streaming.range", "132 KiB, n live", ranges_live),
	ROW("streaming.holes_small", "160 KiB, n holes of 132", holes_too_small),
	ROW("streaming.holes_fit", "132 KiB, n holes of 132", holes_that_fit),
	ROW("streaming.bound_4g", "160, boundary 4 GiB, n of 132", at_4_gib),
	ROW("streaming.bound_64k", "40 KiB, boundary 64 KiB, n live", at_a_boundary),
	ROW("streaming.bound_64k_small", "4 KiB there", small_at_a_boundary),
	ROW("streaming.bound_64k_holes", "64 KiB there, n holes of 40", holes_at_a_boundary),
};
const size_t growth_streaming_count =
	sizeof(growth_streaming_rows) / sizeof(growth_streaming_rows[0]);
