/* SPDX-License-Identifier: MIT */
/*
 * test_syscalls.c - system calls of a thread are counted, each once, and nobody else's
 */
#include "syscalls.h"

#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CALLS = 1000 };

static volatile sig_atomic_t signals;

static void signal_note(int number)
{
	(void)number;
	signals++;
}

/* Skips where this process may not be traced, or is already. */
static void begin(struct syscalls *syscalls)
{
	int code = syscalls_begin(syscalls);

	if (code == -EPERM) {
		print_message("not to be traced: %s\n", strerror(EPERM));
		skip();
	}
	assert_int_equal(code, 0);
}

static void calls_are_counted(void **state)
{
	struct syscalls syscalls;

	(void)state;
	for (int round = 0; round < 3; round++) {
		begin(&syscalls);
		for (int i = 0; i < CALLS * round; i++)
			syscall(SYS_getppid);
		assert_int_equal(syscalls_end(&syscalls), CALLS * round);
	}
}

static void *call_much(void *context)
{
	for (int i = 0; i < CALLS; i++)
		syscall(SYS_getppid);
	return context;
}

/* pthread_create() and pthread_join() are the thread's own. */
static void others_are_not(void **state)
{
	struct syscalls syscalls;
	pthread_t thread;

	(void)state;
	begin(&syscalls);
	assert_int_equal(pthread_create(&thread, NULL, call_much, NULL), 0);
	pthread_join(thread, NULL);
	assert_in_range(syscalls_end(&syscalls), 1, CALLS / 2);
}

static void a_signal_is_delivered(void **state)
{
	struct sigaction action = {.sa_handler = signal_note}, before;
	struct syscalls syscalls;

	(void)state;
	sigaction(SIGUSR1, &action, &before);
	begin(&syscalls);
	pthread_kill(pthread_self(),
		     SIGUSR1); /* getpid and tgkill, or one of them; and sigreturn */
	assert_in_range(syscalls_end(&syscalls), 2, 4);
	assert_int_equal(signals, 1);
	sigaction(SIGUSR1, &before, NULL);
}

/* Pipes and a child are given back, also when there can be none. */
static void nothing_is_left(void **state)
{
	int lowest = dup(STDOUT_FILENO), after;
	struct syscalls syscalls;

	(void)state;
	close(lowest);
	begin(&syscalls);
	assert_in_range(syscalls_end(&syscalls), 0, 0);
	after = dup(STDOUT_FILENO);
	close(after);
	assert_int_equal(after, lowest);
	assert_int_equal(waitpid(-1, NULL, 0), -1);
	assert_int_equal(errno, ECHILD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_are_counted),
		cmocka_unit_test(others_are_not),
		cmocka_unit_test(a_signal_is_delivered),
		cmocka_unit_test(nothing_is_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
