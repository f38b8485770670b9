/* SPDX-License-Identifier: MIT */
#include "census.h"

#include <string.h>

#include "explore.h"

enum { PAGES = 128, BLOCKS = ARENA_PAGE / 16 };

static struct {
	const struct dma_pool *pool;
	size_t first_page;
	unsigned char seen[PAGES][BLOCKS];
	size_t units, unused, waiting;
} all;

static void see(block_code code, const char *where)
{
	size_t page = (size_t)(code_page(all.pool, code) - all.pool->pages) - all.first_page;
	uint32_t number = code & CODE_NUMBER_MASK;

	if (page >= PAGES || code_page(all.pool, code)->tenant != &all.pool->tenant)
		explore_fail("a block in %s is not the pool's", where);
	else if (all.seen[page][number]++)
		explore_fail("a block in %s is elsewhere too", where);
	else if (*block_decode(all.pool, code).state != BLOCK_FREE)
		explore_fail("a block in %s is out", where);
}

static void see_half(const block_code *codes, size_t n, const char *where)
{
	for (size_t i = 0; i < n; i++)
		see(codes[i], where);
}

static size_t see_shelf(const struct shelf *shelf, size_t *halves)
{
	size_t n = 0, before = *halves;

	for (const struct half *half = shelf->full; half && *halves < PAGES;
	     half = half->next, ++*halves) {
		see_half(half->codes + 1, half->count, "the depot");
		n += half->count;
	}
	for (const struct half *half = shelf->empty; half && *halves < PAGES;
	     half = half->next, ++*halves)
		if (half->count)
			explore_fail("an empty half is not empty");
	if (*halves - before != shelf->halves)
		explore_fail("a shelf has %zu halves and counts %u", *halves - before,
			     shelf->halves);
	return n;
}

static size_t see_depot(const struct dma_pool *pool)
{
	size_t n = 0, halves = 0;

	for (size_t i = 0; i < pool->shelf_count; i++)
		n += see_shelf(&pool->shelves[i], &halves);
	if (halves != pool->half_count)
		explore_fail("the depot has %zu halves and counts %zu", halves, pool->half_count);
	return n;
}

static void see_bits(const struct dma_pool *pool, const struct page *unit)
{
	const uint64_t *words = pool->words == 1
					? &unit->unit.unused
					: (const uint64_t *)(void *)unit->unit.state - pool->words;
	size_t index = (size_t)(unit - pool->pages), before = all.unused;

	for (uint32_t number = 0; number < pool->per_unit; number++)
		if (words[number / 64] >> number % 64 & 1) {
			see(block_encode(index, number), "its unit");
			all.unused++;
		}
	all.waiting += all.unused > before; /* it has to be in a list */
	all.units++;
}

static void see_lost(const struct page *unit, bool (*is_out)(const void *vaddr))
{
	size_t index = (size_t)(unit - all.pool->pages);

	for (uint32_t number = 0; number < all.pool->per_unit; number++) {
		struct block block = unit_block(all.pool, block_encode(index, number));
		bool out = is_out(block.vaddr);

		if (!all.seen[index - all.first_page][number] != out)
			explore_fail(out ? "a block is out and elsewhere" : "a block is lost");
		if ((*block.state == BLOCK_OUT) != out)
			explore_fail("a block's state is wrong");
	}
}

static size_t lists_length(struct dma_pool *pool)
{
	size_t n = 0;

	for (uint32_t i = 0; i < pool->shelf_count; i++)
		for (uint32_t at = pool->shelves[i].units; at != UNIT_NONE && n <= PAGES;
		     at = unit_next(&pool->pages[at]), n++)
			if (unit_shelf(pool, &pool->pages[at]) != &pool->shelves[i])
				explore_fail("a unit hangs in a shelf that it does not belong to");
	return n;
}

/* Only one chunk of memory is there, which tests see to. */
static void see_pages(struct dma_pool *pool, bool (*is_out)(const void *vaddr))
{
	const struct arena_chunk *chunk = pool->place.arena->chunks;
	const struct page *page = pagemap_find(&pool->place.arena->pagemap, chunk->memory.cpu);
	size_t uncarved = 0, known = 0;

	for (size_t i = 0; i < chunk->pages; i++) {
		uncarved += page[i].tenant == &pool->uncarved;
		if (page[i].tenant != &pool->tenant || page[i].run_offset)
			continue;
		see_bits(pool, &page[i]);
		see_lost(&page[i], is_out);
	}
	for (uint32_t i = 0; i < pool->shelf_count; i++)
		known += pool->shelves[i].run_pages;
	if (uncarved != known)
		explore_fail("%zu pages wait to be carved, and %zu are known", uncarved, known);
}

void census(struct dma_pool *pool, bool (*is_out)(const void *vaddr))
{
	const struct pagemap *map = &pool->place.arena->pagemap;
	size_t depot, n = 0;

	memset(&all, 0, sizeof(all));
	all.pool = pool;
	all.first_page =
		(size_t)(pagemap_find(map, pool->place.arena->chunks->memory.cpu) - map->pages);
	depot = see_depot(pool);
	for (const struct magazine *m = pool->magazines; m && n <= THREADS_MAX; m = m->next, n++) {
		see_half(m->half->codes + 1, (size_t)(*m->top - m->half->codes - 1), "a magazine");
		see_half(m->other->codes + 1, m->other->count, "the other half of a magazine");
	}
	if (n > THREADS_MAX)
		explore_fail("there are more magazines than threads");
	see_pages(pool, is_out);
	if (all.units != pool->unit_count ||
	    all.units * pool->per_unit - all.unused - depot != pool_away(pool))
		explore_fail(
			"%zu units, %zu unused, %zu in the depot; counted: %zu units, %zu away",
			all.units, all.unused, depot, pool->unit_count, pool_away(pool));
	if (lists_length(pool) != all.waiting)
		explore_fail("%zu units have unused blocks, and %zu are in lists", all.waiting,
			     lists_length(pool));
}
