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
 * @gfp:    GFP_KERNEL may map more memory; GFP_ATOMIC takes what is mapped already, unless
 *          options.atomic_may_grow is set, and fails where a thread that lost its CPU holds the lock
 *
 * Address and dma address are aligned to the power of two that covers @size, from a page on. Above
 * 4 MiB they are aligned to 4 MiB at least, where no addresses with the larger alignment are to be
 * had: a device that must have it takes a dma_pool of one block. The dma address lies under the
 * device's coherent mask.
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
 * calls; up to that it stays mapped for the next allocation, and there are none: dmaland_trim(). But
 * where a thread that lost its CPU holds the lock, it sleeps until that one has given it back.
 */
void dma_free_coherent(struct dmaland_device *dev, size_t size, void *vaddr, dma_addr_t handle);

/**
 * dmaland_trim() - give idle memory back to the system
 * @dev: the device
 *
 * What is only kept for later goes, of all devices of the domain: coherent memory that was freed; slabs of
 * pools without a block in use, those that other threads have idle too; blocks to copy mappings through, of this thread and
 * of those that ended; addresses of mappings; what waits to be revoked is. If the device has pools, some 256 KiB are mapped
 * anew for GFP_ATOMIC. Slabs that other threads allocate from stay, their blocks to copy mappings through, and
 * what is ready for a device with no_syscalls. Where a call needs it, all this happens by itself.
 *
 * Context: any thread, no signal handler; makes system calls.
 */
void dmaland_trim(struct dmaland_device *dev);

#ifdef __cplusplus
}
#endif

#endif
