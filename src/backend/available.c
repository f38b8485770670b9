/* SPDX-License-Identifier: MIT */
/*
 * available.c - is there memory to be had?
 */
#include "backend/available.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

#define MIB	   ((uint64_t)1 << 20)
#define LOOK_EVERY ((size_t)4 << 20)
#define SPARE	   (16 * MIB) /* for who takes memory meanwhile, and the library's bookkeeping */
#define TEXT_SIZE  4096	      /* of a file; threads may have small stacks */
#define PATH_SIZE  1024
#define UNLIMITED_FROM                                                                             \
	(UINT64_C(1) << 62) /* what version 1 says where there is no limit, rounded */

const char *memory_root = "/";

static size_t granted; /* since the last look */

struct cgroup_version {
	const char *controller; /* its line in /proc/self/cgroup */
	const char *mount, *limit, *usage, *active, *inactive;
};

/* Linux: Documentation/admin-guide/cgroup-v2.rst, and cgroup-v1/memory.rst. Of "total_" are those below it, too. */
static const struct cgroup_version versions[] = {
	{"", "sys/fs/cgroup", "memory.max", "memory.current", "active_file", "inactive_file"},
	{"memory", "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
	 "total_active_file", "total_inactive_file"},
};

/* No stdio, which has buffers to allocate. */
static bool file_read(const char *path, char text[TEXT_SIZE])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t n;

	if (fd < 0)
		return false;
	while ((n = read(fd, text + length, TEXT_SIZE - 1 - length)) > 0)
		length += (size_t)n;
	close(fd);
	text[length] = '\0';
	return length > 0;
}

/* The number behind a line's first word; false when there is no such line. */
static bool number_of(const char *text, const char *word, uint64_t *number)
{
	size_t length = strlen(word);

	for (; text; text = strchr(text, '\n')) {
		if (*text == '\n')
			text++;
		if (strncmp(text, word, length) == 0 &&
		    sscanf(text + length, " %" SCNu64, number) == 1)
			return true;
	}
	return false;
}

static bool file_number(const char *directory, const char *name, uint64_t *number)
{
	char path[PATH_SIZE], text[TEXT_SIZE];

	snprintf(path, sizeof(path), "%.900s/%s", directory, name);
	return file_read(path, text) && sscanf(text, "%" SCNu64, number) == 1;
}

/* What the kernel takes back before it says that there is none left. */
static uint64_t file_cache(const struct cgroup_version *version, const char *directory)
{
	char path[PATH_SIZE], text[TEXT_SIZE];
	uint64_t active = 0, inactive = 0;

	snprintf(path, sizeof(path), "%.900s/memory.stat", directory);
	if (!file_read(path, text))
		return 0;
	number_of(text, version->active, &active);
	number_of(text, version->inactive, &inactive);
	return active + inactive;
}

static int cgroup_check(const struct cgroup_version *version, const char *directory, size_t size)
{
	uint64_t limit, usage, cache;

	if (!file_number(directory, version->limit, &limit) || limit >= UNLIMITED_FROM ||
	    !file_number(directory, version->usage, &usage))
		return 0;
	cache = file_cache(version, directory);
	usage -= cache < usage ? cache : usage;
	if (usage <= limit && limit - usage >= SPARE && size <= limit - usage - SPARE)
		return 0;
	return error_set(ENOMEM,
			 "%zu KiB of memory were asked, and the cgroup %.300s may have %" PRIu64
			 " MiB (%s), of which %" PRIu64 " MiB are in use and %" PRIu64
			 " MiB are to be left: raise the limit (MemoryMax= in the unit), or free "
			 "memory",
			 size >> 10, directory, limit / MIB, version->limit, usage / MIB,
			 SPARE / MIB);
}

/* From the process's own up to where they are mounted; in a container that may be below what is said here. */
static int cgroups_check(const struct cgroup_version *version, const char *root, const char *path,
			 size_t size)
{
	char directory[PATH_SIZE];
	size_t mount =
		(size_t)snprintf(directory, sizeof(directory), "%.300s%s", root, version->mount);
	char *slash;
	int err;

	snprintf(directory + mount, sizeof(directory) - mount, "%.500s", path);
	for (;;) {
		err = cgroup_check(version, directory, size);
		slash = strrchr(directory + mount, '/');
		if (err || !slash)
			return err;
		*slash = '\0';
	}
}

/* Is it among those between commas? */
static bool is_listed(const char *list, const char *name)
{
	size_t length = strlen(name);

	for (;; list++) {
		size_t n = strcspn(list, ",");

		if (n == length && memcmp(list, name, n) == 0)
			return true;
		list += n;
		if (!*list)
			return false;
	}
}

/* A line of /proc/self/cgroup: ID:CONTROLLERS:PATH. */
static int line_check(const char *root, char *line, size_t size)
{
	char *controllers = strchr(line, ':'), *path;
	int err = 0;

	path = controllers ? strchr(controllers + 1, ':') : NULL;
	if (!path)
		return 0;
	*path++ = '\0';
	for (size_t i = 0; !err && i < sizeof(versions) / sizeof(versions[0]); i++)
		if (is_listed(controllers + 1, versions[i].controller))
			err = cgroups_check(&versions[i], root, path, size);
	return err;
}

static int system_check(const char *root, size_t size)
{
	char path[PATH_SIZE], text[TEXT_SIZE];
	uint64_t kib;

	snprintf(path, sizeof(path), "%.300sproc/meminfo", root);
	if (!file_read(path, text) || !number_of(text, "MemAvailable:", &kib))
		return 0;
	if (kib >= SPARE >> 10 && size >> 10 <= kib - (SPARE >> 10))
		return 0;
	return error_set(ENOMEM,
			 "%zu KiB of memory were asked, and the system has %" PRIu64
			 " MiB available (MemAvailable), of which %" PRIu64
			 " MiB are to be left: free memory, or ask for less",
			 size >> 10, kib >> 10, SPARE / MIB);
}

int memory_look(const char *root, size_t size)
{
	char path[PATH_SIZE], text[TEXT_SIZE], *line, *rest;
	int err = system_check(root, size);

	snprintf(path, sizeof(path), "%.300sproc/self/cgroup", root);
	if (err || !file_read(path, text))
		return err;
	for (line = strtok_r(text, "\n", &rest); line && !err; line = strtok_r(NULL, "\n", &rest))
		err = line_check(root, line, size);
	return err;
}

int memory_check(size_t size)
{
	size_t sum = __atomic_add_fetch(&granted, size, __ATOMIC_RELAXED);
	int err;

	if (sum >= size && sum <= LOOK_EVERY)
		return 0;
	err = memory_look(memory_root, size);
	if (err)
		__atomic_fetch_sub(&granted, size, __ATOMIC_RELAXED);
	else
		__atomic_store_n(&granted, 0, __ATOMIC_RELAXED);
	return err;
}
