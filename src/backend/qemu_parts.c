/* SPDX-License-Identifier: MIT */
/*
 * qemu_parts.c - what a spec asks of QEMU: images, networks and devices, in QEMU's own terms
 *
 *   qemu:nvme,drive=a.img,format=qcow2,mdts=5
 *
 *      -drive  id=drive0,if=none,file=a.img,format=qcow2
 *      -device nvme,id=dev0,addr=02.0,drive=drive0,mdts=5
 *
 * A child is written as the model is, name and key=value, so that one function serves both.
 */
#include "backend/qemu_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/text.h"
#include "backend/qemu_json.h"

#define SERIAL_DEFAULT "dmaland"

const char *const qemu_keys[] = {
	"machine", "ram", "qemu",   "timeout",	"open_timeout", "drive",
	"child",   "hub", "netdev", "blockdev", NULL,
};

/* Others that differ behind the dot are taken too. */
const char *const qemu_drive_keys[] = {
	"format", "readonly", "discard",      "detect-zeroes",	       "cache", "aio", "rerror",
	"werror", "snapshot", "copy-on-read", "throttling.iops-total", NULL,
};

/* What we choose, and QEMU would let a spec override. */
static const char *const kept_keys[] = {"id", "addr", "bus", "driver", NULL};

/* QEMU prints its help for these, and ends. */
static const char *const help_words[] = {"help", "?", NULL};

/*
 * Children whose bus has another name than the parent's id with ".0" behind it, by how their names begin. A drive of
 * IDE is alone on its bus.
 */
static const struct {
	const char *begins;
	enum { BUS_FIRST, BUS_ID, BUS_EACH, BUS_NONE } bus;
	bool before; /* the parent's properties name it */
	bool stays;
} child_kinds[] = {
	{"nvme-ns", BUS_ID, false, true}, {"nvme-subsys", BUS_NONE, true, true},
	{"ide-", BUS_EACH, false, false}, {"sd-card", BUS_NONE, false, false},
	{"emmc", BUS_NONE, false, false}, {"", BUS_FIRST, false, false},
};

static bool key_among(const char *const *keys, const char *key)
{
	for (; *keys; keys++)
		if (strcmp(*keys, key) == 0)
			return true;
	return false;
}

/* Without a drive= it is a property of the model, should it have one of this name. */
static bool is_drives(const struct spec *spec, const char *key)
{
	size_t length = strcspn(key, ".");

	if (!spec_get(spec, "drive"))
		return false;
	for (const char *const *known = qemu_drive_keys; *known; known++)
		if (strcspn(*known, ".") == length && strncmp(*known, key, length) == 0)
			return true;
	return false;
}

/* A value in QEMU's option syntax: commas doubled. */
static void option_put(FILE *f, const char *value)
{
	for (; *value; value++) {
		if (*value == ',')
			fputc(',', f);
		fputc(*value, f);
	}
}

static void property_put(FILE *f, const struct spec_option *option)
{
	fputc(',', f);
	option_put(f, option->key);
	fputc('=', f);
	option_put(f, option->value);
}

/*
 * QEMU takes what is before a colon for a protocol, unless a slash comes first (path_has_protocol() in its
 * block.c). A file that exists is meant as a file.
 */
static bool drive_is_file(const char *drive)
{
	return drive[strcspn(drive, ":/")] == ':' && access(drive, F_OK) == 0;
}

/* --- a part of one's own -------------------------------------------------------------------- */

/* Begin a part; its text goes to the stream. NULL with the error set. */
static FILE *part_begin(struct qemu_parts *parts, enum qemu_part_kind kind, const char *id)
{
	struct qemu_part *all = realloc(parts->part, (parts->n + 1) * sizeof(*all));
	struct qemu_part *part;
	FILE *f = NULL;

	if (all) {
		parts->part = all;
		part = &all[parts->n];
		*part = (struct qemu_part){.kind = kind};
		snprintf(part->id, sizeof(part->id), "%s", id);
		f = open_memstream(&part->text, &part->length);
	}
	if (!f)
		error_set(ENOMEM, "no memory for a device of QEMU");
	return f;
}

/* file: its image, or NULL. */
static int part_end(struct qemu_parts *parts, FILE *f, const char *file)
{
	struct qemu_part *part = &parts->part[parts->n];
	bool failed = ferror(f);

	part->file = file ? strdup(file) : NULL;
	if (fclose(f) || failed || (file && !part->file)) {
		free(part->file);
		free(part->text);
		return error_set(ENOMEM, "no memory for a device of QEMU");
	}
	parts->n++;
	return 0;
}

/* QEMU's own description, with what it needs to be found by put in: the id, as that key has it. */
static int json_part(struct qemu_parts *parts, enum qemu_part_kind kind, const char *json,
		     const char *key, const char *id)
{
	int err = qemu_json_check(json);
	FILE *f;

	if (err)
		return err;
	f = part_begin(parts, kind, id);
	if (!f)
		return -ENOMEM;
	if (id[0])
		fprintf(f, "{\"%s\": \"%s\", %s", key, id, json + 1);
	else
		fputs(json, f);
	return part_end(parts, f, NULL);
}

/* --- a device with its image and its network ------------------------------------------------ */

/* A model, or a child, as a spec names it. */
struct source {
	const struct spec *spec;
	char id[24], drive[24], network[24];
	const char *place; /* how QEMU is told where it goes: ",addr=02.0"; "": it finds a place */
	bool is_child, stays;
};

/* What says how a file is opened would be lost on it. */
static int json_drive_part(struct qemu_parts *parts, const struct source *s, const char *drive)
{
	for (size_t i = 0; i < s->spec->option_count; i++)
		if (is_drives(s->spec, s->spec->options[i].key))
			return error_set(EINVAL,
					 "'%s=' is for a drive= that is a file: JSON says it "
					 "itself",
					 s->spec->options[i].key);
	return json_part(parts, QEMU_NODE, drive, "node-name", s->drive);
}

static int drive_part(struct qemu_parts *parts, const struct source *s, const char *drive)
{
	FILE *f;

	if (drive[0] == '{' && access(drive, F_OK))
		return json_drive_part(parts, s, drive);
	f = part_begin(parts, QEMU_DRIVE, s->drive);
	if (!f)
		return -ENOMEM;
	fprintf(f, "id=%s,if=none,", s->drive);
	if (!spec_get(s->spec, "format"))
		fputs("format=raw,", f);
	fputs(drive_is_file(drive) ? "file=./" : "file=", f);
	option_put(f, drive);
	for (size_t i = 0; i < s->spec->option_count; i++)
		if (is_drives(s->spec, s->spec->options[i].key))
			property_put(f, &s->spec->options[i]);
	return part_end(parts, f, drive);
}

static int hub_part(struct qemu_parts *parts, const struct source *s, const char *hub)
{
	FILE *f;

	if (!hub[0] || strspn(hub, "0123456789") != strlen(hub) || strlen(hub) > 9)
		return error_set(EINVAL,
				 "hub=%s is not a hub's number: cards with the same one, in one "
				 "machine, hear each other",
				 hub);
	f = part_begin(parts, QEMU_NETWORK, s->network);
	if (!f)
		return -ENOMEM;
	fprintf(f, "hubport,id=%s,hubid=%s", s->network, hub);
	return part_end(parts, f, NULL);
}

static int netdev_check(const char *netdev)
{
	if (!netdev[0] || netdev[0] == ',' || key_among(help_words, netdev))
		return error_set(EINVAL,
				 "netdev=%s names no network: one is netdev=user; "
				 "`qemu-system-x86_64 -netdev help` lists the types",
				 netdev);
	if (strstr(netdev, ",id="))
		return error_set(EINVAL, "'id=' in netdev=%s can't be set: dmaland chooses it",
				 netdev);
	return 0;
}

/* "dgram,local.type=unix,...", as behind -netdev, with our id put behind the type; or JSON. */
static int netdev_part(struct qemu_parts *parts, const struct source *s, const char *netdev)
{
	int type = (int)strcspn(netdev, ","), err;
	FILE *f;

	if (netdev[0] == '{')
		return json_part(parts, QEMU_NETWORK, netdev, "id", s->network);
	err = netdev_check(netdev);
	if (err)
		return err;
	f = part_begin(parts, QEMU_NETWORK, s->network);
	if (!f)
		return -ENOMEM;
	fprintf(f, "%.*s,id=%s%s", type, netdev, s->network, netdev + type);
	return part_end(parts, f, NULL);
}

static int network_part(struct qemu_parts *parts, const struct source *s)
{
	const char *hub = spec_get(s->spec, "hub"), *netdev = spec_get(s->spec, "netdev");

	if (hub && netdev)
		return error_set(EINVAL, "hub= and netdev= are both given: a card has one network");
	return hub ? hub_part(parts, s, hub) : netdev_part(parts, s, netdev);
}

static bool has_network(const struct spec *spec)
{
	return spec_get(spec, "hub") || spec_get(spec, "netdev");
}

/* Is this option a property of the model? Of a child's, what is the machine's is a mistake that QEMU names. */
static bool is_property(const struct source *s, const char *key)
{
	if (is_drives(s->spec, key) || strcmp(key, "drive") == 0 || strcmp(key, "hub") == 0 ||
	    strcmp(key, "netdev") == 0)
		return false;
	return s->is_child || !key_among(qemu_keys, key);
}

static int device_part(struct qemu_parts *parts, const struct source *s)
{
	const struct spec *spec = s->spec;
	FILE *f = part_begin(parts, QEMU_DEVICE, s->id);

	if (!f)
		return -ENOMEM;
	option_put(f, spec->address);
	if (s->id[0])
		fprintf(f, ",id=%s", s->id);
	fputs(s->place, f);
	if (spec_get(spec, "drive"))
		fprintf(f, ",drive=%s", s->drive);
	if (has_network(spec))
		fprintf(f, ",netdev=%s", s->network);
	if (strcmp(spec->address, "nvme") == 0 && !spec_get(spec, "serial"))
		fputs(",serial=" SERIAL_DEFAULT, f);
	for (size_t i = 0; i < spec->option_count; i++)
		if (is_property(s, spec->options[i].key))
			property_put(f, &spec->options[i]);
	return part_end(parts, f, spec_get(spec, "drive"));
}

static int source_check(const struct source *s)
{
	if (key_among(help_words, s->spec->address))
		return error_set(ENODEV,
				 "'%s' is no device model: `qemu-system-x86_64 -device help` "
				 "lists the models",
				 s->spec->address);
	for (size_t i = 0; i < s->spec->option_count; i++) {
		const char *key = s->spec->options[i].key;

		if (key_among(help_words, key))
			return error_set(
				EINVAL,
				"'%s=' is no property: `qemu-system-x86_64 -device %s,help` "
				"lists them",
				key, s->spec->address);
		if (!s->is_child && key_among(kept_keys, key))
			return error_set(EINVAL, "'%s=' can't be set: dmaland chooses it", key);
	}
	return 0;
}

static int source_parts(struct qemu_parts *parts, const struct source *s)
{
	const char *drive = spec_get(s->spec, "drive");
	int err = source_check(s);
	unsigned int first = parts->n;

	if (!err && drive)
		err = drive_part(parts, s, drive);
	if (!err && has_network(s->spec))
		err = network_part(parts, s);
	if (!err)
		err = device_part(parts, s);
	for (unsigned int i = first; s->stays && i < parts->n; i++)
		parts->part[i].stays = true;
	return err;
}

static void source_name(struct source *s, unsigned int number, unsigned int child)
{
	char name[16] = "";

	if (child)
		snprintf(name, sizeof(name), "-%u", child);
	snprintf(s->id, sizeof(s->id), "dev%u%s", number, name);
	snprintf(s->drive, sizeof(s->drive), "drive%u%s", number, name);
	snprintf(s->network, sizeof(s->network), "net%u%s", number, name);
}

/* --- children ------------------------------------------------------------------------------- */

/* "usb-storage,drive=stick.img" taken apart; to be freed with child_free(), whatever comes back. */
static int child_parse(const char *text, struct spec *child)
{
	size_t fields = 1;
	char *next;

	memset(child, 0, sizeof(*child));
	for (const char *c = text; *c; c++)
		fields += *c == ',';
	child->text = strdup(text);
	child->options = calloc(fields, sizeof(*child->options));
	if (!child->text || !child->options)
		return error_set(ENOMEM, "no memory for a child");
	next = text_field_end(child->text);
	if (!child->text[0] || strchr(child->text, '=') ||
	    strlen(child->text) >= sizeof(child->address))
		return error_set(EINVAL,
				 "child=%s names no device model: one is "
				 "child=usb-storage,,drive=stick.img",
				 text);
	strcpy(child->address, child->text);
	while (next) {
		char *field = next, *equals = strchr(field, '=');

		next = text_field_end(field);
		if (!equals || equals == field)
			return error_set(EINVAL, "'%s' in child=%s is not key=value", field, text);
		*equals = '\0';
		child->options[child->option_count++] = (struct spec_option){field, equals + 1};
	}
	return 0;
}

static void child_free(struct spec *child)
{
	free(child->options);
	free(child->text);
}

static size_t child_kind(const char *model)
{
	size_t kind = 0;

	while (strncmp(model, child_kinds[kind].begins, strlen(child_kinds[kind].begins)))
		kind++;
	return kind;
}

struct making {
	struct qemu_parts *parts;
	unsigned int number;  /* of the device */
	unsigned int child;   /* of the child, from 1 */
	unsigned int of_each; /* children that are alone on their bus, so far */
	const struct spec *spec;
};

static int child_parts(struct making *m, const struct spec *child)
{
	size_t kind = child_kind(child->address);
	struct source s = {.spec = child, .is_child = true};
	char place[48] = "";

	/* Without a subsystem nobody else has the namespace. */
	s.stays = child_kinds[kind].stays && spec_get(m->spec, "subsys");

	source_name(&s, m->number, m->child);
	if (spec_get(child, "id"))
		s.id[0] = '\0';
	if (spec_get(child, "bus"))
		;
	else if (child_kinds[kind].bus == BUS_ID)
		snprintf(place, sizeof(place), ",bus=dev%u", m->number);
	else if (child_kinds[kind].bus == BUS_FIRST)
		snprintf(place, sizeof(place), ",bus=dev%u.0", m->number);
	else if (child_kinds[kind].bus == BUS_EACH)
		snprintf(place, sizeof(place), ",bus=dev%u.%u", m->number, m->of_each++);
	s.place = place;
	return source_parts(m->parts, &s);
}

/* Those that QEMU must know before the device, or those after it. */
static int children_parts(struct making *m, bool before)
{
	int err = 0;

	m->child = 0;
	for (size_t i = 0; !err && i < m->spec->option_count; i++) {
		const struct spec_option *option = &m->spec->options[i];
		struct spec child;

		if (strcmp(option->key, "child"))
			continue;
		m->child++;
		if (option->value[0] == '{') {
			if (!before)
				err = json_part(m->parts, QEMU_DEVICE, option->value, "", "");
			continue;
		}
		err = child_parse(option->value, &child);
		if (!err && child_kinds[child_kind(child.address)].before == before)
			err = child_parts(m, &child);
		child_free(&child);
	}
	return err;
}

static int nodes_parts(struct making *m)
{
	int err = 0;

	for (size_t i = 0; !err && i < m->spec->option_count; i++) {
		const struct spec_option *option = &m->spec->options[i];

		if (strcmp(option->key, "blockdev"))
			continue;
		err = json_part(m->parts, QEMU_NODE, option->value, "", "");
		if (!err) {
			struct qemu_part *part = &m->parts->part[m->parts->n - 1];

			qemu_json_node_name(part->text, part->id, sizeof(part->id));
			part->named = true;
		}
	}
	return err;
}

int qemu_parts_make(const struct spec *spec, unsigned int number, unsigned int slot,
		    struct qemu_parts *parts)
{
	struct making m = {.parts = parts, .number = number, .spec = spec};
	struct source s = {.spec = spec};
	char place[16];
	int err;

	*parts = (struct qemu_parts){0};
	source_name(&s, number, 0);
	snprintf(place, sizeof(place), ",addr=%02x.0", slot);
	s.place = place;
	err = nodes_parts(&m);
	if (!err)
		err = children_parts(&m, true);
	if (!err)
		err = source_parts(parts, &s);
	if (!err)
		err = children_parts(&m, false);
	if (err)
		qemu_parts_free(parts);
	return err;
}

void qemu_parts_free(struct qemu_parts *parts)
{
	while (parts->n) {
		parts->n--;
		free(parts->part[parts->n].text);
		free(parts->part[parts->n].file);
	}
	free(parts->part);
	parts->part = NULL;
}
