/* SPDX-License-Identifier: MIT */
/*
 * qemu_lines.c - a machine's interrupt lines, and who hears of them and of its end
 *
 * The chipset leads INTx of the slots to four inputs, and those to lines of the I/O APIC, of which
 * qtest tells when they change:
 *
 *   slot, pin --> PIRQA..D --> routes[] --> "IRQ raise 10" --> all devices on this line
 *
 * So lines are shared by devices from the fifth on, as on a real machine; and as there, a device may
 * hear an interrupt that is another's. What changes is told once: a second device that interrupts
 * while the first holds the line is not told of, but looked for (qemu_irq.c, line_settle()).
 */
#include "backend/qemu_lines.h"

#include <string.h>
#include <sys/eventfd.h>

#include "base/error.h"
#include "base/mutex.h"

/* ISA interrupts that nothing in the machine uses: the disks', the mouse's and ACPI's stay out. */
static const unsigned char routes[4] = {5, 7, 10, 11};

int qemu_lines_init(struct qemu_lines *lines)
{
	return pthread_mutex_init(&lines->lock, NULL);
}

void qemu_lines_fini(struct qemu_lines *lines)
{
	pthread_mutex_destroy(&lines->lock);
}

void qemu_lines_add(struct qemu_lines *lines, struct qemu_listener *listener)
{
	listener->intx = -1;
	mutex_lock(&lines->lock);
	listener->next = lines->first;
	lines->first = listener;
	mutex_unlock(&lines->lock);
}

void qemu_lines_remove(struct qemu_lines *lines, struct qemu_listener *listener)
{
	struct qemu_listener **at = &lines->first;

	mutex_lock(&lines->lock);
	while (*at != listener)
		at = &(*at)->next;
	*at = listener->next;
	mutex_unlock(&lines->lock);
}

/* QEMU, hw/pci-host/i440fx.c: pci_slot_get_pirq() */
unsigned int qemu_line_of(unsigned int slot, unsigned int pin)
{
	return routes[(slot + pin - 2) % 4];
}

uint32_t qemu_lines_routes(void)
{
	return (uint32_t)routes[3] << 24 | (uint32_t)routes[2] << 16 | (uint32_t)routes[1] << 8 |
	       routes[0];
}

void qemu_line_set(struct qemu_lines *lines, struct qemu_listener *listener, unsigned int line,
		   int intx)
{
	mutex_lock(&lines->lock);
	listener->line = line;
	listener->intx = intx;
	listener->masked = false;
	mutex_unlock(&lines->lock);
}

void qemu_line_mask(struct qemu_lines *lines, struct qemu_listener *listener, bool masked)
{
	mutex_lock(&lines->lock);
	listener->masked = masked;
	mutex_unlock(&lines->lock);
}

/* With the lock held. */
static void signal_locked(struct qemu_listener *listener)
{
	if (listener->intx < 0 || listener->masked)
		return;
	eventfd_write(listener->intx, 1);
	listener->masked = true;
}

void qemu_line_signal(struct qemu_lines *lines, struct qemu_listener *listener)
{
	mutex_lock(&lines->lock);
	signal_locked(listener);
	mutex_unlock(&lines->lock);
}

bool qemu_line_is_high(struct qemu_lines *lines, unsigned int line)
{
	bool high;

	mutex_lock(&lines->lock);
	high = lines->high >> line & 1;
	mutex_unlock(&lines->lock);
	return high;
}

size_t qemu_line_users(struct qemu_lines *lines, unsigned int line, struct qemu_listener **users,
		       size_t size)
{
	size_t n = 0;

	mutex_lock(&lines->lock);
	for (struct qemu_listener *l = lines->first; l; l = l->next)
		if (l->intx >= 0 && l->line == line && n < size)
			users[n++] = l;
	mutex_unlock(&lines->lock);
	return n;
}

void qemu_lines_change(void *context, unsigned int line, bool high)
{
	struct qemu_lines *lines = context;

	if (line > 31)
		return;
	mutex_lock(&lines->lock);
	lines->high = (lines->high & ~(UINT32_C(1) << line)) | (uint32_t)high << line;
	for (struct qemu_listener *l = lines->first; high && l; l = l->next)
		if (l->line == line)
			signal_locked(l);
	mutex_unlock(&lines->lock);
}

void qemu_lines_end(void *context)
{
	struct qemu_lines *lines = context;

	mutex_lock(&lines->lock);
	for (struct qemu_listener *l = lines->first; l; l = l->next)
		eventfd_write(l->event_fd, 1);
	mutex_unlock(&lines->lock);
}
