/* SPDX-License-Identifier: MIT */
/*
 * info.h - what `dmaland info` tells of: PCI devices, and the machine
 */
#ifndef INFO_H
#define INFO_H

#include "report.h"

/* What keeps a device from being driven through VFIO; ordered as it has to be cured. */
enum obstacle {
	OBSTACLE_NONE,
	OBSTACLE_BRIDGE,
	OBSTACLE_NO_IOMMU,
	OBSTACLE_NO_GROUP,
	OBSTACLE_BOUND,
	OBSTACLE_UNBOUND,
	OBSTACLE_NOT_VIABLE,
	OBSTACLE_NO_VFIO,
	OBSTACLE_NO_PERMISSION,
	OBSTACLES,
};

/* @group, @numa_node: -1 when it has none; @reason: the obstacle in words, "" when there is none */
struct pci_entry {
	char address[32], name[256], driver[64], reason[320];
	uint16_t vendor, device, class;
	int group, numa_node;
	enum obstacle obstacle;
};

struct pci_list {
	struct pci_entry *entries;
	size_t count;
};

/* pci.c */
bool pci_bus_exists(void);
int pci_list_read(struct pci_list *list); /* ascending by address; 0, or a status */
void pci_cure(const struct pci_entry *entry, char *text, size_t size);

/* The last part of what the link of a device points at; -1 when there is none. */
int pci_link(const char *address, const char *link, char *name, size_t size);

/* machine.c */
bool machine_has_iommu(void);
bool machine_has_several_nodes(void);
void report_machine(struct report *report);

#endif
