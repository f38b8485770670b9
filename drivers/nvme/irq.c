/* SPDX-License-Identifier: MIT */
/*
 * irq.c - queues that are waited for: interrupts (NVMe 2.0, 3.1.3.3; PCIe 1.0, 3.5)
 *
 * The device gets its vectors before the controller is enabled: MSI-X, else MSI, else its INTx
 * line. Vector 0 is the admin queue's too, which is polled; so the I/O queues take the others first. A vector
 * is one queue's, so that whoever takes its interrupt looks at all that it may mean. Queues that are
 * polled have none, and the drive does not interrupt for them.
 *
 * With MSI and INTx the controller has a mask of its own (INTMS, INTMC): vectors of no queue stay
 * masked there. An INTx line stays asserted until the completions are taken, and is
 * masked by the library meanwhile; so it is unmasked when the queue was polled, or is waited for
 * next.
 */
#include "nvme_internal.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include <dmaland/irq.h>

/* As many as may be of use: one a CPU, and the admin queue's. None is no failure: queues are polled. */
void nvme_setup_irqs(struct dmaland_nvme *ctrl)
{
	static const unsigned int types[] = {PCI_IRQ_MSIX, PCI_IRQ_MSI, PCI_IRQ_INTX};
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int most = cpus > 0 && cpus < NVME_MOST_VECTORS ? cpus + 1 : NVME_MOST_VECTORS;
	size_t i;

	for (i = 0; i < sizeof(types) / sizeof(types[0]) && ctrl->vectors == 0; i++) {
		int n = 0;

		if (ctrl->irq_types & types[i])
			n = pci_alloc_irq_vectors(ctrl->dev, 1, most, types[i]);
		if (n > 0) {
			ctrl->vectors = n;
			ctrl->irq_type = types[i];
		}
	}
}

void nvme_release_irqs(struct dmaland_nvme *ctrl)
{
	if (ctrl->vectors > 0)
		pci_free_irq_vectors(ctrl->dev);
	ctrl->vectors = 0;
}

/* Mask all; an MSI-X controller has no such mask (NVMe 2.0, 3.1.3.3). */
void nvme_mask_irqs(struct dmaland_nvme *ctrl)
{
	if (ctrl->irq_type != PCI_IRQ_MSIX)
		writel(UINT32_MAX, ctrl->bar + NVME_REG_INTMS);
}

/* The drive was told of the queue. Whoever had the vector before may have left the line masked. */
void nvme_unmask_queue(struct dmaland_nvme_queue *queue)
{
	if (queue->vector < 0 || queue->ctrl->irq_type == PCI_IRQ_MSIX)
		return;
	writel(1u << queue->vector, queue->ctrl->bar + NVME_REG_INTMC);
	queue->unmask = queue->ctrl->irq_type == PCI_IRQ_INTX;
	nvme_unmask_line(queue);
}

/* The line is masked since its interrupt was taken: completions that it was for are handled now. */
void nvme_unmask_line(struct dmaland_nvme_queue *queue)
{
	if (!queue->unmask)
		return;
	queue->unmask = false;
	dmaland_irq_unmask(queue->ctrl->dev, queue->vector);
}

static bool vector_is_free(const struct dmaland_nvme *ctrl, int vector)
{
	const struct dmaland_nvme_queue *queue;

	for (queue = ctrl->queues; queue; queue = queue->next)
		if (queue->vector == vector)
			return false;
	return true;
}

/* A vector for one queue more, with ctrl->lock held. -errno with the error set when there is none. */
int nvme_choose_vector(struct dmaland_nvme *ctrl)
{
	int i;

	if (ctrl->vectors == 0)
		return dmaland_set_error(EOPNOTSUPP,
					 "%s has no interrupts that can be used; make the queue "
					 "without DMALAND_NVME_QUEUE_IRQ, and poll it",
					 dmaland_name(ctrl->dev));
	for (i = 1; i <= ctrl->vectors; i++)
		if (vector_is_free(ctrl, i % ctrl->vectors))
			return i % ctrl->vectors;
	return dmaland_set_error(EBUSY,
				 "all %d interrupt vectors of %s have their queue; this one can "
				 "be polled, without DMALAND_NVME_QUEUE_IRQ",
				 ctrl->vectors, dmaland_name(ctrl->dev));
}

static int polled_queue(const struct dmaland_nvme_queue *queue)
{
	return dmaland_set_error(EINVAL,
				 "queue %u is polled; DMALAND_NVME_QUEUE_IRQ makes one that can be "
				 "waited for",
				 queue->qid);
}

int dmaland_nvme_queue_fd(struct dmaland_nvme_queue *queue)
{
	int code = dmaland_check(queue->ctrl->dev);

	if (code != 0)
		return code;
	return queue->vector < 0 ? polled_queue(queue)
				 : dmaland_irq(queue->ctrl->dev, queue->vector);
}

/* Is there something for dmaland_nvme_poll() to do, or nothing at all under way? */
static bool need_not_wait(struct dmaland_nvme_queue *queue, int *answer)
{
	bool idle = queue->free_count == queue->depth && !queue->waiting;
	bool lost = nvme_state(queue->ctrl) != queue->state;

	*answer = !idle;
	return idle || nvme_has_completion(queue) ||
	       (lost && nvme_service(queue->ctrl) != NVME_BUSY);
}

/* Sleep until the vector interrupts, or so many ms are over. 1, 0, or -errno; the interrupt is taken. */
static int sleep_for(struct dmaland_nvme_queue *queue, int fd, int ms)
{
	struct pollfd wanted = {.fd = fd, .events = POLLIN};
	int n = poll(&wanted, 1, ms);
	uint64_t times;

	if (n < 0)
		return errno == EINTR
			       ? -EINTR
			       : dmaland_set_error(errno, "poll() fails for queue %u", queue->qid);
	if (n > 0 && read(fd, &times, sizeof(times)) == sizeof(times))
		queue->unmask = queue->ctrl->irq_type == PCI_IRQ_INTX;
	return n;
}

/*
 * Each tick dmaland_nvme_poll() has to look at the clock, however short the waits are: what is in flight may be
 * late, and the controller may have been reset.
 */
int dmaland_nvme_wait(struct dmaland_nvme_queue *queue, int timeout_ms)
{
	int fd = dmaland_nvme_queue_fd(queue), tick = queue->ctrl->tick_ms, answer;

	if (fd < 0)
		return fd;
	nvme_unmask_line(queue);
	if (need_not_wait(queue, &answer)) {
		sleep_for(queue, fd, 0);
		return answer;
	}
	answer = sleep_for(queue, fd, timeout_ms >= 0 && timeout_ms < tick ? timeout_ms : tick);
	if (answer < 0 || nvme_now_ms() - queue->last_tick < queue->ctrl->tick_ms)
		return answer;
	queue->polls = NVME_POLLS_LOOK;
	return 1;
}
