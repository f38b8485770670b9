/* SPDX-License-Identifier: MIT */
/*
 * test_sg.c - lists: what becomes one segment, what goes back, what is refused
 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>

#include "fake_domain.h"

enum { PAGE = 4096 };

static struct fake_place place;
static struct streaming *const s = &place.streaming;
static char memory[1 << 20] __attribute__((aligned(65536)));

static void open_kind(enum fake_kind kind, struct streaming_options options)
{
	log_clear();
	fake_streaming_open(&place, kind, &options);
	for (size_t i = 0; i < sizeof(memory); i++)
		memory[i] = (char)(i * 131 >> 3);
}

static void close_quietly(void)
{
	assert_string_equal(log_text(), "");
	assert_int_equal(streaming_live(s), 0);
	fake_streaming_close(&place);
}

struct part {
	size_t offset;
	unsigned int size;
};

static int list_of(struct scatterlist *sg, const struct part *parts, int n)
{
	sg_init_table(sg, (unsigned int)n);
	for (int i = 0; i < n; i++)
		sg_set_buf(&sg[i], memory + parts[i].offset, parts[i].size);
	return n;
}

/* The device reads just the elements' bytes, one after the other. */
static void check_device_sees(const struct scatterlist *sg, int segments, const struct part *parts,
			      int n)
{
	static char seen[1 << 20];
	size_t got = 0, at = 0;

	for (int i = 0; i < segments; i++) {
		assert_true(fake_device_read(&place, sg_dma_address(&sg[i]), seen + got,
					     sg_dma_len(&sg[i])));
		got += sg_dma_len(&sg[i]);
	}
	for (int i = 0; i < n; i++) {
		assert_memory_equal(seen + at, memory + parts[i].offset, parts[i].size);
		at += parts[i].size;
	}
	assert_int_equal(got, at);
}

/* cases: elements, and how many segments they make where memory can be mapped */
static const struct list_case {
	int n, segments;
	unsigned int max_seg;
	unsigned long boundary;
	struct part parts[6];
} cases[] = {
	{1, 1, 65536, ~0ul, {{0, 100}}},
	/* side by side: one; not quite: two */
	{3, 1, 65536, ~0ul, {{0, 100}, {100, 200}, {300, 50}}},
	{2, 2, 65536, ~0ul, {{0, 100}, {101, 200}}},
	/* side by side, backwards */
	{2, 2, 65536, ~0ul, {{100, 100}, {0, 100}}},
	/* mapped, and meeting at a granule, also with a ragged begin and end */
	{3, 1, 65536, ~0ul, {{40960, PAGE}, {8192, 8192}, {65536, 16384}}},
	{3, 1, 65536, ~0ul, {{40960 + 96, 8096}, {8192, 8192}, {65536, 5000}}},
	/* not meeting */
	{2, 2, 65536, ~0ul, {{0, 5000}, {8192, 8192}}},
	/* a small one between large ones is copied, but where it meets one at a granule */
	{3, 3, 65536, ~0ul, {{0, 8192}, {20484, 512}, {40960, 8192}}},
	{3, 2, 65536, ~0ul, {{0, 8192}, {20480, 512}, {40960, 8192}}},
	/* segment size and boundary end a segment */
	{4, 2, 16384, ~0ul, {{0, 8192}, {16384, 8192}, {32768, 8192}, {49152, 8192}}},
	{4, 4, 65536, 8191, {{0, 8192}, {16384, 8192}, {32768, 8192}, {49152, 8192}}},
	{2, 2, 100, ~0ul, {{0, 100}, {100, 100}}},
	/* small ones that are large together are mapped */
	{4, 1, 65536, ~0ul, {{0, 2048}, {2048, 2048}, {4096, 2048}, {6144, 2048}}},
};

static void elements_become_segments_by_the_rules(void **state)
{
	(void)state;
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		const struct list_case *l = &cases[c];
		struct scatterlist sg[6];
		int segments;

		open_kind(FAKE_MAPS, (struct streaming_options){0});
		place.limits.max_seg_size = l->max_seg;
		assert_int_equal(streaming_set_boundary(s, l->boundary), 0);
		segments =
			streaming_map_sg(s, sg, list_of(sg, l->parts, l->n), DMA_BIDIRECTIONAL, 0);
		if (segments != l->segments)
			fail_msg("case %zu: %d segments: %s", c, segments, dmaland_last_error());
		for (int i = 0; i < segments; i++) {
			dma_addr_t end = sg[i].dma_address + sg[i].dma_length - 1;

			assert_true(sg[i].dma_length <= l->max_seg);
			assert_int_equal(sg[i].dma_address & ~l->boundary, end & ~l->boundary);
		}
		check_device_sees(sg, segments, l->parts, l->n);
		streaming_sync_sg(s, sg, l->n, DMA_FROM_DEVICE, false);
		streaming_unmap_sg(s, sg, l->n, DMA_BIDIRECTIONAL, 0);
		assert_int_equal(place.fake.mapped_count, 0);
		close_quietly();
	}
}

static void lists_go_whatever_the_domain_can(void **state)
{
	(void)state;
	for (int kind = FAKE_PLAIN; kind <= FAKE_SHADOW; kind++)
		for (int untrusted = 0; untrusted <= (kind != FAKE_PLAIN); untrusted++)
			for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
				const struct list_case *l = &cases[c];
				struct scatterlist sg[6];
				char *before = malloc(sizeof(memory));
				int segments;

				open_kind((enum fake_kind)kind,
					  (struct streaming_options){.untrusted = untrusted});
				memcpy(before, memory, sizeof(memory));
				segments = streaming_map_sg(s, sg, list_of(sg, l->parts, l->n),
							    DMA_BIDIRECTIONAL, 0);
				assert_true(segments > 0 && segments <= l->n);
				check_device_sees(sg, segments, l->parts, l->n);
				assert_true(fake_device_write(&place, sg[0].dma_address, "!", 1));
				streaming_unmap_sg(s, sg, l->n, DMA_BIDIRECTIONAL, 0);
				before[l->parts[0].offset] = '!';
				assert_memory_equal(memory, before, sizeof(memory));
				free(before);
				close_quietly();
			}
}

static void lists_that_do_not_match_are_not_unmapped(void **state)
{
	static const struct part parts[] = {{0, 8192}, {20484, 512}, {40960, 8192}, {100000, 64}};
	struct scatterlist sg[4], wrong[4];

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	list_of(sg, parts, 4);
	assert_int_equal(streaming_map_sg(s, sg, 4, DMA_TO_DEVICE, 0), 4);

	streaming_unmap_sg(s, sg, 3, DMA_TO_DEVICE, 0);
	assert_logged("different entry count [map count=4] [unmap count=3]");
	streaming_unmap_sg(s, sg, 0, DMA_TO_DEVICE, 0);
	assert_logged("without elements");
	streaming_unmap_sg(s, sg, 4, DMA_FROM_DEVICE, 0);
	assert_logged("different direction");
	memcpy(wrong, sg, sizeof(sg));
	wrong[3].length = 65;
	streaming_unmap_sg(s, wrong, 4, DMA_TO_DEVICE, 0);
	assert_logged("differ in length");
	memcpy(wrong, sg, sizeof(sg));
	wrong[2].address = memory;
	streaming_unmap_sg(s, wrong, 4, DMA_TO_DEVICE, 0);
	assert_logged("different CPU address");
	memcpy(wrong, sg, sizeof(sg));
	wrong[3].dma_address += 64;
	streaming_unmap_sg(s, wrong, 4, DMA_TO_DEVICE, 0);
	assert_logged("it has not allocated");
	for (int i = 0; i < 2; i++) { /* one is mapped, one is copied */
		streaming_unmap(s, sg[i].dma_address, sg[i].dma_length, DMA_TO_DEVICE, 0);
		assert_logged("[mapped as scatter-gather] [unmapped as single]");
		log_clear();
	}
	streaming_sync_sg(s, sg, 4, DMA_FROM_DEVICE, false);
	assert_logged("synced with DMA_FROM_DEVICE");
	assert_int_equal(streaming_live(s), 4);
	check_device_sees(sg, 4, parts, 4);
	log_clear();

	streaming_unmap_sg(s, sg, 4, DMA_TO_DEVICE, 0);
	assert_string_equal(log_text(), "");
	streaming_unmap_sg(s, sg, 4, DMA_TO_DEVICE, 0);
	assert_logged("it has not allocated");
	log_clear();
	close_quietly();
}

/* A list of one goes the way of a single mapping, and is looked at as any list. */
static void a_list_of_one_that_does_not_match_is_not_unmapped(void **state)
{
	static const struct part parts[] = {{20484, 512}, {40960, 8192}, {40961, 60000}};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct scatterlist sg[1], wrong[1];

		open_kind(FAKE_MAPS, (struct streaming_options){0});
		assert_int_equal(
			streaming_map_sg(s, sg, list_of(sg, &parts[i], 1), DMA_TO_DEVICE, 0), 1);
		memcpy(wrong, sg, sizeof(sg));
		wrong[0].length--;
		streaming_unmap_sg(s, wrong, 1, DMA_TO_DEVICE, 0);
		assert_logged("differ in length");
		wrong[0].dma_length--;
		streaming_unmap_sg(s, wrong, 1, DMA_TO_DEVICE, 0);
		assert_logged("different size");
		memcpy(wrong, sg, sizeof(sg));
		wrong[0].address = memory;
		streaming_unmap_sg(s, wrong, 1, DMA_TO_DEVICE, 0);
		assert_logged("different CPU address");
		streaming_unmap_sg(s, sg, 1, DMA_BIDIRECTIONAL, 0);
		assert_logged("different direction");
		streaming_unmap(s, sg[0].dma_address, sg[0].dma_length, DMA_TO_DEVICE, 0);
		assert_logged("[mapped as scatter-gather] [unmapped as single]");
		assert_int_equal(streaming_live(s), 1);
		check_device_sees(sg, 1, &parts[i], 1);
		log_clear();
		streaming_unmap_sg(s, sg, 1, DMA_TO_DEVICE, 0);
		assert_string_equal(log_text(), "");
		streaming_unmap_sg(s, sg, 1, DMA_TO_DEVICE, 0);
		assert_logged("it has not allocated");
		log_clear();
		close_quietly();
	}
}

/* Memory that the device reaches across the boundary goes another way, as an element alone too. */
static void a_list_of_one_holds_its_boundary(void **state)
{
	static const struct part small = {65536 - 100, 200}, large = {65536 - 8192, 16384};
	const struct part *const parts[] = {&small, &large};
	struct dmaland_streaming_stats stats;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	assert_int_equal(streaming_set_boundary(s, 65535), 0);
	assert_int_equal(streaming_register(s, memory, 4 * 65536), 0);
	for (size_t i = 0; i < 2; i++)
		for (size_t at = 0; at < 65536; at += PAGE) { /* one crosses, wherever it lies */
			const struct part part = {parts[i]->offset + at, parts[i]->size};
			struct scatterlist sg[1];
			dma_addr_t first, last;

			assert_int_equal(
				streaming_map_sg(s, sg, list_of(sg, &part, 1), DMA_TO_DEVICE, 0),
				1);
			first = sg[0].dma_address;
			last = first + sg[0].dma_length - 1;
			assert_int_equal((first ^ last) >> 16, 0);
			streaming_unmap_sg(s, sg, 1, DMA_TO_DEVICE, 0);
		}
	streaming_get_stats(s, &stats);
	assert_in_range(stats.bounced_limit, 1, 16);
	assert_in_range(stats.translated_registered, 1, 31);
	assert_int_equal(streaming_unregister(s, memory), 0);
	close_quietly();
}

static void lists_that_cannot_be_mapped_leave_nothing_behind(void **state)
{
	static const struct part parts[] = {{0, 8192}, {20480, 512}, {40961, 8192}, {100000, 8192}};
	struct scatterlist sg[4];
	struct sg_table table = {sg, 4, 4};

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	list_of(sg, parts, 4);
	assert_int_equal(streaming_map_sg(s, sg, 0, DMA_TO_DEVICE, 0), -EINVAL);
	assert_int_equal(streaming_map_sg(s, NULL, 4, DMA_TO_DEVICE, 0), -EINVAL);
	assert_int_equal(streaming_map_sg(s, sg, 5, DMA_TO_DEVICE, 0), -EINVAL);
	assert_error_says("ends at element 3");
	assert_int_equal(streaming_map_sg(s, sg, 4, DMA_NONE, 0), -EINVAL);
	sg[2].length = 0;
	assert_int_equal(streaming_map_sg(s, sg, 4, DMA_TO_DEVICE, 0), -EINVAL);
	list_of(sg, parts, 4);
	for (unsigned int left = 0; left < 3; left++) {
		place.fake.maps_left = left;
		assert_int_equal(streaming_map_sg(s, table.sgl, 4, DMA_TO_DEVICE, 0), -ENOMEM);
		assert_int_equal(place.fake.mapped_count, 0);
		assert_int_equal(streaming_live(s), 0);
	}
	close_quietly();
}

static void a_joined_segment_fails_as_one(void **state)
{
	static const struct part parts[] = {{0, 8192}, {20480, 8192}, {40960, 8192}};
	struct scatterlist sg[3];

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	list_of(sg, parts, 3);
	place.fake.maps_left = 2;
	assert_int_equal(streaming_map_sg(s, sg, 3, DMA_TO_DEVICE, 0), -ENOMEM);
	assert_int_equal(place.fake.mapped_count, 0);
	place.fake.maps_left = 3;
	assert_int_equal(streaming_map_sg(s, sg, 3, DMA_TO_DEVICE, 0), 1);
	streaming_unmap_sg(s, sg, 3, DMA_TO_DEVICE, 0);
	close_quietly();
}

static void a_segment_that_fails_halfway_gives_its_addresses_back(void **state)
{
	static const struct part parts[] = {{0, 8192}, {20480, 8192}, {40960, 8192}};
	struct scatterlist sg[3];
	uint64_t before;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	before = iova_space_free(&place.fake.domain.iova, UINT64_MAX);
	list_of(sg, parts, 3);
	place.fake.map_error = EIO;
	for (unsigned int left = 0; left < 3; left++) {
		place.fake.maps_left = left;
		assert_int_equal(streaming_map_sg(s, sg, 3, DMA_TO_DEVICE, 0), -EIO);
		assert_int_equal(place.fake.mapped_count, 0);
		iova_cache_trim(&s->iova);
		assert_true(iova_space_free(&place.fake.domain.iova, UINT64_MAX) == before);
	}
	close_quietly();
}

static void translated_elements_stay_translated_beside_others(void **state)
{
	static const struct part parts[] = {{0, 4096}, {4096, 4096}, {8192, 100}};
	struct dmaland_streaming_stats stats;
	struct scatterlist sg[3];
	int segments;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	assert_int_equal(streaming_register(s, memory, 8192), 0);
	list_of(sg, parts, 3);
	segments = streaming_map_sg(s, sg, 3, DMA_TO_DEVICE, 0);
	assert_int_equal(segments, 2);
	assert_int_equal(sg[0].dma_length, 8192);
	streaming_get_stats(s, &stats);
	assert_int_equal(stats.translated_registered, 1);
	assert_int_equal(stats.bounced_small, 1);
	check_device_sees(sg, segments, parts, 3);
	streaming_unmap_sg(s, sg, 3, DMA_TO_DEVICE, 0);
	assert_int_equal(streaming_unregister(s, memory), 0);
	close_quietly();
}

/* Where the device finds element i: in the segment that covers it. */
static dma_addr_t element_address(const struct scatterlist *sg, int i)
{
	size_t at = 0;
	int segment = 0;

	for (int j = 0; j < i; j++)
		at += sg[j].length;
	for (; at >= sg[segment].dma_length; segment++)
		at -= sg[segment].dma_length;
	return sg[segment].dma_address + at;
}

/* Memory that begins or ends at the edge of a page, or crosses one. */
static bool touches_edge(const struct part *part)
{
	size_t inside = part->offset % PAGE;

	return inside == 0 || inside + part->size >= PAGE;
}

/* Elements that lie apart or side by side, and begin and end in the middle of pages or at their edges. */
static int random_parts(struct part *parts, int most, uint64_t *seed)
{
	int n = 1 + (int)random_below(seed, (uint64_t)most);
	size_t at = random_below(seed, 2 * PAGE);

	for (int i = 0; i < n; i++) {
		size_t to_edge = PAGE - at % PAGE, pages = random_below(seed, 5) * PAGE;

		switch (random_below(seed, 3)) {
		case 0:
			parts[i] = (struct part){at, (unsigned int)(to_edge + pages)};
			break;
		case 1:
			parts[i] = (struct part){at, 1 + (unsigned int)random_below(seed, to_edge)};
			break;
		default:
			parts[i] = (struct part){
				at, 1 + (unsigned int)random_below(seed, PAGE + pages)};
			break;
		}
		at += parts[i].size;
		if (random_below(seed, 3))
			at = (at + random_below(seed, 3 * PAGE)) &
			     ~(size_t)(random_below(seed, 2) ? PAGE - 1 : 0);
		if (at < parts[i].offset + parts[i].size)
			at += PAGE;
	}
	return n;
}

static void check_places(const struct part *parts, int n)
{
	enum { MOST = 6 };
	struct scatterlist sg[MOST];
	int segments = streaming_map_sg(s, sg, list_of(sg, parts, n), DMA_BIDIRECTIONAL, 0);

	if (segments <= 0)
		fail_msg("a list of %d: %s", n, dmaland_last_error());
	check_device_sees(sg, segments, parts, n);
	for (int i = 0; n > 1 && i < n; i++) {
		dma_addr_t dma = element_address(sg, i);

		if (touches_edge(&parts[i]) && (dma ^ parts[i].offset) % PAGE)
			fail_msg("element %d of %d, %u bytes at offset %zu, is at offset %zu", i, n,
				 parts[i].size, parts[i].offset % PAGE, (size_t)(dma % PAGE));
	}
	streaming_unmap_sg(s, sg, n, DMA_BIDIRECTIONAL, 0);
}

static void elements_at_the_edge_of_a_page_keep_their_place_in_it(void **state)
{
	static const size_t copies[] = {0, 1, 16384, BOUNCE_MAX};
	uint64_t seed = 4096;

	(void)state;
	for (int kind = FAKE_PLAIN; kind <= FAKE_SHADOW; kind++)
		for (int way = 0; way < 12; way++) {
			struct streaming_options options = {.copy_below = copies[way % 4],
							    .untrusted = way / 4 == 1};
			bool registers = way / 4 == 2;
			struct part parts[6];

			if (kind == FAKE_PLAIN && way / 4)
				continue;
			open_kind((enum fake_kind)kind, options);
			if (registers)
				assert_int_equal(streaming_register(s, memory, 20 * PAGE + 100), 0);
			for (int i = 0; i < 300; i++)
				check_places(parts, random_parts(parts, 6, &seed));
			assert_int_equal(streaming_set_min_align(s, 511), 0);
			for (int i = 0; i < 100; i++)
				check_places(parts, random_parts(parts, 6, &seed));
			if (registers)
				assert_int_equal(streaming_unregister(s, memory), 0);
			close_quietly();
		}
}

/* What stands alone has no neighbour to meet: it keeps what the alignment mask asks. */
static void a_list_of_one_is_copied_as_a_single_mapping_is(void **state)
{
	const struct part parts[] = {{PAGE - 64, 64}};
	struct scatterlist sg[1];
	dma_addr_t single;

	(void)state;
	open_kind(FAKE_PLAIN, (struct streaming_options){0});
	single = streaming_map(s, memory + PAGE - 64, 64, DMA_TO_DEVICE, 0);
	streaming_unmap(s, single, 64, DMA_TO_DEVICE, 0);
	assert_int_equal(streaming_map_sg(s, sg, list_of(sg, parts, 1), DMA_TO_DEVICE, 0), 1);
	assert_true(sg_dma_address(&sg[0]) == single);
	streaming_unmap_sg(s, sg, 1, DMA_TO_DEVICE, 0);
	close_quietly();
}

/* Of the largest copy, whose block must be larger than it. */
static void the_largest_element_that_is_copied_keeps_its_place(void **state)
{
	char *large = aligned_alloc(PAGE, BOUNCE_MAX + PAGE), *seen = malloc(BOUNCE_MAX);
	struct scatterlist sg[2];

	(void)state;
	assert_true(large && seen);
	for (size_t i = 0; i < BOUNCE_MAX + PAGE; i++)
		large[i] = (char)(i * 131 >> 3);
	open_kind(FAKE_PLAIN, (struct streaming_options){0});
	place.limits.max_seg_size = BOUNCE_MAX;
	for (size_t offset = 1; offset < PAGE; offset += 819) {
		sg_init_table(sg, 2);
		sg_set_buf(&sg[0], large + offset, BOUNCE_MAX);
		sg_set_buf(&sg[1], memory, 64);
		if (streaming_map_sg(s, sg, 2, DMA_FROM_DEVICE, 0) != 2)
			fail_msg("offset %zu: %s", offset, dmaland_last_error());
		assert_int_equal(sg_dma_address(&sg[0]) % PAGE, offset);
		assert_true(fake_device_read(&place, sg_dma_address(&sg[0]), seen, BOUNCE_MAX));
		assert_memory_equal(seen, large + offset, BOUNCE_MAX);
		streaming_unmap_sg(s, sg, 2, DMA_FROM_DEVICE, 0);
	}
	close_quietly();
	free(large);
	free(seen);
}

/* The boundary is what the device can do; an element that fits it nowhere at its offset gives that up. */
static void a_boundary_goes_before_the_place_in_the_page(void **state)
{
	static const struct part parts[] = {
		{0, PAGE}, {2 * PAGE + 512, PAGE}, {5 * PAGE + 512, 3584}, {6 * PAGE, 512}};
	struct scatterlist sg[4];

	(void)state;
	open_kind(FAKE_PLAIN, (struct streaming_options){0});
	assert_int_equal(streaming_set_boundary(s, PAGE - 1), 0);
	assert_int_equal(streaming_map_sg(s, sg, list_of(sg, parts, 4), DMA_TO_DEVICE, 0), 4);
	for (int i = 0; i < 4; i++) {
		dma_addr_t dma = sg_dma_address(&sg[i]);

		assert_int_equal(dma / PAGE, (dma + sg_dma_len(&sg[i]) - 1) / PAGE);
		assert_int_equal(dma % PAGE, i == 1 ? 0 : parts[i].offset % PAGE);
	}
	check_device_sees(sg, 4, parts, 4);
	streaming_unmap_sg(s, sg, 4, DMA_TO_DEVICE, 0);
	close_quietly();
}

static void helpers_walk_and_end_lists(void **state)
{
	struct sg_table table;
	struct scatterlist *sg;
	unsigned int i, n = 0;

	(void)state;
	assert_int_equal(sg_alloc_table(&table, 0, GFP_KERNEL), -EINVAL);
	assert_int_equal(sg_alloc_table(&table, 5, GFP_ATOMIC), -ENOMEM);
	assert_int_equal(sg_alloc_table(&table, 5, GFP_KERNEL), 0);
	for_each_sgtable_sg(&table, sg, i)
	{
		sg_set_buf(sg, memory + i, i + 1);
		n += sg->length;
	}
	assert_int_equal(n, 15);
	assert_int_equal(sg_nents(table.sgl), 5);
	assert_ptr_equal(sg_virt(&table.sgl[2]), memory + 2);
	sg_mark_end(&table.sgl[2]);
	assert_int_equal(sg_nents(table.sgl), 3);
	assert_null(sg_next(&table.sgl[2]));
	sg_free_table(&table);
	assert_null(table.sgl);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(elements_become_segments_by_the_rules),
		cmocka_unit_test(lists_go_whatever_the_domain_can),
		cmocka_unit_test(lists_that_do_not_match_are_not_unmapped),
		cmocka_unit_test(a_list_of_one_that_does_not_match_is_not_unmapped),
		cmocka_unit_test(a_list_of_one_holds_its_boundary),
		cmocka_unit_test(lists_that_cannot_be_mapped_leave_nothing_behind),
		cmocka_unit_test(a_joined_segment_fails_as_one),
		cmocka_unit_test(a_segment_that_fails_halfway_gives_its_addresses_back),
		cmocka_unit_test(translated_elements_stay_translated_beside_others),
		cmocka_unit_test(elements_at_the_edge_of_a_page_keep_their_place_in_it),
		cmocka_unit_test(a_list_of_one_is_copied_as_a_single_mapping_is),
		cmocka_unit_test(the_largest_element_that_is_copied_keeps_its_place),
		cmocka_unit_test(a_boundary_goes_before_the_place_in_the_page),
		cmocka_unit_test(helpers_walk_and_end_lists),
	};

	log_capture();
	return cmocka_run_group_tests_name("scatterlists", tests, NULL, NULL);
}
