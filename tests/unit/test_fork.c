/* SPDX-License-Identifier: MIT */
/*
 * test_fork.c - fork() beside handlers of the program's own
 *
 * They are set up before the first device is opened.
 */
#include "test.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the program's */
static sem_t locked, begun, over;
static bool watched;

static void before(void)
{
	if (!watched)
		return;
	sem_post(&begun);
	pthread_mutex_lock(&lock);
}

static void after(void)
{
	if (watched)
		pthread_mutex_unlock(&lock);
}

/* Holds the program's lock, and calls the library once a fork is under way. */
static void *use_library(void *context)
{
	struct dmaland_device *dev;

	pthread_mutex_lock(&lock);
	sem_post(&locked);
	sem_wait(&begun);
	dev = dmaland_open("soft:", NULL);
	*(bool *)context = dev;
	dmaland_close(dev);
	pthread_mutex_unlock(&lock);
	sem_wait(
		&over); /* ThreadSanitizer reports in a child what ended meanwhile and was not joined */
	return NULL;
}

static void a_lock_of_the_programs_handlers_may_be_held_by_who_calls_the_library(void **state)
{
	struct dmaland_device *dev = dmaland_open("soft:", NULL);
	bool opened = false;
	pthread_t thread;
	int status;
	pid_t pid;

	(void)state;
	assert_non_null(dev);
	assert_int_equal(sem_init(&locked, 0, 0), 0);
	assert_int_equal(sem_init(&begun, 0, 0), 0);
	assert_int_equal(sem_init(&over, 0, 0), 0);
	watchdog(60);
	assert_int_equal(pthread_create(&thread, NULL, use_library, &opened), 0);
	sem_wait(&locked);
	watched = true;
	pid = fork();
	if (pid == 0)
		_exit(dmaland_check(dev) ? 0 : 1);
	assert_true(pid > 0);
	watched = false;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	sem_post(&over);
	pthread_join(thread, NULL);
	assert_true(opened);
	assert_int_equal(status, 0);
	watchdog(0);
	dmaland_close(dev);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_lock_of_the_programs_handlers_may_be_held_by_who_calls_the_library),
	};

	if (pthread_atfork(before, after, after))
		return 1;
	return cmocka_run_group_tests_name("fork", tests, NULL, NULL);
}
