/* SPDX-License-Identifier: MIT */
/*
 * test_soft_owners.c - who has the bytes of a mapping on a machine that is not coherent
 *
 * Mappings of every way, which the device touches byte by byte and as a whole. What nobody has: test_soft_unowned.c.
 */
#include "test.h"

#include "soft_owners_stand.h"

/* ---- each way ---- */

static void check_sizes(unsigned char *from)
{
	static const size_t sizes[] = {3, 64, 1500, PAGE, 3 * PAGE - 77};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (int dir = DMA_BIDIRECTIONAL; dir <= DMA_FROM_DEVICE; dir++) {
			check_memory(from, sizes[i], (enum dma_data_direction)dir);
			check_memory(from + 13, sizes[i], (enum dma_data_direction)dir);
		}
}

static void what_is_synced_for_the_cpu_is_out_of_reach_to_the_byte(void **state)
{
	static const char *const specs[] = {"soft:,coherent=no", "soft:,coherent=no,trusted=no",
					    "soft:,coherent=no,copy_below=1",
					    "soft:,coherent=no,unmap=lazy",
					    "soft:,coherent=no,dma_debug=no"};

	(void)state;
	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		open_spec(specs[i]);
		check_sizes(memory);
		check_sizes(pool);
		if (dmaland_register(dev, memory + 5, MOST - 5) == 0) {
			check_sizes(memory + 5);
			assert_int_equal(dmaland_unregister(dev, memory + 5), 0);
		}
		close_quietly();
	}
}

static void a_coherent_machine_has_no_owners(void **state)
{
	static const char *const specs[] = {"soft:", "soft:,coherent=yes", "soft:,trusted=no",
					    "soft:,copy_below=1"};

	(void)state;
	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		open_spec(specs[i]);
		for (size_t size = 1; size < MOST; size *= 3) {
			unsigned char *ptr = size & 2 ? pool : memory;
			dma_addr_t dma = map(ptr, size, DMA_BIDIRECTIONAL);

			sync_cpu(dma, 0, size, DMA_BIDIRECTIONAL);
			check_owners(ptr, dma, size, DMA_BIDIRECTIONAL, 0, 0);
			dma_unmap_single(dev, dma, size, DMA_BIDIRECTIONAL);
		}
		close_quietly();
	}
}

/* ---- lists ---- */

static void a_list_is_handed_over_whole(void **state)
{
	const enum dma_data_direction dir = DMA_FROM_DEVICE;
	struct scatterlist sg[4];
	int n;

	(void)state;
	open_spec("soft:,coherent=no");
	sg_init_table(sg, 4);
	sg_set_buf(&sg[0], memory + 100, 50);
	sg_set_buf(&sg[1], memory + 150, 70); /* behind it: one segment */
	sg_set_buf(&sg[2], memory + PAGE, 2 * PAGE);
	sg_set_buf(&sg[3], pool + 9, 600);
	n = dma_map_sg(dev, sg, 4, dir);
	assert_int_equal(n, 3);
	for (int cpus = 0; cpus < 3; cpus++) {
		for (int i = 0; i < n; i++) {
			dma_addr_t dma = sg_dma_address(&sg[i]);
			size_t size = sg_dma_len(&sg[i]);

			assert_int_equal(touches(dma, size, true), cpus == 1 ? 0 : size);
			assert_int_equal(touches(dma + size - 1, 1, true), cpus != 1);
		}
		if (cpus)
			dma_sync_sg_for_device(dev, sg, 4, dir);
		else
			dma_sync_sg_for_cpu(dev, sg, 4, dir);
	}
	/* One element of it, as a driver that took one frame does. */
	dma_sync_single_for_cpu(dev, sg_dma_address(&sg[1]), 10, dir);
	assert_int_equal(touches(sg_dma_address(&sg[0]), 120, true), 120);
	assert_int_equal(touches(sg_dma_address(&sg[1]), 11, true), 0);
	assert_int_equal(touches(sg_dma_address(&sg[1]) + 10, 1, true), 1);
	dma_unmap_sg(dev, sg, 4, dir);
	close_quietly();
}

/* ---- several mappings of the same memory ---- */

static void mappings_with_addresses_of_their_own_have_owners_of_their_own(void **state)
{
	static const size_t sizes[] = {100, 2 * PAGE};

	(void)state;
	open_spec("soft:,coherent=no");
	for (size_t i = 0; i < 4; i++) {
		unsigned char *ptr = i & 1 ? pool : memory;
		size_t size = sizes[i / 2];
		dma_addr_t a = map(ptr, size, DMA_TO_DEVICE), b = map(ptr, size, DMA_TO_DEVICE);

		assert_true(a != b);
		sync_cpu(a, 10, 20, DMA_TO_DEVICE);
		check_owners(ptr, a, size, DMA_TO_DEVICE, 10, 20);
		check_owners(ptr, b, size, DMA_TO_DEVICE, 0, 0);
		dma_unmap_single(dev, b, size, DMA_TO_DEVICE);
		check_owners(ptr, a, size, DMA_TO_DEVICE, 10, 20);
		dma_unmap_single(dev, a, size, DMA_TO_DEVICE);
	}
	close_quietly();
}

/* Whose a sync is, where registered memory has two at one address, nobody can tell. */
static void bytes_of_two_mappings_at_one_address_are_the_devices(void **state)
{
	const enum dma_data_direction dir = DMA_BIDIRECTIONAL;
	dma_addr_t a, b;

	(void)state;
	open_spec("soft:,coherent=no");
	assert_int_equal(dmaland_register(dev, memory, MOST), 0);
	a = map(memory, 100, dir);
	sync_cpu(a, 40, 80, dir);
	check_owners(memory, a, 100, dir, 40, 80);
	b = map(memory + 60, 100, dir); /* its first 40 bytes are both's */
	assert_true(b == a + 60);
	check_owners(memory, a, 100, dir, 40, 60);
	sync_cpu(a, 0, 100, dir);
	check_owners(memory, a, 100, dir, 0, 60);
	check_owners(memory + 60, b, 100, dir, 0, 0);
	dma_unmap_single(dev, a, 100, dir);
	check_owners(memory + 60, b, 100, dir, 0, 0);
	sync_cpu(b, 0, 100, dir);
	check_owners(memory + 60, b, 100, dir, 0, 100);
	assert_int_equal(touches(a, 60, true), 60); /* registered, and not mapped */
	dma_unmap_single(dev, b, 100, dir);
	assert_int_equal(touches(a, MOST, true), MOST);

	/* They may begin together: the one that stays is named. */
	a = map(memory, 100, dir);
	b = map(memory, 200, dir);
	assert_true(a == b);
	dma_unmap_single(dev, a, 100, dir);
	sync_cpu(b, 50, 200, dir);
	check_owners(memory, b, 200, dir, 50, 200);
	dma_unmap_single(dev, b, 200, dir);
	assert_int_equal(dmaland_unregister(dev, memory), 0);
	close_quietly();
}

/* More than are counted: nothing is found that is not wrong, and it goes on elsewhere. */
static void any_number_of_mappings_may_be_at_one_address(void **state)
{
	const enum dma_data_direction dir = DMA_TO_DEVICE;
	enum { MANY = 300 };
	dma_addr_t dma = 0;

	(void)state;
	open_spec("soft:,coherent=no,dma_debug=no");
	assert_int_equal(dmaland_register(dev, memory, MOST), 0);
	for (int i = 0; i < MANY; i++)
		dma = map(memory + 64, 64, dir);
	for (int i = 0; i < MANY; i++) {
		sync_cpu(dma, 0, 64, dir);
		assert_int_equal(touches(dma, 64, false), 64);
		dma_unmap_single(dev, dma, 64, dir);
	}
	dma = map(memory + 128, 64, dir);
	sync_cpu(dma, 0, 64, dir);
	check_owners(memory + 128, dma, 64, dir, 0, 64);
	dma_unmap_single(dev, dma, 64, dir);
	assert_int_equal(dmaland_unregister(dev, memory), 0);
	close_quietly();
}

/* What was still mapped then is over with it, and not what a fault names later. */
static void what_is_unregistered_takes_its_mappings_along(void **state)
{
	const enum dma_data_direction dir = DMA_FROM_DEVICE;
	dma_addr_t over, dma;

	(void)state;
	open_spec("soft:,coherent=no,dma_debug=no"); /* which reports the mapping */
	assert_int_equal(dmaland_register(dev, memory, MOST), 0);
	over = map(memory, 2 * PAGE, dir);
	assert_int_equal(dmaland_unregister(dev, memory), 0);
	assert_int_equal(dmaland_register(dev, memory, MOST), 0);
	dma = map(memory + PAGE + 64, 100, dir);
	assert_true(dma == over + PAGE + 64);
	sync_cpu(dma, 0, 100, dir);
	check_owners(memory + PAGE + 64, dma, 100, dir, 0, 100);
	dma_unmap_single(dev, dma, 100, dir);
	assert_int_equal(dmaland_unregister(dev, memory), 0);
	close_quietly();
}

/* ---- what the program sees of it ---- */

static void a_fault_is_counted_and_says_what_cures_it(void **state)
{
	struct dmaland_soft_fault kept;
	dma_addr_t dma;
	char line[128];
	char *bar;

	(void)state;
	open_spec("soft:,coherent=no");
	assert_int_equal(pci_enable_device(dev), 0);
	assert_int_equal(pci_set_master(dev), 0);
	bar = pci_iomap(dev, 0, 0);
	dma = map(memory, 64, DMA_FROM_DEVICE);
	writeq(dma, bar + DMALAND_SOFT_DESTINATION);
	writel(64, bar + DMALAND_SOFT_LENGTH);
	writel(DMALAND_SOFT_FILL, bar + DMALAND_SOFT_COMMAND);
	assert_int_equal(readl(bar + DMALAND_SOFT_STATUS), DMALAND_SOFT_OK);
	sync_cpu(dma, 60, 64, DMA_FROM_DEVICE);
	assert_string_equal(log_text(), "");
	writel(DMALAND_SOFT_FILL, bar + DMALAND_SOFT_COMMAND);
	assert_int_equal(readl(bar + DMALAND_SOFT_STATUS), DMALAND_SOFT_FAULT);
	assert_int_equal(dmaland_soft_faults(dev, &kept, 1), 1);
	assert_int_equal(kept.reason, DMALAND_SOFT_CPU);
	assert_int_equal(kept.length, 4);
	snprintf(line, sizeof(line), "write of 4 bytes at dma address 0x%llx: it is the CPU's",
		 (unsigned long long)dma + 60);
	assert_logged(line);
	assert_logged("give it back by dma_sync_*_for_device() first");
	snprintf(line, sizeof(line), "a mapping of memory at %p", (void *)memory);
	assert_logged(line);
	log_clear();
	sync_device(dma, 60, 64, DMA_FROM_DEVICE);
	writel(DMALAND_SOFT_FILL, bar + DMALAND_SOFT_COMMAND);
	assert_int_equal(readl(bar + DMALAND_SOFT_STATUS), DMALAND_SOFT_OK);
	dma_unmap_single(dev, dma, 64, DMA_FROM_DEVICE);
	pci_iounmap(dev, bar);
	close_quietly();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_synced_for_the_cpu_is_out_of_reach_to_the_byte),
		cmocka_unit_test(a_coherent_machine_has_no_owners),
		cmocka_unit_test(a_list_is_handed_over_whole),
		cmocka_unit_test(mappings_with_addresses_of_their_own_have_owners_of_their_own),
		cmocka_unit_test(bytes_of_two_mappings_at_one_address_are_the_devices),
		cmocka_unit_test(any_number_of_mappings_may_be_at_one_address),
		cmocka_unit_test(what_is_unregistered_takes_its_mappings_along),
		cmocka_unit_test(a_fault_is_counted_and_says_what_cures_it),
	};

	log_capture();
	return cmocka_run_group_tests_name("soft_owners", tests, NULL, NULL);
}
