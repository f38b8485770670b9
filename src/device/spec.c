/* SPDX-License-Identifier: MIT */
/*
 * spec.c - "[backend:]address[,key=value...]" taken apart
 *
 * A comma inside a value is written twice, as QEMU has it: "qemu:nvme,drive=a,,b.img".
 */
#include "device/device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "backend/sysfs.h"

static int parse_head(struct spec *spec, const char *head, const char *whole)
{
	const char *colon = strchr(head, ':');
	size_t length = colon ? (size_t)(colon - head) : 0;

	if (sysfs_read_address(head, spec->address))
		return 0;
	if (colon) {
		if (length == 0 || length >= sizeof(spec->backend))
			return error_set(EINVAL, "'%s' names no backend before its colon", whole);
		memcpy(spec->backend, head, length);
		head = colon + 1;
	}
	if (strlen(head) >= sizeof(spec->address))
		return error_set(EINVAL, "the address in '%s' is longer than %zu characters", whole,
				 sizeof(spec->address) - 1);
	if (!sysfs_read_address(head, spec->address))
		strcpy(spec->address, head);
	return 0;
}

/* Each adds a thing. */
static bool may_be_repeated(const char *key)
{
	return strcmp(key, "child") == 0 || strcmp(key, "blockdev") == 0;
}

static int parse_option(struct spec *spec, char *text, const char *whole)
{
	char *equals = strchr(text, '=');

	if (!equals || equals == text)
		return error_set(EINVAL, "'%s' in '%s' is not key=value", text, whole);
	*equals = '\0';
	if (strchr(text, ','))
		return error_set(
			EINVAL,
			"the key '%s' in '%s' has a comma: only an address and a value can "
			"have commas, each written twice (dmaland_spec_quote())",
			text, whole);
	if (spec_get(spec, text) && !may_be_repeated(text))
		return error_set(EINVAL, "'%s=' is given twice in '%s': leave one of them out",
				 text, whole);
	spec->options[spec->option_count++] = (struct spec_option){text, equals + 1};
	return 0;
}

int spec_parse(struct spec *spec, const char *text)
{
	size_t commas = 0;
	char *field, *next;
	int err;

	memset(spec, 0, sizeof(*spec));
	if (!text || !text[0])
		return error_set(EINVAL, "an empty spec; one is [backend:]address[,key=value...]");
	for (const char *c = text; *c; c++)
		commas += *c == ',';
	spec->text = strdup(text);
	spec->options = calloc(commas + 1, sizeof(*spec->options));
	if (!spec->text || !spec->options) {
		err = error_set(ENOMEM, "no memory for a spec");
		goto fail;
	}
	field = spec->text;
	next = text_field_end(field);
	err = parse_head(spec, field, text);
	while (!err && next) {
		field = next;
		next = text_field_end(field);
		err = parse_option(spec, field, text);
	}
	if (!err && strcmp(spec->backend, "pci") == 0)
		err = spec_find(spec);
	if (!err)
		return 0;
fail:
	spec_fini(spec);
	return err;
}

void spec_fini(struct spec *spec)
{
	free(spec->text);
	free(spec->options);
}

size_t dmaland_spec_quote(char *text, size_t size, const char *value)
{
	size_t length = 0;

	for (; *value; value++)
		for (int copies = *value == ',' ? 2 : 1; copies; copies--, length++)
			if (length + 1 < size)
				text[length] = *value;
	if (size)
		text[length < size ? length : size - 1] = '\0';
	return length;
}

const char *const device_keys[DEVICE_KEYS] = {
	[KEY_TRUSTED] = "trusted",	 [KEY_UNMAP] = "unmap",
	[KEY_LAZY_COUNT] = "lazy_count", [KEY_LAZY_MS] = "lazy_ms",
	[KEY_COPY_BELOW] = "copy_below", [KEY_NO_SYSCALLS] = "no_syscalls",
	[KEY_DMA_DEBUG] = "dma_debug",
};

const char *spec_take(struct spec *spec, const char *key)
{
	const char *value = NULL;
	size_t kept = 0;

	for (size_t i = 0; i < spec->option_count; i++) {
		if (strcmp(spec->options[i].key, key) == 0)
			value = spec->options[i].value;
		else
			spec->options[kept++] = spec->options[i];
	}
	spec->option_count = kept;
	return value;
}

static bool backend_takes(const struct backend *backend, const char *key)
{
	for (const char *const *known = backend->keys; *known; known++)
		if (strcmp(*known, key) == 0)
			return true;
	return backend->any_key;
}

int spec_check_keys(const struct spec *spec, const struct backend *backend)
{
	const char *key = NULL;
	char there[256];
	size_t used = 0;

	for (size_t i = 0; i < spec->option_count && !key; i++)
		if (!backend_takes(backend, spec->options[i].key))
			key = spec->options[i].key;
	if (!key)
		return 0;
	for (size_t i = 0; backend->keys[i]; i++)
		used += (size_t)snprintf(there + used, sizeof(there) - used, "%s, ",
					 backend->keys[i]);
	for (size_t i = 0; i < DEVICE_KEYS; i++)
		used += (size_t)snprintf(there + used, sizeof(there) - used, "%s%s", i ? ", " : "",
					 device_keys[i]);
	return error_set(EINVAL, "%s: there is no option '%s'; there are: %s", backend->name, key,
			 there);
}
