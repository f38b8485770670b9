/* SPDX-License-Identifier: MIT */
/*
 * ranges.c - prints the dma addresses that a device can use, as its backend reports them: "0-0xfedfffff, 0xfef00000-..."
 */
#include <stdio.h>

#include <dmaland/dmaland.h>

int main(int argc, char **argv)
{
	struct dmaland_device *dev = argc == 2 ? dmaland_open(argv[1], NULL) : NULL;
	struct dmaland_info info;

	if (!dev) {
		fprintf(stderr, "usage: %s SPEC; %s\n", argv[0], dmaland_last_error());
		return 1;
	}
	dmaland_get_info(dev, &info);
	for (size_t i = 0; i < info.range_count && i < 16; i++)
		printf("%s%#llx-%#llx", i ? ", " : "", (unsigned long long)info.ranges[i].first,
		       (unsigned long long)info.ranges[i].last);
	puts("");
	dmaland_close(dev);
	return 0;
}
