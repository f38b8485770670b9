/* SPDX-License-Identifier: MIT */
/*
 * test_soft_ranges.c - the ranges of soft: beside a bare array of granules
 */
#include "test.h"

#include <stdlib.h>

#include "backend/soft_ranges.h"

enum { SHIFT = 12, GRANULES = 3000 };

/* Which range each granule is in; NULL: none. Granule 0 is never in use. */
static struct soft_range *model[GRANULES];
static struct soft_ranges ranges;

static struct soft_range *add(dma_addr_t dma, uint64_t size)
{
	return soft_ranges_add(&ranges, dma, size, soft_ranges_before(&ranges, dma));
}

/* Where granule g of the model is: all over the width that the test has. */
static dma_addr_t address(uint64_t base, size_t g)
{
	return base + ((dma_addr_t)g << SHIFT);
}

static void check(uint64_t base, size_t g, uint64_t offset)
{
	dma_addr_t at = address(base, g) + offset;
	struct soft_range *before = soft_ranges_before(&ranges, at);
	size_t h = g;

	assert_ptr_equal(soft_ranges_find(&ranges, at), model[g]);
	while (h && !model[h])
		h--;
	assert_ptr_equal(before, model[h]);
	assert_ptr_equal(soft_ranges_at(&ranges, at), before && before->dma == at ? before : NULL);
}

/* Add a range where it fits, or remove the one that is there. */
static void change(uint64_t base, uint64_t *seed)
{
	size_t g = 1 + random_below(seed, GRANULES - 1), n = 1 + random_below(seed, 9), i;
	struct soft_range *range = model[g];

	if (range) {
		soft_ranges_remove(&ranges, range);
		for (i = 0; i < GRANULES; i++)
			if (model[i] == range)
				model[i] = NULL;
		return;
	}
	for (i = 0; i < n && g + i < GRANULES && !model[g + i]; i++)
		;
	range = add(address(base, g), (uint64_t)i << SHIFT);
	assert_non_null(range);
	while (i--)
		model[g + i] = range;
}

static void ranges_are_found_as_in_a_bare_array(void **state)
{
	static const struct {
		unsigned int bits;
		uint64_t base;
	} cases[] = {{24, 0},
		     {39, 0},
		     {39, 0x7ffff00000},
		     {57, UINT64_C(0x1fffffff0000000)},
		     {25, 0x1000000}};

	(void)state;
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		uint64_t seed = c + 1, base = cases[c].base, end = UINT64_C(1) << cases[c].bits;

		if (base && base + ((uint64_t)GRANULES << SHIFT) > end)
			base = end - ((uint64_t)GRANULES << SHIFT);
		memset(model, 0, sizeof(model));
		soft_ranges_init(&ranges);
		for (int i = 0; i < 20000; i++) {
			change(base, &seed);
			check(base, random_below(&seed, GRANULES), random_below(&seed, 4096));
		}
		for (size_t g = 0; g < GRANULES; g++) {
			check(base, g, 0);
			check(base, g, 4095);
		}
		/* Beyond all addresses. */
		assert_ptr_equal(soft_ranges_before(&ranges, UINT64_MAX),
				 soft_ranges_before(&ranges, end - 1));
		assert_ptr_equal(soft_ranges_before(&ranges, end),
				 soft_ranges_before(&ranges, end - 1));
		assert_null(soft_ranges_find(&ranges, end));
		if (c % 2) /* the end with and without ranges that are left */
			while (soft_ranges_before(&ranges, UINT64_MAX))
				soft_ranges_remove(&ranges,
						   soft_ranges_before(&ranges, UINT64_MAX));
		soft_ranges_fini(&ranges);
	}
}

static void the_last_owner_of_an_address_is_remembered_for_1024_more(void **state)
{
	struct soft_range *range;

	(void)state;
	soft_ranges_init(&ranges);
	assert_null(soft_ranges_was(&ranges, 0));
	for (unsigned int i = 1; i <= 2; i++) {
		range = add(0x10000, 0x2000);
		range->access = i;
		assert_null(soft_ranges_was(&ranges, 0x12000));
		soft_ranges_remove(&ranges, range);
		assert_int_equal(soft_ranges_was(&ranges, 0x11fff)->access, i);
	}
	assert_null(soft_ranges_was(&ranges, 0xffff));
	for (int i = 0; i < SOFT_NOTES; i++) {
		assert_non_null(soft_ranges_was(&ranges, 0x10000));
		soft_ranges_remove(&ranges, add(0x1000, 0x1000));
	}
	assert_null(soft_ranges_was(&ranges, 0x10000));
	soft_ranges_fini(&ranges);
}

static void each_range_is_picked_about_as_often_as_any_other(void **state)
{
	unsigned int picked[5] = {0};

	(void)state;
	soft_ranges_init(&ranges);
	assert_null(soft_ranges_pick(&ranges, 7));
	for (unsigned int i = 0; i < 5; i++)
		add((i + 1) << SHIFT, 4096)->access = i;
	for (uint64_t i = 0, seed = 5; i < 5000; i++)
		picked[soft_ranges_pick(&ranges, random_next(&seed))->access]++;
	for (unsigned int i = 0; i < 5; i++)
		assert_in_range(picked[i], 800, 1200);
	/* The only one that is left, of many, is found with any number. */
	for (unsigned int i = 0; i < 500; i++)
		add((i + 100) << SHIFT, 4096);
	while (soft_ranges_before(&ranges, UINT64_MAX)->dma != 4096)
		soft_ranges_remove(&ranges, soft_ranges_before(&ranges, UINT64_MAX));
	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(soft_ranges_pick(&ranges, i)->dma, 4096);
	soft_ranges_remove(&ranges, soft_ranges_find(&ranges, 4096));
	assert_null(soft_ranges_pick(&ranges, 7));
	soft_ranges_fini(&ranges);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_are_found_as_in_a_bare_array),
		cmocka_unit_test(the_last_owner_of_an_address_is_remembered_for_1024_more),
		cmocka_unit_test(each_range_is_picked_about_as_often_as_any_other),
	};

	return cmocka_run_group_tests_name("soft_ranges", tests, NULL, NULL);
}
