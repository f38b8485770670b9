/* SPDX-License-Identifier: MIT */
/*
 * inuse.c - who would miss a PCI device if its driver let go of it
 *
 * The kernel does not ask: a driver that is unbound drops mounted file systems and all. So before
 * `bind` and `unbind` this is looked at: block devices that lie below the device in sysfs (of any
 * kind: NVMe, SATA, USB) and what is mounted on them, swaps to them, is built on them or has them
 * open; network interfaces that are up; and programs that drive it through VFIO, for which the
 * kernel would wait.
 *
 * A namespace that can be reached by several ways lies below none of their controllers: nvme0c1n1
 * lies there, hidden, and stands for nvme0n1 (drivers/nvme/host/multipath.c).
 */
#include "pci.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "backend/sysfs.h"

#define CLASS_BLOCK "/sys/class/block"
#define CLASS_NET   "/sys/class/net"

/*
 * Directories of sysfs, resolved: the device's own, and one for each namespace of several ways.
 * @incomplete: there was no memory for one
 */
struct roots {
	char **paths;
	size_t count;
	bool incomplete;
};

static void roots_add(struct roots *roots, const char *path)
{
	char *resolved = realpath(path, NULL), **paths;

	if (!resolved) {
		roots->incomplete |= errno == ENOMEM; /* else it is gone */
		return;
	}
	paths = realloc(roots->paths, (roots->count + 1) * sizeof(*paths));
	if (!paths) {
		roots->incomplete = true;
		free(resolved);
		return;
	}
	roots->paths = paths;
	paths[roots->count++] = resolved;
}

static void roots_free(struct roots *roots)
{
	while (roots->count)
		free(roots->paths[--roots->count]);
	free(roots->paths);
}

/* Is what PATH links to one of the roots, or below one? */
static bool roots_have(const struct roots *roots, const char *path)
{
	char *resolved = realpath(path, NULL);
	bool found = false;

	for (size_t i = 0; resolved && i < roots->count && !found; i++) {
		size_t length = strlen(roots->paths[i]);

		found = strncmp(resolved, roots->paths[i], length) == 0 &&
			(resolved[length] == '/' || resolved[length] == '\0');
	}
	free(resolved);
	return found;
}

static const char *entry_next(DIR *dir)
{
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			return entry->d_name;
	return NULL;
}

/* The namespaces that the hidden ways below the device lead to. */
static void roots_add_heads(struct roots *roots)
{
	unsigned int subsystem, controller, ns;
	DIR *dir = opendir(CLASS_BLOCK);
	const char *name;
	char path[320];

	while ((name = entry_next(dir))) {
		if (sscanf(name, "nvme%uc%un%u", &subsystem, &controller, &ns) != 3)
			continue;
		snprintf(path, sizeof(path), CLASS_BLOCK "/%s", name);
		if (!roots_have(roots, path))
			continue;
		snprintf(path, sizeof(path), CLASS_BLOCK "/nvme%un%u", subsystem, ns);
		roots_add(roots, path);
	}
	if (dir)
		closedir(dir);
}

/* ---- processes ---- */

/* The process that has the device file RDEV open, other than we: "process 12 (dd)". */
static bool process_find(mode_t kind, dev_t rdev, char *words, size_t size)
{
	DIR *processes = opendir("/proc"), *fds;
	char path[320], name[64] = "";
	const char *pid, *fd;
	bool found = false;
	struct stat stat_;
	FILE *file;

	while (!found && (pid = entry_next(processes))) {
		if (strspn(pid, "0123456789") != strlen(pid) || atoi(pid) == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/%s/fd", pid);
		fds = opendir(path);
		while (!found && (fd = entry_next(fds))) {
			snprintf(path, sizeof(path), "/proc/%s/fd/%s", pid, fd);
			found = stat(path, &stat_) == 0 && (stat_.st_mode & S_IFMT) == kind &&
				stat_.st_rdev == rdev;
		}
		if (fds)
			closedir(fds);
		if (!found)
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", pid);
		file = fopen(path, "re");
		if (file && fgets(name, sizeof(name), file))
			name[strcspn(name, "\n")] = '\0';
		if (file)
			fclose(file);
		snprintf(words, size, "process %s (%s)", pid, name);
	}
	if (processes)
		closedir(processes);
	return found;
}

/* ---- block devices ---- */

static bool is_device(const char *path, dev_t dev)
{
	struct stat stat_;

	return stat(path, &stat_) == 0 && S_ISBLK(stat_.st_mode) && stat_.st_rdev == dev;
}

/*
 * By number; or by the source, since file systems on several devices, such as btrfs, have numbers
 * of their own (proc_pid_mountinfo(5)).
 */
static bool mount_find(const char *name, dev_t dev, char *words, size_t size)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, point[PATH_MAX], source[PATH_MAX];
	unsigned int major_, minor_;
	bool found = false;
	size_t room = 0;

	while (!found && file && getline(&line, &room, file) > 0) {
		const char *rest = strstr(line, " - ");

		if (!rest || sscanf(line, "%*d %*d %u:%u %*s %4095s", &major_, &minor_, point) != 3)
			continue;
		if (sscanf(rest, " - %*s %4095s", source) != 1)
			source[0] = '\0';
		found = makedev(major_, minor_) == dev || is_device(source, dev);
		if (found)
			snprintf(words, size, "%s is mounted on %s; umount %s", name, point, point);
	}
	free(line);
	if (file)
		fclose(file);
	return found;
}

static bool swap_find(const char *name, dev_t dev, char *words, size_t size)
{
	FILE *file = fopen("/proc/swaps", "re");
	char *line = NULL, path[PATH_MAX];
	bool found = false;
	size_t room = 0;

	while (!found && file && getline(&line, &room, file) > 0) {
		found = sscanf(line, "%4095s", path) == 1 && is_device(path, dev);
		if (found)
			snprintf(words, size, "%s is swap space; swapoff %s", name, path);
	}
	free(line);
	if (file)
		fclose(file);
	return found;
}

/* Device mapper (LVM, encryption), RAID and their like name themselves as holders. */
static bool holder_find(const char *name, char *words, size_t size)
{
	char path[320], title[128] = "";
	const char *holder;
	FILE *file;
	DIR *dir;

	snprintf(path, sizeof(path), CLASS_BLOCK "/%s/holders", name);
	dir = opendir(path);
	holder = entry_next(dir);
	if (!holder) {
		if (dir)
			closedir(dir);
		return false;
	}
	snprintf(path, sizeof(path), CLASS_BLOCK "/%s/dm/name", holder);
	file = fopen(path, "re");
	if (file && fgets(title, sizeof(title), file))
		title[strcspn(title, "\n")] = '\0';
	if (file)
		fclose(file);
	if (title[0])
		snprintf(words, size,
			 "%s is part of /dev/mapper/%s (LVM, encryption or another mapping); "
			 "vgchange -an its group, or dmsetup remove %s",
			 name, title, title);
	else
		snprintf(words, size,
			 "%s is part of /dev/%s; stop that (RAID: mdadm --stop /dev/%s)", name,
			 holder, holder);
	closedir(dir);
	return true;
}

/* Who claims a block device, or a part of it, for himself, keeps us from doing so (open(2)). */
static bool opener_find(const char *name, dev_t dev, char *words, size_t size)
{
	char path[320], process[96];
	int fd;

	if (process_find(S_IFBLK, dev, process, sizeof(process))) {
		snprintf(words, size, "%s is open in %s; end that", name, process);
		return true;
	}
	snprintf(path, sizeof(path), "/dev/%s", name);
	fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	if (fd >= 0 || errno != EBUSY)
		return false;
	snprintf(words, size, "%s is in use by something in the kernel (btrfs? ZFS?); stop that",
		 name);
	return true;
}

static bool block_number(const char *name, dev_t *dev)
{
	unsigned int major_, minor_;
	char path[320];
	FILE *file;
	int n;

	snprintf(path, sizeof(path), CLASS_BLOCK "/%s/dev", name);
	file = fopen(path, "re");
	if (!file)
		return false;
	n = fscanf(file, "%u:%u", &major_, &minor_);
	fclose(file);
	if (n == 2)
		*dev = makedev(major_, minor_);
	return n == 2;
}

static bool block_in_use(const char *name, char *words, size_t size)
{
	dev_t dev;

	return block_number(name, &dev) &&
	       (mount_find(name, dev, words, size) || swap_find(name, dev, words, size) ||
		holder_find(name, words, size));
}

static bool block_is_open(const char *name, char *words, size_t size)
{
	dev_t dev;

	return block_number(name, &dev) && opener_find(name, dev, words, size);
}

/* ---- network interfaces ---- */

static bool net_in_use(const char *name, char *words, size_t size)
{
	unsigned int flags = 0;
	char path[320];
	FILE *file;

	snprintf(path, sizeof(path), CLASS_NET "/%s/flags", name);
	file = fopen(path, "re");
	if (file && fscanf(file, "%x", &flags) != 1)
		flags = 0;
	if (file)
		fclose(file);
	if (!(flags & IFF_UP))
		return false;
	snprintf(words, size, "the network interface %s is up; ip link set %s down", name, name);
	return true;
}

/* ---- VFIO ---- */

/* A group can be opened once: EBUSY says that somebody has. */
static bool vfio_in_use(const struct pci_entry *entry, char *words, size_t size)
{
	char path[64], process[96];
	struct stat stat_;
	int fd;

	snprintf(path, sizeof(path), "/dev/vfio/%d", entry->group);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	if (fd >= 0 || errno != EBUSY)
		return false;
	if (stat(path, &stat_) || !process_find(S_IFCHR, stat_.st_rdev, process, sizeof(process)))
		snprintf(process, sizeof(process), "another process");
	snprintf(words, size, "%s drives it, or another device of its group; end that", process);
	return true;
}

/* The first of CLASS that lies below the device and is in use. */
static bool class_in_use(const struct roots *roots, const char *class,
			 bool (*in_use)(const char *name, char *words, size_t size), char *words,
			 size_t size)
{
	DIR *dir = opendir(class);
	const char *name;
	bool found = false;
	char path[320];

	while (!found && (name = entry_next(dir))) {
		snprintf(path, sizeof(path), "%s/%s", class, name);
		found = roots_have(roots, path) && in_use(name, words, size);
	}
	if (dir)
		closedir(dir);
	return found;
}

bool pci_in_use(const struct pci_entry *entry, char *words, size_t size)
{
	struct roots roots = {0};
	char path[96];
	bool found;

	if (sysfs_driver_is_vfio(entry->driver))
		return vfio_in_use(entry, words, size);
	snprintf(path, sizeof(path), PCI_BUS "/devices/%s", entry->address);
	roots_add(&roots, path);
	roots_add_heads(&roots);
	/* a disk is claimed when a partition is: who that is says more */
	found = class_in_use(&roots, CLASS_BLOCK, block_in_use, words, size) ||
		class_in_use(&roots, CLASS_BLOCK, block_is_open, words, size) ||
		class_in_use(&roots, CLASS_NET, net_in_use, words, size);
	if (!found && roots.incomplete)
		snprintf(words, size, "there is no memory to see who uses it");
	roots_free(&roots);
	return found || roots.incomplete;
}
