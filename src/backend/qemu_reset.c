/* SPDX-License-Identifier: MIT */
/*
 * qemu_reset.c - the function level reset of a device of QEMU (PCIe 4.0, 6.6.2)
 *
 * There is no kernel to keep a device's configuration over it: what a driver had set or relies on is
 * saved and restored here, its interrupts by qemu_irq.c.
 */
#include <errno.h>
#include <time.h>

#include "base/error.h"
#include "backend/deadline.h"
#include "backend/qemu.h"

#define PENDING_TIMEOUT_MS 100	/* transactions that are under way */
#define READY_TIMEOUT_MS   1000 /* configuration space after it */

/* Read a word of configuration space until it has one of the bits of mask set, or none. */
static int config_wait(struct pci_function *f, unsigned int where, uint32_t mask, bool set,
		       unsigned int timeout)
{
	static const struct timespec pause = {0, 1000000};
	struct timespec deadline = deadline_in(timeout);
	uint32_t value;
	int err;

	for (;;) {
		int left = deadline_left(&deadline);

		err = qemu_function_config_read(f, where, 2, &value);
		if (err || !!(value & mask) == set)
			return err;
		if (left == 0)
			return error_set(ETIMEDOUT,
					 "%s: configuration space reads %#x at %#x %u ms long",
					 f->name, value, where, timeout);
		nanosleep(&pause, NULL);
	}
}

/* What a reset clears and a driver had set or relies on; cap is the PCIe capability. */
struct saved_config {
	uint32_t header[PCI_STD_HEADER_SIZEOF / 4];
	uint32_t device_control;
};

static int config_save(struct pci_function *f, unsigned int cap, struct saved_config *saved)
{
	int err = qemu_function_config_read(f, cap + PCI_EXP_DEVCTL, 2, &saved->device_control);

	for (unsigned int i = 0; !err && i < PCI_STD_HEADER_SIZEOF / 4; i++)
		err = qemu_function_config_read(f, 4 * i, 4, &saved->header[i]);
	return err;
}

/* The command register comes last: registers answer once their BARs are back. */
static int config_restore(struct pci_function *f, unsigned int cap,
			  const struct saved_config *saved)
{
	int err = 0;

	for (unsigned int where = PCI_BASE_ADDRESS_0; !err && where < PCI_STD_HEADER_SIZEOF;
	     where += 4)
		err = qemu_function_config_write(f, where, 4, saved->header[where / 4]);
	if (!err)
		err = qemu_function_config_write(f, PCI_CACHE_LINE_SIZE, 2,
						 saved->header[PCI_CACHE_LINE_SIZE / 4] & 0xffff);
	if (!err)
		err = qemu_function_config_write(f, cap + PCI_EXP_DEVCTL, 2, saved->device_control);
	if (!err)
		err = qemu_function_config_write(f, PCI_COMMAND, 2,
						 saved->header[PCI_COMMAND / 4] & 0xffff);
	return err;
}

/*
 * Bus mastering off, wait for what is under way, then the function level reset.
 * The standard gives a device 100 ms for it; a model has done it when the write is answered.
 */
static int function_level_reset(struct pci_function *f, unsigned int cap)
{
	struct saved_config saved;
	uint32_t command;
	int err = config_save(f, cap, &saved);

	if (err)
		return err;
	command = saved.header[PCI_COMMAND / 4] & 0xffff;
	err = qemu_function_config_write(f, PCI_COMMAND, 2,
					 command & ~(uint32_t)PCI_COMMAND_MASTER);
	if (!err)
		err = config_wait(f, cap + PCI_EXP_DEVSTA, PCI_EXP_DEVSTA_TRPND, false,
				  PENDING_TIMEOUT_MS);
	if (err && err != -ETIMEDOUT)
		return err;
	err = qemu_function_config_write(f, cap + PCI_EXP_DEVCTL, 2,
					 saved.device_control | PCI_EXP_DEVCTL_BCR_FLR);
	if (!err)
		err = config_wait(f, PCI_STATUS, PCI_STATUS_CAP_LIST, true, READY_TIMEOUT_MS);
	if (!err)
		err = config_restore(f, cap, &saved);
	return err ? err : qemu_irq_restore(qemu_of(f));
}

int qemu_function_reset(struct pci_function *f)
{
	uint32_t capabilities = 0;
	unsigned int cap;
	int err = qemu_capability_find(f, PCI_CAP_ID_EXP, &cap);

	if (!err && cap)
		err = qemu_function_config_read(f, cap + PCI_EXP_DEVCAP, 4, &capabilities);
	if (err)
		return err;
	if (!(capabilities & PCI_EXP_DEVCAP_FLR))
		return error_set(ENOTTY, "%s: the model has no function level reset", f->name);
	return function_level_reset(f, cap);
}
