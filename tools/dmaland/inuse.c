/* SPDX-License-Identifier: MIT */
/*
 * inuse.c - who would miss a PCI device if its driver let go of it
 *
 * The kernel does not ask: a driver that is unbound drops mounted file systems and all. So before
 * `bind` and `unbind` this is looked at: block devices that lie below the device in sysfs (of any
 * kind: NVMe, SATA, USB) and what is mounted on them, swaps to them or is built on them; programs
 * that have the file of any device below it open, be it of blocks or of characters (a disk, a tty, a
 * keyboard, a USB device of libusb's, /dev/ng0n1); network interfaces that are up; and programs that
 * drive it through VFIO, for which the kernel would wait.
 *
 * A namespace that can be reached by several ways lies below none of their controllers: nvme0c1n1
 * lies there, hidden, and stands for nvme0n1 (drivers/nvme/host/multipath.c).
 */
#include "pci.h"

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
#include "command.h"
#include "openfiles.h"

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
		snprintf(path, sizeof(path), "/sys/class/nvme-generic/ng%un%u", subsystem, ns);
		roots_add(roots, path);
	}
	if (dir)
		closedir(dir);
}

static bool files_in_use(const struct files *files, char *words, size_t size)
{
	char process[96];
	const struct file *file = process_find(files, process, sizeof(process));

	if (file)
		snprintf(words, size, "%s%s is open in %s; end that",
			 file->kind == S_IFCHR ? "/dev/" : "", file->name, process);
	return file;
}

/* ---- block devices ---- */

/* In lists of mounts and swaps, blanks and their like are octal numbers: "/mnt/my\040disk" (proc_pid_mountinfo(5)). */
static void octals_decode(char *text)
{
	char *to = text;

	for (const char *from = text; *from; to++) {
		unsigned int byte;
		int length = 0;

		if (sscanf(from, "\\%3o%n", &byte, &length) == 1 && length == 4 && byte) {
			*to = (char)byte;
			from += length;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

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
	char *line = NULL, point[PATH_MAX], source[PATH_MAX], word[4 * PATH_MAX + 4];
	unsigned int major_, minor_;
	bool found = false;
	size_t room = 0;

	while (!found && file && getline(&line, &room, file) > 0) {
		const char *rest = strstr(line, " - ");

		if (!rest || sscanf(line, "%*d %*d %u:%u %*s %4095s", &major_, &minor_, point) != 3)
			continue;
		if (sscanf(rest, " - %*s %4095s", source) != 1)
			source[0] = '\0';
		octals_decode(point);
		octals_decode(source);
		found = makedev(major_, minor_) == dev || is_device(source, dev);
		if (!found)
			continue;
		shell_word(point, word, sizeof(word));
		snprintf(words, size, "%s is mounted on %s; umount %s", name, point, word);
	}
	free(line);
	if (file)
		fclose(file);
	return found;
}

static bool swap_find(const char *name, dev_t dev, char *words, size_t size)
{
	FILE *file = fopen("/proc/swaps", "re");
	char *line = NULL, path[PATH_MAX], word[4 * PATH_MAX + 4];
	bool found = false;
	size_t room = 0;

	while (!found && file && getline(&line, &room, file) > 0) {
		if (sscanf(line, "%4095s", path) != 1)
			continue;
		octals_decode(path);
		found = is_device(path, dev);
		shell_word(path, word, sizeof(word));
		if (found)
			snprintf(words, size, "%s is swap space; swapoff %s", name, word);
	}
	free(line);
	if (file)
		fclose(file);
	return found;
}

/* Device mapper (LVM, encryption), RAID and their like name themselves as holders. */
static bool holder_find(const char *name, char *words, size_t size)
{
	char path[320], title[128] = "", word[4 * 128 + 4];
	const char *holder;
	DIR *dir;

	snprintf(path, sizeof(path), CLASS_BLOCK "/%s/holders", name);
	dir = opendir(path);
	holder = entry_next(dir);
	if (!holder) {
		if (dir)
			closedir(dir);
		return false;
	}
	snprintf(path, sizeof(path), CLASS_BLOCK "/%s/dm", holder);
	shell_word(line_find(path, "name", "", title, sizeof(title)) ? title : "", word,
		   sizeof(word));
	if (title[0])
		snprintf(words, size,
			 "%s is part of /dev/mapper/%s (LVM, encryption or another mapping); "
			 "vgchange -an its group, or dmsetup remove %s",
			 name, title, word);
	else
		snprintf(words, size,
			 "%s is part of /dev/%s; stop that (RAID: mdadm --stop /dev/%s)", name,
			 holder, holder);
	closedir(dir);
	return true;
}

/* Who claims a block device, or a part of it, for himself, keeps us from doing so (open(2)). */
static bool claim_find(const char *name, char *words, size_t size)
{
	char path[320];
	int fd;

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
	char dir[320], number[32];

	snprintf(dir, sizeof(dir), CLASS_BLOCK "/%s", name);
	if (!line_find(dir, "dev", "", number, sizeof(number)) ||
	    sscanf(number, "%u:%u", &major_, &minor_) != 2)
		return false;
	*dev = makedev(major_, minor_);
	return true;
}

static bool block_in_use(const char *name, char *words, size_t size)
{
	dev_t dev;

	return block_number(name, &dev) &&
	       (mount_find(name, dev, words, size) || swap_find(name, dev, words, size) ||
		holder_find(name, words, size));
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
	struct files group = {0};
	struct stat stat_;
	int fd;

	snprintf(path, sizeof(path), "/dev/vfio/%d", entry->group);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	if (fd >= 0 || errno != EBUSY)
		return false;
	if (stat(path, &stat_) == 0)
		files_add(&group, S_IFCHR, stat_.st_rdev, path);
	if (!process_find(&group, process, sizeof(process)))
		snprintf(process, sizeof(process), "another process");
	free(group.list);
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
	bool vfio = sysfs_driver_is_vfio(entry->driver), found, incomplete;
	struct roots roots = {0};
	struct files files = {0};
	char path[96];

	snprintf(path, sizeof(path), PCI_BUS "/devices/%s", entry->address);
	roots_add(&roots, path);
	roots_add_heads(&roots);
	for (size_t i = 0; i < roots.count; i++)
		files_add_below(&files, roots.paths[i]);
	/* a disk is open or claimed when a file system is mounted: who that is says more */
	found = class_in_use(&roots, CLASS_BLOCK, block_in_use, words, size) ||
		files_in_use(&files, words, size) ||
		class_in_use(&roots, CLASS_BLOCK, claim_find, words, size) ||
		class_in_use(&roots, CLASS_NET, net_in_use, words, size) ||
		(vfio && vfio_in_use(entry, words, size));
	incomplete = roots.incomplete || files.incomplete;
	if (!found && incomplete)
		snprintf(words, size, "there is no memory to see who uses it");
	roots_free(&roots);
	free(files.list);
	return found || incomplete;
}
