/* SPDX-License-Identifier: MIT */
/*
 * irq_machine.c - interrupts of several devices in one machine of QEMU, which share lines
 */
#include "test.h"

#include <pthread.h>

#include "irq_stand.h"

enum { MEMBERS = 5 }; /* one more than a machine of QEMU has lines */

static void members_begin(struct mover *members, unsigned int kind)
{
	for (int i = 0; i < MEMBERS; i++)
		if (!irq_begin(&members[i], kind, 1))
			fail_msg("%s", dmaland_last_error());
}

static void members_end(struct mover *members)
{
	for (int i = 0; i < MEMBERS; i++)
		irq_end(&members[i]);
}

static void messages_of_devices_in_one_machine_are_apart(void **state)
{
	struct mover members[MEMBERS];

	(void)state;
	members_begin(members, PCI_IRQ_MSI);
	for (int i = 0; i < MEMBERS; i++) {
		members[i].ops->interrupts(&members[i], 0);
		for (int k = 0; k < MEMBERS; k++) {
			if (k != i)
				assert_quiet(&members[k], 0);
			else
				assert_interrupt(&members[i], 0);
		}
		handle(&members[i], 0);
	}
	members_end(members);
}

/* The first and the last share a line; whose interrupt it was only the device knows. */
static void devices_that_share_a_line_do_not_lose_interrupts(void **state)
{
	struct mover members[MEMBERS], *first = &members[0], *last = &members[MEMBERS - 1];

	(void)state;
	members_begin(members, PCI_IRQ_INTX);
	for (int i = 0; i < 20; i++) {
		first->ops->interrupts(first, 0);
		assert_interrupt(first, 0);
		if (taken_within(last, 0, 0))
			assert_int_equal(dmaland_irq_unmask(last->dev, 0), 0);
		assert_quiet(last, 0);
		last->ops->interrupts(last, 0);
		handle(first, 0);
		assert_interrupt(last, 0);
		handle(last, 0);
		if (taken_within(first, 0, 0))
			assert_int_equal(dmaland_irq_unmask(first->dev, 0), 0);
		for (int k = 0; k < MEMBERS; k++)
			assert_quiet(&members[k], 0);
	}
	members_end(members);
}

/* Whose interrupt it was not. */
static void let_it_be(struct mover *m)
{
	if (taken_within(m, 0, 0))
		assert_int_equal(dmaland_irq_unmask(m->dev, 0), 0);
	assert_quiet(m, 0);
}

static void a_device_without_vectors_leaves_its_line_to_the_others(void **state)
{
	struct mover members[MEMBERS], *first = &members[0], *last = &members[MEMBERS - 1];

	(void)state;
	members_begin(members, PCI_IRQ_INTX);
	for (int i = 0; i < 5; i++) {
		first->ops->interrupts(first, 0);
		assert_interrupt(first, 0);
		let_it_be(last);
		if (i % 2) /* before the vectors go, or after */
			last->ops->interrupts(last, 0);
		pci_free_irq_vectors(first->dev);
		if (i % 2 == 0)
			last->ops->interrupts(last, 0);
		assert_interrupt(last, 0);
		handle(last, 0);
		assert_quiet(last, 0);
		assert_int_equal(pci_alloc_irq_vectors(first->dev, 1, 1, PCI_IRQ_INTX), 1);
		assert_interrupt(first, 0); /* it was never handled */
		handle(first, 0);
		let_it_be(last);
	}
	members_end(members);
}

static void a_device_that_is_masked_leaves_its_line_to_the_others(void **state)
{
	struct mover members[MEMBERS], *first = &members[0], *last = &members[MEMBERS - 1];

	(void)state;
	members_begin(members, PCI_IRQ_INTX);
	for (int i = 0; i < 5; i++) {
		if (i % 2)
			first->ops->interrupts(first, 0);
		assert_int_equal(dmaland_irq_mask(first->dev, 0), 0);
		if (i % 2 == 0)
			first->ops->interrupts(first, 0);
		let_it_be(last);
		last->ops->interrupts(last, 0);
		assert_interrupt(last, 0);
		handle(last, 0);
		taken_within(first, 0, 0);
		assert_int_equal(dmaland_irq_unmask(first->dev, 0), 0);
		assert_interrupt(first, 0);
		handle(first, 0);
		let_it_be(last);
	}
	members_end(members);
}

static void *come_and_go(void *context)
{
	struct mover *m = context;

	for (int i = 0; i < 20; i++) {
		m->ops->interrupts(m, 0);
		pci_free_irq_vectors(m->dev);
		if (pci_alloc_irq_vectors(m->dev, 1, 1, PCI_IRQ_INTX) != 1)
			return (void *)dmaland_last_error();
		m->ops->handled(m, 0);
		dmaland_irq_unmask(m->dev, 0);
	}
	return NULL;
}

static void devices_come_and_go_on_a_line_of_which_none_is_lost(void **state)
{
	struct mover members[MEMBERS], *first = &members[0], *last = &members[MEMBERS - 1];
	struct mover guest;
	pthread_t thread;
	void *error;

	(void)state;
	members_begin(members, PCI_IRQ_INTX);
	assert_int_equal(pthread_create(&thread, NULL, come_and_go, last), 0);
	for (int i = 0; i < 20; i++) {
		if (i % 10 == 0)
			assert_true(irq_begin(&guest, PCI_IRQ_INTX, 1));
		first->ops->interrupts(first, 0);
		assert_interrupt(first, 0);
		handle(first, 0);
		if (i % 10 == 5)
			irq_end(&guest);
	}
	assert_int_equal(pthread_join(thread, &error), 0);
	assert_null(error);
	members_end(members);
}

int run_machine_irq_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_of_devices_in_one_machine_are_apart),
		cmocka_unit_test(devices_that_share_a_line_do_not_lose_interrupts),
		cmocka_unit_test(a_device_without_vectors_leaves_its_line_to_the_others),
		cmocka_unit_test(a_device_that_is_masked_leaves_its_line_to_the_others),
		cmocka_unit_test(devices_come_and_go_on_a_line_of_which_none_is_lost),
	};

	return cmocka_run_group_tests_name("irq, one machine", tests, NULL, NULL);
}
