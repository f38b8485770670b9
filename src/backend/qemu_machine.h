/* SPDX-License-Identifier: MIT */
/*
 * qemu_machine.h - a machine of QEMU with nothing in it but RAM that is ours, and free slots
 *
 * The machine is the domain: all of its devices see the same RAM. Its lock also serialises
 * plugging and the monitor.
 */
#ifndef BACKEND_QEMU_MACHINE_H
#define BACKEND_QEMU_MACHINE_H

#include <stdint.h>

#include "backend/backend.h"
#include "backend/qemu_complaints.h"
#include "backend/qemu_doorbell.h"
#include "backend/qemu_lines.h"
#include "backend/qemu_parts.h"
#include "backend/qemu_process.h"
#include "backend/qemu_ram.h"

/* PCI 3.0, 3.2.2.3.2: 32 devices a bus. 0 and 1 are the chipset's. */
#define QEMU_SLOT_FIRST 2
#define QEMU_SLOTS	32

struct qemu_machine {
	struct qemu_ram ram; /* the domain */
	struct qemu_process process;
	struct qemu_lines lines;
	struct qemu_doorbell doorbell;
	struct qemu_complaints complaints; /* of the process's thread */
	struct qemu_machine *next;	   /* in the list of those with a name */
	char *name;			   /* NULL: nobody can join it by name */
	char *program;			   /* as the spec named it */
	pthread_mutex_t config_lock;	   /* address and data port belong together */
	/* Its devices' command registers, and INTx that comes, goes or is masked; before config_lock */
	pthread_mutex_t command_lock;
	bool starting;		/* in the list, and not yet to be joined; of the list's lock */
	struct iova_space bars; /* addresses for registers that are not in use */
	unsigned int plugs;	/* how often something was plugged, or tried to */
	uint32_t slots;		/* bitmap: in use */
};

struct qemu_model {
	const struct spec *spec; /* the model's name is its address */
	unsigned int
		open_timeout; /* ms for each command that plugs it in, or for QEMU to start with it */
};

/* A model in its slot. */
struct qemu_plugged {
	unsigned int slot;
	unsigned int number; /* never used twice in a machine */
	struct qemu_parts parts;
};

/* What a spec says about the machine; NULL and 0 where it says nothing. */
struct qemu_machine_options {
	const char *label; /* for messages: "qemu:nvme" */
	const char *name, *program;
	uint64_t ram; /* bytes */
	uint64_t memory_limit;
};

/*
 * Take part in the machine of share, in one by its name, or in a new one. A new one starts with the model in it:
 * then plugged has parts.
 */
int qemu_machine_join(const struct qemu_machine_options *options, struct domain *share,
		      const struct qemu_model *model, struct qemu_machine **machine,
		      struct qemu_plugged *plugged);

/* Is one device left? Then nobody can join by name any more, and that device must leave. */
bool qemu_machine_is_last(struct qemu_machine *machine);

/* Leave it; the last one out ends QEMU. */
void qemu_machine_leave(struct qemu_machine *machine);

/* Close its files, in the child of a fork, where no machine can be joined any more. */
void qemu_machine_disown(struct qemu_machine *machine);

/*
 * The configuration space of a slot; width 1, 2 or 4. timeout in ms, as for all that waits.
 */
int qemu_config_read(struct qemu_machine *machine, unsigned int slot, unsigned int where,
		     unsigned int width, unsigned int timeout, uint32_t *value);
int qemu_config_write(struct qemu_machine *machine, unsigned int slot, unsigned int where,
		      unsigned int width, unsigned int timeout, uint32_t value);

#endif
