/* SPDX-License-Identifier: MIT */
/*
 * test_pool_copies.c - a block that two racing frees have put away twice is handed out once
 *
 * The race is made by hand: between two frees the block's state says once more that it is out.
 */
#include "test.h"

#include <pthread.h>

#include "fake_domain.h"
#include "pool/magazine.h"

static struct dma_pool *create(void *state, size_t size, size_t align, size_t boundary)
{
	return pool_create("test pool", &((struct fake_place *)state)->place, size, align,
			   boundary);
}

struct freed {
	struct dma_pool *pool;
	void *block;
	dma_addr_t handle;
};

static void run_in_thread(void *(*f)(void *), void *context)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, f, context), 0);
	pthread_join(thread, NULL);
}

/* As two racing frees leave it, of which one had no magazine, once the other's copy is out. */
static void a_block_that_is_out_is_not_taken_from_its_units_bits(void **state)
{
	struct dma_pool *pool = create(*state, 200000, 0, 0);
	dma_addr_t handle, other_handle;
	void *block = dma_pool_alloc(pool, GFP_KERNEL, &handle), *other;
	struct page *unit = pagemap_find(&pool->place.arena->pagemap, block);
	block_code code = block_encode((size_t)(unit - pool->pages), 0);

	state_write(unit->unit.state, BLOCK_FREE);
	units_put_back(pool, &code, 1);
	state_write(unit->unit.state, BLOCK_OUT);
	other = dma_pool_alloc(pool, GFP_KERNEL, &other_handle);
	assert_ptr_not_equal(other, block);
	assert_int_equal(pool->bad_frees, 1);
	dma_pool_free(pool, block, handle);
	dma_pool_free(pool, other, other_handle);
	dma_pool_destroy(pool);
	assert_logged("already free");
}

/* As two racing frees leave it, when both copies have come to the depot. */
static void a_copy_in_the_depot_is_found_when_its_pages_are_trimmed(void **state)
{
	enum { N = 1024 };
	struct dma_pool *pool = create(*state, 64, 0, 0);
	static void *blocks[N];
	static dma_addr_t handles[N];
	struct dmaland_pool_stats stats;
	dma_addr_t handle;
	void *block = dma_pool_alloc(pool, GFP_KERNEL, &handle);

	assert_int_equal(dmaland_pool_alloc_bulk(pool, GFP_KERNEL, N, blocks, handles), N);
	dma_pool_free(pool, blocks[0], handles[0]);
	state_write(pagemap_find(&pool->place.arena->pagemap, blocks[0])->unit.state +
			    (uintptr_t)blocks[0] % ARENA_PAGE / 64,
		    BLOCK_OUT);
	dmaland_pool_free_bulk(pool, N, blocks, handles);
	assert_int_equal(pool->bad_frees, 0);
	dmaland_pool_trim(pool);
	dmaland_pool_get_stats(pool, &stats);
	assert_int_equal(stats.bad_frees, 1);
	assert_int_equal(stats.in_use, 1);
	assert_int_equal(stats.pages, 1);
	dma_pool_free(pool, block, handle);
	dma_pool_destroy(pool);
}

static void *free_it(void *context)
{
	struct freed *x = context;

	dma_pool_free(x->pool, x->block, x->handle);
	return NULL;
}

static void *trim(void *context)
{
	dmaland_pool_trim(((struct freed *)context)->pool);
	return NULL;
}

/* Two frees raced, and one copy's page is another pool's when the other leaves its magazine. */
static void a_copy_whose_page_is_another_pools_is_not_put(void **state)
{
	struct fake_place *p = *state;
	struct freed x = {.pool = create(p, 4096, 0, 0)};
	struct dma_pool *other = create(p, 4096, 0, 0);
	struct dmaland_pool_stats stats;
	dma_addr_t handle;
	void *block;

	x.block = dma_pool_alloc(x.pool, GFP_KERNEL, &x.handle);
	free_it(&x);
	state_write(pagemap_find(&p->arena->pagemap, x.block)->unit.state, BLOCK_OUT);
	run_in_thread(free_it, &x);
	run_in_thread(trim, &x);
	block = dma_pool_alloc(other, GFP_KERNEL, &handle);
	assert_ptr_equal(block, x.block);
	dma_pool_free(other, block, handle);
	trim(&x);
	dmaland_pool_get_stats(x.pool, &stats);
	assert_int_equal(stats.bad_frees, 1);
	assert_int_equal(stats.pages, 0);
	dmaland_pool_get_stats(other, &stats);
	assert_int_equal(stats.pages, 1);
	dma_pool_destroy(x.pool);
	dma_pool_destroy(other);
}

/* All blocks of this thread's magazine go to their units, but for the one on top. */
static void keep_the_top_alone(struct dma_pool *pool)
{
	struct magazine *m = magazine_of(pool);
	block_code *begin = half_begin(m->half), top = (*m->top)[-1];
	uint32_t n = magazine_count(m);

	magazine_set_top(m, begin);
	units_put_back(pool, begin, n - 1);
	magazine_push(m, top);
}

/*
 * The same when the other pool ended, and its states are freed; the copy comes up by an allocation. And
 * in a page of several states, of the other pool's.
 */
static void a_copy_whose_page_was_another_pools_is_not_taken(void **state)
{
	static const size_t sizes[] = {32, 512, 4096};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (int how = 0; how < 4; how++) {
			struct freed x = {.pool = create(*state, sizes[i], 0, 0)};
			struct dma_pool *other = create(*state, 16, 0, 0);
			dma_addr_t handle, again;
			void *block, *vaddr;

			x.block = dma_pool_alloc(x.pool, GFP_KERNEL, &x.handle);
			free_it(&x);
			state_write(
				pagemap_find(&x.pool->place.arena->pagemap, x.block)->unit.state,
				BLOCK_OUT);
			run_in_thread(free_it, &x);
			keep_the_top_alone(x.pool);
			run_in_thread(trim, &x);
			block = dma_pool_alloc(other, GFP_KERNEL, &handle);
			assert_ptr_equal(block, x.block);
			if (how & 1) {
				dma_pool_free(other, block, handle);
				dma_pool_destroy(other);
				other = NULL;
			}
			if (how & 2)
				assert_int_equal(dmaland_pool_alloc_bulk(x.pool, GFP_ATOMIC, 1,
									 &vaddr, &again),
						 1);
			else
				vaddr = dma_pool_alloc(x.pool, GFP_ATOMIC, &again);
			assert_non_null(vaddr);
			if (other)
				assert_ptr_not_equal(vaddr, block);
			assert_int_equal(x.pool->bad_frees, 1);
			dma_pool_free(x.pool, vaddr, again);
			dma_pool_destroy(x.pool);
			if (other) {
				dma_pool_free(other, block, handle);
				assert_int_equal(other->bad_frees, 0);
				dma_pool_destroy(other);
			}
			assert_logged("already free");
			log_clear();
		}
}

/* Two frees raced, one copy is out again, and the other has come to the bits of its unit. */
static void a_page_is_not_given_back_while_a_copy_is_out(void **state)
{
	struct freed x = {.pool = create(*state, 4096, 0, 0)};
	struct dmaland_pool_stats stats;
	struct page *unit;

	x.block = dma_pool_alloc(x.pool, GFP_KERNEL, &x.handle);
	unit = pagemap_find(&x.pool->place.arena->pagemap, x.block);
	free_it(&x);
	state_write(unit->unit.state, BLOCK_OUT);
	run_in_thread(free_it, &x);
	assert_ptr_equal(dma_pool_alloc(x.pool, GFP_ATOMIC, &x.handle), x.block);
	trim(&x);
	dmaland_pool_get_stats(x.pool, &stats);
	assert_int_equal(stats.pages, 1);
	dma_pool_free(x.pool, x.block, x.handle);
	trim(&x);
	dmaland_pool_get_stats(x.pool, &stats);
	assert_int_equal(stats.pages, 0);
	assert_int_equal(stats.bad_frees, 1);
	dma_pool_destroy(x.pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		place_test(a_block_that_is_out_is_not_taken_from_its_units_bits),
		place_test(a_copy_in_the_depot_is_found_when_its_pages_are_trimmed),
		place_test(a_copy_whose_page_is_another_pools_is_not_put),
		place_test(a_copy_whose_page_was_another_pools_is_not_taken),
		place_test(a_page_is_not_given_back_while_a_copy_is_out),
	};

	return cmocka_run_group_tests_name("pool copies", tests, NULL, NULL);
}
