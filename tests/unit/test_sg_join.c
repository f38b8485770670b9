/* SPDX-License-Identifier: MIT */
/*
 * test_sg_join.c - joining: never dearer, never why a list fails, and where it was promised
 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>

#include "streaming_stand.h"

enum { PAGE = 4096, MOST = 8, LARGE = 4 << 20 };

static char *large; /* LARGE bytes, at a multiple of 64 KiB */

static int large_get(void **state)
{
	(void)state;
	large = aligned_alloc(65536, LARGE);
	for (size_t i = 0; large && i < LARGE; i++)
		large[i] = (char)(i * 131 >> 5);
	return !large;
}

static int large_free(void **state)
{
	(void)state;
	free(large);
	return 0;
}

static void list_of(struct scatterlist *sg, int n, size_t offset, size_t stride, unsigned int size)
{
	sg_init_table(sg, (unsigned int)n);
	for (int i = 0; i < n; i++)
		sg_set_buf(&sg[i], large + offset + (size_t)i * stride, size);
}

/* The device reads what the elements hold, one after the other. */
static void check_device_sees(const struct scatterlist *sg, int n, int segments)
{
	static char seen[LARGE];
	size_t got = 0, at = 0;

	for (int i = 0; i < segments; i++) {
		assert_true(fake_device_read(&place, sg_dma_address(&sg[i]), seen + got,
					     sg_dma_len(&sg[i])));
		got += sg_dma_len(&sg[i]);
	}
	for (int i = 0; i < n; at += sg[i++].length)
		assert_memory_equal(seen + at, sg_virt(&sg[i]), sg[i].length);
	assert_int_equal(got, at);
}

static void segments_hold(const struct scatterlist *sg, int segments)
{
	for (int i = 0; i < segments; i++) {
		dma_addr_t first = sg_dma_address(&sg[i]), last = first + sg_dma_len(&sg[i]) - 1;

		assert_true(sg_dma_len(&sg[i]) <= place.limits.max_seg_size);
		assert_false((first ^ last) & ~place.limits.seg_boundary);
	}
}

/* Elements side by side that can be mapped each, and all of them as one can't. */
static const struct shape {
	enum fake_kind kind;
	struct streaming_options options;
	unsigned int max_seg;
	uint64_t boundary, min_align;
	size_t offset;
	unsigned int size;
	int n, segments;
} shapes[] = {
	/* more than is copied at most */
	{FAKE_PLAIN, {0}, LARGE, ~0ul, 0, 0, 256 << 10, 8, 2},
	{FAKE_MAPS, {.untrusted = true}, LARGE, ~0ul, 0, 100, 600000, 3, 3},
	{FAKE_SHADOW, {.untrusted = true}, LARGE, ~0ul, 0, 100, 300000, 4, 2},
	/* copied, and large together: to be mapped by a system call */
	{FAKE_MAPS, {.no_syscalls = true}, 65536, ~0ul, 0, 100, 3000, 2, 2},
	/* within the boundary only as they lie in their granules */
	{FAKE_MAPS, {0}, 65536, 65535, 0, 0x800, 32 << 10, 2, 2},
	{FAKE_MAPS, {0}, 65536, 65535, 0, 0, 32 << 10, 2, 1},
	{FAKE_MAPS, {0}, 65536, 4095, 0, 2096, 2000, 2, 2},
	{FAKE_MAPS, {0}, 65536, 4095, 4095, 3096, 1000, 2, 2},
	{FAKE_MAPS, {0}, 65536, 65535, 4095, 0x200, 16 << 10, 4, 2},
	{FAKE_MAPS, {0}, 128 << 10, (128 << 10) - 1, 0, 512, 32 << 10, 4, 2},
	{FAKE_MAPS, {.untrusted = true}, 65536, 2047, 0, 100, 1000, 3, 2},
	{FAKE_MAPS, {0}, 65536, 8191, 16383, 0x3000, 2048, 4, 2},
	/* whole granules are mapped, the others copied */
	{FAKE_MAPS, {.untrusted = true}, LARGE, ~0ul, 0, 0, 3 * PAGE, 4, 1},
	/* an element that fits within the boundary nowhere where it lies is copied to where it does */
	{FAKE_MAPS, {0}, 65536, 65535, 0, 0x800, 65536, 2, 2},
};

static void a_list_maps_when_its_elements_do(void **state)
{
	struct scatterlist sg[MOST];

	(void)state;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		const struct shape *shape = &shapes[i];
		int segments;

		open_kind(shape->kind, shape->options);
		place.limits.max_seg_size = shape->max_seg;
		assert_int_equal(streaming_set_boundary(s, shape->boundary), 0);
		assert_int_equal(streaming_set_min_align(s, shape->min_align), 0);
		list_of(sg, shape->n, shape->offset, shape->size, shape->size);
		for (int k = 0; k < shape->n; k++) {
			dma_addr_t dma =
				streaming_map(s, sg_virt(&sg[k]), shape->size, DMA_TO_DEVICE, 0);

			assert_true(dma != DMA_MAPPING_ERROR);
			streaming_unmap(s, dma, shape->size, DMA_TO_DEVICE, 0);
		}
		segments = streaming_map_sg(s, sg, shape->n, DMA_BIDIRECTIONAL, 0);
		if (segments != shape->segments)
			fail_msg("shape %zu: %d segments: %s", i, segments, dmaland_last_error());
		segments_hold(sg, segments);
		check_device_sees(sg, shape->n, segments);
		streaming_unmap_sg(s, sg, shape->n, DMA_BIDIRECTIONAL, 0);
		close_quietly();
	}
}

/* ---- what the device reaches already ---- */

static void registered_memory_stays_translated_beside_others(void **state)
{
	struct dmaland_streaming_stats now;
	struct scatterlist sg[MOST];
	int segments;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	place.limits.max_seg_size = LARGE;
	/* Two registrations side by side, in front of them, between them and behind them the heap. */
	assert_int_equal(streaming_register(s, large + 4 * PAGE, 2 * PAGE), 0);
	assert_int_equal(streaming_register(s, large + 6 * PAGE, 64 * PAGE), 0);
	sg_init_table(sg, 5);
	sg_set_buf(&sg[0], large + 4 * PAGE - 64, 64);
	sg_set_buf(&sg[1], large + 4 * PAGE, 2 * PAGE);
	sg_set_buf(&sg[2], large + 6 * PAGE, 32 * PAGE);
	sg_set_buf(&sg[3], large + 38 * PAGE, 32 * PAGE);
	sg_set_buf(&sg[4], large + 70 * PAGE, 2 * PAGE);
	segments = streaming_map_sg(s, sg, 5, DMA_BIDIRECTIONAL, 0);
	assert_int_equal(segments, 4);
	check_device_sees(sg, 5, segments);
	now = stats();
	assert_int_equal(now.translated_registered, 2);
	assert_int_equal(now.bounced_small, 1);
	assert_int_equal(now.mapped, 1);
	streaming_unmap_sg(s, sg, 5, DMA_BIDIRECTIONAL, 0);
	assert_int_equal(streaming_unregister(s, large + 4 * PAGE), 0);
	assert_int_equal(streaming_unregister(s, large + 6 * PAGE), 0);
	close_quietly();
}

/* ---- what meets at a granule ---- */

static const struct meeting {
	size_t copy_below, offset;
	unsigned int max_seg, size;
	int n, segments;
	bool copied;
} meetings[] = {
	/* cheaper to be copied each: copied side by side, as far as copies go */
	{16384, 0, LARGE, PAGE, 2, 1, true},
	{16384, 0, LARGE, PAGE, 16, 1, true},
	{16384, 0, LARGE, PAGE, 65, 1, true},
	{16384, 0, 65536, PAGE, 65, 5, true},
	{16384, 0, LARGE, PAGE, 512, 1, false},
	/* mapped */
	{0, 0, LARGE, PAGE, 2, 1, false},
	{0, 0, LARGE, PAGE, 65, 1, false},
	{0, 0, LARGE, PAGE, 512, 1, false},
	{0, 0, 1 << 20, PAGE, 512, 2, false},
};

static void elements_that_meet_at_granules_become_one_segment(void **state)
{
	static struct scatterlist sg[512];

	(void)state;
	for (size_t i = 0; i < sizeof(meetings) / sizeof(meetings[0]); i++) {
		const struct meeting *m = &meetings[i];
		int segments;

		open_kind(FAKE_MAPS, (struct streaming_options){.copy_below = m->copy_below});
		place.limits.max_seg_size = m->max_seg;
		assert_true(streaming_merges(s));
		list_of(sg, m->n, m->offset, 2 * PAGE, m->size);
		segments = streaming_map_sg(s, sg, m->n, DMA_BIDIRECTIONAL, 0);
		if (segments != m->segments)
			fail_msg("case %zu: %d segments: %s", i, segments, dmaland_last_error());
		segments_hold(sg, segments);
		check_device_sees(sg, m->n, segments);
		assert_int_equal(stats().live_bounced, m->copied ? segments : 0);
		assert_int_equal(stats().live_mapped, m->copied ? 0 : segments);
		streaming_unmap_sg(s, sg, m->n, DMA_BIDIRECTIONAL, 0);
		close_quietly();
	}
}

/* Pages that are copied side by side: the first from its middle, the last to its middle, and two in between. */
static const struct {
	size_t offset;
	unsigned int size;
} ragged[] = {{PAGE + 1000, PAGE - 1000}, {8 * PAGE, PAGE}, {4 * PAGE, 2 * PAGE}, {12 * PAGE, 600}};

enum { RAGGED = 4, RAGGED_BYTES = PAGE - 1000 + 3 * PAGE + 600 };

static int ragged_list(struct scatterlist *sg)
{
	sg_init_table(sg, RAGGED);
	for (int i = 0; i < RAGGED; i++)
		sg_set_buf(&sg[i], memory + ragged[i].offset, ragged[i].size);
	return streaming_map_sg(s, sg, RAGGED, DMA_BIDIRECTIONAL, 0);
}

/* All that is copied side by side comes back to where it was, and nothing else changes. */
static void copies_that_lie_side_by_side_go_back_to_their_elements(void **state)
{
	static char sent[RAGGED_BYTES], expected[sizeof(memory)];
	struct scatterlist sg[RAGGED];

	(void)state;
	for (uint64_t align = 0; align <= 16383; align = 4 * align + 3) {
		size_t done = 0;

		open_kind(FAKE_MAPS, (struct streaming_options){.copy_below = 16384});
		assert_int_equal(streaming_set_min_align(s, align), 0);
		assert_int_equal(ragged_list(sg), 1);
		assert_int_equal(stats().bounced_small, 1);
		assert_int_equal(sg_dma_address(sg) & (align | (PAGE - 1)),
				 (uintptr_t)sg_virt(sg) & (align | (PAGE - 1)));
		for (size_t i = 0; i < sizeof(sent); i++)
			sent[i] = (char)(i * 31);
		assert_true(fake_device_write(&place, sg_dma_address(sg), sent, sizeof(sent)));
		memcpy(expected, memory, sizeof(memory));
		/* A part of it is synced: the end of the first and the beginning of the second. */
		streaming_sync(s, sg_dma_address(sg) + 3000, 200, DMA_BIDIRECTIONAL, false);
		memcpy(expected + ragged[0].offset + 3000, sent + 3000, 96);
		memcpy(expected + ragged[1].offset, sent + 3096, 104);
		assert_memory_equal(memory, expected, sizeof(memory));
		streaming_sync_sg(s, sg, RAGGED, DMA_BIDIRECTIONAL, true);
		assert_true(fake_device_read(&place, sg_dma_address(sg) + 3200, sent, 1));
		assert_int_equal(sent[0], 0x11);
		assert_true(fake_device_write(&place, sg_dma_address(sg), sent, sizeof(sent)));
		streaming_unmap_sg(s, sg, RAGGED, DMA_BIDIRECTIONAL, 0);
		for (int i = 0; i < RAGGED; done += ragged[i++].size)
			memcpy(expected + ragged[i].offset, sent + done, ragged[i].size);
		assert_memory_equal(memory, expected, sizeof(memory));
		close_quietly();
	}
}

/* What is left of them at the end goes, and blocks that held them hold single copies later. */
static void blocks_of_several_elements_are_used_again_for_one(void **state)
{
	struct scatterlist sg[RAGGED];
	dma_addr_t dma;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){.copy_below = 65536});
	for (int i = 0; i < 3; i++) {
		assert_int_equal(ragged_list(sg), 1);
		streaming_unmap_sg(s, sg, RAGGED, DMA_BIDIRECTIONAL, DMA_ATTR_SKIP_CPU_SYNC);
		dma = streaming_map(s, memory, RAGGED_BYTES + 1000, DMA_FROM_DEVICE, 0);
		assert_true(fake_device_write(&place, dma + RAGGED_BYTES, "!", 1));
		streaming_sync(s, dma, RAGGED_BYTES + 1000, DMA_FROM_DEVICE, false);
		assert_int_equal(memory[RAGGED_BYTES], '!');
		streaming_unmap(s, dma, RAGGED_BYTES + 1000, DMA_FROM_DEVICE, 0);
	}
	assert_int_equal(ragged_list(sg), 1);
	assert_string_equal(log_text(), "");
	fake_streaming_close(&place);
}

static void nothing_is_promised_where_nothing_is_joined(void **state)
{
	(void)state;
	open_kind(FAKE_PLAIN, (struct streaming_options){0});
	assert_false(streaming_merges(s));
	close_quietly();
	open_kind(FAKE_SHADOW, (struct streaming_options){0});
	assert_false(streaming_merges(s));
	close_quietly();
	open_kind(FAKE_MAPS, (struct streaming_options){.no_syscalls = true});
	assert_false(streaming_merges(s));
	close_quietly();
}

/* ---- where a segment can't be had ---- */

static void elements_go_alone_where_they_cannot_go_together(void **state)
{
	struct scatterlist sg[MOST];

	(void)state;
	/* The mapping that two would become fails; the copies that they are alone do not. */
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	place.fake.maps_left = 0;
	list_of(sg, 4, 0, 3000, 3000);
	assert_int_equal(streaming_map_sg(s, sg, 4, DMA_TO_DEVICE, 0), 4);
	check_device_sees(sg, 4, 4);
	streaming_unmap_sg(s, sg, 4, DMA_TO_DEVICE, 0);
	assert_int_equal(place.fake.mapped_count, 0);
	close_quietly();
}

/* ---- what the limits are of ---- */

static void a_boundary_and_a_segments_size_are_no_limits_of_single_mappings(void **state)
{
	static const size_t sizes[] = {100, 4000, 10000, 65536, 70000, 3 << 20};
	static const struct streaming_options options[] = {
		{0}, {.copy_below = 16384}, {.untrusted = true}, {.lazy = true}};

	(void)state;
	for (size_t o = 0; o < sizeof(options) / sizeof(options[0]); o++)
		for (uint64_t boundary = 255; boundary <= 65535; boundary = 16 * boundary + 15) {
			open_kind(FAKE_MAPS, options[o]);
			place.limits.max_seg_size = 512;
			assert_int_equal(streaming_set_boundary(s, boundary), 0);
			for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
				bool whole = o != 2 || sizes[i] <= BOUNCE_MAX;
				size_t offset = whole ? 3584 : 0;
				dma_addr_t dma = streaming_map(s, large + offset, sizes[i],
							       DMA_TO_DEVICE, 0);

				if (dma == DMA_MAPPING_ERROR)
					fail_msg("%zu bytes: %s", sizes[i], dmaland_last_error());
				streaming_unmap(s, dma, sizes[i], DMA_TO_DEVICE, 0);
			}
			close_quietly();
		}
}

/* As in the kernel: what is larger than the device takes goes alone, and debug mode tells. */
static void elements_above_the_limits_go_alone_and_are_told_in_debug_mode(void **state)
{
	(void)state;
	for (int debug = 0; debug < 2; debug++) {
		struct scatterlist sg[3];

		open_kind(FAKE_MAPS, (struct streaming_options){.debug = debug});
		place.limits.max_seg_size = 8192;
		assert_int_equal(streaming_set_boundary(s, 0x1ffff), 0);
		sg_init_table(sg, 3);
		sg_set_buf(&sg[0], large, 8192);
		sg_set_buf(&sg[1], large + 8192, 8193);
		sg_set_buf(&sg[2], large + 65536, 2 << 20);
		assert_int_equal(streaming_map_sg(s, sg, 3, DMA_TO_DEVICE, 0), 3);
		check_device_sees(sg, 3, 3);
		if (debug) {
			assert_logged("an sg element of 8193 bytes, and the device takes segments "
				      "of 8192");
			assert_logged("an sg element of 2097152 bytes that crosses the segment "
				      "boundary 0x1ffff");
		}
		if (debug)
			log_clear();
		streaming_unmap_sg(s, sg, 3, DMA_TO_DEVICE, 0);
		close_quietly();
	}
}

static void no_addresses_within_a_boundary_are_told_as_such(void **state)
{
	struct scatterlist sg[2];

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	assert_int_equal(streaming_set_mask(s, 0xffff), 0);
	assert_true(streaming_map(s, large, 65536, DMA_TO_DEVICE, 0) == DMA_MAPPING_ERROR);
	assert_error_says("under the mask 0xffff (");
	sg_init_one(sg, large, 65536);
	assert_int_equal(streaming_map_sg(s, sg, 1, DMA_TO_DEVICE, 0), -ENOMEM);
	assert_error_says("segment boundary 0xffffffff (dma_set_seg_boundary)");
	close_quietly();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_list_maps_when_its_elements_do),
		cmocka_unit_test(registered_memory_stays_translated_beside_others),
		cmocka_unit_test(elements_that_meet_at_granules_become_one_segment),
		cmocka_unit_test(copies_that_lie_side_by_side_go_back_to_their_elements),
		cmocka_unit_test(blocks_of_several_elements_are_used_again_for_one),
		cmocka_unit_test(nothing_is_promised_where_nothing_is_joined),
		cmocka_unit_test(elements_go_alone_where_they_cannot_go_together),
		cmocka_unit_test(a_boundary_and_a_segments_size_are_no_limits_of_single_mappings),
		cmocka_unit_test(elements_above_the_limits_go_alone_and_are_told_in_debug_mode),
		cmocka_unit_test(no_addresses_within_a_boundary_are_told_as_such),
	};

	log_capture();
	return cmocka_run_group_tests_name("scatterlists: joining", tests, large_get, large_free);
}
