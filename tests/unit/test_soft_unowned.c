/* SPDX-License-Identifier: MIT */
/*
 * test_soft_unowned.c - what has no owner, or is the device's all along, on a machine that is not coherent
 */
#include "test.h"

#include "soft_owners_stand.h"

static void coherent_memory_is_always_in_reach(void **state)
{
	dma_addr_t handle, dma;
	struct dma_pool *blocks;
	void *block;

	(void)state;
	open_spec(
		"soft:,coherent=no,dma_debug=no"); /* which reports a sync of what is not mapped */
	blocks = dma_pool_create("blocks", dev, 256, 64, 0);
	block = dma_pool_alloc(blocks, GFP_KERNEL, &handle);
	assert_non_null(block);
	sync_cpu(pool_dma, 0, MOST, DMA_BIDIRECTIONAL);
	sync_cpu(handle, 0, 256, DMA_BIDIRECTIONAL);
	assert_int_equal(touches(pool_dma, MOST, true), MOST);
	assert_int_equal(touches(handle, 256, true), 256);

	/* So too by its own address while a mapping of it is the CPU's. */
	dma = map(block, 256, DMA_FROM_DEVICE);
	assert_true(dma != handle);
	sync_cpu(dma, 0, 256, DMA_FROM_DEVICE);
	assert_int_equal(touches(dma, 256, true), 0);
	assert_int_equal(touches(handle, 256, true), 256);
	dma_unmap_single(dev, dma, 256, DMA_FROM_DEVICE);

	/* Which is what it is mapped to when it must not be copied. */
	dma = dma_map_single_attrs(dev, block, 256, DMA_FROM_DEVICE, DMA_ATTR_REQUIRE_COHERENT);
	assert_true(dma == handle);
	sync_cpu(dma, 0, 256, DMA_FROM_DEVICE);
	assert_int_equal(touches(dma, 256, true), 256);
	dma_unmap_single(dev, dma, 256, DMA_FROM_DEVICE);
	dma_pool_free(blocks, block, handle);
	dma_pool_destroy(blocks);
	close_quietly();
}

/* Where nothing may be mapped it is translated; but copied, and so owned, where it is not within a list's limits. */
static void without_system_calls_coherent_memory_stays_coherent(void **state)
{
	const enum dma_data_direction dir = DMA_FROM_DEVICE;
	const dma_addr_t boundary = 2 * PAGE;
	struct scatterlist sg;
	unsigned char *across;
	dma_addr_t dma;

	(void)state;
	open_spec("soft:,coherent=no,no_syscalls=yes");
	for (int i = 0; i < 2; i++) {
		dma = map(pool + 10, 100, dir);
		assert_true(dma == pool_dma + 10);
		sync_cpu(dma, 0, 100, dir);
		assert_int_equal(touches(dma, 100, true), 100);
		dma_unmap_single(dev, dma, 100, dir);
	}
	check_memory(memory + 10, 100, dir);

	assert_int_equal(dma_set_seg_boundary(dev, boundary - 1), 0);
	across = pool + (boundary - pool_dma % boundary) - 500;
	sg_init_one(&sg, across, 1000);
	assert_int_equal(dma_map_sg(dev, &sg, 1, dir), 1);
	dma = sg_dma_address(&sg);
	assert_true(dma - pool_dma >= MOST);
	sync_cpu(dma, 10, 1000, dir);
	check_owners(across, dma, 1000, dir, 10, 1000);
	dma_unmap_sg(dev, &sg, 1, dir);
	close_quietly();
}

/* Its bytes may be bounced through later. */
static void memory_that_was_translated_has_no_owner_afterwards(void **state)
{
	const enum dma_data_direction dir = DMA_FROM_DEVICE;
	enum { HALF = PAGE / 2 };
	static dma_addr_t dmas[1000];
	struct scatterlist sg;
	size_t n = 0;

	(void)state;
	open_spec("soft:,coherent=no,no_syscalls=yes");
	sg_init_one(&sg, pool, MOST);
	assert_int_equal(dma_map_sg(dev, &sg, 1, dir), 1);
	assert_true(sg_dma_address(&sg) == pool_dma);
	dma_unmap_sg(dev, &sg, 1, dir);
	dma_free_coherent(dev, MOST, pool, pool_dma);
	do {
		assert_true(n < sizeof(dmas) / sizeof(dmas[0]));
		dmas[n] = map(memory, HALF, dir);
	} while (dmas[n++] - pool_dma >= MOST);
	sync_cpu(dmas[n - 1], 0, HALF, dir);
	check_owners(memory, dmas[n - 1], HALF, dir, 0, HALF);
	while (n--)
		dma_unmap_single(dev, dmas[n], HALF, dir);
	pool = dma_alloc_coherent(dev, MOST, &pool_dma, GFP_KERNEL);
	assert_non_null(pool);
	close_quietly();
}

/* Its own address is all that there is: otherwise it is refused. */
static void coherence_that_cannot_be_had_is_refused(void **state)
{
	static const char *const specs[] = {"soft:,coherent=no", "soft:,coherent=no,trusted=no"};
	const unsigned long attrs = DMA_ATTR_REQUIRE_COHERENT;

	(void)state;
	for (int i = 0; i < 2; i++) {
		open_spec(specs[i]);
		if (i == 0)
			assert_int_equal(dma_set_mask(dev, DMA_BIT_MASK(32)), 0);
		assert_true(pool_dma > DMA_BIT_MASK(32));
		assert_true(dma_map_single_attrs(dev, pool, 100, DMA_TO_DEVICE, attrs) ==
			    DMA_MAPPING_ERROR);
		assert_error_says("DMA_ATTR_REQUIRE_COHERENT");
		assert_true(dma_map_single_attrs(dev, memory, 100, DMA_TO_DEVICE, attrs) ==
			    DMA_MAPPING_ERROR);
		assert_error_says("DMA_ATTR_REQUIRE_COHERENT");
		close_quietly();
	}
}

/* It waits to be revoked, and the device may touch it until then. */
static void what_ended_lazily_is_nobodys(void **state)
{
	const enum dma_data_direction dir = DMA_FROM_DEVICE;
	dma_addr_t dma;

	(void)state;
	open_spec("soft:,coherent=no,unmap=lazy,lazy_ms=1000000");
	dma = map(memory, PAGE, dir);
	sync_cpu(dma, 0, PAGE, dir);
	assert_int_equal(touches(dma, PAGE, true), 0);
	dma_unmap_single(dev, dma, PAGE, dir);
	assert_int_equal(touches(dma, PAGE, true), PAGE);
	close_quietly();
}

/* The driver has handed it over before, as the attribute says. */
static void what_is_mapped_without_a_sync_is_the_devices(void **state)
{
	dma_addr_t dma;

	(void)state;
	open_spec("soft:,coherent=no");
	dma = dma_map_single_attrs(dev, memory, 100, DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC);
	check_owners(memory, dma, 100, DMA_FROM_DEVICE, 0, 0);
	sync_cpu(dma, 0, 100, DMA_FROM_DEVICE);
	check_owners(memory, dma, 100, DMA_FROM_DEVICE, 0, 100);
	dma_unmap_single_attrs(dev, dma, 100, DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC);
	close_quietly();
}

static void a_sync_that_does_not_match_hands_nothing_over(void **state)
{
	dma_addr_t dma;

	(void)state;
	open_spec("soft:,coherent=no,dma_debug=no");
	assert_int_equal(dmaland_register(dev, memory, 1000), 0);
	dma = map(memory, 100, DMA_TO_DEVICE);
	sync_cpu(dma, 0, 1001, DMA_TO_DEVICE); /* also of bytes that are not registered */
	assert_logged("1001");
	check_owners(memory, dma, 100, DMA_TO_DEVICE, 0, 0);
	dma_unmap_single(dev, dma, 100, DMA_TO_DEVICE);
	assert_int_equal(dmaland_unregister(dev, memory), 0);
	log_clear();
	close_quietly();

	open_spec("soft:,coherent=no");
	dma = map(memory, 100, DMA_TO_DEVICE);
	sync_cpu(dma, 0, 101, DMA_TO_DEVICE);
	sync_cpu(dma, 0, 100, DMA_FROM_DEVICE);
	check_owners(memory, dma, 100, DMA_TO_DEVICE, 0, 0);
	log_clear();
	dma_unmap_single(dev, dma, 100, DMA_TO_DEVICE);
	close_quietly();
}

/* A device of the same address space gets the memory of a mapping that another left behind. */
static void what_a_device_leaves_behind_is_nobodys(void **state)
{
	struct dmaland_options options = {.size = sizeof(options)};
	struct dmaland_device *other;
	dma_addr_t dma;

	(void)state;
	open_spec("soft:,coherent=no");
	options.share_with = dev;
	other = dmaland_open("soft:", &options);
	assert_non_null(other);
	dma = dma_map_single(other, memory, 100, DMA_FROM_DEVICE);
	assert_false(dma_mapping_error(other, dma));
	dma_sync_single_for_cpu(other, dma, 100, DMA_FROM_DEVICE);
	assert_int_equal(touches(dma, 100, true), 0);
	dmaland_close(other);
	assert_logged("mappings=1");
	log_clear();
	if (touches(dma, 100, true) != 100)
		assert_int_equal(fault.reason, DMALAND_SOFT_NOT_MAPPED);
	close_quietly();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(coherent_memory_is_always_in_reach),
		cmocka_unit_test(without_system_calls_coherent_memory_stays_coherent),
		cmocka_unit_test(memory_that_was_translated_has_no_owner_afterwards),
		cmocka_unit_test(coherence_that_cannot_be_had_is_refused),
		cmocka_unit_test(what_ended_lazily_is_nobodys),
		cmocka_unit_test(what_is_mapped_without_a_sync_is_the_devices),
		cmocka_unit_test(a_sync_that_does_not_match_hands_nothing_over),
		cmocka_unit_test(what_a_device_leaves_behind_is_nobodys),
	};

	log_capture();
	return cmocka_run_group_tests_name("soft_unowned", tests, NULL, NULL);
}
