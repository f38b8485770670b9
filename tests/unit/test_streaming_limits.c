/* SPDX-License-Identifier: MIT */
/*
 * test_streaming_limits.c - no addresses, mappings or memory left, and what a domain refuses: said in words, and
 * nothing lost
 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "memory/coherent.h"
#include "streaming_stand.h"

enum { PAGE = 4096 };

static void limits_of_the_domain_are_errors_and_not_the_end(void **state)
{
	dma_addr_t dmas[10];
	int n = 0;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	place.fake.domain.mapping_limit = 3;
	while (n < 10 &&
	       (dmas[n] = streaming_map(s, memory + n * 65536, 8192, 0, 0)) != DMA_MAPPING_ERROR)
		n++;
	assert_int_equal(n, 3);
	assert_int_equal(errno, ENOMEM);
	streaming_unmap(s, dmas[--n], 8192, 0, 0);
	dmas[n] = streaming_map(s, memory + 9 * 65536, 8192, 0, 0);
	assert_true(dmas[n++] != DMA_MAPPING_ERROR);
	while (n--)
		streaming_unmap(s, dmas[n], 8192, 0, 0);
	place.fake.domain.mapping_limit = 0;

	place.fake.domain.memory_limit = place.fake.domain.memory + 65536;
	assert_true(streaming_map(s, memory, 65536 + 1, 0, 0) == DMA_MAPPING_ERROR);
	assert_error_says("memory_limit");
	assert_int_equal(streaming_register(s, memory + 1, 65536), -ENOMEM);
	dmas[0] = streaming_map(s, memory, 65536, 0, 0);
	assert_true(dmas[0] != DMA_MAPPING_ERROR);
	streaming_unmap(s, dmas[0], 65536, 0, 0);
	assert_int_equal(streaming_register(s, memory, 65536), 0);
	assert_int_equal(streaming_unregister(s, memory), 0);
	close_place();
}

static void full_dma_addresses_are_an_error_and_come_back(void **state)
{
	enum { MANY = 200 };
	static dma_addr_t dmas[MANY];
	int n = 0, again = 0;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	assert_int_equal(streaming_set_mask(s, 0x80000),
			 0); /* 508 KiB, less than a slab of 16 KiB */
	while (n < MANY &&
	       (dmas[n] = streaming_map(s, memory, 16384, DMA_TO_DEVICE, 0)) != DMA_MAPPING_ERROR)
		n++;
	assert_int_equal(n, (0x80001 - 0x1000) / 16384);
	assert_int_equal(errno, ENOMEM);
	assert_error_says("mask 0x80000");
	for (int i = 0; i < n; i++)
		streaming_unmap(s, dmas[i], 16384, DMA_TO_DEVICE, 0);
	/* Idle slabs of one size go for another. */
	dmas[0] = streaming_map(s, memory, 4096, DMA_TO_DEVICE, 0);
	streaming_unmap(s, dmas[0], 4096, DMA_TO_DEVICE, 0);
	while (again < MANY && (dmas[again] = streaming_map(s, memory, 16384, DMA_TO_DEVICE, 0)) !=
				       DMA_MAPPING_ERROR)
		again++;
	assert_int_equal(again, n);
	while (again--)
		streaming_unmap(s, dmas[again], 16384, DMA_TO_DEVICE, 0);
	close_place();
}

/* Live mappings above it stay; the free slots beside them are nobody's until the mask is wide again. */
static void slots_above_a_narrower_mask_are_not_handed_out(void **state)
{
	static dma_addr_t live[300];
	uint64_t mask = DMA_BIT_MASK(40);

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){.copy_below = 1});
	for (size_t i = 0; i < 300; i++)
		live[i] = streaming_map(s, memory, 16384, DMA_TO_DEVICE, 0);
	for (size_t i = 0; i < 300; i += 2)
		streaming_unmap(s, live[i], 16384, DMA_TO_DEVICE, 0);
	assert_true(live[299] > mask);
	for (size_t round = 0; round < 3; round++) {
		assert_int_equal(streaming_set_mask(s, mask), 0);
		for (size_t i = 0; i < 300; i += 2) {
			live[i] = streaming_map(s, memory, 16384, DMA_TO_DEVICE, 0);
			assert_true(live[i] != DMA_MAPPING_ERROR && live[i] + 16383 <= mask);
		}
		for (size_t i = 0; i < 300; i += 2)
			streaming_unmap(s, live[i], 16384, DMA_TO_DEVICE, 0);
		mask = round ? UINT64_MAX : DMA_BIT_MASK(32);
	}
	for (size_t i = 1; i < 300; i += 2)
		streaming_unmap(s, live[i], 16384, DMA_TO_DEVICE, 0);
	iova_cache_trim(&s->iova);
	assert_int_equal(place.fake.domain.iova.count, 1);
	close_place();
}

static void without_memory_to_bounce_through_mapping_fails(void **state)
{
	static dma_addr_t dmas[5000];
	size_t n = 0;

	(void)state;
	open_kind(FAKE_PLAIN, (struct streaming_options){0});
	place.fake.domain.memory_limit = 1 << 20;
	while (n < 5000 &&
	       (dmas[n] = streaming_map(s, memory, 4000, DMA_TO_DEVICE, 0)) != DMA_MAPPING_ERROR)
		n++;
	assert_int_equal(errno, ENOMEM);
	assert_true(n >= 200 && n < 5000);
	for (size_t i = 0; i < n; i++)
		streaming_unmap(s, dmas[i], 4000, DMA_TO_DEVICE, 0);
	dmas[0] = streaming_map(s, memory, 4000, DMA_TO_DEVICE, 0);
	assert_true(dmas[0] != DMA_MAPPING_ERROR);
	streaming_unmap(s, dmas[0], 4000, DMA_TO_DEVICE, 0);
	close_place();
}

static void without_system_calls_what_is_ready_is_used_and_the_rest_refused(void **state)
{
	static dma_addr_t dmas[5000];
	unsigned int provides;
	size_t n = 0;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){.no_syscalls = true});
	provides = place.fake.provides;
	for (size_t size = 1; size < 4096; size *= 2) {
		dmas[0] = streaming_map(s, memory, size, DMA_TO_DEVICE, 0);
		assert_true(dmas[0] != DMA_MAPPING_ERROR);
		streaming_unmap(s, dmas[0], size, DMA_TO_DEVICE, 0);
	}
	assert_true(streaming_map(s, memory, 4096, DMA_TO_DEVICE, 0) == DMA_MAPPING_ERROR);
	assert_int_equal(errno, EPERM);
	assert_error_says("no_syscalls");
	while (n < 5000 &&
	       (dmas[n] = streaming_map(s, memory, 1000, DMA_TO_DEVICE, 0)) != DMA_MAPPING_ERROR)
		n++;
	assert_true(n >= 64 && n < 5000);
	assert_int_equal(errno, ENOMEM);
	while (n--)
		streaming_unmap(s, dmas[n], 1000, DMA_TO_DEVICE, 0);
	assert_int_equal(place.fake.provides, provides);
	assert_int_equal(place.fake.maps, 0);
	close_place();
}

static void a_mask_that_leaves_nothing_to_bounce_through_is_not_taken(void **state)
{
	dma_addr_t dma;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){.no_syscalls = true});
	assert_int_equal(streaming_set_mask(s, DMA_BIT_MASK(15)), -ENOMEM); /* 28 KiB */
	assert_int_equal(errno, ENOMEM);
	assert_error_says("keeps its streaming mask 0xffffffffffffffff");
	assert_true(place.limits.streaming_mask == DMA_BIT_MASK(64));
	for (size_t size = 1; size < 4096; size *= 2) {
		dma = streaming_map(s, memory, size, DMA_TO_DEVICE, 0);
		assert_true(dma != DMA_MAPPING_ERROR && dma > DMA_BIT_MASK(32));
		streaming_unmap(s, dma, size, DMA_TO_DEVICE, 0);
	}
	assert_int_equal(streaming_set_mask(s, DMA_BIT_MASK(32)), 0);
	dma = streaming_map(s, memory, 100, DMA_TO_DEVICE, 0);
	assert_true(dma <= DMA_BIT_MASK(32));
	streaming_unmap(s, dma, 100, DMA_TO_DEVICE, 0);
	close_place();
}

static void registrations_that_overlap_are_refused_by_name(void **state)
{
	static const struct {
		size_t offset, size;
	} bad[] = {{1000, 500}, {999, 2}, {1999, 1}, {0, 5000}, {1500, 3000}, {1000, 1}};
	char words[64];

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	assert_int_equal(streaming_register(s, memory + 1000, 1000), 0);
	snprintf(words, sizeof(words), "1000 bytes at %p", (void *)(memory + 1000));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(streaming_register(s, memory + bad[i].offset, bad[i].size),
				 -EEXIST);
		assert_error_says(words);
	}
	assert_int_equal(streaming_register(s, memory + 2000, 1), 0);
	assert_int_equal(streaming_register(s, memory, 1000), 0);
	assert_int_equal(streaming_register(s, place.fake.domain.window, 4096), -EEXIST);
	assert_error_says("arena");
	assert_int_equal(streaming_register(s, NULL, 1), -EINVAL);
	assert_int_equal(streaming_register(s, memory, 0), -EINVAL);
	assert_int_equal(streaming_unregister(s, memory + 1001), -ENOENT);
	assert_int_equal(streaming_unregister(s, memory + 3000), -ENOENT);
	assert_int_equal(streaming_unregister(s, memory + 1000), 0);
	assert_int_equal(streaming_unregister(s, memory + 1000), -ENOENT);
	assert_int_equal(place.fake.mapped_count, 2);
	close_place();
}

static void what_cannot_be_unmapped_is_never_used_again(void **state)
{
	dma_addr_t dma, other;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	dma = streaming_map(s, memory, 8192, DMA_TO_DEVICE, 0);
	assert_int_equal(streaming_register(s, memory + 65536, 1), 0);
	place.fake.refuse_unmap = true;
	streaming_unmap(s, dma, 8192, DMA_TO_DEVICE, 0);
	assert_logged("stay mapped");
	assert_int_equal(streaming_unregister(s, memory + 65536), -EIO);
	place.fake.refuse_unmap = false;
	for (int i = 0; i < 1000; i++) {
		other = streaming_map(s, memory, 8192, DMA_TO_DEVICE, 0);
		assert_true(other != dma);
		streaming_unmap(s, other, 8192, DMA_TO_DEVICE, 0);
	}
	assert_int_equal(streaming_unregister(s, memory + 65536), 0);
	assert_int_equal(place.fake.mapped_count, 1);
	assert_int_equal(place.fake.domain.ops->unmap(&place.fake.domain, dma, 8192, 1), 0);
	close_place();
}

static void memory_that_the_application_took_away_can_be_unmapped(void **state)
{
	char *gone =
		mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	dma_addr_t dma;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	dma = streaming_map(s, gone, 4 * PAGE, DMA_FROM_DEVICE, 0);
	assert_true(dma != DMA_MAPPING_ERROR);
	munmap(gone, 4 * PAGE);
	streaming_unmap(s, dma, 4 * PAGE, DMA_FROM_DEVICE, 0);
	assert_int_equal(place.fake.mapped_count, 0);
	assert_string_equal(log_text(), "");
	close_place();
}

/* What stays mapped is leaked for good, and LeakSanitizer, where it is, need not say so. */
void __lsan_disable(void) __attribute__((weak));
void __lsan_enable(void) __attribute__((weak));

static void what_was_received_is_not_lost_when_revoking_fails(void **state)
{
	char data[100] = {1}, written[100];
	dma_addr_t dma;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){.untrusted = true});
	if (__lsan_disable)
		__lsan_disable();
	dma = streaming_map(s, data, sizeof(data), DMA_FROM_DEVICE, 0);
	if (__lsan_enable)
		__lsan_enable();
	memset(written, 7, sizeof(written));
	assert_true(fake_device_write(&place, dma, written, sizeof(written)));
	place.fake.refuse_unmap = true;
	streaming_unmap(s, dma, sizeof(data), DMA_FROM_DEVICE, 0);
	assert_memory_equal(data, written, sizeof(data));
	assert_string_not_equal(log_text(), "");
	place.fake.refuse_unmap = false;
	/* It stays mapped, and is known to. */
	streaming_fini(s);
	assert_int_equal(place.fake.mapped_count, 1);
	place.fake.mapped_count = 0;
	place.fake.domain.mappings = 0;
	streaming_space_destroy(place.space);
	fake_place_close(&place);
	log_clear();
}

static void memory_that_must_not_be_copied_is_refused_for_a_device_that_is_not_trusted(void **state)
{
	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){.untrusted = true});
	assert_true(streaming_map(s, memory + 8, 100, DMA_TO_DEVICE, DMA_ATTR_REQUIRE_COHERENT) ==
		    DMA_MAPPING_ERROR);
	assert_int_equal(errno, EOPNOTSUPP);
	assert_error_says("DMA_ATTR_REQUIRE_COHERENT forbids it");
	close_place();
}

/* All kinds of memory, and what becomes of each when it must not be copied. */
static void memory_that_must_not_be_copied_is_mapped_or_refused(void **state)
{
	static const struct {
		enum fake_kind kind;
		bool mapped; /* what exists, and what is registered */
	} cases[] = {{FAKE_PLAIN, false}, {FAKE_MAPS, true}, {FAKE_SHADOW, false}};
	const unsigned long attrs = DMA_ATTR_REQUIRE_COHERENT;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		static const size_t sizes[] = {1, 100, 4096, 100000};
		struct scatterlist sg[3];
		dma_addr_t dma, handle;
		char *coherent;

		open_kind(cases[i].kind, (struct streaming_options){0});
		for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
			errno = 0;
			dma = streaming_map(s, memory + 8, sizes[k], DMA_BIDIRECTIONAL, attrs);
			assert_int_equal(dma != DMA_MAPPING_ERROR, cases[i].mapped);
			if (!cases[i].mapped) {
				assert_int_equal(errno, EOPNOTSUPP);
				assert_error_says("DMA_ATTR_REQUIRE_COHERENT forbids it");
				continue;
			}
			memory[8] = 0x77; /* seen without a sync */
			assert_true(fake_device_read(&place, dma, &(char){0}, 1));
			assert_true(fake_device_write(&place, dma, "\x66", 1));
			assert_int_equal(memory[8], 0x66);
			streaming_unmap(s, dma, sizes[k], DMA_BIDIRECTIONAL, attrs);
		}
		sg_init_table(sg, 3);
		for (int k = 0; k < 3; k++)
			sg_set_buf(&sg[k], memory + 10000 * k, 64 + 5000 * k);
		assert_int_equal(streaming_map_sg(s, sg, 3, DMA_TO_DEVICE, attrs) > 0,
				 cases[i].mapped);
		if (cases[i].mapped)
			streaming_unmap_sg(s, sg, 3, DMA_TO_DEVICE, attrs);

		/* The arena is everybody's own; a registration is as good as a mapping. */
		coherent = coherent_alloc(place.arena, &place.coherent, 4096, &handle, GFP_KERNEL);
		dma = streaming_map(s, coherent, 100, DMA_TO_DEVICE, attrs);
		assert_true(dma == handle);
		streaming_unmap(s, dma, 100, DMA_TO_DEVICE, attrs);
		coherent_free(place.arena, &place.coherent, "fake", 4096, coherent, handle);
		if (cases[i].kind != FAKE_PLAIN) {
			assert_int_equal(streaming_register(s, memory, 8192), 0);
			dma = streaming_map(s, memory, 100, DMA_TO_DEVICE, attrs);
			assert_int_equal(dma != DMA_MAPPING_ERROR, cases[i].mapped);
			if (cases[i].mapped)
				streaming_unmap(s, dma, 100, DMA_TO_DEVICE, attrs);
			assert_int_equal(streaming_unregister(s, memory), 0);
		}
		assert_int_equal(stats().bounced_small + stats().bounced_unmappable, 0);
		close_quietly();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits_of_the_domain_are_errors_and_not_the_end),
		cmocka_unit_test(full_dma_addresses_are_an_error_and_come_back),
		cmocka_unit_test(slots_above_a_narrower_mask_are_not_handed_out),
		cmocka_unit_test(without_memory_to_bounce_through_mapping_fails),
		cmocka_unit_test(without_system_calls_what_is_ready_is_used_and_the_rest_refused),
		cmocka_unit_test(a_mask_that_leaves_nothing_to_bounce_through_is_not_taken),
		cmocka_unit_test(registrations_that_overlap_are_refused_by_name),
		cmocka_unit_test(what_cannot_be_unmapped_is_never_used_again),
		cmocka_unit_test(memory_that_the_application_took_away_can_be_unmapped),
		cmocka_unit_test(what_was_received_is_not_lost_when_revoking_fails),
		cmocka_unit_test(
			memory_that_must_not_be_copied_is_refused_for_a_device_that_is_not_trusted),
		cmocka_unit_test(memory_that_must_not_be_copied_is_mapped_or_refused),
	};

	log_capture();
	return cmocka_run_group_tests_name("streaming: limits", tests, NULL, NULL);
}
