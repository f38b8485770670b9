/* SPDX-License-Identifier: MIT */
/*
 * test_thread_numbers.c - base/thread.c: each thread has a number of its own as long as it lives, and later ones have it after
 */
#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/thread.h"

static uint32_t number_of_mine(void)
{
	return (uint32_t)(thread_offset / THREAD_STRIDE);
}

static void *take_one(void *context)
{
	*(uint32_t *)context = thread_number_take() ? number_of_mine() : 0;
	return NULL;
}

static uint32_t number_of_a_thread(void)
{
	uint32_t number;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, take_one, &number), 0);
	pthread_join(thread, NULL);
	return number;
}

static void a_thread_keeps_its_number(void **state)
{
	uint32_t number;

	(void)state;
	assert_true(thread_number_take());
	number = number_of_mine();
	assert_in_range(number, 1, thread_numbers() - 1);
	assert_int_equal(thread_offset % THREAD_STRIDE, 0);
	for (int i = 0; i < 100; i++) {
		assert_true(thread_number_take());
		assert_int_equal(number_of_mine(), number);
		assert_int_not_equal(number_of_a_thread(), number);
	}
	assert_false(thread_number_inherit(number)); /* nor does it inherit from itself */
}

static void the_number_of_a_thread_that_ended_is_had_again(void **state)
{
	uint32_t numbers;

	(void)state;
	assert_int_not_equal(number_of_a_thread(), 0);
	numbers = thread_numbers();
	for (int i = 0; i < 3 * THREADS; i++)
		assert_in_range(number_of_a_thread(), 1, numbers - 1);
	assert_int_equal(thread_numbers(), numbers);
}

static void the_living_inherit_from_the_dead_alone_and_one_at_a_time(void **state)
{
	uint32_t number = number_of_a_thread(), other;

	(void)state;
	assert_false(thread_number_inherit(0));
	assert_false(thread_number_inherit(thread_numbers()));
	assert_true(thread_number_inherit(number));
	assert_false(thread_number_inherit(number));
	other = number_of_a_thread(); /* is not given that one meanwhile */
	assert_int_not_equal(other, number);
	thread_number_release(number);
	assert_true(thread_number_inherit(number));
	thread_number_release(number);
}

/* ---- all at once ---- */

enum { CROWD = THREADS + 100 };

static pthread_barrier_t barrier;

static void *take_one_and_stay(void *context)
{
	take_one(context);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	return NULL;
}

static void crowd_start(pthread_t *threads, uint32_t *numbers)
{
	pthread_attr_t attr;

	pthread_barrier_init(&barrier, NULL, CROWD + 1);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 << 10);
	for (size_t i = 0; i < CROWD; i++)
		assert_int_equal(pthread_create(&threads[i], &attr, take_one_and_stay, &numbers[i]),
				 0);
	pthread_attr_destroy(&attr);
	pthread_barrier_wait(&barrier);
}

static void crowd_end(pthread_t *threads)
{
	pthread_barrier_wait(&barrier);
	for (size_t i = 0; i < CROWD; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&barrier);
}

/* Twice: the second crowd has the numbers of the first. */
static void no_two_threads_that_live_have_the_same(void **state)
{
	static pthread_t threads[CROWD];
	static uint32_t numbers[CROWD];

	(void)state;
	assert_true(thread_number_take());
	for (int round = 0; round < 2; round++) {
		bool taken[THREADS] = {[0] = true};
		size_t without = 0;

		taken[number_of_mine()] = true;
		crowd_start(threads, numbers);
		assert_int_equal(thread_numbers(), THREADS);
		for (size_t i = 0; i < CROWD; i++) {
			assert_in_range(numbers[i], 0, THREADS - 1);
			assert_false(numbers[i] && taken[numbers[i]]);
			taken[numbers[i]] = true;
			without += !numbers[i];
		}
		/* All are made at first. Of the second, each looks at a few, and does without if those are taken. */
		if (round == 0)
			assert_int_equal(without, CROWD - (THREADS - 2));
		else
			assert_in_range(without, CROWD - (THREADS - 2), CROWD / 2);
		crowd_end(threads);
	}
}

static void who_got_none_gets_one_when_others_have_ended(void **state)
{
	(void)state;
	assert_int_equal(thread_numbers(), THREADS);
	for (int i = 0; i < 100; i++)
		assert_int_not_equal(number_of_a_thread(), 0);
}

/* ---- in a child ---- */

static void in_a_child_no_number_is_had_that_a_thread_of_the_parent_had(void **state)
{
	uint32_t number = number_of_a_thread();
	int status;
	pid_t pid;

	(void)state;
	assert_true(thread_number_take());
	pid = fork();
	if (pid == 0) {
		threads_disown();
		_exit(thread_offset == 0 && !thread_number_inherit(number) &&
				      !thread_number_take() && thread_offset == 0
			      ? 0
			      : 1);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(number_of_mine()); /* the parent has what it had */
}

/* While there are numbers that no thread had, those are a child's. */
static void a_child_has_the_numbers_above(void **state)
{
	uint32_t numbers;
	int status;
	pid_t pid;

	(void)state;
	assert_true(thread_number_take());
	numbers = thread_numbers();
	pid = fork();
	if (pid == 0) {
		threads_disown();
		_exit(thread_number_take() && number_of_mine() == numbers &&
				      number_of_a_thread() == numbers + 1 &&
				      number_of_a_thread() == numbers + 1
			      ? 0
			      : 1);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thread_keeps_its_number),
		cmocka_unit_test(the_number_of_a_thread_that_ended_is_had_again),
		cmocka_unit_test(the_living_inherit_from_the_dead_alone_and_one_at_a_time),
		cmocka_unit_test(a_child_has_the_numbers_above),
		cmocka_unit_test(no_two_threads_that_live_have_the_same),
		cmocka_unit_test(who_got_none_gets_one_when_others_have_ended),
		cmocka_unit_test(in_a_child_no_number_is_had_that_a_thread_of_the_parent_had),
	};

	return cmocka_run_group_tests_name("thread numbers", tests, NULL, NULL);
}
