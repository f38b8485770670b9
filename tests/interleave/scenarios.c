/* SPDX-License-Identifier: MIT */
/*
 * scenarios.c - what two or three threads do, a few calls each
 *
 * Halves of magazines are made to hold one or two blocks, so that a few calls go through all of
 * the pool. After each schedule it is looked where every block is.
 */
#include "scenarios.h"

#include "test.h"

#include <stdlib.h>

#include "census.h"
#include "fake_domain.h"

enum { BLOCKS = 24, MEMORY = 128 * ARENA_PAGE };

struct owned {
	void *vaddr; /* NULL: not out */
	dma_addr_t handle;
};

static struct fake_place place;
static struct page *hog; /* all memory that is not needed */

static struct {
	struct dma_pool *pool, *next;
	struct owned blocks[BLOCKS];
	struct owned kept; /* what was taken once */
} w;

/* ---- what threads do ---- */

static bool is_out(const void *vaddr)
{
	for (int i = 0; i < BLOCKS; i++)
		if (w.blocks[i].vaddr == vaddr)
			return true;
	return false;
}

static bool take_from(struct dma_pool *pool, int i, gfp_t gfp)
{
	dma_addr_t handle;
	void *vaddr = dma_pool_alloc(pool, gfp, &handle);

	if (vaddr && is_out(vaddr))
		explore_fail("a block has two owners");
	w.blocks[i] = (struct owned){vaddr, handle};
	return vaddr;
}

static void take(int i)
{
	if (!take_from(w.pool, i, GFP_KERNEL))
		explore_fail("there is no block");
}

static void give_to(struct dma_pool *pool, int i)
{
	struct owned block = w.blocks[i];

	w.blocks[i].vaddr = NULL;
	if (block.vaddr)
		dma_pool_free(pool, block.vaddr, block.handle);
}

static void give(int i)
{
	give_to(w.pool, i);
}

/* Places of its own for each thread. */
static int mine(int i)
{
	return (int)explore_thread() * 6 + i;
}

static void take_two(void)
{
	take(mine(0));
	take(mine(1));
}

static void give_two(void)
{
	give(mine(0));
	give(mine(1));
}

static void take_and_give_two(void)
{
	take_two();
	give_two();
}

static void give_and_take_two(void)
{
	give_two();
	take_two();
}

static void trim(void)
{
	dmaland_pool_trim(w.pool);
}

/* ---- before and after ---- */

static struct dma_pool *pool_of(size_t size, uint32_t half)
{
	struct dma_pool *pool = pool_create("steps", &place.place, size, 0, 0);

	pool->half_max = half;
	pool->shelf_count = 2; /* there are no more threads at a time that work much */
	return pool;
}

static void begin(size_t size, uint32_t half)
{
	memset(&w, 0, sizeof(w));
	w.pool = pool_of(size, half);
}

static void nothing_bad(void)
{
	struct dmaland_pool_stats stats;

	if (explore_failed())
		return;
	dmaland_pool_get_stats(w.pool, &stats);
	if (stats.bad_frees)
		explore_fail("%zu good frees were refused", stats.bad_frees);
}

static void give_all(void)
{
	for (int i = 0; i < BLOCKS; i++)
		give(i);
}

/* Threads end, blocks go back, pages go back. */
static void end_all(void)
{
	if (explore_failed())
		return;
	explore_as(0, give_all);
	for (unsigned int i = 0; i < THREADS_MAX; i++)
		explore_as(i, explore_thread_end);
	census(w.pool, is_out);
	if (explore_failed())
		return;
	dmaland_pool_trim(w.pool);
	if (w.pool->unit_count || w.pool->half_count)
		explore_fail("%zu units and %zu halves stay at the end", w.pool->unit_count,
			     w.pool->half_count);
	dma_pool_destroy(w.pool);
	if (place.arena->free_pages + (hog ? hog->run_pages : 0) != place.arena->pages)
		explore_fail("pages are lost");
	if (hog)
		arena_give(place.arena, hog);
	hog = NULL;
	registry_reset();
}

static void end(void)
{
	census(w.pool, is_out);
	nothing_bad();
	end_all();
}

/* ---- halves that are exchanged with the depot ---- */

static void use_depot(void)
{
	for (int i = 0; i < 6; i++)
		take(i);
	for (int i = 0; i < 6; i++)
		give(i);
}

/* Both threads have magazines, of which one is full, and the depot has halves, full and empty. */
static void begin_with_depot(void)
{
	begin(1024, 1);
	explore_as(0, use_depot);
	explore_as(1, take_two);
}

static void begin_without_depot(void)
{
	begin(1024, 2);
	explore_as(1, take_two);
}

static void begin_in_use(void)
{
	begin_with_depot();
	explore_as(0, take_two);
}

static void take_three_give_three(void)
{
	for (int i = 2; i < 5; i++)
		take(mine(i));
	for (int i = 2; i < 5; i++)
		give(mine(i));
}

static void bulk(void)
{
	void *vaddrs[4];
	dma_addr_t handles[4];

	if (dmaland_pool_alloc_bulk(w.pool, GFP_KERNEL, 4, vaddrs, handles) != 4)
		explore_fail("there are no blocks");
	for (int i = 0; i < 4; i++) {
		if (is_out(vaddrs[i]))
			explore_fail("a block has two owners");
		w.blocks[mine(i)] = (struct owned){vaddrs[i], handles[i]};
	}
	for (int i = 0; i < 4; i++)
		w.blocks[mine(i)].vaddr = NULL;
	dmaland_pool_free_bulk(w.pool, 4, vaddrs, handles);
}

/* From where there are some: not by growing. */
static void take_three_that_are_there(void)
{
	for (int i = 2; i < 5; i++)
		take_from(w.pool, mine(i), GFP_ATOMIC);
	for (int i = 2; i < 5; i++)
		give(mine(i));
}

static void begin_bulk(void)
{
	begin(2048, 2);
	explore_as(0, use_depot);
}

/* ---- one block, freed by two ---- */

static void begin_two_frees(void)
{
	begin(1024, 2);
	explore_as(0, take_two);
	explore_as(1, take_and_give_two);
	w.kept = w.blocks[0];
	w.blocks[0].vaddr = NULL;
}

static void give_kept(void)
{
	dma_pool_free(w.pool, w.kept.vaddr, w.kept.handle);
}

static void take_many(void)
{
	for (int i = 2; i < 6; i++)
		take_from(w.pool, mine(i), GFP_ATOMIC);
}

/* Both threads take all that there is: the copy comes up, unless it was refused at once. */
static void end_two_frees(void)
{
	explore_as(0, take_many);
	explore_as(1, take_many);
	if (w.pool->bad_frees != 1)
		explore_fail("%zu of 1 bad frees were found", w.pool->bad_frees);
	end_all();
}

static void take_bulk(void)
{
	void *vaddrs[4];
	dma_addr_t handles[4];
	size_t n = dmaland_pool_alloc_bulk(w.pool, GFP_ATOMIC, 4, vaddrs, handles);

	for (size_t i = 0; i < n; i++) {
		if (is_out(vaddrs[i]))
			explore_fail("a block has two owners");
		w.blocks[mine(2 + (int)i)] = (struct owned){vaddrs[i], handles[i]};
	}
}

static void end_two_frees_bulk(void)
{
	explore_as(0, take_bulk);
	explore_as(1, take_bulk);
	if (w.pool->bad_frees != 1)
		explore_fail("%zu of 1 bad frees were found", w.pool->bad_frees);
	end_all();
}

/* One of the copies is out again when the other goes to the bits of its unit. */
static void end_two_frees_out(void)
{
	explore_as(0, take_many);
	explore_as(1, explore_thread_end);
	if (w.pool->bad_frees != 1)
		explore_fail("%zu of 1 bad frees were found", w.pool->bad_frees);
	end_all();
}

/* The copies go to the bits of their unit. */
static void end_two_frees_put(void)
{
	explore_as(0, explore_thread_end);
	explore_as(1, explore_thread_end);
	if (w.pool->bad_frees != 1)
		explore_fail("%zu of 1 bad frees were found", w.pool->bad_frees);
	end_all();
}

static void use_while_ended(void)
{
	give(0); /* of the other thread's */
	take(mine(2));
	give(mine(2));
}

/* ---- threads and pools that end ---- */

static void take_give_end(void)
{
	take(mine(2));
	give(mine(2));
	explore_thread_end();
}

static void end_thread(void)
{
	explore_thread_end();
}

/* Of one page, of which there are more. */
static void begin_page_shared(void)
{
	begin(512, 2);
	explore_as(1, take_and_give_two);
	explore_as(0, take_and_give_two);
}

static void begin_parked(void)
{
	begin(1024, 2);
	explore_as(0, take_and_give_two);
	explore_as(1, take_and_give_two);
}

/* A pool ends and another one gets its id. */
static void replace_pool(void)
{
	struct dma_pool *old = w.pool;

	w.pool = NULL;
	dma_pool_destroy(old);
	old = pool_of(2048, 1);
	w.next = old;
}

static void use_next(void)
{
	if (w.next) {
		take_from(w.next, mine(0), GFP_KERNEL);
		give_to(w.next, mine(0));
	}
}

static void use_next_and_end(void)
{
	use_next();
	explore_thread_end();
}

static void end_replaced(void)
{
	w.pool = w.next;
	end();
}

/* ---- growing and shrinking ---- */

static void begin_empty(void)
{
	begin(2048, 1);
}

static void take_ten(void)
{
	for (int i = 12; i < 22; i++)
		take(i);
}

static void take_last(void)
{
	take(22);
}

static size_t waiting_pages(void)
{
	size_t n = 0;

	for (uint32_t i = 0; i < w.pool->shelf_count; i++)
		n += w.pool->shelves[i].run_pages;
	return n;
}

/* Large enough to take two pages at a time, and none is left. */
static void fill_for_runs(void)
{
	explore_as(2, take_ten);
	assert_int_equal(waiting_pages() + w.pool->unit_count * w.pool->per_unit,
			 pool_away(w.pool));
}

static void begin_runs(void)
{
	begin(4096, 1);
	fill_for_runs();
}

static void begin_runs_of_one_shelf(void)
{
	begin(4096, 1);
	w.pool->shelf_count = 1;
	fill_for_runs();
}

/* One page waits to be carved. */
static void begin_last(void)
{
	begin_runs_of_one_shelf();
	explore_as(2, take_last);
	assert_int_equal(waiting_pages(), 1);
}

static void take_one(void)
{
	take(mine(0));
}

/* The pool is told to look whether it has too much. */
static void begin_reap(void)
{
	begin(1024, 1);
	explore_as(0, use_depot);
	w.pool->fills = 1 << 20;
	w.pool->recent_high = 0;
}

/* All other memory is taken: what the second pool gets is the first one's. */
static void begin_short(void)
{
	begin(4096, 1);
	explore_as(0, use_depot);
	w.next = pool_of(4096, 1);
	assert_int_equal(arena_take(place.arena, &place.coherent,
				    place.arena->free_pages * ARENA_PAGE, ARENA_PAGE, GFP_ATOMIC,
				    &hog),
			 0);
}

static void use_a_little(void)
{
	for (int i = 0; i < 3; i++)
		take_from(w.pool, mine(i), GFP_ATOMIC);
	for (int i = 0; i < 3; i++)
		give(mine(i));
}

static void use_next_pool(void)
{
	if (take_from(w.next, mine(0), GFP_KERNEL))
		give_to(w.next, mine(0));
	else
		explore_fail("the other pool's pages were not given");
}

static void end_short(void)
{
	struct dma_pool *first = w.pool;

	census(first, is_out);
	w.pool = w.next;
	census(w.pool, is_out);
	dma_pool_destroy(w.pool);
	w.pool = first;
	end();
}

static void read_stats(void)
{
	struct dmaland_pool_stats stats;

	dmaland_pool_get_stats(w.pool, &stats);
	if (stats.in_use > stats.total)
		explore_fail("%zu blocks of %zu are in use", stats.in_use, stats.total);
	if (stats.parked > 64)
		explore_fail("%zu blocks are parked", stats.parked);
}

const struct scenario scenarios[SCENARIOS] = {
	{"two threads exchange halves with the depot",
	 begin_with_depot,
	 {take_three_give_three, give_and_take_two},
	 end,
	 2},
	{"two threads exchange blocks with units",
	 begin_without_depot,
	 {take_and_give_two, give_and_take_two},
	 end,
	 3},
	{"three threads use one depot",
	 begin_with_depot,
	 {take_and_give_two, give_two, take_and_give_two},
	 end,
	 1},
	{"a thread takes what another one put away",
	 begin_with_depot,
	 {take_three_that_are_there, take_three_that_are_there},
	 end,
	 2},
	{"bulk calls of two threads", begin_bulk, {bulk, bulk}, end, 2},
	{"filling and spilling while another trims",
	 begin_with_depot,
	 {take_three_give_three, trim},
	 end,
	 2},
	{"two threads trim while a third works",
	 begin_in_use,
	 {give_and_take_two, trim, trim},
	 end,
	 1},
	{"two threads trim what they have parked", begin_parked, {trim, trim}, end, 2},
	{"two frees of one block, then it comes up",
	 begin_two_frees,
	 {give_kept, give_kept},
	 end_two_frees,
	 20},
	{"two frees of one block, then it goes to its unit",
	 begin_two_frees,
	 {give_kept, give_kept},
	 end_two_frees_put,
	 20},
	{"two frees of one block, then a bulk call takes it",
	 begin_two_frees,
	 {give_kept, give_kept},
	 end_two_frees_bulk,
	 20},
	{"two frees of one block, then it is out and goes to its unit",
	 begin_two_frees,
	 {give_kept, give_kept},
	 end_two_frees_out,
	 20},
	{"a thread ends while another frees its block",
	 begin_in_use,
	 {take_give_end, use_while_ended},
	 end,
	 3},
	{"a thread ends while another takes what it had",
	 begin_page_shared,
	 {end_thread, take_many},
	 end,
	 2},
	{"two threads end", begin_parked, {end_thread, take_give_end}, end, 3},
	{"a pool ends and another gets its id while a thread ends",
	 begin_parked,
	 {end_thread, replace_pool},
	 end_replaced,
	 2},
	{"a pool ends and another is used by who had blocks of the first",
	 begin_parked,
	 {use_next_and_end, replace_pool},
	 end_replaced,
	 2},
	{"two threads grow an empty pool", begin_empty, {take_two, take_two}, end, 2},
	{"two threads get their first magazines",
	 begin_empty,
	 {take_and_give_two, take_and_give_two},
	 end,
	 2},
	{"two threads take several pages at a time", begin_runs, {take_one, take_one}, end, 2},
	{"two threads of a shelf take several pages at a time",
	 begin_runs_of_one_shelf,
	 {take_one, take_one},
	 end,
	 2},
	{"two threads take the last page of a run", begin_last, {take_one, take_one}, end, 2},
	{"growing while another trims", begin_last, {take_one, trim}, end, 2},
	{"giving back what is not needed while another allocates",
	 begin_reap,
	 {take_and_give_two, take_and_give_two},
	 end,
	 2},
	{"memory is short and another pool shrinks",
	 begin_short,
	 {use_a_little, use_next_pool},
	 end_short,
	 2},
	{"statistics are read meanwhile",
	 begin_with_depot,
	 {take_three_give_three, read_stats},
	 end,
	 3},
};

/* One chunk, and there will be no other. */
void scenarios_begin(void)
{
	struct page *run;

	fake_place_open(&place, NULL, 0);
	place.fake.domain.memory_limit = MEMORY;
	assert_int_equal(
		arena_take(place.arena, &place.coherent, MEMORY, ARENA_PAGE, GFP_KERNEL, &run), 0);
	arena_give(place.arena, run);
	assert_int_equal(place.arena->pages * ARENA_PAGE, MEMORY);
}

void scenarios_end(void)
{
	fake_place_close(&place);
}
