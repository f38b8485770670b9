/* SPDX-License-Identifier: MIT */
/*
 * window.h - anonymous memory for a domain, all of it inside one range of addresses
 *
 * The range is reserved once and costs nothing until memory is put into it. That all of a domain's
 * memory lies in one range makes the way from an address to its page one subtraction.
 */
#ifndef BACKEND_WINDOW_H
#define BACKEND_WINDOW_H

#include <stddef.h>

#include "iova/iova.h"

/* What the page map and the codes of pools can tell apart: memory/pagemap.h. */
#define WINDOW_MAX ((size_t)63 << 30)

struct memory_window {
	char *base;
	size_t size;
	struct iova_space unused; /* CPU addresses */
	bool has_hole;		  /* some addresses may be somebody else's by now */
	int node;		  /* NUMA node that is preferred, or NUMA_NO_NODE */
};

/* Reserve addresses enough for twice the machine's memory, or as many as can be had. */
int window_open(struct memory_window *window);
void window_close(struct memory_window *window);

/*
 * Memory that is taken from now on lies on a NUMA node (or wherever the thread's lies, with
 * NUMA_NO_NODE) as long as that has any. Where the kernel does not let us prefer one, that is a
 * line in the log, and all goes on without.
 */
void window_prefer_node(struct memory_window *window, int node);

/*
 * Zeroed, faulted-in memory that a forked child does not get; aligned to align, which also the
 * size is a multiple of the page size. Hugepages where they are free and fit. -ENOMEM in words.
 */
int window_take(struct memory_window *window, size_t size, size_t align, char **cpu);
void window_give(struct memory_window *window, char *cpu, size_t size);

/* Fault all pages in, so that a shortage shows here and not at the first touch. 0 or -errno. */
int memory_populate(char *cpu, size_t size);

#endif
