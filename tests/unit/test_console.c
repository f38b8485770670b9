/* SPDX-License-Identifier: MIT */
/*
 * test_console.c - a signal that asks the command to end is noticed whenever it comes
 *
 * poll(), read() and write() of console.c are the test's: it sends the signal when the command has
 * looked for one, and is about to wait. Nothing ever comes from the other end, so that a command that
 * waits all the same is ended by an alarm.
 */
#include "command.h" /* whose fail() is none of cmocka's */

#include "test.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
ssize_t __real_read(int fd, void *data, size_t size);
ssize_t __real_write(int fd, const void *data, size_t size);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
ssize_t __wrap_read(int fd, void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);

static int calls_left = -1; /* until the signal comes; below 0: never */

static void maybe_signal(void)
{
	if (calls_left >= 0 && calls_left-- == 0)
		raise(SIGINT);
}

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
	maybe_signal();
	return __real_poll(fds, n, timeout);
}

ssize_t __wrap_read(int fd, void *data, size_t size)
{
	maybe_signal();
	return __real_read(fd, data, size);
}

ssize_t __wrap_write(int fd, const void *data, size_t size)
{
	maybe_signal();
	return __real_write(fd, data, size);
}

/* What it returns in a process of its own, with a pipe to or from whose other end nothing happens. */
static int status_of(int (*act)(int from, int to), int calls)
{
	int fds[2], status;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		watchdog(60);
		signals_catch();
		calls_left = calls;
		_exit(act(fds[0], fds[1]));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(fds[0]);
	close(fds[1]);
	if (!WIFEXITED(status))
		fail_msg("signal %d before call %d: %d", SIGINT, calls, WTERMSIG(status));
	return WEXITSTATUS(status);
}

static int read_silent(int from, int to)
{
	char data[100];
	size_t got;

	if (write(to, "some", 4) != 4)
		return 1;
	return read_full(from, "a pipe", data, sizeof(data), &got);
}

static int write_deaf(int from, int to)
{
	static char data[1 << 20];

	(void)from;
	return write_all(to, "a pipe", data, sizeof(data));
}

static void a_signal_just_before_waiting_for_input_is_noticed(void **state)
{
	(void)state;
	for (int calls = 1; calls < 4; calls++)
		assert_int_equal(status_of(read_silent, calls), STATUS_SIGNAL + SIGINT);
}

static void a_signal_just_before_waiting_for_room_is_noticed(void **state)
{
	int fds[2], pieces;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	pieces = fcntl(fds[1], F_GETPIPE_SZ) / PIPE_BUF;
	close(fds[0]);
	close(fds[1]);
	assert_true(pieces > 0);
	for (int calls = 0; calls <= 2 * pieces; calls++) /* two a piece, and a last poll() */
		assert_int_equal(status_of(write_deaf, calls), STATUS_SIGNAL + SIGINT);
}

/* As a pipe is read: in pieces of any size, from one that does not wait. */
static int copy_through(int from, int to)
{
	static char data[300000], back[sizeof(data)];
	size_t got = 0;
	int status;
	pid_t pid;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7 + (i >> 8));
	fcntl(to, F_SETFL, O_NONBLOCK);
	fcntl(from, F_SETFL, O_NONBLOCK);
	pid = fork();
	if (pid == 0)
		_exit(write_all(to, "a pipe", data, sizeof(data)));
	close(to);
	if (read_full(from, "a pipe", back, sizeof(back), &got) || got != sizeof(back))
		return 2;
	if (waitpid(pid, &status, 0) != pid || status)
		return 3;
	return memcmp(data, back, sizeof(data)) ? 4 : 0;
}

static void without_signals_all_arrives(void **state)
{
	(void)state;
	assert_int_equal(status_of(copy_through, -1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_signal_just_before_waiting_for_input_is_noticed),
		cmocka_unit_test(a_signal_just_before_waiting_for_room_is_noticed),
		cmocka_unit_test(without_signals_all_arrives),
	};

	return cmocka_run_group_tests_name("console", tests, NULL, NULL);
}
