/* SPDX-License-Identifier: MIT */
/*
 * edu.c - a whole driver: QEMU's educational device carries a text by DMA
 *
 *   ./edu                          qemu:edu: no root, no guest
 *   ./edu vfio:0000:00:04.0        the same device behind an IOMMU
 *
 * From a block of a pool to the device's own buffer, and from there to coherent memory. Registers:
 * docs/specs/edu in QEMU.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <dmaland/dmaland.h>

enum {
	EDU_ID = 0x00, /* 0xRRrr00ed: revision */
	EDU_DMA_FROM = 0x80,
	EDU_DMA_TO = 0x88,
	EDU_DMA_COUNT = 0x90,
	EDU_DMA_COMMAND = 0x98,
	EDU_BUFFER = 0x40000, /* 4096 bytes, as the device addresses it */

	EDU_START = 1, /* set as long as it works */
	EDU_TO_MEMORY = 2,
	EDU_BLOCK = 256,
};

struct edu {
	struct dmaland_device *dev;
	char *bar;
	struct dma_pool *pool;
};

static int edu_copy(struct edu *edu, uint64_t from, uint64_t to, uint32_t flags)
{
	uint32_t command;

	writeq(from, edu->bar + EDU_DMA_FROM);
	writeq(to, edu->bar + EDU_DMA_TO);
	writeq(EDU_BLOCK, edu->bar + EDU_DMA_COUNT);
	writel(EDU_START | flags, edu->bar + EDU_DMA_COMMAND);
	do {
		command = readl(edu->bar + EDU_DMA_COMMAND);
		if (command == UINT32_MAX)
			return dmaland_set_error(ENODEV, "%s is gone", dmaland_name(edu->dev));
	} while (command & EDU_START);
	return 0;
}

static int edu_carry(struct edu *edu, const char *text)
{
	dma_addr_t from = 0, to = 0;
	char *block = dma_pool_zalloc(edu->pool, GFP_KERNEL, &from);
	char *buffer = dma_alloc_coherent(edu->dev, 4096, &to, GFP_KERNEL);
	int err = block && buffer ? 0 : -errno;

	if (!err) {
		snprintf(block, EDU_BLOCK, "%s", text);
		err = edu_copy(edu, from, EDU_BUFFER, 0);
	}
	if (!err)
		err = edu_copy(edu, EDU_BUFFER, to, EDU_TO_MEMORY);
	if (!err)
		printf("%s: \"%s\" at dma address 0x%llx\n", dmaland_name(edu->dev), buffer,
		       (unsigned long long)to);
	if (block)
		dma_pool_free(edu->pool, block, from);
	dma_free_coherent(edu->dev, 4096, buffer, to);
	return err;
}

static int edu_open(struct edu *edu, const char *spec)
{
	edu->dev = dmaland_open(spec, NULL);
	if (!edu->dev || dma_set_mask_and_coherent(edu->dev, DMA_BIT_MASK(28)) ||
	    pci_enable_device(edu->dev) || pci_set_master(edu->dev) ||
	    !(edu->bar = pci_iomap(edu->dev, 0, 0)))
		return -errno;
	if ((readl(edu->bar + EDU_ID) & 0xffff) != 0x00ed)
		return dmaland_set_error(ENODEV, "%s is no edu", spec);
	edu->pool = dma_pool_create("edu", edu->dev, EDU_BLOCK, 64, 0);
	return edu->pool ? 0 : -errno;
}

int main(int argc, char **argv)
{
	struct edu edu = {0};
	int err = edu_open(&edu, argc > 1 ? argv[1] : "qemu:edu");

	if (!err)
		err = edu_carry(&edu, "through the device and back");
	if (err)
		fprintf(stderr, "edu: %s\n", dmaland_last_error());
	dma_pool_destroy(edu.pool);
	dmaland_close(edu.dev);
	return err ? 1 : 0;
}
