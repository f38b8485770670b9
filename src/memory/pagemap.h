/* SPDX-License-Identifier: MIT */
/*
 * pagemap.h - from an address to who owns it, in one step
 *
 * All memory of a domain lies in one window of addresses, so the map is one flat array with an
 * entry for each page of the window. The array is reserved whole and reads as zeroes; entries
 * become writable with the memory that they describe. None of it can be reached by a device.
 */
#ifndef MEMORY_PAGEMAP_H
#define MEMORY_PAGEMAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/bits.h"

struct arena_chunk;
struct arena_tenant;

/*
 * What memory is handed out by: the smallest page of CPUs and IOMMUs. A domain of a larger granule, as
 * on aarch64, where the CPU's own pages can have 16 or 64 KiB, maps several at a time.
 */
enum { ARENA_PAGE_SHIFT = 12, ARENA_PAGE = 1 << ARENA_PAGE_SHIFT };

/* The largest window: 63 GiB. It bounds what one domain may hold of coherent memory and pools. */
#define PAGEMAP_PAGES_MAX (UINT64_C(63) << (30 - ARENA_PAGE_SHIFT))

struct page {
	struct arena_chunk *chunk;   /* NULL: no memory here */
	struct arena_tenant *tenant; /* who took the run that this page is part of; NULL: free */
	uint64_t dma_offset;	     /* dma address less CPU address, modulo 2^64 */
	uint32_t run_offset;	     /* pages from the beginning of the run */
	uint32_t run_pages;	     /* in its first page: how many pages the run has */

	/* The tenant's own, in the first page of its run. */
	union {
		size_t coherent_size;	 /* bytes, as asked for */
		struct {		 /* a pool's unit of memory: src/pool/unit.c */
			char *base;	 /* where the unit begins */
			uint8_t *state;	 /* a byte a block: enum block_state */
			uint64_t unused; /* a bit a block; or a bit for each word of bits */
			uint32_t link;	 /* in the pool's lists */
			uint8_t inline_state[4];
		} unit;
	};
} __attribute__((aligned(64)));

enum { PAGE_ENTRY_SHIFT = 6, PAGE_NOBODYS_STATE = 4 };

_Static_assert(sizeof(struct page) == 1 << PAGE_ENTRY_SHIFT, "an entry is a line of the cache");

struct pagemap {
	struct page *pages; /* pages[-1] is no page's; its block 0 is out for ever: src/pool */
	size_t count;
	size_t mask;	 /* any index and this is one that can be read: 2^n - 1 */
	char *base;	 /* of the memory that the array lies in */
	size_t reserved; /* bytes of that */
	const char *window;
};

int pagemap_open(struct pagemap *map, const char *window, size_t window_size);
void pagemap_close(struct pagemap *map);

/* Make the entries for this memory writable, and fault them in. 0 or -ENOMEM in words. */
int pagemap_commit(struct pagemap *map, const char *cpu, size_t size);

/* Memory for as many bytes a page: reserved whole, and committed with the pages. 0 or -ENOMEM in words. */
int pagemap_side_open(const struct pagemap *map, size_t bytes, char **base);
void pagemap_side_close(const struct pagemap *map, size_t bytes, char *base);
int pagemap_side_commit(const struct pagemap *map, size_t bytes, char *base, const char *cpu,
			size_t size);

/* Who has the page of an address that may be anything. */
static inline struct arena_tenant *page_tenant(const struct page *page)
{
	return racy_load(&page->tenant);
}

/*
 * The same, read after a word of the entry was. If the tenant is ours the word was ours too, unless the
 * page became ours between the two loads.
 */
static inline struct arena_tenant *page_tenant_after(const struct page *page, const void *word)
{
#ifdef __SANITIZE_THREAD__
	(void)word;
	return __atomic_load_n(&page->tenant, __ATOMIC_SEQ_CST);
#elif !defined(__x86_64__)
	(void)word;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return racy_load(&page->tenant);
#else
	struct arena_tenant *const *tenant = &page->tenant;

	/* For the compiler, to which the word is needed to know the tenant; this CPU keeps the order. */
	__asm__("" : "+m"(*(struct arena_tenant **)(uintptr_t)tenant) : "r"(word));
	return *tenant;
#endif
}

/* What was written to the page's entry before is seen by who finds the tenant. */
static inline void page_set_tenant(struct page *page, struct arena_tenant *tenant)
{
	__atomic_store_n(&page->tenant, tenant, __ATOMIC_RELEASE);
}

/* The entry of an address; NULL when it lies outside of the window. */
static inline struct page *pagemap_find(const struct pagemap *map, const void *address)
{
	size_t index = ((uintptr_t)address - (uintptr_t)map->window) >> ARENA_PAGE_SHIFT;

	return index < map->count ? &map->pages[index] : NULL;
}

static inline char *pagemap_address(const struct pagemap *map, const struct page *page)
{
	return (char *)(uintptr_t)map->window + ((size_t)(page - map->pages) << ARENA_PAGE_SHIFT);
}

#endif
