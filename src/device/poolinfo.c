/* SPDX-License-Identifier: MIT */
/*
 * poolinfo.c - a device's pools as the text of the kernel's sysfs file `pools`
 *
 * Format: mm/dmapool.c, pools_show().
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "device/device.h"

/* Append, as far as there is room; the length that it has. */
static size_t append(char *text, size_t size, size_t used, const char *line)
{
	size_t room = used < size ? size - used : 0;

	return (size_t)snprintf(room ? text + used : NULL, room, "%s", line);
}

size_t dmaland_show_pools(struct dmaland_device *dev, char *text, size_t size)
{
	struct dmaland_pool_stats *stats;
	size_t n, used;

	if (dmaland_check(dev))
		return append(text, size, 0, "");
	n = pool_list_stats(&dev->pools, NULL, 0);
	stats = calloc(n + 1, sizeof(*stats));
	used = append(text, size, 0, "poolinfo - 0.1\n");
	if (!stats) {
		error_set(ENOMEM, "no memory for the figures of %zu pools", n);
		return used;
	}
	/* One more or less by now changes nothing but what is shown. */
	if (pool_list_stats(&dev->pools, stats, n) < n)
		n = pool_list_stats(&dev->pools, stats, n);
	for (size_t i = 0; i < n; i++) {
		char line[160];

		snprintf(line, sizeof(line), "%-16s %4zu %4zu %4zu %2zu\n", stats[i].name,
			 stats[i].in_use, stats[i].total, stats[i].block_size, stats[i].pages);
		used += append(text, size, used, line);
	}
	free(stats);
	return used;
}
