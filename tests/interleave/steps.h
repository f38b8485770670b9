/* SPDX-License-Identifier: MIT */
/*
 * steps.h - included before the library's own sources, it makes their small shared steps points
 * where the harness may let another thread go on
 *
 * These are the atomic operations, and the locks; explore.c has what is called here. The library
 * itself knows nothing of it. Memory is as if each step was seen by all at once, so a barrier is a
 * step, and no more.
 *
 * A step can be left out, to see that this is found.
 */
#ifndef TESTS_INTERLEAVE_STEPS_H
#define TESTS_INTERLEAVE_STEPS_H

#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>

/* So that bits.h makes its racy loads atomic ones. */
#if !defined(STEPS_LOCKS_ONLY) && !defined(__SANITIZE_THREAD__)
#define __SANITIZE_THREAD__ 1
#endif

#include "base/bits.h"
#include "base/mutex.h"
#include "base/rt_lock.h"
#include "base/spin.h"

/* Another thread may go on here, before this word is read or written. */
void step(const volatile void *address, const char *where);

/* Another thread has to go on here, if one can. */
void step_wait(const char *where);

/* This kind of step is left out of this function. */
bool step_left_out(const char *where, const char *what);

int step_lock(const volatile void *lock, const char *where);
int step_trylock(const volatile void *lock, const char *where);
int step_unlock(const volatile void *lock, const char *where);

#define pthread_mutex_lock(lock)   step_lock(lock, __func__)
#define pthread_mutex_unlock(lock) step_unlock(lock, __func__)
#define mutex_lock(lock)	   step_lock(lock, __func__)
#define mutex_trylock(lock)	   step_trylock(lock, __func__)
#define mutex_unlock(lock)	   step_unlock(lock, __func__)
#define rt_lock_take(lock)	   step_lock(lock, __func__)
#define rt_lock_try(lock)	   (!step_lock(lock, __func__))
#define rt_lock_try_or_take(lock)  step_lock(lock, __func__)
#define rt_lock_release(lock)	   step_unlock(lock, __func__)

/* The arena's locks are steps; what it does under them is not of interest here. */
#ifndef STEPS_LOCKS_ONLY

#define spin_relax() step_wait(__func__)

/* membarrier(2) is the only one. */
#define syscall(...)		     (step(NULL, __func__), 0L)
#define __atomic_thread_fence(order) step(NULL, __func__)
#define __atomic_signal_fence(order) __asm__ volatile("" ::: "memory")

#define __atomic_load_n(from, order)                                                               \
	(step(from, __func__),                                                                     \
	 step_left_out(__func__, #from) ? (__typeof__(*(from)))0 : __atomic_load_n(from, order))
#define __atomic_store_n(to, value, order) (step(to, __func__), __atomic_store_n(to, value, order))
#define __atomic_exchange_n(at, value, order)                                                      \
	(step(at, __func__), __atomic_exchange_n(at, value, order))
#define __atomic_fetch_add(at, value, order)                                                       \
	(step(at, __func__), __atomic_fetch_add(at, value, order))
#define __atomic_fetch_sub(at, value, order)                                                       \
	(step(at, __func__), __atomic_fetch_sub(at, value, order))
#define __atomic_fetch_or(at, value, order)                                                        \
	(step(at, __func__), __atomic_fetch_or(at, value, order))
#define __atomic_add_fetch(at, value, order)                                                       \
	(step(at, __func__), __atomic_add_fetch(at, value, order))

/* A weak one does not fail without a reason: schedules could not be repeated. */
#define __atomic_compare_exchange_n(at, expected, value, weak, order, failed)                      \
	(step(at, __func__),                                                                       \
	 __atomic_compare_exchange_n(at, expected, STEP_VALUE(value), false, order, failed))
#define STEP_VALUE(value) (value)

#endif

#endif
