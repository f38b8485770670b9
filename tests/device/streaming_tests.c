/* SPDX-License-Identifier: MIT */
/*
 * streaming_tests.c - memory of the application, mapped for a device that reads and writes it
 *
 * The same on every backend: which way the library takes is its business, and where the bytes are is
 * what counts. Where a backend differs it is by what it tells of itself: dma_max_mapping_size(),
 * dma_need_sync(), the way it counted.
 */
#include "suite.h"
#include "mover.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { MOST = 96 << 10, GUARD = 4096, POISON = 0x6b };

static struct mover m;
static bool moves; /* the device can be told what to do */

/* Application memory, POISON all over, with room around what is mapped. */
static unsigned char *memory, *model;
static uint32_t mappings;
static uint64_t bad_calls; /* that the test made */

static char memory_of_ours[4096];

static struct dmaland_streaming_stats stats_now(void)
{
	struct dmaland_streaming_stats stats;

	dmaland_get_streaming_stats(m.dev, &stats);
	return stats;
}

static int begin(const struct dmaland_options *options)
{
	moves = mover_open(&m, device_spec, options);
	if (!moves)
		return 0;
	memory = aligned_alloc(4096, MOST + 2 * GUARD);
	model = malloc(MOST + 2 * GUARD);
	assert_true(memory && model);
	memset(memory, POISON, MOST + 2 * GUARD);
	mappings = mappings_of(m.dev);
	bad_calls = 0;
	log_clear();
	return 0;
}

static int open_device(void **state)
{
	(void)state;
	return begin(NULL);
}

static int open_lazy(void **state)
{
	const struct dmaland_options options = {.size = sizeof(options), .lazy = true};

	(void)state;
	return begin(&options);
}

static int open_without_syscalls(void **state)
{
	const struct dmaland_options options = {.size = sizeof(options), .no_syscalls = true};

	(void)state;
	return begin(&options);
}

/* And all that the tests' lists have is copied. */
static int open_copying_without_syscalls(void **state)
{
	const struct dmaland_options options = {
		.size = sizeof(options), .no_syscalls = true, .copy_below = 16384};

	(void)state;
	return begin(&options);
}

static int open_copying(void **state)
{
	const struct dmaland_options options = {.size = sizeof(options), .copy_below = MOST};

	(void)state;
	return begin(&options);
}

/* Everything is mapped where it lies, where that can be. */
static int open_mapping(void **state)
{
	const struct dmaland_options options = {.size = sizeof(options), .copy_below = 1};

	(void)state;
	return begin(&options);
}

static int open_untrusted(void **state)
{
	const struct dmaland_options options = {.size = sizeof(options),
						.untrusted = !device_is_on("qemu")};

	(void)state;
	return begin(&options);
}

/* Nothing is left, and nobody complained. */
static int close_device(void **state)
{
	struct dmaland_streaming_stats stats;

	(void)state;
	if (!moves)
		return 0;
	stats = stats_now();
	assert_int_equal(stats.live_bounced, 0);
	assert_int_equal(stats.live_mapped, 0);
	assert_int_equal(stats.bad_calls, bad_calls);
	dmaland_flush(m.dev);
	assert_int_equal(stats_now().waiting, 0);
	assert_string_equal(log_text(), "");
	mover_close(&m);
	assert_string_equal(log_text(), "");
	free(memory);
	free(model);
	return 0;
}

static void need_mover(void)
{
	if (moves)
		return;
	print_message("# %s: a device that moves what it is told to cannot be had here\n",
		      device_spec);
	skip();
}

static dma_addr_t map(void *ptr, size_t size, enum dma_data_direction direction)
{
	dma_addr_t dma = dma_map_single(m.dev, ptr, size, direction);

	if (dma_mapping_error(m.dev, dma))
		fail_msg("%zu bytes: %s", size, dmaland_last_error());
	assert_true(dma && dma + (size - 1) <= dma_get_mask(m.dev));
	return dma;
}

static void random_fill(unsigned char *bytes, size_t size, uint64_t seed)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)random_next(&seed);
}

/* Through the device into size bytes at ptr, and around them nothing. */
static void check_write(unsigned char *ptr, size_t size, enum dma_data_direction direction)
{
	dma_addr_t dma;

	random_fill(m.scratch, size, size);
	memcpy(model, m.scratch, size);
	dma = map(ptr, size, direction);
	mover_move(&m, m.scratch_dma, dma, size);
	dma_unmap_single(m.dev, dma, size, direction);
	assert_memory_equal(ptr, model, size);
	assert_true(all_are(ptr - GUARD / 2, GUARD / 2, POISON));
	assert_true(all_are(ptr + size, GUARD / 2, POISON));
	memset(ptr, POISON, size);
}

/* From them through the device into the scratch memory. */
static void check_read(unsigned char *ptr, size_t size, enum dma_data_direction direction)
{
	dma_addr_t dma;

	random_fill(ptr, size, size + 1);
	memset(m.scratch, 0, size);
	dma = map(ptr, size, direction);
	mover_move(&m, dma, m.scratch_dma, size);
	dma_unmap_single(m.dev, dma, size, direction);
	assert_memory_equal(ptr, m.scratch, size);
	memset(ptr, POISON, size);
}

/* Sizes on both sides of where copying ends. */
static size_t size_number(int i)
{
	static const size_t sizes[] = {512, 1024, 4096, 12288, 16384, 20480, MOVER_SCRATCH};
	size_t size = i < 7 ? sizes[i] : 0;

	return size && size < m.unit ? m.unit : size;
}

static void what_is_mapped_arrives_both_ways(void **state)
{
	size_t size;

	(void)state;
	need_mover();
	for (int i = 0; (size = size_number(i)); i++)
		for (size_t offset = 0; offset <= 2048; offset = 4 * offset + 4) {
			unsigned char *ptr = memory + GUARD + offset;

			check_read(ptr, size, DMA_TO_DEVICE);
			check_write(ptr, size, DMA_FROM_DEVICE);
			check_read(ptr, size, DMA_BIDIRECTIONAL);
			check_write(ptr, size, DMA_BIDIRECTIONAL);
		}
	dmaland_flush(m.dev);
	/* The arena may have grown to copy through. */
	assert_true(mappings_of(m.dev) <= mappings + 16);
	assert_int_equal(stats_now().failed, 0);
}

static void every_way_is_counted(void **state)
{
	struct dmaland_streaming_stats before, after;
	dma_addr_t handle, dma;
	void *block;

	(void)state;
	need_mover();
	block = dma_alloc_coherent(m.dev, 4096, &handle, GFP_KERNEL);
	before = stats_now();
	dma = map(block, 4096, DMA_TO_DEVICE);
	assert_true(dma == handle);
	assert_false(dma_need_sync(m.dev, dma));
	dma_unmap_single(m.dev, dma, 4096, DMA_TO_DEVICE);
	after = stats_now();
	assert_int_equal(after.translated_arena, before.translated_arena + 1);

	dma = map(memory, 64, DMA_TO_DEVICE);
	assert_true(dma_need_sync(m.dev, dma));
	assert_int_equal(stats_now().live_bounced, 1);
	dma_unmap_single(m.dev, dma, 64, DMA_TO_DEVICE);
	after = stats_now();
	assert_int_equal(after.bounced_small, before.bounced_small + 1);
	assert_int_equal(after.live_bounced, 0);

	dma = map(memory, 65536, DMA_TO_DEVICE);
	after = stats_now();
	if (dma_max_mapping_size(m.dev) == SIZE_MAX) {
		assert_int_equal(after.mapped, before.mapped + 1);
		assert_int_equal(after.live_mapped, 1);
	} else {
		assert_int_equal(after.bounced_unmappable, before.bounced_unmappable + 1);
		assert_int_equal(after.live_bounced, 1);
	}
	dma_unmap_single(m.dev, dma, 65536, DMA_TO_DEVICE);
	assert_int_equal(dma_map_single(m.dev, NULL, 64, DMA_TO_DEVICE), DMA_MAPPING_ERROR);
	assert_int_equal(stats_now().failed, before.failed + 1);
	dma_free_coherent(m.dev, 4096, block, handle);
}

static void the_largest_mapping_is_as_large_as_told(void **state)
{
	size_t most;
	unsigned char *large;
	dma_addr_t dma;

	(void)state;
	need_mover();
	most = dma_max_mapping_size(m.dev);
	assert_true(dma_opt_mapping_size(m.dev) <= most);
	if (most == SIZE_MAX)
		most = 4 << 20;
	large = malloc(most + 1);
	assert_non_null(large);
	memset(large, 1, most + 1);
	large[most - m.unit] = 77;
	dma = map(large, most, DMA_TO_DEVICE);
	mover_reads(&m, dma + most - m.unit, m.unit);
	assert_int_equal(mover_holds(&m, m.unit)[0], 77);
	dma_unmap_single(m.dev, dma, most, DMA_TO_DEVICE);
	if (dma_max_mapping_size(m.dev) != SIZE_MAX) {
		errno = 0;
		assert_true(dma_map_single(m.dev, large, most + 1, DMA_TO_DEVICE) ==
			    DMA_MAPPING_ERROR);
		assert_int_equal(errno, EINVAL);
		assert_error_says("dma_max_mapping_size");
	}
	free(large);
}

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

/* ---- sync ---- */

static void a_part_that_is_synced_is_all_that_moves(void **state)
{
	const size_t whole = 16384, at = 4096, part = 4096;
	unsigned char *ptr;
	dma_addr_t dma;

	(void)state;
	need_mover();
	ptr = memory + GUARD;
	dma = map(ptr, whole, DMA_BIDIRECTIONAL);
	mover_fill(&m, 0x21, whole);
	mover_writes(&m, dma, whole);
	dma_sync_single_for_cpu(m.dev, dma + at, part, DMA_BIDIRECTIONAL);
	assert_true(all_are(ptr + at, part, 0x21));
	if (dma_need_sync(m.dev, dma)) {
		assert_true(all_are(ptr, at, POISON));
		assert_true(all_are(ptr + at + part, whole - at - part, POISON));
	}
	memset(ptr + at, 0x42, part);
	dma_sync_single_range_for_device(m.dev, dma, at, part, DMA_BIDIRECTIONAL);
	mover_reads(&m, dma + at, part);
	assert_true(all_are(mover_holds(&m, part), part, 0x42));
	mover_reads(&m, dma, part);
	assert_true(all_are(mover_holds(&m, part), part, 0x21));
	dma_unmap_single(m.dev, dma, whole, DMA_BIDIRECTIONAL);
	assert_true(all_are(ptr, at, 0x21));
	assert_true(all_are(ptr + at, part, 0x42));
	assert_true(all_are(ptr + at + part, whole - at - part, 0x21));
}

/* The same, with the calls left out: it shows where dma_need_sync() says that it would. */
static void a_forgotten_sync_shows_where_one_is_needed(void **state)
{
	unsigned char *ptr;
	bool needed;
	dma_addr_t dma;
	size_t size;

	(void)state;
	need_mover();
	ptr = memory + GUARD;
	for (int i = 0; (size = size_number(i)); i++) {
		memset(ptr, 0x10, size);
		dma = map(ptr, size, DMA_BIDIRECTIONAL);
		needed = dma_need_sync(m.dev, dma);
		memset(ptr, 0x20, size);
		mover_reads(&m, dma, size);
		assert_true(all_are(mover_holds(&m, size), size, needed ? 0x10 : 0x20));
		mover_fill(&m, 0x30, size);
		mover_writes(&m, dma, size);
		assert_true(all_are(ptr, size, needed ? 0x20 : 0x30));
		dma_sync_single_for_cpu(m.dev, dma, size, DMA_BIDIRECTIONAL);
		assert_true(all_are(ptr, size, 0x30));
		dma_unmap_single(m.dev, dma, size, DMA_BIDIRECTIONAL);
		assert_true(all_are(ptr, size, 0x30));
	}
}

/* Where the device has a copy of its own, large mappings too need sync; elsewhere only copies. */
static void only_soft_without_coherence_needs_sync_of_what_is_mapped(void **state)
{
	bool incoherent = strstr(device_spec, "coherent=no");
	bool bounces;
	dma_addr_t dma;

	(void)state;
	need_mover();
	bounces = dma_max_mapping_size(m.dev) != SIZE_MAX;
	dma = map(memory, 65536, DMA_TO_DEVICE);
	assert_int_equal(dma_need_sync(m.dev, dma), incoherent || bounces);
	dma_unmap_single(m.dev, dma, 65536, DMA_TO_DEVICE);
	if (bounces)
		return;
	assert_int_equal(dmaland_register(m.dev, memory, 65536), 0);
	dma = map(memory + 8, 4096, DMA_TO_DEVICE);
	assert_int_equal(dma_need_sync(m.dev, dma), incoherent);
	dma_unmap_single(m.dev, dma, 4096, DMA_TO_DEVICE);
	assert_int_equal(dmaland_unregister(m.dev, memory), 0);
	assert_int_equal(mappings_of(m.dev), mappings);
}

/* ---- registered memory ---- */

static void registered_memory_is_translated(void **state)
{
	struct dmaland_streaming_stats before;
	unsigned char *ptr;
	size_t size;

	(void)state;
	need_mover();
	ptr = memory + GUARD;
	errno = 0;
	if (dma_max_mapping_size(m.dev) != SIZE_MAX) {
		assert_int_equal(dmaland_register(m.dev, memory, MOST), -EOPNOTSUPP);
		assert_int_equal(errno, EOPNOTSUPP);
		return;
	}
	assert_int_equal(dmaland_register(m.dev, memory + 12, MOST + GUARD), 0);
	assert_int_equal(mappings_of(m.dev), mappings + 1);
	before = stats_now();
	for (int i = 0; (size = size_number(i)); i++) {
		check_read(ptr + 4, size, DMA_TO_DEVICE);
		check_write(ptr + 4, size, DMA_FROM_DEVICE);
	}
	assert_int_equal(stats_now().translated_registered, before.translated_registered + 14);
	assert_int_equal(stats_now().mapped, before.mapped);
	assert_int_equal(mappings_of(m.dev), mappings + 1);
	assert_int_equal(dmaland_unregister(m.dev, memory + 12), 0);
	assert_int_equal(mappings_of(m.dev), mappings);
	check_write(ptr, 65536, DMA_FROM_DEVICE);
}

/* ---- without system calls ---- */

static void without_system_calls_copies_end_when_their_memory_does(void **state)
{
	enum { MANY = 100000, SIZE = 4096 - 64 };
	static dma_addr_t dma[MANY];
	size_t n = 0, again = 0, written;

	(void)state;
	need_mover();
	errno = 0;
	while (n < MANY &&
	       (dma[n] = dma_map_single(m.dev, memory, SIZE, DMA_FROM_DEVICE)) != DMA_MAPPING_ERROR)
		n++;
	assert_true(n > 0 && n < MANY);
	assert_int_equal(errno, ENOMEM);
	assert_true(strlen(dmaland_last_error()) > 20);
	assert_int_equal(stats_now().live_bounced, n);
	assert_int_equal(stats_now().failed, 1);

	/* Each is its own; and when they end, as many can be had. */
	written = m.unit < SIZE ? m.unit : 0;
	if (written) {
		mover_fill(&m, 0x77, written);
		mover_writes(&m, dma[n - 1], written);
	}
	dma_unmap_single(m.dev, dma[0], SIZE, DMA_FROM_DEVICE);
	assert_true(all_are(memory, SIZE, POISON));
	dma_unmap_single(m.dev, dma[n - 1], SIZE, DMA_FROM_DEVICE);
	assert_true(all_are(memory, written, 0x77));
	assert_true(all_are(memory + written, SIZE - written, POISON));
	for (size_t i = 1; i < n - 1; i++)
		dma_unmap_single(m.dev, dma[i], SIZE, DMA_FROM_DEVICE);
	while (again < n && (dma[again] = dma_map_single(m.dev, memory, SIZE, DMA_TO_DEVICE)) !=
				    DMA_MAPPING_ERROR)
		again++;
	assert_int_equal(again, n);
	while (again--)
		dma_unmap_single(m.dev, dma[again], SIZE, DMA_TO_DEVICE);
	assert_int_equal(mappings_of(m.dev), mappings);
}

static void without_system_calls_nothing_large_is_mapped(void **state)
{
	(void)state;
	need_mover();
	if (dma_max_mapping_size(m.dev) != SIZE_MAX)
		return;
	errno = 0;
	assert_true(dma_map_single(m.dev, memory, 65536, DMA_TO_DEVICE) == DMA_MAPPING_ERROR);
	assert_int_equal(errno, EPERM);
	assert_error_says("no_syscalls");
	assert_int_equal(mappings_of(m.dev), mappings);
}

/* ---- debug mode: registered memory that the program unmaps ---- */

enum { PAGE = 4096, PAGES = 16 };

static int open_debug(void **state)
{
	const struct dmaland_options options = {.size = sizeof(options), .dma_debug = true};

	(void)state;
	return begin(&options);
}

static char *pages_map(void *where, size_t pages)
{
	char *place = mmap(where, pages * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | (where ? MAP_FIXED : 0), -1, 0);

	assert_true(place != MAP_FAILED);
	memset(place, 1, pages * PAGE);
	return place;
}

/* All that looks finds it, and names it; what is beside it is as good as before. */
static void check_finds(char *registered, char *changed, const char *how)
{
	char where[64];
	dma_addr_t dma;

	snprintf(where, sizeof(where), "from %p on the program has unmapped them", (void *)changed);
	assert_int_equal(dmaland_check_registered(m.dev), 1);
	assert_logged(where);
	assert_logged(how);
	log_clear();
	errno = 0;
	assert_true(dma_map_single(m.dev, changed, 100, DMA_TO_DEVICE) == DMA_MAPPING_ERROR);
	assert_int_equal(errno, EFAULT);
	assert_error_says(where);
	dma = map(changed - 100, 100, DMA_FROM_DEVICE);
	dma_unmap_single(m.dev, dma, 100, DMA_FROM_DEVICE);
	assert_int_equal(dmaland_unregister(m.dev, registered), 0);
	assert_logged(where);
	log_clear();
	assert_int_equal(dmaland_check_registered(m.dev), 0);
}

static void registered_memory_that_the_program_unmaps_is_found_in_debug_mode(void **state)
{
	char *pages, *neighbour;

	(void)state;
	need_mover();
	pages = pages_map(NULL, PAGES);
	neighbour = pages_map(NULL, 1);
	if (dmaland_register(m.dev, neighbour, 100)) {
		assert_int_equal(errno, EOPNOTSUPP);
		return;
	}
	for (int anew = 0; anew < 2; anew++) {
		assert_int_equal(dmaland_register(m.dev, pages + 10, (PAGES - 1) * PAGE), 0);
		assert_int_equal(dmaland_check_registered(m.dev), 0);
		dma_unmap_single(m.dev, map(pages + 10, PAGE, DMA_TO_DEVICE), PAGE, DMA_TO_DEVICE);
		munmap(pages + 4 * PAGE, PAGE);
		if (anew)
			pages_map(pages + 4 * PAGE, 1);
		check_finds(pages + 10, pages + 4 * PAGE, anew ? "and mapped others" : "since:");
		pages_map(pages + 4 * PAGE, 1);
	}
	/* Two that share a page: one keeps what it needs when the other goes. */
	assert_int_equal(dmaland_register(m.dev, pages, PAGE + 100), 0);
	assert_int_equal(dmaland_register(m.dev, pages + PAGE + 100, PAGE), 0);
	assert_int_equal(dmaland_unregister(m.dev, pages), 0);
	assert_int_equal(dmaland_check_registered(m.dev), 0);
	assert_int_equal(dmaland_unregister(m.dev, pages + PAGE + 100), 0);
	assert_int_equal(dmaland_unregister(m.dev, neighbour), 0);
	munmap(pages, PAGES * PAGE);
	munmap(neighbour, PAGE);
}

static void what_is_translated_is_unmapped_once_in_debug_mode(void **state)
{
	dma_addr_t handle, dma;
	void *coherent;

	(void)state;
	need_mover();
	coherent = dma_alloc_coherent(m.dev, PAGE, &handle, GFP_KERNEL);
	assert_non_null(coherent);
	dma = map(coherent, PAGE, DMA_FROM_DEVICE);
	assert_true(dma == handle);
	dma_unmap_single(m.dev, dma, PAGE, DMA_FROM_DEVICE);
	assert_string_equal(log_text(), "");
	dma_unmap_single(m.dev, dma, PAGE, DMA_FROM_DEVICE);
	assert_logged("tries to free DMA memory it has not allocated");
	bad_calls = 1;
	log_clear();
	dma_free_coherent(m.dev, PAGE, coherent, handle);
}

static void without_debug_mode_nothing_is_watched(void **state)
{
	(void)state;
	need_mover();
	if (strncmp(device_spec, "soft:", 5) == 0) { /* which is there to find mistakes */
		assert_int_equal(dmaland_check_registered(m.dev), 0);
		return;
	}
	assert_int_equal(dmaland_check_registered(m.dev), -EOPNOTSUPP);
	assert_error_says("dma_debug=yes");
}

#define with(open, f) cmocka_unit_test_setup_teardown(f, open, close_device)

static void expect_registers_refused(struct dmaland_device *dev, char *registers, size_t size)
{
	struct scatterlist sg[2];

	for (int dir = DMA_BIDIRECTIONAL; dir <= DMA_FROM_DEVICE; dir++) {
		errno = 0;
		assert_true(dma_map_single(dev, registers, size, (enum dma_data_direction)dir) ==
			    DMA_MAPPING_ERROR);
		assert_int_equal(errno, EINVAL);
		assert_error_says("pci_iomap()");
		sg_init_table(sg, 2);
		sg_set_buf(&sg[0], memory_of_ours, 4096);
		sg_set_buf(&sg[1], registers, (unsigned int)size);
		assert_int_equal(dma_map_sg(dev, sg, 2, (enum dma_data_direction)dir), 0);
		assert_error_says("pci_iomap()");
	}
}

/* Registers can be a device's to reach where they are mapped in the process. */
static void expect_registers_registered(struct dmaland_device *dev, char *bar, size_t size)
{
	struct dmaland_streaming_stats stats;
	dma_addr_t dma;
	int err = dmaland_register(dev, bar, size);

	if (!device_is_on("vfio")) {
		assert_int_equal(err, device_is_on("soft") ? -EINVAL : -EOPNOTSUPP);
		return;
	}
	if (err == -EINVAL) { /* a part of the BAR can't be mapped: none of it is */
		assert_error_says("does not map");
		return;
	}
	assert_int_equal(err, 0);
	dma = dma_map_single(dev, bar, 64, DMA_BIDIRECTIONAL);
	assert_false(dma_mapping_error(dev, dma));
	dmaland_get_streaming_stats(dev, &stats);
	assert_int_equal(stats.translated_registered, 1);
	dma_unmap_single(dev, dma, 64, DMA_BIDIRECTIONAL);
	assert_int_equal(dmaland_unregister(dev, bar), 0);
	expect_registers_refused(dev, bar, 64);
}

/* Mapped for one transfer, as a resource; memory is none. */
static void expect_registers_mapped(struct dmaland_device *dev, char *bar, size_t size)
{
	const phys_addr_t registers = (uintptr_t)bar;
	struct dmaland_streaming_stats stats;
	dma_addr_t dma;

	errno = 0;
	assert_true(dma_map_resource(dev, (uintptr_t)memory_of_ours, 64, DMA_BIDIRECTIONAL, 0) ==
		    DMA_MAPPING_ERROR);
	assert_int_equal(errno, EINVAL);
	assert_error_says("dma_map_single()");
	assert_true(dma_map_resource(dev, registers, (size_t)1 << 40, DMA_BIDIRECTIONAL, 0) ==
		    DMA_MAPPING_ERROR);
	assert_int_equal(errno, EINVAL);
	dma = dma_map_resource(dev, registers, size, DMA_BIDIRECTIONAL, 0);
	if (dma_mapping_error(dev, dma)) { /* or the BAR can't be mapped */
		assert_int_equal(errno, EOPNOTSUPP);
		assert_error_says("does not map registers");
		return;
	}
	assert_true(device_is_on("vfio"));
	dmaland_get_streaming_stats(dev, &stats);
	assert_int_equal(stats.live_mapped, 1);
	dma_unmap_resource(dev, dma, size, DMA_BIDIRECTIONAL, 0);
	dmaland_get_streaming_stats(dev, &stats);
	assert_int_equal(stats.live_mapped, 0);
	assert_int_equal(stats.bad_calls, 0);
}

/* Small, large, at the window's end, with slots for small ones ready, and what lies beside them is not. */
static void registers_are_no_memory_unless_they_are_registered(void **state)
{
	static const struct dmaland_options kinds[] = {
		{.size = sizeof(kinds[0])},
		{.size = sizeof(kinds[0]), .copy_below = 1},
		{.size = sizeof(kinds[0]), .lazy = true},
		{.size = sizeof(kinds[0]), .untrusted = true},
		{.size = sizeof(kinds[0]), .dma_debug = true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct dmaland_device *dev = dmaland_open(device_spec, &kinds[i]);
		size_t length;
		dma_addr_t dma;
		char *bar;

		if (!dev && kinds[i].untrusted && errno == EOPNOTSUPP)
			continue;
		if (!dev)
			fail_msg("%s", dmaland_last_error());
		assert_int_equal(pci_enable_device(dev), 0);
		bar = pci_iomap(dev, 0, 0);
		if (!bar) {
			dmaland_close(dev);
			skip();
		}
		length = pci_resource_len(dev, 0);
		dma = dma_map_single(dev, memory_of_ours, 64, DMA_TO_DEVICE);
		assert_false(dma_mapping_error(dev, dma));
		dma_unmap_single(dev, dma, 64, DMA_TO_DEVICE);
		expect_registers_refused(dev, bar, 1);
		expect_registers_refused(dev, bar, 64);
		expect_registers_refused(dev, bar + length - 4, 4);
		expect_registers_refused(dev, bar, length < 65536 ? length : 65536);
		expect_registers_mapped(dev, bar, length < 4096 ? length : 4096);
		if (!kinds[i].untrusted)
			expect_registers_registered(dev, bar, length < 4096 ? length : 4096);
		dma = dma_map_single(dev, memory_of_ours, 64, DMA_TO_DEVICE);
		assert_false(dma_mapping_error(dev, dma));
		dma_unmap_single(dev, dma, 64, DMA_TO_DEVICE);
		pci_iounmap(dev, bar);
		dmaland_close(dev);
	}
}

int run_streaming_tests(void)
{
	const struct CMUnitTest tests[] = {
		with(open_device, what_is_mapped_arrives_both_ways),
		with(open_lazy, what_is_mapped_arrives_both_ways),
		with(open_device, every_way_is_counted),
		with(open_lazy, every_way_is_counted),
		with(open_device, the_largest_mapping_is_as_large_as_told),
		with(open_device, lists_arrive_segment_by_segment),
		with(open_device, a_driver_that_walks_a_list_in_pages_finds_every_byte),
		with(open_copying, a_driver_that_walks_a_list_in_pages_finds_every_byte),
		with(open_mapping, a_driver_that_walks_a_list_in_pages_finds_every_byte),
		with(open_untrusted, a_driver_that_walks_a_list_in_pages_finds_every_byte),
		with(open_copying_without_syscalls,
		     a_driver_that_walks_a_list_in_pages_finds_every_byte),
		with(open_device, registered_lists_are_walked_in_pages),
		with(open_device, a_part_that_is_synced_is_all_that_moves),
		with(open_device, a_forgotten_sync_shows_where_one_is_needed),
		with(open_device, only_soft_without_coherence_needs_sync_of_what_is_mapped),
		with(open_device, registered_memory_is_translated),
		with(open_debug, registered_memory_that_the_program_unmaps_is_found_in_debug_mode),
		with(open_debug, what_is_mapped_arrives_both_ways),
		with(open_debug, what_is_translated_is_unmapped_once_in_debug_mode),
		with(open_device, without_debug_mode_nothing_is_watched),
		with(open_without_syscalls, without_system_calls_copies_end_when_their_memory_does),
		with(open_without_syscalls, without_system_calls_nothing_large_is_mapped),
		cmocka_unit_test(registers_are_no_memory_unless_they_are_registered),
	};

	return cmocka_run_group_tests_name("streaming", tests, NULL, NULL);
}
