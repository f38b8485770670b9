/* SPDX-License-Identifier: MIT */
/*
 * test_nvme_prp.c - drivers/nvme/prp.c against a drive of a few lines
 *
 * The library is replaced by a fake: DMA memory is one array, its second half CPU-adjacent to the
 * first but elsewhere for the drive; pools count what they hand out. The drive walks PRPs strictly
 * as NVMe 2.0, 4.1.1 says, and touches nothing that is not its own. The model of what should
 * happen is a plain copy between a stream and the segments.
 *
 * Link with -Wl,--wrap=malloc, so that the n-th malloc can fail.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nvme_internal.h"

/* ---- the fake library ---- */

enum {
	HALF = 4 << 20, /* of the DMA memory that segments lie in */
	BLOCKS = 2048,	/* that a pool can hand out */
	LARGEST_PAGE = 16384,
	POISON = 0xd7,
};

#define USER_DMA   0x100000000ull /* of the first half; the second lies 1 GiB above its place */
#define SECOND_GAP (1ull << 30)
#define POOL_DMA   0x900000000ull

struct dma_pool {
	const char *name;
	size_t size;
	char *memory;
	dma_addr_t dma;
	bool out[BLOCKS];
	size_t in_use, peak, next;
};

static struct {
	struct dma_pool pools[3];
	size_t pool_count;
	char *dma;	/* 2 * HALF bytes for segments */
	char *app;	/* 2 * HALF bytes that the drive can't see */
	int fail_after; /* allocations until one fails; below 0: never */
	unsigned int lookups;
} fake;

static bool allocation_fails(void)
{
	return fake.fail_after >= 0 && fake.fail_after-- == 0;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
	return allocation_fails() ? NULL : __real_malloc(size);
}

int dmaland_set_error(int code, const char *format, ...)
{
	(void)format;
	errno = code;
	return -code;
}

struct dma_pool *dma_pool_create(const char *name, struct dmaland_device *dev, size_t size,
				 size_t align, size_t boundary)
{
	struct dma_pool *pool;

	(void)dev;
	assert_int_equal(align, size);
	assert_int_equal(boundary, 0);
	if (allocation_fails()) {
		errno = ENOMEM;
		return NULL;
	}
	pool = &fake.pools[fake.pool_count];
	*pool = (struct dma_pool){.name = name, .size = size};
	pool->dma = POOL_DMA + fake.pool_count * (1ull << 32);
	pool->memory = aligned_alloc(LARGEST_PAGE, BLOCKS * size);
	assert_non_null(pool->memory);
	fake.pool_count++;
	return pool;
}

void dma_pool_destroy(struct dma_pool *pool)
{
	if (!pool)
		return;
	assert_int_equal(pool->in_use, 0);
	free(pool->memory);
	pool->memory = NULL;
	fake.pool_count--;
}

/* Not the block that was freed last: neighbours in a request are not neighbours in memory. */
void *dma_pool_alloc(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle)
{
	size_t i;

	assert_int_equal(gfp, GFP_KERNEL);
	if (allocation_fails() || pool->in_use == BLOCKS) {
		errno = ENOMEM;
		return NULL;
	}
	pool->next = (pool->next + 7) % BLOCKS;
	for (i = pool->next; pool->out[i]; i = (i + 1) % BLOCKS)
		;
	pool->out[i] = true;
	if (++pool->in_use > pool->peak)
		pool->peak = pool->in_use;
	memset(pool->memory + i * pool->size, POISON, pool->size);
	*handle = pool->dma + i * pool->size;
	return pool->memory + i * pool->size;
}

void dma_pool_free(struct dma_pool *pool, void *vaddr, dma_addr_t handle)
{
	size_t i = ((char *)vaddr - pool->memory) / pool->size;

	assert_true((char *)vaddr == pool->memory + i * pool->size && i < BLOCKS);
	assert_true(handle == pool->dma + i * pool->size);
	assert_true(pool->out[i]);
	memset(vaddr, ~POISON, pool->size);
	pool->out[i] = false;
	pool->in_use--;
}

dma_addr_t dmaland_virt_to_dma(struct dmaland_device *dev, const void *vaddr, size_t size)
{
	size_t at = (const char *)vaddr - fake.dma;

	(void)dev;
	fake.lookups++;
	assert_true(size > 0);
	if ((const char *)vaddr < fake.dma || at + size > 2 * HALF ||
	    (at < HALF && at + size > HALF))
		return DMA_MAPPING_ERROR;
	return USER_DMA + at + (at < HALF ? 0 : SECOND_GAP);
}

/* ---- the drive ---- */

struct drive {
	size_t page_size;
	char *stream; /* its side of the data */
	bool write;   /* memory to drive */
};

/* Memory that the drive reaches at an address: a segment, or a block that a pool has handed out. */
static char *reach(dma_addr_t dma, size_t size)
{
	dma_addr_t second = USER_DMA + HALF + SECOND_GAP;
	size_t i;

	if (dma >= USER_DMA && dma + size <= USER_DMA + HALF)
		return fake.dma + (dma - USER_DMA);
	if (dma >= second && dma + size <= second + HALF)
		return fake.dma + HALF + (dma - second);
	for (i = 0; i < fake.pool_count; i++) {
		struct dma_pool *pool = &fake.pools[i];
		size_t block = (dma - pool->dma) / pool->size;

		if (dma < pool->dma || block >= BLOCKS)
			continue;
		assert_true(pool->out[block]);
		assert_true(dma + size <= pool->dma + (block + 1) * pool->size);
		return pool->memory + (dma - pool->dma);
	}
	fail_msg("the drive can't reach %zu bytes at %llx", size, (unsigned long long)dma);
	return NULL;
}

static void move_data(const struct drive *drive, size_t done, dma_addr_t dma, size_t bytes)
{
	char *memory = reach(dma, bytes);

	if (drive->write)
		memcpy(drive->stream + done, memory, bytes);
	else
		memcpy(memory, drive->stream + done, bytes);
}

static dma_addr_t read_entry(dma_addr_t at)
{
	uint64_t entry;

	memcpy(&entry, reach(at, sizeof(entry)), sizeof(entry));
	return le64toh(entry);
}

/* The pages behind the first, by a list. Returns how many lists it has. */
static size_t walk_list(const struct drive *drive, dma_addr_t at, size_t done, size_t bytes)
{
	size_t mask = drive->page_size - 1, lists = 1;

	assert_int_equal(at & 7, 0);
	while (done < bytes) {
		size_t left = bytes - done;
		size_t piece = left < drive->page_size ? left : drive->page_size;
		dma_addr_t entry = read_entry(at);

		assert_true(entry != 0);
		assert_int_equal(entry & mask, 0);
		/* the last place of a page is a chain exactly when more than one page is left */
		if (((at + 8) & mask) == 0 && left > drive->page_size) {
			at = entry;
			lists++;
			continue;
		}
		move_data(drive, done, entry, piece);
		done += piece;
		at += 8;
	}
	return lists;
}

/* Carry out the transfer of a command. Returns how many lists it has. */
static size_t drive_transfer(const struct drive *drive, const uint64_t prp[2], size_t bytes)
{
	size_t mask = drive->page_size - 1;
	dma_addr_t prp1 = le64toh(prp[0]), prp2 = le64toh(prp[1]);
	size_t first = drive->page_size - (prp1 & mask);

	assert_true(prp1 != 0);
	assert_int_equal(prp1 & 3, 0);
	if (bytes <= first) {
		move_data(drive, 0, prp1, bytes);
		assert_int_equal(prp2, 0);
		return 0;
	}
	move_data(drive, 0, prp1, first);
	assert_true(prp2 != 0);
	if (bytes - first > drive->page_size)
		return walk_list(drive, prp2, first, bytes);
	assert_int_equal(prp2 & mask, 0);
	move_data(drive, first, prp2, bytes - first);
	return 0;
}

/* ---- what the tests share ---- */

static struct nvme_prp_pools pools;

static void begin(size_t page_size)
{
	memset(&pools, 0, sizeof(pools));
	fake.fail_after = -1;
	assert_int_equal(nvme_setup_prp_pools(&pools, NULL, page_size), 0);
	assert_string_equal(pools.page->name, "prp list page");
	assert_string_equal(pools.small->name, "prp list 256");
	assert_int_equal(pools.small->size, 256);
}

static void end(void)
{
	nvme_release_prp_pools(&pools);
	assert_int_equal(fake.pool_count, 0);
}

static struct nvme_iod *new_iod(struct nvme_iod *iod, bool write, size_t bytes)
{
	*iod = (struct nvme_iod){.write = write, .bytes = bytes};
	iod->lists = &iod->list;
	iod->bounces = iod->few;
	return iod;
}

/* What one command of a write takes. */
struct shape {
	size_t lists, small, pages, bounced;
};

static struct shape shape_of(const struct iovec *iov, size_t bytes)
{
	struct drive drive = {pools.page_size, malloc(bytes), true};
	struct nvme_position at = {0};
	struct nvme_iod iod;
	uint64_t prp[2];
	struct shape shape;

	new_iod(&iod, true, bytes);
	assert_int_equal(nvme_setup_prps(&pools, &iod, iov, &at, prp), 0);
	shape.small = pools.small->in_use;
	shape.pages = pools.page->in_use;
	shape.bounced = pools.bounce->in_use;
	shape.lists = drive_transfer(&drive, prp, bytes);
	nvme_unmap_data(&pools, &iod, iov, true);
	assert_int_equal(pools.small->in_use + pools.page->in_use + pools.bounce->in_use, 0);
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
		assert_int_equal(nvme_setup_prps(&pools, &iods[n], iov, &at, prp), 0);
		drive.stream = stream + done;
		drive_transfer(&drive, prp, part);
		done += part;
		n++;
	}
	for (i = n; i-- > 0;)
		nvme_unmap_data(&pools, &iods[i], iov, true);
	assert_int_equal(pools.small->in_use + pools.page->in_use + pools.bounce->in_use, 0);
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
		for (round = 0; round < 60; round++)
			check_random_request((1 + random_below(round % 8 == 0 ? 4000 : 300)) * 512);
		end();
	}
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

static void a_dword_aligned_segment_in_dma_memory_is_not_copied(void **state)
{
	size_t offset;

	(void)state;
	begin(4096);
	for (offset = 0; offset < 4200; offset++) {
		struct iovec iov = {fake.dma + offset, 64 << 10};
		size_t copied = shape_of(&iov, iov.iov_len).bounced;

		assert_int_equal(copied, offset % 4 == 0 ? 0 : 16);
	}
	end();
}

static void the_longest_segment_in_dma_memory_is_spared_the_copy(void **state)
{
	struct iovec iov[3] = {
		{fake.app, 512}, {fake.dma + 12800, 64 << 10}, {fake.dma + (1 << 20) + 20, 512}};

	(void)state;
	begin(4096);
	/* the head is bounced with what shares its page, and the tail likewise */
	assert_int_equal(shape_of(iov, 1024 + (64 << 10)).bounced, 2);
	/* a longer one that no PRP can express does not count */
	iov[2] = (struct iovec){fake.dma + (1 << 20) + 21, 128 << 10};
	assert_int_equal(shape_of(iov, 512 + (192 << 10)).bounced, 1 + 33);
	end();
}

static void segments_that_meet_in_dma_memory_are_one(void **state)
{
	static struct iovec iov[256];
	int i;

	(void)state;
	begin(4096);
	for (i = 0; i < 256; i++)
		iov[i] = (struct iovec){fake.dma + 100 + i * 256, 256};
	assert_int_equal(shape_of(iov, 256 * 256).bounced, 0);
	end();
}

static void a_buffer_that_is_in_two_pieces_for_the_drive_is_cut_at_the_seam(void **state)
{
	struct iovec iov = {fake.dma + HALF - (32 << 10), 64 << 10};

	(void)state;
	begin(4096);
	assert_int_equal(shape_of(&iov, iov.iov_len).bounced, 0);
	iov.iov_base = fake.dma + HALF - (32 << 10) + 512;
	assert_int_equal(shape_of(&iov, iov.iov_len).bounced, 0);
	end();
}

static void memory_that_is_not_dma_memory_is_looked_up_twice_a_segment_at_most(void **state)
{
	struct iovec iov = {fake.app, 1 << 20};

	(void)state;
	begin(4096);
	fake.lookups = 0;
	assert_int_equal(shape_of(&iov, iov.iov_len).bounced, 256);
	assert_true(fake.lookups <= 2);
	end();
}

static void a_read_that_failed_leaves_bounced_memory_as_it_was(void **state)
{
	struct iovec iov = {fake.app + 1, 8192};
	struct nvme_position at = {0};
	struct nvme_iod iod;
	char before[8192];
	uint64_t prp[2];

	(void)state;
	begin(4096);
	memcpy(before, iov.iov_base, sizeof(before));
	new_iod(&iod, false, sizeof(before));
	assert_int_equal(nvme_setup_prps(&pools, &iod, &iov, &at, prp), 0);
	assert_int_equal(pools.bounce->in_use, 2);
	nvme_unmap_data(&pools, &iod, &iov, false);
	assert_memory_equal(iov.iov_base, before, sizeof(before));
	assert_int_equal(pools.bounce->in_use, 0);
	end();
}

static void memory_of_a_drive_that_runs_away_stays_allocated(void **state)
{
	struct iovec iov = {fake.app, 64 << 10};
	struct nvme_position at = {0};
	struct nvme_iod iod, copy;
	uint64_t prp[2];
	size_t i;

	(void)state;
	begin(4096);
	new_iod(&iod, false, iov.iov_len);
	assert_int_equal(nvme_setup_prps(&pools, &iod, &iov, &at, prp), 0);
	copy = iod;
	copy.bounces = malloc(iod.bounce_count * sizeof(*copy.bounces));
	memcpy(copy.bounces, iod.bounces, iod.bounce_count * sizeof(*copy.bounces));
	nvme_leak_iod(&iod);
	nvme_unmap_data(&pools, &iod, &iov, true);
	assert_int_equal(pools.bounce->in_use, 16);
	assert_int_equal(pools.small->in_use, 1);

	dma_pool_free(pools.small, copy.list.vaddr, copy.list.dma);
	for (i = 0; i < copy.bounce_count; i++)
		dma_pool_free(pools.bounce, copy.bounces[i].block.vaddr, copy.bounces[i].block.dma);
	free(copy.bounces);
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
		code = nvme_setup_prps(&pools, &iod, iov, &at, prp);
		fake.fail_after = -1;
		if (code == 0) {
			nvme_unmap_data(&pools, &iod, iov, true);
		} else {
			assert_int_equal(code, -ENOMEM);
			assert_int_equal(at.segment + at.offset, 0);
		}
		assert_int_equal(iod.list_count + iod.bounce_count, 0);
		assert_int_equal(pools.page->in_use + pools.bounce->in_use, 0);
	}
	/* 768 pages bounced, two lists, an array for each */
	assert_int_equal(n - 1, 768 + 2 + 2);
	end();
}

static void any_pool_that_can_not_be_made_is_unwound(void **state)
{
	int n;

	(void)state;
	for (n = 0; n < 3; n++) {
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
		cmocka_unit_test(a_dword_aligned_segment_in_dma_memory_is_not_copied),
		cmocka_unit_test(the_longest_segment_in_dma_memory_is_spared_the_copy),
		cmocka_unit_test(segments_that_meet_in_dma_memory_are_one),
		cmocka_unit_test(a_buffer_that_is_in_two_pieces_for_the_drive_is_cut_at_the_seam),
		cmocka_unit_test(
			memory_that_is_not_dma_memory_is_looked_up_twice_a_segment_at_most),
		cmocka_unit_test(a_read_that_failed_leaves_bounced_memory_as_it_was),
		cmocka_unit_test(memory_of_a_drive_that_runs_away_stays_allocated),
		cmocka_unit_test(any_allocation_that_fails_is_unwound),
		cmocka_unit_test(any_pool_that_can_not_be_made_is_unwound),
	};

	return cmocka_run_group_tests(tests, make_memory, free_memory);
}
