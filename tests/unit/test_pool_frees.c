/* SPDX-License-Identifier: MIT */
/*
 * test_pool_frees.c - every free is checked, alone or in bulk; and what bulk calls do
 */
#include "test.h"

#include <errno.h>

#include "fake_domain.h"

static struct dma_pool *create(void *state, size_t size, size_t align, size_t boundary)
{
	return pool_create("test pool", &((struct fake_place *)state)->place, size, align,
			   boundary);
}

static void a_free_is_checked_and_what_fails_changes_nothing(void **state)
{
	struct dma_pool *pool = create(*state, 256, 256, 0), *other = create(*state, 256, 256, 0);
	dma_addr_t ha, hb, ho;
	char *a = dma_pool_alloc(pool, GFP_KERNEL, &ha), *b = dma_pool_alloc(pool, GFP_KERNEL, &hb);
	char *o = dma_pool_alloc(other, GFP_KERNEL, &ho), local[16], expected[128];
	struct dmaland_pool_stats stats;
	static const char *const bad_vaddr = "(bad vaddr)", *const bad_dma = "(bad dma)";
	struct {
		void *vaddr;
		dma_addr_t handle;
		const char *says;
	} cases[] = {
		{a, hb, bad_dma},	    {a, ha + 1, bad_dma},     {a, 0, bad_dma},
		{a + 1, ha + 1, bad_vaddr}, {a + 128, ha, bad_vaddr}, {o, ho, bad_vaddr},
		{local, ha, bad_vaddr},	    {NULL, ha, bad_vaddr},    {(void *)-1, ha, bad_vaddr},
	};
	size_t n = sizeof(cases) / sizeof(cases[0]);

	for (size_t i = 0; i < n; i++) {
		log_clear();
		dma_pool_free(pool, cases[i].vaddr, cases[i].handle);
		assert_logged("fake: dma_pool_free test pool, ");
		assert_logged(cases[i].says);
	}
	log_clear();
	dma_pool_free(pool, b, hb);
	assert_string_equal(log_text(), "");
	dma_pool_free(pool, b, hb);
	snprintf(expected, sizeof(expected),
		 "fake: dma_pool_free test pool, %p/%llx already free\n", (void *)b,
		 (unsigned long long)hb);
	assert_string_equal(log_text(), expected);
	dmaland_pool_get_stats(pool, &stats);
	assert_int_equal(stats.bad_frees, n + 1);
	assert_int_equal(stats.in_use, 1);
	dma_pool_free(pool, a, ha);
	dma_pool_free(other, o, ho);
	dma_pool_destroy(pool);
	dma_pool_destroy(other);
}

/* The page map has an entry for each address modulo its own size; a block has one address only. */
static void an_address_is_refused_however_far_from_its_block(void **state)
{
	static const struct {
		size_t size, align, boundary;
	} pools[] = {{16, 0, 0},      {17, 0, 0},   {64, 64, 0},	 {240, 16, 512},
		     {1000, 0, 4096}, {4096, 0, 0}, {12288, 4096, 16384}};

	for (size_t i = 0; i < sizeof(pools) / sizeof(pools[0]); i++) {
		struct dma_pool *pool =
			create(*state, pools[i].size, pools[i].align, pools[i].boundary);
		struct dmaland_pool_stats stats;
		size_t refused = 0;

		for (unsigned int bit = 0; bit < 64; bit++) {
			dma_addr_t handle, far_handle;
			char *block = dma_pool_alloc(pool, GFP_KERNEL, &handle);

			for (int sign = -1; sign <= 1; sign += 2) {
				uint64_t distance = (UINT64_C(1) << bit) * (uint64_t)sign;
				void *far = (void *)((uintptr_t)block + distance);

				far_handle = handle + distance;
				dma_pool_free(pool, far, far_handle);
				dmaland_pool_free_bulk(pool, 1, &far, &far_handle);
				refused += 2;
			}
			dmaland_pool_get_stats(pool, &stats);
			assert_int_equal(stats.bad_frees, refused);
			assert_int_equal(stats.in_use, 1);
			dma_pool_free(pool, block, handle);
		}
		dma_pool_destroy(pool);
	}
}

static void a_second_free_is_found_however_long_after(void **state)
{
	enum { N = 1000 };
	struct dma_pool *pool = create(*state, 64, 0, 0);
	static dma_addr_t h[N];
	static void *b[N];
	struct dmaland_pool_stats stats;

	for (int i = 0; i < N; i++)
		b[i] = dma_pool_alloc(pool, GFP_KERNEL, &h[i]);
	for (int i = 0; i < N; i++)
		dma_pool_free(pool, b[i], h[i]);
	for (int i = 0; i < N; i++)
		dma_pool_free(pool, b[i], h[i]);
	dmaland_pool_get_stats(pool, &stats);
	assert_int_equal(stats.bad_frees, N);
	assert_int_equal(stats.in_use, 0);
	dma_pool_destroy(pool);
}

static void what_is_free_is_known_out_of_the_devices_reach(void **state)
{
	enum { N = 4 * 64 };
	struct fake_place *p = *state;
	struct dma_pool *pool = create(p, 64, 64, 0);
	uint64_t seed = 7;
	dma_addr_t h[N];
	char *b[N], *first;

	for (int i = 0; i < N; i++)
		b[i] = dma_pool_alloc(pool, GFP_KERNEL, &h[i]);
	first = b[0];
	for (int i = 1; i < N; i++)
		first = b[i] < first ? b[i] : first;
	for (int round = 0; round < 100; round++) {
		for (int i = 0; i < N; i += 2)
			dma_pool_free(pool, b[i], h[i]);
		/* The device writes wherever it can, into free blocks as well. */
		for (size_t i = 0; i < N * 64 / 8; i++)
			((uint64_t *)(void *)first)[i] = random_next(&seed);
		for (int i = 0; i < N; i += 2) {
			b[i] = dma_pool_alloc(pool, GFP_KERNEL, &h[i]);
			assert_true(b[i] >= first && b[i] < first + N * 64);
			assert_int_equal((b[i] - first) % 64, 0);
		}
	}
	assert_string_equal(log_text(), "");
	for (int i = 0; i < N; i++)
		dma_pool_free(pool, b[i], h[i]);
	dma_pool_destroy(pool);
}

/* ---- in bulk ---- */

static void bulk_gives_and_takes_what_single_calls_do(void **state)
{
	enum { N = 500 };
	struct dma_pool *pool = create(*state, 64, 0, 0);
	static void *blocks[N];
	static dma_addr_t handles[N];
	struct dmaland_pool_stats stats;

	assert_int_equal(dmaland_pool_alloc_bulk(pool, GFP_KERNEL | __GFP_ZERO, N, blocks, handles),
			 N);
	for (int i = 0; i < N; i++)
		for (int k = 0; k < i; k++)
			assert_ptr_not_equal(blocks[i], blocks[k]);
	dmaland_pool_get_stats(pool, &stats);
	assert_int_equal(stats.in_use, N);
	dmaland_pool_free_bulk(pool, N, blocks, handles);
	dmaland_pool_free_bulk(pool, 3, blocks, handles);
	dmaland_pool_get_stats(pool, &stats);
	assert_int_equal(stats.in_use, 0);
	assert_int_equal(stats.bad_frees, 3);
	dma_pool_destroy(pool);
}

static void bulk_refuses_what_single_frees_refuse(void **state)
{
	struct dma_pool *pool = create(*state, 64, 0, 0), *other = create(*state, 64, 0, 0);
	dma_addr_t handles[3], bad_handles[3];
	void *blocks[3], *bad[3];
	struct dmaland_pool_stats stats;

	assert_int_equal(dmaland_pool_alloc_bulk(pool, GFP_KERNEL, 2, blocks, handles), 2);
	blocks[2] = dma_pool_alloc(other, GFP_KERNEL, &handles[2]);
	memcpy(bad, blocks, sizeof(bad));
	memcpy(bad_handles, handles, sizeof(bad_handles));
	bad_handles[0] += 64;
	bad[1] = (char *)bad[1] + 16;
	bad_handles[1] += 16;
	/* By themselves, so that each is what a slab's run of frees begins with. */
	for (int i = 0; i < 3; i++)
		dmaland_pool_free_bulk(pool, 1, &bad[i], &bad_handles[i]);
	dmaland_pool_get_stats(pool, &stats);
	assert_int_equal(stats.bad_frees, 3);
	assert_int_equal(stats.in_use, 2);
	dmaland_pool_free_bulk(pool, 2, blocks, handles);
	dma_pool_free(other, blocks[2], handles[2]);
	dmaland_pool_get_stats(pool, &stats);
	assert_int_equal(stats.bad_frees, 3);
	dma_pool_destroy(pool);
	dma_pool_destroy(other);
	assert_logged("(bad dma)");
	assert_logged("(bad vaddr)");
}

static void bulk_stops_where_memory_ends(void **state)
{
	struct fake_place *p = *state;
	struct dma_pool *pool;
	static void *blocks[100];
	static dma_addr_t handles[100];

	p->fake.domain.memory_limit = 256 << 10;
	pool = create(p, 4096, 0, 0);
	assert_int_equal(dmaland_pool_alloc_bulk(pool, GFP_KERNEL, 100, blocks, handles), 64);
	assert_int_equal(errno, ENOMEM);
	dmaland_pool_free_bulk(pool, 64, blocks, handles);
	dma_pool_destroy(pool);
}

/* Blocks of a slab that come in a row are freed by one store: not with a bad one among them. */
static void a_bad_free_in_a_row_is_refused_alone(void **state)
{
	enum { N = 64, ROW_LENGTH = 8 };

	for (int i = 0; i < 4 * ROW_LENGTH; i++) {
		struct dma_pool *pool = create(*state, 64, 0, 0);
		int bad = i / 4;
		void *blocks[N], *row[ROW_LENGTH];
		dma_addr_t handles[N], row_handles[ROW_LENGTH];
		struct dmaland_pool_stats stats;
		char *first;

		assert_int_equal(dmaland_pool_alloc_bulk(pool, GFP_KERNEL, N, blocks, handles), N);
		first = (char *)((uintptr_t)blocks[0] & ~(uintptr_t)(ARENA_PAGE - 1));
		for (int k = 0; k < ROW_LENGTH; k++) {
			row[k] = first + 64 * (i & 1 ? ROW_LENGTH - k : k);
			row_handles[k] = (uintptr_t)row[k] + handles[0] - (uintptr_t)blocks[0];
		}
		if (i & 2)
			row_handles[bad] ^= 64;
		else
			dma_pool_free(pool, row[bad], row_handles[bad]);
		dmaland_pool_free_bulk(pool, ROW_LENGTH, row, row_handles);
		dmaland_pool_get_stats(pool, &stats);
		assert_int_equal(stats.bad_frees, 1);
		assert_int_equal(stats.in_use, N - ROW_LENGTH + (i & 2 ? 1 : 0));
		dmaland_pool_free_bulk(pool, N, blocks, handles);
		dmaland_pool_get_stats(pool, &stats);
		assert_int_equal(stats.in_use, 0);
		dma_pool_destroy(pool);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		place_test(a_free_is_checked_and_what_fails_changes_nothing),
		place_test(an_address_is_refused_however_far_from_its_block),
		place_test(a_second_free_is_found_however_long_after),
		place_test(what_is_free_is_known_out_of_the_devices_reach),
		place_test(bulk_gives_and_takes_what_single_calls_do),
		place_test(bulk_refuses_what_single_frees_refuse),
		place_test(bulk_stops_where_memory_ends),
		place_test(a_bad_free_in_a_row_is_refused_alone),
	};

	return cmocka_run_group_tests_name("pool frees", tests, NULL, NULL);
}
