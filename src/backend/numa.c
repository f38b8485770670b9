/* SPDX-License-Identifier: MIT */
/*
 * numa.c - which memory is near a device
 *
 * mbind(2) is called as it is: libc has no wrapper for it, and libnuma would be a library more.
 */
#include "backend/numa.h"

#include <errno.h>
#include <limits.h>
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <dmaland/types.h>
#include "backend/sysfs.h"

enum {
	NODES = 1024, /* more than any kernel is built for: CONFIG_NODES_SHIFT is 10 at most */
	WORD_BITS = sizeof(unsigned long) * CHAR_BIT,
};

int numa_node_of_device(const char *address)
{
	int node = sysfs_numa_node(address);

	return node >= 0 && node < NODES && sysfs_has_several_nodes() ? node : NUMA_NO_NODE;
}

int numa_prefer(void *cpu, size_t size, int node)
{
	unsigned long mask[NODES / WORD_BITS] = {0};

	if (node < 0 || node >= NODES)
		return -EINVAL;
	mask[(unsigned int)node / WORD_BITS] = 1UL << ((unsigned int)node % WORD_BITS);
	/* The kernel takes one bit less than it is told that there are. */
	return syscall(SYS_mbind, cpu, size, MPOL_PREFERRED, mask, NODES + 1UL, 0U) ? -errno : 0;
}
