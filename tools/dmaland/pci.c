/* SPDX-License-Identifier: MIT */
/*
 * pci.c - PCI devices: what they are, and what keeps them from being driven through VFIO
 *
 * Names come from libpci. The rest is read from sysfs; no device is opened or touched, so that one
 * that sleeps goes on sleeping and one in use is not disturbed.
 */
#include "pci.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <pci/pci.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <dmaland/device.h>

#include "backend/sysfs.h"
#include "command.h"
#include "info.h"

#define IOMMU_GROUPS "/sys/kernel/iommu_groups"

bool pci_bus_exists(void)
{
	return access(PCI_BUS "/devices", F_OK) == 0;
}

const char *pci_bus_missing(void)
{
	return machine_has_sysfs()
		       ? "no PCI bus on this machine"
		       : "no /sys here, where the kernel tells of PCI devices: mount -t "
			 "sysfs sysfs /sys";
}

int pci_link(const char *address, const char *link, char *name, size_t size)
{
	char path[384], target[PATH_MAX];
	const char *slash;
	ssize_t length;

	snprintf(path, sizeof(path), PCI_BUS "/devices/%s/%s", address, link);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return -1;
	target[length] = '\0';
	slash = strrchr(target, '/');
	snprintf(name, size, "%s", slash ? slash + 1 : target);
	return 0;
}

bool pci_text(const char *address, const char *file_name, char *text, size_t size)
{
	char path[384];
	FILE *file;

	snprintf(path, sizeof(path), PCI_BUS "/devices/%s/%s", address, file_name);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (!fgets(text, (int)size, file))
		text[0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	fclose(file);
	return true;
}

static void group_blockers(struct pci_entry *entry)
{
	size_t size = sizeof(entry->blockers), used = 0;
	char path[64], driver[64], *text = entry->blockers;
	struct dirent *other;
	DIR *dir;

	snprintf(path, sizeof(path), IOMMU_GROUPS "/%d/devices", entry->group);
	dir = opendir(path);
	if (!dir)
		return;
	while ((other = readdir(dir)) && used < size) {
		if (other->d_name[0] == '.' || strcmp(other->d_name, entry->address) == 0 ||
		    pci_link(other->d_name, "driver", driver, sizeof(driver)) ||
		    !sysfs_blocks_group(other->d_name, driver))
			continue;
		used += (size_t)snprintf(text + used, size - used, "%s%s (bound to %s)",
					 used ? ", " : "", other->d_name, driver);
		if (sysfs_is_bridge(other->d_name)) /* which `bind` does not take */
			continue;
		snprintf(entry->others + strlen(entry->others),
			 sizeof(entry->others) - strlen(entry->others), " %s", other->d_name);
	}
	closedir(dir);
}

/* A group that VFIO made up for its mode without an IOMMU is none. */
static int group_read(const char *address)
{
	char number[32], path[96], name[32] = "";
	FILE *file;

	if (pci_link(address, "iommu_group", number, sizeof(number)))
		return -1;
	snprintf(path, sizeof(path), IOMMU_GROUPS "/%s/name", number);
	file = fopen(path, "re");
	if (file) {
		if (!fgets(name, sizeof(name), file))
			name[0] = '\0';
		fclose(file);
	}
	return strncmp(name, "vfio-noiommu", 12) == 0 ? -1 : atoi(number);
}

/* Ascending; those that are "relaxable" VFIO gives away (vfio_iommu_type1.c: resv_exclude). */
size_t pci_group_holes(int group, struct hole *holes, size_t max)
{
	unsigned long long first, last;
	char path[96], line[96], type[32];
	size_t count = 0;
	FILE *file;

	snprintf(path, sizeof(path), IOMMU_GROUPS "/%d/reserved_regions", group);
	file = fopen(path, "re");
	while (file && count < max && fgets(line, sizeof(line), file))
		if (sscanf(line, "%llx %llx %31s", &first, &last, type) == 3 &&
		    strcmp(type, "direct-relaxable") != 0)
			holes[count++] = (struct hole){first, last};
	if (file)
		fclose(file);
	return count;
}

/* Say in words what the obstacle is. */
static enum obstacle reason_set(struct pci_entry *entry, enum obstacle obstacle, const char *format,
				...) __attribute__((format(printf, 3, 4)));
static enum obstacle reason_set(struct pci_entry *entry, enum obstacle obstacle, const char *format,
				...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(entry->reason, sizeof(entry->reason), format, args);
	va_end(args);
	return obstacle;
}

static enum obstacle obstacle_find(struct pci_entry *entry)
{
	const char *blockers = entry->blockers;
	char node[32];
	bool bound = entry->driver[0] != '\0';

	if (sysfs_is_bridge(entry->address))
		return reason_set(entry, OBSTACLE_BRIDGE, "a bridge");
	if (entry->group < 0 && !machine_has_iommu())
		return reason_set(entry, OBSTACLE_NO_IOMMU, "no IOMMU");
	if (entry->group < 0 && !bound && machine_groups_with_drivers())
		return reason_set(entry, OBSTACLE_UNBOUND,
				  "bound to no driver, and has an IOMMU group with one");
	if (entry->group < 0)
		return reason_set(entry, OBSTACLE_NO_GROUP, "not behind the IOMMU");
	group_blockers(entry);
	if (bound && !sysfs_driver_is_vfio(entry->driver))
		return reason_set(entry, OBSTACLE_BOUND, "bound to %s%s%s", entry->driver,
				  blockers[0] ? ", and shares its group with " : "", blockers);
	if (!bound)
		return reason_set(entry, OBSTACLE_UNBOUND, "bound to no driver%s%s",
				  blockers[0] ? ", and shares its group with " : "", blockers);
	if (blockers[0])
		return reason_set(entry, OBSTACLE_NOT_VIABLE, "shares group %d with %s",
				  entry->group, blockers);
	if (access("/dev/vfio/vfio", R_OK | W_OK))
		return reason_set(entry, OBSTACLE_NO_VFIO, "/dev/vfio/vfio: %s", strerror(errno));
	snprintf(node, sizeof(node), "/dev/vfio/%d", entry->group);
	if (access(node, R_OK | W_OK))
		return reason_set(entry, OBSTACLE_NO_PERMISSION, "%s: %s", node, strerror(errno));
	return OBSTACLE_NONE;
}

/* What to do about an entry's obstacle: lines of text, "" when there is nothing to do. */
void pci_cure(const struct pci_entry *entry, char *text, size_t size)
{
	text[0] = '\0';
	switch (entry->obstacle) {
	case OBSTACLE_NO_IOMMU:
		snprintf(text, size,
			 "turn on VT-d or AMD-Vi in the firmware, and boot with intel_iommu=on "
			 "(AMD: on by default)");
		break;
	case OBSTACLE_BOUND:
	case OBSTACLE_UNBOUND:
		if (sysfs_virtual_functions(entry->address))
			snprintf(text, size, "echo 0 > " PCI_BUS "/devices/%s/sriov_numvfs; ",
				 entry->address);
		snprintf(text + strlen(text), size - strlen(text), "dmaland bind %s%s",
			 entry->address, entry->others);
		break;
	case OBSTACLE_NOT_VIABLE:
		snprintf(text, size, "dmaland bind%s", entry->others);
		break;
	case OBSTACLE_NO_VFIO:
		snprintf(text, size, "modprobe vfio-pci; chmod 666 /dev/vfio/vfio");
		break;
	case OBSTACLE_NO_PERMISSION:
		if (machine_is_user_namespace())
			snprintf(text, size,
				 "outside of this user namespace, whose root is an ordinary user "
				 "there: chown /dev/vfio/%d to that user",
				 entry->group);
		else
			snprintf(text, size,
				 "run as root, or chown /dev/vfio/%d to the user that drives the "
				 "device",
				 entry->group);
		break;
	case OBSTACLE_REFUSED:
		if (!strstr(entry->reason, PCI_NOT_REMAPPED))
			break;
		snprintf(text, size,
			 "turn interrupt remapping on, in the firmware or as intremap=on of a "
			 "virtual machine's IOMMU (virtio-iommu has none);\n"
			 "or, where whoever drives the device is trusted: echo Y > "
			 "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts");
		break;
	default:
		break;
	}
}

/*
 * "CLASS, VENDOR DEVICE", with numbers for what pci.ids does not know. udev's database knows no more, and libpci 3.9.0
 * leaks a context of udev for each name that it asks for where there is no database.
 */
static void name_read(struct pci_access *access, struct pci_dev *dev, char *name, size_t size)
{
	char class[80], device[160];

	pci_lookup_name(access, class, sizeof(class), PCI_LOOKUP_CLASS | PCI_LOOKUP_NO_HWDB,
			dev->device_class);
	pci_lookup_name(access, device, sizeof(device),
			PCI_LOOKUP_VENDOR | PCI_LOOKUP_DEVICE | PCI_LOOKUP_NO_HWDB, dev->vendor_id,
			dev->device_id);
	snprintf(name, size, "%s, %s", class, device);
}

static void entry_read(struct pci_entry *entry, struct pci_access *access, struct pci_dev *dev)
{
	pci_fill_info(dev, PCI_FILL_IDENT | PCI_FILL_CLASS | PCI_FILL_NUMA_NODE);
	snprintf(entry->address, sizeof(entry->address), "%04x:%02x:%02x.%x", dev->domain, dev->bus,
		 dev->dev, dev->func);
	entry->vendor = dev->vendor_id;
	entry->device = dev->device_id;
	name_read(access, dev, entry->name, sizeof(entry->name));
	if (pci_link(entry->address, "driver", entry->driver, sizeof(entry->driver)))
		entry->driver[0] = '\0';
	entry->group = group_read(entry->address);
	entry->numa_node = dev->numa_node;
	entry->obstacle = obstacle_find(entry);
}

static int entry_order(const void *left, const void *right)
{
	const struct pci_entry *a = left, *b = right;

	return sysfs_address_order(a->address, b->address);
}

/* libpci ends the process by this when it can't go on. */
static void __attribute__((noreturn, format(printf, 1, 2))) libpci_failed(char *format, ...)
{
	char words[256];
	va_list args;

	va_start(args, format);
	vsnprintf(words, sizeof(words), format, args);
	va_end(args);
	exit(fail("cannot read the PCI bus: %s", words));
}

int pci_list_read(struct pci_list *list)
{
	struct pci_access *access = pci_alloc();
	size_t count = 0;

	access->method = PCI_ACCESS_SYS_BUS_PCI;
	access->error = libpci_failed;
	pci_init(access);
	pci_scan_bus(access);
	for (struct pci_dev *dev = access->devices; dev; dev = dev->next)
		count++;
	list->count = 0;
	list->entries = calloc(count ? count : 1, sizeof(*list->entries));
	for (struct pci_dev *dev = access->devices; dev && list->entries; dev = dev->next)
		entry_read(&list->entries[list->count++], access, dev);
	pci_cleanup(access);
	if (!list->entries)
		return fail("no memory for a list of %zu devices", count);
	qsort(list->entries, list->count, sizeof(*list->entries), entry_order);
	return STATUS_OK;
}

/* "VENDOR:DEVICE[,index=N]", behind "pci:": the address. False: it is no such spec, or there is no such device, and the user is told. */
static bool ids_find(const char *text, char *address)
{
	static const char key[] = "index=";
	const char *comma = strchrnul(text, ',');
	unsigned int vendor, device, index = 0;
	char ids[16] = "";

	if ((size_t)(comma - text) < sizeof(ids))
		memcpy(ids, text, (size_t)(comma - text));
	if (!sysfs_read_ids(ids, &vendor, &device) ||
	    (*comma && strncmp(comma + 1, key, strlen(key)) != 0)) {
		fail("'pci:%s' is not pci:VENDOR:DEVICE[,index=NUMBER], as pci:1234:11e8 is", text);
		return false;
	}
	if (*comma && !sysfs_read_index(comma + 1 + strlen(key), &index)) {
		fail("%s is not a number up to %u", comma + 1, UINT16_MAX);
		return false;
	}
	if (dmaland_find(vendor, device, index, address, SYSFS_ADDRESS)) {
		fail_library(NULL);
		return false;
	}
	return true;
}

struct pci_entry *pci_find(const struct pci_list *list, const char *spec)
{
	const char *text = strncmp(spec, "vfio:", 5) == 0 ? spec + 5 : spec;
	char address[SYSFS_ADDRESS];

	if (!text[0]) {
		fail("an empty address names no PCI device: one looks like 0000:01:00.0, and "
		     "'dmaland info' lists them");
		return NULL;
	}
	if (strncmp(spec, "pci:", 4) == 0) {
		if (!ids_find(spec + 4, address))
			return NULL;
		text = address;
	}
	for (size_t i = 0; sysfs_read_address(text, address) && i < list->count; i++)
		if (strcmp(address, list->entries[i].address) == 0)
			return &list->entries[i];
	fail("there is no PCI device %s; 'dmaland info' lists them", text);
	return NULL;
}
