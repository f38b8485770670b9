/* SPDX-License-Identifier: MIT */
/*
 * pci.c - registers, configuration space, bus mastering and reset of an open device
 */
#include <errno.h>
#include <linux/pci_regs.h>

#include <dmaland/io.h>
#include "base/error.h"
#include "base/log.h"
#include "base/mutex.h"
#include "backend/mmio.h"
#include "device/device.h"

static bool memory_is_enabled(struct dmaland_device *dev)
{
	uint16_t command;

	if (pci_read_config_word(dev, PCI_COMMAND, &command))
		return false;
	if (!(command & PCI_COMMAND_MEMORY))
		error_set(EIO, "%s does not answer to memory accesses: pci_enable_device() first",
			  dev->function->name);
	return command & PCI_COMMAND_MEMORY;
}

void *pci_iomap(struct dmaland_device *dev, int bar, unsigned long maxlen)
{
	if (!dev) {
		error_set(EINVAL, "pci_iomap: no device");
		return NULL;
	}
	if (dmaland_check(dev))
		return NULL;
	if (bar < 0 || bar > 5) {
		error_set(EINVAL, "%s: there is no BAR %d; they are 0 to 5", dev->function->name,
			  bar);
		return NULL;
	}
	if (pci_resource_len(dev, bar) && !memory_is_enabled(dev))
		return NULL;
	return mmio_open(dev->function, (unsigned int)bar, maxlen);
}

void pci_iounmap(struct dmaland_device *dev, void *window)
{
	if (window && !dmaland_check(dev))
		mmio_close(dev->function, window);
}

uint64_t pci_resource_len(struct dmaland_device *dev, int bar)
{
	uint64_t size;
	void *direct;
	int err;

	if (bar < 0 || bar > 5)
		return 0;
	cancel_hold();
	err = dev->function->ops->bar(dev->function, (unsigned int)bar, &size, &direct);
	cancel_release();
	return err ? 0 : size;
}

static int config_read(struct dmaland_device *dev, int where, unsigned int width, uint32_t *value)
{
	struct pci_function *f = dev->function;
	int err;

	*value = UINT32_MAX;
	if (where < 0 || where >= PCI_CFG_SPACE_EXP_SIZE || where % (int)width)
		return error_set(EINVAL, "%s: configuration space has no %u bytes at %d", f->name,
				 width, where);
	cancel_hold();
	err = f->ops->config_read(f, (unsigned int)where, width, value);
	cancel_release();
	return err;
}

static int config_write(struct dmaland_device *dev, int where, unsigned int width, uint32_t value)
{
	struct pci_function *f = dev->function;
	int err;

	if (where < 0 || where >= PCI_CFG_SPACE_EXP_SIZE || where % (int)width)
		return error_set(EINVAL, "%s: configuration space has no %u bytes at %d", f->name,
				 width, where);
	cancel_hold();
	err = f->ops->config_write(f, (unsigned int)where, width, value);
	cancel_release();
	return err;
}

#define CONFIG_ACCESS(name, width, type)                                                           \
	int pci_read_config_##name(struct dmaland_device *dev, int where, type *value)             \
	{                                                                                          \
		uint32_t read;                                                                     \
		int err = config_read(dev, where, width, &read);                                   \
                                                                                                   \
		*value = (type)read;                                                               \
		return err;                                                                        \
	}                                                                                          \
	int pci_write_config_##name(struct dmaland_device *dev, int where, type value)             \
	{                                                                                          \
		return config_write(dev, where, width, value);                                     \
	}

CONFIG_ACCESS(byte, 1, uint8_t)
CONFIG_ACCESS(word, 2, uint16_t)
CONFIG_ACCESS(dword, 4, uint32_t)

/* Set and clear bits of the command register (PCI 3.0, 6.2.2), and see that the device took it. */
static int command_change(struct dmaland_device *dev, uint16_t set, uint16_t clear)
{
	uint16_t command, after;
	int err = pci_read_config_word(dev, PCI_COMMAND, &command);

	if (err)
		return err;
	command = (uint16_t)((command | set) & ~clear);
	err = pci_write_config_word(dev, PCI_COMMAND, command);
	if (!err)
		err = pci_read_config_word(dev, PCI_COMMAND, &after);
	if (err)
		return err;
	if ((after & set) != set || (after & clear))
		return error_set(EIO,
				 "%s: its command register reads 0x%04x where 0x%04x was written",
				 dev->function->name, after, command);
	return 0;
}

/* Each call sees to decoding, whatever has become of it since an earlier one. */
int pci_enable_device(struct dmaland_device *dev)
{
	int err = command_change(dev, PCI_COMMAND_MEMORY, 0);

	if (!err)
		__atomic_fetch_add(&dev->enabled, 1, __ATOMIC_RELAXED);
	return err;
}

void pci_disable_device(struct dmaland_device *dev)
{
	unsigned int enabled = __atomic_load_n(&dev->enabled, __ATOMIC_RELAXED);

	do {
		if (!enabled) {
			log_line(DMALAND_LOG_ERR, "%s: disabling already-disabled device",
				 dev->function->name);
			return;
		}
	} while (!__atomic_compare_exchange_n(&dev->enabled, &enabled, enabled - 1, true,
					      __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	if (enabled == 1)
		pci_clear_master(dev);
}

int pci_set_master(struct dmaland_device *dev)
{
	return command_change(dev, PCI_COMMAND_MASTER, 0);
}

int pci_clear_master(struct dmaland_device *dev)
{
	return command_change(dev, 0, PCI_COMMAND_MASTER);
}

int pci_reset_function(struct dmaland_device *dev)
{
	int err;

	cancel_hold();
	err = dev->function->ops->reset(dev->function);
	cancel_release();
	return err;
}

bool pci_device_is_present(struct dmaland_device *dev)
{
	uint16_t vendor;
	bool dead;

	cancel_hold();
	dead = dev->function->ops->is_dead(dev->function);
	cancel_release();
	return !dead && pci_read_config_word(dev, PCI_VENDOR_ID, &vendor) == 0 && vendor != 0xffff;
}

/* A device that is gone can't do DMA either. */
bool pci_quiesce(struct dmaland_device *dev)
{
	bool quiet = pci_clear_master(dev) == 0 || !pci_device_is_present(dev);

	return pci_reset_function(dev) == 0 || quiet;
}
