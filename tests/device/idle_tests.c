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

int run_idle_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mapped_and_registered_memory_counts_against_the_limit),
	};

	return cmocka_run_group_tests_name("device: what is idle", tests, NULL, NULL);
}
