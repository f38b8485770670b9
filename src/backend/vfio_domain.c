/* SPDX-License-Identifier: MIT */
/*
 * vfio_domain.c - containers of VFIO's type1 IOMMU: memory and usable addresses
 */
#include "backend/vfio.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mutex.h"
#include "backend/numa.h"
#include "backend/sysfs.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/*
 * Mapping and unmapping here are two system calls, pinning and an IOTLB flush: some 12,000
 * instructions. Copying 16 KiB both ways takes about as long.
 */
#define VFIO_COPY_BELOW ((size_t)16 << 10)

/* ---- memory ---- */

/* Bytes that this process has locked, as the kernel counts them against RLIMIT_MEMLOCK. */
static uint64_t locked_memory(void)
{
	return sysfs_kib("/proc/self/status", "VmLck:") << 10;
}

static int explain_memlock(size_t size)
{
	struct rlimit limit = {0};

	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (limit.rlim_cur == RLIM_INFINITY)
		return error_set(ENOMEM, "the kernel has no memory to pin %zu KiB", size >> 10);
	return error_set(ENOMEM,
			 "cannot pin %zu KiB: RLIMIT_MEMLOCK is %llu KiB and %llu KiB are locked; "
			 "raise it: ulimit -l, or LimitMEMLOCK= in the unit",
			 size >> 10, (unsigned long long)(limit.rlim_cur >> 10),
			 (unsigned long long)(locked_memory() >> 10));
}

static int explain_map(struct domain *domain, const struct chunk *chunk)
{
	int code = errno;

	if (code == ENOMEM)
		return explain_memlock(chunk->size);
	if (code == ENOSPC)
		return error_set(
			ENOMEM,
			"the container holds %u mappings and may hold no more (%u at first): "
			"raise /sys/module/vfio_iommu_type1/parameters/dma_entry_limit "
			"before the device is opened",
			__atomic_load_n(&domain->mappings, __ATOMIC_RELAXED),
			domain->mapping_limit);
	if (code == EEXIST)
		return error_set(
			EEXIST,
			"dma address 0x%llx is mapped already, and not by this device: its "
			"container is used by somebody else too; give it one of its own",
			(unsigned long long)chunk->dma);
	if (code == EFAULT)
		return error_set(
			EFAULT,
			"%zu KiB at %p cannot be pinned: some of it is not there, may not be "
			"written though the device shall, or lies in a file whose pages the "
			"kernel does not pin: copy it to memory of its own first",
			chunk->size >> 10, (void *)chunk->cpu);
	return error_set(code, "VFIO does not map %zu KiB at dma address 0x%llx: %s",
			 chunk->size >> 10, (unsigned long long)chunk->dma, strerror(code));
}

static int map_dma(struct vfio_domain *vd, const struct chunk *chunk, uint32_t flags)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = flags,
		.vaddr = (uintptr_t)chunk->cpu,
		.iova = chunk->dma,
		.size = chunk->size,
	};
	int err;

	do {
		err = ioctl(vd->container, VFIO_IOMMU_MAP_DMA, &map);
	} while (err && errno == EINTR);
	return err ? explain_map(&vd->domain, chunk) : 0;
}

static int unmap_dma(struct vfio_domain *vd, const struct chunk *chunk)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = chunk->dma,
		.size = chunk->size,
	};
	int err;

	do {
		err = ioctl(vd->container, VFIO_IOMMU_UNMAP_DMA, &unmap);
	} while (err && errno == EINTR);
	if (err)
		return error_system("VFIO does not unmap %zu KiB at dma address 0x%llx",
				    chunk->size >> 10, (unsigned long long)chunk->dma);
	if (unmap.size != chunk->size)
		return error_set(
			EIO, "VFIO unmapped %llu bytes at dma address 0x%llx where %zu were mapped",
			(unsigned long long)unmap.size, (unsigned long long)chunk->dma,
			chunk->size);
	return 0;
}

static int chunk_make(struct vfio_domain *vd, size_t size, size_t align, dma_addr_t last,
		      struct chunk *chunk)
{
	struct domain *domain = &vd->domain;
	const struct iova_wish wish = {.size = size, .align = align, .last = last};
	int err = iova_space_take(&domain->iova, &wish, &chunk->dma);

	if (err == -ENOSPC)
		return error_set(
			ENOMEM,
			"no %zu KiB of dma addresses, aligned to %zu KiB, are free up to 0x%llx "
			"(%llu KiB are, in pieces): set a wider dma mask, or free some memory",
			size >> 10, align >> 10, (unsigned long long)last,
			(unsigned long long)(iova_space_free(&domain->iova, last) >> 10));
	if (err)
		return error_set(-err, "no memory for a domain's bookkeeping");

	chunk->size = size;
	err = window_take(&vd->window, size, align, &chunk->cpu);
	if (err)
		goto release;
	err = map_dma(vd, chunk, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE);
	if (!err)
		return 0;
	window_give(&vd->window, chunk->cpu, size);
release:
	iova_space_release(&domain->iova, chunk->dma, size);
	return err;
}

/*
 * Mappings and memory are counted without the domain's lock. The kernel has one of its own for mapping, so
 * that ours would only be waited for; and both calls together have as many instructions more for it as
 * all else that is done here.
 */
static void mappings_count(struct domain *domain, unsigned int more)
{
	__atomic_fetch_add(&domain->mappings, more, __ATOMIC_RELAXED);
}

static int vfio_provide(struct domain *domain, size_t size, size_t align, dma_addr_t last,
			struct chunk *chunk)
{
	struct chunk made;
	int err = domain_count_memory(domain, size);

	if (err)
		return err;
	mutex_lock(&domain->lock);
	err = chunk_make(to_vfio_domain(domain), size, align, last, &made);
	mutex_unlock(&domain->lock);
	if (err) {
		domain_discount_memory(domain, size);
		return err;
	}
	mappings_count(domain, 1);
	*chunk = made;
	return 0;
}

static int vfio_withdraw(struct domain *domain, const struct chunk *chunk)
{
	struct vfio_domain *vd = to_vfio_domain(domain);
	int err;

	mutex_lock(&domain->lock);
	err = unmap_dma(vd, chunk);
	if (!err) {
		window_give(&vd->window, chunk->cpu, chunk->size);
		iova_space_release(&domain->iova, chunk->dma, chunk->size);
	}
	mutex_unlock(&domain->lock);
	if (err)
		return err;
	domain_discount_memory(domain, chunk->size);
	mappings_count(domain, -1u);
	return 0;
}

/*
 * Memory that the device only reads is pinned without a write fault. What was never written to, or
 * is shared with a forked child, was replaced by the CPU's next write, and the device went on reading
 * the old page: until Linux 6.2, which gives the process a page of its own first (mm/gup.c,
 * gup_must_unshare).
 */
static bool kernel_pins_shared(void)
{
	struct utsname kernel;
	unsigned int major, minor;

	return uname(&kernel) || sscanf(kernel.release, "%u.%u", &major, &minor) != 2 ||
	       major < 6 || (major == 6 && minor < 2);
}

/* Where that is refused it can't be written to either. */
static void make_own(const struct chunk *chunk)
{
	madvise(chunk->cpu, chunk->size, MADV_POPULATE_WRITE);
}

static int vfio_map(struct domain *domain, dma_addr_t dma, void *cpu, size_t size,
		    unsigned int access)
{
	struct vfio_domain *vd = to_vfio_domain(domain);
	const struct chunk chunk = {cpu, dma, size};
	uint32_t flags = (access & DOMAIN_READ ? VFIO_DMA_MAP_FLAG_READ : 0u) |
			 (access & DOMAIN_WRITE ? VFIO_DMA_MAP_FLAG_WRITE : 0u);
	int err = domain_count_memory(domain, size);

	if (err)
		return err;
	if (vd->pins_shared && !(access & DOMAIN_WRITE))
		make_own(&chunk);
	err = map_dma(vd, &chunk, flags);
	if (err)
		domain_discount_memory(domain, size);
	else
		mappings_count(domain, 1);
	return err;
}

/* unmap_dma() compares what the kernel says that it unmapped. */
static int vfio_unmap(struct domain *domain, dma_addr_t dma, size_t size, unsigned int n)
{
	const struct chunk chunk = {NULL, dma, size};
	int err = unmap_dma(to_vfio_domain(domain), &chunk);

	if (err)
		return err;
	domain_discount_memory(domain, size);
	mappings_count(domain, -n);
	return 0;
}

/* ---- the container and what it tells ---- */

static void vfio_domain_destroy(struct domain *domain)
{
	struct vfio_domain *vd = to_vfio_domain(domain);

	close(vd->container); /* ends all mappings that are left */
	window_close(&vd->window);
	free(domain->usable);
	domain_fini(domain);
	free(vd);
}

static const struct domain_ops vfio_domain_ops = {
	.backend = "vfio",
	.provide = vfio_provide,
	.withdraw = vfio_withdraw,
	.map = vfio_map,
	.unmap = vfio_unmap,
	.destroy = vfio_domain_destroy,
};

/* The container's VFIO_IOMMU_GET_INFO with all its capabilities; the caller frees it. */
static struct vfio_iommu_type1_info *iommu_info(int container)
{
	struct vfio_iommu_type1_info head = {.argsz = sizeof(head)}, *info;

	if (ioctl(container, VFIO_IOMMU_GET_INFO, &head)) {
		error_system("VFIO_IOMMU_GET_INFO");
		return NULL;
	}
	info = calloc(1, head.argsz);
	if (!info) {
		error_set(ENOMEM, "no memory for the IOMMU's description");
		return NULL;
	}
	info->argsz = head.argsz;
	if (ioctl(container, VFIO_IOMMU_GET_INFO, info)) {
		error_system("VFIO_IOMMU_GET_INFO");
		free(info);
		return NULL;
	}
	return info;
}

const struct vfio_info_cap_header *vfio_find_cap(const void *info, uint32_t size, uint32_t at,
						 unsigned int id)
{
	while (at && at + sizeof(struct vfio_info_cap_header) <= size) {
		const void *place = (const char *)info + at;
		const struct vfio_info_cap_header *cap = place;

		if (cap->id == id)
			return cap;
		if (cap->next <= at)
			break;
		at = cap->next;
	}
	return NULL;
}

/* The ranges that are usable now; where there were others before, they become fewer. */
static int read_ranges(struct domain *domain, const struct vfio_iommu_type1_info *info)
{
	const struct vfio_iommu_type1_info_cap_iova_range *cap;
	struct iova_range *usable;

	cap = (const void *)vfio_find_cap(info, info->argsz, info->cap_offset,
					  VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE);
	if (!cap || !cap->nr_iovas)
		return error_set(EOPNOTSUPP, "the kernel does not tell which dma addresses are "
					     "usable: Linux 5.4 or later is needed");
	usable = calloc(cap->nr_iovas, sizeof(*usable));
	if (!usable)
		return error_set(ENOMEM, "no memory for the IOMMU's ranges");
	for (uint32_t i = 0; i < cap->nr_iovas; i++)
		usable[i] = (struct iova_range){cap->iova_ranges[i].start, cap->iova_ranges[i].end};
	if (domain->usable && iova_space_restrict(&domain->iova, usable, cap->nr_iovas)) {
		free(usable);
		return error_set(ENOMEM, "no memory for the IOMMU's ranges");
	}
	free(domain->usable);
	domain->usable = usable;
	domain->usable_count = cap->nr_iovas;
	return 0;
}

/*
 * The topmost granule of 64-bit addresses is left alone: address plus size is 0 there, and type1 of
 * many kernels does not find such a mapping when it is to be unmapped.
 */
static uint64_t unmappable_cut(const struct domain *domain, uint64_t last)
{
	uint64_t highest = UINT64_MAX - domain->granule;

	return last < highest ? last : highest;
}

/* What the kernel says of the container's IOMMU, after the first group joined. */
static int learn_first(struct vfio_domain *vd)
{
	struct domain *domain = &vd->domain;
	struct vfio_iommu_type1_info *info = iommu_info(vd->container);
	const struct vfio_iommu_type1_info_dma_avail *avail;
	int err;

	if (!info)
		return -errno;
	domain->granule = (size_t)sysconf(_SC_PAGESIZE);
	if ((info->flags & VFIO_IOMMU_INFO_PGSIZES) && info->iova_pgsizes) {
		size_t smallest = info->iova_pgsizes & -info->iova_pgsizes;

		if (smallest > domain->granule)
			domain->granule = smallest;
	}
	avail = (const void *)vfio_find_cap(info, info->argsz, info->cap_offset,
					    VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL);
	domain->mapping_limit = avail ? avail->avail : 0;
	err = read_ranges(domain, info);
	free(info);
	for (size_t i = 0; !err && i < domain->usable_count; i++)
		if (iova_space_add(&domain->iova, domain->usable[i].first,
				   unmappable_cut(domain, domain->usable[i].last)))
			err = error_set(ENOMEM, "no memory for the IOMMU's ranges");
	return err;
}

/* A further group may bring holes of its own. */
static int learn_again(struct vfio_domain *vd)
{
	struct domain *domain = &vd->domain;
	struct vfio_iommu_type1_info *info = iommu_info(vd->container);
	int err;

	if (!info)
		return -errno;
	err = read_ranges(domain, info);
	free(info);
	return err;
}

int vfio_domain_learn(struct vfio_domain *vd)
{
	int err = vd->known ? learn_again(vd) : learn_first(vd);

	vd->known |= !err;
	return err;
}

static int container_open(int handed)
{
	int fd = handed ? vfio_dup(handed, "container_fd")
			: file_raise(open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC));

	if (fd < 0)
		return handed ? -errno
			      : error_system("cannot open /dev/vfio/vfio (is the module vfio "
					     "loaded? modprobe vfio-pci)");
	if (ioctl(fd, VFIO_GET_API_VERSION) == VFIO_API_VERSION &&
	    ioctl(fd, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) > 0)
		return fd;
	close(fd);
	if (handed)
		return error_set(EINVAL, "options.container_fd is no VFIO container with a type1 "
					 "IOMMU: open /dev/vfio/vfio for it");
	return error_set(EOPNOTSUPP, "this kernel's VFIO has no type1v2 IOMMU: "
				     "modprobe vfio_iommu_type1");
}

/*
 * Linux's driver for VT-d sets the read bit of every entry (__domain_mapping() in
 * drivers/iommu/intel/iommu.c). What other IOMMUs do depends on the format of their tables, which the
 * kernel does not tell: of AMD's one can, and one can't.
 */
static int write_only_find(const char *address)
{
	char unit[32];

	sysfs_iommu_unit(address, unit, sizeof(unit));
	return strncmp(unit, "dmar", 4) == 0 ? 0 : -1;
}

struct vfio_domain *vfio_domain_create(const struct open_options *options, const char *address)
{
	struct vfio_domain *vd = calloc(1, sizeof(*vd));

	if (!vd) {
		error_set(ENOMEM, "no memory for a domain");
		return NULL;
	}
	if (domain_init(&vd->domain, &vfio_domain_ops, options->memory_limit))
		goto free_domain;
	vd->container = container_open(options->container_fd);
	if (vd->container < 0)
		goto fini;
	vd->handed = options->container_fd != 0;
	vd->pins_shared = kernel_pins_shared();
	if (window_open(&vd->window))
		goto close_container;
	window_prefer_node(&vd->window, numa_node_of_device(address));
	vd->domain.numa_node = vd->window.node;
	vd->domain.copy_below = VFIO_COPY_BELOW;
	vd->domain.write_only = write_only_find(address);
	vd->domain.window = vd->window.base;
	vd->domain.window_size = vd->window.size;
	return vd;

close_container:
	close(vd->container);
fini:
	domain_fini(&vd->domain);
free_domain:
	free(vd);
	return NULL;
}

int vfio_domain_of(struct pci_function *share, struct vfio_domain **vd)
{
	if (share->domain->ops != &vfio_domain_ops)
		return error_set(EINVAL,
				 "a VFIO device can share only another VFIO device's memory, and "
				 "%s is none",
				 share->name);
	*vd = to_vfio_domain(share->domain);
	return 0;
}
