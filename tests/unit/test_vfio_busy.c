/* SPDX-License-Identifier: MIT */
/*
 * test_vfio_busy.c - a device of VFIO that others bind or reset: the kernel says EAGAIN, for a while or for good
 *
 * The kernel's VFIO is a few ioctls here, on files that stand for the container, the group and the device.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define NAME "0000:03:00.0"

static struct {
	int group, device;
	unsigned long busy;	    /* the request that is answered with EAGAIN ... */
	unsigned int times, pauses; /* ... so many times */
} kernel;

/* What the IOMMU can do: map any address. */
struct iommu {
	struct vfio_iommu_type1_info info;
	struct vfio_info_cap_header
		header; /* the rest is struct vfio_iommu_type1_info_cap_iova_range */
	uint32_t nr_iovas, reserved;
	struct vfio_iova_range range;
};

_Static_assert(offsetof(struct iommu, range) - offsetof(struct iommu, header) ==
		       offsetof(struct vfio_iommu_type1_info_cap_iova_range, iova_ranges),
	       "as the kernel has it");

static int tell_iommu(struct iommu *iommu)
{
	if (iommu->info.argsz < sizeof(*iommu)) {
		iommu->info.argsz = sizeof(*iommu);
		return 0;
	}
	iommu->info.flags = VFIO_IOMMU_INFO_CAPS;
	iommu->info.cap_offset = offsetof(struct iommu, header);
	iommu->header.id = VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE;
	iommu->nr_iovas = 1;
	iommu->range.end = UINT64_MAX;
	return 0;
}

static int answer(unsigned long request, void *argument)
{
	switch (request) {
	case VFIO_CHECK_EXTENSION:
		return 1;
	case VFIO_GROUP_GET_STATUS:
		((struct vfio_group_status *)argument)->flags = VFIO_GROUP_FLAGS_VIABLE;
		return 0;
	case VFIO_GROUP_GET_DEVICE_FD:
		return fcntl(kernel.device, F_DUPFD_CLOEXEC, 0);
	case VFIO_DEVICE_GET_INFO:
		((struct vfio_device_info *)argument)->flags =
			VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
		return 0;
	case VFIO_DEVICE_GET_REGION_INFO:
		((struct vfio_region_info *)argument)->size = 4096;
		return 0;
	case VFIO_IOMMU_GET_INFO:
		return tell_iommu(argument);
	default:
		return 0;
	}
}

int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *argument;

	(void)fd;
	va_start(args, request);
	argument = va_arg(args, void *);
	va_end(args);
	if (request == kernel.busy && kernel.times > 0) {
		kernel.times--;
		errno = EAGAIN;
		return -1;
	}
	return answer(request, argument);
}

int __real_poll(struct pollfd *fds, nfds_t n, int ms);
int __wrap_poll(struct pollfd *fds, nfds_t n, int ms);
int __wrap_poll(struct pollfd *fds, nfds_t n, int ms)
{
	if (n > 0)
		return __real_poll(fds, n, ms);
	kernel.pauses++;
	return 0;
}

static void be_busy(unsigned long request, unsigned int n)
{
	kernel.busy = request;
	kernel.times = n;
	kernel.pauses = 0;
}

static struct dmaland_device *open_device(void)
{
	const struct dmaland_options options = {
		.size = sizeof(options),
		.container_fd = kernel.group,
		.group_fd = kernel.group,
	};

	return dmaland_open("vfio:" NAME, &options);
}

static void expect_busy(const char *done)
{
	assert_int_equal(errno, EAGAIN);
	assert_error_says(done);
	assert_error_says(NAME " for two seconds: the kernel or another process binds, resets or "
			       "removes it; try again when that is over");
	assert_in_range(kernel.pauses, 2, UINT32_MAX - 1);
}

static void a_device_that_is_not_given_while_others_have_it_is_said_to_be_busy(void **state)
{
	struct dmaland_device *dev;

	(void)state;
	be_busy(VFIO_GROUP_GET_DEVICE_FD, UINT32_MAX);
	assert_null(open_device());
	expect_busy("VFIO has not given ");
	be_busy(VFIO_GROUP_GET_DEVICE_FD, 3);
	dev = open_device();
	if (!dev)
		fail_msg("%s", dmaland_last_error());
	assert_int_equal(kernel.pauses, 3);
	dmaland_close(dev);
}

static void a_reset_that_waits_for_others_is_said_to_be_busy(void **state)
{
	struct dmaland_device *dev;

	(void)state;
	be_busy(0, 0);
	dev = open_device();
	if (!dev)
		fail_msg("%s", dmaland_last_error());
	be_busy(VFIO_DEVICE_RESET, 3);
	assert_int_equal(pci_reset_function(dev), 0);
	assert_int_equal(kernel.pauses, 3);
	be_busy(VFIO_DEVICE_RESET, UINT32_MAX);
	assert_int_equal(pci_reset_function(dev), -EAGAIN);
	expect_busy("VFIO has not reset ");
	be_busy(0, 0);
	dmaland_close(dev);
}

static int begin(void **state)
{
	(void)state;
	kernel.group = memfd_create("group", MFD_CLOEXEC);
	kernel.device = memfd_create("device", MFD_CLOEXEC);
	return kernel.group < 0 || kernel.device < 0 || ftruncate(kernel.device, 4096);
}

static int end(void **state)
{
	(void)state;
	return close(kernel.group) || close(kernel.device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_device_that_is_not_given_while_others_have_it_is_said_to_be_busy),
		cmocka_unit_test(a_reset_that_waits_for_others_is_said_to_be_busy),
	};

	log_capture();
	return cmocka_run_group_tests(tests, begin, end);
}
