/* SPDX-License-Identifier: MIT */
/*
 * available.h - is there memory to be had?
 *
 * The kernel does not refuse memory to a process, it ends one when there is none left. The library's is
 * populated when it is taken, so a large piece would do that at once. Whoever populates asks here before.
 */
#ifndef BACKEND_AVAILABLE_H
#define BACKEND_AVAILABLE_H

#include <stddef.h>

/*
 * Are size bytes more available, and some to spare? The answer is looked up once in 4 MiB that were
 * granted; what can't be looked up is no limit. 0, or -ENOMEM in words.
 */
int memory_check(size_t size);

/*
 * Look now: the system's MemAvailable, and the limit of each cgroup up the tree, of both versions, less
 * what is in use and is not the cache of files. In proc/ and sys/ of a directory, whose name ends in /.
 */
int memory_look(const char *root, size_t size);

/* Where memory_check() looks: "/", but for tests. */
extern const char *memory_root;

#endif
