/* SPDX-License-Identifier: MIT */
/*
 * fuzz_pool.c - libFuzzer makes sequences of pool calls, good and bad ones; a model says what holds
 *
 * Each byte chooses a call or an argument. The model keeps a list of the blocks that are out: they
 * are aligned, cross no boundary, overlap none of the others, lie in memory that is mapped at their
 * dma address, and keep what was written into them. A bad free is counted and changes nothing else.
 *
 * One thread plays several (players.h). All numbers are taken, so that one of the players has none, and gets that of a
 * player who ends.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_domain.h"
#include "players.h"
#include "pool/pool_internal.h"
#include "test.h"

enum { POOLS = 4, OUT_MAX = 512, BULK_MAX = 100, MEMORY = 2 << 20 };

struct out {
	char *vaddr;
	dma_addr_t handle;
	unsigned char fill;
};

struct model {
	struct dma_pool *pool;
	size_t size, align, boundary; /* as asked for; align at least 1 */
	size_t bad;
	size_t count;
	struct out out[OUT_MAX];
};

static struct fake_place place;
static struct model models[POOLS];
static const uint8_t *input, *input_end;
static char stranger[8192]; /* no pool's memory */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "fuzz_pool: %s\n", what);
	abort();
}

static unsigned int next(void)
{
	return input < input_end ? *input++ : 0;
}

/* A number whose size is arbitrary too. */
static size_t next_size(void)
{
	unsigned int shift = next() % 17;

	return ((size_t)next() << shift) >> 4;
}

/* Bad frees are many. */
static void log_nothing(void *context, enum dmaland_log_level level, const char *line)
{
	(void)context;
	(void)level;
	(void)line;
}

/* Of the one who is on. */
static size_t reserved(const struct dma_pool *pool)
{
	return pool->caches[player_number()].reserved;
}

/* Of players who ended, too: theirs are the first numbers. */
static size_t reserved_in(const struct dma_pool *pool)
{
	size_t n = 0;

	for (size_t i = 1; i < PLAYERS; i++)
		n += pool->caches[i].reserved;
	return n;
}

/* ---- what must hold ---- */

static void check_content(const struct model *m, const struct out *out)
{
	for (size_t i = 0; i < m->size; i++)
		check((unsigned char)out->vaddr[i] == out->fill, "a block's content has changed");
}

static void check_apart(const struct out *block, size_t size)
{
	for (int p = 0; p < POOLS; p++)
		for (size_t i = 0; models[p].pool && i < models[p].count; i++)
			check(block->vaddr + size <= models[p].out[i].vaddr ||
				      models[p].out[i].vaddr + models[p].size <= block->vaddr,
			      "two blocks overlap");
}

static void check_stats(const struct model *m)
{
	struct dmaland_pool_stats stats;

	dmaland_pool_get_stats(m->pool, &stats);
	check(stats.in_use == m->count + reserved_in(m->pool), "blocks in use are counted wrong");
	check(stats.bad_frees == m->bad, "bad frees are counted wrong");
	check(stats.in_use + stats.parked <= stats.total, "more blocks than there are");
	check(stats.high_water >= stats.in_use, "the high water lies below the water");
}

/* A block that was just handed out. */
static void model_add(struct model *m, char *vaddr, dma_addr_t handle, bool zeroed)
{
	struct out *out = &m->out[m->count];

	*out = (struct out){vaddr, handle, (unsigned char)next()};
	check(handle % m->align == 0, "a block is not aligned");
	check(!m->boundary || handle / m->boundary == (handle + m->size - 1) / m->boundary,
	      "a block crosses its boundary");
	check(arena_translate(place.arena, &place.limits, vaddr, m->size) == handle,
	      "the handle is not the block's");
	check_apart(out, m->size);
	for (size_t i = 0; zeroed && i < m->size; i++)
		check(!vaddr[i], "a block is not zeroed");
	memset(vaddr, out->fill, m->size);
	m->count++;
}

static struct out model_remove(struct model *m, size_t i)
{
	struct out out = m->out[i];

	check_content(m, &out);
	m->out[i] = m->out[--m->count];
	return out;
}

/* ---- calls ---- */

static void call_create(struct model *m)
{
	bool page = next() & 1; /* what fits a page is more interesting than what doesn't */
	size_t size = page ? 1 + next() * 8 : next_size();
	size_t align = next() & 1 ? (size_t)1 << next() % 16 : next() % 4;
	size_t boundary = next() & 1 ? (size_t)1 << next() % 24 : 0;
	size_t rounded = size < 16 ? 16 : size;
	struct pool_place where = place.place;
	bool sound;

	if (m->pool)
		return;
	*m = (struct model){.size = size, .align = align ? align : 1, .boundary = boundary};
	rounded = (rounded + m->align - 1) / m->align * m->align;
	sound = size && (align & (align - 1)) == 0 && (!boundary || boundary >= rounded);
	where.debug = next() % 8 == 0;
	m->pool = pool_create("fuzz", &where, size, align, boundary);
	check(!m->pool == !sound, "a pool was made, or was not");
}

static void call_destroy(struct model *m)
{
	while (m->count) {
		struct out out = model_remove(m, m->count - 1);

		dma_pool_free(m->pool, out.vaddr, out.handle);
	}
	check_stats(m);
	dma_pool_destroy(m->pool);
	m->pool = NULL;
}

static gfp_t next_gfp(void)
{
	unsigned int n = next();

	return (n & 1 ? GFP_ATOMIC : GFP_KERNEL) | (n & 2 ? __GFP_ZERO : 0);
}

static void call_alloc(struct model *m)
{
	gfp_t gfp = next_gfp();
	dma_addr_t handle = 1;
	size_t sure;
	char *vaddr;

	if (m->count == OUT_MAX)
		return;
	sure = gfp & __GFP_RECLAIM ? 0 : reserved(m->pool);
	vaddr = dma_pool_alloc(m->pool, gfp, &handle);
	if (vaddr)
		model_add(m, vaddr, handle, gfp & __GFP_ZERO);
	else
		check(handle == 1, "a failed allocation has written a handle");
	check(vaddr || !sure, "what was prefilled is not there");
}

static void call_prefill(struct model *m)
{
	size_t n = next(), before = reserved(m->pool);
	uint32_t number = player_number();
	int err = dmaland_pool_prefill(m->pool, n);

	if (!thread_offset)
		check(err == -EAGAIN, "a thread without a number has blocks of its own");
	else if (number || !err)
		check(reserved(m->pool) == (err ? before : n), "another count is prefilled");
}

static void call_alloc_bulk(struct model *m)
{
	gfp_t gfp = next_gfp();
	size_t n = next() % BULK_MAX, got, sure;
	void *vaddrs[BULK_MAX];
	dma_addr_t handles[BULK_MAX];

	if (n > OUT_MAX - m->count)
		n = OUT_MAX - m->count;
	sure = gfp & __GFP_RECLAIM ? 0 : reserved(m->pool);
	got = dmaland_pool_alloc_bulk(m->pool, gfp, n, vaddrs, handles);
	check(got <= n, "more blocks than were asked for");
	check(got == n || got >= sure, "what was prefilled is not there");
	for (size_t i = 0; i < got; i++)
		model_add(m, vaddrs[i], handles[i], gfp & __GFP_ZERO);
}

static void call_free(struct model *m)
{
	struct out out;

	if (!m->count)
		return;
	out = model_remove(m, next() % m->count);
	dma_pool_free(m->pool, out.vaddr, out.handle);
	if (next() % 4 == 0) { /* and once more */
		dma_pool_free(m->pool, out.vaddr, out.handle);
		m->bad++;
	}
}

/* A free that is to be refused, as a bulk or by itself. */
static void free_bad(struct model *m, char *vaddr, dma_addr_t handle)
{
	void *vaddrs[1] = {vaddr};

	if (next() & 1)
		dma_pool_free(m->pool, vaddr, handle);
	else
		dmaland_pool_free_bulk(m->pool, 1, vaddrs, &handle);
	m->bad++;
}

/* Arrays with a bad one in them here and there: a wrong handle; the good one follows. */
static void call_free_bulk(struct model *m)
{
	void *vaddrs[2 * BULK_MAX];
	dma_addr_t handles[2 * BULK_MAX];
	size_t n = next() % BULK_MAX, have = 0;

	for (; n-- && m->count; have++) {
		struct out out = model_remove(m, next() % m->count);

		if (next() % 16 == 0) {
			vaddrs[have] = out.vaddr;
			handles[have++] = out.handle + 1 + next();
			m->bad++;
		}
		vaddrs[have] = out.vaddr;
		handles[have] = out.handle;
	}
	dmaland_pool_free_bulk(m->pool, have, vaddrs, handles);
}

static void call_free_badly(struct model *m)
{
	struct model *other = &models[next() % POOLS];
	struct out out = {stranger + next(), next_size(), 0};
	size_t i;

	switch (next() % 4) {
	case 0: /* of another pool */
		if (other == m || !other->pool || !other->count)
			return;
		out = other->out[next() % other->count];
		break;
	case 1: /* foreign memory */
		if (next() & 1)
			out.vaddr = (char *)(uintptr_t)(next_size() << next() % 48);
		break;
	default: /* not its start, or a handle that isn't its */
		if (!m->count)
			return;
		i = next() % m->count;
		out = m->out[i];
		if (next() & 1 && m->size > 1)
			out.vaddr += 1 + next_size() % (m->size - 1);
		else
			out.handle += 1 + next_size();
	}
	free_bad(m, out.vaddr, out.handle);
}

static void call_limits(void)
{
	unsigned int n = next();

	place.fake.provides_left = n & 1 ? UINT32_MAX : (n >> 1) % 8;
}

static void call(struct model *m)
{
	switch (m->pool ? next() % 19 : 0) {
	case 0:
		call_create(m);
		break;
	case 1:
		call_destroy(m);
		break;
	case 2:
		dmaland_pool_trim(m->pool);
		break;
	case 3:
		check_stats(m);
		break;
	case 4:
		call_limits();
		break;
	case 16:
		call_prefill(m);
		break;
	case 17:
		player_switch(next() % PLAYERS);
		break;
	case 18:
		player_end();
		break;
	case 5:
	case 6:
		call_alloc_bulk(m);
		break;
	case 7:
	case 8:
		call_free_bulk(m);
		break;
	case 9:
		call_free_badly(m);
		break;
	case 10:
	case 11:
	case 12:
		call_free(m);
		break;
	default:
		call_alloc(m);
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	dmaland_set_log(log_nothing, NULL);
	fake_place_open(&place, NULL, 0);
	place.fake.domain.memory_limit = MEMORY;
	numbers_use_up();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	input = data;
	input_end = data + size;
	place.fake.provides_left = UINT32_MAX;
	players_begin();
	while (input < input_end)
		call(&models[next() % POOLS]);
	for (int i = 0; i < POOLS; i++)
		if (models[i].pool)
			call_destroy(&models[i]);
	check(place.arena->free_pages == place.arena->pages, "pages are lost");
	arena_trim(place.arena, 0);
	check(place.fake.domain.memory == 0, "memory is lost");
	return 0;
}
