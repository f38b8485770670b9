/* SPDX-License-Identifier: MIT */
/*
 * qemu_plug.c - put device models into a running machine, and take them out
 *
 * The N-th device is called devN, its drive driveN: what failed to be plugged may hold its name for a
 * while, so that no name is used twice. With no guest to agree, taking a device out needs two steps: device_del asks the guest, and the port
 * that a guest's ACPI code would write to says yes.
 */
#include "backend/qemu_plug.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "backend/deadline.h"
#include "backend/qemu_refusal.h"

/* QEMU, docs/specs/acpi_pci_hotplug.rst: PCI device eject register; a bit each slot */
#define EJECT_PORT	0xae08
#define PLUG_TIMEOUT_MS 5000
#define NODE_TIMEOUT_MS 2000

/* A command of the human monitor: what would be an argument of QEMU's stands in quotes. */
static char *command_make(const char *verb, const char *text)
{
	char *command = NULL;
	size_t size;
	FILE *f = open_memstream(&command, &size);
	bool failed;

	if (!f)
		return NULL;
	fprintf(f, "%s \"", verb);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', f);
		fputc(*text, f);
	}
	fputc('"', f);
	failed = ferror(f);
	if (fclose(f) || failed) {
		free(command);
		return NULL;
	}
	return command;
}

/* files: those that QEMU had open before the first part. */
static int part_send(struct qemu_machine *machine, const struct qemu_model *model,
		     const struct qemu_part *part, const struct qemu_files *files,
		     const char **answer)
{
	static const struct {
		const char *verb, *execute;
	} kinds[] = {
		[QEMU_DRIVE] = {"drive_add 0", NULL},
		[QEMU_NODE] = {NULL, "blockdev-add"},
		[QEMU_NETWORK] = {"netdev_add", "netdev_add"},
		[QEMU_DEVICE] = {"device_add", "device_add"},
	};
	bool json = part->text[0] == '{';
	char *command;
	int err;

	if (json)
		return qemu_process_plug(&machine->process, kinds[part->kind].execute, part->text,
					 model->open_timeout, files, answer);
	command = command_make(kinds[part->kind].verb, part->text);
	if (!command)
		return error_set(ENOMEM, "no memory for a command to QEMU");
	err = qemu_process_plug(&machine->process, NULL, command, model->open_timeout, files,
				answer);
	free(command);
	return err;
}

/* QEMU may print warnings; an image that is open says OK. */
static int part_plug(struct qemu_machine *machine, const struct qemu_model *model,
		     const struct qemu_part *part, const struct qemu_files *files)
{
	const char *answer = "";
	int err = part_send(machine, model, part, files, &answer);

	if (err == -EINVAL)
		return qemu_refusal_error(error_last(), part->file);
	if (err)
		return err;
	if (part->kind == QEMU_DRIVE ? !strstr(answer, "OK\r\n") : !!strstr(answer, "Error: "))
		return qemu_refusal_error(answer, part->file);
	return 0;
}

/*
 * Is the device in the slot the one with our id? `info pci` tells of each device, indented less than what it
 * says of it:
 *
 *	  Bus  0, device   4, function 0:
 *	    VGA controller: PCI device 1234:1111
 *	      id "dev7"
 */
static int slot_check(struct qemu_machine *machine, const struct qemu_plugged *plugged)
{
	char head[48], id[24];
	const char *answer, *at, *next;
	int err = qemu_process_command(&machine->process, NULL, "info pci", &answer);

	if (err)
		return err;
	snprintf(head, sizeof(head), "Bus  0, device %3u, function 0:", plugged->slot);
	snprintf(id, sizeof(id), "id \"dev%u\"", plugged->number);
	at = strstr(answer, head);
	next = at ? strstr(at + strlen(head), "\n  Bus ") : NULL;
	at = at ? strstr(at, id) : NULL;
	if (at && (!next || at < next))
		return 0;
	return -ENODEV;
}

/* A node is in use until QEMU has freed the device, which is a matter of ms; or by another device, whose it is then. */
static void node_unplug(struct qemu_machine *machine, const char *id)
{
	struct timespec deadline = deadline_in(NODE_TIMEOUT_MS);
	char arguments[64];
	const char *answer;
	int err;

	snprintf(arguments, sizeof(arguments), "{\"node-name\": \"%s\"}", id);
	do {
		err = qemu_process_command(&machine->process, "blockdev-del", arguments, &answer);
	} while (err == -EINVAL && deadline_left(&deadline));
}

/*
 * What the device used, last first; also needed after a plugging that failed: the image would stay locked. shared: others may
 * use what stays.
 */
static void parts_unplug(struct qemu_machine *machine, const struct qemu_plugged *plugged,
			 bool shared)
{
	static const char *const verbs[] = {
		[QEMU_DRIVE] = "drive_del",
		[QEMU_NETWORK] = "netdev_del",
	};

	for (unsigned int i = plugged->parts.n; i--;) {
		const struct qemu_part *part = &plugged->parts.part[i];
		char command[48];
		const char *answer;

		if (part->kind == QEMU_DEVICE || (shared && part->stays) || !part->id[0] ||
		    qtest_has_ended(&machine->process.qtest))
			continue;
		if (part->kind == QEMU_NODE) {
			node_unplug(machine, part->id);
			continue;
		}
		snprintf(command, sizeof(command), "%s %s", verbs[part->kind], part->id);
		qemu_process_command(&machine->process, NULL, command, &answer);
	}
}

static int slot_find(const struct qemu_machine *machine, unsigned int *slot)
{
	for (unsigned int i = QEMU_SLOT_FIRST; i < QEMU_SLOTS; i++) {
		if (!(machine->slots & UINT32_C(1) << i)) {
			*slot = i;
			return 0;
		}
	}
	return error_set(ENOSPC,
			 "the machine has %u devices, as many as it has slots for: close "
			 "one, or use another machine=NAME",
			 QEMU_SLOTS - QEMU_SLOT_FIRST);
}

/*
 * Ask the guest, and agree as the guest: when that write is answered the device is out of its slot. What QEMU tells later, that
 * it has freed the device, is not waited for: of some models (qemu-xhci in 7.2) it never does. A monitor of the user's may have
 * taken it out before: QEMU then knows no such device.
 */
static int device_unplug(struct qemu_machine *machine, const struct qemu_plugged *plugged,
			 unsigned int timeout)
{
	char command[32];
	const char *answer;
	uint32_t vendor;
	int err = qemu_config_read(machine, plugged->slot, PCI_VENDOR_ID, 2, timeout, &vendor);

	if (err || vendor == 0xffff)
		return err;
	snprintf(command, sizeof(command), "device_del dev%u", plugged->number);
	err = qemu_process_command(&machine->process, NULL, command, &answer);
	if (!err && strstr(answer, "Error: "))
		err = error_set(EBUSY, "QEMU refuses to take dev%u out: %s", plugged->number,
				answer);
	if (!err)
		err = qtest_write(&machine->process.qtest, QTEST_PORT, EJECT_PORT, 4, timeout,
				  UINT32_C(1) << plugged->slot);
	if (!err)
		err = qemu_config_read(machine, plugged->slot, PCI_VENDOR_ID, 2, timeout, &vendor);
	if (!err && vendor != 0xffff)
		err = error_set(EBUSY, "QEMU has not taken dev%u out", plugged->number);
	return err;
}

/*
 * A child may be what was refused; or with time up QEMU may have plugged the device in all the same. Where somebody
 * stays, the slot is taken.
 */
static void plug_undo(struct qemu_machine *machine, const struct qemu_plugged *plugged)
{
	struct error_state error;
	uint32_t vendor;

	error_keep(&error);
	if (!qtest_has_ended(&machine->process.qtest) && slot_check(machine, plugged) == 0)
		device_unplug(machine, plugged, PLUG_TIMEOUT_MS);
	parts_unplug(machine, plugged, false);
	if (!qemu_config_read(machine, plugged->slot, PCI_VENDOR_ID, 2, PLUG_TIMEOUT_MS, &vendor) &&
	    vendor != 0xffff)
		machine->slots |= UINT32_C(1) << plugged->slot;
	error_put_back(&error);
}

int qemu_plug_first(struct qemu_machine *machine, const struct qemu_model *model,
		    struct qemu_plugged *plugged)
{
	int err;

	plugged->slot = QEMU_SLOT_FIRST;
	plugged->number = machine->plugs;
	err = qemu_parts_make(model->spec, plugged->number, plugged->slot, &plugged->parts);
	if (err)
		return err;
	machine->plugs++;
	machine->slots |= UINT32_C(1) << plugged->slot;
	return 0;
}

int qemu_plug(struct qemu_machine *machine, const struct qemu_model *model,
	      struct qemu_plugged *plugged)
{
	struct qemu_files files;
	int err = slot_find(machine, &plugged->slot);

	if (err)
		return err;
	plugged->number = machine->plugs;
	err = qemu_parts_make(model->spec, plugged->number, plugged->slot, &plugged->parts);
	if (err)
		return err;
	machine->plugs++;
	qemu_files_note(machine->process.pid, &files);
	for (unsigned int i = 0; i < plugged->parts.n; i++) {
		struct qemu_part *part = &plugged->parts.part[i];

		if (!err)
			err = part_plug(machine, model, part, &files);
		if (err && part->named)
			part->id[0] = '\0'; /* was not plugged: the name is another's */
	}
	if (err) {
		plug_undo(machine, plugged);
		qemu_parts_free(&plugged->parts);
		return err;
	}
	machine->slots |= UINT32_C(1) << plugged->slot;
	return 0;
}

void qemu_unplug(struct qemu_machine *machine, const struct qemu_plugged *plugged,
		 unsigned int timeout)
{
	struct error_state error;
	int err;

	if (qtest_has_ended(&machine->process.qtest))
		return;
	error_keep(&error);
	err = device_unplug(machine, plugged, timeout);
	if (!err) {
		parts_unplug(machine, plugged, true);
		machine->slots &= ~(UINT32_C(1) << plugged->slot);
	} else if (!qtest_has_ended(&machine->process.qtest)) {
		log_line(DMALAND_LOG_WARN, "%s: slot %u stays taken: %s", machine->process.name,
			 plugged->slot, error_last());
	}
	error_put_back(&error);
}
