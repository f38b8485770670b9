/* SPDX-License-Identifier: MIT */
/*
 * sysfs.h - what the kernel says of PCI devices and their IOMMU groups
 */
#ifndef BACKEND_SYSFS_H
#define BACKEND_SYSFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "0000:01:00.0", as sysfs has it: domain, bus, device, function in hexadecimal. */
bool sysfs_is_pci_address(const char *text);

/* Is there a /sys at all? */
bool sysfs_is_there(void);

/* Does the machine have an IOMMU that the kernel drives? */
bool sysfs_has_iommu(void);

enum { SYSFS_ADDRESS = 32 }; /* bytes that an address takes at most */

/* The address that a user means: "01:00.0" is in domain 0, as for lspci, and capitals do. False: it is none. */
bool sysfs_read_address(const char *text, char *address);

/* "VENDOR:DEVICE", hexadecimal numbers of up to four digits, as lspci -n has them. False: that is something else. */
bool sysfs_read_ids(const char *text, unsigned int *vendor, unsigned int *device);

/* Which of the devices with some ids, a decimal number up to 65535. False: that is something else. */
bool sysfs_read_index(const char *text, unsigned int *index);

bool sysfs_device_exists(const char *address);

/* The addresses of all devices with these ids, ascending, to be freed: how many, or -errno. */
int sysfs_find(unsigned int vendor, unsigned int device, char (**addresses)[SYSFS_ADDRESS]);

/* Ascending: domains above 0xffff have more digits, and come last. For qsort(). */
int sysfs_address_order(const void *left, const void *right);

/* Host, ISA, PCI and CardBus bridges: what is behind them needs the kernel's drivers. */
bool sysfs_is_bridge(const char *address);

/* Name of the kernel driver that the device is bound to; "" when none. */
void sysfs_driver(const char *address, char *driver, size_t size);

/* vfio-pci, or one of its variants for certain devices, such as mlx5_vfio_pci: they give a device to user space. */
bool sysfs_driver_is_vfio(const char *driver);

/*
 * Does a device with this driver ("": none) keep VFIO out of the group that it is in? Not where the driver does no DMA of
 * its own: VFIO's, pci-stub, and those of PCI bridges.
 */
bool sysfs_blocks_group(const char *address, const char *driver);

/* The physical function that a virtual one belongs to; false: the device is no virtual function. */
bool sysfs_physical_function(const char *address, char *physical);

/* Virtual functions of the device that are on. */
unsigned int sysfs_virtual_functions(const char *address);

/* The device's IOMMU group; -ENOENT when it has none (no IOMMU), without an error text. */
int sysfs_iommu_group(const char *address);

/* The IOMMU unit in front of the device: "dmar0" (VT-d), "ivhd0" (AMD-Vi); "" when none is known. */
void sysfs_iommu_unit(const char *address, char *unit, size_t size);

/* The device's NUMA node; NUMA_NO_NODE when the kernel knows none. */
int sysfs_numa_node(const char *address);

/* Is there memory on more than one NUMA node? */
bool sysfs_has_several_nodes(void);

/*
 * Devices of the group that keep it from being given to user space, as text: "0000:00:06.0
 * (bound to snd_hda_intel)", several with commas. "" when there are none.
 */
void sysfs_group_blockers(int group, char *text, size_t size);

/* N of a line "label N kB" of a file as /proc has them; 0 when there is none. */
uint64_t sysfs_kib(const char *path, const char *label);

#endif
