/* SPDX-License-Identifier: MIT */
/*
 * queue.c - queue pairs: rings, slots, doorbells (NVMe 2.0, 3.3); ring.h has what each command goes through
 *
 *   submission ring   we fill at sq_next and tell the drive by a doorbell
 *   completion ring   the drive fills; an entry is new when its phase tag is ours, which changes
 *                     each time round; we take at cq_next and tell the drive by a doorbell
 *   slots             one a command in flight; the free ones are a list
 *
 * A queue outlives what the drive knows of it: after a time-out or a reset its rings are emptied, and
 * the drive is told of them again (recover.c).
 *
 * A command identifier is its slot in the low bits and a number above that changes with each use,
 * so that a completion that comes twice is not taken for the slot's next command.
 *
 * The doorbells are rung once for all commands of a call that submits, and of a poll.
 */
#include "ring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t whole_pages(const struct dmaland_nvme *ctrl, size_t bytes)
{
	size_t page_size = ctrl->info.page_size;

	return (bytes + page_size - 1) & ~(page_size - 1);
}

/*
 * The identifier's low bits for the slot. Room for one number more than there are slots keeps
 * 0xffff from being used (NVMe 2.0, 3.3.3.1: it should not be).
 */
static uint32_t slot_mask_for(uint32_t depth)
{
	uint32_t mask = 1;

	while (mask < depth)
		mask = mask << 1 | 1;
	return mask;
}

static int alloc_slots(struct dmaland_nvme_queue *queue)
{
	uint32_t i;

	/* also for identifiers that only a drive in trouble makes up: those slots are never busy */
	queue->iods = calloc(queue->slot_mask + 1, sizeof(*queue->iods));
	if (!queue->iods)
		return dmaland_set_error(ENOMEM, "no memory for %u commands of queue %u",
					 queue->depth, queue->qid);
	for (i = queue->depth; i-- > 0;) {
		queue->iods[i].cid = i;
		nvme_init_iod(&queue->iods[i]);
		nvme_give_slot(queue, &queue->iods[i]);
	}
	return 0;
}

/* Both rings empty, as the drive takes them to be when it is told of them, which is next. */
void nvme_empty_rings(struct dmaland_nvme_queue *queue)
{
	memset(queue->sq, 0, queue->sq_bytes);
	memset(queue->cq, 0, queue->cq_bytes);
	queue->sq_next = queue->sq_rung = queue->sq;
	queue->sq_end = queue->sq + queue->entries;
	queue->cq_next = queue->cq;
	queue->cq_end = queue->cq + queue->entries;
	queue->phase = 1;
	queue->sq_doorbell.told = queue->cq_doorbell.told = 0;
	nvme_place_shadows(queue);
}

/* The admin queue of a controller that was disabled: nothing is in flight. */
void nvme_reset_queue(struct dmaland_nvme_queue *queue)
{
	uint32_t i;

	queue->free = NULL;
	queue->free_count = 0;
	for (i = 0; i < queue->depth; i++)
		nvme_give_slot(queue, &queue->iods[i]);
	nvme_empty_rings(queue);
}

static int alloc_rings(struct dmaland_nvme_queue *queue)
{
	struct dmaland_nvme *ctrl = queue->ctrl;

	queue->sq_bytes = whole_pages(ctrl, queue->entries * sizeof(*queue->sq));
	queue->cq_bytes = whole_pages(ctrl, queue->entries * sizeof(*queue->cq));
	queue->sq = dma_alloc_coherent(ctrl->dev, queue->sq_bytes, &queue->sq_dma, GFP_KERNEL);
	if (!queue->sq)
		return -errno;
	queue->cq = dma_alloc_coherent(ctrl->dev, queue->cq_bytes, &queue->cq_dma, GFP_KERNEL);
	if (!queue->cq)
		return -errno;
	return 0;
}

/* A queue pair in our memory; the drive does not know of it yet. NULL with the error set. */
struct dmaland_nvme_queue *nvme_alloc_queue(struct dmaland_nvme *ctrl, uint16_t qid, uint32_t depth)
{
	struct dmaland_nvme_queue *queue = calloc(1, sizeof(*queue));
	size_t stride = nvme_cap_stride(ctrl->cap);

	if (!queue) {
		dmaland_set_error(ENOMEM, "no memory for a queue");
		return NULL;
	}
	queue->ctrl = ctrl;
	queue->ns = &nvme_no_ns;
	queue->qid = qid;
	queue->sq_id = (uint32_t)qid << 16;
	queue->depth = depth;
	queue->entries = depth + 1;
	queue->vector = queue->fd = -1;
	queue->slot_mask = slot_mask_for(depth);
	queue->waiting_end = &queue->waiting;
	queue->last_tick = nvme_now_ms();
	/* PCIe 1.0, 3.1.2: a pair of doorbells for each queue, stride bytes apart */
	queue->sq_doorbell.reg = ctrl->bar + NVME_REG_DOORBELLS + 2 * qid * stride;
	queue->cq_doorbell.reg = queue->sq_doorbell.reg + stride;
	if (alloc_slots(queue) != 0 || alloc_rings(queue) != 0) {
		nvme_free_queue(queue);
		return NULL;
	}
	return queue;
}

/* Free a queue pair with no command in flight, once the drive can't reach its rings any more. */
void nvme_free_queue(struct dmaland_nvme_queue *queue)
{
	struct dmaland_nvme *ctrl = queue->ctrl;
	int code = errno, before;

	if (nvme_service(ctrl) != NVME_RUNAWAY) {
		dma_free_coherent(ctrl->dev, queue->cq_bytes, queue->cq, queue->cq_dma);
		dma_free_coherent(ctrl->dev, queue->sq_bytes, queue->sq, queue->sq_dma);
	}
	/* close() is a cancellation point, and the caller may hold ctrl->lock. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	if (queue->fd >= 0)
		close(queue->fd);
	pthread_setcancelstate(before, &before);
	free(queue->iods);
	free(queue);
	errno = code;
}

/* Put a command into the ring; nvme_ring_sq() tells the drive. */
void nvme_submit_cmd(struct dmaland_nvme_queue *queue, struct nvme_iod *iod,
		     const struct nvme_command *command)
{
	*queue->sq_next = *command;
	nvme_put_command(queue, iod);
}

static inline void ring(struct nvme_doorbell *doorbell, uint32_t value)
{
	uint32_t before = doorbell->told;

	doorbell->told = value;
	if (doorbell->shadow)
		nvme_ring_shadow(doorbell, before);
	else
		writel(value, doorbell->reg);
}

/* Commands are in the ring that the drive does not know of. */
void nvme_tell_sq(struct dmaland_nvme_queue *queue)
{
	queue->sq_rung = queue->sq_next;
	ring(&queue->sq_doorbell, queue->sq_next - queue->sq);
}

void nvme_ring_cq(struct dmaland_nvme_queue *queue)
{
	ring(&queue->cq_doorbell, queue->cq_next - queue->cq);
}

/* Said once a queue: a drive that sends one such completion may send many. */
void nvme_ignore_completion(struct dmaland_nvme_queue *queue,
			    const struct nvme_completion *completion)
{
	atomic_fetch_add_explicit(&queue->ctrl->stats.ignored, 1, memory_order_relaxed);
	if (queue->nonsense)
		return;
	queue->nonsense = true;
	dmaland_log(DMALAND_LOG_WARN,
		    "%s: queue %u: completion for a command that is not in flight ignored (command "
		    "0x%04x, submission queue %u at %u); more will not be reported",
		    dmaland_name(queue->ctrl->dev), queue->qid, le16toh(completion->cid),
		    le32toh(completion->sq) >> 16, le32toh(completion->sq) & 0xffff);
}

static void refuse_all_queues(struct dmaland_nvme *ctrl)
{
	const char *name = dmaland_name(ctrl->dev);

	if (ctrl->queues_refused)
		dmaland_set_error(EOPNOTSUPP,
				  "%s has no I/O queues: it refuses to say how many (Set Features, "
				  "Number of Queues: %s); its log may tell what is wrong",
				  name, dmaland_nvme_status_text(ctrl->queues_refused));
	else
		dmaland_set_error(EOPNOTSUPP,
				  "%s has no I/O queues: its BAR 0 of %llu bytes has room for the "
				  "doorbells of the admin queue alone, %u bytes each (CAP.DSTRD)",
				  name, (unsigned long long)pci_resource_len(ctrl->dev, 0),
				  nvme_cap_stride(ctrl->cap));
}

/* The lowest queue identifier that is not taken, or 0. */
static uint32_t free_qid(struct dmaland_nvme *ctrl)
{
	const struct dmaland_nvme_queue *queue;
	uint32_t qid;

	for (qid = 1; qid <= ctrl->info.max_queues; qid++) {
		for (queue = ctrl->queues; queue && queue->qid != qid; queue = queue->next)
			;
		if (!queue)
			return qid;
	}
	if (ctrl->info.max_queues == 0) {
		refuse_all_queues(ctrl);
		return 0;
	}
	dmaland_set_error(EBUSY, "all %u I/O queues of %s are in use; destroy one",
			  ctrl->info.max_queues, dmaland_name(ctrl->dev));
	return 0;
}

/* Allocate a queue pair and take its identifier. */
static struct dmaland_nvme_queue *add_queue(struct dmaland_nvme *ctrl, uint32_t depth, bool irq)
{
	struct dmaland_nvme_queue *queue = NULL;
	uint32_t qid;

	pthread_mutex_lock(&ctrl->lock);
	qid = free_qid(ctrl);
	if (qid)
		queue = nvme_alloc_queue(ctrl, qid, depth);
	if (queue && irq && nvme_take_vector(queue) != 0) {
		nvme_free_queue(queue);
		queue = NULL;
	}
	if (queue) {
		queue->next = ctrl->queues;
		ctrl->queues = queue;
	}
	pthread_mutex_unlock(&ctrl->lock);
	return queue;
}

static void remove_queue(struct dmaland_nvme_queue *queue)
{
	struct dmaland_nvme *ctrl = queue->ctrl;
	struct dmaland_nvme_queue **link;

	pthread_mutex_lock(&ctrl->lock);
	for (link = &ctrl->queues; *link != queue; link = &(*link)->next)
		;
	*link = queue->next;
	nvme_leave_vector(queue);
	pthread_mutex_unlock(&ctrl->lock);
	nvme_free_queue(queue);
}

/*
 * The drive has half a queue, or may have: so only a reset makes it let go of the rings. That may be
 * another thread's.
 */
static void unmake_queue(struct dmaland_nvme_queue *queue, uint32_t state)
{
	struct dmaland_nvme *ctrl = queue->ctrl;
	char words[512];

	snprintf(words, sizeof(words), "%s", dmaland_last_error());
	nvme_reset(ctrl, state, "queue %u can't be made (%.80s)", queue->qid, words);
	nvme_settled(ctrl);
	dmaland_set_error(EIO, "%s", words);
}

/* Tell the drive of a new queue. 0 or -errno; a status is -EIO. */
static int begin_queue(struct dmaland_nvme_queue *queue)
{
	struct dmaland_nvme *ctrl = queue->ctrl;
	uint32_t state;
	int code;

	do {
		state = nvme_settled(ctrl);
		code = nvme_create_queue(queue, state);
	} while (code == -ECANCELED); /* by a reset */
	if (code == -ETIMEDOUT || code == -EIO)
		unmake_queue(queue, state);
	if (code == -ETIMEDOUT)
		return dmaland_set_error(ETIMEDOUT, "%s did not make queue %u within %u ms",
					 dmaland_name(ctrl->dev), queue->qid, ctrl->queue_ms);
	if (code == 0)
		queue->state = state;
	return code > 0 ? -EIO : code;
}

struct dmaland_nvme_queue *dmaland_nvme_queue_create(struct dmaland_nvme *ctrl, unsigned int depth,
						     unsigned int flags)
{
	enum { DEFAULT_DEPTH = 1023 };
	struct dmaland_nvme_queue *queue;
	uint32_t most = ctrl->info.max_queue_depth;

	if (dmaland_check(ctrl->dev) != 0)
		return NULL;
	if (flags & ~DMALAND_NVME_QUEUE_IRQ) {
		dmaland_set_error(EINVAL, "queue flags 0x%x: 0x%x is the only one", flags,
				  DMALAND_NVME_QUEUE_IRQ);
		return NULL;
	}
	if (depth == 0)
		depth = most < DEFAULT_DEPTH ? most : DEFAULT_DEPTH;
	if (depth > most) {
		dmaland_set_error(
			EINVAL,
			"%u commands in flight asked, a queue of %s holds %u at most (CAP.MQES)",
			depth, dmaland_name(ctrl->dev), most);
		return NULL;
	}
	queue = add_queue(ctrl, depth, flags & DMALAND_NVME_QUEUE_IRQ);
	if (!queue)
		return NULL;
	if (begin_queue(queue) != 0) {
		int code = errno;

		remove_queue(queue);
		errno = code;
		return NULL;
	}
	return queue;
}

/*
 * Deleting the submission queue ends its commands: those that the drive did not carry out come
 * back as aborted (NVMe 2.0, 5.7). A drive that refuses or is silent is reset, since it may still
 * reach the queue's memory; that ends the commands too.
 */
void dmaland_nvme_queue_destroy(struct dmaland_nvme_queue *queue)
{
	struct dmaland_nvme *ctrl;

	if (!queue || dmaland_check(queue->ctrl->dev) != 0)
		return;
	ctrl = queue->ctrl;
	nvme_drain_queue(queue, nvme_now_ms());
	if (nvme_state(ctrl) == queue->made && nvme_take_queue_back(queue) != 0)
		nvme_reset(ctrl, queue->made, "queue %u can't be deleted (%.80s)", queue->qid,
			   dmaland_last_error());
	nvme_cancel_queue(queue, ECANCELED);
	remove_queue(queue);
}
