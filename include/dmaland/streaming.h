/* SPDX-License-Identifier: MIT */
/*
 * streaming.h - memory that exists, handed to the device for one transfer
 *
 * One call, three ways. Memory of the arena (coherent memory, blocks of pools) and registered memory
 * is translated; what is small, or breaks a limit of the device, is copied through memory that the
 * device reaches (bounced); what is large is mapped where it lies. docs/design/streaming.md.
 *
 * Where the device has a copy of its own (soft: with coherent=no), memory of the arena goes the way of other
 * memory, unless no_syscalls forbids to map it.
 */
#ifndef DMALAND_STREAMING_H
#define DMALAND_STREAMING_H

#include <dmaland/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Who writes: the device reads TO_DEVICE memory, and writes FROM_DEVICE memory.
 *
 * FROM_DEVICE memory is no secret from the device. What lay in it before is copied with it where it is
 * copied, to memory that the device can read; arena and registered memory can be read always; and
 * where it is mapped the IOMMU may not be able to express write-only: struct dmaland_info says
 * (write_only), and Intel's under Linux is not. Clear the memory first if the device must not see
 * what is in it. TO_DEVICE memory that is mapped or copied can't be changed by the device.
 */
enum dma_data_direction {
	DMA_BIDIRECTIONAL = 0,
	DMA_TO_DEVICE = 1,
	DMA_FROM_DEVICE = 2,
	DMA_NONE = 3, /* not to be used */
};

/*
 * Attributes of a mapping. SKIP_CPU_SYNC: map and unmap move no data, the driver calls
 * dma_sync_*() (memory that is bounced is copied in all the same, so that the device never sees or
 * brings back somebody else's bytes). REQUIRE_COHERENT: never copied. What is small is mapped where it
 * lies, and where it can't be, or the device has a copy of its own of what is mapped (soft:coherent=no),
 * mapping fails with EOPNOTSUPP. The others that are here are hints without effect. Any other bit is
 * refused with EINVAL by what maps.
 */
#define DMA_ATTR_WEAK_ORDERING		     (1UL << 1)
#define DMA_ATTR_WRITE_COMBINE		     (1UL << 2)
#define DMA_ATTR_NO_KERNEL_MAPPING	     (1UL << 4)
#define DMA_ATTR_SKIP_CPU_SYNC		     (1UL << 5)
#define DMA_ATTR_FORCE_CONTIGUOUS	     (1UL << 6)
#define DMA_ATTR_ALLOC_SINGLE_PAGES	     (1UL << 7)
#define DMA_ATTR_NO_WARN		     (1UL << 8)
#define DMA_ATTR_PRIVILEGED		     (1UL << 9)
#define DMA_ATTR_DEBUGGING_IGNORE_CACHELINES (1UL << 11)
#define DMA_ATTR_REQUIRE_COHERENT	     (1UL << 12)

/**
 * dma_map_single_attrs() - hand memory to the device for a transfer
 * @dev:   the device
 * @ptr:   the memory
 * @size:  bytes, at least 1
 * @dir:   who writes
 * @attrs: DMA_ATTR_*, or 0
 *
 * From now on until dma_unmap_single(), or dma_sync_single_for_cpu(), the memory is the device's.
 * The address lies under the device's streaming mask, and has @ptr's bits of its minimum alignment
 * mask. The segment boundary and size are limits of lists, as in the kernel.
 *
 * Memory that is not there fails where it is mapped; where it is copied the copy faults in the
 * caller, as memcpy() would. Memory that the application unmaps (munmap) while it is mapped stays
 * reachable for the device until it is unmapped here.
 *
 * A window of pci_iomap() is no memory, and refused with EINVAL, unless dmaland_register() took it: dma_map_resource().
 *
 * Context: any thread, no signal handler. Enters the kernel to map, or when memory to bounce through
 * runs short, and with no_syscalls never.
 * Return: the dma address, or DMA_MAPPING_ERROR (ask dma_mapping_error()) with errno EINVAL,
 * EFAULT, ENOMEM, EPERM or EOPNOTSUPP. Before it fails with ENOMEM, all that is idle in the device's domain
 * is given up.
 */
dma_addr_t dma_map_single_attrs(struct dmaland_device *dev, void *ptr, size_t size,
				enum dma_data_direction dir, unsigned long attrs);

/**
 * dma_unmap_single_attrs() - the transfer is over
 * @dev, @addr, @size, @dir: as the mapping was made
 * @attrs: DMA_ATTR_SKIP_CPU_SYNC: what the device wrote is not wanted
 *
 * Always checked where the address holds something (bounced, mapped): what does not match is
 * reported to the log in the words of the kernel's dma-debug, and nothing is changed.
 *
 * Context: any thread, no signal handler; never fails, never allocates.
 */
void dma_unmap_single_attrs(struct dmaland_device *dev, dma_addr_t addr, size_t size,
			    enum dma_data_direction dir, unsigned long attrs);

/** dma_map_single() - dma_map_single_attrs() without attributes. */
static inline dma_addr_t dma_map_single(struct dmaland_device *dev, void *ptr, size_t size,
					enum dma_data_direction dir)
{
	return dma_map_single_attrs(dev, ptr, size, dir, 0);
}

/** dma_unmap_single() - dma_unmap_single_attrs() without attributes. */
static inline void dma_unmap_single(struct dmaland_device *dev, dma_addr_t addr, size_t size,
				    enum dma_data_direction dir)
{
	dma_unmap_single_attrs(dev, addr, size, dir, 0);
}

/**
 * dma_map_resource() - hand registers of another device to the device
 * @dev:       the device that is to reach them
 * @phys_addr: where they lie in a window of pci_iomap(), of whatever device
 * @size:      bytes; of a device that is not trusted, whole granules
 * @dir:       who writes
 * @attrs:     as of dma_map_single_attrs(); nothing is ever copied
 *
 * Works where the backend maps registers: vfio, type1. Unmap it before pci_iounmap().
 *
 * Context: any thread, no signal handler; enters the kernel.
 * Return: the dma address, or DMA_MAPPING_ERROR with errno EINVAL (no registers), EOPNOTSUPP, ENOMEM or EPERM.
 */
dma_addr_t dma_map_resource(struct dmaland_device *dev, phys_addr_t phys_addr, size_t size,
			    enum dma_data_direction dir, unsigned long attrs);

/** dma_unmap_resource() - as dma_unmap_single_attrs(), of what dma_map_resource() gave. */
void dma_unmap_resource(struct dmaland_device *dev, dma_addr_t addr, size_t size,
			enum dma_data_direction dir, unsigned long attrs);

/** dma_mapping_error() - 0 when @addr is a dma address, -ENOMEM when mapping failed. */
static inline int dma_mapping_error(struct dmaland_device *dev, dma_addr_t addr)
{
	(void)dev;
	return addr == DMA_MAPPING_ERROR ? -12 /* ENOMEM */ : 0;
}

/**
 * dma_sync_single_for_cpu() - the CPU may look at a mapping, or a part of it, that goes on
 * @dev:  the device
 * @addr: a dma address inside the mapping
 * @size: bytes from there, inside the mapping
 * @dir:  as it was mapped
 *
 * What lies outside of a mapping or has another direction is reported to the log and dropped.
 */
void dma_sync_single_for_cpu(struct dmaland_device *dev, dma_addr_t addr, size_t size,
			     enum dma_data_direction dir);

/** dma_sync_single_for_device() - and back to the device. */
void dma_sync_single_for_device(struct dmaland_device *dev, dma_addr_t addr, size_t size,
				enum dma_data_direction dir);

/** dma_sync_single_range_for_cpu() - dma_sync_single_for_cpu() of @addr + @offset. */
static inline void dma_sync_single_range_for_cpu(struct dmaland_device *dev, dma_addr_t addr,
						 unsigned long offset, size_t size,
						 enum dma_data_direction dir)
{
	dma_sync_single_for_cpu(dev, addr + offset, size, dir);
}

/** dma_sync_single_range_for_device() - dma_sync_single_for_device() of @addr + @offset. */
static inline void dma_sync_single_range_for_device(struct dmaland_device *dev, dma_addr_t addr,
						    unsigned long offset, size_t size,
						    enum dma_data_direction dir)
{
	dma_sync_single_for_device(dev, addr + offset, size, dir);
}

/* ---- limits ---- */

/**
 * dma_max_mapping_size() - bytes that one mapping may have
 *
 * Where memory that exists can't be mapped, or the device is not trusted: what can be bounced, less
 * the minimum alignment mask. SIZE_MAX elsewhere: only the addresses under the mask are a limit.
 */
size_t dma_max_mapping_size(struct dmaland_device *dev);

/** dma_opt_mapping_size() - up to so many bytes mapping is cheapest; never above the maximum. */
size_t dma_opt_mapping_size(struct dmaland_device *dev);

/** dma_need_sync() - false: dma_sync_*() may be left out for this mapping. */
bool dma_need_sync(struct dmaland_device *dev, dma_addr_t addr);

/**
 * dma_get_merge_boundary() - on multiples of this plus 1 elements of a scatterlist are joined
 *
 * Where one element ends and the next begins on such a multiple both become one segment, within the device's
 * segment size and boundary. Memory of the arena and registered memory does not: it stays where it is.
 * With trusted=no whole granules do.
 *
 * Return: the domain's granule less 1; or 0 where it can't map memory, may not (no_syscalls), or the
 * device has a copy of its own (soft: with coherent=no). There only what lies side by side is joined.
 */
unsigned long dma_get_merge_boundary(struct dmaland_device *dev);

/**
 * dma_set_max_seg_size() - bytes up to which elements of a scatterlist are joined
 *
 * 64 KiB in a fresh device, as in the kernel. As there, an element that is longer is mapped, alone, and
 * told in the log in debug mode. Single mappings have no such limit.
 */
int dma_set_max_seg_size(struct dmaland_device *dev, unsigned int size);
unsigned int dma_get_max_seg_size(struct dmaland_device *dev);

/**
 * dma_set_seg_boundary() - no segment crosses a multiple of @mask plus 1, which is a power of two
 *
 * DMA_BIT_MASK(32) in a fresh device, as in the kernel. An element of a scatterlist that would cross it is copied, or
 * mapped anew, to where it does not. One that does not fit, since it is too long, or too long behind
 * the bits that dma_set_min_align_mask() keeps, or too long to be copied where it fits at another
 * offset alone, crosses it as in the kernel, and is told in the log in debug mode. Single mappings have no boundary.
 */
int dma_set_seg_boundary(struct dmaland_device *dev, unsigned long mask);
unsigned long dma_get_seg_boundary(struct dmaland_device *dev);

/**
 * dma_set_min_align_mask() - these bits of an address are the original's
 * @mask: a power of two less 1, at most 64 KiB less 1; 0 in a fresh device
 *
 * Lists of several elements keep their offsets in pages unasked: dma_map_sg_attrs().
 */
int dma_set_min_align_mask(struct dmaland_device *dev, unsigned int mask);
unsigned int dma_get_min_align_mask(struct dmaland_device *dev);

/* ---- memory that lives long ---- */

/**
 * dmaland_register() - have the application's memory mapped for good, so that it is translated
 * @dev:  the device; others that share its domain profit too, if their masks let them
 * @ptr:  the memory, at any alignment: the granules around it are mapped, readable and writable
 * @size: bytes
 *
 * The memory must stay where it is until dmaland_unregister(): nothing here sees munmap() or
 * free(), but for debug mode: dmaland_check_registered().
 *
 * On VFIO (type1) it may be a window of pci_iomap(), of whatever device: unregister it before
 * pci_iounmap(). Other backends do not map registers, and refuse it.
 *
 * Context: any thread, no signal handler; makes system calls.
 * Return: 0; -EEXIST when it overlaps memory that is registered (which is named) or the arena;
 * -EINVAL for registers that are not mapped; -EOPNOTSUPP where memory that exists can't be mapped;
 * -EPERM when the device is not trusted; -EFAULT; -ENOMEM.
 */
int dmaland_register(struct dmaland_device *dev, void *ptr, size_t size);

/**
 * dmaland_unregister() - the device reaches it no more
 * @ptr: as it was registered
 *
 * Mappings inside it hold nothing, and are not counted: they must be over, as with free(). It is
 * revoked before this returns, also in lazy mode.
 *
 * Return: 0; -ENOENT when nothing registered begins there; -EIO when it could not be unmapped.
 */
int dmaland_unregister(struct dmaland_device *dev, void *ptr);

/**
 * dmaland_check_registered() - has the program unmapped memory that is registered?
 *
 * In debug mode (options.dma_debug, or dma_debug=yes in the spec) memory that this device has
 * registered is watched: it must be what was registered, and not unmapped (munmap, or free() of what
 * is large) or mapped anew since. That is looked at here, by dmaland_unregister(), which reports it
 * to the log, and by each mapping of such memory, which fails with EFAULT. The sentence names the
 * memory. What replaces pages inside of a mapping (MADV_DONTNEED) is not found.
 *
 * For a look the kernel is asked, which takes 1 to 10 microseconds. It takes longer, the more is mapped in the process, where
 * /proc/self/maps has to be read (kernels before 6.11: of what is larger than 16 pages, or shared), and most where
 * /proc/self/smaps has to be read: of private mappings of files, of memory that is more than one kind, and where the kernel
 * has no memory policies or they are forbidden (mbind(2), in some containers).
 *
 * Memory that is registered in debug mode is marked until dmaland_unregister(): private anonymous memory without a memory
 * policy gets MPOL_LOCAL; what is looked for in /proc/self/smaps, the advice MADV_RANDOM, and then MADV_NORMAL. A mark
 * may part a mapping of the process into three (vm.max_map_count). What can't be marked (a part of a hugepage on kernels before
 * 6.11, or memory of a process that may have no more mappings) is found when it is unmapped, not when others are mapped there.
 *
 * Return: how many registrations have changed, each reported to the log; -EOPNOTSUPP when the device
 * is not in debug mode.
 */
int dmaland_check_registered(struct dmaland_device *dev);

/**
 * dmaland_flush() - revoke what waits to be revoked (lazy mode)
 *
 * When it returns, the device reaches nothing that was unmapped before the call.
 */
void dmaland_flush(struct dmaland_device *dev);

/**
 * struct dmaland_streaming_stats - which way mappings went, and why
 * @translated_arena:      inside the arena
 * @translated_registered: inside registered memory
 * @bounced_small:         smaller than copy_below; elements of a list that are become one copy where they
 *                         are joined
 * @bounced_limit:         inside the arena or registered, but above the mask, across a list's segment
 *                         boundary or misaligned, and small, or not to be mapped; of a list, large
 *                         and within the boundary at another offset only
 * @bounced_unmappable:    large, but the domain can't map memory that exists
 * @bounced_untrusted:     not whole granules, of a device that is not trusted: through granules of
 *                         their own
 * @mapped:                mapped where they lie
 * @failed:                refused, or not possible
 * @bad_calls:             unmap and sync calls that were reported and dropped
 * @live_bounced:          bounced mappings that are not unmapped yet
 * @live_mapped:           mapped ones, with those of devices that are not trusted
 * @waiting:               mappings of the domain that wait to be revoked (lazy mode)
 * @revoke_calls:          calls to the domain to end mappings, of the domain
 * @revoked:               mappings that these ended
 * @copy_below:            bytes below which memory is copied
 */
struct dmaland_streaming_stats {
	uint64_t translated_arena, translated_registered;
	uint64_t bounced_small, bounced_limit, bounced_unmappable, bounced_untrusted;
	uint64_t mapped, failed, bad_calls;
	uint64_t live_bounced, live_mapped;
	uint64_t waiting, revoke_calls, revoked;
	size_t copy_below;
};

/** dmaland_get_streaming_stats() - fill @stats. */
void dmaland_get_streaming_stats(struct dmaland_device *dev, struct dmaland_streaming_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
