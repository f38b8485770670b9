/* SPDX-License-Identifier: MIT */
/*
 * qemu_parts.h - what a spec asks of QEMU: images, networks and devices, in QEMU's own terms
 *
 * A device that starts a machine is among QEMU's arguments with all its parts, since some buses take
 * devices only then; one that joins is plugged by the monitor, part by part.
 */
#ifndef BACKEND_QEMU_PARTS_H
#define BACKEND_QEMU_PARTS_H

#include <stdbool.h>

#include "backend/backend.h"

enum qemu_part_kind {
	QEMU_DRIVE,   /* as behind QEMU's -drive */
	QEMU_NODE,    /* JSON, as behind -blockdev */
	QEMU_NETWORK, /* as behind -netdev */
	QEMU_DEVICE,  /* as behind -device; or JSON */
};

struct qemu_part {
	enum qemu_part_kind kind;
	char *text;
	size_t length; /* of text */
	char id[32];   /* "": whoever wrote the JSON knows it */
	char *file;    /* its image, as the spec has it; NULL: none */
	bool stays;    /* it does not go with the device: a namespace that others may share */
	bool named;    /* the user chose the id, which another device's spec may have, too */
};

/* In the order in which QEMU needs them; n 0: none. */
struct qemu_parts {
	struct qemu_part *part;
	unsigned int n;
};

/*
 * The number-th device of a machine, in this slot. Its id is devN; those of its children are devN-1, devN-2
 * and so on. A part whose text begins with '{' is JSON.
 */
int qemu_parts_make(const struct spec *spec, unsigned int number, unsigned int slot,
		    struct qemu_parts *parts);
void qemu_parts_free(struct qemu_parts *parts);

/* Keys of a spec that are ours; the others are properties of the model. NULL at the end. */
extern const char *const qemu_keys[];

/* Where there is a drive=, these say how its image is opened. NULL at the end. */
extern const char *const qemu_drive_keys[];

#endif
