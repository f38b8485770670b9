/* SPDX-License-Identifier: MIT */
/*
 * idle_tests.c - what memory counts against the limits, and what is only kept for later
 *
 * The same on every backend. Where memory that exists can't be mapped there is less to test.
 */
#include "suite.h"

#include <errno.h>
#include <sys/mman.h>

enum { MIB = 1 << 20 };

static struct dmaland_device *open_limited(uint64_t limit)
{
	const struct dmaland_options options = {.size = sizeof(options), .memory_limit = limit};
	struct dmaland_device *dev = dmaland_open(device_spec, &options);

	if (!dev)
		fail_msg("%s", dmaland_last_error());
	return dev;
}

static char *memory_new(size_t size)
{
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(memory != MAP_FAILED);
	return memory;
}

static struct dmaland_info info_of(struct dmaland_device *dev)
{
	struct dmaland_info info;

	dmaland_get_info(dev, &info);
	return info;
}

static dma_addr_t map(struct dmaland_device *dev, char *memory, size_t size)
{
	return dma_map_single(dev, memory, size, DMA_TO_DEVICE);
}

/* Can memory that exists be mapped? */
static bool maps(struct dmaland_device *dev)
{
	return dma_max_mapping_size(dev) > 64 * MIB;
}

static void mapped_and_registered_memory_counts_against_the_limit(void **state)
{
	struct dmaland_device *dev = open_limited(8 * MIB);
	uint64_t before = info_of(dev).memory;
	char *memory = memory_new(16 * MIB);
	dma_addr_t dma;

	(void)state;
	if (!maps(dev)) {
		dmaland_close(dev);
		munmap(memory, 16 * MIB);
		return;
	}
	assert_int_equal(dmaland_register(dev, memory, 16 * MIB), -ENOMEM);
	assert_error_says("memory_limit is 8192 KiB");
	assert_true(dma_mapping_error(dev, map(dev, memory, 16 * MIB)));
	assert_error_says("memory_limit is 8192 KiB");
	assert_int_equal(info_of(dev).memory, before);

	dma = map(dev, memory, 4 * MIB);
	assert_false(dma_mapping_error(dev, dma));
	assert_int_equal(info_of(dev).memory, before + 4 * MIB);
	assert_int_equal(dmaland_register(dev, memory + 8 * MIB, 5 * MIB), -ENOMEM);
	assert_int_equal(dmaland_register(dev, memory + 8 * MIB, 3 * MIB), 0);
	assert_int_equal(info_of(dev).memory, before + 7 * MIB);
	assert_int_equal(dmaland_unregister(dev, memory + 8 * MIB), 0);
	dma_unmap_single(dev, dma, 4 * MIB, DMA_TO_DEVICE);
	assert_int_equal(info_of(dev).memory, before);
	dmaland_close(dev);
	munmap(memory, 16 * MIB);
}

/* ---- idle is not in use ---- */

/* So much coherent memory, in pieces of 1 MiB, as there may be; all of it freed. */
static size_t coherent_come_and_gone(struct dmaland_device *dev, size_t most)
{
	static dma_addr_t handles[64];
	static void *memory[64];
	size_t n = 0;

	assert_true(most <= 64);
	while (n < most && (memory[n] = dma_alloc_coherent(dev, MIB, &handles[n], GFP_KERNEL)))
		n++;
	for (size_t i = 0; i < n; i++)
		dma_free_coherent(dev, MIB, memory[i], handles[i]);
	return n;
}

static void idle_memory_makes_room_under_a_limit_of_memory(void **state)
{
	struct dmaland_device *dev = open_limited(8 * MIB);
	char *memory = memory_new(8 * MIB);
	dma_addr_t dma, handle;
	void *coherent;

	(void)state;
	assert_int_equal(coherent_come_and_gone(dev, 64), 8);
	if (maps(dev)) {
		dma = map(dev, memory, 4 * MIB);
		if (dma_mapping_error(dev, dma))
			fail_msg("%s", dmaland_last_error());
		dma_unmap_single(dev, dma, 4 * MIB, DMA_TO_DEVICE);
		assert_int_equal(coherent_come_and_gone(dev, 64), 8);
		assert_int_equal(dmaland_register(dev, memory, 8 * MIB), 0);
		assert_null(dma_alloc_coherent(dev, MIB, &handle, GFP_KERNEL));
		assert_error_says("8192 KiB are in use, 0 KiB kept idle and 0 KiB parked");
		assert_int_equal(dmaland_unregister(dev, memory), 0);
	}
	coherent = dma_alloc_coherent(dev, 8 * MIB, &handle, GFP_KERNEL);
	assert_non_null(coherent);
	dma_free_coherent(dev, 8 * MIB, coherent, handle);
	dmaland_close(dev);
	munmap(memory, 8 * MIB);
	log_clear();
}

/* Most of what lies under 26 bits is idle. */
static void idle_memory_makes_room_under_the_mask(void **state)
{
	struct dmaland_device *dev = open_limited(0);
	char *memory = memory_new(32 * MIB);
	dma_addr_t dma;

	(void)state;
	if (maps(dev) && dma_set_mask_and_coherent(dev, DMA_BIT_MASK(26)) == 0) {
		assert_true(coherent_come_and_gone(dev, 64) > 40);
		dma = map(dev, memory, 24 * MIB);
		if (dma_mapping_error(dev, dma))
			fail_msg("%s", dmaland_last_error());
		assert_true(dma + 24 * MIB - 1 <= DMA_BIT_MASK(26));
		coherent_come_and_gone(dev, 64);
		if (dmaland_register(dev, memory + 24 * MIB, 8 * MIB))
			fail_msg("%s", dmaland_last_error());
		dma_unmap_single(dev, dma, 24 * MIB, DMA_TO_DEVICE);
		dmaland_unregister(dev, memory + 24 * MIB);
	}
	dmaland_close(dev);
	munmap(memory, 32 * MIB);
	log_clear();
}

/* Blocks come and go until the thread has as many at hand as it may, or the limit is reached. */
static struct dma_pool *pool_used(struct dmaland_device *dev)
{
	struct dma_pool *pool = dma_pool_create("used", dev, 1024, 1024, 0);
	static dma_addr_t handles[512];
	static void *blocks[512];

	assert_non_null(pool);
	for (int round = 0; round < 12; round++) {
		size_t n = dmaland_pool_alloc_bulk(pool, GFP_KERNEL, 512, blocks, handles);

		for (size_t i = 0; i < n; i++)
			dma_pool_free(pool, blocks[i], handles[i]);
	}
	return pool;
}

static void what_a_thread_has_parked_makes_room_for_what_it_asks(void **state)
{
	struct dmaland_device *dev = open_limited(2 * MIB);
	char *memory = memory_new(2 * MIB);
	struct dma_pool *pools[4];
	dma_addr_t handle;
	void *coherent;

	(void)state;
	for (int i = 0; i < 4; i++)
		pools[i] = pool_used(dev);
	coherent = dma_alloc_coherent(dev, 2 * MIB, &handle, GFP_KERNEL);
	if (!coherent)
		fail_msg("%s", dmaland_last_error());
	dma_free_coherent(dev, 2 * MIB, coherent, handle);
	for (int i = 0; i < 4; i++)
		dma_pool_destroy(pools[i]);
	pools[0] = pool_used(dev);
	if (maps(dev) && dmaland_register(dev, memory, 2 * MIB))
		fail_msg("%s", dmaland_last_error());
	dmaland_close(dev);
	munmap(memory, 2 * MIB);
	log_clear();
}

/* A mask that leaves room below what the device has; 0 when there is none. */
static uint64_t mask_below(struct dmaland_device *dev, dma_addr_t handle)
{
	uint64_t mask = DMA_BIT_MASK(63 - __builtin_clzll(handle));

	return mask > info_of(dev).ranges[0].first + MIB ? mask : 0;
}

static void a_mask_is_narrowed_while_all_blocks_are_free(void **state)
{
	struct dmaland_device *dev = open_limited(0);
	struct dma_pool *pool;
	dma_addr_t handle;
	uint64_t mask;
	void *block;

	(void)state;
	dma_set_mask_and_coherent(dev, DMA_BIT_MASK(64));
	pool = pool_used(dev);
	block = dma_pool_alloc(pool, GFP_KERNEL, &handle);
	assert_non_null(block);
	mask = mask_below(dev, handle);
	if (mask) {
		assert_int_equal(dma_set_mask_and_coherent(dev, mask), -EBUSY);
		assert_error_says("set the mask before allocating");
	}
	dma_pool_free(pool, block, handle);
	if (mask) {
		if (dma_set_mask_and_coherent(dev, mask))
			fail_msg("%s", dmaland_last_error());
		block = dma_pool_alloc(pool, GFP_KERNEL, &handle);
		assert_true(block && handle <= mask);
		dma_pool_free(pool, block, handle);
	}
	dmaland_close(dev);
	log_clear();
}

/* ---- dmaland_trim() ---- */

static void trim_gives_idle_coherent_memory_back(void **state)
{
	struct dmaland_device *dev = open_limited(0);
	uint64_t before = info_of(dev).memory;
	dma_addr_t handle, used;
	char *kept;

	(void)state;
	assert_int_equal(coherent_come_and_gone(dev, 24), 24);
	assert_true(info_of(dev).memory >= before + 24 * MIB);
	dmaland_trim(dev);
	assert_int_equal(info_of(dev).memory, before);
	assert_int_equal(info_of(dev).mappings, 0);

	kept = dma_alloc_coherent(dev, 4096, &used, GFP_KERNEL);
	assert_non_null(kept);
	memset(kept, 0x3c, 4096);
	coherent_come_and_gone(dev, 24);
	dmaland_trim(dev);
	assert_int_equal(info_of(dev).memory_in_use, 4096);
	assert_true(info_of(dev).memory < before + 24 * MIB);
	assert_int_equal(kept[0], 0x3c);
	assert_true(dmaland_virt_to_dma(dev, kept, 4096) == used);
	assert_non_null(dma_alloc_coherent(dev, 4096, &handle, GFP_ATOMIC));
	dmaland_close(dev);
	log_clear();
}

static void trim_gives_idle_blocks_back_and_leaves_something_for_atomic(void **state)
{
	struct dmaland_device *dev = open_limited(0);
	struct dma_pool *pool = pool_used(dev);
	struct dmaland_pool_stats stats;
	dma_addr_t handle;
	void *block;

	(void)state;
	dmaland_trim(dev);
	dmaland_pool_get_stats(pool, &stats);
	assert_int_equal(stats.total, 0);
	assert_int_equal(stats.parked, 0);
	assert_true(info_of(dev).memory <= MIB);
	block = dma_pool_alloc(pool, GFP_ATOMIC, &handle);
	assert_non_null(block);
	dmaland_trim(dev);
	assert_true(dmaland_virt_to_dma(dev, block, 1024) == handle);
	dma_pool_free(pool, block, handle);
	dma_pool_destroy(pool);
	dmaland_trim(dev);
	assert_int_equal(info_of(dev).memory, 0);
	dmaland_close(dev);
	assert_string_equal(log_text(), "");
}

int run_idle_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mapped_and_registered_memory_counts_against_the_limit),
		cmocka_unit_test(idle_memory_makes_room_under_a_limit_of_memory),
		cmocka_unit_test(idle_memory_makes_room_under_the_mask),
		cmocka_unit_test(what_a_thread_has_parked_makes_room_for_what_it_asks),
		cmocka_unit_test(a_mask_is_narrowed_while_all_blocks_are_free),
		cmocka_unit_test(trim_gives_idle_coherent_memory_back),
		cmocka_unit_test(trim_gives_idle_blocks_back_and_leaves_something_for_atomic),
	};

	return cmocka_run_group_tests_name("device: what is idle", tests, NULL, NULL);
}
