/* SPDX-License-Identifier: MIT */
/*
 * scenarios.c - what two or three threads do, a few calls each
 *
 * Halves of magazines are made to hold one or two blocks, so that a few calls go through all of
 * the pool. After each schedule it is looked where every block is.
 */
#include "scenarios.h"

#include "test.h"

#include "census.h"
#include "stage.h"

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
	stage_begin(1024, 1);
	explore_as(0, use_depot);
	explore_as(1, take_two);
}

static void begin_without_depot(void)
{
	stage_begin(1024, 2);
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
	stage_begin(2048, 2);
	explore_as(0, use_depot);
}

/* ---- one block, freed by two ---- */

static void begin_two_frees(void)
{
	stage_begin(1024, 2);
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

static void give_many(void)
{
	for (int i = 2; i < 6; i++)
		give(mine(i));
}

static void take_one(void)
{
	take(mine(0));
}

/* Both threads take all that there is: the copy comes up, unless it was refused at once. */
static void end_two_frees(void)
{
	explore_as(0, take_many);
	explore_as(1, take_many);
	if (w.pool->bad_frees != 1)
		explore_fail("%zu of 1 bad frees were found", w.pool->bad_frees);
	stage_clear();
}

/* The block is the only one of its page that is out. */
static void begin_two_frees_alone(void)
{
	stage_begin(512, 2);
	explore_as(0, take_and_give_two);
	explore_as(0, take_one);
	w.kept = w.blocks[0];
	w.blocks[0].vaddr = NULL;
	w.next = pool_of(512, 2);
}

static void begin_two_frees_watched(void)
{
	stage_watch(true);
	w.pool = pool_of(512, 0);
	explore_as(0, take_one);
	w.kept = w.blocks[0];
	w.blocks[0].vaddr = NULL;
	w.next = pool_of(512, 0);
	stage_watch(false);
}

/* The page goes to another pool, which hands out all of it. */
static void give_kept_to_next_pool(void)
{
	dma_pool_free(w.pool, w.kept.vaddr, w.kept.handle);
	dmaland_pool_trim(w.pool);
	for (int i = 0; i < 8; i++)
		take_from(w.next, i, GFP_ATOMIC);
}

static void give_all_of_next_pool(void)
{
	for (int i = 0; i < 8; i++)
		give_to(w.next, i);
}

static void give_kept_to_ended_pool(void)
{
	give_kept_to_next_pool();
	give_all_of_next_pool();
	dma_pool_destroy(w.next);
	w.next = NULL;
}

/* Whoever was too late harmed neither the other pool nor a third thread. */
static void end_two_frees_and_page(void)
{
	explore_as(1, take_many);
	explore_as(1, give_many);
	if (w.pool->bad_frees != 1)
		explore_fail("%zu of 1 bad frees were found", w.pool->bad_frees);
	if (w.next) {
		if (w.next->debug && dmaland_pool_check(w.next))
			explore_fail("the other pool's blocks were written to");
		explore_as(0, give_all_of_next_pool);
		if (w.next->bad_frees)
			explore_fail("the other pool's good frees were refused");
		explore_as(0, explore_thread_end);
		dma_pool_destroy(w.next);
	}
	stage_clear();
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
	stage_clear();
}

/* One of the copies is out again when the other goes to the bits of its unit. */
static void end_two_frees_out(void)
{
	explore_as(0, take_many);
	explore_as(1, explore_thread_end);
	if (w.pool->bad_frees != 1)
		explore_fail("%zu of 1 bad frees were found", w.pool->bad_frees);
	stage_clear();
}

/* The copies go to the bits of their unit. */
static void end_two_frees_put(void)
{
	explore_as(0, explore_thread_end);
	explore_as(1, explore_thread_end);
	if (w.pool->bad_frees != 1)
		explore_fail("%zu of 1 bad frees were found", w.pool->bad_frees);
	stage_clear();
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
	stage_begin(512, 2);
	explore_as(1, take_and_give_two);
	explore_as(0, take_and_give_two);
}

static void begin_parked(void)
{
	stage_begin(1024, 2);
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
	stage_end();
}

/* ---- growing and shrinking ---- */

static void begin_empty(void)
{
	stage_begin(2048, 1);
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
	stage_begin(4096, 1);
	fill_for_runs();
}

static void begin_runs_of_one_shelf(void)
{
	stage_begin(4096, 1);
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

/* The pool is told to look whether it has too much. */
static void begin_reap(void)
{
	stage_begin(1024, 1);
	explore_as(0, use_depot);
	w.pool->reap_due = true;
	w.pool->recent_high = 0;
}

/* All other memory is taken: what the second pool gets is the first one's. */
static void begin_short(void)
{
	stage_begin(4096, 1);
	explore_as(0, use_depot);
	w.next = pool_of(4096, 1);
	take_all_memory();
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
	stage_end();
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
	 stage_end,
	 2},
	{"two threads exchange blocks with units",
	 begin_without_depot,
	 {take_and_give_two, give_and_take_two},
	 stage_end,
	 3},
	{"three threads use one depot",
	 begin_with_depot,
	 {take_and_give_two, give_two, take_and_give_two},
	 stage_end,
	 1},
	{"a thread takes what another one put away",
	 begin_with_depot,
	 {take_three_that_are_there, take_three_that_are_there},
	 stage_end,
	 2},
	{"bulk calls of two threads", begin_bulk, {bulk, bulk}, stage_end, 2},
	{"filling and spilling while another trims",
	 begin_with_depot,
	 {take_three_give_three, trim},
	 stage_end,
	 2},
	{"two threads trim while a third works",
	 begin_in_use,
	 {give_and_take_two, trim, trim},
	 stage_end,
	 1},
	{"two threads trim what they have parked", begin_parked, {trim, trim}, stage_end, 2},
	{"two frees of one block, then it comes up",
	 begin_two_frees,
	 {give_kept, give_kept},
	 end_two_frees,
	 4},
	{"two frees of one block, then it goes to its unit",
	 begin_two_frees,
	 {give_kept, give_kept},
	 end_two_frees_put,
	 4},
	{"two frees of one block, then a bulk call takes it",
	 begin_two_frees,
	 {give_kept, give_kept},
	 end_two_frees_bulk,
	 4},
	{"two frees of one block, then it is out and goes to its unit",
	 begin_two_frees,
	 {give_kept, give_kept},
	 end_two_frees_out,
	 4},
	{"two frees of one block, and its page becomes another pool's",
	 begin_two_frees_alone,
	 {give_kept_to_next_pool, give_kept},
	 end_two_frees_and_page,
	 1},
	{"two frees of one block, and its page becomes a pool's that ends",
	 begin_two_frees_alone,
	 {give_kept_to_ended_pool, give_kept},
	 end_two_frees_and_page,
	 1},
	{"two frees of one block that is watched, and its page becomes another pool's",
	 begin_two_frees_watched,
	 {give_kept_to_next_pool, give_kept},
	 end_two_frees_and_page,
	 1},
	{"a thread ends while another frees its block",
	 begin_in_use,
	 {take_give_end, use_while_ended},
	 stage_end,
	 3},
	{"a thread ends while another takes what it had",
	 begin_page_shared,
	 {end_thread, take_many},
	 stage_end,
	 2},
	{"two threads end", begin_parked, {end_thread, take_give_end}, stage_end, 3},
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
	{"two threads grow an empty pool", begin_empty, {take_two, take_two}, stage_end, 2},
	{"two threads get their first magazines",
	 begin_empty,
	 {take_and_give_two, take_and_give_two},
	 stage_end,
	 2},
	{"two threads take several pages at a time",
	 begin_runs,
	 {take_one, take_one},
	 stage_end,
	 2},
	{"two threads of a shelf take several pages at a time",
	 begin_runs_of_one_shelf,
	 {take_one, take_one},
	 stage_end,
	 2},
	{"two threads take the last page of a run", begin_last, {take_one, take_one}, stage_end, 2},
	{"growing while another trims", begin_last, {take_one, trim}, stage_end, 2},
	{"giving back what is not needed while another allocates",
	 begin_reap,
	 {take_and_give_two, take_and_give_two},
	 stage_end,
	 2},
	{"memory is short and another pool shrinks",
	 begin_short,
	 {use_a_little, use_next_pool},
	 end_short,
	 2},
	{"statistics are read meanwhile",
	 begin_with_depot,
	 {take_three_give_three, read_stats},
	 stage_end,
	 3},
};

bool scenario_touches_blocks(const struct scenario *scenario)
{
	return scenario->begin == begin_two_frees_watched;
}
