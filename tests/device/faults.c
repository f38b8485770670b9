/* SPDX-License-Identifier: MIT */
/*
 * faults.c - the n-th system call or allocation fails, for every n: ./faults SPEC [ADDRESS]
 *
 * ADDRESS is that of a device of VFIO, which is opened from files that are open already.
 * The linker's --wrap leads the library's calls through the functions below. A run opens a drive, or
 * the engine of soft:, allocates, writes, reads, compares and closes. Whatever fails, the run ends with a sentence or
 * succeeds all the same, and nothing is left: no file descriptor, no process, no memory.
 */
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <dmaland/nvme.h>
#include <dmaland/soft.h>
#include "base/error.h"
#include "backend/sysfs.h"
#include "device/device.h"

static const char *spec, *address;

static pid_t process;
static atomic_int countdown; /* the call that brings it to 0 fails; below 0: none does */

/*
 * Names end in 64 where the library, built for 64-bit file offsets, calls the function by that name.
 * Every call through here counts; true when this one shall fail.
 */
static bool fails(int code)
{
	/* A forked child counts for itself, and its faults would not show in our count. */
	if (atomic_load(&countdown) < 0 || getpid() != process ||
	    atomic_fetch_sub(&countdown, 1) != 1)
		return false;
	errno = code;
	return true;
}

#define WRAP(type, name, parameters, arguments, code, failure)                                     \
	type __real_##name parameters;                                                             \
	type __wrap_##name parameters;                                                             \
	type __wrap_##name parameters                                                              \
	{                                                                                          \
		return fails(code) ? failure : __real_##name arguments;                            \
	}

WRAP(void *, malloc, (size_t n), (n), ENOMEM, NULL)
WRAP(void *, aligned_alloc, (size_t align, size_t n), (align, n), ENOMEM, NULL)
WRAP(void *, calloc, (size_t n, size_t size), (n, size), ENOMEM, NULL)
WRAP(void *, realloc, (void *p, size_t n), (p, n), ENOMEM, NULL)
WRAP(char *, strdup, (const char *s), (s), ENOMEM, NULL)
WRAP(FILE *, open_memstream, (char **p, size_t *n), (p, n), ENOMEM, NULL)
WRAP(FILE *, fopen64, (const char *path, const char *mode), (path, mode), EMFILE, NULL)
WRAP(void *, mmap64, (void *p, size_t n, int prot, int flags, int fd, off_t at),
     (p, n, prot, flags, fd, at), ENOMEM, MAP_FAILED)
WRAP(int, mprotect, (void *p, size_t n, int prot), (p, n, prot), ENOMEM, -1)
WRAP(int, madvise, (void *p, size_t n, int advice), (p, n, advice), ENOMEM, -1)
WRAP(int, ioctl, (int fd, unsigned long request, void *p), (fd, request, p), ENOMEM, -1)
WRAP(int, memfd_create, (const char *name, unsigned int flags), (name, flags), EMFILE, -1)
WRAP(int, ftruncate64, (int fd, off_t n), (fd, n), ENOSPC, -1)
WRAP(int, fallocate64, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n), ENOSPC, -1)
WRAP(int, socketpair, (int domain, int type, int protocol, int *fds), (domain, type, protocol, fds),
     EMFILE, -1)
WRAP(int, eventfd, (unsigned int count, int flags), (count, flags), EMFILE, -1)
WRAP(int, epoll_create1, (int flags), (flags), EMFILE, -1)
WRAP(int, epoll_ctl, (int fd, int what, int of, struct epoll_event *event), (fd, what, of, event),
     ENOSPC, -1)
WRAP(int, dup3, (int fd, int to, int flags), (fd, to, flags), EBUSY, -1)
WRAP(int, pipe2, (int *fds, int flags), (fds, flags), EMFILE, -1)
WRAP(pid_t, _Fork, (void), (), EAGAIN, -1)
WRAP(int, pthread_create,
     (pthread_t * thread, const pthread_attr_t *attributes, void *(*f)(void *), void *p),
     (thread, attributes, f, p), EAGAIN, EAGAIN)
WRAP(int, pthread_mutex_init, (pthread_mutex_t * m, const pthread_mutexattr_t *a), (m, a), ENOMEM,
     ENOMEM)

WRAP(int, fcntl64, (int fd, int command, int argument), (fd, command, argument), EMFILE, -1)

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
	return fails(EMFILE) ? -1 : __real_open64(path, flags, 0600);
}

/* The kernel's answer to what has no wrapper: the engine's copies, and close_range(). */
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
	long a[6];
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	return fails(ENOSYS) ? -1 : __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* 0, or -1 when a call of the library failed. */
static int use_memory(struct dmaland_device *dev)
{
	struct dma_pool *pool = dma_pool_create("faults", dev, 64, 64, 0);
	dma_addr_t handle[300], large = 0;
	void *block[300] = {0}, *memory;
	int failed = pool ? 0 : -1;

	for (int i = 0; !failed && i < 300; i++)
		if (!(block[i] = dma_pool_alloc(pool, GFP_KERNEL, &handle[i])))
			failed = -1;
	for (int i = 0; i < 300 && block[i]; i++)
		dma_pool_free(pool, block[i], handle[i]);
	dma_pool_destroy(pool);
	memory = failed ? NULL : dma_alloc_coherent(dev, 33 << 20, &large, GFP_KERNEL);
	dma_free_coherent(dev, 33 << 20, memory, large);
	return memory ? failed : -1;
}

/* A kind that can't be had makes room for the next: only when none can, that fails. */
static int use_irqs(struct dmaland_device *dev)
{
	int failed = -1;

	if (pci_alloc_irq_vectors(dev, 1, 2, PCI_IRQ_ALL_TYPES) < 1)
		return -1;
	if (!dmaland_irq_mask(dev, 0) && !dmaland_irq_unmask(dev, 0))
		failed = 0;
	pci_free_irq_vectors(dev);
	if (!failed && pci_alloc_irq_vectors(dev, 1, 1, PCI_IRQ_INTX) < 1)
		failed = -1;
	return failed;
}

static void note_result(struct dmaland_nvme_request *request, int result)
{
	*(int *)request->context = result;
}

/* Closing the controller takes it back. */
static int use_prepared(struct dmaland_nvme *ctrl, struct dmaland_nvme_queue *queue,
			unsigned char *data, const struct dmaland_nvme_namespace *ns)
{
	enum { WAITING = 1 << 20 };
	static struct iovec segment;
	static struct dmaland_nvme_request request;
	int result = WAITING;

	segment = (struct iovec){data, 64 << 10};
	request = (struct dmaland_nvme_request){.opcode = DMALAND_NVME_READ,
						.nsid = 1,
						.block = 5,
						.blocks = (64 << 10) / ns->block_size,
						.iov = &segment,
						.iov_count = 1,
						.done = note_result,
						.context = &result};
	if (dmaland_nvme_prepare(ctrl, &request) || dmaland_nvme_submit(queue, &request))
		return -1;
	while (result == WAITING)
		dmaland_nvme_poll(queue);
	return result;
}

static int use_queue(struct dmaland_nvme *ctrl)
{
	static unsigned char out[200000], in[200000];
	struct dmaland_nvme_queue *queue = dmaland_nvme_queue_create(ctrl, 4, 0);
	struct dmaland_nvme_namespace ns;
	uint64_t blocks;

	if (!queue || dmaland_nvme_get_namespace(ctrl, 1, &ns))
		return -1;
	blocks = sizeof(out) / ns.block_size;
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (unsigned char)(i * 31 + (size_t)atomic_load(&countdown));
	if (dmaland_nvme_write(queue, 1, 5, blocks, out) ||
	    dmaland_nvme_read(queue, 1, 5, blocks, in))
		return -1;
	assert_memory_equal(in, out, blocks * ns.block_size);
	memset(in, 0, sizeof(in));
	if (use_prepared(ctrl, queue, in, &ns))
		return -1;
	assert_memory_equal(in, out, 64 << 10);
	return 0;
}

static int use_drive(struct dmaland_device *dev)
{
	struct dmaland_nvme *ctrl = dmaland_nvme_open(dev, NULL);
	int failed = ctrl ? use_queue(ctrl) : -1;

	dmaland_nvme_close(ctrl);
	return failed;
}

/* What the engine could not do stands in the log. */
static int engine_run(char *bar, uint32_t command)
{
	writel(command, bar + DMALAND_SOFT_COMMAND);
	return readl(bar + DMALAND_SOFT_STATUS) == DMALAND_SOFT_OK
		       ? 0
		       : dmaland_set_error(EIO, "%s", log_text());
}

/* Memory of our own, mapped for the engine, is filled by it and copied to another place. */
static int use_mapping(struct domain *domain, char *bar, dma_addr_t dma, dma_addr_t to)
{
	static _Alignas(4096) char memory[8192];
	int failed;

	memset(memory, 0, sizeof(memory));
	if (domain->ops->map(domain, dma, memory, sizeof(memory), DOMAIN_READ | DOMAIN_WRITE))
		return -1;
	writeq(dma, bar + DMALAND_SOFT_DESTINATION);
	writel(sizeof(memory), bar + DMALAND_SOFT_LENGTH);
	failed = engine_run(bar, DMALAND_SOFT_FILL);
	writeq(dma, bar + DMALAND_SOFT_SOURCE);
	writeq(to, bar + DMALAND_SOFT_DESTINATION);
	if (!failed)
		failed = engine_run(bar, DMALAND_SOFT_COPY);
	return domain->ops->unmap(domain, dma, sizeof(memory), 1) ? -1 : failed;
}

static int use_engine(struct dmaland_device *dev)
{
	const struct iova_wish wish = {.size = 8192, .align = 4096, .last = UINT64_MAX};
	struct domain *domain = dev->function->domain;
	dma_addr_t handle = 0, dma;
	char *to = dma_alloc_coherent(dev, 8192, &handle, GFP_KERNEL), *bar = NULL;
	int failed = -1;

	if (to && !pci_enable_device(dev) && !pci_set_master(dev))
		bar = pci_iomap(dev, 0, 0);
	if (bar && iova_space_take(&domain->iova, &wish, &dma) == 0) {
		writel(0x77, bar + DMALAND_SOFT_PATTERN);
		failed = use_mapping(domain, bar, dma, handle);
		iova_space_release(&domain->iova, dma, 8192);
	} else if (bar) {
		dmaland_set_error(ENOMEM, "no dma address");
	}
	if (!failed)
		assert_int_equal(to[8191], 0x77);
	dma_free_coherent(dev, 8192, to, handle);
	return failed;
}

static int run_all(void)
{
	struct dmaland_device *dev = dmaland_open(spec, NULL);
	struct dmaland_info info;
	int failed;

	if (!dev)
		return -1;
	dmaland_get_info(dev, &info);
	failed = use_memory(dev);
	if (!failed)
		failed = use_irqs(dev);
	if (!failed)
		failed = info.vendor_id == DMALAND_SOFT_VENDOR ? use_engine(dev) : use_drive(dev);
	dmaland_close(dev);
	return failed;
}

/* ---- mappings, each followed ---- */

static bool map_and_unmap(struct dmaland_device *dev, void *ptr)
{
	dma_addr_t dma = ptr ? dma_map_single(dev, ptr, 8192, DMA_TO_DEVICE) : DMA_MAPPING_ERROR;

	if (dma_mapping_error(dev, dma))
		return false;
	dma_unmap_single(dev, dma, 8192, DMA_TO_DEVICE);
	return true;
}

/* Translated in the arena, and in registered memory; and mapped. */
static int run_followed(void)
{
	static const struct dmaland_options options = {.size = sizeof(options), .dma_debug = true};
	static char ours[8192], registered[8192];
	struct dmaland_device *dev = dmaland_open(spec, &options);
	dma_addr_t handle;
	bool done = false;
	void *coherent;

	if (!dev)
		return -1;
	coherent = dma_alloc_coherent(dev, 8192, &handle, GFP_KERNEL);
	if (map_and_unmap(dev, coherent) && map_and_unmap(dev, ours) &&
	    !dmaland_register(dev, registered, 8192)) {
		done = map_and_unmap(dev, registered);
		dmaland_unregister(dev, registered);
	}
	dma_free_coherent(dev, 8192, coherent, handle);
	dmaland_close(dev);
	return done ? 0 : -1;
}

/* ---- children, hubs and JSON of a device of QEMU ---- */

#define PARTS                                                                                      \
	"blockdev={\"driver\": \"null-co\",, \"node-name\": \"stick\"},"                           \
	"child=usb-storage,,drive=%s,child=usb-kbd,"                                               \
	"child=usb-storage,,drive={\"driver\": \"null-co\",,,, \"read-zeroes\": true}"

static char image[64], first_spec[512], joining_spec[512];

static int run_first(void)
{
	struct dmaland_device *dev = dmaland_open(first_spec, NULL);

	dmaland_close(dev);
	return dev ? 0 : -1;
}

/* What does not join a machine leaves nothing there: neither a locked image, nor a name that is taken. */
static int run_joining(void)
{
	struct dmaland_device *first = dmaland_open("qemu:rtl8139,machine=faults,hub=1", NULL);
	struct dmaland_device *dev = first ? dmaland_open(joining_spec, NULL) : NULL;
	int failed = dev ? 0 : -1;
	struct error_state error;

	error_keep(&error);
	if (first && !dev) {
		assert_null(
			strstr(error.text, "is in use")); /* what was done about it is no reason */
		dev = dmaland_open(joining_spec, NULL);
		if (!dev)
			fail_msg("after '%s': %s", error.text, dmaland_last_error());
	}
	dmaland_close(dev);
	dmaland_close(first);
	error_put_back(&error);
	return failed;
}

/* ---- files of VFIO that are open already ---- */

static struct dmaland_options handed = {.size = sizeof(handed)};
static int group;

/* Each time into a container and out of it; a device that is held keeps it there. */
static int open_handed(void)
{
	struct dmaland_device *dev = dmaland_open(address, &handed);
	int failed = dev ? 0 : -1;

	dmaland_close(dev);
	__real_ioctl(group, VFIO_GROUP_UNSET_CONTAINER, NULL);
	return failed;
}

static void files_open(void)
{
	char path[32];

	snprintf(path, sizeof(path), "/dev/vfio/%d", sysfs_iommu_group(address));
	group = open(path, O_RDWR | O_CLOEXEC);
	handed.container_fd = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	assert_true(group > 0 && handed.container_fd > 0);
}

static int device_file(void)
{
	assert_int_equal(ioctl(group, VFIO_GROUP_SET_CONTAINER, &handed.container_fd), 0);
	assert_int_equal(ioctl(handed.container_fd, VFIO_SET_IOMMU, (void *)VFIO_TYPE1v2_IOMMU), 0);
	return ioctl(group, VFIO_GROUP_GET_DEVICE_FD, (void *)address);
}

/* ---- */

static size_t count_entries(const char *path)
{
	size_t n = 0;
	DIR *dir = opendir(path);

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static size_t address_space_mib(void)
{
	size_t pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%zu", &pages), 1);
	fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE) >> 20;
}

/* How many of the calls are needed. */
static int fail_each(int (*run)(void))
{
	size_t fds, tasks, mib;
	int n, refused = 0;

	atomic_store(&countdown, -1);
	if (run())
		fail_msg("%s", dmaland_last_error());
	fds = count_entries("/proc/self/fd");
	tasks = count_entries("/proc/self/task");
	mib = address_space_mib();
	for (n = 1;; n++) {
		int failed;

		dmaland_set_error(1, "%s", "");
		log_clear();
		atomic_store(&countdown, n);
		failed = run();
		if (atomic_exchange(&countdown, -1) > 0) {
			if (failed)
				fail_msg("without a fault: %s", dmaland_last_error());
			break;
		}
		refused += failed != 0;
		if (failed && !dmaland_last_error()[0])
			fail_msg("call %d fails without a word", n);
		if (strstr(log_text(), "stays mapped until"))
			fail_msg("call %d: %s", n, log_text());
		if (count_entries("/proc/self/fd") != fds)
			fail_msg("call %d leaks a file descriptor (%s)", n, dmaland_last_error());
		if (count_entries("/proc/self/task") != tasks)
			fail_msg("call %d leaks a thread (%s)", n, dmaland_last_error());
		if (address_space_mib() > mib + 1024)
			fail_msg("call %d leaks addresses (%s)", n, dmaland_last_error());
	}
	print_message("# %d calls, %d of them needed\n", n - 1, refused);
	return refused;
}

static void whatever_fails_nothing_is_left_and_it_is_told(void **state)
{
	(void)state;
	assert_true(fail_each(run_all) > 20);
}

static void so_it_is_in_debug_mode(void **state)
{
	(void)state;
	if (strncmp(spec, "soft:", 5) == 0)
		assert_true(fail_each(run_followed) > 20);
}

static void so_it_is_with_children_hubs_and_json(void **state)
{
	int fd;

	(void)state;
	if (strncmp(spec, "qemu:", 5) != 0)
		return;
	snprintf(image, sizeof(image), "/tmp/dmaland-faults-%d", process);
	fd = open(image, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	close(fd);
	snprintf(first_spec, sizeof(first_spec), "qemu:qemu-xhci," PARTS, image);
	snprintf(joining_spec, sizeof(joining_spec), "qemu:qemu-xhci,machine=faults," PARTS, image);
	assert_true(fail_each(run_first) > 20);
	assert_true(fail_each(run_joining) > 40);
	unlink(image);
}

static void so_it_is_with_files_that_are_open_already(void **state)
{
	(void)state;
	files_open();
	handed.group_fd = group;
	assert_true(fail_each(open_handed) > 15);
	handed.group_fd = 0;
	handed.device_fd = device_file();
	assert_true(handed.device_fd > 0);
	assert_true(fail_each(open_handed) > 10);
	close(handed.device_fd);
	close(group);
	close(handed.container_fd);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whatever_fails_nothing_is_left_and_it_is_told),
		cmocka_unit_test(so_it_is_in_debug_mode),
		cmocka_unit_test(so_it_is_with_children_hubs_and_json),
	};
	const struct CMUnitTest of_vfio[] = {
		cmocka_unit_test(so_it_is_with_files_that_are_open_already),
	};
	int failed;

	if (argc != 2 && argc != 3) {
		fprintf(stderr, "usage: %s SPEC [ADDRESS]\n", argv[0]);
		return 2;
	}
	spec = argv[1];
	address = argv[2];
	process = getpid();
	atomic_store(&countdown, -1);
	log_capture();
	failed = cmocka_run_group_tests_name("faults", tests, NULL, NULL);
	if (address)
		failed += cmocka_run_group_tests_name("faults of files", of_vfio, NULL, NULL);
	return failed;
}
