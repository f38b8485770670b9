/* SPDX-License-Identifier: MIT */
/*
 * request.c - requests: checked, split into commands, answered
 *
 * A request becomes one command, or several when it is larger than a command may be. Its commands
 * take slots of the queue; when none is free, or no memory for lists, it waits in the queue's list,
 * and completions make it go on. Only the head of that list has commands in flight.
 *
 *   submit --> waiting --> slots --> drive --> poll --> done()
 *          `---------------^   (nothing else waits)
 *
 * A request is done when no part of it is left to submit and no command of it is in flight. The
 * first command that fails takes the rest along: nothing more of the request is submitted.
 *
 * A request that comes while its queue can't be used, since the controller is being reset or the
 * queue has to be made again, waits in the list too. Time-outs cost the hot path nothing but to clear
 * an age: see recover.c.
 */
#include "ring.h"

#include <errno.h>

/* Do the segments hold exactly so many bytes? The sum of hostile lengths may overflow. */
static int check_each_segment(const struct dmaland_nvme_request *request, uint64_t bytes)
{
	uint64_t left = bytes;
	int i;

	if (request->iov_count < 0 || (request->iov_count > 0 && !request->iov))
		return dmaland_set_error(EINVAL, "%d segments at %p are no segments",
					 request->iov_count, (const void *)request->iov);
	for (i = 0; i < request->iov_count; i++) {
		const struct iovec *segment = &request->iov[i];

		if (!segment->iov_base && segment->iov_len > 0)
			return dmaland_set_error(EINVAL, "segment %d of %zu bytes is at NULL", i,
						 segment->iov_len);
		if (segment->iov_len > left)
			return dmaland_set_error(
				EINVAL, "the segments hold more than the %llu bytes of %llu blocks",
				(unsigned long long)bytes, (unsigned long long)request->blocks);
		left -= segment->iov_len;
	}
	if (left > 0)
		return dmaland_set_error(
			EINVAL, "the segments hold %llu bytes, %llu blocks have %llu",
			(unsigned long long)(bytes - left), (unsigned long long)request->blocks,
			(unsigned long long)bytes);
	return 0;
}

/* Mostly it is one segment. */
static int check_segments(const struct dmaland_nvme_request *request, uint64_t bytes)
{
	const struct iovec *iov = request->iov;

	if (request->iov_count == 1 && iov && iov->iov_base && iov->iov_len == bytes)
		return 0;
	return check_each_segment(request, bytes);
}

/* Transfers with a namespace that has blocks with metadata, or too large ones, or zones. */
static int check_special(const struct dmaland_nvme_request *request, const struct nvme_ns *ns)
{
	if (ns->info.metadata > 0)
		return dmaland_set_error(EOPNOTSUPP,
					 "namespace %u has %u bytes of metadata beside each block, "
					 "which this driver can't transfer; format it without",
					 ns->info.nsid, ns->info.metadata);
	if (ns->most == 0)
		return dmaland_set_error(
			EOPNOTSUPP,
			"a block of namespace %u has %u bytes, more than a command may carry "
			"(info.max_transfer: MDTS, or options.max_transfer); format it with "
			"smaller blocks",
			ns->info.nsid, ns->info.block_size);
	if (request->opcode == DMALAND_NVME_WRITE)
		return nvme_check_zoned_write(request, ns, ns->most);
	return 0;
}

/* A read, write or compare. */
static int check_transfer(const struct dmaland_nvme_request *request, const struct nvme_ns *ns)
{
	int code = nvme_check_range(request, ns);

	if (code == 0 && ns->special)
		code = check_special(request, ns);
	return code != 0 ? code : check_segments(request, request->blocks << ns->block_shift);
}

static bool is_read_or_write(const struct dmaland_nvme_request *request)
{
	return request->opcode == DMALAND_NVME_READ || request->opcode == DMALAND_NVME_WRITE;
}

/* Refuse what can't be right. A raw command's namespace is nothing that the driver has to know. 0 or -errno. */
int nvme_check_request(struct dmaland_nvme *ctrl, const struct dmaland_nvme_request *request,
		       const struct nvme_ns **ns)
{
	int code = 0;

	*ns = NULL;
	if (request->opcode == DMALAND_NVME_RAW)
		return nvme_check_raw(ctrl, request);
	*ns = nvme_find_ns(ctrl, request->nsid);
	if (!*ns)
		return -errno;
	if (!is_read_or_write(request))
		code = nvme_check_command(ctrl, request, *ns);
	return code == 0 && nvme_has_data(request) ? check_transfer(request, *ns) : code;
}

/* Refuse what can't be right, and prepare the rest. 0 or -errno with the error set. */
static int begin_request(struct dmaland_nvme_queue *queue, struct dmaland_nvme_request *request)
{
	const struct nvme_ns *ns;
	int code;

	if (!request->done)
		return dmaland_set_error(EINVAL, "the request has no done()");
	if (request->prepared) {
		code = nvme_check_prepared(queue, request);
		ns = request->prepared->ns;
	} else {
		code = nvme_check_request(queue->ctrl, request, &ns);
	}
	if (code != 0)
		return code;
	if (ns)
		queue->ns = ns;
	request->driver.ns = ns;
	request->driver.left = request->blocks ? request->blocks : 1;
	request->driver.at = (struct nvme_position){0, 0};
	request->driver.pending = 1;
	request->driver.status = 0;
	request->driver.failed_blocks = 0;
	return 0;
}

void nvme_pop_waiting(struct dmaland_nvme_queue *queue)
{
	struct dmaland_nvme_request *request = queue->waiting;

	queue->waiting = request->driver.next;
	if (!queue->waiting)
		queue->waiting_end = &queue->waiting;
	request->driver.next = NULL;
}

static void push_waiting(struct dmaland_nvme_queue *queue, struct dmaland_nvme_request *request)
{
	request->driver.next = NULL;
	*queue->waiting_end = request;
	queue->waiting_end = &request->driver.next;
}

/* How many of the next blocks one command takes. */
static uint64_t blocks_of_command(const struct nvme_ns *ns, uint64_t block, uint64_t blocks)
{
	if (blocks > ns->most)
		blocks = ns->most;
	if (ns->zones_apart && blocks > nvme_zone_left(ns, block))
		blocks = nvme_zone_left(ns, block);
	return blocks;
}

/* Fill in a read, write or compare of the request's next blocks. */
static int nvme_setup_rw(struct dmaland_nvme_queue *queue, struct nvme_iod *iod,
			 struct dmaland_nvme_request *request, struct nvme_command *command)
{
	const struct nvme_ns *ns = request->driver.ns;
	uint64_t block = request->block + (request->blocks - request->driver.left);
	uint64_t blocks = blocks_of_command(ns, block, request->driver.left);
	int code;

	iod->direction = nvme_direction_of(request->opcode);
	iod->block = block;
	iod->bytes = blocks << ns->block_shift;
	nvme_fill_rw(request, command, block, blocks);
	code = nvme_setup_data(&queue->ctrl->pools, iod, request->iov, &request->driver.at,
			       command);
	if (code == 0)
		request->driver.left -= blocks;
	return code;
}

/* The command of a request that is prepared, and was taken. */
static void setup_prepared(struct nvme_iod *iod, struct dmaland_nvme_request *request,
			   struct nvme_command *command)
{
	if (request->prepared->syncs)
		nvme_sync_prepared(request->prepared, true);
	nvme_write_prepared(request->prepared, request, command);
	iod->block = request->block;
	request->driver.left = 0;
}

/* Submit one command of a request. 0, -EAGAIN (no slot is free), -ENOMEM, or nvme_setup_data()'s. */
static int submit_command(struct dmaland_nvme_queue *queue, struct dmaland_nvme_request *request)
{
	struct nvme_command *command = queue->sq_next;
	struct nvme_iod *iod = nvme_take_slot(queue);
	bool has_data = nvme_has_data(request);
	int code = 0;

	if (!iod)
		return -EAGAIN;
	if (request->prepared)
		setup_prepared(iod, request, command);
	else if (has_data)
		code = nvme_setup_rw(queue, iod, request, command);
	else
		code = nvme_setup_no_data(queue, iod, request);
	if (code != 0) {
		nvme_give_slot(queue, iod);
		return code;
	}
	iod->request = request;
	request->driver.pending++;
	if (!has_data)
		nvme_fill_command(queue->ctrl, iod, command);
	nvme_put_command(queue, iod);
	return 0;
}

/* Submit nothing more of a request of which some is left: it ends with this status, or the one of what failed before. */
void nvme_give_up_rest(struct dmaland_nvme_request *request, int status)
{
	request->driver.left = 0;
	request->driver.pending--;
	if (request->driver.status == 0)
		request->driver.status = status;
}

/*
 * Submit as much of a request as there are slots and memory for. 0 when nothing is left to submit;
 * -EAGAIN when it has to wait for completions; else it is over: -ENOMEM when none is under way that
 * could help, or memory that can't be mapped. If that shows when commands are in flight already,
 * their completions end it.
 */
static int submit_commands(struct dmaland_nvme_queue *queue, struct dmaland_nvme_request *request)
{
	int code;

	do {
		code = submit_command(queue, request);
	} while (code == 0 && request->driver.left > 0);
	if (code == 0) {
		request->driver.pending--;
		return 0;
	}
	if (code == -ENOMEM && queue->free_count < queue->depth)
		code = -EAGAIN;
	if (code == -EAGAIN || request->driver.pending == 1)
		return code;
	nvme_give_up_rest(request, code);
	return 0;
}

/* For a request that can't be begun now; or not at all. */
static int wait_in_queue(struct dmaland_nvme_queue *queue, struct dmaland_nvme_request *request)
{
	if (queue->closing)
		return dmaland_set_error(ECANCELED, "the queue is being destroyed");
	if (nvme_service(queue->ctrl) > NVME_BUSY)
		return nvme_refuse(queue->ctrl);
	push_waiting(queue, request);
	return 0;
}

static int submit_or_wait(struct dmaland_nvme_queue *queue, struct dmaland_nvme_request *request)
{
	int code;

	if (queue->waiting || nvme_state(queue->ctrl) != queue->state)
		return wait_in_queue(queue, request);
	code = submit_commands(queue, request);
	if (code == -EAGAIN) {
		push_waiting(queue, request);
		return 0;
	}
	return code;
}

/* Any request; it may become several commands, or have to wait. 0, or -errno with the error set. */
static __attribute__((noinline)) int submit_any(struct dmaland_nvme_queue *queue,
						struct dmaland_nvme_request *request)
{
	int code = begin_request(queue, request);

	if (code != 0)
		return code;
	code = submit_or_wait(queue, request);
	if (code != 0 && request->prepared)
		nvme_end_prepared(request->prepared, code);
	return code;
}

/* Is nothing in the way of requests? */
static inline bool queue_is_ready(struct dmaland_nvme_queue *queue)
{
	return !queue->waiting && nvme_state(queue->ctrl) == queue->state && queue->free;
}

enum { NOT_SIMPLE = 1 }; /* it is submit_any()'s, which has the words for what is wrong */

/*
 * Submit a request to a queue that is ready, in one pass, if it is simple: a read or write that is one command, with one
 * segment, to the namespace of the last, and right. 0, -errno with the error set, or NOT_SIMPLE.
 */
static inline __attribute__((always_inline)) int submit_simple(struct dmaland_nvme_queue *queue,
							       struct dmaland_nvme_request *request)
{
	const struct nvme_ns *ns = queue->ns;
	const struct iovec *segment;
	struct nvme_iod *iod;
	uint64_t blocks;
	size_t bytes;
	char *data;
	int code;

	if (nvme_ns_id(ns) != request->nsid || !is_read_or_write(request))
		return NOT_SIMPLE;
	blocks = request->blocks;
	segment = request->iov;
	if (blocks - 1 >= ns->max_blocks || request->block > ns->info.blocks - blocks || !segment)
		return NOT_SIMPLE;
	data = segment->iov_base;
	bytes = blocks << ns->block_shift;
	if (request->iov_count != 1 || !data || segment->iov_len != bytes ||
	    ((uintptr_t)data & queue->ctrl->pools.misaligned) || !request->done ||
	    request->prepared)
		return NOT_SIMPLE;
	iod = queue->free;
	iod->bytes = bytes;
	iod->direction = request->opcode;
	code = nvme_map_piece(&queue->ctrl->pools, iod, data);
	if (code != 0)
		return code;
	iod->block = request->block;
	nvme_fill_rw(request, queue->sq_next, request->block, request->blocks);
	if (!nvme_write_piece(&queue->ctrl->pools, iod, queue->sq_next)) {
		code = nvme_take_lists(&queue->ctrl->pools, iod, queue->sq_next);
		if (code != 0)
			return code;
	}
	queue->free = iod->next_free;
	queue->free_count--;
	nvme_put_command(queue, iod);
	iod->request = request;
	request->driver.ns = queue->ns;
	request->driver.pending = 1;
	request->driver.status = 0;
	return 0;
}

/* The same of one that is prepared, if it is what it was then, and neither stale nor under way. */
static inline __attribute__((always_inline)) int
submit_prepared(struct dmaland_nvme_queue *queue, struct dmaland_nvme_request *request)
{
	struct dmaland_nvme_prepared *prepared = request->prepared;
	struct nvme_iod *iod = queue->free;

	if (prepared->request != request || prepared->ctrl != queue->ctrl ||
	    request->block >= nvme_prepared_starts(prepared) ||
	    request->opcode != prepared->opcode || request->nsid != prepared->nsid ||
	    request->blocks != prepared->blocks || request->iov != prepared->iov ||
	    !request->done || !nvme_take_prepared(prepared))
		return NOT_SIMPLE;
	queue->free = iod->next_free;
	queue->free_count--;
	nvme_write_prepared(prepared, request, queue->sq_next);
	nvme_put_command(queue, iod);
	iod->request = request;
	iod->block = request->block;
	request->driver.pending = 1;
	request->driver.status = 0;
	return 0;
}

/* Requests that are under way may end, and leave memory to one that has none: so it may wait. */
static inline bool is_for_any(int code)
{
	return code == NOT_SIMPLE || code == -ENOMEM;
}

int dmaland_nvme_submit(struct dmaland_nvme_queue *queue, struct dmaland_nvme_request *request)
{
	int code = dmaland_check(queue->ctrl->dev);

	if (code != 0)
		return code;
	code = NOT_SIMPLE;
	if (queue_is_ready(queue))
		code = request->prepared ? submit_prepared(queue, request)
					 : submit_simple(queue, request);
	if (is_for_any(code))
		code = submit_any(queue, request);
	if (!queue->polling) /* else when that ends */
		nvme_ring_sq(queue);
	return code;
}

/* How far a call has come, and why not further. */
struct progress {
	struct dmaland_nvme_request *const *next;
	int code;
};

/* As many as there are slots for, to a queue that is ready: they change nothing but which slots are free. */
static __attribute__((noinline)) struct progress
submit_simple_ones(struct dmaland_nvme_queue *queue, struct dmaland_nvme_request *const *next,
		   struct dmaland_nvme_request *const *end)
{
	int code = 0;

	while (next < end && queue->free) {
		code = submit_simple(queue, *next);
		if (code != 0)
			break;
		next++;
	}
	return (struct progress){next, code};
}

static __attribute__((noinline)) struct dmaland_nvme_request *const *
submit_prepared_ones(struct dmaland_nvme_queue *queue, struct dmaland_nvme_request *const *next,
		     struct dmaland_nvme_request *const *end)
{
	while (next < end && queue->free && (*next)->prepared && submit_prepared(queue, *next) == 0)
		next++;
	return next;
}

unsigned int dmaland_nvme_submit_bulk(struct dmaland_nvme_queue *queue,
				      struct dmaland_nvme_request *const *requests, unsigned int n)
{
	struct dmaland_nvme_request *const *before, *const *end = requests + n;
	struct progress at = {requests, dmaland_check(queue->ctrl->dev)};

	if (at.code != 0)
		return 0;
	while (at.code == 0 && at.next < end) {
		before = at.next;
		if (queue_is_ready(queue)) {
			at.next = submit_prepared_ones(queue, at.next, end);
			at = submit_simple_ones(queue, at.next, end);
		}
		if (is_for_any(at.code) || (at.code == 0 && at.next == before)) {
			at.code = submit_any(queue, *at.next);
			at.next += at.code == 0;
		}
	}
	if (!queue->polling)
		nvme_ring_sq(queue);
	if (at.code != 0)
		errno = -at.code;
	return at.next - requests;
}

/*
 * Completions have made room: go on with what waits, unless its namespace was formatted, by us or by
 * somebody else. What the drive has of a request then is let come back first.
 */
void nvme_submit_waiting(struct dmaland_nvme_queue *queue)
{
	while (queue->waiting) {
		struct dmaland_nvme_request *request = queue->waiting;
		int code = -ESTALE;

		if (!nvme_is_stale(queue->ctrl, request))
			code = submit_commands(queue, request);
		if (code == -EAGAIN)
			return;
		nvme_pop_waiting(queue);
		if (code != 0)
			nvme_give_up_rest(request, code);
		if (code != 0 && request->driver.pending == 0)
			nvme_finish_request(queue, request);
	}
}

/* A command of a request failed: what of it waits for slots is not submitted. Only the head of those that wait has commands. */
void nvme_fail_request(struct dmaland_nvme_queue *queue, struct dmaland_nvme_request *request,
		       int status)
{
	if (request->driver.status == 0)
		request->driver.status = status;
	if (request != queue->waiting)
		return;
	nvme_pop_waiting(queue);
	nvme_give_up_rest(request, status);
}

/* A command is over, and failed; it may be tried again. */
static __attribute__((noinline)) void reap_failed(struct dmaland_nvme_queue *queue,
						  struct nvme_iod *iod)
{
	int status = nvme_judge(queue, iod, &queue->completion);

	if (status == 0)
		return;
	nvme_unmap_data(&queue->ctrl->pools, iod, false);
	nvme_end_command(queue, iod, status);
}

/* A command is over, and was carried out. */
static inline void reap_done(struct dmaland_nvme_queue *queue, struct nvme_iod *iod)
{
	struct dmaland_nvme_request *request = iod->request;
	struct dmaland_nvme_prepared *prepared = request->prepared;

	if (!prepared)
		nvme_unmap_data(&queue->ctrl->pools, iod, true);
	nvme_give_slot(queue, iod);
	if (--request->driver.pending == 0)
		nvme_finish(queue, request, prepared);
}

/*
 * Handle the completions that are there, once round the ring at most: done() may submit what
 * completes at once. Returns how many.
 */
unsigned int nvme_reap(struct dmaland_nvme_queue *queue)
{
	struct nvme_completion *completion = &queue->completion;
	struct nvme_iod *iod;
	unsigned int n = 0;

	while (n < queue->depth && nvme_next_completion(queue, completion, &iod)) {
		n++;
		if (!iod)
			continue;
		if (nvme_completion_status(completion) == 0)
			reap_done(queue, iod);
		else
			reap_failed(queue, iod);
	}
	return n;
}

unsigned int dmaland_nvme_poll(struct dmaland_nvme_queue *queue)
{
	enum { EMPTY = 16 }; /* so many empty polls are as many as NVME_POLLS_LOOK others */
	unsigned int n;

	if (queue->polling || dmaland_check(queue->ctrl->dev))
		return 0;
	queue->polling = true;
	queue->finished = 0;
	if (nvme_state(queue->ctrl) != queue->state) {
		nvme_attend(queue);
		queue->polling = false;
		return queue->finished;
	}
	n = nvme_reap(queue);
	if (n > 0) {
		nvme_ring_cq(queue);
		queue->quiet = false;
		if (queue->waiting)
			nvme_submit_waiting(queue);
		nvme_ring_sq(queue);
	}
	queue->polls += n > 0 ? 1 : NVME_POLLS_LOOK / EMPTY;
	if (queue->polls >= NVME_POLLS_LOOK) {
		queue->polls = 0;
		nvme_watch(queue);
	}
	if (queue->unmask)
		nvme_unmask_line(queue);
	queue->polling = false;
	return queue->finished;
}
