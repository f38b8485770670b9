/* SPDX-License-Identifier: MIT */
#include "test.h"

#include <errno.h>
#include <stdlib.h>

#include "iova/iova.h"

static bool no_memory;

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

void *__wrap_calloc(size_t n, size_t size)
{
	return no_memory ? NULL : __real_calloc(n, size);
}

void *__wrap_malloc(size_t size)
{
	return no_memory ? NULL : __real_malloc(size);
}

static int take_at(struct iova_space *space, uint64_t size, uint64_t align, uint64_t last,
		   uint64_t *first)
{
	const struct iova_wish wish = {.size = size, .align = align, .last = last};

	return iova_space_take(space, &wish, first);
}

static void the_highest_place_that_fits_is_taken(void **state)
{
	struct iova_space space;
	uint64_t first;

	(void)state;
	iova_space_init(&space);
	assert_int_equal(iova_space_add(&space, 0x1000, 0xffff), 0);
	assert_int_equal(iova_space_add(&space, 0x20000, 0x2ffff), 0);
	assert_int_equal(take_at(&space, 0x1000, 0x1000, UINT64_MAX, &first), 0);
	assert_int_equal(first, 0x2f000);
	assert_int_equal(take_at(&space, 0x1000, 0x1000, 0x1ffff, &first), 0);
	assert_int_equal(first, 0xf000);
	assert_int_equal(take_at(&space, 0x4000, 0x4000, 0x2efff, &first), 0);
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
	assert_int_equal(take_at(&space, 0x1000, 0x1000, UINT64_MAX, &first), 0);
	assert_int_equal(first, 0x1000);
	assert_int_equal(take_at(&space, 0x1000, 0x1000, UINT64_MAX, &first), -ENOSPC);
	iova_space_destroy(&space);
}

static void the_last_address_of_all_can_be_used(void **state)
{
	struct iova_space space;
	uint64_t first;

	(void)state;
	iova_space_init(&space);
	assert_int_equal(iova_space_add(&space, UINT64_MAX - 0xfff, UINT64_MAX), 0);
	assert_int_equal(take_at(&space, 0x1000, 0x1000, UINT64_MAX, &first), 0);
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
	assert_int_equal(take_at(&space, 0, 0x1000, UINT64_MAX, &first), -EINVAL);
	assert_int_equal(take_at(&space, 0x1000, 0, UINT64_MAX, &first), -EINVAL);
	assert_int_equal(take_at(&space, 0x1000, 0x1800, UINT64_MAX, &first), -EINVAL);
	assert_int_equal(take_at(&space, 0x1800, 0x1000, UINT64_MAX, &first), -EINVAL);
	assert_int_equal(iova_space_take(&space,
					 &(struct iova_wish){.size = 0x1000,
							     .align = 0x1000,
							     .offset = 0x1000,
							     .last = UINT64_MAX},
					 &first),
			 -EINVAL);
	assert_int_equal(take_at(&space, UINT64_MAX - 0xfff, 1, UINT64_MAX, &first), -ENOSPC);
	assert_int_equal(iova_space_take(&space,
					 &(struct iova_wish){.size = UINT64_MAX - 0xfff,
							     .align = 0x4000,
							     .offset = 0x1000,
							     .last = UINT64_MAX},
					 &first),
			 -ENOSPC);
	iova_space_destroy(&space);
}

/* What holes are measured in has an end: 16 TiB. */
static void what_is_very_large_is_found_too(void **state)
{
	const uint64_t tib = UINT64_C(1) << 40;
	struct iova_space space;
	uint64_t first;

	(void)state;
	iova_space_init(&space);
	assert_int_equal(iova_space_add(&space, 0x1000, 99 * tib - 1), 0);
	assert_int_equal(iova_space_add(&space, 100 * tib, 130 * tib - 1), 0);
	assert_int_equal(take_at(&space, 40 * tib, 0x1000, UINT64_MAX, &first), 0);
	assert_int_equal(first, 59 * tib);
	assert_int_equal(take_at(&space, 40 * tib, 0x1000, 32 * tib - 1, &first), -ENOSPC);
	assert_int_equal(take_at(&space, 30 * tib, 0x1000, UINT64_MAX, &first), 0);
	assert_int_equal(first, 100 * tib);
	assert_int_equal(take_at(&space, 60 * tib, 0x1000, UINT64_MAX, &first), -ENOSPC);
	assert_int_equal(take_at(&space, 59 * tib - 0x1000, 0x1000, UINT64_MAX, &first), 0);
	assert_int_equal(iova_space_free(&space, UINT64_MAX), 0);
	iova_space_destroy(&space);
}

static void where_memory_runs_out_nothing_is_lost(void **state)
{
	static const struct iova_range usable[] = {{0x1000, 0xffffff}, {0x2000000, 0x2ffffff}};
	struct iova_space space;
	uint64_t taken[4000], first;
	size_t n = 0;
	int err;

	(void)state;
	iova_space_init(&space);
	no_memory = true;
	assert_int_equal(iova_space_add(&space, 0x1000, 0x3ffffff), -ENOMEM);
	assert_int_equal(iova_space_free(&space, UINT64_MAX), 0);
	no_memory = false;
	assert_int_equal(iova_space_add(&space, 0x1000, 0x3ffffff), 0);
	no_memory = true;
	assert_int_equal(iova_space_restrict(&space, usable, 2), -ENOMEM);
	while (!(err = take_at(&space, 0x1000, 0x1000, UINT64_MAX, &first)))
		taken[n++] = first;
	assert_int_equal(err, -ENOMEM);
	/* As many holes as there can be come back without memory. */
	for (size_t i = 0; i < n; i += 2)
		iova_space_release(&space, taken[i], 0x1000);
	assert_int_equal(space.count, (n + 1) / 2 + (n % 2 == 0));
	for (size_t i = 1; i < n; i += 2)
		iova_space_release(&space, taken[i], 0x1000);
	assert_int_equal(space.count, 1);
	assert_int_equal(iova_space_free(&space, UINT64_MAX), 0x3fff000);
	no_memory = false;
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
	assert_int_equal(take_at(&space, 0x10000, 0x1000, UINT64_MAX, &outside), 0);
	assert_int_equal(take_at(&space, 0x1000, 0x1000, 0xffff, &taken), 0);
	assert_int_equal(taken, 0xf000);
	assert_int_equal(iova_space_restrict(&space, usable, 2), 0);
	assert_int_equal(iova_space_free(&space, UINT64_MAX), 0x6000 + 0x5000);
	assert_int_equal(take_at(&space, 0x6000, 0x1000, UINT64_MAX, &first), 0);
	assert_int_equal(first, 0x2000);
	iova_space_release(&space, taken, 0x1000);
	assert_int_equal(iova_space_free(&space, UINT64_MAX), 0x6000);
	iova_space_release(&space, outside, 0x10000); /* 0x10000 to 0x1ffff: a hole by now */
	assert_int_equal(iova_space_free(&space, UINT64_MAX), 0x6000);
	iova_space_destroy(&space);
}

/* A model of 512 granules, a flag each, beside the space. */
enum { GRANULES = 512, LIVE = 200 };

static bool used[GRANULES];

/* All in granules. In front of an offset there is room for it, which counts at a boundary. */
static bool model_fits(const struct iova_wish *wish, uint64_t at)
{
	uint64_t first = at - wish->offset, end = at + wish->size;

	if (at % wish->align != wish->offset || end > wish->last + 1)
		return false;
	if (wish->boundary && wish->align <= wish->boundary &&
	    first / (wish->boundary + 1) != (end - 1) / (wish->boundary + 1))
		return false;
	for (uint64_t i = first; i < end; i++)
		if (used[i])
			return false;
	return !wish->boundary || end - first <= wish->boundary + 1;
}

/* The highest place; 0, which is never free: there is none. */
static uint64_t model_find(const struct iova_wish *wish)
{
	uint64_t at = GRANULES;

	while (--at > 0)
		if (at + wish->size <= GRANULES && at >= wish->offset && model_fits(wish, at))
			break;
	return at;
}

static void model_mark(uint64_t first, uint64_t size, bool is_used)
{
	for (uint64_t i = 0; i < size; i++)
		used[first + i] = is_used;
}

/* Of pairs of alignment and boundary there are more than lanes. */
static struct iova_wish random_wish(uint64_t *seed)
{
	static const uint64_t boundaries[] = {0, 0, 3, 7, 15, 63, 255};
	struct iova_wish wish = {
		.size = 1 + random_below(seed, random_below(seed, 8) ? 9 : 40),
		.align = UINT64_C(1) << random_below(seed, 6),
		.boundary = boundaries[random_below(seed, 7)],
		.last = random_below(seed, 2) ? GRANULES : random_below(seed, GRANULES) + 1,
	};

	if (random_below(seed, 3) == 0)
		wish.offset = random_below(seed, wish.align);
	return wish;
}

static struct iova_wish in_bytes(const struct iova_wish *wish)
{
	return (struct iova_wish){
		.size = wish->size << 12,
		.align = wish->align << 12,
		.offset = wish->offset << 12,
		.boundary = wish->boundary ? wish->boundary << 12 | 0xfff : 0,
		.last = wish->last << 12 | 0xfff,
	};
}

/* Take one, as the model does. Its size in granules; 0: there is no place, for either. */
static uint64_t take_random(struct iova_space *space, uint64_t *seed, uint64_t *first)
{
	struct iova_wish wish = random_wish(seed), bytes = in_bytes(&wish);
	uint64_t at = model_find(&wish), lowest = random_below(seed, GRANULES);
	int err;

	assert_int_equal(iova_space_fits(space, &bytes, lowest << 12), at && at >= lowest);
	err = iova_space_take(space, &bytes, first);
	assert_int_equal(err, at ? 0 : -ENOSPC);
	if (err)
		return 0;
	assert_int_equal(*first, at << 12);
	model_mark(at, wish.size, true);
	*first = at;
	return wish.size;
}

static void holes_check(const struct iova_space *space)
{
	struct iova_range range = {0, 0};
	size_t count = 0, free = 0;

	while (iova_space_next(space, range.first, &range)) {
		count++;
		assert_true(used[(range.first >> 12) - 1]);
		for (uint64_t i = range.first >> 12; i <= range.last >> 12; i++, free++)
			assert_false(used[i]);
		assert_true(range.last >> 12 == GRANULES - 1 || used[(range.last >> 12) + 1]);
	}
	assert_int_equal(count, space->count);
	for (size_t i = 0; i < GRANULES; i++)
		free -= !used[i];
	assert_int_equal(free, 0);
}

static void a_random_sequence_agrees_with_a_model(void **state)
{
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
	for (int step = 0; step < 100000; step++) {
		/* Now and then nearly all are taken, or nearly none. */
		if (count < LIVE && random_below(&seed, 100) < 30 + (unsigned)step / 500 % 50) {
			live[count].size = take_random(&space, &seed, &live[count].first);
			count += live[count].size > 0;
		} else if (count) {
			size_t i = random_below(&seed, count);

			iova_space_release(&space, live[i].first << 12, live[i].size << 12);
			model_mark(live[i].first, live[i].size, false);
			live[i] = live[--count];
		}
		if (step % 16 == 0)
			holes_check(&space);
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
		cmocka_unit_test(what_is_very_large_is_found_too),
		cmocka_unit_test(where_memory_runs_out_nothing_is_lost),
		cmocka_unit_test(restricting_brings_holes_but_leaves_what_is_taken),
		cmocka_unit_test(a_random_sequence_agrees_with_a_model),
	};

	return cmocka_run_group_tests_name("iova", tests, NULL, NULL);
}
