/* SPDX-License-Identifier: MIT */
/*
 * model_pool_layout.c - where blocks lie, for many sizes, alignments and boundaries, and the memory they take
 *
 * Public calls alone. What must hold of blocks is looked at one pair of neighbours at a time; which place a pool
 * chooses is not (model_pool.c).
 */
#include "test.h"

#include "pool_stand.h"

enum {
	SLABS = 3,  /* so many are filled */
	LEAST = 12, /* blocks, where a slab has few */
	SIZES_EACH = 5000,
	SIZE_MOST = 200000,
	BOUNDARY_MOST = 1 << 20,
	STEP = SANITIZED ? 37 : 1, /* of sizes */

	/* Blocks of more than half a page, one to a page, take twice their size; 5 % for a last slab that is not full. */
	MANY = 1000,
	MEMORY_PERCENT = 210,
};

static struct dmaland_device *dev;

static size_t power_of_two_from(size_t n)
{
	size_t power = 1;

	while (power < n)
		power *= 2;
	return power;
}

/* Write each block's ends, and look at them when all are written. */
static void expect_own_memory(const struct blocks *b, size_t size)
{
	for (size_t i = 0; i < b->count; i++) {
		char *block = b->vaddrs[i];

		block[0] = (char)i;
		block[size - 1] = (char)i;
	}
	for (size_t i = 0; i < b->count; i++) {
		const char *block = b->vaddrs[i];

		if (block[0] != (char)i || block[size - 1] != (char)i)
			fail_msg("size %zu: block %zu is written by another", size, i);
	}
}

/* Take some back, every third, and again: the places of old blocks, too. */
static void take_again(struct blocks *b, uint64_t seed)
{
	size_t n = b->count;

	blocks_shuffle(b, seed);
	blocks_give(b, n / 3);
	assert_int_equal(blocks_take(b, n / 3, GFP_KERNEL), n / 3);
}

/* A size as it is rounded: a device may write all of it. */
static size_t rounded(size_t size, size_t align)
{
	size_t least = size < 16 ? 16 : size;

	return (least + align - 1) & ~(align - 1);
}

static void check(size_t size, size_t align, size_t boundary)
{
	struct dma_pool *pool = dma_pool_create("layout", dev, size, align, boundary);
	size_t whole = rounded(size, align), n;
	struct dmaland_pool_stats stats;
	struct blocks b;

	if (!pool)
		fail_msg("size %zu align %zu boundary %zu: %s", size, align, boundary,
			 dmaland_last_error());
	assert_int_equal(stand_stats(pool).block_size, whole);
	b = blocks_make(pool, SLABS * (size_t)PAGE_BYTES);
	assert_int_equal(blocks_take(&b, 1, GFP_KERNEL), 1);
	n = SLABS * stand_stats(pool).total;
	n = n < LEAST ? LEAST : n;
	assert_int_equal(blocks_take(&b, n - 1, GFP_KERNEL), n - 1);
	blocks_census(&b, 1, whole, align, boundary);
	expect_own_memory(&b, whole);
	take_again(&b, size);
	blocks_census(&b, 1, whole, align, boundary);
	stats = stand_stats(pool);
	assert_int_equal(stats.in_use, n);
	assert_true(stats.total >= stats.in_use + stats.parked);
	blocks_end(&b);
	assert_int_equal(stand_stats(pool).bad_frees, 0);
	dma_pool_destroy(pool);
}

/* A random alignment, and a random boundary from the least that is taken. */
static void check_some(size_t size, uint64_t *seed)
{
	size_t align = (size_t)1 << random_below(seed, 14), boundary;

	check(size, 1, 0);
	check(size, align, 0);
	boundary = power_of_two_from(rounded(size, align));
	check(size, align, boundary);
	while (boundary < BOUNDARY_MOST && random_below(seed, 4))
		boundary *= 2;
	check(size, align, boundary);
}

static void all_small_sizes(void **state)
{
	uint64_t seed = 1;

	(void)state;
	for (size_t size = 1; size <= SIZES_EACH; size += STEP)
		check_some(size, &seed);
	assert_string_equal(log_text(), "");
}

static void around_powers_of_two(void **state)
{
	uint64_t seed = 2;

	(void)state;
	need_memory(100 << 20);
	for (size_t power = 16; power < SIZE_MOST; power *= 2)
		for (size_t size = power - 1; size <= power + 1; size++)
			for (int i = 0; i < 5; i++)
				check_some(size, &seed);
	for (int i = 0; i < 100 / STEP; i++)
		check_some(1 + random_below(&seed, SIZE_MOST), &seed);
	check_some(SIZE_MOST, &seed);
	assert_string_equal(log_text(), "");
}

/* Every boundary, on alignments that divide the size and such that round it up. */
static void every_boundary(void **state)
{
	static const size_t sizes[] = {16, 40, 64, 100, 240, 1000, 1536, 2048, 3000, 4096, 12288};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (size_t align = 1; align <= 4096; align *= 4)
			for (size_t boundary = power_of_two_from(rounded(sizes[i], align));
			     boundary <= BOUNDARY_MOST; boundary *= 2)
				check(sizes[i], align, boundary);
	assert_string_equal(log_text(), "");
}

static void check_memory(size_t size, size_t boundary, uint64_t *worst)
{
	struct dma_pool *pool = dma_pool_create("memory", dev, size, 1, boundary);
	size_t each = rounded(size, 1);
	struct blocks b;
	uint64_t percent;

#ifdef __SANITIZE_ADDRESS__ /* which is told of blocks: none takes less */
	each = each < 64 ? 64 : each;
#endif
	assert_non_null(pool);
	b = blocks_make(pool, MANY);
	assert_int_equal(blocks_take(&b, MANY, GFP_KERNEL), MANY);
	percent = 100 * (uint64_t)stand_stats(pool).pages * PAGE_BYTES / (MANY * each);
	if (percent < 100 || percent > MEMORY_PERCENT)
		fail_msg("size %zu boundary %zu: %zu pages for %d blocks, %llu %%", size, boundary,
			 stand_stats(pool).pages, (int)MANY, (unsigned long long)percent);
	*worst = percent > *worst ? percent : *worst;
	blocks_end(&b);
	dma_pool_destroy(pool);
}

static void blocks_take_little_more_than_twice_their_size(void **state)
{
	uint64_t worst = 0;

	(void)state;
	for (size_t size = 1; size <= PAGE_BYTES; size += STEP) {
		check_memory(size, 0, &worst);
		for (size_t boundary = power_of_two_from(rounded(size, 1)); boundary <= PAGE_BYTES;
		     boundary *= 2)
			check_memory(size, boundary, &worst);
	}
	print_message("# %llu %% at most\n", (unsigned long long)worst);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_small_sizes),
		cmocka_unit_test(around_powers_of_two),
		cmocka_unit_test(every_boundary),
		cmocka_unit_test(blocks_take_little_more_than_twice_their_size),
	};
	int failed;

	log_capture();
	dev = stand_open(0, false);
	failed = cmocka_run_group_tests_name("pool layout model", tests, NULL, NULL);
	dmaland_close(dev);
	return failed;
}
