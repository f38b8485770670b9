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
static int check_request(struct dmaland_nvme_queue *queue,
			 const struct dmaland_nvme_request *request, const struct nvme_ns **ns)
{
	int code = 0;

	*ns = NULL;
	if (request->opcode == DMALAND_NVME_RAW)
		return nvme_check_raw(queue->ctrl, request);
	*ns = nvme_find_ns(queue->ctrl, request->nsid);
	if (!*ns)
		return -errno;
	queue->ns = *ns;
	if (!is_read_or_write(request))
		code = nvme_check_command(queue->ctrl, request, *ns);
	return code == 0 && nvme_has_data(request) ? check_transfer(request, *ns) : code;
}

/* Refuse what can't be right, and prepare the rest. 0 or -errno with the error set. */
static int begin_request(struct dmaland_nvme_queue *queue, struct dmaland_nvme_request *request)
{
	const struct nvme_ns *ns;
	int code;

	if (!request->done)
		return dmaland_set_error(EINVAL, "the request has no done()");
	code = check_request(queue, request, &ns);
	if (code != 0)
		return code;
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

/* All of a read, write or compare but where its data are (NVM 1.0, 3.2.1, 3.2.4, 3.2.6). */
static inline void fill_rw(const struct dmaland_nvme_request *request, struct nvme_command *command,
			   uint64_t block, uint64_t blocks)
{
	command->opcode = request->opcode;
	command->flags = 0;
	command->nsid = htole32(request->nsid);
	command->cdw2 = command->cdw3 = 0;
	command->metadata = 0;
	command->cdw10 = htole32(block);
	command->cdw11 = htole32(block >> 32);
	command->cdw12 = htole32((uint32_t)request->control << 16 | (blocks - 1));
	command->cdw13 = command->cdw14 = command->cdw15 = 0;
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
	fill_rw(request, command, block, blocks);
	code = nvme_setup_data(&queue->ctrl->pools, iod, request->iov, &request->driver.at,
			       command);
	if (code == 0)
		request->driver.left -= blocks;
	return code;
}

/* Submit one command of a request. 0, -EAGAIN (no slot is free), -ENOMEM, or nvme_setup_data()'s. */
static int submit_command(struct dmaland_nvme_queue *queue, struct dmaland_nvme_request *request)
{
	struct nvme_command *command = queue->sq_next;
	struct nvme_iod *iod = nvme_take_slot(queue);
	bool has_data = nvme_has_data(request);
	int code;

	if (!iod)
		return -EAGAIN;
	if (has_data)
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

/* Any request; it may become several commands, or have to wait. 0, or -errno with the error set. */
static __attribute__((noinline)) int submit_any(struct dmaland_nvme_queue *queue,
						struct dmaland_nvme_request *request)
{
	int code = begin_request(queue, request);

	if (code != 0)
		return code;
	if (queue->waiting || nvme_state(queue->ctrl) != queue->state)
		return wait_in_queue(queue, request);
	code = submit_commands(queue, request);
	if (code == -EAGAIN) {
		push_waiting(queue, request);
		return 0;
	}
	return code;
}

/* Is nothing in the way of requests? */
static inline bool queue_is_ready(struct dmaland_nvme_queue *queue)
{
	return !queue->waiting && nvme_state(queue->ctrl) == queue->state && queue->free;
}

/* Is a request a read or write that is one command, with one segment, to the namespace of the last, and right? */
static inline bool is_simple(const struct dmaland_nvme_queue *queue,
			     const struct dmaland_nvme_request *request)
{
	const struct nvme_ns *ns = queue->ns;
	const struct iovec *segment = request->iov;
	uint64_t blocks = request->blocks;

	return is_read_or_write(request) && nvme_ns_id(ns) == request->nsid &&
	       blocks - 1 < ns->max_blocks && request->block <= ns->info.blocks - blocks &&
	       segment && request->iov_count == 1 && segment->iov_base &&
	       segment->iov_len == blocks << ns->block_shift &&
	       !((uintptr_t)segment->iov_base & queue->ctrl->pools.misaligned) && request->done;
}

/* Submit a request that is simple to a queue that is ready, in one pass. 0, or -errno with the error set. */
static inline __attribute__((always_inline)) int submit_simple(struct dmaland_nvme_queue *queue,
							       struct dmaland_nvme_request *request)
{
	const struct nvme_prp_pools *pools = &queue->ctrl->pools;
	struct nvme_iod *iod = queue->free;
	int code;

	iod->bytes = request->iov->iov_len;
	iod->direction = request->opcode;
	code = nvme_map_piece(pools, iod, request->iov->iov_base);
	if (code != 0)
		return code;
	fill_rw(request, queue->sq_next, request->block, request->blocks);
	if (!nvme_write_piece(pools, iod, queue->sq_next)) {
		code = nvme_take_lists(pools, iod, queue->sq_next);
		if (code != 0)
			return code;
	}
	nvme_take_slot(queue);
	nvme_put_command(queue, iod);
	iod->request = request;
	iod->block = request->block;
	request->driver.ns = queue->ns;
	request->driver.pending = 1;
	request->driver.status = 0;
	return 0;
}

/* Most requests are simple, and nothing is in the way. One that lacks memory may wait, as submit_any() has it. */
int dmaland_nvme_submit(struct dmaland_nvme_queue *queue, struct dmaland_nvme_request *request)
{
	int code = dmaland_check(queue->ctrl->dev);

	if (code != 0)
		return code;
	code = -ENOMEM;
	if (queue_is_ready(queue) && is_simple(queue, request))
		code = submit_simple(queue, request);
	if (code == -ENOMEM)
		code = submit_any(queue, request);
	if (!queue->polling) /* else when that ends */
		nvme_ring_sq(queue);
	return code;
}

unsigned int dmaland_nvme_submit_bulk(struct dmaland_nvme_queue *queue,
				      struct dmaland_nvme_request *const *requests, unsigned int n)
{
	struct dmaland_nvme_request *const *next = requests, *const *end = requests + n;
	int code = dmaland_check(queue->ctrl->dev);

	while (code == 0 && next < end) {
		bool ready = queue_is_ready(queue);

		/* simple ones change nothing but which slots are free */
		while (ready && next < end && queue->free && is_simple(queue, *next)) {
			code = submit_simple(queue, *next);
			if (code != 0)
				break;
			next++;
		}
		if (next < end && (code == 0 || code == -ENOMEM)) {
			code = submit_any(queue, *next);
			next += code == 0;
		}
	}
	if (!queue->polling)
		nvme_ring_sq(queue);
	if (code != 0)
		errno = -code;
	return next - requests;
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
		if (nvme_completion_status(completion) != 0) {
			reap_failed(queue, iod);
			continue;
		}
		nvme_unmap_data(&queue->ctrl->pools, iod, true);
		nvme_end_command(queue, iod, 0);
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
