/* SPDX-License-Identifier: MIT */
/*
 * model_arena.c - where the arena places runs, beside a few obvious lines
 *
 * The rule: the lowest place of the highest chunk that has one, aligned for CPU and device, under the
 * device's mask, and above what is left to a device of a narrower one. The model keeps a byte a page and
 * tries one place after the other, so whatever exists must be found, and just there. A tenant's runs are
 * those that it took and has not given back.
 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>

#include "fake_domain.h"

#ifndef MODEL_STEPS
#define MODEL_STEPS 60000
#endif

enum { LIVE_MAX = 4096, PAGES = 4000, WIDE = 0, NARROW = 1 };

struct live {
	struct page *first;
	size_t pages;
	unsigned int device;
};

static struct fake_place place;
static struct dma_limits narrow_limits;
static struct arena_tenant narrow, other;
static struct live live[LIVE_MAX];
static size_t live_count, live_pages;
static unsigned char *taken; /* a byte a page of the window */
static uint64_t seed;

static uint64_t draw(uint64_t below)
{
	seed ^= seed << 13; /* Marsaglia's xorshift64 */
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 11) % below;
}

static struct arena_tenant *tenant_of(unsigned int device)
{
	return device == NARROW ? &narrow : &place.coherent;
}

static size_t index_of(const struct arena_chunk *chunk)
{
	return (size_t)(pagemap_find(&place.arena->pagemap, chunk->memory.cpu) -
			place.arena->pagemap.pages);
}

/* ---- the model ---- */

static bool model_fits(const struct arena_chunk *chunk, size_t at, size_t n, size_t align,
		       uint64_t lowest, uint64_t mask)
{
	uint64_t dma = chunk->memory.dma + at * ARENA_PAGE;

	if (dma < lowest || dma + n * ARENA_PAGE - 1 > mask || dma & (align - 1) ||
	    ((uintptr_t)chunk->memory.cpu + at * ARENA_PAGE) & (align - 1))
		return false;
	for (size_t i = 0; i < n; i++)
		if (taken[index_of(chunk) + at + i])
			return false;
	return true;
}

static struct page *model_find(size_t n, size_t align, uint64_t lowest, uint64_t mask)
{
	for (const struct arena_chunk *c = place.arena->chunks; c; c = c->next)
		for (size_t at = 0; at + n <= c->pages; at++)
			if (model_fits(c, at, n, align, lowest, mask))
				return &place.arena->pagemap.pages[index_of(c) + at];
	return NULL;
}

/* Free pages of the chunks that lie under a mask whole. */
static size_t model_free_below(uint64_t mask)
{
	size_t sum = 0;

	for (const struct arena_chunk *c = place.arena->chunks; c; c = c->next)
		for (size_t i = 0; i < c->pages && c->memory.dma + (c->memory.size - 1) <= mask;
		     i++)
			sum += !taken[index_of(c) + i];
	return sum;
}

/* Where GFP_ATOMIC of a device begins to take: above the narrow mask where the narrow device needs what is left. */
static uint64_t model_lowest(unsigned int device, size_t n)
{
	uint64_t mask = narrow_limits.coherent_mask;

	if (device == NARROW || model_free_below(mask) >= n + ARENA_RESERVE_PAGES)
		return 0;
	return mask + 1;
}

/* ---- both ---- */

static void live_add(struct page *first, size_t n, size_t align, unsigned int device)
{
	size_t index = (size_t)(first - place.arena->pagemap.pages);
	char *cpu = pagemap_address(&place.arena->pagemap, first);
	struct arena_tenant *tenant = tenant_of(device);

	assert_true(arena_translate(place.arena, tenant->limits, cpu, n * ARENA_PAGE) ==
		    chunk_dma(first->chunk, cpu));
	assert_int_equal(chunk_dma(first->chunk, cpu) & (align - 1), 0);
	assert_int_equal((uintptr_t)cpu & (align - 1), 0);
	assert_int_equal(first->run_pages, n);
	for (size_t i = 0; i < n; i++) {
		assert_false(taken[index + i]);
		assert_ptr_equal(first[i].tenant, tenant);
		assert_int_equal(first[i].run_offset, i);
		taken[index + i] = 1;
	}
	live[live_count++] = (struct live){first, n, device};
	live_pages += n;
}

static bool agrees(struct page *first, void *context)
{
	(void)first;
	return *(bool *)context;
}

static void live_remove(size_t which)
{
	struct live gone = live[which];
	char *cpu = pagemap_address(&place.arena->pagemap, gone.first);
	bool yes = true, no = false;

	memset(&taken[gone.first - place.arena->pagemap.pages], 0, gone.pages);
	live[which] = live[--live_count];
	live_pages -= gone.pages;
	if (draw(2)) {
		arena_give(place.arena, gone.first);
		return;
	}
	assert_false(arena_give_if(place.arena, &other, cpu, agrees, &yes));
	assert_false(arena_give_if(place.arena, tenant_of(gone.device), cpu, agrees, &no));
	assert_true(arena_give_if(place.arena, tenant_of(gone.device), cpu, agrees, &yes));
	assert_false(arena_give_if(place.arena, tenant_of(gone.device), cpu, agrees, &yes));
}

static size_t size_draw(void)
{
	static const size_t most[] = {1, 1, 2, 4, 9, 40, 70, 300};

	return 1 + draw(most[draw(8)]);
}

static void step_take(void)
{
	unsigned int device = (unsigned int)draw(2);
	size_t n = size_draw(), align = ARENA_PAGE;
	gfp_t gfp = place.arena->pages > PAGES || draw(4) ? GFP_ATOMIC : GFP_KERNEL;
	struct page *expected, *first = NULL;
	int err;

	if (draw(2))
		align <<= draw(11);
	if (draw(4) == 0) /* naturally */
		align = power_of_two_covering(n * ARENA_PAGE);
	expected = model_find(n, align, model_lowest(device, n),
			      tenant_of(device)->limits->coherent_mask);
	err = arena_take(place.arena, tenant_of(device), n * ARENA_PAGE, align, gfp, &first);
	if (gfp == GFP_ATOMIC) {
		assert_int_equal(err, expected ? 0 : -ENOMEM);
		assert_ptr_equal(first, expected);
	}
	if (!err)
		live_add(first, n, align, device);
}

/* The narrow device's go to the wide one, or back if they lie where it can have them. */
static void step_hand_over(void)
{
	struct live *l = &live[draw(live_count)];
	uint64_t last =
		chunk_dma(l->first->chunk, pagemap_address(&place.arena->pagemap, l->first)) +
		l->pages * ARENA_PAGE - 1;

	if (l->device == WIDE && last > narrow_limits.coherent_mask)
		return;
	l->device = !l->device;
	arena_hand_over(place.arena, l->first, tenant_of(l->device));
	for (size_t i = 0; i < l->pages; i++)
		assert_ptr_equal(l->first[i].tenant, tenant_of(l->device));
}

/* It is refused when something lies above, and only then. */
static void step_mask(void)
{
	uint64_t mask = UINT64_C(0x1000000) + draw(0x1800) * ARENA_PAGE - 1;
	int expected = 0;

	for (size_t i = draw(2) ? live_count : 0; i-- > 0;)
		if (live[i].device == NARROW)
			live_remove(i);
	for (size_t i = 0; i < live_count; i++) {
		const struct live *l = &live[i];
		char *cpu = pagemap_address(&place.arena->pagemap, l->first);

		if (l->device == NARROW &&
		    chunk_dma(l->first->chunk, cpu) + l->pages * ARENA_PAGE - 1 > mask)
			expected = -EBUSY;
	}
	assert_int_equal(arena_set_mask(place.arena, &narrow_limits, mask, "narrow"), expected);
	if (!expected)
		assert_true(narrow_limits.coherent_mask == mask);
}

/* A run of a tenant's list is one that lives, of that tenant, and seen only now. */
static void run_strike(struct arena *arena, struct page *first, void *context)
{
	unsigned char *mark = &taken[first - arena->pagemap.pages];

	assert_int_equal(*mark, 1);
	assert_ptr_equal(first->tenant, context);
	assert_int_equal(first->run_offset, 0);
	*mark = 2;
}

/* So is each run that lives in one. */
static void compare_lists(void)
{
	for (unsigned int device = 0; device < 2; device++)
		arena_for_each_run_of(place.arena, tenant_of(device), run_strike,
				      tenant_of(device));
	for (size_t i = 0; i < live_count; i++) {
		unsigned char *mark = &taken[live[i].first - place.arena->pagemap.pages];

		assert_ptr_equal(live[i].first->tenant, tenant_of(live[i].device));
		assert_int_equal(*mark, 2);
		*mark = 1;
	}
	assert_null(memchr(taken, 2, place.arena->pagemap.count));
}

/* What fits into a chunk, by alignment, is neither more nor less than there is. */
static void compare_fits(const struct arena_chunk *chunk)
{
	int longest[FIT_ORDERS] = {0};

	for (size_t end = chunk->pages, at = end; at-- > 0;) {
		if (taken[index_of(chunk) + at])
			end = at;
		for (unsigned int k = 0; k < FIT_ORDERS; k++)
			if (model_fits(chunk, at, 0, (size_t)ARENA_PAGE << k, 0, UINT64_MAX) &&
			    (int)(end - at) > longest[k])
				longest[k] = (int)(end - at);
	}
	for (unsigned int k = 0; k < FIT_ORDERS; k++)
		assert_int_equal(chunk->fits[1].longest[k], longest[k]);
}

static void compare(void)
{
	size_t pages = 0;

	for (const struct arena_chunk *c = place.arena->chunks; c; c = c->next) {
		pages += c->pages;
		compare_fits(c);
		assert_true(!c->next || c->next->memory.dma < c->memory.dma);
		assert_ptr_equal(arena_chunk_at(place.arena, c->memory.dma + c->memory.size - 1),
				 c);
	}
	assert_int_equal(place.arena->pages, pages);
	assert_int_equal(place.arena->free_pages, pages - live_pages);
	for (const struct arena_reserve *r = place.arena->reserves; r; r = r->next)
		assert_int_equal(chunks_free_under(place.arena, r->mask),
				 model_free_below(r->mask));
	compare_lists();
}

static void step(void)
{
	unsigned int kind = (unsigned int)draw(1000);

	if (live_count == LIVE_MAX)
		live_remove(draw(live_count));
	else if (kind < 580)
		step_take();
	else if (kind < 985 && live_count)
		live_remove(draw(live_count));
	else if (kind < 995 && live_count)
		step_hand_over();
	else if (kind < 997)
		arena_trim(place.arena, draw(2) * ARENA_RESERVE_PAGES);
	else
		step_mask();
}

/* Now and then nearly all goes back, so that chunks do. */
static void runs_lie_where_the_rule_puts_them(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < MODEL_STEPS; i++) {
		step();
		if (i % 500 == 0)
			compare();
		if (i % (MODEL_STEPS / 6) == 0) {
			while (live_count > 20)
				live_remove(draw(live_count));
			arena_trim(place.arena, 0);
			compare();
		}
	}
	while (live_count)
		live_remove(live_count - 1);
	compare();
}

/* Larger than what the bookkeeping counts exactly. */
static void the_largest_runs_and_alignments_are_found(void **state)
{
	enum { HUGE_PAGES = 33000 };
	size_t align = (size_t)128 << 20, size = (size_t)HUGE_PAGES * ARENA_PAGE;
	struct page *first, *second, *hole;

	(void)state;
	need_memory((uint64_t)3 * size);
	assert_int_equal(
		arena_take(place.arena, &place.coherent, 2 * size, align, GFP_KERNEL, &first), 0);
	live_add(first, 2 * HUGE_PAGES, align, WIDE);
	live_remove(0);
	/* A page in the middle: what is left is too short below it, or above it, by one. */
	assert_int_equal(
		arena_take(place.arena, &place.coherent, size, ARENA_PAGE, GFP_ATOMIC, &first), 0);
	assert_int_equal(
		arena_take(place.arena, &place.coherent, ARENA_PAGE, ARENA_PAGE, GFP_ATOMIC, &hole),
		0);
	arena_give(place.arena, first);
	assert_int_equal(arena_take(place.arena, &place.coherent, size + ARENA_PAGE, ARENA_PAGE,
				    GFP_ATOMIC, &second),
			 -ENOMEM);
	assert_int_equal(arena_take(place.arena, &place.coherent, size, align, GFP_ATOMIC, &second),
			 0);
	assert_ptr_equal(second, first);
	assert_int_equal(arena_take(place.arena, &place.coherent, size - ARENA_PAGE, ARENA_PAGE,
				    GFP_ATOMIC, &first),
			 0);
	arena_give(place.arena, hole);
	arena_give(place.arena, second);
	assert_int_equal(arena_take(place.arena, &place.coherent, size + ARENA_PAGE, align,
				    GFP_ATOMIC, &second),
			 0);
	arena_give(place.arena, first);
	arena_give(place.arena, second);
	assert_int_equal(place.arena->free_pages, place.arena->pages);
}

/* Two chunks of 64 MiB, each with one page aligned to 128 MiB for the device; not for the CPU in both. */
static void an_alignment_beyond_the_lanes_holds_for_the_cpu_too(void **state)
{
	size_t size = (size_t)64 << 20, align = 2 * size, fit = 0;
	struct page *first[2], *page;

	(void)state;
	need_memory(2 * size);
	for (int i = 0; i < 2; i++)
		assert_int_equal(
			arena_take(place.arena, &place.coherent, size, size, GFP_KERNEL, &first[i]),
			0);
	for (int i = 0; i < 2; i++) {
		uintptr_t cpu = (uintptr_t)pagemap_address(&place.arena->pagemap, first[i]);

		assert_int_equal(chunk_dma(first[i]->chunk, (char *)cpu) & (align - 1), 0);
		fit += (cpu & (align - 1)) == 0;
		arena_give(place.arena, first[i]);
	}
	for (size_t i = 0; i < fit; i++) {
		assert_int_equal(arena_take(place.arena, &place.coherent, ARENA_PAGE, align,
					    GFP_ATOMIC, &page),
				 0);
		live_add(page, 1, align, WIDE);
	}
	assert_int_equal(
		arena_take(place.arena, &place.coherent, ARENA_PAGE, align, GFP_ATOMIC, &page),
		-ENOMEM);
	while (live_count)
		live_remove(0);
}

/* The narrow device needs what is below: the wide one begins in the middle of a free run. */
static void what_lies_above_a_mask_in_a_chunk_that_it_cuts_is_found(void **state)
{
	enum { BELOW = 100 };
	const struct arena_chunk *chunk;
	struct page *first;

	(void)state;
	assert_int_equal(arena_take(place.arena, &place.coherent, 512 * ARENA_PAGE, ARENA_PAGE,
				    GFP_KERNEL, &first),
			 0);
	arena_give(place.arena, first);
	chunk = place.arena->chunks;
	assert_int_equal(chunk->free_pages, chunk->pages);
	assert_int_equal(arena_set_mask(place.arena, &narrow_limits,
					chunk->memory.dma + BELOW * ARENA_PAGE - 1, "narrow"),
			 0);
	assert_int_equal(arena_take(place.arena, &place.coherent,
				    (chunk->pages - BELOW) * ARENA_PAGE, ARENA_PAGE, GFP_ATOMIC,
				    &first),
			 0);
	assert_ptr_equal(first, &chunk->entries[BELOW]);
	arena_give(place.arena, first);
}

/* Small chunks only, in random order: the tree of chunks. */
static void chunks_come_and_go(void **state)
{
	(void)state;
	for (unsigned int round = 0; round < 3; round++) {
		while (live_count <
		       400) { /* each wants an alignment that no other chunk has left */
			struct page *first;

			assert_int_equal(arena_take(place.arena, &place.coherent, ARENA_PAGE,
						    (size_t)256 << 10, GFP_KERNEL, &first),
					 0);
			live_add(first, 1, (size_t)256 << 10, WIDE);
		}
		compare();
		while (live_count > 20) {
			live_remove(draw(live_count));
			arena_trim(place.arena, 0);
		}
		compare();
	}
	while (live_count)
		live_remove(0);
}

static int begin_at(const struct iova_range *ranges, size_t n)
{
	seed = 17;
	fake_place_open(&place, ranges, n);
	narrow_limits =
		(struct dma_limits){.coherent_mask = 0x2345fff, .streaming_mask = 0x2345fff};
	narrow.limits = &narrow_limits;
	other.limits = &place.limits;
	arena_prepare(place.arena, &narrow);
	arena_prepare(place.arena, &place.coherent);
	taken = calloc(place.arena->pagemap.count, 1);
	return taken ? 0 : -1;
}

/* 24 MiB where the narrow masks are, so that they cut chunks, and 8 above 4 GiB; not on round addresses. */
static int begin_narrow(void **state)
{
	static const struct iova_range ranges[] = {{0x1003000, 0x2800fff},
						   {0x100005000, 0x100804fff}};

	(void)state;
	return begin_at(ranges, 2);
}

static int begin(void **state)
{
	static const struct iova_range ranges[] = {{0x1003000, 0x2800fff},
						   {0x100005000, 0x17fffffff}};

	(void)state;
	return begin_at(ranges, 2);
}

static int begin_aligned(void **state)
{
	static const struct iova_range ranges[] = {{0x1003000, 0x2800fff},
						   {0x100000000, 0x103ffffff},
						   {0x110000000, 0x113ffffff},
						   {0x200001000, 0x200400fff}};

	(void)state;
	return begin_at(ranges, 4);
}

static int end(void **state)
{
	(void)state;
	arena_forget(place.arena, &narrow_limits);
	fake_place_close(&place);
	free(taken);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(runs_lie_where_the_rule_puts_them, begin_narrow,
						end),
		cmocka_unit_test_setup_teardown(
			what_lies_above_a_mask_in_a_chunk_that_it_cuts_is_found, begin, end),
		cmocka_unit_test_setup_teardown(the_largest_runs_and_alignments_are_found, begin,
						end),
		cmocka_unit_test_setup_teardown(an_alignment_beyond_the_lanes_holds_for_the_cpu_too,
						begin_aligned, end),
		cmocka_unit_test_setup_teardown(chunks_come_and_go, begin, end),
	};

	log_capture();
	return cmocka_run_group_tests_name("arena model", tests, NULL, NULL);
}
