/* SPDX-License-Identifier: MIT */
/*
 * test_error.c - each thread has the words of its own last failure: many threads, no memory, threads that end
 */
#include "test.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"

enum { MANY = 400, AT_HAND = 256 }; /* threads; those that need no memory for it */

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);

static bool no_memory;

void *__wrap_calloc(size_t n, size_t size)
{
	if (__atomic_load_n(&no_memory, __ATOMIC_RELAXED)) {
		errno = ENOMEM;
		return NULL;
	}
	return __real_calloc(n, size);
}

static pthread_barrier_t all;

/* 0: in its own words; 1: in words that there are none; 2: wrong. */
static int failure_of(long number)
{
	char expected[64];

	snprintf(expected, sizeof(expected), "number %ld failed", number);
	errno = 0;
	if (error_set((int)number, "number %ld failed", number) != -number || errno != number)
		return 2;
	pthread_barrier_wait(&all);
	if (strcmp(dmaland_last_error(), expected) == 0)
		return 0;
	return strstr(dmaland_last_error(), "as errno says") ? 1 : 2;
}

static void *fail_by_number(void *context)
{
	return (void *)(intptr_t)failure_of((long)(intptr_t)context);
}

/* So many fail at a time. How many had no words of their own. */
static int fail_together(void)
{
	static pthread_t threads[MANY];
	int without = 0;
	void *result;

	assert_int_equal(pthread_barrier_init(&all, NULL, MANY), 0);
	for (long i = 0; i < MANY; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, fail_by_number, (void *)(i + 1)),
				 0);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(pthread_join(threads[i], &result), 0);
		assert_true((intptr_t)result < 2);
		without += (int)(intptr_t)result;
	}
	pthread_barrier_destroy(&all);
	return without;
}

static void threads_have_words_of_their_own_however_many_fail(void **state)
{
	(void)state;
	assert_int_equal(fail_together(), 0);
}

/* Again and again: what ended threads had is had by others. */
static void without_memory_so_many_have_as_are_kept_ready(void **state)
{
	(void)state;
	error_set(EIO, "this thread's");
	for (int i = 0; i < 5; i++) {
		int without;

		__atomic_store_n(&no_memory, true, __ATOMIC_RELAXED);
		without = fail_together();
		__atomic_store_n(&no_memory, false, __ATOMIC_RELAXED);
		assert_int_equal(without, MANY - (AT_HAND - 1));
		assert_string_equal(dmaland_last_error(), "this thread's");
	}
}

static pthread_key_t key;
static unsigned int rounds;

/* As of a library that cleans up when a thread ends: it fails, and is called again. */
static void fail_at_the_end(void *context)
{
	char words[64];

	snprintf(words, sizeof(words), "round %u", rounds);
	error_set(EBUSY, "%s", words);
	if (strcmp(dmaland_last_error(), words) != 0)
		return;
	if (++rounds < PTHREAD_DESTRUCTOR_ITERATIONS - 2)
		pthread_setspecific(key, context);
}

static void *fail_and_end(void *context)
{
	error_set(EIO, "before its end");
	pthread_setspecific(key, context);
	return NULL;
}

static void destructors_have_words_for_their_failures(void **state)
{
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_key_create(&key, fail_at_the_end), 0);
	assert_int_equal(pthread_create(&thread, NULL, fail_and_end, &rounds), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(rounds, PTHREAD_DESTRUCTOR_ITERATIONS - 2);
	pthread_key_delete(key);
}

static void *fail_and_wait(void *context)
{
	error_set(EIO, "cancelled in time");
	pthread_barrier_wait(context);
	for (;;)
		pause();
	return NULL;
}

static void cancelled_threads_leave_their_places_to_others(void **state)
{
	pthread_barrier_t failed;

	(void)state;
	assert_int_equal(pthread_barrier_init(&failed, NULL, 2), 0);
	__atomic_store_n(&no_memory, true, __ATOMIC_RELAXED);
	for (int i = 0; i < 2 * AT_HAND; i++) {
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, fail_and_wait, &failed), 0);
		pthread_barrier_wait(&failed);
		pthread_cancel(thread);
		pthread_join(thread, NULL);
	}
	__atomic_store_n(&no_memory, false, __ATOMIC_RELAXED);
	pthread_barrier_destroy(&failed);
	without_memory_so_many_have_as_are_kept_ready(NULL);
}

/* A child has its parent's words, and the places of its parent's other threads. */
static void a_child_keeps_its_words(void **state)
{
	struct dmaland_device *dev;
	int status;
	pid_t child;

	(void)state;
	dev = dmaland_open("soft:", NULL);
	assert_non_null(dev);
	error_set(EIO, "the parent's");
	child = fork();
	if (child == 0) {
		bool kept = strcmp(dmaland_last_error(), "the parent's") == 0;

		kept &= dmaland_check(dev) == -EPERM && strstr(dmaland_last_error(), "fork");
		_exit(!kept);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_string_equal(dmaland_last_error(), "the parent's");
	dmaland_close(dev);
}

static void what_was_kept_is_put_back(void **state)
{
	struct error_state before;

	(void)state;
	error_set(EIO, "first");
	error_prefix("%s", "in front");
	assert_string_equal(dmaland_last_error(), "in front: first");
	assert_int_equal(errno, EIO);
	error_keep(&before);
	errno = ENOENT;
	assert_int_equal(error_system("second"), -ENOENT);
	assert_string_equal(dmaland_last_error(), "second: No such file or directory");
	error_put_back(&before);
	assert_string_equal(dmaland_last_error(), "in front: first");
	assert_int_equal(errno, EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_have_words_of_their_own_however_many_fail),
		cmocka_unit_test(without_memory_so_many_have_as_are_kept_ready),
		cmocka_unit_test(destructors_have_words_for_their_failures),
		cmocka_unit_test(cancelled_threads_leave_their_places_to_others),
		cmocka_unit_test(a_child_keeps_its_words),
		cmocka_unit_test(what_was_kept_is_put_back),
	};

	return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
