/* SPDX-License-Identifier: MIT */
/*
 * test_streaming_bounce.c - memory that is copied: calls that race, registers beside it, and no system calls
 */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "backend/mmio.h"
#include "base/error.h"
#include "fake_domain.h"
#include "streaming/streaming_internal.h"

enum { AREA = 1 << 20, PAGE = 4096 };

static struct fake_place place;
static struct streaming *const s = &place.streaming;
static char area[AREA] __attribute__((aligned(4096)));

/* ---- unmaps that race ---- */

static struct {
	pthread_barrier_t barrier;
	dma_addr_t dma;
	size_t size;
	int rounds;
} race;

static void *unmap_in_rounds(void *context)
{
	for (int i = 0; i < race.rounds; i++) {
		pthread_barrier_wait(&race.barrier);
		streaming_unmap(s, race.dma, race.size, DMA_BIDIRECTIONAL, 0);
		pthread_barrier_wait(&race.barrier);
	}
	return context;
}

/* A copy with an offset in its block, larger than what threads keep: each has the low bits of the original. */
static void of_unmaps_that_race_for_a_large_copy_one_finds_it(void **state)
{
	char *const ptr = area + 100;
	struct dmaland_streaming_stats stats;
	pthread_t other;

	(void)state;
	fake_streaming_open(&place, FAKE_PLAIN,
			    &(struct streaming_options){.copy_below = BOUNCE_MAX});
	assert_int_equal(streaming_set_min_align(s, PAGE - 1), 0);
	race.size = 900000;
	race.rounds = 300;
	pthread_barrier_init(&race.barrier, NULL, 2);
	assert_int_equal(pthread_create(&other, NULL, unmap_in_rounds, NULL), 0);
	for (int i = 0; i < race.rounds; i++) {
		race.dma = streaming_map(s, ptr, race.size, DMA_BIDIRECTIONAL, 0);
		assert_true(race.dma != DMA_MAPPING_ERROR);
		assert_int_equal(race.dma & (PAGE - 1), 100);
		pthread_barrier_wait(&race.barrier);
		streaming_unmap(s, race.dma, race.size, DMA_BIDIRECTIONAL, 0);
		pthread_barrier_wait(&race.barrier);
		streaming_get_stats(s, &stats);
		assert_int_equal(stats.live_bounced, 0);
		assert_int_equal(stats.bad_calls, i + 1);
		log_clear();
	}
	pthread_join(other, NULL);
	pthread_barrier_destroy(&race.barrier);
	fake_streaming_close(&place);
}

/* ---- registers ---- */

static char *memory_and_window;

static int window_behind_memory(struct pci_function *function, unsigned int bar, uint64_t *size,
				void **direct)
{
	(void)function;
	(void)bar;
	*size = PAGE;
	*direct = memory_and_window + PAGE;
	return 0;
}

static void memory_that_runs_into_registers_is_not_mapped(void **state)
{
	static const struct {
		enum fake_kind kind;
		struct streaming_options options;
	} cases[] = {
		{FAKE_PLAIN, {.copy_below = BOUNCE_MAX}},
		{FAKE_PLAIN, {.debug = true}},
		{FAKE_MAPS, {0}},
		{FAKE_MAPS, {.untrusted = true}},
		{FAKE_SHADOW, {0}},
	};
	static const struct pci_function_ops ops = {.bar = window_behind_memory};
	struct pci_function function = {.ops = &ops, .name = "fake"};
	void *window;

	(void)state;
	memory_and_window =
		mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(memory_and_window != MAP_FAILED);
	window = mmio_open(&function, 0, PAGE);
	assert_non_null(window);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct scatterlist sg[2];

		fake_streaming_open(&place, cases[i].kind, &cases[i].options);
		for (size_t before = 1; before <= PAGE; before = 4 * before) {
			char *ptr = memory_and_window + PAGE - before;

			assert_true(streaming_map(s, ptr, before + 1, DMA_TO_DEVICE, 0) ==
				    DMA_MAPPING_ERROR);
			assert_int_equal(errno, EINVAL);
			assert_non_null(strstr(error_last(), "registers"));
		}
		sg_init_table(sg, 2);
		sg_set_buf(&sg[0], memory_and_window, PAGE);
		sg_set_buf(&sg[1], memory_and_window + PAGE, PAGE);
		assert_int_equal(streaming_map_sg(s, sg, 2, DMA_TO_DEVICE, 0), -EINVAL);
		fake_streaming_close(&place);
	}
	mmio_close(&function, window);
	munmap(memory_and_window, 2 * PAGE);
}

/* ---- no system calls ---- */

static size_t mapped;

/* As many as there is memory for, and unmaps them. */
static void *map_all(void *context)
{
	static dma_addr_t dma[8192];
	size_t size = *(size_t *)context;

	for (mapped = 0; mapped < 8192; mapped++) {
		dma[mapped] = streaming_map(s, area, size, DMA_TO_DEVICE, 0);
		if (dma[mapped] == DMA_MAPPING_ERROR)
			break;
	}
	for (size_t i = 0; i < mapped; i++)
		streaming_unmap(s, dma[i], size, DMA_TO_DEVICE, 0);
	return NULL;
}

static void *run_in_a_thread(void *(*run)(void *), void *context)
{
	pthread_t thread;
	void *result;

	assert_int_equal(pthread_create(&thread, NULL, run, context), 0);
	pthread_join(thread, &result);
	return result;
}

/* All but what a thread keeps. Bookkeeping that it keeps as well is no limit. */
static void what_a_thread_unmapped_another_one_has_without_system_calls(void **state)
{
	static const size_t sizes[] = {64, 512, 2048};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		size_t size = sizes[i], most;

		fake_streaming_open(&place, FAKE_PLAIN,
				    &(struct streaming_options){.no_syscalls = true});
		map_all(&size);
		most = mapped;
		run_in_a_thread(map_all, &size);
		assert_true(most > 2 * 64 + STACK_MAX);
		assert_in_range(mapped, most - 2 * 64 - STACK_MAX, 8192);
		fake_streaming_close(&place);
	}
}

/* One after the other, since GFP_ATOMIC may find the arena's lock taken; and none ends before all have begun. */
static void *map_and_unmap(void *context)
{
	static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
	dma_addr_t dma;

	pthread_mutex_lock(&turn);
	dma = streaming_map(s, area, *(size_t *)context, DMA_TO_DEVICE, 0);
	if (dma != DMA_MAPPING_ERROR)
		streaming_unmap(s, dma, *(size_t *)context, DMA_TO_DEVICE, 0);
	pthread_mutex_unlock(&turn);
	pthread_barrier_wait(&race.barrier);
	return dma != DMA_MAPPING_ERROR ? NULL : context;
}

static void threads_that_map_a_little_have_what_they_need_without_system_calls(void **state)
{
	enum { MANY = 40 };
	pthread_t threads[MANY];
	size_t size = 64;

	(void)state;
	fake_streaming_open(&place, FAKE_PLAIN, &(struct streaming_options){.no_syscalls = true});
	pthread_barrier_init(&race.barrier, NULL, MANY);
	for (size_t i = 0; i < MANY; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, map_and_unmap, &size), 0);
	for (size_t i = 0; i < MANY; i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	pthread_barrier_destroy(&race.barrier);
	fake_streaming_close(&place);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(of_unmaps_that_race_for_a_large_copy_one_finds_it),
		cmocka_unit_test(memory_that_runs_into_registers_is_not_mapped),
		cmocka_unit_test(what_a_thread_unmapped_another_one_has_without_system_calls),
		cmocka_unit_test(
			threads_that_map_a_little_have_what_they_need_without_system_calls),
	};

	log_capture();
	return cmocka_run_group_tests_name("streaming: bounce", tests, NULL, NULL);
}
