/* SPDX-License-Identifier: MIT */
/*
 * complaints.c - a driver's mistakes with addresses, which QEMU lets pass, are told in the log
 *
 * The device is QEMU's educational one (docs/specs/edu in QEMU), with a mask that lets every address through. A line that QEMU wrote
 * before a register's answer is in the log when that is read, unless the machine is busy.
 */
#include "test.h"
#include "edu.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define SPEC "qemu:edu,dma_mask=0xffffffffffffffff"

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

static void lines_wait(size_t n)
{
	time_t begun = time(NULL);

	while (log_lines() < n && time(NULL) - begun <= (time_t)patience(20))
		sched_yield();
	assert_int_equal(log_lines(), n);
}

/* One line for the whole block, read or written. */
static void told(uint64_t address, const char *words)
{
	char text[64];

	for (int write = 0; write < 2; write++) {
		log_clear();
		transfer(address, write ? EDU_TO_MEMORY : 0);
		lines_wait(1);
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
	lines_wait(1);
	assert_logged("QEMU says: Invalid write at addr 0x20, size 2, region 'edu-mmio'");
}

static void after_sixteen_lines_the_log_is_left_alone(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 20; i++)
		transfer(UINT64_C(0x40000000) + 4096 * i, 0);
	lines_wait(16);
	assert_logged("further ones are not shown");
}

/* xHCI has holes between its groups of registers, which are regions of one BAR in QEMU. */
static void a_hole_among_registers_is_told_as_such(void **state)
{
	struct dmaland_device *xhci = dmaland_open("qemu:qemu-xhci", NULL);
	char *window;

	(void)state;
	assert_non_null(xhci);
	assert_int_equal(pci_enable_device(xhci), 0);
	window = pci_iomap(xhci, 0, 0);
	assert_non_null(window);
	log_clear();
	readl(window + 0x3800 - 0x100);
	lines_wait(1);
	assert_logged("read at 0x3700 of BAR 0 of qemu:qemu-xhci@02: there is no register");
	dmaland_close(xhci);
}

static struct {
	atomic_uint calls, id;
	atomic_bool memory;
} asked;

/* What a program may want to say of a fault: a register, and whatever else takes the library's locks. */
static void log_that_asks(void *context, enum dmaland_log_level level, const char *line)
{
	dma_addr_t dma;
	void *large;

	(void)context;
	(void)level;
	(void)line;
	asked.id = readl(bar);
	large = dma_alloc_coherent(dev, 64 << 20, &dma, GFP_KERNEL);
	asked.memory = large != NULL;
	dma_free_coherent(dev, 64 << 20, large, dma);
	asked.calls++;
}

static void the_logs_callback_may_use_the_device(void **state)
{
	(void)state;
	dmaland_set_log(log_that_asks, NULL);
	transfer(UINT64_C(0x40000000), 0);
	while (!asked.calls)
		sched_yield();
	log_capture();
	assert_int_equal(asked.calls, 1);
	assert_int_equal(asked.id, 0x010000ed);
	assert_true(asked.memory);
	assert_true(pci_device_is_present(dev));
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
		cmocka_unit_test(a_hole_among_registers_is_told_as_such),
		cmocka_unit_test_setup_teardown(the_logs_callback_may_use_the_device, begin, end),
		cmocka_unit_test_setup_teardown(after_sixteen_lines_the_log_is_left_alone, begin,
						end),
	};

	log_capture();
	return cmocka_run_group_tests_name("complaints", tests, NULL, NULL);
}
