/* SPDX-License-Identifier: MIT */
/*
 * sysfs.c - what the kernel says of PCI devices and their IOMMU groups
 */
#include "backend/sysfs.h"

#include <ctype.h>
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

/* As many digits as sysfs has, so that "1:0.0" is not taken for a backend's name here and for a device there. */
bool sysfs_read_address(const char *text, char *address)
{
	char whole[SYSFS_ADDRESS + 5], *at = whole;
	size_t length = strlen(text);

	if (length >= SYSFS_ADDRESS)
		return false;
	snprintf(whole, sizeof(whole), "0000:%s", text);
	for (char *c = whole; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	if (!sysfs_is_pci_address(whole))
		at += 5;
	if (!sysfs_is_pci_address(at))
		return false;
	strcpy(address, at);
	return true;
}

/* A number of up to four digits that ends so: where the text goes on, or NULL. */
static const char *id_read(const char *text, char end, unsigned int *id)
{
	size_t length = strspn(text, "0123456789abcdefABCDEF");

	if (length == 0 || length > 4 || text[length] != end)
		return NULL;
	*id = (unsigned int)strtoul(text, NULL, 16);
	return text + length + 1;
}

bool sysfs_read_ids(const char *text, unsigned int *vendor, unsigned int *device)
{
	const char *rest = id_read(text, ':', vendor);

	return rest && id_read(rest, '\0', device);
}

bool sysfs_read_index(const char *text, unsigned int *index)
{
	unsigned long number;
	char *end;

	number = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || number > UINT16_MAX)
		return false;
	*index = (unsigned int)number;
	return true;
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

/* PCI Code and ID Assignment, 1.7: base class and subclass */
enum {
	CLASS_HOST_BRIDGE = 0x0600,
	CLASS_ISA_BRIDGE = 0x0601,
	CLASS_PCI_BRIDGE = 0x0604,
	CLASS_CARDBUS_BRIDGE = 0x0607,
};

/* What a file of the device's has as a number; 0 when it can't be read. */
static unsigned int device_number(const char *address, const char *file)
{
	char path[PATH_MAX], text[16];

	snprintf(path, sizeof(path), PCI_DEVICES "%s/%s", address, file);
	file_text(path, text, sizeof(text));
	return (unsigned int)strtoul(text, NULL, 0);
}

int sysfs_address_order(const void *left, const void *right)
{
	size_t left_length = strlen(left), right_length = strlen(right);

	if (left_length != right_length)
		return left_length < right_length ? -1 : 1;
	return strcmp(left, right);
}

int sysfs_find(unsigned int vendor, unsigned int device, char (**addresses)[SYSFS_ADDRESS])
{
	char(*found)[SYSFS_ADDRESS] = NULL, (*more)[SYSFS_ADDRESS];
	DIR *dir = opendir(PCI_DEVICES);
	struct dirent *entry;
	int count = 0;

	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(dir))) {
		if (!sysfs_is_pci_address(entry->d_name) ||
		    strlen(entry->d_name) >= SYSFS_ADDRESS ||
		    device_number(entry->d_name, "vendor") != vendor ||
		    device_number(entry->d_name, "device") != device)
			continue;
		more = realloc(found, (size_t)(count + 1) * sizeof(*found));
		if (!more) {
			free(found);
			closedir(dir);
			return -ENOMEM;
		}
		found = more;
		strcpy(found[count++], entry->d_name);
	}
	closedir(dir);
	if (count)
		qsort(found, (size_t)count, sizeof(*found), sysfs_address_order);
	*addresses = found;
	return count;
}

bool sysfs_is_bridge(const char *address)
{
	unsigned int class = device_number(address, "class") >> 8;

	return class == CLASS_HOST_BRIDGE || class == CLASS_ISA_BRIDGE ||
	       class == CLASS_PCI_BRIDGE || class == CLASS_CARDBUS_BRIDGE;
}

bool sysfs_driver_is_vfio(const char *driver)
{
	return strstr(driver, "vfio") != NULL;
}

/*
 * Linux: struct pci_driver.driver_managed_dma; before 5.19 vfio_dev_driver_allowed(), which has no names but pci-stub's and
 * lets every device through whose header is a bridge's.
 */
bool sysfs_blocks_group(const char *address, const char *driver)
{
	unsigned int class = device_number(address, "class") >> 8;

	return driver[0] && !sysfs_driver_is_vfio(driver) && strcmp(driver, "pci-stub") != 0 &&
	       strcmp(driver, "pcieport") != 0 && class != CLASS_PCI_BRIDGE &&
	       class != CLASS_CARDBUS_BRIDGE;
}

bool sysfs_physical_function(const char *address, char *physical)
{
	return device_link(address, "physfn", physical, SYSFS_ADDRESS) == 0;
}

unsigned int sysfs_virtual_functions(const char *address)
{
	return device_number(address, "sriov_numvfs");
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
		if (!sysfs_is_pci_address(entry->d_name))
			continue;
		sysfs_driver(entry->d_name, driver, sizeof(driver));
		if (!sysfs_blocks_group(entry->d_name, driver))
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
