/* SPDX-License-Identifier: MIT */
/*
 * test_slab_layout.c - where in a slab the blocks lie, and which one an offset is
 */
#include "test.h"

#include "fake_domain.h"
#include "pool/pool_internal.h"

static struct dma_pool *create(void *state, size_t size, size_t align, size_t boundary)
{
	return pool_create("layout", &((struct fake_place *)state)->place, size, align, boundary);
}

static void a_slab_has_up_to_64_blocks_and_128_kib(void **state)
{
	static const struct {
		size_t size, align, boundary;
		size_t slab, stride;
		uint32_t blocks;
	} cases[] = {
		{16, 0, 0, 1024, 16, 64},
		{17, 0, 0, 1024, 17, 60},
		{48, 0, 0, 2048, 48, 42},
		{64, 0, 0, 4096, 64, 64},
		{100, 0, 0, 4096, 100, 40},
		{1000, 0, 0, 32768, 1000, 32},
		{1024, 0, 0, 65536, 1024, 64},
		{4096, 0, 0, 131072, 4096, 32},
		{5000, 8, 0, 131072, 5000, 26},
		{65536, 0, 0, 131072, 65536, 2},
		{65537, 0, 0, 131072, 65537, 1},
		{12288, 4096, 16384, 16384, 12288, 1},
		/* The boundary divides by the stride: as without one. */
		{64, 0, 128, 4096, 64, 64},
		{1024, 0, 4096, 65536, 1024, 64},
		/* It does not: the slab is no larger. */
		{100, 0, 2048, 2048, 100, 20},
		{240, 16, 1024, 1024, 240, 4},
		{1000, 0, 4096, 4096, 1000, 4},
		{5000, 8, 8192, 8192, 5000, 1},
		{100, 0, 4096, 4096, 100, 40},
		/* It is smaller than any slab: so is what lies from one block to the next. */
		{17, 0, 32, 2048, 32, 64},
		{100, 4, 128, 8192, 128, 64},
		{300, 4, 512, 32768, 512, 64},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct dma_pool *pool =
			create(*state, cases[i].size, cases[i].align, cases[i].boundary);

		assert_non_null(pool);
		if (pool->slab_size != cases[i].slab || pool->stride != cases[i].stride ||
		    pool->blocks != cases[i].blocks)
			fail_msg("case %zu: slabs of %zu bytes, %zu blocks %zu bytes apart", i,
				 pool->slab_size, (size_t)pool->blocks, pool->stride);
		assert_int_equal(__builtin_popcountll(pool->full), pool->blocks);
		dma_pool_destroy(pool);
	}
}

/* Any sizes: each offset is a block's number or above all of them, by one multiplication. */
static void only_multiples_of_the_stride_have_numbers(void **state)
{
	static const size_t sizes[] = {16, 17, 24, 48, 68, 1000, 4096, 5000, 65535, 70000};

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		struct dma_pool *pool = create(*state, sizes[s], 0, 0);

		for (uintptr_t offset = 0; offset < pool->slab_size; offset++) {
			uint64_t number = block_number_at(pool, offset);

			if (offset % pool->stride || offset / pool->stride >= pool->blocks)
				assert_true(number >= pool->blocks);
			else
				assert_int_equal(number, offset / pool->stride);
		}
		dma_pool_destroy(pool);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		place_test(a_slab_has_up_to_64_blocks_and_128_kib),
		place_test(only_multiples_of_the_stride_have_numbers),
	};

	return cmocka_run_group_tests_name("slab layout", tests, NULL, NULL);
}
