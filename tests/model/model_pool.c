/* SPDX-License-Identifier: MIT */
/*
 * model_pool.c - the pool beside a few obvious lines: random sequences against a set of the blocks that are out
 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>

#include "fake_domain.h"

static struct fake_place place;

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
		cmocka_unit_test(random_sequences_keep_blocks_apart),
	};
	int failed;

	log_capture();
	fake_place_open(&place, NULL, 0);
	failed = cmocka_run_group_tests_name("pool model", tests, NULL, NULL);
	fake_place_close(&place);
	return failed;
}
