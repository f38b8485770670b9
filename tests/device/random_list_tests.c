/* SPDX-License-Identifier: MIT */
/*
 * random_list_tests.c - lists of all kinds of memory, under all kinds of limits
 *
 * What is compared: whether a list maps with whether its elements do, one by one, and what a device
 * that can be told so in bytes finds in the segments with what lies in the elements.
 */
#include "streaming_stand.h"

#include <errno.h>
#include <stdlib.h>

enum { HEAP = 2 << 20, ARENA = 256 << 10, STACK = 8192, ELEMENTS = 12, LISTS = 60 };

/* What elements are taken from: from the front to the back, so that none overlap. */
enum { KIND_HEAP, KIND_REGISTERED, KIND_ARENA, KIND_STACK, KINDS };

struct source {
	unsigned char *begin;
	size_t size, used;
};

static struct source sources[KINDS];
static struct scatterlist list[ELEMENTS];
static unsigned char *bytes; /* 2 * HEAP of them, more than a list has */
static uint64_t seed;
static size_t largest; /* element that the device does not reach already */

static size_t below(size_t n)
{
	return (size_t)random_below(&seed, n);
}

/* Small, about a page, about where copying ends, a few whole pages, or beyond what is copied at all. */
static size_t any_size(void)
{
	switch (below(16)) {
	case 0:
		return ((size_t)1 << 20) + below(5000) - 2500;
	case 1 ... 3:
		return 1 + below(40000);
	case 4 ... 7:
		return 4096 * (1 + below(6));
	case 8 ... 10:
		return 1 + below(6000);
	default:
		return 1 + below(600);
	}
}

/* The next element: behind the one before, at a page's beginning, or anywhere. False: there is no room. */
static bool element_take(struct scatterlist *sg, int kind)
{
	struct source *source = &sources[kind];
	size_t size = any_size(), at = source->used;

	switch (below(4)) {
	case 0:
		at += below(9000);
		break;
	case 1:
		at += -(uintptr_t)(source->begin + at) & 4095;
		break;
	default:
		break;
	}
	if (below(3) == 0) /* up to the end of a page */
		size += -(uintptr_t)(source->begin + at + size) & 4095;
	if (size > largest && kind != KIND_REGISTERED && kind != KIND_ARENA)
		size = 1 + size % largest;
	if (at + size > source->size)
		return false;
	sg_set_buf(sg, source->begin + at, (unsigned int)size);
	source->used = at + size;
	return true;
}

/* Mostly of the kind that the one before is of; the heap goes on where what is registered ends. */
static int list_make(void)
{
	int want = 1 + (int)below(ELEMENTS), n = 0, kind = (int)below(KINDS);

	for (int i = 0; i < KINDS; i++)
		sources[i].used = below(2) ? 0 : below(below(2) ? 16 : 20000);
	if (below(3) == 0) /* up to the edge, and on */
		sources[KIND_HEAP].used = sources[KIND_HEAP].size - 1 - below(9000);
	sg_init_table(list, ELEMENTS);
	for (int tries = 0; n < want && tries < 2 * ELEMENTS; tries++) {
		if (element_take(&list[n], kind))
			n++;
		else if (kind == KIND_HEAP)
			kind = KIND_REGISTERED;
		if (below(4) == 0)
			kind = (int)below(KINDS);
	}
	if (n)
		sg_mark_end(&list[n - 1]);
	return n;
}

static void limits_choose(void)
{
	static const unsigned int sizes[] = {512, 4096, 65536, 65536, 1 << 20, 4 << 20};
	static const unsigned long boundaries[] = {511,	    4095,	8191,	    65535,
						   0xfffff, 0xffffffff, 0xffffffff, ~0ul};
	static const unsigned int aligns[] = {0, 0, 0, 511, 4095, 16383, 65535};

	assert_int_equal(dma_set_max_seg_size(m.dev, sizes[below(6)]), 0);
	assert_int_equal(dma_set_seg_boundary(m.dev, boundaries[below(8)]), 0);
	assert_int_equal(dma_set_min_align_mask(m.dev, aligns[below(7)]), 0);
}

/* All at a time, as the list has them. */
static bool elements_map(int n, enum dma_data_direction dir)
{
	dma_addr_t dma[ELEMENTS];
	bool all = true;

	for (int i = 0; i < n; i++) {
		dma[i] = dma_map_single(m.dev, sg_virt(&list[i]), list[i].length, dir);
		all &= !dma_mapping_error(m.dev, dma[i]);
	}
	for (int i = 0; i < n; i++)
		if (!dma_mapping_error(m.dev, dma[i]))
			dma_unmap_single_attrs(m.dev, dma[i], list[i].length, dir,
					       DMA_ATTR_SKIP_CPU_SYNC);
	return all;
}

/* What was joined holds the limits; what is one element may be larger than they are. */
static void segments_check(int n, int segments)
{
	unsigned long boundary = dma_get_seg_boundary(m.dev);
	int element = 0;

	for (int i = 0; i < segments; i++) {
		dma_addr_t first = sg_dma_address(&list[i]),
			   last = first + sg_dma_len(&list[i]) - 1;
		size_t size = 0;
		int elements = 0;

		for (; size < sg_dma_len(&list[i]); elements++)
			size += list[element++].length;
		assert_int_equal(size, sg_dma_len(&list[i]));
		assert_true(last <= dma_get_mask(m.dev));
		assert_true(elements == 1 || size <= dma_get_max_seg_size(m.dev));
		assert_true(elements == 1 || !((first ^ last) & ~boundary));
	}
	assert_int_equal(element, n);
}

static size_t list_bytes(int n)
{
	size_t sum = 0;

	for (int i = 0; i < n; i++)
		sum += list[i].length;
	return sum;
}

static void elements_fill(int n, uint64_t with)
{
	for (int i = 0; i < n; i++)
		random_fill(sg_virt(&list[i]), list[i].length, with + (uint64_t)i);
}

/* The device moves the bytes to the segments, or from there, a part at a time. */
static void segments_move(int segments, bool to_list)
{
	size_t done = 0, at, part;

	for (int i = 0; i < segments; done += sg_dma_len(&list[i++]))
		for (at = 0; at < sg_dma_len(&list[i]); at += part) {
			part = sg_dma_len(&list[i]) - at;
			part = part < m.room ? part : m.room;
			part = part < MOVER_SCRATCH ? part : MOVER_SCRATCH;
			if (to_list) {
				memcpy(m.scratch, bytes + done + at, part);
				mover_move(&m, m.scratch_dma, sg_dma_address(&list[i]) + at, part);
			} else {
				mover_move(&m, sg_dma_address(&list[i]) + at, m.scratch_dma, part);
				memcpy(bytes + done + at, m.scratch, part);
			}
		}
}

static void elements_compare(int n, int number)
{
	size_t at = 0;

	for (int i = 0; i < n; at += list[i++].length)
		if (memcmp(bytes + at, sg_virt(&list[i]), list[i].length) != 0)
			fail_msg("list %d: element %d of %d has other bytes", number, i, n);
}

static void list_check(int number)
{
	enum dma_data_direction dir = (enum dma_data_direction)below(3);
	int n = list_make(), segments;
	bool all;

	if (!n)
		return;
	limits_choose();
	all = elements_map(n, dir);
	elements_fill(n, (uint64_t)number);
	segments = dma_map_sg(m.dev, list, n, dir);
	/* Copies of a list may need more memory than those of its elements, and none can be had. */
	if (!segments && largest != SIZE_MAX && errno == ENOMEM)
		return;
	if (all && !segments)
		fail_msg("list %d of %d elements, segments of %u, boundary 0x%lx, alignment 0x%x, "
			 "direction %d: each maps, and all do not: %s",
			 number, n, dma_get_max_seg_size(m.dev), dma_get_seg_boundary(m.dev),
			 dma_get_min_align_mask(m.dev), dir, dmaland_last_error());
	if (!segments)
		return;
	segments_check(n, segments);
	if (m.unit == 1 && dir != DMA_FROM_DEVICE) {
		segments_move(segments, false);
		elements_compare(n, number);
	}
	if (m.unit == 1 && dir != DMA_TO_DEVICE) {
		random_fill(bytes, list_bytes(n), (uint64_t)number + 77);
		segments_move(segments, true);
	}
	dma_unmap_sg(m.dev, list, n, dir);
	if (m.unit == 1 && dir != DMA_TO_DEVICE)
		elements_compare(n, number);
}

static void what_a_device_finds_in_lists(bool registers)
{
	unsigned char on_stack[STACK];
	dma_addr_t handle;

	seed = 20190831;
	bytes = malloc(2 * HEAP);
	sources[KIND_HEAP] = (struct source){aligned_alloc(65536, 2 * HEAP), HEAP + 1000, 0};
	sources[KIND_REGISTERED] =
		(struct source){sources[KIND_HEAP].begin + HEAP + 1000, 70000, 0};
	sources[KIND_ARENA] =
		(struct source){dma_alloc_coherent(m.dev, ARENA, &handle, GFP_KERNEL), ARENA, 0};
	sources[KIND_STACK] = (struct source){on_stack, STACK, 0};
	assert_true(bytes && sources[KIND_HEAP].begin && sources[KIND_ARENA].begin);
	memset(sources[KIND_HEAP].begin, 1, 2 * HEAP);
	if (registers) {
		unsigned char *begin = sources[KIND_REGISTERED].begin;

		/* Two side by side. */
		assert_int_equal(dmaland_register(m.dev, begin, 30000), 0);
		assert_int_equal(dmaland_register(m.dev, begin + 30000, 40000), 0);
	}
	for (int i = 0; i < LISTS; i++)
		list_check(i);
	log_clear(); /* in debug mode what is larger than the limits is told */
	if (registers) {
		assert_int_equal(dmaland_unregister(m.dev, sources[KIND_REGISTERED].begin), 0);
		assert_int_equal(dmaland_unregister(m.dev, sources[KIND_REGISTERED].begin + 30000),
				 0);
	}
	dma_free_coherent(m.dev, ARENA, sources[KIND_ARENA].begin, handle);
	free(sources[KIND_HEAP].begin);
	free(bytes);
}

static void random_lists_map_when_their_elements_do(void **state)
{
	(void)state;
	need_mover();
	largest = SIZE_MAX;
	what_a_device_finds_in_lists(false);
}

/* Blocks are ready for what is below copy_below and the rest of a page. */
static void random_lists_need_no_system_calls(void **state)
{
	(void)state;
	need_mover();
	largest = stats_now().copy_below - 1;
	what_a_device_finds_in_lists(false);
}

static void random_lists_with_registered_memory_need_none(void **state)
{
	(void)state;
	need_mover();
	largest = stats_now().copy_below - 1;
	if (dma_max_mapping_size(m.dev) == SIZE_MAX)
		what_a_device_finds_in_lists(true);
}

static void random_lists_with_registered_memory_do_too(void **state)
{
	(void)state;
	need_mover();
	if (dma_max_mapping_size(m.dev) != SIZE_MAX) {
		assert_int_equal(dmaland_register(m.dev, memory, MOST), -EOPNOTSUPP);
		return;
	}
	largest = SIZE_MAX;
	what_a_device_finds_in_lists(true);
}

int run_random_list_tests(void)
{
	const struct CMUnitTest tests[] = {
		with(open_device, random_lists_map_when_their_elements_do),
		with(open_lazy, random_lists_map_when_their_elements_do),
		with(open_copying, random_lists_map_when_their_elements_do),
		with(open_mapping, random_lists_map_when_their_elements_do),
		with(open_untrusted, random_lists_map_when_their_elements_do),
		with(open_without_syscalls, random_lists_need_no_system_calls),
		with(open_device, random_lists_with_registered_memory_do_too),
		with(open_mapping, random_lists_with_registered_memory_do_too),
		with(open_without_syscalls, random_lists_with_registered_memory_need_none),
	};

	return cmocka_run_group_tests_name("random lists", tests, NULL, NULL);
}
