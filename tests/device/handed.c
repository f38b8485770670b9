/* SPDX-License-Identifier: MIT */
/*
 * handed.c - devices whose files were opened by somebody else: ./handed NVME EDU
 *
 * The addresses of a drive and of edu, bound to vfio-pci. The program starts as root, opens containers and the two groups, and
 * goes on as nobody, from whom the files of /dev/vfio are kept. So what works then works with what
 * it holds. Before and after each test the groups are in no container.
 */
#include "mover.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/sysfs.h"

enum { NOBODY = 65534, NUMBER_NOT_OPEN = 999 };

struct target {
	const char *address;
	int group;
};

static struct target drive, edu;
static int container, other; /* containers */
static int null;	     /* /dev/null */

/* ---- what the giver does ---- */

static void attach(int group, int to)
{
	assert_int_equal(ioctl(group, VFIO_GROUP_SET_CONTAINER, &to), 0);
}

static void give_iommu(int to)
{
	assert_int_equal(ioctl(to, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0);
}

static int device_of(const struct target *t)
{
	int fd = ioctl(t->group, VFIO_GROUP_GET_DEVICE_FD, t->address);

	assert_true(fd > 0);
	return fd;
}

static bool is_attached(int group)
{
	struct vfio_group_status status = {.argsz = sizeof(status)};

	assert_int_equal(ioctl(group, VFIO_GROUP_GET_STATUS, &status), 0);
	return status.flags & VFIO_GROUP_FLAGS_CONTAINER_SET;
}

/* How many mappings the container can still take: all that were made and not ended are missing. */
static uint32_t mappings_free(int of)
{
	char space[4096] = {0};
	struct vfio_iommu_type1_info *info = (void *)space;
	struct vfio_info_cap_header *cap;

	info->argsz = sizeof(space);
	assert_int_equal(ioctl(of, VFIO_IOMMU_GET_INFO, info), 0);
	for (uint32_t at = info->cap_offset; at; at = cap->next) {
		cap = (void *)(space + at);
		if (cap->id == VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL)
			return ((struct vfio_iommu_type1_info_dma_avail *)cap)->avail;
	}
	fail_msg("the kernel does not tell how many mappings there may be");
	return 0;
}

static int open_files(void)
{
	DIR *files = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(files);
	while (readdir(files))
		n++;
	closedir(files);
	return n;
}

/* ---- what the receiver does ---- */

static struct dmaland_options options_of(int container_fd, int group_fd, int device_fd)
{
	return (struct dmaland_options){.size = sizeof(struct dmaland_options),
					.container_fd = container_fd,
					.group_fd = group_fd,
					.device_fd = device_fd};
}

/* The device writes to memory that it was given. */
static void device_writes(struct mover *m)
{
	dma_addr_t dma;
	unsigned char *memory = dma_alloc_coherent(m->dev, 4096, &dma, GFP_KERNEL);

	assert_non_null(memory);
	mover_fill(m, 0x3c, 1024);
	mover_writes(m, dma, 1024);
	assert_true(all_are(memory, 1024, 0x3c) && all_are(memory + 1024, 3072, 0));
	dma_free_coherent(m->dev, 4096, memory, dma);
}

static void must_drive(const struct target *t, const struct dmaland_options *options)
{
	int files = open_files();
	struct mover m;

	assert_true(mover_open(&m, t->address, options));
	device_writes(&m);
	mover_close(&m);
	assert_string_equal(log_text(), "");
	assert_int_equal(open_files(), files);
}

static void both_drive(int container_fd, int group_fd, int device_fd, const struct target *t)
{
	struct dmaland_options options = options_of(container_fd, group_fd, device_fd);

	for (int i = 0; i < 2; i++) /* nothing is left that keeps the next from it */
		must_drive(t, &options);
}

static void must_refuse(const char *spec, const struct dmaland_options *options, int code,
			const char *says)
{
	int files = open_files();

	errno = 0;
	assert_null(dmaland_open(spec, options));
	assert_error_says(says);
	assert_int_equal(errno, code);
	assert_int_equal(open_files(), files);
}

/* ---- as root ---- */

static void a_group_alone_is_put_into_a_container_of_ours(void **state)
{
	(void)state;
	both_drive(0, drive.group, 0, &drive);
	both_drive(0, edu.group, 0, &edu);
	assert_false(is_attached(drive.group));
}

static void a_group_in_a_container_wants_that_one(void **state)
{
	struct dmaland_options options = options_of(0, drive.group, 0);

	(void)state;
	attach(drive.group, container);
	must_refuse(drive.address, &options, EBUSY, "options.container_fd");
	assert_true(is_attached(drive.group));
}

static void a_container_alone_takes_the_place_of_ours(void **state)
{
	struct dmaland_options options = options_of(container, 0, 0);

	(void)state;
	must_refuse(drive.address, &options, EBUSY, "in use by another process, or by this one");
}

/* ---- as nobody ---- */

static void nothing_can_be_opened(void **state)
{
	struct dmaland_options options = options_of(0, drive.group, 0);
	struct dmaland_options device_too = options_of(container, 0, 0);

	(void)state;
	assert_int_equal(geteuid(), NOBODY);
	must_refuse(drive.address, NULL, EACCES, "no access to /dev/vfio/");
	must_refuse(drive.address, &options, EACCES, "cannot open /dev/vfio/vfio");
	must_refuse(drive.address, &device_too, EACCES, "no access to /dev/vfio/");
}

static void a_container_and_a_group_are_put_together_and_taken_apart(void **state)
{
	(void)state;
	both_drive(container, drive.group, 0, &drive);
	assert_false(is_attached(drive.group));
	both_drive(container, edu.group, 0, &edu);
	assert_false(is_attached(edu.group));
}

static void a_group_that_is_in_the_container_stays_there(void **state)
{
	(void)state;
	attach(drive.group, container);
	both_drive(container, drive.group, 0, &drive); /* the first gives it an IOMMU */
	assert_true(is_attached(drive.group));
	assert_true(mappings_free(container) > 0);
}

static void a_device_is_driven_without_its_group(void **state)
{
	uint32_t available;
	int device;

	(void)state;
	attach(drive.group, container);
	give_iommu(container);
	available = mappings_free(container);
	device = device_of(&drive);
	both_drive(container, 0, device, &drive);
	both_drive(container, drive.group, device, &drive);
	assert_int_equal(mappings_free(container), available);
	close(device);
}

static void a_second_device_joins_with_a_group(void **state)
{
	struct dmaland_options options = options_of(container, drive.group, 0);
	struct dmaland_options joining = options_of(0, edu.group, 0);
	struct mover first;

	(void)state;
	assert_true(mover_open(&first, drive.address, &options));
	joining.share_with = first.dev;
	must_drive(&edu, &joining);
	assert_false(is_attached(edu.group));
	device_writes(&first);
	mover_close(&first);
}

static void a_second_device_joins_without_its_group(void **state)
{
	struct dmaland_options options, joining;
	struct mover first, second;
	int devices[2];

	(void)state;
	attach(drive.group, container);
	attach(edu.group, container);
	give_iommu(container);
	devices[0] = device_of(&drive);
	devices[1] = device_of(&edu);
	options = options_of(container, 0, devices[0]);
	joining = options_of(0, 0, devices[1]);
	assert_true(mover_open(&first, drive.address, &options));
	joining.share_with = first.dev;
	assert_true(mover_open(&second, edu.address, &joining));
	mover_close(&first);
	device_writes(&second);
	mover_close(&second);
	close(devices[0]);
	close(devices[1]);
}

static void the_memory_limit_holds(void **state)
{
	struct dmaland_options options = options_of(container, drive.group, 0);
	struct dmaland_device *dev;
	dma_addr_t dma;

	(void)state;
	options.memory_limit = 1 << 20;
	dev = dmaland_open(drive.address, &options);
	assert_non_null(dev);
	errno = 0;
	assert_null(dma_alloc_coherent(dev, 2 << 20, &dma, GFP_KERNEL));
	assert_int_equal(errno, ENOMEM);
	assert_error_says("memory_limit is 1024 KiB");
	dmaland_close(dev);
}

static void memory_counts_against_the_receivers_limit(void **state)
{
	struct dmaland_options options = options_of(container, drive.group, 0);
	struct rlimit before, low;
	struct dmaland_device *dev;
	dma_addr_t dma;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &before), 0);
	low = before;
	low.rlim_cur = 3 << 20;
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &low), 0);
	dev = dmaland_open(drive.address, &options);
	assert_non_null(dev);
	errno = 0;
	assert_null(dma_alloc_coherent(dev, 4 << 20, &dma, GFP_KERNEL));
	assert_int_equal(errno, ENOMEM);
	assert_error_says("RLIMIT_MEMLOCK is 3072 KiB");
	assert_error_says("ulimit -l");
	dmaland_close(dev);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &before), 0);
}

static void a_descriptor_that_is_not_open_is_named(void **state)
{
	static const int wrong[] = {NUMBER_NOT_OPEN, -1};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct dmaland_options of_container = options_of(wrong[i], drive.group, 0);
		struct dmaland_options of_group = options_of(container, wrong[i], 0);
		struct dmaland_options of_device = options_of(container, drive.group, wrong[i]);
		char says[64];

		snprintf(says, sizeof(says), "options.container_fd is %d", wrong[i]);
		must_refuse(drive.address, &of_container, EBADF, says);
		snprintf(says, sizeof(says), "options.group_fd is %d", wrong[i]);
		must_refuse(drive.address, &of_group, EBADF, says);
		snprintf(says, sizeof(says), "options.device_fd is %d", wrong[i]);
		must_refuse(drive.address, &of_device, EBADF, says);
		assert_false(is_attached(drive.group));
	}
}

static void a_descriptor_of_another_kind_is_named(void **state)
{
	int device, containers[3], groups[3], devices[3];

	(void)state;
	attach(edu.group, other);
	give_iommu(other);
	device = device_of(&edu);
	memcpy(containers, (int[]){null, drive.group, device}, sizeof(containers));
	memcpy(groups, (int[]){null, other, device}, sizeof(groups));
	memcpy(devices, (int[]){null, other, drive.group}, sizeof(devices));
	for (int i = 0; i < 3; i++) {
		struct dmaland_options of_container = options_of(containers[i], drive.group, 0);
		struct dmaland_options of_group = options_of(container, groups[i], 0);
		struct dmaland_options of_device = options_of(other, 0, devices[i]);

		must_refuse(drive.address, &of_container, EINVAL,
			    "options.container_fd is no VFIO container");
		must_refuse(drive.address, &of_group, EINVAL, "options.group_fd is no VFIO group");
		must_refuse(drive.address, &of_device, EINVAL,
			    "options.device_fd is no PCI device");
	}
	close(device);
}

static void a_descriptor_of_another_device_is_noticed(void **state)
{
	struct dmaland_options of_group = options_of(container, edu.group, 0);
	struct dmaland_options of_container;
	int device;

	(void)state;
	must_refuse(drive.address, &of_group, ENODEV, "is not in the group of options.group_fd");
	assert_false(is_attached(edu.group));
	attach(drive.group, other);
	of_container = options_of(container, drive.group, 0);
	must_refuse(drive.address, &of_container, EINVAL, "is not the container");
	give_iommu(other);
	device = device_of(&drive);
	of_container = options_of(container, 0, device);
	must_refuse(drive.address, &of_container, EINVAL, "is not the container");
	close(device);
}

static void options_that_exclude_each_other_are_named(void **state)
{
	struct dmaland_options options = options_of(container, drive.group, 0);
	struct dmaland_options of_soft = options_of(0, edu.group, 0), both;
	struct dmaland_options alone = options_of(0, 0, null);
	struct dmaland_device *first, *soft = dmaland_open("soft:", NULL);

	(void)state;
	assert_non_null(soft);
	first = dmaland_open(drive.address, &options);
	assert_non_null(first);
	both = options_of(other, edu.group, 0);
	both.share_with = first;
	must_refuse(edu.address, &both, EINVAL, "options.container_fd and share_with");
	must_refuse(edu.address, &alone, EINVAL, "options.device_fd without container_fd");
	must_refuse("soft:", &of_soft, EINVAL, "soft takes no open files");
	must_refuse("qemu:edu", &of_soft, EINVAL, "qemu takes no open files");
	must_refuse("nowhere", &of_soft, EINVAL, "not a PCI address");
	must_refuse("vfio:nowhere", &of_soft, EINVAL, "not a PCI address");
	of_soft.share_with = soft;
	must_refuse(edu.address, &of_soft, EINVAL, "share only another VFIO device's memory");
	dmaland_close(first);
	dmaland_close(soft);
}

/* Where the library would put its first memory, the owner of the container has put something. */
static void a_container_that_somebody_else_maps_into_is_noticed(void **state)
{
	struct dmaland_options options = options_of(container, drive.group, 0);
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map), .flags = VFIO_DMA_MAP_FLAG_READ, .size = 4096};
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct dmaland_device *dev;
	dma_addr_t dma;

	(void)state;
	attach(drive.group, container);
	give_iommu(container);
	dev = dmaland_open(drive.address, &options);
	assert_non_null(dev);
	assert_non_null(dma_alloc_coherent(dev, 4096, &dma, GFP_KERNEL));
	dmaland_close(dev);
	log_clear();

	map.vaddr = (uintptr_t)page;
	map.iova = dma;
	assert_int_equal(ioctl(container, VFIO_IOMMU_MAP_DMA, &map), 0);
	dev = dmaland_open(drive.address, &options);
	assert_non_null(dev);
	errno = 0;
	assert_null(dma_alloc_coherent(dev, 4096, &dma, GFP_KERNEL));
	assert_int_equal(errno, EEXIST);
	assert_error_says("is mapped already");
	dmaland_close(dev);
	munmap(page, 4096);
}

static void a_child_has_none_of_the_librarys_copies(void **state)
{
	struct dmaland_options options = options_of(container, drive.group, 0);
	int files = open_files(), status;
	struct mover m;
	uint32_t ids;
	pid_t pid;

	(void)state;
	assert_true(mover_open(&m, drive.address, &options));
	pid = fork();
	if (pid == 0)
		_exit(open_files() == files && dmaland_check(m.dev) == -EPERM &&
				      pci_read_config_dword(m.dev, 0, &ids) == -EPERM &&
				      is_attached(drive.group)
			      ? 0
			      : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	device_writes(&m);
	mover_close(&m);
}

/* ---- */

static int group_file(const char *address)
{
	char path[32];

	snprintf(path, sizeof(path), "/dev/vfio/%d", sysfs_iommu_group(address));
	return open(path, O_RDWR | O_CLOEXEC);
}

/* As root; what is opened here is all there is later. */
static bool files_open(void)
{
	container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	other = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	drive.group = group_file(drive.address);
	edu.group = group_file(edu.address);
	return container > 0 && other > 0 && null > 0 && drive.group > 0 && edu.group > 0;
}

static int detach(void **state)
{
	(void)state;
	ioctl(drive.group, VFIO_GROUP_UNSET_CONTAINER);
	ioctl(edu.group, VFIO_GROUP_UNSET_CONTAINER);
	log_clear();
	return is_attached(drive.group) || is_attached(edu.group) ? -1 : 0;
}

#define handed_test(f) cmocka_unit_test_teardown(f, detach)

int main(int argc, char **argv)
{
	const struct CMUnitTest as_root[] = {
		handed_test(a_group_alone_is_put_into_a_container_of_ours),
		handed_test(a_group_in_a_container_wants_that_one),
		handed_test(a_container_alone_takes_the_place_of_ours),
	};
	const struct CMUnitTest as_nobody[] = {
		handed_test(nothing_can_be_opened),
		handed_test(a_container_and_a_group_are_put_together_and_taken_apart),
		handed_test(a_group_that_is_in_the_container_stays_there),
		handed_test(a_device_is_driven_without_its_group),
		handed_test(a_second_device_joins_with_a_group),
		handed_test(a_second_device_joins_without_its_group),
		handed_test(the_memory_limit_holds),
		handed_test(memory_counts_against_the_receivers_limit),
		handed_test(a_descriptor_that_is_not_open_is_named),
		handed_test(a_descriptor_of_another_kind_is_named),
		handed_test(a_descriptor_of_another_device_is_noticed),
		handed_test(options_that_exclude_each_other_are_named),
		handed_test(a_container_that_somebody_else_maps_into_is_noticed),
		handed_test(a_child_has_none_of_the_librarys_copies),
	};
	int failed;

	if (argc != 3) {
		fprintf(stderr, "usage: %s NVME EDU\n", argv[0]);
		return 2;
	}
	drive.address = argv[1];
	edu.address = argv[2];
	log_capture();
	if (!files_open()) {
		perror("handed: cannot open the files of VFIO");
		return 2;
	}
	failed = cmocka_run_group_tests_name("handed, as root", as_root, NULL, NULL);
	if (chmod("/dev/vfio", 0700) || setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY) ||
	    prctl(PR_SET_DUMPABLE, 1)) { /* for LeakSanitizer */
		perror("handed: cannot become nobody");
		return 2;
	}
	return failed + cmocka_run_group_tests_name("handed", as_nobody, NULL, NULL);
}
