/* SPDX-License-Identifier: MIT */
/*
 * shadow.c - shadow doorbells (NVMe 2.0, 5.8 and B.5), where the drive has them
 *
 * A drive of software pays dearly for each register access, and its users more: in a virtual machine it is mostly an exit. It
 * may offer to look for the values of doorbells in memory, of which it is told by Doorbell Buffer Config:
 *
 *   shadows   we write   the value of each doorbell, laid out as the doorbells are
 *   events    it writes  for each, the value that we are to ring the doorbell itself at: where the drive stopped looking
 *
 *   we:   shadow = value;  barrier;  event between the last value and this one?  then ring
 *   it:   event = value;   barrier;  shadow changed?                             then go on
 *
 * The drive can write whatever it likes there. Shadows are never read back. An event decides whether a doorbell is
 * rung, and nothing else: rung too often costs time, and what was not rung for is rung for at the next tick of
 * nvme_watch(), half a second later at most. The admin queue has no shadow in use, as in Linux (drivers/nvme/host/pci.c): its doorbells
 * are always rung. So is that of a completion queue that interrupts by INTx, whose line may go down by that alone.
 *
 * A reset ends it, after which the drive is told again. One that refuses has its doorbells rung.
 */
#include "nvme_internal.h"

#include <dmaland/irq.h>

static struct nvme_command config(const struct nvme_shadows *shadows)
{
	return (struct nvme_command){
		.opcode = NVME_ADMIN_DOORBELL_BUFFER,
		.prp = {htole64(shadows->doorbells_dma), htole64(shadows->events_dma)},
	};
}

static void free_buffers(struct dmaland_nvme *ctrl)
{
	struct nvme_shadows *shadows = &ctrl->shadows;

	if (shadows->events)
		dma_free_coherent(ctrl->dev, shadows->bytes, shadows->events, shadows->events_dma);
	if (shadows->doorbells)
		dma_free_coherent(ctrl->dev, shadows->bytes, shadows->doorbells,
				  shadows->doorbells_dma);
	shadows->events = shadows->doorbells = NULL;
}

void nvme_release_shadows(struct dmaland_nvme *ctrl)
{
	if (nvme_service(ctrl) != NVME_RUNAWAY)
		free_buffers(ctrl);
}

/* Room for the doorbells of all queues that there may be. */
static bool alloc_buffers(struct dmaland_nvme *ctrl)
{
	struct nvme_shadows *shadows = &ctrl->shadows;
	size_t page = ctrl->info.page_size;
	size_t bytes = 2 * nvme_cap_stride(ctrl->cap) * ((size_t)ctrl->info.max_queues + 1);

	shadows->bytes = (bytes + page - 1) & ~(page - 1);
	shadows->doorbells =
		dma_alloc_coherent(ctrl->dev, shadows->bytes, &shadows->doorbells_dma, GFP_KERNEL);
	if (shadows->doorbells)
		shadows->events = dma_alloc_coherent(ctrl->dev, shadows->bytes,
						     &shadows->events_dma, GFP_KERNEL);
	if (!shadows->events) {
		free_buffers(ctrl);
		return false;
	}
	return true;
}

/* Without memory for them there are none. 0, or -errno with the error set. */
int nvme_setup_shadows(struct dmaland_nvme *ctrl)
{
	struct nvme_command command;
	int status;

	if (!ctrl->offers_shadows || ctrl->info.max_queues == 0 || !alloc_buffers(ctrl))
		return 0;
	command = config(&ctrl->shadows);
	status = nvme_submit_sync_cmd(ctrl, &command, ctrl->timeout_ms, NULL);
	if (status < 0)
		return status;
	if (status > 0) {
		free_buffers(ctrl);
		return 0;
	}
	atomic_store(&ctrl->shadows.used, true);
	ctrl->info.shadow_doorbells = true;
	return 0;
}

/* The drive has forgotten them. Whoever leads a reset, with ctrl->lock held, here and below. */
void nvme_forget_shadows(struct dmaland_nvme *ctrl)
{
	atomic_store(&ctrl->shadows.used, false);
}

/* What queues before the reset wrote is cleared as each is told anew: nvme_place_shadows(). 0, or -errno with the error set. */
int nvme_setup_shadows_again(struct dmaland_nvme *ctrl)
{
	struct nvme_shadows *shadows = &ctrl->shadows;
	struct nvme_command command = config(shadows);
	int status;

	if (!shadows->doorbells)
		return 0;
	status = nvme_admin_alone(ctrl, &command, ctrl->queue_ms);
	if (status == 0)
		atomic_store(&shadows->used, true);
	return status < 0 ? status : 0;
}

/* Where a doorbell's value and event lie; both 0, as a queue begins of which the drive is told next. */
static void place(struct nvme_doorbell *doorbell, const struct nvme_shadows *shadows, size_t offset,
		  bool always)
{
	doorbell->shadow = (uint32_t *)(shadows->doorbells + offset);
	*doorbell->shadow = 0;
	*(volatile uint32_t *)(shadows->events + offset) = 0;
	doorbell->unrung = false;
	doorbell->event = always ? NULL : (const uint32_t *)(shadows->events + offset);
}

/* The drive is about to be told of a queue. */
void nvme_place_shadows(struct dmaland_nvme_queue *queue)
{
	struct dmaland_nvme *ctrl = queue->ctrl;
	size_t stride = nvme_cap_stride(ctrl->cap), offset = 2 * stride * queue->qid;
	bool intx = queue->vector >= 0 && ctrl->irq_type == PCI_IRQ_INTX;

	queue->sq_doorbell.shadow = queue->cq_doorbell.shadow = NULL;
	if (queue->qid == 0 || !atomic_load(&ctrl->shadows.used))
		return;
	place(&queue->sq_doorbell, &ctrl->shadows, offset, false);
	place(&queue->cq_doorbell, &ctrl->shadows, offset + stride, intx);
}

/* Write the doorbell's value into its shadow, and ring where the drive asks for that. @told: the value before. */
void nvme_ring_shadow(struct nvme_doorbell *doorbell, uint32_t told)
{
	uint16_t before = told, after = doorbell->told, event = before;

	dma_wmb(); /* what the value is about is there */
	WRITE_ONCE(*doorbell->shadow, htole32(doorbell->told));
	if (doorbell->event) {
		mb();
		event = le32toh(READ_ONCE(*doorbell->event));
	}
	doorbell->unrung = (uint16_t)(after - event - 1) >= (uint16_t)(after - before);
	if (!doorbell->unrung)
		writel(doorbell->told, doorbell->reg);
}

static void ring_unrung(struct nvme_doorbell *doorbell)
{
	if (!doorbell->shadow || !doorbell->unrung)
		return;
	doorbell->unrung = false;
	writel(doorbell->told, doorbell->reg);
}

/* Ring for what the drive may have overlooked. The same value once more may be taken for a mistake (NVMe 2.0, 5.2.1). */
void nvme_ring_unrung(struct dmaland_nvme_queue *queue)
{
	ring_unrung(&queue->sq_doorbell);
	ring_unrung(&queue->cq_doorbell);
}
