/* SPDX-License-Identifier: MIT */
/*
 * info.c - `dmaland info`: PCI devices, which of them can be used, and what to do about the others
 */
#include "info.h"

#include <stdlib.h>
#include <string.h>

#include "backend/sysfs.h"
#include "command.h"

enum {
	COL_ADDRESS,
	COL_DEVICE,
	COL_IDS,
	COL_DRIVER,
	COL_GROUP,
	COL_NODE,
	COL_USABLE,
	COL_VFIO,
	COL_REASON,
	COL_CURE,
	COL_LINK,
	COL_LINK_MOST,
	COL_RESET,
	COL_MASK,
	COL_HOLES,
	COL_ADDRESSES,
	COL_PHYSICAL,
	COL_VIRTUAL,
	COLS,
};

static const struct column device_columns[COLS] = {
	[COL_ADDRESS] = {"ADDRESS", "address", COLUMN_TEXT, FIT_NO},
	[COL_DEVICE] = {"DEVICE", "device", COLUMN_TEXT, FIT_CUT},
	[COL_IDS] = {NULL, "id", COLUMN_TEXT, FIT_NO},
	[COL_DRIVER] = {"DRIVER", "driver", COLUMN_TEXT, FIT_NO},
	[COL_GROUP] = {"GROUP", "group", COLUMN_NUMBER, FIT_NO},
	[COL_NODE] = {"NODE", "numa_node", COLUMN_NUMBER, FIT_NO},
	[COL_USABLE] = {"USABLE THROUGH", NULL, COLUMN_TEXT, FIT_FOLD},
	[COL_VFIO] = {NULL, "vfio", COLUMN_BOOLEAN, FIT_NO},
	[COL_REASON] = {NULL, "reason", COLUMN_TEXT, FIT_NO},
	[COL_CURE] = {NULL, "cure", COLUMN_TEXT, FIT_NO},
	[COL_LINK] = {NULL, "link", COLUMN_TEXT, FIT_NO},
	[COL_LINK_MOST] = {NULL, "link_most", COLUMN_TEXT, FIT_NO},
	[COL_RESET] = {NULL, "reset_methods", COLUMN_TEXT, FIT_NO},
	[COL_MASK] = {NULL, "dma_mask_bits", COLUMN_NUMBER, FIT_NO},
	[COL_HOLES] = {NULL, "iommu_holes", COLUMN_TEXT, FIT_NO},
	[COL_ADDRESSES] = {NULL, "iommu_usable", COLUMN_TEXT, FIT_NO},
	[COL_PHYSICAL] = {NULL, "physical_function", COLUMN_TEXT, FIT_NO},
	[COL_VIRTUAL] = {NULL, "virtual_functions", COLUMN_NUMBER, FIT_NO},
};

/*
 * What a table has no room for: read when it is told, "" where there is none.
 * @mask: what the driver that has it now can address; not VFIO's, which does not know
 */
struct details {
	char link[48], link_most[48], reset[64], mask[8], holes[256];
};

static void link_read(const char *address, const char *which, char *text, size_t size)
{
	char file[32], speed[24], width[8];

	text[0] = '\0';
	snprintf(file, sizeof(file), "%s_link_speed", which);
	if (!pci_text(address, file, speed, sizeof(speed)) || speed[0] < '0' || speed[0] > '9')
		return;
	snprintf(file, sizeof(file), "%s_link_width", which);
	if (!pci_text(address, file, width, sizeof(width)) || strcmp(width, "0") == 0)
		return;
	speed[strcspn(speed, "/")] = '\0'; /* "8.0 GT/s PCIe" */
	snprintf(text, size, "%s/s x%s", speed, width);
}

static void details_read(const struct pci_entry *entry, struct details *details)
{
	struct hole holes[8];
	size_t count = 0, used = 0;

	memset(details, 0, sizeof(*details));
	link_read(entry->address, "current", details->link, sizeof(details->link));
	link_read(entry->address, "max", details->link_most, sizeof(details->link_most));
	if (!pci_text(entry->address, "reset_method", details->reset, sizeof(details->reset)))
		details->reset[0] = '\0';
	if (!entry->driver[0] || sysfs_driver_is_vfio(entry->driver) ||
	    !pci_text(entry->address, "dma_mask_bits", details->mask, sizeof(details->mask)))
		details->mask[0] = '\0';
	if (entry->group >= 0)
		count = pci_group_holes(entry->group, holes, sizeof(holes) / sizeof(holes[0]));
	for (size_t i = 0; i < count && used < sizeof(details->holes); i++)
		used += (size_t)snprintf(details->holes + used, sizeof(details->holes) - used,
					 "%s%#llx-%#llx", used ? ", " : "",
					 (unsigned long long)holes[i].first,
					 (unsigned long long)holes[i].last);
}

/* What it is to others of the same chip, and who must say vf_token= to open it. */
static void report_virtual(struct report *report, const char *address)
{
	char physical[SYSFS_ADDRESS], driver[64];
	unsigned int count = sysfs_virtual_functions(address);

	if (sysfs_physical_function(address, physical)) {
		sysfs_driver(physical, driver, sizeof(driver));
		report_fact(report, "", "a virtual function of %s, which is bound to %s%s",
			    physical, driver[0] ? driver : "no driver",
			    sysfs_driver_is_vfio(driver)
				    ? ": its spec wants vf_token=, see dmaland(7)"
				    : "");
	}
	if (count)
		report_fact(report, "",
			    "%u virtual functions of it are on, with which its driver can't be "
			    "changed: "
			    "echo 0 > " PCI_BUS "/devices/%s/sriov_numvfs",
			    count, address);
}

/* One line about each device that was asked for. */
static void report_details(struct report *report, const struct pci_entry *entry)
{
	struct details details;

	details_read(entry, &details);
	report_fact(report, entry->address, "link: %s%s%s", details.link[0] ? details.link : "none",
		    strcmp(details.link, details.link_most) != 0 ? ", of at most " : "",
		    strcmp(details.link, details.link_most) != 0 ? details.link_most : "");
	report_fact(report, "", "reset: %s",
		    details.reset[0]
			    ? details.reset
			    : "none: closing it leaves it as it is, with bus mastering off");
	if (details.mask[0])
		report_fact(report, "", "DMA mask of %s: %s bits", entry->driver, details.mask);
	if (entry->usable[0])
		report_fact(report, "", "usable addresses, as VFIO reports them: %s",
			    entry->usable);
	if (details.holes[0])
		report_fact(report, "", "its IOMMU group keeps free: %s", details.holes);
	report_virtual(report, entry->address);
}

static void report_device_details(struct report *report, const struct pci_entry *entry)
{
	char physical[SYSFS_ADDRESS];
	struct details details;

	details_read(entry, &details);
	report_number(report, COL_VIRTUAL, sysfs_virtual_functions(entry->address));
	report_text(report, COL_PHYSICAL,
		    sysfs_physical_function(entry->address, physical) ? physical : NULL);
	report_text(report, COL_LINK, details.link[0] ? details.link : NULL);
	report_text(report, COL_LINK_MOST, details.link_most[0] ? details.link_most : NULL);
	report_text(report, COL_RESET, details.reset[0] ? details.reset : NULL);
	report_text(report, COL_MASK, details.mask[0] ? details.mask : NULL);
	report_text(report, COL_HOLES, details.holes[0] ? details.holes : NULL);
	report_text(report, COL_ADDRESSES, entry->usable[0] ? entry->usable : NULL);
}

static void report_device(struct report *report, const struct pci_entry *entry)
{
	bool usable = entry->obstacle == OBSTACLE_NONE;
	const char *none = report->json ? NULL : "-";
	char ids[16], words[512 + 8], cure[512];

	snprintf(ids, sizeof(ids), "%04x:%04x", entry->vendor, entry->device);
	pci_cure(entry, cure, sizeof(cure));
	if (entry->obstacle == OBSTACLE_BOUND || entry->obstacle == OBSTACLE_UNBOUND)
		snprintf(words, sizeof(words), "after: %s", cure);
	else
		snprintf(words, sizeof(words), "no: %s", entry->reason);
	report_row(report);
	report_text(report, COL_ADDRESS, entry->address);
	report_text(report, COL_DEVICE, entry->name);
	report_text(report, COL_IDS, ids);
	report_text(report, COL_DRIVER, entry->driver[0] ? entry->driver : none);
	if (entry->group >= 0)
		report_number(report, COL_GROUP, (uint64_t)entry->group);
	else
		report_text(report, COL_GROUP, none);
	if (entry->numa_node >= 0)
		report_number(report, COL_NODE, (uint64_t)entry->numa_node);
	else
		report_text(report, COL_NODE, none);
	report_text(report, COL_USABLE, usable ? "vfio" : words);
	report_text(report, COL_VFIO, usable ? "1" : "0");
	report_text(report, COL_REASON, usable ? NULL : entry->reason);
	report_text(report, COL_CURE, cure[0] ? cure : NULL);
	report_color(report, COL_USABLE, usable ? "green" : words[0] == 'a' ? "brown" : "red");
	report_device_details(report, entry);
}

/* Under the table: what to do about each kind of obstacle, for the first device that has it. */
static void report_cures(struct report *report, const struct pci_list *list)
{
	static const char *const titles[OBSTACLES] = {
		[OBSTACLE_NOT_VIABLE] = "shares its group: give the others to VFIO too, as root",
		[OBSTACLE_NO_VFIO] = "VFIO is not there",
		[OBSTACLE_NO_PERMISSION] = "no permission",
		[OBSTACLE_REFUSED] = "refused by VFIO",
	};

	for (int obstacle = 0; obstacle < OBSTACLES; obstacle++) {
		const struct pci_entry *entry = list->entries;
		const struct pci_entry *end = list->entries + list->count;
		char cure[512], *line = cure;

		while (entry < end && (int)entry->obstacle != obstacle)
			entry++;
		if (entry == end || !titles[obstacle])
			continue;
		pci_cure(entry, cure, sizeof(cure));
		report_space(report);
		report_note(report, "%s (here %s):", titles[obstacle], entry->address);
		for (line = strtok(cure, "\n"); line; line = strtok(NULL, "\n"))
			report_note(report, "   %s", line);
	}
}

/* What VFIO says of the devices that it could have; its addresses for the first of them, or "". */
static const char *list_ask(struct pci_list *list)
{
	const char *usable = "";

	for (size_t i = 0; i < list->count; i++) {
		struct pci_entry *entry = &list->entries[i];

		if (entry->obstacle == OBSTACLE_NONE)
			pci_ask_vfio(entry);
		if (!usable[0])
			usable = entry->usable;
	}
	return usable;
}

/* Keep of the list what is asked for, in the order of the list. */
static int list_select(struct pci_list *list, char **asked, int count)
{
	bool *wanted = calloc(list->count ? list->count : 1, sizeof(*wanted));
	size_t kept = 0;

	if (!wanted)
		return fail("no memory for a list of %zu devices", list->count);
	for (int i = 0; i < count; i++) {
		struct pci_entry *entry = pci_find(list, asked[i]);

		if (!entry) {
			free(wanted);
			return STATUS_FAILED;
		}
		wanted[entry - list->entries] = true;
	}
	for (size_t at = 0; at < list->count; at++)
		if (wanted[at] || count == 0)
			list->entries[kept++] = list->entries[at];
	list->count = kept;
	free(wanted);
	return STATUS_OK;
}

static int info_run(const struct arguments *arguments)
{
	struct pci_list list = {0};
	struct column columns[COLS];
	struct report report;
	const char *usable;
	int status = STATUS_OK;

	memcpy(columns, device_columns, sizeof(columns));
	if (!machine_has_several_nodes())
		columns[COL_NODE].heading = NULL;
	if (pci_bus_exists())
		status = pci_list_read(&list);
	if (!status)
		status = list_select(&list, arguments->operands, arguments->operand_count);
	if (status) {
		free(list.entries);
		return status;
	}
	usable = list_ask(&list);
	report_begin(&report, arguments_have(arguments, 'J'));
	if (list.count || report.json)
		report_table(&report, "devices", columns, COLS);
	else
		report_note(&report, "%s",
			    pci_bus_exists() ? "no PCI device on this machine" : pci_bus_missing());
	for (size_t i = 0; i < list.count; i++)
		report_device(&report, &list.entries[i]);
	report_space(&report);
	report_machine(&report, usable);
	if (arguments->operand_count && !report.json) {
		report_space(&report);
		report_facts(&report, "details");
		for (size_t i = 0; i < list.count; i++)
			report_details(&report, &list.entries[i]);
	}
	report_cures(&report, &list);
	free(list.entries);
	return report_end(&report, STATUS_OK);
}

const struct command info_command = {
	.name = "info",
	.summary = "PCI devices, and what it takes to use them",
	.options = "J",
	.operands = "[ADDRESS...]",
	.least = 0,
	.most = -1,
	.help = "PCI devices, the backends that they can be used through, and for each that\n"
		"can not be used the reason and the cure; then the machine's IOMMU, locked\n"
		"memory, hugepages and QEMU. No device is touched.\n\n"
		"      --json  as one JSON object\n\n"
		"More: man dmaland\n",
	.run = info_run,
};
