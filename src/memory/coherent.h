/* SPDX-License-Identifier: MIT */
/*
 * coherent.h - memory for device and CPU, by the page
 */
#ifndef MEMORY_COHERENT_H
#define MEMORY_COHERENT_H

#include "memory/arena.h"

void *coherent_alloc(struct arena *arena, struct arena_tenant *tenant, size_t size,
		     dma_addr_t *handle, gfp_t gfp);

/* Checked; what does not match is reported with the device's name and dropped. */
void coherent_free(struct arena *arena, struct arena_tenant *tenant, const char *name, size_t size,
		   void *vaddr, dma_addr_t handle);

#endif
