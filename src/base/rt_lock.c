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
	lock->slept = lock->napping = false;
	pthread_spin_init(&lock->word, PTHREAD_PROCESS_PRIVATE);
	return mutex_init_inherit(&lock->sleepers);
}

void rt_lock_destroy(struct rt_lock *lock)
{
	pthread_mutex_destroy(&lock->sleepers);
	pthread_spin_destroy(&lock->word);
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

bool rt_lock_try(struct rt_lock *lock)
{
	for (unsigned int tries = RT_LOCK_TRIES; tries--; spin_relax())
		if (!pthread_spin_trylock(&lock->word))
			return true;
	return false;
}

void rt_lock_take(struct rt_lock *lock)
{
	pthread_mutex_lock(&lock->sleepers);
	while (!rt_lock_try(lock)) {
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
	pthread_spin_unlock(&lock->word);
	if (slept)
		pthread_mutex_unlock(&lock->sleepers);
}
