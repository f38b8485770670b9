/* SPDX-License-Identifier: MIT */
/*
 * prepared_stand.c - a request that is prepared, its data, and what is said of it
 */
#include "prepared_stand.h"

#include <errno.h>
#include <stdlib.h>

struct dmaland_nvme_request request;
struct iovec segments[2];
int result;
unsigned int dones;
unsigned char *room;

void on_done(struct dmaland_nvme_request *done, int code)
{
	assert_ptr_equal(done, &request);
	result = code;
	dones++;
}

void describe(uint8_t opcode, void *data, size_t bytes)
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

void prepare(void)
{
	if (dmaland_nvme_prepare(ctrl, &request) != 0)
		fail_msg("%s", dmaland_last_error());
}

void wait_for(unsigned int count)
{
	while (dones < count)
		dmaland_nvme_poll(queue);
}

int run(void)
{
	unsigned int before = dones;

	assert_int_equal(dmaland_nvme_submit(queue, &request), 0);
	wait_for(before + 1);
	return result;
}

int with_room(void **state)
{
	room = aligned_alloc(4096, ROOM);
	assert_non_null(room);
	memset(room, 0x5a, ROOM);
	return set_up(state);
}

int without_room(void **state)
{
	int code = tear_down(state);

	free(room);
	return code;
}

uint64_t live(void)
{
	struct dmaland_streaming_stats stats;

	dmaland_get_streaming_stats(dev, &stats);
	return stats.live_mapped + stats.live_bounced;
}

void refused(int code, const char *words)
{
	unsigned int before = drive.commands;
	struct dmaland_nvme_request *list[] = {&request};

	assert_int_equal(dmaland_nvme_submit(queue, &request), -code);
	assert_error_says(words);
	assert_int_equal(dmaland_nvme_submit_bulk(queue, list, 1), 0);
	assert_int_equal(errno, code);
	assert_int_equal(drive.commands, before);
}

unsigned int many_done;

void count_done(struct dmaland_nvme_request *done, int code)
{
	(void)done;
	assert_int_equal(code, 0);
	many_done++;
}
