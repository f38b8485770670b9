/* SPDX-License-Identifier: MIT */
/*
 * irq.c - interrupts and events of an open device
 *
 * Which kind, how many and the eventfds are settled here; the backend ties them to the device.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <dmaland/io.h>
#include "base/error.h"
#include "base/file.h"
#include "base/fork.h"
#include "base/mutex.h"
#include "device/device.h"

static void fds_close(const int *fds, unsigned int first, unsigned int end)
{
	while (end > first)
		close(fds[--end]);
}

static int *fds_open(const char *name, unsigned int n)
{
	int *fds = malloc(n * sizeof(*fds));

	if (!fds) {
		error_set(ENOMEM, "%s: no memory for %u interrupt vectors", name, n);
		return NULL;
	}
	for (unsigned int i = 0; i < n; i++) {
		fds[i] = file_raise(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
		if (fds[i] < 0) {
			error_system(
				"%s: no eventfd for interrupt vector %u; raise the limit of open "
				"files with ulimit -n",
				name, i);
			fds_close(fds, 0, i);
			free(fds);
			return NULL;
		}
	}
	return fds;
}

/* What the kernel does in pci_intx(): nothing keeps the line quiet. */
static int line_allow(struct dmaland_device *dev)
{
	uint16_t command;
	int err = pci_read_config_word(dev, PCI_COMMAND, &command);

	if (err || !(command & PCI_COMMAND_INTX_DISABLE))
		return err;
	return pci_write_config_word(dev, PCI_COMMAND,
				     command & (uint16_t)~PCI_COMMAND_INTX_DISABLE);
}

/* As many as the machine has: *n, or -ENOSPC when that is fewer than min. */
static int fds_enable(struct dmaland_device *dev, unsigned int kind, const int *fds,
		      unsigned int min, unsigned int *n)
{
	struct pci_function *f = dev->function;
	unsigned int tried;
	int err = kind == PCI_IRQ_INTX ? line_allow(dev) : 0;

	if (err)
		return err;
	do {
		tried = *n;
		err = f->ops->irq_enable(f, kind, fds, n);
	} while (err == -ENOSPC && *n >= min && *n < tried);
	return err;
}

/* Vectors of one kind: how many; 0: there are fewer than min; or -errno in words. */
static int kind_enable(struct dmaland_device *dev, unsigned int kind, unsigned int min,
		       unsigned int max)
{
	struct pci_function *f = dev->function;
	unsigned int opened = f->ops->irq_count(f, kind), n;
	int *fds, err;

	if (opened < min)
		return 0;
	if (opened > max)
		opened = max;
	fds = fds_open(f->name, opened);
	if (!fds)
		return -errno;
	n = opened;
	err = fds_enable(dev, kind, fds, min, &n);
	fds_close(fds, err ? 0 : n, opened);
	if (err) {
		free(fds);
		return err == -ENOSPC ? 0 : err;
	}
	f->irq.kind = kind;
	f->irq.count = n;
	f->irq.fds = fds;
	return (int)n;
}

static int too_few_error(struct dmaland_device *dev, unsigned int min, unsigned int flags)
{
	struct pci_function *f = dev->function;

	if (!pci_device_is_present(dev))
		return error_set(ENODEV, "%s does not answer: it has no interrupts to give",
				 f->name);
	return error_set(
		ENOSPC,
		"%s: at least %u interrupt vectors were asked, of the kinds 0x%x; it has %u "
		"of MSI-X (4), %u of MSI (2), %u of INTx (1), unless the machine has fewer: "
		"ask for fewer, or for other kinds",
		f->name, min, flags, f->ops->irq_count(f, PCI_IRQ_MSIX),
		f->ops->irq_count(f, PCI_IRQ_MSI), f->ops->irq_count(f, PCI_IRQ_INTX));
}

/* 0, or why vectors can't be asked for. */
static int alloc_check(struct dmaland_device *dev, unsigned int min, unsigned int max,
		       unsigned int flags)
{
	struct pci_function *f = dev->function;
	int err = dmaland_check(dev);

	if (err)
		return err;
	if (!f->ops->irq_count)
		return error_set(EOPNOTSUPP, "%s: backend %s knows no interrupts: poll the device",
				 f->name, f->domain->ops->backend);
	if (min == 0 || flags == 0 || flags & ~PCI_IRQ_ALL_TYPES)
		return error_set(
			EINVAL,
			"%s: %u or more interrupt vectors of the kinds 0x%x were asked; it "
			"is 1 or more, of PCI_IRQ_MSIX | PCI_IRQ_MSI | PCI_IRQ_INTX",
			f->name, min, flags);
	if (max < min)
		return error_set(ERANGE,
				 "%s: at least %u and at most %u interrupt vectors were asked",
				 f->name, min, max);
	if (f->irq.count)
		return error_set(
			EINVAL, "%s has %u interrupt vectors already: pci_free_irq_vectors() first",
			f->name, f->irq.count);
	return 0;
}

int pci_alloc_irq_vectors(struct dmaland_device *dev, unsigned int min_vecs, unsigned int max_vecs,
			  unsigned int flags)
{
	static const unsigned int kinds[] = {PCI_IRQ_MSIX, PCI_IRQ_MSI, PCI_IRQ_INTX};
	int err = alloc_check(dev, min_vecs, max_vecs, flags);

	if (err)
		return err;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		int n;

		fork_hold();
		n = flags & kinds[i] ? kind_enable(dev, kinds[i], min_vecs, max_vecs) : 0;
		fork_release();
		if (n > 0)
			return n;
		if (n < 0)
			err = n; /* another kind may work */
	}
	return err ? err : too_few_error(dev, min_vecs, flags);
}

void pci_free_irq_vectors(struct dmaland_device *dev)
{
	struct pci_function *f = dev->function;

	if (dmaland_check(dev) || !f->irq.count)
		return;
	fork_hold();
	f->ops->irq_disable(f, f->irq.kind);
	fds_close(f->irq.fds, 0, f->irq.count);
	free(f->irq.fds);
	memset(&f->irq, 0, sizeof(f->irq));
	fork_release();
}

static int vector_check(struct dmaland_device *dev, unsigned int vector)
{
	struct pci_function *f = dev->function;
	int err = dmaland_check(dev);

	if (err || vector < f->irq.count)
		return err;
	return error_set(EINVAL, "%s: there is no interrupt vector %u; %u were allocated", f->name,
			 vector, f->irq.count);
}

int dmaland_irq(struct dmaland_device *dev, unsigned int vector)
{
	int err = vector_check(dev, vector);

	return err ? err : dev->function->irq.fds[vector];
}

static int irq_mask(struct dmaland_device *dev, unsigned int vector, bool masked)
{
	struct pci_function *f = dev->function;
	int err = vector_check(dev, vector);

	if (err)
		return err;
	cancel_hold();
	err = f->ops->irq_mask(f, f->irq.kind, vector, masked);
	cancel_release();
	return err;
}

int dmaland_irq_mask(struct dmaland_device *dev, unsigned int vector)
{
	return irq_mask(dev, vector, true);
}

int dmaland_irq_unmask(struct dmaland_device *dev, unsigned int vector)
{
	return irq_mask(dev, vector, false);
}

int dmaland_event_fd(struct dmaland_device *dev)
{
	struct pci_function *f = dev->function;
	int err = dmaland_check(dev);

	if (err)
		return err;
	if (!f->ops->take_events)
		return error_set(EOPNOTSUPP, "%s: backend %s tells of no events", f->name,
				 f->domain->ops->backend);
	return f->event_fd;
}

unsigned int dmaland_get_events(struct dmaland_device *dev)
{
	struct pci_function *f = dev->function;
	unsigned int events;

	if (dmaland_check(dev) || !f->ops->take_events)
		return 0;
	cancel_hold();
	events = f->ops->take_events(f);
	cancel_release();
	return events;
}
