/* SPDX-License-Identifier: MIT */
/*
 * mutex.c - deferred cancellation is held off
 */
#include "base/mutex.h"

#include <stdint.h>

static _Thread_local struct {
	uint16_t holds;
	uint8_t before; /* what the application had, before the first of them */
} cancel;

void cancel_hold(void)
{
	int before;

	if (cancel.holds++ > 0)
		return;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	cancel.before = (uint8_t)before;
}

void cancel_release(void)
{
	int unused;

	if (--cancel.holds == 0)
		pthread_setcancelstate(cancel.before, &unused);
}
