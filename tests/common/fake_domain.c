/* SPDX-License-Identifier: MIT */
#include "fake_domain.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/error.h"
#include "test.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static int provide_locked(struct fake_domain *fake, size_t size, size_t align, dma_addr_t last,
			  struct chunk *chunk)
{
	const struct iova_wish wish = {.size = size, .align = align, .last = last};
	struct domain *domain = &fake->domain;

	if (domain_check_limit(domain, size))
		return -ENOMEM;
	if (fake->provides_left == 0)
		return error_set(ENOMEM, "the fake domain gives no more");
	if (iova_space_take(&domain->iova, &wish, &chunk->dma))
		return error_set(ENOMEM, "the fake domain has no such dma address");
	if (window_take(&fake->window, size, align, &chunk->cpu)) {
		iova_space_release(&domain->iova, chunk->dma, size);
		return -ENOMEM;
	}
	chunk->size = size;
	fake->provides++;
	if (fake->provides_left != UINT_MAX)
		fake->provides_left--;
	domain->mappings++;
	domain->memory += size;
	return 0;
}

static int fake_provide(struct domain *domain, size_t size, size_t align, dma_addr_t last,
			struct chunk *chunk)
{
	struct fake_domain *fake = (struct fake_domain *)domain;
	int err;

	if (fake->before_provide)
		fake->before_provide(fake->context);
	pthread_mutex_lock(&domain->lock);
	err = provide_locked(fake, size, align, last, chunk);
	pthread_mutex_unlock(&domain->lock);
	if (!err)
		memset(chunk->cpu, 0x5a, size); /* nobody may count on zeroes */
	return err;
}

static int fake_withdraw(struct domain *domain, const struct chunk *chunk)
{
	struct fake_domain *fake = (struct fake_domain *)domain;

	if (fake->refuse_withdraw)
		return error_set(EIO, "the fake domain takes nothing back");
	pthread_mutex_lock(&domain->lock);
	window_give(&fake->window, chunk->cpu, chunk->size);
	iova_space_release(&domain->iova, chunk->dma, chunk->size);
	fake->withdraws++;
	domain->mappings--;
	domain->memory -= chunk->size;
	pthread_mutex_unlock(&domain->lock);
	return 0;
}

/* ---- mapping what exists ---- */

/* The kernel's way to find out whether memory is there: it copies, or fails with EFAULT. */
static bool memory_is_there(char *cpu, size_t size, bool writable)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	for (size_t i = 0; i < size; i += page) {
		struct iovec local = {(char[1]){0}, 1}, remote = {cpu + i, 1};

		if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) != 1)
			return false;
		if (writable && madvise(cpu + i, page, MADV_POPULATE_WRITE))
			return false;
	}
	return true;
}

static struct fake_mapping *mapping_at(struct fake_domain *fake, dma_addr_t dma)
{
	for (size_t i = 0; i < fake->mapped_count; i++)
		if (dma - fake->mapped[i].dma < fake->mapped[i].size)
			return &fake->mapped[i];
	return NULL;
}

static int map_locked(struct fake_domain *fake, const struct fake_mapping *mapping)
{
	struct domain *domain = &fake->domain;

	if (fake->maps_left == 0 && fake->map_error)
		return error_set(fake->map_error, "the fake domain is broken");
	if (fake->maps_left == 0 ||
	    (domain->mapping_limit && domain->mappings >= domain->mapping_limit))
		return error_set(ENOMEM, "the fake domain maps no more");
	if (domain_check_limit(domain, mapping->size))
		return -ENOMEM;
	for (dma_addr_t at = 0; at < mapping->size; at += domain->granule)
		if (mapping_at(fake, mapping->dma + at))
			fail_msg("0x%llx is mapped twice", (unsigned long long)mapping->dma + at);
	if (fake->mapped_count == fake->mapped_room) {
		fake->mapped_room = 2 * fake->mapped_room + 16;
		fake->mapped = realloc(fake->mapped, fake->mapped_room * sizeof(*fake->mapped));
	}
	fake->mapped[fake->mapped_count++] = *mapping;
	if (fake->maps_left != UINT_MAX)
		fake->maps_left--;
	fake->maps++;
	domain->mappings++;
	domain->memory += mapping->size;
	return 0;
}

static int fake_map(struct domain *domain, dma_addr_t dma, void *cpu, size_t size,
		    unsigned int access)
{
	struct fake_domain *fake = (struct fake_domain *)domain;
	struct fake_mapping mapping = {dma, cpu, NULL, size, access};
	int err;

	if (dma % domain->granule || (uintptr_t)cpu % domain->granule || size % domain->granule ||
	    !size || !(access & (DOMAIN_READ | DOMAIN_WRITE)))
		fail_msg("map of %zu bytes at %p to 0x%llx", size, cpu, (unsigned long long)dma);
	if (!memory_is_there(cpu, size, access & DOMAIN_WRITE))
		return error_set(EFAULT, "the fake domain finds no such memory at %p", cpu);
	if (domain->ops->sync) {
		mapping.copy = malloc(size);
		memset(mapping.copy, 0xee, size);
	}
	pthread_mutex_lock(&domain->lock);
	err = map_locked(fake, &mapping);
	pthread_mutex_unlock(&domain->lock);
	if (err)
		free(mapping.copy);
	return err;
}

/* As VFIO's type1: what lies in the range ends. The range must be filled by just n mappings. */
static int fake_unmap(struct domain *domain, dma_addr_t dma, size_t size, unsigned int n)
{
	struct fake_domain *fake = (struct fake_domain *)domain;
	size_t ended = 0;

	if (fake->refuse_unmap)
		return error_set(EIO, "the fake domain ends nothing");
	pthread_mutex_lock(&domain->lock);
	for (size_t i = fake->mapped_count; i-- > 0;) {
		struct fake_mapping *m = &fake->mapped[i];

		if (m->dma - dma >= size)
			continue;
		if (m->dma + m->size > dma + size)
			fail_msg("0x%llx is unmapped in part", (unsigned long long)m->dma);
		ended += m->size;
		n--;
		free(m->copy);
		domain->mappings--;
		domain->memory -= m->size;
		*m = fake->mapped[--fake->mapped_count];
	}
	fake->unmaps++;
	pthread_mutex_unlock(&domain->lock);
	if (ended != size || n)
		fail_msg("%zu bytes at 0x%llx were to be unmapped, and %zu were mapped", size,
			 (unsigned long long)dma, ended);
	return 0;
}

static void fake_sync(struct domain *domain, dma_addr_t dma, size_t size, bool for_device)
{
	struct fake_domain *fake = (struct fake_domain *)domain;
	struct fake_mapping *m;
	size_t offset;

	pthread_mutex_lock(&domain->lock);
	m = mapping_at(fake, dma);
	if (!m || size > m->size - (dma - m->dma))
		fail_msg("sync of %zu bytes at 0x%llx, outside of a mapping", size,
			 (unsigned long long)dma);
	offset = (size_t)(dma - m->dma);
	if (for_device)
		memcpy(m->copy + offset, m->cpu + offset, size);
	else
		memcpy(m->cpu + offset, m->copy + offset, size);
	fake->hand_at_sync = fake->hand;
	pthread_mutex_unlock(&domain->lock);
}

/* Only what the device reaches changes hands: memory of the arena, or in one mapping. */
static void fake_hand(struct domain *domain, enum domain_hand what, dma_addr_t dma, size_t size,
		      const void *memory)
{
	struct fake_domain *fake = (struct fake_domain *)domain;
	const struct fake_mapping *m;

	pthread_mutex_lock(&domain->lock);
	m = mapping_at(fake, dma);
	if ((m && size > m->size - (dma - m->dma)) || (what == HAND_BEGIN && !memory))
		fail_msg("%zu bytes at 0x%llx change hands", size, (unsigned long long)dma);
	fake->hand = what;
	pthread_mutex_unlock(&domain->lock);
}

static const struct domain_ops fake_ops[] = {
	[FAKE_PLAIN] = {.backend = "fake", .provide = fake_provide, .withdraw = fake_withdraw},
	[FAKE_MAPS] = {.backend = "fake",
		       .provide = fake_provide,
		       .withdraw = fake_withdraw,
		       .map = fake_map,
		       .unmap = fake_unmap},
	[FAKE_SHADOW] = {.backend = "fake",
			 .provide = fake_provide,
			 .withdraw = fake_withdraw,
			 .map = fake_map,
			 .unmap = fake_unmap,
			 .sync = fake_sync,
			 .hand = fake_hand},
};

/* ---- the device ---- */

/* Up to size bytes at dma that lie in one piece, where the device may do this; 0: it may not. */
static size_t device_piece(struct fake_place *p, dma_addr_t dma, size_t size, unsigned int access,
			   char **memory)
{
	const struct arena_chunk *chunk;
	struct fake_mapping *m;

	for (chunk = p->arena->chunks; chunk; chunk = chunk->next) {
		size_t offset = (size_t)(dma - chunk->memory.dma);

		if (offset >= chunk->memory.size)
			continue;
		*memory = chunk->memory.cpu + offset;
		return size < chunk->memory.size - offset ? size : chunk->memory.size - offset;
	}
	m = mapping_at(&p->fake, dma);
	if (!m || !(m->access & access))
		return 0;
	*memory = (m->copy ? m->copy : m->cpu) + (dma - m->dma);
	return size < m->size - (dma - m->dma) ? size : m->size - (dma - m->dma);
}

static bool device_access(struct fake_place *p, dma_addr_t dma, char *buffer, size_t size,
			  unsigned int access)
{
	bool reached = true;

	pthread_mutex_lock(&p->fake.domain.lock);
	while (size && reached) {
		char *memory = NULL;
		size_t n = device_piece(p, dma, size, access, &memory);

		if (n && access == DOMAIN_READ)
			memcpy(buffer, memory, n);
		else if (n)
			memcpy(memory, buffer, n);
		reached = n;
		dma += n;
		buffer += n;
		size -= n;
	}
	pthread_mutex_unlock(&p->fake.domain.lock);
	return reached;
}

bool fake_device_read(struct fake_place *p, dma_addr_t dma, void *to, size_t size)
{
	return device_access(p, dma, to, size, DOMAIN_READ);
}

bool fake_device_write(struct fake_place *p, dma_addr_t dma, const void *from, size_t size)
{
	return device_access(p, dma, (char *)(uintptr_t)from, size, DOMAIN_WRITE);
}

/* ---- life ---- */

void fake_place_open(struct fake_place *p, const struct iova_range *ranges, size_t n)
{
	static const struct iova_range all = {0x1000, UINT64_MAX - 1};
	struct domain *domain = &p->fake.domain;

	memset(p, 0, sizeof(*p));
	assert_int_equal(domain_init(domain, &fake_ops[FAKE_PLAIN], 0), 0);
	assert_int_equal(window_open(&p->fake.window), 0);
	p->fake.provides_left = p->fake.maps_left = UINT_MAX;
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
	free(p->fake.mapped);
	domain_fini(&p->fake.domain);
	pthread_mutex_destroy(&p->pools.lock);
}

static void give(struct arena *arena, struct page *first, void *context)
{
	(void)context;
	arena_give(arena, first);
}

void fake_give_all(struct arena *arena, struct arena_tenant *tenant)
{
	arena_for_each_run_of(arena, tenant, give, NULL);
}

void fake_streaming_open(struct fake_place *p, enum fake_kind kind,
			 const struct streaming_options *options)
{
	fake_place_open(p, NULL, 0);
	p->fake.domain.ops = &fake_ops[kind];
	p->space = streaming_space_create(&p->fake.domain, p->arena);
	assert_non_null(p->space);
	assert_int_equal(streaming_init(&p->streaming, p->space, &p->limits, &p->orphans, "fake",
					options ? options : &(struct streaming_options){0}),
			 0);
}

void fake_streaming_close(struct fake_place *p)
{
	streaming_fini(&p->streaming);
	streaming_space_destroy(p->space);
	assert_int_equal(p->fake.mapped_count, 0);
	fake_place_close(p);
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
