/* SPDX-License-Identifier: MIT */
/*
 * registered_tests.c - memory that is registered, and registers, which are no memory
 */
#include "streaming_stand.h"

#include <errno.h>
#include <sys/mman.h>

static char memory_of_ours[4096];

/* ---- registered memory ---- */

static void registered_memory_is_translated(void **state)
{
	struct dmaland_streaming_stats before;
	unsigned char *ptr;
	size_t size;

	(void)state;
	need_mover();
	ptr = memory + GUARD;
	errno = 0;
	if (dma_max_mapping_size(m.dev) != SIZE_MAX) {
		assert_int_equal(dmaland_register(m.dev, memory, MOST), -EOPNOTSUPP);
		assert_int_equal(errno, EOPNOTSUPP);
		return;
	}
	assert_int_equal(dmaland_register(m.dev, memory + 12, MOST + GUARD), 0);
	assert_int_equal(mappings_of(m.dev), mappings + 1);
	before = stats_now();
	for (int i = 0; (size = size_number(i)); i++) {
		check_read(ptr + 4, size, DMA_TO_DEVICE);
		check_write(ptr + 4, size, DMA_FROM_DEVICE);
	}
	assert_int_equal(stats_now().translated_registered, before.translated_registered + 14);
	assert_int_equal(stats_now().mapped, before.mapped);
	assert_int_equal(mappings_of(m.dev), mappings + 1);
	assert_int_equal(dmaland_unregister(m.dev, memory + 12), 0);
	assert_int_equal(mappings_of(m.dev), mappings);
	check_write(ptr, 65536, DMA_FROM_DEVICE);
}

/* ---- debug mode: registered memory that the program unmaps ---- */

enum { PAGE = 4096, PAGES = 16 };

static char *pages_map(void *where, size_t pages)
{
	char *place = mmap(where, pages * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | (where ? MAP_FIXED : 0), -1, 0);

	assert_true(place != MAP_FAILED);
	memset(place, 1, pages * PAGE);
	return place;
}

/* All that looks finds it, and names it; what is beside it is as good as before. */
static void check_finds(char *registered, char *changed, const char *how)
{
	char where[64];
	dma_addr_t dma;

	snprintf(where, sizeof(where), "from %p on the program has unmapped them", (void *)changed);
	assert_int_equal(dmaland_check_registered(m.dev), 1);
	assert_logged(where);
	assert_logged(how);
	log_clear();
	errno = 0;
	assert_true(dma_map_single(m.dev, changed, 100, DMA_TO_DEVICE) == DMA_MAPPING_ERROR);
	assert_int_equal(errno, EFAULT);
	assert_error_says(where);
	dma = map(changed - 100, 100, DMA_FROM_DEVICE);
	dma_unmap_single(m.dev, dma, 100, DMA_FROM_DEVICE);
	assert_int_equal(dmaland_unregister(m.dev, registered), 0);
	assert_logged(where);
	log_clear();
	assert_int_equal(dmaland_check_registered(m.dev), 0);
}

static void registered_memory_that_the_program_unmaps_is_found_in_debug_mode(void **state)
{
	char *pages, *neighbour;

	(void)state;
	need_mover();
	pages = pages_map(NULL, PAGES);
	neighbour = pages_map(NULL, 1);
	if (dmaland_register(m.dev, neighbour, 100)) {
		assert_int_equal(errno, EOPNOTSUPP);
		return;
	}
	for (int anew = 0; anew < 2; anew++) {
		assert_int_equal(dmaland_register(m.dev, pages + 10, (PAGES - 1) * PAGE), 0);
		assert_int_equal(dmaland_check_registered(m.dev), 0);
		dma_unmap_single(m.dev, map(pages + 10, PAGE, DMA_TO_DEVICE), PAGE, DMA_TO_DEVICE);
		munmap(pages + 4 * PAGE, PAGE);
		if (anew)
			pages_map(pages + 4 * PAGE, 1);
		check_finds(pages + 10, pages + 4 * PAGE, anew ? "and mapped others" : "since:");
		pages_map(pages + 4 * PAGE, 1);
	}
	/* Two that share a page: one keeps what it needs when the other goes. */
	assert_int_equal(dmaland_register(m.dev, pages, PAGE + 100), 0);
	assert_int_equal(dmaland_register(m.dev, pages + PAGE + 100, PAGE), 0);
	assert_int_equal(dmaland_unregister(m.dev, pages), 0);
	assert_int_equal(dmaland_check_registered(m.dev), 0);
	assert_int_equal(dmaland_unregister(m.dev, pages + PAGE + 100), 0);
	assert_int_equal(dmaland_unregister(m.dev, neighbour), 0);
	munmap(pages, PAGES * PAGE);
	munmap(neighbour, PAGE);
}

static void without_debug_mode_nothing_is_watched(void **state)
{
	(void)state;
	need_mover();
	if (strncmp(device_spec, "soft:", 5) == 0) { /* which is there to find mistakes */
		assert_int_equal(dmaland_check_registered(m.dev), 0);
		return;
	}
	assert_int_equal(dmaland_check_registered(m.dev), -EOPNOTSUPP);
	assert_error_says("dma_debug=yes");
}

/* ---- registers ---- */

static void expect_registers_refused(struct dmaland_device *dev, char *registers, size_t size)
{
	struct scatterlist sg[2];

	for (int dir = DMA_BIDIRECTIONAL; dir <= DMA_FROM_DEVICE; dir++) {
		errno = 0;
		assert_true(dma_map_single(dev, registers, size, (enum dma_data_direction)dir) ==
			    DMA_MAPPING_ERROR);
		assert_int_equal(errno, EINVAL);
		assert_error_says("pci_iomap()");
		sg_init_table(sg, 2);
		sg_set_buf(&sg[0], memory_of_ours, 4096);
		sg_set_buf(&sg[1], registers, (unsigned int)size);
		assert_int_equal(dma_map_sg(dev, sg, 2, (enum dma_data_direction)dir), 0);
		assert_error_says("pci_iomap()");
	}
}

/* Registers can be a device's to reach where they are mapped in the process. */
static void expect_registers_registered(struct dmaland_device *dev, char *bar, size_t size)
{
	struct dmaland_streaming_stats stats;
	dma_addr_t dma;
	int err = dmaland_register(dev, bar, size);

	if (!device_is_on("vfio")) {
		assert_int_equal(err, device_is_on("soft") ? -EINVAL : -EOPNOTSUPP);
		return;
	}
	if (err == -EINVAL) { /* a part of the BAR can't be mapped: none of it is */
		assert_error_says("does not map");
		return;
	}
	assert_int_equal(err, 0);
	dma = dma_map_single(dev, bar, 64, DMA_BIDIRECTIONAL);
	assert_false(dma_mapping_error(dev, dma));
	dmaland_get_streaming_stats(dev, &stats);
	assert_int_equal(stats.translated_registered, 1);
	dma_unmap_single(dev, dma, 64, DMA_BIDIRECTIONAL);
	assert_int_equal(dmaland_unregister(dev, bar), 0);
	expect_registers_refused(dev, bar, 64);
}

/* Mapped for one transfer, as a resource; memory is none. */
static void expect_registers_mapped(struct dmaland_device *dev, char *bar, size_t size)
{
	const phys_addr_t registers = (uintptr_t)bar;
	struct dmaland_streaming_stats stats;
	dma_addr_t dma;

	errno = 0;
	assert_true(dma_map_resource(dev, (uintptr_t)memory_of_ours, 64, DMA_BIDIRECTIONAL, 0) ==
		    DMA_MAPPING_ERROR);
	assert_int_equal(errno, EINVAL);
	assert_error_says("dma_map_single()");
	assert_true(dma_map_resource(dev, registers, (size_t)1 << 40, DMA_BIDIRECTIONAL, 0) ==
		    DMA_MAPPING_ERROR);
	assert_int_equal(errno, EINVAL);
	dma = dma_map_resource(dev, registers, size, DMA_BIDIRECTIONAL, 0);
	if (dma_mapping_error(dev, dma)) { /* or the BAR can't be mapped */
		assert_int_equal(errno, EOPNOTSUPP);
		assert_error_says("does not map registers");
		return;
	}
	assert_true(device_is_on("vfio"));
	dmaland_get_streaming_stats(dev, &stats);
	assert_int_equal(stats.live_mapped, 1);
	dma_unmap_resource(dev, dma, size, DMA_BIDIRECTIONAL, 0);
	dmaland_get_streaming_stats(dev, &stats);
	assert_int_equal(stats.live_mapped, 0);
	assert_int_equal(stats.bad_calls, 0);
}

/* Small, large, at the window's end, with slots for small ones ready, and what lies beside them is not. */
static void registers_are_no_memory_unless_they_are_registered(void **state)
{
	static const struct dmaland_options kinds[] = {
		{.size = sizeof(kinds[0])},
		{.size = sizeof(kinds[0]), .copy_below = 1},
		{.size = sizeof(kinds[0]), .lazy = true},
		{.size = sizeof(kinds[0]), .untrusted = true},
		{.size = sizeof(kinds[0]), .dma_debug = true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct dmaland_device *dev = dmaland_open(device_spec, &kinds[i]);
		size_t length;
		dma_addr_t dma;
		char *bar;

		if (!dev && kinds[i].untrusted && errno == EOPNOTSUPP)
			continue;
		if (!dev)
			fail_msg("%s", dmaland_last_error());
		assert_int_equal(pci_enable_device(dev), 0);
		bar = pci_iomap(dev, 0, 0);
		if (!bar) {
			dmaland_close(dev);
			skip();
		}
		length = pci_resource_len(dev, 0);
		dma = dma_map_single(dev, memory_of_ours, 64, DMA_TO_DEVICE);
		assert_false(dma_mapping_error(dev, dma));
		dma_unmap_single(dev, dma, 64, DMA_TO_DEVICE);
		expect_registers_refused(dev, bar, 1);
		expect_registers_refused(dev, bar, 64);
		expect_registers_refused(dev, bar + length - 4, 4);
		expect_registers_refused(dev, bar, length < 65536 ? length : 65536);
		expect_registers_mapped(dev, bar, length < 4096 ? length : 4096);
		if (!kinds[i].untrusted)
			expect_registers_registered(dev, bar, length < 4096 ? length : 4096);
		dma = dma_map_single(dev, memory_of_ours, 64, DMA_TO_DEVICE);
		assert_false(dma_mapping_error(dev, dma));
		dma_unmap_single(dev, dma, 64, DMA_TO_DEVICE);
		pci_iounmap(dev, bar);
		dmaland_close(dev);
	}
}

int run_registered_tests(void)
{
	const struct CMUnitTest tests[] = {
		with(open_device, registered_memory_is_translated),
		with(open_debug, registered_memory_that_the_program_unmaps_is_found_in_debug_mode),
		with(open_device, without_debug_mode_nothing_is_watched),
		cmocka_unit_test(registers_are_no_memory_unless_they_are_registered),
	};

	return cmocka_run_group_tests_name("registered memory", tests, NULL, NULL);
}
