/* SPDX-License-Identifier: MIT */
#include "irq_stand.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>

#include "test.h"

const char *spec;

/* What was sent to a processor is there once we have run on it; one of a VM's may sleep for long. */
static void let_come(void)
{
	cpu_set_t all, one;

	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	}
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
}

bool taken_within(struct mover *m, unsigned int vector, int ms)
{
	struct pollfd fd = {.fd = dmaland_irq(m->dev, vector), .events = POLLIN};
	eventfd_t count = 0;

	assert_true(fd.fd >= 0);
	let_come();
	if (poll(&fd, 1, ms) != 1)
		return false;
	assert_int_equal(eventfd_read(fd.fd, &count), 0);
	assert_true(count > 0);
	return true;
}

void start_is_over(struct mover *m)
{
	for (unsigned int v = 0; v < m->vectors; v++) {
		assert_int_equal(dmaland_irq_mask(m->dev, v), 0);
		assert_int_equal(dmaland_irq_unmask(m->dev, v), 0);
		while (taken_within(m, v, 0))
			;
	}
}

bool irq_begin(struct mover *m, unsigned int kind, unsigned int most)
{
	int n;

	assert_true(mover_begin(m, spec, NULL));
	n = pci_alloc_irq_vectors(m->dev, 1, most, kind);
	if (n == -ENOSPC) {
		mover_end(m);
		return false;
	}
	if (n < 1)
		fail_msg("%s", dmaland_last_error());
	m->vectors = (unsigned int)n;
	mover_start(m);
	start_is_over(m);
	return true;
}

void irq_end(struct mover *m)
{
	mover_stop(m);
	pci_free_irq_vectors(m->dev);
	mover_end(m);
}

void handle(struct mover *m, unsigned int vector)
{
	m->ops->handled(m, vector);
	assert_int_equal(dmaland_irq_unmask(m->dev, vector), 0);
}
