/* SPDX-License-Identifier: MIT */
/*
 * bind.c - `dmaland bind` and `dmaland unbind`: a device given to user space, and back
 *
 * A device's driver_override names the only driver that may take it (kernel:
 * Documentation/ABI/testing/sysfs-bus-pci). So `bind` is three writes to sysfs, and `unbind` the
 * same with an empty name. The writes are listed first, and either printed or done. One that fails
 * is answered by undoing those before it.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/sysfs.h"
#include "command.h"
#include "pci.h"

extern char **environ;

/* @driver: that shall take the devices; NULL: the kernel's own; @any_vfio: nobody has named it */
struct binding {
	const char *driver;
	bool any_vfio, dry_run;
};

static bool driver_is_loaded(const char *driver)
{
	char path[128];

	snprintf(path, sizeof(path), PCI_BUS "/drivers/%s", driver);
	return access(path, F_OK) == 0;
}

/* False: there is no modprobe. What it has to say, it has said itself. */
static bool modprobe_run(const char *path, const char *module)
{
	char *const words[] = {(char *)"modprobe", (char *)(uintptr_t)module, NULL};
	pid_t pid;
	int status;

	if (posix_spawnp(&pid, path, NULL, NULL, words, environ))
		return false;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return true;
}

/* Some search paths have no /sbin. */
static int driver_load(const struct binding *binding)
{
	if (driver_is_loaded(binding->driver))
		return STATUS_OK;
	if (binding->dry_run) {
		printf("modprobe %s\n", binding->driver);
		return STATUS_OK;
	}
	if (!modprobe_run("modprobe", binding->driver))
		modprobe_run("/sbin/modprobe", binding->driver);
	if (driver_is_loaded(binding->driver))
		return STATUS_OK;
	return fail("the kernel has no driver '%s', and 'modprobe %s' brings none", binding->driver,
		    binding->driver);
}

/* One write: printed as a shell would do it, or done. 0, or a status with the user told. */
static int sysfs_write(const struct binding *binding, const char *path, const char *text)
{
	size_t length = strlen(text);
	int fd, status = STATUS_OK;

	if (binding->dry_run) {
		printf("echo %s%s> %s\n", text, text[0] ? " " : "", path);
		return STATUS_OK;
	}
	fd = open(path, O_WRONLY | O_CLOEXEC);
	/* an empty name is a line, as a write of no bytes does not reach the file */
	if (fd < 0 || write(fd, length ? text : "\n", length ? length : 1) < 0)
		status = fail("cannot write '%s' to %s: %s", text, path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return status;
}

static int override_write(const struct binding *binding, const char *address, const char *driver)
{
	char path[96];

	snprintf(path, sizeof(path), PCI_BUS "/devices/%s/driver_override", address);
	return sysfs_write(binding, path, driver);
}

/* Where no driver was named, any of VFIO's does. */
static bool device_has_driver(const struct binding *binding, const struct pci_entry *entry)
{
	if (binding->any_vfio && sysfs_driver_is_vfio(entry->driver))
		return true;
	return strcmp(entry->driver, binding->driver) == 0;
}

/* nvme's own word for the state of the device; false when nvme does not have it. */
static bool nvme_state(const char *address, char *state, size_t size)
{
	char pattern[96];
	bool found;
	glob_t paths;

	snprintf(pattern, sizeof(pattern), PCI_BUS "/devices/%s/nvme/nvme*/state", address);
	found = glob(pattern, 0, NULL, &paths) == 0 &&
		pci_text(address,
			 paths.gl_pathv[0] + strlen(PCI_BUS "/devices/") + strlen(address) + 1,
			 state, size);
	globfree(&paths);
	return found;
}

/*
 * The driver that has the device, "" for none, once nvme has looked at it: before Linux 6.4 nvme takes whatever it is
 * given, and lets go of what is no drive a moment later; its state is gone before its hold is. Who has the device by
 * then loses it.
 */
static void driver_settle(const char *address, char *driver, size_t size)
{
	enum { TRIES = 100, WAIT_MS = 50 };
	char state[16];

	for (int i = 0; i < TRIES; i++) {
		if (pci_link(address, "driver", driver, size))
			driver[0] = '\0';
		if (strcmp(driver, "nvme") != 0 ||
		    (nvme_state(address, state, sizeof(state)) && strcmp(state, "live") == 0))
			break;
		poll(NULL, 0, WAIT_MS);
	}
}

/* Who may take a device, and none of its drivers now. */
static int device_move(const struct binding *binding, const struct pci_entry *entry)
{
	const char *driver = binding->driver ? binding->driver : "";
	char path[96], bound[sizeof(entry->driver)];
	int status = override_write(binding, entry->address, driver);

	if (binding->dry_run)
		snprintf(bound, sizeof(bound), "%s", entry->driver);
	else
		driver_settle(entry->address, bound, sizeof(bound));
	if (!status && bound[0]) {
		snprintf(path, sizeof(path), PCI_BUS "/devices/%s/driver/unbind", entry->address);
		status = sysfs_write(binding, path, entry->address);
	}
	return status ? status : sysfs_write(binding, PCI_BUS "/drivers_probe", entry->address);
}

/* It did not go as it should, and was said: the driver before shall have it. STATUS_FAILED. */
static int device_restore(const struct binding *binding, const struct pci_entry *entry,
			  const char *override)
{
	char driver[64];

	override_write(binding, entry->address, override);
	sysfs_write(binding, PCI_BUS "/drivers_probe", entry->address);
	if (pci_link(entry->address, "driver", driver, sizeof(driver)))
		return fail("%s is bound to no driver now", entry->address);
	return fail("%s is bound to %s", entry->address, driver);
}

/* "(null)" is what the kernel prints for none. */
static void override_read(const char *address, char *override, size_t size)
{
	if (!pci_text(address, "driver_override", override, size) ||
	    strcmp(override, "(null)") == 0)
		override[0] = '\0';
}

static void say_group(const struct pci_entry *entry)
{
	if (entry->blockers[0])
		fail("%s shares group %d with %s: none of the group can be used until those are "
		     "bound to vfio-pci too",
		     entry->address, entry->group, entry->blockers);
}

static int device_bind(const struct binding *binding, const struct pci_entry *entry)
{
	char override[64], driver[64];
	int status;

	if (device_has_driver(binding, entry)) {
		if (!binding->dry_run)
			printf("%s is bound to %s already\n", entry->address, entry->driver);
		say_group(entry);
		return STATUS_OK;
	}
	override_read(entry->address, override, sizeof(override));
	status = device_move(binding, entry);
	if (binding->dry_run || status) {
		if (status)
			device_restore(binding, entry, override);
		say_group(entry);
		return status;
	}
	driver_settle(entry->address, driver, sizeof(driver));
	if (strcmp(driver, binding->driver) != 0) {
		fail("%s does not take %s%s (dmesg may say more)", binding->driver, entry->address,
		     entry->group < 0 && sysfs_driver_is_vfio(binding->driver)
			     ? ", which is behind no IOMMU: turn on VT-d or AMD-Vi in the "
			       "firmware, and boot with intel_iommu=on"
			     : "");
		return device_restore(binding, entry, override);
	}
	printf("%s is bound to %s; before: %s\n", entry->address, driver,
	       entry->driver[0] ? entry->driver : "no driver");
	say_group(entry);
	return STATUS_OK;
}

/* Bound as it would be without us: so there is nothing to give back. */
static bool device_is_the_kernels(const struct pci_entry *entry)
{
	char override[64];

	override_read(entry->address, override, sizeof(override));
	return !override[0] && entry->driver[0] && !sysfs_driver_is_vfio(entry->driver);
}

static int device_unbind(const struct binding *binding, const struct pci_entry *entry)
{
	char override[64], driver[64];
	int status;

	if (device_is_the_kernels(entry)) {
		if (!binding->dry_run)
			printf("%s is bound to %s already\n", entry->address, entry->driver);
		return STATUS_OK;
	}
	override_read(entry->address, override, sizeof(override));
	status = device_move(binding, entry);
	if (status)
		return device_restore(binding, entry, override);
	if (binding->dry_run)
		return STATUS_OK;
	driver_settle(entry->address, driver, sizeof(driver));
	if (!driver[0])
		printf("%s is bound to no driver: none that is loaded takes it\n", entry->address);
	else
		printf("%s is bound to %s\n", entry->address, driver);
	return STATUS_OK;
}

/* What is known to stand in the way, before anything is written. */
static int device_check(const struct binding *binding, const struct pci_entry *entry,
			const char *command)
{
	char words[5 * PATH_MAX + 128];
	char path[96];

	if (entry->obstacle == OBSTACLE_BRIDGE)
		return fail("%s is a bridge (%s): the devices behind it need its driver",
			    entry->address, entry->name);
	if (!binding->driver && device_is_the_kernels(entry))
		return STATUS_OK;
	if (sysfs_virtual_functions(entry->address) &&
	    (!binding->driver || !device_has_driver(binding, entry)))
		return fail("%s stays bound to %s: %u virtual functions of it are on, which a "
			    "change of its driver would take away or leave without one; give them "
			    "up first: echo 0 > " PCI_BUS "/devices/%s/sriov_numvfs",
			    entry->address, entry->driver[0] ? entry->driver : "no driver",
			    sysfs_virtual_functions(entry->address), entry->address);
	if (entry->driver[0] && (!binding->driver || !device_has_driver(binding, entry)) &&
	    pci_in_use(entry, words, sizeof(words)))
		return fail("%s stays bound to %s: %s", entry->address, entry->driver, words);
	snprintf(path, sizeof(path), PCI_BUS "/devices/%s/driver_override", entry->address);
	if (binding->dry_run || access(path, W_OK) == 0)
		return STATUS_OK;
	if (errno == EACCES)
		return fail("only root can change a device's driver: sudo dmaland %s %s", command,
			    entry->address);
	return fail("cannot write to %s: %s", path, strerror(errno));
}

/* The devices that are named, each once, however often and in whatever spelling. */
static int entries_find(const struct pci_list *list, const struct arguments *arguments,
			struct pci_entry **entries, int *count)
{
	*count = 0;
	for (int i = 0; i < arguments->operand_count; i++) {
		struct pci_entry *entry = pci_find(list, arguments->operands[i]);
		int at = 0;

		if (!entry)
			return STATUS_FAILED;
		while (at < *count && entries[at] != entry)
			at++;
		if (at == *count)
			entries[(*count)++] = entry;
	}
	return STATUS_OK;
}

/* All are looked at before the first is touched. */
static int devices_move(const struct binding *binding, struct pci_entry *const *entries, int count,
			const char *command)
{
	int status = STATUS_OK;

	for (int i = 0; i < count && !status; i++)
		status = device_check(binding, entries[i], command);
	if (!status && binding->driver)
		status = driver_load(binding);
	for (int i = 0; i < count && !status; i++)
		status = binding->driver ? device_bind(binding, entries[i])
					 : device_unbind(binding, entries[i]);
	return status;
}

static int binding_run(const struct binding *binding, const struct arguments *arguments,
		       const char *command)
{
	size_t operands = (size_t)arguments->operand_count;
	struct pci_entry **entries = calloc(operands, sizeof(struct pci_entry *));
	struct pci_list list = {0};
	int count, status;

	if (!entries)
		return fail("no memory for %zu devices", operands);
	status = pci_bus_exists() ? pci_list_read(&list) : fail("%s", pci_bus_missing());
	if (!status)
		status = entries_find(&list, arguments, entries, &count);
	if (!status)
		status = devices_move(binding, entries, count, command);
	free(entries);
	free(list.entries);
	return status;
}

static int bind_run(const struct arguments *arguments)
{
	struct binding binding = {.driver = arguments->driver ? arguments->driver : "vfio-pci",
				  .any_vfio = !arguments->driver,
				  .dry_run = arguments_have(arguments, 'D')};

	if (strchr(binding.driver, '/') || !binding.driver[0])
		return usage_error("bind", "'%s' is no driver's name", binding.driver);
	return binding_run(&binding, arguments, "bind");
}

static int unbind_run(const struct arguments *arguments)
{
	struct binding binding = {.dry_run = arguments_have(arguments, 'D')};

	return binding_run(&binding, arguments, "unbind");
}

const struct command bind_command = {
	.name = "bind",
	.summary = "give a device to user space",
	.options = "BD",
	.operands = "ADDRESS...",
	.least = 1,
	.most = -1,
	.help = "Take PCI devices from the kernel's driver and bind them to vfio-pci. A device\n"
		"in use (a mounted file system, swap, RAID, LVM, a network interface that is\n"
		"up, a program) is refused.\n\n"
		"      --driver=NAME  the driver to bind to; vfio-pci when left out\n"
		"      --dry-run      print what would be done, as lines for a shell\n\n"
		"More: man dmaland\n",
	.run = bind_run,
};

const struct command unbind_command = {
	.name = "unbind",
	.summary = "give a device back to the kernel",
	.options = "D",
	.operands = "ADDRESS...",
	.least = 1,
	.most = -1,
	.help = "Give PCI devices back to the kernel's drivers. One that a program drives is\n"
		"refused.\n\n"
		"      --dry-run  print what would be done, as lines for a shell\n\n"
		"More: man dmaland\n",
	.run = unbind_run,
};
