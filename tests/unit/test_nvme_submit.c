/* SPDX-License-Identifier: MIT */
/*
 * test_nvme_submit.c - requests on their way to the drive: checked, in order, told of once
 */
#include "nvme_stand.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { BLOCK = SOFT_NVME_BLOCK, MANY = 100, DEPTH = 32 };

/* Of one page each, but where a test has it otherwise. */
static struct dmaland_nvme_request many[MANY], *list[MANY];
static struct iovec segments[MANY][2];
static int results[MANY];
static unsigned int order[MANY], done_count;
static char *pages;

static void on_done(struct dmaland_nvme_request *request, int result)
{
	assert_true(done_count < MANY);
	order[done_count++] = (unsigned int)(request - many);
	results[request - many] = result;
}

static void set_up_requests(uint8_t opcode)
{
	pages = aligned_alloc(4096, (size_t)MANY * 4096);
	assert_non_null(pages);
	memset(pages, 0x5a, (size_t)MANY * 4096);
	done_count = 0;
	for (unsigned int i = 0; i < MANY; i++) {
		list[i] = &many[i];
		results[i] = UNTOUCHED;
		segments[i][0] = (struct iovec){pages + (size_t)i * 4096, 4096};
		many[i] = (struct dmaland_nvme_request){
			.opcode = opcode,
			.nsid = 1,
			.block = 8 * i,
			.blocks = 8,
			.iov = segments[i],
			.iov_count = 1,
			.done = on_done,
		};
	}
}

static void poll_until(unsigned int count)
{
	while (done_count < count)
		dmaland_nvme_poll(queue);
}

static void all_read(unsigned int first, unsigned int count)
{
	for (unsigned int i = first; i < first + count; i++) {
		assert_int_equal(results[i], 0);
		assert_memory_equal(pages + (size_t)i * 4096, drive.media + (size_t)i * 4096, 4096);
	}
}

/* ---- doorbells ---- */

static void the_drive_is_told_once_of_what_is_submitted_in_bulk(void **state)
{
	(void)state;
	set_up_requests(DMALAND_NVME_READ);
	assert_int_equal(dmaland_nvme_submit_bulk(queue, list, 0), 0);
	assert_int_equal(drive.doorbells, 0);
	assert_int_equal(dmaland_nvme_submit_bulk(queue, list, DEPTH), DEPTH);
	assert_int_equal(drive.doorbells, 1);
	assert_int_equal(drive.commands, DEPTH);
	assert_int_equal(dmaland_nvme_poll(queue), DEPTH);
	assert_int_equal(drive.cq_doorbells, 1);
	all_read(0, DEPTH);
	free(pages);
}

static void a_request_that_is_submitted_alone_reaches_the_drive_at_once(void **state)
{
	(void)state;
	set_up_requests(DMALAND_NVME_READ);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(dmaland_nvme_submit(queue, &many[i]), 0);
		assert_int_equal(drive.doorbells, i + 1);
		assert_int_equal(drive.commands, i + 1);
	}
	poll_until(3);
	all_read(0, 3);
	free(pages);
}

static void resubmit(struct dmaland_nvme_request *request, int result)
{
	unsigned int i = (unsigned int)(request - many);

	on_done(request, result);
	if (i < MANY - DEPTH)
		assert_int_equal(dmaland_nvme_submit_bulk(queue, &list[i + DEPTH], 1), 1);
}

static void what_is_submitted_as_others_are_done_is_told_once_a_poll(void **state)
{
	unsigned int polls = 0;

	(void)state;
	set_up_requests(DMALAND_NVME_READ);
	for (unsigned int i = 0; i < MANY; i++)
		many[i].done = resubmit;
	assert_int_equal(dmaland_nvme_submit_bulk(queue, list, DEPTH), DEPTH);
	while (done_count < MANY)
		polls += dmaland_nvme_poll(queue) > 0;
	assert_true(drive.doorbells <= polls);
	assert_int_equal(drive.cq_doorbells, polls);
	all_read(0, MANY);
	free(pages);
}

/* ---- order, and what waits ---- */

static void more_than_a_queue_holds_goes_in_order(void **state)
{
	(void)state;
	set_up_requests(DMALAND_NVME_READ);
	assert_int_equal(dmaland_nvme_submit_bulk(queue, list, MANY), MANY);
	poll_until(MANY);
	for (unsigned int i = 0; i < MANY; i++)
		assert_int_equal(order[i], i);
	all_read(0, MANY);
	free(pages);
}

/* Of one segment and of two, at odd addresses, larger than a command, without data, raw. */
static void requests_of_all_kinds_go_in_one_call(void **state)
{
	static char large[256 << 10], odd[1 + BLOCK];
	struct dmaland_nvme_command raw = {.opcode = DMALAND_NVME_READ, .nsid = 1, .cdw12 = 7};
	struct iovec large_segment = {large, sizeof(large)};

	(void)state;
	set_up_requests(DMALAND_NVME_READ);
	segments[1][0].iov_len = 1000;
	segments[1][1] = (struct iovec){pages + 4096 + 1000, 4096 - 1000};
	many[1].iov_count = 2;
	segments[2][0] = (struct iovec){odd + 1, BLOCK};
	many[2].blocks = 1;
	many[3].iov = &large_segment;
	many[3].blocks = sizeof(large) / BLOCK;
	many[3].block = 100;
	many[4] = (struct dmaland_nvme_request){.nsid = 1, .done = on_done};
	many[5] = (struct dmaland_nvme_request){.opcode = DMALAND_NVME_RAW,
						.raw = &raw,
						.iov = segments[5],
						.iov_count = 1,
						.done = on_done};
	raw.cdw10 = 40;
	many[7].opcode = DMALAND_NVME_WRITE;
	many[7].block = 3000;
	assert_int_equal(dmaland_nvme_submit_bulk(queue, list, 9), 9);
	assert_int_equal(drive.doorbells, 1);
	poll_until(9);
	for (unsigned int i = 0; i < 9; i++)
		assert_int_equal(results[i], 0);
	all_read(0, 2);
	all_read(5, 2);
	all_read(8, 1);
	assert_memory_equal(odd + 1, drive.media + 16 * BLOCK, BLOCK);
	assert_memory_equal(large, drive.media + 100 * BLOCK, sizeof(large));
	assert_memory_equal(pages + 7 * 4096, drive.media + 3000 * BLOCK, 4096);
	free(pages);
}

static void requests_that_come_while_others_wait_wait_too(void **state)
{
	(void)state;
	set_up_requests(DMALAND_NVME_READ);
	judge(SOFT_NVME_HOLD, DEPTH);
	drive.aborts = true;
	for (unsigned int i = 0; i < DEPTH + 2; i++)
		assert_int_equal(dmaland_nvme_submit(queue, &many[i]), 0);
	assert_int_equal(dmaland_nvme_submit_bulk(queue, list + DEPTH + 2, 2), 2);
	assert_int_equal(drive.commands, DEPTH);
	poll_until(DEPTH + 4);
	for (unsigned int i = 0; i < DEPTH; i++)
		assert_int_equal(results[i], -ETIMEDOUT);
	all_read(DEPTH, 4);
	free(pages);
}

/* ---- what is wrong ---- */

/* One thing wrong with a request to read 8 blocks. */
static const struct mistake {
	uint32_t nsid;
	uint64_t block, blocks;
	size_t bytes;
	int count;
	bool nowhere, no_segments, silent;
	int code;
} mistakes[] = {
	{.nsid = 0, .blocks = 8, .bytes = 4096, .count = 1, .code = EINVAL},
	{.nsid = UINT32_MAX, .blocks = 8, .bytes = 4096, .count = 1, .code = EINVAL},
	{.nsid = 1, .blocks = 0, .bytes = 0, .count = 1, .code = EINVAL},
	{.nsid = 1, .block = 4089, .blocks = 8, .bytes = 4096, .count = 1, .code = ERANGE},
	{.nsid = 1,
	 .block = UINT64_MAX - 3,
	 .blocks = 8,
	 .bytes = 4096,
	 .count = 1,
	 .code = ERANGE},
	{.nsid = 1, .blocks = 4097, .bytes = 4097 * 512, .count = 1, .code = ERANGE},
	{.nsid = 1, .blocks = (uint64_t)1 << 55 | 8, .bytes = 4096, .count = 1, .code = ERANGE},
	{.nsid = 1, .blocks = 8, .bytes = 4095, .count = 1, .code = EINVAL},
	{.nsid = 1, .blocks = 8, .bytes = 4097, .count = 1, .code = EINVAL},
	{.nsid = 1, .blocks = 8, .bytes = 4096, .count = 0, .code = EINVAL},
	{.nsid = 1, .blocks = 8, .bytes = 4096, .count = -1, .code = EINVAL},
	{.nsid = 1, .blocks = 8, .bytes = 4096, .count = 1, .nowhere = true, .code = EINVAL},
	{.nsid = 1, .blocks = 8, .bytes = 4096, .count = 1, .no_segments = true, .code = EINVAL},
	{.nsid = 1, .blocks = 8, .bytes = 4096, .count = 1, .silent = true, .code = EINVAL},
};

static void make_mistake(struct dmaland_nvme_request *request, const struct mistake *mistake)
{
	unsigned int i = (unsigned int)(request - many);

	segments[i][0].iov_len = mistake->bytes;
	if (mistake->nowhere)
		segments[i][0].iov_base = NULL;
	request->nsid = mistake->nsid;
	request->block = mistake->block;
	request->blocks = mistake->blocks;
	request->iov_count = mistake->count;
	if (mistake->no_segments)
		request->iov = NULL;
	if (mistake->silent)
		request->done = NULL;
}

/* Before a namespace is known, and afterwards; and when what was known of it is stale. */
static void what_is_wrong_is_refused_alone_and_in_bulk(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3 * sizeof(mistakes) / sizeof(mistakes[0]); i++) {
		const struct mistake *mistake = &mistakes[i / 3];

		set_up_requests(DMALAND_NVME_READ);
		make_mistake(&many[1], mistake);
		if (i % 3 == 2)
			nvme_doubt_ns(ctrl, 1);
		assert_int_equal(dmaland_nvme_submit(queue, &many[1]), -mistake->code);
		assert_int_equal(errno, mistake->code);
		assert_int_equal(dmaland_nvme_submit_bulk(queue, list, 3), 1);
		assert_int_equal(errno, mistake->code);
		poll_until(1);
		assert_int_equal(dmaland_nvme_submit_bulk(queue, list + 2, 1), 1);
		poll_until(2);
		all_read(0, 1);
		all_read(2, 1);
		assert_int_equal(results[1], UNTOUCHED);
		free(pages);
	}
	all_is_well();
}

static void the_last_blocks_of_a_namespace_can_be_read(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		set_up_requests(DMALAND_NVME_READ);
		many[0].block = SOFT_NVME_BLOCKS - 8;
		assert_int_equal(dmaland_nvme_submit_bulk(queue, list, 1), 1);
		poll_until(1);
		assert_int_equal(results[0], 0);
		assert_memory_equal(pages, drive.media + (SOFT_NVME_BLOCKS - 8) * BLOCK, 4096);
		free(pages);
	}
}

/* As many as the queue has slots, several times: none is lost. */
static void memory_that_cannot_be_mapped_costs_no_slot(void **state)
{
	void *constant = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_ptr_not_equal(constant, MAP_FAILED);
	set_up_requests(DMALAND_NVME_READ);
	assert_int_equal(dmaland_nvme_submit(queue, &many[0]), 0);
	poll_until(1);
	segments[1][0].iov_base = constant;
	for (unsigned int i = 0; i < 3 * DEPTH; i++) {
		assert_int_equal(dmaland_nvme_submit(queue, &many[1]), -EFAULT);
		assert_int_equal(dmaland_nvme_submit_bulk(queue, list + 1, 1), 0);
		assert_int_equal(errno, EFAULT);
	}
	assert_int_equal(drive.commands, 1);
	assert_int_equal(dmaland_nvme_submit_bulk(queue, list + 2, DEPTH), DEPTH);
	assert_int_equal(drive.commands, 1 + DEPTH);
	poll_until(1 + DEPTH);
	all_read(2, DEPTH);
	munmap(constant, 4096);
	free(pages);
}

static void a_drive_that_is_gone_takes_nothing_in_bulk(void **state)
{
	(void)state;
	set_up_requests(DMALAND_NVME_READ);
	assert_int_equal(dmaland_nvme_submit_bulk(queue, list, 2), 2);
	poll_until(2);
	atomic_store(&drive.gone, true);
	while (dmaland_nvme_submit_bulk(queue, list, 1) == 1)
		dmaland_nvme_poll(queue);
	assert_int_equal(errno, ENODEV);
	free(pages);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		on_a_drive(the_drive_is_told_once_of_what_is_submitted_in_bulk),
		on_a_drive(a_request_that_is_submitted_alone_reaches_the_drive_at_once),
		on_a_drive(what_is_submitted_as_others_are_done_is_told_once_a_poll),
		on_a_drive(more_than_a_queue_holds_goes_in_order),
		on_a_drive(requests_of_all_kinds_go_in_one_call),
		on_a_drive(requests_that_come_while_others_wait_wait_too),
		on_a_drive(what_is_wrong_is_refused_alone_and_in_bulk),
		on_a_drive(the_last_blocks_of_a_namespace_can_be_read),
		on_a_drive(memory_that_cannot_be_mapped_costs_no_slot),
		on_a_drive(a_drive_that_is_gone_takes_nothing_in_bulk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
