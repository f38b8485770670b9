/* SPDX-License-Identifier: MIT */
#include "vfio_by_hand.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "backend/sysfs.h"
#include "bench.h"

/* The group stays open as long as the program runs. */
int by_hand_open(const char *address)
{
	int container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC), group;
	char path[32];

	snprintf(path, sizeof(path), "/dev/vfio/%d", sysfs_iommu_group(address));
	group = open(path, O_RDWR | O_CLOEXEC);
	if (container < 0 || group < 0 || ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) ||
	    ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		bench_fail("no container for %s (%s): %s", address, path, strerror(errno));
	return container;
}

void by_hand_map(int container, void *ptr, size_t size, uint64_t dma)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)ptr,
		.iova = dma,
		.size = size,
	};

	if (ioctl(container, VFIO_IOMMU_MAP_DMA, &map))
		bench_fail("VFIO_IOMMU_MAP_DMA: %s", strerror(errno));
}

void by_hand_unmap(int container, size_t size, uint64_t dma)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap), .iova = dma, .size = size};

	if (ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap) || unmap.size != size)
		bench_fail("VFIO_IOMMU_UNMAP_DMA: %s", strerror(errno));
}
