/* SPDX-License-Identifier: MIT */
/*
 * vfio.h - what the two files of the VFIO backend share
 *
 *   vfio_domain  = container (/dev/vfio/vfio): the address space; its mappings   vfio_domain.c
 *     vfio_group = /dev/vfio/N: devices that the IOMMU can't tell apart; held while any is open
 *       vfio_function = the device's file: regions by pread, pwrite and mmap     vfio.c
 *
 * The ioctls are those of linux/vfio.h; Documentation/driver-api/vfio.rst of the kernel says in
 * which order they go.
 */
#ifndef BACKEND_VFIO_H
#define BACKEND_VFIO_H

#include <linux/vfio.h>

#include "backend/backend.h"
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

static inline struct vfio_domain *to_vfio_domain(struct domain *domain)
{
	return (struct vfio_domain *)domain;
}

/* A container with no group yet, its memory near this device; NULL with the error set. */
struct vfio_domain *vfio_domain_create(uint64_t memory_limit, const char *address);

/* The domain of a device that was opened by this backend. 0 or -EINVAL in words. */
int vfio_domain_of(struct pci_function *share, struct vfio_domain **vd);

/*
 * One device more, of this group, in the domain; NULL with the error set, the domain as it was. Each
 * vfio_domain_join(), also one that failed, wants a vfio_domain_leave(), with NULL for a group then;
 * the last ends the domain.
 */
struct vfio_group *vfio_domain_join(struct vfio_domain *vd, int number, const char *address);
void vfio_domain_leave(struct vfio_domain *vd, struct vfio_group *group);

/* Close its files, in the child of a fork. */
void vfio_domain_disown(struct vfio_domain *vd);

/* A capability in a chain that starts at offset `at` of a structure of size bytes, or NULL. */
const struct vfio_info_cap_header *vfio_find_cap(const void *info, uint32_t size, uint32_t at,
						 unsigned int id);

#endif
