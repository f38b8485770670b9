/* SPDX-License-Identifier: MIT */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_domain.h"
#include "memory/coherent.h"

static void *alloc(struct fake_place *p, size_t size, dma_addr_t *handle)
{
	return coherent_alloc(p->arena, &p->coherent, size, handle, GFP_KERNEL);
}

static void release(struct fake_place *p, size_t size, void *vaddr, dma_addr_t handle)
{
	coherent_free(p->arena, &p->coherent, "fake", size, vaddr, handle);
}

static void coherent_memory_is_zeroed_and_naturally_aligned(void **state)
{
	static const size_t sizes[] = {1,      17,	4096,	 4097,	  12288,    65536,
				       100000, 1 << 20, 3 << 20, 4 << 20, 12345678, 64 << 20};
	struct fake_place *p = *state;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t cover = 1;
		dma_addr_t handle = 0;
		char *memory = alloc(p, sizes[i], &handle);

		while (cover < sizes[i])
			cover *= 2;
		assert_non_null(memory);
		assert_int_not_equal(handle, 0);
		assert_int_equal((uintptr_t)memory % cover, 0);
		assert_int_equal(handle % cover, 0);
		for (size_t b = 0; b < sizes[i]; b++)
			if (memory[b])
				fail_msg("byte %zu of %zu is not zero", b, sizes[i]);
		memset(memory, 0xff, sizes[i]);
		release(p, sizes[i], memory, handle);
	}
	assert_string_equal(log_text(), "");
	assert_int_equal(p->arena->free_pages, p->arena->pages);
}

/* 48 MiB of addresses, in which 32 MiB aligned to themselves fit once. */
static void large_memory_is_aligned_where_addresses_allow_it_and_had_in_any_case(void **state)
{
	static const struct iova_range range = {28 << 20, (76 << 20) - 1};
	struct fake_place *p = *state;
	const size_t size = 20 << 20;
	dma_addr_t natural, other;
	struct dma_pool *pool;
	void *first, *second;

	fake_place_close(p);
	fake_place_open(p, &range, 1);
	first = alloc(p, size, &natural);
	assert_non_null(first);
	assert_int_equal(natural, 32 << 20);
	assert_int_equal((uintptr_t)first % (32 << 20), 0);
	second = alloc(p, size, &other);
	assert_non_null(second);
	assert_int_equal(other % (4 << 20), 0);
	assert_int_equal((uintptr_t)second % (4 << 20), 0);

	/* A pool of one block insists. */
	pool = pool_create("one block", &p->place, size, 32 << 20, 0);
	assert_non_null(pool);
	release(p, size, second, other);
	assert_null(dma_pool_alloc(pool, GFP_KERNEL, &other));
	assert_int_equal(errno, ENOMEM);
	release(p, size, first, natural);
	second = dma_pool_alloc(pool, GFP_KERNEL, &other);
	assert_non_null(second);
	assert_int_equal(other % (32 << 20), 0);
	dma_pool_free(pool, second, other);
	dma_pool_destroy(pool);
}

static void memory_that_was_used_comes_back_zeroed(void **state)
{
	struct fake_place *p = *state;
	dma_addr_t handle;

	for (int i = 0; i < 100; i++) {
		char *memory = alloc(p, 4096, &handle);

		for (size_t b = 0; b < 4096; b++)
			assert_int_equal(memory[b], 0);
		memset(memory, 0xee, 4096);
		release(p, 4096, memory, handle);
	}
}

static void sizes_that_make_no_sense_are_refused(void **state)
{
	dma_addr_t handle = 42;

	assert_null(alloc(*state, 0, &handle));
	assert_int_equal(errno, EINVAL);
	assert_null(alloc(*state, SIZE_MAX, &handle));
	assert_null(alloc(*state, SIZE_MAX / 4, &handle));
	assert_int_equal(errno, ENOMEM);
	assert_int_equal(handle, 42);
}

static void a_free_that_does_not_match_is_reported_and_dropped(void **state)
{
	struct fake_place *p = *state;
	dma_addr_t handle;
	char *memory = alloc(p, 10000, &handle), other[16];
	size_t free_pages = p->arena->free_pages;

	release(p, 10001, memory, handle);
	assert_logged("with different size");
	release(p, 10000, memory, handle + 4096);
	assert_logged("with different device address");
	release(p, 10000, memory + 4096, handle + 4096);
	assert_logged("has not allocated");
	log_clear();
	release(p, 10000, memory + 1, handle + 1);
	assert_logged("has not allocated");
	log_clear();
	release(p, 16, other, 0x1000);
	assert_logged("has not allocated");
	assert_int_equal(p->arena->free_pages, free_pages);
	log_clear();
	release(p, 10000, memory, handle);
	assert_string_equal(log_text(), "");
	release(p, 10000, memory, handle);
	assert_logged("has not allocated");
	release(p, 0, NULL, 0);
}

static void a_narrow_mask_is_served_from_below_it_and_a_wide_one_from_above(void **state)
{
	struct fake_place *p = *state;
	struct dma_limits narrow = {.coherent_mask = DMA_BIT_MASK(28)};
	struct arena_tenant tenant = {.limits = &narrow};
	dma_addr_t high, low[300];
	void *h, *l[300];

	h = alloc(p, 4096, &high);
	assert_non_null(h);
	assert_true(high > DMA_BIT_MASK(32));
	for (size_t i = 0; i < 300; i++) {
		l[i] = coherent_alloc(p->arena, &tenant, 8192, &low[i], GFP_KERNEL);
		assert_non_null(l[i]);
		assert_true(low[i] + 8191 <= DMA_BIT_MASK(28));
	}
	for (size_t i = 0; i < 300; i++)
		coherent_free(p->arena, &tenant, "fake", 8192, l[i], low[i]);
	release(p, 4096, h, high);
}

static void a_mask_that_cuts_through_a_chunk_is_kept(void **state)
{
	static const struct iova_range range = {0x100000, 0x8fffff};
	struct fake_place *p = *state;
	struct dma_limits narrow = {.coherent_mask = 0x87ffff};
	struct arena_tenant tenant = {.limits = &narrow};
	dma_addr_t handle;
	size_t taken = 0;

	fake_place_close(p);
	fake_place_open(p, &range, 1);
	while (coherent_alloc(p->arena, &tenant, 4096, &handle, GFP_KERNEL)) {
		assert_true(handle + 4095 <= narrow.coherent_mask);
		taken++;
	}
	assert_int_equal(taken, (0x880000 - 0x100000) / 4096);
	while (alloc(p, 4096, &handle))
		assert_true(handle > narrow.coherent_mask);
	assert_int_equal(p->arena->free_pages, 0);
	fake_give_all(p->arena, &tenant);
	fake_give_all(p->arena, &p->coherent);
}

static void narrowing_a_mask_below_memory_in_use_is_refused(void **state)
{
	struct fake_place *p = *state;
	dma_addr_t handle;
	void *memory = alloc(p, 4096, &handle);

	assert_int_equal(arena_set_mask(p->arena, &p->limits, DMA_BIT_MASK(32), "fake"), -EBUSY);
	assert_error_says("set the mask before allocating");
	assert_true(p->limits.coherent_mask == DMA_BIT_MASK(64));
	release(p, 4096, memory, handle);
	assert_int_equal(arena_set_mask(p->arena, &p->limits, DMA_BIT_MASK(32), "fake"), 0);
	memory = alloc(p, 4096, &handle);
	assert_true(handle <= DMA_BIT_MASK(32));
	release(p, 4096, memory, handle);
}

static void atomic_never_grows_and_finds_the_reserve(void **state)
{
	struct fake_place *p = *state;
	dma_addr_t handle[ARENA_RESERVE_PAGES + 1];
	void *memory[ARENA_RESERVE_PAGES + 1];
	unsigned int provides;
	void *kernel[64];
	dma_addr_t kernel_handle[64];

	assert_null(coherent_alloc(p->arena, &p->coherent, 4096, &handle[0], GFP_ATOMIC));
	assert_int_equal(p->fake.provides, 0);
	for (int i = 0; i < 64; i++)
		assert_non_null(kernel[i] = alloc(p, 4096, &kernel_handle[i]));
	provides = p->fake.provides;
	assert_true(p->arena->free_pages >= ARENA_RESERVE_PAGES);
	for (int i = 0; i < ARENA_RESERVE_PAGES; i++)
		assert_non_null(memory[i] = coherent_alloc(p->arena, &p->coherent, 4096, &handle[i],
							   GFP_ATOMIC));
	assert_int_equal(p->fake.provides, provides);
	for (int i = 0; i < ARENA_RESERVE_PAGES; i++)
		release(p, 4096, memory[i], handle[i]);
	for (int i = 0; i < 64; i++)
		release(p, 4096, kernel[i], kernel_handle[i]);
}

static void when_the_domain_gives_no_more_what_is_there_is_used_up(void **state)
{
	struct fake_place *p = *state;
	dma_addr_t handle;

	p->fake.provides_left = 1;
	while (alloc(p, 4096, &handle))
		;
	assert_int_equal(errno, ENOMEM);
	assert_error_says("gives no more");
	assert_int_equal(p->arena->free_pages, 0);
	assert_int_equal(p->fake.provides, 1);
	fake_give_all(p->arena, &p->coherent);
}

static void a_small_memory_limit_still_gives_all_that_it_allows(void **state)
{
	struct fake_place *p = *state;
	dma_addr_t handle;
	size_t pages = 0;

	p->fake.domain.memory_limit = 300 << 10;
	while (alloc(p, 4096, &handle))
		pages++;
	assert_error_says("memory_limit is 300 KiB");
	assert_int_equal(pages, 75);
	fake_give_all(p->arena, &p->coherent);
}

static void idle_chunks_make_room_for_a_request_that_fits_none(void **state)
{
	struct fake_place *p = *state;
	dma_addr_t handle;
	void *memory = alloc(p, 4096, &handle);

	release(p, 4096, memory, handle);
	p->fake.domain.memory_limit = 1 << 20;
	memory = alloc(p, 1 << 20, &handle);
	assert_non_null(memory);
	release(p, 1 << 20, memory, handle);
}

static void a_large_block_goes_back_to_the_system_when_it_is_freed(void **state)
{
	struct fake_place *p = *state;
	dma_addr_t handle;
	void *memory = alloc(p, 100 << 20, &handle);

	assert_non_null(memory);
	assert_true(p->fake.domain.memory >= 100 << 20);
	release(p, 100 << 20, memory, handle);
	assert_true(p->fake.domain.memory < 10 << 20);
}

static void chunks_that_the_domain_keeps_are_reported_and_kept(void **state)
{
	struct fake_place *p = *state;
	dma_addr_t handle;
	void *memory = alloc(p, 4096, &handle);

	release(p, 4096, memory, handle);
	p->fake.refuse_withdraw = true;
	arena_trim(p->arena, 0);
	assert_logged("stay mapped");
	assert_int_equal(p->fake.domain.mappings, 1);
	assert_non_null(memory = alloc(p, 4096, &handle));
	release(p, 4096, memory, handle);
	p->fake.refuse_withdraw = false;
}

static void translation_knows_only_memory_that_is_handed_out(void **state)
{
	struct fake_place *p = *state;
	dma_addr_t handle, other;
	char *memory = alloc(p, 3 * 4096, &handle), *next = alloc(p, 4096, &other), local;

	assert_true(arena_translate(p->arena, &p->limits, memory + 5, 3 * 4096 - 5) == handle + 5);
	assert_true(arena_translate(p->arena, &p->limits, memory, 0) == DMA_MAPPING_ERROR);
	assert_true(arena_translate(p->arena, &p->limits, &local, 1) == DMA_MAPPING_ERROR);
	assert_true(arena_translate(p->arena, &p->limits, memory, SIZE_MAX) == DMA_MAPPING_ERROR);
	assert_true(arena_translate(p->arena, &p->limits, NULL, 1) == DMA_MAPPING_ERROR);
	release(p, 3 * 4096, memory, handle);
	assert_true(arena_translate(p->arena, &p->limits, memory, 1) == DMA_MAPPING_ERROR);
	release(p, 4096, next, other);
}

static void translation_never_gives_an_address_above_the_mask(void **state)
{
	struct fake_place *p = *state;
	struct dma_limits narrow = {.coherent_mask = DMA_BIT_MASK(28)};
	dma_addr_t handle;
	void *memory = alloc(p, 4096, &handle);

	assert_true(handle > narrow.coherent_mask);
	assert_true(arena_translate(p->arena, &narrow, memory, 4096) == DMA_MAPPING_ERROR);
	release(p, 4096, memory, handle);
}

static void high_memory_is_no_reserve_for_a_narrow_mask(void **state)
{
	struct fake_place *p = *state;
	struct dma_limits narrow = {.coherent_mask = DMA_BIT_MASK(28)};
	struct arena_tenant tenant = {.limits = &narrow};
	dma_addr_t handle;
	void *memory;

	memory = alloc(p, 4096, &handle); /* a chunk up there with pages left */
	for (int i = 0; i < 200; i++)
		assert_non_null(coherent_alloc(p->arena, &tenant, 4096, &handle, GFP_KERNEL));
	assert_non_null(memory);
	for (int i = 0; i < ARENA_RESERVE_PAGES; i++)
		assert_non_null(coherent_alloc(p->arena, &tenant, 4096, &handle, GFP_ATOMIC));
	fake_give_all(p->arena, &tenant);
	fake_give_all(p->arena, &p->coherent);
}

static void what_an_idle_chunk_makes_room_for_is_mapped_once(void **state)
{
	struct fake_place *p = *state;
	dma_addr_t handle;
	void *memory = alloc(p, 32 << 20, &handle);

	release(p, 32 << 20, memory, handle);
	p->fake.domain.memory_limit = 48 << 20;
	memory = alloc(p, (33 << 20) - 4096, &handle);
	assert_non_null(memory);
	assert_true(p->fake.domain.memory <= (34 << 20));
	release(p, (33 << 20) - 4096, memory, handle);
}

static void *set_mask_often(void *context)
{
	struct fake_place *p = context;

	for (int i = 0; i < 2000; i++)
		arena_set_mask(p->arena, &p->limits, DMA_BIT_MASK(i % 2 ? 64 : 28), "fake");
	return NULL;
}

static void masks_may_change_while_others_allocate(void **state)
{
	struct fake_place *p = *state;
	dma_addr_t handle;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, set_mask_often, p), 0);
	for (int i = 0; i < 2000; i++) {
		void *memory = alloc(p, 4096, &handle);

		assert_non_null(memory);
		release(p, 4096, memory, handle);
		if (i % 100 == 0)
			arena_trim(p->arena, 0);
	}
	pthread_join(thread, NULL);
	assert_true(p->fake.domain.memory < 64 << 20);
	log_clear();
}

static void a_forked_child_does_not_have_the_arena(void **state)
{
	struct fake_place *p = *state;
	dma_addr_t handle;
	char *memory = alloc(p, 4096, &handle);
	unsigned char resident;
	int status;
	pid_t child;

	assert_int_equal(mincore(memory, 4096, &resident), 0);
	child = fork();
	if (child == 0)
		_exit(mincore(memory, 4096, &resident) == -1 && errno == ENOMEM ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	release(p, 4096, memory, handle);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		place_test(coherent_memory_is_zeroed_and_naturally_aligned),
		place_test(large_memory_is_aligned_where_addresses_allow_it_and_had_in_any_case),
		place_test(memory_that_was_used_comes_back_zeroed),
		place_test(sizes_that_make_no_sense_are_refused),
		place_test(a_free_that_does_not_match_is_reported_and_dropped),
		place_test(a_narrow_mask_is_served_from_below_it_and_a_wide_one_from_above),
		place_test(a_mask_that_cuts_through_a_chunk_is_kept),
		place_test(narrowing_a_mask_below_memory_in_use_is_refused),
		place_test(atomic_never_grows_and_finds_the_reserve),
		place_test(when_the_domain_gives_no_more_what_is_there_is_used_up),
		place_test(a_small_memory_limit_still_gives_all_that_it_allows),
		place_test(idle_chunks_make_room_for_a_request_that_fits_none),
		place_test(a_large_block_goes_back_to_the_system_when_it_is_freed),
		place_test(chunks_that_the_domain_keeps_are_reported_and_kept),
		place_test(translation_knows_only_memory_that_is_handed_out),
		place_test(translation_never_gives_an_address_above_the_mask),
		place_test(high_memory_is_no_reserve_for_a_narrow_mask),
		place_test(what_an_idle_chunk_makes_room_for_is_mapped_once),
		place_test(masks_may_change_while_others_allocate),
		place_test(a_forked_child_does_not_have_the_arena),
	};

	return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
