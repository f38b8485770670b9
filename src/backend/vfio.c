/* SPDX-License-Identifier: MIT */
/*
 * vfio.c - devices through VFIO: configuration space, registers, reset; opening by address
 */
#include "backend/vfio.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mutex.h"
#include "backend/sysfs.h"

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
			region->sparse = vfio_find_cap(info, info->argsz, info->cap_offset,
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
		return error_mmap("%s: cannot map BAR %u", vf->f.name, bar);
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
	mutex_lock(&f->domain->lock);
	err = region_map(vf, bar, base & PCI_BASE_ADDRESS_SPACE_IO);
	mutex_unlock(&f->domain->lock);
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

/*
 * An ioctl in which the kernel resets the device: it does not wait for the device's lock but says EAGAIN, while a driver is
 * bound or lets go, another process resets the device, or the bus is scanned. Each is over in a moment.
 */
static int ioctl_with_reset(int fd, unsigned long request, const void *argument)
{
	enum { TRIES = 400, WAIT_MS = 5 };
	int result = ioctl(fd, request, argument);

	for (int i = 0; i < TRIES && result < 0 && errno == EAGAIN; i++) {
		poll(NULL, 0, WAIT_MS);
		result = ioctl(fd, request, argument);
	}
	return result;
}

/* EAGAIN that has stayed for all the tries of ioctl_with_reset(). */
static int explain_busy(const char *name, const char *done)
{
	return error_set(EAGAIN,
			 "VFIO has not %s %s for two seconds: the kernel or another process binds, "
			 "resets or removes it; try again when that is over",
			 done, name);
}

static int vfio_reset(struct pci_function *f)
{
	struct vfio_function *vf = to_vfio_function(f);

	if (!vf->can_reset)
		return error_set(ENOTTY, "%s has no function reset", f->name);
	if (ioctl_with_reset(vf->fd, VFIO_DEVICE_RESET, NULL) == 0)
		return 0;
	return errno == EAGAIN ? explain_busy(f->name, "reset")
			       : error_system("%s: VFIO_DEVICE_RESET", f->name);
}

static bool vfio_is_dead(struct pci_function *f)
{
	(void)f;
	return false;
}

static void vfio_disown(struct pci_function *f)
{
	struct vfio_function *vf = to_vfio_function(f);

	vfio_events_close(vf);
	close(vf->fd);
	vfio_domain_disown(to_vfio_domain(f->domain));
}

static void vfio_close(struct pci_function *f)
{
	struct vfio_function *vf = to_vfio_function(f);

	for (unsigned int i = 0; i < VFIO_PCI_NUM_REGIONS; i++)
		if (vf->regions[i].direct)
			munmap(vf->regions[i].direct, vf->regions[i].size);
	vfio_events_close(vf);
	close(vf->fd);
	vfio_domain_leave(to_vfio_domain(f->domain), vf->group);
	free(vf);
}

static const struct pci_function_ops vfio_function_ops = {
	.config_read = vfio_config_read,
	.config_write = vfio_config_write,
	.bar = vfio_bar,
	.read = vfio_read,
	.write = vfio_write,
	.reset = vfio_reset,
	.irq_count = vfio_irq_count,
	.irq_enable = vfio_irq_enable,
	.irq_disable = vfio_irq_disable,
	.irq_mask = vfio_irq_mask,
	.take_events = vfio_take_events,
	.is_dead = vfio_is_dead,
	.close = vfio_close,
	.disown = vfio_disown,
};

/* ---- opening ---- */

static int address_check(const char *address)
{
	if (sysfs_is_pci_address(address))
		return 0;
	return error_set(EINVAL, "'%s' is not a PCI address: one looks like 0000:01:00.0", address);
}

static int vfio_probe(const char *address)
{
	char driver[64], path[32];
	int group;

	if (address_check(address))
		return -EINVAL;
	if (!sysfs_is_there())
		return error_set(
			ENODEV, "there is no /sys here, where PCI devices are looked for: mount -t "
				"sysfs sysfs /sys, or pass the open group in options.group_fd");
	if (!sysfs_device_exists(address))
		return error_set(ENODEV, "there is no PCI device %s (dmaland info lists them)",
				 address);
	if (sysfs_is_bridge(address))
		return error_set(EINVAL, "%s is a bridge, which VFIO does not give away", address);
	group = sysfs_iommu_group(address);
	sysfs_driver(address, driver, sizeof(driver));
	if (group < 0 && driver[0] && sysfs_has_iommu())
		return error_set(
			ENODEV,
			"%s has no IOMMU group: it is not behind this machine's IOMMU, and "
			"VFIO does not give it away",
			address);
	/* Behind a virtio-iommu a device has a group once a driver takes it. */
	if (group < 0 && !sysfs_has_iommu())
		return error_set(
			ENODEV,
			"%s has no IOMMU group: the IOMMU is off; turn on VT-d or AMD-Vi in the "
			"firmware and boot with intel_iommu=on (AMD: on by default)",
			address);
	if (!driver[0])
		return error_set(ENODEV,
				 "%s is bound to no driver; give it to VFIO with: dmaland bind %s",
				 address, address);
	if (!sysfs_driver_is_vfio(driver))
		return error_set(EBUSY,
				 "%s is bound to the kernel driver '%s'; free it with: dmaland "
				 "bind %s",
				 address, driver, address);
	snprintf(path, sizeof(path), "/dev/vfio/%d", group);
	if (access(path, R_OK | W_OK))
		return error_system("no access to %s: run as root, or chown it to the user that "
				    "drives the device",
				    path);
	return 0;
}

/* A UUID's digits and dashes. */
static bool is_token(const char *text)
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

	for (size_t i = 0; i < sizeof(form); i++)
		if (form[i] == 'x' ? !isxdigit((unsigned char)text[i]) : form[i] != text[i])
			return false;
	return true;
}

/*
 * Linux, vfio_pci_validate_vf_token(): who opens a physical function says a token, and only who knows it opens its virtual
 * functions, which could do harm together with it; and the physical one again while they are open.
 */
static int explain_token(int code, const char *address, const char *token)
{
	char physical[SYSFS_ADDRESS], owner[96] = "virtual functions of it are open";

	if (sysfs_physical_function(address, physical))
		snprintf(owner, sizeof(owner), "its physical function %s is VFIO's too", physical);
	if (code == EINVAL)
		return error_set(
			EINVAL,
			"%s takes no vf_token=: that is for physical functions, and for virtual "
			"ones whose physical function is bound to vfio-pci; leave it out",
			address);
	if (token)
		return error_set(EACCES,
				 "%s: vf_token=%s is not the token that its physical function was "
				 "opened with (%s)",
				 address, token, owner);
	return error_set(EACCES,
			 "%s wants a token, as %s: add vf_token=UUID to the spec, with the UUID "
			 "that the physical function was opened with",
			 address, owner);
}

/* The device's file from its group. VFIO enters a device there a moment after the kernel shows it as bound. */
static int device_file_of_group(const struct vfio_function *vf, const struct open_options *options,
				const char *address, const char *token)
{
	enum { TRIES = 400, WAIT_MS = 5 };
	char name[96];
	int fd;

	snprintf(name, sizeof(name), "%.32s%s%.40s", address, token ? " vf_token=" : "",
		 token ? token : "");
	for (int i = 0;; i++) {
		fd = file_raise(ioctl_with_reset(vf->group->fd, VFIO_GROUP_GET_DEVICE_FD, name));
		if (fd >= 0 || errno != ENODEV || i == TRIES)
			break;
		if (options->group_fd)
			return error_set(ENODEV,
					 "%s is not in the group of options.group_fd, or not bound "
					 "to vfio-pci",
					 address);
		if (vfio_probe(address))
			return -errno;
		poll(NULL, 0, WAIT_MS);
	}
	if (fd < 0 && (errno == EACCES || (errno == EINVAL && token)))
		return explain_token(errno, address, token);
	if (fd < 0 && errno == EAGAIN)
		return explain_busy(address, "given");
	if (fd < 0)
		return error_system("VFIO does not give %s", address);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fd;
}

/* The device's file, from its group or as it was handed to us. */
static int device_file(const struct vfio_function *vf, const struct open_options *options,
		       const char *address, const char *token)
{
	return options->device_fd ? vfio_dup(options->device_fd, "device_fd")
				  : device_file_of_group(vf, options, address, token);
}

static int device_open(struct vfio_function *vf, const struct open_options *options,
		       const char *address, const char *token)
{
	struct vfio_device_info info = {.argsz = sizeof(info)};

	vf->fd = device_file(vf, options, address, token);
	if (vf->fd < 0)
		return -errno;
	if (ioctl(vf->fd, VFIO_DEVICE_GET_INFO, &info) || !(info.flags & VFIO_DEVICE_FLAGS_PCI)) {
		if (options->device_fd)
			error_set(EINVAL, "options.device_fd is no PCI device of VFIO");
		else
			error_system("VFIO_DEVICE_GET_INFO of %s", address);
		goto fail;
	}
	vf->can_reset = info.flags & VFIO_DEVICE_FLAGS_RESET;
	if (region_learn(vf, VFIO_PCI_CONFIG_REGION_INDEX) || vfio_events_arm(vf))
		goto fail;
	return 0;
fail:
	close(vf->fd);
	return -errno;
}

static int options_check(const struct open_options *options)
{
	if (options->share && options->container_fd)
		return error_set(EINVAL,
				 "options.container_fd and share_with: the device joins the "
				 "container of %s; leave one of them out",
				 options->share->name);
	if (options->device_fd && !options->container_fd && !options->share)
		return error_set(EINVAL, "options.device_fd without container_fd: pass the "
					 "container too that the device's group is in");
	return 0;
}

static int vfio_open(const struct spec *spec, const struct open_options *options,
		     struct pci_function **f)
{
	const char *token = spec_get(spec, "vf_token");
	struct vfio_domain *vd = NULL;
	struct vfio_function *vf;
	int err;

	if (token && !is_token(token))
		return error_set(
			EINVAL,
			"vf_token=%s is no UUID, as 2ab74924-c335-45f4-9b16-8569e5b08258 is "
			"(uuidgen makes one)",
			token);
	err = options_check(options);
	if (!err) /* sysfs is not asked about what is open already */
		err = options->group_fd || options->device_fd ? address_check(spec->address)
							      : vfio_probe(spec->address);
	if (!err && options->share)
		err = vfio_domain_of(options->share, &vd);
	if (err)
		return err;
	vf = calloc(1, sizeof(*vf));
	if (!vf)
		return error_set(ENOMEM, "no memory for a device");
	if (!vd)
		vd = vfio_domain_create(options, spec->address);
	if (!vd) {
		err = -errno;
		goto free_function;
	}
	vf->f.ops = &vfio_function_ops;
	vf->f.domain = &vd->domain;
	snprintf(vf->f.name, sizeof(vf->f.name), "%.60s", spec->address);
	err = vfio_domain_join(vd, options, spec->address, &vf->group);
	if (!err)
		err = device_open(vf, options, spec->address, token);
	if (!err) {
		*f = &vf->f;
		return 0;
	}
	vfio_domain_leave(vd, vf->group);
free_function:
	free(vf);
	errno = -err;
	return err;
}

static const char *const vfio_keys[] = {"vf_token", NULL};

const struct backend vfio_backend = {
	.name = "vfio",
	.keys = vfio_keys,
	.takes_files = true,
	.open = vfio_open,
	.probe = vfio_probe,
};
