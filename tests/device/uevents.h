/* SPDX-License-Identifier: MIT */
/*
 * uevents.h - what the kernel tells of devices that come and go
 */
#ifndef TESTS_DEVICE_UEVENTS_H
#define TESTS_DEVICE_UEVENTS_H

#include <stdbool.h>

/* A socket, open before what is waited for; to be closed. */
int uevents_open(void);

/* Wait so long, or until the kernel has removed a PCI device. */
bool is_removed_within(int uevents, const char *address, int ms);

#endif
