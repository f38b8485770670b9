/* SPDX-License-Identifier: MIT */
/*
 * info.h - what `dmaland info` tells of besides PCI devices: the machine
 */
#ifndef INFO_H
#define INFO_H

#include "pci.h"
#include "report.h"

/* machine.c */
bool machine_has_sysfs(void);
bool machine_has_iommu(void);
bool machine_groups_with_drivers(void); /* is a device's IOMMU group made when a driver takes it? */
bool machine_is_user_namespace(void);	/* not the first: its root is root of nothing outside */
bool machine_has_several_nodes(void);

/* usable: the addresses that VFIO reported for some device, or "". */
void report_machine(struct report *report, const char *usable);

#endif
