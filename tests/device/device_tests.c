/* SPDX-License-Identifier: MIT */
/*
 * device_tests.c - open, masks, memory, closing
 */
#include "suite.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include <dmaland/soft.h>

static struct dmaland_device *open_device(const struct dmaland_options *options)
{
	struct dmaland_device *dev = dmaland_open(device_spec, options);

	if (!dev)
		fail_msg("%s", dmaland_last_error());
	return dev;
}

static void what_the_domain_can_do_is_told(void **state)
{
	struct dmaland_device *dev = open_device(NULL);
	struct dmaland_info info;

	(void)state;
	dmaland_get_info(dev, &info);
	assert_true(info.granule >= 4096);
	assert_true(info.range_count > 0);
	for (size_t i = 0; i < info.range_count && i < 16; i++) {
		assert_true(info.ranges[i].first < info.ranges[i].last);
		if (i)
			assert_true(info.ranges[i].first > info.ranges[i - 1].last);
	}
	assert_int_not_equal(info.vendor_id, 0xffff);
	assert_int_equal(info.memory_in_use, 0);
	assert_true(strlen(dmaland_name(dev)) > 0);
	assert_true(info.numa_node >= NUMA_NO_NODE);
	assert_true(info.write_only >= -1 && info.write_only <= 1);
	if (strncmp(device_spec, "qemu:", 5) == 0) {
		assert_int_equal(info.numa_node, NUMA_NO_NODE);
		assert_int_equal(info.write_only, 0); /* all is copied, to memory that it reads */
	}
	assert_true(dma_get_mask(dev) == DMA_BIT_MASK(32));
	dmaland_close(dev);
}

static void masks_that_reach_nothing_are_refused(void **state)
{
	struct dmaland_device *dev = open_device(NULL);

	(void)state;
	assert_int_equal(dma_set_mask(dev, 0), -EIO);
	assert_int_equal(dma_set_mask_and_coherent(dev, DMA_BIT_MASK(8)), -EIO);
	assert_error_says("no usable dma address");
	assert_true(dma_get_mask(dev) == DMA_BIT_MASK(32));
	assert_int_equal(dma_set_mask_and_coherent(dev, DMA_BIT_MASK(64)), 0);
	assert_true(dma_get_mask(dev) == DMA_BIT_MASK(64));
	dmaland_close(dev);
}

static void a_mask_is_not_narrowed_below_memory_in_use(void **state)
{
	struct dmaland_device *dev = open_device(NULL);
	dma_addr_t handle, wide;
	void *memory, *above;

	(void)state;
	assert_int_equal(dma_set_coherent_mask(dev, DMA_BIT_MASK(64)), 0);
	above = dma_alloc_coherent(dev, 4096, &wide, GFP_KERNEL);
	assert_non_null(above);
	assert_int_equal(dma_set_coherent_mask(dev, DMA_BIT_MASK(24)), -EBUSY);
	assert_error_says("set the mask before allocating");
	dma_free_coherent(dev, 4096, above, wide);
	assert_int_equal(dma_set_coherent_mask(dev, DMA_BIT_MASK(24)), 0);
	for (int i = 0; i < 20; i++) {
		memory = dma_alloc_coherent(dev, 65536, &handle, GFP_KERNEL);
		assert_non_null(memory);
		assert_true(handle + 65535 <= DMA_BIT_MASK(24));
	}
	assert_int_equal(dma_set_coherent_mask(dev, DMA_BIT_MASK(21)), -EBUSY);
	log_clear();
	dmaland_close(dev);
	assert_logged("[coherent=20, 1280 KiB]");
	log_clear();
}

static void take_coherent(struct dmaland_device *dev, size_t size)
{
	dma_addr_t handle;
	char *memory = dma_alloc_coherent(dev, size, &handle, GFP_KERNEL);

	if (!memory)
		fail_msg("%zu bytes: %s", size, dmaland_last_error());
	for (size_t b = 0; b < size; b += 4096)
		assert_int_equal(memory[b], 0);
	assert_int_equal(memory[size - 1], 0);
	assert_true(dmaland_virt_to_dma(dev, memory, size) == handle);
	dma_free_coherent(dev, size, memory, handle);
}

static void coherent_memory_from_a_byte_to_tens_of_mib(void **state)
{
	static const size_t sizes[] = {1, 4096, 65537, 4 << 20, 33 << 20};
	struct dmaland_device *dev = open_device(NULL);

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		take_coherent(dev, sizes[i]);
	dmaland_close(dev);
	assert_string_equal(log_text(), "");
}

static void hundreds_of_mib_of_coherent_memory_go_back(void **state)
{
	enum { LARGE = 200 << 20 };
	struct dmaland_device *dev;
	struct dmaland_info info;

	(void)state;
	need_memory(LARGE);
	dev = open_device(NULL);
	take_coherent(dev, LARGE);
	dmaland_get_info(dev, &info);
	assert_int_equal(info.memory_in_use, 0);
	assert_true(info.memory < LARGE);
	dmaland_close(dev);
	assert_string_equal(log_text(), "");
}

/* The kernel would end a process that takes the last of the memory. */
static void more_coherent_memory_than_there_is_is_refused(void **state)
{
	const uint64_t size = memory_available() & ~UINT64_C(4095);
	struct dmaland_device *dev;
	dma_addr_t handle;

	(void)state;
	if (size > UINT64_C(2) << 30) {
		print_message("# a machine of less than 2 GiB cannot be had here\n");
		skip();
	}
	dev = open_device(NULL);
	errno = 0;
	assert_null(dma_alloc_coherent(dev, size, &handle, GFP_KERNEL));
	assert_int_equal(errno, ENOMEM);
	assert_error_says("MiB available (MemAvailable)");
	take_coherent(dev, 1 << 20);
	dmaland_close(dev);
}

/* Is first..last inside one of the ranges that the domain says are usable? */
static bool usable(const struct dmaland_info *info, uint64_t first, uint64_t last)
{
	for (size_t i = 0; i < info->range_count && i < 16; i++)
		if (first >= info->ranges[i].first && last <= info->ranges[i].last)
			return true;
	return false;
}

static void dma_addresses_lie_in_the_usable_ranges_and_are_used_again(void **state)
{
	static const unsigned int bits[] = {64, 39, 32, 28, 24};
	struct dmaland_device *dev = open_device(NULL);
	struct dmaland_info info, after;

	(void)state;
	dmaland_get_info(dev, &info);
	for (int round = 0; round < 20; round++)
		for (size_t b = 0; b < sizeof(bits) / sizeof(bits[0]); b++) {
			size_t size = (size_t)1 << (12 + (round + (int)b) % 10);
			dma_addr_t handle;
			void *memory;

			assert_int_equal(dma_set_coherent_mask(dev, DMA_BIT_MASK(bits[b])), 0);
			memory = dma_alloc_coherent(dev, size, &handle, GFP_KERNEL);
			assert_non_null(memory);
			assert_int_not_equal(handle, 0);
			assert_true(handle + size - 1 <= DMA_BIT_MASK(bits[b]));
			assert_true(usable(&info, handle, handle + size - 1));
			dma_free_coherent(dev, size, memory, handle);
		}
	dmaland_get_info(dev, &after);
	assert_true(after.memory <= 32 << 20);
	dmaland_close(dev);
}

static unsigned long free_hugepages(void)
{
	unsigned long n = 0;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "r");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "HugePages_Free: %lu", &n) == 1)
			break;
	fclose(f);
	return n;
}

static void hugepages_are_used_where_some_are_free(void **state)
{
	unsigned long before = free_hugepages();
	struct dmaland_device *dev;
	dma_addr_t handle;
	void *memory;

	(void)state;
	if (before < 4) {
		print_message("# cannot be had here: no hugepages\n");
		skip();
	}
	dev = open_device(NULL);
	memory = dma_alloc_coherent(dev, 8 << 20, &handle, GFP_KERNEL);
	assert_non_null(memory);
	assert_int_equal(free_hugepages(), before - 4);
	dma_free_coherent(dev, 8 << 20, memory, handle);
	dmaland_close(dev);
	assert_int_equal(free_hugepages(), before);
}

static void a_memory_limit_is_kept_and_named(void **state)
{
	const struct dmaland_options options = {.size = sizeof(options), .memory_limit = 1 << 20};
	struct dmaland_device *dev = open_device(&options);
	dma_addr_t handle;
	size_t pages = 0;
	struct dmaland_info info;

	(void)state;
	while (dma_alloc_coherent(dev, 4096, &handle, GFP_KERNEL))
		pages++;
	assert_int_equal(errno, ENOMEM);
	assert_error_says("memory_limit is 1024 KiB");
	assert_int_equal(pages, 256);
	dmaland_get_info(dev, &info);
	assert_int_equal(info.memory, 1 << 20);
	dmaland_close(dev);
	log_clear();
}

/* An unsigned one with NUMA_NO_NODE in it once made the kernel index out of bounds. */
static void any_node_will_do_for_a_pools_bookkeeping(void **state)
{
	static const int nodes[] = {NUMA_NO_NODE, 0, 1, 1024, INT_MAX, -2, INT_MIN};
	struct dmaland_device *dev = open_device(NULL);
	dma_addr_t handle;

	(void)state;
	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
		struct dma_pool *pool = dma_pool_create_node("node", dev, 64, 0, 0, nodes[i]);
		void *block;

		assert_non_null(pool);
		block = dma_pool_zalloc(pool, GFP_KERNEL, &handle);
		assert_non_null(block);
		assert_true(dmaland_virt_to_dma(dev, block, 64) == handle);
		dma_pool_free(pool, block, handle);
		dma_pool_destroy(pool);
	}
	dmaland_close(dev);
}

static void what_was_leaked_is_reported_at_close_and_freed(void **state)
{
	struct dmaland_device *dev = open_device(NULL);
	struct dma_pool *pool = dma_pool_create("leaky", dev, 64, 0, 0);
	dma_addr_t handle;

	(void)state;
	assert_non_null(dma_pool_alloc(pool, GFP_KERNEL, &handle));
	assert_non_null(dma_alloc_coherent(dev, 10000, &handle, GFP_KERNEL));
	log_clear();
	dmaland_close(dev);
	assert_logged("pending DMA allocations while released from device");
	assert_logged("[pools=1] [coherent=1, 12 KiB]");
	assert_logged("dma_pool_destroy leaky busy");
	log_clear();
	dmaland_close(NULL);
}

static void pools_are_shown_in_the_kernels_format(void **state)
{
	struct dmaland_device *dev = open_device(NULL);
	struct dma_pool *a = dma_pool_create("chain pool", dev, 128, 0, 0);
	struct dma_pool *b = dma_pool_create("a name longer than sixteen", dev, 2000, 0, 0);
	dma_addr_t handle;
	void *block = dma_pool_alloc(a, GFP_KERNEL, &handle);
	char text[512], cut[20];
	static const char expected[] = "poolinfo - 0.1\n"
				       "chain pool          1   32  128  1\n"
				       "a name longer than sixteen    0    0 2000  0\n";

	(void)state;
	assert_int_equal(dmaland_show_pools(dev, text, sizeof(text)), strlen(expected));
	assert_string_equal(text, expected);
	assert_int_equal(dmaland_show_pools(dev, cut, sizeof(cut)), strlen(expected));
	assert_memory_equal(cut, expected, sizeof(cut) - 1);
	assert_int_equal(dmaland_show_pools(dev, NULL, 0), strlen(expected));
	assert_null(dma_pool_create("no device", NULL, 64, 0, 0));
	assert_int_equal(errno, EINVAL);
	dma_pool_free(a, block, handle);
	dma_pool_destroy(a);
	dma_pool_destroy(b);
	dmaland_close(dev);
}

static void a_device_can_be_opened_again_and_again(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++) {
		struct dmaland_device *dev = open_device(NULL);
		dma_addr_t handle;
		void *memory = dma_alloc_coherent(dev, 1 << 20, &handle, GFP_KERNEL);

		assert_non_null(memory);
		dma_free_coherent(dev, 1 << 20, memory, handle);
		dmaland_close(dev);
	}
	assert_string_equal(log_text(), "");
}

static void only_soft_keeps_faults(void **state)
{
	struct dmaland_device *dev = open_device(NULL);

	(void)state;
	errno = 0;
	assert_int_equal(dmaland_soft_faults(dev, NULL, 0), 0);
	if (device_is_on("soft")) {
		assert_int_equal(errno, 0);
	} else {
		assert_int_equal(errno, EOPNOTSUPP);
		assert_error_says("only devices of the backend soft: do");
	}
	dmaland_close(dev);
}

int run_device_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_the_domain_can_do_is_told),
		cmocka_unit_test(masks_that_reach_nothing_are_refused),
		cmocka_unit_test(a_mask_is_not_narrowed_below_memory_in_use),
		cmocka_unit_test(coherent_memory_from_a_byte_to_tens_of_mib),
		cmocka_unit_test(hundreds_of_mib_of_coherent_memory_go_back),
		cmocka_unit_test(dma_addresses_lie_in_the_usable_ranges_and_are_used_again),
		cmocka_unit_test(a_memory_limit_is_kept_and_named),
		cmocka_unit_test(any_node_will_do_for_a_pools_bookkeeping),
		cmocka_unit_test(what_was_leaked_is_reported_at_close_and_freed),
		cmocka_unit_test(pools_are_shown_in_the_kernels_format),
		cmocka_unit_test(a_device_can_be_opened_again_and_again),
		cmocka_unit_test(only_soft_keeps_faults),
	};
	const struct CMUnitTest own_memory[] = {
		cmocka_unit_test(hugepages_are_used_where_some_are_free),
		cmocka_unit_test(more_coherent_memory_than_there_is_is_refused),
	};
	int failed = cmocka_run_group_tests_name("device", tests, NULL, NULL);

	/* QEMU's devices see QEMU's memory. */
	if (!device_is_on("qemu"))
		failed += cmocka_run_group_tests_name("own memory", own_memory, NULL, NULL);
	return failed;
}
