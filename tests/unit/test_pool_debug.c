/* SPDX-License-Identifier: MIT */
/*
 * test_pool_debug.c - pools in debug mode: what is found, and what the messages say
 *
 * The device is played by the test, which writes where it should not.
 */
#include "test.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "device/device.h"
#include "fake_domain.h"
#include "pool/pool_internal.h"

static struct dma_pool *create(void *state, size_t size, size_t align, size_t boundary)
{
	struct pool_place place = ((struct fake_place *)state)->place;

	place.debug = true;
	return pool_create("watched", &place, size, align, boundary);
}

static void expect_log_of(const char *call, const char *pool, const void *vaddr, const char *what)
{
	char expected[256];

	snprintf(expected, sizeof(expected), "fake: %s %s, %p%s", call, pool, vaddr, what);
	if (!strstr(log_text(), expected))
		fail_msg("the log lacks '%s': %s", expected, log_text());
}

static void is_filled(const char *block, size_t size, unsigned char with)
{
	for (size_t i = 0; i < size; i++)
		assert_int_equal((unsigned char)block[i], with);
}

static const struct {
	size_t size, align, boundary;
} shapes[] = {
	{16, 0, 0},	    {24, 8, 32},   {40, 8, 64},	       {64, 64, 64},
	{68, 32, 4096},	    {100, 1, 128}, {256, 0, 0},	       {1000, 8, 1024},
	{2048, 2048, 0},    {3000, 8, 0},  {4080, 0, 0},       {4090, 2, 0},
	{4096, 4096, 4096}, {5000, 8, 0},  {8192, 4096, 8192}, {12288, 4096, 16384},
};

enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]), MANY = 300 };

/* Everything that a user may count on holds with red zones too. */
static void blocks_keep_size_alignment_and_boundary(void **state)
{
	static char *blocks[MANY];
	static dma_addr_t handles[MANY];

	for (size_t s = 0; s < SHAPES; s++) {
		size_t align = shapes[s].align ? shapes[s].align : 1, size = shapes[s].size;
		struct dma_pool *pool = create(*state, size, align, shapes[s].boundary);
		struct dma_pool *plain = pool_create("plain", &((struct fake_place *)*state)->place,
						     size, align, shapes[s].boundary);
		struct dmaland_pool_stats stats, plain_stats;

		assert_non_null(pool);
		dmaland_pool_get_stats(pool, &stats);
		dmaland_pool_get_stats(plain, &plain_stats);
		assert_int_equal(stats.block_size, plain_stats.block_size);
		dma_pool_destroy(plain);
		size = stats.block_size;
		for (int i = 0; i < MANY; i++) {
			uint64_t boundary = shapes[s].boundary ? shapes[s].boundary : 1ul << 60;
			bool power = (size & (size - 1)) == 0 && size <= 4096;

			blocks[i] = dma_pool_alloc(pool, GFP_KERNEL, &handles[i]);
			assert_non_null(blocks[i]);
			assert_int_equal(handles[i] % (power ? size : align), 0);
			assert_true(handles[i] / boundary == (handles[i] + size - 1) / boundary);
			is_filled(blocks[i], size, 0xa9);
			memset(blocks[i], i, size);
		}
		for (int i = 0; i < MANY; i++) {
			is_filled(blocks[i], size, (unsigned char)i);
			dma_pool_free(pool, blocks[i], handles[i]);
			is_filled(blocks[i], size, 0xa7);
		}
		assert_int_equal(dmaland_pool_check(pool), 0);
		dma_pool_destroy(pool);
	}
	assert_string_equal(log_text(), "");
}

static void a_write_into_a_free_block_is_found_on_demand_and_when_it_is_allocated(void **state)
{
	for (size_t s = 0; s < SHAPES; s++) {
		struct dma_pool *pool =
			create(*state, shapes[s].size, shapes[s].align, shapes[s].boundary);
		dma_addr_t handle, again;
		char *block = dma_pool_alloc(pool, GFP_KERNEL, &handle);
		size_t last = shapes[s].size - 1;

		dma_pool_free(pool, block, handle);
		block[last] = 0x55; /* the device is late */
		for (int round = 0; round < 2; round++) {
			char what[64];

			log_clear();
			assert_int_equal(dmaland_pool_check(pool), 1);
			snprintf(what, sizeof(what), " (corrupted) from byte %zu: 55", last);
			expect_log_of("dmaland_pool_check", "watched", block, what);
			assert_logged(", allocated at test_pool_debug+0x");
			assert_logged(", freed at test_pool_debug+0x");
			assert_int_equal(log_lines(), 1);
		}
		log_clear();
		assert_ptr_equal(dma_pool_alloc(pool, GFP_KERNEL, &again), block);
		assert_true(again == handle);
		expect_log_of("dma_pool_alloc", "watched", block, " (corrupted) from byte ");
		is_filled(block, shapes[s].size, 0xa9);
		log_clear();
		assert_int_equal(dmaland_pool_check(pool), 0);
		dma_pool_free(pool, block, handle);
		dma_pool_destroy(pool);
		assert_string_equal(log_text(), "");
	}
}

static void a_block_that_was_never_handed_out_is_watched_too(void **state)
{
	struct dma_pool *pool = create(*state, 64, 64, 0);
	dma_addr_t handle;
	char *block = dma_pool_alloc(pool, GFP_KERNEL, &handle);

	block[128] = 1;
	assert_int_equal(dmaland_pool_check(pool), 1);
	expect_log_of(
		"dmaland_pool_check", "watched", block + 128,
		" (corrupted) from byte 0: 01 a7 a7 a7 a7 a7 a7 a7 a7 a7 a7 a7 a7 a7 a7 a7\n");
	log_clear();
	dma_pool_free(pool, block, handle);
	dma_pool_destroy(pool);
	expect_log_of("dma_pool_destroy", "watched", block + 128, " (corrupted) from byte 0: 01");
}

static void a_write_beyond_an_end_is_found_when_the_block_is_freed(void **state)
{
	for (size_t s = 0; s < SHAPES; s++) {
		struct dma_pool *pool =
			create(*state, shapes[s].size, shapes[s].align, shapes[s].boundary);
		struct dmaland_pool_stats stats;
		dma_addr_t first_handle, handle;
		char *first = dma_pool_alloc(pool, GFP_KERNEL, &first_handle), what[64];
		char *block = dma_pool_alloc(pool, GFP_KERNEL, &handle);
		bool neighbours = (block - first) / 4096 == 0;

		dmaland_pool_get_stats(pool, &stats);
		block[stats.block_size] = 0x66;
		snprintf(what, sizeof(what), " (overrun) from byte %zu: 66 bb", stats.block_size);
		assert_int_equal(dmaland_pool_check(pool), 1);
		expect_log_of("dmaland_pool_check", "watched", block, what);
		log_clear();
		dma_pool_free(pool, block, handle);
		expect_log_of("dma_pool_free", "watched", block, what);
		assert_logged(", allocated at test_pool_debug+0x");
		log_clear();
		assert_ptr_equal(dma_pool_alloc(pool, GFP_KERNEL, &handle), block);
		assert_string_equal(log_text(), ""); /* each is told of once */
		if (neighbours) {
			block[-1] = 0x77;
			assert_int_equal(dmaland_pool_check(pool), 1); /* and not two */
		}
		dma_pool_free(pool, block, handle);
		if (neighbours)
			expect_log_of("dma_pool_free", "watched", block,
				      " (underrun) from byte -1: 77");
		log_clear();
		dma_pool_free(pool, first, first_handle);
		dma_pool_destroy(pool);
		assert_string_equal(log_text(), "");
	}
}

static void bad_frees_name_the_call_sites(void **state)
{
	struct dma_pool *pool = create(*state, 256, 256, 0);
	dma_addr_t ha, hb;
	char *a = dma_pool_alloc(pool, GFP_KERNEL, &ha), *b = dma_pool_alloc(pool, GFP_KERNEL, &hb);
	static const char *const allocated = "(allocated at test_pool_debug+0x";
	static const char *const freed = "(freed at test_pool_debug+0x";
	static const char *const neither = "(this free at test_pool_debug+0x";
	struct dmaland_pool_stats stats;
	const struct {
		void *vaddr;
		dma_addr_t handle;
		const char *says, *site;
	} cases[] = {
		{a, ha + 1, "(bad dma)", allocated}, {a + 16, ha + 16, "(bad vaddr)", neither},
		{b, hb, "already free", freed},	     {a + 256, ha + 256, "(bad vaddr)", neither},
		{NULL, ha, "(bad vaddr)", neither},  {&stats, ha, "(bad vaddr)", neither},
	};
	size_t n = sizeof(cases) / sizeof(cases[0]);

	dma_pool_free(pool, b, hb);
	assert_string_equal(log_text(), "");
	for (size_t i = 0; i < n; i++) {
		log_clear();
		dma_pool_free(pool, cases[i].vaddr, cases[i].handle);
		assert_logged("fake: dma_pool_free watched, ");
		assert_logged(cases[i].says);
		assert_logged(cases[i].site);
		assert_logged("this free at test_pool_debug+0x");
		assert_int_equal(log_lines(), 1);
	}
	dmaland_pool_get_stats(pool, &stats);
	assert_int_equal(stats.bad_frees, n);
	assert_int_equal(stats.in_use, 1);
	dma_pool_free(pool, a, ha);
	dma_pool_destroy(pool);
}

/* Each call in a function of its own, so that it is known where it comes from. */
static __attribute__((noinline)) void *allocate_here(struct dma_pool *pool, dma_addr_t *handle)
{
	void *block = dma_pool_alloc(pool, GFP_KERNEL, handle);

	assert_non_null(block);
	return block;
}

static __attribute__((noinline)) void *allocate_several_here(struct dma_pool *pool,
							     dma_addr_t *handle)
{
	void *block;

	assert_int_equal(dmaland_pool_alloc_bulk(pool, GFP_KERNEL, 1, &block, handle), 1);
	return block;
}

static __attribute__((noinline)) void free_here(struct dma_pool *pool, void *block,
						dma_addr_t handle)
{
	dma_pool_free(pool, block, handle);
	__asm__ volatile(""); /* no tail call */
}

static __attribute__((noinline)) void free_several_here(struct dma_pool *pool, void *block,
							dma_addr_t handle)
{
	dmaland_pool_free_bulk(pool, 1, &block, &handle);
	__asm__ volatile(""); /* no tail call */
}

/* Does the offset that follows the words in the log lead into the function? */
static void expect_site(const char *words, const void *function)
{
	extern const char __ehdr_start[];
	const char *at = strstr(log_text(), words);
	unsigned long offset = 0;
	size_t inside;

	if (!at || sscanf(at + strlen(words), "test_pool_debug+%lx", &offset) != 1)
		fail_msg("no site after '%s' in: %s", words, log_text());
	inside = (size_t)(__ehdr_start + offset - (const char *)function);
	if (inside == 0 || inside >= 512)
		fail_msg("%lx, after '%s', is not in the function at %p", offset, words, function);
}

#define site_of(function) ((const void *)(uintptr_t)(function))

static void a_call_site_is_inside_the_function_that_called(void **state)
{
	static const size_t sizes[] = {64, 68,
				       4096}; /* by short cut and by division; several pages */

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		struct dma_pool *pool = create(*state, sizes[s], 4, s == 1 ? 256 : 0);
		dma_addr_t handle;
		char *block = allocate_here(pool, &handle);

		free_several_here(pool, block, handle + 1);
		expect_site("allocated at ", site_of(allocate_here));
		expect_site("this free at ", site_of(free_several_here));
		free_here(pool, block, handle);
		log_clear();
		free_several_here(pool, block, handle);
		expect_site("freed at ", site_of(free_here));
		expect_site("this free at ", site_of(free_several_here));

		block = allocate_several_here(pool, &handle);
		free_several_here(pool, block, handle);
		log_clear();
		free_here(pool, block, handle);
		expect_site("freed at ", site_of(free_several_here));
		expect_site("allocated at ", site_of(allocate_several_here));
		expect_site("this free at ", site_of(free_here));
		log_clear();
		dma_pool_destroy(pool);
	}
}

static void zalloc_is_zero_and_no_zone_is_touched(void **state)
{
	struct dma_pool *pool = create(*state, 100, 4, 0);
	dma_addr_t handle, handles[50];
	void *blocks[50];

	for (int round = 0; round < 3; round++) {
		char *block = dma_pool_zalloc(pool, GFP_KERNEL, &handle);

		is_filled(block, 100, 0);
		dma_pool_free(pool, block, handle);
	}
	assert_int_equal(
		dmaland_pool_alloc_bulk(pool, GFP_KERNEL | __GFP_ZERO, 50, blocks, handles), 50);
	for (int i = 0; i < 50; i++)
		is_filled(blocks[i], 100, 0);
	assert_int_equal(dmaland_pool_check(pool), 0);
	dmaland_pool_free_bulk(pool, 50, blocks, handles);
	assert_int_equal(dmaland_pool_check(pool), 0);
	dmaland_pool_free_bulk(pool, 2, blocks, handles);
	assert_int_equal(log_lines(), 2);
	log_clear();
	dma_pool_destroy(pool);
	assert_string_equal(log_text(), "");
}

static void give(struct arena *arena, struct page *first, void *context)
{
	(void)context;
	arena_give(arena, first);
}

/* Eight of them; slab by slab, the latest slab first. */
static void a_pool_destroyed_busy_names_those_who_have_its_blocks(void **state)
{
	struct fake_place *p = *state;
	struct dma_pool *pool = create(p, 2048, 0, 0);
	dma_addr_t handles[12];
	char *blocks[12];
	int named = 0;

	for (int i = 0; i < 12; i++)
		blocks[i] = dma_pool_alloc(pool, GFP_KERNEL, &handles[i]);
	dma_pool_free(pool, blocks[0], handles[0]);
	dma_pool_destroy(pool);
	for (int i = 0; i < 12; i++) {
		char line[160];

		snprintf(line, sizeof(line),
			 "fake: dma_pool_destroy watched, %p/%llx in use, allocated at "
			 "test_pool_debug+0x",
			 (void *)blocks[i], (unsigned long long)handles[i]);
		if (!strstr(log_text(), line))
			continue;
		assert_int_not_equal(i, 0);
		named++;
	}
	assert_int_equal(named, 8);
	assert_logged("fake: dma_pool_destroy watched, 3 more in use\n");
	assert_logged("fake: dma_pool_destroy watched busy\n");
	assert_int_equal(log_lines(), 10);
	memset(blocks[5], 0x11, 2048); /* still mapped */
	arena_for_each_run_of(p->arena, &p->orphans, give, NULL);
}

static void trimming_gives_idle_pages_back_in_debug_mode_too(void **state)
{
	struct dma_pool *pool = create(*state, 1024, 0, 0);
	struct dmaland_pool_stats stats;
	dma_addr_t handles[100];
	void *blocks[100];

	for (int round = 0; round < 3; round++) {
		assert_int_equal(dmaland_pool_alloc_bulk(pool, GFP_KERNEL, 100, blocks, handles),
				 100);
		dmaland_pool_free_bulk(pool, 99, blocks + 1, handles + 1);
		dmaland_pool_trim(pool);
		dmaland_pool_get_stats(pool, &stats);
		assert_int_equal(stats.pages, 1);
		assert_int_equal(stats.total, 2);
		assert_int_equal(stats.parked, 1); /* beside the one that is out */
		assert_int_equal(dmaland_pool_check(pool), 0);
		dma_pool_free(pool, blocks[0], handles[0]);
	}
	dma_pool_free(pool, blocks[99], handles[99]); /* its page is the pool's no more */
	assert_logged("(bad vaddr)");
	dma_pool_destroy(pool);
}

/* ---- how it is switched on ---- */

static bool is_debugged(struct dma_pool *pool)
{
	int found;

	assert_non_null(pool);
	errno = 0;
	found = dmaland_pool_check(pool);
	if (found == -EOPNOTSUPP) {
		assert_int_equal(errno, EOPNOTSUPP);
		assert_error_says("DMALAND_POOL_DEBUG=1");
		assert_error_says("pool_debug");
	} else {
		assert_int_equal(found, 0);
	}
	dma_pool_destroy(pool);
	return found == 0;
}

static void the_environment_or_an_option_switches_it_on(void **state)
{
	static struct pci_function function = {.name = "fake"};
	struct fake_place *p = *state;
	struct dmaland_device dev = {
		.function = &function,
		.arena = p->arena,
		.limits = p->limits,
		.pools.lock = PTHREAD_MUTEX_INITIALIZER,
	};
	static const struct {
		const char *value; /* of the environment variable */
		bool option;
		const char *pool;
		bool debugged;
	} cases[] = {
		{NULL, false, "a", false},  {NULL, true, "a", true},
		{"1", false, "a", true},    {"1", false, NULL, true},
		{"0", false, "a", false},   {"", false, "a", false},
		{"0", true, "a", true},	    {"a", false, "a", true},
		{"a", false, "ab", false},  {"ab", false, "a", false},
		{"b,a", false, "a", true},  {"a,b", false, "a", true},
		{"b,,c", false, "", false}, {"b", false, NULL, false},
		{"b,c", false, "a", false}, {"x,prp list 256", false, "prp list 256", true},
	};

	dev.orphans.limits = dev.coherent.limits = &dev.limits;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (cases[i].value)
			setenv("DMALAND_POOL_DEBUG", cases[i].value, 1);
		else
			unsetenv("DMALAND_POOL_DEBUG");
		dev.pool_debug = cases[i].option;
		if (is_debugged(dma_pool_create(cases[i].pool, &dev, 64, 0, 0)) !=
		    cases[i].debugged)
			fail_msg("case %zu: '%s' and the pool '%s'", i, cases[i].value,
				 cases[i].pool);
	}
	unsetenv("DMALAND_POOL_DEBUG");
	assert_int_equal(dmaland_pool_check(NULL), -EINVAL);
}

/* With its zone it has more bytes than 32 bits can number; none is taken, for want of memory. */
static void a_slab_of_the_largest_blocks_has_one_at_its_beginning(void **state)
{
	struct dma_pool *pool = create(*state, INT_MAX, 0, 0);

	assert_int_equal(pool->blocks, 1);
	assert_true(pool->stride >= pool->size + 8u && pool->slab_size >= pool->stride);
	assert_int_equal(block_number_at(pool, 0), 0);
	assert_true(block_number_at(pool, pool->size) >= pool->blocks);
	dma_pool_destroy(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		place_test(blocks_keep_size_alignment_and_boundary),
		place_test(a_write_into_a_free_block_is_found_on_demand_and_when_it_is_allocated),
		place_test(a_block_that_was_never_handed_out_is_watched_too),
		place_test(a_write_beyond_an_end_is_found_when_the_block_is_freed),
		place_test(bad_frees_name_the_call_sites),
		place_test(a_call_site_is_inside_the_function_that_called),
		place_test(zalloc_is_zero_and_no_zone_is_touched),
		place_test(a_pool_destroyed_busy_names_those_who_have_its_blocks),
		place_test(trimming_gives_idle_pages_back_in_debug_mode_too),
		place_test(a_slab_of_the_largest_blocks_has_one_at_its_beginning),
		place_test(the_environment_or_an_option_switches_it_on),
	};

	return cmocka_run_group_tests_name("pool debug", tests, NULL, NULL);
}
