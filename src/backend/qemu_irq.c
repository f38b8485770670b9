/* SPDX-License-Identifier: MIT */
/*
 * qemu_irq.c - interrupts and events of a device of QEMU
 *
 * What a kernel does to let a device interrupt is done here: MSI-X's table and MSI's registers point
 * to the doorbell (qemu_doorbell.c), INTx goes by the lines that qtest tells of (qemu_lines.c). MSI
 * has one vector, as on a machine without interrupt remapping.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mutex.h"
#include "backend/qemu.h"

/* The chipset's ISA bridge, and its PIRQ route registers (Intel 82371SB, 2.3.9) */
#define BRIDGE_SLOT 1
#define BRIDGE_PIRQ 0x60

static int config_find(struct qemu_function *q, unsigned int id, unsigned int *where,
		       uint32_t *control)
{
	int err = qemu_capability_find(&q->function, id, where);

	*control = 0;
	return err || !*where ? err
			      : qemu_function_config_read(&q->function, *where + 2, 2, control);
}

static bool is_masked(struct qemu_function *q, unsigned int vector)
{
	return __atomic_load_n(&q->masked[vector / 64], __ATOMIC_RELAXED) >> vector % 64 & 1;
}

static void note_masked(struct qemu_function *q, unsigned int vector, bool masked)
{
	uint64_t bit = UINT64_C(1) << vector % 64;

	if (masked)
		__atomic_fetch_or(&q->masked[vector / 64], bit, __ATOMIC_RELAXED);
	else
		__atomic_fetch_and(&q->masked[vector / 64], ~bit, __ATOMIC_RELAXED);
}

/* ---- MSI-X (PCI 3.0, 6.8.2) ---- */

/* Where its table is, in *bar and *offset. */
static int table_find(struct qemu_function *q, unsigned int where, unsigned int *bar,
		      uint64_t *offset)
{
	uint32_t table;
	int err = qemu_function_config_read(&q->function, where + PCI_MSIX_TABLE, 4, &table);

	*bar = table & PCI_MSIX_TABLE_BIR;
	*offset = table & PCI_MSIX_TABLE_OFFSET;
	return err;
}

/*
 * The table is memory, and the driver may have the device decode none: it does, until the table is
 * closed. Who opens it is alone meanwhile.
 */
static int table_open(struct qemu_function *q)
{
	int err;

	mutex_lock(&q->machine->command_lock);
	err = qemu_command_force(q, PCI_COMMAND_MEMORY, true);
	if (err)
		mutex_unlock(&q->machine->command_lock);
	return err;
}

static int table_close(struct qemu_function *q)
{
	int err = qemu_command_force(q, PCI_COMMAND_MEMORY, false);

	mutex_unlock(&q->machine->command_lock);
	return err;
}

static void entry_write(struct qemu_function *q, unsigned int bar, uint64_t entry,
			unsigned int vector)
{
	uint64_t address = q->machine->doorbell.address;
	uint32_t data = q->peer << 16 | vector;

	qemu_function_write(&q->function, bar, entry + PCI_MSIX_ENTRY_LOWER_ADDR, 4,
			    (uint32_t)address);
	qemu_function_write(&q->function, bar, entry + PCI_MSIX_ENTRY_UPPER_ADDR, 4, address >> 32);
	qemu_function_write(&q->function, bar, entry + PCI_MSIX_ENTRY_DATA, 4, data);
	qemu_function_write(&q->function, bar, entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 4,
			    is_masked(q, vector) ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0);
}

/* Tie n vectors to the doorbell, as masked as they are. */
static int msix_write(struct qemu_function *q, unsigned int n)
{
	unsigned int where, bar = 0;
	uint64_t table = 0;
	uint32_t control;
	int err = config_find(q, PCI_CAP_ID_MSIX, &where, &control);

	control |= PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL;
	if (!err)
		err = table_find(q, where, &bar, &table);
	if (!err)
		err = qemu_function_config_write(&q->function, where + 2, 2, control);
	if (!err)
		err = table_open(q);
	if (err)
		return err;
	for (unsigned int i = 0; i < n; i++)
		entry_write(q, bar, table + (uint64_t)i * PCI_MSIX_ENTRY_SIZE, i);
	err = table_close(q);
	return err ? err
		   : qemu_function_config_write(&q->function, where + 2, 2,
						control & ~(uint32_t)PCI_MSIX_FLAGS_MASKALL);
}

/* The register is read again: when that is answered, the device has seen what was written. */
static int msix_mask(struct qemu_function *q, unsigned int vector, bool masked)
{
	unsigned int where, bar = 0;
	uint64_t table = 0, entry;
	uint32_t control;
	int err = config_find(q, PCI_CAP_ID_MSIX, &where, &control);

	if (!err)
		err = table_find(q, where, &bar, &table);
	if (!err)
		err = table_open(q);
	if (err)
		return err;
	entry = table + (uint64_t)vector * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL;
	note_masked(q, vector, masked);
	qemu_function_write(&q->function, bar, entry, 4, masked ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0);
	qemu_function_read(&q->function, bar, entry, 4);
	return table_close(q);
}

/* ---- MSI (PCI 3.0, 6.8.1) ---- */

/* Of a device's two messages the second is for when it is masked. */
static uint32_t msi_data(struct qemu_function *q)
{
	return 2 * q->plugged.slot + is_masked(q, 0);
}

static int msi_write(struct qemu_function *q)
{
	uint64_t address = q->machine->doorbell.address;
	struct pci_function *f = &q->function;
	unsigned int where, data = PCI_MSI_DATA_32;
	uint32_t control;
	int err = config_find(q, PCI_CAP_ID_MSI, &where, &control);

	if (!err)
		err = qemu_function_config_write(f, where + PCI_MSI_ADDRESS_LO, 4,
						 (uint32_t)address);
	if (!err && control & PCI_MSI_FLAGS_64BIT) {
		data = PCI_MSI_DATA_64;
		err = qemu_function_config_write(f, where + PCI_MSI_ADDRESS_HI, 4,
						 (uint32_t)(address >> 32));
	}
	if (!err)
		err = qemu_function_config_write(f, where + data, 2, msi_data(q));
	control = (control | PCI_MSI_FLAGS_ENABLE) & ~(uint32_t)PCI_MSI_FLAGS_QSIZE;
	return err ? err : qemu_function_config_write(f, where + PCI_MSI_FLAGS, 2, control);
}

/* The vector's eventfd becomes another name of the machine's. */
static int msi_enable(struct qemu_function *q, int fd)
{
	int message = qemu_doorbell_message(q->machine, 2 * q->plugged.slot, q->timeout);
	eventfd_t old;

	if (message < 0)
		return message;
	if (dup3(message, fd, O_CLOEXEC) < 0)
		return error_system("%s: no file descriptor for MSI", q->function.name);
	eventfd_read(fd, &old);
	return msi_write(q);
}

/* What came while masked went to the other message. */
static int msi_mask(struct qemu_function *q, bool masked)
{
	int other = qemu_doorbell_message(q->machine, 2 * q->plugged.slot + 1, q->timeout), err;
	eventfd_t missed;

	if (other < 0)
		return other;
	note_masked(q, 0, masked);
	err = msi_write(q);
	if (!err && !masked && eventfd_read(other, &missed) == 0)
		eventfd_write(q->function.irq.fds[0], missed);
	return err;
}

static void messages_disable(struct qemu_function *q, unsigned int id, uint32_t enable)
{
	unsigned int where;
	uint32_t control;

	if (config_find(q, id, &where, &control) == 0)
		qemu_function_config_write(&q->function, where + 2, 2, control & ~enable);
}

/*
 * ---- INTx ----
 *
 * A line tells only that it rises. So a device that interrupts must not hold it for long: once it is
 * signalled, or masked, or has no vectors, its command register keeps it from doing so.
 */

static bool is_asserting(struct qemu_function *q)
{
	uint32_t status;

	return qemu_function_config_read(&q->function, PCI_STATUS, 2, &status) == 0 &&
	       status & PCI_STATUS_INTERRUPT;
}

static bool is_quiet(const struct qemu_function *q)
{
	return q->forced & PCI_COMMAND_INTX_DISABLE;
}

static void intx_quiet(struct qemu_function *q, bool quiet)
{
	qemu_command_force(q, PCI_COMMAND_INTX_DISABLE, quiet);
}

/*
 * Signal whoever holds the line, and have them let go of it. One that begins meanwhile is not told
 * of either: it is looked for until the line is low. With the machine's command_lock held.
 */
static void line_settle(struct qemu_machine *machine, unsigned int line)
{
	struct qemu_listener *users[QEMU_SLOTS];
	bool found = true;

	while (found && qemu_line_is_high(&machine->lines, line)) {
		size_t n = qemu_line_users(&machine->lines, line, users, QEMU_SLOTS);

		found = false;
		for (size_t i = 0; i < n; i++) {
			struct qemu_function *q = qemu_of_listener(users[i]);

			if (is_quiet(q) || !is_asserting(q))
				continue;
			qemu_line_signal(&machine->lines, users[i]);
			intx_quiet(q, true);
			found = true;
		}
	}
}

static int intx_enable(struct qemu_function *q, int fd)
{
	struct qemu_machine *machine = q->machine;
	unsigned int line;
	uint32_t pin;
	int err = qemu_function_config_read(&q->function, PCI_INTERRUPT_PIN, 1, &pin);

	if (!err)
		err = qtest_intercept(&machine->process.qtest, "ioapic", q->timeout);
	if (!err)
		err = qemu_config_write(machine, BRIDGE_SLOT, BRIDGE_PIRQ, 4, q->timeout,
					qemu_lines_routes());
	if (err)
		return err;
	line = qemu_line_of(q->plugged.slot, pin);
	mutex_lock(&machine->command_lock);
	qemu_line_set(&machine->lines, &q->listener, line, fd);
	intx_quiet(q, false);
	line_settle(machine, line);
	mutex_unlock(&machine->command_lock);
	return 0;
}

static void intx_disable(struct qemu_function *q)
{
	struct qemu_machine *machine = q->machine;
	unsigned int line = q->listener.line;

	mutex_lock(&machine->command_lock);
	qemu_line_set(&machine->lines, &q->listener, line, -1);
	intx_quiet(q, true);
	line_settle(machine, line);
	mutex_unlock(&machine->command_lock);
}

static void intx_mask(struct qemu_function *q, bool masked)
{
	struct qemu_machine *machine = q->machine;

	mutex_lock(&machine->command_lock);
	qemu_line_mask(&machine->lines, &q->listener, masked);
	intx_quiet(q, masked);
	line_settle(machine, q->listener.line);
	mutex_unlock(&machine->command_lock);
}

/* ---- the operations ---- */

unsigned int qemu_irq_count(struct pci_function *f, unsigned int kind)
{
	struct qemu_function *q = qemu_of(f);
	unsigned int where = 0, n;
	uint32_t control, pin;

	if (kind == PCI_IRQ_INTX)
		return qemu_function_config_read(f, PCI_INTERRUPT_PIN, 1, &pin) == 0 && pin;
	if (config_find(q, kind == PCI_IRQ_MSI ? PCI_CAP_ID_MSI : PCI_CAP_ID_MSIX, &where,
			&control) ||
	    !where)
		return 0;
	n = kind == PCI_IRQ_MSI ? 1 : (control & PCI_MSIX_FLAGS_QSIZE) + 1;
	return n < QEMU_DOORBELL_VECTORS ? n : QEMU_DOORBELL_VECTORS;
}

int qemu_irq_enable(struct pci_function *f, unsigned int kind, const int *fds, unsigned int *n)
{
	struct qemu_function *q = qemu_of(f);
	int err;

	for (unsigned int i = 0; i < *n; i++)
		note_masked(q, i, false);
	if (kind == PCI_IRQ_INTX)
		return intx_enable(q, fds[0]);
	if (kind == PCI_IRQ_MSI)
		return msi_enable(q, fds[0]);
	err = qemu_doorbell_connect(q->machine, fds, *n, q->timeout, &q->peer);
	if (err)
		return err;
	err = msix_write(q, *n);
	if (err)
		qemu_doorbell_disconnect(q->machine, q->peer);
	return err;
}

void qemu_irq_disable(struct pci_function *f, unsigned int kind)
{
	struct qemu_function *q = qemu_of(f);

	if (kind == PCI_IRQ_INTX) {
		intx_disable(q);
	} else if (kind == PCI_IRQ_MSI) {
		messages_disable(q, PCI_CAP_ID_MSI, PCI_MSI_FLAGS_ENABLE);
	} else {
		messages_disable(q, PCI_CAP_ID_MSIX, PCI_MSIX_FLAGS_ENABLE);
		qemu_doorbell_disconnect(q->machine, q->peer);
	}
}

int qemu_irq_mask(struct pci_function *f, unsigned int kind, unsigned int vector, bool masked)
{
	struct qemu_function *q = qemu_of(f);

	if (kind == PCI_IRQ_MSIX)
		return msix_mask(q, vector, masked);
	if (kind == PCI_IRQ_MSI)
		return msi_mask(q, masked);
	intx_mask(q, masked);
	return 0;
}

int qemu_irq_restore(struct qemu_function *q)
{
	if (q->function.irq.kind == PCI_IRQ_MSIX)
		return msix_write(q, q->function.irq.count);
	return q->function.irq.kind == PCI_IRQ_MSI ? msi_write(q) : 0;
}

/* ---- events ---- */

int qemu_events_open(struct qemu_function *q)
{
	q->function.event_fd = file_raise(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
	if (q->function.event_fd < 0)
		return error_system("no eventfd for the device's events");
	q->listener.event_fd = q->function.event_fd;
	return 0;
}

void qemu_events_listen(struct qemu_function *q)
{
	qemu_lines_add(&q->machine->lines, &q->listener);
}

void qemu_events_close(struct qemu_function *q)
{
	close(q->function.event_fd);
}

unsigned int qemu_take_events(struct pci_function *f)
{
	eventfd_t count;

	return eventfd_read(f->event_fd, &count) == 0 ? DMALAND_EVENT_GONE : 0;
}
