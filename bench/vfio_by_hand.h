/* SPDX-License-Identifier: MIT */
/*
 * vfio_by_hand.h - what a program does that knows VFIO and not dmaland: two ioctls a transfer
 */
#ifndef BENCH_VFIO_BY_HAND_H
#define BENCH_VFIO_BY_HAND_H

#include <stddef.h>
#include <stdint.h>

/*
 * A container of type1 with the IOMMU group of the device at this address, which is bound to
 * vfio-pci. Ends the program with a sentence when it can't be had.
 */
int by_hand_open(const char *address);

void by_hand_map(int container, void *ptr, size_t size, uint64_t dma);
void by_hand_unmap(int container, size_t size, uint64_t dma);

#endif
