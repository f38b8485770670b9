/* SPDX-License-Identifier: MIT */
#include "test.h"

#include <errno.h>
#include <stdlib.h>

#include "iova/iova.h"

static void the_highest_place_that_fits_is_taken(void **state)
{
	struct iova_space space;
	uint64_t first;

	(void)state;
	iova_space_init(&space);
	assert_int_equal(iova_space_add(&space, 0x1000, 0xffff), 0);
	assert_int_equal(iova_space_add(&space, 0x20000, 0x2ffff), 0);
	assert_int_equal(iova_space_take(&space, 0x1000, 0x1000, UINT64_MAX, &first), 0);
	assert_int_equal(first, 0x2f000);
	assert_int_equal(iova_space_take(&space, 0x1000, 0x1000, 0x1ffff, &first), 0);
	assert_int_equal(first, 0xf000);
	assert_int_equal(iova_space_take(&space, 0x4000, 0x4000, 0x2efff, &first), 0);
	assert_int_equal(first, 0x28000);
	iova_space_destroy(&space);
}

static void address_zero_is_never_given(void **state)
{
	struct iova_space space;
	uint64_t first;

	(void)state;
	iova_space_init(&space);
	assert_int_equal(iova_space_add(&space, 0, 0x1fff), 0);
	assert_int_equal(iova_space_take(&space, 0x1000, 0x1000, UINT64_MAX, &first), 0);
	assert_int_equal(first, 0x1000);
	assert_int_equal(iova_space_take(&space, 0x1000, 0x1000, UINT64_MAX, &first), -ENOSPC);
	iova_space_destroy(&space);
}

static void the_last_address_of_all_can_be_used(void **state)
{
	struct iova_space space;
	uint64_t first;

	(void)state;
	iova_space_init(&space);
	assert_int_equal(iova_space_add(&space, UINT64_MAX - 0xfff, UINT64_MAX), 0);
	assert_int_equal(iova_space_take(&space, 0x1000, 0x1000, UINT64_MAX, &first), 0);
	assert_int_equal(first, UINT64_MAX - 0xfff);
	iova_space_release(&space, first, 0x1000);
	assert_int_equal(iova_space_free(&space, UINT64_MAX), 0x1000);
	iova_space_destroy(&space);
}

static void nonsense_is_refused(void **state)
{
	struct iova_space space;
	uint64_t first;

	(void)state;
	iova_space_init(&space);
	assert_int_equal(iova_space_add(&space, 0x1000, 0xffff), 0);
	assert_int_equal(iova_space_take(&space, 0, 0x1000, UINT64_MAX, &first), -EINVAL);
	assert_int_equal(iova_space_take(&space, 0x1000, 0, UINT64_MAX, &first), -EINVAL);
	assert_int_equal(iova_space_take(&space, 0x1000, 0x1800, UINT64_MAX, &first), -EINVAL);
	assert_int_equal(iova_space_take(&space, UINT64_MAX, 1, UINT64_MAX, &first), -ENOSPC);
	iova_space_destroy(&space);
}

static void restricting_brings_holes_but_leaves_what_is_taken(void **state)
{
	static const struct iova_range usable[] = {{0x2000, 0x7fff}, {0xa000, 0xffff}};
	struct iova_space space;
	uint64_t taken, outside, first;

	(void)state;
	iova_space_init(&space);
	assert_int_equal(iova_space_add(&space, 0x1000, 0x1ffff), 0);
	assert_int_equal(iova_space_take(&space, 0x10000, 0x1000, UINT64_MAX, &outside), 0);
	assert_int_equal(iova_space_take(&space, 0x1000, 0x1000, 0xffff, &taken), 0);
	assert_int_equal(taken, 0xf000);
	assert_int_equal(iova_space_restrict(&space, usable, 2), 0);
	assert_int_equal(iova_space_free(&space, UINT64_MAX), 0x6000 + 0x5000);
	assert_int_equal(iova_space_take(&space, 0x6000, 0x1000, UINT64_MAX, &first), 0);
	assert_int_equal(first, 0x2000);
	iova_space_release(&space, taken, 0x1000);
	assert_int_equal(iova_space_free(&space, UINT64_MAX), 0x6000);
	iova_space_release(&space, outside, 0x10000); /* 0x10000 to 0x1ffff: a hole by now */
	assert_int_equal(iova_space_free(&space, UINT64_MAX), 0x6000);
	iova_space_destroy(&space);
}

/* A model of 512 granules, a flag each, beside the space. */
enum { GRANULES = 512, LIVE = 200 };

static bool model_free(const bool *used, uint64_t at, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		if (used[at + i])
			return false;
	return true;
}

static void a_random_sequence_agrees_with_a_model(void **state)
{
	static bool used[GRANULES];
	struct {
		uint64_t first, size;
	} live[LIVE];
	size_t count = 0;
	uint64_t seed = 1;
	struct iova_space space;

	(void)state;
	iova_space_init(&space);
	used[0] = used[300] = true;
	assert_int_equal(iova_space_add(&space, 1 << 12, (300 << 12) - 1), 0);
	assert_int_equal(iova_space_add(&space, 301 << 12, (GRANULES << 12) - 1), 0);
	for (int step = 0; step < 200000; step++) {
		if (count < LIVE && random_below(&seed, 2)) {
			uint64_t n = 1 + random_below(&seed, 9),
				 align = 1u << random_below(&seed, 4);
			uint64_t limit = random_below(&seed, GRANULES) + 1, at, first;
			bool found = false;
			int err = iova_space_take(&space, n << 12, align << 12, (limit << 12) - 1,
						  &first);

			for (at = limit; at-- > 0;)
				if (at % align == 0 && at + n <= limit && model_free(used, at, n)) {
					found = true;
					break;
				}
			assert_int_equal(err, found ? 0 : -ENOSPC);
			if (!found)
				continue;
			assert_int_equal(first, at << 12);
			for (uint64_t i = 0; i < n; i++)
				used[at + i] = true;
			live[count].first = at;
			live[count++].size = n;
		} else if (count) {
			size_t i = random_below(&seed, count);

			iova_space_release(&space, live[i].first << 12, live[i].size << 12);
			for (uint64_t k = 0; k < live[i].size; k++)
				used[live[i].first + k] = false;
			live[i] = live[--count];
		}
	}
	while (count--)
		iova_space_release(&space, live[count].first << 12, live[count].size << 12);
	assert_int_equal(space.count, 2);
	assert_int_equal(space.taken, 0);
	iova_space_destroy(&space);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_highest_place_that_fits_is_taken),
		cmocka_unit_test(address_zero_is_never_given),
		cmocka_unit_test(the_last_address_of_all_can_be_used),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(restricting_brings_holes_but_leaves_what_is_taken),
		cmocka_unit_test(a_random_sequence_agrees_with_a_model),
	};

	return cmocka_run_group_tests_name("iova", tests, NULL, NULL);
}
