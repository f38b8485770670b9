/* SPDX-License-Identifier: MIT */
/*
 * pagemap.c - from an address to who owns it, in one step
 */
#include "memory/pagemap.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"

/*
 * A program that is built with a leak checker has these. The map's entries point to bookkeeping on
 * the heap, and the checker does not look into mapped memory by itself.
 */
__attribute__((weak)) void __lsan_register_root_region(const void *begin, size_t size);
__attribute__((weak)) void __lsan_unregister_root_region(const void *begin, size_t size);

/* The entry before the first, in a system page of its own. */
static int nobodys_begin(struct pagemap *map, size_t page_size)
{
	struct page *nobodys = map->pages - 1;

	if (mprotect(map->base, page_size, PROT_READ | PROT_WRITE))
		return error_system("cannot get %zu KiB for the page map", page_size >> 10);
	nobodys->unit.base = map->base; /* anything but NULL: it is added to */
	nobodys->unit.state = nobodys->unit.inline_state;
	nobodys->unit.inline_state[0] = PAGE_NOBODYS_STATE;
	return 0;
}

int pagemap_open(struct pagemap *map, const char *window, size_t window_size)
{
	size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
	void *base;
	int err;

	if (window_size >> ARENA_PAGE_SHIFT > PAGEMAP_PAGES_MAX)
		return error_set(EINVAL, "a window of %zu GiB; the page map takes %llu",
				 window_size >> 30,
				 (unsigned long long)(PAGEMAP_PAGES_MAX << ARENA_PAGE_SHIFT) >> 30);
	map->window = window;
	map->count = window_size >> ARENA_PAGE_SHIFT;
	map->mask = power_of_two_covering(map->count) - 1;
	map->reserved = page_size + align_up((map->mask + 1) * sizeof(struct page), page_size);
	base = mmap(NULL, map->reserved, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		    0);
	if (base == MAP_FAILED)
		return error_mmap("cannot reserve %zu MiB of addresses for the page map",
				  map->reserved >> 20);
	map->base = base;
	map->pages = (struct page *)(void *)(map->base + page_size);
	err = nobodys_begin(map, page_size);
	if (err) {
		munmap(map->base, map->reserved);
		return err;
	}
	if (__lsan_register_root_region)
		__lsan_register_root_region(map->base, map->reserved);
	return 0;
}

void pagemap_close(struct pagemap *map)
{
	if (__lsan_unregister_root_region)
		__lsan_unregister_root_region(map->base, map->reserved);
	munmap(map->base, map->reserved);
}

int pagemap_commit(struct pagemap *map, const char *cpu, size_t size)
{
	uintptr_t page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
	struct page *first = pagemap_find(map, cpu);
	uintptr_t begin = (uintptr_t)first & ~(page_size - 1);
	uintptr_t end = align_up((uintptr_t)(first + (size >> ARENA_PAGE_SHIFT)), page_size);

	if (mprotect((void *)begin, end - begin, PROT_READ | PROT_WRITE))
		return error_system("cannot get %zu KiB for the page map",
				    (size_t)(end - begin) >> 10);
	for (size_t i = 0; i < size >> ARENA_PAGE_SHIFT; i++)
		memset(&first[i], 0, sizeof(first[i]));
	return 0;
}
