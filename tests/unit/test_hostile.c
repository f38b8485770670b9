/* SPDX-License-Identifier: MIT */
/*
 * test_hostile.c - a device that writes wherever it can does not hurt the allocator
 *
 * One thread plays the device: it writes random bytes all over the domain's memory, into blocks that
 * are out and into free ones alike, while others allocate and free. Each block that is handed out
 * must be aligned, inside the memory, and nobody else's at that time, which is kept in a table that
 * the device can't reach. The kernel's algorithm, with its list in the blocks, is put through the
 * same and must fail: it runs in a child, since it may well crash.
 */
#include "test.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_domain.h"
#include "kernel_pool.h"

enum { WORKERS = 3, LIVE = 300, STEPS = 2000000, BLOCK = 64 };

typedef void *alloc_function(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle);
typedef void free_function(struct dma_pool *pool, void *vaddr, dma_addr_t handle);

static struct fake_place place;
static atomic_bool stop;
static atomic_int wrong;
static atomic_uchar *taken; /* a byte for each block that fits into memory */
static char *memory;
static size_t memory_size;

struct worker {
	struct dma_pool *pool;
	alloc_function *alloc;
	free_function *release;
	uint64_t seed;
};

/* The data are written by plain stores, as a device's are; that this races is the point. */
__attribute__((no_sanitize("thread"))) static void *device(void *context)
{
	uint64_t seed = 99;

	(void)context;
	while (!atomic_load(&stop)) {
		size_t at = random_below(&seed, memory_size / 8);

		((volatile uint64_t *)(void *)memory)[at] = random_next(&seed);
	}
	return NULL;
}

static bool block_is_sound(const char *block, dma_addr_t handle)
{
	size_t offset = (size_t)(block - memory);

	return block >= memory && offset < memory_size && offset % BLOCK == 0 &&
	       arena_translate(place.arena, &place.limits, block, BLOCK) == handle &&
	       atomic_exchange(&taken[offset / BLOCK], 1) == 0;
}

static void give_back(struct worker *w, char *block, dma_addr_t handle)
{
	atomic_store(&taken[(size_t)(block - memory) / BLOCK], 0);
	w->release(w->pool, block, handle);
}

static void *work(void *context)
{
	struct worker *w = context;
	char *blocks[LIVE] = {0};
	dma_addr_t handles[LIVE];

	for (int step = 0; step < STEPS && !atomic_load(&wrong); step++) {
		size_t i = random_below(&w->seed, LIVE);

		if (blocks[i]) {
			give_back(w, blocks[i], handles[i]);
			blocks[i] = NULL;
			continue;
		}
		blocks[i] = w->alloc(w->pool, GFP_KERNEL, &handles[i]);
		if (blocks[i] && !block_is_sound(blocks[i], handles[i])) {
			atomic_store(&wrong, 1);
			blocks[i] = NULL;
		}
	}
	for (size_t i = 0; i < LIVE; i++)
		if (blocks[i] && !atomic_load(&wrong))
			give_back(w, blocks[i], handles[i]);
	return NULL;
}

/* One chunk is all there is, so that the device can write to all of it. */
static void memory_prepare(void)
{
	static const struct iova_range range = {0x400000, 0x7fffff};
	struct page *run;

	fake_place_open(&place, &range, 1);
	memory_size = 4 << 20;
	assert_int_equal(arena_take(place.arena, &place.coherent, memory_size, memory_size,
				    GFP_KERNEL, &run),
			 0);
	memory = pagemap_address(&place.arena->pagemap, run);
	arena_give(place.arena, run);
}

static int run(struct dma_pool *pool, alloc_function *alloc, free_function *release)
{
	struct worker workers[WORKERS];
	pthread_t threads[WORKERS], writer;

	taken = calloc(memory_size / BLOCK, 1);
	assert_non_null(taken);
	assert_int_equal(pthread_create(&writer, NULL, device, NULL), 0);
	for (int i = 0; i < WORKERS; i++) {
		workers[i] = (struct worker){pool, alloc, release, 1 + (uint64_t)i};
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (int i = 0; i < WORKERS; i++)
		pthread_join(threads[i], NULL);
	atomic_store(&stop, true);
	pthread_join(writer, NULL);
	free(taken);
	return atomic_load(&wrong);
}

static void blocks_stay_sound_while_the_device_writes_everywhere(void **state)
{
	struct dma_pool *pool;
	struct dmaland_pool_stats stats;

	(void)state;
	memory_prepare();
	pool = pool_create("hostile", &place.place, BLOCK, BLOCK, 0);
	assert_int_equal(run(pool, dma_pool_alloc, dma_pool_free), 0);
	dmaland_pool_get_stats(pool, &stats);
	assert_int_equal(stats.in_use, 0);
	assert_int_equal(stats.bad_frees, 0);
	assert_string_equal(log_text(), "");
	dma_pool_destroy(pool);
	fake_place_close(&place);
}

static void the_kernels_algorithm_does_not_survive_it(void **state)
{
	int status;
	pid_t child;

	(void)state;
	child = fork();
	if (child == 0) {
		struct rlimit no_core = {0, 0};
		struct dma_pool *pool;

		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		alarm(patience(60)); /* a list that was made a ring never ends */
		memory_prepare();
		pool = kernel_pool_create("hostile", &place.place, BLOCK, BLOCK, 0);
		_exit(run(pool, kernel_pool_alloc, kernel_pool_free) ? 1 : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_not_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_kernels_algorithm_does_not_survive_it),
		cmocka_unit_test(blocks_stay_sound_while_the_device_writes_everywhere),
	};

	log_capture();
	return cmocka_run_group_tests_name("hostile device", tests, NULL, NULL);
}
