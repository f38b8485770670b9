/* SPDX-License-Identifier: MIT */
/*
 * test_slab.c - slabs: which one an address is in, small ones, several in a page, idle ones; where memory is in pieces
 */
#include "test.h"

#include "fake_domain.h"
#include "pool/pool_internal.h"

static struct dma_pool *create(void *state, size_t size, size_t align, size_t boundary)
{
	return pool_create("slabs", &((struct fake_place *)state)->place, size, align, boundary);
}

static struct dma_pool *create_watched(void *state, size_t size)
{
	struct pool_place place = ((struct fake_place *)state)->place;

	place.debug = true;
	return pool_create("watched", &place, size, 0, 0);
}

static struct dmaland_pool_stats stats_of(struct dma_pool *pool)
{
	struct dmaland_pool_stats stats;

	dmaland_pool_get_stats(pool, &stats);
	return stats;
}

static struct cache *own_cache(struct dma_pool *pool)
{
	assert_true(thread_number_take());
	return cache_of_thread(pool);
}

/* The slab that a block of the pool lies in. */
static struct page *slab_of(struct dma_pool *pool, const void *block)
{
	uint32_t number;
	struct page *slab = slab_find(pool, own_cache(pool), block, &number);

	assert_non_null(slab);
	assert_ptr_equal(slab_base(pool, slab) + number * pool->stride, block);
	return slab;
}

/* ---- slab_find() ---- */

static bool finds(struct dma_pool *pool, const void *address)
{
	uint32_t number;

	return slab_find(pool, own_cache(pool), address, &number);
}

static void a_slab_is_found_by_the_beginnings_of_its_blocks_alone(void **state)
{
	static const size_t sizes[] = {16, 17, 48, 64, 1000, 4096, 5000, 70000};
	char here;

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		struct dma_pool *pool = create(*state, sizes[s], 0, 0);
		dma_addr_t handle;
		char *block = dma_pool_alloc(pool, GFP_KERNEL, &handle), *base;
		struct page *slab = slab_of(pool, block);
		size_t found = 0, bytes = stats_of(pool).pages * ARENA_PAGE;

		base = slab_base(pool, slab);
		for (size_t i = 0; i < bytes; i++)
			found += finds(pool, base + i);
		assert_int_equal(found, stats_of(pool).total);
		assert_false(finds(pool, base + bytes + sizes[s]));
		assert_false(finds(pool, &here));
		assert_false(finds(pool, NULL));
		assert_false(finds(pool, (void *)-1));
		assert_false(finds(pool, (char *)pool->window - 1));
		for (unsigned int bit = 20; bit < 64; bit++)
			assert_false(finds(pool, (void *)((uintptr_t)block ^ UINT64_C(1) << bit)));
		dma_pool_free(pool, block, handle);
		dmaland_pool_trim(pool);
		assert_int_equal(stats_of(pool).pages, 0);
		assert_false(finds(pool, block));
		dma_pool_destroy(pool);
	}
}

/* Other pools' slabs, and runs that are none. */
static void anothers_memory_is_no_slab(void **state)
{
	struct fake_place *p = *state;
	struct dma_pool *pool = create(p, 64, 0, 0), *other = create(p, 64, 0, 0);
	struct page *run;
	dma_addr_t handle;
	void *block = dma_pool_alloc(other, GFP_KERNEL, &handle);

	assert_int_equal(
		arena_take(p->arena, &p->coherent, ARENA_PAGE, ARENA_PAGE, GFP_KERNEL, &run), 0);
	assert_false(finds(pool, block));
	assert_true(finds(other, block));
	assert_false(finds(pool, pagemap_address(&p->arena->pagemap, run)));
	arena_give(p->arena, run);
	dma_pool_free(other, block, handle);
	dma_pool_destroy(pool);
	dma_pool_destroy(other);
}

/* ---- slabs that are smaller than most ---- */

static void a_caches_first_slabs_are_small_and_each_is_twice_as_large(void **state)
{
	static const struct {
		size_t size;
		size_t pages[6];
	} cases[] = {
		{1024, {1, 2, 4, 8, 16, 16}},  {4096, {1, 2, 4, 8, 16, 32}},
		{5000, {2, 4, 8, 16, 32, 32}}, {64, {1, 1, 1, 1, 1, 1}},
		{16, {1, 1, 1, 1, 1, 1}},      {65536, {16, 32, 32, 32, 32, 32}},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct dma_pool *pool = create(*state, cases[i].size, 0, 0);
		struct dmaland_pool_stats stats;
		static dma_addr_t handles[2048];
		static void *blocks[2048];
		size_t n = 0, pages = 0, total = 0;

		for (int grown = 0; grown < 6; grown++) {
			do
				blocks[n] = dma_pool_alloc(pool, GFP_KERNEL, &handles[n]);
			while (++n <= total);
			stats = stats_of(pool);
			assert_int_equal(stats.pages - pages, cases[i].pages[grown]);
			assert_int_equal(stats.grows, grown + 1);
			pages = stats.pages;
			total = stats.total;
		}
		dmaland_pool_free_bulk(pool, n, blocks, handles);
		assert_int_equal(stats_of(pool).bad_frees + stats_of(pool).in_use, 0);
		dma_pool_destroy(pool);
	}
}

/* What lies behind a slab of one page is free, another's, or another slab: no block of it in any case. */
static void blocks_that_a_small_slab_lacks_are_not_its(void **state)
{
	struct fake_place *p = *state;
	struct dma_pool *pool = create(p, 1024, 0, 0), *other = create(p, 1024, 0, 0);
	dma_addr_t handle, other_handle;
	char *block = dma_pool_alloc(pool, GFP_KERNEL, &handle), *beyond;
	struct page *slab = slab_of(pool, block), *run;

	assert_int_equal(slab_blocks(pool, slab), 4);
	assert_int_equal(slab_missing(pool, slab), pool->full & ~UINT64_C(0xf));
	assert_int_equal(slab->free | slab->remote, pool->full & ~UINT64_C(1));
	beyond = slab_base(pool, slab) + ARENA_PAGE;
	for (int round = 0; round < 3; round++) {
		if (round == 1)
			assert_int_equal(arena_take(p->arena, &p->coherent, ARENA_PAGE, ARENA_PAGE,
						    GFP_KERNEL, &run),
					 0);
		if (round == 2) {
			arena_give(p->arena, run);
			assert_non_null(dma_pool_alloc(other, GFP_KERNEL, &other_handle));
		}
		for (size_t i = 0; i < 60; i++)
			dma_pool_free(pool, beyond + i * 1024, handle + ARENA_PAGE + i * 1024);
		assert_int_equal(stats_of(pool).bad_frees, 60 * (round + 1));
		assert_int_equal(stats_of(pool).in_use, 1);
		assert_int_equal(slab->free | slab->remote, pool->full & ~UINT64_C(1));
	}
	assert_logged("(bad vaddr)");
	dma_pool_free(pool, block, handle);
	dma_pool_free(other, (void *)(uintptr_t)(other_handle - slab->dma_offset), other_handle);
	assert_int_equal(stats_of(other).in_use, 0);
	dma_pool_destroy(pool);
	dma_pool_destroy(other);
}

/* A slab that is nobody's and lacks blocks is not adopted by who frees one that it lacks. */
static void a_free_behind_a_small_slab_adopts_nothing(void **state)
{
	struct fake_place *p = *state;
	struct dma_pool *pool = create(p, 1024, 0, 0);
	dma_addr_t handles[5];
	struct page *slab;
	void *blocks[5];

	for (int i = 0; i < 5; i++)
		blocks[i] = dma_pool_alloc(pool, GFP_KERNEL, &handles[i]);
	slab = slab_of(pool, blocks[0]);
	assert_int_equal(slab_blocks(pool, slab), 4);
	assert_int_equal(slab_owner(slab), SLAB_NOBODYS);
	dma_pool_free(pool, slab_base(pool, slab) + ARENA_PAGE, handles[0] + ARENA_PAGE);
	assert_logged("(bad vaddr)");
	assert_int_equal(slab_owner(slab), SLAB_NOBODYS);
	for (int i = 0; i < 5; i++)
		dma_pool_free(pool, blocks[i], handles[i]);
	assert_int_equal(stats_of(pool).in_use, 0);
	dma_pool_destroy(pool);
}

/* ---- pages of several slabs ---- */

static void slabs_of_a_page_come_and_go_together(void **state)
{
	enum { N = 64 * 4 * 3 };
	struct dma_pool *pool = create(*state, 16, 0, 0);
	static dma_addr_t handles[N];
	static void *blocks[N];
	struct page *first;

	assert_int_equal(pool->slabs_a_page, 4);
	blocks[0] = dma_pool_alloc(pool, GFP_KERNEL, &handles[0]);
	assert_int_equal(stats_of(pool).pages, 1);
	assert_int_equal(stats_of(pool).total, 256);
	assert_int_equal(stats_of(pool).parked, 63); /* the other three are anybody's */
	assert_int_equal(idle_stack_depth(pool), 3);
	assert_int_equal(dmaland_pool_alloc_bulk(pool, GFP_KERNEL, N - 1, blocks + 1, handles + 1),
			 N - 1);
	assert_int_equal(stats_of(pool).pages, 3);
	assert_int_equal(idle_stack_depth(pool), 0);
	/* One block keeps its page, of which the three other slabs may be used again. */
	first = slab_of(pool, blocks[0]);
	dmaland_pool_free_bulk(pool, N - 1, blocks + 1, handles + 1);
	dmaland_pool_trim(pool);
	assert_int_equal(stats_of(pool).pages, 1);
	assert_int_equal(stats_of(pool).total, 256);
	assert_int_equal(pool->waiting, 0);
	assert_int_equal(idle_stack_depth(pool), 3);
	for (int i = 1; i < 4; i++)
		assert_int_equal(slab_owner(&first[i]), SLAB_IDLE);
	assert_int_equal(dmaland_pool_alloc_bulk(pool, GFP_KERNEL, 255, blocks + 1, handles + 1),
			 255);
	assert_int_equal(stats_of(pool).pages, 1);
	dmaland_pool_free_bulk(pool, 256, blocks, handles);
	dmaland_pool_trim(pool);
	assert_int_equal(stats_of(pool).pages, 0);
	assert_int_equal(stats_of(pool).total, 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(slab_owner(&first[i]), SLAB_NONE);
	dma_pool_destroy(pool);
	assert_string_equal(log_text(), "");
}

/* ---- the stack ---- */

static void the_stack_knows_its_depth(void **state)
{
	enum { SLABS = 20 };
	struct dma_pool *pool = create(*state, 64, 0, 0);
	struct cache *cache = own_cache(pool);
	struct page *slabs[SLABS], *chain;
	size_t n;

	assert_null(idle_stack_pop(pool, 1, &n));
	assert_int_equal(idle_stack_depth(pool), 0);
	for (size_t i = 0; i < SLABS; i++) {
		slabs[i] = slab_make(pool, cache, GFP_KERNEL);
		assert_non_null(slabs[i]);
	}
	for (size_t i = 0; i < 5; i++) {
		idle_stack_push(pool, slabs[i], slabs[i]);
		assert_int_equal(idle_stack_depth(pool), i + 1);
	}
	for (size_t i = 5; i + 1 < SLABS; i++)
		slabs[i]->next = slab_link(pool, slabs[i + 1]);
	idle_stack_push(pool, slabs[5], slabs[SLABS - 1]);
	assert_int_equal(idle_stack_depth(pool), SLABS);
	chain = idle_stack_pop(pool, 17, &n); /* the latter 15, and two of the single ones */
	assert_int_equal(n, 17);
	for (size_t i = 0; i < n; i++) {
		assert_ptr_equal(chain, i < 15 ? slabs[5 + i] : slabs[4 - (i - 15)]);
		chain = slab_at(pool, chain->next);
	}
	assert_int_equal(idle_stack_depth(pool), 3);
	assert_ptr_equal(idle_stack_pop(pool, 100, &n), slabs[2]);
	assert_int_equal(n, 3);
	assert_int_equal(idle_stack_depth(pool), 0);
	dma_pool_destroy(pool);
	assert_string_equal(log_text(), "");
}

/* ---- where there is no aligned place ---- */

/* All that is mapped is taken but for pairs of neighbours, of which the first has an odd number. */
static void fragment(struct fake_place *p, size_t pairs)
{
	const struct arena_chunk *chunk = p->arena->chunks;
	struct page *first;

	while (arena_take(p->arena, &p->coherent, ARENA_PAGE, ARENA_PAGE, GFP_ATOMIC, &first) == 0)
		;
	for (size_t i = 5; i < chunk->pages && pairs--; i += 8) {
		arena_give(p->arena, &chunk->entries[i]);
		arena_give(p->arena, &chunk->entries[i + 1]);
	}
}

/* No slab is where it would be found by its address alone. */
static void use_up_pieces(struct fake_place *p, struct dma_pool *pool)
{
	enum { PAIRS = 8 };
	static dma_addr_t handles[256 * 2 * PAIRS + 1];
	static char *blocks[256 * 2 * PAIRS + 1];
	size_t n = 0, size = pool->size;

	fragment(p, PAIRS);
	assert_int_equal(p->arena->free_pages, 2 * PAIRS);
	p->fake.domain.memory_limit = p->fake.domain.memory; /* there is no more */
	while ((blocks[n] = dma_pool_alloc(pool, GFP_KERNEL, &handles[n]))) {
		memset(blocks[n], 1, size);
		assert_true(arena_translate(p->arena, &p->limits, blocks[n], size) == handles[n]);
		n++;
	}
	assert_int_equal(p->arena->free_pages, 0);
	assert_int_equal(stats_of(pool).pages, 2 * PAIRS);
	assert_int_equal(stats_of(pool).total, n);
	if (pool->slabs_a_page == 1)
		assert_int_equal(n, 2 * PAIRS * (ARENA_PAGE / pool->stride));
	/* They are found; refused when they are not out; and had again. */
	for (size_t i = 0; i < n; i++)
		dma_pool_free(pool, blocks[i], handles[i]);
	for (size_t i = 0; i < n; i++)
		dma_pool_free(pool, blocks[i], handles[i]);
	assert_int_equal(stats_of(pool).in_use, 0);
	assert_int_equal(stats_of(pool).bad_frees, n);
	for (size_t i = 0; i < n; i++)
		assert_non_null(blocks[i] = dma_pool_alloc(pool, GFP_KERNEL, &handles[i]));
	assert_null(dma_pool_alloc(pool, GFP_KERNEL, &handles[n]));
	dmaland_pool_free_bulk(pool, n, (void **)blocks, handles);
	assert_int_equal(stats_of(pool).in_use, 0);
	assert_int_equal(stats_of(pool).bad_frees, n);
	dmaland_pool_trim(pool);
	assert_int_equal(stats_of(pool).pages, 0);
	assert_int_equal(p->arena->free_pages, 2 * PAIRS);
}

static void memory_in_pieces_is_used_up(void **state)
{
	static const size_t sizes[] = {16, 64, 1000, 1024, 2000, 4000};
	struct fake_place *p = *state;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (int watched = 0; watched < 2; watched++) {
			struct dma_pool *pool =
				watched ? create_watched(p, sizes[i]) : create(p, sizes[i], 0, 0);

			use_up_pieces(p, pool);
			dma_pool_destroy(pool);
			p->fake.domain.memory_limit = 0;
			fake_give_all(p->arena, &p->orphans);
			fake_give_all(p->arena, &p->coherent);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		place_test(a_slab_is_found_by_the_beginnings_of_its_blocks_alone),
		place_test(anothers_memory_is_no_slab),
		place_test(a_caches_first_slabs_are_small_and_each_is_twice_as_large),
		place_test(blocks_that_a_small_slab_lacks_are_not_its),
		place_test(a_free_behind_a_small_slab_adopts_nothing),
		place_test(slabs_of_a_page_come_and_go_together),
		place_test(the_stack_knows_its_depth),
		place_test(memory_in_pieces_is_used_up),
	};

	return cmocka_run_group_tests_name("slabs", tests, NULL, NULL);
}
