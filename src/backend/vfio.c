/* SPDX-License-Identifier: MIT */
/*
 * vfio.c - devices through VFIO: groups, containers and the type1 IOMMU interface
 *
 *   vfio_domain  = container (/dev/vfio/vfio): the address space; its mappings
 *     vfio_group = /dev/vfio/N: devices that the IOMMU can't tell apart; held while any is open
 *       vfio_function = the device's file: regions by pread, pwrite and mmap
 *
 * The ioctls are those of linux/vfio.h; Documentation/driver-api/vfio.rst of the kernel says in
 * which order they go.
 */
#include "backend/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "backend/sysfs.h"
#include "backend/window.h"

struct vfio_group {
	struct vfio_group *next;
	int number, fd;
	unsigned int functions; /* open devices of it */
};

struct vfio_domain {
	struct domain domain;
	int container;
	bool has_iommu; /* VFIO_SET_IOMMU is done */
	struct memory_window window;
	struct vfio_group *groups;
};

struct vfio_region {
	uint64_t size, offset;
	uint32_t flags;
	bool known, sparse;
	void *direct;
};

struct vfio_function {
	struct pci_function f;
	struct vfio_group *group;
	int fd;
	bool can_reset;
	struct vfio_region regions[VFIO_PCI_NUM_REGIONS];
};

static struct vfio_domain *to_vfio_domain(struct domain *domain)
{
	return (struct vfio_domain *)domain;
}

static struct vfio_function *to_vfio_function(struct pci_function *f)
{
	return (struct vfio_function *)f;
}

/* ---- memory ---- */

/* Bytes that this process has locked, as the kernel counts them against RLIMIT_MEMLOCK. */
static uint64_t locked_memory(void)
{
	uint64_t kib = 0;
	char line[128];
	FILE *f = fopen("/proc/self/status", "re");

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "VmLck: %" SCNu64, &kib) == 1)
			break;
	fclose(f);
	return kib << 10;
}

static int explain_memlock(size_t size)
{
	struct rlimit limit = {0};

	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (limit.rlim_cur == RLIM_INFINITY)
		return error_set(ENOMEM, "the kernel has no memory to pin %zu KiB", size >> 10);
	return error_set(ENOMEM,
			 "cannot pin %zu KiB: RLIMIT_MEMLOCK is %llu KiB and %llu KiB are in use; "
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
			domain->mappings, domain->mapping_limit);
	return error_set(code, "VFIO does not map %zu KiB at dma address 0x%llx: %s",
			 chunk->size >> 10, (unsigned long long)chunk->dma, strerror(code));
}

static int map_dma(struct vfio_domain *vd, const struct chunk *chunk)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)chunk->cpu,
		.iova = chunk->dma,
		.size = chunk->size,
	};

	if (ioctl(vd->container, VFIO_IOMMU_MAP_DMA, &map))
		return explain_map(&vd->domain, chunk);
	return 0;
}

static int unmap_dma(struct vfio_domain *vd, const struct chunk *chunk)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = chunk->dma,
		.size = chunk->size,
	};

	if (ioctl(vd->container, VFIO_IOMMU_UNMAP_DMA, &unmap))
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
	int err = iova_space_take(&domain->iova, size, align, last, &chunk->dma);

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
	err = map_dma(vd, chunk);
	if (!err)
		return 0;
	window_give(&vd->window, chunk->cpu, size);
release:
	iova_space_release(&domain->iova, chunk->dma, size);
	return err;
}

static int vfio_provide(struct domain *domain, size_t size, size_t align, dma_addr_t last,
			struct chunk *chunk)
{
	struct chunk made;
	int err;

	pthread_mutex_lock(&domain->lock);
	err = domain_check_limit(domain, size);
	if (!err)
		err = chunk_make(to_vfio_domain(domain), size, align, last, &made);
	if (!err) {
		domain->memory += size;
		domain->mappings++;
		*chunk = made;
	}
	pthread_mutex_unlock(&domain->lock);
	return err;
}

static int vfio_withdraw(struct domain *domain, const struct chunk *chunk)
{
	struct vfio_domain *vd = to_vfio_domain(domain);
	int err;

	pthread_mutex_lock(&domain->lock);
	err = unmap_dma(vd, chunk);
	if (!err) {
		window_give(&vd->window, chunk->cpu, chunk->size);
		iova_space_release(&domain->iova, chunk->dma, chunk->size);
		domain->memory -= chunk->size;
		domain->mappings--;
	}
	pthread_mutex_unlock(&domain->lock);
	return err;
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

/* A capability in a chain that starts at offset `at` of a structure of size bytes. */
static const struct vfio_info_cap_header *find_cap(const void *info, uint32_t size, uint32_t at,
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

static int read_ranges(struct domain *domain, const struct vfio_iommu_type1_info *info)
{
	const struct vfio_iommu_type1_info_cap_iova_range *cap;
	struct iova_range *usable;

	cap = (const void *)find_cap(info, info->argsz, info->cap_offset,
				     VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE);
	if (!cap || !cap->nr_iovas)
		return error_set(EOPNOTSUPP, "the kernel does not tell which dma addresses are "
					     "usable: Linux 5.4 or later is needed");
	usable = calloc(cap->nr_iovas, sizeof(*usable));
	if (!usable)
		return error_set(ENOMEM, "no memory for the IOMMU's ranges");
	for (uint32_t i = 0; i < cap->nr_iovas; i++)
		usable[i] = (struct iova_range){cap->iova_ranges[i].start, cap->iova_ranges[i].end};
	free(domain->usable);
	domain->usable = usable;
	domain->usable_count = cap->nr_iovas;
	return 0;
}

/* What the kernel says of the container's IOMMU, after the first group joined. */
static int domain_learn(struct vfio_domain *vd)
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
	avail = (const void *)find_cap(info, info->argsz, info->cap_offset,
				       VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL);
	domain->mapping_limit = avail ? avail->avail : 0;
	err = read_ranges(domain, info);
	free(info);
	for (size_t i = 0; !err && i < domain->usable_count; i++)
		if (iova_space_add(&domain->iova, domain->usable[i].first, domain->usable[i].last))
			err = error_set(ENOMEM, "no memory for the IOMMU's ranges");
	return err;
}

/* A further group may bring holes of its own. */
static int domain_learn_again(struct vfio_domain *vd)
{
	struct domain *domain = &vd->domain;
	struct vfio_iommu_type1_info *info = iommu_info(vd->container);
	int err;

	if (!info)
		return -errno;
	err = read_ranges(domain, info);
	free(info);
	if (!err && iova_space_restrict(&domain->iova, domain->usable, domain->usable_count))
		err = error_set(ENOMEM, "no memory for the IOMMU's ranges");
	return err;
}

static struct vfio_domain *vfio_domain_create(uint64_t memory_limit)
{
	struct vfio_domain *vd = calloc(1, sizeof(*vd));

	if (!vd) {
		error_set(ENOMEM, "no memory for a domain");
		return NULL;
	}
	if (domain_init(&vd->domain, &vfio_domain_ops, memory_limit))
		goto free_domain;
	vd->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (vd->container < 0) {
		error_system("cannot open /dev/vfio/vfio (is the module vfio loaded? modprobe "
			     "vfio-pci)");
		goto fini;
	}
	if (ioctl(vd->container, VFIO_GET_API_VERSION) != VFIO_API_VERSION ||
	    ioctl(vd->container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) <= 0) {
		error_set(EOPNOTSUPP, "this kernel's VFIO has no type1v2 IOMMU: "
				      "modprobe vfio_iommu_type1");
		goto close_container;
	}
	if (window_open(&vd->window))
		goto close_container;
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

/* ---- groups ---- */

static int group_open(int number)
{
	char path[32], blockers[256];
	struct vfio_group_status status = {.argsz = sizeof(status)};
	int fd;

	snprintf(path, sizeof(path), "/dev/vfio/%d", number);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 && errno == EBUSY)
		return error_set(EBUSY,
				 "IOMMU group %d is in use by another process, or by this one "
				 "(fuser -v %s shows which; options.share_with joins its domain)",
				 number, path);
	if (fd < 0 && (errno == EACCES || errno == EPERM))
		return error_set(errno, "no permission to open %s: run as root, or chown it to %s",
				 path, "the user that drives the device");
	if (fd < 0)
		return error_system("cannot open %s", path);
	if (ioctl(fd, VFIO_GROUP_GET_STATUS, &status)) {
		error_system("VFIO_GROUP_GET_STATUS of %s", path);
		goto fail;
	}
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE)) {
		sysfs_group_blockers(number, blockers, sizeof(blockers));
		error_set(
			EPERM,
			"IOMMU group %d is not viable: it also has %s; bind all of it to vfio-pci "
			"or to no driver",
			number, blockers[0] ? blockers : "a device with another driver");
		goto fail;
	}
	return fd;
fail:
	close(fd);
	return -errno;
}

static int explain_set_iommu(const char *address)
{
	if (errno == EPERM)
		return error_set(EPERM,
				 "%s: the platform has no interrupt remapping, which VFIO wants: "
				 "intremap=on for the IOMMU, or "
				 "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
				 address);
	return error_system("VFIO_SET_IOMMU for %s", address);
}

/* Put the group into the domain's container; the domain's lock is held. */
static int group_attach(struct vfio_domain *vd, struct vfio_group *group, const char *address)
{
	int err;

	if (ioctl(group->fd, VFIO_GROUP_SET_CONTAINER, &vd->container))
		return error_system("%s cannot join the container of IOMMU group %d: its IOMMU or "
				    "its reserved addresses do not go with what is mapped there; "
				    "open it before memory is allocated, or without share_with",
				    address, vd->groups ? vd->groups->number : group->number);
	if (!vd->has_iommu) {
		if (ioctl(vd->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
			return explain_set_iommu(address);
		err = domain_learn(vd);
		vd->has_iommu = !err;
		return err;
	}
	return domain_learn_again(vd);
}

/* The group of the domain with this number, opened if it isn't; the domain's lock is held. */
static struct vfio_group *group_get(struct vfio_domain *vd, int number, const char *address)
{
	struct vfio_group *group;

	for (group = vd->groups; group; group = group->next)
		if (group->number == number) {
			group->functions++;
			return group;
		}
	group = calloc(1, sizeof(*group));
	if (!group) {
		error_set(ENOMEM, "no memory for an IOMMU group");
		return NULL;
	}
	group->number = number;
	group->functions = 1;
	group->fd = group_open(number);
	if (group->fd < 0)
		goto free_group;
	if (group_attach(vd, group, address))
		goto close_group;
	group->next = vd->groups;
	vd->groups = group;
	return group;

close_group:
	close(group->fd);
free_group:
	free(group);
	return NULL;
}

static void group_put(struct vfio_domain *vd, struct vfio_group *group)
{
	struct vfio_group **link = &vd->groups;

	if (--group->functions)
		return;
	while (*link != group)
		link = &(*link)->next;
	*link = group->next;
	close(group->fd);
	free(group);
}

/* ---- the function: configuration space and registers ---- */

static int region_learn(struct vfio_function *vf, unsigned int index)
{
	struct vfio_region *region = &vf->regions[index];
	struct vfio_region_info head = {.argsz = sizeof(head), .index = index}, *info;

	if (region->known)
		return 0;
	if (ioctl(vf->fd, VFIO_DEVICE_GET_REGION_INFO, &head))
		return error_system("%s: VFIO tells nothing of region %u", vf->f.name, index);
	region->size = head.size;
	region->offset = head.offset;
	region->flags = head.flags;
	if ((head.flags & VFIO_REGION_INFO_FLAG_CAPS) && head.argsz > sizeof(head)) {
		info = calloc(1, head.argsz);
		if (!info)
			return error_set(ENOMEM, "no memory for a region's description");
		info->argsz = head.argsz;
		info->index = index;
		if (ioctl(vf->fd, VFIO_DEVICE_GET_REGION_INFO, info) == 0)
			region->sparse = find_cap(info, info->argsz, info->cap_offset,
						  VFIO_REGION_INFO_CAP_SPARSE_MMAP) != NULL;
		free(info);
	}
	region->known = true;
	return 0;
}

static int explain_config(struct vfio_function *vf, const char *verb, unsigned int where)
{
	return error_set(ENODEV,
			 "%s: cannot %s configuration space at 0x%x: the device is gone, or has no "
			 "such register",
			 vf->f.name, verb, where);
}

static int vfio_config_read(struct pci_function *f, unsigned int where, unsigned int width,
			    uint32_t *value)
{
	struct vfio_function *vf = to_vfio_function(f);
	struct vfio_region *config = &vf->regions[VFIO_PCI_CONFIG_REGION_INDEX];

	*value = 0;
	if (where + width > config->size ||
	    pread(vf->fd, value, width, (off_t)(config->offset + where)) != (ssize_t)width) {
		*value = UINT32_MAX;
		return explain_config(vf, "read", where);
	}
	return 0;
}

static int vfio_config_write(struct pci_function *f, unsigned int where, unsigned int width,
			     uint32_t value)
{
	struct vfio_function *vf = to_vfio_function(f);
	struct vfio_region *config = &vf->regions[VFIO_PCI_CONFIG_REGION_INDEX];

	if (where + width > config->size ||
	    pwrite(vf->fd, &value, width, (off_t)(config->offset + where)) != (ssize_t)width)
		return explain_config(vf, "write", where);
	return 0;
}

/* Map a BAR if it can be; the domain's lock is held. */
static int region_map(struct vfio_function *vf, unsigned int bar, bool is_io)
{
	struct vfio_region *region = &vf->regions[bar];
	int err = region_learn(vf, bar);
	void *direct;

	if (err || is_io || !region->size || region->direct || region->sparse ||
	    !(region->flags & VFIO_REGION_INFO_FLAG_MMAP))
		return err;
	direct = mmap(NULL, region->size, PROT_READ | PROT_WRITE, MAP_SHARED, vf->fd,
		      (off_t)region->offset);
	if (direct == MAP_FAILED)
		return error_system("%s: cannot map BAR %u", vf->f.name, bar);
	madvise(direct, region->size, MADV_DONTFORK);
	region->direct = direct;
	return 0;
}

/*
 * Where a part of the BAR can't be mapped (its MSI-X table, on kernels before 4.16), none of it
 * is: all registers of a window then take the same way.
 */
static int vfio_bar(struct pci_function *f, unsigned int bar, uint64_t *size, void **direct)
{
	struct vfio_function *vf = to_vfio_function(f);
	struct vfio_region *region = &vf->regions[bar];
	uint32_t base;
	int err = vfio_config_read(f, PCI_BASE_ADDRESS_0 + 4 * bar, 4, &base);

	if (err)
		return err;
	pthread_mutex_lock(&f->domain->lock);
	err = region_map(vf, bar, base & PCI_BASE_ADDRESS_SPACE_IO);
	pthread_mutex_unlock(&f->domain->lock);
	*size = base & PCI_BASE_ADDRESS_SPACE_IO ? 0 : region->size;
	*direct = region->direct;
	return err;
}

static uint64_t vfio_read(struct pci_function *f, unsigned int bar, uint64_t offset,
			  unsigned int width)
{
	struct vfio_function *vf = to_vfio_function(f);
	uint64_t value = 0;

	if (pread(vf->fd, &value, width, (off_t)(vf->regions[bar].offset + offset)) !=
	    (ssize_t)width)
		return UINT64_MAX;
	return value;
}

static void vfio_write(struct pci_function *f, unsigned int bar, uint64_t offset,
		       unsigned int width, uint64_t value)
{
	struct vfio_function *vf = to_vfio_function(f);

	/* What doesn't arrive shows as a device that reads all ones. */
	if (pwrite(vf->fd, &value, width, (off_t)(vf->regions[bar].offset + offset)) < 0)
		log_line(DMALAND_LOG_WARN, "%s: a write to BAR %u did not arrive: %s", f->name, bar,
			 strerror(errno));
}

static int vfio_reset(struct pci_function *f)
{
	struct vfio_function *vf = to_vfio_function(f);

	if (!vf->can_reset)
		return error_set(ENOTTY, "%s has no function reset", f->name);
	if (ioctl(vf->fd, VFIO_DEVICE_RESET))
		return error_system("%s: VFIO_DEVICE_RESET", f->name);
	return 0;
}

static bool vfio_is_dead(struct pci_function *f)
{
	(void)f;
	return false;
}

/* Leave the domain; its lock is not held. The last one ends it. */
static void domain_leave(struct vfio_domain *vd, struct vfio_group *group)
{
	unsigned int left;

	pthread_mutex_lock(&vd->domain.lock);
	if (group)
		group_put(vd, group);
	left = --vd->domain.devices;
	pthread_mutex_unlock(&vd->domain.lock);
	if (!left)
		vfio_domain_destroy(&vd->domain);
}

static void vfio_close(struct pci_function *f)
{
	struct vfio_function *vf = to_vfio_function(f);

	for (unsigned int i = 0; i < VFIO_PCI_NUM_REGIONS; i++)
		if (vf->regions[i].direct)
			munmap(vf->regions[i].direct, vf->regions[i].size);
	close(vf->fd);
	domain_leave(to_vfio_domain(f->domain), vf->group);
	free(vf);
}

static const struct pci_function_ops vfio_function_ops = {
	.config_read = vfio_config_read,
	.config_write = vfio_config_write,
	.bar = vfio_bar,
	.read = vfio_read,
	.write = vfio_write,
	.reset = vfio_reset,
	.is_dead = vfio_is_dead,
	.close = vfio_close,
};

/* ---- opening ---- */

static int device_open(struct vfio_function *vf, const char *address)
{
	struct vfio_device_info info = {.argsz = sizeof(info)};

	vf->fd = ioctl(vf->group->fd, VFIO_GROUP_GET_DEVICE_FD, address);
	if (vf->fd < 0)
		return error_system("VFIO does not give %s", address);
	fcntl(vf->fd, F_SETFD, FD_CLOEXEC);
	if (ioctl(vf->fd, VFIO_DEVICE_GET_INFO, &info)) {
		error_system("VFIO_DEVICE_GET_INFO of %s", address);
		goto fail;
	}
	vf->can_reset = info.flags & VFIO_DEVICE_FLAGS_RESET;
	if (region_learn(vf, VFIO_PCI_CONFIG_REGION_INDEX))
		goto fail;
	return 0;
fail:
	close(vf->fd);
	return -errno;
}

static int vfio_probe(const char *address)
{
	char driver[64], path[32];
	int group;

	if (!sysfs_is_pci_address(address))
		return error_set(EINVAL, "'%s' is not a PCI address: one looks like 0000:01:00.0",
				 address);
	if (!sysfs_device_exists(address))
		return error_set(ENODEV, "there is no PCI device %s (dmaland info lists them)",
				 address);
	if (sysfs_is_bridge(address))
		return error_set(EINVAL, "%s is a bridge, which VFIO does not give away", address);
	group = sysfs_iommu_group(address);
	if (group < 0)
		return error_set(
			ENODEV,
			"%s has no IOMMU group: the IOMMU is off; turn on VT-d or AMD-Vi in the "
			"firmware and boot with intel_iommu=on (AMD: on by default)",
			address);
	sysfs_driver(address, driver, sizeof(driver));
	if (!driver[0])
		return error_set(ENODEV,
				 "%s is bound to no driver; bind it to vfio-pci: modprobe vfio-pci "
				 "&& echo vfio-pci > "
				 "/sys/bus/pci/devices/%s/driver_override && echo %s > "
				 "/sys/bus/pci/drivers_probe",
				 address, address, address);
	if (!strstr(driver, "vfio")) /* vfio-pci, or a variant: mlx5-vfio-pci */
		return error_set(EBUSY,
				 "%s is bound to the kernel driver '%s'; bind it to vfio-pci: "
				 "modprobe vfio-pci; D="
				 "/sys/bus/pci/devices/%s; echo vfio-pci > $D/driver_override; "
				 "echo %s > $D/driver/unbind; echo %s > /sys/bus/pci/drivers_probe",
				 address, driver, address, address, address);
	snprintf(path, sizeof(path), "/dev/vfio/%d", group);
	if (access(path, R_OK | W_OK))
		return error_system("no access to %s: run as root, or chown it to the user that "
				    "drives the device",
				    path);
	return 0;
}

static int vfio_share(struct pci_function *share, struct vfio_domain **vd)
{
	if (share->domain->ops != &vfio_domain_ops)
		return error_set(EINVAL,
				 "a VFIO device can share only another VFIO device's memory, and "
				 "%s is none",
				 share->name);
	*vd = to_vfio_domain(share->domain);
	return 0;
}

static int vfio_open(const struct spec *spec, struct pci_function *share, uint64_t memory_limit,
		     struct pci_function **f)
{
	struct vfio_domain *vd = NULL;
	struct vfio_function *vf;
	int err;

	if (spec->option_count)
		return error_set(EINVAL, "vfio takes no option '%s'", spec->options[0].key);
	err = vfio_probe(spec->address);
	if (!err && share)
		err = vfio_share(share, &vd);
	if (err)
		return err;
	if (!vd)
		vd = vfio_domain_create(memory_limit);
	if (!vd)
		return -errno;

	pthread_mutex_lock(&vd->domain.lock);
	vd->domain.devices++;
	pthread_mutex_unlock(&vd->domain.lock);

	vf = calloc(1, sizeof(*vf));
	if (!vf) {
		err = error_set(ENOMEM, "no memory for a device");
		goto leave;
	}
	vf->f.ops = &vfio_function_ops;
	vf->f.domain = &vd->domain;
	snprintf(vf->f.name, sizeof(vf->f.name), "%.60s", spec->address);

	pthread_mutex_lock(&vd->domain.lock);
	vf->group = group_get(vd, sysfs_iommu_group(spec->address), spec->address);
	pthread_mutex_unlock(&vd->domain.lock);
	err = vf->group ? device_open(vf, spec->address) : -errno;
	if (err)
		goto free_function;
	*f = &vf->f;
	return 0;

free_function:
	domain_leave(vd, vf->group);
	free(vf);
	errno = -err;
	return err;
leave:
	domain_leave(vd, NULL);
	errno = -err;
	return err;
}

const struct backend vfio_backend = {
	.name = "vfio",
	.open = vfio_open,
	.probe = vfio_probe,
};
