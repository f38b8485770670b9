/* SPDX-License-Identifier: MIT */
/*
 * irq.c - interrupts of every kind that the device and its backend have, and its events: ./irq SPEC
 *
 * SPEC names a drive, edu, or the engine of soft:; with machine= in it, several of it are used. A
 * drive interrupts when a command is done, until the completion's doorbell is rung; edu and the engine
 * of soft: when they are told to. A kind that is not there is told in the output.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <dmaland/soft.h>
#include "irq_stand.h"

static const unsigned int kinds[] = {PCI_IRQ_MSIX, PCI_IRQ_MSI, PCI_IRQ_INTX};

static void for_each_kind(void (*f)(struct mover *m, unsigned int kind), unsigned int most)
{
	static const char *const names[] = {"MSI-X", "MSI", "INTx"};
	unsigned int found = 0;
	struct mover m;

	for (size_t i = 0; i < 3; i++) {
		if (!irq_begin(&m, kinds[i], most)) {
			print_message("# no %s here\n", names[i]);
			continue;
		}
		f(&m, kinds[i]);
		irq_end(&m);
		found++;
	}
	assert_true(found > 0);
}

static void interrupts_arrive(struct mover *m, unsigned int kind)
{
	(void)kind;
	for (int i = 0; i < 100; i++) {
		unsigned int vector = (unsigned int)i % m->vectors;

		m->ops->interrupts(m, vector);
		assert_interrupt(m, vector);
		handle(m, vector);
	}
	for (unsigned int v = 0; v < m->vectors; v++)
		assert_quiet(m, v);
}

static void every_interrupt_arrives_at_its_vector(void **state)
{
	(void)state;
	for_each_kind(interrupts_arrive, 4);
}

static void vector_is_masked(struct mover *m, unsigned int kind)
{
	(void)kind;
	for (int i = 0; i < 10; i++) {
		assert_int_equal(dmaland_irq_mask(m->dev, 0), 0);
		assert_int_equal(dmaland_irq_mask(m->dev, 0), 0);
		m->ops->interrupts(m, 0);
		assert_quiet(m, 0);
		assert_int_equal(dmaland_irq_unmask(m->dev, 0), 0);
		assert_interrupt(m, 0);
		m->ops->handled(m, 0);
		assert_int_equal(dmaland_irq_unmask(m->dev, 0), 0);
		assert_quiet(m, 0);
	}
}

static void what_interrupts_while_masked_is_kept(void **state)
{
	(void)state;
	for_each_kind(vector_is_masked, 1);
}

static void intx_masks_itself_and_comes_again_until_it_was_handled(void **state)
{
	struct mover m;

	(void)state;
	if (!irq_begin(&m, PCI_IRQ_INTX, 1)) {
		print_message("# cannot be had here: no INTx\n");
		skip();
	}
	m.ops->interrupts(&m, 0);
	for (int i = 0; i < 5; i++) {
		assert_interrupt(&m, 0);
		assert_quiet(&m, 0);
		assert_int_equal(dmaland_irq_unmask(m.dev, 0), 0);
	}
	assert_interrupt(&m, 0);
	handle(&m, 0);
	assert_quiet(&m, 0);
	irq_end(&m);
}

static void vectors_are_apart(struct mover *m, unsigned int kind)
{
	(void)kind;
	if (m->vectors < 2)
		return;
	m->ops->interrupts(m, 1);
	assert_interrupt(m, 1);
	assert_quiet(m, 0);
	assert_int_equal(dmaland_irq_mask(m->dev, 0), 0);
	handle(m, 1);
	m->ops->interrupts(m, 0);
	m->ops->interrupts(m, 1);
	assert_interrupt(m, 1);
	assert_quiet(m, 0);
	handle(m, 1);
	assert_int_equal(dmaland_irq_unmask(m->dev, 0), 0);
	assert_interrupt(m, 0);
	handle(m, 0);
}

static void masking_one_vector_leaves_the_others(void **state)
{
	(void)state;
	for_each_kind(vectors_are_apart, 4);
}

/* ---- with the device decoding no memory ---- */

enum { ROUNDS = 20 };

struct masker {
	struct mover *m;
	unsigned int vector;
	bool masked; /* at the end */
};

static void *mask_often(void *context)
{
	const struct masker *masker = context;
	int failures = 0;

	for (int i = 0; i < 4; i++) {
		failures += dmaland_irq_unmask(masker->m->dev, masker->vector) != 0;
		failures += dmaland_irq_mask(masker->m->dev, masker->vector) != 0;
	}
	if (!masker->masked)
		failures += dmaland_irq_unmask(masker->m->dev, masker->vector) != 0;
	return (void *)(intptr_t)failures;
}

static void decode(struct mover *m, bool on)
{
	uint16_t command;

	assert_int_equal(pci_read_config_word(m->dev, PCI_COMMAND, &command), 0);
	assert_int_equal(!!(command & PCI_COMMAND_MEMORY), !on);
	assert_int_equal(pci_write_config_word(m->dev, PCI_COMMAND, command ^ PCI_COMMAND_MEMORY),
			 0);
}

/*
 * The driver finds in its command register what it wrote there, whatever the library does to it
 * meanwhile. Of VFIO the kernel does it, and does not hide it.
 */
static void command_is_the_drivers(struct mover *m)
{
	uint16_t command;

	if (strncmp(spec, "vfio:", 5) == 0)
		return;
	assert_int_equal(pci_read_config_word(m->dev, PCI_COMMAND, &command), 0);
	assert_false(command & PCI_COMMAND_MEMORY);
	assert_true(command & PCI_COMMAND_MASTER);
	assert_int_equal(pci_write_config_word(m->dev, PCI_COMMAND, command), 0);
}

/* Two vectors by a thread each. */
static void mask_by_threads(struct mover *m, bool masked)
{
	struct masker maskers[2] = {{m, 0, masked}, {m, 1, masked}};
	pthread_t threads[2];
	void *failures;

	decode(m, false);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, mask_often, &maskers[i]), 0);
	for (int i = 0; i < 10; i++)
		command_is_the_drivers(m);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(threads[i], &failures), 0);
		assert_null(failures);
	}
	decode(m, true);
}

static void vectors_are_masked_without_decoding(struct mover *m, unsigned int kind)
{
	(void)kind;
	if (m->vectors < 2)
		return;
	for (int i = 0; i < ROUNDS; i++) {
		mask_by_threads(m, true);
		for (unsigned int v = 0; v < 2; v++) {
			while (taken_within(m, v, 0)) /* of before */
				;
			m->ops->interrupts(m, v);
		}
		for (unsigned int v = 0; v < 2; v++)
			assert_quiet(m, v);
		mask_by_threads(m, false);
		for (unsigned int v = 0; v < 2; v++) {
			assert_interrupt(m, v);
			m->ops->handled(m, v);
			while (taken_within(m, v, 0)) /* unmasked more than once */
				;
		}
	}
}

static void threads_mask_vectors_also_while_the_device_decodes_no_memory(void **state)
{
	(void)state;
	for_each_kind(vectors_are_masked_without_decoding, 2);
}

static void device_is_reset(struct mover *m, unsigned int kind)
{
	(void)kind;
	mover_stop(m);
	if (pci_reset_function(m->dev) == 0)
		assert_int_equal(pci_set_master(m->dev), 0);
	mover_start(m);
	start_is_over(m);
	interrupts_arrive(m, kind);
}

static void a_reset_keeps_the_vectors(void **state)
{
	(void)state;
	for_each_kind(device_is_reset, 4);
}

static size_t open_files(void)
{
	size_t n = 0;

	for (int fd = 0; fd < 4096; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void vectors_are_had_and_given_back(struct mover *m, unsigned int kind)
{
	size_t before;

	mover_stop(m);
	pci_free_irq_vectors(m->dev);
	before = open_files();
	for (int i = 0; i < 5; i++) {
		int n = pci_alloc_irq_vectors(m->dev, 1, 4, kind);

		assert_true(n >= 1);
		assert_int_equal(open_files(), before + (size_t)n);
		for (int v = 0; v < n; v++) {
			int fd = dmaland_irq(m->dev, (unsigned int)v);
			eventfd_t count;

			assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
			assert_int_equal(eventfd_read(fd, &count), -1);
			assert_int_equal(errno, EAGAIN);
		}
		pci_free_irq_vectors(m->dev);
		assert_int_equal(open_files(), before);
	}
	assert_true(pci_alloc_irq_vectors(m->dev, 1, 4, kind) >= 1);
	mover_start(m);
}

static void files_of_vectors_do_not_block_and_end_with_them(void **state)
{
	(void)state;
	for_each_kind(vectors_are_had_and_given_back, 4);
}

static void assert_refused(struct dmaland_device *dev, unsigned int min, unsigned int max,
			   unsigned int flags, int err, const char *words)
{
	assert_int_equal(pci_alloc_irq_vectors(dev, min, max, flags), err);
	assert_int_equal(errno, -err);
	assert_error_says(words);
}

static void vectors_that_cannot_be_are_refused(void **state)
{
	struct dmaland_device *dev = dmaland_open(spec, NULL);
	int n;

	(void)state;
	assert_non_null(dev);
	pci_free_irq_vectors(dev);
	assert_int_equal(dmaland_irq(dev, 0), -EINVAL);
	assert_error_says("no interrupt vector 0; 0 were allocated");
	assert_int_equal(dmaland_irq_mask(dev, 0), -EINVAL);
	assert_int_equal(dmaland_irq_unmask(dev, 0), -EINVAL);
	assert_refused(dev, 0, 1, PCI_IRQ_ALL_TYPES, -EINVAL, "it is 1 or more");
	assert_refused(dev, 1, 1, 0, -EINVAL, "of the kinds 0x0");
	assert_refused(dev, 1, 1, PCI_IRQ_MSIX | 8, -EINVAL, "of the kinds 0xc");
	assert_refused(dev, 3, 2, PCI_IRQ_ALL_TYPES, -ERANGE, "at least 3 and at most 2");
	assert_refused(dev, 4096, 5000, PCI_IRQ_ALL_TYPES, -ENOSPC, "of MSI-X (4)");
	assert_refused(dev, 2, 2, PCI_IRQ_INTX, -ENOSPC, "of INTx (1)");

	n = pci_alloc_irq_vectors(dev, 1, 5000, PCI_IRQ_ALL_TYPES);
	if (n < 1)
		fail_msg("%s", dmaland_last_error());
	print_message("# %d vectors at most\n", n);
	assert_refused(dev, 1, 1, PCI_IRQ_ALL_TYPES, -EINVAL, "vectors already");
	assert_int_equal(dmaland_irq(dev, (unsigned int)n), -EINVAL);
	assert_int_equal(dmaland_irq_mask(dev, (unsigned int)n), -EINVAL);
	assert_int_equal(dmaland_irq_unmask(dev, (unsigned int)n), -EINVAL);
	assert_int_equal(dmaland_irq_unmask(dev, 0), 0);
	pci_free_irq_vectors(dev);
	pci_free_irq_vectors(dev);
	assert_refused(dev, (unsigned int)n + 1, 5000, PCI_IRQ_ALL_TYPES, -ENOSPC, "ask for fewer");
	assert_int_equal(pci_alloc_irq_vectors(dev, 1, 1, PCI_IRQ_ALL_TYPES), 1);
	dmaland_close(dev); /* frees what is left */
}

static void nothing_happens_to_a_device_that_is_well(void **state)
{
	struct dmaland_device *dev = dmaland_open(spec, NULL);
	struct pollfd fd = {.events = POLLIN};

	(void)state;
	assert_non_null(dev);
	fd.fd = dmaland_event_fd(dev);
	assert_true(fd.fd >= 0);
	assert_int_equal(fcntl(fd.fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(poll(&fd, 1, 0), 0);
	assert_int_equal(dmaland_get_events(dev), 0);
	pci_reset_function(dev);
	assert_int_equal(poll(&fd, 1, 0), 0);
	assert_int_equal(dmaland_get_events(dev), 0);
	dmaland_close(dev);
}

/* By QEMU's death, or told to the engine. */
static void the_end_of_a_device_is_told_once(void **state)
{
	struct pollfd fd = {.events = POLLIN};
	struct mover m;

	(void)state;
	assert_true(irq_begin(&m, PCI_IRQ_INTX, 1));
	fd.fd = dmaland_event_fd(m.dev);
	if (strncmp(spec, "qemu:", 5) == 0)
		assert_int_equal(kill(only_child(), SIGKILL), 0);
	else
		writel(DMALAND_SOFT_VANISH, m.bar + DMALAND_SOFT_MODE);
	assert_int_equal(poll(&fd, 1, (int)patience(WAIT_MS)), 1);
	assert_int_equal(dmaland_get_events(m.dev), DMALAND_EVENT_GONE);
	assert_int_equal(dmaland_get_events(m.dev), 0);
	assert_int_equal(poll(&fd, 1, 0), 0);
	assert_false(pci_device_is_present(m.dev));
	assert_int_equal(readl(m.bar), UINT32_MAX);
	dmaland_irq_unmask(m.dev, 0);
	pci_free_irq_vectors(m.dev);
	if (strncmp(spec, "qemu:", 5) == 0)
		assert_refused(m.dev, 1, 1, PCI_IRQ_ALL_TYPES, -ENODEV, "");
	mover_end(&m);
	log_clear();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_interrupt_arrives_at_its_vector),
		cmocka_unit_test(what_interrupts_while_masked_is_kept),
		cmocka_unit_test(intx_masks_itself_and_comes_again_until_it_was_handled),
		cmocka_unit_test(masking_one_vector_leaves_the_others),
		cmocka_unit_test(threads_mask_vectors_also_while_the_device_decodes_no_memory),
		cmocka_unit_test(a_reset_keeps_the_vectors),
		cmocka_unit_test(files_of_vectors_do_not_block_and_end_with_them),
		cmocka_unit_test(vectors_that_cannot_be_are_refused),
		cmocka_unit_test(nothing_happens_to_a_device_that_is_well),
	};
	const struct CMUnitTest software[] = {
		cmocka_unit_test(the_end_of_a_device_is_told_once),
	};
	int failed;

	if (argc != 2) {
		fprintf(stderr, "usage: %s SPEC\n", argv[0]);
		return 2;
	}
	spec = argv[1];
	log_capture();
	failed = cmocka_run_group_tests_name("irq", tests, NULL, NULL);
	if (strncmp(spec, "vfio:", 5) != 0) /* there: removal.c */
		failed += cmocka_run_group_tests_name("irq, software", software, NULL, NULL);
	if (strstr(spec, "machine="))
		failed += run_machine_irq_tests();
	return failed;
}
