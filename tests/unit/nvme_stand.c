/* SPDX-License-Identifier: MIT */
#include "nvme_stand.h"

#include <stdlib.h>

struct soft_nvme drive;
struct dmaland_device *dev;
struct dmaland_nvme *ctrl;
struct dmaland_nvme_queue *queue;

struct dmaland_nvme *open_controller(unsigned int timeout_ms, unsigned int abort_ms)
{
	const struct dmaland_nvme_options options = {
		.size = sizeof(options),
		.timeout_ms = timeout_ms,
		.abort_timeout_ms = abort_ms,
		.queue_timeout_ms = command_ms(),
		.reset_timeout_ms = command_ms(),
	};

	return dmaland_nvme_open(dev, &options);
}

void begin(unsigned int timeout_ms, unsigned int abort_ms)
{
	dev = soft_nvme_open(&drive);
	begin_on_device(timeout_ms, abort_ms);
}

void begin_on_device(unsigned int timeout_ms, unsigned int abort_ms)
{
	ctrl = open_controller(timeout_ms, abort_ms);
	if (!ctrl)
		fail_msg("%s", dmaland_last_error());
	queue = dmaland_nvme_queue_create(ctrl, 32, 0);
	assert_non_null(queue);
	for (size_t i = 0; i < (size_t)SOFT_NVME_BLOCKS * SOFT_NVME_BLOCK; i++)
		drive.media[i] = (unsigned char)(i / SOFT_NVME_BLOCK + 1);
	log_clear();
}

void end(void)
{
	struct dmaland_streaming_stats stats;

	dmaland_nvme_close(ctrl);
	ctrl = NULL;
	dmaland_get_streaming_stats(dev, &stats);
	assert_int_equal(stats.live_mapped + stats.live_bounced, 0);
	assert_int_equal(stats.bad_calls, 0);
	dmaland_close(dev);
	assert_int_equal(drive.faults, 0);
	assert_int_equal(drive.cut_off, 0);
	soft_nvme_free(&drive);
	log_clear();
}

int set_up(void **state)
{
	(void)state;
	begin(command_ms(), command_ms() / 2);
	return 0;
}

int tear_down(void **state)
{
	(void)state;
	if (ctrl)
		end();
	return 0;
}

struct dmaland_nvme_stats stats(void)
{
	struct dmaland_nvme_stats stats;

	dmaland_nvme_get_stats(ctrl, &stats);
	return stats;
}

/* ---- requests ---- */

struct dmaland_nvme_request requests[N];
struct iovec iov[N];
int status[N];
unsigned int answers[N], answered;
char *memory[N];

void on_answer(struct dmaland_nvme_request *request, int result)
{
	size_t i = request - requests;

	status[i] = result;
	answers[i]++;
	answered++;
}

void submit(uint8_t opcode)
{
	answered = 0;
	for (unsigned int i = 0; i < N; i++) {
		answers[i] = 0;
		status[i] = UNTOUCHED;
		memory[i] = aligned_alloc(4096, SIZE);
		memset(memory[i], 0x5a, SIZE);
		iov[i] = (struct iovec){memory[i], SIZE};
		requests[i] = (struct dmaland_nvme_request){
			.opcode = opcode,
			.nsid = 1,
			.block = i * BLOCKS,
			.blocks = BLOCKS,
			.iov = &iov[i],
			.iov_count = 1,
			.done = on_answer,
		};
		assert_int_equal(dmaland_nvme_submit(queue, &requests[i]), 0);
	}
}

void finish(void)
{
	while (answered < N)
		dmaland_nvme_poll(queue);
	for (unsigned int i = 0; i < 100; i++)
		dmaland_nvme_poll(queue);
	for (unsigned int i = 0; i < N; i++) {
		assert_int_equal(answers[i], 1);
		if (status[i] == 0 && requests[i].opcode == DMALAND_NVME_READ)
			assert_memory_equal(memory[i], drive.media + (size_t)i * SIZE, SIZE);
		free(memory[i]);
	}
}

void expect(int wanted)
{
	finish();
	for (unsigned int i = 0; i < N; i++)
		if (status[i] != wanted)
			fail_msg("request %u: %s", i, dmaland_nvme_status_text(status[i]));
}

void all_is_well(void)
{
	drive.verdict = NULL;
	submit(DMALAND_NVME_WRITE);
	expect(0);
	submit(DMALAND_NVME_READ);
	expect(0);
}

/* ---- verdicts ---- */

unsigned int times;
static int what; /* the verdict is, so many times */

static int some_times(struct soft_nvme *d, const struct nvme_command *command)
{
	(void)d;
	(void)command;
	if (times == 0)
		return SOFT_NVME_CARRY_OUT;
	times--;
	return what;
}

void judge(int verdict, unsigned int n)
{
	drive.verdict = some_times;
	what = verdict;
	times = n;
}
