/* SPDX-License-Identifier: MIT */
/*
 * coherent.c - memory for device and CPU, by the page
 *
 * A run of the arena for each allocation. What was asked stands in the page map, so that each free
 * is checked. Messages are those of the kernel's dma-debug (kernel/dma/debug.c) in meaning.
 */
#include "memory/coherent.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"

/* Natural alignment up to this size is certain; a run larger than a chunk of the usual sizes is given back. */
#define COHERENT_ALIGN_SURE ((size_t)4 << 20)
#define COHERENT_KEEP_MAX   ((size_t)32 << 20)

/*
 * The kernel's addresses are aligned to the size's power of two, however large, or there are none. Here memory is
 * worth more than alignment above COHERENT_ALIGN_SURE. Who needs both has a pool of one block.
 */
static int take_aligned(struct arena *arena, struct arena_tenant *tenant, size_t size, gfp_t gfp,
			struct page **first)
{
	size_t align = power_of_two_covering(size);
	int err;

	if (align < arena->domain->granule) /* a page of the kernel's, at the least */
		align = arena->domain->granule;
	err = arena_take(arena, tenant, size, align, gfp, first);
	if (err == -ENOMEM && align > COHERENT_ALIGN_SURE)
		err = arena_take(arena, tenant, size, COHERENT_ALIGN_SURE, gfp, first);
	return err;
}

void *coherent_alloc(struct arena *arena, struct arena_tenant *tenant, size_t size,
		     dma_addr_t *handle, gfp_t gfp)
{
	struct page *first;
	void *vaddr;

	if (size == 0 || size > SIZE_MAX / 2) {
		error_set(EINVAL, "dma_alloc_coherent of %zu bytes: it takes 1 to %zu", size,
			  SIZE_MAX / 2);
		return NULL;
	}
	if (take_aligned(arena, tenant, size, gfp, &first))
		return NULL;
	first->coherent_size = size;
	vaddr = pagemap_address(&arena->pagemap, first);
	memset(vaddr, 0, align_up(size, ARENA_PAGE));
	*handle = chunk_dma(first->chunk, vaddr);
	return vaddr;
}

struct claim {
	size_t size, real_size;
	const void *vaddr;
	dma_addr_t handle, real_handle;
};

static bool claim_holds(struct page *first, void *context)
{
	struct claim *claim = context;

	claim->real_size = first->coherent_size;
	claim->real_handle = chunk_dma(first->chunk, claim->vaddr);
	return claim->size == claim->real_size && claim->handle == claim->real_handle;
}

void coherent_free(struct arena *arena, struct arena_tenant *tenant, const char *name, size_t size,
		   void *vaddr, dma_addr_t handle)
{
	struct claim claim = {.size = size, .vaddr = vaddr, .handle = handle};

	if (!vaddr)
		return;
	if (arena_give_if(arena, tenant, vaddr, claim_holds, &claim)) {
		if (size > COHERENT_KEEP_MAX)
			arena_trim(arena, ARENA_RESERVE_PAGES);
		return;
	}
	if (!claim.real_size)
		log_line(DMALAND_LOG_ERR,
			 "%s: device driver frees DMA memory it has not allocated "
			 "[cpu address=%p] [device address=0x%llx] [size=%zu bytes]",
			 name, vaddr, (unsigned long long)handle, size);
	else if (claim.size != claim.real_size)
		log_line(DMALAND_LOG_ERR,
			 "%s: device driver frees DMA memory with different size "
			 "[device address=0x%llx] [alloc size=%zu bytes] [free size=%zu bytes]",
			 name, (unsigned long long)handle, claim.real_size, size);
	else
		log_line(DMALAND_LOG_ERR,
			 "%s: device driver frees DMA memory with different device address "
			 "[cpu address=%p] [alloc device address=0x%llx] [free device "
			 "address=0x%llx]",
			 name, vaddr, (unsigned long long)claim.real_handle,
			 (unsigned long long)handle);
}
