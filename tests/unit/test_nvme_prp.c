/* SPDX-License-Identifier: MIT */
/*
 * test_nvme_prp.c - drivers/nvme/map.c and prp.c against a library and a drive of a few lines
 *
 * The model of what should happen is a plain copy between a stream and the segments.
 */
#include "nvme_fake.h"

/* ---- what the tests share ---- */

static struct nvme_prp_pools pools;

static void begin(size_t page_size)
{
	memset(&pools, 0, sizeof(pools));
	fake.fail_after = -1;
	assert_int_equal(nvme_setup_prp_pools(&pools, NULL, page_size), 0);
	assert_int_equal(fake.min_align, page_size - 1);
	assert_true(fake.max_seg <= fake.max_mapping && fake.max_seg % page_size == 0);
	assert_string_equal(pools.page->name, "prp list page");
	assert_string_equal(pools.small->name, "prp list 256");
	assert_int_equal(pools.small->size, 256);
}

static void end(void)
{
	nvme_release_prp_pools(&pools);
	assert_int_equal(fake.pool_count, 0);
	assert_int_equal(fake.live, 0);
}

/* Nothing is held by any command. */
static void assert_idle(void)
{
	assert_int_equal(pools.small->in_use + pools.page->in_use, 0);
	assert_int_equal(fake.live, 0);
}

static struct nvme_iod *new_iod(struct nvme_iod *iod, bool write, size_t bytes)
{
	*iod = (struct nvme_iod){.direction = write ? DMA_TO_DEVICE : DMA_FROM_DEVICE,
				 .bytes = bytes};
	nvme_init_iod(iod);
	return iod;
}

static int setup_prps(struct nvme_iod *iod, const struct iovec *iov, struct nvme_position *at,
		      uint64_t prp[2])
{
	struct nvme_command command = {0};
	int code = nvme_setup_data(&pools, iod, iov, at, &command);

	assert_int_equal(command.flags, 0);
	memcpy(prp, command.prp, sizeof(command.prp));
	return code;
}

/* What one command of a write takes; mapped where it lies, or in pages that are gathered. */
struct shape {
	size_t lists, small, pages, gathered, mapped;
};

/* Pages of a command that is mapped. */
static size_t pages_gathered(const struct nvme_iod *iod)
{
	return iod->gathered_bytes / pools.page_size;
}

static size_t elements_gathered(const struct nvme_iod *iod)
{
	size_t n = 0;

	for (uint32_t i = 0; i < iod->sg_count; i++)
		n += (uintptr_t)iod->sg[i].address - (uintptr_t)iod->gathered < iod->gathered_bytes;
	return n;
}

static struct shape shape_of(const struct iovec *iov, size_t bytes)
{
	struct drive drive = {pools.page_size, malloc(bytes), true};
	struct nvme_position at = {0};
	struct nvme_iod iod;
	uint64_t prp[2];
	struct shape shape;

	new_iod(&iod, true, bytes);
	assert_int_equal(setup_prps(&iod, iov, &at, prp), 0);
	shape.small = pools.small->in_use;
	shape.pages = pools.page->in_use;
	shape.gathered = pages_gathered(&iod);
	shape.mapped = fake.live - elements_gathered(&iod);
	shape.lists = drive_transfer(&drive, prp, bytes);
	nvme_unmap_data(&pools, &iod, true);
	assert_idle();
	free(drive.stream);
	return shape;
}

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
	random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
	return (random_state >> 33) % n;
}

static void fill_random(char *to, size_t bytes)
{
	size_t i;

	for (i = 0; i < bytes; i++)
		to[i] = random_below(256);
}

enum { MOST_SEGMENTS = 5000 };

/* Segments that do not overlap, in both kinds of memory, with exactly so many bytes in all. */
static int random_segments(struct iovec *iov, size_t bytes)
{
	static const uint32_t aligns[] = {1, 1, 2, 4, 4, 16, 512, 4096, 4096, 16384};
	/* half of the time near the seam of the DMA memory */
	size_t used[2] = {random_below(2) ? HALF - bytes / 4 : 0, 0};
	uint32_t favourite = random_below(4);
	int n = 0;

	while (bytes > 0 && n < MOST_SEGMENTS - 1) {
		uint32_t kind = random_below(4) < favourite ? 0 : 1;
		uint32_t align = aligns[random_below(10)];
		size_t start = (used[kind] + align - 1) / align * align;
		size_t length = random_below(2) ? random_below(5) * 4096 : random_below(9000);

		if (random_below(8) == 0)
			length = random_below(3);
		if (random_below(4) == 0) /* right behind the last of its kind */
			start = used[kind];
		if (length > bytes || n == MOST_SEGMENTS - 2)
			length = bytes;
		if (start + length > 2 * HALF)
			start = used[kind] = 0, kind = 1 - kind, start = used[kind];
		assert_true(start + length <= 2 * HALF);
		iov[n].iov_base = length == 0 && random_below(2)
					  ? NULL
					  : (kind == 0 ? fake.dma : fake.app) + start;
		iov[n++].iov_len = length;
		used[kind] = start + length;
		bytes -= length;
	}
	iov[n++] = (struct iovec){.iov_base = NULL, .iov_len = 0};
	return n;
}

/* The model: the segments' bytes one after the other. */
static void gather(const struct iovec *iov, int n, char *to)
{
	int i;

	for (i = 0; i < n; i++) {
		if (iov[i].iov_len > 0)
			memcpy(to, iov[i].iov_base, iov[i].iov_len);
		to += iov[i].iov_len;
	}
}

/* A request in commands of at most so many bytes, all in flight at once. */
static void transfer(const struct iovec *iov, char *stream, size_t bytes, size_t most, bool write)
{
	enum { COMMANDS = 64 };
	struct drive drive = {pools.page_size, stream, write};
	struct nvme_iod iods[COMMANDS];
	struct nvme_position at = {0};
	size_t done = 0, n = 0, i;

	while (done < bytes && n < COMMANDS) {
		size_t part = bytes - done < most || n == COMMANDS - 1 ? bytes - done : most;
		uint64_t prp[2] = {~0ull, ~0ull};

		new_iod(&iods[n], write, part);
		assert_int_equal(setup_prps(&iods[n], iov, &at, prp), 0);
		drive.stream = stream + done;
		drive_transfer(&drive, prp, part);
		done += part;
		n++;
	}
	for (i = n; i-- > 0;)
		nvme_unmap_data(&pools, &iods[i], true);
	assert_idle();
}

/* ---- the promises ---- */

static void check_random_request(size_t bytes)
{
	static struct iovec iov[MOST_SEGMENTS];
	size_t memory = 2 * HALF, most = (1 + random_below(64)) * 4096;
	char *stream = malloc(bytes), *wanted = malloc(bytes);
	char *dma = malloc(memory), *app = malloc(memory);
	int n = random_segments(iov, bytes);

	if (random_below(3) == 0)
		most = bytes;
	gather(iov, n, wanted);
	transfer(iov, stream, bytes, most, true);
	assert_memory_equal(stream, wanted, bytes);

	/* a read changes the segments' bytes and no other: put the old ones back and compare */
	memcpy(dma, fake.dma, memory);
	memcpy(app, fake.app, memory);
	fill_random(stream, bytes);
	transfer(iov, stream, bytes, most, false);
	gather(iov, n, wanted);
	assert_memory_equal(stream, wanted, bytes);
	for (int i = 0; i < n; i++) {
		char *from = iov[i].iov_base;
		bool in_dma = from >= fake.dma && from < fake.dma + memory;

		if (iov[i].iov_len > 0)
			memcpy(from, in_dma ? dma + (from - fake.dma) : app + (from - fake.app),
			       iov[i].iov_len);
	}
	assert_memory_equal(dma, fake.dma, memory);
	assert_memory_equal(app, fake.app, memory);
	free(app);
	free(dma);
	free(wanted);
	free(stream);
}

static void every_byte_lands_where_it_belongs_for_random_segments(void **state)
{
	static const size_t page_sizes[] = {4096, 8192, 16384};
	size_t i, round;

	(void)state;
	for (i = 0; i < 3; i++) {
		begin(page_sizes[i]);
		for (round = 0; round < 60; round++) {
			fake.copies = round & 1;
			fake.joins = round & 2;
			check_random_request((1 + random_below(round % 8 == 0 ? 4000 : 300)) * 512);
		}
		end();
	}
	fake.copies = fake.joins = false;
}

static void thousands_of_segments_of_one_byte_are_gathered_in_order(void **state)
{
	enum { N = 4096 };
	static struct iovec iov[2 * N];
	char stream[N];
	int i;

	(void)state;
	begin(4096);
	for (i = 0; i < N; i++) {
		iov[2 * i] = (struct iovec){(i & 1 ? fake.dma : fake.app) + 3 * i, 1};
		iov[2 * i + 1] = (struct iovec){NULL, 0};
	}
	transfer(iov, stream, N, N, true);
	for (i = 0; i < N; i++)
		assert_int_equal(stream[i], (i & 1 ? fake.dma : fake.app)[3 * i]);
	end();
}

static void lists_come_from_the_pool_that_fits_and_chain_only_when_more_remains(void **state)
{
	static const struct {
		size_t pages, small, page;
	} cases[] = {
		{1, 0, 0},    {2, 0, 0},    {3, 1, 0},	  {17, 1, 0},	{33, 1, 0},
		{34, 0, 1},   {513, 0, 1},  {514, 0, 2},  {1024, 0, 2}, {1025, 0, 3},
		{1535, 0, 3}, {1536, 0, 4}, {2047, 0, 5},
	};
	size_t i, offset;

	(void)state;
	begin(4096);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		/* as many pages: whole ones, and with a first one that is short */
		for (offset = 0; offset < 4096; offset += 4092) {
			struct iovec iov = {fake.dma + offset, 0};
			struct shape shape;

			if (cases[i].pages * 4096 > HALF)
				iov.iov_base = fake.app;
			iov.iov_len =
				cases[i].pages * 4096 - (iov.iov_base == fake.app ? 0 : offset);
			shape = shape_of(&iov, iov.iov_len);
			assert_int_equal(shape.small, cases[i].small);
			/* 2,046 entries are 4 times 511 and 2 more */
			assert_int_equal(shape.pages, cases[i].page);
			assert_int_equal(shape.lists, cases[i].small + cases[i].page);
		}
	}
	end();
}

static void a_dword_aligned_buffer_is_mapped_as_it_lies(void **state)
{
	char *memory[] = {fake.dma, fake.app};
	size_t offset;

	(void)state;
	begin(4096);
	for (offset = 0; offset < 2 * 4200; offset++) {
		struct iovec iov = {memory[offset & 1] + offset / 2, 64 << 10};
		struct shape shape = shape_of(&iov, iov.iov_len);

		assert_int_equal(shape.gathered, offset / 2 % 4 == 0 ? 0 : 16);
		assert_int_equal(shape.mapped, offset / 2 % 4 == 0 ? 1 : 0);
	}
	end();
}

static void the_longest_segment_is_spared_the_copy(void **state)
{
	struct iovec iov[3] = {
		{fake.app, 512}, {fake.app + 12800, 64 << 10}, {fake.dma + (1 << 20) + 20, 512}};

	(void)state;
	begin(4096);
	/* the head is gathered with what shares its page, and the tail likewise */
	assert_int_equal(shape_of(iov, 1024 + (64 << 10)).gathered, 2);
	/* a longer one that no PRP can express does not count */
	iov[2] = (struct iovec){fake.dma + (1 << 20) + 21, 128 << 10};
	assert_int_equal(shape_of(iov, 512 + (192 << 10)).gathered, 1 + 33);
	end();
}

static void segments_that_meet_in_memory_are_one_mapping(void **state)
{
	static struct iovec iov[256];
	struct shape shape;
	int i;

	(void)state;
	begin(4096);
	for (i = 0; i < 256; i++)
		iov[i] = (struct iovec){fake.app + 100 + i * 256, 256};
	fake.calls = 0;
	shape = shape_of(iov, 256 * 256);
	assert_int_equal(shape.gathered, 0);
	assert_int_equal(shape.mapped, 1);
	assert_int_equal(fake.calls, 1);
	end();
}

static void scattered_pages_are_one_list_and_one_call(void **state)
{
	static struct iovec iov[100];
	int i, joins;

	(void)state;
	begin(4096);
	for (i = 0; i < 100; i++)
		iov[i] = (struct iovec){fake.app + (3 * (size_t)i << 12), 8192};
	for (joins = 0; joins < 2; joins++) {
		struct shape shape;

		fake.joins = joins;
		fake.calls = 0;
		shape = shape_of(iov, 100 * 8192);
		assert_int_equal(shape.gathered, 0);
		assert_int_equal(shape.mapped, 100);
		assert_int_equal(fake.calls, 1);
		assert_int_equal(fake.segments, joins ? 1 : 100);
	}
	fake.joins = false;
	end();
}

static void a_page_in_the_middle_that_prps_cannot_express_is_gathered_alone(void **state)
{
	/* the second page of the stream lies in two places */
	struct iovec iov[] = {{fake.app + 512, 3584 + 1000},
			      {fake.app + (1 << 20) + 1000, 3096 + (60 << 10)},
			      {fake.dma + 4096, 100}};
	struct shape shape;

	(void)state;
	begin(4096);
	shape = shape_of(iov, 3584 + 4096 + (60 << 10) + 100);
	assert_int_equal(shape.gathered, 1);
	assert_int_equal(shape.mapped, 3);
	end();
}

/* As where memory can't be mapped, and 1 MiB at most can be copied, less the alignment. */
static void what_is_above_the_largest_mapping_is_cut_at_pages(void **state)
{
	struct iovec iov = {fake.app + 16, 2 << 20};
	struct shape shape;

	(void)state;
	fake.max_mapping = (1 << 20) - 4095;
	fake.copies = true;
	begin(4096);
	assert_int_equal(fake.max_seg, 512 << 10);
	shape = shape_of(&iov, iov.iov_len);
	assert_int_equal(shape.gathered, 0);
	assert_int_equal(shape.mapped, 5);
	end();
	fake.copies = false;
	fake.max_mapping = SIZE_MAX;
}

/* Two pages, at odd places, and a gap between them. */
static void refused_segments(struct iovec iov[2])
{
	iov[0] = (struct iovec){fake.app, 4096};
	iov[1] = (struct iovec){fake.app + 3 * 4096 + 1, 4096};
}

static void memory_that_cannot_be_mapped_is_told_and_nothing_is_held(void **state)
{
	size_t bytes[] = {4096, 8192}, i;
	struct iovec iov[2];

	(void)state;
	begin(4096);
	refused_segments(iov);
	for (i = 0; i < 2; i++) {
		struct nvme_position at = {0};
		struct nvme_iod iod;
		uint64_t prp[2];

		new_iod(&iod, true, bytes[i]);
		fake.map_errno = EFAULT;
		assert_int_equal(setup_prps(&iod, iov, &at, prp), -EFAULT);
		fake.map_errno = 0;
		assert_int_equal(at.segment + at.offset, 0);
		assert_idle();
		/* and the command's place can be used again */
		assert_int_equal(setup_prps(&iod, iov, &at, prp), 0);
		nvme_unmap_data(&pools, &iod, true);
		assert_idle();
	}
	end();
}

static void a_read_that_failed_leaves_copied_memory_as_it_was(void **state)
{
	size_t offset;

	(void)state;
	begin(4096);
	fake.copies = true;
	for (offset = 0; offset < 2; offset++) { /* where it lies, and in gathered pages */
		struct iovec iov = {fake.app + offset, 8192};
		struct drive drive = {4096, calloc(1, 8192), false};
		struct nvme_position at = {0};
		struct nvme_iod iod;
		char before[8192];
		uint64_t prp[2];

		memcpy(before, iov.iov_base, sizeof(before));
		new_iod(&iod, false, sizeof(before));
		assert_int_equal(setup_prps(&iod, &iov, &at, prp), 0);
		assert_int_equal(pages_gathered(&iod), offset ? 2 : 0);
		drive_transfer(&drive, prp, 8192);
		nvme_unmap_data(&pools, &iod, false);
		assert_memory_equal(iov.iov_base, before, sizeof(before));
		assert_idle();
		free(drive.stream);
	}
	fake.copies = false;
	end();
}

static void memory_of_a_drive_that_runs_away_stays_its_own(void **state)
{
	struct iovec iov[2] = {{fake.app, 64 << 10}, {fake.dma + 1, 64 << 10}};
	struct nvme_position at = {0};
	struct nvme_iod iod, copy;
	uint64_t prp[2];

	(void)state;
	begin(4096);
	new_iod(&iod, false, 128 << 10);
	assert_int_equal(setup_prps(&iod, iov, &at, prp), 0);
	copy = iod;
	nvme_leak_iod(&iod);
	nvme_unmap_data(&pools, &iod, true);
	assert_int_equal(pools.small->in_use, 1);
	assert_int_equal(fake.live, 2);
	/* the drive may write to gathered pages still, so they must not be freed */
	memset(copy.gathered, 0x5a, copy.gathered_bytes);

	dma_pool_free(pools.small, copy.list.vaddr, copy.list.dma);
	free(copy.gathered);
	fake.live = 0;
	end();
}

/* For every n: the n-th allocation fails, until none does. */
static void any_allocation_that_fails_is_unwound(void **state)
{
	struct iovec iov[2] = {{fake.app, 3 << 19}, {fake.dma + 1, 3 << 19}};
	int n, code = -1;

	(void)state;
	begin(4096);
	for (n = 0; code != 0; n++) {
		struct nvme_position at = {0};
		struct nvme_iod iod;
		uint64_t prp[2];

		new_iod(&iod, true, 3 << 20);
		fake.fail_after = n;
		code = setup_prps(&iod, iov, &at, prp);
		fake.fail_after = -1;
		if (code == 0) {
			nvme_unmap_data(&pools, &iod, true);
		} else {
			assert_int_equal(code, -ENOMEM);
			assert_int_equal(at.segment + at.offset, 0);
		}
		assert_int_equal(iod.list_count + iod.sg_count, 0);
		assert_idle();
	}
	/* the gathered pages, two lists and an array for these, and the mapping */
	assert_int_equal(n - 1, 1 + 2 + 1 + 1);
	end();
}

static void any_pool_that_can_not_be_made_is_unwound(void **state)
{
	int n;

	(void)state;
	for (n = 0; n < 2; n++) {
		memset(&pools, 0, sizeof(pools));
		fake.fail_after = n;
		assert_int_equal(nvme_setup_prp_pools(&pools, NULL, 4096), -ENOMEM);
		assert_int_equal(fake.pool_count, 0);
		nvme_release_prp_pools(&pools);
	}
	fake.fail_after = -1;
}

static int make_memory(void **state)
{
	(void)state;
	fake.fail_after = -1;
	fake.max_mapping = SIZE_MAX;
	fake.next_dma = 0x4000000000;
	fake.dma = aligned_alloc(LARGEST_PAGE, 2 * HALF);
	fake.app = aligned_alloc(LARGEST_PAGE, 2 * HALF);
	random_state = 20;
	fill_random(fake.dma, 2 * HALF);
	fill_random(fake.app, 2 * HALF);
	return 0;
}

static int free_memory(void **state)
{
	(void)state;
	free(fake.dma);
	free(fake.app);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte_lands_where_it_belongs_for_random_segments),
		cmocka_unit_test(thousands_of_segments_of_one_byte_are_gathered_in_order),
		cmocka_unit_test(
			lists_come_from_the_pool_that_fits_and_chain_only_when_more_remains),
		cmocka_unit_test(a_dword_aligned_buffer_is_mapped_as_it_lies),
		cmocka_unit_test(the_longest_segment_is_spared_the_copy),
		cmocka_unit_test(segments_that_meet_in_memory_are_one_mapping),
		cmocka_unit_test(scattered_pages_are_one_list_and_one_call),
		cmocka_unit_test(a_page_in_the_middle_that_prps_cannot_express_is_gathered_alone),
		cmocka_unit_test(what_is_above_the_largest_mapping_is_cut_at_pages),
		cmocka_unit_test(memory_that_cannot_be_mapped_is_told_and_nothing_is_held),
		cmocka_unit_test(a_read_that_failed_leaves_copied_memory_as_it_was),
		cmocka_unit_test(memory_of_a_drive_that_runs_away_stays_its_own),
		cmocka_unit_test(any_allocation_that_fails_is_unwound),
		cmocka_unit_test(any_pool_that_can_not_be_made_is_unwound),
	};

	return cmocka_run_group_tests(tests, make_memory, free_memory);
}
