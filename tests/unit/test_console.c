/* SPDX-License-Identifier: MIT */
/*
 * test_console.c - a signal that asks the command to end is noticed whenever it comes; and what is printed
 *
 * poll(), read() and write() of console.c are the test's: it sends the signal when the command has
 * looked for one, and is about to wait. Nothing ever comes from the other end, so that a command that
 * waits all the same is ended by an alarm. So is the clock.
 */
#include "command.h" /* whose fail() is none of cmocka's */

#include "test.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
ssize_t __real_read(int fd, void *data, size_t size);
ssize_t __real_write(int fd, const void *data, size_t size);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
ssize_t __wrap_read(int fd, void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);

int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);

static time_t clock_ahead; /* s */

int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	int result = __real_clock_gettime(clock, now);

	now->tv_sec += clock_ahead;
	return result;
}

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
	size_t done;

	(void)from;
	return write_all(to, "a pipe", data, sizeof(data), &done);
}

/* Its pipe is full after one call, and that is what it says. */
static int write_deaf_at_once(int from, int to)
{
	static char data[1 << 20];
	size_t done;

	(void)from;
	if (write_all(to, "a pipe", data, sizeof(data), &done) != STATUS_SIGNAL + SIGINT)
		return 1;
	if (fcntl(to, F_GETFL) & O_NONBLOCK) /* the other end's program may have it, too */
		return 2;
	return done == (size_t)fcntl(to, F_GETPIPE_SZ) ? 0 : 3;
}

static int signals_at_once(int from, int to)
{
	(void)from, (void)to;
	raise(SIGTERM);
	raise(SIGTERM);
	raise(SIGINT);
	return signals_status();
}

static int signals_apart(int from, int to)
{
	(void)from, (void)to;
	raise(SIGTERM);
	clock_ahead = 1;
	raise(SIGINT);
	return 0;
}

static void a_signal_just_before_waiting_for_input_is_noticed(void **state)
{
	(void)state;
	for (int calls = 1; calls < 4; calls++)
		assert_int_equal(status_of(read_silent, calls), STATUS_SIGNAL + SIGINT);
}

static void a_signal_just_before_waiting_for_room_is_noticed(void **state)
{
	(void)state;
	for (int calls = 0; calls <= 2; calls++) /* poll(), write(), and the last poll() */
		assert_int_equal(status_of(write_deaf, calls), STATUS_SIGNAL + SIGINT);
}

static void a_pipe_is_filled_by_one_call(void **state)
{
	(void)state;
	assert_int_equal(status_of(write_deaf_at_once, 2), 0);
}

/* timeout(1) sends its signal to the process, and to its group. */
static void signals_that_come_together_are_one(void **state)
{
	(void)state;
	assert_int_equal(status_of(signals_at_once, -1), STATUS_SIGNAL + SIGTERM);
}

static void a_signal_that_comes_later_ends_the_process(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0) {
		signals_catch();
		_exit(signals_apart(0, 0));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGINT);
}

static void a_word_can_be_pasted_into_a_shell(void **state)
{
	static const struct {
		const char *text, *word;
	} cases[] = {
		{"/mnt/disk-1.img", "/mnt/disk-1.img"},
		{"", "''"},
		{"/mnt/my disk", "'/mnt/my disk'"},
		{"it's", "'it'\\''s'"},
		{"a;b$c", "'a;b$c'"},
		{"\x1b[2J'", "$'\\033[2J\\047'"},
		{"a\nb\\", "$'a\\012b\\134'"},
		{"caf\xc3\xa9", "'caf\xc3\xa9'"},
		{"caf\xe9", "$'caf\\351'"},
	};
	char word[64];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		shell_word(cases[i].text, word, sizeof(word));
		assert_string_equal(word, cases[i].word);
	}
}

static void a_message_has_no_control_characters(void **state)
{
	static const char wanted[] = "dmaland: process 1 (?[2J? caf\xc3\xa9 ?? ?) a b\n";
	char said[256] = "";
	int fds[2], kept = dup(STDERR_FILENO);

	(void)state;
	assert_int_equal(pipe(fds), 0);
	dup2(fds[1], STDERR_FILENO);
	(fail)("process 1 (%s) a%cb", "\x1b[2J\x7f caf\xc3\xa9 \xc2\x9b \xe9", '\n');
	dup2(kept, STDERR_FILENO);
	assert_true(read(fds[0], said, sizeof(said) - 1) > 0);
	assert_string_equal(said, wanted);
	close(kept);
	close(fds[0]);
	close(fds[1]);
}

/* As a pipe is read: in pieces of any size, from one that does not wait. */
static int copy_through(int from, int to)
{
	static char data[300000], back[sizeof(data)];
	size_t got = 0, done;
	int status;
	pid_t pid;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7 + (i >> 8));
	fcntl(to, F_SETFL, O_NONBLOCK);
	fcntl(from, F_SETFL, O_NONBLOCK);
	pid = fork();
	if (pid == 0)
		_exit(write_all(to, "a pipe", data, sizeof(data), &done));
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
		cmocka_unit_test(a_pipe_is_filled_by_one_call),
		cmocka_unit_test(signals_that_come_together_are_one),
		cmocka_unit_test(a_signal_that_comes_later_ends_the_process),
		cmocka_unit_test(a_word_can_be_pasted_into_a_shell),
		cmocka_unit_test(a_message_has_no_control_characters),
		cmocka_unit_test(without_signals_all_arrives),
	};

	return cmocka_run_group_tests_name("console", tests, NULL, NULL);
}
