/* SPDX-License-Identifier: MIT */
/*
 * transfer_tests.c - every byte in the right place: the NVMe driver over real DMA
 */
#include "suite.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { MODEL_BYTES = 24 << 20, ARENA_BYTES = 16 << 20 };

static struct drive drive;
static unsigned char *model; /* what the drive's first MODEL_BYTES hold */
static unsigned char *dma;   /* ARENA_BYTES of DMA memory */
static dma_addr_t dma_handle;

static void fill(unsigned char *to, size_t size, uint64_t *seed)
{
	for (size_t i = 0; i < size; i += 8) {
		uint64_t word = random_next(seed);

		memcpy(to + i, &word, size - i < 8 ? size - i : 8);
	}
}

static int open_drive(void **state)
{
	uint64_t seed = 1234;

	(void)state;
	drive_open(&drive, device_spec, 0);
	model = malloc(MODEL_BYTES);
	dma = dma_alloc_coherent(drive.dev, ARENA_BYTES, &dma_handle, GFP_KERNEL);
	assert_non_null(model);
	assert_non_null(dma);
	assert_true(drive.ns.blocks * drive.ns.block_size >= MODEL_BYTES);
	fill(model, MODEL_BYTES, &seed);
	assert_int_equal(
		dmaland_nvme_write(drive.queue, 1, 0, MODEL_BYTES / drive.ns.block_size, model), 0);
	return 0;
}

static int close_drive(void **state)
{
	(void)state;
	dma_free_coherent(drive.dev, ARENA_BYTES, dma, dma_handle);
	free(model);
	drive_close(&drive);
	return 0;
}

static void check_pools_idle(void)
{
	struct dmaland_pool_stats stats[8];
	size_t n = dmaland_get_pools(drive.dev, stats, 8);
	struct dmaland_streaming_stats streaming = streaming_stats(drive.dev);

	assert_int_equal(streaming.live_mapped + streaming.live_bounced, 0);
	assert_int_equal(streaming.bad_calls, 0);
	assert_true(n >= 2);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(stats[i].in_use, 0);
		assert_int_equal(stats[i].bad_frees, 0);
	}
	assert_string_equal(log_text(), "");
}

/* ---- waiting for requests ---- */

struct wait {
	unsigned int done;
	int status;
};

static void on_done(struct dmaland_nvme_request *request, int status)
{
	struct wait *wait = request->context;

	wait->done++;
	if (!wait->status)
		wait->status = status;
}

static void wait_for(struct wait *wait, unsigned int n)
{
	while (wait->done < n)
		dmaland_nvme_poll(drive.queue);
	assert_int_equal(wait->done, n);
	if (wait->status)
		fail_msg("%s", dmaland_nvme_status_text(wait->status));
}

static void transfer(uint8_t opcode, uint64_t block, uint64_t blocks, struct iovec *iov, int n)
{
	struct wait wait = {0};
	struct dmaland_nvme_request request = {.opcode = opcode,
					       .nsid = 1,
					       .block = block,
					       .blocks = blocks,
					       .iov = iov,
					       .iov_count = n,
					       .done = on_done,
					       .context = &wait};

	if (dmaland_nvme_submit(drive.queue, &request))
		fail_msg("%s", dmaland_last_error());
	wait_for(&wait, 1);
}

/* ---- tests ---- */

static void the_drive_says_who_it_is(void **state)
{
	unsigned char data[4096];

	(void)state;
	assert_true(strlen(drive.info.model) > 0);
	assert_true(strlen(drive.info.serial) > 0);
	assert_true(drive.info.version >= 0x10000);
	assert_true(drive.info.page_size >= 4096);
	assert_true(drive.info.max_queues >= 1);
	assert_int_equal(dmaland_nvme_identify(drive.ctrl, 1, 0, data), 0);
	assert_memory_equal(data + 24, drive.info.model, strlen(drive.info.model));
	assert_int_equal(dmaland_nvme_identify(drive.ctrl, 2, 0, data), 0);
	assert_int_equal(data[0], 1); /* namespace 1 is active */
	assert_true(drive.ns.block_size == 512 || drive.ns.block_size == 4096);
}

static void application_memory_of_any_alignment_is_read_and_written(void **state)
{
	size_t bs = drive.ns.block_size;
	unsigned char *buffer = malloc((2 << 20) + 64);
	uint64_t seed = 5;

	(void)state;
	for (size_t shift = 0; shift < 8; shift++) {
		size_t blocks = 1 + random_below(&seed, (1 << 20) / bs);
		size_t block = random_below(&seed, MODEL_BYTES / bs - blocks);

		assert_int_equal(dmaland_nvme_read(drive.queue, 1, block, blocks, buffer + shift),
				 0);
		assert_memory_equal(buffer + shift, model + block * bs, blocks * bs);
		fill(model + block * bs, blocks * bs, &seed);
		memcpy(buffer + shift, model + block * bs, blocks * bs);
		assert_int_equal(dmaland_nvme_write(drive.queue, 1, block, blocks, buffer + shift),
				 0);
		memset(buffer, 0, 2 << 20);
		assert_int_equal(dmaland_nvme_read(drive.queue, 1, block, blocks, buffer), 0);
		assert_memory_equal(buffer, model + block * bs, blocks * bs);
	}
	free(buffer);
	check_pools_idle();
}

/* Cut `bytes` in segments of DMA and application memory of all lengths and alignments. */
static int random_segments(struct iovec *iov, int max, size_t bytes, unsigned char *app,
			   uint64_t *seed)
{
	size_t dma_used = 0, app_used = 0;
	int n = 0;

	while (bytes) {
		static const size_t lengths[] = {1, 3, 8, 100, 512, 4000, 4096, 4096, 8192, 20000};
		size_t length = lengths[random_below(seed, 10)];
		bool in_dma = random_below(seed, 3);

		if (random_below(seed, 4) == 0)
			length = 1 + random_below(seed, 30000);
		if (length > bytes || n == max - 1)
			length = bytes;
		if (random_below(seed, 20) == 0)
			length = 0;
		if (in_dma && random_below(seed, 2))
			dma_used = (dma_used + 4095) & ~(size_t)4095;
		else
			dma_used += random_below(seed, 5);
		app_used += random_below(seed, 5);
		iov[n].iov_base = in_dma ? dma + dma_used : app + app_used;
		iov[n++].iov_len = length;
		*(in_dma ? &dma_used : &app_used) += length;
		bytes -= length;
	}
	return n;
}

static void gather(unsigned char *to, const struct iovec *iov, int n)
{
	for (int i = 0; i < n; to += iov[i++].iov_len)
		memcpy(to, iov[i].iov_base, iov[i].iov_len);
}

static void scatter(const unsigned char *from, const struct iovec *iov, int n)
{
	for (int i = 0; i < n; from += iov[i++].iov_len)
		memcpy(iov[i].iov_base, from, iov[i].iov_len);
}

static void random_segments_in_any_memory_keep_every_byte_in_place(void **state)
{
	enum { SEGMENTS = 3000, BYTES = 2 << 20 };
	static struct iovec iov[SEGMENTS];
	unsigned char *app = malloc(BYTES + 8 * SEGMENTS), *flat = malloc(BYTES);
	size_t bs = drive.ns.block_size;
	uint64_t seed = 77;

	(void)state;
	for (int i = 0; i < 120; i++) {
		size_t blocks =
			1 + random_below(&seed, (random_below(&seed, 5) ? 65536 : BYTES) / bs);
		size_t block = random_below(&seed, MODEL_BYTES / bs - blocks);
		int n = random_segments(iov, SEGMENTS, blocks * bs, app, &seed);

		if (random_below(&seed, 2)) {
			fill(model + block * bs, blocks * bs, &seed);
			scatter(model + block * bs, iov, n);
			transfer(DMALAND_NVME_WRITE, block, blocks, iov, n);
		} else {
			memset(app, 0xdd, BYTES + 8 * SEGMENTS);
			transfer(DMALAND_NVME_READ, block, blocks, iov, n);
			gather(flat, iov, n);
			assert_memory_equal(flat, model + block * bs, blocks * bs);
		}
	}
	assert_int_equal(dmaland_nvme_flush(drive.queue, 1), 0);
	for (size_t at = 0; at < MODEL_BYTES; at += BYTES) {
		assert_int_equal(dmaland_nvme_read(drive.queue, 1, at / bs, BYTES / bs, flat), 0);
		assert_memory_equal(flat, model + at, BYTES);
	}
	free(app);
	free(flat);
	check_pools_idle();
}

static uint64_t bounced(const struct dmaland_streaming_stats *stats)
{
	return stats->bounced_small + stats->bounced_limit + stats->bounced_unmappable +
	       stats->bounced_untrusted;
}

/* A read and a write of whole model blocks, from and to a buffer. */
static void write_and_read(unsigned char *buffer, size_t bytes, uint64_t seed)
{
	size_t blocks = bytes / drive.ns.block_size;

	fill(model, bytes, &seed);
	memcpy(buffer, model, bytes);
	if (dmaland_nvme_write(drive.queue, 1, 0, blocks, buffer))
		fail_msg("%s", dmaland_last_error());
	memset(buffer, 0xdd, bytes);
	if (dmaland_nvme_read(drive.queue, 1, 0, blocks, buffer))
		fail_msg("%s", dmaland_last_error());
	assert_memory_equal(buffer, model, bytes);
}

/* As the backend has it, and the options in the spec. */
static bool large_memory_is_mapped(void)
{
	return dma_max_mapping_size(drive.dev) == SIZE_MAX &&
	       streaming_stats(drive.dev).copy_below <= 65536;
}

static void large_buffers_of_the_application_are_mapped_and_not_copied(void **state)
{
	enum { BYTES = 6 << 20 };
	static const size_t offsets[] = {0, 512, 4, 4092};
	bool maps = large_memory_is_mapped();
	unsigned char *buffer = aligned_alloc(4096, BYTES + 4096);

	(void)state;
	if (device_is_on("vfio") && !strchr(device_spec, ','))
		assert_true(maps);
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		struct dmaland_streaming_stats before = streaming_stats(drive.dev), after;

		memset(buffer, 0xee, BYTES + 4096);
		write_and_read(buffer + offsets[i], BYTES, i);
		for (size_t at = 0; at < offsets[i]; at++)
			assert_int_equal(buffer[at], 0xee);
		for (size_t at = offsets[i]; at < 4096; at++)
			assert_int_equal(buffer[BYTES + at], 0xee);
		after = streaming_stats(drive.dev);
		if (maps)
			assert_int_equal(bounced(&after), bounced(&before));
		else
			assert_true(after.mapped + bounced(&after) >
				    before.mapped + bounced(&before));
		if (maps || device_is_on("qemu"))
			assert_int_equal(after.mapped > before.mapped, maps);
	}
	free(buffer);
	check_pools_idle();
}

static void registered_buffers_are_translated(void **state)
{
	enum { BYTES = 1 << 20 };
	unsigned char *buffer = aligned_alloc(4096, BYTES);
	struct dmaland_streaming_stats before = streaming_stats(drive.dev), after;
	int err = dmaland_register(drive.dev, buffer, BYTES);

	(void)state;
	if (dma_max_mapping_size(drive.dev) != SIZE_MAX) {
		/* memory can't be mapped, or the device is not trusted */
		assert_true(err == -EOPNOTSUPP || err == -EPERM);
		free(buffer);
		return;
	}
	if (err)
		fail_msg("%s", dmaland_last_error());
	write_and_read(buffer, BYTES, 9);
	after = streaming_stats(drive.dev);
	assert_int_equal(bounced(&after), bounced(&before));
	assert_int_equal(after.mapped, before.mapped);
	assert_true(after.translated_registered > before.translated_registered);
	assert_int_equal(dmaland_unregister(drive.dev, buffer), 0);
	free(buffer);
}

/* Where memory is mapped; where it is copied instead, the copy faults, as memcpy() would. */
static void memory_that_is_not_there_or_read_only_is_refused(void **state)
{
	enum { BYTES = 4 << 20, HOLE = 3 << 20 };
	size_t blocks = BYTES / drive.ns.block_size;
	char *memory;

	(void)state;
	memory = mmap(NULL, BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	assert_int_equal(dmaland_nvme_read(drive.queue, 1, 0, blocks, memory), -EFAULT);
	assert_int_equal(munmap(memory + HOLE, BYTES - HOLE), 0);
	/* the hole shows in the second command, when the first is under way */
	assert_int_equal(dmaland_nvme_write(drive.queue, 1, 0, blocks, memory), -EFAULT);
	munmap(memory, HOLE);
	transfer(DMALAND_NVME_WRITE, 0, MODEL_BYTES / drive.ns.block_size,
		 &(struct iovec){model, MODEL_BYTES}, 1);
	check_pools_idle();
}

static void bytes_around_the_segments_of_a_read_stay_as_they_were(void **state)
{
	size_t bs = drive.ns.block_size;
	struct iovec iov[] = {{dma + 4096 + 100, 412}, {dma + 3 * 4096, bs - 412}};

	(void)state;
	memset(dma, 0xa5, 6 * 4096);
	transfer(DMALAND_NVME_READ, 3, 1, iov, 2);
	for (size_t i = 0; i < 6 * 4096; i++) {
		bool inside = (i >= 4096 + 100 && i < 4096 + 512) ||
			      (i >= 3 * 4096 && i < 3 * 4096 + bs - 412);

		if (!inside && dma[i] != 0xa5)
			fail_msg("byte %zu was written", i);
	}
	assert_memory_equal(dma + 4196, model + 3 * bs, 412);
	assert_memory_equal(dma + 3 * 4096, model + 3 * bs + 412, bs - 412);
}

static void large_requests_are_split_and_their_lists_chained(void **state)
{
	size_t bs = drive.ns.block_size, bytes = ARENA_BYTES - 4096;
	struct iovec iov = {dma + 2048, bytes};
	uint64_t seed = 3;

	(void)state;
	fill(model, bytes, &seed);
	memcpy(dma + 2048, model, bytes);
	transfer(DMALAND_NVME_WRITE, 0, bytes / bs, &iov, 1);
	memset(dma, 0, ARENA_BYTES);
	transfer(DMALAND_NVME_READ, 0, bytes / bs, &iov, 1);
	assert_memory_equal(dma + 2048, model, bytes);
	check_pools_idle();
}

/* Of PRPs: with SGLs these reads need none. */
static void lists_of_1024_requests_in_flight_share_pages(void **state)
{
	enum { READ = 65536 };
	struct dmaland_nvme_queue *queue;
	unsigned int n = drive.info.max_queue_depth < 1024 ? drive.info.max_queue_depth : 1024;
	size_t bytes = (size_t)n * READ, bs = drive.ns.block_size;
	struct dmaland_nvme_request *requests;
	struct dmaland_pool_stats stats;
	struct wait wait = {0};
	unsigned char *buffers;
	struct iovec *iov;
	dma_addr_t handle;

	(void)state;
	need_memory(bytes);
	requests = calloc(n, sizeof(*requests));
	iov = calloc(n, sizeof(*iov));
	buffers = dma_alloc_coherent(drive.dev, bytes, &handle, GFP_KERNEL);
	assert_true(requests && iov && buffers);
	queue = dmaland_nvme_queue_create(drive.ctrl, n, 0);
	if (!queue)
		fail_msg("%s", dmaland_last_error());
	for (unsigned int i = 0; i < n; i++) {
		iov[i] = (struct iovec){buffers + (size_t)i * READ, READ};
		requests[i] = (struct dmaland_nvme_request){
			.opcode = DMALAND_NVME_READ,
			.nsid = 1,
			.block = (size_t)i * READ % (MODEL_BYTES - READ) / bs,
			.blocks = READ / bs,
			.iov = &iov[i],
			.iov_count = 1,
			.done = on_done,
			.context = &wait,
		};
		assert_int_equal(dmaland_nvme_submit(queue, &requests[i]), 0);
	}
	stats = pool_stats(drive.dev, "prp list 256");
	assert_int_equal(stats.in_use, drive.info.sgls ? 0 : n);
	if (!drive.info.sgls) /* the pages of their blocks, and of one more slab */
		assert_in_range(stats.pages, (n + 15) / 16, (n + 15) / 16 + 4);
	while (wait.done < n)
		dmaland_nvme_poll(queue);
	assert_int_equal(wait.status, 0);
	for (unsigned int i = 0; i < n; i++)
		assert_memory_equal(buffers + (size_t)i * READ, model + requests[i].block * bs,
				    READ);
	dmaland_nvme_queue_destroy(queue);
	dma_free_coherent(drive.dev, bytes, buffers, handle);
	free(requests);
	free(iov);
	check_pools_idle();
}

static void more_requests_than_slots_wait_their_turn(void **state)
{
	enum { N = 200 };
	struct dmaland_nvme_queue *queue = dmaland_nvme_queue_create(drive.ctrl, 2, 0);
	static struct dmaland_nvme_request requests[N];
	static struct iovec iov[N];
	struct wait wait = {0};
	size_t bs = drive.ns.block_size;

	(void)state;
	assert_non_null(queue);
	for (int i = 0; i < N; i++) {
		iov[i] = (struct iovec){dma + (size_t)i * 4096 + 1, bs};
		requests[i] = (struct dmaland_nvme_request){.opcode = DMALAND_NVME_READ,
							    .nsid = 1,
							    .block = (uint64_t)i,
							    .blocks = 1,
							    .iov = &iov[i],
							    .iov_count = 1,
							    .done = on_done,
							    .context = &wait};
		assert_int_equal(dmaland_nvme_submit(queue, &requests[i]), 0);
	}
	while (wait.done < N)
		dmaland_nvme_poll(queue);
	assert_int_equal(wait.status, 0);
	for (size_t i = 0; i < N; i++)
		assert_memory_equal(dma + i * 4096 + 1, model + i * bs, bs);
	dmaland_nvme_queue_destroy(queue);
	check_pools_idle();
}

static void submit_again(struct dmaland_nvme_request *request, int status)
{
	struct wait *wait = request->context;

	wait->done++;
	wait->status = status;
	if (wait->done < 50 && dmaland_nvme_submit(drive.queue, request))
		wait->status = -1;
}

static void a_completion_may_submit_again(void **state)
{
	struct wait wait = {0};
	struct iovec iov = {dma, drive.ns.block_size};
	struct dmaland_nvme_request request = {.opcode = DMALAND_NVME_READ,
					       .nsid = 1,
					       .blocks = 1,
					       .iov = &iov,
					       .iov_count = 1,
					       .done = submit_again,
					       .context = &wait};

	(void)state;
	assert_int_equal(dmaland_nvme_submit(drive.queue, &request), 0);
	wait_for(&wait, 50);
}

static void requests_that_cannot_be_right_are_refused_in_words(void **state)
{
	uint64_t end = drive.ns.blocks;
	size_t bs = drive.ns.block_size;
	struct iovec one = {dma, bs}, odd = {dma, bs - 1}, none = {NULL, bs};
	struct iovec huge[2] = {{dma, SIZE_MAX - bs + 1}, {dma, 2 * bs - 1}};
	static const char *const no_namespace = "namespace";
	struct {
		uint8_t opcode;
		uint32_t nsid;
		uint64_t block, blocks;
		struct iovec *iov;
		int n, err;
		const char *says;
	} cases[] = {
		{DMALAND_NVME_READ, 1, end, 1, &one, 1, -ERANGE, "blocks"},
		{DMALAND_NVME_READ, 1, end - 1, 2, &one, 1, -ERANGE, "blocks"},
		{DMALAND_NVME_WRITE, 1, UINT64_MAX, 1, &one, 1, -ERANGE, "blocks"},
		{DMALAND_NVME_WRITE, 1, 2, UINT64_MAX, &one, 1, -ERANGE, "blocks"},
		{DMALAND_NVME_READ, 1, 0, 0, &one, 1, -EINVAL, ""},
		{DMALAND_NVME_READ, 1, 0, 1, &odd, 1, -EINVAL, "bytes"},
		{DMALAND_NVME_READ, 1, 0, 2, &one, 1, -EINVAL, "bytes"},
		{DMALAND_NVME_READ, 1, 0, 1, &one, 0, -EINVAL, ""},
		{DMALAND_NVME_READ, 1, 0, 1, &none, 1, -EINVAL, ""},
		{DMALAND_NVME_READ, 1, 0, 1, huge, 2, -EINVAL, ""},
		{DMALAND_NVME_READ, 1, 0, 1, &one, -1, -EINVAL, ""},
		{DMALAND_NVME_READ, 77, 0, 1, &one, 1, -ENODEV, no_namespace},
		{DMALAND_NVME_READ, 0, 0, 1, &one, 1, -EINVAL, no_namespace},
		{DMALAND_NVME_READ, UINT32_MAX, 0, 1, &one, 1, -EINVAL, no_namespace},
		{99, 1, 0, 1, &one, 1, -EINVAL, ""},
	};
	struct wait wait = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct dmaland_nvme_request request = {.opcode = cases[i].opcode,
						       .nsid = cases[i].nsid,
						       .block = cases[i].block,
						       .blocks = cases[i].blocks,
						       .iov = cases[i].iov,
						       .iov_count = cases[i].n,
						       .done = on_done,
						       .context = &wait};
		int err = dmaland_nvme_submit(drive.queue, &request);

		if (err != cases[i].err)
			fail_msg("case %zu gives %d", i, err);
		assert_error_says(cases[i].says);
		dmaland_nvme_poll(drive.queue);
	}
	assert_int_equal(wait.done, 0);
	assert_int_equal(dmaland_nvme_read(drive.queue, 1, end, 1, dma), -ERANGE);
	assert_true(dmaland_nvme_get_namespace(drive.ctrl, 77, &drive.ns) == -ENODEV);
	assert_int_equal(dmaland_nvme_get_namespace(drive.ctrl, 1, &drive.ns), 0);
	check_pools_idle();
}

static void statuses_come_in_words(void **state)
{
	(void)state;
	assert_non_null(strstr(dmaland_nvme_status_text(0x080), "LBA"));
	assert_non_null(strstr(dmaland_nvme_status_text(0x281), "Read"));
	assert_non_null(strstr(dmaland_nvme_status_text(0x7ff), "7ff"));
	assert_true(strlen(dmaland_nvme_status_text(-ETIMEDOUT)) > 0);
}

int run_transfer_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_drive_says_who_it_is),
		cmocka_unit_test(application_memory_of_any_alignment_is_read_and_written),
		cmocka_unit_test(random_segments_in_any_memory_keep_every_byte_in_place),
		cmocka_unit_test(large_buffers_of_the_application_are_mapped_and_not_copied),
		cmocka_unit_test(registered_buffers_are_translated),
		cmocka_unit_test(bytes_around_the_segments_of_a_read_stay_as_they_were),
		cmocka_unit_test(large_requests_are_split_and_their_lists_chained),
		cmocka_unit_test(lists_of_1024_requests_in_flight_share_pages),
		cmocka_unit_test(more_requests_than_slots_wait_their_turn),
		cmocka_unit_test(a_completion_may_submit_again),
		cmocka_unit_test(requests_that_cannot_be_right_are_refused_in_words),
		cmocka_unit_test(statuses_come_in_words),
	};
	const struct CMUnitTest mapped[] = {
		cmocka_unit_test(memory_that_is_not_there_or_read_only_is_refused),
	};
	int failed = cmocka_run_group_tests_name("transfer", tests, open_drive, close_drive);

	drive_without_sgls = true;
	failed += cmocka_run_group_tests_name("transfer by PRPs", tests, open_drive, close_drive);
	drive_without_sgls = false;
	if (device_is_on("vfio") && !strstr(device_spec, "copy_below"))
		failed += cmocka_run_group_tests_name("transfer, mapped", mapped, open_drive,
						      close_drive);
	return failed;
}
