/* SPDX-License-Identifier: MIT */
/*
 * fork.c - no fork() between a file's opening and its being known
 *
 * A lock that forks take for writing. They go first, so that those who open and close without a
 * break do not keep them out.
 */
#include "base/fork.h"

#include <pthread.h>

#include "base/log.h"

static pthread_rwlock_t lock = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static _Thread_local unsigned int holds;

void fork_hold(void)
{
	log_hold();
	if (holds++ == 0)
		pthread_rwlock_rdlock(&lock);
}

void fork_release(void)
{
	if (--holds == 0)
		pthread_rwlock_unlock(&lock);
	log_release();
}

void fork_before(void)
{
	pthread_rwlock_wrlock(&lock);
}

void fork_in_parent(void)
{
	pthread_rwlock_unlock(&lock);
}

/* Held by a thread that is another one here, and has another number. */
void fork_in_child(void)
{
	lock = (pthread_rwlock_t)PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
}
