/* SPDX-License-Identifier: MIT */
/*
 * pagemap.c - from an address to who owns it, in one step
 */
#include "memory/pagemap.h"

#include <errno.h>
#include <stdlib.h>
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

struct page_array *page_array_open(const struct pagemap *map, size_t bytes, unsigned int kind)
{
	struct page_array *array = calloc(1, sizeof(*array));
	size_t size = (map->mask + 1) * bytes;
	void *base;

	if (!array) {
		error_set(ENOMEM, "no memory for bookkeeping");
		return NULL;
	}
	base = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED) {
		error_mmap("cannot reserve %zu MiB of addresses for bookkeeping", size >> 20);
		free(array);
		return NULL;
	}
	*array = (struct page_array){.base = base, .bytes = bytes, .kind = kind};
	if (__lsan_register_root_region)
		__lsan_register_root_region(base, size);
	return array;
}

void page_array_close(const struct pagemap *map, struct page_array *array)
{
	size_t size = (map->mask + 1) * array->bytes;

	if (__lsan_unregister_root_region)
		__lsan_unregister_root_region(array->base, size);
	munmap(array->base, size);
	free(array);
}

int page_array_commit(const struct pagemap *map, const struct page_array *array, const char *cpu,
		      size_t size)
{
	uintptr_t page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
	char *begin = array->base + (size_t)(pagemap_find(map, cpu) - map->pages) * array->bytes;
	char *end = begin + (size >> ARENA_PAGE_SHIFT) * array->bytes;
	char *from = (char *)((uintptr_t)begin & ~(page_size - 1));
	size_t length = align_up((uintptr_t)end, page_size) - (uintptr_t)from;

	if (mprotect(from, length, PROT_READ | PROT_WRITE))
		return error_system("cannot get %zu KiB for bookkeeping", length >> 10);
	memset(begin, 0, (size_t)(end - begin));
	return 0;
}

int pagemap_open(struct pagemap *map, const char *window, size_t window_size)
{
	if (window_size >> ARENA_PAGE_SHIFT > PAGEMAP_PAGES_MAX)
		return error_set(EINVAL, "a window of %zu GiB; the page map takes %llu",
				 window_size >> 30,
				 (unsigned long long)(PAGEMAP_PAGES_MAX << ARENA_PAGE_SHIFT) >> 30);
	map->window = window;
	map->count = window_size >> ARENA_PAGE_SHIFT;
	map->mask = power_of_two_covering(map->count) - 1;
	map->arrays = page_array_open(map, sizeof(struct page), 0);
	if (!map->arrays)
		return -ENOMEM;
	map->pages = (struct page *)(void *)map->arrays->base;
	return 0;
}

void pagemap_close(struct pagemap *map)
{
	while (map->arrays) {
		struct page_array *array = map->arrays;

		map->arrays = array->next;
		page_array_close(map, array);
	}
}
