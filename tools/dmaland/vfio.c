/* SPDX-License-Identifier: MIT */
/*
 * vfio.c - what VFIO itself says of a device that nothing else keeps it from
 *
 * The device's group is put into a container, and that is given its IOMMU, for a moment. That is as far as
 * a driver in user space gets before it opens the device, so that VFIO refuses here what it would refuse
 * there, and tells the addresses that a driver would be told. The device itself is not opened.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "command.h"
#include "pci.h"

/* "0-0xfedfffff, 0xfef00000-0x7fffffffff", from the kernel's description of the container. */
static void usable_text(const struct vfio_iommu_type1_info *info, char *text, size_t size)
{
	const char *bytes = (const char *)info;
	const struct vfio_iommu_type1_info_cap_iova_range *ranges;
	const struct vfio_info_cap_header *cap;
	size_t used = 0;

	for (uint32_t at = info->cap_offset; at && at + sizeof(*cap) <= info->argsz;
	     at = cap->next) {
		cap = (const void *)(bytes + at);
		if (cap->id != VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)
			continue;
		ranges = (const void *)cap;
		for (uint32_t i = 0; i < ranges->nr_iovas && used < size; i++)
			used += (size_t)snprintf(text + used, size - used, "%s%#llx-%#llx",
						 i ? ", " : "",
						 (unsigned long long)ranges->iova_ranges[i].start,
						 (unsigned long long)ranges->iova_ranges[i].end);
		return;
	}
}

static void usable_ask(int container, char *text, size_t size)
{
	struct vfio_iommu_type1_info head = {.argsz = sizeof(head)}, *info;

	if (ioctl(container, VFIO_IOMMU_GET_INFO, &head) || !(info = calloc(1, head.argsz)))
		return;
	info->argsz = head.argsz;
	if (ioctl(container, VFIO_IOMMU_GET_INFO, info) == 0 && info->flags & VFIO_IOMMU_INFO_CAPS)
		usable_text(info, text, size);
	free(info);
}

static void refuse(struct pci_entry *entry, const char *words)
{
	entry->obstacle = OBSTACLE_REFUSED;
	snprintf(entry->reason, sizeof(entry->reason), "VFIO refuses it%s", words);
}

/* The group is the container's only one, and goes back with its file. */
static void iommu_ask(struct pci_entry *entry, int container)
{
	char words[80];

	if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0) {
		usable_ask(container, entry->usable, sizeof(entry->usable));
		return;
	}
	snprintf(words, sizeof(words), ": %s", strerror(errno));
	refuse(entry, errno == EPERM ? PCI_NOT_REMAPPED : words);
}

/* Where another process has the group, nobody can ask, and it was not refused. */
void pci_ask_vfio(struct pci_entry *entry)
{
	int container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC), group;
	char path[32];

	snprintf(path, sizeof(path), "/dev/vfio/%d", entry->group);
	group = open(path, O_RDWR | O_CLOEXEC);
	if (container >= 0 && group >= 0 && ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) == 0)
		iommu_ask(entry, container);
	if (group >= 0)
		close(group);
	if (container >= 0)
		close(container);
}
