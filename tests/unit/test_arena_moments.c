/* SPDX-License-Identifier: MIT */
/*
 * test_arena_moments.c - what another thread does at each moment of a call, and what fails at each
 *
 * The moments are those before the arena's lock is taken: what the other thread does then is done from there.
 */
#include "test.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "fake_domain.h"

#define NARROW DMA_BIT_MASK(24)
#define MIDDLE DMA_BIT_MASK(32)
#define WIDE   DMA_BIT_MASK(64)

enum { WIDE_CHUNKS = 4 };

/* Three devices: the place's own, whose mask changes; one above, and one below all that it may be. */
static struct fake_place place;
static struct dma_limits high_limits, low_limits;
static struct arena_tenant high, low;
static struct page *held; /* what comes and goes meanwhile */
static struct arena_tenant *holder;

/* ---- moments, and failures ---- */

static struct {
	unsigned int left;
	void (*act)(void); /* NULL: it is past */
} moment;

static unsigned int callocs_left, mprotects_left; /* 0: all that come fail */

void __real_rt_lock_take(struct rt_lock *lock);
void __wrap_rt_lock_take(struct rt_lock *lock);
void __real_rt_lock_try_or_take(struct rt_lock *lock);
void __wrap_rt_lock_try_or_take(struct rt_lock *lock);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
int __real_mprotect(void *address, size_t size, int access);
int __wrap_mprotect(void *address, size_t size, int access);

static void moment_reach(void)
{
	void (*act)(void) = moment.act;

	if (act && moment.left-- == 0) {
		moment.act = NULL;
		act();
	}
}

void __wrap_rt_lock_take(struct rt_lock *lock)
{
	moment_reach();
	__real_rt_lock_take(lock);
}

void __wrap_rt_lock_try_or_take(struct rt_lock *lock)
{
	moment_reach();
	__real_rt_lock_try_or_take(lock);
}

void *__wrap_calloc(size_t n, size_t size)
{
	if (!callocs_left) {
		errno = ENOMEM;
		return NULL;
	}
	callocs_left--;
	return __real_calloc(n, size);
}

int __wrap_mprotect(void *address, size_t size, int access)
{
	if (!mprotects_left) {
		errno = ENOMEM;
		return -1;
	}
	mprotects_left--;
	return __real_mprotect(address, size, access);
}

/* Was there such a moment? */
static bool moment_came(void)
{
	bool came = !moment.act;

	moment.act = NULL;
	return came;
}

/* ---- what others do ---- */

static void hold(void)
{
	if (arena_take(place.arena, holder, ARENA_PAGE, ARENA_PAGE, GFP_ATOMIC, &held))
		held = NULL;
}

static void let_go(void)
{
	if (held)
		arena_give(place.arena, held);
	held = NULL;
}

static dma_addr_t dma_of(const struct page *page)
{
	return chunk_dma(page->chunk, pagemap_address(&place.arena->pagemap, page));
}

static int mask_set(uint64_t mask)
{
	return arena_set_mask(place.arena, &place.limits, mask, "fake");
}

static void counts_check(void)
{
	size_t all = 0;

	for (const struct arena_chunk *c = place.arena->chunks; c; c = c->next)
		all += c->free_pages;
	assert_int_equal(place.arena->free_pages, all);
	for (const struct arena_reserve *r = place.arena->reserves; r; r = r->next) {
		size_t pages = 0;

		for (const struct arena_chunk *c = place.arena->chunks; c; c = c->next)
			if (c->memory.dma + (c->memory.size - 1) <= r->mask)
				pages += c->free_pages;
		assert_int_equal(chunks_free_under(place.arena, r->mask), pages);
	}
}

/* In the chunk that is counted first, and in the one that is last; before it is counted, and after. */
static void what_comes_and_goes_while_a_mask_changes_is_counted(void **state)
{
	(void)state;
	for (unsigned int way = 0; way < 8; way++) {
		unsigned int n = 0;
		bool came;

		holder = way & 1 ? &low : &high;
		do {
			if (way & 2)
				hold();
			assert_int_equal(mask_set(way & 4 ? MIDDLE : WIDE), 0);
			moment.left = n++;
			moment.act = way & 2 ? let_go : hold;
			assert_int_equal(mask_set(way & 4 ? WIDE : MIDDLE), 0);
			came = moment_came();
			counts_check();
			let_go();
			counts_check();
		} while (came);
		assert_true(n > WIDE_CHUNKS);
	}
}

static void note_lowest(struct arena *arena, struct page *first, void *context)
{
	struct page **lowest = context;

	(void)arena;
	if (!*lowest || dma_of(first) < dma_of(*lowest))
		*lowest = first;
}

/* What it is refused for is looked at last. */
static void a_mask_that_is_refused_hinders_nobody(void **state)
{
	struct page *lowest = NULL;
	unsigned int n = 0;
	bool came;

	(void)state;
	holder = &place.coherent;
	arena_for_each_run_of(place.arena, &high, note_lowest, &lowest);
	arena_hand_over(place.arena, lowest, holder);
	do {
		moment.left = n++;
		moment.act = hold;
		assert_int_equal(mask_set(MIDDLE), -EBUSY);
		came = moment_came();
		assert_true(!came || (held && dma_of(held) > MIDDLE));
		assert_true(place.limits.coherent_mask == WIDE);
		let_go();
	} while (came);
	assert_true(n > WIDE_CHUNKS);
	arena_hand_over(place.arena, lowest, &high);
}

static void nothing_lies_above_a_mask_that_is_set(void **state)
{
	unsigned int n = 0, refused = 0;
	bool came;

	(void)state;
	holder = &place.coherent;
	do {
		bool above;
		int err;

		assert_int_equal(mask_set(WIDE), 0);
		moment.left = n++;
		moment.act = hold;
		err = mask_set(MIDDLE);
		came = moment_came();
		above = held && dma_of(held) > MIDDLE;
		assert_int_equal(err, above ? -EBUSY : 0);
		assert_true(place.limits.coherent_mask == (above ? WIDE : MIDDLE));
		refused += above;
		let_go();
		counts_check();
	} while (came);
	assert_true(refused > WIDE_CHUNKS);
	assert_int_equal(mask_set(WIDE), 0);
}

static bool accept(struct page *first, void *context)
{
	(void)first;
	(void)context;
	return true;
}

static void free_held(void)
{
	void *memory = pagemap_address(&place.arena->pagemap, held);

	if (arena_give_if(place.arena, holder, memory, accept, NULL))
		held = NULL;
}

/* The other thread frees the same run: one of the two is refused. */
static void a_run_is_freed_once(void **state)
{
	static const size_t sizes[] = {1, ARENA_PAGES_AT_ONCE, ARENA_PAGES_AT_ONCE + 1, 300};
	size_t free_pages;

	(void)state;
	holder = &place.coherent;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (unsigned int n = 0; n < 3; n++) {
			struct page *first;
			void *memory;
			bool mine;

			assert_int_equal(arena_take(place.arena, holder, sizes[i] * ARENA_PAGE,
						    ARENA_PAGE, GFP_KERNEL, &first),
					 0);
			free_pages = place.arena->free_pages;
			held = first;
			memory = pagemap_address(&place.arena->pagemap, first);
			moment.left = n;
			moment.act = free_held;
			mine = arena_give_if(place.arena, holder, memory, accept, NULL);
			assert_true(moment_came() || n);
			assert_int_equal(mine + !held, 1);
			held = NULL;
			assert_int_equal(place.arena->free_pages, free_pages + sizes[i]);
			counts_check();
		}
}

/* The bookkeeping of a chunk that is new: its own, the map's, and what is beside that. */
static void a_chunk_whose_bookkeeping_fails_goes_back(void **state)
{
	uint64_t memory = place.fake.domain.memory;
	struct page *first;

	(void)state;
	assert_non_null(arena_side(place.arena, 16, 0));
	for (unsigned int kind = 0; kind < 2; kind++) {
		unsigned int *left = kind ? &callocs_left : &mprotects_left;
		unsigned int n = 0;
		int err;

		/* A size that is tried once, since it is none that could be less. */
		do {
			*left = n++;
			err = arena_take(place.arena, &place.coherent, 48 << 20, ARENA_PAGE,
					 GFP_KERNEL, &first);
			*left = UINT_MAX;
			if (!err)
				break;
			assert_int_equal(err, -ENOMEM);
			assert_true(place.fake.domain.memory <= memory);
			counts_check();
		} while (n < 100);
		assert_in_range(n, 2, 99);
		arena_give(place.arena, first);
		arena_trim(place.arena, ARENA_RESERVE_PAGES);
		memory = place.fake.domain.memory;
	}
}

/* ---- life ---- */

static int begin(void **state)
{
	struct page *first;

	(void)state;
	callocs_left = mprotects_left = UINT_MAX;
	fake_place_open(&place, NULL, 0);
	high_limits = (struct dma_limits){.coherent_mask = WIDE, .streaming_mask = WIDE};
	low_limits = (struct dma_limits){.coherent_mask = NARROW, .streaming_mask = NARROW};
	high.limits = &high_limits;
	low.limits = &low_limits;
	arena_prepare(place.arena, &low);
	for (size_t chunks = 0; chunks < WIDE_CHUNKS;) {
		chunks = 0;
		for (const struct arena_chunk *c = place.arena->chunks; c; c = c->next)
			chunks += c->memory.dma > MIDDLE;
		assert_int_equal(arena_take(place.arena, &high, ARENA_PAGE, (size_t)256 << 10,
					    GFP_KERNEL, &first),
				 0);
	}
	arena_prepare(place.arena, &place.coherent);
	return 0;
}

static int end(void **state)
{
	(void)state;
	moment.act = NULL;
	callocs_left = mprotects_left = UINT_MAX;
	let_go();
	fake_give_all(place.arena, &high);
	arena_forget(place.arena, &high_limits);
	arena_forget(place.arena, &low_limits);
	fake_place_close(&place);
	log_clear();
	return 0;
}

#define moments_test(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		moments_test(what_comes_and_goes_while_a_mask_changes_is_counted),
		moments_test(a_mask_that_is_refused_hinders_nobody),
		moments_test(nothing_lies_above_a_mask_that_is_set),
		moments_test(a_run_is_freed_once),
		moments_test(a_chunk_whose_bookkeeping_fails_goes_back),
	};

	callocs_left = mprotects_left = UINT_MAX;
	log_capture();
	return cmocka_run_group_tests_name("arena, moment by moment", tests, NULL, NULL);
}
