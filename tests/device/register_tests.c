/* SPDX-License-Identifier: MIT */
/*
 * register_tests.c - register windows, configuration space, what enabling and reset change
 */
#include "suite.h"

#include <errno.h>
#include <linux/pci_regs.h>

static struct dmaland_device *open_device(void)
{
	struct dmaland_device *dev = dmaland_open(device_spec, NULL);

	if (!dev)
		fail_msg("%s", dmaland_last_error());
	return dev;
}

static void registers_of_a_drive_answer_at_every_width_and_offset(void **state)
{
	struct dmaland_device *dev = open_device();
	char *bar;
	uint64_t cap;

	(void)state;
	assert_int_equal(pci_enable_device(dev), 0);
	assert_true(pci_resource_len(dev, 0) >= 8192);
	bar = pci_iomap(dev, 0, 0);
	assert_non_null(bar);
	/* NVMe 2.0, 3.1.3.1 CAP and 3.1.3.2 VS */
	cap = readq(bar);
	assert_int_equal(readl(bar), (uint32_t)cap);
	assert_int_equal(readl(bar + 4), (uint32_t)(cap >> 32));
	assert_true(readl(bar + 8) >= 0x10000 && readl(bar + 8) < 0x30000);
	/* AQA takes what is written (3.1.3.8). */
	writel(0x001f001f, bar + 0x24);
	assert_int_equal(readl(bar + 0x24), 0x001f001f);
	writel_relaxed(0x00030003, bar + 0x24);
	assert_int_equal(readl_relaxed(bar + 0x24), 0x00030003);
	pci_iounmap(dev, bar);
	dmaland_close(dev);
}

/* As a driver has no call for it: by its bit of the command register. */
static void decode(struct dmaland_device *dev, bool on)
{
	uint16_t command;

	assert_int_equal(pci_read_config_word(dev, PCI_COMMAND, &command), 0);
	command = on ? command | PCI_COMMAND_MEMORY : command & ~PCI_COMMAND_MEMORY;
	assert_int_equal(pci_write_config_word(dev, PCI_COMMAND, command), 0);
}

static void windows_that_cannot_be_are_refused(void **state)
{
	struct dmaland_device *dev = open_device();

	(void)state;
	decode(dev, false);
	assert_null(pci_iomap(dev, 0, 0));
	assert_int_equal(errno, EIO);
	assert_error_says("pci_enable_device");
	assert_int_equal(pci_enable_device(dev), 0);
	assert_null(pci_iomap(dev, 6, 0));
	assert_int_equal(errno, EINVAL);
	assert_null(pci_iomap(dev, -1, 0));
	assert_null(pci_iomap(dev, 5, 0));
	assert_error_says("no memory BAR 5");
	assert_non_null(pci_iomap(dev, 0, 1ul << 40)); /* a maximum */
	assert_null(pci_iomap(NULL, 0, 0));
	assert_null(dma_alloc_coherent(NULL, 1, NULL, GFP_KERNEL));
	assert_null(dma_pool_alloc(NULL, GFP_KERNEL, NULL));
	dma_pool_free(NULL, dev, 1);
	dma_free_coherent(NULL, 1, dev, 1);
	assert_int_equal(pci_resource_len(dev, 5), 0);
	assert_int_equal(pci_resource_len(dev, 9), 0);
	pci_iounmap(dev, NULL);
	dmaland_close(dev);
}

static void registers_that_do_not_answer_read_all_ones_and_come_back(void **state)
{
	struct dmaland_device *dev = open_device();
	char *bar;
	uint32_t first;

	(void)state;
	bus_errors_to_library();
	assert_int_equal(pci_enable_device(dev), 0);
	bar = pci_iomap(dev, 0, 0);
	assert_non_null(bar);
	first = readl(bar);
	assert_int_not_equal(first, UINT32_MAX);
	for (int i = 0; i < 3; i++) {
		decode(dev, false);
		assert_int_equal(readb(bar), 0xff);
		assert_int_equal(readl(bar), UINT32_MAX);
		writel(0, bar);
		assert_int_equal(readl(bar + 4), UINT32_MAX);
		assert_int_equal(pci_enable_device(dev), 0);
		assert_int_equal(readl(bar), first);
		decode(dev, false);
		assert_int_equal(readl(bar), UINT32_MAX);
		if (pci_reset_function(dev) == 0)
			assert_int_equal(readl(bar), UINT32_MAX); /* as it was before */
		assert_int_equal(pci_enable_device(dev), 0);
		assert_int_equal(readl(bar), first);
	}
	dmaland_close(dev);
}

static void configuration_space_reads_alike_at_every_width(void **state)
{
	struct dmaland_device *dev = open_device();
	struct dmaland_info info;
	uint32_t dword;
	uint16_t word;
	uint8_t byte;

	(void)state;
	dmaland_get_info(dev, &info);
	assert_int_equal(pci_read_config_dword(dev, 0, &dword), 0);
	assert_int_equal(dword, info.vendor_id | (uint32_t)info.device_id << 16);
	assert_int_equal(pci_read_config_word(dev, 2, &word), 0);
	assert_int_equal(word, info.device_id);
	assert_int_equal(pci_read_config_byte(dev, 1, &byte), 0);
	assert_int_equal(byte, info.vendor_id >> 8);
	assert_int_equal(pci_read_config_dword(dev, 2, &dword), -EINVAL);
	assert_int_equal(dword, UINT32_MAX);
	assert_int_equal(pci_read_config_byte(dev, 4096, &byte), -EINVAL);
	assert_int_equal(pci_write_config_word(dev, -2, 0), -EINVAL);
	dmaland_close(dev);
}

static void bus_mastering_goes_on_and_off(void **state)
{
	struct dmaland_device *dev = open_device();
	uint16_t command;

	(void)state;
	assert_int_equal(pci_enable_device(dev), 0);
	assert_int_equal(pci_set_master(dev), 0);
	assert_int_equal(pci_read_config_word(dev, PCI_COMMAND, &command), 0);
	assert_int_equal(command & (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER),
			 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(pci_clear_master(dev), 0);
	assert_int_equal(pci_read_config_word(dev, PCI_COMMAND, &command), 0);
	assert_int_equal(command & PCI_COMMAND_MASTER, 0);
	assert_true(pci_device_is_present(dev));
	dmaland_close(dev);
}

static void enabling_is_counted_and_disabling_ends_bus_mastering_alone(void **state)
{
	struct dmaland_device *dev = open_device();
	uint16_t command;

	(void)state;
	assert_int_equal(pci_enable_device(dev), 0);
	assert_int_equal(pci_enable_device(dev), 0);
	assert_int_equal(pci_set_master(dev), 0);
	for (int left = 1; left >= 0; left--) {
		pci_disable_device(dev);
		assert_int_equal(pci_read_config_word(dev, PCI_COMMAND, &command), 0);
		assert_int_equal(command & (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER),
				 PCI_COMMAND_MEMORY | (left ? PCI_COMMAND_MASTER : 0));
	}

	/* One too many is told, and no debt for the next. */
	log_clear();
	pci_disable_device(dev);
	assert_logged("disabling already-disabled device");
	assert_int_equal(pci_enable_device(dev), 0);
	assert_int_equal(pci_set_master(dev), 0);
	pci_disable_device(dev);
	assert_int_equal(pci_read_config_word(dev, PCI_COMMAND, &command), 0);
	assert_int_equal(command & PCI_COMMAND_MASTER, 0);
	dmaland_close(dev);
}

static void a_reset_keeps_the_configuration_or_says_that_there_is_none(void **state)
{
	struct dmaland_device *dev = open_device();
	uint16_t command;
	uint32_t address, first;
	char *bar;
	int err;

	(void)state;
	assert_int_equal(pci_enable_device(dev), 0);
	assert_int_equal(pci_read_config_dword(dev, PCI_BASE_ADDRESS_0, &address), 0);
	bar = pci_iomap(dev, 0, 0);
	assert_non_null(bar);
	first = readl(bar);
	assert_int_not_equal(first, UINT32_MAX);
	err = pci_reset_function(dev);
	if (err == 0) {
		uint32_t after;

		assert_int_equal(pci_read_config_word(dev, PCI_COMMAND, &command), 0);
		assert_true(command & PCI_COMMAND_MEMORY);
		assert_int_equal(pci_read_config_dword(dev, PCI_BASE_ADDRESS_0, &after), 0);
		assert_int_equal(after, address);
	} else {
		assert_int_equal(err, -ENOTTY);
		assert_error_says("reset");
	}
	assert_int_equal(readl(bar), first); /* of a drive: CAP, which never changes */
	dmaland_close(dev);
}

int run_register_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows_that_cannot_be_are_refused),
		cmocka_unit_test(registers_that_do_not_answer_read_all_ones_and_come_back),
		cmocka_unit_test(configuration_space_reads_alike_at_every_width),
		cmocka_unit_test(bus_mastering_goes_on_and_off),
		cmocka_unit_test(enabling_is_counted_and_disabling_ends_bus_mastering_alone),
		cmocka_unit_test(a_reset_keeps_the_configuration_or_says_that_there_is_none),
	};
	const struct CMUnitTest of_a_drive[] = {
		cmocka_unit_test(registers_of_a_drive_answer_at_every_width_and_offset),
	};
	int failed = cmocka_run_group_tests_name("registers", tests, NULL, NULL);

	if (device_is_drive())
		failed +=
			cmocka_run_group_tests_name("a drive's registers", of_a_drive, NULL, NULL);
	return failed;
}
