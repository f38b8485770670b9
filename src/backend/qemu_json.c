/* SPDX-License-Identifier: MIT */
/*
 * qemu_json.c - what must be known of JSON that a spec hands on to QEMU
 */
#include "backend/qemu_json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

int qemu_json_check(const char *text)
{
	unsigned int depth = 0;
	const char *at = text;

	do {
		if (*at == '"' || *at == '\'') { /* QEMU takes both */
			char quote = *at++;

			for (; *at && *at != quote; at++)
				at += *at == '\\' && at[1];
		}
		if (!*at)
			return error_set(EINVAL, "%s is JSON that does not end", text);
		depth += *at == '{' || *at == '[';
		depth -= *at == '}' || *at == ']';
	} while (at++, depth);
	if (at[strspn(at, " \t\r\n")])
		return error_set(EINVAL, "%s is JSON that goes on behind its end", text);
	return 0;
}

void qemu_json_node_name(const char *json, char *name, size_t size)
{
	unsigned int depth = 0;

	name[0] = '\0';
	for (const char *at = json; *at; at++) {
		const char *string = at + 1;
		char quote = *at;

		depth += *at == '{' || *at == '[';
		depth -= *at == '}' || *at == ']';
		if (quote != '"' && quote != '\'')
			continue;
		for (at++; *at && *at != quote; at++)
			at += *at == '\\' && at[1];
		if (!*at)
			return;
		if (depth != 1 || at - string != 9 || strncmp(string, "node-name", 9))
			continue;
		string = at + 1 + strspn(at + 1, " \t\r\n:");
		if (*string == '"' || *string == '\'')
			snprintf(name, size, "%.*s", (int)strcspn(string + 1, "\"'"), string + 1);
		return;
	}
}
