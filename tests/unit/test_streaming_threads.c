/* SPDX-License-Identifier: MIT */
/*
 * test_streaming_threads.c - many threads map, sync, unmap, register and flush on one device
 *
 * What each does is checked by data: where the device has a copy, syncing for the CPU brings back
 * what was there when the memory was mapped.
 */
#include "test.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "fake_domain.h"
#include "streaming/streaming_internal.h"

enum { WORKERS = 12, STEPS = 4000, SLOTS = 8, AREA = 65536 };

static struct fake_place place;
static struct streaming *const s = &place.streaming;
static char areas[WORKERS][SLOTS][AREA] __attribute__((aligned(4096)));
static char shared_area[8 * AREA] __attribute__((aligned(4096)));
static unsigned int mistakes;

struct held {
	dma_addr_t dma;
	size_t size;
	enum dma_data_direction dir;
};

static void check(bool holds)
{
	if (!holds)
		__atomic_fetch_add(&mistakes, 1, __ATOMIC_RELAXED);
}

static void map_one(struct held *held, char *area, uint64_t *seed)
{
	held->size = 1 + random_below(seed, random_below(seed, 2) ? 2000 : AREA - 1);
	held->dir = (enum dma_data_direction)random_below(seed, 3);
	area[0] = area[held->size - 1] = 'm';
	held->dma = streaming_map(s, area, held->size, held->dir, 0);
	check(held->dma != DMA_MAPPING_ERROR);
}

static void end_one(struct held *held, char *area)
{
	if (streaming_need_sync(s, held->dma) && held->dir != DMA_TO_DEVICE) {
		area[held->size - 1] = 'x';
		streaming_sync(s, held->dma + held->size - 1, 1, held->dir, false);
		check(area[held->size - 1] == 'm');
		area[0] = 'x';
	}
	streaming_unmap(s, held->dma, held->size, held->dir, 0);
	check(area[0] == 'm' || held->dir == DMA_TO_DEVICE || held->size == 1);
	held->size = 0;
}

static void *work(void *context)
{
	size_t me = (size_t)(uintptr_t)context;
	struct held held[SLOTS] = {{0}};
	uint64_t seed = me + 1;

	for (int step = 0; step < STEPS; step++) {
		size_t i = random_below(&seed, SLOTS);

		if (held[i].size)
			end_one(&held[i], areas[me][i]);
		else
			map_one(&held[i], areas[me][i], &seed);
		if (step % 500 == 0)
			streaming_flush(s);
	}
	for (size_t i = 0; i < SLOTS; i++)
		if (held[i].size)
			end_one(&held[i], areas[me][i]);
	return NULL;
}

/* Registers and unregisters memory beside others that are being looked up. */
static void *registrar(void *context)
{
	size_t me = (size_t)(uintptr_t)context;
	char *mine = shared_area + me * (AREA / 2) + 100;

	for (int i = 0; i < STEPS / 8; i++) {
		dma_addr_t dma;

		check(streaming_register(s, mine, AREA / 2) == 0);
		dma = streaming_map(s, mine + 5, AREA / 2 - 5, DMA_BIDIRECTIONAL, 0);
		check(dma != DMA_MAPPING_ERROR);
		streaming_unmap(s, dma, AREA / 2 - 5, DMA_BIDIRECTIONAL, 0);
		check(streaming_unregister(s, mine) == 0);
	}
	return NULL;
}

static void run_threads(enum fake_kind kind, struct streaming_options options)
{
	pthread_t threads[WORKERS + 4];
	struct dmaland_streaming_stats stats;

	fake_streaming_open(&place, kind, &options);
	for (size_t i = 0; i < WORKERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, work, (void *)i), 0);
	for (size_t i = 0; i < 4 && kind != FAKE_PLAIN; i++)
		assert_int_equal(pthread_create(&threads[WORKERS + i], NULL, registrar, (void *)i),
				 0);
	for (size_t i = 0; i < WORKERS + (kind != FAKE_PLAIN ? 4 : 0); i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(mistakes, 0);
	assert_string_equal(log_text(), "");
	assert_int_equal(streaming_live(s), 0);
	streaming_get_stats(s, &stats);
	assert_int_equal(stats.failed + stats.bad_calls, 0);
	fake_streaming_close(&place);
}

static void threads_do_not_disturb_each_other(void **state)
{
	(void)state;
	run_threads(FAKE_PLAIN, (struct streaming_options){0});
	run_threads(FAKE_MAPS, (struct streaming_options){0});
	run_threads(FAKE_MAPS, (struct streaming_options){.lazy = true, .lazy_count = 64});
	run_threads(FAKE_SHADOW, (struct streaming_options){.lazy = true});
}

/* ---- addresses that become unusable ---- */

enum { MAPPERS = 4 };

static unsigned int mappers_done;

static void *map_and_unmap(void *context)
{
	uint64_t seed = (uintptr_t)context + 1;
	struct held held[SLOTS] = {{0}};

	for (size_t i = 0; i < 3 * STEPS; i++) {
		size_t k = random_below(&seed, SLOTS);

		if (held[k].size)
			end_one(&held[k], areas[(uintptr_t)context][k]);
		else
			map_one(&held[k], areas[(uintptr_t)context][k], &seed);
	}
	for (size_t k = 0; k < SLOTS; k++)
		if (held[k].size)
			end_one(&held[k], areas[(uintptr_t)context][k]);
	__atomic_fetch_add(&mappers_done, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* What is usable stays so here: it is for what becomes of the slabs. */
static void slabs_are_retired_while_threads_map(void **state)
{
	static const struct iova_range usable = {0x1000, UINT64_MAX - 1};
	struct domain *domain = &place.fake.domain;
	pthread_t threads[MAPPERS];

	(void)state;
	for (size_t lazy = 0; lazy < 2; lazy++) {
		const struct streaming_options options = {
			.copy_below = 1, .lazy = lazy, .lazy_count = 64};
		uint64_t before;

		fake_streaming_open(&place, FAKE_MAPS, &options);
		before = iova_space_free(&domain->iova, UINT64_MAX);
		mappers_done = 0;
		for (size_t i = 0; i < MAPPERS; i++)
			assert_int_equal(
				pthread_create(&threads[i], NULL, map_and_unmap, (void *)i), 0);
		while (__atomic_load_n(&mappers_done, __ATOMIC_ACQUIRE) < MAPPERS) {
			pthread_mutex_lock(&domain->lock);
			assert_int_equal(iova_space_restrict(&domain->iova, &usable, 1), 0);
			pthread_mutex_unlock(&domain->lock);
			sched_yield();
		}
		for (size_t i = 0; i < MAPPERS; i++)
			pthread_join(threads[i], NULL);
		assert_int_equal(mistakes, 0);
		streaming_flush(s);
		iova_cache_trim(&s->iova);
		assert_true(iova_space_free(&domain->iova, UINT64_MAX) == before);
		assert_int_equal(domain->iova.count, 1);
		fake_streaming_close(&place);
	}
}

/* ---- threads that end ---- */

static void *bounce_some(void *context)
{
	dma_addr_t dma[10];

	for (size_t i = 0; i < 10; i++) {
		dma[i] = streaming_map(s, areas[0][0], 64 << i % 3, DMA_TO_DEVICE, 0);
		check(dma[i] != DMA_MAPPING_ERROR);
	}
	for (size_t i = 0; i < 10; i++)
		streaming_unmap(s, dma[i], 64 << i % 3, DMA_TO_DEVICE, 0);
	if (context)
		__atomic_fetch_add((unsigned int *)context, 1, __ATOMIC_RELEASE);
	return NULL;
}

static size_t blocks_in_use(void)
{
	struct dmaland_pool_stats stats[BOUNCE_CLASSES];
	size_t n = pool_list_stats(&s->pool_list, stats, BOUNCE_CLASSES), in_use = 0;

	while (n)
		in_use += stats[--n].in_use;
	return in_use;
}

static void what_a_thread_that_ended_had_parked_is_the_next_ones_or_goes_with_a_flush(void **state)
{
	size_t most = 0;

	(void)state;
	fake_streaming_open(&place, FAKE_PLAIN, NULL);
	for (size_t i = 0; i < 4 * (size_t)thread_numbers(); i++) {
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, bounce_some, NULL), 0);
		pthread_join(thread, NULL);
		if (!i)
			most = thread_numbers() * blocks_in_use();
	}
	assert_in_range(blocks_in_use(), 1, most);
	bounce_flush(s);
	assert_int_equal(blocks_in_use(), 0);
	assert_int_equal(mistakes, 0);
	fake_streaming_close(&place);
}

static pthread_key_t last_words;

/* Maps in each round of the thread's destructors. */
static void map_while_ending(void *context)
{
	unsigned int *rounds = context;

	if (++*rounds < PTHREAD_DESTRUCTOR_ITERATIONS)
		pthread_setspecific(last_words, rounds);
	bounce_some(NULL);
}

static void *end_with_last_words(void *context)
{
	bounce_some(NULL);
	check(thread_offset);
	pthread_setspecific(last_words, context);
	return NULL;
}

static void a_thread_that_maps_in_its_last_destructor_leaves_nothing(void **state)
{
	(void)state;
	need_last_destructors();
	assert_int_equal(pthread_key_create(&last_words, map_while_ending), 0);
	fake_streaming_open(&place, FAKE_PLAIN, NULL);
	for (int i = 0; i < 24; i++) {
		unsigned int rounds = 0;
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, end_with_last_words, &rounds), 0);
		pthread_join(thread, NULL);
		assert_int_equal(rounds, PTHREAD_DESTRUCTOR_ITERATIONS);
		assert_int_equal(mistakes, 0);
	}
	bounce_flush(s);
	assert_int_equal(blocks_in_use(), 0);
	fake_streaming_close(&place);
	pthread_key_delete(last_words);
}

static void a_device_may_be_closed_while_threads_end_that_have_used_it(void **state)
{
	(void)state;
	for (int round = 0; round < 30; round++) {
		unsigned int done = 0;
		pthread_t threads[WORKERS];

		fake_streaming_open(&place, FAKE_PLAIN, NULL);
		for (int i = 0; i < WORKERS; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, bounce_some, &done), 0);
		while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) < WORKERS)
			sched_yield();
		fake_streaming_close(&place);
		for (int i = 0; i < WORKERS; i++)
			pthread_join(threads[i], NULL);
	}
	assert_int_equal(mistakes, 0);
	assert_string_equal(log_text(), "");
}

static dma_addr_t contested;

static void *unmap_contested(void *context)
{
	(void)context;
	streaming_unmap(s, contested, 8192, DMA_TO_DEVICE, 0);
	return NULL;
}

static void of_unmaps_that_race_for_a_mapping_one_finds_it(void **state)
{
	(void)state;
	fake_streaming_open(&place, FAKE_MAPS, NULL);
	for (int round = 0; round < 200; round++) {
		struct dmaland_streaming_stats stats;
		pthread_t threads[3];

		contested = streaming_map(s, areas, 8192, DMA_TO_DEVICE, 0);
		for (int i = 0; i < 3; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, unmap_contested, NULL),
					 0);
		for (int i = 0; i < 3; i++)
			pthread_join(threads[i], NULL);
		streaming_get_stats(s, &stats);
		assert_int_equal(stats.bad_calls, 2 * (round + 1));
		assert_int_equal(stats.live_mapped, 0);
		log_clear();
	}
	fake_streaming_close(&place);
}

/* ---- devices that come and go ---- */

static void second_come_and_go(struct streaming *second, struct dma_limits *limits,
			       struct arena_tenant *orphans)
{
	static const struct streaming_options strict;
	char *mine = shared_area + 7 * AREA;
	dma_addr_t dma;

	assert_int_equal(streaming_init(second, place.space, limits, orphans, "second", &strict),
			 0);
	assert_int_equal(streaming_register(second, mine, AREA / 2), 0);
	dma = streaming_map(second, areas[0][1], AREA, DMA_TO_DEVICE, 0);
	assert_true(dma != DMA_MAPPING_ERROR);
	streaming_unmap(second, dma, AREA, DMA_TO_DEVICE, 0);
	streaming_fini(second);
}

static void a_device_may_leave_while_another_maps_and_registers(void **state)
{
	static struct streaming second;
	static struct dma_limits limits = {.streaming_mask = DMA_BIT_MASK(64),
					   .coherent_mask = DMA_BIT_MASK(64)};
	struct arena_tenant orphans = {.limits = &limits};
	pthread_t threads[6];

	(void)state;
	fake_streaming_open(&place, FAKE_MAPS, NULL);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, i < 4 ? registrar : work, (void *)i), 0);
	for (int i = 0; i < 200; i++)
		second_come_and_go(&second, &limits, &orphans);
	for (size_t i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(mistakes, 0);
	assert_string_equal(log_text(), "");
	fake_streaming_close(&place);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_do_not_disturb_each_other),
		cmocka_unit_test(slabs_are_retired_while_threads_map),
		cmocka_unit_test(
			what_a_thread_that_ended_had_parked_is_the_next_ones_or_goes_with_a_flush),
		cmocka_unit_test(a_thread_that_maps_in_its_last_destructor_leaves_nothing),
		cmocka_unit_test(a_device_may_be_closed_while_threads_end_that_have_used_it),
		cmocka_unit_test(of_unmaps_that_race_for_a_mapping_one_finds_it),
		cmocka_unit_test(a_device_may_leave_while_another_maps_and_registers),
	};

	log_capture();
	return cmocka_run_group_tests_name("streaming: threads", tests, NULL, NULL);
}
