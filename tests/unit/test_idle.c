/* SPDX-License-Identifier: MIT */
/*
 * test_idle.c - what is only kept for later is given up before a limit is said to be hit; and what is not
 */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "memory/coherent.h"
#include "pool/pool_internal.h"
#include "streaming/streaming_internal.h"
#include "streaming_stand.h"

enum { KIB = 1024, BLOCKS = 512 };

static struct domain *const domain = &place.fake.domain;

/* Blocks come and go: some stay parked with the calling thread, others idle in the pool. */
static void use(struct dma_pool *pool)
{
	dma_addr_t handles[BLOCKS];
	void *blocks[BLOCKS];

	for (int round = 0; round < 12; round++) {
		size_t n = dmaland_pool_alloc_bulk(pool, GFP_KERNEL, BLOCKS, blocks, handles);

		dmaland_pool_free_bulk(pool, n, blocks, handles);
	}
}

static struct dma_pool *pool_new(void)
{
	struct dma_pool *pool = pool_create("used", &place.place, KIB, KIB, 0);

	assert_non_null(pool);
	return pool;
}

static void map_and_unmap(struct streaming *device, size_t size, int times)
{
	dma_addr_t dma[64];

	for (int i = 0; i < times; i++) {
		dma[i] = streaming_map(device, memory, size, DMA_TO_DEVICE, 0);
		assert_true(dma[i] != DMA_MAPPING_ERROR);
	}
	for (int i = 0; i < times; i++)
		streaming_unmap(device, dma[i], size, DMA_TO_DEVICE, 0);
}

/* ---- each limit ---- */

static void limit_memory(void)
{
	domain->memory_limit = domain->memory + 8 * KIB;
}

static void limit_mappings(void)
{
	domain->mapping_limit = domain->mappings;
}

/* All addresses but what is idle are taken. */
static void limit_addresses(void)
{
	struct iova_wish wish = {
		.size = UINT64_C(1) << 63, .align = domain->granule, .last = UINT64_MAX};
	uint64_t first;

	while (wish.size >= domain->granule)
		if (iova_space_take(&domain->iova, &wish, &first))
			wish.size /= 2;
}

static void (*const limits[])(void) = {limit_memory, limit_mappings, limit_addresses};

enum { LIMITS = 3 };

/* 64 KiB can be mapped, and as much registered; then the limit is hit. */
static void assert_room(void)
{
	dma_addr_t dma = streaming_map(s, memory, 64 * KIB, DMA_TO_DEVICE, 0);

	if (dma == DMA_MAPPING_ERROR)
		fail_msg("%s", dmaland_last_error());
	streaming_unmap(s, dma, 64 * KIB, DMA_TO_DEVICE, 0);
	if (streaming_register(s, memory + 64 * KIB, 64 * KIB))
		fail_msg("%s", dmaland_last_error());
	assert_int_equal(streaming_unregister(s, memory + 64 * KIB), 0);
}

static void close_limited(void)
{
	domain->memory_limit = 0;
	domain->mapping_limit = 0;
	close_place();
}

static void chunks_that_nobody_uses_are_in_nobodys_way(void **state)
{
	dma_addr_t handle;
	void *vaddr;

	(void)state;
	for (size_t i = 0; i < LIMITS; i++) {
		open_kind(FAKE_MAPS, (struct streaming_options){0});
		vaddr = coherent_alloc(place.arena, &place.coherent, 1 << 20, &handle, GFP_KERNEL);
		assert_non_null(vaddr);
		coherent_free(place.arena, &place.coherent, "fake", 1 << 20, vaddr, handle);
		limits[i]();
		assert_room();
		close_limited();
	}
}

static void a_pools_idle_blocks_and_the_threads_own_are_in_nobodys_way(void **state)
{
	struct dma_pool *pool;

	(void)state;
	for (size_t i = 0; i < LIMITS; i++) {
		open_kind(FAKE_MAPS, (struct streaming_options){0});
		pool = pool_new();
		use(pool);
		limits[i]();
		assert_room();
		assert_int_equal(pool->pages, 0);
		dma_pool_destroy(pool);
		close_limited();
	}
}

/* What a thread has at hand to copy through, once it mapped. */
static void blocks_to_bounce_through_are_in_nobodys_way(void **state)
{
	(void)state;
	for (size_t i = 0; i < LIMITS; i++) {
		open_kind(FAKE_MAPS, (struct streaming_options){0});
		map_and_unmap(s, 500, 20);
		assert_true(bounce_parked(s) >= 20 * 512);
		limits[i]();
		assert_room();
		assert_int_equal(bounce_parked(s), 0);
		map_and_unmap(s, 500, 1);
		close_limited();
	}
}

/* ---- another device of the domain ---- */

static struct streaming other;
static struct dma_limits other_limits;

static void other_open(void)
{
	other_limits.coherent_mask = other_limits.streaming_mask = DMA_BIT_MASK(64);
	assert_int_equal(streaming_init(&other, place.space, &other_limits, &place.orphans, "other",
					&(struct streaming_options){0}),
			 0);
}

static void addresses_that_another_device_keeps_are_in_nobodys_way(void **state)
{
	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	other_open();
	map_and_unmap(&other, 64 * KIB, 1); /* a slab of 64 of them */
	limit_addresses();
	assert_room();
	streaming_fini(&other);
	close_limited();
}

static bool stop;

/* Pools to bounce through come, and end while a narrower mask is set. */
static void *narrow_often(void *unused)
{
	char small[500] = {0};
	dma_addr_t dma;

	(void)unused;
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE))
		for (unsigned int bits = 60; bits > 40; bits--) {
			streaming_set_mask(&other, DMA_BIT_MASK(bits));
			sched_yield(); /* with no memory: there is room for the other thread's */
			dma = streaming_map(&other, small, sizeof(small), DMA_TO_DEVICE, 0);
			if (dma != DMA_MAPPING_ERROR)
				streaming_unmap(&other, dma, sizeof(small), DMA_TO_DEVICE, 0);
		}
	return NULL;
}

static void a_limit_may_be_hit_while_another_device_sets_its_mask(void **state)
{
	pthread_t thread;
	time_t begun = time(NULL);
	int had = 0;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	other_open();
	map_and_unmap(&other, 500, 20);
	domain->memory_limit = sizeof(memory);
	__atomic_store_n(&stop, false, __ATOMIC_RELEASE);
	assert_int_equal(pthread_create(&thread, NULL, narrow_often, NULL), 0);
	for (int i = 0; i < 500 || (!had && time(NULL) - begun < (time_t)patience(60)); i++)
		if (!streaming_register(s, memory, sizeof(memory))) {
			had++;
			assert_int_equal(streaming_unregister(s, memory), 0);
		}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	assert_true(had > 0);
	streaming_fini(&other);
	close_limited();
}

/* Between the two times the place in the window is taken by memory with a lower dma address. */
static void memory_that_comes_back_elsewhere_is_copied_through_where_it_is(void **state)
{
	struct dma_limits narrow = {.coherent_mask = DMA_BIT_MASK(32)};
	struct arena_tenant tenant = {.limits = &narrow};
	dma_addr_t before, dma, handle;
	char back[500];
	void *vaddr;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	before = streaming_map(s, memory, 500, DMA_TO_DEVICE, 0);
	streaming_unmap(s, before, 500, DMA_TO_DEVICE, 0);
	arena_reclaim(place.arena, 0);
	assert_int_equal(domain->mappings, 0);
	vaddr = coherent_alloc(place.arena, &tenant, 256 * KIB, &handle, GFP_KERNEL);
	assert_non_null(vaddr);
	memset(memory, 0x22, 500);
	dma = streaming_map(s, memory, 500, DMA_TO_DEVICE, 0);
	assert_true(dma >> 16 == before >> 16);
	assert_true(fake_device_read(&place, dma, back, 500));
	assert_memory_equal(back, memory, 500);
	streaming_unmap(s, dma, 500, DMA_TO_DEVICE, 0);
	coherent_free(place.arena, &tenant, "fake", 256 * KIB, vaddr, handle);
	close_place();
}

/* ---- masks ---- */

static void a_mask_is_narrowed_where_blocks_are_idle_or_the_threads_own(void **state)
{
	struct dma_pool *pool;
	dma_addr_t handle;
	void *block;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	pool = pool_new();
	use(pool);
	block = dma_pool_alloc(pool, GFP_KERNEL, &handle);
	assert_int_equal(arena_set_mask(place.arena, &place.limits, DMA_BIT_MASK(32), "fake"),
			 -EBUSY);
	assert_error_says("set the mask before allocating; of what is mapped ");
	dma_pool_free(pool, block, handle);
	assert_int_equal(arena_set_mask(place.arena, &place.limits, DMA_BIT_MASK(32), "fake"), 0);
	block = dma_pool_alloc(pool, GFP_KERNEL, &handle);
	assert_true(block && handle <= DMA_BIT_MASK(32));
	dma_pool_free(pool, block, handle);
	dma_pool_destroy(pool);
	close_place();
}

/* ---- what is not given up ---- */

static struct {
	pthread_barrier_t barrier;
	struct dma_pool *pool;
} sleeper;

static void *park_and_sleep(void *unused)
{
	(void)unused;
	use(sleeper.pool);
	pthread_barrier_wait(&sleeper.barrier);
	pthread_barrier_wait(&sleeper.barrier);
	return NULL;
}

static void what_other_threads_have_parked_is_named(void **state)
{
	struct dmaland_pool_stats stats;
	pthread_t thread;
	char says[100];

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	sleeper.pool = pool_new();
	pthread_barrier_init(&sleeper.barrier, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, park_and_sleep, NULL), 0);
	pthread_barrier_wait(&sleeper.barrier);
	domain->memory_limit = domain->memory;
	assert_int_equal(streaming_register(s, memory, sizeof(memory)), -ENOMEM);
	dmaland_pool_get_stats(sleeper.pool, &stats);
	assert_in_range(stats.parked, 1,
			2 * 64); /* blocks of KIB; the slab that it allocates from */
	snprintf(says, sizeof(says),
		 "of what is mapped 0 KiB are in use, %llu KiB kept idle and %zu KiB parked with "
		 "threads",
		 (unsigned long long)(domain->memory / KIB - stats.parked), stats.parked);
	assert_error_says("memory_limit is ");
	assert_error_says(says);
	pthread_barrier_wait(&sleeper.barrier);
	pthread_join(thread, NULL); /* who ends gives it back */
	assert_room();
	pthread_barrier_destroy(&sleeper.barrier);
	dma_pool_destroy(sleeper.pool);
	close_limited();
}

static void what_is_ready_for_a_device_without_system_calls_stays(void **state)
{
	unsigned int provides;
	dma_addr_t dma;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){.no_syscalls = true});
	map_and_unmap(s, 500, 20);
	domain->memory_limit = domain->memory;
	assert_int_equal(streaming_register(s, memory, sizeof(memory)), -ENOMEM);
	provides = place.fake.provides;
	for (size_t size = 1; size < 4096; size *= 2) {
		dma = streaming_map(s, memory, size, DMA_TO_DEVICE, 0);
		assert_true(dma != DMA_MAPPING_ERROR);
		streaming_unmap(s, dma, size, DMA_TO_DEVICE, 0);
	}
	assert_int_equal(place.fake.provides, provides);
	close_limited();
}

/* One of two idle chunks is enough for what is asked. */
static void what_atomic_allocations_find_goes_last(void **state)
{
	dma_addr_t handle[2], dma;
	void *vaddr[2];

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	for (int i = 0; i < 2; i++)
		vaddr[i] = coherent_alloc(place.arena, &place.coherent, 1 << 20, &handle[i],
					  GFP_KERNEL);
	for (int i = 0; i < 2; i++)
		coherent_free(place.arena, &place.coherent, "fake", 1 << 20, vaddr[i], handle[i]);
	assert_int_equal(domain->mappings, 2);
	domain->mapping_limit = 2;
	dma = streaming_map(s, memory, 64 * KIB, DMA_TO_DEVICE, 0);
	assert_true(dma != DMA_MAPPING_ERROR);
	vaddr[0] = coherent_alloc(place.arena, &place.coherent, 4096, &handle[0], GFP_ATOMIC);
	assert_non_null(vaddr[0]);
	coherent_free(place.arena, &place.coherent, "fake", 4096, vaddr[0], handle[0]);
	streaming_unmap(s, dma, 64 * KIB, DMA_TO_DEVICE, 0);
	close_limited();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chunks_that_nobody_uses_are_in_nobodys_way),
		cmocka_unit_test(a_pools_idle_blocks_and_the_threads_own_are_in_nobodys_way),
		cmocka_unit_test(blocks_to_bounce_through_are_in_nobodys_way),
		cmocka_unit_test(addresses_that_another_device_keeps_are_in_nobodys_way),
		cmocka_unit_test(a_limit_may_be_hit_while_another_device_sets_its_mask),
		cmocka_unit_test(memory_that_comes_back_elsewhere_is_copied_through_where_it_is),
		cmocka_unit_test(a_mask_is_narrowed_where_blocks_are_idle_or_the_threads_own),
		cmocka_unit_test(what_other_threads_have_parked_is_named),
		cmocka_unit_test(what_is_ready_for_a_device_without_system_calls_stays),
		cmocka_unit_test(what_atomic_allocations_find_goes_last),
	};

	log_capture();
	return cmocka_run_group_tests_name("idle memory", tests, NULL, NULL);
}
