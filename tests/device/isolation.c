/* SPDX-License-Identifier: MIT */
/*
 * isolation.c - what a device was not given it can't reach: ./isolation SPEC, as root
 *
 * SPEC names an NVMe drive behind an IOMMU. It is told to write to addresses where nothing is mapped
 * for it, and the memory that lies there without an IOMMU is looked at: the status alone says
 * nothing, since the drive takes the lost write for done.
 */
#include "test.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "nvme_internal.h"

static const char *spec;
static struct dmaland_device *dev;
static struct dmaland_nvme *ctrl;

static int open_drive(void **state)
{
	(void)state;
	dev = dmaland_open(spec, NULL);
	if (!dev)
		fail_msg("%s", dmaland_last_error());
	ctrl = dmaland_nvme_open(dev, NULL);
	if (!ctrl)
		fail_msg("%s", dmaland_last_error());
	return 0;
}

static int close_drive(void **state)
{
	(void)state;
	dmaland_nvme_close(ctrl);
	dmaland_close(dev);
	return 0;
}

/* Identify Controller, 4096 bytes written to an address of our choice (NVMe 2.0, 5.17). */
static int identify_to(uint64_t address)
{
	struct nvme_command command = {
		.opcode = NVME_ADMIN_IDENTIFY,
		.prp = {htole64(address)},
		.cdw10 = htole32(NVME_IDENTIFY_CONTROLLER),
	};

	return nvme_submit_sync_cmd(ctrl, &command, ctrl->timeout_ms, NULL);
}

/* The physical address of a page (the kernel's Documentation/admin-guide/mm/pagemap.rst). */
static uint64_t physical_address(const void *page)
{
	uint64_t entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &entry, 8, (off_t)((uintptr_t)page / 4096 * 8)), 8);
	close(fd);
	assert_true(entry >> 63);
	return (entry & ((UINT64_C(1) << 55) - 1)) * 4096;
}

static bool all_bytes_are(const unsigned char *page, int value)
{
	for (int i = 0; i < 4096; i++)
		if (page[i] != value)
			return false;
	return true;
}

static void an_address_that_is_mapped_is_reached(void **state)
{
	dma_addr_t handle;
	unsigned char *page = dma_alloc_coherent(dev, 4096, &handle, GFP_KERNEL);

	(void)state;
	memset(page, 0x66, 4096);
	assert_int_equal(identify_to(handle), 0);
	assert_false(all_bytes_are(page, 0x66));
	dma_free_coherent(dev, 4096, page, handle);
}

static void physical_memory_that_was_not_given_stays_as_it_was(void **state)
{
	unsigned char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_LOCKED, -1, 0);

	(void)state;
	assert_ptr_not_equal(page, MAP_FAILED);
	memset(page, 0x66, 4096);
	identify_to(physical_address(page));
	assert_true(all_bytes_are(page, 0x66));
	munmap(page, 4096);
}

static void memory_that_was_given_back_is_out_of_reach(void **state)
{
	size_t size = 40 << 20; /* large enough to go back to the system when it is freed */
	dma_addr_t handle;
	unsigned char *memory = dma_alloc_coherent(dev, size, &handle, GFP_KERNEL), *page;
	struct dmaland_info before, after;
	uint64_t physical;

	(void)state;
	assert_non_null(memory);
	dmaland_get_info(dev, &before);
	dma_free_coherent(dev, size, memory, handle);
	dmaland_get_info(dev, &after);
	assert_true(after.memory + size <= before.memory);
	page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
		    -1, 0);
	assert_ptr_not_equal(page, MAP_FAILED);
	memset(page, 0x66, size);
	physical = physical_address(page);
	identify_to(handle);
	identify_to(physical);
	for (size_t i = 0; i < size; i += 4096)
		assert_true(all_bytes_are(page + i, 0x66));
	munmap(page, size);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_address_that_is_mapped_is_reached, open_drive,
						close_drive),
		cmocka_unit_test_setup_teardown(physical_memory_that_was_not_given_stays_as_it_was,
						open_drive, close_drive),
		cmocka_unit_test_setup_teardown(memory_that_was_given_back_is_out_of_reach,
						open_drive, close_drive),
	};

	if (argc != 2) {
		fprintf(stderr, "usage: %s SPEC\n", argv[0]);
		return 2;
	}
	spec = argv[1];
	log_capture();
	return cmocka_run_group_tests_name("isolation", tests, NULL, NULL);
}
