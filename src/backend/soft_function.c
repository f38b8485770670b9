/* SPDX-License-Identifier: MIT */
/*
 * soft_function.c - the engine as a PCI function: configuration space, registers, reset
 *
 * Both are bytes in little endian order, and a write changes those that can be changed. The lock
 * is held while a command runs, and not while its faults are logged, so that a log callback may
 * ask for them.
 */
#include "backend/soft.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mutex.h"

#define BAR_ADDRESS 0xfebf0000u /* where firmware may have put it; it is nowhere */

static uint64_t bytes_get(const unsigned char *bytes, unsigned int width)
{
	uint64_t value = 0;

	memcpy(&value, bytes, width);
	return le64toh(value);
}

static void bytes_put(unsigned char *bytes, unsigned int width, uint64_t value)
{
	value = htole64(value);
	memcpy(bytes, &value, width);
}

/* ---- configuration space (PCI 3.0, 6.1) ---- */

/* The bits of each byte that can be written. */
static unsigned char config_writable(unsigned int where)
{
	switch (where) {
	case PCI_COMMAND:
		return PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	case PCI_COMMAND + 1:
		return PCI_COMMAND_INTX_DISABLE >> 8;
	case PCI_CACHE_LINE_SIZE:
	case PCI_LATENCY_TIMER:
	case PCI_INTERRUPT_LINE:
		return 0xff;
	case PCI_BASE_ADDRESS_0 + 1: /* 4096 bytes: the low 12 bits read 0 */
		return 0xf0;
	case PCI_BASE_ADDRESS_0 + 2:
	case PCI_BASE_ADDRESS_0 + 3:
		return 0xff;
	default:
		return 0;
	}
}

static void config_init(struct soft_function *sf)
{
	bytes_put(sf->config + PCI_VENDOR_ID, 2, DMALAND_SOFT_VENDOR);
	bytes_put(sf->config + PCI_DEVICE_ID, 2, DMALAND_SOFT_DEVICE);
	bytes_put(sf->config + PCI_CLASS_REVISION, 4, (uint32_t)DMALAND_SOFT_CLASS << 8 | 1);
	bytes_put(sf->config + PCI_BASE_ADDRESS_0, 4, BAR_ADDRESS);
	bytes_put(sf->config + PCI_INTERRUPT_PIN, 1, 1);
}

static uint16_t command_register(const struct soft_function *sf)
{
	return (uint16_t)bytes_get(sf->config + PCI_COMMAND, 2);
}

static int config_check(const struct soft_function *sf, const char *verb, unsigned int where,
			unsigned int width)
{
	if (sf->vanished)
		return error_set(ENODEV,
				 "%s: cannot %s configuration space: the device is gone, as MODE "
				 "told it",
				 sf->f.name, verb);
	if (where + width > PCI_CFG_SPACE_SIZE)
		return error_set(ENODEV,
				 "%s: cannot %s configuration space at 0x%x: it has %u bytes",
				 sf->f.name, verb, where, (unsigned int)PCI_CFG_SPACE_SIZE);
	return 0;
}

static int soft_config_read(struct pci_function *f, unsigned int where, unsigned int width,
			    uint32_t *value)
{
	struct soft_function *sf = to_soft_function(f);
	int err;

	mutex_lock(&sf->lock);
	err = config_check(sf, "read", where, width);
	*value = err ? UINT32_MAX : (uint32_t)bytes_get(sf->config + where, width);
	mutex_unlock(&sf->lock);
	return err;
}

static int soft_config_write(struct pci_function *f, unsigned int where, unsigned int width,
			     uint32_t value)
{
	struct soft_function *sf = to_soft_function(f);
	int err;

	mutex_lock(&sf->lock);
	err = config_check(sf, "write", where, width);
	for (unsigned int i = 0; !err && i < width; i++) {
		unsigned char mask = config_writable(where + i);
		unsigned char *byte = &sf->config[where + i];

		*byte = (unsigned char)((*byte & ~mask) | (value >> 8 * i & mask));
	}
	mutex_unlock(&sf->lock);
	return err;
}

/* ---- registers ---- */

static void register_put(struct soft_function *sf, unsigned int where, unsigned int width,
			 uint64_t value)
{
	bytes_put(sf->registers + where, width, value);
}

static uint64_t register_get(const struct soft_function *sf, unsigned int where, unsigned int width)
{
	return bytes_get(sf->registers + where, width);
}

static void registers_init(struct soft_function *sf)
{
	memset(sf->registers, 0, sizeof(sf->registers));
	register_put(sf, DMALAND_SOFT_ID, 4, DMALAND_SOFT_ID_VALUE);
	register_put(sf, DMALAND_SOFT_VERSION, 4, 1);
	register_put(sf, DMALAND_SOFT_FAULTS, 4, sf->engine.fault_count);
}

static int soft_bar(struct pci_function *f, unsigned int bar, uint64_t *size, void **direct)
{
	(void)f;
	*size = bar == 0 ? SOFT_BAR_SIZE : 0;
	*direct = NULL;
	return 0;
}

/* Does an access find the device? Not when it is gone, or does not decode memory accesses. */
static bool is_decoded(const struct soft_function *sf, unsigned int bar, uint64_t offset,
		       unsigned int width)
{
	return !sf->vanished && bar == 0 && offset <= SOFT_BAR_SIZE - width &&
	       (command_register(sf) & PCI_COMMAND_MEMORY);
}

static uint64_t soft_read(struct pci_function *f, unsigned int bar, uint64_t offset,
			  unsigned int width)
{
	struct soft_function *sf = to_soft_function(f);
	uint64_t value = UINT64_MAX;

	mutex_lock(&sf->lock);
	if (is_decoded(sf, bar, offset, width))
		value = register_get(sf, (unsigned int)offset, width);
	mutex_unlock(&sf->lock);
	return value;
}

/* Run what COMMAND says, or the list at `list`. */
static void function_run(struct soft_function *sf, dma_addr_t list, bool is_list)
{
	enum dmaland_soft_status status = DMALAND_SOFT_NO_MASTER;
	struct soft_transfer t = {
		.command = (uint32_t)register_get(sf, DMALAND_SOFT_COMMAND, 4),
		.source = register_get(sf, DMALAND_SOFT_SOURCE, 8),
		.destination = register_get(sf, DMALAND_SOFT_DESTINATION, 8),
		.length = (uint32_t)register_get(sf, DMALAND_SOFT_LENGTH, 4),
	};

	if (t.command == DMALAND_SOFT_FILL)
		t.source = register_get(sf, DMALAND_SOFT_PATTERN, 4);
	sf->engine.done = 0;
	if (command_register(sf) & PCI_COMMAND_MASTER)
		status = is_list ? soft_engine_run_list(&sf->engine, list)
				 : soft_engine_run(&sf->engine, &t);
	register_put(sf, DMALAND_SOFT_STATUS, 4, status);
	register_put(sf, DMALAND_SOFT_DONE, 8, sf->engine.done);
	register_put(sf, DMALAND_SOFT_FAULTS, 4, sf->engine.fault_count);
	soft_irq_raise(sf, (unsigned int)register_get(sf, DMALAND_SOFT_INTERRUPT, 4) - 1);
}

static bool is_writable(unsigned int where)
{
	return (where >= DMALAND_SOFT_SOURCE && where < DMALAND_SOFT_COUNT + 4) ||
	       (where >= DMALAND_SOFT_DOORBELL && where < DMALAND_SOFT_DOORBELL + 8) ||
	       (where >= DMALAND_SOFT_INTERRUPT && where < DMALAND_SOFT_INTERRUPT + 4);
}

/* Does a write of width bytes at offset reach the byte at where? */
static bool covers(unsigned int offset, unsigned int width, unsigned int where)
{
	return where - offset < width;
}

/* The last byte of a register that runs something makes it run. */
static void register_write(struct soft_function *sf, unsigned int offset, unsigned int width,
			   uint64_t value)
{
	for (unsigned int i = 0; i < width; i++)
		if (is_writable(offset + i))
			sf->registers[offset + i] = (unsigned char)(value >> 8 * i);
	sf->engine.mode = (uint32_t)register_get(sf, DMALAND_SOFT_MODE, 4);
	sf->engine.count = (uint32_t)register_get(sf, DMALAND_SOFT_COUNT, 4);
	if (sf->engine.mode & DMALAND_SOFT_VANISH) {
		sf->vanished = true;
		eventfd_write(sf->f.event_fd, 1);
	}
	if (covers(offset, width, DMALAND_SOFT_HANDLED + 3))
		soft_irq_handled(sf);
	if (covers(offset, width, DMALAND_SOFT_COMMAND + 3))
		function_run(sf, 0, false);
	if (covers(offset, width, DMALAND_SOFT_DOORBELL + 7)) {
		dma_addr_t list = register_get(sf, DMALAND_SOFT_DOORBELL, 8);

		register_put(sf, DMALAND_SOFT_DOORBELL, 8, 0);
		function_run(sf, list, true);
	}
}

/* Lines for the faults that came with a command. */
static void function_log_faults(struct soft_function *sf)
{
	struct dmaland_soft_fault fault;
	bool more, last;

	do {
		mutex_lock(&sf->lock);
		more = soft_engine_next_to_log(&sf->engine, &fault);
		last = sf->engine.logged == SOFT_FAULTS_LOGGED;
		mutex_unlock(&sf->lock);
		if (more)
			soft_fault_log(sf->f.name, &fault, last);
	} while (more);
}

static void soft_write(struct pci_function *f, unsigned int bar, uint64_t offset,
		       unsigned int width, uint64_t value)
{
	struct soft_function *sf = to_soft_function(f);
	bool faulted = false;

	mutex_lock(&sf->lock);
	if (is_decoded(sf, bar, offset, width)) {
		size_t before = sf->engine.fault_count;

		register_write(sf, (unsigned int)offset, width, value);
		faulted = sf->engine.fault_count != before;
	}
	mutex_unlock(&sf->lock);
	if (faulted)
		function_log_faults(sf);
}

/* ---- reset, end, faults ---- */

void soft_function_free(struct soft_function *sf)
{
	close(sf->f.event_fd);
	pthread_mutex_destroy(&sf->lock);
	free(sf);
}

static int soft_reset(struct pci_function *f)
{
	struct soft_function *sf = to_soft_function(f);
	int err = 0;

	mutex_lock(&sf->lock);
	if (sf->vanished) {
		err = error_set(ENODEV, "%s cannot be reset: it is gone, as MODE told it", f->name);
	} else {
		soft_engine_reset(&sf->engine);
		soft_irq_handled(sf);
		registers_init(sf);
	}
	mutex_unlock(&sf->lock);
	return err;
}

static bool soft_is_dead(struct pci_function *f)
{
	struct soft_function *sf = to_soft_function(f);
	bool dead;

	mutex_lock(&sf->lock);
	dead = sf->vanished;
	mutex_unlock(&sf->lock);
	return dead;
}

static void soft_disown(struct pci_function *f)
{
	close(f->event_fd);
}

static void soft_close(struct pci_function *f)
{
	struct soft_function *sf = to_soft_function(f);

	soft_domain_leave(sf->engine.sd);
	soft_function_free(sf);
}

static const struct pci_function_ops soft_function_ops = {
	.config_read = soft_config_read,
	.config_write = soft_config_write,
	.bar = soft_bar,
	.read = soft_read,
	.write = soft_write,
	.reset = soft_reset,
	.irq_count = soft_irq_count,
	.irq_enable = soft_irq_enable,
	.irq_disable = soft_irq_disable,
	.irq_mask = soft_irq_mask,
	.take_events = soft_take_events,
	.is_dead = soft_is_dead,
	.close = soft_close,
	.disown = soft_disown,
};

int soft_function_faults(struct pci_function *f, struct dmaland_soft_fault *faults, size_t n,
			 size_t *count)
{
	struct soft_function *sf = to_soft_function(f);

	if (f->ops != &soft_function_ops)
		return error_set(EOPNOTSUPP,
				 "%s keeps no faults: only devices of the backend soft: do",
				 f->name);
	mutex_lock(&sf->lock);
	*count = soft_engine_faults(&sf->engine, faults, n);
	mutex_unlock(&sf->lock);
	return 0;
}

/* ---- beginning ---- */

struct soft_function *soft_function_create(void)
{
	struct soft_function *sf = calloc(1, sizeof(*sf));
	int err;

	if (!sf) {
		error_set(ENOMEM, "no memory for a device");
		return NULL;
	}
	err = pthread_mutex_init(&sf->lock, NULL);
	if (err) {
		error_set(err, "cannot make a lock for a device: %s", strerror(err));
		free(sf);
		return NULL;
	}
	sf->f.event_fd = file_raise(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
	if (sf->f.event_fd < 0) {
		error_system("no eventfd for a device's events");
		pthread_mutex_destroy(&sf->lock);
		free(sf);
		return NULL;
	}
	sf->f.ops = &soft_function_ops;
	config_init(sf);
	registers_init(sf);
	return sf;
}

void soft_function_join(struct soft_function *sf, struct soft_domain *sd)
{
	soft_engine_init(&sf->engine, sd);
	sf->f.domain = &sd->domain;
	snprintf(sf->f.name, sizeof(sf->f.name), "soft:engine@%u", soft_domain_join(sd));
}
