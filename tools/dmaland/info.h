/* SPDX-License-Identifier: MIT */
/*
 * info.h - what `dmaland info` tells of besides PCI devices: the machine
 */
#ifndef INFO_H
#define INFO_H

#include "pci.h"
#include "report.h"

/* machine.c */
bool machine_has_iommu(void);
bool machine_has_several_nodes(void);
void report_machine(struct report *report);

#endif
