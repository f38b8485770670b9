/* SPDX-License-Identifier: MIT */
/*
 * soft_tests.c - the address space of soft: options, mapping, limits, copies for the device
 */
#include "suite.h"
#include "engine.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static uint32_t mappings_now(struct engine *e)
{
	struct dmaland_info info;

	dmaland_get_info(e->dev, &info);
	return info.mappings;
}

/* ---- options ---- */

static void specs_that_make_no_sense_are_refused_in_words(void **state)
{
	static const struct {
		const char *spec, *says;
	} cases[] = {
		{"soft:nvme", "no device 'nvme': the spec is soft: or soft:engine"},
		{"soft:engine,colour=blue", "no option 'colour'; there are: bits, granule"},
		{"soft:,bits=23", "bits=23 is not a number from 24 to 57"},
		{"soft:,bits=58", "bits=58"},
		{"soft:,bits=", "bits= is not"},
		{"soft:,bits=-40", "bits=-40"},
		{"soft:,bits=40x", "bits=40x"},
		{"soft:,bits=99999999999999999999", "is not a number"},
		{"soft:,granule=512", "granule=512 is not a number from 4096 to 2097152"},
		{"soft:,granule=12288", "granule=12288 is not a power of two"},
		{"soft:,granule=4194304", "granule=4194304"},
		{"soft:,mappings=0", "mappings=0"},
		{"soft:,mappings=4294967296", "mappings=4294967296"},
		{"soft:,coherent=maybe", "neither coherent=yes nor coherent=no"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		errno = 0;
		if (dmaland_open(cases[i].spec, NULL))
			fail_msg("'%s' opens", cases[i].spec);
		assert_int_equal(errno, EINVAL);
		assert_error_says(cases[i].says);
	}
}

static void options_set_addresses_granule_and_limit(void **state)
{
	static const struct {
		const char *spec;
		size_t granule;
		uint32_t mappings;
		uint64_t last;
		size_t ranges;
	} cases[] = {
		{"soft:", 4096, 65535, DMA_BIT_MASK(39), 3},
		{"soft:engine,bits=24", 4096, 65535, DMA_BIT_MASK(24), 1},
		{"soft:,bits=31,coherent=yes", 4096, 65535, 0x7bffffff, 1},
		{"soft:engine,bits=32,mappings=7", 4096, 7, DMA_BIT_MASK(32), 3},
		{"soft:,bits=57,granule=65536", 65536, 65535, DMA_BIT_MASK(57), 3},
		{"soft:,granule=2097152,mappings=4294967295", 2 << 20, UINT32_MAX, DMA_BIT_MASK(39),
		 3},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct dmaland_info info;
		dma_addr_t handle;
		struct engine e;
		char *memory;

		engine_open(&e, cases[i].spec, NULL);
		dmaland_get_info(e.dev, &info);
		assert_int_equal(info.granule, cases[i].granule);
		assert_int_equal(info.mapping_limit, cases[i].mappings);
		assert_int_equal(info.range_count, cases[i].ranges);
		assert_true(info.ranges[info.range_count - 1].last == cases[i].last);
		assert_int_equal(info.ranges[0].first, info.granule);
		for (size_t r = 0; r < info.range_count; r++) {
			assert_int_equal(info.ranges[r].first % info.granule, 0);
			assert_int_equal((info.ranges[r].last + 1) % info.granule, 0);
			assert_true(info.ranges[r].last < 0x7c000000 ||
				    info.ranges[r].first > 0x7fffffff);
			assert_true(info.ranges[r].last < 0xfee00000 ||
				    info.ranges[r].first > 0xfeefffff);
		}
		for (size_t size = 1; size <= 65536; size *= 256) {
			dma_addr_t second;
			char *other = dma_alloc_coherent(e.dev, size, &second, GFP_KERNEL);

			memory = dma_alloc_coherent(e.dev, size, &handle, GFP_KERNEL);
			assert_true(other && memory);
			assert_int_equal((handle | second) % info.granule, 0);
			assert_int_equal(((uintptr_t)memory | (uintptr_t)other) % info.granule, 0);
			dma_free_coherent(e.dev, size, memory, handle);
			dma_free_coherent(e.dev, size, other, second);
		}
		memory = dma_alloc_coherent(e.dev, 100000, &handle, GFP_KERNEL);
		assert_non_null(memory);
		assert_true(handle != (uintptr_t)memory);
		assert_int_equal(engine_fill(&e, handle, 100000, 3), DMALAND_SOFT_OK);
		assert_int_equal(memory[99999], 3);
		assert_int_equal(memory[100000], 0);
		dma_free_coherent(e.dev, 100000, memory, handle);
		engine_close(&e);
	}
	assert_string_equal(log_text(), "");
}

/* ---- mapping ---- */

/* One that fails for its memory or its arguments, and what it says; nothing is left of it. */
static void expect_refused(struct engine *e, dma_addr_t dma, void *cpu, size_t size,
			   unsigned int access, int code, const char *says)
{
	uint32_t before = mappings_now(e);
	int err;

	errno = 0;
	err = e->domain->ops->map(e->domain, dma, cpu, size, access);
	if (err != -code || errno != code)
		fail_msg("%zu bytes at %p: %d and not %d (%s)", size, cpu, err, -code, says);
	assert_error_says(says);
	assert_int_equal(mappings_now(e), before);
}

static void memory_that_is_not_there_or_may_not_be_accessed_is_efault(void **state)
{
	char *memory = pages_new(8), *file;
	FILE *f = tmpfile();
	dma_addr_t dma;
	struct engine e;

	(void)state;
	engine_open(&e, device_spec, NULL);
	dma = domain_take(e.domain, 8 * PAGE);
	assert_int_equal(mprotect(memory + PAGE, PAGE, PROT_READ), 0);
	assert_int_equal(mprotect(memory + 2 * PAGE, PAGE, PROT_NONE), 0);
	pages_free(memory + 4 * PAGE, 1);

	/* The first and the last page are fine. */
	expect_refused(&e, dma, memory, 2 * PAGE, DOMAIN_WRITE, EFAULT, "may not be written");
	expect_refused(&e, dma, memory + PAGE, PAGE, BOTH_WAYS, EFAULT, "may not be written");
	expect_refused(&e, dma, memory, 4 * PAGE, DOMAIN_READ, EFAULT, "may not be read");
	expect_refused(&e, dma, memory + 4 * PAGE, PAGE, DOMAIN_READ, EFAULT, "not there");
	expect_refused(&e, dma, memory + 3 * PAGE, 3 * PAGE, DOMAIN_READ, EFAULT, "not there");
	expect_refused(&e, dma, memory + 3 * PAGE, 3 * PAGE, DOMAIN_WRITE, EFAULT, "not there");
	expect_refused(&e, dma, (void *)(uintptr_t)PAGE, PAGE, DOMAIN_READ, EFAULT, "not there");
	expect_refused(&e, dma, (void *)(UINTPTR_MAX - PAGE + 1), PAGE, DOMAIN_READ, EFAULT,
		       "not there");
	expect_refused(&e, dma, NULL, PAGE, DOMAIN_READ, EFAULT, "not there");

	/* A file that ends before the mapping does. */
	assert_non_null(f);
	assert_int_equal(ftruncate(fileno(f), PAGE), 0);
	file = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fileno(f), 0);
	assert_true(file != MAP_FAILED);
	expect_refused(&e, dma, file, 2 * PAGE, DOMAIN_READ, EFAULT, "not there");

	assert_int_equal(e.domain->ops->map(e.domain, dma, memory, 2 * PAGE, DOMAIN_READ), 0);
	assert_int_equal(e.domain->ops->map(e.domain, dma + 2 * PAGE, file, PAGE, DOMAIN_READ), 0);
	assert_int_equal(e.domain->ops->unmap(e.domain, dma, 3 * PAGE, 2), 0);
	munmap(file, 2 * PAGE);
	fclose(f);
	pages_free(memory, 8);
	engine_close(&e);
	assert_string_equal(log_text(), "");
}

static void mappings_that_cannot_be_are_refused(void **state)
{
	char *memory = pages_new(4);
	struct engine e;
	dma_addr_t dma, arena;

	(void)state;
	engine_open(&e, device_spec, NULL);
	assert_non_null(dma_alloc_coherent(e.dev, PAGE, &arena, GFP_KERNEL));
	dma = domain_take(e.domain, 4 * PAGE);
	expect_refused(&e, dma, memory, 0, DOMAIN_READ, EINVAL, "whole granules of 4096");
	expect_refused(&e, dma, memory, PAGE, 0, EINVAL, "readable or writable");
	expect_refused(&e, dma, memory, 100, DOMAIN_READ, EINVAL, "whole granules");
	expect_refused(&e, dma, memory + 8, PAGE, DOMAIN_READ, EINVAL, "whole granules");
	expect_refused(&e, dma + 8, memory, PAGE, DOMAIN_READ, EINVAL, "whole granules");
	expect_refused(&e, 0, memory, PAGE, DOMAIN_READ, EINVAL, "not usable dma addresses");
	expect_refused(&e, 0xfee00000, memory, PAGE, DOMAIN_READ, EINVAL, "not usable");
	expect_refused(&e, 0xfedff000, memory, 2 * PAGE, DOMAIN_READ, EINVAL, "not usable");
	expect_refused(&e, UINT64_C(1) << 57, memory, PAGE, DOMAIN_READ, EINVAL, "not usable");
	expect_refused(&e, UINT64_MAX - PAGE + 1, memory, 2 * PAGE, DOMAIN_READ, EINVAL,
		       "not usable");

	/* Over something that is mapped: its beginning, its middle, its end, all of it. */
	assert_int_equal(e.domain->ops->map(e.domain, dma + PAGE, memory, 2 * PAGE, DOMAIN_READ),
			 0);
	for (size_t first = 0; first < 4; first++)
		for (size_t n = 1; first + n <= 4; n++)
			if (first + n > 1 && first < 3)
				expect_refused(&e, dma + first * PAGE, memory, n * PAGE,
					       DOMAIN_READ, EEXIST, "mapped at dma address");
	expect_refused(&e, arena & ~(dma_addr_t)(PAGE - 1), memory, PAGE, DOMAIN_READ, EEXIST,
		       "mapped at dma address");
	assert_int_equal(e.domain->ops->map(e.domain, dma, memory, PAGE, DOMAIN_READ), 0);
	assert_int_equal(e.domain->ops->map(e.domain, dma + 3 * PAGE, memory, PAGE, DOMAIN_READ),
			 0);
	pages_free(memory, 4);
	log_clear();
	engine_close(&e); /* and ends what is mapped */
	assert_logged("[coherent=1, 4 KiB]");
	log_clear();
}

static void unmapping_what_is_not_so_mapped_changes_nothing(void **state)
{
	char *memory = pages_new(4);
	struct engine e;
	dma_addr_t dma, arena;
	/* What is there: one page, two, one. */
	static const struct {
		size_t first, pages;
		unsigned int n;
	} wrong[] = {{0, 2, 1}, {1, 1, 1}, {0, 1, 2}, {0, 3, 3}, {0, 3, 1}, {0, 4, 2}, {0, 4, 4},
		     {2, 1, 1}, {2, 2, 2}, {3, 1, 2}, {4, 1, 1}, {0, 0, 0}, {0, 0, 1}, {0, 1, 0}};
	uint32_t before;

	(void)state;
	engine_open(&e, device_spec, NULL);
	assert_non_null(dma_alloc_coherent(e.dev, 64 * PAGE, &arena, GFP_KERNEL));
	dma = domain_take(e.domain, 5 * PAGE);
	assert_int_equal(e.domain->ops->map(e.domain, dma, memory, PAGE, BOTH_WAYS), 0);
	assert_int_equal(e.domain->ops->map(e.domain, dma + PAGE, memory, 2 * PAGE, BOTH_WAYS), 0);
	assert_int_equal(e.domain->ops->map(e.domain, dma + 3 * PAGE, memory, PAGE, BOTH_WAYS), 0);
	before = mappings_now(&e);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		int err = e.domain->ops->unmap(e.domain, dma + wrong[i].first * PAGE,
					       wrong[i].pages * PAGE, wrong[i].n);

		if (err != -EINVAL)
			fail_msg("case %zu gives %d", i, err);
		assert_error_says("nothing was unmapped");
		assert_int_equal(mappings_now(&e), before);
		assert_int_equal(engine_fill(&e, dma, 4 * PAGE, (uint8_t)i), DMALAND_SOFT_OK);
	}
	/* The arena is not for unmap. */
	assert_int_equal(e.domain->ops->unmap(e.domain, arena, 64 * PAGE, 1), -EINVAL);
	assert_int_equal(engine_fill(&e, arena, 64 * PAGE, 1), DMALAND_SOFT_OK);

	/* Neighbours in one step, then the rest, and each once. */
	assert_int_equal(e.domain->ops->unmap(e.domain, dma, 3 * PAGE, 2), 0);
	assert_int_equal(mappings_now(&e), before - 2);
	assert_int_equal(engine_fill(&e, dma + 2 * PAGE, 1, 1), DMALAND_SOFT_FAULT);
	assert_int_equal(engine_fill(&e, dma + 3 * PAGE, 1, 1), DMALAND_SOFT_OK);
	assert_int_equal(e.domain->ops->unmap(e.domain, dma, 3 * PAGE, 2), -EINVAL);
	assert_int_equal(e.domain->ops->unmap(e.domain, dma + 3 * PAGE, PAGE, 1), 0);
	assert_int_equal(e.domain->ops->unmap(e.domain, dma + 3 * PAGE, PAGE, 1), -EINVAL);
	pages_free(memory, 4);
	engine_close(&e);
	log_clear();
}

static void the_limit_of_mappings_is_named_and_counts_chunks_too(void **state)
{
	char *memory = pages_new(1);
	dma_addr_t dma[6], handle;
	struct engine e;
	void *chunk;

	(void)state;
	engine_open(&e, "soft:,mappings=6", NULL);
	chunk = dma_alloc_coherent(e.dev, 40 << 20, &handle, GFP_KERNEL);
	assert_non_null(chunk);
	assert_int_equal(mappings_now(&e), 1);
	for (int i = 0; i < 5; i++)
		dma[i] = domain_map(e.domain, memory, PAGE, BOTH_WAYS);
	dma[5] = domain_take(e.domain, PAGE);
	expect_refused(&e, dma[5], memory, PAGE, BOTH_WAYS, ENOMEM, "holds 6 mappings");
	assert_error_says("mappings=6 in the spec");
	assert_null(dma_alloc_coherent(e.dev, PAGE, &dma[5], GFP_KERNEL));
	assert_error_says("holds 6 mappings");
	domain_unmap(e.domain, dma[0], PAGE);
	dma[0] = domain_map(e.domain, memory, PAGE, BOTH_WAYS);
	dma_free_coherent(e.dev, 40 << 20, chunk, handle); /* too large to be kept */
	dma[0] = domain_map(e.domain, memory, PAGE, BOTH_WAYS);
	assert_int_equal(mappings_now(&e), 6);
	pages_free(memory, 1);
	engine_close(&e);
	assert_string_equal(log_text(), "");
}

static void a_hundred_thousand_mappings_are_each_found(void **state)
{
	enum { N = 100000 };
	char *memory = pages_new(16);
	uint32_t *order = malloc(N * sizeof(*order));
	uint64_t seed = 3;
	dma_addr_t dma, out;
	struct engine e;
	char *byte;

	(void)state;
	engine_open(&e, "soft:,mappings=200000", NULL);
	byte = dma_alloc_coherent(e.dev, PAGE, &out, GFP_KERNEL);
	dma = domain_take(e.domain, (size_t)2 * N * PAGE); /* a page between each two */
	assert_non_null(order);
	for (uint32_t i = 0; i < N; i++) {
		uint32_t j = (uint32_t)random_below(&seed, i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	for (int i = 0; i < 16; i++)
		memory[i * PAGE] = (char)i;
	for (uint32_t i = 0; i < N; i++)
		assert_int_equal(e.domain->ops->map(e.domain, dma + (dma_addr_t)order[i] * 2 * PAGE,
						    memory + order[i] % 16 * PAGE, PAGE,
						    DOMAIN_READ),
				 0);
	for (uint32_t i = 0; i < N; i++) {
		dma_addr_t at = dma + (dma_addr_t)order[i] * 2 * PAGE;

		if (i % 16 == 0) {
			assert_int_equal(engine_copy(&e, at, out, 1), DMALAND_SOFT_OK);
			assert_int_equal(*byte, order[i] % 16);
			assert_int_equal(engine_copy(&e, at + PAGE, out, 1), DMALAND_SOFT_FAULT);
		}
		assert_int_equal(e.domain->ops->unmap(e.domain, at, PAGE, 1), 0);
		if (i % 16 == 0)
			assert_int_equal(engine_copy(&e, at, out, 1), DMALAND_SOFT_FAULT);
	}
	assert_int_equal(mappings_now(&e), 1);
	free(order);
	pages_free(memory, 16);
	engine_close(&e);
	log_clear();
}

/* ---- coherent=no ---- */

static void a_forgotten_sync_shows(void **state)
{
	unsigned char *memory = (unsigned char *)pages_new(3), *seen;
	dma_addr_t dma, seen_dma;
	struct engine e;
	void (*sync)(struct domain * domain, dma_addr_t dma, size_t size, bool for_device);

	(void)state;
	engine_open(&e, "soft:engine,coherent=no", NULL);
	sync = e.domain->ops->sync;
	seen = dma_alloc_coherent(e.dev, 3 * PAGE, &seen_dma, GFP_KERNEL);
	memset(memory, 1, 3 * PAGE);
	dma = domain_map(e.domain, memory, 3 * PAGE, BOTH_WAYS);

	/* For the device: what is not synced is poison, then old. */
	assert_int_equal(engine_copy(&e, dma, seen_dma, 3 * PAGE), DMALAND_SOFT_OK);
	for (size_t i = 0; i < 3 * PAGE; i++)
		assert_int_equal(seen[i], DMALAND_SOFT_POISON);
	sync(e.domain, dma + 10, PAGE, true);
	memory[11] = 2;
	assert_int_equal(engine_copy(&e, dma, seen_dma, 3 * PAGE), DMALAND_SOFT_OK);
	for (size_t i = 0; i < 3 * PAGE; i++)
		assert_int_equal(seen[i], i >= 10 && i < PAGE + 10 ? 1 : DMALAND_SOFT_POISON);

	/* From it: what is not synced stays as it was. */
	assert_int_equal(engine_fill(&e, dma, 3 * PAGE, 9), DMALAND_SOFT_OK);
	assert_int_equal(memory[0], 1);
	sync(e.domain, dma + PAGE, PAGE, false);
	for (size_t i = 0; i < 3 * PAGE; i++)
		assert_int_equal(memory[i], i == 11 ? 2 : i >= PAGE && i < 2 * PAGE ? 9 : 1);
	domain_unmap(e.domain, dma, 3 * PAGE);
	assert_int_equal(memory[0], 1); /* unmap is told apart from sync */

	/* Mapped again it is poison again; the arena was coherent all the time. */
	dma = domain_map(e.domain, memory, 3 * PAGE, BOTH_WAYS);
	assert_int_equal(engine_copy(&e, dma + PAGE, seen_dma, 1), DMALAND_SOFT_OK);
	assert_int_equal(seen[0], DMALAND_SOFT_POISON);
	sync(e.domain, seen_dma, PAGE, true);
	assert_string_equal(log_text(), "");

	/* Neither over the end nor where nothing is mapped; nor of memory that is gone. */
	sync(e.domain, dma + PAGE, 2 * PAGE + 1, false);
	assert_logged("cannot be synced from the device: they reach over");
	assert_int_equal(memory[2 * PAGE], 1);
	log_clear();
	sync(e.domain, 0x1000, 8, true);
	assert_logged("cannot be synced for the device: nothing is mapped there");
	log_clear();
	pages_free((char *)memory, 3);
	assert_int_equal(engine_copy(&e, dma, seen_dma, 3 * PAGE), DMALAND_SOFT_OK);
	sync(e.domain, dma, PAGE, false);
	assert_logged("their memory is gone");
	domain_unmap(e.domain, dma, 3 * PAGE);
	dma_free_coherent(e.dev, 3 * PAGE, seen, seen_dma);
	engine_close(&e);
	engine_open(&e, "soft:engine,coherent=yes", NULL);
	assert_null(e.domain->ops->sync);
	engine_close(&e);
	log_clear();
}

/* The coherent mask is changed first: what it was must hold again when the other half fails. */
static void masks_are_set_both_or_neither(void **state)
{
	struct dmaland_device *dev = dmaland_open("soft:,no_syscalls=yes", NULL);
	dma_addr_t handle;
	void *memory;

	(void)state;
	assert_non_null(dev);
	assert_int_equal(dma_set_coherent_mask(dev, DMA_BIT_MASK(14)), 0);
	assert_int_equal(dma_set_mask_and_coherent(dev, DMA_BIT_MASK(15)), -ENOMEM); /* 28 KiB */
	assert_int_equal(errno, ENOMEM);
	assert_error_says("keeps its streaming mask");
	assert_true(dma_get_mask(dev) == DMA_BIT_MASK(32));
	while ((memory = dma_alloc_coherent(dev, 4096, &handle, GFP_KERNEL)))
		assert_true(handle + 4095 <= DMA_BIT_MASK(14));
	log_clear();
	dmaland_close(dev);
	assert_logged("coherent=");
	log_clear();
}

int run_soft_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(specs_that_make_no_sense_are_refused_in_words),
		cmocka_unit_test(options_set_addresses_granule_and_limit),
		cmocka_unit_test(memory_that_is_not_there_or_may_not_be_accessed_is_efault),
		cmocka_unit_test(mappings_that_cannot_be_are_refused),
		cmocka_unit_test(unmapping_what_is_not_so_mapped_changes_nothing),
		cmocka_unit_test(the_limit_of_mappings_is_named_and_counts_chunks_too),
		cmocka_unit_test(a_hundred_thousand_mappings_are_each_found),
		cmocka_unit_test(a_forgotten_sync_shows),
		cmocka_unit_test(masks_are_set_both_or_neither),
	};

	return cmocka_run_group_tests_name("soft", tests, NULL, NULL);
}
