/* SPDX-License-Identifier: MIT */
/*
 * mmio.h - register windows: where readl() and its family land
 *
 * A window that is mapped is followed directly. For one that isn't, a range of addresses is
 * reserved with no access, so that the cookie takes pointer arithmetic and no stray pointer
 * can equal it; an access is found in a table and carried to the pci_function.
 */
#ifndef BACKEND_MMIO_H
#define BACKEND_MMIO_H

#include "base/bits.h"
#include "backend/backend.h"

/* A window of size bytes at the BAR's start; NULL with the error set. */
void *mmio_open(struct pci_function *f, unsigned int bar, uint64_t size);

/* Close a window that mmio_open() gave. */
void mmio_close(struct pci_function *f, void *cookie);

/* Close all windows of a function that is about to go away. */
void mmio_close_all(struct pci_function *f);

/* All windows that ever were, mapped or not, lie in these bytes; 0: there never was one. */
struct mmio_bounds {
	uintptr_t lowest, bytes;
};

extern struct mmio_bounds mmio_bounds __attribute__((visibility("hidden")));

/*
 * For ordinary memory, which is to be told fast: is ptr near an open window, or in one? A window that
 * another thread opens at this moment may be missed, and whoever has its address has seen it opened.
 */
static inline bool mmio_is_near(const void *ptr, size_t size)
{
	return (uintptr_t)ptr + (size - 1) - racy_load(&mmio_bounds.lowest) <
	       racy_load(&mmio_bounds.bytes) + (size - 1);
}

/* Are any of these bytes in an open window? only_trapped: in one that is not mapped. */
bool mmio_overlaps(const void *ptr, size_t size, bool only_trapped);

/* Are all of them in one open window? */
bool mmio_contains(const void *ptr, size_t size);

/*
 * In the child of a fork: the lock is nobody's, and where registers of this function were mapped
 * into the parent, reads give all ones and writes are lost.
 */
void mmio_disown(struct pci_function *f);

#endif
