/* SPDX-License-Identifier: MIT */
/*
 * atomic_tests.c - drivers that allocate with GFP_ATOMIC alone
 */
#include "suite.h"

#include <errno.h>
#include <stdlib.h>

enum { BLOCK = 256, MANY = 16384 };

static const char variable[] = "DMALAND_ATOMIC_MAY_GROW";

static struct dmaland_device *open_device(bool may_grow)
{
	const struct dmaland_options options = {.size = sizeof(options),
						.atomic_may_grow = may_grow};
	struct dmaland_device *dev = dmaland_open(device_spec, &options);

	if (!dev)
		fail_msg("%s", dmaland_last_error());
	return dev;
}

/* Up to n blocks; how many. */
static size_t take(struct dma_pool *pool, size_t n, gfp_t gfp)
{
	dma_addr_t handle;
	size_t taken = 0;

	while (taken < n && dma_pool_alloc(pool, gfp, &handle))
		taken++;
	return taken;
}

static void close_device(struct dmaland_device *dev)
{
	dmaland_close(dev);
	log_clear(); /* what was leaked */
}

static void gfp_atomic_ends_where_mapped_memory_does(void **state)
{
	struct dmaland_device *dev = open_device(false);
	struct dma_pool *pool = dma_pool_create("ported", dev, BLOCK, BLOCK, 0);
	struct dmaland_info info;

	(void)state;
	assert_non_null(pool);
	take(pool, MANY, GFP_ATOMIC);
	assert_int_equal(errno, ENOMEM);
	assert_error_says("options.atomic_may_grow");
	assert_error_says(variable);
	dmaland_get_info(dev, &info);
	assert_int_equal(info.memory_in_use, info.memory);
	assert_int_equal(take(pool, 1, GFP_KERNEL), 1);
	assert_int_equal(take(pool, 32, GFP_ATOMIC), 32);
	close_device(dev);
}

static void expect_growth(struct dmaland_device *dev)
{
	struct dma_pool *pool = dma_pool_create("ported", dev, BLOCK, BLOCK, 0);
	dma_addr_t handle;

	assert_non_null(dma_alloc_coherent(dev, 1 << 20, &handle, GFP_ATOMIC));
	assert_non_null(pool);
	assert_int_equal(take(pool, MANY, GFP_ATOMIC), MANY);
	close_device(dev);
}

static void gfp_atomic_grows_where_the_option_lets_it(void **state)
{
	(void)state;
	expect_growth(open_device(true));
}

static void gfp_atomic_grows_where_the_environment_lets_it(void **state)
{
	struct sg_table table;

	(void)state;
	assert_int_equal(setenv(variable, "1", 1), 0);
	expect_growth(open_device(false));
	assert_int_equal(sg_alloc_table(&table, 2, GFP_ATOMIC), 0);
	sg_free_table(&table);
	assert_int_equal(setenv(variable, "0", 1), 0);
	assert_int_equal(sg_alloc_table(&table, 2, GFP_ATOMIC), -ENOMEM);
	assert_error_says(variable);
	assert_int_equal(unsetenv(variable), 0);
}

int run_atomic_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gfp_atomic_ends_where_mapped_memory_does),
		cmocka_unit_test(gfp_atomic_grows_where_the_option_lets_it),
		cmocka_unit_test(gfp_atomic_grows_where_the_environment_lets_it),
	};

	return cmocka_run_group_tests_name("atomic", tests, NULL, NULL);
}
