/* SPDX-License-Identifier: MIT */
/*
 * streaming_tests.c - memory of the application, mapped for a device that reads and writes it
 *
 * The same on every backend: which way the library takes is its business, and where the bytes are is
 * what counts. Where a backend differs it is by what it tells of itself: dma_max_mapping_size(),
 * dma_need_sync(), the way it counted.
 */
#include "suite.h"
#include "streaming_stand.h"

#include <errno.h>
#include <stdlib.h>

static void what_is_mapped_arrives_both_ways(void **state)
{
	size_t size;

	(void)state;
	need_mover();
	for (int i = 0; (size = size_number(i)); i++)
		for (size_t offset = 0; offset <= 2048; offset = 4 * offset + 4) {
			unsigned char *ptr = memory + GUARD + offset;

			check_read(ptr, size, DMA_TO_DEVICE);
			check_write(ptr, size, DMA_FROM_DEVICE);
			check_read(ptr, size, DMA_BIDIRECTIONAL);
			check_write(ptr, size, DMA_BIDIRECTIONAL);
		}
	dmaland_flush(m.dev);
	/* The arena may have grown to copy through. */
	assert_true(mappings_of(m.dev) <= mappings + 16);
	assert_int_equal(stats_now().failed, 0);
}

static void every_way_is_counted(void **state)
{
	struct dmaland_streaming_stats before, after;
	dma_addr_t handle, dma;
	void *block;

	(void)state;
	need_mover();
	block = dma_alloc_coherent(m.dev, 4096, &handle, GFP_KERNEL);
	before = stats_now();
	dma = map(block, 4096, DMA_TO_DEVICE);
	assert_int_equal(dma == handle, !device_has_copies());
	assert_int_equal(dma_need_sync(m.dev, dma), device_has_copies());
	dma_unmap_single(m.dev, dma, 4096, DMA_TO_DEVICE);
	after = stats_now();
	assert_int_equal(after.translated_arena, before.translated_arena + !device_has_copies());
	assert_int_equal(after.mapped, before.mapped + device_has_copies());
	before = after;

	dma = map(memory, 64, DMA_TO_DEVICE);
	assert_true(dma_need_sync(m.dev, dma));
	assert_int_equal(stats_now().live_bounced, 1);
	dma_unmap_single(m.dev, dma, 64, DMA_TO_DEVICE);
	after = stats_now();
	assert_int_equal(after.bounced_small, before.bounced_small + 1);
	assert_int_equal(after.live_bounced, 0);

	dma = map(memory, 65536, DMA_TO_DEVICE);
	after = stats_now();
	if (dma_max_mapping_size(m.dev) == SIZE_MAX) {
		assert_int_equal(after.mapped, before.mapped + 1);
		assert_int_equal(after.live_mapped, 1);
	} else {
		assert_int_equal(after.bounced_unmappable, before.bounced_unmappable + 1);
		assert_int_equal(after.live_bounced, 1);
	}
	dma_unmap_single(m.dev, dma, 65536, DMA_TO_DEVICE);
	assert_int_equal(dma_map_single(m.dev, NULL, 64, DMA_TO_DEVICE), DMA_MAPPING_ERROR);
	assert_int_equal(stats_now().failed, before.failed + 1);
	dma_free_coherent(m.dev, 4096, block, handle);
}

static void the_largest_mapping_is_as_large_as_told(void **state)
{
	size_t most;
	unsigned char *large;
	dma_addr_t dma;

	(void)state;
	need_mover();
	most = dma_max_mapping_size(m.dev);
	assert_true(dma_opt_mapping_size(m.dev) <= most);
	if (most == SIZE_MAX)
		most = 4 << 20;
	large = malloc(most + 1);
	assert_non_null(large);
	memset(large, 1, most + 1);
	large[most - m.unit] = 77;
	dma = map(large, most, DMA_TO_DEVICE);
	mover_reads(&m, dma + most - m.unit, m.unit);
	assert_int_equal(mover_holds(&m, m.unit)[0], 77);
	dma_unmap_single(m.dev, dma, most, DMA_TO_DEVICE);
	if (dma_max_mapping_size(m.dev) != SIZE_MAX) {
		errno = 0;
		assert_true(dma_map_single(m.dev, large, most + 1, DMA_TO_DEVICE) ==
			    DMA_MAPPING_ERROR);
		assert_int_equal(errno, EINVAL);
		assert_error_says("dma_max_mapping_size");
	}
	free(large);
}

/* ---- sync ---- */

static void a_part_that_is_synced_is_all_that_moves(void **state)
{
	const size_t whole = 16384, at = 4096, part = 4096;
	unsigned char *ptr;
	dma_addr_t dma;

	(void)state;
	need_mover();
	ptr = memory + GUARD;
	dma = map(ptr, whole, DMA_BIDIRECTIONAL);
	mover_fill(&m, 0x21, whole);
	mover_writes(&m, dma, whole);
	dma_sync_single_for_cpu(m.dev, dma + at, part, DMA_BIDIRECTIONAL);
	assert_true(all_are(ptr + at, part, 0x21));
	if (dma_need_sync(m.dev, dma)) {
		assert_true(all_are(ptr, at, POISON));
		assert_true(all_are(ptr + at + part, whole - at - part, POISON));
	}
	memset(ptr + at, 0x42, part);
	dma_sync_single_range_for_device(m.dev, dma, at, part, DMA_BIDIRECTIONAL);
	mover_reads(&m, dma + at, part);
	assert_true(all_are(mover_holds(&m, part), part, 0x42));
	mover_reads(&m, dma, part);
	assert_true(all_are(mover_holds(&m, part), part, 0x21));
	dma_unmap_single(m.dev, dma, whole, DMA_BIDIRECTIONAL);
	assert_true(all_are(ptr, at, 0x21));
	assert_true(all_are(ptr + at, part, 0x42));
	assert_true(all_are(ptr + at + part, whole - at - part, 0x21));
}

/* The same, with the calls left out: it shows where dma_need_sync() says that it would. */
static void check_forgotten_sync(unsigned char *ptr, size_t size)
{
	bool needed;
	dma_addr_t dma;

	memset(ptr, 0x10, size);
	dma = map(ptr, size, DMA_BIDIRECTIONAL);
	needed = dma_need_sync(m.dev, dma);
	if (device_has_copies())
		assert_true(needed);
	memset(ptr, 0x20, size);
	mover_reads(&m, dma, size);
	assert_true(all_are(mover_holds(&m, size), size, needed ? 0x10 : 0x20));
	mover_fill(&m, 0x30, size);
	mover_writes(&m, dma, size);
	assert_true(all_are(ptr, size, needed ? 0x20 : 0x30));
	dma_sync_single_for_cpu(m.dev, dma, size, DMA_BIDIRECTIONAL);
	assert_true(all_are(ptr, size, 0x30));
	dma_unmap_single(m.dev, dma, size, DMA_BIDIRECTIONAL);
	assert_true(all_are(ptr, size, 0x30));
}

static void a_forgotten_sync_shows_where_one_is_needed(void **state)
{
	unsigned char *coherent;
	dma_addr_t handle;
	size_t size;

	(void)state;
	need_mover();
	coherent = dma_alloc_coherent(m.dev, MOST, &handle, GFP_KERNEL);
	assert_non_null(coherent);
	for (int i = 0; (size = size_number(i)); i++) {
		check_forgotten_sync(memory + GUARD, size);
		check_forgotten_sync(coherent, size);
	}
	dma_free_coherent(m.dev, MOST, coherent, handle);
}

/* Where the device has a copy of its own, large mappings too need sync; elsewhere only copies. */
static void only_soft_without_coherence_needs_sync_of_what_is_mapped(void **state)
{
	bool incoherent = device_has_copies();
	bool bounces;
	dma_addr_t dma;

	(void)state;
	need_mover();
	bounces = dma_max_mapping_size(m.dev) != SIZE_MAX;
	dma = map(memory, 65536, DMA_TO_DEVICE);
	assert_int_equal(dma_need_sync(m.dev, dma), incoherent || bounces);
	dma_unmap_single(m.dev, dma, 65536, DMA_TO_DEVICE);
	if (bounces)
		return;
	assert_int_equal(dmaland_register(m.dev, memory, 65536), 0);
	dma = map(memory + 8, 4096, DMA_TO_DEVICE);
	assert_int_equal(dma_need_sync(m.dev, dma), incoherent);
	dma_unmap_single(m.dev, dma, 4096, DMA_TO_DEVICE);
	assert_int_equal(dmaland_unregister(m.dev, memory), 0);
	assert_int_equal(mappings_of(m.dev), mappings);
}

/* ---- without system calls ---- */

static void without_system_calls_copies_end_when_their_memory_does(void **state)
{
	enum { MANY = 100000, SIZE = 4096 - 64 };
	static dma_addr_t dma[MANY];
	size_t n = 0, again = 0, written;

	(void)state;
	need_mover();
	errno = 0;
	while (n < MANY &&
	       (dma[n] = dma_map_single(m.dev, memory, SIZE, DMA_FROM_DEVICE)) != DMA_MAPPING_ERROR)
		n++;
	assert_true(n > 0 && n < MANY);
	assert_int_equal(errno, ENOMEM);
	assert_true(strlen(dmaland_last_error()) > 20);
	assert_int_equal(stats_now().live_bounced, n);
	assert_int_equal(stats_now().failed, 1);

	/* Each is its own; and when they end, as many can be had. */
	written = m.unit < SIZE ? m.unit : 0;
	if (written) {
		mover_fill(&m, 0x77, written);
		mover_writes(&m, dma[n - 1], written);
	}
	dma_unmap_single(m.dev, dma[0], SIZE, DMA_FROM_DEVICE);
	assert_true(all_are(memory, SIZE, POISON));
	dma_unmap_single(m.dev, dma[n - 1], SIZE, DMA_FROM_DEVICE);
	assert_true(all_are(memory, written, 0x77));
	assert_true(all_are(memory + written, SIZE - written, POISON));
	for (size_t i = 1; i < n - 1; i++)
		dma_unmap_single(m.dev, dma[i], SIZE, DMA_FROM_DEVICE);
	while (again < n && (dma[again] = dma_map_single(m.dev, memory, SIZE, DMA_TO_DEVICE)) !=
				    DMA_MAPPING_ERROR)
		again++;
	assert_int_equal(again, n);
	while (again--)
		dma_unmap_single(m.dev, dma[again], SIZE, DMA_TO_DEVICE);
	assert_int_equal(mappings_of(m.dev), mappings);
}

static void without_system_calls_nothing_large_is_mapped(void **state)
{
	(void)state;
	need_mover();
	if (dma_max_mapping_size(m.dev) != SIZE_MAX)
		return;
	errno = 0;
	assert_true(dma_map_single(m.dev, memory, 65536, DMA_TO_DEVICE) == DMA_MAPPING_ERROR);
	assert_int_equal(errno, EPERM);
	assert_error_says("no_syscalls");
	assert_int_equal(mappings_of(m.dev), mappings);
}

/* ---- debug mode ---- */

static void what_is_translated_is_unmapped_once_in_debug_mode(void **state)
{
	dma_addr_t handle, dma;
	void *coherent;

	(void)state;
	need_mover();
	coherent = dma_alloc_coherent(m.dev, 4096, &handle, GFP_KERNEL);
	assert_non_null(coherent);
	dma = dma_map_single_attrs(m.dev, coherent, 4096, DMA_FROM_DEVICE,
				   device_has_copies() ? DMA_ATTR_REQUIRE_COHERENT : 0);
	assert_true(dma == handle);
	dma_unmap_single(m.dev, dma, 4096, DMA_FROM_DEVICE);
	assert_string_equal(log_text(), "");
	dma_unmap_single(m.dev, dma, 4096, DMA_FROM_DEVICE);
	assert_logged("tries to free DMA memory it has not allocated");
	bad_calls = 1;
	log_clear();
	dma_free_coherent(m.dev, 4096, coherent, handle);
}

int run_streaming_tests(void)
{
	const struct CMUnitTest tests[] = {
		with(open_device, what_is_mapped_arrives_both_ways),
		with(open_lazy, what_is_mapped_arrives_both_ways),
		with(open_device, every_way_is_counted),
		with(open_lazy, every_way_is_counted),
		with(open_device, the_largest_mapping_is_as_large_as_told),
		with(open_device, a_part_that_is_synced_is_all_that_moves),
		with(open_device, a_forgotten_sync_shows_where_one_is_needed),
		with(open_device, only_soft_without_coherence_needs_sync_of_what_is_mapped),
		with(open_debug, what_is_mapped_arrives_both_ways),
		with(open_debug, what_is_translated_is_unmapped_once_in_debug_mode),
		with(open_without_syscalls, without_system_calls_copies_end_when_their_memory_does),
		with(open_without_syscalls, without_system_calls_nothing_large_is_mapped),
	};

	return cmocka_run_group_tests_name("streaming", tests, NULL, NULL);
}
