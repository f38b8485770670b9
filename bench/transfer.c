/* SPDX-License-Identifier: MIT */
#include "transfer.h"

#include <string.h>
#include <sys/mman.h>

#include <dmaland/coherent.h>
#include <dmaland/streaming.h>
#include "bench.h"
#include "vfio_by_hand.h"

#define PIECE_SIZE    TRANSFER_MAX
#define PIECE_STRIDE  (2 * PIECE_SIZE) /* so that each piece is registered alone */
#define BY_HAND_DMA   ((uint64_t)0x10000000)
#define BY_HAND_SLOTS 64 /* addresses in turn, as where several transfers are in flight */
#define CHECKED	      256
#define BENCH_PAGE    ((size_t)4096)

const struct transfer transfers[TRANSFERS] = {
	{"loop", TRANSFER_NOTHING, 0},
	{"map_unmap.arena", TRANSFER_ARENA, 4096},
	{"map_unmap.arena.65536", TRANSFER_ARENA, 65536},
	{"map_unmap.registered", TRANSFER_REGISTERED, 4096},
	{"map_unmap.registered.65536", TRANSFER_REGISTERED, 65536},
	{"map_unmap.bounced.64", TRANSFER_BOUNCED, 64},
	{"map_unmap.bounced.256", TRANSFER_BOUNCED, 256},
	{"map_unmap.bounced.1024", TRANSFER_BOUNCED, 1024},
	{"memcpy_both_ways.64", TRANSFER_MEMCPY, 64},
	{"memcpy_both_ways.256", TRANSFER_MEMCPY, 256},
	{"memcpy_both_ways.1024", TRANSFER_MEMCPY, 1024},
	{"map_unmap.mapped.65536", TRANSFER_MAPPED, 65536},
	{"map_unmap_sg.arena", TRANSFER_SG_ARENA, 4096},
	{"map_unmap_sg.bounced.64", TRANSFER_SG_BOUNCED, 64},
	{"map_unmap_sg.pages.4", TRANSFER_SG_PAGES, 16384},
	{"map_unmap_sg.pages.16", TRANSFER_SG_PAGES, 65536},
	{"vfio_by_hand.4096", TRANSFER_BY_HAND, 4096},
	{"vfio_by_hand.65536", TRANSFER_BY_HAND, 65536},
	{"lookup.table", TRANSFER_TABLE, 4096},
	{"lookup.skiplist", TRANSFER_LIST, 4096},
};

const struct transfer *transfer_named(const char *row)
{
	for (size_t i = 0; i < TRANSFERS; i++)
		if (strcmp(transfers[i].row, row) == 0)
			return &transfers[i];
	return NULL;
}

/* ---- the loops: all that is counted. None knows its arguments, and all go round the pieces. ---- */

#define LOOP __attribute__((noinline))

static inline char *piece(char *first, size_t stride, size_t i)
{
	return first + i % TRANSFER_PIECES * stride;
}

static LOOP void run_nothing(char *first, size_t stride, size_t count)
{
	for (size_t i = 0; i < count; i++)
		__asm__ volatile("" : : "r"(piece(first, stride, i)) : "memory");
}

static LOOP void run_dma(struct dmaland_device *dev, char *first, size_t stride, size_t size,
			 size_t count)
{
	for (size_t i = 0; i < count; i++) {
		dma_addr_t dma =
			dma_map_single(dev, piece(first, stride, i), size, DMA_BIDIRECTIONAL);

		if (dma_mapping_error(dev, dma))
			bench_fail("%s", dmaland_last_error());
		dma_unmap_single(dev, dma, size, DMA_BIDIRECTIONAL);
	}
}

static LOOP void run_sg(struct dmaland_device *dev, struct scatterlist *sg, int nents, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (!dma_map_sg(dev, sg, nents, DMA_BIDIRECTIONAL))
			bench_fail("%s", dmaland_last_error());
		dma_unmap_sg(dev, sg, nents, DMA_BIDIRECTIONAL);
	}
}

static LOOP void run_memcpy(char *first, char *other, size_t stride, size_t size, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		memcpy(other, piece(first, stride, i), size);
		__asm__ volatile("" : : : "memory");
		memcpy(piece(first, stride, i), other, size);
	}
}

static LOOP void run_by_hand(int container, char *first, size_t stride, size_t size, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t dma = BY_HAND_DMA + i % BY_HAND_SLOTS * size;

		by_hand_map(container, piece(first, stride, i), size, dma);
		by_hand_unmap(container, size, dma);
	}
}

static LOOP void run_table(struct lookup_table *table, char *first, size_t stride, size_t size,
			   size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t length = size;

		if (lookup_table_find(table, piece(first, stride, i), &length) == LOOKUP_NONE ||
		    length < size)
			bench_fail("a table finds nothing");
	}
}

static LOOP void run_list(struct lookup_list *list, char *first, size_t stride, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (lookup_list_find(list, piece(first, stride, i)) == LOOKUP_NONE)
			bench_fail("a list finds nothing");
}

/* A number that the compiler does not know: no loop is shorter for it. */
static inline size_t unknown(size_t number)
{
	__asm__("" : "+r"(number));
	return number;
}

void transfer_run(struct transfer_place *p, const struct transfer *t, size_t count)
{
	switch (t->kind) {
	case TRANSFER_NOTHING:
		run_nothing(p->plain, unknown(0), count);
		break;
	case TRANSFER_ARENA:
		run_dma(p->dev, p->arena, unknown(0), t->size, count);
		break;
	case TRANSFER_REGISTERED:
		run_dma(p->dev, p->pieces, unknown(PIECE_STRIDE), t->size, count);
		break;
	case TRANSFER_BOUNCED:
	case TRANSFER_MAPPED:
		run_dma(p->dev, p->plain, unknown(0), t->size, count);
		break;
	case TRANSFER_SG_ARENA:
	case TRANSFER_SG_BOUNCED:
	case TRANSFER_SG_PAGES:
		run_sg(p->dev, p->sg, (int)unknown((size_t)sg_nents(p->sg)), count);
		break;
	case TRANSFER_MEMCPY:
		run_memcpy(p->plain, p->plain + TRANSFER_MAX, unknown(0), t->size, count);
		break;
	case TRANSFER_BY_HAND:
		run_by_hand(p->by_hand, p->plain, unknown(0), t->size, count);
		break;
	case TRANSFER_TABLE:
		run_table(p->table, p->steps, unknown(LOOKUP_STEP), t->size, count);
		break;
	case TRANSFER_LIST:
		run_list(p->list, p->steps, unknown(LOOKUP_STEP), count);
		break;
	}
}

/* ---- around them ---- */

char *transfer_piece(const struct transfer_place *p, size_t i)
{
	return p->pieces + i * PIECE_STRIDE;
}

static void *memory_get(size_t size, int protection)
{
	void *memory =
		mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		bench_fail("no memory");
	if (protection != PROT_NONE) {
		/* Pages of 4 KiB in every run: those who map count pages. */
		madvise(memory, size, MADV_NOHUGEPAGE);
		memset(memory, 1, size);
	}
	return memory;
}

static void lookups_open(struct transfer_place *p)
{
	uintptr_t begin;

	p->table = lookup_table_make();
	p->list = lookup_list_make();
	p->steps = memory_get((TRANSFER_PIECES + 1) * LOOKUP_STEP, PROT_NONE);
	begin = ((uintptr_t)p->steps + LOOKUP_STEP - 1) & ~(LOOKUP_STEP - 1);
	p->steps = (char *)begin;
	for (size_t i = 0; i < TRANSFER_PIECES; i++) {
		uintptr_t at = begin + i * LOOKUP_STEP;

		lookup_table_add(p->table, at, LOOKUP_STEP, BY_HAND_DMA + i * LOOKUP_STEP);
		lookup_list_add(p->list, at, LOOKUP_STEP, BY_HAND_DMA + i * LOOKUP_STEP);
	}
}

void transfer_open(struct transfer_place *p, const char *spec, const char *address)
{
	memset(p, 0, sizeof(*p));
	p->by_hand = address ? by_hand_open(address) : -1;
	p->dev = dmaland_open(spec, NULL);
	if (!p->dev)
		bench_fail("%s", dmaland_last_error());
	p->arena = dma_alloc_coherent(p->dev, TRANSFER_MAX, &p->arena_dma, GFP_KERNEL);
	if (!p->arena)
		bench_fail("%s", dmaland_last_error());
	p->plain = memory_get(2 * TRANSFER_MAX, PROT_READ | PROT_WRITE);
	p->pieces = memory_get(TRANSFER_PIECES * PIECE_STRIDE, PROT_READ | PROT_WRITE);
	lookups_open(p);
}

/* The memory, and the container by hand, go with the process. */
void transfer_close(struct transfer_place *p)
{
	lookup_table_free(p->table);
	lookup_list_free(p->list);
	dma_free_coherent(p->dev, TRANSFER_MAX, p->arena, p->arena_dma);
	dmaland_close(p->dev);
}

/* Every other page of the plain memory. */
static void pages_list(struct scatterlist *sg, char *plain, size_t size)
{
	unsigned int n = (unsigned int)(size / BENCH_PAGE);

	sg_init_table(sg, n);
	for (unsigned int i = 0; i < n; i++)
		sg_set_buf(&sg[i], plain + 2 * i * BENCH_PAGE, BENCH_PAGE);
}

void transfer_begin(struct transfer_place *p, const struct transfer *t)
{
	if (t->kind == TRANSFER_SG_ARENA)
		sg_init_one(p->sg, p->arena, (unsigned int)t->size);
	if (t->kind == TRANSFER_SG_BOUNCED)
		sg_init_one(p->sg, p->plain, (unsigned int)t->size);
	if (t->kind == TRANSFER_SG_PAGES)
		pages_list(p->sg, p->plain, t->size);
	for (size_t i = 0; t->kind == TRANSFER_REGISTERED && i < TRANSFER_PIECES; i++)
		if (dmaland_register(p->dev, transfer_piece(p, i), PIECE_SIZE))
			bench_fail("%s", dmaland_last_error());
}

void transfer_end(struct transfer_place *p, const struct transfer *t)
{
	for (size_t i = 0; t->kind == TRANSFER_REGISTERED && i < TRANSFER_PIECES; i++)
		if (dmaland_unregister(p->dev, transfer_piece(p, i)))
			bench_fail("%s", dmaland_last_error());
}

static uint64_t way_count(struct transfer_place *p, enum transfer_kind kind)
{
	struct dmaland_streaming_stats stats;

	dmaland_get_streaming_stats(p->dev, &stats);
	switch (kind) {
	case TRANSFER_ARENA:
	case TRANSFER_SG_ARENA:
		return stats.translated_arena;
	case TRANSFER_REGISTERED:
		return stats.translated_registered;
	case TRANSFER_BOUNCED:
	case TRANSFER_SG_BOUNCED:
		return stats.bounced_small;
	case TRANSFER_MAPPED:
		return stats.mapped;
	case TRANSFER_SG_PAGES: /* one segment, either way */
		return stats.mapped + stats.bounced_small;
	default:
		return 0;
	}
}

void transfer_check(struct transfer_place *p, const struct transfer *t)
{
	bool ours = t->kind != TRANSFER_NOTHING && t->kind != TRANSFER_MEMCPY &&
		    t->kind < TRANSFER_BY_HAND;
	uint64_t before = way_count(p, t->kind);

	transfer_run(p, t, CHECKED);
	if (ours && way_count(p, t->kind) - before != CHECKED)
		bench_fail("%s: mappings went another way", t->row);
}
