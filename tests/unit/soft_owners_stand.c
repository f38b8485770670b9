/* SPDX-License-Identifier: MIT */
#include "soft_owners_stand.h"

#include "test.h"

#include <stdlib.h>

#include "backend/soft.h"
#include "device/device.h"

struct dmaland_device *dev;
unsigned char *memory;
unsigned char *pool;
dma_addr_t pool_dma;
struct dmaland_soft_fault fault;

void open_spec(const char *spec)
{
	log_clear();
	dev = dmaland_open(spec, NULL);
	if (!dev)
		fail_msg("%s: %s", spec, dmaland_last_error());
	assert_int_equal(dma_set_mask_and_coherent(dev, DMA_BIT_MASK(39)), 0);
	memory = aligned_alloc(PAGE, MOST);
	memset(memory, 1, MOST);
	pool = dma_alloc_coherent(dev, MOST, &pool_dma, GFP_KERNEL);
	assert_non_null(pool);
}

void close_quietly(void)
{
	dma_free_coherent(dev, MOST, pool, pool_dma);
	dmaland_close(dev);
	free(memory);
	assert_string_equal(log_text(), "");
}

dma_addr_t map(void *ptr, size_t size, enum dma_data_direction dir)
{
	dma_addr_t dma = dma_map_single(dev, ptr, size, dir);

	if (dma_mapping_error(dev, dma))
		fail_msg("%zu bytes: %s", size, dmaland_last_error());
	return dma;
}

size_t touches(dma_addr_t dma, size_t size, bool write)
{
	static unsigned char bytes[MOST];
	const struct soft_access access = {dma, dma, bytes, size, write};

	return soft_domain_access((struct soft_domain *)dev->function->domain, &access, &fault);
}

static bool may_touch(dma_addr_t dma, size_t size, enum dma_data_direction dir)
{
	bool reads = dir == DMA_FROM_DEVICE || touches(dma, size, false) == size;
	bool writes = dir == DMA_TO_DEVICE || touches(dma, size, true) == size;

	if (dir == DMA_BIDIRECTIONAL)
		assert_int_equal(reads, writes);
	return reads && writes;
}

void check_owners(const void *ptr, dma_addr_t dma, size_t size, enum dma_data_direction dir,
		  size_t from, size_t to)
{
	bool write = dir != DMA_TO_DEVICE;

	for (size_t i = 0; i < size; i++)
		if (i % 61 == 0 || i + 2 - from < 4 || i + 2 - to < 4 || i + 1 == size)
			assert_int_equal(may_touch(dma + i, 1, dir), i < from || i >= to);
	if (from == to) {
		assert_int_equal(touches(dma, size, write), size);
		return;
	}
	/* What goes on for long ends there. */
	assert_int_equal(touches(dma, size, write), from);
	assert_int_equal(fault.reason, DMALAND_SOFT_CPU);
	assert_int_equal(fault.write, write);
	assert_int_equal(fault.kind, DMALAND_SOFT_MAPPING);
	assert_true(fault.address == dma + from && fault.first == dma);
	assert_int_equal(fault.size, size);
	assert_ptr_equal(fault.memory, ptr);
	assert_false(fault.unmapped);
}

void sync_cpu(dma_addr_t dma, size_t from, size_t to, enum dma_data_direction dir)
{
	dma_sync_single_range_for_cpu(dev, dma, from, to - from, dir);
}

void sync_device(dma_addr_t dma, size_t from, size_t to, enum dma_data_direction dir)
{
	dma_sync_single_range_for_device(dev, dma, from, to - from, dir);
}

void check_memory(unsigned char *ptr, size_t size, enum dma_data_direction dir)
{
	dma_addr_t dma = map(ptr, size, dir);
	size_t third = size / 3;

	check_owners(ptr, dma, size, dir, 0, 0);
	sync_cpu(dma, third, third + 1, dir);
	check_owners(ptr, dma, size, dir, third, third + 1);
	sync_cpu(dma, third, 2 * third, dir); /* some of it again */
	check_owners(ptr, dma, size, dir, third, 2 * third);
	sync_cpu(dma, 2 * third, size, dir);
	check_owners(ptr, dma, size, dir, third, size);
	sync_device(dma, third, third + 1, dir);
	check_owners(ptr, dma, size, dir, third + 1, size);
	sync_device(dma, size - 1, size, dir);
	check_owners(ptr, dma, size, dir, third + 1, size - 1);
	sync_cpu(dma, size - 1, size, dir);
	sync_device(dma, 0, size - 1, dir);
	check_owners(ptr, dma, size, dir, size - 1, size); /* far from where it begins */
	sync_cpu(dma, 0, size, dir);
	check_owners(ptr, dma, size, dir, 0, size);
	sync_device(dma, 0, size, dir);
	check_owners(ptr, dma, size, dir, 0, 0);
	sync_device(dma, 0, size, dir); /* it has it already */
	check_owners(ptr, dma, size, dir, 0, 0);

	/* What ended in the CPU's hands is the device's when it is mapped again. */
	sync_cpu(dma, 0, size, dir);
	dma_unmap_single(dev, dma, size, dir);
	dma = map(ptr, size, dir);
	check_owners(ptr, dma, size, dir, 0, 0);
	dma_unmap_single(dev, dma, size, dir);
}
