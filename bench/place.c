/* SPDX-License-Identifier: MIT */
#include "place.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "bench.h"

static int bench_provide(struct domain *domain, size_t size, size_t align, dma_addr_t last,
			 struct chunk *chunk)
{
	const struct iova_wish wish = {.size = size, .align = align, .last = last};
	struct bench_place *p = (struct bench_place *)domain;

	if (domain_check_limit(domain, size))
		return -ENOMEM;
	if (iova_space_take(&domain->iova, &wish, &chunk->dma))
		return error_set(ENOMEM, "no dma addresses left");
	if (window_take(&p->window, size, align, &chunk->cpu)) {
		iova_space_release(&domain->iova, chunk->dma, size);
		return -ENOMEM;
	}
	chunk->size = size;
	domain->mappings++;
	domain->memory += size;
	return 0;
}

static int bench_withdraw(struct domain *domain, const struct chunk *chunk)
{
	struct bench_place *p = (struct bench_place *)domain;

	window_give(&p->window, chunk->cpu, chunk->size);
	iova_space_release(&domain->iova, chunk->dma, chunk->size);
	domain->mappings--;
	domain->memory -= chunk->size;
	return 0;
}

static const struct domain_ops bench_ops = {
	.backend = "bench",
	.provide = bench_provide,
	.withdraw = bench_withdraw,
};

void bench_place_open(struct bench_place *p, uint64_t memory_limit)
{
	struct domain *domain = &p->domain;

	memset(p, 0, sizeof(*p));
	if (domain_init(domain, &bench_ops, memory_limit) || window_open(&p->window))
		bench_fail("%s", error_last());
	domain->granule = (size_t)sysconf(_SC_PAGESIZE);
	domain->window = p->window.base;
	domain->window_size = p->window.size;
	/* The 48 bits that an IOMMU commonly translates. */
	if (iova_space_add(&domain->iova, 0x1000, DMA_BIT_MASK(48)) ||
	    arena_create(domain, &p->arena))
		bench_fail("%s", error_last());
	p->limits.coherent_mask = p->limits.streaming_mask = DMA_BIT_MASK(64);
	p->orphans.limits = &p->limits;
	pthread_mutex_init(&p->pools.lock, NULL);
	p->place = (struct pool_place){
		.arena = p->arena,
		.limits = &p->limits,
		.list = &p->pools,
		.orphans = &p->orphans,
		.name = "bench",
	};
}

void bench_place_warm(struct bench_place *p, size_t size)
{
	struct page *first;

	if (arena_take(p->arena, &p->orphans, size, ARENA_PAGE, GFP_KERNEL, &first))
		bench_fail("%s", error_last());
	arena_give(p->arena, first);
}

void bench_place_close(struct bench_place *p)
{
	arena_trim(p->arena, 0);
	if (p->domain.mappings)
		bench_fail("a pool left memory behind");
	arena_destroy(p->arena);
	window_close(&p->window);
	domain_fini(&p->domain);
	pthread_mutex_destroy(&p->pools.lock);
}
