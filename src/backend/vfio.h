/* SPDX-License-Identifier: MIT */
/*
 * vfio.h - what the files of the VFIO backend share
 *
 *   vfio_domain  = container (/dev/vfio/vfio): the address space; its mappings   vfio_domain.c
 *     vfio_group = /dev/vfio/N: devices that the IOMMU can't tell apart; held while any is open
 *                                                                                vfio_group.c
 *       vfio_function = the device's file: regions by pread, pwrite and mmap     vfio.c
 *                       its interrupts and events                                vfio_irq.c
 *
 * Each of the three files may be handed to us open. A device whose own file is handed, and whose
 * group's is not, has no vfio_group: in the kernel a device holds its group.
 *
 * The ioctls are those of linux/vfio.h; Documentation/driver-api/vfio.rst of the kernel says in
 * which order they go.
 */
#ifndef BACKEND_VFIO_H
#define BACKEND_VFIO_H

#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <sys/types.h>

#include "backend/backend.h"
#include "backend/window.h"

struct vfio_group {
	struct vfio_group *next;
	char name[56]; /* in messages */
	dev_t file;    /* which group it is: the number of its file */
	int fd;
	bool attached;		/* to the container, by us */
	unsigned int functions; /* open devices of it */
};

struct vfio_domain {
	struct domain domain;
	int container;
	bool handed;	  /* the container was: groups may be in it already */
	bool known;	  /* what its IOMMU can do */
	bool pins_shared; /* the kernel pins pages to be read that are not the process's alone */
	struct memory_window window;
	struct vfio_group *groups;
};

struct vfio_region {
	uint64_t size, offset;
	uint32_t flags;
	bool known, sparse;
	void *direct;
};

#define VFIO_VECTORS_MAX 2048 /* PCI 3.0, 6.8.2: MSI-X has at most so many */

struct vfio_function {
	struct pci_function f;
	struct vfio_group *group;
	int fd;
	bool can_reset;
	struct vfio_region regions[VFIO_PCI_NUM_REGIONS];
	uint64_t masked[VFIO_VECTORS_MAX / 64]; /* bitmap: vectors whose trigger was taken away */
	int removal, error;			/* eventfds, or -1 */
};

static inline struct vfio_function *to_vfio_function(struct pci_function *f)
{
	return (struct vfio_function *)f;
}

static inline struct vfio_domain *to_vfio_domain(struct domain *domain)
{
	return (struct vfio_domain *)domain;
}

/* Our own copy of a file descriptor from this option, or -errno in words. */
int vfio_dup(int fd, const char *option);

/* A container with no device yet, its memory near this one; NULL with the error set. */
struct vfio_domain *vfio_domain_create(const struct open_options *options, const char *address);

/* The domain of a device that was opened by this backend. 0 or -EINVAL in words. */
int vfio_domain_of(struct pci_function *share, struct vfio_domain **vd);

/* Ask the kernel what the container's IOMMU can do, whenever a group joined; the domain's lock is held. */
int vfio_domain_learn(struct vfio_domain *vd);

/*
 * One device more in the domain, with its group, or NULL where that is not ours. 0, or -errno in words, the
 * domain as it was. Each vfio_domain_join(), also one that failed, wants a vfio_domain_leave(); the
 * last ends the domain.
 */
int vfio_domain_join(struct vfio_domain *vd, const struct open_options *options,
		     const char *address, struct vfio_group **group);
void vfio_domain_leave(struct vfio_domain *vd, struct vfio_group *group);

/* Close its files, in the child of a fork. */
void vfio_domain_disown(struct vfio_domain *vd);

/* The interrupts of struct pci_function_ops. */
unsigned int vfio_irq_count(struct pci_function *f, unsigned int kind);
int vfio_irq_enable(struct pci_function *f, unsigned int kind, const int *fds, unsigned int *n);
void vfio_irq_disable(struct pci_function *f, unsigned int kind);
int vfio_irq_mask(struct pci_function *f, unsigned int kind, unsigned int vector, bool masked);

/* Its events, from opening to closing the device. */
int vfio_events_arm(struct vfio_function *vf);
void vfio_events_close(struct vfio_function *vf);
unsigned int vfio_take_events(struct pci_function *f);

/* A capability in a chain that starts at offset `at` of a structure of size bytes, or NULL. */
const struct vfio_info_cap_header *vfio_find_cap(const void *info, uint32_t size, uint32_t at,
						 unsigned int id);

#endif
