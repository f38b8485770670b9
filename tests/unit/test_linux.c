/* SPDX-License-Identifier: MIT */
/*
 * test_linux.c - lines of Linux 4.6 compile unchanged with <dmaland/linux.h>, and work
 *
 * The lines marked "4.6" stand in drivers/nvme/host/pci.c and drivers/net/ethernet/realtek/r8169.c; the
 * structs around them are ours.
 */
#include "test.h"

#include <dmaland/linux.h>

#include "device/device.h"
#include "fake_domain.h"

struct nvme_dev {
	struct device *dev;
	struct dma_pool *prp_page_pool;
	struct dma_pool *prp_small_pool;
};

static int nvme_setup_prp_pools(struct nvme_dev *dev)
{
	dev->prp_page_pool =
		dma_pool_create("prp list page", dev->dev, PAGE_SIZE, PAGE_SIZE, 0); /* 4.6 */
	if (!dev->prp_page_pool)
		return -ENOMEM;
	dev->prp_small_pool = dma_pool_create("prp list 256", dev->dev, 256, 256, 0);
	if (!dev->prp_small_pool) {
		dma_pool_destroy(dev->prp_page_pool);
		return -ENOMEM;
	}
	return 0;
}

static void lines_of_nvme_compile_unchanged_and_work(void **state)
{
	struct fake_place place;
	struct device device_of_test;
	struct nvme_dev nvme = {0}, *dev = &nvme;
	struct dma_pool *pool;
	__le64 *prp_list, *list[1];
	dma_addr_t prp_dma;

	(void)state;
	fake_place_open(&place, NULL, 0);
	memset(&device_of_test, 0, sizeof(device_of_test));
	device_of_test.arena = place.arena;
	device_of_test.limits.coherent_mask = DMA_BIT_MASK(32);
	device_of_test.function = &(struct pci_function){.name = "test"};
	pthread_mutex_init(&device_of_test.pools.lock, NULL);
	nvme.dev = &device_of_test;
	assert_int_equal(nvme_setup_prp_pools(&nvme), 0);

	pool = dev->prp_small_pool;
	prp_list = dma_pool_alloc(pool, GFP_ATOMIC, &prp_dma); /* 4.6 */
	assert_non_null(prp_list);
	prp_list[0] = cpu_to_le64(prp_dma);
	assert_true(le64_to_cpu(prp_list[0]) == prp_dma);
	assert_true(upper_32_bits(prp_dma) == 0);
	list[0] = prp_list;
	dma_pool_free(dev->prp_small_pool, list[0], prp_dma); /* 4.6 */
	assert_string_equal(log_text(), "");

	dma_pool_destroy(dev->prp_page_pool);  /* 4.6 */
	dma_pool_destroy(dev->prp_small_pool); /* 4.6 */
	dev_warn(dev->dev, "with a newline, as the kernel has it: %d\n", 7);
	assert_string_equal(log_text(), "test: with a newline, as the kernel has it: 7\n");
	fake_place_close(&place);
}

/* The descriptor's address is all that the driver keeps of a mapping. */
struct RxDesc {
	__le32 opts1, opts2;
	__le64 addr;
};

static int rx_buf_sz = 16383;

static void *rtl8169_align(void *data)
{
	return (void *)ALIGN((unsigned long)data, 16);
}

static void lines_of_r8169_compile_unchanged_and_work(void **state)
{
	struct dmaland_streaming_stats before, after;
	struct device *d = dmaland_open("soft:", NULL);
	struct RxDesc rx, *desc = &rx;
	static char data[20000];
	char packet[60] = "a packet", *addr = packet;
	u32 len = sizeof(packet);
	dma_addr_t mapping;

	(void)state;
	assert_non_null(d);
	log_clear();
	dmaland_get_streaming_stats(d, &before);
	mapping = dma_map_single(d, rtl8169_align(data), rx_buf_sz, DMA_FROM_DEVICE); /* 4.6 */
	if (dma_mapping_error(d, mapping))					      /* 4.6 */
		fail_msg("%s", dmaland_last_error());
	desc->addr = cpu_to_le64(mapping);
	dma_sync_single_for_cpu(d, le64_to_cpu(desc->addr), len, DMA_FROM_DEVICE);
	dma_sync_single_for_device(d, le64_to_cpu(desc->addr), len, DMA_FROM_DEVICE);
	dma_unmap_single(d, le64_to_cpu(desc->addr), rx_buf_sz, DMA_FROM_DEVICE); /* 4.6 */

	mapping = dma_map_single(d, addr, len, DMA_TO_DEVICE); /* 4.6 */
	assert_int_equal(dma_mapping_error(d, mapping), 0);
	desc->addr = cpu_to_le64(mapping);
	dma_unmap_single(d, le64_to_cpu(desc->addr), len, DMA_TO_DEVICE); /* 4.6 */

	dmaland_get_streaming_stats(d, &after);
	assert_int_equal(after.mapped, before.mapped + 1);
	assert_int_equal(after.bounced_small, before.bounced_small + 1);
	assert_int_equal(after.live_mapped + after.live_bounced, 0);
	assert_string_equal(log_text(), "");
	dmaland_close(d);
}

/* As drivers write them: what follows the brace must be no variable, and is seen in the layout. */
struct packed_descriptor {
	u8 kind;
	__le64 address;
	__le16 length;
} __packed;

struct aligned_descriptor {
	__le32 word;
} __aligned(16);

struct per_queue {
	u16 head;
	u16 tail ____cacheline_aligned;
	u8 last __aligned(8);
} ____cacheline_aligned_in_smp;

struct ops {
	int (*call)(void);
} __randomize_layout;

static void descriptors_have_the_layout_that_was_asked_for(void **state)
{
	static struct per_queue queues[2] ____cacheline_aligned;

	(void)state;
	assert_int_equal(sizeof(struct packed_descriptor), 11);
	assert_int_equal(offsetof(struct packed_descriptor, address), 1);
	assert_int_equal(_Alignof(struct packed_descriptor), 1);
	assert_int_equal(sizeof(struct aligned_descriptor), 16);
	assert_int_equal(_Alignof(struct aligned_descriptor), 16);
	assert_int_equal(offsetof(struct per_queue, tail), SMP_CACHE_BYTES);
	assert_int_equal(offsetof(struct per_queue, last), SMP_CACHE_BYTES + 8);
	assert_int_equal(sizeof(queues), 4 * SMP_CACHE_BYTES);
	assert_int_equal((uintptr_t)queues % SMP_CACHE_BYTES, 0);
	assert_int_equal(sizeof(struct ops), sizeof(void *));
}

static void helpers_agree_with_the_kernels(void **state)
{
	struct outer {
		u32 a;
		u16 b;
	} outer;

	(void)state;
	assert_int_equal(ALIGN(13u, 8), 16);
	assert_true(IS_ALIGNED(64, 32));
	assert_int_equal(DIV_ROUND_UP(9, 4), 3);
	assert_int_equal(upper_32_bits(0x1234567800000001ull), 0x12345678);
	assert_int_equal(lower_32_bits(0x1234567800000001ull), 1);
	assert_ptr_equal(container_of(&outer.b, struct outer, b), &outer);
	assert_int_equal(1ul << PAGE_SHIFT, PAGE_SIZE);
	assert_true(DMA_BIT_MASK(64) == ~0ull);
	assert_true(DMA_BIT_MASK(28) == 0xfffffff);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_of_nvme_compile_unchanged_and_work),
		cmocka_unit_test(lines_of_r8169_compile_unchanged_and_work),
		cmocka_unit_test(descriptors_have_the_layout_that_was_asked_for),
		cmocka_unit_test(helpers_agree_with_the_kernels),
	};

	log_capture();
	return cmocka_run_group_tests_name("linux.h", tests, NULL, NULL);
}
