/* SPDX-License-Identifier: MIT */
/*
 * vfio_irq.c - interrupts and events of a device through VFIO
 *
 * The kernel signals our eventfds. Older kernels set up all MSI or MSI-X vectors at once or none
 * (VFIO_IRQ_INFO_NORESIZE), and that goes for all: vectors are set in one call and unset in another.
 *
 * No kernel to date masks MSI or MSI-X for VFIO. What all of them can do is take the trigger of one
 * vector away: the kernel then masks it in the device, which keeps what comes, and unmasks it when
 * the trigger is given back. But what was sent before and not yet delivered is lost: the kernel
 * frees the vector, and drops what arrives there later. With MSI the device may have no mask, and
 * all that came is lost. So unmasking signals in any case.
 *
 * Two more interrupts are the kernel's own: the device is wanted back (VFIO_PCI_REQ_IRQ_INDEX), and
 * it reported an error (VFIO_PCI_ERR_IRQ_INDEX, of PCIe devices). Each has an eventfd, armed as long
 * as the device is open, and an epoll file descriptor is readable when one of them is. Without the
 * first, a removal would block in the kernel and nobody would be told.
 */
#include "backend/vfio.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"

static const char *kind_name(unsigned int kind)
{
	return kind == PCI_IRQ_MSIX ? "MSI-X" : kind == PCI_IRQ_MSI ? "MSI" : "INTx";
}

static uint32_t kind_index(unsigned int kind)
{
	return kind == PCI_IRQ_MSIX  ? VFIO_PCI_MSIX_IRQ_INDEX
	       : kind == PCI_IRQ_MSI ? VFIO_PCI_MSI_IRQ_INDEX
				     : VFIO_PCI_INTX_IRQ_INDEX;
}

/* VFIO_DEVICE_SET_IRQS: 0, -errno, or how many vectors the kernel has where it has fewer. */
static int irqs_set(struct vfio_function *vf, uint32_t index, uint32_t flags, uint32_t first,
		    const int *fds, uint32_t n)
{
	size_t data = flags & VFIO_IRQ_SET_DATA_EVENTFD ? n * sizeof(*fds) : 0;
	union {
		struct vfio_irq_set set;
		char space[sizeof(struct vfio_irq_set) + VFIO_VECTORS_MAX * sizeof(int)];
	} request;
	int result;

	request.set = (struct vfio_irq_set){
		.argsz = (uint32_t)(sizeof(request.set) + data),
		.flags = flags,
		.index = index,
		.start = first,
		.count = n,
	};
	if (data)
		memcpy(request.set.data, fds, data);
	result = ioctl(vf->fd, VFIO_DEVICE_SET_IRQS, &request);
	return result < 0 ? -errno : result;
}

unsigned int vfio_irq_count(struct pci_function *f, unsigned int kind)
{
	struct vfio_irq_info info = {.argsz = sizeof(info), .index = kind_index(kind)};

	if (ioctl(to_vfio_function(f)->fd, VFIO_DEVICE_GET_IRQ_INFO, &info) ||
	    !(info.flags & VFIO_IRQ_INFO_EVENTFD))
		return 0;
	return info.count < VFIO_VECTORS_MAX ? info.count : VFIO_VECTORS_MAX;
}

int vfio_irq_enable(struct pci_function *f, unsigned int kind, const int *fds, unsigned int *n)
{
	struct vfio_function *vf = to_vfio_function(f);
	int err = irqs_set(vf, kind_index(kind),
			   VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD, 0, fds, *n);

	/* MSI-X fails vector by vector, and it is not told at which. */
	if (err > 0 || err == -ENOSPC) {
		*n = err > 0 ? (unsigned int)err : *n / 2;
		return -ENOSPC;
	}
	if (err)
		return error_system("%s: VFIO does not set up %u vectors of %s", f->name, *n,
				    kind_name(kind));
	memset(vf->masked, 0, sizeof(vf->masked));
	return 0;
}

void vfio_irq_disable(struct pci_function *f, unsigned int kind)
{
	if (irqs_set(to_vfio_function(f), kind_index(kind),
		     VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_NONE, 0, NULL, 0))
		log_line(DMALAND_LOG_WARN, "%s: VFIO does not let go of its %s vectors: %s",
			 f->name, kind_name(kind), strerror(errno));
}

/* Take the trigger of a message away, or give it back. */
static int message_mask(struct vfio_function *vf, unsigned int kind, unsigned int vector,
			bool masked)
{
	uint64_t *word = &vf->masked[vector / 64], bit = UINT64_C(1) << vector % 64;
	bool was_masked = __atomic_load_n(word, __ATOMIC_RELAXED) & bit;
	int fd = masked ? -1 : vf->f.irq.fds[vector];
	int err;

	if (was_masked == masked)
		return 0;
	err = irqs_set(vf, kind_index(kind),
		       VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD, vector, &fd, 1);
	if (err)
		return err;
	__atomic_fetch_xor(word, bit, __ATOMIC_RELAXED);
	if (!masked)
		eventfd_write(fd, 1);
	return 0;
}

int vfio_irq_mask(struct pci_function *f, unsigned int kind, unsigned int vector, bool masked)
{
	struct vfio_function *vf = to_vfio_function(f);
	uint32_t action = masked ? VFIO_IRQ_SET_ACTION_MASK : VFIO_IRQ_SET_ACTION_UNMASK;
	int err;

	if (kind == PCI_IRQ_INTX)
		err = irqs_set(vf, VFIO_PCI_INTX_IRQ_INDEX, action | VFIO_IRQ_SET_DATA_NONE, 0,
			       NULL, 1);
	else
		err = message_mask(vf, kind, vector, masked);
	return err ? error_system("%s: VFIO does not %s vector %u of %s", f->name,
				  masked ? "mask" : "unmask", vector, kind_name(kind))
		   : 0;
}

/* ---- events ---- */

/* An eventfd that the kernel signals; *fd stays -1 where the device has no such event. */
static int event_arm(struct vfio_function *vf, uint32_t index, int *fd)
{
	struct vfio_irq_info info = {.argsz = sizeof(info), .index = index};
	struct epoll_event event = {.events = EPOLLIN};

	if (ioctl(vf->fd, VFIO_DEVICE_GET_IRQ_INFO, &info) || !info.count)
		return 0;
	*fd = file_raise(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
	if (*fd < 0)
		return error_system("%s: no eventfd for the device's events", vf->f.name);
	if (epoll_ctl(vf->f.event_fd, EPOLL_CTL_ADD, *fd, &event))
		return error_system("%s: cannot watch the device's events", vf->f.name);
	if (irqs_set(vf, index, VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD, 0, fd, 1))
		return error_system("%s: VFIO does not tell of the device's events", vf->f.name);
	return 0;
}

int vfio_events_arm(struct vfio_function *vf)
{
	int err;

	vf->removal = vf->error = -1;
	vf->f.event_fd = file_raise(epoll_create1(EPOLL_CLOEXEC));
	if (vf->f.event_fd < 0)
		return error_system("%s: cannot watch the device's events", vf->f.name);
	err = event_arm(vf, VFIO_PCI_REQ_IRQ_INDEX, &vf->removal);
	if (!err)
		err = event_arm(vf, VFIO_PCI_ERR_IRQ_INDEX, &vf->error);
	if (err)
		vfio_events_close(vf);
	return err;
}

void vfio_events_close(struct vfio_function *vf)
{
	if (vf->removal >= 0)
		close(vf->removal);
	if (vf->error >= 0)
		close(vf->error);
	close(vf->f.event_fd);
}

static bool event_take(int fd)
{
	eventfd_t count;

	return fd >= 0 && eventfd_read(fd, &count) == 0;
}

/* A device that was pulled out is asked for as one that is to be removed. */
static bool is_pulled_out(struct pci_function *f)
{
	uint32_t vendor;

	return f->ops->config_read(f, PCI_VENDOR_ID, 2, &vendor) || vendor == 0xffff;
}

unsigned int vfio_take_events(struct pci_function *f)
{
	struct vfio_function *vf = to_vfio_function(f);
	unsigned int events = event_take(vf->error) ? DMALAND_EVENT_ERROR : 0;

	if (event_take(vf->removal))
		events |= DMALAND_EVENT_REMOVE | (is_pulled_out(f) ? DMALAND_EVENT_GONE : 0u);
	return events;
}
