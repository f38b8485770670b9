/* SPDX-License-Identifier: MIT */
/*
 * fork.c - no fork() between a file's opening and its being known
 *
 * A count of those who hold forks back, and of forks that wait until there are none. Those go first, so that
 * who opens and closes without a break does not keep them out. A fork has the lock until it is over, and so
 * finds it its own in the child, too.
 */
#include "base/fork.h"

#include <pthread.h>

#include "base/log.h"
#include "base/mutex.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned int holders, forks;
static _Thread_local unsigned int holds;

void fork_hold(void)
{
	log_hold();
	cancel_hold();
	if (holds++ > 0)
		return;
	pthread_mutex_lock(&lock);
	while (forks > 0)
		pthread_cond_wait(&changed, &lock);
	holders++;
	pthread_mutex_unlock(&lock);
}

void fork_release(void)
{
	if (--holds == 0) {
		pthread_mutex_lock(&lock);
		if (--holders == 0)
			pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
	}
	cancel_release();
	log_release();
}

/* fork() is no cancellation point, and waits here. */
void fork_before(void)
{
	cancel_hold();
	pthread_mutex_lock(&lock);
	forks++;
	while (holders > 0)
		pthread_cond_wait(&changed, &lock);
}

void fork_in_parent(void)
{
	forks--;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	cancel_release();
}

/* Those who wait are the parent's. */
void fork_in_child(void)
{
	forks = 0;
	changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
	pthread_mutex_unlock(&lock);
	cancel_release();
}
