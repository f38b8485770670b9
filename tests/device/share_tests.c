/* SPDX-License-Identifier: MIT */
/*
 * share_tests.c - several engines of soft: in one address space, and several threads
 */
#include "suite.h"
#include "device/device.h"
#include "engine.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

static void
engines_that_share_a_domain_see_the_same_memory_and_have_faults_of_their_own(void **state)
{
	struct dmaland_options options = {.size = sizeof(options)};
	dma_addr_t from, to, mapped;
	char *memory = pages_new(1), *mine, *theirs;
	struct engine a, b;

	(void)state;
	engine_open(&a, device_spec, NULL);
	engine_open(&b, "soft:", &a);
	assert_string_equal(dmaland_name(a.dev), "soft:engine@0");
	assert_string_equal(dmaland_name(b.dev), "soft:engine@1");
	assert_ptr_equal(a.domain, b.domain);
	mine = dma_alloc_coherent(a.dev, PAGE, &from, GFP_KERNEL);
	theirs = dma_alloc_coherent(b.dev, PAGE, &to, GFP_KERNEL);
	assert_true(mine && theirs && from != to);
	strcpy(mine, "shared");
	assert_int_equal(engine_copy(&b, from, to, 7), DMALAND_SOFT_OK);
	assert_string_equal(theirs, "shared");
	mapped = domain_map(a.domain, memory, PAGE, DOMAIN_READ);
	assert_int_equal(engine_fill(&b, mapped, 7, 0), DMALAND_SOFT_FAULT);
	assert_int_equal(engine_fault(&b, 1).reason, DMALAND_SOFT_DIRECTION);
	engine_fault(&a, 0);
	assert_logged("soft:engine@1: DMA fault");

	options.share_with = a.dev;
	assert_null(dmaland_open("soft:,bits=40", &options));
	assert_int_equal(errno, EINVAL);
	assert_error_says("bits is the domain's");
	dma_free_coherent(a.dev, PAGE, mine, from);
	log_clear();
	engine_close(&a); /* the domain stays, with what is mapped */
	assert_int_equal(engine_copy(&b, mapped, to, PAGE), DMALAND_SOFT_OK);
	domain_unmap(b.domain, mapped, PAGE);
	assert_int_equal(engine_copy(&b, mapped, to, PAGE), DMALAND_SOFT_FAULT);
	dma_free_coherent(b.dev, PAGE, theirs, to);
	engine_close(&b);
	pages_free(memory, 1);
	log_clear();
}

enum { RESERVE = 32 };

/* GFP_ATOMIC has it, under the mask. */
static void expect_reserve(struct dmaland_device *dev, uint64_t mask)
{
	dma_addr_t handle[RESERVE];
	void *page[RESERVE];

	for (int i = 0; i < RESERVE; i++) {
		page[i] = dma_alloc_coherent(dev, PAGE, &handle[i], GFP_ATOMIC);
		assert_non_null(page[i]);
		assert_true(handle[i] <= mask);
	}
	for (int i = 0; i < RESERVE; i++)
		dma_free_coherent(dev, PAGE, page[i], handle[i]);
}

static void a_device_that_joins_finds_a_reserve_under_each_mask_that_it_sets(void **state)
{
	struct dmaland_options options = {.size = sizeof(options)};
	struct dmaland_device *dev;
	struct engine e;
	dma_addr_t high;

	(void)state;
	engine_open(&e, device_spec, NULL);
	assert_non_null(dma_alloc_coherent(e.dev, PAGE, &high, GFP_KERNEL));
	options.share_with = e.dev;
	dev = dmaland_open("soft:", &options);
	assert_non_null(dev);
	for (unsigned int bits = 32; bits >= 24; bits -= 8) {
		assert_int_equal(dma_set_mask_and_coherent(dev, DMA_BIT_MASK(bits)), 0);
		expect_reserve(dev, DMA_BIT_MASK(bits));
	}
	dmaland_trim(e.dev); /* what another device has idle, and no more */
	expect_reserve(dev, DMA_BIT_MASK(24));
	dmaland_close(dev);
	engine_close(&e); /* its page is reported */
	log_clear();
}

/* More than a chunk of the usual sizes, where another device's mask is narrower and its reserve is not there. */
static void a_large_request_is_had_again_though_others_have_no_reserve(void **state)
{
	enum { LARGE = 40 << 20, REST = 256 << 10 };
	struct dmaland_options options = {.size = sizeof(options), .memory_limit = LARGE + REST};
	struct dmaland_device *wide = dmaland_open("soft:", &options), *narrow;
	dma_addr_t handle, rest[REST / PAGE];
	void *large;
	int n = 0;

	(void)state;
	assert_non_null(wide);
	assert_int_equal(dma_set_mask_and_coherent(wide, 0x80000fff), 0);
	options = (struct dmaland_options){.size = sizeof(options), .share_with = wide};
	narrow = dmaland_open("soft:", &options);
	assert_non_null(narrow);
	assert_int_equal(dma_set_mask_and_coherent(narrow, 0x7fffffff), 0);
	large = dma_alloc_coherent(wide, LARGE, &handle, GFP_KERNEL);
	assert_non_null(large);
	while (n < REST / PAGE && dma_alloc_coherent(narrow, PAGE, &rest[n], GFP_KERNEL))
		n++;
	assert_int_equal(n, REST / PAGE);
	dma_free_coherent(wide, LARGE, large, handle);
	large = dma_alloc_coherent(wide, LARGE, &handle, GFP_KERNEL);
	if (!large)
		fail_msg("%s", dmaland_last_error());
	dmaland_close(narrow);
	dmaland_close(wide);
	log_clear();
}

static void what_can_never_be_mapped_leaves_the_reserve(void **state)
{
	enum { LIMIT = 64 << 20 };
	const struct dmaland_options options = {.size = sizeof(options), .memory_limit = LIMIT};
	struct dmaland_device *dev = dmaland_open("soft:", &options);
	struct dma_pool *pool = dma_pool_create("pages", dev, PAGE, PAGE, 0);
	char *memory = pages_new(2 * LIMIT / PAGE);

	(void)state;
	assert_non_null(pool);
	assert_true(dma_map_single(dev, memory, 2 * LIMIT, DMA_TO_DEVICE) == DMA_MAPPING_ERROR);
	assert_error_says("memory_limit is 65536 KiB");
	expect_reserve(dev, UINT64_MAX);
	pages_free(memory, 2 * LIMIT / PAGE);
	dma_pool_destroy(pool);
	dmaland_close(dev);
	log_clear();
}

static int no_write(struct pci_function *f, unsigned int where, unsigned int width, uint32_t value)
{
	(void)f, (void)where, (void)width, (void)value;
	return dmaland_set_error(EIO, "stuck");
}

static int no_reset(struct pci_function *f)
{
	(void)f;
	return dmaland_set_error(ENOTTY, "no reset");
}

/* Pages that it was copied through, too, which are idle. */
static void what_a_device_had_that_cannot_be_stopped_is_not_given_to_others(void **state)
{
	static struct dmaland_device *stuck; /* leaked on purpose, and known to the leak checker */
	static struct pci_function_ops ops;
	struct dmaland_options options = {.size = sizeof(options)};
	struct dmaland_device *dev = dmaland_open("soft:", NULL);
	struct dmaland_info before, after;
	static char memory[4 * RESERVE][1000];
	dma_addr_t dma[4 * RESERVE];

	(void)state;
	options.share_with = dev;
	stuck = dmaland_open("soft:", &options);
	assert_non_null(stuck);
	for (int i = 0; i < 4 * RESERVE; i++) {
		dma[i] = dma_map_single(stuck, memory[i], sizeof(memory[i]), DMA_FROM_DEVICE);
		assert_false(dma_mapping_error(stuck, dma[i]));
	}
	for (int i = 0; i < 4 * RESERVE; i++)
		dma_unmap_single(stuck, dma[i], sizeof(memory[i]), DMA_FROM_DEVICE);
	ops = *stuck->function->ops;
	ops.config_write = no_write;
	ops.reset = no_reset;
	stuck->function->ops = &ops;
	dmaland_close(stuck);
	assert_logged("cannot be stopped");
	dmaland_get_info(dev, &before);
	assert_true(before.memory_in_use > 0);
	dmaland_trim(dev);
	dmaland_get_info(dev, &after);
	assert_int_equal(after.memory_in_use, before.memory_in_use);
	dmaland_close(dev);
	log_clear();
}

/* ---- addresses that one of them can't use ---- */

static struct dmaland_device *join(struct engine *e, const char *format, dma_addr_t first,
				   dma_addr_t last)
{
	const struct dmaland_options options = {.size = sizeof(options), .share_with = e->dev};
	char spec[80];

	snprintf(spec, sizeof(spec), format, (unsigned long long)first, (unsigned long long)last);
	return dmaland_open(spec, &options);
}

static void map_many(struct engine *e, char *memory, dma_addr_t *dma, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		dma[i] = dma_map_single(e->dev, memory, 4 * PAGE, DMA_TO_DEVICE);
		if (dma_mapping_error(e->dev, dma[i]))
			fail_msg("%s", dmaland_last_error());
	}
}

static void unmap_many(struct engine *e, const dma_addr_t *dma, size_t n)
{
	for (size_t i = 0; i < n; i++)
		dma_unmap_single(e->dev, dma[i], 4 * PAGE, DMA_TO_DEVICE);
}

static void addresses_that_a_device_that_joins_cannot_use_are_not_handed_out_any_more(void **state)
{
	enum { MANY = 300 };
	static dma_addr_t dma[MANY];
	char *memory = pages_new(4);
	struct dmaland_device *other;
	struct dmaland_info info;
	dma_addr_t first, last;
	struct engine e;

	(void)state;
	engine_open(&e, device_spec, NULL);
	map_many(&e, memory, dma, MANY);
	assert_null(join(&e, "soft:,reserved=0x%llx-0x%llx", dma[5], dma[5]));
	assert_int_equal(errno, EBUSY);
	assert_error_says("open it before memory is allocated");
	unmap_many(&e, dma, MANY);
	map_many(&e, memory, dma, MANY); /* nothing has changed */

	/* Slots between others that are in use: addresses that the device holds, and nothing is at. */
	first = dma[10] < dma[19] ? dma[10] : dma[19];
	last = first + 10 * 4 * PAGE - 1;
	unmap_many(&e, dma + 10, 10);
	other = join(&e, "soft:,reserved=0x%llx-0x%llx", first + PAGE, last - PAGE);
	if (!other)
		fail_msg("%s", dmaland_last_error());
	dmaland_get_info(e.dev, &info);
	for (size_t i = 0; i < info.range_count; i++)
		assert_true(info.ranges[i].last <= first + PAGE ||
			    info.ranges[i].first >= last - PAGE);
	for (int round = 0; round < 3; round++) {
		map_many(&e, memory, dma + 10, MANY - 10 - (round ? 0 : MANY - 20));
		for (size_t i = 10; i < (round ? MANY : 20); i++)
			assert_true(dma[i] + 4 * PAGE <= first + PAGE || dma[i] > last - PAGE);
		unmap_many(&e, dma + (round ? 10 : 0), round ? MANY - 10 : MANY);
	}
	dmaland_close(other);
	engine_close(&e);
	pages_free(memory, 4);
	assert_string_equal(log_text(), "");
}

/* ---- threads ---- */

enum { THREADS = 4, ROUNDS = 400 };

struct worker {
	pthread_t thread;
	struct engine *engine; /* that all use */
	uint64_t seed;
	const char *failed;
};

/* Map memory, let the engine fill it by a list, see that all of it came and nothing else did. */
static const char *worker_round(struct worker *w, struct dmaland_soft_descriptor *d,
				dma_addr_t list, unsigned char *memory)
{
	struct domain *domain = w->engine->domain;
	size_t size = (random_below(&w->seed, 4) + 1) * PAGE;
	uint32_t offset = (uint32_t)random_below(&w->seed, size / 2);
	uint32_t length = (uint32_t)random_below(&w->seed, size / 2) + 1;
	uint8_t byte = (uint8_t)random_next(&w->seed);
	dma_addr_t dma = domain_take(domain, size);

	if (domain->ops->map(domain, dma, memory, size, BOTH_WAYS))
		return "map fails";
	if (domain->ops->sync)
		domain->ops->sync(domain, dma, size, true);
	*d = (struct dmaland_soft_descriptor){.source = byte,
					      .destination = dma + offset,
					      .length = length,
					      .control = DMALAND_SOFT_FILL | DMALAND_SOFT_LAST |
							 DMALAND_SOFT_WRITE_BACK};
	writeq(list, w->engine->bar + DMALAND_SOFT_DOORBELL);
	if (READ_ONCE(d->status) != DMALAND_SOFT_ENDED)
		return "the list does not end well";
	if (domain->ops->sync)
		domain->ops->sync(domain, dma, size, false);
	if (domain->ops->unmap(domain, dma, size, 1))
		return "unmap fails";
	/* Nobody gets these addresses before they are given back. */
	writeq(list, w->engine->bar + DMALAND_SOFT_DOORBELL);
	if (READ_ONCE(d->status) != (DMALAND_SOFT_ENDED | DMALAND_SOFT_FAULT))
		return "the device reaches memory after unmap";
	domain_give(domain, dma, size);
	for (uint32_t i = 0; i < 4 * PAGE; i++) {
		if (memory[i] != (i >= offset && i - offset < length ? byte : 0))
			return "wrong data";
		memory[i] = 0;
	}
	return NULL;
}

static void *worker_run(void *context)
{
	struct worker *w = context;
	unsigned char *memory = (unsigned char *)pages_new(4);
	struct dmaland_soft_descriptor *d;
	dma_addr_t list;

	d = dma_alloc_coherent(w->engine->dev, PAGE, &list, GFP_KERNEL);
	for (int i = 0; i < ROUNDS && !w->failed; i++)
		w->failed = worker_round(w, d, list, memory);
	dma_free_coherent(w->engine->dev, PAGE, d, list);
	pages_free((char *)memory, 4);
	return NULL;
}

/* More than one device, more than one thread for each. */
static void threads_may_map_unmap_and_ring_at_the_same_time(void **state)
{
	struct engine engines[2];
	struct worker workers[THREADS] = {0};

	(void)state;
	engine_open(&engines[0], device_spec, NULL);
	engine_open(&engines[1], "soft:", &engines[0]);
	for (int i = 0; i < THREADS; i++) {
		workers[i].engine = &engines[i % 2];
		workers[i].seed = (uint64_t)i + 1;
		assert_int_equal(pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]),
				 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	for (int i = 0; i < THREADS; i++)
		if (workers[i].failed)
			fail_msg("thread %d: %s", i, workers[i].failed);
	for (int i = 0; i < 2; i++)
		engine_fault(&engines[i], THREADS / 2 * ROUNDS);
	engine_close(&engines[1]);
	engine_close(&engines[0]);
	log_clear();
}

static atomic_bool stop;

static void *random_writes(void *context)
{
	struct engine *e = context;

	engine_misbehave(e, DMALAND_SOFT_RANDOM, 20);
	while (!atomic_load(&stop))
		writel(DMALAND_SOFT_FILL, e->bar + DMALAND_SOFT_COMMAND);
	return NULL;
}

static void random_writes_at_any_time_leave_the_pool_whole(void **state)
{
	struct engine e, attacker;
	struct dma_pool *pool;
	struct dmaland_pool_stats stats;
	pthread_t thread;
	dma_addr_t handle[64], page;
	void *block[64];

	(void)state;
	engine_open(&e, device_spec, NULL);
	engine_open(&attacker, "soft:", &e);
	assert_non_null(dma_alloc_coherent(attacker.dev, PAGE, &page, GFP_KERNEL));
	writeq(page, attacker.bar + DMALAND_SOFT_DESTINATION);
	writel(1, attacker.bar + DMALAND_SOFT_LENGTH);
	pool = dma_pool_create("attacked", e.dev, 128, 0, 0);
	atomic_store(&stop, false);
	assert_int_equal(pthread_create(&thread, NULL, random_writes, &attacker), 0);
	for (int round = 0; round < 300; round++) {
		for (int i = 0; i < 64; i++)
			assert_non_null(block[i] = dma_pool_alloc(pool, GFP_KERNEL, &handle[i]));
		for (int i = 0; i < 64; i++)
			for (int j = 0; j < i; j++)
				assert_true(block[i] != block[j]);
		for (int i = 0; i < 64; i++)
			dma_pool_free(pool, block[i], handle[i]);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	stats = pool_stats(e.dev, "attacked");
	assert_int_equal(stats.in_use, 0);
	assert_int_equal(stats.bad_frees, 0);
	dma_pool_destroy(pool);
	engine_close(&attacker);
	engine_close(&e);
	log_clear();
}

struct mapper {
	struct engine *engine;
	atomic_bool stop;
	const char *failed;
	unsigned long mapped;
};

static void *map_again_and_again(void *context)
{
	struct mapper *m = context;
	struct domain *domain = m->engine->domain;
	char *memory = pages_new(1);

	for (; !atomic_load(&m->stop) && !m->failed; m->mapped++) {
		dma_addr_t dma = domain_take(domain, PAGE);

		if (domain->ops->map(domain, dma, memory, PAGE, BOTH_WAYS))
			m->failed = "map fails";
		else if (domain->ops->unmap(domain, dma, PAGE, 1))
			m->failed = "unmap fails";
		domain_give(domain, dma, PAGE);
	}
	pages_free(memory, 1);
	return NULL;
}

/* The ranges that mapping looks at are replaced by each device that joins. */
static void devices_may_join_while_others_map(void **state)
{
	enum { JOINS = 100 };
	struct engine e;
	struct mapper m = {.engine = &e};
	pthread_t thread;

	(void)state;
	engine_open(&e, device_spec, NULL);
	assert_int_equal(pthread_create(&thread, NULL, map_again_and_again, &m), 0);
	for (dma_addr_t at = 1 << 24, i = 0; i < JOINS; i++, at += 2 * PAGE) {
		struct dmaland_device *other =
			join(&e, "soft:,reserved=0x%llx-0x%llx", at, at + PAGE - 1);

		if (!other)
			fail_msg("%s", dmaland_last_error());
		dmaland_close(other);
	}
	atomic_store(&m.stop, true);
	pthread_join(thread, NULL);
	if (m.failed)
		fail_msg("%s after %lu mappings", m.failed, m.mapped);
	engine_close(&e);
	assert_string_equal(log_text(), "");
}

int run_share_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			engines_that_share_a_domain_see_the_same_memory_and_have_faults_of_their_own),
		cmocka_unit_test(a_device_that_joins_finds_a_reserve_under_each_mask_that_it_sets),
		cmocka_unit_test(a_large_request_is_had_again_though_others_have_no_reserve),
		cmocka_unit_test(what_can_never_be_mapped_leaves_the_reserve),
		cmocka_unit_test(what_a_device_had_that_cannot_be_stopped_is_not_given_to_others),
		cmocka_unit_test(
			addresses_that_a_device_that_joins_cannot_use_are_not_handed_out_any_more),
		cmocka_unit_test(devices_may_join_while_others_map),
		cmocka_unit_test(threads_may_map_unmap_and_ring_at_the_same_time),
		cmocka_unit_test(random_writes_at_any_time_leave_the_pool_whole),
	};

	return cmocka_run_group_tests_name("share", tests, NULL, NULL);
}
