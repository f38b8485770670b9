/* SPDX-License-Identifier: MIT */
/*
 * list_tests.c - lists of the application's memory, as the device finds them
 */
#include "streaming_stand.h"

static void lists_arrive_segment_by_segment(void **state)
{
	enum { N = 6 };
	static const size_t at[N] = {8192, 20480, 24576, 49152, 65536, 4096};
	struct scatterlist table[N], *sg;
	size_t done = 0;
	int n, i;

	(void)state;
	need_mover();
	sg_init_table(table, N);
	for (i = 0; i < N; i++)
		sg_set_buf(&table[i], memory + at[i], 4096);
	random_fill(m.scratch, N * 4096, 5);
	memcpy(model, m.scratch, N * 4096);
	n = dma_map_sg(m.dev, table, N, DMA_FROM_DEVICE);
	if (!n)
		fail_msg("%s", dmaland_last_error());
	for_each_sg(table, sg, n, i)
	{
		mover_move(&m, m.scratch_dma + done, sg_dma_address(sg), sg_dma_len(sg));
		done += sg_dma_len(sg);
	}
	assert_int_equal(done, N * 4096);
	dma_sync_sg_for_cpu(m.dev, table, N, DMA_FROM_DEVICE);
	for (i = 0; i < N; i++)
		assert_memory_equal(memory + at[i], model + i * 4096, 4096);
	dma_unmap_sg(m.dev, table, N, DMA_FROM_DEVICE);
	for (i = 0; i < N; i++)
		memset(memory + at[i], POISON, 4096);
	assert_true(all_are(memory, MOST, POISON));
}

/* ---- lists that a driver walks in pages ---- */

enum { WALK_PAGE = 4096, WALK_MOST = 16384, WALK_PAGES = 5 };

/*
 * PRP entries for a list, as a driver finds them that trusts segments to meet at pages' edges (NVMe
 * 2.0, 4.1.1): only the first segment's offset is looked at, and a page is taken from the segment at
 * hand whatever is left of it.
 */
static size_t prps_walk(struct scatterlist *sg, size_t total, dma_addr_t *prps)
{
	dma_addr_t at = sg_dma_address(sg);
	long left = (long)sg_dma_len(sg);
	size_t take = WALK_PAGE - (at & (WALK_PAGE - 1)), n = 0;

	for (;; take = WALK_PAGE) {
		prps[n++] = at;
		if (total <= take)
			return n;
		total -= take;
		at += take;
		left -= (long)take;
		if (left)
			continue;
		sg = sg_next(sg);
		at = sg_dma_address(sg);
		left = (long)sg_dma_len(sg);
	}
}

/* Where a request's pages lie: alone, and two side by side. */
static unsigned char *walk_page(size_t i)
{
	static const size_t order[WALK_PAGES] = {8, 2, 3, 10, 5};

	return memory + GUARD + order[i] * WALK_PAGE;
}

/* An element for each page of a request of size bytes that begins at offset in its first page. */
static int walk_list(struct scatterlist *sg, size_t offset, size_t size)
{
	size_t begin = offset, part;
	int n = 0;

	sg_init_table(sg, WALK_PAGES);
	for (; size; size -= part, begin = 0) {
		part = size < WALK_PAGE - begin ? size : WALK_PAGE - begin;
		sg_set_buf(&sg[n], walk_page((size_t)n) + begin, (unsigned int)part);
		n++;
	}
	sg_mark_end(&sg[n - 1]);
	return n;
}

static void walk_copy(struct scatterlist *sg, int n, unsigned char *bytes, bool to_list)
{
	for (int i = 0; i < n; bytes += sg[i++].length)
		memcpy(to_list ? sg_virt(&sg[i]) : bytes, to_list ? bytes : sg_virt(&sg[i]),
		       sg[i].length);
}

/* The device moves a request between the list and its scratch memory, by the entries. */
static void walk_move(struct scatterlist *sg, size_t size, enum dma_data_direction direction)
{
	dma_addr_t prps[WALK_PAGES];
	size_t n = prps_walk(sg, size, prps), done = 0;

	for (size_t i = 0; i < n; i++) {
		size_t room = WALK_PAGE - (prps[i] & (WALK_PAGE - 1));
		size_t part = size - done < room ? size - done : room;
		dma_addr_t scratch = m.scratch_dma + done;

		if (direction == DMA_TO_DEVICE)
			mover_move(&m, prps[i], scratch, part);
		else
			mover_move(&m, scratch, prps[i], part);
		done += part;
	}
	assert_int_equal(done, size);
}

static void check_walk(size_t offset, size_t size, enum dma_data_direction direction)
{
	static unsigned char sent[WALK_MOST], got[WALK_MOST];
	struct scatterlist sg[WALK_PAGES];
	int n = walk_list(sg, offset, size);

	random_fill(sent, size, offset + size + 1);
	memset(m.scratch, 0, size);
	if (direction == DMA_TO_DEVICE)
		walk_copy(sg, n, sent, true);
	else
		memcpy(m.scratch, sent, size);
	if (!dma_map_sg(m.dev, sg, n, direction))
		fail_msg("%zu bytes at offset %zu: %s", size, offset, dmaland_last_error());
	walk_move(sg, size, direction);
	dma_unmap_sg(m.dev, sg, n, direction);
	walk_copy(sg, n, got, false);
	if (memcmp(direction == DMA_TO_DEVICE ? m.scratch : got, sent, size) != 0)
		fail_msg("%zu bytes at offset %zu, direction %d: some went elsewhere", size, offset,
			 direction);
	for (int i = 0; i < n; i++)
		memset(sg_virt(&sg[i]), POISON, sg[i].length);
	assert_true(all_are(memory, MOST, POISON));
}

/* All offsets and sizes in blocks of 512 bytes, or the mover's; where each command takes long, some. */
static void a_driver_that_walks_a_list_in_pages_finds_every_byte(void **state)
{
	size_t block, step;

	(void)state;
	need_mover();
	block = m.unit < 512 ? 512 : m.unit;
	step = block == 512 && !device_is_on("soft") ? 7 * block : block;
	for (size_t offset = 0; offset < WALK_PAGE; offset += block)
		for (size_t size = block; size <= WALK_MOST; size += step) {
			check_walk(offset, size, DMA_TO_DEVICE);
			check_walk(offset, size, DMA_FROM_DEVICE);
		}
}

static void registered_lists_are_walked_in_pages(void **state)
{
	(void)state;
	need_mover();
	if (dma_max_mapping_size(m.dev) != SIZE_MAX)
		return;
	assert_int_equal(dmaland_register(m.dev, memory + GUARD, MOST), 0);
	a_driver_that_walks_a_list_in_pages_finds_every_byte(NULL);
	assert_int_equal(dmaland_unregister(m.dev, memory + GUARD), 0);
}

/* ---- debug mode ---- */

enum { TWICE = 4 };

/* The same memory, translated to the same address unless it is copied: alone, and in lists of one, two and three elements. */
static void twice_map(struct scatterlist (*lists)[3], unsigned char *shared, dma_addr_t *single)
{
	*single = map(shared, 512, DMA_TO_DEVICE);
	for (unsigned int i = 1; i < TWICE; i++) {
		sg_init_table(lists[i], i);
		for (unsigned int k = 0; k < i; k++)
			sg_set_buf(&lists[i][k], k ? memory + k * GUARD : shared, 512);
		assert_int_equal(dma_map_sg(m.dev, lists[i], (int)i, DMA_TO_DEVICE), i);
		assert_int_equal(sg_dma_address(&lists[i][0]) == *single, !device_has_copies());
	}
}

static void mappings_of_the_same_memory_end_as_each_was_made(void **state)
{
	struct scatterlist lists[TWICE][3];
	dma_addr_t handle, single;
	unsigned char *shared;

	(void)state;
	need_mover();
	shared = dma_alloc_coherent(m.dev, 4096, &handle, GFP_KERNEL);
	assert_non_null(shared);
	for (int first = 0; first < TWICE; first++) {
		twice_map(lists, shared, &single);
		for (int i = first; i < first + TWICE; i++)
			if (i % TWICE)
				dma_unmap_sg(m.dev, lists[i % TWICE], i % TWICE, DMA_TO_DEVICE);
			else
				dma_unmap_single(m.dev, single, 512, DMA_TO_DEVICE);
		assert_string_equal(log_text(), "");
	}
	dma_free_coherent(m.dev, 4096, shared, handle);
}

int run_list_tests(void)
{
	const struct CMUnitTest tests[] = {
		with(open_device, lists_arrive_segment_by_segment),
		with(open_device, a_driver_that_walks_a_list_in_pages_finds_every_byte),
		with(open_copying, a_driver_that_walks_a_list_in_pages_finds_every_byte),
		with(open_mapping, a_driver_that_walks_a_list_in_pages_finds_every_byte),
		with(open_untrusted, a_driver_that_walks_a_list_in_pages_finds_every_byte),
		with(open_copying_without_syscalls,
		     a_driver_that_walks_a_list_in_pages_finds_every_byte),
		with(open_device, registered_lists_are_walked_in_pages),
		with(open_debug, mappings_of_the_same_memory_end_as_each_was_made),
	};

	return cmocka_run_group_tests_name("lists", tests, NULL, NULL);
}
