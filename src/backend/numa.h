/* SPDX-License-Identifier: MIT */
/*
 * numa.h - which memory is near a device
 *
 * A node is a number of the kernel's. None is named by NUMA_NO_NODE.
 */
#ifndef BACKEND_NUMA_H
#define BACKEND_NUMA_H

#include <stddef.h>

/*
 * The node of a PCI device. NUMA_NO_NODE where the kernel knows none, and on a machine with memory
 * on one node only, where there is nothing to choose.
 */
int numa_node_of_device(const char *address);

/*
 * Pages of this range that are faulted in from now on come from the node as long as it has any, and
 * then from others. The range is whole mappings or parts of them, and nothing of it is touched.
 * 0, or -errno without an error text.
 */
int numa_prefer(void *cpu, size_t size, int node);

#endif
