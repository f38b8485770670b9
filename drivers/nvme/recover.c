/* SPDX-License-Identifier: MIT */
/*
 * recover.c - what is done about commands that fail, or do not come back
 *
 * A command that the drive says may be tried again (DNR is clear) is, a few times. One that takes too
 * long is dealt with step by step, each with a time-out of its own, by the thread that polls its queue:
 *
 *   timeout_ms          the drive is asked to abort it (at each tick, those that became late)
 *   + abort_timeout_ms  the queue is deleted, which ends its commands, and made again
 *   + queue_timeout_ms  (for each of the commands that this takes) the controller is reset
 *   + reset_timeout_ms  (to become disabled, and again to become ready) it is out of service
 *
 * A queue whose commands were cut off, by its deletion or a reset, answers them: those that were
 * late with -ETIMEDOUT. Of the others, those that change nothing are repeated, and those that write
 * are answered with -ECANCELED, since nobody knows whether they were carried out. Requests of which
 * the drive had nothing go on. Memory is given back when the drive has deleted the queue or was
 * disabled, never before.
 *
 * After a reset each queue is made again by its thread, when that polls: nvme_attend().
 */
#include "ring.h"

#include <errno.h>
#include <stdio.h>

enum {
	MOST_REPEATS = 5,      /* as the kernel's nvme.max_retries */
	STATUS_DNR = 1u << 15, /* in the completion's status word; NVMe 2.0, 3.3.3.2 */
	STATUS_MORE = 1u << 14,
};

/* ---- commands that failed ---- */

static void note_failure(struct nvme_iod *iod)
{
	struct dmaland_nvme_request *request = iod->request;

	if (request->driver.status != 0 || request->blocks == 0)
		return;
	request->driver.failed_block = iod->block;
	request->driver.failed_blocks = iod->bytes >> nvme_request_ns(request)->block_shift;
	if (request->prepared)
		request->driver.failed_blocks = request->blocks;
	request->driver.failed_command = iod->cid;
	request->driver.logged = false;
}

static bool may_repeat(const struct nvme_iod *iod)
{
	return iod->repeats < MOST_REPEATS && iod->request->driver.status == 0 &&
	       iod->request->opcode != DMALAND_NVME_RAW;
}

static uint32_t namespace_of(const struct dmaland_nvme_request *request)
{
	return request->opcode == DMALAND_NVME_RAW ? request->raw->nsid : request->nsid;
}

/* Does the drive take the namespace for another than we do? Then what is known of it is in doubt. */
static bool hints_at_change(int status)
{
	return status == NVME_STATUS_INVALID_NAMESPACE || status == NVME_STATUS_SGL_LENGTH ||
	       status == NVME_STATUS_LBA_RANGE;
}

static bool goes_by_what_is_known(const struct dmaland_nvme_request *request)
{
	if (request->prepared)
		return !nvme_prepared_is_stale(request->prepared);
	return nvme_ns_id(request->driver.ns) == request->nsid;
}

/* Give a command to the drive again: the same slot and memory, another identifier. */
static void repeat(struct dmaland_nvme_queue *queue, struct nvme_iod *iod)
{
	struct nvme_command command;

	atomic_fetch_add_explicit(&queue->ctrl->stats.repeated, 1, memory_order_relaxed);
	iod->cid += queue->slot_mask + 1;
	iod->repeats++;
	iod->asked = false;
	iod->age = 0;
	nvme_fill_command(queue->ctrl, iod, &command);
	nvme_submit_cmd(queue, iod, &command);
}

/*
 * A completion that is no success: the status to answer with; or 0, when the command is repeated, or
 * was cut off by the end of its queue and is dealt with as all that were. Delays that the drive asks
 * for (CRD) are not waited: they come only from drives that were told to ask (NVMe 2.0, 5.27.1.18).
 */
int nvme_judge(struct dmaland_nvme_queue *queue, struct nvme_iod *iod,
	       const struct nvme_completion *completion)
{
	int status = nvme_completion_status(completion);
	uint16_t word = le16toh(completion->status);

	if (queue->state == 0 && status == NVME_STATUS_SQ_DELETED)
		return 0;
	if (iod->asked && status == NVME_STATUS_ABORT_REQUESTED) {
		note_failure(iod);
		return -ETIMEDOUT;
	}
	if (hints_at_change(status))
		nvme_doubt_ns(queue->ctrl, namespace_of(iod->request));
	if (queue->state != 0 && !(word & STATUS_DNR) && may_repeat(iod) &&
	    goes_by_what_is_known(iod->request) && status != DMALAND_NVME_STATUS_COMPARE_FAILURE) {
		repeat(queue, iod);
		return 0;
	}
	note_failure(iod);
	if (iod->request->driver.status == 0)
		iod->request->driver.logged = word & STATUS_MORE;
	return status;
}

/* ---- commands that were cut off ---- */

static void end_cut_off(struct dmaland_nvme_queue *queue, struct nvme_iod *iod, int status)
{
	note_failure(iod);
	if (nvme_service(queue->ctrl) == NVME_RUNAWAY)
		nvme_leak_iod(iod);
	else
		nvme_unmap_data(&queue->ctrl->pools, iod, false);
	nvme_end_command(queue, iod, status);
}

/* Late ones first, so that a request of several commands is answered with ETIMEDOUT. */
static void note_late(struct dmaland_nvme_queue *queue)
{
	uint32_t i;

	for (i = 0; i < queue->depth; i++) {
		struct nvme_iod *iod = &queue->iods[i];

		if (!iod->busy || !iod->late)
			continue;
		note_failure(iod);
		iod->request->driver.status = -ETIMEDOUT;
	}
}

static bool changes_nothing(const struct dmaland_nvme_request *request)
{
	return request->opcode == DMALAND_NVME_READ || request->opcode == DMALAND_NVME_COMPARE ||
	       request->opcode == DMALAND_NVME_VERIFY || request->opcode == DMALAND_NVME_FLUSH;
}

/* Answer the commands that the drive has let go of, but for those to be repeated. */
static void answer_cut_off(struct dmaland_nvme_queue *queue)
{
	uint32_t i;

	note_late(queue);
	for (i = 0; i < queue->depth; i++) {
		struct nvme_iod *iod = &queue->iods[i];

		if (!iod->busy)
			continue;
		if (!changes_nothing(iod->request) || !may_repeat(iod))
			end_cut_off(queue, iod, -ECANCELED);
		else if (nvme_is_stale(queue->ctrl, iod->request))
			end_cut_off(queue, iod, -ESTALE);
	}
}

/*
 * Make a queue again that the drive has let go of, in the state that the caller saw, and go on with
 * its requests. 0, a status, or -errno; then its commands are still cut off.
 */
static int begin_again(struct dmaland_nvme_queue *queue, uint32_t state)
{
	uint32_t i;
	int code;

	answer_cut_off(queue);
	code = nvme_create_queue(queue, state);
	if (code != 0)
		return code;
	for (i = 0; i < queue->depth; i++)
		if (queue->iods[i].busy)
			repeat(queue, &queue->iods[i]);
	queue->state = state;
	nvme_submit_waiting(queue);
	nvme_ring_sq(queue);
	return 0;
}

/* Have the drive delete a queue, and take what it carried out. 0, a status, or -errno. */
int nvme_take_queue_back(struct dmaland_nvme_queue *queue)
{
	int code = nvme_delete_sq(queue);

	if (code != 0)
		return code;
	nvme_reap(queue);
	return nvme_delete_cq(queue);
}

/* A queue with commands that did not come back when they were aborted. */
static void make_again(struct dmaland_nvme_queue *queue)
{
	struct dmaland_nvme *ctrl = queue->ctrl;
	uint32_t state = queue->made;
	int code;

	dmaland_log(DMALAND_LOG_WARN,
		    "%s: queue %u: a command did not complete within %u ms, nor %u ms after it was "
		    "to be aborted; deleting the queue and making it again",
		    dmaland_name(ctrl->dev), queue->qid, ctrl->timeout_ms, ctrl->abort_ms);
	atomic_fetch_add_explicit(&ctrl->stats.remade, 1, memory_order_relaxed);
	queue->state = 0;
	code = nvme_take_queue_back(queue);
	if (code == 0)
		code = begin_again(queue, state);
	if (code != 0)
		nvme_reset(ctrl, state, "queue %u can't be made again (%.80s)", queue->qid,
			   dmaland_last_error());
}

/* The controller was reset. A queue that can't be made again now never can. */
static void make_after_reset(struct dmaland_nvme_queue *queue, uint32_t state)
{
	int code;

	queue->state = 0;
	nvme_reap(queue);
	code = begin_again(queue, state);
	if (code != 0 && nvme_state(queue->ctrl) == state)
		nvme_stop(queue->ctrl, EIO, ECANCELED,
			  "queue %u can't be made again after a reset (%.80s)", queue->qid,
			  dmaland_last_error());
}

/* Poll a queue that can't be used as the controller is now. */
void nvme_attend(struct dmaland_nvme_queue *queue)
{
	struct dmaland_nvme *ctrl = queue->ctrl;
	uint32_t state = nvme_state(ctrl);

	switch (state & NVME_SERVICE_MASK) {
	case NVME_LIVE:
		make_after_reset(queue, state);
		break;
	case NVME_BUSY: /* another thread leads */
		break;
	default:
		nvme_refuse(ctrl);
		nvme_cancel_queue(queue, ctrl->cancel);
	}
}

/* ---- commands that are late ---- */

/* Ask the drive to abort what is late, for as long as one abort may take. */
static void abort_late(struct dmaland_nvme_queue *queue)
{
	struct dmaland_nvme *ctrl = queue->ctrl;
	uint64_t begin = nvme_now_ms();
	uint32_t state = queue->state, i;

	for (i = 0; i < queue->depth && nvme_now_ms() - begin <= ctrl->abort_ms; i++) {
		struct nvme_iod *iod = &queue->iods[i];
		int code;

		if (!iod->busy || !iod->late || iod->asked)
			continue;
		/* ACL: so many may be under way; the others have their turn at the next tick */
		if (atomic_fetch_add(&ctrl->aborting, 1) >= ctrl->abort_limit) {
			atomic_fetch_sub(&ctrl->aborting, 1);
			return;
		}
		iod->asked = true;
		atomic_fetch_add_explicit(&ctrl->stats.aborts, 1, memory_order_relaxed);
		code = nvme_abort(queue, iod->cid);
		atomic_fetch_sub(&ctrl->aborting, 1);
		if (code == -ETIMEDOUT)
			nvme_reset(ctrl, state, "a command of queue %u is late, and so is %s",
				   queue->qid, "the Abort command that was to end it");
		if (code < 0)
			return;
	}
}

enum lateness { ON_TIME, LATE, OVERDUE };

/* Age what is in flight by some ticks, and say how late the oldest is. */
static enum lateness age_commands(struct dmaland_nvme_queue *queue, unsigned int ticks)
{
	unsigned int patience = queue->ctrl->patience;
	enum lateness worst = ON_TIME;
	uint32_t i;

	for (i = 0; i < queue->depth; i++) {
		struct nvme_iod *iod = &queue->iods[i];
		enum lateness lateness = ON_TIME;

		if (!iod->busy)
			continue;
		iod->age += iod->age == 0 ? 1 : ticks;
		iod->late = iod->age > patience;
		if (iod->late)
			lateness =
				iod->age > patience + queue->ctrl->abort_patience ? OVERDUE : LATE;
		if (lateness > worst)
			worst = lateness;
	}
	return worst;
}

/*
 * Look at the clock, and once a tick at what is in flight. A command is not given a time when it is
 * submitted: its age counts the ticks since it was first seen here. An application that does not
 * poll for a while is not taken for a slow drive: of a long time between two looks, half the
 * patience counts at most. Nor does time in which a drive formats.
 */
void nvme_watch(struct dmaland_nvme_queue *queue)
{
	struct dmaland_nvme *ctrl = queue->ctrl;
	uint64_t now = nvme_now_ms();
	uint64_t waited = nvme_waited(ctrl, queue->last_tick, now);
	uint64_t ticks = waited / ctrl->tick_ms;
	enum lateness lateness;
	bool quiet = queue->quiet;
	char what[160];
	int error;

	if (ticks == 0)
		return;
	queue->last_tick = now - waited % ctrl->tick_ms;
	queue->quiet = true;
	nvme_take_reports(ctrl);
	if (queue->free_count == queue->depth || nvme_state(ctrl) != queue->state)
		return;
	nvme_ring_unrung(queue);
	if (ticks > ctrl->patience / 2)
		ticks = ctrl->patience / 2;
	lateness = age_commands(queue, ticks);
	if (lateness == ON_TIME && !quiet)
		return;
	error = nvme_check_alive(ctrl, what, sizeof(what));
	if (error == ENODEV)
		nvme_stop(ctrl, error, error, "%s", what);
	else if (error != 0)
		nvme_reset(ctrl, queue->state, "%s", what);
	else if (lateness == OVERDUE)
		make_again(queue);
	else if (lateness == LATE)
		abort_late(queue);
}

/* ---- the end of a queue ---- */

static void cancel_waiting(struct dmaland_nvme_queue *queue, int error)
{
	while (queue->waiting) {
		struct dmaland_nvme_request *request = queue->waiting;

		nvme_pop_waiting(queue);
		nvme_give_up_rest(request, -error);
		if (request->driver.pending == 0)
			nvme_finish_request(queue, request);
	}
}

/*
 * End all requests of a queue whose memory the drive can't reach any more; or, if it could not be
 * stopped, leave that memory to it. Commands that are late end with ETIMEDOUT, the others with
 * the error given.
 */
void nvme_cancel_queue(struct dmaland_nvme_queue *queue, int error)
{
	uint32_t i;

	nvme_settled(queue->ctrl);
	note_late(queue);
	cancel_waiting(queue, error);
	for (i = 0; i < queue->depth; i++)
		if (queue->iods[i].busy)
			end_cut_off(queue, &queue->iods[i], -error);
}

/*
 * Let what is in flight come back before the queue or the controller ends (NVMe 2.0, 3.6.1), for a
 * time after begin that a drive at work does not need; requests that wait for a slot are not begun any more.
 */
void nvme_drain_queue(struct dmaland_nvme_queue *queue, uint64_t begin)
{
	enum { DRAIN_MS = 1000 };
	unsigned int looks = 0;

	queue->closing = true;
	queue->polling = true;
	queue->state = 0;
	cancel_waiting(queue, ECANCELED);
	if (nvme_state(queue->ctrl) == queue->made)
		nvme_ring_unrung(queue);
	while (queue->free_count < queue->depth && nvme_state(queue->ctrl) == queue->made &&
	       nvme_now_ms() - begin < DRAIN_MS) {
		if (nvme_reap(queue) > 0)
			nvme_ring_cq(queue);
		else
			nvme_pause(&looks);
	}
}
