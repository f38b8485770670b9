/* SPDX-License-Identifier: MIT */
/*
 * test_streaming.c - which way a mapping goes, and that the device and the CPU see what they should
 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>

#include "memory/coherent.h"
#include "streaming_stand.h"

enum { PAGE = 4096 };

static bool all_are(const char *bytes, size_t size, int value)
{
	for (size_t i = 0; i < size; i++)
		if (bytes[i] != (char)value)
			return false;
	return true;
}

/* The device reads what the CPU wrote, or what it writes arrives; with a write of the middle only. */
static void check_transfer(char *ptr, size_t size, enum dma_data_direction dir)
{
	char *buffer = malloc(size), *before = malloc(size);
	dma_addr_t dma;

	for (size_t i = 0; i < size; i++)
		ptr[i] = (char)(i * 7 + size);
	memcpy(before, ptr, size);
	dma = streaming_map(s, ptr, size, dir, 0);
	if (dma == DMA_MAPPING_ERROR)
		fail_msg("%zu bytes: %s", size, dmaland_last_error());
	if (dir != DMA_FROM_DEVICE) {
		assert_true(fake_device_read(&place, dma, buffer, size));
		assert_memory_equal(buffer, before, size);
	}
	if (dir != DMA_TO_DEVICE) {
		size_t from = size / 4, n = size / 2;

		memset(buffer, 0x77, size);
		assert_true(fake_device_write(&place, dma + from, buffer, n));
		memset(before + from, 0x77, n);
	}
	streaming_unmap(s, dma, size, dir, 0);
	assert_memory_equal(ptr, before, size);
	free(before);
	free(buffer);
}

static void data_arrives_whatever_the_way_size_and_direction(void **state)
{
	static const size_t sizes[] = {1,    3,	   63,	 64,   65,    1000,   1024,  4095,
				       4096, 4097, 8192, 9999, 65536, 100000, 262144};
	static const size_t offsets[] = {0, 1, 64, 4095};

	(void)state;
	for (enum fake_kind kind = FAKE_PLAIN; kind <= FAKE_SHADOW; kind++) {
		for (int untrusted = 0; untrusted <= (kind != FAKE_PLAIN); untrusted++) {
			open_kind(kind, (struct streaming_options){.untrusted = untrusted});
			for (size_t i = 0; i < 15 * 4; i++)
				for (unsigned int dir = 0; dir < 3; dir++)
					check_transfer(memory + offsets[i % 4], sizes[i / 4], dir);
			close_quietly();
		}
	}
}

static void memory_of_the_arena_is_translated(void **state)
{
	dma_addr_t handle, dma;
	char *coherent;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	coherent = coherent_alloc(place.arena, &place.coherent, 65536, &handle, GFP_KERNEL);
	dma = streaming_map(s, coherent + 100, 60000, DMA_BIDIRECTIONAL, 0);
	assert_true(dma == handle + 100);
	assert_false(streaming_need_sync(s, dma));
	streaming_sync(s, dma + 5, 100, DMA_FROM_DEVICE, false);
	streaming_unmap(s, dma, 60000, DMA_BIDIRECTIONAL, 0);
	assert_int_equal(stats().translated_arena, 1);
	assert_int_equal(place.fake.maps, 0);
	coherent_free(place.arena, &place.coherent, "fake", 65536, coherent, handle);
	close_quietly();
}

static void registered_memory_is_translated_at_any_alignment(void **state)
{
	dma_addr_t dma, other;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	assert_int_equal(streaming_register(s, memory + 100, 5000), 0);
	assert_int_equal(streaming_register(s, memory + 5100, 10), 0);
	dma = streaming_map(s, memory + 100, 5000, DMA_TO_DEVICE, 0);
	assert_int_equal(dma % PAGE, 100);
	other = streaming_map(s, memory + 5105, 5, DMA_FROM_DEVICE, 0);
	assert_int_equal(stats().translated_registered, 2);
	assert_int_equal(place.fake.maps, 2);
	assert_true(fake_device_write(&place, dma, "x", 1));
	assert_int_equal(memory[100], 'x');
	assert_false(streaming_need_sync(s, dma));
	streaming_unmap(s, other, 5, DMA_FROM_DEVICE, 0);
	streaming_unmap(s, dma, 5000, DMA_TO_DEVICE, 0);

	/* Across the end of it, and beside it, is not. */
	dma = streaming_map(s, memory + 5000, 105, DMA_TO_DEVICE, 0);
	assert_int_equal(stats().bounced_small, 1);
	streaming_unmap(s, dma, 105, DMA_TO_DEVICE, 0);
	assert_int_equal(streaming_unregister(s, memory + 100), 0);
	assert_int_equal(streaming_unregister(s, memory + 5100), 0);
	assert_int_equal(place.fake.mapped_count, 0);
	dma = streaming_map(s, memory + 100, 100, DMA_TO_DEVICE, 0);
	assert_int_equal(stats().bounced_small, 2);
	streaming_unmap(s, dma, 100, DMA_TO_DEVICE, 0);
	close_quietly();
}

static void many_registrations_are_told_apart(void **state)
{
	enum { N = 100, STEP = 8192 };
	dma_addr_t dmas[N];

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	for (size_t i = 0; i < N; i++)
		assert_int_equal(streaming_register(s, memory + (i * 37 % N) * STEP, STEP - 1), 0);
	for (size_t i = 0; i < N; i++) {
		dmas[i] = streaming_map(s, memory + i * STEP + 1, STEP - 2, DMA_TO_DEVICE, 0);
		assert_true(fake_device_write(&place, dmas[i], &i, sizeof(i)));
	}
	for (size_t i = 0; i < N; i++) {
		assert_memory_equal(memory + i * STEP + 1, &i, sizeof(i));
		streaming_unmap(s, dmas[i], STEP - 2, DMA_TO_DEVICE, 0);
	}
	for (size_t i = 0; i < N; i++)
		assert_int_equal(streaming_unregister(s, memory + (i * 61 % N) * STEP), 0);
	assert_int_equal(stats().translated_registered, N);
	close_quietly();
}

static void small_memory_is_copied_and_large_memory_mapped(void **state)
{
	dma_addr_t dma;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){.copy_below = 1000});
	dma = streaming_map(s, memory, 999, DMA_TO_DEVICE, 0);
	assert_int_equal(stats().bounced_small, 1);
	assert_int_equal(stats().live_bounced, 1);
	assert_true(streaming_need_sync(s, dma));
	streaming_unmap(s, dma, 999, DMA_TO_DEVICE, 0);
	dma = streaming_map(s, memory + 10, 1000, DMA_TO_DEVICE, 0);
	assert_int_equal(stats().mapped, 1);
	assert_int_equal(stats().live_mapped, 1);
	assert_int_equal(dma % PAGE, 10);
	assert_false(streaming_need_sync(s, dma));
	streaming_unmap(s, dma, 1000, DMA_TO_DEVICE, 0);
	assert_int_equal(place.fake.unmaps, 1);
	close_quietly();
}

/* A device that touches them meanwhile is found, and does not see half of what is copied. */
static void what_is_synced_is_moved_while_the_cpu_has_it(void **state)
{
	const struct fake_domain *fake = &place.fake;
	dma_addr_t dma;

	(void)state;
	open_kind(FAKE_SHADOW, (struct streaming_options){.copy_below = 1});
	for (int i = 0; i < 2; i++) {
		if (i)
			assert_int_equal(streaming_register(s, memory, 65536), 0);
		dma = streaming_map(s, memory, 65536, DMA_BIDIRECTIONAL, 0);
		assert_int_equal(fake->hand, HAND_BEGIN);
		if (i) /* it was nobody's */
			assert_int_equal(fake->hand_at_sync, HAND_END);
		streaming_sync(s, dma, 65536, DMA_BIDIRECTIONAL, false);
		assert_int_equal(fake->hand_at_sync, HAND_TO_CPU);
		streaming_sync(s, dma, 65536, DMA_BIDIRECTIONAL, true);
		assert_int_equal(fake->hand_at_sync, HAND_TO_CPU);
		assert_int_equal(fake->hand, HAND_TO_DEVICE);
		streaming_unmap(s, dma, 65536, DMA_BIDIRECTIONAL, 0);
		assert_int_equal(fake->hand_at_sync, HAND_END);
	}
	assert_int_equal(streaming_unregister(s, memory), 0);
	close_quietly();
}

static void where_nothing_can_be_mapped_all_is_copied_up_to_the_maximum(void **state)
{
	dma_addr_t dma;

	(void)state;
	open_kind(FAKE_PLAIN, (struct streaming_options){0});
	assert_int_equal(streaming_max_size(s), 1 << 20);
	dma = streaming_map(s, memory, sizeof(memory), DMA_TO_DEVICE, 0);
	assert_true(dma != DMA_MAPPING_ERROR);
	assert_int_equal(stats().bounced_unmappable, 1);
	streaming_unmap(s, dma, sizeof(memory), DMA_TO_DEVICE, 0);
	assert_true(streaming_map(s, memory, sizeof(memory) + 1, DMA_TO_DEVICE, 0) ==
		    DMA_MAPPING_ERROR);
	assert_error_says("dma_max_mapping_size");
	assert_int_equal(streaming_register(s, memory, PAGE), -EOPNOTSUPP);
	assert_error_says("dma_alloc_coherent");
	close_quietly();
}

static void directions_are_permissions(void **state)
{
	char byte = 0;
	dma_addr_t dma;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	dma = streaming_map(s, memory, 8192, DMA_TO_DEVICE, 0);
	assert_true(fake_device_read(&place, dma, &byte, 1));
	assert_false(fake_device_write(&place, dma, &byte, 1));
	streaming_unmap(s, dma, 8192, DMA_TO_DEVICE, 0);
	assert_false(fake_device_read(&place, dma, &byte, 1));
	dma = streaming_map(s, memory, 8192, DMA_FROM_DEVICE, 0);
	assert_false(fake_device_read(&place, dma, &byte, 1));
	assert_true(fake_device_write(&place, dma, &byte, 1));
	streaming_unmap(s, dma, 8192, DMA_FROM_DEVICE, 0);
	close_quietly();
}

static void sync_moves_just_the_part_it_names(void **state)
{
	char buffer[9000];
	dma_addr_t dma;

	(void)state;
	for (enum fake_kind kind = FAKE_PLAIN; kind <= FAKE_SHADOW; kind++) {
		if (kind == FAKE_MAPS)
			continue; /* nothing to move */
		open_kind(kind, (struct streaming_options){0});
		dma = streaming_map(s, memory, 9000, DMA_BIDIRECTIONAL, 0);
		memset(buffer, 0x55, sizeof(buffer));
		assert_true(fake_device_write(&place, dma, buffer, 9000));
		assert_true(all_are(memory, 9000, 0x11));
		streaming_sync(s, dma + 4090, 10, DMA_BIDIRECTIONAL, false);
		assert_true(all_are(memory, 4090, 0x11));
		assert_true(all_are(memory + 4090, 10, 0x55));
		assert_true(all_are(memory + 4100, 4900, 0x11));
		memset(memory, 0x22, 9000);
		streaming_sync(s, dma + 8000, 1000, DMA_TO_DEVICE, true);
		assert_true(fake_device_read(&place, dma, buffer, 9000));
		assert_true(all_are(buffer, 8000, 0x55));
		assert_true(all_are(buffer + 8000, 1000, 0x22));
		streaming_unmap(s, dma, 9000, DMA_BIDIRECTIONAL, 0);
		assert_true(all_are(memory, 8000, 0x55));
		close_quietly();
	}
}

static void without_sync_at_unmap_nothing_is_copied_back(void **state)
{
	dma_addr_t dma;

	(void)state;
	open_kind(FAKE_PLAIN, (struct streaming_options){0});
	dma = streaming_map(s, memory, 100, DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC);
	assert_true(fake_device_write(&place, dma, "hello", 5));
	streaming_sync(s, dma, 2, DMA_FROM_DEVICE, false);
	streaming_unmap(s, dma, 100, DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC);
	assert_memory_equal(memory, "he", 2);
	assert_true(all_are(memory + 2, 98, 0x11));
	close_quietly();
}

static void low_bits_are_the_originals(void **state)
{
	static const size_t offsets[] = {0, 1, 8, 100, 4095, 4096, 5000, 70001};
	static const size_t sizes[] = {1, 64, 3000, 4096, 20000};

	(void)state;
	for (enum fake_kind kind = FAKE_PLAIN; kind <= FAKE_MAPS; kind++)
		for (int untrusted = 0; untrusted <= (kind != FAKE_PLAIN); untrusted++)
			for (uint64_t mask = 15; mask <= 65535; mask = mask * 16 + 15) {
				open_kind(kind, (struct streaming_options){.untrusted = untrusted});
				assert_int_equal(streaming_set_min_align(s, mask), 0);
				for (size_t i = 0; i < 8 * 5; i++) {
					char *ptr = memory + offsets[i % 8];
					dma_addr_t dma = streaming_map(s, ptr, sizes[i / 8], 0, 0);

					assert_true(dma != DMA_MAPPING_ERROR);
					assert_int_equal(dma & mask, (uintptr_t)ptr & mask);
					streaming_unmap(s, dma, sizes[i / 8], 0, 0);
					check_transfer(ptr, sizes[i / 8], DMA_BIDIRECTIONAL);
				}
				close_quietly();
			}
}

static void addresses_lie_under_the_mask_whatever_the_boundary(void **state)
{
	static const size_t sizes[] = {10, 5000, 65536, 65536 - 4096, 300000};

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	for (unsigned int bits = 40; bits >= 26; bits -= 7) {
		assert_int_equal(streaming_set_mask(s, DMA_BIT_MASK(bits)), 0);
		for (uint64_t boundary = 65535; boundary; boundary = boundary << 16 | 65535) {
			assert_int_equal(streaming_set_boundary(s, boundary), 0);
			for (size_t i = 0; i < 200; i++) {
				size_t size = sizes[i % 5];
				dma_addr_t dma = streaming_map(s, memory + i, size, 0, 0);

				/* A boundary is of lists: test_sg_join.c. */
				assert_true(dma != DMA_MAPPING_ERROR);
				assert_true(dma + size - 1 <= DMA_BIT_MASK(bits));
				streaming_unmap(s, dma, size, 0, 0);
			}
			if (boundary == UINT64_MAX)
				break;
		}
	}
	close_quietly();
}

static void memory_above_the_mask_is_not_translated(void **state)
{
	dma_addr_t handle, dma;
	char *coherent;

	(void)state;
	open_kind(FAKE_PLAIN, (struct streaming_options){0});
	coherent = coherent_alloc(place.arena, &place.coherent, 4096, &handle, GFP_KERNEL);
	assert_true(handle > DMA_BIT_MASK(32));
	assert_int_equal(streaming_set_mask(s, DMA_BIT_MASK(32)), 0);
	dma = streaming_map(s, coherent, 4096, DMA_TO_DEVICE, 0);
	assert_true(dma <= DMA_BIT_MASK(32));
	assert_int_equal(stats().bounced_limit, 1);
	streaming_unmap(s, dma, 4096, DMA_TO_DEVICE, 0);
	coherent_free(place.arena, &place.coherent, "fake", 4096, coherent, handle);
	close_quietly();
}

static void narrowing_the_mask_fails_while_copies_lie_above_it(void **state)
{
	dma_addr_t dma;

	(void)state;
	open_kind(FAKE_PLAIN, (struct streaming_options){0});
	dma = streaming_map(s, memory, 64, DMA_TO_DEVICE, 0);
	assert_int_equal(streaming_set_mask(s, DMA_BIT_MASK(32)), -EBUSY);
	streaming_unmap(s, dma, 64, DMA_TO_DEVICE, 0);
	assert_int_equal(streaming_set_mask(s, DMA_BIT_MASK(32)), 0);
	dma = streaming_map(s, memory, 64, DMA_TO_DEVICE, 0);
	assert_true(dma <= DMA_BIT_MASK(32));
	streaming_unmap(s, dma, 64, DMA_TO_DEVICE, 0);
	close_quietly();
}

static void pages_that_change_hands_are_known_by_their_new_owner(void **state)
{
	dma_addr_t dma, handle;
	char *coherent;

	(void)state;
	open_kind(FAKE_PLAIN, (struct streaming_options){0});
	for (size_t round = 0; round < 200; round++) {
		size_t size = (size_t)64 << round % 15;

		dma = streaming_map(s, memory, size, DMA_TO_DEVICE, 0);
		streaming_sync(s, dma + size - 1, 1, DMA_TO_DEVICE, true);
		streaming_unmap(s, dma, size, DMA_TO_DEVICE, 0);
		if (round % 3 == 0)
			assert_int_equal(streaming_set_mask(s, DMA_BIT_MASK(63 - round % 2)), 0);
		coherent =
			coherent_alloc(place.arena, &place.coherent, 262144, &handle, GFP_KERNEL);
		dma = streaming_map(s, coherent + 4096, 70000, DMA_TO_DEVICE, 0);
		streaming_sync(s, dma + 5000, 1, DMA_TO_DEVICE, true);
		streaming_unmap(s, dma, 70000, DMA_TO_DEVICE, 0);
		coherent_free(place.arena, &place.coherent, "fake", 262144, coherent, handle);
	}
	close_quietly();
}

/* Pages go from one pool to another, and to coherent memory and back. */
static void bookkeeping_of_pages_that_change_hands_does_not_grow(void **state)
{
	static const size_t sizes[] = {4000, 16000, 60000, 100, 8000};
	enum { LIVE = 64, PAGES = 512, ROUNDS = 3000 };
	static char *coherent[PAGES];
	static dma_addr_t live[LIVE], handles[PAGES];
	size_t begin = 0;

	(void)state;
	open_kind(FAKE_PLAIN, (struct streaming_options){.copy_below = BOUNCE_MAX});
	for (int round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; i < LIVE; i++)
			live[i] = streaming_map(s, memory, sizes[(i + (size_t)round) % 5],
						DMA_TO_DEVICE, 0);
		for (size_t i = 0; i < PAGES; i++) {
			coherent[i] = coherent_alloc(place.arena, &place.coherent, PAGE,
						     &handles[i], GFP_KERNEL);
			streaming_unmap(s, streaming_map(s, coherent[i], 100, DMA_TO_DEVICE, 0),
					100, DMA_TO_DEVICE, 0);
		}
		for (size_t i = 0; i < LIVE; i++)
			streaming_unmap(s, live[i], sizes[(i + (size_t)round) % 5], DMA_TO_DEVICE,
					0);
		for (size_t class = 0; class < BOUNCE_CLASSES; class ++)
			if (s->pools[class])
				dmaland_pool_trim(s->pools[class]);
		for (size_t i = 0; i < PAGES; i++)
			coherent_free(place.arena, &place.coherent, "fake", PAGE, coherent[i],
				      handles[i]);
		if (round == ROUNDS / 2)
			begin = place.space->page_count;
	}
	if (place.space->page_count > begin)
		fail_msg("bookkeeping grew from %zu pages to %zu", begin, place.space->page_count);
	close_quietly();
}

/* What is known of mappings goes from one slab of addresses to the next. */
static void bookkeeping_of_mappings_that_come_and_go_does_not_grow(void **state)
{
	uintptr_t first = 0;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	for (size_t pages = 1; pages <= IOVA_SLOT_GRANULES; pages++) {
		dma_addr_t dma = streaming_map(s, memory, pages * PAGE, DMA_TO_DEVICE, 0);
		uintptr_t word = frames_get(&place.space->frames, dma);

		assert_int_equal(word & FRAME_KIND_MASK, FRAME_MAPPED);
		streaming_unmap(s, dma, pages * PAGE, DMA_TO_DEVICE, 0);
		iova_cache_trim(&s->iova);
		assert_true(!first || word == first);
		first = word;
	}
	close_quietly();
}

static void an_untrusted_device_sees_nothing_but_the_transfer(void **state)
{
	char buffer[8192], *coherent;
	dma_addr_t handle, dma;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){.untrusted = true});
	for (size_t round = 0; round < 20; round++) {
		size_t size = 1 + (19 - round) * 211; /* what was longer before does not show */

		dma = streaming_map(s, memory + 300, size, DMA_BIDIRECTIONAL, 0);
		assert_true(fake_device_read(&place, dma & ~4095ull, buffer, 4096));
		assert_true(all_are(buffer, size < 4096 ? size : 4096, 0x11));
		assert_true(all_are(buffer + size, size < 4096 ? 4096 - size : 0, 0));
		memset(buffer, 0x11, size);
		assert_true(fake_device_write(&place, dma, buffer, size));
		streaming_unmap(s, dma, size, DMA_BIDIRECTIONAL, 0);
		assert_false(fake_device_read(&place, dma, buffer, 1));
	}
	assert_int_equal(stats().bounced_untrusted, 20);

	/* Whole granules are mapped where they are; what the arena shows for good, not as such. */
	dma = streaming_map(s, memory + 4096, 8192, DMA_TO_DEVICE, 0);
	assert_int_equal(stats().mapped, 1);
	streaming_unmap(s, dma, 8192, DMA_TO_DEVICE, 0);
	coherent = coherent_alloc(place.arena, &place.coherent, 4096, &handle, GFP_KERNEL);
	dma = streaming_map(s, coherent, 100, DMA_TO_DEVICE, 0);
	assert_true(dma != handle);
	streaming_unmap(s, dma, 100, DMA_TO_DEVICE, 0);
	assert_int_equal(stats().translated_arena, 0);
	assert_int_equal(streaming_register(s, memory, 4096), -EPERM);
	coherent_free(place.arena, &place.coherent, "fake", 4096, coherent, handle);
	close_quietly();

	/* What the device has of new granules is not yet what is in them, whatever is asked. */
	open_kind(FAKE_SHADOW, (struct streaming_options){.untrusted = true});
	dma = streaming_map(s, memory, 1000, DMA_TO_DEVICE, DMA_ATTR_SKIP_CPU_SYNC);
	assert_true(fake_device_read(&place, dma, buffer, 1000));
	assert_true(all_are(buffer, 1000, 0x11));
	streaming_unmap(s, dma, 1000, DMA_TO_DEVICE, 0);
	close_quietly();
}

static void attributes_are_known_or_refused(void **state)
{
	dma_addr_t dma;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	dma = streaming_map(s, memory, 10, DMA_TO_DEVICE,
			    DMA_ATTR_WEAK_ORDERING | DMA_ATTR_NO_WARN);
	streaming_unmap(s, dma, 10, DMA_TO_DEVICE, DMA_ATTR_WEAK_ORDERING);
	assert_true(streaming_map(s, memory, 10, DMA_TO_DEVICE, 1ul << 20) == DMA_MAPPING_ERROR);
	assert_error_says("0x100000");
	dma = streaming_map(s, memory, 10, DMA_TO_DEVICE, DMA_ATTR_DEBUGGING_IGNORE_CACHELINES);
	assert_true(dma != DMA_MAPPING_ERROR);
	streaming_unmap(s, dma, 10, DMA_TO_DEVICE, DMA_ATTR_DEBUGGING_IGNORE_CACHELINES);
	assert_int_equal(stats().failed, 1);
	close_quietly();
}

static void options_that_contradict_are_refused(void **state)
{
	static const struct streaming_options bad[] = {
		{.untrusted = true, .lazy = true},
		{.untrusted = true, .no_syscalls = true},
		{.copy_below = BOUNCE_MAX + 1},
		{.lazy = true, .lazy_count = 1000000},
	};
	struct streaming other;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(streaming_init(&other, place.space, &place.limits, &place.orphans,
						"other", &bad[i]),
				 -EINVAL);
	close_quietly();
	open_kind(FAKE_PLAIN, (struct streaming_options){0});
	assert_int_equal(streaming_init(&other, place.space, &place.limits, &place.orphans, "other",
					&(struct streaming_options){.untrusted = true}),
			 -EOPNOTSUPP);
	close_quietly();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_arrives_whatever_the_way_size_and_direction),
		cmocka_unit_test(memory_of_the_arena_is_translated),
		cmocka_unit_test(what_is_synced_is_moved_while_the_cpu_has_it),
		cmocka_unit_test(registered_memory_is_translated_at_any_alignment),
		cmocka_unit_test(many_registrations_are_told_apart),
		cmocka_unit_test(small_memory_is_copied_and_large_memory_mapped),
		cmocka_unit_test(where_nothing_can_be_mapped_all_is_copied_up_to_the_maximum),
		cmocka_unit_test(directions_are_permissions),
		cmocka_unit_test(sync_moves_just_the_part_it_names),
		cmocka_unit_test(without_sync_at_unmap_nothing_is_copied_back),
		cmocka_unit_test(low_bits_are_the_originals),
		cmocka_unit_test(addresses_lie_under_the_mask_whatever_the_boundary),
		cmocka_unit_test(memory_above_the_mask_is_not_translated),
		cmocka_unit_test(narrowing_the_mask_fails_while_copies_lie_above_it),
		cmocka_unit_test(pages_that_change_hands_are_known_by_their_new_owner),
		cmocka_unit_test(bookkeeping_of_pages_that_change_hands_does_not_grow),
		cmocka_unit_test(bookkeeping_of_mappings_that_come_and_go_does_not_grow),
		cmocka_unit_test(an_untrusted_device_sees_nothing_but_the_transfer),
		cmocka_unit_test(attributes_are_known_or_refused),
		cmocka_unit_test(options_that_contradict_are_refused),
	};

	log_capture();
	return cmocka_run_group_tests_name("streaming", tests, NULL, NULL);
}
