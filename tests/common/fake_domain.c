/* SPDX-License-Identifier: MIT */
#include "fake_domain.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "test.h"

static int fake_provide(struct domain *domain, size_t size, size_t align, dma_addr_t last,
			struct chunk *chunk)
{
	struct fake_domain *fake = (struct fake_domain *)domain;

	if (fake->before_provide)
		fake->before_provide(fake->context);
	if (domain_check_limit(domain, size))
		return -ENOMEM;
	if (fake->provides_left == 0)
		return error_set(ENOMEM, "the fake domain gives no more");
	if (iova_space_take(&domain->iova, size, align, last, &chunk->dma))
		return error_set(ENOMEM, "the fake domain has no such dma address");
	if (window_take(&fake->window, size, align, &chunk->cpu)) {
		iova_space_release(&domain->iova, chunk->dma, size);
		return -ENOMEM;
	}
	memset(chunk->cpu, 0x5a, size); /* nobody may count on zeroes */
	chunk->size = size;
	fake->provides++;
	if (fake->provides_left != UINT_MAX)
		fake->provides_left--;
	domain->mappings++;
	domain->memory += size;
	return 0;
}

static int fake_withdraw(struct domain *domain, const struct chunk *chunk)
{
	struct fake_domain *fake = (struct fake_domain *)domain;

	if (fake->refuse_withdraw)
		return error_set(EIO, "the fake domain takes nothing back");
	window_give(&fake->window, chunk->cpu, chunk->size);
	iova_space_release(&domain->iova, chunk->dma, chunk->size);
	fake->withdraws++;
	domain->mappings--;
	domain->memory -= chunk->size;
	return 0;
}

static const struct domain_ops fake_ops = {
	.backend = "fake",
	.provide = fake_provide,
	.withdraw = fake_withdraw,
};

void fake_place_open(struct fake_place *p, const struct iova_range *ranges, size_t n)
{
	static const struct iova_range all = {0x1000, UINT64_MAX - 1};
	struct domain *domain = &p->fake.domain;

	memset(p, 0, sizeof(*p));
	assert_int_equal(domain_init(domain, &fake_ops, 0), 0);
	assert_int_equal(window_open(&p->fake.window), 0);
	p->fake.provides_left = UINT_MAX;
	domain->granule = (size_t)sysconf(_SC_PAGESIZE);
	domain->window = p->fake.window.base;
	domain->window_size = p->fake.window.size;
	if (!ranges) {
		ranges = &all;
		n = 1;
	}
	for (size_t i = 0; i < n; i++)
		assert_int_equal(iova_space_add(&domain->iova, ranges[i].first, ranges[i].last), 0);
	assert_int_equal(arena_create(domain, &p->arena), 0);
	p->limits.coherent_mask = p->limits.streaming_mask = DMA_BIT_MASK(64);
	p->coherent.limits = p->orphans.limits = &p->limits;
	pthread_mutex_init(&p->pools.lock, NULL);
	p->place = (struct pool_place){
		.arena = p->arena,
		.limits = &p->limits,
		.list = &p->pools,
		.orphans = &p->orphans,
		.name = "fake",
	};
}

void fake_place_close(struct fake_place *p)
{
	arena_trim(p->arena, 0);
	assert_int_equal(p->fake.domain.mappings, 0);
	arena_destroy(p->arena);
	window_close(&p->fake.window);
	domain_fini(&p->fake.domain);
	pthread_mutex_destroy(&p->pools.lock);
}

int fake_place_setup(void **state)
{
	static struct fake_place place;

	log_capture();
	fake_place_open(&place, NULL, 0);
	*state = &place;
	return 0;
}

int fake_place_teardown(void **state)
{
	fake_place_close(*state);
	return 0;
}
