/* SPDX-License-Identifier: MIT */
/*
 * rt_lock.c - a lock for short sections, also beside real-time threads
 */
#include "base/rt_lock.h"

#include <errno.h>
#include <time.h>

#include "base/mutex.h"
#include "base/spin.h"

int mutex_init_inherit(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attr;
	int err = pthread_mutexattr_init(&attr);

	if (err)
		return err;
	pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
	err = pthread_mutex_init(mutex, &attr);
	pthread_mutexattr_destroy(&attr);
	return err ? pthread_mutex_init(mutex, NULL) : 0;
}

int rt_lock_init(struct rt_lock *lock)
{
	lock->word = lock->turns = lock->given_up = 0;
	lock->slept = lock->napping = false;
	return mutex_init_inherit(&lock->sleepers);
}

void rt_lock_destroy(struct rt_lock *lock)
{
	pthread_mutex_destroy(&lock->sleepers);
}

/* nanosleep() is a cancellation point; no call of the library is. */
static void nap(void)
{
	const struct timespec time = {.tv_nsec = RT_LOCK_NAP_NS};
	int before = errno;

	cancel_hold();
	nanosleep(&time, NULL);
	cancel_release();
	errno = before;
}

/* Look before the exchange: waiting does not take the line from the holder. */
static bool word_try(struct rt_lock *lock, unsigned int tries)
{
	for (; tries--; spin_relax())
		if (!__atomic_load_n(&lock->word, __ATOMIC_RELAXED) &&
		    !__atomic_exchange_n(&lock->word, 1, __ATOMIC_ACQUIRE)) {
			__atomic_store_n(&lock->turns, lock->turns + 1, __ATOMIC_RELAXED);
			return true;
		}
	return false;
}

/* A holder that was waited for in vain may be one that can't go on while the caller runs: not again so long. */
bool rt_lock_try(struct rt_lock *lock)
{
	bool in_vain = __atomic_load_n(&lock->given_up, __ATOMIC_RELAXED) ==
		       __atomic_load_n(&lock->turns, __ATOMIC_RELAXED);

	if (word_try(lock, in_vain ? RT_LOCK_TRIES_AWAKE : RT_LOCK_TRIES))
		return true;
	__atomic_store_n(&lock->given_up, __atomic_load_n(&lock->turns, __ATOMIC_RELAXED),
			 __ATOMIC_RELAXED);
	return false;
}

void rt_lock_take(struct rt_lock *lock)
{
	pthread_mutex_lock(&lock->sleepers);
	while (!word_try(lock, RT_LOCK_TRIES_AWAKE)) {
		__atomic_store_n(&lock->napping, true, __ATOMIC_RELAXED);
		nap();
	}
	__atomic_store_n(&lock->napping, false, __ATOMIC_RELAXED);
	lock->slept = true;
}

void rt_lock_try_or_take(struct rt_lock *lock)
{
	if (__atomic_load_n(&lock->napping, __ATOMIC_RELAXED) || !rt_lock_try(lock))
		rt_lock_take(lock);
}

void rt_lock_release(struct rt_lock *lock)
{
	bool slept = lock->slept;

	lock->slept = false;
	__atomic_store_n(&lock->word, 0, __ATOMIC_RELEASE);
	if (slept)
		pthread_mutex_unlock(&lock->sleepers);
}
