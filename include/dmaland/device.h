/* SPDX-License-Identifier: MIT */
/*
 * device.h - open a device by its spec, set its masks, ask about it, close it
 */
#ifndef DMALAND_DEVICE_H
#define DMALAND_DEVICE_H

#include <stdbool.h>

#include <dmaland/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct dmaland_options - what a spec does not say
 * @size:         sizeof(struct dmaland_options), so that later versions can add to its end
 * @share_with:   see the same memory as this open device, at the same dma addresses (one domain);
 *                NULL: a domain of its own
 * @memory_limit: bytes of memory that may be mapped for the device's domain at a time: coherent memory and
 *                pools, what is registered, and streaming mappings that are not copied or translated. 0: no
 *                limit of ours. With @share_with the domain's limit stays as it is
 * @copy_below:   streaming mappings smaller than this are copied rather than mapped; 0: as is best
 *                for the backend; 1: never, at most 1 MiB
 * @lazy_count:   with @lazy, so many mappings that are over may wait to be revoked; 0: 1024
 * @lazy_ms:      with @lazy, after this time the next call that maps or unmaps memory revokes (not one
 *                that is translated or copied); 0: 10
 * @untrusted:    the device gets nothing translated, and nothing that is not its own: see
 *                docs/design/streaming.md
 * @lazy:         unmapping a mapping may leave it to be revoked later, with others in one system
 *                call; false: it is revoked before dma_unmap_single() returns
 * @no_syscalls:  dma_map_*() fails rather than enter the kernel
 * @pool_debug:   pools of this device are in debug mode: see dmaland_pool_check()
 * @container_fd: vfio: an open /dev/vfio/vfio; 0: it is opened
 * @group_fd:     vfio: an open /dev/vfio/N, N being the device's group; 0: it is opened
 * @device_fd:    vfio: the device, as VFIO_GROUP_GET_DEVICE_FD gives it; 0: the group is asked for it.
 *                Wants @container_fd or @share_with, whose container its group must be in; @group_fd
 *                may be left out then
 * @dma_debug:    registered memory of this device is watched: see dmaland_check_registered(); and mappings that are translated
 *                are followed, so that their ends and syncs are checked as those of others are. On soft: it is
 *                on without being asked for, but where no_syscalls is, and `dma_debug=no` in the spec turns it off
 * @atomic_may_grow: GFP_ATOMIC and GFP_NOWAIT may make system calls for this device, as GFP_KERNEL does: for code of
 *                the kernel that allocates with nothing else, and here runs where it may sleep. Also on with
 *                DMALAND_ATOMIC_MAY_GROW=1 in the environment, for all devices and for sg_alloc_table()
 *
 * Those from copy_below to no_syscalls can be given in the spec too, where they win: `copy_below=N`, `unmap=lazy` or `unmap=strict`,
 * `lazy_count=N`, `lazy_ms=N`, `trusted=no`, `no_syscalls=yes`; and `dma_debug=yes`. Of devices that share a domain, the
 * first lazy one says how many wait and for how long.
 *
 * A file whose number is 0 is passed as a copy: fcntl(0, F_DUPFD, 3). The library's own files never have
 * the numbers 0, 1 and 2, also where the program has closed them.
 *
 * With open files a process drives a device that it could not open itself: one that may sends them
 * over a Unix socket (examples/giver.c). The library uses copies of its own; the caller's stay open.
 * A group that is in no container is put into the container, and taken out when the device is closed;
 * a container without an IOMMU is given one, so both ways work. A container of several processes does not:
 * each maps what it likes. With @group_fd or @device_fd the device is not looked for in sysfs, and with
 * @device_fd its address is only its name in messages.
 *
 * Fill it with zeroes and set what matters; a NULL pointer means all zeroes.
 */
struct dmaland_options {
	size_t size;
	struct dmaland_device *share_with;
	uint64_t memory_limit;
	size_t copy_below;
	unsigned int lazy_count, lazy_ms;
	bool untrusted, lazy, no_syscalls, pool_debug;
	int container_fd, group_fd, device_fd;
	bool dma_debug, atomic_may_grow;
};

/**
 * dmaland_open() - open the device that a spec names
 * @spec:    `[backend:]address[,key=value...]`:
 *           `0000:01:00.0`           best backend that is there (or `01:00.0`)
 *           `pci:1234:11e8`          the first device with this vendor and device; `pci:1234:11e8,index=1`: the second
 *           `vfio:0000:01:00.0`      through VFIO (type1)
 *           `qemu:nvme,drive=FILE`   a device model of QEMU, see dmaland(7)
 *           `soft:`                  a DMA engine in software that finds what it may not do, see
 *                                    <dmaland/soft.h>; `soft:engine,coherent=no`: and what was
 *                                    not synced
 *           No key is given twice. A comma in a value is written twice: dmaland_spec_quote()
 * @options: or NULL
 *
 * The device comes with 32-bit masks, as in the kernel; memory decoding and bus mastering are
 * as the backend left them: pci_enable_device(), pci_set_master().
 *
 * Neither this call nor another of the library is a cancellation point (pthread_cancel()). None may be
 * made by a thread that has asynchronous cancellation on.
 *
 * Context: any thread; makes system calls.
 * Return: the device, or NULL with errno set and dmaland_last_error() telling the cure.
 */
struct dmaland_device *dmaland_open(const char *spec, const struct dmaland_options *options);

/**
 * dmaland_spec_quote() - a value as it is written in a spec
 * @text:  where it goes, with a zero at its end; NULL with a @size of 0
 * @size:  bytes that fit there; what is longer is cut off
 * @value: anything: a file's name with commas in it
 *
 * Example: `qemu:nvme,drive=%s` with the name of a file that a user chose, quoted, has one option.
 *
 * Return: the length of the whole quoted value, as snprintf(): @size or more means that it was cut off.
 */
size_t dmaland_spec_quote(char *text, size_t size, const char *value);

/**
 * dmaland_find() - the address of a PCI device by its ids
 * @vendor, @device: its ids, as `lspci -n` and `dmaland info --json` tell them
 * @index:   which of several, by ascending address; the first is 0
 * @address: where the address goes, "0000:01:00.0": a spec for dmaland_open(); untouched on failure
 * @size:    bytes that there are for it; 32 are enough
 *
 * A board keeps its ids in another slot or machine; dmaland_open() takes them too: `pci:VENDOR:DEVICE[,index=N]`. Whoever
 * wants all devices of a kind asks with @index 0, 1, 2 ... until -ENODEV.
 *
 * Context: any thread; makes system calls.
 * Return: 0, or -errno: -ENODEV when there are not so many.
 */
int dmaland_find(unsigned int vendor, unsigned int device, unsigned int index, char *address,
		 size_t size);

/**
 * dmaland_close() - quiesce a device, free all that it holds, report what was leaked
 * @dev: the device, or NULL
 *
 * Bus mastering is turned off and the function is reset where it can be; then pools and coherent
 * memory that were not freed are reported to the log and freed. Where the device can't be
 * quiesced, its memory stays mapped: it is leaked rather than handed to somebody else.
 *
 * Context: no other thread may use the device, its pools or its register windows any more.
 */
void dmaland_close(struct dmaland_device *dev);

/**
 * dmaland_check() - may this process use the device?
 * @dev: the device
 *
 * After fork() an open device is the parent's alone, as are its pools: in the child its files are
 * closed, its memory is not there, and every call with it fails with EPERM; those that return
 * nothing, dmaland_close() too, do nothing. Registers read all ones. The child may open devices
 * of its own. For drivers, which must not touch DMA memory there either. A fork() waits while another
 * thread opens or closes a device, so that none of its files is missed. The library's own handlers of
 * fork() (pthread_atfork()) are set up when it is loaded: those of a program may take locks under which
 * other threads call the library, unless they were set up before a dlopen() of it.
 *
 * Return: 0, or -EPERM in the child.
 */
int dmaland_check(const struct dmaland_device *dev);

/**
 * dmaland_last_error() - this thread's last failure in words
 *
 * Return: a sentence that names the limit that was hit, its value, what was asked and what to do;
 * "" when nothing failed yet. Valid until the thread's next failing call.
 */
const char *dmaland_last_error(void);

/**
 * dmaland_name() - the device's name in messages
 *
 * Return: its PCI address; `qemu:MODEL@SLOT` for a device model of QEMU; `soft:engine@N`.
 */
const char *dmaland_name(const struct dmaland_device *dev);

/**
 * dma_set_mask() - say which addresses the device can send, for streaming mappings
 * @dev:  the device
 * @mask: DMA_BIT_MASK(n)
 *
 * Return: 0; -EIO when the domain has no usable address under the mask.
 */
int dma_set_mask(struct dmaland_device *dev, uint64_t mask);

/**
 * dma_set_coherent_mask() - the same for coherent memory and pools
 *
 * Return: 0; -EIO when the domain has no usable address under the mask; -EBUSY when memory of
 * this device above the mask is in use. Idle memory is given back first, slabs of pools that other threads have
 * idle too; a slab that another thread allocates from is in use.
 */
int dma_set_coherent_mask(struct dmaland_device *dev, uint64_t mask);

/** dma_set_mask_and_coherent() - both; when it fails, neither is changed. */
int dma_set_mask_and_coherent(struct dmaland_device *dev, uint64_t mask);

/** dma_get_mask() - the streaming mask in force. */
uint64_t dma_get_mask(const struct dmaland_device *dev);

/**
 * dmaland_virt_to_dma() - the dma address of memory that dmaland handed out
 * @dev:  the device
 * @vaddr: anywhere inside coherent memory or a block of a pool of the device's domain
 * @size:  bytes from there, at least 1
 *
 * Return: the dma address, or DMA_MAPPING_ERROR when some of the range is not such memory or
 * is not contiguous for the device. That is an answer, not a failure: errno and
 * dmaland_last_error() stay as they are.
 */
dma_addr_t dmaland_virt_to_dma(struct dmaland_device *dev, const void *vaddr, size_t size);

/** struct dmaland_range - usable dma addresses, both ends included */
struct dmaland_range {
	uint64_t first, last;
};

/**
 * struct dmaland_info - what is known of an open device and its domain
 * @backend:       "vfio", "qemu", "soft"
 * @vendor_id:     PCI vendor id
 * @device_id:     PCI device id
 * @granule:       bytes of the smallest piece that the domain can map
 * @mapping_limit: mappings that the domain may hold; 0: not limited
 * @mappings:      mappings that it holds now
 * @memory_limit:  bytes, from the options; 0: none
 * @memory:        bytes of memory mapped for the device now
 * @memory_in_use: bytes of it that are handed out to pools or as coherent memory
 * @range_count:   how many usable ranges there are, also when more than fit
 * @ranges:        the first of them, ascending
 * @numa_node:     NUMA node that the domain's memory is taken from as long as it has any: that of
 *                 the domain's first device; NUMA_NO_NODE: memory lies where the kernel puts that
 *                 of the thread, since the device has no node, the machine only one, or the kernel
 *                 refuses (mbind(2))
 * @write_only:    can memory be mapped for the device to write and not to read, as DMA_FROM_DEVICE
 *                 says? 1: yes. 0: no, the device can read it too. -1: not known of this IOMMU:
 *                 count on 0
 */
struct dmaland_info {
	const char *backend;
	uint16_t vendor_id, device_id;
	size_t granule;
	uint32_t mapping_limit, mappings;
	uint64_t memory_limit, memory, memory_in_use;
	size_t range_count;
	struct dmaland_range ranges[16];
	int numa_node;
	int write_only;
};

/** dmaland_get_info() - fill @info. */
void dmaland_get_info(struct dmaland_device *dev, struct dmaland_info *info);

enum dmaland_log_level { DMALAND_LOG_ERR, DMALAND_LOG_WARN, DMALAND_LOG_INFO };

/**
 * dmaland_set_log() - where the library's messages go
 * @log: called with one line, no newline at its end; NULL: stderr, INFO left out
 * @context: handed through
 *
 * @log may call the library, from any thread: no lock of it is held then.
 *
 * Context: call it before other threads use the library.
 */
void dmaland_set_log(void (*log)(void *context, enum dmaland_log_level level, const char *line),
		     void *context);

/**
 * dmaland_log() - a line to the log, for drivers
 * @level:  how bad it is
 * @format: as printf; no newline at its end
 */
void dmaland_log(enum dmaland_log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/**
 * dmaland_dev_log() - dmaland_log() with the device's name in front
 * @dev:    the device
 * @level:  how bad it is
 * @format: as printf; a newline at its end is dropped, since kernel source has one
 */
void dmaland_dev_log(const struct dmaland_device *dev, enum dmaland_log_level level,
		     const char *format, ...) __attribute__((format(printf, 3, 4)));

/**
 * dmaland_set_error() - what dmaland_last_error() shall say, for drivers
 * @code:   errno
 * @format: as printf; a sentence that names what stood in the way and the cure
 *
 * Return: -@code, with errno set.
 */
int dmaland_set_error(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

#ifdef __cplusplus
}
#endif

#endif
