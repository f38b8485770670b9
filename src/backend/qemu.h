/* SPDX-License-Identifier: MIT */
/*
 * qemu.h - what the files of the backend `qemu:` share about a device of it
 */
#ifndef BACKEND_QEMU_H
#define BACKEND_QEMU_H

#include <linux/pci_regs.h>

#include "backend/qemu_plug.h"

struct qemu_function {
	struct pci_function function;
	struct qemu_machine *machine;
	struct qemu_plugged plugged;
	unsigned int timeout; /* ms for one access */
	struct {
		uint64_t address, size; /* size 0: no memory BAR */
	} bars[PCI_STD_NUM_BARS];
	uint16_t command; /* its command register, as the driver wrote it */
	uint16_t forced;  /* bits that are set in the device all the same; machine's command_lock */
	bool decodes;	  /* memory accesses, for either reason */
	bool masters;	  /* it may do DMA */
	bool begun;	  /* its name is there */
	bool out;	  /* it was found gone from its slot, and the event says so */
	struct qemu_listener listener;
	unsigned int peer; /* of the doorbell: where its messages of MSI-X go */
	uint64_t masked[QEMU_DOORBELL_VECTORS / 64]; /* bitmap of vectors, messages that is */
};

static inline struct qemu_function *qemu_of(struct pci_function *f)
{
	return (struct qemu_function *)f;
}

static inline struct qemu_function *qemu_of_listener(struct qemu_listener *listener)
{
	return (struct qemu_function *)((char *)listener -
					offsetof(struct qemu_function, listener));
}

/* Plug it in and give its BARs addresses. With the machine's lock held. */
int qemu_function_plug(struct qemu_function *q, const struct qemu_model *model);

/* The operations of struct pci_function_ops. A write is posted; a read comes after it. */
int qemu_function_config_read(struct pci_function *f, unsigned int where, unsigned int width,
			      uint32_t *value);
int qemu_function_config_write(struct pci_function *f, unsigned int where, unsigned int width,
			       uint32_t value);
/*
 * Bits that the command register has on whatever the driver writes, and that the driver does not
 * see; or not any more. With the machine's command_lock held.
 */
int qemu_command_force(struct qemu_function *q, uint16_t bits, bool on);

uint64_t qemu_function_read(struct pci_function *f, unsigned int bar, uint64_t offset,
			    unsigned int width);
void qemu_function_write(struct pci_function *f, unsigned int bar, uint64_t offset,
			 unsigned int width, uint64_t value);

/* Where a capability begins (PCI 3.0, 6.7); 0 when the function has none of this kind. */
int qemu_capability_find(struct pci_function *f, unsigned int id, unsigned int *where);

/* -ENOTTY where the model has none; its configuration and its vectors are as before. */
int qemu_function_reset(struct pci_function *f);

unsigned int qemu_irq_count(struct pci_function *f, unsigned int kind);
int qemu_irq_enable(struct pci_function *f, unsigned int kind, const int *fds, unsigned int *n);
void qemu_irq_disable(struct pci_function *f, unsigned int kind);
int qemu_irq_mask(struct pci_function *f, unsigned int kind, unsigned int vector, bool masked);

/* After a reset that the model did: its vectors as they were. */
int qemu_irq_restore(struct qemu_function *q);

/* Before the device has a machine, so that nothing fails between a machine's start and the device's being in it. */
int qemu_events_open(struct qemu_function *q);
/* Hear of the machine's end, from before the device is plugged until qemu_lines_remove(). */
void qemu_events_listen(struct qemu_function *q);
void qemu_events_close(struct qemu_function *q);
unsigned int qemu_take_events(struct pci_function *f);

#endif
