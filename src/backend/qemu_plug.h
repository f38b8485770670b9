/* SPDX-License-Identifier: MIT */
/*
 * qemu_plug.h - put device models into a running machine, and take them out
 */
#ifndef BACKEND_QEMU_PLUG_H
#define BACKEND_QEMU_PLUG_H

#include "backend/qemu_machine.h"

#define QEMU_OPEN_TIMEOUT_MS 30000 /* an image may be far away */

/* The first device of a machine that is about to start: its parts become QEMU's arguments. */
int qemu_plug_first(struct qemu_machine *machine, const struct qemu_model *model,
		    struct qemu_plugged *plugged);

/* Plug it into a machine that runs. With the machine's lock held. */
int qemu_plug(struct qemu_machine *machine, const struct qemu_model *model,
	      struct qemu_plugged *plugged);

/*
 * Take it out, and have QEMU close its images, but for those that other devices may share; where it does not go, the slot
 * stays taken. The error of the call that failed stays.
 * With the machine's lock held.
 */
void qemu_unplug(struct qemu_machine *machine, const struct qemu_plugged *plugged,
		 unsigned int timeout);

#endif
