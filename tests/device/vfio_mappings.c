/* SPDX-License-Identifier: MIT */
/*
 * vfio_mappings.c - memory of the application on a real VFIO: ./vfio_mappings SPEC NARROW [FILE]
 *
 * SPEC names an NVMe drive, NARROW edu, which joins its domain. What the kernel refuses is refused in
 * words and leaves everything as it was; what it accepts stays the device's until it is unmapped,
 * whatever the application does meanwhile.
 *
 * FILE names one that can be written to, on a filesystem that keeps account of pages that were
 * changed: those a kernel from 6.5 on does not pin for writing (check_vma_flags in its mm/gup.c).
 * Then SPEC and NARROW may be the same, and only that is tested.
 */
#include "mover.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "backend/sysfs.h"
#include "backend/vfio.h"
#include "device/device.h"

enum { PAGE = 4096, PART = 1024, HUGEPAGE = 2 << 20 };

static const char *spec, *narrow_spec, *file_name;
static struct mover m;

/* What must be as it was, whenever something is refused or over. */
static struct state {
	uint32_t mappings;
	uint64_t memory, locked;
} before;

static struct state state_now(void)
{
	struct dmaland_info info;

	dmaland_get_info(m.dev, &info);
	return (struct state){info.mappings, info.memory, sysfs_kib("/proc/self/status", "VmLck:")};
}

static void check_as_before(void)
{
	struct state now = state_now();

	assert_int_equal(now.mappings, before.mappings);
	assert_int_equal(now.memory, before.memory);
	assert_int_equal(now.locked, before.locked);
}

/* Everything is mapped where it lies. */
static int open_device(void **state)
{
	const struct dmaland_options options = {.size = sizeof(options), .copy_below = 1};

	(void)state;
	assert_true(mover_open(&m, spec, &options));
	log_clear();
	before = state_now();
	return 0;
}

static int close_device(void **state)
{
	(void)state;
	mover_close(&m);
	return 0;
}

static unsigned char *pages_new(size_t size, int protection)
{
	void *pages = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(pages, MAP_FAILED);
	return pages;
}

static dma_addr_t map(void *ptr, size_t size, enum dma_data_direction direction)
{
	dma_addr_t dma = dma_map_single(m.dev, ptr, size, direction);

	if (dma_mapping_error(m.dev, dma))
		fail_msg("%s", dmaland_last_error());
	return dma;
}

/* What the device finds there. */
static bool device_sees(dma_addr_t dma, int byte)
{
	mover_fill(&m, ~byte & 0xff, PART);
	mover_reads(&m, dma, PART);
	return all_are(mover_holds(&m, PART), PART, byte);
}

static void device_puts(dma_addr_t dma, int byte)
{
	mover_fill(&m, byte, PART);
	mover_writes(&m, dma, PART);
}

static void expect_refusal(void *ptr, size_t size, enum dma_data_direction direction)
{
	errno = 0;
	assert_true(dma_map_single(m.dev, ptr, size, direction) == DMA_MAPPING_ERROR);
	assert_int_equal(errno, EFAULT);
	assert_error_says("cannot be pinned");
	check_as_before();
}

/* ---- what can't be pinned ---- */

static void memory_that_may_not_be_written_is_mapped_to_the_device_alone(void **state)
{
	unsigned char *pages = pages_new(16 * PAGE, PROT_READ | PROT_WRITE);
	dma_addr_t dma;

	(void)state;
	memset(pages, 0x31, 16 * PAGE);
	assert_int_equal(mprotect(pages, 16 * PAGE, PROT_READ), 0);
	expect_refusal(pages, 16 * PAGE, DMA_FROM_DEVICE);
	assert_error_says("may not be written");
	expect_refusal(pages + 5, 100, DMA_BIDIRECTIONAL);
	dma = map(pages, 16 * PAGE, DMA_TO_DEVICE);
	assert_true(device_sees(dma + 15 * PAGE, 0x31));
	device_puts(dma, 0x99);
	dma_unmap_single(m.dev, dma, 16 * PAGE, DMA_TO_DEVICE);
	assert_true(all_are(pages, 16 * PAGE, 0x31));
	check_as_before();

	assert_int_equal(mprotect(pages, PAGE, PROT_NONE), 0);
	expect_refusal(pages, PAGE, DMA_TO_DEVICE);
	munmap(pages, 16 * PAGE);
}

static void memory_that_is_not_there_is_refused(void **state)
{
	unsigned char *pages = pages_new(64 * PAGE, PROT_READ | PROT_WRITE);

	(void)state;
	munmap(pages + 63 * PAGE, PAGE); /* a hole at the end, behind what was pinned already */
	for (int direction = DMA_BIDIRECTIONAL; direction <= DMA_FROM_DEVICE; direction++)
		expect_refusal(pages, 64 * PAGE, (enum dma_data_direction)direction);
	assert_error_says("is not there");
	errno = 0;
	assert_int_equal(dmaland_register(m.dev, pages + 7, 63 * PAGE), -EFAULT);
	assert_int_equal(errno, EFAULT);
	check_as_before();
	munmap(pages, 63 * PAGE);
	for (int direction = DMA_BIDIRECTIONAL; direction <= DMA_FROM_DEVICE; direction++)
		expect_refusal(pages, PAGE, (enum dma_data_direction)direction);
}

static void a_list_with_an_element_that_is_not_there_is_not_mapped_at_all(void **state)
{
	unsigned char *pages = pages_new(16 * PAGE, PROT_READ | PROT_WRITE);
	struct scatterlist sg[8];
	int n;

	(void)state;
	sg_init_table(sg, 8);
	for (int i = 0; i < 8; i++) /* some meet at a granule, some don't */
		sg_set_buf(&sg[i], pages + (15 - 2 * i) * PAGE + (i & 2 ? 100 : 0), PAGE - 100);
	munmap(pages + 3 * PAGE, PAGE);
	errno = 0;
	assert_int_equal(dma_map_sg(m.dev, sg, 8, DMA_FROM_DEVICE), 0);
	assert_int_equal(errno, EFAULT);
	check_as_before();
	n = dma_map_sg(m.dev, sg, 6, DMA_FROM_DEVICE);
	if (!n)
		fail_msg("%s", dmaland_last_error());
	dma_unmap_sg(m.dev, sg, 6, DMA_FROM_DEVICE);
	check_as_before();
	munmap(pages, 16 * PAGE);
}

/* ---- what the application does meanwhile ---- */

static void the_device_keeps_pages_that_the_application_unmaps(void **state)
{
	unsigned char *pages = pages_new(16 * PAGE, PROT_READ | PROT_WRITE);
	dma_addr_t dma = map(pages, 16 * PAGE, DMA_BIDIRECTIONAL), again;

	(void)state;
	assert_int_equal(munmap(pages, 16 * PAGE), 0);
	device_puts(dma, 0x71); /* into pages that nobody else has */
	assert_ptr_equal(mmap(pages, 16 * PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 pages);
	memset(pages, 0x5a, 16 * PAGE);
	assert_true(device_sees(dma, 0x71));
	device_puts(dma, 0x72);
	assert_true(all_are(pages, 16 * PAGE, 0x5a));

	/* The same memory may be mapped once more, and is what lies there now. */
	again = map(pages, 16 * PAGE, DMA_BIDIRECTIONAL);
	assert_true(again != dma);
	assert_true(device_sees(again, 0x5a));
	assert_true(device_sees(dma, 0x72));
	dma_unmap_single(m.dev, dma, 16 * PAGE, DMA_BIDIRECTIONAL);
	dma_unmap_single(m.dev, again, 16 * PAGE, DMA_BIDIRECTIONAL);
	check_as_before();
	assert_true(all_are(pages, 16 * PAGE, 0x5a));
	munmap(pages, 16 * PAGE);
	assert_string_equal(log_text(), "");
}

static void registered_memory_that_is_gone_can_be_unregistered(void **state)
{
	unsigned char *pages = pages_new(16 * PAGE, PROT_READ | PROT_WRITE);

	(void)state;
	assert_int_equal(dmaland_register(m.dev, pages + 10, 8 * PAGE), 0);
	assert_int_equal(munmap(pages, 16 * PAGE), 0);
	device_puts(map(pages + 12, PART, DMA_FROM_DEVICE), 0x71);
	assert_int_equal(dmaland_unregister(m.dev, pages + 10), 0);
	check_as_before();
}

/* Memory that was never written to is one page of zeroes for everybody, until it is. */
static void what_is_written_after_mapping_is_what_the_device_reads(void **state)
{
	unsigned char *pages = pages_new(16 * PAGE, PROT_READ | PROT_WRITE);
	dma_addr_t dma;

	(void)state;
	assert_int_equal(pages[0], 0); /* read: the page of zeroes is there */
	dma = map(pages, 16 * PAGE, DMA_TO_DEVICE);
	memset(pages, 0x44, 16 * PAGE);
	dma_sync_single_for_device(m.dev, dma, 16 * PAGE, DMA_TO_DEVICE);
	assert_true(device_sees(dma, 0x44));
	assert_true(device_sees(dma + 15 * PAGE, 0x44));
	dma_unmap_single(m.dev, dma, 16 * PAGE, DMA_TO_DEVICE);
	check_as_before();
	munmap(pages, 16 * PAGE);
}

static void what_is_written_while_a_child_has_the_memory_is_what_the_device_reads(void **state)
{
	unsigned char *pages = pages_new(16 * PAGE, PROT_READ | PROT_WRITE);
	dma_addr_t dma[2];
	int ends[2], status;
	char byte;
	pid_t child;

	(void)state;
	memset(pages, 1, 16 * PAGE);
	assert_int_equal(pipe(ends), 0);
	dma[0] = map(pages, 8 * PAGE, DMA_TO_DEVICE); /* one before, one after the fork */
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		close(ends[1]);
		_exit(read(ends[0], &byte, 1) == 0 && all_are(pages, 16 * PAGE, 1) ? 0 : 1);
	}
	close(ends[0]);
	dma[1] = map(pages + 8 * PAGE, 8 * PAGE, DMA_TO_DEVICE);
	memset(pages, 0x45, 16 * PAGE);
	assert_true(device_sees(dma[0], 0x45));
	assert_true(device_sees(dma[1], 0x45));
	close(ends[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	for (int i = 0; i < 2; i++)
		dma_unmap_single(m.dev, dma[i], 8 * PAGE, DMA_TO_DEVICE);
	check_as_before();
	munmap(pages, 16 * PAGE);
}

/* Has the process written to the page since soft_dirty_clear()? Linux: admin-guide/mm/soft-dirty.rst. */
static bool was_written(const void *page)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	assert_int_equal(pread(fd, &entry, sizeof(entry), (off_t)((uintptr_t)page / PAGE * 8)), 8);
	close(fd);
	return entry >> 55 & 1;
}

static void soft_dirty_clear(void)
{
	int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);

	assert_int_equal(write(fd, "4", 1), 1);
	close(fd);
}

/* As Linux before 6.2 needs it; on later ones a system call less. */
static void memory_is_written_to_first_only_where_the_kernel_pins_shared_pages(void **state)
{
	struct vfio_domain *vd = to_vfio_domain(m.dev->function->domain);
	unsigned char *pages = pages_new(16 * PAGE, PROT_READ | PROT_WRITE);
	bool known = vd->pins_shared;

	(void)state;
	memset(pages, 0x46, 16 * PAGE);
	assert_true(was_written(pages));
	for (int pins_shared = 0; pins_shared < 2; pins_shared++) {
		dma_addr_t dma;

		vd->pins_shared = pins_shared;
		soft_dirty_clear();
		dma = map(pages, 16 * PAGE, DMA_TO_DEVICE);
		assert_int_equal(was_written(pages + 15 * PAGE), pins_shared);
		assert_true(device_sees(dma + 15 * PAGE, 0x46));
		dma_unmap_single(m.dev, dma, 16 * PAGE, DMA_TO_DEVICE);
		check_as_before();
	}
	vd->pins_shared = known;
	munmap(pages, 16 * PAGE);
}

/* ---- what VFIO says that it unmapped ---- */

static void an_unmap_that_vfio_did_not_do_is_reported_and_its_address_never_used_again(void **state)
{
	struct vfio_domain *vd = to_vfio_domain(m.dev->function->domain);
	unsigned char *pages = pages_new(PAGE, PROT_READ | PROT_WRITE);
	dma_addr_t dma = map(pages, PAGE, DMA_TO_DEVICE), other;
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap), .iova = dma, .size = PAGE};
	char says[80];

	(void)state;
	/* Behind its back. */
	assert_int_equal(ioctl(vd->container, VFIO_IOMMU_UNMAP_DMA, &unmap), 0);
	dma_unmap_single(m.dev, dma, PAGE, DMA_TO_DEVICE);
	snprintf(says, sizeof(says), "at dma address 0x%llx stay mapped, and are not used again",
		 (unsigned long long)dma);
	assert_logged(says);
	assert_logged("VFIO unmapped 0 bytes");
	for (int i = 0; i < 300; i++) {
		other = map(pages, PAGE, DMA_TO_DEVICE);
		assert_true(other != dma);
		dma_unmap_single(m.dev, other, PAGE, DMA_TO_DEVICE);
	}
	munmap(pages, PAGE);
}

/* ---- sizes and addresses ---- */

static void hugepages_are_registered_whole(void **state)
{
	char *pages = mmap(NULL, 4 * HUGEPAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	char *inner = pages + HUGEPAGE;
	dma_addr_t dma;

	(void)state;
	if (pages == MAP_FAILED) {
		print_message("# cannot be had here: no hugepages\n");
		skip();
	}
	assert_int_equal(dmaland_register(m.dev, inner, 2 * HUGEPAGE), 0);
	assert_int_equal(state_now().mappings, before.mappings + 1);
	assert_int_equal(state_now().memory, before.memory + 2 * HUGEPAGE);
	/* Memory and address agree below 2 MiB, so that the IOMMU can have one entry for each. */
	dma = map(inner, HUGEPAGE, DMA_BIDIRECTIONAL);
	assert_int_equal(dma % HUGEPAGE, 0);
	dma_unmap_single(m.dev, dma, HUGEPAGE, DMA_BIDIRECTIONAL);
	device_puts(dma + 2 * HUGEPAGE - PART, 0x66);
	assert_true(all_are(inner + 2 * HUGEPAGE - PART, PART, 0x66));
	assert_int_equal(inner[2 * HUGEPAGE], 0);
	assert_int_equal(dmaland_unregister(m.dev, inner), 0);
	check_as_before();
	munmap(pages, 4 * HUGEPAGE);
}

static void a_narrow_mask_lives_beside_a_wide_one(void **state)
{
	enum { ROUNDS = 40 };
	const struct dmaland_options options = {
		.size = sizeof(options), .copy_below = 1, .share_with = m.dev};
	unsigned char *pages = pages_new(32 * PAGE, PROT_READ | PROT_WRITE);
	dma_addr_t wide[ROUNDS], low[ROUNDS];
	struct mover narrow;

	(void)state;
	assert_true(mover_open(&narrow, narrow_spec, &options));
	before = state_now();
	assert_true(dma_get_mask(narrow.dev) < UINT32_MAX && dma_get_mask(m.dev) > UINT32_MAX);
	for (size_t i = 0; i < ROUNDS; i++) {
		size_t size = (i % 16 + 1) * PAGE;

		wide[i] = map(pages, size, DMA_BIDIRECTIONAL);
		low[i] = dma_map_single(narrow.dev, pages, size, DMA_BIDIRECTIONAL);
		if (low[i] == DMA_MAPPING_ERROR)
			fail_msg("%s", dmaland_last_error());
		assert_true(wide[i] > UINT32_MAX);
		assert_true(low[i] + size - 1 <= dma_get_mask(narrow.dev));
	}
	assert_int_equal(state_now().mappings, before.mappings + 2 * ROUNDS);
	/* Both see the same memory, each at its address. */
	device_puts(wide[ROUNDS - 1], 0x51);
	mover_reads(&narrow, low[0], PART);
	assert_true(all_are(mover_holds(&narrow, PART), PART, 0x51));
	for (size_t i = 0; i < ROUNDS; i++) {
		dma_unmap_single(m.dev, wide[i], (i % 16 + 1) * PAGE, DMA_BIDIRECTIONAL);
		dma_unmap_single(narrow.dev, low[i], (i % 16 + 1) * PAGE, DMA_BIDIRECTIONAL);
	}
	check_as_before();
	assert_string_equal(log_text(), "");
	mover_close(&narrow);
	munmap(pages, 32 * PAGE);
}

/* ---- interrupted system calls ---- */

static volatile sig_atomic_t interruptions;

static void interrupted(int number)
{
	(void)number;
	interruptions++;
}

/* Twice a millisecond, and no system call is restarted by the kernel. */
static timer_t storm_begin(void)
{
	const struct itimerspec often = {.it_interval.tv_nsec = 500000, .it_value.tv_nsec = 500000};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct sigaction action = {.sa_handler = interrupted};
	timer_t timer;

	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	assert_int_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	assert_int_equal(timer_settime(timer, 0, &often, NULL), 0);
	return timer;
}

static void signals_disturb_neither_map_nor_unmap(void **state)
{
	const size_t size = 4 << 20;
	unsigned char *pages = pages_new(size, PROT_READ | PROT_WRITE);
	timer_t timer = storm_begin();

	(void)state;
	for (int i = 0; i < 100 || interruptions < 200; i++) {
		enum dma_data_direction direction = (enum dma_data_direction)(i % 3);
		size_t part = i % 10 ? 64 << 10 : size;
		dma_addr_t dma = map(pages, part, direction);

		dma_unmap_single(m.dev, dma, part, direction);
		if (i % 10)
			continue;
		assert_int_equal(dmaland_register(m.dev, pages + i, size / 2), 0);
		assert_int_equal(dmaland_unregister(m.dev, pages + i), 0);
	}
	timer_delete(timer);
	check_as_before();
	assert_string_equal(log_text(), "");
	munmap(pages, size);
}

/* ---- files ---- */

static unsigned char *file_map(int fd, size_t size, int flags)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	return memory;
}

static bool kernel_pins_files(void)
{
	struct utsname kernel;
	unsigned int major = 0, minor = 0;

	uname(&kernel);
	assert_int_equal(sscanf(kernel.release, "%u.%u", &major, &minor), 2);
	return major < 6 || (major == 6 && minor < 5);
}

/* A file in memory has no pages to be written back: the device writes into it. */
static void memory_of_tmpfs_is_mapped_where_it_lies(void **state)
{
	int fd = memfd_create("tmpfs", MFD_CLOEXEC);
	unsigned char *memory, read_back[PART];
	dma_addr_t dma;

	(void)state;
	assert_int_equal(ftruncate(fd, 16 * PAGE), 0);
	memory = file_map(fd, 16 * PAGE, MAP_SHARED);
	dma = map(memory, 16 * PAGE, DMA_FROM_DEVICE);
	device_puts(dma + PAGE, 0x2f);
	dma_unmap_single(m.dev, dma, 16 * PAGE, DMA_FROM_DEVICE);
	assert_int_equal(pread(fd, read_back, PART, PAGE), PART);
	assert_true(all_are(read_back, PART, 0x2f));
	check_as_before();
	munmap(memory, 16 * PAGE);
	close(fd);
}

static void a_file_of_a_disk_is_read_by_the_device_and_not_written(void **state)
{
	int fd = open(file_name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	unsigned char *memory, *private;
	dma_addr_t dma;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 16 * PAGE), 0);
	memory = file_map(fd, 16 * PAGE, MAP_SHARED);
	memset(memory, 0x2e, 16 * PAGE);
	dma = map(memory, 16 * PAGE, DMA_TO_DEVICE);
	assert_true(device_sees(dma + 15 * PAGE, 0x2e));
	dma_unmap_single(m.dev, dma, 16 * PAGE, DMA_TO_DEVICE);
	check_as_before();
	if (kernel_pins_files()) {
		dma = map(memory, 16 * PAGE, DMA_FROM_DEVICE);
		device_puts(dma, 0x2f);
		dma_unmap_single(m.dev, dma, 16 * PAGE, DMA_FROM_DEVICE);
		assert_true(all_are(memory, PART, 0x2f));
	} else {
		expect_refusal(memory, 16 * PAGE, DMA_FROM_DEVICE);
		assert_error_says("a file whose pages the kernel does not pin");
		errno = 0;
		assert_int_equal(dmaland_register(m.dev, memory, 16 * PAGE), -EFAULT);
		assert_true(all_are(memory, 16 * PAGE, 0x2e));
	}
	check_as_before();

	/* A private mapping of it is memory as any other. */
	private = file_map(fd, 16 * PAGE, MAP_PRIVATE);
	dma = map(private, 16 * PAGE, DMA_FROM_DEVICE);
	device_puts(dma + PAGE, 0x30);
	dma_unmap_single(m.dev, dma, 16 * PAGE, DMA_FROM_DEVICE);
	assert_true(all_are(private + PAGE, PART, 0x30));
	assert_true(all_are(memory + PAGE, PART, 0x2e));
	check_as_before();
	munmap(private, 16 * PAGE);
	munmap(memory, 16 * PAGE);
	close(fd);
}

#define test(f) cmocka_unit_test_setup_teardown(f, open_device, close_device)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		test(memory_that_may_not_be_written_is_mapped_to_the_device_alone),
		test(memory_that_is_not_there_is_refused),
		test(a_list_with_an_element_that_is_not_there_is_not_mapped_at_all),
		test(the_device_keeps_pages_that_the_application_unmaps),
		test(registered_memory_that_is_gone_can_be_unregistered),
		test(what_is_written_after_mapping_is_what_the_device_reads),
		test(what_is_written_while_a_child_has_the_memory_is_what_the_device_reads),
		test(memory_is_written_to_first_only_where_the_kernel_pins_shared_pages),
		test(an_unmap_that_vfio_did_not_do_is_reported_and_its_address_never_used_again),
		test(hugepages_are_registered_whole),
		test(a_narrow_mask_lives_beside_a_wide_one),
		test(signals_disturb_neither_map_nor_unmap),
		test(memory_of_tmpfs_is_mapped_where_it_lies),
	};
	const struct CMUnitTest files[] = {
		test(a_file_of_a_disk_is_read_by_the_device_and_not_written),
	};

	if (argc < 3) {
		fprintf(stderr, "usage: %s SPEC NARROW [FILE]\n", argv[0]);
		return 2;
	}
	spec = argv[1];
	narrow_spec = argv[2];
	file_name = argv[3];
	log_capture();
	return file_name ? cmocka_run_group_tests_name("VFIO, files", files, NULL, NULL)
			 : cmocka_run_group_tests_name("VFIO, mappings", tests, NULL, NULL);
}
