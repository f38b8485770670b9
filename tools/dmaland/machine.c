/* SPDX-License-Identifier: MIT */
/*
 * machine.c - what the machine has to offer: IOMMU, locked memory, hugepages, QEMU
 */
#include "info.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <linux/capability.h>

#include "command.h"

#define IOMMU_CLASS "/sys/class/iommu"
#define HUGEPAGES   "/sys/kernel/mm/hugepages"
#define CHUNK_MAX   ((uint64_t)32 << 20) /* what the library maps at once, unasked: dmaland(7) */
#define QEMU	    "qemu-system-x86_64"

/* A number from a file, in the base given; false when there is none. */
static bool number_file(const char *path, int base, uint64_t *number)
{
	char text[64], *end = text;
	FILE *file = fopen(path, "re");

	*number = 0;
	if (!file)
		return false;
	if (fgets(text, sizeof(text), file))
		*number = strtoull(text, &end, base);
	fclose(file);
	return end != text;
}

/* ---- IOMMU ---- */

struct iommu {
	char name[64];
	bool is_virtio;		  /* a device's group is made when a driver takes it */
	unsigned int units, bits; /* bits: 0 when not known */
	bool reads; /* what is mapped for writing alone can be read; false: not known */
};

/* Its name is that of the device which it is, such as 0000:00:0f.0: its driver tells more. */
static bool unit_is_virtio(const char *unit)
{
	char path[320], target[PATH_MAX];
	ssize_t length;

	snprintf(path, sizeof(path), IOMMU_CLASS "/%s/device/driver", unit);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return false;
	target[length] = '\0';
	return strstr(target, "/virtio_iommu") != NULL;
}

/* The unit's kind, and its width where the kernel tells it. */
static void iommu_unit(struct iommu *iommu, const char *unit)
{
	char path[320];
	uint64_t cap;

	iommu->units++;
	if (strncmp(unit, "dmar", 4) == 0) {
		strcpy(iommu->name, "Intel VT-d");
		iommu->reads = true; /* as the library has it: write_only_find() in vfio_domain.c */
		snprintf(path, sizeof(path), IOMMU_CLASS "/%s/intel-iommu/cap", unit);
		/* CAP_REG.MGAW, bits 21:16: the width less 1 (VT-d specification 4.1, 11.4.2) */
		if (number_file(path, 16, &cap))
			iommu->bits = (unsigned int)(cap >> 16 & 0x3f) + 1;
	} else if (strncmp(unit, "ivhd", 4) == 0) {
		strcpy(iommu->name, "AMD-Vi");
	} else if (unit_is_virtio(unit)) {
		strcpy(iommu->name, "virtio-iommu");
		iommu->is_virtio = true;
	} else {
		snprintf(iommu->name, sizeof(iommu->name), "%s", unit);
	}
}

static void iommu_read(struct iommu *iommu)
{
	DIR *dir = opendir(IOMMU_CLASS);
	struct dirent *entry;

	memset(iommu, 0, sizeof(*iommu));
	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			iommu_unit(iommu, entry->d_name);
	if (dir)
		closedir(dir);
}

bool machine_has_iommu(void)
{
	struct iommu iommu;

	iommu_read(&iommu);
	return iommu.units > 0;
}

bool machine_groups_with_drivers(void)
{
	struct iommu iommu;

	iommu_read(&iommu);
	return iommu.is_virtio;
}

bool machine_has_sysfs(void)
{
	return access("/sys/bus", F_OK) == 0;
}

enum { HOLES = 16 };

/* The holes that all groups have; a group may have more of its own. */
static size_t common_holes(struct hole *holes)
{
	DIR *dir = opendir("/sys/kernel/iommu_groups");
	struct hole others[HOLES];
	size_t count = 0, kept, other_count;
	bool first = true;
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		other_count = pci_group_holes(atoi(entry->d_name), others, HOLES);
		if (first) {
			memcpy(holes, others, sizeof(others));
			count = other_count;
		}
		first = false;
		kept = 0;
		for (size_t i = 0; i < count; i++)
			for (size_t j = 0; j < other_count; j++)
				if (memcmp(&holes[i], &others[j], sizeof(others[j])) == 0)
					holes[kept++] = holes[i];
		count = kept;
	}
	if (dir)
		closedir(dir);
	return count;
}

/* What lies between the holes, "0-0xfedfffff, 0xfef00000-0x7fffffffff". */
static void usable_text(unsigned int bits, char *text, size_t size)
{
	uint64_t next = 0, end = bits < 64 ? (UINT64_C(1) << bits) - 1 : UINT64_MAX;
	struct hole holes[HOLES];
	size_t count = common_holes(holes), used = 0;

	text[0] = '\0';
	for (size_t i = 0; i < count && holes[i].first <= end && used < size; i++) {
		if (holes[i].first > next)
			used += (size_t)snprintf(text + used, size - used, "%#llx-%#llx, ",
						 (unsigned long long)next,
						 (unsigned long long)holes[i].first - 1);
		if (holes[i].last >= next)
			next = holes[i].last + 1;
	}
	if (next <= end && used < size)
		snprintf(text + used, size - used, "%#llx-%#llx", (unsigned long long)next,
			 (unsigned long long)end);
}

/* What the IOMMU does not keep from a device. */
static void report_write_only(struct report *report, const struct iommu *iommu)
{
	if (iommu->reads)
		report_fact(report, "FROM_DEVICE",
			    "a device can read this memory too: %s can't express write-only",
			    iommu->name);
	else if (iommu->units)
		report_fact(
			report, "FROM_DEVICE",
			"a device may be able to read this memory too: not known of this IOMMU");
	if (iommu->reads)
		report_member_boolean(report, "iommu_write_only", false);
	else
		report_member_null(report, "iommu_write_only");
}

static void report_iommu_fact(struct report *report, const struct iommu *iommu, const char *usable)
{
	char bits[24] = "";

	if (iommu->bits)
		snprintf(bits, sizeof(bits), ", %u bits", iommu->bits);
	if (!machine_has_sysfs())
		report_fact(report, "IOMMU", "not known: no /sys here");
	else if (!iommu->units)
		report_fact(report, "IOMMU",
			    "none, or off: turn on VT-d or AMD-Vi in the firmware, and boot with "
			    "intel_iommu=on");
	else if (usable[0])
		report_fact(report, "IOMMU", "%s%s; usable %s", iommu->name, bits, usable);
	else
		report_fact(report, "IOMMU",
			    "%s; which addresses are usable is known of devices that VFIO has",
			    iommu->name);
}

/* Where VFIO was not asked, the kernel's description of VT-d tells as much. */
static void report_iommu(struct report *report, const char *reported)
{
	char usable[512];
	struct iommu iommu;

	iommu_read(&iommu);
	snprintf(usable, sizeof(usable), "%s", reported);
	if (iommu.bits && !usable[0])
		usable_text(iommu.bits, usable, sizeof(usable));
	report_iommu_fact(report, &iommu, usable);
	if (iommu.units)
		report_member_text(report, "iommu", iommu.name);
	else
		report_member_null(report, "iommu");
	if (iommu.bits)
		report_member_number(report, "iommu_bits", iommu.bits);
	else
		report_member_null(report, "iommu_bits");
	if (usable[0])
		report_member_text(report, "iommu_usable", usable);
	else
		report_member_null(report, "iommu_usable");
	report_write_only(report, &iommu);
}

/* ---- NUMA ---- */

/* The kernel's list of nodes that have memory is "0" where there is nothing to choose. */
bool machine_has_several_nodes(void)
{
	char text[16] = "";
	FILE *file = fopen("/sys/devices/system/node/has_memory", "re");

	if (!file)
		return false;
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	fclose(file);
	return strpbrk(text, ",-");
}

/* ---- locked memory ---- */

/* Its number is the kernel's choice for good: PROC_USER_INIT_INO in linux/proc_ns.h. */
bool machine_is_user_namespace(void)
{
	char name[64];
	ssize_t length = readlink("/proc/self/ns/user", name, sizeof(name) - 1);

	if (length < 0)
		return false;
	name[length] = '\0';
	return strcmp(name, "user:[4026531837]") != 0;
}

static bool has_lock_capability(void)
{
	FILE *file = fopen("/proc/self/status", "re");
	unsigned long long capabilities = 0;
	char line[128];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "CapEff: %llx", &capabilities) == 1)
			break;
	if (file)
		fclose(file);
	return capabilities >> CAP_IPC_LOCK & 1;
}

/*
 * The kernel asks for CAP_IPC_LOCK where it would look at the limit (capabilities(7)): for that of the first user
 * namespace.
 */
static void report_locked_memory(struct report *report)
{
	bool has_capability = has_lock_capability(), within = machine_is_user_namespace();
	bool is_void = has_capability && !within, unlimited;
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit))
		return;
	unlimited = limit.rlim_cur == RLIM_INFINITY;
	if (is_void)
		report_fact(report, "locked memory",
			    "not limited: this process has CAP_IPC_LOCK (others: %s)",
			    unlimited ? "not limited" : size_text(limit.rlim_cur).text);
	else if (unlimited)
		report_fact(report, "locked memory", "not limited");
	else if (has_capability)
		report_fact(
			report, "locked memory",
			"%s allowed: this is a user namespace, whose CAP_IPC_LOCK the kernel does "
			"not count (raise it outside: ulimit -l, or LimitMEMLOCK= in the unit)",
			size_text(limit.rlim_cur).text);
	else
		report_fact(report, "locked memory",
			    "%s allowed (raise: ulimit -l, or LimitMEMLOCK= in the unit)",
			    size_text(limit.rlim_cur).text);
	if (is_void || unlimited)
		report_member_null(report, "locked_memory_limit");
	else
		report_member_number(report, "locked_memory_limit", limit.rlim_cur);
}

/* ---- hugepages ---- */

static void report_hugepages(struct report *report)
{
	uint64_t kib, pages, free_pages, bytes = 0;
	char words[256] = "", path[320];
	struct dirent *entry;
	DIR *dir = opendir(HUGEPAGES);
	size_t used = 0;

	while (dir && (entry = readdir(dir)) && used < sizeof(words)) {
		if (sscanf(entry->d_name, "hugepages-%lukB", &kib) != 1)
			continue;
		snprintf(path, sizeof(path), HUGEPAGES "/%s/nr_hugepages", entry->d_name);
		if (!number_file(path, 10, &pages) || pages == 0)
			continue;
		snprintf(path, sizeof(path), HUGEPAGES "/%s/free_hugepages", entry->d_name);
		if (!number_file(path, 10, &free_pages))
			continue;
		bytes += free_pages * kib << 10;
		used += (size_t)snprintf(
			words + used, sizeof(words) - used, "%s%llu of %s, %llu free%s",
			used ? "; " : "", (unsigned long long)pages, size_text(kib << 10).text,
			(unsigned long long)free_pages,
			kib << 10 > CHUNK_MAX ? " (for allocations of such size alone)" : "");
	}
	if (dir)
		closedir(dir);
	report_fact(report, "hugepages", "%s", used ? words : "none (optional)");
	report_member_number(report, "free_hugepage_bytes", bytes);
}

/* ---- QEMU ---- */

/* Where a program lies in the search path; false when nowhere. */
static bool program_find(const char *program, char *path, size_t size)
{
	const char *at = getenv("PATH");

	while (at && *at) {
		size_t length = strcspn(at, ":");

		snprintf(path, size, "%.*s/%s", (int)length, at, program);
		if (length && access(path, X_OK) == 0)
			return true;
		at += length + (at[length] == ':');
	}
	return false;
}

static void report_qemu(struct report *report)
{
	char path[1024];
	bool found = program_find(QEMU, path, sizeof(path));

	if (found)
		report_fact(report, "QEMU", "%s (backend qemu: models of devices, no root needed)",
			    path);
	else
		report_fact(report, "QEMU",
			    "none: the backend qemu wants " QEMU " (Debian: qemu-system-x86)");
	if (found)
		report_member_text(report, "qemu", path);
	else
		report_member_null(report, "qemu");
}

void report_machine(struct report *report, const char *usable)
{
	report_facts(report, "machine");
	report_iommu(report, usable);
	report_locked_memory(report);
	report_hugepages(report);
	report_qemu(report);
}
