/* SPDX-License-Identifier: MIT */
/*
 * qemu_refusal.c - QEMU's words for a refusal, as an error with its usual cure
 */
#include "backend/qemu_refusal.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"

/* Its monitor takes no keys with a dot as text, which are those of dgram and stream. */
#define NETDEV_CURE                                                                                \
	"a card that joins a machine wants netdev=dgram and netdev=stream as JSON, as QEMU's "     \
	"netdev_add takes it; or let it be the first device of its machine"

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
	{"not available for", EBUSY,
	 "the slot is taken by another device: close all devices of the machine first"},
	{"valid device model name", ENODEV, "`qemu-system-x86_64 -device help` lists the models"},
	{".addr' not found", ENODEV, "only models of PCI devices can be used"},
	{"does not support hotplugging", ENODEV,
	 "QEMU takes it when it starts, and not later: let it be the first device of its machine"},
	{"can not be hotplugged", ENODEV,
	 "QEMU takes it when it starts, and not later: let it be the first device of its machine"},
	{"pluggable device type", ENODEV,
	 "QEMU takes it when it starts, if at all: let it be the first device of its machine"},
	{"can't go on", ENODEV, "the model has no bus for such a child"},
	{"' bus found", ENODEV, "a model is of a PCI device, a child of one that its bus takes"},
	{"Bus '", ENODEV, "the model has no bus for such a child"},
	{"Parameter 'type' is missing", EINVAL, NETDEV_CURE},
	{"Invalid parameter 'local.", EINVAL, NETDEV_CURE},
	{"Invalid parameter 'remote.", EINVAL, NETDEV_CURE},
	{"Invalid parameter 'addr.", EINVAL, NETDEV_CURE},
	{"' not found", EINVAL, "`qemu-system-x86_64 -device MODEL,help` lists the properties"},
	{"not set", EINVAL, "add it to the spec as key=value"},
};

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

int qemu_refusal_error(const char *text, const char *file)
{
	char words[600];

	words_clean(text, words, sizeof(words));
	if (strstr(words, "\" lock") && file)
		return error_set(EBUSY,
				 "%s is used by another process (or by another device of this "
				 "one): %s: close it there first",
				 file, words);
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		if (strstr(words, refusals[i].words))
			return error_set(refusals[i].code, "%s: %s", words, refusals[i].cure);
	return error_set(EINVAL, "QEMU refuses it: %s", words[0] ? words : "(without a word)");
}
