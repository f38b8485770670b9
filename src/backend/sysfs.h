/* SPDX-License-Identifier: MIT */
/*
 * sysfs.h - what the kernel says of PCI devices and their IOMMU groups
 */
#ifndef BACKEND_SYSFS_H
#define BACKEND_SYSFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "0000:01:00.0": domain, bus, device, function in hexadecimal. */
bool sysfs_is_pci_address(const char *text);

/* Is there a /sys at all? */
bool sysfs_is_there(void);

/* Does the machine have an IOMMU that the kernel drives? */
bool sysfs_has_iommu(void);

bool sysfs_device_exists(const char *address);

/* PCI class 06: bridges are the kernel's. */
bool sysfs_is_bridge(const char *address);

/* Name of the kernel driver that the device is bound to; "" when none. */
void sysfs_driver(const char *address, char *driver, size_t size);

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
