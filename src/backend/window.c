/* SPDX-License-Identifier: MIT */
/*
 * window.c - anonymous memory for a domain, all of it inside one range of addresses
 *
 *   base                                                          base + size
 *    |  reserved, no access  | chunk |   | chunk |  no access          |
 *
 * Ordinary pages are the reservation made usable; hugepages are put over it. Both are replaced by a
 * fresh reservation when they go.
 *
 * Where a NUMA node is preferred, the reservation says so to the kernel, and ordinary pages come
 * from there. Hugepages belong to a file, which knows of no node: they are faulted in beforehand
 * through a mapping that does.
 */
#include "backend/window.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <dmaland/types.h>
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "backend/available.h"
#include "backend/numa.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

#ifndef MFD_HUGE_SHIFT
#define MFD_HUGE_SHIFT 26 /* linux/memfd.h: log2 of a hugepage's size, in the flags */
#endif

/* Of hugepages, log2 of the sizes that kernels have: from 64 KiB (arm64) to 16 GiB (s390, powerpc). */
enum { HUGEPAGE_SHIFT_MIN = 16, HUGEPAGE_SHIFT_MAX = 34 };

/* The size is a multiple of this. */
#define WINDOW_ALIGN ((size_t)1 << 30)

static const int reserve_flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

/* Addresses from a multiple of WINDOW_ALIGN on: reserve more, and cut off the rest. MAP_FAILED if there are none. */
static char *reserve(size_t size)
{
	size_t room = size + WINDOW_ALIGN, before;
	char *all = mmap(NULL, room, PROT_NONE, reserve_flags, -1, 0);

	if (all == MAP_FAILED)
		return MAP_FAILED;
	before = -(uintptr_t)all & (WINDOW_ALIGN - 1);
	if (before)
		munmap(all, before);
	munmap(all + before + size, WINDOW_ALIGN - before);
	return all + before;
}

int window_open(struct memory_window *window)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t wanted = 2 * page * (size_t)sysconf(_SC_PHYS_PAGES);
	size_t size = (wanted + WINDOW_ALIGN - 1) & ~(WINDOW_ALIGN - 1);

	if (size > WINDOW_MAX)
		size = WINDOW_MAX;
	char *base;
	int err;

	iova_space_init(&window->unused);
	window->has_hole = false;
	window->node = NUMA_NO_NODE;
	do {
		base = reserve(size);
	} while (base == MAP_FAILED && (size /= 2) >= WINDOW_ALIGN);
	if (base == MAP_FAILED)
		return error_mmap("cannot reserve %zu MiB of addresses", 2 * size >> 20);

	window->base = base;
	window->size = size;
	err = iova_space_add(&window->unused, (uintptr_t)base, (uintptr_t)base + size - 1);
	if (err) {
		munmap(base, size);
		return error_set(ENOMEM, "no memory for a domain's bookkeeping");
	}
	return 0;
}

/* Where a place was lost, somebody else's memory may lie: only what is surely ours goes then. */
void window_close(struct memory_window *window)
{
	struct iova_range range = {0, 0};

	if (!window->has_hole)
		munmap(window->base, window->size);
	while (window->has_hole && iova_space_next(&window->unused, range.first, &range))
		munmap((void *)(uintptr_t)range.first, range.last - range.first + 1);
	iova_space_destroy(&window->unused);
}

void window_prefer_node(struct memory_window *window, int node)
{
	int err = node == NUMA_NO_NODE ? 0 : numa_prefer(window->base, window->size, node);

	window->node = err ? NUMA_NO_NODE : node;
	if (err)
		log_line(DMALAND_LOG_INFO,
			 "memory is not kept on the device's NUMA node %d: mbind: %s", node,
			 strerror(-err));
}

int memory_populate(char *cpu, size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (madvise(cpu, size, MADV_POPULATE_WRITE) == 0)
		return 0;
	if (errno != EINVAL)
		return -errno;
	for (size_t i = 0; i < size; i += page)
		*(volatile char *)(cpu + i) = 0;
	return 0;
}

/*
 * The file's hugepages, from the preferred node as far as it has any. What this does not bring is
 * left to who allocates the file's pages next.
 */
static void hugepages_prefer(int fd, size_t size, int node)
{
	void *cpu = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (cpu == MAP_FAILED)
		return;
	if (numa_prefer(cpu, size, node) == 0)
		madvise(cpu, size, MADV_POPULATE_WRITE);
	munmap(cpu, size);
}

/*
 * Hugepages of 2^shift bytes in place of a piece of the reservation. They are allocated first, so that
 * putting them there does not fail for lack of them. 0; -ENOMEM, the reservation as it was; -EFAULT
 * when it may be lost. Whoever grows an arena holds forks back, so that no child has the file.
 */
static int place_hugepages_of(unsigned int shift, char *cpu, size_t size, int node)
{
	int fd, err = -ENOMEM;

	fd = file_raise(
		memfd_create("dmaland", MFD_CLOEXEC | MFD_HUGETLB | shift << MFD_HUGE_SHIFT));
	if (fd < 0)
		return err;
	if (node != NUMA_NO_NODE && ftruncate(fd, (off_t)size) == 0)
		hugepages_prefer(fd, size, node);
	if (fallocate(fd, 0, 0, (off_t)size) == 0)
		err = mmap(cpu, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
				      MAP_FAILED
			      ? -EFAULT
			      : 0;
	close(fd);
	return err;
}

/* The largest that fit whole. The kernel refuses a size that it does not have at once. */
static int place_hugepages(char *cpu, size_t size, int node)
{
	unsigned int shift = (unsigned int)__builtin_ctzll((uintptr_t)cpu | size);
	int err = -ENOMEM;

	if (shift > HUGEPAGE_SHIFT_MAX)
		shift = HUGEPAGE_SHIFT_MAX;
	for (; err == -ENOMEM && shift >= HUGEPAGE_SHIFT_MIN; shift--)
		err = place_hugepages_of(shift, cpu, size, node);
	return err;
}

/* Ordinary pages: the reservation itself becomes usable. */
static int place_pages(char *cpu, size_t size)
{
	if (mprotect(cpu, size, PROT_READ | PROT_WRITE))
		return -errno;
	madvise(cpu, size, MADV_HUGEPAGE); /* where the kernel can: it need not */
	return 0;
}

/* No child has any of the pages, since it does not inherit their place before they are there. */
static int pages_populate(char *cpu, size_t size)
{
	return madvise(cpu, size, MADV_DONTFORK) ? -errno : memory_populate(cpu, size);
}

static int take_place(struct memory_window *window, size_t size, size_t align, char **cpu)
{
	const struct iova_wish wish = {.size = size, .align = align, .last = UINT64_MAX};
	uint64_t first;
	int err = iova_space_take(&window->unused, &wish, &first);

	if (err == -ENOSPC)
		return error_set(ENOMEM,
				 "the domain's window of %zu MiB of addresses has no %zu KiB left: "
				 "free memory of the device first",
				 window->size >> 20, size >> 10);
	if (err)
		return error_set(-err, "no memory for a domain's bookkeeping");
	*cpu = (char *)(uintptr_t)first;
	return 0;
}

int window_take(struct memory_window *window, size_t size, size_t align, char **cpu)
{
	int err = take_place(window, size, align, cpu), placed;

	if (err)
		return err;
	placed = place_hugepages(*cpu, size, window->node);
	if (placed == -EFAULT) {
		/* Others may have mapped something there: never use this place again. */
		window->has_hole = true;
		err = take_place(window, size, align, cpu);
		if (err)
			return err;
	}
	if (placed) {
		err = memory_check(size);
		if (err) {
			window_give(window, *cpu, size);
			return err;
		}
		placed = place_pages(*cpu, size);
	}
	if (!placed)
		placed = pages_populate(*cpu, size);
	if (placed) {
		window_give(window, *cpu, size);
		return error_set(ENOMEM, "cannot get %zu KiB of memory from the system: %s",
				 size >> 10, strerror(-placed));
	}
	return 0;
}

/*
 * Should the reservation fail, its addresses are not used again: leaked rather than overlaid. A
 * fresh one prefers no node yet.
 */
void window_give(struct memory_window *window, char *cpu, size_t size)
{
	if (mmap(cpu, size, PROT_NONE, reserve_flags | MAP_FIXED, -1, 0) == MAP_FAILED) {
		window->has_hole = true;
		return;
	}
	if (window->node != NUMA_NO_NODE)
		numa_prefer(cpu, size, window->node);
	iova_space_release(&window->unused, (uintptr_t)cpu, size);
}
