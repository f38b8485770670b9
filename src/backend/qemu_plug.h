/* SPDX-License-Identifier: MIT */
/*
 * qemu_plug.h - put device models into a running machine, and take them out
 */
#ifndef BACKEND_QEMU_PLUG_H
#define BACKEND_QEMU_PLUG_H

#include "backend/qemu_machine.h"

struct qemu_model {
	const char *name;	   /* "nvme" */
	const char *drive;	   /* a file, or else an image in QEMU's file= syntax; NULL: none */
	const struct spec *spec;   /* its options that are not ours are the model's properties */
	unsigned int open_timeout; /* ms for each command that plugs it in */
};

/* A model in its slot. */
struct qemu_plugged {
	unsigned int slot;
	unsigned int number; /* never used twice in a machine */
	bool drive;
};

#define QEMU_OPEN_TIMEOUT_MS 30000 /* an image may be far away */

/* Keys of a spec that are ours; the others are properties of the model. NULL at the end. */
extern const char *const qemu_keys[];

/* Plug it in. With the machine's lock held. */
int qemu_plug(struct qemu_machine *machine, const struct qemu_model *model,
	      struct qemu_plugged *plugged);

/*
 * Take it out and wait until it has let go of its image; where it will not, the slot stays taken.
 * With the machine's lock held.
 */
void qemu_unplug(struct qemu_machine *machine, const struct qemu_plugged *plugged,
		 unsigned int timeout);

#endif
