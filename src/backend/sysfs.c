/* SPDX-License-Identifier: MIT */
/*
 * sysfs.c - what the kernel says of PCI devices and their IOMMU groups
 */
#include "backend/sysfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <dmaland/types.h>

#define PCI_DEVICES "/sys/bus/pci/devices/"

bool sysfs_is_pci_address(const char *text)
{
	unsigned int domain, bus, device, function;
	char again[32];

	if (sscanf(text, "%x:%x:%x.%x", &domain, &bus, &device, &function) != 4)
		return false;
	snprintf(again, sizeof(again), "%04x:%02x:%02x.%x", domain, bus, device, function);
	return bus < 256 && device < 32 && function < 8 && strcmp(again, text) == 0;
}

bool sysfs_is_there(void)
{
	return access("/sys/bus", F_OK) == 0;
}

bool sysfs_has_iommu(void)
{
	DIR *dir = opendir("/sys/class/iommu");
	struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir)))
		found = entry->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return found;
}

bool sysfs_device_exists(const char *address)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), PCI_DEVICES "%s", address);
	return access(path, F_OK) == 0;
}

/* The last part of what a link of the device points at. */
static int device_link(const char *address, const char *link, char *name, size_t size)
{
	char path[PATH_MAX], target[PATH_MAX];
	const char *slash;
	ssize_t length;

	snprintf(path, sizeof(path), PCI_DEVICES "%s/%s", address, link);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return -errno;
	target[length] = '\0';
	slash = strrchr(target, '/');
	snprintf(name, size, "%s", slash ? slash + 1 : target);
	return 0;
}

void sysfs_driver(const char *address, char *driver, size_t size)
{
	if (device_link(address, "driver", driver, size))
		driver[0] = '\0';
}

int sysfs_iommu_group(const char *address)
{
	char name[32];
	int err = device_link(address, "iommu_group", name, sizeof(name));

	return err ? err : atoi(name);
}

void sysfs_iommu_unit(const char *address, char *unit, size_t size)
{
	if (device_link(address, "iommu", unit, size))
		unit[0] = '\0';
}

/* A file's first bytes as text; "" when it can't be read. */
static void file_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);

	text[n > 0 ? n : 0] = '\0';
	if (fd >= 0)
		close(fd);
}

/* Bridges are passed over: VFIO lets the kernel's port driver keep them. */
bool sysfs_is_bridge(const char *address)
{
	char path[PATH_MAX], class[16];

	snprintf(path, sizeof(path), PCI_DEVICES "%s/class", address);
	file_text(path, class, sizeof(class));
	return strncmp(class, "0x06", 4) == 0;
}

int sysfs_numa_node(const char *address)
{
	char path[PATH_MAX], text[16];
	int node;

	snprintf(path, sizeof(path), PCI_DEVICES "%s/numa_node", address);
	file_text(path, text, sizeof(text));
	return sscanf(text, "%d", &node) == 1 ? node : NUMA_NO_NODE;
}

/* The file is a list: "0", "0-1", "0,2". */
bool sysfs_has_several_nodes(void)
{
	char text[16];

	file_text("/sys/devices/system/node/has_memory", text, sizeof(text));
	return strpbrk(text, ",-") != NULL;
}

void sysfs_group_blockers(int group, char *text, size_t size)
{
	char path[64], driver[64];
	struct dirent *entry;
	size_t used = 0;
	DIR *dir;

	text[0] = '\0';
	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%d/devices", group);
	dir = opendir(path);
	if (!dir)
		return;
	while ((entry = readdir(dir)) && used < size) {
		if (!sysfs_is_pci_address(entry->d_name) || sysfs_is_bridge(entry->d_name))
			continue;
		sysfs_driver(entry->d_name, driver, sizeof(driver));
		if (!driver[0] || strstr(driver, "vfio") || strcmp(driver, "pci-stub") == 0)
			continue;
		used += (size_t)snprintf(text + used, size - used, "%s%s (bound to %s)",
					 used ? ", " : "", entry->d_name, driver);
	}
	closedir(dir);
}

uint64_t sysfs_kib(const char *path, const char *label)
{
	unsigned long long kib = 0;
	char line[128];
	FILE *f = fopen(path, "re");

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, label, strlen(label)) == 0 &&
		    sscanf(line + strlen(label), "%llu", &kib) == 1)
			break;
	fclose(f);
	return kib;
}
