/* SPDX-License-Identifier: MIT */
/*
 * complaints.c - a driver's mistakes with addresses, which QEMU lets pass, are told in the log
 *
 * The device is QEMU's educational one (docs/specs/edu in QEMU), with a mask that lets every address through. A line that QEMU wrote
 * before a register's answer is in the log when that is read.
 */
#include "test.h"

#include <stdlib.h>
#include <time.h>

#define SPEC "qemu:edu,dma_mask=0xffffffffffffffff"

enum {
	EDU_DMA_FROM = 0x80,
	EDU_DMA_TO = 0x88,
	EDU_DMA_COUNT = 0x90,
	EDU_DMA_COMMAND = 0x98,
	EDU_BUFFER = 0x40000,
	EDU_START = 1,
	EDU_TO_MEMORY = 2,
};

static struct dmaland_device *dev;
static char *bar;
static char *memory;
static dma_addr_t handle;

static void open_edu(const char *spec)
{
	dev = dmaland_open(spec, NULL);
	if (!dev)
		fail_msg("%s", dmaland_last_error());
	assert_int_equal(dma_set_mask_and_coherent(dev, DMA_BIT_MASK(64)), 0);
	assert_int_equal(pci_enable_device(dev), 0);
	bar = pci_iomap(dev, 0, 0);
	assert_non_null(bar);
	memory = dma_alloc_coherent(dev, 4096, &handle, GFP_KERNEL);
	assert_non_null(memory);
	log_clear();
}

static int begin(void **state)
{
	(void)state;
	open_edu(SPEC);
	return pci_set_master(dev);
}

static int end(void **state)
{
	(void)state;
	dma_free_coherent(dev, 4096, memory, handle);
	dmaland_close(dev);
	return 0;
}

static void transfer(uint64_t address, uint32_t flags)
{
	time_t begun = time(NULL);

	writeq(flags ? EDU_BUFFER : address, bar + EDU_DMA_FROM);
	writeq(flags ? address : EDU_BUFFER, bar + EDU_DMA_TO);
	writeq(256, bar + EDU_DMA_COUNT);
	writel(EDU_START | flags, bar + EDU_DMA_COMMAND);
	while (readl(bar + EDU_DMA_COMMAND) & EDU_START)
		if (time(NULL) - begun > (time_t)patience(20))
			fail_msg("the device does not end its transfer");
}

/* One line for the whole block, read or written. */
static void told(uint64_t address, const char *words)
{
	char text[64];

	for (int write = 0; write < 2; write++) {
		log_clear();
		transfer(address, write ? EDU_TO_MEMORY : 0);
		assert_int_equal(log_lines(), 1);
		snprintf(text, sizeof(text),
			 "DMA fault: %s at dma address 0x%llx: ", write ? "write" : "read",
			 (unsigned long long)address);
		assert_logged(text);
		assert_logged(words);
	}
}

static void a_good_transfer_says_nothing(void **state)
{
	(void)state;
	transfer(handle, 0);
	transfer(handle, EDU_TO_MEMORY);
	assert_string_equal(log_text(), "");
}

static void a_cpu_address_of_the_devices_memory_is_told_its_dma_address(void **state)
{
	char words[64];

	(void)state;
	snprintf(words, sizeof(words), "reaches that memory at dma address 0x%llx",
		 (unsigned long long)handle + 64);
	told((uintptr_t)memory + 64, words);
}

static void a_cpu_address_of_other_memory_is_told_as_such(void **state)
{
	char *other = malloc(4096);

	(void)state;
	assert_non_null(other);
	told((uintptr_t)other, "this is a CPU address: ");
	free(other);
}

static void an_address_behind_all_memory_is_told(void **state)
{
	(void)state;
	told(UINT64_C(0x40000000), "the machine's memory ends at 0x3fffffff");
	told(UINT64_C(0x7f00000000000000), "there is nothing");
}

static void bus_mastering_that_is_off_is_told_with_the_devices_that_lack_it(void **state)
{
	struct dmaland_device *master = dmaland_open("qemu:edu,machine=masters", NULL);

	(void)state;
	assert_non_null(master);
	assert_int_equal(pci_set_master(master), 0);
	open_edu(SPEC ",machine=masters");
	told(handle, "bus mastering is off for qemu:edu@03: pci_set_master()");
	assert_int_equal(pci_set_master(dev), 0);
	log_clear();
	transfer(handle, 0);
	assert_string_equal(log_text(), "");
	end(state);
	dmaland_close(master);
}

/* The model's registers below 0x80 are 4 bytes wide. */
static void an_access_that_a_register_does_not_take_is_told_in_qemus_words(void **state)
{
	(void)state;
	writew(1, bar + 0x20);
	readl(bar);
	assert_logged("QEMU says: Invalid write at addr 0x20, size 2, region 'edu-mmio'");
}

static void after_sixteen_lines_the_log_is_left_alone(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 20; i++)
		transfer(UINT64_C(0x40000000) + 4096 * i, 0);
	assert_int_equal(log_lines(), 16);
	assert_logged("further ones are not shown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_good_transfer_says_nothing, begin, end),
		cmocka_unit_test_setup_teardown(
			a_cpu_address_of_the_devices_memory_is_told_its_dma_address, begin, end),
		cmocka_unit_test_setup_teardown(a_cpu_address_of_other_memory_is_told_as_such,
						begin, end),
		cmocka_unit_test_setup_teardown(an_address_behind_all_memory_is_told, begin, end),
		cmocka_unit_test(bus_mastering_that_is_off_is_told_with_the_devices_that_lack_it),
		cmocka_unit_test_setup_teardown(
			an_access_that_a_register_does_not_take_is_told_in_qemus_words, begin, end),
		cmocka_unit_test_setup_teardown(after_sixteen_lines_the_log_is_left_alone, begin,
						end),
	};

	log_capture();
	return cmocka_run_group_tests_name("complaints", tests, NULL, NULL);
}
