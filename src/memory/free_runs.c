/* SPDX-License-Identifier: MIT */
/*
 * free_runs.c - which pages are free, and where so many in one run are
 *
 *   page map      |3 . 2|  taken  |1|  taken  |2 1|     first and last page of a free run know its length
 *   edges         |1 0 1 0 0 0 0 0 1 0 0 0 0 0 1 1|     a bit a page: is it such a page?
 *                 '----- leaf ------'------ leaf -'      of LEAF_PAGES
 *   fits              3 . .            2 . .             the longest run that begins in the leaf, by alignment
 *                       \            /
 *                           3 . .                        the larger of two, up to the chunk
 *                             |
 *   tree of chunks, by dma address (base/tree.h); in each the largest below it
 *
 * A run is found by one way down: in the tree of chunks to the highest one where it fits, and in that
 * one's fits to the lowest leaf. A run that is taken or given changes its edges, two leaves at most, and
 * what lies on the way up from them, as far as that changes.
 *
 * A run counts where it begins, with all of its length, so that nothing has to be joined on the way up.
 * Of its pages aligned to 2^k the first has the most behind it; that is why one number for each
 * alignment says what fits. Beyond the last lane, and beyond INT16_MAX pages, a lane says that
 * something may fit, and what it leads to is looked at. The window has room for a thousand such.
 */
#include "memory/free_runs.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "memory/arena_internal.h"

#define LEAF_PAGES 32

/* ---- fits ---- */

static inline void fit_widen(struct fit *fit, const struct fit *other)
{
	for (unsigned int k = 0; k < FIT_LANES; k++)
		fit->longest[k] =
			fit->longest[k] > other->longest[k] ? fit->longest[k] : other->longest[k];
}

static inline bool fit_equal(const struct fit *a, const struct fit *b)
{
	return !memcmp(a, b, sizeof(*a));
}

static int clamp(uint64_t pages)
{
	return pages < INT16_MAX ? (int)pages : INT16_MAX;
}

/* The first page of the chunk at or after one that is aligned for the device. */
static size_t place_align(const struct arena_chunk *chunk, size_t at, unsigned int order)
{
	uint64_t base = chunk->memory.dma >> ARENA_PAGE_SHIFT;

	return (size_t)(align_up(base + at, UINT64_C(1) << order) - base);
}

/* From place to place, each aligned to more than those before. What fits is no more where alignment is. */
static void fit_add_run(const struct arena_chunk *chunk, struct fit *fit, size_t at)
{
	uint64_t begin = (chunk->memory.dma >> ARENA_PAGE_SHIFT) + at;
	uint64_t end = begin + chunk->entries[at].run_pages;
	unsigned int lanes = chunk->orders < FIT_ORDERS ? chunk->orders : FIT_ORDERS;

	for (unsigned int from = 0; from < lanes && begin < end;) {
		unsigned int order = (unsigned int)__builtin_ctzll(begin);
		unsigned int behind = order < lanes ? order + 1 : lanes;
		int fits = clamp(end - begin);

		for (unsigned int k = behind; k > from && fits > fit->longest[k - 1]; k--)
			fit->longest[k - 1] = (int16_t)fits;
		from = behind;
		begin += UINT64_C(1) << order;
	}
}

/* Runs that begin in a leaf have changed. */
static void leaf_renew(struct arena_chunk *chunk, size_t leaf)
{
	struct fit fit = {0};
	size_t i = leaf + chunk->leaves;

	for (uint32_t edges = chunk->edges[leaf]; edges; edges &= edges - 1) {
		size_t at = leaf * LEAF_PAGES + (size_t)__builtin_ctz(edges);

		if (chunk->entries[at].run_offset == 0)
			fit_add_run(chunk, &fit, at);
	}
	for (; !fit_equal(&chunk->fits[i], &fit); i /= 2) {
		chunk->fits[i] = fit;
		if (i == 1)
			break;
		fit_widen(&fit, &chunk->fits[i ^ 1]);
	}
}

/* The first leaf from one on that has as much in a lane; chunk->leaves when there is none. */
static size_t leaf_find(const struct arena_chunk *chunk, size_t from, unsigned int lane, int want)
{
	size_t i = from ? from + chunk->leaves : 1;

	while (from < chunk->leaves) {
		if (chunk->fits[i].longest[lane] >= want) {
			if (i >= chunk->leaves)
				return i - chunk->leaves;
			i *= 2;
			continue;
		}
		while (i & 1)
			i /= 2;
		if (!i++)
			break;
	}
	return chunk->leaves;
}

/*
 * The last leaf before a page's that a run begins in; 0 when there is none. A free run that the page lies in
 * begins there, or in the page's own leaf.
 */
static size_t leaf_before(const struct arena_chunk *chunk, size_t page)
{
	size_t i = page / LEAF_PAGES + chunk->leaves;

	while (i > 1 && (i % 2 == 0 || !chunk->fits[i - 1].longest[0]))
		i /= 2;
	if (i == 1)
		return 0;
	for (i--; i < chunk->leaves;)
		i = 2 * i + (chunk->fits[2 * i + 1].longest[0] > 0);
	return i - chunk->leaves;
}

/* ---- edges ---- */

static bool edge_test(const struct arena_chunk *chunk, size_t at)
{
	return chunk->edges[at / LEAF_PAGES] >> (at % LEAF_PAGES) & 1;
}

static void edges_clear(struct arena_chunk *chunk, size_t at, size_t n)
{
	size_t last = at + n - 1;

	chunk->edges[at / LEAF_PAGES] &= ~(UINT32_C(1) << (at % LEAF_PAGES));
	chunk->edges[last / LEAF_PAGES] &= ~(UINT32_C(1) << (last % LEAF_PAGES));
}

static void edges_set(struct arena_chunk *chunk, size_t at, size_t n)
{
	size_t last = at + n - 1;

	chunk->entries[at].run_offset = 0;
	chunk->entries[at].run_pages = (uint32_t)n;
	chunk->entries[last].run_offset = (uint32_t)(n - 1);
	chunk->edges[at / LEAF_PAGES] |= UINT32_C(1) << (at % LEAF_PAGES);
	chunk->edges[last / LEAF_PAGES] |= UINT32_C(1) << (last % LEAF_PAGES);
}

/* ---- the tree of chunks ---- */

static struct arena_chunk *chunk_of(const struct tree_node *node)
{
	return (struct arena_chunk *)(uintptr_t)node; /* the first member */
}

static inline struct fit chunk_best(const struct arena_chunk *chunk)
{
	struct fit best = chunk->fits[1];

	for (int side = TREE_LOWER; side <= TREE_HIGHER; side++)
		if (chunk->node.child[side])
			fit_widen(&best, &chunk_of(chunk->node.child[side])->best);
	best.longest[FIT_IDLE] |= chunk->free_pages == chunk->pages;
	return best;
}

/*
 * Free runs that begin in the leaves of these two pages have changed, and what is free in the chunk by so many
 * pages.
 */
static void chunk_renew(struct arena_chunk *chunk, size_t one, size_t other, size_t more)
{
	leaf_renew(chunk, one / LEAF_PAGES);
	if (other / LEAF_PAGES != one / LEAF_PAGES)
		leaf_renew(chunk, other / LEAF_PAGES);
	chunk->free_pages += more;
	for (; chunk; chunk = chunk_of(chunk->node.parent)) {
		struct fit best = chunk_best(chunk);

		chunk->free_below += more;
		if (fit_equal(&chunk->best, &best))
			break;
		chunk->best = best;
	}
	while (chunk && (chunk = chunk_of(chunk->node.parent)))
		chunk->free_below += more;
}

static size_t free_below(const struct tree_node *node)
{
	return node ? chunk_of(node)->free_below : 0;
}

bool chunk_joined(const struct tree *tree, struct tree_node *node)
{
	struct arena_chunk *chunk = chunk_of(node);

	(void)tree;
	chunk->best = chunk_best(chunk);
	chunk->free_below = chunk->free_pages + free_below(node->child[TREE_LOWER]) +
			    free_below(node->child[TREE_HIGHER]);
	return true;
}

/* Where the list leads to a chunk. */
static struct arena_chunk **list_link(struct arena *arena, const struct arena_chunk *chunk)
{
	struct arena_chunk *higher = chunk_of(tree_next(&arena->tree, &chunk->node, TREE_HIGHER));

	return higher ? &higher->next : &arena->chunks;
}

void chunks_insert(struct arena *arena, struct arena_chunk *chunk)
{
	struct arena_chunk **link;

	chunk->node.key = chunk->memory.dma;
	tree_insert(&arena->tree, &chunk->node, tree_before(&arena->tree, chunk->memory.dma));
	link = list_link(arena, chunk);
	chunk->next = *link;
	*link = chunk;
}

void chunks_remove(struct arena *arena, struct arena_chunk *chunk)
{
	*list_link(arena, chunk) = chunk->next;
	tree_remove(&arena->tree, &chunk->node);
}

static bool chunk_has(const struct arena_chunk *chunk, unsigned int lane, int want)
{
	return lane == FIT_IDLE ? chunk->free_pages == chunk->pages
				: chunk->fits[1].longest[lane] >= want;
}

static bool tree_has(const struct tree_node *node, unsigned int lane, int want)
{
	return node && chunk_of(node)->best.longest[lane] >= want;
}

struct arena_chunk *chunks_find(const struct arena *arena, unsigned int lane, int want,
				uint64_t last)
{
	const struct tree_node *node = arena->tree.root, *found = NULL;

	/* Down beside the limit: whoever is at or below it has what is lower below it, too. */
	while (tree_has(node, lane, want)) {
		bool below = node->key <= last;

		if (below && (chunk_has(chunk_of(node), lane, want) ||
			      tree_has(node->child[TREE_LOWER], lane, want)))
			found = node;
		node = node->child[below];
	}
	if (!found || chunk_has(chunk_of(found), lane, want))
		return chunk_of(found);
	for (node = found->child[TREE_LOWER];;) {
		if (tree_has(node->child[TREE_HIGHER], lane, want))
			node = node->child[TREE_HIGHER];
		else if (chunk_has(chunk_of(node), lane, want))
			return chunk_of(node);
		else
			node = node->child[TREE_LOWER];
	}
}

size_t chunks_free_under(const struct arena *arena, uint64_t mask)
{
	const struct tree_node *node = arena->tree.root;
	size_t pages = 0;

	while (node) {
		bool below = chunk_last(chunk_of(node)) <= mask;

		if (below)
			pages += chunk_of(node)->free_pages + free_below(node->child[TREE_LOWER]);
		node = node->child[below];
	}
	return pages;
}

/* ---- runs ---- */

struct arena_chunk *chunk_new(const struct arena *arena, const struct chunk *memory)
{
	size_t pages = memory->size >> ARENA_PAGE_SHIFT;
	size_t leaves = power_of_two_covering((pages + LEAF_PAGES - 1) / LEAF_PAGES);
	uint64_t apart = ((uintptr_t)memory->cpu ^ memory->dma) >> ARENA_PAGE_SHIFT;
	size_t bytes = sizeof(struct arena_chunk) + pages * sizeof(struct run_links) +
		       leaves * (2 * sizeof(struct fit) + sizeof(uint32_t));
	struct arena_chunk *chunk = calloc(1, bytes);

	if (!chunk)
		return NULL;
	/* So that no page of it is faulted in under the lock. */
	for (size_t i = 0; i < bytes; i += ARENA_PAGE)
		((volatile char *)chunk)[i] = 0;
	((volatile char *)chunk)[bytes - 1] = 0;
	chunk->memory = *memory;
	chunk->pages = chunk->free_pages = pages;
	chunk->leaves = leaves;
	chunk->edges = (uint32_t *)(void *)&chunk->fits[2 * leaves];
	chunk->links = (struct run_links *)(void *)&chunk->edges[leaves];
	chunk->entries = pagemap_find(&arena->pagemap, memory->cpu);
	chunk->orders = apart ? (unsigned int)__builtin_ctzll(apart) + 1 : 64;
	edges_set(chunk, 0, pages);
	leaf_renew(chunk, 0);
	return chunk;
}

/* How many of a chunk's pages lie under a mask. */
static size_t pages_below(const struct arena_chunk *chunk, uint64_t mask)
{
	if (chunk->memory.dma > mask)
		return 0;
	if (chunk_last(chunk) <= mask)
		return chunk->pages;
	return (size_t)((mask - chunk->memory.dma + 1) >> ARENA_PAGE_SHIFT);
}

/* The lowest place in a chunk. */
static struct fit_place chunk_find(struct arena_chunk *chunk, const struct fit_request *request)
{
	const struct chunk *m = &chunk->memory;
	unsigned int lane = request->order < FIT_ORDERS ? request->order : FIT_ORDERS - 1;
	size_t end = pages_below(chunk, request->mask), begin = 0, leaf = 0;

	if (request->lowest > m->dma) {
		begin = (size_t)((request->lowest - m->dma + ARENA_PAGE - 1) >> ARENA_PAGE_SHIFT);
		leaf = begin < end ? leaf_before(chunk, begin) : chunk->leaves;
	}
	for (;; leaf++) {
		leaf = leaf_find(chunk, leaf, lane, clamp(request->n));
		if (leaf * LEAF_PAGES >= end)
			return (struct fit_place){NULL, 0, 0};
		for (uint32_t edges = chunk->edges[leaf]; edges; edges &= edges - 1) {
			size_t run = leaf * LEAF_PAGES + (size_t)__builtin_ctz(edges);
			size_t last = run + chunk->entries[run].run_pages, at;

			if (chunk->entries[run].run_offset)
				continue;
			at = place_align(chunk, run > begin ? run : begin, request->order);
			if (at + request->n <= (last < end ? last : end))
				return (struct fit_place){chunk, at, run};
		}
	}
}

struct fit_place free_runs_find(const struct arena *arena, const struct fit_request *request)
{
	unsigned int lane = request->order < FIT_ORDERS ? request->order : FIT_ORDERS - 1;
	struct fit_place place = {NULL, 0, 0};
	uint64_t last = request->mask;

	while (!place.chunk) {
		struct arena_chunk *chunk = chunks_find(arena, lane, clamp(request->n), last);

		if (!chunk || chunk->memory.dma + (chunk->memory.size - 1) < request->lowest)
			break;
		/* A mask may cut it, and a lane may say less than is asked: then there are others. */
		if (request->order < chunk->orders)
			place = chunk_find(chunk, request);
		last = chunk->memory.dma - 1;
	}
	return place;
}

void free_runs_take(const struct fit_place *place, size_t n)
{
	struct arena_chunk *chunk = place->chunk;
	size_t run = place->run, at = place->at, behind = at + n;
	size_t end = run + chunk->entries[run].run_pages;

	edges_clear(chunk, run, end - run);
	if (run < at)
		edges_set(chunk, run, at - run);
	if (behind < end)
		edges_set(chunk, behind, end - behind);
	chunk_renew(chunk, run, behind < end ? behind : run, -n);
}

void free_runs_give(struct arena_chunk *chunk, size_t at, size_t n)
{
	size_t begin = at, behind = at + n, end = behind;

	/* Next to a taken page an edge is the run's last page, or its first. */
	if (at && edge_test(chunk, at - 1)) {
		begin = at - 1 - chunk->entries[at - 1].run_offset;
		edges_clear(chunk, begin, at - begin);
	}
	if (behind < chunk->pages && edge_test(chunk, behind)) {
		end += chunk->entries[behind].run_pages;
		edges_clear(chunk, behind, end - behind);
	}
	edges_set(chunk, begin, end - begin);
	chunk_renew(chunk, begin, behind < end ? behind : begin, n);
}
