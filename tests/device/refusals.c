/* SPDX-License-Identifier: MIT */
/*
 * refusals.c - VFIO says no, and why: ./refusals CONDITION ADDRESS
 *
 * Each CONDITION is a state of the machine that the script brought about: a device that is bound to
 * another driver, no IOMMU, a group that is not viable, no permission, little locked memory, few
 * mappings.
 */
#include "test.h"

#include <errno.h>
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

static struct dmaland_device *open_device(void)
{
	struct dmaland_device *dev = dmaland_open(address, NULL);

	if (!dev)
		fail_msg("%s", dmaland_last_error());
	return dev;
}

static void a_device_bound_to_another_driver_is_named_with_it(void **state)
{
	(void)state;
	expect_refusal(EBUSY, (const char *const[]){address, "'nvme'", "driver_override", NULL});
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

static const struct {
	const char *name;
	struct CMUnitTest test;
} conditions[] = {
	{"bound", cmocka_unit_test(a_device_bound_to_another_driver_is_named_with_it)},
	{"no-iommu", cmocka_unit_test(a_machine_without_iommu_is_explained)},
	{"not-viable", cmocka_unit_test(a_group_that_is_not_viable_names_who_is_in_the_way)},
	{"no-permission", cmocka_unit_test(no_permission_names_the_file)},
	{"memlock", cmocka_unit_test(too_little_locked_memory_is_named_with_its_limit)},
	{"mappings", cmocka_unit_test(the_limit_of_mappings_is_named)},
};

int main(int argc, char **argv)
{
	log_capture();
	for (size_t i = 0; argc == 3 && i < sizeof(conditions) / sizeof(conditions[0]); i++)
		if (strcmp(argv[1], conditions[i].name) == 0) {
			const struct CMUnitTest tests[] = {conditions[i].test};

			address = argv[2];
			return cmocka_run_group_tests_name(argv[1], tests, NULL, NULL);
		}
	fprintf(stderr, "usage: %s CONDITION ADDRESS\n", argv[0]);
	return 2;
}
