/* SPDX-License-Identifier: MIT */
/*
 * qemu.c - the backend `qemu:`: a device model of QEMU, driven with no guest and no root
 *
 *   qemu.c           options, registers, reset           struct qemu_function
 *   qemu_irq.c       interrupts, events
 *   qemu_lines.c     INTx: lines of the machine          struct qemu_lines
 *   qemu_doorbell.c  MSI-X, MSI: messages to eventfds    struct qemu_doorbell
 *   qemu_plug.c      devices into and out of a machine
 *   qemu_machine.c   machines: start, join, leave        struct qemu_machine
 *   qemu_ram.c       RAM, which is the domain            struct qemu_ram
 *   qemu_process.c   fork, kill, reap                    struct qemu_process
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
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "backend/deadline.h"
#include "backend/qemu.h"

#define TIMEOUT_DEFAULT_MS 5000
#define PENDING_TIMEOUT_MS 100	/* PCIe 4.0, 6.6.2: transactions that are under way */
#define READY_TIMEOUT_MS   1000 /* PCIe 4.0, 6.6.2: configuration after a reset */

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
	if (errno || end == text || *end || text[0] == '-' || !*size || *size > UINT64_MAX >> shift)
		return error_set(EINVAL, "%s=%s is not a size: one is 512M or 4G", key, text);
	*size <<= shift;
	return 0;
}

static int timeout_parse(const char *text, unsigned int *timeout)
{
	char *end;
	long ms;

	errno = 0;
	ms = strtol(text, &end, 10);
	if (errno || end == text || *end || ms < 1 || ms > INT_MAX)
		return error_set(EINVAL, "timeout=%s is not a time: it is 1 or more milliseconds",
				 text);
	*timeout = (unsigned int)ms;
	return 0;
}

static int options_parse(const struct spec *spec, struct qemu_machine_options *options,
			 unsigned int *timeout)
{
	const char *ram = spec_get(spec, "ram"), *ms = spec_get(spec, "timeout");
	int err = 0;

	options->name = spec_get(spec, "machine");
	options->program = spec_get(spec, "qemu");
	*timeout = TIMEOUT_DEFAULT_MS;
	if (ram)
		err = size_parse("ram", ram, &options->ram);
	if (!err && ms)
		err = timeout_parse(ms, timeout);
	return err;
}

/* --- configuration space and BARs ----------------------------------------------------------- */

int qemu_function_config_read(struct pci_function *f, unsigned int where, unsigned int width,
			      uint32_t *value)
{
	struct qemu_function *q = qemu_of(f);

	return qemu_config_read(q->machine, q->plugged.slot, where, width, q->timeout, value);
}

int qemu_function_config_write(struct pci_function *f, unsigned int where, unsigned int width,
			       uint32_t value)
{
	struct qemu_function *q = qemu_of(f);

	if (where == PCI_COMMAND)
		__atomic_store_n(&q->decodes, value & PCI_COMMAND_MEMORY, __ATOMIC_RELAXED);
	return qemu_config_write(q->machine, q->plugged.slot, where, width, q->timeout, value);
}

/* Write all ones to a BAR: what reads back as 0 is decoded by the device. Restores nothing. */
static int bar_probe(struct pci_function *f, unsigned int where, uint32_t *bits)
{
	int err = qemu_function_config_write(f, where, 4, UINT32_MAX);

	return err ? err : qemu_function_config_read(f, where, 4, bits);
}

/* Find an address for a BAR of this size. */
static int bar_place(struct qemu_function *q, unsigned int bar, uint64_t size, bool is_64)
{
	struct iova_space *space = &q->machine->bars;
	int err = iova_space_take(space, size, size, UINT32_MAX, &q->bars[bar].address);

	if (err == -ENOSPC && is_64)
		err = iova_space_take(space, size, size, UINT64_MAX, &q->bars[bar].address);
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
					   q->bars[bar].size);
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

uint64_t qemu_function_read(struct pci_function *f, unsigned int bar, uint64_t offset,
			    unsigned int width)
{
	struct qemu_function *q = qemu_of(f);
	uint64_t value = UINT64_MAX;

	if (access_fits(q, bar, offset, width))
		qtest_read(&q->machine->process.qtest, QTEST_MEMORY, q->bars[bar].address + offset,
			   width, q->timeout, &value);
	return value;
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

/* --- reset ---------------------------------------------------------------------------------- */

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

/* Read a word of configuration space until it has one of the bits of mask set, or none. */
static int config_wait(struct pci_function *f, unsigned int where, uint32_t mask, bool set,
		       unsigned int timeout)
{
	static const struct timespec pause = {0, 1000000};
	struct timespec deadline = deadline_in(timeout);
	uint32_t value;
	int err;

	for (;;) {
		int left = deadline_left(&deadline);

		err = qemu_function_config_read(f, where, 2, &value);
		if (err || !!(value & mask) == set)
			return err;
		if (left == 0)
			return error_set(ETIMEDOUT,
					 "%s: configuration space reads %#x at %#x %u ms long",
					 f->name, value, where, timeout);
		nanosleep(&pause, NULL);
	}
}

/* What a reset clears and a driver had set or relies on; cap is the PCIe capability. */
struct saved_config {
	uint32_t header[PCI_STD_HEADER_SIZEOF / 4];
	uint32_t device_control;
};

static int config_save(struct pci_function *f, unsigned int cap, struct saved_config *saved)
{
	int err = qemu_function_config_read(f, cap + PCI_EXP_DEVCTL, 2, &saved->device_control);

	for (unsigned int i = 0; !err && i < PCI_STD_HEADER_SIZEOF / 4; i++)
		err = qemu_function_config_read(f, 4 * i, 4, &saved->header[i]);
	return err;
}

/* The command register comes last: registers answer once their BARs are back. */
static int config_restore(struct pci_function *f, unsigned int cap,
			  const struct saved_config *saved)
{
	int err = 0;

	for (unsigned int where = PCI_BASE_ADDRESS_0; !err && where < PCI_STD_HEADER_SIZEOF;
	     where += 4)
		err = qemu_function_config_write(f, where, 4, saved->header[where / 4]);
	if (!err)
		err = qemu_function_config_write(f, PCI_CACHE_LINE_SIZE, 2,
						 saved->header[PCI_CACHE_LINE_SIZE / 4] & 0xffff);
	if (!err)
		err = qemu_function_config_write(f, cap + PCI_EXP_DEVCTL, 2, saved->device_control);
	if (!err)
		err = qemu_function_config_write(f, PCI_COMMAND, 2,
						 saved->header[PCI_COMMAND / 4] & 0xffff);
	return err;
}

/*
 * PCIe 4.0, 6.6.2: bus mastering off, wait for what is under way, then the function level reset.
 * The standard gives a device 100 ms for it; a model has done it when the write is answered.
 */
static int function_level_reset(struct pci_function *f, unsigned int cap)
{
	struct saved_config saved;
	uint32_t command;
	int err = config_save(f, cap, &saved);

	if (err)
		return err;
	command = saved.header[PCI_COMMAND / 4] & 0xffff;
	err = qemu_function_config_write(f, PCI_COMMAND, 2,
					 command & ~(uint32_t)PCI_COMMAND_MASTER);
	if (!err)
		err = config_wait(f, cap + PCI_EXP_DEVSTA, PCI_EXP_DEVSTA_TRPND, false,
				  PENDING_TIMEOUT_MS);
	if (err && err != -ETIMEDOUT)
		return err;
	err = qemu_function_config_write(f, cap + PCI_EXP_DEVCTL, 2,
					 saved.device_control | PCI_EXP_DEVCTL_BCR_FLR);
	if (!err)
		err = config_wait(f, PCI_STATUS, PCI_STATUS_CAP_LIST, true, READY_TIMEOUT_MS);
	if (!err)
		err = config_restore(f, cap, &saved);
	return err ? err : qemu_irq_restore(qemu_of(f));
}

static int function_reset(struct pci_function *f)
{
	uint32_t capabilities = 0;
	unsigned int cap;
	int err = qemu_capability_find(f, PCI_CAP_ID_EXP, &cap);

	if (!err && cap)
		err = qemu_function_config_read(f, cap + PCI_EXP_DEVCAP, 4, &capabilities);
	if (err)
		return err;
	if (!(capabilities & PCI_EXP_DEVCAP_FLR))
		return error_set(ENOTTY, "%s: the model has no function level reset", f->name);
	return function_level_reset(f, cap);
}

/* --- open and close ------------------------------------------------------------------------- */

static void function_unplug(struct qemu_function *q)
{
	struct domain *domain = &q->machine->ram.domain;

	pthread_mutex_lock(&domain->lock);
	qemu_unplug(q->machine, &q->plugged, q->timeout);
	bars_release(q);
	pthread_mutex_unlock(&domain->lock);
}

/* The machine's end is a device's end too: only where others stay it must be taken out. */
static void function_close(struct pci_function *f)
{
	struct qemu_function *q = qemu_of(f);

	if (!qemu_machine_is_last(q->machine))
		function_unplug(q);
	qemu_events_close(q);
	qemu_machine_leave(q->machine);
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
	.reset = function_reset,
	.irq_count = qemu_irq_count,
	.irq_enable = qemu_irq_enable,
	.irq_disable = qemu_irq_disable,
	.irq_mask = qemu_irq_mask,
	.take_events = qemu_take_events,
	.is_dead = function_is_dead,
	.close = function_close,
	.disown = function_disown,
};

int qemu_function_plug(struct qemu_function *q, const struct qemu_model *model)
{
	int err = qemu_plug(q->machine, model, &q->plugged);

	if (err)
		return err;
	snprintf(q->function.name, sizeof(q->function.name), "qemu:%.48s@%02x", model->name,
		 q->plugged.slot);
	err = bars_assign(q);
	if (err) {
		qemu_unplug(q->machine, &q->plugged, q->timeout);
		bars_release(q);
	}
	return err;
}

static int function_open(struct qemu_function *q, const struct qemu_model *model,
			 const struct qemu_machine_options *options, struct domain *share)
{
	int err = qemu_machine_join(options, share, &q->machine);

	if (err)
		return err;
	q->function.ops = &qemu_function_ops;
	q->function.domain = &q->machine->ram.domain;
	err = qemu_events_open(q);
	if (err)
		goto leave;
	pthread_mutex_lock(&q->function.domain->lock);
	err = qemu_function_plug(q, model);
	pthread_mutex_unlock(&q->function.domain->lock);
	if (!err)
		return 0;
	qemu_events_close(q);
leave:
	qemu_machine_leave(q->machine);
	return err;
}

static int qemu_open(const struct spec *spec, const struct open_options *asked,
		     struct pci_function **f)
{
	struct qemu_model model = {spec->address, spec_get(spec, "drive"), spec};
	struct qemu_machine_options options = {.memory_limit = asked->memory_limit};
	struct qemu_function *q;
	char label[64];
	int err;

	if (!model.name[0])
		return error_set(EINVAL, "no device model is named: a spec is "
					 "qemu:MODEL[,key=value...], as qemu:nvme,drive=FILE");
	q = calloc(1, sizeof(*q));
	if (!q)
		return error_set(ENOMEM, "no memory for a device of QEMU");
	snprintf(label, sizeof(label), "qemu:%.48s", model.name);
	options.label = label;
	err = options_parse(spec, &options, &q->timeout);
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
	.open = qemu_open,
};
