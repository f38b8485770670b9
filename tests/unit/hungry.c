/* SPDX-License-Identifier: MIT */
/*
 * hungry.c - a library that has much of each thread at a fixed place
 */
#include <string.h>

static _Thread_local char hungry[1400] __attribute__((tls_model("initial-exec")));

void *hungry_use(void);

void *hungry_use(void)
{
	return memset(hungry, 1, sizeof(hungry));
}
