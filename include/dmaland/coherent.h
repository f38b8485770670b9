/* SPDX-License-Identifier: MIT */
/*
 * coherent.h - memory that device and CPU both see without sync calls
 */
#ifndef DMALAND_COHERENT_H
#define DMALAND_COHERENT_H

#include <dmaland/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * dma_alloc_coherent() - allocate zeroed memory that the device can reach
 * @dev:    the device
 * @size:   bytes, at least 1; whole pages are taken
 * @handle: where the dma address goes; untouched on failure
 * @gfp:    GFP_KERNEL may map more memory; GFP_ATOMIC takes what is mapped already
 *
 * Address and dma address are aligned to the power of two that covers @size, from a page up to 4 MiB;
 * above that, to 4 MiB. The dma address lies under the device's coherent mask.
 *
 * Before more than 4 MiB are taken from the system, what it has available and the limits of the process's
 * cgroups are looked at: what would end a process is refused.
 *
 * Context: any thread, no signal handler.
 * Return: the memory, or NULL with errno ENOMEM or EINVAL.
 */
void *dma_alloc_coherent(struct dmaland_device *dev, size_t size, dma_addr_t *handle, gfp_t gfp);

/**
 * dma_free_coherent() - give it back
 * @dev, @size, @vaddr, @handle: as they were allocated; NULL for @vaddr does nothing
 *
 * What does not match is reported to the log and dropped.
 *
 * Context: any thread, no signal handler. Above 32 MiB the memory goes back to the system, by system
 * calls; up to that it stays mapped for the next allocation, and there are none.
 */
void dma_free_coherent(struct dmaland_device *dev, size_t size, void *vaddr, dma_addr_t handle);

#ifdef __cplusplus
}
#endif

#endif
