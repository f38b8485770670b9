/* SPDX-License-Identifier: MIT */
/*
 * qemu.c - the backend `qemu:`: a device model of QEMU, driven with no guest and no root
 *
 *   qemu.c           options, configuration, registers   struct qemu_function
 *   qemu_reset.c     function level reset
 *   qemu_irq.c       interrupts, events
 *   qemu_lines.c     INTx: lines of the machine          struct qemu_lines
 *   qemu_doorbell.c  MSI-X, MSI: messages to eventfds    struct qemu_doorbell
 *   qemu_parts.c     what a spec asks of QEMU, in QEMU's terms
 *   qemu_json.c      what of a user's JSON must be known
 *   qemu_refusal.c   QEMU's words for a refusal, with the cure
 *   qemu_plug.c      devices into and out of a machine
 *   qemu_machine.c   machines: start, join, leave        struct qemu_machine
 *   qemu_complaints.c  what QEMU says of a driver's mistakes
 *   qemu_ram.c       RAM, which is the domain            struct qemu_ram
 *   qemu_process.c   fork, kill, reap                    struct qemu_process
 *   qemu_sockets.c   what an image that does not open waits for
 *   qmp.c  qtest.c   what is said to QEMU, over a socket each
 *
 * There is no firmware, so that BARs are sized and placed here (PCI 3.0, 6.2.5.1).
 */
#include "backend/backend.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/mutex.h"
#include "backend/qemu.h"

#define TIMEOUT_DEFAULT_MS 5000

/* --- options of a spec ---------------------------------------------------------------------- */

/* A number with K, M or G behind it: bytes. */
static int size_parse(const char *key, const char *text, uint64_t *size)
{
	static const char units[] = "KMGT";
	char *end;
	const char *unit;
	unsigned int shift = 0;

	errno = 0;
	*size = strtoull(text, &end, 10);
	unit = *end ? strchr(units, *end) : NULL;
	if (unit) {
		shift = 10 * (unsigned int)(unit - units + 1);
		end++;
	}
	if (errno || text[0] < '0' || text[0] > '9' || *end || !*size ||
	    *size > UINT64_MAX >> shift)
		return error_set(EINVAL, "%s=%s is not a size: one is 512M or 4G", key, text);
	*size <<= shift;
	return 0;
}

static int timeout_parse(const char *key, const char *text, unsigned int *timeout)
{
	char *end;
	long ms;

	errno = 0;
	ms = strtol(text, &end, 10);
	if (errno || text[0] < '0' || text[0] > '9' || *end || ms < 1 || ms > INT_MAX)
		return error_set(EINVAL, "%s=%s is not a time: it is 1 or more milliseconds", key,
				 text);
	*timeout = (unsigned int)ms;
	return 0;
}

static int options_parse(const struct spec *spec, struct qemu_machine_options *options,
			 struct qemu_model *model, unsigned int *timeout)
{
	const char *ram = spec_get(spec, "ram"), *ms = spec_get(spec, "timeout");
	const char *open_ms = spec_get(spec, "open_timeout");
	int err = 0;

	options->name = spec_get(spec, "machine");
	options->program = spec_get(spec, "qemu");
	*timeout = TIMEOUT_DEFAULT_MS;
	if (ram)
		err = size_parse("ram", ram, &options->ram);
	if (!err && ms)
		err = timeout_parse("timeout", ms, timeout);
	if (!err && open_ms)
		err = timeout_parse("open_timeout", open_ms, &model->open_timeout);
	return err;
}

/* --- configuration space and BARs ----------------------------------------------------------- */

static bool is_command(unsigned int where)
{
	return where == PCI_COMMAND || where == PCI_COMMAND + 1;
}

/* The command register's part of what lies at where, as wide as this. */
static uint32_t command_part(uint32_t command, unsigned int where, unsigned int width)
{
	uint32_t part = command >> 8 * (where - PCI_COMMAND);

	return width == 1 ? part & 0xff : part;
}

/* As the driver wrote it; a device that is gone has all ones. */
static uint32_t command_seen(struct qemu_function *q, unsigned int where, unsigned int width,
			     uint32_t value)
{
	uint32_t forced = command_part(q->forced, where, width);

	if (value == UINT32_MAX >> (32 - 8 * width))
		return value;
	return (value & ~forced) | (command_part(q->command, where, width) & forced);
}

static void command_note(struct qemu_function *q)
{
	__atomic_store_n(&q->decodes, (q->command | q->forced) & PCI_COMMAND_MEMORY,
			 __ATOMIC_RELAXED);
	__atomic_store_n(&q->masters, (q->command | q->forced) & PCI_COMMAND_MASTER,
			 __ATOMIC_RELAXED);
}

static void command_note_written(struct qemu_function *q, unsigned int where, unsigned int width,
				 uint32_t value)
{
	if (where != PCI_COMMAND)
		value = value << 8 | (q->command & 0xff);
	else if (width == 1)
		value = (q->command & 0xff00) | (value & 0xff);
	q->command = (uint16_t)value;
	command_note(q);
}

int qemu_command_force(struct qemu_function *q, uint16_t bits, bool on)
{
	q->forced = (uint16_t)(on ? q->forced | bits : q->forced & ~bits);
	command_note(q);
	return qemu_config_write(q->machine, q->plugged.slot, PCI_COMMAND, 2, q->timeout,
				 q->command | q->forced);
}

/* Nobody hears its INTx yet. */
static int command_begin(struct qemu_function *q)
{
	uint32_t command;
	int err = qemu_function_config_read(&q->function, PCI_COMMAND, 2, &command);

	if (err)
		return err;
	mutex_lock(&q->machine->command_lock);
	q->command = (uint16_t)command;
	err = qemu_command_force(q, PCI_COMMAND_INTX_DISABLE, true);
	mutex_unlock(&q->machine->command_lock);
	return err;
}

int qemu_function_config_read(struct pci_function *f, unsigned int where, unsigned int width,
			      uint32_t *value)
{
	struct qemu_function *q = qemu_of(f);
	unsigned int slot = q->plugged.slot;
	int err;

	if (!is_command(where))
		return qemu_config_read(q->machine, slot, where, width, q->timeout, value);
	mutex_lock(&q->machine->command_lock);
	err = qemu_config_read(q->machine, slot, where, width, q->timeout, value);
	if (!err)
		*value = command_seen(q, where, width, *value);
	mutex_unlock(&q->machine->command_lock);
	return err;
}

int qemu_function_config_write(struct pci_function *f, unsigned int where, unsigned int width,
			       uint32_t value)
{
	struct qemu_function *q = qemu_of(f);
	unsigned int slot = q->plugged.slot;
	int err;

	if (!is_command(where))
		return qemu_config_write(q->machine, slot, where, width, q->timeout, value);
	mutex_lock(&q->machine->command_lock);
	command_note_written(q, where, width, value);
	err = qemu_config_write(q->machine, slot, where, width, q->timeout,
				value | command_part(q->forced, where, width));
	mutex_unlock(&q->machine->command_lock);
	return err;
}

int qemu_capability_find(struct pci_function *f, unsigned int id, unsigned int *where)
{
	uint32_t status, next, header;
	int err = qemu_function_config_read(f, PCI_STATUS, 2, &status);

	*where = 0;
	if (err || !(status & PCI_STATUS_CAP_LIST))
		return err;
	err = qemu_function_config_read(f, PCI_CAPABILITY_LIST, 1, &next);
	/* A list has at most as many entries as fit: one that loops ends too. */
	for (unsigned int i = 0; !err && i < 48 && (next &= 0xfc) >= PCI_STD_HEADER_SIZEOF; i++) {
		err = qemu_function_config_read(f, next, 2, &header);
		if (!err && (header & 0xff) == id) {
			*where = next;
			return 0;
		}
		next = header >> 8;
	}
	return err;
}

/* Write all ones to a BAR: what reads back as 0 is decoded by the device. Restores nothing. */
static int bar_probe(struct pci_function *f, unsigned int where, uint32_t *bits)
{
	int err = qemu_function_config_write(f, where, 4, UINT32_MAX);

	return err ? err : qemu_function_config_read(f, where, 4, bits);
}

/* Small ones have a page each. */
static uint64_t bar_room(uint64_t size)
{
	return align_up(size, IOVA_UNIT);
}

/* Find an address for a BAR of this size. */
static int bar_place(struct qemu_function *q, unsigned int bar, uint64_t size, bool is_64)
{
	struct iova_space *space = &q->machine->bars;
	struct iova_wish wish = {.size = bar_room(size), .align = size, .last = UINT32_MAX};
	int err = iova_space_take(space, &wish, &q->bars[bar].address);

	wish.last = UINT64_MAX;
	if (err == -ENOSPC && is_64)
		err = iova_space_take(space, &wish, &q->bars[bar].address);
	if (err == -ENOSPC)
		return error_set(ENOSPC,
				 "BAR %u of %" PRIu64 " MiB has no place left among the machine's "
				 "register addresses: use another machine=NAME",
				 bar, size / MIB);
	if (err)
		return error_set(-err, "no memory for a device's BARs");
	q->bars[bar].size = size;
	return 0;
}

/* Size a BAR and give it an address; *is_64 says that the next one is its upper half. */
static int bar_assign(struct qemu_function *q, unsigned int bar, bool *is_64)
{
	struct pci_function *f = &q->function;
	unsigned int where = PCI_BASE_ADDRESS_0 + 4 * bar;
	uint32_t low, high = UINT32_MAX;
	int err = bar_probe(f, where, &low);

	*is_64 = false;
	if (err || low == 0)
		return err;
	if (low & PCI_BASE_ADDRESS_SPACE_IO)
		return qemu_function_config_write(f, where, 4, 0);
	*is_64 = (low & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64;
	if (*is_64)
		err = bar_probe(f, where + 4, &high);
	if (!err)
		err = bar_place(q, bar, -((uint64_t)high << 32 | (low & PCI_BASE_ADDRESS_MEM_MASK)),
				*is_64);
	if (!err)
		err = qemu_function_config_write(f, where, 4, (uint32_t)q->bars[bar].address);
	if (!err && *is_64)
		err = qemu_function_config_write(f, where + 4, 4,
						 (uint32_t)(q->bars[bar].address >> 32));
	return err;
}

static int bars_assign(struct qemu_function *q)
{
	for (unsigned int bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		bool is_64;
		int err = bar_assign(q, bar, &is_64);

		if (err)
			return err;
		bar += is_64;
	}
	return 0;
}

static void bars_release(struct qemu_function *q)
{
	for (unsigned int bar = 0; bar < PCI_STD_NUM_BARS; bar++)
		if (q->bars[bar].size)
			iova_space_release(&q->machine->bars, q->bars[bar].address,
					   bar_room(q->bars[bar].size));
}

/* --- registers ------------------------------------------------------------------------------ */

static int function_bar(struct pci_function *f, unsigned int bar, uint64_t *size, void **direct)
{
	*size = bar < PCI_STD_NUM_BARS ? qemu_of(f)->bars[bar].size : 0;
	*direct = NULL;
	return 0;
}

/* Where nothing answers QEMU gives 0; and a bus, and we, all ones. */
static bool access_fits(const struct qemu_function *q, unsigned int bar, uint64_t offset,
			unsigned int width)
{
	return __atomic_load_n(&q->decodes, __ATOMIC_RELAXED) && bar < PCI_STD_NUM_BARS &&
	       width <= q->bars[bar].size && offset <= q->bars[bar].size - width;
}

/*
 * A monitor of the user's may have taken it out of its slot, for good: what is put there then is another. Says so to who
 * waits for events, once.
 */
static bool is_out(struct qemu_function *q)
{
	uint32_t vendor;

	if (__atomic_load_n(&q->out, __ATOMIC_RELAXED))
		return true;
	if (qemu_config_read(q->machine, q->plugged.slot, PCI_VENDOR_ID, 2, q->timeout, &vendor) ||
	    vendor != 0xffff)
		return false;
	if (!__atomic_exchange_n(&q->out, true, __ATOMIC_RELAXED))
		eventfd_write(q->function.event_fd, 1);
	return true;
}

uint64_t qemu_function_read(struct pci_function *f, unsigned int bar, uint64_t offset,
			    unsigned int width)
{
	struct qemu_function *q = qemu_of(f);
	uint64_t value = UINT64_MAX;

	if (access_fits(q, bar, offset, width))
		qtest_read(&q->machine->process.qtest, QTEST_MEMORY, q->bars[bar].address + offset,
			   width, q->timeout, &value);
	return value == 0 && is_out(q) ? UINT64_MAX : value;
}

void qemu_function_write(struct pci_function *f, unsigned int bar, uint64_t offset,
			 unsigned int width, uint64_t value)
{
	struct qemu_function *q = qemu_of(f);

	if (access_fits(q, bar, offset, width))
		qtest_post(&q->machine->process.qtest, QTEST_MEMORY, q->bars[bar].address + offset,
			   width, q->timeout, value);
}

static bool function_is_dead(struct pci_function *f)
{
	return qemu_process_is_gone(&qemu_of(f)->machine->process);
}

/* --- open and close ------------------------------------------------------------------------- */

static void function_unplug(struct qemu_function *q)
{
	struct domain *domain = &q->machine->ram.domain;

	mutex_lock(&domain->lock);
	qemu_unplug(q->machine, &q->plugged, q->timeout);
	bars_release(q);
	mutex_unlock(&domain->lock);
}

/* The machine's end is a device's end too: only where others stay it must be taken out. */
static void function_close(struct pci_function *f)
{
	struct qemu_function *q = qemu_of(f);

	if (!qemu_machine_is_last(q->machine))
		function_unplug(q);
	qemu_lines_remove(&q->machine->lines, &q->listener);
	qemu_events_close(q);
	qemu_machine_leave(q->machine);
	qemu_parts_free(&q->plugged.parts);
	free(q);
}

static void function_disown(struct pci_function *f)
{
	close(f->event_fd);
	qemu_machine_disown(qemu_of(f)->machine);
}

static const struct pci_function_ops qemu_function_ops = {
	.config_read = qemu_function_config_read,
	.config_write = qemu_function_config_write,
	.bar = function_bar,
	.read = qemu_function_read,
	.write = qemu_function_write,
	.reset = qemu_function_reset,
	.irq_count = qemu_irq_count,
	.irq_enable = qemu_irq_enable,
	.irq_disable = qemu_irq_disable,
	.irq_mask = qemu_irq_mask,
	.take_events = qemu_take_events,
	.is_dead = function_is_dead,
	.close = function_close,
	.disown = function_disown,
};

/* With the machine's lock held. */
static int function_begin(struct qemu_function *q, const struct qemu_model *model)
{
	int err;

	snprintf(q->function.name, sizeof(q->function.name), "qemu:%.48s@%02x",
		 model->spec->address, q->plugged.slot);
	err = command_begin(q);
	if (!err)
		err = bars_assign(q);
	__atomic_store_n(&q->begun, !err, __ATOMIC_RELEASE);
	if (err) {
		qemu_unplug(q->machine, &q->plugged, q->timeout);
		bars_release(q);
		qemu_parts_free(&q->plugged.parts);
	}
	return err;
}

int qemu_function_plug(struct qemu_function *q, const struct qemu_model *model)
{
	int err = qemu_plug(q->machine, model, &q->plugged);

	return err ? err : function_begin(q, model);
}

static int function_open(struct qemu_function *q, const struct qemu_model *model,
			 const struct qemu_machine_options *options, struct domain *share)
{
	bool there;
	int err = qemu_events_open(q);

	if (err)
		return err;
	err = qemu_machine_join(options, share, model, &q->machine, &q->plugged);
	if (err)
		goto close_events;
	there = q->plugged.parts.n > 0;
	q->function.ops = &qemu_function_ops;
	q->function.domain = &q->machine->ram.domain;
	qemu_events_listen(q);
	mutex_lock(&q->function.domain->lock);
	err = there ? function_begin(q, model) : qemu_function_plug(q, model);
	mutex_unlock(&q->function.domain->lock);
	if (!err)
		return 0;
	qemu_lines_remove(&q->machine->lines, &q->listener);
	qemu_machine_leave(q->machine);
close_events:
	qemu_events_close(q);
	return err;
}

static int model_check(const char *name)
{
	if (!name[0])
		return error_set(EINVAL, "no device model is named: a spec is "
					 "qemu:MODEL[,key=value...], as qemu:nvme,drive=FILE");
	if (strchr(name, '='))
		return error_set(EINVAL,
				 "'%s' is no name of a device model: a spec is "
				 "qemu:MODEL[,key=value...], as qemu:nvme,drive=FILE",
				 name);
	return 0;
}

static int qemu_open(const struct spec *spec, const struct open_options *asked,
		     struct pci_function **f)
{
	struct qemu_model model = {spec, QEMU_OPEN_TIMEOUT_MS};
	struct qemu_machine_options options = {.memory_limit = asked->memory_limit};
	struct qemu_function *q;
	char label[64];
	int err = model_check(spec->address);

	if (err)
		return err;
	q = calloc(1, sizeof(*q));
	if (!q)
		return error_set(ENOMEM, "no memory for a device of QEMU");
	snprintf(label, sizeof(label), "qemu:%.48s", spec->address);
	options.label = label;
	err = options_parse(spec, &options, &model, &q->timeout);
	if (!err)
		err = function_open(q, &model, &options,
				    asked->share ? asked->share->domain : NULL);
	if (err) {
		free(q);
		return error_prefix("%s", label);
	}
	*f = &q->function;
	return 0;
}

const struct backend qemu_backend = {
	.name = "qemu",
	.keys = qemu_keys,
	.any_key = true, /* the model's properties */
	.open = qemu_open,
};
