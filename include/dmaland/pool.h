/* SPDX-License-Identifier: MIT */
/*
 * pool.h - dma_pool: small coherent blocks of one size, with alignment and boundary
 */
#ifndef DMALAND_POOL_H
#define DMALAND_POOL_H

#include <dmaland/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct dma_pool;

/**
 * dma_pool_create() - make a pool of coherent blocks
 * @name:     for messages and statistics; copied, cut to 31 characters
 * @dev:      the device that will see the blocks
 * @size:     bytes of a block: 1 to INT_MAX; raised to 16, then rounded up to a multiple of @align
 * @align:    alignment of each block's dma address: a power of two, or 0 for 1
 * @boundary: no block crosses a multiple of this dma address: a power of two, not below the
 *            rounded size; 0: none
 *
 * Memory is taken from the device by the slab: up to 64 blocks and 128 KiB, or one block where that is larger.
 * A thread's first slab of a pool is one page, or as many as hold a block. Each thread has slabs of its own; at a limit
 * of memory GFP_KERNEL takes those that other threads have idle. Limits are
 * checked in the kernel's order: dev, align, size, boundary.
 *
 * Context: any thread, no signal handler; makes system calls.
 * Return: the pool, or NULL with errno EINVAL or ENOMEM.
 */
struct dma_pool *dma_pool_create(const char *name, struct dmaland_device *dev, size_t size,
				 size_t align, size_t boundary);

/**
 * dma_pool_create_node() - dma_pool_create() with a wish where the pool's bookkeeping should lie
 * @name:     as above
 * @dev:      as above
 * @size:     as above
 * @align:    as above
 * @boundary: as above
 * @node:     a NUMA node; not acted on, and any value will do
 *
 * As in the kernel, @node is not about the blocks: they lie where the device's memory lies, see
 * struct dmaland_info. The pool's own bookkeeping is a few KiB, and 128 bytes for each thread that uses it,
 * and goes where the thread that touches it first runs, or has a policy for (set_mempolicy(2)).
 */
struct dma_pool *dma_pool_create_node(const char *name, struct dmaland_device *dev, size_t size,
				      size_t align, size_t boundary, int node);

/**
 * dma_pool_destroy() - end a pool
 * @pool: the pool, or NULL
 *
 * Pages with no block in use go back to the device. If blocks are in use this is reported, and
 * their pages stay mapped until the device is closed.
 *
 * Context: no other thread may use the pool any more.
 */
void dma_pool_destroy(struct dma_pool *pool);

/**
 * dma_pool_alloc() - take a block from a pool
 * @pool:   the pool, from dma_pool_create()
 * @gfp:    GFP_KERNEL may grow the pool by system calls; GFP_ATOMIC never enters the kernel, unless
 *          options.atomic_may_grow is set; __GFP_ZERO clears the block
 * @handle: where the block's dma address goes; untouched on failure
 *
 * The block is aligned as the pool was told, does not cross its boundary, and its content is
 * undefined unless __GFP_ZERO is given.
 *
 * 1023 threads have slabs of their own. Those beyond share some under a lock, as all do in debug mode. They sleep for it
 * by system calls where another thread holds it for long, with GFP_ATOMIC too.
 *
 * Context: any thread, no signal handler.
 * Return: the block's address, or NULL with errno ENOMEM (nothing left that @gfp allows to take).
 */
void *dma_pool_alloc(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle);

/** dma_pool_zalloc() - dma_pool_alloc() with __GFP_ZERO. */
static inline void *dma_pool_zalloc(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle)
{
	return dma_pool_alloc(pool, gfp | __GFP_ZERO, handle);
}

/**
 * dma_pool_free() - give a block back
 * @pool:   the pool it came from
 * @vaddr:  its address
 * @handle: its dma address
 *
 * Always checked: @vaddr is the start of a block of this pool, @handle is its dma address, and it
 * is not free already. What fails is reported in the kernel's words and dropped.
 *
 * Context: any thread, no signal handler; never fails, never allocates, never enters the kernel, but where threads
 * share slabs: dma_pool_alloc().
 */
void dma_pool_free(struct dma_pool *pool, void *vaddr, dma_addr_t handle);

/**
 * dmaland_pool_alloc_bulk() - take several blocks
 * @pool:    the pool
 * @gfp:     as for dma_pool_alloc()
 * @n:       how many
 * @vaddrs:  where their addresses go
 * @handles: where their dma addresses go
 *
 * Context: any thread, no signal handler.
 * Return: how many there are, from the arrays' start; fewer than @n with errno ENOMEM.
 */
size_t dmaland_pool_alloc_bulk(struct dma_pool *pool, gfp_t gfp, size_t n, void **vaddrs,
			       dma_addr_t *handles);

/**
 * dmaland_pool_free_bulk() - give several blocks back, each as dma_pool_free() does
 * @pool:    the pool
 * @n:       how many
 * @vaddrs:  their addresses
 * @handles: their dma addresses
 *
 * Context: any thread, no signal handler; never enters the kernel.
 */
void dmaland_pool_free_bulk(struct dma_pool *pool, size_t n, void **vaddrs,
			    const dma_addr_t *handles);

/**
 * dmaland_pool_prefill() - have blocks that GFP_ATOMIC is certain of
 * @pool: the pool
 * @n:    how many; 0 gives all of them back
 *
 * This thread's next @n allocations with GFP_ATOMIC can't fail: each takes one of its prefilled blocks when there is
 * nothing else. A call with a larger or smaller @n adds blocks or gives some back. They count as in use, and nobody
 * else takes them; when the thread has ended, dmaland_pool_trim() gives them back, or a later thread has them that
 * takes over its slabs. The kernel has the like in its
 * prefilled sheaves (linux/slab.h, kmem_cache_prefill_sheaf()).
 *
 * Context: any thread, no signal handler; makes system calls.
 * Return: 0, or -ENOMEM, and what was prefilled stays; -EINVAL without a pool; -EAGAIN when 1023 other threads that use
 * pools are alive; -EPERM in a child after fork().
 */
int dmaland_pool_prefill(struct dma_pool *pool, size_t n);

/**
 * dmaland_pool_trim() - give idle pages back
 * @pool: the pool
 *
 * Slabs without a block in use go to the device's memory: this thread's, those that other threads have idle, and
 * those of threads that ended. What is idle there, but for a reserve, goes to the system. Another thread's current slab
 * stays with it.
 *
 * Context: any thread, no signal handler; makes system calls.
 */
void dmaland_pool_trim(struct dma_pool *pool);

/**
 * dmaland_pool_check() - look for blocks that were written to while nobody had them, or beyond an end
 * @pool: a pool in debug mode
 *
 * In debug mode free blocks are filled with 0xa7 and what is handed out with 0xa9; a red zone of at
 * least 8 bytes lies behind each block, and before all but the first of a page. They are looked at
 * by each allocation and free, by dma_pool_destroy(), and here. Messages name the call sites of the
 * last allocation and free as PROGRAM+0x1234, which addr2line(1) takes; dma_pool_destroy() names
 * those who have blocks yet. All frees that race are told apart.
 *
 * It is decided when a pool is made: by pool_debug in the device's struct dmaland_options, or by the
 * environment variable DMALAND_POOL_DEBUG, which is 1, or names of pools with commas between them.
 * The pool then works under a lock, and takes up to twice the memory, four times for blocks of 16 bytes; from 4081
 * bytes a block on, a page more for each.
 *
 * Context: any thread, no signal handler; what others do meanwhile with the pool is no corruption.
 * Return: how many blocks are corrupted, each reported in the log; -EOPNOTSUPP when the pool is not
 * in debug mode; -ENOMEM.
 */
int dmaland_pool_check(struct dma_pool *pool);

/**
 * struct dmaland_pool_stats - figures of one pool
 * @name:       its name
 * @block_size: bytes of a block, rounded
 * @in_use:     blocks handed out, and prefilled; exact while no thread allocates or frees
 * @total:      blocks in the pool's slabs
 * @pages:      pages of 4 KiB that the pool holds
 * @parked:     free blocks in slabs of threads; other threads take those of idle slabs when memory runs short
 * @high_water: the most blocks that the pool ever had
 * @grows:      how often the pool took memory
 * @refused:    allocations that failed
 * @bad_frees:  frees that were reported and dropped
 */
struct dmaland_pool_stats {
	char name[32];
	size_t block_size, in_use, total, pages;
	size_t parked, high_water, grows, refused, bad_frees;
};

/** dmaland_pool_get_stats() - the figures of one pool. */
void dmaland_pool_get_stats(struct dma_pool *pool, struct dmaland_pool_stats *stats);

/**
 * dmaland_get_pools() - the figures of a device's pools
 * @dev:   the device
 * @stats: array for them
 * @n:     its length
 *
 * Return: how many pools there are, also when more than @n; 0 with errno EPERM in a child after fork().
 */
size_t dmaland_get_pools(struct dmaland_device *dev, struct dmaland_pool_stats *stats, size_t n);

/**
 * dmaland_show_pools() - the same as text, in the format of the kernel's sysfs file `pools`
 * @dev:  the device
 * @text: buffer; always ends in a NUL when @size is not 0
 * @size: its bytes
 *
 * The first line is `poolinfo - 0.1`, then one line a pool: name, blocks in use, blocks in all,
 * block size, pages.
 *
 * Return: the length of the whole text, as snprintf() does; 0 with errno EPERM in a child after fork().
 */
size_t dmaland_show_pools(struct dmaland_device *dev, char *text, size_t size);

#ifdef __cplusplus
}
#endif

#endif
