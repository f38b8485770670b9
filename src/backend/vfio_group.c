/* SPDX-License-Identifier: MIT */
/*
 * vfio_group.c - groups of VFIO join and leave a container
 *
 * A group is opened by its number, which sysfs tells, or comes as a file descriptor from somebody who may
 * open it. Of that one nothing is known but what the descriptor says: the number of its file, by
 * which two of the same group are told, and whether it is in a container already. A group that we
 * put into the container we take out of it again, since its owner may hold it open for longer.
 */
#include "backend/vfio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mutex.h"
#include "backend/sysfs.h"

int vfio_dup(int fd, const char *option)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, FILE_FIRST);

	if (copy < 0 && errno == EBADF)
		return error_set(EBADF, "options.%s is %d, which is no open file descriptor",
				 option, fd);
	return copy < 0 ? error_system("cannot duplicate options.%s", option) : copy;
}

/* The group's file: /dev/vfio/NUMBER. */
static int group_open(int number, const char *path)
{
	int fd = file_raise(open(path, O_RDWR | O_CLOEXEC));

	if (fd < 0 && errno == EBUSY)
		return error_set(EBUSY,
				 "IOMMU group %d is in use by another process, or by this one "
				 "(fuser -v %s shows which; options.share_with joins its domain)",
				 number, path);
	if (fd < 0 && (errno == EACCES || errno == EPERM))
		return error_set(errno, "no permission to open %s: run as root, or chown it to %s",
				 path, "the user that drives the device");
	return fd < 0 ? error_system("cannot open %s", path) : fd;
}

/* Is it a group, and may all of it be used? Which flags VFIO_GROUP_GET_STATUS has, or -errno. */
static int group_status(const struct vfio_group *group, int number)
{
	struct vfio_group_status status = {.argsz = sizeof(status)};
	char blockers[256] = "";

	if (ioctl(group->fd, VFIO_GROUP_GET_STATUS, &status)) {
		if (number < 0)
			return error_set(EINVAL, "options.group_fd is no VFIO group: open "
						 "/dev/vfio/N for it, N being the device's group");
		return error_system("VFIO_GROUP_GET_STATUS of %s", group->name);
	}
	if (status.flags & VFIO_GROUP_FLAGS_VIABLE)
		return (int)status.flags;
	if (number >= 0)
		sysfs_group_blockers(number, blockers, sizeof(blockers));
	return error_set(EPERM,
			 "%s is not viable: it also has %s; bind all of it to vfio-pci or to no "
			 "driver",
			 group->name, blockers[0] ? blockers : "a device with another driver");
}

static int explain_set_iommu(const char *address)
{
	if (errno == EPERM)
		return error_set(
			EPERM,
			"%s: the platform has no interrupt remapping, which VFIO wants: turn "
			"it on in the firmware, or as intremap=on of a virtual machine's IOMMU "
			"(virtio-iommu has none); or, where whoever drives the device is "
			"trusted, echo Y > "
			"/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
			address);
	if (errno == EINVAL) /* no group is in it */
		return error_set(EINVAL,
				 "options.container_fd is not the container that the group of %s "
				 "is in",
				 address);
	return error_system("VFIO_SET_IOMMU for %s", address);
}

/* The container has a group, and now an IOMMU, unless its owner gave it one; the domain's lock is held. */
static int container_begin(struct vfio_domain *vd, const char *address)
{
	struct vfio_iommu_type1_info info = {.argsz = sizeof(info)};

	if (!vd->known && ioctl(vd->container, VFIO_IOMMU_GET_INFO, &info) &&
	    ioctl(vd->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		return explain_set_iommu(address);
	return vfio_domain_learn(vd);
}

/* Put the group into the domain's container, if it isn't; the domain's lock is held. */
static int group_attach(struct vfio_domain *vd, struct vfio_group *group, int flags,
			const char *address)
{
	if (flags & VFIO_GROUP_FLAGS_CONTAINER_SET) {
		if (vd->handed || vd->known)
			return container_begin(vd, address);
		return error_set(EBUSY,
				 "%s is in a container already: pass that one too, as "
				 "options.container_fd",
				 group->name);
	}
	if (ioctl(group->fd, VFIO_GROUP_SET_CONTAINER, &vd->container))
		return error_system("%s cannot join the container of %s: its IOMMU or its reserved "
				    "addresses do not go with what is mapped there; open it before "
				    "memory is allocated, or without share_with",
				    address, vd->groups ? vd->groups->name : group->name);
	group->attached = true;
	return container_begin(vd, address);
}

/* Its devices are closed; if a copy that somebody else has of one is not, it stays where it is. */
static void group_close(struct vfio_group *group)
{
	if (group->attached)
		ioctl(group->fd, VFIO_GROUP_UNSET_CONTAINER);
	close(group->fd);
	free(group);
}

/* A group that is new to the domain, of this number, or of the descriptor handed; its lock is held. */
static struct vfio_group *group_create(struct vfio_domain *vd, int number, const char *path,
				       int handed, const char *address)
{
	struct vfio_group *group = calloc(1, sizeof(*group));
	int flags, code;

	if (!group) {
		error_set(ENOMEM, "no memory for an IOMMU group");
		return NULL;
	}
	if (handed)
		snprintf(group->name, sizeof(group->name), "the IOMMU group of %.32s", address);
	else
		snprintf(group->name, sizeof(group->name), "IOMMU group %d", number);
	group->fd = handed ? vfio_dup(handed, "group_fd") : group_open(number, path);
	if (group->fd < 0) {
		free(group);
		return NULL;
	}
	flags = group_status(group, number);
	if (flags >= 0 && group_attach(vd, group, flags, address) == 0)
		return group;
	code = errno;
	group_close(group);
	errno = code;
	return NULL;
}

/* The group that the domain has already, or a new one; the domain's lock is held. */
static struct vfio_group *group_get(struct vfio_domain *vd, int handed, const char *address)
{
	int number = handed ? -1 : sysfs_iommu_group(address);
	struct vfio_group *group;
	struct stat file = {0};
	char path[32];

	snprintf(path, sizeof(path), "/dev/vfio/%d", number);
	if (handed ? fstat(handed, &file) : stat(path, &file))
		file.st_rdev = 0; /* no group's: opening it says what is wrong */
	for (group = vd->groups; group; group = group->next)
		if (group->file == file.st_rdev)
			break;
	if (!group) {
		group = group_create(vd, number, path, handed, address);
		if (!group)
			return NULL;
		group->file = file.st_rdev;
		group->next = vd->groups;
		vd->groups = group;
	}
	group->functions++;
	return group;
}

static void group_put(struct vfio_domain *vd, struct vfio_group *group)
{
	struct vfio_group **link = &vd->groups;

	if (--group->functions)
		return;
	while (*link != group)
		link = &(*link)->next;
	*link = group->next;
	group_close(group);
}

int vfio_domain_join(struct vfio_domain *vd, const struct open_options *options,
		     const char *address, struct vfio_group **group)
{
	int err = 0;

	*group = NULL;
	mutex_lock(&vd->domain.lock);
	vd->domain.devices++;
	if (options->device_fd && !options->group_fd)
		err = container_begin(vd, address);
	else if (!(*group = group_get(vd, options->group_fd, address)))
		err = -errno;
	mutex_unlock(&vd->domain.lock);
	return err;
}

void vfio_domain_leave(struct vfio_domain *vd, struct vfio_group *group)
{
	unsigned int left;

	mutex_lock(&vd->domain.lock);
	if (group)
		group_put(vd, group);
	left = --vd->domain.devices;
	mutex_unlock(&vd->domain.lock);
	if (!left)
		vd->domain.ops->destroy(&vd->domain);
}

/* Called for each function of the domain. */
void vfio_domain_disown(struct vfio_domain *vd)
{
	for (struct vfio_group *group = vd->groups; group; group = group->next)
		if (group->fd >= 0) {
			close(group->fd);
			group->fd = -1;
		}
	if (vd->container >= 0)
		close(vd->container);
	vd->container = -1;
}
