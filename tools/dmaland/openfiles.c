/* SPDX-License-Identifier: MIT */
/*
 * openfiles.c - files in /dev, and who has them open
 *
 * sysfs tells the number of each device that has a file there; /proc shows which files processes have open. The numbers are
 * compared, and not the names, which may be others in a container.
 */
#include "openfiles.h"

#include <dirent.h>
#include <fts.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

const char *entry_next(DIR *dir)
{
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			return entry->d_name;
	return NULL;
}

void files_add(struct files *files, mode_t kind, dev_t rdev, const char *name)
{
	struct file *list = realloc(files->list, (files->count + 1) * sizeof(*list));

	if (!list) {
		files->incomplete = true;
		return;
	}
	files->list = list;
	list[files->count] = (struct file){.kind = kind, .rdev = rdev};
	snprintf(list[files->count].name, sizeof(list->name), "%s", name);
	files->count++;
}

bool line_find(const char *dir, const char *name, const char *begin, char *text, size_t size)
{
	char path[PATH_MAX], line[256];
	bool found = false;
	FILE *file;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path))
		return false;
	file = fopen(path, "re");
	while (file && !found && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		found = strncmp(line, begin, strlen(begin)) == 0;
	}
	if (file)
		fclose(file);
	if (found)
		snprintf(text, size, "%s", line + strlen(begin));
	return found;
}

/* A directory of sysfs that has a file "dev" is a device's with a file of its own. */
static void files_add_from(struct files *files, const char *dir)
{
	char number[32], name[64], path[PATH_MAX], subsystem[PATH_MAX];
	unsigned int major_, minor_;
	ssize_t length;

	if (!line_find(dir, "dev", "", number, sizeof(number)) ||
	    sscanf(number, "%u:%u", &major_, &minor_) != 2)
		return;
	if (!line_find(dir, "uevent", "DEVNAME=", name, sizeof(name)))
		snprintf(name, sizeof(name), "%s", strrchr(dir, '/') + 1);
	snprintf(path, sizeof(path), "%s/subsystem", dir);
	length = readlink(path, subsystem, sizeof(subsystem) - 1);
	subsystem[length > 0 ? length : 0] = '\0';
	length = length > 6 ? length - 6 : 0;
	files_add(files, strcmp(subsystem + length, "/block") == 0 ? S_IFBLK : S_IFCHR,
		  makedev(major_, minor_), name);
}

void files_add_below(struct files *files, const char *dir)
{
	char *const paths[] = {(char *)(uintptr_t)dir, NULL};
	FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	FTSENT *entry;

	files->incomplete |= !tree;
	while (tree && (entry = fts_read(tree)))
		if (entry->fts_info == FTS_D)
			files_add_from(files, entry->fts_path);
	if (tree)
		fts_close(tree);
}

/* Which of the files a descriptor of a process is, or NULL. */
static const struct file *files_match(const struct files *files, const char *path)
{
	struct stat stat_;

	if (stat(path, &stat_))
		return NULL;
	for (size_t i = 0; i < files->count; i++)
		if (files->list[i].kind == (stat_.st_mode & S_IFMT) &&
		    files->list[i].rdev == stat_.st_rdev)
			return &files->list[i];
	return NULL;
}

const struct file *process_find(const struct files *files, char *words, size_t size)
{
	DIR *processes = opendir("/proc"), *fds;
	const struct file *found = NULL;
	char path[320], name[64];
	const char *pid, *fd;

	while (!found && (pid = entry_next(processes))) {
		if (strspn(pid, "0123456789") != strlen(pid) || atoi(pid) == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/%s/fd", pid);
		fds = opendir(path);
		while (!found && (fd = entry_next(fds))) {
			snprintf(path, sizeof(path), "/proc/%s/fd/%s", pid, fd);
			found = files_match(files, path);
		}
		if (fds)
			closedir(fds);
		if (!found)
			continue;
		snprintf(path, sizeof(path), "/proc/%s", pid);
		if (!line_find(path, "comm", "", name, sizeof(name)))
			name[0] = '\0';
		snprintf(words, size, "process %s (%s)", pid, name);
	}
	if (processes)
		closedir(processes);
	return found;
}
