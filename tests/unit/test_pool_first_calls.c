/* SPDX-License-Identifier: MIT */
/*
 * test_pool_first_calls.c - a fresh thread allocates atomically, frees, and takes what it prefilled, without system calls
 *
 * It goes into strict seccomp, where the kernel ends it at any system call but read, write and exit. The
 * program made many keys before it called the library.
 */
#include "test.h"

#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool_stand.h"

enum {
	BLOCK = 64,
	EACH = 100, /* blocks that a thread takes or frees */
	KEYS = 100,
	LIMIT = 1 << 20,
	ROOM = LIMIT / BLOCK + 1,
};

static struct dma_pool *pool;
static int answers[2];
static struct blocks mine, others;
static bool prefilled, exhausted; /* awaited without system calls */

static void go_without_system_calls(void)
{
	if (!SANITIZED) /* these make some of their own */
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
}

static void answer(bool yes)
{
	char c = yes ? 'y' : 'n';

	if (write(answers[1], &c, 1) != 1 || !SANITIZED)
		syscall(SYS_exit, 0); /* what ends a thread otherwise makes more calls */
}

static void *allocate_atomically(void *context)
{
	size_t n;

	go_without_system_calls();
	n = blocks_take(&mine, EACH, GFP_ATOMIC);
	blocks_give(&mine, EACH);
	answer(n == EACH);
	return context;
}

static void *free_alone(void *context)
{
	size_t n = mine.count;

	go_without_system_calls();
	blocks_give(&mine, n);
	answer(n == EACH);
	return context;
}

/* All blocks of the pool are this thread's; it frees some and prefills as many. So it has not one more. */
static void *take_what_was_prefilled(void *context)
{
	bool ok;

	blocks_take(&mine, ROOM, GFP_KERNEL);
	blocks_give(&mine, EACH);
	ok = dmaland_pool_prefill(pool, EACH) == 0;
	__atomic_store_n(&prefilled, true, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&exhausted, __ATOMIC_ACQUIRE))
		;
	go_without_system_calls();
	ok = ok && blocks_take(&mine, EACH, GFP_ATOMIC) == EACH;
	ok = ok && blocks_take(&mine, 1, GFP_ATOMIC) == 0;
	blocks_give(&mine, mine.count);
	answer(ok);
	return context;
}

/* Another thread takes all that it can get, between a prefill and its use. */
static void *take_the_rest(void *context)
{
	while (!__atomic_load_n(&prefilled, __ATOMIC_ACQUIRE))
		;
	blocks_take(&others, ROOM, GFP_KERNEL);
	blocks_give(&others, others.count);
	__atomic_store_n(&exhausted, true, __ATOMIC_RELEASE);
	return context;
}

/* The library is not called before all of the program's keys are made. */
static int child(void *(*f)(void *))
{
	struct pollfd wait = {.fd = answers[0], .events = POLLIN};
	pthread_key_t key;
	pthread_t thread;
	char c = '?';

	for (int i = 0; i < KEYS; i++)
		if (pthread_key_create(&key, NULL))
			return 1;
	pool = dma_pool_create("first calls", stand_open(LIMIT, false), BLOCK, 0, 0);
	if (!pool)
		return 1;
	mine = blocks_make(pool, ROOM);
	others = blocks_make(pool, ROOM);
	if (f == free_alone && blocks_take(&mine, EACH, GFP_KERNEL) != EACH)
		return 2;
	if (pthread_create(&thread, NULL, f, NULL))
		return 3;
	if (f == take_what_was_prefilled)
		thread_run(take_the_rest, NULL);
	if (poll(&wait, 1, (int)patience(20000)) != 1 || read(answers[0], &c, 1) != 1)
		return 4;
	if (SANITIZED) /* without, it never says that it has ended */
		pthread_join(thread, NULL);
	if (c != 'y')
		return 5;
	return stand_stats(pool).in_use == 0 && stand_stats(pool).bad_frees == 0 ? 0 : 6;
}

static void run_child(void *(*f)(void *))
{
	int status;
	pid_t pid;

	assert_int_equal(pipe(answers), 0);
	pid = fork();
	if (pid == 0)
		_exit(child(f));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(answers[0]);
	close(answers[1]);
}

static void the_first_call_of_a_thread_may_be_atomic_with_many_keys_before(void **state)
{
	(void)state;
	run_child(allocate_atomically);
}

static void a_thread_may_free_alone_with_many_keys_before(void **state)
{
	(void)state;
	run_child(free_alone);
}

static void what_was_prefilled_is_had_without_a_system_call(void **state)
{
	(void)state;
	run_child(take_what_was_prefilled);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_call_of_a_thread_may_be_atomic_with_many_keys_before),
		cmocka_unit_test(a_thread_may_free_alone_with_many_keys_before),
		cmocka_unit_test(what_was_prefilled_is_had_without_a_system_call),
	};

	return cmocka_run_group_tests_name("pool, first calls", tests, NULL, NULL);
}
