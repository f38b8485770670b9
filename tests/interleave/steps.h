/* SPDX-License-Identifier: MIT */
/*
 * steps.h - included before the library's own sources, it makes their small shared steps points
 * where the harness may let another thread go on
 *
 * These are the atomic loads and stores, and the locks; explore.c has what is called here. The
 * library itself knows nothing of it.
 */
#ifndef TESTS_INTERLEAVE_STEPS_H
#define TESTS_INTERLEAVE_STEPS_H

#include <pthread.h>

#include "base/rt_lock.h"

/* Another thread may go on here. */
void step(const char *where);

int step_lock(const volatile void *lock, const char *where);
int step_unlock(const volatile void *lock, const char *where);
int step_key_create(pthread_key_t *key, void (*end)(void *context));
int step_setspecific(pthread_key_t key, const void *value);

#define pthread_spin_lock(lock)	      step_lock(lock, __func__)
#define pthread_spin_unlock(lock)     step_unlock(lock, __func__)
#define pthread_mutex_lock(lock)      step_lock(lock, __func__)
#define pthread_mutex_unlock(lock)    step_unlock(lock, __func__)
#define rt_lock_take(lock)	      step_lock(lock, __func__)
#define rt_lock_release(lock)	      step_unlock(lock, __func__)
#define pthread_key_create(key, end)  step_key_create(key, end)
#define pthread_setspecific(key, new) step_setspecific(key, new)

/* The arena's locks are steps; what it does under them is not of interest here. */
#ifndef STEPS_LOCKS_ONLY

/* So that bits.h makes its racy loads atomic ones. */
#ifndef __SANITIZE_THREAD__
#define __SANITIZE_THREAD__ 1
#endif

#define __atomic_load_n(from, order)	   (step(__func__), __atomic_load_n(from, order))
#define __atomic_store_n(to, value, order) (step(__func__), __atomic_store_n(to, value, order))

#endif

#endif
