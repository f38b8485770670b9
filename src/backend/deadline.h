/* SPDX-License-Identifier: MIT */
/*
 * deadline.h - a moment on the monotonic clock until which something may take
 */
#ifndef BACKEND_DEADLINE_H
#define BACKEND_DEADLINE_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

static inline struct timespec deadline_in(unsigned int ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	return t;
}

/* Milliseconds that are left, rounded up as poll() wants them; 0 when there are none. */
static inline int deadline_left(const struct timespec *deadline)
{
	struct timespec now;
	int64_t ns;

	clock_gettime(CLOCK_MONOTONIC, &now);
	ns = (int64_t)(deadline->tv_sec - now.tv_sec) * 1000000000 + deadline->tv_nsec -
	     now.tv_nsec;
	return ns <= 0 ? 0 : (int)((ns + 999999) / 1000000);
}

/* A condition variable whose timed waits take a deadline. 0 or an error number. */
static inline int deadline_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;
	int err = pthread_condattr_init(&attr);

	if (err)
		return err;
	err = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (!err)
		err = pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
	return err;
}

#endif
