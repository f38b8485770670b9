/* SPDX-License-Identifier: MIT */
/*
 * qemu_json.h - what must be known of JSON that a spec hands on to QEMU
 */
#ifndef BACKEND_QEMU_JSON_H
#define BACKEND_QEMU_JSON_H

#include <stddef.h>

/*
 * Is it one object, whole, with nothing behind it? QEMU's monitor would go on to wait for the rest. What is wrong inside
 * QEMU says.
 */
int qemu_json_check(const char *text);

/* The name of a node in its description; longer ones than QEMU takes are cut. That of a node inside of it is not meant. */
void qemu_json_node_name(const char *json, char *name, size_t size);

#endif
