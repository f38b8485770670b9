/* SPDX-License-Identifier: MIT */
/*
 * irq.h - interrupts and events of a device, as file descriptors
 *
 * An interrupt is an eventfd that a driver polls for, on its own or among others, and reads to take
 * it: eventfd(2). So is what happens to the device itself: that it is to be removed, or is gone.
 */
#ifndef DMALAND_IRQ_H
#define DMALAND_IRQ_H

#include <dmaland/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Kinds of interrupts, with the kernel's values. */
#define PCI_IRQ_INTX	  (1u << 0) /* a line, perhaps shared */
#define PCI_IRQ_MSI	  (1u << 1)
#define PCI_IRQ_MSIX	  (1u << 2)
#define PCI_IRQ_ALL_TYPES (PCI_IRQ_INTX | PCI_IRQ_MSI | PCI_IRQ_MSIX)

/**
 * pci_alloc_irq_vectors() - let a device interrupt
 * @dev:      the device
 * @min_vecs: with fewer it fails; 1 or more
 * @max_vecs: vectors wanted at most
 * @flags:    kinds that will do, PCI_IRQ_*: tried in the order MSI-X, MSI, INTx, where INTx is one
 *            vector
 *
 * A message of MSI or MSI-X is a write to memory by the device: pci_set_master() lets it through.
 * Vectors are there until pci_free_irq_vectors() or dmaland_close(), and can't become more without
 * being freed; a reset of the function keeps them.
 *
 * Context: makes system calls; no other thread may use the device's vectors meanwhile.
 * Return: how many vectors there are now; -ENOSPC when the device, or the backend, has fewer than
 * @min_vecs of each kind; -EINVAL when it has vectors already, or for arguments that can't be;
 * -ERANGE when @max_vecs is below @min_vecs; -EOPNOTSUPP when the backend knows no interrupts;
 * -ENODEV when the device is gone.
 */
int pci_alloc_irq_vectors(struct dmaland_device *dev, unsigned int min_vecs, unsigned int max_vecs,
			  unsigned int flags);

/**
 * pci_free_irq_vectors() - no interrupts any more
 * @dev: the device; without vectors nothing happens
 *
 * The eventfds are closed.
 *
 * Context: as pci_alloc_irq_vectors().
 */
void pci_free_irq_vectors(struct dmaland_device *dev);

/**
 * dmaland_irq() - the eventfd of a vector
 * @dev:    the device
 * @vector: from 0 to what pci_alloc_irq_vectors() returned, less 1
 *
 * It is readable when the vector has interrupted since it was read last, does not block, and is
 * closed on exec. It is the library's: pci_free_irq_vectors() closes it. Whatever reads it should
 * do so before it looks what the device has done, so that nothing is missed.
 *
 * Return: the file descriptor; -EINVAL when there is no such vector.
 */
int dmaland_irq(struct dmaland_device *dev, unsigned int vector);

/**
 * dmaland_irq_mask() - keep a vector quiet
 * dmaland_irq_unmask() - let it interrupt again
 * @dev:    the device
 * @vector: which
 *
 * What interrupts while masked is kept, and makes the eventfd readable at unmasking. Behind VFIO,
 * what is on its way at the moment of masking is lost, since the kernel takes the vector from its
 * processor, and a device with plain MSI may keep nothing: there unmasking MSI or MSI-X makes the
 * eventfd readable in any case, and an interrupt may be one too many but never missing.
 *
 * INTx is a level and masks itself at each interrupt: unmask it once the device was told that the
 * interrupt is handled, else there is no other. If the device still has something it interrupts at
 * once. Masking what is masked, and unmasking what is not, changes nothing.
 *
 * Context: any thread, one at a time for a vector; makes system calls.
 * Return: 0, or -errno.
 */
int dmaland_irq_mask(struct dmaland_device *dev, unsigned int vector);
int dmaland_irq_unmask(struct dmaland_device *dev, unsigned int vector);

/* What happened to a device: bits of dmaland_get_events(). */
enum dmaland_event {
	/* It is to be removed, and the kernel waits: answer what is in flight, and dmaland_close(). */
	DMALAND_EVENT_REMOVE = 1,
	/* It reported an error that it does not recover from by itself (PCIe AER): reset or close it. */
	DMALAND_EVENT_ERROR = 2,
	/* It is there no more: registers read all ones, and it does no DMA. */
	DMALAND_EVENT_GONE = 4,
};

/**
 * dmaland_event_fd() - a file descriptor that is readable when something happened to the device
 * @dev: the device
 *
 * Poll for it; do not read it. It is there from dmaland_open() to dmaland_close(), which closes it.
 *
 * Return: the file descriptor; -EOPNOTSUPP when the backend tells of nothing.
 */
int dmaland_event_fd(struct dmaland_device *dev);

/**
 * dmaland_get_events() - take what happened
 * @dev: the device
 *
 * Context: any thread; makes system calls.
 * Return: an OR of enum dmaland_event, 0 when there is nothing new.
 */
unsigned int dmaland_get_events(struct dmaland_device *dev);

#ifdef __cplusplus
}
#endif

#endif
