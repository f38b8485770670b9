/* SPDX-License-Identifier: MIT */
/*
 * mutex.h - locks that are held across system calls, and cancellation
 *
 * pthread_cancel() ends a thread at its next cancellation point, which many system calls are. It
 * would leave the lock behind that it holds there, for good. So deferred cancellation is held off while
 * such a lock is held, and by calls that must come to their end for other reasons.
 *
 * Locks under which no system call is made are pthread's own: what maps memory must be fast.
 */
#ifndef BASE_MUTEX_H
#define BASE_MUTEX_H

#include <pthread.h>

/* May be nested. A request that comes meanwhile is acted upon at the first cancellation point after. */
void cancel_hold(void);
void cancel_release(void);

static inline void mutex_lock(pthread_mutex_t *mutex)
{
	cancel_hold();
	pthread_mutex_lock(mutex);
}

/* 0 when it has it, without waiting. */
static inline int mutex_trylock(pthread_mutex_t *mutex)
{
	int err;

	cancel_hold();
	err = pthread_mutex_trylock(mutex);
	if (err)
		cancel_release();
	return err;
}

static inline void mutex_unlock(pthread_mutex_t *mutex)
{
	pthread_mutex_unlock(mutex);
	cancel_release();
}

#endif
