/* SPDX-License-Identifier: MIT */
/*
 * test_nvme_prepare.c - requests that are prepared once and submitted many times
 *
 * What lies ready must do what a submission does anew: the right bytes go; what can't lie ready is refused.
 */
#include "prepared_stand.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

/* ---- the right bytes ---- */

static void fill(unsigned char *data, size_t bytes, unsigned int seed)
{
	for (size_t i = 0; i < bytes; i++)
		data[i] = (unsigned char)(i * 7 + i / 251 + seed * 31);
}

/* Reads and writes of the same memory, which the CPU looks at and changes between. */
static void transfer_over_and_over(unsigned char *data, size_t bytes, unsigned int pieces)
{
	static unsigned char wanted[ROOM];
	size_t first = pieces == 1 ? bytes : 4096;

	for (unsigned int round = 0; round < 2; round++) {
		bool write = round == 0;

		describe(write ? DMALAND_NVME_WRITE : DMALAND_NVME_READ, data, bytes);
		segments[0].iov_len = first;
		segments[1] =
			(struct iovec){data + first + (pieces - 1) * (size_t)4096, bytes - first};
		request.iov_count = (int)pieces;
		prepare();
		segments[0] = segments[1] = (struct iovec){NULL, 1}; /* need not stay */
		for (unsigned int i = 0; i < ROUNDS; i++) {
			unsigned char *media, *second = data + first + (pieces - 1) * (size_t)4096;

			request.block = (i * 37) % (SOFT_NVME_BLOCKS - bytes / BLOCK);
			media = drive.media + request.block * BLOCK;
			fill(wanted, bytes, i + round);
			if (write) {
				memcpy(data, wanted, first);
				memcpy(second, wanted + first, bytes - first);
			} else {
				memcpy(media, wanted, bytes);
			}
			assert_int_equal(run(), 0);
			assert_memory_equal(media, wanted, bytes);
			assert_memory_equal(data, wanted, first);
			assert_memory_equal(second, wanted + first, bytes - first);
		}
		assert_int_equal(dmaland_nvme_unprepare(ctrl, &request), 0);
		assert_null(request.prepared);
	}
	assert_int_equal(live(), 0);
}

static const struct {
	const char *spec;
	uint32_t sgls;
	bool registers;
} devices[] = {
	{"soft:", 0, true},
	{"soft:", 1, true},
	{"soft:,coherent=no", 0, true},
	{"soft:,coherent=no", 1, true},
	{"soft:,copy_below=1048576", 0, true},
	{"soft:,trusted=no", 0, false},
};

/* In a page, two pages, a list; in two pieces; registered, of the arena, mapped, copied. */
static void memory_of_every_kind_is_read_and_written_over_and_over(void **state)
{
	static const size_t sizes[] = {BLOCK, PIECE, 2 * PIECE, 64 << 10, 128 << 10};

	room = aligned_alloc(4096, ROOM);
	assert_non_null(room);
	for (size_t d = 0; d < sizeof(devices) / sizeof(devices[0]); d++) {
		dma_addr_t dma;
		unsigned char *arena;

		dev = soft_nvme_open_on(&drive, devices[d].spec);
		drive.sgls = devices[d].sgls;
		begin_on_device(command_ms(), command_ms() / 2);
		arena = dma_alloc_coherent(dev, ROOM, &dma, GFP_KERNEL);
		assert_non_null(arena);
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
			transfer_over_and_over(room, sizes[s], 1);
			transfer_over_and_over(room + 512, sizes[s], 1);
			transfer_over_and_over(arena, sizes[s], 1);
			if (devices[d].registers) {
				assert_int_equal(dmaland_register(dev, room, ROOM), 0);
				transfer_over_and_over(room + 1024, sizes[s], 1);
				assert_int_equal(dmaland_unregister(dev, room), 0);
			}
			if (sizes[s] > PIECE) {
				transfer_over_and_over(room, sizes[s], 2);
				transfer_over_and_over(arena, sizes[s], 2);
			}
		}
		dma_free_coherent(dev, ROOM, arena, dma);
		end();
	}
	free(room);
	ctrl = NULL;
	(void)state;
}

static void a_prepared_request_is_mapped_once(void **state)
{
	struct dmaland_streaming_stats before, after;

	(void)state;
	describe(DMALAND_NVME_READ, room, ROOM / 2);
	prepare();
	dmaland_get_streaming_stats(dev, &before);
	assert_int_equal(live(), 1);
	for (unsigned int i = 0; i < ROUNDS; i++)
		assert_int_equal(run(), 0);
	dmaland_get_streaming_stats(dev, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(dmaland_nvme_unprepare(ctrl, &request), 0);
	assert_int_equal(live(), 0);
}

static void control_bits_may_change_between(void **state)
{
	static uint32_t seen[3];

	(void)state;
	describe(DMALAND_NVME_WRITE, room, PIECE);
	prepare();
	for (unsigned int i = 0; i < 3; i++) {
		request.control = i == 1 ? DMALAND_NVME_FUA : 0;
		assert_int_equal(run(), 0);
		soft_nvme_look(&drive,
			       queue->sq_dma + (uint64_t)((queue->sq_next - queue->sq) - 1) * 64 +
				       48,
			       &seen[i], sizeof(seen[i]));
	}
	assert_int_equal(le32toh(seen[0]), 7);
	assert_int_equal(le32toh(seen[1]), 7 | 1u << 30);
	assert_int_equal(le32toh(seen[2]), 7);
}

/* ---- many ---- */

/* More than the queue has slots, so that some wait. */
static void prepared_requests_and_others_go_in_one_call(void **state)
{
	static struct dmaland_nvme_request many[50];
	struct dmaland_nvme_request *list[50];
	static struct iovec iovs[50];

	(void)state;
	for (unsigned int i = 0; i < 50; i++) {
		list[i] = &many[i];
		iovs[i] = (struct iovec){room + (size_t)i * PIECE, PIECE};
		many[i] = (struct dmaland_nvme_request){.opcode = DMALAND_NVME_READ,
							.nsid = 1,
							.block = 8 * i,
							.blocks = 8,
							.iov = &iovs[i],
							.iov_count = 1,
							.done = count_done};
		if (i % 5 > 1)
			assert_int_equal(dmaland_nvme_prepare(ctrl, &many[i]), 0);
	}
	for (unsigned int round = 0; round < 3; round++) {
		memset(room, 0, ROOM);
		many_done = drive.doorbells = 0;
		assert_int_equal(dmaland_nvme_submit_bulk(queue, list, 50), 50);
		assert_int_equal(drive.doorbells, 1);
		while (many_done < 50)
			dmaland_nvme_poll(queue);
		assert_memory_equal(room, drive.media, 50 * PIECE);
	}
	for (unsigned int i = 0; i < 50; i++)
		assert_int_equal(dmaland_nvme_unprepare(ctrl, &many[i]), i % 5 > 1 ? 0 : -EINVAL);
}

/* ---- refusals ---- */

static void what_cannot_be_prepared_is_refused_in_words(void **state)
{
	struct dmaland_nvme_command raw = {.opcode = DMALAND_NVME_READ, .nsid = 1};
	void *constant = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_ptr_not_equal(constant, MAP_FAILED);
	describe(DMALAND_NVME_FLUSH, room, 0);
	request.iov_count = 0;
	assert_int_equal(dmaland_nvme_prepare(ctrl, &request), -EINVAL);
	assert_error_says("only reads, writes and compares");
	describe(DMALAND_NVME_RAW, room, PIECE);
	request.raw = &raw;
	assert_int_equal(dmaland_nvme_prepare(ctrl, &request), -EINVAL);
	describe(DMALAND_NVME_READ, room, ROOM);
	assert_int_equal(dmaland_nvme_prepare(ctrl, &request), -EINVAL);
	assert_error_says("is one command, of 256 blocks at most");
	describe(DMALAND_NVME_READ, room, PIECE);
	request.block = SOFT_NVME_BLOCKS - 7;
	assert_int_equal(dmaland_nvme_prepare(ctrl, &request), -ERANGE);
	describe(DMALAND_NVME_READ, room, PIECE);
	request.nsid = 0;
	assert_int_equal(dmaland_nvme_prepare(ctrl, &request), -EINVAL);
	describe(DMALAND_NVME_READ, room + 1, PIECE);
	assert_int_equal(dmaland_nvme_prepare(ctrl, &request), -EOPNOTSUPP);
	assert_error_says("where PRPs can't say");
	describe(DMALAND_NVME_READ, constant, PIECE);
	assert_int_equal(dmaland_nvme_prepare(ctrl, &request), -EFAULT);
	describe(DMALAND_NVME_READ, room, PIECE);
	assert_int_equal(dmaland_nvme_unprepare(ctrl, &request), -EINVAL);
	prepare();
	assert_int_equal(dmaland_nvme_prepare(ctrl, &request), -EALREADY);
	assert_int_equal(drive.commands, 0);
	assert_int_equal(live(), 1);
	munmap(constant, 4096);
}

static void what_is_not_as_it_was_prepared_is_refused(void **state)
{
	struct dmaland_nvme_request good, copy;

	(void)state;
	describe(DMALAND_NVME_READ, room, PIECE);
	prepare();
	good = request;
	request.opcode = DMALAND_NVME_WRITE;
	refused(EINVAL, "is not what was prepared");
	request = good;
	request.nsid = 2;
	refused(EINVAL, "is not what was prepared");
	request = good;
	request.blocks = 7;
	refused(EINVAL, "is not what was prepared");
	request = good;
	request.iov = &segments[1];
	refused(EINVAL, "is not what was prepared");
	request = good;
	request.done = NULL;
	refused(EINVAL, "no done()");
	request = good;
	request.block = SOFT_NVME_BLOCKS - 7;
	refused(ERANGE, "blocks 4089 to 4096");
	request.block = UINT64_MAX;
	refused(ERANGE, "asked");
	request = good;
	copy = request;
	assert_int_equal(dmaland_nvme_unprepare(ctrl, &copy), -EINVAL);
	assert_int_equal(dmaland_nvme_submit(queue, &copy), -EINVAL);
	assert_error_says("a copy of one that was");
	assert_int_equal(run(), 0);
	request.block = SOFT_NVME_BLOCKS - 8;
	assert_int_equal(run(), 0);
	assert_memory_equal(room, drive.media + request.block * BLOCK, PIECE);
}

static void another_controller_does_not_take_it(void **state)
{
	struct soft_nvme first = {0};
	struct dmaland_nvme *other;
	struct dmaland_nvme_queue *its_queue;
	static struct soft_nvme other_drive;
	struct dmaland_device *other_dev = soft_nvme_open(&other_drive), *before = dev;

	(void)state;
	(void)first;
	dev = other_dev;
	other = open_controller(command_ms(), command_ms() / 2);
	dev = before;
	assert_non_null(other);
	its_queue = dmaland_nvme_queue_create(other, 8, 0);
	assert_non_null(its_queue);
	describe(DMALAND_NVME_READ, room, PIECE);
	prepare();
	assert_int_equal(dmaland_nvme_submit(its_queue, &request), -EINVAL);
	assert_error_says("not prepared for this controller");
	assert_int_equal(dmaland_nvme_unprepare(other, &request), -EINVAL);
	assert_int_equal(run(), 0);
	dmaland_nvme_close(other);
	dmaland_close(other_dev);
	soft_nvme_free(&other_drive);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_of_every_kind_is_read_and_written_over_and_over),
		with_a_drive(a_prepared_request_is_mapped_once),
		with_a_drive(control_bits_may_change_between),
		with_a_drive(prepared_requests_and_others_go_in_one_call),
		with_a_drive(what_cannot_be_prepared_is_refused_in_words),
		with_a_drive(what_is_not_as_it_was_prepared_is_refused),
		with_a_drive(another_controller_does_not_take_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
