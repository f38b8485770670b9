/* SPDX-License-Identifier: MIT */
/*
 * test_close.c - a device is stopped before its memory goes, and keeps it when it can't be stopped
 *
 * The pci_function is the test's: it has a command register, and notes what is done to it.
 */
#include "test.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>

#include "base/error.h"
#include "device/device.h"
#include "fake_domain.h"

static struct fake_place place;

static struct {
	uint16_t command;
	bool stuck, no_reset, gone;
	int resets, closes;
	bool master_at_reset;
	size_t in_use_at_reset; /* pages that were handed out then */
} fake;

static int config_read(struct pci_function *f, unsigned int where, unsigned int width,
		       uint32_t *value)
{
	(void)f;
	(void)width;
	*value = fake.gone ? UINT32_MAX : where == PCI_COMMAND ? fake.command : 0x1234;
	return fake.gone ? error_set(ENODEV, "the fake device is gone") : 0;
}

static int config_write(struct pci_function *f, unsigned int where, unsigned int width,
			uint32_t value)
{
	(void)f;
	(void)width;
	if (fake.gone)
		return error_set(ENODEV, "the fake device is gone");
	if (where == PCI_COMMAND && !fake.stuck)
		fake.command = (uint16_t)value;
	return 0;
}

static int reset(struct pci_function *f)
{
	(void)f;
	fake.resets++;
	fake.master_at_reset = fake.command & PCI_COMMAND_MASTER;
	fake.in_use_at_reset = place.arena->pages - place.arena->free_pages;
	return fake.no_reset ? error_set(ENOTTY, "the fake device has no reset") : 0;
}

static bool is_dead(struct pci_function *f)
{
	(void)f;
	return false;
}

static void function_close(struct pci_function *f)
{
	(void)f;
	fake.closes++;
}

static const struct pci_function_ops ops = {
	.config_read = config_read,
	.config_write = config_write,
	.reset = reset,
	.is_dead = is_dead,
	.close = function_close,
};

static struct pci_function function = {.ops = &ops, .name = "fake"};

/*
 * A device that does DMA, with a page, a block and mappings of each kind in use; a second user keeps
 * the arena.
 */
static struct dmaland_device *open_busy(void)
{
	static char memory[65536];
	struct dmaland_device *dev = calloc(1, sizeof(*dev));
	struct dma_pool *pool;
	dma_addr_t handle;

	assert_non_null(dev);
	memset(&fake, 0, sizeof(fake));
	fake.command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	fake_streaming_open(&place, FAKE_MAPS, NULL);
	function.domain = &place.fake.domain;
	place.arena->devices = 2;
	dev->function = &function;
	dev->arena = place.arena;
	dev->limits.coherent_mask = DMA_BIT_MASK(64);
	dev->coherent.limits = dev->orphans.limits = &dev->limits;
	pthread_mutex_init(&dev->pools.lock, NULL);
	pool = dma_pool_create("busy", dev, 64, 0, 0);
	assert_non_null(dma_pool_alloc(pool, GFP_KERNEL, &handle));
	assert_non_null(dma_alloc_coherent(dev, 4096, &handle, GFP_KERNEL));
	dev->limits.streaming_mask = DMA_BIT_MASK(32);
	assert_int_equal(streaming_init(&dev->streaming, place.space, &dev->limits, &dev->orphans,
					"fake", &(struct streaming_options){0}),
			 0);
	assert_true(dma_map_single(dev, memory, 64, DMA_TO_DEVICE) != DMA_MAPPING_ERROR);
	assert_true(dma_map_single(dev, memory, 16384, DMA_TO_DEVICE) != DMA_MAPPING_ERROR);
	assert_int_equal(dmaland_register(dev, memory + 32768, 4096), 0);
	device_announce(dev);
	return dev;
}

static void expect_all_freed(void)
{
	assert_int_equal(fake.closes, 1);
	assert_int_equal(place.arena->free_pages, place.arena->pages);
	assert_int_equal(place.fake.mapped_count, 0);
	assert_logged("[mappings=2]");
	fake_streaming_close(&place);
	log_clear();
}

static void bus_mastering_goes_off_before_the_reset_and_memory_after_it(void **state)
{
	(void)state;
	dmaland_close(open_busy());
	assert_int_equal(fake.resets, 1);
	assert_false(fake.master_at_reset);
	assert_int_equal(fake.in_use_at_reset, 3);
	expect_all_freed();
}

static void without_a_reset_bus_mastering_off_is_enough(void **state)
{
	struct dmaland_device *dev = open_busy();

	(void)state;
	fake.no_reset = true;
	dmaland_close(dev);
	assert_false(fake.command & PCI_COMMAND_MASTER);
	expect_all_freed();
}

static void a_device_that_is_gone_needs_no_stopping(void **state)
{
	struct dmaland_device *dev = open_busy();

	(void)state;
	fake.gone = fake.no_reset = true;
	dmaland_close(dev);
	expect_all_freed();
}

static void the_memory_of_a_device_that_cannot_be_stopped_stays_its_own(void **state)
{
	static struct dmaland_device *dev; /* leaked on purpose, and known to the leak checker */

	(void)state;
	dev = open_busy();
	fake.stuck = fake.no_reset = true;
	dmaland_close(dev);
	assert_logged("cannot be stopped");
	assert_int_equal(fake.closes, 0);
	assert_int_equal(place.arena->pages - place.arena->free_pages, 3);
	arena_reclaim(place.arena, 0); /* for another device of the domain */
	assert_int_equal(place.arena->pages - place.arena->free_pages, 3);
	assert_true(place.fake.domain.memory > 0);
	assert_int_equal(place.fake.mapped_count, 2);
	log_clear();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bus_mastering_goes_off_before_the_reset_and_memory_after_it),
		cmocka_unit_test(without_a_reset_bus_mastering_off_is_enough),
		cmocka_unit_test(a_device_that_is_gone_needs_no_stopping),
		cmocka_unit_test(the_memory_of_a_device_that_cannot_be_stopped_stays_its_own),
	};

	log_capture();
	return cmocka_run_group_tests_name("close", tests, NULL, NULL);
}
