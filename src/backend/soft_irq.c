/* SPDX-License-Identifier: MIT */
/*
 * soft_irq.c - interrupts and events of the engine
 *
 * MSI and MSI-X are messages: one that is masked stays pending. INTx is a level that goes up with a
 * command's end and down when it is handled; it masks itself each time.
 */
#include <sys/eventfd.h>

#include "backend/soft.h"
#include "base/mutex.h"

#define MSIX_VECTORS 8
#define MSI_VECTORS  4

static uint16_t command_register(const struct soft_function *sf)
{
	return (uint16_t)(sf->config[PCI_COMMAND] | sf->config[PCI_COMMAND + 1] << 8);
}

static void message_send(struct soft_function *sf, unsigned int vector)
{
	uint32_t bit = UINT32_C(1) << vector;

	if (sf->irq.masked & bit) {
		sf->irq.pending |= bit;
		return;
	}
	sf->irq.pending &= ~bit;
	eventfd_write(sf->irq.fds[vector], 1);
}

/* The level changed, or who looks at it. */
static void line_update(struct soft_function *sf)
{
	sf->config[PCI_STATUS] = sf->irq.asserted ? PCI_STATUS_INTERRUPT : 0;
	if (sf->irq.kind != PCI_IRQ_INTX || !sf->irq.asserted || sf->irq.masked ||
	    command_register(sf) & PCI_COMMAND_INTX_DISABLE)
		return;
	eventfd_write(sf->irq.fds[0], 1);
	sf->irq.masked = 1;
}

void soft_irq_raise(struct soft_function *sf, unsigned int vector)
{
	if (sf->irq.kind == PCI_IRQ_MSIX || sf->irq.kind == PCI_IRQ_MSI) {
		if (vector < sf->irq.count && command_register(sf) & PCI_COMMAND_MASTER)
			message_send(sf, vector);
	} else if (vector == 0) {
		sf->irq.asserted = true;
		line_update(sf);
	}
}

void soft_irq_handled(struct soft_function *sf)
{
	sf->irq.asserted = false;
	line_update(sf);
}

unsigned int soft_irq_count(struct pci_function *f, unsigned int kind)
{
	(void)f;
	return kind == PCI_IRQ_MSIX ? MSIX_VECTORS : kind == PCI_IRQ_MSI ? MSI_VECTORS : 1;
}

int soft_irq_enable(struct pci_function *f, unsigned int kind, const int *fds, unsigned int *n)
{
	struct soft_function *sf = to_soft_function(f);

	mutex_lock(&sf->lock);
	sf->irq.kind = kind;
	sf->irq.fds = fds;
	sf->irq.count = *n;
	sf->irq.masked = sf->irq.pending = 0;
	line_update(sf);
	mutex_unlock(&sf->lock);
	return 0;
}

void soft_irq_disable(struct pci_function *f, unsigned int kind)
{
	struct soft_function *sf = to_soft_function(f);

	(void)kind;
	mutex_lock(&sf->lock);
	sf->irq.kind = sf->irq.count = 0;
	mutex_unlock(&sf->lock);
}

int soft_irq_mask(struct pci_function *f, unsigned int kind, unsigned int vector, bool masked)
{
	struct soft_function *sf = to_soft_function(f);
	uint32_t bit = UINT32_C(1) << vector;

	mutex_lock(&sf->lock);
	sf->irq.masked = masked ? sf->irq.masked | bit : sf->irq.masked & ~bit;
	if (kind == PCI_IRQ_INTX)
		line_update(sf);
	else if (!masked && sf->irq.pending & bit)
		message_send(sf, vector);
	mutex_unlock(&sf->lock);
	return 0;
}

unsigned int soft_take_events(struct pci_function *f)
{
	eventfd_t count;

	return eventfd_read(f->event_fd, &count) == 0 ? DMALAND_EVENT_GONE : 0;
}
