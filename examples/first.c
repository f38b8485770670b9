/* SPDX-License-Identifier: MIT */
/*
 * first.c - a first driver: QEMU's educational device copies 256 bytes by DMA
 *
 *   ./first qemu:edu               no root, no guest
 *   ./first vfio:0000:00:04.0      the same device behind an IOMMU
 *
 * Registers: docs/specs/edu in QEMU.
 */
#include <stdio.h>
#include <string.h>

#include <dmaland/dmaland.h>

/* Between memory and the device's buffer at 0x40000; bit 0 of the command is set while it works. */
static void edu_copy(char *bar, uint64_t from, uint64_t to, uint32_t count, uint32_t command)
{
	writeq(from, bar + 0x80);
	writeq(to, bar + 0x88);
	writeq(count, bar + 0x90);
	writel(command | 1, bar + 0x98);
	while (readl(bar + 0x98) & 1)
		;
}

static int drive(struct dmaland_device *dev)
{
	dma_addr_t from, to;
	struct dma_pool *pool;
	char *bar, *a, *b;

	if (dma_set_mask_and_coherent(dev, DMA_BIT_MASK(28)) || pci_enable_device(dev) ||
	    pci_set_master(dev) || !(bar = pci_iomap(dev, 0, 0)))
		return -1;
	pool = dma_pool_create("edu", dev, 256, 64, 0);
	if (!pool)
		return -1;
	a = dma_pool_alloc(pool, GFP_KERNEL, &from);
	b = dma_pool_zalloc(pool, GFP_KERNEL, &to);
	if (!a || !b)
		return -1;

	strcpy(a, "through the device and back");
	edu_copy(bar, from, 0x40000, 256, 0);
	edu_copy(bar, 0x40000, to, 256, 2);
	printf("%s: \"%s\" at dma address 0x%llx\n", dmaland_name(dev), b, (unsigned long long)to);

	dma_pool_free(pool, a, from);
	dma_pool_free(pool, b, to);
	dma_pool_destroy(pool);
	return 0;
}

int main(int argc, char **argv)
{
	struct dmaland_device *dev = dmaland_open(argc > 1 ? argv[1] : "qemu:edu", NULL);
	int err = dev ? drive(dev) : -1;

	if (err)
		fprintf(stderr, "first: %s\n", dmaland_last_error());
	dmaland_close(dev);
	return err ? 1 : 0;
}
