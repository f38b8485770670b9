/* SPDX-License-Identifier: MIT */
/*
 * test_irq.c - which vectors a device gets; and what VFIO's events mean
 *
 * The pci_function is the test's: it has as many vectors of each kind as it is told, of which the
 * machine may have fewer, and any kind can be refused.
 */
#include "test.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "backend/vfio.h"
#include "device/device.h"

static struct {
	unsigned int has[5]; /* by PCI_IRQ_* */
	unsigned int machine;
	unsigned int refused; /* kinds that fail */
	unsigned int enables;
	unsigned int enabled; /* kind */
	uint16_t command;
	uint16_t vendor;
} fake;

static int config_read(struct pci_function *f, unsigned int where, unsigned int width,
		       uint32_t *value)
{
	(void)f;
	(void)width;
	*value = where == PCI_COMMAND ? fake.command : fake.vendor;
	return 0;
}

static int config_write(struct pci_function *f, unsigned int where, unsigned int width,
			uint32_t value)
{
	(void)f;
	(void)width;
	if (where == PCI_COMMAND)
		fake.command = (uint16_t)value;
	return 0;
}

static bool is_dead(struct pci_function *f)
{
	(void)f;
	return false;
}

static unsigned int irq_count(struct pci_function *f, unsigned int kind)
{
	(void)f;
	return fake.has[kind];
}

static int irq_enable(struct pci_function *f, unsigned int kind, const int *fds, unsigned int *n)
{
	(void)f;
	fake.enables++;
	if (fake.refused & kind)
		return error_set(EIO, "the fake refuses kind %u", kind);
	if (*n > fake.machine) {
		*n = fake.machine;
		return -ENOSPC;
	}
	for (unsigned int i = 0; i < *n; i++)
		assert_int_equal(eventfd_write(fds[i], i + 1), 0);
	fake.enabled = kind;
	return 0;
}

static void irq_disable(struct pci_function *f, unsigned int kind)
{
	(void)f;
	assert_int_equal(kind, fake.enabled);
	fake.enabled = 0;
}

static const struct pci_function_ops ops = {
	.config_read = config_read,
	.config_write = config_write,
	.is_dead = is_dead,
	.irq_count = irq_count,
	.irq_enable = irq_enable,
	.irq_disable = irq_disable,
};
static const struct pci_function_ops polled_ops = {.config_read = config_read};
static const struct domain_ops domain_ops = {.backend = "fake"};
static struct domain domain = {.ops = &domain_ops};
static struct pci_function function = {.ops = &ops, .domain = &domain, .name = "fake"};
static struct dmaland_device device_of_test = {.function = &function}, *dev = &device_of_test;

static int setup(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	fake.has[PCI_IRQ_MSIX] = 16;
	fake.has[PCI_IRQ_MSI] = 4;
	fake.has[PCI_IRQ_INTX] = 1;
	fake.machine = 1000;
	fake.vendor = 0x1234;
	function.ops = &ops;
	return 0;
}

static void vectors_are_as_the_kernel_gives_them(void **state)
{
	static const struct {
		unsigned int min, max, flags, machine, refused;
		int result;
		unsigned int kind, enables;
	} cases[] = {
		{1, 8, PCI_IRQ_ALL_TYPES, 1000, 0, 8, PCI_IRQ_MSIX, 1},
		{1, 99, PCI_IRQ_ALL_TYPES, 1000, 0, 16, PCI_IRQ_MSIX, 1},
		{1, 99, PCI_IRQ_MSI | PCI_IRQ_INTX, 1000, 0, 4, PCI_IRQ_MSI, 1},
		{1, 1, PCI_IRQ_INTX, 1000, 0, 1, PCI_IRQ_INTX, 1},
		{5, 5, PCI_IRQ_MSI | PCI_IRQ_INTX, 1000, 0, -ENOSPC, 0, 0},
		{17, 20, PCI_IRQ_ALL_TYPES, 1000, 0, -ENOSPC, 0, 0},
		/* The machine has fewer than the device: once more with those. */
		{1, 16, PCI_IRQ_ALL_TYPES, 5, 0, 5, PCI_IRQ_MSIX, 2},
		{5, 16, PCI_IRQ_ALL_TYPES, 5, 0, 5, PCI_IRQ_MSIX, 2},
		{3, 16, PCI_IRQ_ALL_TYPES, 2, 0, -ENOSPC, 0, 2},
		{1, 16, PCI_IRQ_ALL_TYPES, 0, 0, -ENOSPC, 0, 3},
		/* A kind that fails makes room for the next. */
		{1, 16, PCI_IRQ_ALL_TYPES, 1000, PCI_IRQ_MSIX, 4, PCI_IRQ_MSI, 2},
		{1, 16, PCI_IRQ_ALL_TYPES, 1000, 6, 1, PCI_IRQ_INTX, 3},
		{1, 16, PCI_IRQ_ALL_TYPES, 1000, 7, -EIO, 0, 3},
		{2, 16, PCI_IRQ_ALL_TYPES, 1000, 6, -EIO, 0, 2},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int n;

		fake.machine = cases[i].machine;
		fake.refused = cases[i].refused;
		fake.enables = 0;
		fake.command = PCI_COMMAND_INTX_DISABLE;
		n = pci_alloc_irq_vectors(dev, cases[i].min, cases[i].max, cases[i].flags);
		if (n != cases[i].result)
			fail_msg("case %zu: %d (%s)", i, n, dmaland_last_error());
		assert_int_equal(fake.enabled, cases[i].kind);
		assert_int_equal(fake.enables, cases[i].enables);
		if (fake.enabled == PCI_IRQ_INTX)
			assert_int_equal(fake.command, 0);
		for (int v = 0; v < n; v++) {
			eventfd_t count = 0;

			assert_int_equal(eventfd_read(dmaland_irq(dev, (unsigned int)v), &count),
					 0);
			assert_int_equal(count, v + 1);
		}
		pci_free_irq_vectors(dev);
		assert_int_equal(fake.enabled, 0);
	}
}

static void a_backend_without_interrupts_says_so(void **state)
{
	(void)state;
	function.ops = &polled_ops;
	assert_int_equal(pci_alloc_irq_vectors(dev, 1, 1, PCI_IRQ_ALL_TYPES), -EOPNOTSUPP);
	assert_error_says("backend fake knows no interrupts: poll the device");
	assert_int_equal(dmaland_event_fd(dev), -EOPNOTSUPP);
	assert_error_says("backend fake tells of no events");
	assert_int_equal(dmaland_get_events(dev), 0);
	pci_free_irq_vectors(dev);
	assert_int_equal(dmaland_irq_mask(dev, 0), -EINVAL);
}

static void a_device_that_is_gone_has_no_vectors(void **state)
{
	(void)state;
	memset(fake.has, 0, sizeof(fake.has));
	fake.vendor = 0xffff;
	assert_int_equal(pci_alloc_irq_vectors(dev, 1, 1, PCI_IRQ_ALL_TYPES), -ENODEV);
	assert_error_says("does not answer");
}

/* ---- events of VFIO; the kernel's part is the test's ---- */

static void what_the_kernel_signals_becomes_events(void **state)
{
	static const struct {
		bool removal, error;
		uint16_t vendor;
		unsigned int events;
	} cases[] = {
		{false, false, 0x1234, 0},
		{true, false, 0x1234, DMALAND_EVENT_REMOVE},
		{true, false, 0xffff, DMALAND_EVENT_REMOVE | DMALAND_EVENT_GONE},
		{false, true, 0x1234, DMALAND_EVENT_ERROR},
		{true, true, 0x1234, DMALAND_EVENT_REMOVE | DMALAND_EVENT_ERROR},
	};
	struct vfio_function vf = {.f.ops = &ops};

	(void)state;
	vf.removal = eventfd(0, EFD_NONBLOCK);
	vf.error = eventfd(0, EFD_NONBLOCK);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake.vendor = cases[i].vendor;
		if (cases[i].removal)
			eventfd_write(vf.removal, 3);
		if (cases[i].error)
			eventfd_write(vf.error, 1);
		assert_int_equal(vfio_take_events(&vf.f), cases[i].events);
		assert_int_equal(vfio_take_events(&vf.f), 0);
	}
	close(vf.removal);
	close(vf.error);
	vf.removal = vf.error = -1; /* a device that has neither */
	assert_int_equal(vfio_take_events(&vf.f), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(vectors_are_as_the_kernel_gives_them, setup),
		cmocka_unit_test_setup(a_backend_without_interrupts_says_so, setup),
		cmocka_unit_test_setup(a_device_that_is_gone_has_no_vectors, setup),
		cmocka_unit_test_setup(what_the_kernel_signals_becomes_events, setup),
	};

	return cmocka_run_group_tests_name("irq", tests, NULL, NULL);
}
