/* SPDX-License-Identifier: MIT */
/*
 * mutex.c - deferred cancellation is held off
 */
#include "base/mutex.h"

static _Thread_local struct {
	unsigned int holds;
	int before; /* what the application had, before the first of them */
} cancel;

void cancel_hold(void)
{
	if (cancel.holds++ == 0)
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel.before);
}

void cancel_release(void)
{
	int unused;

	if (--cancel.holds == 0)
		pthread_setcancelstate(cancel.before, &unused);
}
