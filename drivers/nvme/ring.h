/* SPDX-License-Identifier: MIT */
/*
 * ring.h - what each command goes through: its slot, the submission ring, the completion ring
 *
 * A command is written into the ring where it stays, and the ring moves on when it is whole:
 *
 *   nvme_take_slot() --> *queue->sq_next --> nvme_put_command() --> nvme_ring_sq(), once a batch
 *   nvme_give_slot() <-- nvme_next_completion()                 --> nvme_ring_cq(), once a batch
 *
 * queue.c has the rest, and what rings and slots are.
 */
#ifndef NVME_RING_H
#define NVME_RING_H

#include "nvme_internal.h"

/* A free slot, or NULL. */
static inline struct nvme_iod *nvme_take_slot(struct dmaland_nvme_queue *queue)
{
	struct nvme_iod *iod = queue->free;

	if (iod) {
		queue->free = iod->next_free;
		queue->free_count--;
	}
	return iod;
}

/* Give a slot back; the identifier's upper bits move on. */
static inline void nvme_give_slot(struct dmaland_nvme_queue *queue, struct nvme_iod *iod)
{
	iod->cid += queue->slot_mask + 1;
	iod->age = 0;
	iod->busy = false;
	iod->late = false;
	iod->asked = false;
	iod->repeats = 0;
	iod->next_free = queue->free;
	queue->free = iod;
	queue->free_count++;
}

/* The command at queue->sq_next is whole: every byte was written, for an older one lay there. */
static inline void nvme_put_command(struct dmaland_nvme_queue *queue, struct nvme_iod *iod)
{
	struct nvme_command *command = queue->sq_next;

	command->cid = htole16(iod->cid);
	iod->busy = true;
	queue->sq_next = command + 1 == queue->sq_end ? queue->sq : command + 1;
}

static inline void nvme_ring_sq(struct dmaland_nvme_queue *queue)
{
	if (queue->sq_rung != queue->sq_next)
		nvme_tell_sq(queue);
}

/* Is the next entry of the completion ring new? */
static inline bool nvme_has_completion(const struct dmaland_nvme_queue *queue)
{
	return (le16toh(READ_ONCE(queue->cq_next->status)) & 1) == queue->phase;
}

static inline int nvme_completion_status(const struct nvme_completion *completion)
{
	return le16toh(completion->status) >> 1 & 0x7ff;
}

/* The command that a completion is for, or NULL when no command in flight can have it. */
static inline struct nvme_iod *nvme_completed_iod(const struct dmaland_nvme_queue *queue,
						  const struct nvme_completion *completion)
{
	uint32_t cid = le16toh(completion->cid);
	struct nvme_iod *iod = &queue->iods[cid & queue->slot_mask];

	if (le32toh(completion->sq) - queue->sq_id >= queue->entries)
		return NULL;
	return iod->busy && iod->cid == cid ? iod : NULL;
}

/*
 * Take the next entry of the completion ring, if it is new: a copy, since the drive may write to
 * the ring at any time. *iod is the command it completes, or NULL when it is to be ignored.
 */
static inline bool nvme_next_completion(struct dmaland_nvme_queue *queue,
					struct nvme_completion *completion, struct nvme_iod **iod)
{
	const struct nvme_completion *entry = queue->cq_next;

	if (!nvme_has_completion(queue))
		return false;
	dma_rmb();
	*completion = *entry++;
	if (entry == queue->cq_end) {
		entry = queue->cq;
		queue->phase ^= 1;
	}
	queue->cq_next = entry;
	*iod = nvme_completed_iod(queue, completion);
	if (!*iod)
		nvme_ignore_completion(queue, completion);
	return true;
}

/* All of a read, write or compare but where its data are (NVM 1.0, 3.2.1, 3.2.4, 3.2.6). */
static inline void nvme_fill_rw(const struct dmaland_nvme_request *request,
				struct nvme_command *command, uint64_t block, uint64_t blocks)
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

/* The command of a prepared request that was taken; once more, when it is repeated. */
static inline void nvme_write_prepared(const struct dmaland_nvme_prepared *prepared,
				       const struct dmaland_nvme_request *request,
				       struct nvme_command *command)
{
	*command = prepared->command;
	command->cdw10 = htole32(request->block);
	command->cdw11 = htole32(request->block >> 32);
	command->cdw12 |= htole32((uint32_t)request->control << 16);
}

/* A command has ended and its data are unmapped. Its slot is free before done() may submit. */
static inline void nvme_end_command(struct dmaland_nvme_queue *queue, struct nvme_iod *iod,
				    int status)
{
	struct dmaland_nvme_request *request = iod->request;

	nvme_give_slot(queue, iod);
	if (status != 0)
		nvme_fail_request(queue, request, status);
	if (--request->driver.pending == 0)
		nvme_finish_request(queue, request);
}

#endif
