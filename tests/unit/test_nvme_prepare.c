/* SPDX-License-Identifier: MIT */
/*
 * test_nvme_prepare.c - requests that are prepared once and submitted many times
 *
 * What lies ready must do what a submission does anew: the right bytes go, nothing is touched that was given back, and
 * what is stale never reaches the drive.
 */
#include "nvme_stand.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { BLOCK = SOFT_NVME_BLOCK, PIECE = 8 * BLOCK, ROOM = 256 << 10, ROUNDS = 20 };

static struct dmaland_nvme_request request;
static struct iovec segments[2];
static int result;
static unsigned int dones;
static unsigned char *room;

static void on_done(struct dmaland_nvme_request *done, int code)
{
	assert_ptr_equal(done, &request);
	result = code;
	dones++;
}

static void describe(uint8_t opcode, void *data, size_t bytes)
{
	segments[0] = (struct iovec){data, bytes};
	request = (struct dmaland_nvme_request){
		.opcode = opcode,
		.nsid = 1,
		.blocks = bytes / BLOCK,
		.iov = segments,
		.iov_count = 1,
		.done = on_done,
	};
	dones = 0;
	result = UNTOUCHED;
}

static void prepare(void)
{
	if (dmaland_nvme_prepare(ctrl, &request) != 0)
		fail_msg("%s", dmaland_last_error());
}

static void wait_for(unsigned int count)
{
	while (dones < count)
		dmaland_nvme_poll(queue);
}

static int run(void)
{
	unsigned int before = dones;

	assert_int_equal(dmaland_nvme_submit(queue, &request), 0);
	wait_for(before + 1);
	return result;
}

static int with_room(void **state)
{
	room = aligned_alloc(4096, ROOM);
	assert_non_null(room);
	memset(room, 0x5a, ROOM);
	return set_up(state);
}

static int without_room(void **state)
{
	int code = tear_down(state);

	free(room);
	return code;
}

#define with_a_drive(test) cmocka_unit_test_setup_teardown(test, with_room, without_room)

static uint64_t live(void)
{
	struct dmaland_streaming_stats stats;

	dmaland_get_streaming_stats(dev, &stats);
	return stats.live_mapped + stats.live_bounced;
}

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

static unsigned int many_done;

static void count_done(struct dmaland_nvme_request *done, int code)
{
	(void)done;
	assert_int_equal(code, 0);
	many_done++;
}

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

static void refused(int code, const char *words)
{
	unsigned int before = drive.commands;
	struct dmaland_nvme_request *list[] = {&request};

	assert_int_equal(dmaland_nvme_submit(queue, &request), -code);
	assert_error_says(words);
	assert_int_equal(dmaland_nvme_submit_bulk(queue, list, 1), 0);
	assert_int_equal(errno, code);
	assert_int_equal(drive.commands, before);
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

/* ---- under way ---- */

static void one_that_is_under_way_is_neither_submitted_nor_taken_back(void **state)
{
	struct dmaland_nvme_queue *second = dmaland_nvme_queue_create(ctrl, 8, 0);

	(void)state;
	assert_non_null(second);
	describe(DMALAND_NVME_READ, room, PIECE);
	prepare();
	assert_int_equal(dmaland_nvme_submit(queue, &request), 0); /* complete, and not polled */
	refused(EALREADY, "is under way");
	assert_int_equal(dmaland_nvme_submit(second, &request), -EALREADY);
	assert_int_equal(dmaland_nvme_unprepare(ctrl, &request), -EBUSY);
	assert_error_says("under way");
	wait_for(1);
	assert_int_equal(result, 0);
	assert_int_equal(dmaland_nvme_submit(second, &request), 0);
	while (dones < 2)
		dmaland_nvme_poll(second);
	assert_int_equal(dmaland_nvme_unprepare(ctrl, &request), 0);
}

static void again_until_taken_back(struct dmaland_nvme_request *done, int code)
{
	on_done(done, code);
	if (dones < 5)
		assert_int_equal(dmaland_nvme_submit(queue, done), 0);
	else
		assert_int_equal(dmaland_nvme_unprepare(ctrl, done), 0);
}

static void done_may_submit_it_again_or_take_it_back(void **state)
{
	(void)state;
	describe(DMALAND_NVME_READ, room, PIECE);
	request.done = again_until_taken_back;
	prepare();
	assert_int_equal(dmaland_nvme_submit(queue, &request), 0);
	wait_for(5);
	assert_null(request.prepared);
	assert_int_equal(live(), 0);
	request.done = on_done;
	assert_int_equal(run(), 0);
}

static void a_failure_is_told_as_of_any_request(void **state)
{
	char text[120];

	(void)state;
	describe(DMALAND_NVME_READ, room, PIECE);
	prepare();
	request.block = 96;
	judge(0x281, 3);
	assert_int_equal(run(), 0);
	assert_int_equal(stats().repeated, 3);
	assert_memory_equal(room, drive.media + 96 * BLOCK, PIECE);
	judge(0x281 | SOFT_NVME_DNR, 1);
	assert_int_equal(run(), 0x281);
	assert_string_equal(
		dmaland_nvme_request_text(&request, text, sizeof(text)),
		"read of blocks 96 to 103 of namespace 1: Unrecovered Read Error (0x281)");
	assert_int_equal(run(), 0);
}

static void one_that_is_late_is_aborted_and_can_be_submitted_again(void **state)
{
	(void)state;
	describe(DMALAND_NVME_WRITE, room, PIECE);
	prepare();
	drive.aborts = true;
	judge(SOFT_NVME_HOLD, 1);
	assert_int_equal(run(), -ETIMEDOUT);
	assert_int_equal(run(), 0);
}

/* ---- stale ---- */

static void by_format(void)
{
	assert_int_equal(dmaland_nvme_format(ctrl, 1, 0, 0), 0);
}

static void by_reset(void)
{
	assert_int_equal(dmaland_nvme_reset(ctrl), 0);
}

static void by_others(void)
{
	soft_nvme_become(&drive, 12, SOFT_NVME_BLOCKS / 8);
	assert_int_equal(dmaland_nvme_rescan(ctrl), 1);
	soft_nvme_become(&drive, 9, SOFT_NVME_BLOCKS);
}

static void by_notice(void)
{
	soft_nvme_become(&drive, 9, SOFT_NVME_BLOCKS / 2);
	drive.changed[0] = 1;
	assert_true(
		soft_nvme_report(&drive, 0x00040002)); /* notice: a namespace has changed, page 4 */
	while (drive.logs_read[4] == 0)
		dmaland_nvme_poll(queue);
	drive.logs_read[4] = 0;
	drive.changed[0] = 0;
}

static void by_status(void)
{
	judge(0x080 | SOFT_NVME_DNR, 1);
	assert_int_equal(run(), 0x080);
}

static void (*const changes[])(void) = {by_format, by_reset, by_others, by_notice, by_status};

enum { CHANGES = sizeof(changes) / sizeof(changes[0]) };

static void a_change_makes_it_stale_before_it_is_sent(void **state)
{
	struct dmaland_nvme_namespace ns;

	for (unsigned int i = 0; i < CHANGES; i++) {
		with_room(state);
		describe(DMALAND_NVME_READ, room, PIECE);
		prepare();
		assert_int_equal(run(), 0);
		changes[i]();
		refused(ESTALE, "prepare it anew");
		dmaland_nvme_poll(queue); /* makes the queue again after a reset */
		refused(ESTALE, "prepare it anew");
		assert_int_equal(dmaland_nvme_get_namespace(ctrl, 1, &ns), 0);
		refused(ESTALE, "prepare it anew");
		assert_int_equal(dmaland_nvme_unprepare(ctrl, &request), 0);
		assert_int_equal(run(), 0);
		prepare();
		assert_int_equal(run(), 0);
		without_room(state);
	}
}

/* All slots are taken; it is the last of those that wait. */
static void one_that_waits_is_not_begun_once_it_is_stale(void **state)
{
	struct dmaland_nvme_queue *small = dmaland_nvme_queue_create(ctrl, 1, 0);
	static struct dmaland_nvme_request other;
	static struct iovec its;

	(void)state;
	assert_non_null(small);
	describe(DMALAND_NVME_READ, room, PIECE);
	prepare();
	many_done = 0;
	its = (struct iovec){room + PIECE, PIECE};
	other = (struct dmaland_nvme_request){.opcode = DMALAND_NVME_READ,
					      .nsid = 1,
					      .blocks = 8,
					      .iov = &its,
					      .iov_count = 1,
					      .done = count_done};
	assert_int_equal(dmaland_nvme_submit(small, &other), 0);
	assert_int_equal(dmaland_nvme_submit(small, &request), 0);
	assert_int_equal(dmaland_nvme_unprepare(ctrl, &request), -EBUSY);
	by_others();
	while (dones == 0)
		dmaland_nvme_poll(small);
	assert_int_equal(result, -ESTALE);
	assert_int_equal(many_done, 1);
	assert_int_equal(drive.commands, 1);
	assert_int_equal(dmaland_nvme_unprepare(ctrl, &request), 0);
}

static void one_that_a_reset_cuts_off_is_not_sent_again(void **state)
{
	for (unsigned int write = 0; write < 2; write++) {
		with_room(state);
		describe(write ? DMALAND_NVME_WRITE : DMALAND_NVME_READ, room, PIECE);
		prepare();
		judge(SOFT_NVME_HOLD, 1);
		assert_int_equal(dmaland_nvme_submit(queue, &request), 0);
		by_reset();
		wait_for(1);
		assert_int_equal(result, write ? -ECANCELED : -ESTALE);
		assert_int_equal(drive.commands, 1);
		assert_int_equal(dmaland_nvme_unprepare(ctrl, &request), 0);
		without_room(state);
	}
}

/* Its own queue is made again, since another command was late; the controller is not reset. */
static void one_whose_queue_is_made_again_goes_on(void **state)
{
	struct dmaland_nvme_stats before;

	(void)state;
	describe(DMALAND_NVME_READ, room, PIECE);
	prepare();
	judge(SOFT_NVME_HOLD, 1);
	assert_int_equal(run(), -ETIMEDOUT);
	before = stats();
	assert_int_equal(before.queues_remade, 1);
	assert_int_equal(before.resets, 0);
	assert_int_equal(run(), 0);
	assert_memory_equal(room, drive.media, PIECE);
}

/* ---- the end ---- */

static void the_end_of_a_queue_answers_it_and_another_takes_it(void **state)
{
	(void)state;
	describe(DMALAND_NVME_WRITE, room, PIECE);
	prepare();
	judge(SOFT_NVME_HOLD, 1);
	assert_int_equal(dmaland_nvme_submit(queue, &request), 0);
	dmaland_nvme_queue_destroy(queue);
	assert_int_equal(dones, 1);
	assert_int_equal(result, -ECANCELED);
	queue = dmaland_nvme_queue_create(ctrl, 8, 0);
	assert_non_null(queue);
	assert_int_equal(run(), 0);
	assert_memory_equal(room, drive.media, PIECE);
}

/* end() finds nothing mapped. */
static void closing_takes_back_what_is_prepared(void **state)
{
	static struct dmaland_nvme_request idle;

	(void)state;
	describe(DMALAND_NVME_WRITE, room, 64 << 10);
	prepare();
	idle = request;
	idle.prepared = NULL;
	assert_int_equal(dmaland_nvme_prepare(ctrl, &idle), 0);
	judge(SOFT_NVME_HOLD, 1);
	assert_int_equal(dmaland_nvme_submit(queue, &request), 0);
	end();
	assert_int_equal(dones, 1);
	assert_int_equal(result, -ECANCELED);
	assert_null(request.prepared);
	assert_null(idle.prepared);
}

static void a_drive_that_is_gone_takes_none_and_they_can_be_taken_back(void **state)
{
	(void)state;
	describe(DMALAND_NVME_READ, room, 64 << 10);
	prepare();
	assert_int_equal(run(), 0);
	atomic_store(&drive.gone, true);
	while (dmaland_nvme_submit(queue, &request) == 0)
		while (dmaland_nvme_poll(queue) == 0)
			;
	assert_int_equal(errno, ENODEV);
	refused(ENODEV, "does not answer any more");
	assert_int_equal(dmaland_nvme_unprepare(ctrl, &request), 0);
	assert_int_equal(dmaland_nvme_prepare(ctrl, &request), -ENODEV);
}

/* ---- threads ---- */

enum { SUBMISSIONS = 300 };

static atomic_uint taken, refusals;
static atomic_bool two_done;

static void note_two(struct dmaland_nvme_request *done, int code)
{
	(void)done;
	assert_int_equal(code, 0);
	atomic_store(&two_done, true);
}

/* Whoever gets it waits until it is done. */
static void *submit_the_same(void *argument)
{
	struct dmaland_nvme_queue *own = argument;

	while (atomic_load(&taken) < SUBMISSIONS) {
		int code = dmaland_nvme_submit(own, &request);

		if (code == -EALREADY) {
			atomic_fetch_add(&refusals, 1);
			sched_yield();
			continue;
		}
		assert_int_equal(code, 0);
		atomic_fetch_add(&taken, 1);
		while (dmaland_nvme_poll(own) == 0)
			sched_yield();
	}
	return NULL;
}

static void of_two_threads_one_gets_it(void **state)
{
	struct dmaland_nvme_queue *queues[2] = {queue, dmaland_nvme_queue_create(ctrl, 8, 0)};
	pthread_t threads[2];

	(void)state;
	assert_non_null(queues[1]);
	describe(DMALAND_NVME_READ, room, PIECE);
	request.done = note_two;
	prepare();
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, submit_the_same, queues[i]), 0);
	for (unsigned int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_true(atomic_load(&taken) >= SUBMISSIONS);
	assert_int_equal(drive.commands, atomic_load(&taken));
	assert_memory_equal(room, drive.media, PIECE);
}

static atomic_bool stop;
static atomic_uint prepared_by_others;

static void *prepare_and_take_back(void *argument)
{
	static struct dmaland_nvme_request own;
	struct iovec its = {argument, PIECE};

	while (!atomic_load(&stop)) {
		int code;

		own = (struct dmaland_nvme_request){.opcode = DMALAND_NVME_READ,
						    .nsid = 1,
						    .blocks = 8,
						    .iov = &its,
						    .iov_count = 1,
						    .done = count_done};
		code = dmaland_nvme_prepare(ctrl, &own);
		if (code == 0)
			assert_int_equal(dmaland_nvme_unprepare(ctrl, &own), 0);
		else /* the namespace is being formatted, or the controller reset */
			assert_true(code == -EBUSY || code == -ECANCELED);
		prepared_by_others += code == 0;
	}
	return NULL;
}

static void others_may_prepare_while_namespaces_change_and_the_controller_is_reset(void **state)
{
	pthread_t thread;

	(void)state;
	atomic_store(&stop, false);
	describe(DMALAND_NVME_READ, room, PIECE);
	assert_int_equal(pthread_create(&thread, NULL, prepare_and_take_back, room + ROOM / 2), 0);
	for (unsigned int i = 0; i < 20 || prepared_by_others < 20; i++) {
		prepare();
		assert_int_equal(run(), 0);
		if (i % 2)
			by_format();
		else
			by_reset();
		refused(ESTALE, "prepare it anew");
		assert_int_equal(dmaland_nvme_unprepare(ctrl, &request), 0);
		dmaland_nvme_poll(queue);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
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
		with_a_drive(one_that_is_under_way_is_neither_submitted_nor_taken_back),
		with_a_drive(done_may_submit_it_again_or_take_it_back),
		with_a_drive(a_failure_is_told_as_of_any_request),
		with_a_drive(one_that_is_late_is_aborted_and_can_be_submitted_again),
		cmocka_unit_test(a_change_makes_it_stale_before_it_is_sent),
		with_a_drive(one_that_waits_is_not_begun_once_it_is_stale),
		cmocka_unit_test(one_that_a_reset_cuts_off_is_not_sent_again),
		with_a_drive(one_whose_queue_is_made_again_goes_on),
		with_a_drive(the_end_of_a_queue_answers_it_and_another_takes_it),
		with_a_drive(closing_takes_back_what_is_prepared),
		with_a_drive(a_drive_that_is_gone_takes_none_and_they_can_be_taken_back),
		with_a_drive(of_two_threads_one_gets_it),
		with_a_drive(
			others_may_prepare_while_namespaces_change_and_the_controller_is_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
