/* SPDX-License-Identifier: MIT */
/*
 * sync.c - one request, waited for
 */
#include "nvme_internal.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

static void note_done(struct dmaland_nvme_request *request, int status)
{
	(void)status;
	*(bool *)request->context = true;
}

/* The block that the drive's error log names for a command that failed, if it does. */
static void add_logged_block(struct dmaland_nvme_queue *queue,
			     const struct dmaland_nvme_request *request, char *text, size_t size)
{
	struct dmaland_nvme_error errors[64];
	int n = dmaland_nvme_get_errors(queue->ctrl, errors, 64), i;
	size_t length = strlen(text);

	for (i = 0; i < n; i++) {
		if (errors[i].queue != queue->qid ||
		    errors[i].command != request->driver.failed_command)
			continue;
		snprintf(text + length, size - length, "; the drive's log names block %llu",
			 (unsigned long long)errors[i].block);
		return;
	}
}

/* Words for the result of a request that was waited for. */
static int explain(struct dmaland_nvme_queue *queue, const struct dmaland_nvme_request *request)
{
	int status = request->driver.status;
	char text[256];

	if (status == 0)
		return 0;
	if (status < 0 && nvme_service(queue->ctrl) > NVME_BUSY) {
		nvme_refuse(queue->ctrl);
		errno = -status;
		return status;
	}
	dmaland_nvme_request_text(request, text, sizeof(text));
	if (status > 0 && request->driver.failed_blocks > 0 && request->driver.logged)
		add_logged_block(queue, request, text, sizeof(text));
	dmaland_set_error(status > 0 ? EIO : -status, "%s", text);
	return status;
}

static int submit_and_poll(struct dmaland_nvme_queue *queue, struct dmaland_nvme_request *request)
{
	bool done = false;
	int code;

	if (queue->polling)
		return dmaland_set_error(EDEADLK,
					 "done() can't wait for its own queue; submit instead");
	request->done = note_done;
	request->context = &done;
	code = dmaland_nvme_submit(queue, request);
	if (code != 0)
		return code;
	while (!done) {
		if (dmaland_nvme_poll(queue) > 0)
			continue;
		if (queue->vector < 0 || dmaland_nvme_wait(queue, -1) < 0)
			sched_yield();
	}
	return explain(queue, request);
}

/*
 * Submit and wait. The drive has let go of the request and its memory when this returns; so a thread
 * that is cancelled waits, too.
 */
static int submit_and_wait(struct dmaland_nvme_queue *queue, struct dmaland_nvme_request *request)
{
	int before, status;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	status = submit_and_poll(queue, request);
	pthread_setcancelstate(before, &before);
	return status;
}

/* A request of some blocks. */
static int transfer(struct dmaland_nvme_queue *queue, uint8_t opcode, uint32_t nsid, uint64_t block,
		    uint64_t blocks, void *data)
{
	struct iovec iov = {.iov_base = data};
	struct dmaland_nvme_request request = {
		.opcode = opcode,
		.nsid = nsid,
		.block = block,
		.blocks = blocks,
		.iov = &iov,
		.iov_count = nvme_opcode_has_data(opcode),
	};
	const struct nvme_ns *ns;

	if (dmaland_check(queue->ctrl->dev) != 0)
		return -errno;
	ns = nvme_find_ns(queue->ctrl, nsid);
	if (!ns)
		return -errno;
	/* where this overflows, the blocks are past the end, which is checked first */
	iov.iov_len = blocks << ns->block_shift;
	return submit_and_wait(queue, &request);
}

int dmaland_nvme_read(struct dmaland_nvme_queue *queue, uint32_t nsid, uint64_t block,
		      uint64_t blocks, void *data)
{
	return transfer(queue, DMALAND_NVME_READ, nsid, block, blocks, data);
}

int dmaland_nvme_write(struct dmaland_nvme_queue *queue, uint32_t nsid, uint64_t block,
		       uint64_t blocks, const void *data)
{
	return transfer(queue, DMALAND_NVME_WRITE, nsid, block, blocks, (void *)data);
}

int dmaland_nvme_compare(struct dmaland_nvme_queue *queue, uint32_t nsid, uint64_t block,
			 uint64_t blocks, const void *data)
{
	return transfer(queue, DMALAND_NVME_COMPARE, nsid, block, blocks, (void *)data);
}

int dmaland_nvme_flush(struct dmaland_nvme_queue *queue, uint32_t nsid)
{
	struct dmaland_nvme_request request = {.opcode = DMALAND_NVME_FLUSH, .nsid = nsid};

	return submit_and_wait(queue, &request);
}

int dmaland_nvme_write_zeroes(struct dmaland_nvme_queue *queue, uint32_t nsid, uint64_t block,
			      uint64_t blocks)
{
	return transfer(queue, DMALAND_NVME_WRITE_ZEROES, nsid, block, blocks, NULL);
}

int dmaland_nvme_discard(struct dmaland_nvme_queue *queue, uint32_t nsid, uint64_t block,
			 uint64_t blocks)
{
	return transfer(queue, DMALAND_NVME_DISCARD, nsid, block, blocks, NULL);
}

int dmaland_nvme_verify(struct dmaland_nvme_queue *queue, uint32_t nsid, uint64_t block,
			uint64_t blocks)
{
	return transfer(queue, DMALAND_NVME_VERIFY, nsid, block, blocks, NULL);
}

int dmaland_nvme_io(struct dmaland_nvme_queue *queue, struct dmaland_nvme_command *raw)
{
	struct iovec iov = {raw->data, raw->size};
	struct dmaland_nvme_request request = {
		.opcode = DMALAND_NVME_RAW,
		.raw = raw,
		.iov = &iov,
		.iov_count = raw->size > 0,
	};

	return submit_and_wait(queue, &request);
}
