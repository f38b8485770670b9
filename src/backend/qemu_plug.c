/* SPDX-License-Identifier: MIT */
/*
 * qemu_plug.c - put device models into a running machine, and take them out
 *
 * Commands go to QEMU's human monitor, which takes them in the syntax of QEMU's command line and
 * answers with QEMU's own sentences. The N-th device is called devN, its drive driveN: what failed
 * to be plugged may hold its name for a while, so that no name is used twice. With no
 * guest to agree, taking a device out needs two steps: device_del asks the guest, and the port
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

/* QEMU, docs/specs/acpi_pci_hotplug.rst: PCI device eject register; a bit each slot */
#define EJECT_PORT	0xae08
#define PLUG_TIMEOUT_MS 5000
#define SERIAL_DEFAULT	"dmaland"

const char *const qemu_keys[] = {"machine", "drive",	    "ram", "qemu",
				 "timeout", "open_timeout", NULL};

/* What we choose, and QEMU would let a spec override. */
static const char *const kept_keys[] = {"id", "addr", "bus", "driver", NULL};

/* QEMU's words, the error that they mean, and the usual cure. */
static const struct {
	const char *words;
	int code;
	const char *cure;
} refusals[] = {
	{"Unknown protocol", ENOENT,
	 "there is no file of this name: truncate -s 64M FILE makes one"},
	{"No such file or directory", ENOENT, "truncate -s 64M FILE makes an empty drive"},
	{"Permission denied", EACCES, "drive= needs a file that you can read and write"},
	{"valid device model name", ENODEV, "`qemu-system-x86_64 -device help` lists the models"},
	{".addr' not found", ENODEV, "only models of PCI devices can be used"},
	{"does not support hotplugging", ENODEV, "only models that can be plugged can be used"},
	{"pluggable device type", ENODEV, "only models that can be plugged can be used"},
	{"' bus found", ENODEV, "only models of PCI devices can be used"},
	{"' not found", EINVAL, "`qemu-system-x86_64 -device MODEL,help` lists the properties"},
	{"not set", EINVAL, "add it to the spec as key=value"},
};

static bool key_among(const char *const *keys, const char *key)
{
	for (; *keys; keys++)
		if (strcmp(*keys, key) == 0)
			return true;
	return false;
}

/* A value in QEMU's option syntax (commas doubled) within the monitor's quotes (escaped). */
static void option_put(FILE *f, const char *value)
{
	for (; *value; value++) {
		if (*value == ',')
			fputc(',', f);
		else if (*value == '"' || *value == '\\')
			fputc('\\', f);
		fputc(*value, f);
	}
}

/*
 * QEMU takes what is before a colon for a protocol, unless a slash comes first (path_has_protocol() in its
 * block.c). A file that exists is meant as a file.
 */
static bool drive_is_file(const char *drive)
{
	return drive[strcspn(drive, ":/")] == ':' && access(drive, F_OK) == 0;
}

static void drive_put(FILE *f, const struct qemu_model *model, const struct qemu_plugged *plugged)
{
	fprintf(f, "drive_add 0 \"id=drive%u,if=none,format=raw,file=", plugged->number);
	if (drive_is_file(model->drive))
		fputs("./", f);
	option_put(f, model->drive);
	fputc('"', f);
}

static void device_put(FILE *f, const struct qemu_model *model, const struct qemu_plugged *plugged)
{
	fputs("device_add \"", f);
	option_put(f, model->name);
	fprintf(f, ",id=dev%u,addr=%02x.0", plugged->number, plugged->slot);
	if (plugged->drive)
		fprintf(f, ",drive=drive%u", plugged->number);
	if (strcmp(model->name, "nvme") == 0 && !spec_get(model->spec, "serial"))
		fputs(",serial=" SERIAL_DEFAULT, f);
	for (size_t i = 0; i < model->spec->option_count; i++) {
		const struct spec_option *option = &model->spec->options[i];

		if (key_among(qemu_keys, option->key))
			continue;
		fputc(',', f);
		option_put(f, option->key);
		fputc('=', f);
		option_put(f, option->value);
	}
	fputc('"', f);
}

typedef void command_put(FILE *f, const struct qemu_model *model,
			 const struct qemu_plugged *plugged);

/* Have a command written, and send it; files: those that QEMU had open before the first one. */
static int command_send(struct qemu_machine *machine, const struct qemu_model *model,
			const struct qemu_plugged *plugged, const struct qemu_files *files,
			command_put *put, const char **answer)
{
	char *command = NULL;
	size_t size;
	FILE *f = open_memstream(&command, &size);
	bool failed;
	int err;

	if (!f)
		return error_set(ENOMEM, "no memory for a command to QEMU");
	put(f, model, plugged);
	failed = ferror(f);
	if (fclose(f) || failed)
		err = error_set(ENOMEM, "no memory for a command to QEMU");
	else
		err = qemu_process_plug(&machine->process, command, model->open_timeout, files,
					answer);
	free(command);
	return err;
}

/* QEMU's sentences in one line: without its "Error: ", a "; " where a line ends. */
static void words_clean(const char *text, char *words, size_t size)
{
	static const char label[] = "Error: ";
	char *to = words, *end = words + size - 3;

	if (strncmp(text, label, sizeof(label) - 1) == 0)
		text += sizeof(label) - 1;
	while (*text && to < end) {
		size_t line_end = strspn(text, "\r\n");

		text += line_end;
		if (line_end && *text) {
			*to++ = ';';
			*to++ = ' ';
		} else if (!line_end) {
			*to++ = *text++;
		}
	}
	*to = '\0';
}

static int refusal_error(const struct qemu_model *model, const char *text)
{
	char words[600];

	words_clean(text, words, sizeof(words));
	if (strstr(words, " lock") && model->drive)
		return error_set(EBUSY,
				 "%s is used by another process (or by another device of this "
				 "one): %s: close it there first",
				 model->drive, words);
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		if (strstr(words, refusals[i].words))
			return error_set(refusals[i].code, "%s: %s", words, refusals[i].cure);
	return error_set(EINVAL, "QEMU refuses it: %s", words[0] ? words : "(without a word)");
}

static int drive_plug(struct qemu_machine *machine, const struct qemu_model *model,
		      const struct qemu_plugged *plugged, const struct qemu_files *files)
{
	const char *answer;
	int err = command_send(machine, model, plugged, files, drive_put, &answer);

	if (err)
		return err;
	return strstr(answer, "OK\r\n") ? 0 : refusal_error(model, answer);
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
	int err = qemu_process_command(&machine->process, "info pci", &answer);

	if (err)
		return err;
	snprintf(head, sizeof(head), "Bus  0, device %3u, function 0:", plugged->slot);
	snprintf(id, sizeof(id), "id \"dev%u\"", plugged->number);
	at = strstr(answer, head);
	next = at ? strstr(at + strlen(head), "\n  Bus ") : NULL;
	at = at ? strstr(at, id) : NULL;
	if (at && (!next || at < next))
		return 0;
	return error_set(EBUSY,
			 "slot %u of the machine is taken by another device than the one that was "
			 "asked for: close all devices of the machine first",
			 plugged->slot);
}

/* QEMU may print warnings; what counts is who answers in the slot. */
static int device_plug(struct qemu_machine *machine, const struct qemu_model *model,
		       const struct qemu_plugged *plugged, const struct qemu_files *files)
{
	const char *answer;
	uint32_t vendor;
	int err = command_send(machine, model, plugged, files, device_put, &answer);

	if (!err)
		err = qemu_config_read(machine, plugged->slot, PCI_VENDOR_ID, 2, PLUG_TIMEOUT_MS,
				       &vendor);
	if (!err && vendor == 0xffff)
		err = refusal_error(model, answer);
	return err ? err : slot_check(machine, plugged);
}

/* Also needed after a plugging that failed: the image would stay locked. */
static void drive_unplug(struct qemu_machine *machine, const struct qemu_plugged *plugged)
{
	char command[32];
	const char *answer;

	if (!plugged->drive || qtest_has_ended(&machine->process.qtest))
		return;
	snprintf(command, sizeof(command), "drive_del drive%u", plugged->number);
	qemu_process_command(&machine->process, command, &answer);
}

static int spec_check(const struct qemu_model *model)
{
	for (size_t i = 0; i < model->spec->option_count; i++)
		if (key_among(kept_keys, model->spec->options[i].key))
			return error_set(EINVAL, "'%s=' can't be set: dmaland chooses it",
					 model->spec->options[i].key);
	return 0;
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

/* Ask the guest, agree as the guest, and wait. */
static int device_unplug(struct qemu_machine *machine, const struct qemu_plugged *plugged,
			 unsigned int timeout)
{
	char command[32], id[16];
	const char *answer;
	int err;

	snprintf(id, sizeof(id), "dev%u", plugged->number);
	snprintf(command, sizeof(command), "device_del %s", id);
	err = qemu_process_command(&machine->process, command, &answer);
	if (!err && strstr(answer, "Error: "))
		err = error_set(EBUSY, "QEMU refuses to take %s out: %s", id, answer);
	if (!err)
		err = qtest_write(&machine->process.qtest, QTEST_PORT, EJECT_PORT, 4, timeout,
				  UINT32_C(1) << plugged->slot);
	if (!err)
		err = qemu_process_wait_deleted(&machine->process, id);
	return err;
}

/* With time up QEMU may have plugged it in all the same. Where somebody stays, the slot is taken. */
static void plug_undo(struct qemu_machine *machine, const struct qemu_plugged *plugged, int err)
{
	struct error_state error;
	uint32_t vendor;

	error_keep(&error);
	if (err == -ETIMEDOUT && !qtest_has_ended(&machine->process.qtest))
		device_unplug(machine, plugged, PLUG_TIMEOUT_MS);
	drive_unplug(machine, plugged);
	if (!qemu_config_read(machine, plugged->slot, PCI_VENDOR_ID, 2, PLUG_TIMEOUT_MS, &vendor) &&
	    vendor != 0xffff)
		machine->slots |= UINT32_C(1) << plugged->slot;
	error_put_back(&error);
}

int qemu_plug(struct qemu_machine *machine, const struct qemu_model *model,
	      struct qemu_plugged *plugged)
{
	struct qemu_files files;
	int err = spec_check(model);

	if (!err)
		err = slot_find(machine, &plugged->slot);
	if (err)
		return err;
	plugged->number = machine->plugs++;
	plugged->drive = model->drive != NULL;
	qemu_files_note(machine->process.pid, &files);
	if (plugged->drive)
		err = drive_plug(machine, model, plugged, &files);
	if (!err)
		err = device_plug(machine, model, plugged, &files);
	if (err) {
		plug_undo(machine, plugged, err);
		return err;
	}
	machine->slots |= UINT32_C(1) << plugged->slot;
	return 0;
}

void qemu_unplug(struct qemu_machine *machine, const struct qemu_plugged *plugged,
		 unsigned int timeout)
{
	int err;

	if (qtest_has_ended(&machine->process.qtest))
		return;
	err = device_unplug(machine, plugged, timeout);
	if (!err) {
		drive_unplug(machine, plugged);
		machine->slots &= ~(UINT32_C(1) << plugged->slot);
	} else if (!qtest_has_ended(&machine->process.qtest)) {
		log_line(DMALAND_LOG_WARN, "%s: slot %u stays taken: %s", machine->process.name,
			 plugged->slot, error_last());
	}
}
