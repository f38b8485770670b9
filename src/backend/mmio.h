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

#include "backend/backend.h"

/* A window of size bytes at the BAR's start; NULL with the error set. */
void *mmio_open(struct pci_function *f, unsigned int bar, uint64_t size);

/* Close a window that mmio_open() gave. */
void mmio_close(struct pci_function *f, void *cookie);

/* Close all windows of a function that is about to go away. */
void mmio_close_all(struct pci_function *f);

/*
 * In the child of a fork: the lock is nobody's, and where registers of this function were mapped
 * into the parent, reads give all ones and writes are lost.
 */
void mmio_disown(struct pci_function *f);

#endif
