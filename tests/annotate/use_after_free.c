/* SPDX-License-Identifier: MIT */
/*
 * use_after_free.c - a program as a user would write it, for test_annotate.c to run as a child
 *
 * Built with AddressSanitizer, or run by Valgrind, on a library that knows of neither.
 */
#include <dmaland/dmaland.h>

#include <stdio.h>
#include <string.h>

enum { BLOCKS = 200 };

static int fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, dmaland_last_error());
	return 1;
}

/* Nothing that is wrong. */
static int use_well(struct dma_pool *pool)
{
	static void *blocks[BLOCKS];
	static dma_addr_t handles[BLOCKS];
	int zeroes = 0;

	for (int round = 0; round < 3; round++) {
		if (dmaland_pool_alloc_bulk(pool, GFP_KERNEL | __GFP_ZERO, BLOCKS, blocks,
					    handles) != BLOCKS)
			return fail("dmaland_pool_alloc_bulk");
		for (int i = 0; i < BLOCKS; i++) {
			for (int k = 0; k < 100; k++)
				zeroes += ((char *)blocks[i])[k] == 0;
			memset(blocks[i], i, 100);
		}
		for (int i = 0; i < BLOCKS; i += 2)
			dma_pool_free(pool, blocks[i], handles[i]);
		for (int i = 0; i < BLOCKS; i += 2)
			blocks[i] = dma_pool_alloc(pool, GFP_ATOMIC, &handles[i]);
		for (int i = 0; i < BLOCKS; i++)
			memset(blocks[i], i, 100);
		if (dmaland_pool_check(pool) > 0)
			return fail("dmaland_pool_check");
		dmaland_pool_free_bulk(pool, BLOCKS, blocks, handles);
		dmaland_pool_trim(pool);
	}
	return zeroes != 3 * 100 * BLOCKS;
}

static int use_after_free(struct dma_pool *pool)
{
	dma_addr_t handle;
	volatile char *block = dma_pool_zalloc(pool, GFP_KERNEL, &handle);

	if (!block)
		return fail("dma_pool_zalloc");
	printf("%d\n", __LINE__ + 3);
	fflush(stdout);
	dma_pool_free(pool, (void *)block, handle);
	return block[17];
}

/* What no block of the pool was ever made of is not to be touched either. */
static int use_before_alloc(struct dma_pool *pool)
{
	dma_addr_t handle;
	volatile char *block = dma_pool_zalloc(pool, GFP_KERNEL, &handle);

	if (!block)
		return fail("dma_pool_zalloc");
	printf("%d\n", __LINE__ + 2);
	fflush(stdout);
	block[200] = 1;
	dma_pool_free(pool, (void *)block, handle);
	return 0;
}

/* Memory of a pool that is gone serves others: coherent memory, and another pool. */
static int use_again(struct dmaland_device *dev)
{
	dma_addr_t handle;
	char *memory = dma_alloc_coherent(dev, 256 << 10, &handle, GFP_KERNEL);

	if (!memory)
		return fail("dma_alloc_coherent");
	memset(memory, 0, 256 << 10);
	dma_free_coherent(dev, 256 << 10, memory, handle);
	return 0;
}

int main(int argc, char **argv)
{
	struct dmaland_device *dev = dmaland_open("soft:", NULL);
	struct dma_pool *pool = dev ? dma_pool_create("children", dev, 100, 4, 0) : NULL;
	const char *what = argc > 1 ? argv[1] : "";
	int status;

	if (!pool)
		return fail("dma_pool_create");
	if (!strcmp(what, "use_after_free"))
		status = use_after_free(pool);
	else if (!strcmp(what, "use_before_alloc"))
		status = use_before_alloc(pool);
	else
		status = use_well(pool);
	dma_pool_destroy(pool);
	status |= use_again(dev);
	dmaland_close(dev);
	return status;
}
