/* SPDX-License-Identifier: MIT */
/*
 * pci.h - PCI devices: what they are, what keeps them from being driven through VFIO, who uses them
 */
#ifndef PCI_H
#define PCI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PCI_BUS "/sys/bus/pci"

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
	OBSTACLE_REFUSED,
	OBSTACLES,
};

/*
 * @group, @numa_node: -1 when it has none
 * @reason:   the obstacle in words, "" when there is none
 * @usable:   the dma addresses that VFIO reports, "" where it was not asked: "0-0xfedfffff, ..."
 * @blockers: the others in its group whose drivers keep VFIO out, "ADDRESS (bound to DRIVER), ..."
 * @others:   their addresses, each with a space in front
 */
struct pci_entry {
	char address[32], name[256], driver[64], reason[320], blockers[200], others[160];
	char usable[512];
	uint16_t vendor, device;
	int group, numa_node;
	enum obstacle obstacle;
};

struct pci_list {
	struct pci_entry *entries;
	size_t count;
};

/* pci.c */
bool pci_bus_exists(void);
const char *pci_bus_missing(void);	  /* why it does not, in words */
int pci_list_read(struct pci_list *list); /* ascending by address; 0, or a status */
void pci_cure(const struct pci_entry *entry, char *text, size_t size);

/* A device as users name it: by its address, with or without its domain, or by a spec, vfio: or pci:. NULL, and the user told. */
struct pci_entry *pci_find(const struct pci_list *list, const char *spec);

/* The last part of what the link of a device points at; -1 when there is none. */
int pci_link(const char *address, const char *link, char *name, size_t size);

/* The first line of a file of the device's, without its end; false when there is none. */
bool pci_text(const char *address, const char *file, char *text, size_t size);

/* What VFIO leaves out of a group's addresses: how many holes of "first-last" there are. */
struct hole {
	uint64_t first, last;
};
size_t pci_group_holes(int group, struct hole *holes, size_t max);

/* The end of the reason where a device's interrupts are not remapped. */
#define PCI_NOT_REMAPPED ", since its interrupts are not remapped"

/* vfio.c: of a device with no obstacle, does VFIO know one? And @usable. */
void pci_ask_vfio(struct pci_entry *entry);

/* inuse.c: who would miss the device if its driver let go, and what to do; false when nobody. */
bool pci_in_use(const struct pci_entry *entry, char *words, size_t size);

#endif
