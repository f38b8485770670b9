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

struct arena_chunk;
struct arena_tenant;

struct page {
	struct arena_chunk *chunk;   /* NULL: no memory here */
	struct arena_tenant *tenant; /* who took the run that this page is part of; NULL: free */
	uint64_t dma_offset;	     /* dma address less CPU address, modulo 2^64 */
	uint32_t run_offset;	     /* pages from the beginning of the run */
	uint32_t run_pages;	     /* in its first page: how many pages the run has */

	/* The tenant's own, in the first page of its run. */
	union {
		size_t coherent_size;	       /* bytes, as asked for */
		struct {		       /* a pool's unit of memory: src/pool/unit.c */
			struct page *next;     /* with unused blocks, in the pool's list */
			uint8_t *state;	       /* a byte a block: enum block_state */
			uint32_t unused_count; /* blocks whose state is BLOCK_UNUSED */
			uint32_t lowest;       /* none of those is below this one */
			uint8_t inline_state[16];
		} unit;
	};
};

struct pagemap {
	struct page *pages;
	size_t count;
	size_t reserved; /* bytes of the array */
	const char *window;
	unsigned int shift; /* log2 of the page size */
};

int pagemap_open(struct pagemap *map, const char *window, size_t window_size, size_t page_size);
void pagemap_close(struct pagemap *map);

/* Make the entries for this memory writable, and fault them in. 0 or -ENOMEM in words. */
int pagemap_commit(struct pagemap *map, const char *cpu, size_t size);

/* The entry of an address; NULL when it lies outside of the window. */
static inline struct page *pagemap_find(const struct pagemap *map, const void *address)
{
	size_t index = ((uintptr_t)address - (uintptr_t)map->window) >> map->shift;

	return index < map->count ? &map->pages[index] : NULL;
}

static inline char *pagemap_address(const struct pagemap *map, const struct page *page)
{
	return (char *)(uintptr_t)map->window + ((size_t)(page - map->pages) << map->shift);
}

#endif
