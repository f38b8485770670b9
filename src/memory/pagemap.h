/* SPDX-License-Identifier: MIT */
/*
 * pagemap.h - from an address to who owns it, in one step
 *
 * All memory of a domain lies in one window of addresses, so the map is one flat array with an
 * entry for each page of the window; there may be arrays of other entries beside it. They are reserved
 * whole and read as zeroes; entries become writable with the memory that they describe. None of it can
 * be reached by a device.
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
	uintptr_t owner; /* of a slab: src/pool; 0: the run is no slab */
	union {
		size_t coherent_size; /* bytes, as asked for */
		uint64_t free;	      /* a slab's from here on */
	};
	uint64_t remote;
	uint32_t next, prev;
} __attribute__((aligned(64)));

enum { PAGE_ENTRY_SHIFT = 6 };

_Static_assert(sizeof(struct page) == 1 << PAGE_ENTRY_SHIFT, "an entry is a line of the cache");

struct page_array {
	struct page_array *next;
	char *base;
	size_t bytes; /* a page */
	unsigned int kind;
};

struct pagemap {
	struct page *pages;
	size_t count;
	size_t mask; /* any index and this is one that can be read: 2^n - 1 */
	const char *window;
	struct page_array *arrays; /* that of `pages`, which is the oldest, and those beside it */
};

int pagemap_open(struct pagemap *map, const char *window, size_t window_size);
void pagemap_close(struct pagemap *map);

/* An array of so many bytes a page, which is not in map->arrays yet; NULL in words. */
struct page_array *page_array_open(const struct pagemap *map, size_t bytes, unsigned int kind);
void page_array_close(const struct pagemap *map, struct page_array *array);

/* Make the array's entries for this memory writable, and fault them in. 0 or -ENOMEM in words. */
int page_array_commit(const struct pagemap *map, const struct page_array *array, const char *cpu,
		      size_t size);

/* Who has the page of an address that may be anything. */
static inline struct arena_tenant *page_tenant(const struct page *page)
{
	return racy_load(&page->tenant);
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
