/* SPDX-License-Identifier: MIT */
/*
 * refusals.c - VFIO says no, and why: ./refusals CONDITION ADDRESS
 *
 * Each CONDITION is a state of the machine that the script brought about: a device that is bound to
 * another driver, no IOMMU, a group that is not viable, no permission, little locked memory, few
 * mappings; a reset that another has begun.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static const char *address;

static void expect_refusal(int code, const char *const *says)
{
	char spec[64];

	snprintf(spec, sizeof(spec), "vfio:%s", address);
	for (int bare = 0; bare < 2; bare++) {
		errno = 0;
		assert_null(dmaland_open(bare ? address : spec, NULL));
		assert_int_equal(errno, code);
		for (size_t i = 0; says[i]; i++)
			assert_error_says(says[i]);
	}
}

static struct dmaland_device *open_with(const struct dmaland_options *options)
{
	struct dmaland_device *dev = dmaland_open(address, options);

	if (!dev)
		fail_msg("%s", dmaland_last_error());
	return dev;
}

static struct dmaland_device *open_device(void)
{
	return open_with(NULL);
}

static uint32_t mappings_of(struct dmaland_device *dev)
{
	struct dmaland_info info;

	dmaland_get_info(dev, &info);
	return info.mappings;
}

static void *pages_new(size_t size)
{
	void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(pages, MAP_FAILED);
	return pages;
}

static dma_addr_t map(struct dmaland_device *dev, void *ptr, size_t size)
{
	dma_addr_t dma = dma_map_single(dev, ptr, size, DMA_FROM_DEVICE);

	if (dma_mapping_error(dev, dma))
		fail_msg("%s", dmaland_last_error());
	return dma;
}

static void expect_no_memory(struct dmaland_device *dev, void *ptr, size_t size, const char *says)
{
	uint32_t before = mappings_of(dev);

	errno = 0;
	assert_true(dma_map_single(dev, ptr, size, DMA_FROM_DEVICE) == DMA_MAPPING_ERROR);
	assert_int_equal(errno, ENOMEM);
	assert_error_says(says);
	errno = 0;
	assert_int_equal(dmaland_register(dev, ptr, size), -ENOMEM);
	assert_error_says(says);
	assert_int_equal(mappings_of(dev), before);
}

static void a_device_bound_to_another_driver_is_named_with_it(void **state)
{
	(void)state;
	expect_refusal(EBUSY, (const char *const[]){address, "'nvme'", "dmaland bind", NULL});
}

static void a_machine_without_iommu_is_explained(void **state)
{
	(void)state;
	expect_refusal(ENODEV,
		       (const char *const[]){address, "no IOMMU group", "intel_iommu=on", NULL});
}

static void a_group_that_is_not_viable_names_who_is_in_the_way(void **state)
{
	(void)state;
	expect_refusal(EPERM, (const char *const[]){"not viable", "bound to nvme", NULL});
}

static void no_permission_names_the_file(void **state)
{
	(void)state;
	assert_int_not_equal(geteuid(), 0);
	expect_refusal(EACCES, (const char *const[]){"/dev/vfio/", "chown", NULL});
}

static void too_little_locked_memory_is_named_with_its_limit(void **state)
{
	struct rlimit limit;
	struct dmaland_device *dev = open_device();
	struct dmaland_info info;
	dma_addr_t handle;
	void *memory;
	char expected[64];

	(void)state;
	assert_int_not_equal(geteuid(), 0);
	getrlimit(RLIMIT_MEMLOCK, &limit);
	errno = 0;
	assert_null(dma_alloc_coherent(dev, 64 << 20, &handle, GFP_KERNEL));
	assert_int_equal(errno, ENOMEM);
	snprintf(expected, sizeof(expected), "RLIMIT_MEMLOCK is %llu KiB",
		 (unsigned long long)limit.rlim_cur >> 10);
	assert_error_says(expected);
	assert_error_says("cannot pin 65536 KiB");
	assert_error_says("ulimit -l");

	/* Nothing is lost: all that the limit allows can still be had. */
	for (size_t pages = 0; pages < limit.rlim_cur / 4096 - 8; pages++) {
		memory = dma_alloc_coherent(dev, 4096, &handle, GFP_KERNEL);
		if (!memory)
			fail_msg("after %zu pages: %s", pages, dmaland_last_error());
	}
	while (dma_alloc_coherent(dev, 4096, &handle, GFP_KERNEL))
		;
	assert_error_says("RLIMIT_MEMLOCK");
	dmaland_get_info(dev, &info);
	assert_true(info.memory <= limit.rlim_cur);
	dmaland_close(dev);
}

/* The kernel would end this process. */
static void more_than_the_cgroup_may_have_is_refused(void **state)
{
	struct dmaland_device *dev = open_device();
	struct dma_pool *pool = dma_pool_create("grows", dev, 64 << 10, 4096, 0);
	const char *says = "may have 128 MiB (memory.max)";
	dma_addr_t handle;
	size_t blocks = 0;

	(void)state;
	assert_non_null(pool);
	errno = 0;
	assert_null(dma_alloc_coherent(dev, 256 << 20, &handle, GFP_KERNEL));
	assert_int_equal(errno, ENOMEM);
	assert_error_says(says);
	while (dma_pool_alloc(pool, GFP_KERNEL, &handle))
		blocks++;
	assert_int_equal(errno, ENOMEM);
	assert_error_says(says);
	assert_true(blocks > 256); /* 16 of the 128 MiB */
	dmaland_close(dev);
}

static void the_limit_of_mappings_is_named(void **state)
{
	struct dmaland_device *dev = open_device();
	struct dmaland_info info;
	dma_addr_t handle[64];
	void *memory[64];
	int n = 0;

	(void)state;
	dmaland_get_info(dev, &info);
	assert_true(info.mapping_limit > 0 && info.mapping_limit < 60);
	while (n < 64 && (memory[n] = dma_alloc_coherent(dev, 1 << 20, &handle[n], GFP_KERNEL)))
		n++;
	assert_true(n < 64);
	assert_int_equal(errno, ENOMEM);
	assert_error_says("dma_entry_limit");
	dmaland_get_info(dev, &info);
	assert_int_equal(info.mappings, info.mapping_limit);
	dma_free_coherent(dev, 1 << 20, memory[0], handle[0]);
	assert_non_null(dma_alloc_coherent(dev, 1 << 20, &handle[0], GFP_KERNEL));
	dmaland_close(dev);
}

static void a_mapping_over_the_locked_memory_is_refused_and_leaves_all_of_it(void **state)
{
	const size_t large = 64 << 20, small = 5 << 20;
	struct dmaland_device *dev = open_device();
	char *pages = pages_new(large);
	dma_addr_t dma;

	(void)state;
	expect_no_memory(dev, pages, large, "RLIMIT_MEMLOCK is");
	assert_error_says("cannot pin 65536 KiB");
	for (int i = 0; i < 10; i++) { /* nothing of it stays locked */
		dma = map(dev, pages, small);
		expect_no_memory(dev, pages + small, small, "RLIMIT_MEMLOCK is");
		dma_unmap_single(dev, dma, small, DMA_FROM_DEVICE);
	}
	dmaland_close(dev);
	munmap(pages, large);
}

static void what_waits_to_be_revoked_makes_room_for_what_is_mapped(void **state)
{
	const struct dmaland_options options = {
		.size = sizeof(options), .lazy = true, .lazy_ms = 3600000, .copy_below = 1};
	struct dmaland_device *dev = open_with(&options);
	const size_t size = 3 << 20; /* half of the locked memory, and a third of the mappings */
	char *pages = pages_new(size);
	struct dmaland_streaming_stats stats;

	(void)state;
	for (int i = 0; i < 20; i++)
		dma_unmap_single(dev, map(dev, pages, size), size, DMA_FROM_DEVICE);
	dmaland_get_streaming_stats(dev, &stats);
	assert_int_equal(stats.mapped, 20);
	assert_int_equal(stats.failed, 0);
	assert_true(stats.waiting > 0 && stats.revoked > 0);
	assert_int_equal(mappings_of(dev), stats.waiting);
	dmaland_flush(dev);
	assert_int_equal(mappings_of(dev), 0);
	dmaland_close(dev);
	munmap(pages, size);
}

static void idle_memory_makes_room_for_what_is_mapped_and_registered(void **state)
{
	struct dmaland_device *dev = open_device();
	const size_t size = 3 << 20; /* half of the locked memory, and a third of the mappings */
	char *pages = pages_new(2 * size);
	dma_addr_t handle[64], dma;
	void *memory[64];
	int n = 0;

	(void)state;
	while (n < 64 && (memory[n] = dma_alloc_coherent(dev, 1 << 20, &handle[n], GFP_KERNEL)))
		n++;
	assert_true(n > 1 && n < 64);
	expect_no_memory(dev, pages, size, "KiB are in use, ");
	while (n--)
		dma_free_coherent(dev, 1 << 20, memory[n], handle[n]);
	dma = map(dev, pages, size);
	if (dmaland_register(dev, pages + size, size))
		fail_msg("%s", dmaland_last_error());
	dma_unmap_single(dev, dma, size, DMA_FROM_DEVICE);
	assert_int_equal(dmaland_unregister(dev, pages + size), 0);
	dmaland_close(dev);
	munmap(pages, 2 * size);
}

static void a_mapping_over_the_limit_of_mappings_is_refused_until_one_ends(void **state)
{
	const struct dmaland_options options = {.size = sizeof(options), .copy_below = 1};
	struct dmaland_device *dev = open_with(&options);
	char *pages = pages_new(64 * 4096);
	struct scatterlist sg[2];
	struct dmaland_info info;
	dma_addr_t dma[64];
	uint32_t n;

	(void)state;
	dmaland_get_info(dev, &info);
	n = info.mapping_limit;
	assert_true(n > 1 && n < 60);
	for (uint32_t i = 0; i < n; i++)
		dma[i] = map(dev, pages + i * 4096, 4096);
	expect_no_memory(dev, pages + n * 4096, 4096, "dma_entry_limit");
	dma_unmap_single(dev, dma[0], 4096, DMA_FROM_DEVICE);

	/* There is room for one, and two are asked: then there is still room for one. */
	sg_init_table(sg, 2);
	sg_set_buf(&sg[0], pages + 100, 4096);
	sg_set_buf(&sg[1], pages + 32 * 4096 + 100, 4096);
	errno = 0;
	assert_int_equal(dma_map_sg(dev, sg, 2, DMA_FROM_DEVICE), 0);
	assert_int_equal(errno, ENOMEM);
	assert_error_says("dma_entry_limit");
	assert_int_equal(mappings_of(dev), n - 1);
	dma[0] = map(dev, pages, 4096);
	for (uint32_t i = 0; i < n; i++)
		dma_unmap_single(dev, dma[i], 4096, DMA_FROM_DEVICE);
	assert_int_equal(mappings_of(dev), 0);
	dmaland_close(dev);
	munmap(pages, 64 * 4096);
}

static void *reset_by_the_kernel(void *unused)
{
	char path[64];
	int fd;

	(void)unused;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset", address);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "1", 1) != 1)
		fail_msg("%s: %s", path, strerror(errno));
	close(fd);
	return NULL;
}

/* The kernel waits 100 ms when it has reset a function (PCI Express 6.6.2), and VFIO's answer meanwhile is EAGAIN. */
static void a_reset_by_another_is_waited_for(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, reset_by_the_kernel, NULL), 0);
		dmaland_close(open_device());
		pthread_join(thread, NULL);
	}
	/* also in the middle of what the library does itself */
	for (int i = 0; i < 20; i++) {
		struct dmaland_device *dev = open_device();
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, reset_by_the_kernel, NULL), 0);
		if (pci_reset_function(dev))
			fail_msg("%s", dmaland_last_error());
		pthread_join(thread, NULL);
		dmaland_close(dev);
	}
}

static const struct {
	const char *name;
	struct CMUnitTest test;
} conditions[] = {
	{"bound", cmocka_unit_test(a_device_bound_to_another_driver_is_named_with_it)},
	{"no-iommu", cmocka_unit_test(a_machine_without_iommu_is_explained)},
	{"not-viable", cmocka_unit_test(a_group_that_is_not_viable_names_who_is_in_the_way)},
	{"reset", cmocka_unit_test(a_reset_by_another_is_waited_for)},
	{"no-permission", cmocka_unit_test(no_permission_names_the_file)},
	{"memlock", cmocka_unit_test(too_little_locked_memory_is_named_with_its_limit)},
	{"memlock",
	 cmocka_unit_test(a_mapping_over_the_locked_memory_is_refused_and_leaves_all_of_it)},
	{"memlock", cmocka_unit_test(what_waits_to_be_revoked_makes_room_for_what_is_mapped)},
	{"memlock", cmocka_unit_test(idle_memory_makes_room_for_what_is_mapped_and_registered)},
	{"cgroup", cmocka_unit_test(more_than_the_cgroup_may_have_is_refused)},
	{"mappings", cmocka_unit_test(the_limit_of_mappings_is_named)},
	{"mappings",
	 cmocka_unit_test(a_mapping_over_the_limit_of_mappings_is_refused_until_one_ends)},
	{"mappings", cmocka_unit_test(what_waits_to_be_revoked_makes_room_for_what_is_mapped)},
	{"mappings", cmocka_unit_test(idle_memory_makes_room_for_what_is_mapped_and_registered)},
};

int main(int argc, char **argv)
{
	int failed = 0, known = 0;

	log_capture();
	for (size_t i = 0; argc == 3 && i < sizeof(conditions) / sizeof(conditions[0]); i++)
		if (strcmp(argv[1], conditions[i].name) == 0) {
			const struct CMUnitTest tests[] = {conditions[i].test};

			address = argv[2];
			failed += cmocka_run_group_tests_name(argv[1], tests, NULL, NULL);
			known++;
		}
	if (known)
		return failed;
	fprintf(stderr, "usage: %s CONDITION ADDRESS\n", argv[0]);
	return 2;
}
