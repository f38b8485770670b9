/* SPDX-License-Identifier: MIT */
/*
 * openfiles.h - files in /dev, and who has them open
 */
#ifndef OPENFILES_H
#define OPENFILES_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* @incomplete: there was no memory for one */
struct files {
	struct file {
		mode_t kind; /* S_IFBLK, S_IFCHR */
		dev_t rdev;
		char name[64]; /* below /dev */
	} * list;
	size_t count;
	bool incomplete;
};

void files_add(struct files *files, mode_t kind, dev_t rdev, const char *name);

/* Those of all devices that lie below a directory of sysfs. */
void files_add_below(struct files *files, const char *dir);

/* A file that a process other than we has open, and which process: "process 12 (dd)". NULL: none. */
const struct file *process_find(const struct files *files, char *words, size_t size);

/* The first line of a file in a directory that begins so, without that; false when there is none. */
bool line_find(const char *dir, const char *name, const char *begin, char *text, size_t size);

/* The next name in a directory, which may be NULL, but for those that begin with a dot. */
const char *entry_next(DIR *dir);

#endif
