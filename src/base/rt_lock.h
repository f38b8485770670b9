/* SPDX-License-Identifier: MIT */
/*
 * rt_lock.h - a lock for short sections, also beside real-time threads
 *
 * Under a spinlock a SCHED_FIFO thread spins for as long as it keeps an ordinary holder off its CPU. Here
 * nobody spins for longer than a bounded number of tries. Whoever can't have the lock until then fails
 * (rt_lock_try()) or sleeps (rt_lock_take()).
 *
 *   rt_lock_take()    sleepers, a mutex --> word, the lock itself
 *   rt_lock_try()                       --> word
 *
 * The mutex is one with priority inheritance: a holder that came through it runs at the priority of those who
 * wait. A plain mutex would not do for those who may not enter the kernel: who gives it back wakes up those who
 * sleep for it, by a system call. The word wakes up nobody. Of those who sleep one at a time, the holder of the
 * mutex, looks at the word every RT_LOCK_NAP_NS. Meanwhile those who can wait do not get past it.
 */
#ifndef BASE_RT_LOCK_H
#define BASE_RT_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct rt_lock {
	uint32_t word;	   /* 1: somebody has it; tried only */
	uint32_t turns;	   /* how often somebody got it */
	uint32_t given_up; /* turn of the holder that somebody tried in vain for RT_LOCK_TRIES */
	bool slept;	   /* its holder has the mutex, too; guarded by word */
	bool napping;	   /* the mutex's holder looks at the word from time to time */
	pthread_mutex_t sleepers;
};

/*
 * How often those who may not sleep try: some 0.2 ms, in which an ordinary holder that lost its CPU may have it
 * back. Where spin_relax() takes 140 cycles, the most we know of, it is 0.46 ms at 2.5 GHz. Those who may sleep
 * do so after some 7 us, several times what the longest section takes.
 */
#define RT_LOCK_TRIES	    8192
#define RT_LOCK_TRIES_AWAKE 256
#define RT_LOCK_NAP_NS	    50000

/* A mutex with priority inheritance, or a plain one on kernels without. 0 or an error number. */
int mutex_init_inherit(pthread_mutex_t *mutex);

int rt_lock_init(struct rt_lock *lock); /* 0 or an error number */
void rt_lock_destroy(struct rt_lock *lock);

/* Sleeps where it has to wait for longer than RT_LOCK_TRIES_AWAKE. */
void rt_lock_take(struct rt_lock *lock);

/* Makes no system call. false: somebody else holds the lock, after RT_LOCK_TRIES, and fewer the next time. */
bool rt_lock_try(struct rt_lock *lock);

/* No system call but where rt_lock_try() gives up, or others sleep: for callers that can't fail. */
void rt_lock_try_or_take(struct rt_lock *lock);

/* No system call after rt_lock_try(). */
void rt_lock_release(struct rt_lock *lock);

#endif
