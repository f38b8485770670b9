/* SPDX-License-Identifier: MIT */
/*
 * irq.c - queues that are waited for: interrupts (NVMe 2.0, 3.1.3.3; PCIe 1.0, 3.5)
 *
 * The device gets its vectors before the controller is enabled: MSI-X, else MSI, else its INTx
 * line. Vector 0 is the admin queue's too, which is polled; so the I/O queues take the others first.
 * Queues that are polled have none, and the drive does not interrupt for them.
 *
 * Where there are more queues than vectors they share them, and an interrupt has to wake each: the thread
 * of one can't look at the queue of another. So nobody reads a vector's eventfd. Each queue has an epoll
 * file that watches it edge-triggered (EPOLLET): every signal makes all of them readable, and taking
 * it from one leaves it to the others.
 *
 *   vector --> eventfd --+--> epoll file of queue 1 <-- its thread
 *                        `--> epoll file of queue 4 <-- its thread
 *
 * With MSI and INTx the controller has a mask of its own (INTMS, INTMC): vectors of no queue are
 * masked there. An INTx line stays asserted until the completions are taken, and is masked by
 * the library meanwhile; so each queue that took its interrupt unmasks it when it was polled, or is waited
 * for next. If another queue's completions are still there it interrupts again at once.
 */
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
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
	struct dmaland_nvme *ctrl = queue->ctrl;

	if (!queue->unmask)
		return;
	queue->unmask = false;
	pthread_mutex_lock(&ctrl->line_lock); /* queues share the line */
	dmaland_irq_unmask(ctrl->dev, queue->vector);
	pthread_mutex_unlock(&ctrl->line_lock);
}

/* With ctrl->lock held. */
static unsigned int queues_of(const struct dmaland_nvme *ctrl, int vector)
{
	const struct dmaland_nvme_queue *queue;
	unsigned int n = 0;

	for (queue = ctrl->queues; queue; queue = queue->next)
		n += queue->vector == vector;
	return n;
}

/* The vector that the fewest queues have, the admin queue's last. */
static int choose_vector(const struct dmaland_nvme *ctrl)
{
	int i, chosen = 1 % ctrl->vectors;

	for (i = 2; i <= ctrl->vectors; i++)
		if (queues_of(ctrl, i % ctrl->vectors) < queues_of(ctrl, chosen))
			chosen = i % ctrl->vectors;
	return chosen;
}

/* Not as standard input, output or error, which a daemon may have closed. -1 with errno set. */
static int epoll_open(void)
{
	int low = epoll_create1(EPOLL_CLOEXEC), fd, code;

	if (low < 0 || low > STDERR_FILENO)
		return low;
	fd = fcntl(low, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	code = errno;
	close(low);
	errno = code;
	return fd;
}

/* Give a queue a vector, with ctrl->lock held and before it is in the list. 0, or -errno with the error set. */
int nvme_take_vector(struct dmaland_nvme_queue *queue)
{
	struct epoll_event signals = {.events = EPOLLIN | EPOLLET};
	struct dmaland_nvme *ctrl = queue->ctrl;

	if (ctrl->vectors == 0)
		return dmaland_set_error(EOPNOTSUPP,
					 "%s has no interrupts that can be used; make the queue "
					 "without DMALAND_NVME_QUEUE_IRQ, and poll it",
					 dmaland_name(ctrl->dev));
	queue->vector = choose_vector(ctrl);
	queue->fd = epoll_open();
	if (queue->fd < 0 || epoll_ctl(queue->fd, EPOLL_CTL_ADD,
				       dmaland_irq(ctrl->dev, queue->vector), &signals) != 0)
		return dmaland_set_error(errno,
					 "no file descriptor to wait for queue %u of %s; raise the "
					 "limit of open files with ulimit -n",
					 queue->qid, dmaland_name(ctrl->dev));
	return 0;
}

/* A queue has left the list, with ctrl->lock held: the last of its vector's masks it. */
void nvme_leave_vector(struct dmaland_nvme_queue *queue)
{
	struct dmaland_nvme *ctrl = queue->ctrl;

	if (queue->vector < 0 || ctrl->irq_type == PCI_IRQ_MSIX)
		return;
	if (queues_of(ctrl, queue->vector) == 0)
		writel(1u << queue->vector, ctrl->bar + NVME_REG_INTMS);
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
	return queue->vector < 0 ? polled_queue(queue) : queue->fd;
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
static int sleep_for(struct dmaland_nvme_queue *queue, int ms)
{
	struct epoll_event signal;
	int n = epoll_wait(queue->fd, &signal, 1, ms);

	if (n < 0)
		return errno == EINTR ? -EINTR
				      : dmaland_set_error(errno, "epoll_wait() fails for queue %u",
							  queue->qid);
	if (n > 0)
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
		sleep_for(queue, 0);
		if (answer == 0) /* nothing to poll for, and perhaps nobody polls */
			nvme_unmask_line(queue);
		return answer;
	}
	answer = sleep_for(queue, timeout_ms >= 0 && timeout_ms < tick ? timeout_ms : tick);
	if (answer < 0 || nvme_now_ms() - queue->last_tick < queue->ctrl->tick_ms)
		return answer;
	queue->polls = NVME_POLLS_LOOK;
	return 1;
}
