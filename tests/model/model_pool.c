/* SPDX-License-Identifier: MIT */
/*
 * model_pool.c - the pool beside a few obvious lines
 *
 * Every combination of size, alignment and boundary: the blocks of fresh units must be just those
 * that the kernel's rule places (facts of mm/dmapool.c: walk from 0; what would pass the next
 * boundary jumps to it; what does not fit the unit is waste). Then random sequences against a set.
 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>

#include "fake_domain.h"

static struct fake_place place;

/* The rule, in its obvious form: offsets of the blocks of one unit; how many. */
static size_t model_carve(size_t size, size_t boundary, size_t unit, size_t *offsets)
{
	size_t n = 0, offset = 0, next_boundary = boundary;

	while (offset + size <= unit) {
		if (offset + size > next_boundary) {
			offset = next_boundary;
			next_boundary += boundary;
			continue;
		}
		offsets[n++] = offset;
		offset += size;
	}
	return n;
}

static void check_carve(size_t size, size_t align, size_t boundary)
{
	size_t rounded = size < 16 ? 16 : size, unit, per_unit, offsets[512];
	struct dma_pool *pool = pool_create("model", &place.place, size, align, boundary);
	static dma_addr_t handles[1024];
	static char *blocks[1024];

	rounded = (rounded + align - 1) / align * align;
	if (boundary && boundary < rounded) {
		assert_null(pool);
		return;
	}
	assert_non_null(pool);
	unit = rounded > 4096 ? rounded : 4096;
	per_unit =
		model_carve(rounded, boundary && boundary < unit ? boundary : unit, unit, offsets);
	for (size_t i = 0; i < 2 * per_unit; i++) {
		blocks[i] = dma_pool_alloc(pool, GFP_KERNEL, &handles[i]);
		assert_non_null(blocks[i]);
		if (handles[i] - handles[i / per_unit * per_unit] != offsets[i % per_unit])
			fail_msg("size %zu align %zu boundary %zu: block %zu lies at 0x%llx", size,
				 align, boundary, i, (unsigned long long)handles[i]);
		assert_int_equal(handles[i] % align, 0);
		if (boundary)
			assert_true(handles[i] / boundary == (handles[i] + rounded - 1) / boundary);
		assert_true(arena_translate(place.arena, &place.limits, blocks[i], rounded) ==
			    handles[i]);
	}
	for (size_t i = 0; i < 2 * per_unit; i++)
		dma_pool_free(pool, blocks[i], handles[i]);
	dma_pool_destroy(pool);
	assert_string_equal(log_text(), "");
}

static void blocks_lie_where_the_kernels_rule_puts_them(void **state)
{
	(void)state;
	for (size_t size = 1; size <= 4200; size += size < 300 ? 1 : 37)
		for (size_t align = 1; align <= 8192; align *= size % 8 ? 8 : 2)
			for (size_t boundary = 16; boundary <= 16384; boundary *= 2)
				check_carve(size, align, boundary == 16 ? 0 : boundary);
	for (size_t size = 4096; size <= 40000; size += 1111)
		for (size_t align = 1; align <= 32768; align *= 2)
			check_carve(size, align, 65536);
	assert_int_equal(place.arena->free_pages, place.arena->pages);
}

struct held {
	char *vaddr;
	dma_addr_t handle;
	unsigned char fill;
};

/* Blocks that are out never overlap, keep their content, and go back exactly once. */
static void random_sequence(const struct pool_place *where, size_t size, size_t align,
			    size_t boundary, uint64_t seed)
{
	enum { MAX = 700 };
	struct dma_pool *pool = pool_create("model", where, size, align, boundary);
	static struct held held[MAX];
	struct dmaland_pool_stats stats;
	size_t count = 0, bad = 0;

	for (int step = 0; step < 20000; step++) {
		bool more = count == 0 ||
			    (count < MAX && random_below(&seed, 100) < (step / 2000 % 2 ? 35 : 65));

		if (more) {
			struct held *h = &held[count++];

			h->vaddr = dma_pool_alloc(pool, GFP_KERNEL, &h->handle);
			assert_non_null(h->vaddr);
			h->fill = (unsigned char)random_next(&seed);
			memset(h->vaddr, h->fill, size);
		} else {
			size_t i = random_below(&seed, count);

			for (size_t b = 0; b < size; b++)
				assert_int_equal((unsigned char)held[i].vaddr[b], held[i].fill);
			dma_pool_free(pool, held[i].vaddr, held[i].handle);
			if (random_below(&seed, 20) == 0) {
				dma_pool_free(pool, held[i].vaddr, held[i].handle);
				bad++;
			}
			held[i] = held[--count];
		}
	}
	dmaland_pool_get_stats(pool, &stats);
	assert_int_equal(stats.in_use, count);
	assert_int_equal(stats.bad_frees, bad);
	assert_int_equal(dmaland_pool_check(pool), where->debug ? 0 : -EOPNOTSUPP);
	assert_null(strstr(log_text(), "from byte"));
	while (count--)
		dma_pool_free(pool, held[count].vaddr, held[count].handle);
	dma_pool_destroy(pool);
	log_clear();
}

static void random_sequences_keep_blocks_apart(void **state)
{
	static const size_t sizes[] = {16, 24, 64, 68, 256, 1000, 4096, 5000};
	struct pool_place debug = place.place;

	(void)state;
	debug.debug = true;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		random_sequence(&place.place, sizes[i], 8, 8192, 1 + i);
		random_sequence(&debug, sizes[i], 8, 8192, 101 + i);
	}
	assert_int_equal(place.arena->free_pages, place.arena->pages);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_lie_where_the_kernels_rule_puts_them),
		cmocka_unit_test(random_sequences_keep_blocks_apart),
	};
	int failed;

	log_capture();
	fake_place_open(&place, NULL, 0);
	failed = cmocka_run_group_tests_name("pool model", tests, NULL, NULL);
	fake_place_close(&place);
	return failed;
}
