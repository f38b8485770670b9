/* SPDX-License-Identifier: MIT */
/*
 * test_streaming_lazy.c - when mappings are revoked, by how many calls, and what their addresses do
 */
#include "test.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "fake_domain.h"
#include "memory/coherent.h"

static struct fake_place place;
static struct streaming *const s = &place.streaming;
static char memory[1 << 20] __attribute__((aligned(65536)));

static void open_with(struct streaming_options options)
{
	log_clear();
	fake_streaming_open(&place, FAKE_MAPS, &options);
}

static void open_lazy(unsigned int count, unsigned int ms)
{
	open_with((struct streaming_options){
		.lazy = true, .lazy_count = count, .lazy_ms = ms, .copy_below = 1});
}

static void close_quietly(void)
{
	assert_string_equal(log_text(), "");
	fake_streaming_close(&place);
}

static struct dmaland_streaming_stats stats(void)
{
	struct dmaland_streaming_stats now;

	streaming_get_stats(s, &now);
	return now;
}

/*
 * A ring of mappings in flight, of which the oldest ends, or any; and some that stay for good.
 * Unmap calls for each mapping that ended.
 */
static double calls_per_mapping(size_t size, size_t depth, bool in_order, size_t total)
{
	static dma_addr_t ring[512];
	uint64_t seed = 7;
	unsigned int before = place.fake.unmaps;

	for (size_t i = 0; i < depth; i++)
		ring[i] = streaming_map(s, memory, size, DMA_TO_DEVICE, 0);
	for (size_t i = 0; i < total; i++) {
		size_t at = in_order ? i % depth : random_below(&seed, depth);

		streaming_unmap(s, ring[at], size, DMA_TO_DEVICE, 0);
		ring[at] = streaming_map(s, memory, size, DMA_TO_DEVICE, 0);
		assert_true(ring[at] != DMA_MAPPING_ERROR);
	}
	for (size_t i = 0; i < depth; i++)
		streaming_unmap(s, ring[i], size, DMA_TO_DEVICE, 0);
	streaming_flush(s);
	return (double)(place.fake.unmaps - before) / (double)(total + depth);
}

static void lazy_revokes_with_a_thirty_second_of_the_calls(void **state)
{
	static const size_t sizes[] = {4096, 8192, 12288, 16384, 32768, 65536, 65536 - 1};
	static const size_t depths[] = {1, 8, 64};

	(void)state;
	for (size_t i = 0; i < 7 * 3 * 2; i++) {
		double calls;

		open_lazy(0, 100000);
		calls = calls_per_mapping(sizes[i % 7], depths[i / 7 % 3], i / 21, 8192);
		if (getenv("LAZY_SHOW"))
			printf("size %zu depth %zu %s: 1/%.1f\n", sizes[i % 7], depths[i / 7 % 3],
			       i / 21 ? "in order" : "any order", 1 / calls);
		if (calls > 1.0 / 32)
			fail_msg("size %zu depth %zu %s: 1/%.1f calls", sizes[i % 7],
				 depths[i / 7 % 3], i / 21 ? "in order" : "any order", 1 / calls);
		close_quietly();
	}
	open_with((struct streaming_options){.copy_below = 1});
	assert_true(calls_per_mapping(4096, 8, true, 100) == 1.0);
	close_quietly();
}

static void never_more_wait_than_the_stated_number(void **state)
{
	uint64_t seed = 3;
	dma_addr_t live[64];

	(void)state;
	open_lazy(16, 100000);
	for (size_t i = 0; i < 64; i++)
		live[i] = streaming_map(s, memory, 4096 << i % 5, DMA_TO_DEVICE, 0);
	for (size_t step = 0; step < 5000; step++) {
		size_t i = random_below(&seed, 64);

		streaming_unmap(s, live[i], 4096 << i % 5, DMA_TO_DEVICE, 0);
		assert_true(stats().waiting < 16);
		assert_int_equal(place.fake.mapped_count, stats().waiting + 63);
		live[i] = streaming_map(s, memory, 4096 << i % 5, DMA_TO_DEVICE, 0);
	}
	for (size_t i = 0; i < 64; i++)
		streaming_unmap(s, live[i], 4096 << i % 5, DMA_TO_DEVICE, 0);
	close_quietly();
}

static void no_address_is_used_again_before_it_is_revoked(void **state)
{
	dma_addr_t dma;
	char byte;

	(void)state;
	open_lazy(1000, 100000);
	for (int i = 0; i < 3000; i++) { /* the fake domain fails when one is mapped twice */
		dma = streaming_map(s, memory, 4096, DMA_TO_DEVICE, 0);
		streaming_unmap(s, dma, 4096, DMA_TO_DEVICE, 0);
	}
	dma = streaming_map(s, memory, 4096, DMA_TO_DEVICE, 0);
	streaming_unmap(s, dma, 4096, DMA_TO_DEVICE, 0);
	assert_true(fake_device_read(&place, dma, &byte, 1));
	streaming_flush(s);
	assert_false(fake_device_read(&place, dma, &byte, 1));
	assert_int_equal(stats().waiting, 0);
	assert_int_equal(place.fake.mapped_count, 0);
	close_quietly();
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Much more than the millisecond that mappings wait in the tests below. */
static void time_passes(void)
{
	uint64_t since = now_ns();

	while (now_ns() - since < 20 * 1000000)
		;
}

static void the_next_call_after_the_time_revokes(void **state)
{
	dma_addr_t dma;

	(void)state;
	open_lazy(1000, 1);
	dma = streaming_map(s, memory, 4096, DMA_TO_DEVICE, 0);
	streaming_unmap(s, dma, 4096, DMA_TO_DEVICE, 0);
	time_passes();
	dma = streaming_map(s, memory, 4096, DMA_TO_DEVICE, 0);
	assert_int_equal(stats().waiting, 0);
	assert_int_equal(stats().revoked, 1);
	streaming_unmap(s, dma, 4096, DMA_TO_DEVICE, 0);
	close_quietly();
}

/* What is due goes with what came later in its slab, neighbours by one call; another slab's wait on. */
static void after_the_time_only_slabs_with_what_is_due_are_revoked(void **state)
{
	dma_addr_t dma[6], other;

	(void)state;
	open_lazy(1000, 1);
	for (size_t i = 0; i < 6; i++)
		dma[i] = streaming_map(s, memory, 4096, DMA_TO_DEVICE, 0);
	other = streaming_map(s, memory, 8192, DMA_TO_DEVICE, 0);
	streaming_unmap(s, dma[1], 4096, DMA_TO_DEVICE, 0);
	time_passes();
	streaming_unmap(s, other, 8192, DMA_TO_DEVICE, 0); /* young, and of another slab */
	assert_int_equal(stats().revoked, 1);
	assert_int_equal(stats().waiting, 1);
	time_passes();
	streaming_unmap(s, dma[3], 4096, DMA_TO_DEVICE, 0);
	assert_int_equal(stats().revoked, 2);
	assert_int_equal(stats().waiting, 1);
	time_passes();
	streaming_unmap(s, dma[4], 4096, DMA_TO_DEVICE, 0); /* young, but of what is due */
	assert_int_equal(stats().revoked, 4);
	assert_int_equal(stats().revoke_calls, 3);
	assert_int_equal(stats().waiting, 0);
	streaming_fini(s); /* ends the others */
	streaming_space_destroy(place.space);
	fake_place_close(&place);
	log_clear();
}

static void what_waits_makes_room_when_a_limit_is_reached(void **state)
{
	dma_addr_t dmas[8], handle;
	char *coherent;

	(void)state;
	open_lazy(1000, 100000);
	place.fake.domain.mapping_limit = 8;
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 8; i++) {
			dmas[i] = streaming_map(s, memory, 4096, DMA_TO_DEVICE, 0);
			assert_true(dmas[i] != DMA_MAPPING_ERROR);
		}
		for (int i = 0; i < 8; i++)
			streaming_unmap(s, dmas[i], 4096, DMA_TO_DEVICE, 0);
	}
	assert_int_equal(stats().waiting, 8);
	place.fake.domain.mapping_limit = 0;
	streaming_flush(s);

	/* An arena that grows finds memory that waits, and addresses that are kept. */
	for (int i = 0; i < 8; i++)
		dmas[i] = streaming_map(s, memory, 65536, DMA_TO_DEVICE, 0);
	for (int i = 0; i < 8; i++)
		streaming_unmap(s, dmas[i], 65536, DMA_TO_DEVICE, 0);
	place.fake.domain.memory_limit = 8 * 65536;
	coherent = coherent_alloc(place.arena, &place.coherent, 8 * 65536, &handle, GFP_KERNEL);
	assert_non_null(coherent);
	assert_int_equal(stats().waiting, 0);
	coherent_free(place.arena, &place.coherent, "fake", 8 * 65536, coherent, handle);
	close_quietly();
}

static void an_arena_out_of_addresses_gets_those_that_wait_or_are_kept(void **state)
{
	static dma_addr_t dmas[300];
	dma_addr_t handle;
	char *coherent;
	size_t n = 0;

	(void)state;
	open_lazy(1000, 100000);
	place.limits.coherent_mask = 0x3fffff; /* 4 MiB */
	assert_int_equal(streaming_set_mask(s, 0x3fffff), 0);
	while (n < 300 &&
	       (dmas[n] = streaming_map(s, memory, 16384, DMA_TO_DEVICE, 0)) != DMA_MAPPING_ERROR)
		n++;
	assert_true(n < 300);
	while (n--)
		streaming_unmap(s, dmas[n], 16384, DMA_TO_DEVICE, 0);
	coherent = coherent_alloc(place.arena, &place.coherent, 2 << 20, &handle, GFP_KERNEL);
	assert_non_null(coherent);
	coherent_free(place.arena, &place.coherent, "fake", 2 << 20, coherent, handle);
	close_quietly();
}

static void what_cannot_be_revoked_is_said_and_kept_for_good(void **state)
{
	dma_addr_t dma;

	(void)state;
	open_lazy(1000, 100000);
	dma = streaming_map(s, memory, 8192, DMA_TO_DEVICE, 0);
	streaming_unmap(s, dma, 8192, DMA_TO_DEVICE, 0);
	place.fake.refuse_unmap = true;
	streaming_flush(s);
	assert_logged("stay mapped");
	place.fake.refuse_unmap = false;
	log_clear();
	for (int i = 0; i < 3000; i++) {
		dma_addr_t other = streaming_map(s, memory, 8192, DMA_TO_DEVICE, 0);

		assert_true(other != dma);
		streaming_unmap(s, other, 8192, DMA_TO_DEVICE, 0);
	}
	streaming_flush(s);
	assert_int_equal(place.fake.mapped_count, 1);
	assert_int_equal(place.fake.domain.ops->unmap(&place.fake.domain, dma, 8192, 1), 0);
	close_quietly();
}

/* Whoever is told that something stays mapped may use the library, also to do just the same. */
static void log_and_map(void *context, enum dmaland_log_level level, const char *line)
{
	struct fake_domain before = place.fake;
	dma_addr_t dma, handle;
	char *coherent;

	(void)level;
	assert_non_null(strstr(line, "stay mapped"));
	++*(unsigned int *)context;
	place.fake.refuse_unmap = false;
	place.fake.maps_left = place.fake.provides_left = UINT_MAX;
	dma = streaming_map(s, memory, 4096, DMA_TO_DEVICE, 0);
	streaming_unmap(s, dma, 4096, DMA_TO_DEVICE, 0);
	streaming_flush(s);
	assert_int_equal(streaming_register(s, memory, 100), 0);
	assert_int_equal(streaming_unregister(s, memory), 0);
	coherent = coherent_alloc(place.arena, &place.coherent, 4 << 20, &handle, GFP_KERNEL);
	assert_non_null(coherent);
	coherent_free(place.arena, &place.coherent, "fake", 4 << 20, coherent, handle);
	assert_int_equal(streaming_register(s, NULL, 1), -EINVAL);
	place.fake.refuse_unmap = before.refuse_unmap;
	place.fake.maps_left = before.maps_left;
	place.fake.provides_left = before.provides_left;
}

static void revoke_by_flush(void)
{
	streaming_flush(s);
}

static void revoke_by_registering(void)
{
	assert_int_equal(streaming_register(s, memory + 4096, 4096), -ENOMEM);
	assert_int_equal(errno, ENOMEM);
	assert_error_says("maps no more");
}

static void revoke_by_a_growing_arena(void)
{
	dma_addr_t handle;

	assert_null(coherent_alloc(place.arena, &place.coherent, 8 << 20, &handle, GFP_KERNEL));
}

static void what_is_told_is_told_when_no_lock_is_held(void **state)
{
	static void (*const ways[])(void) = {revoke_by_flush, revoke_by_registering,
					     revoke_by_a_growing_arena};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		unsigned int lines = 0;
		dma_addr_t dma[2];

		open_lazy(1000, 100000);
		for (size_t k = 0; k < 2; k++) /* of two sizes, so that they are no neighbours */
			dma[k] = streaming_map(s, memory, 8192 << k, DMA_TO_DEVICE, 0);
		for (size_t k = 0; k < 2; k++)
			streaming_unmap(s, dma[k], 8192 << k, DMA_TO_DEVICE, 0);
		dmaland_set_log(log_and_map, &lines);
		place.fake.refuse_unmap = true;
		place.fake.maps_left = place.fake.provides_left = i ? 0 : UINT_MAX;
		watchdog(60); /* a lock that is waited for by who holds it */
		ways[i]();
		watchdog(0);
		log_capture();
		assert_int_equal(lines, 2);
		place.fake.refuse_unmap = false;
		for (size_t k = 0; k < 2; k++)
			place.fake.domain.ops->unmap(&place.fake.domain, dma[k], 8192 << k, 1);
		close_quietly();
	}
}

static void addresses_of_all_sizes_come_back(void **state)
{
	static dma_addr_t dmas[500];
	uint64_t before, seed = 11;

	(void)state;
	open_with((struct streaming_options){.copy_below = 1});
	before = iova_space_free(&place.fake.domain.iova, UINT64_MAX);
	for (int round = 0; round < 5; round++) {
		for (size_t i = 0; i < 500; i++)
			dmas[i] = streaming_map(s, memory + i, 1 + i * 1777, DMA_TO_DEVICE, 0);
		for (size_t i = 500; i-- > 0;) {
			size_t k = random_below(&seed, i + 1);
			dma_addr_t dma = dmas[k];

			/* Sizes travel with their addresses in the low bits. */
			dmas[k] = dmas[i];
			dmas[i] = dma;
		}
		for (size_t i = 0; i < 500; i++) {
			size_t which = (size_t)(dmas[i] % 4096);

			streaming_unmap(s, dmas[i], 1 + which * 1777, DMA_TO_DEVICE, 0);
		}
	}
	iova_cache_trim(&s->iova);
	assert_true(iova_space_free(&place.fake.domain.iova, UINT64_MAX) == before);
	assert_int_equal(place.fake.domain.iova.count, 1);
	close_quietly();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lazy_revokes_with_a_thirty_second_of_the_calls),
		cmocka_unit_test(never_more_wait_than_the_stated_number),
		cmocka_unit_test(no_address_is_used_again_before_it_is_revoked),
		cmocka_unit_test(the_next_call_after_the_time_revokes),
		cmocka_unit_test(after_the_time_only_slabs_with_what_is_due_are_revoked),
		cmocka_unit_test(what_waits_makes_room_when_a_limit_is_reached),
		cmocka_unit_test(an_arena_out_of_addresses_gets_those_that_wait_or_are_kept),
		cmocka_unit_test(what_cannot_be_revoked_is_said_and_kept_for_good),
		cmocka_unit_test(what_is_told_is_told_when_no_lock_is_held),
		cmocka_unit_test(addresses_of_all_sizes_come_back),
	};

	log_capture();
	return cmocka_run_group_tests_name("streaming: revoking", tests, NULL, NULL);
}
