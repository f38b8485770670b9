/* SPDX-License-Identifier: MIT */
/*
 * test_qmp.c - which of the lines that QEMU's monitor sends is the answer
 *
 * The test is QEMU: what it will say is in the socket before it is asked.
 */
#include "test.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backend/qmp.h"

#define TIME_ENOUGH 20000
#define EVENT	    "{\"event\": \"RTC_CHANGE\", \"data\": {\"id\": 2}}\r\n"

static struct {
	struct qmp qmp;
	int ours, theirs;
} monitor;

static void say(const char *text)
{
	assert_int_equal(write(monitor.theirs, text, strlen(text)), strlen(text));
}

static int monitor_open(void **state)
{
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	monitor.ours = pair[0];
	monitor.theirs = pair[1];
	say("{\"QMP\": {\"version\": {}}}\r\n{\"return\": {}, \"id\": 1}\r\n");
	assert_int_equal(qmp_init(&monitor.qmp, monitor.ours, TIME_ENOUGH), 0);
	return 0;
}

static int monitor_close(void **state)
{
	(void)state;
	qmp_fini(&monitor.qmp);
	close(monitor.ours);
	close(monitor.theirs);
	return 0;
}

static void expect_answer(const char *expected)
{
	const char *text;

	assert_int_equal(qmp_execute(&monitor.qmp, NULL, "info", TIME_ENOUGH, &text), 0);
	assert_string_equal(text, expected);
}

static void an_error_is_an_answer_and_the_next_command_has_its_own(void **state)
{
	const char *text;

	(void)state;
	say("{\"id\": 2, \"error\": {\"class\": \"GenericError\", \"desc\": \"no such thing\"}}\r\n"
	    "{\"return\": \"second\", \"id\": 3}\r\n");
	assert_int_equal(qmp_execute(&monitor.qmp, NULL, "first", TIME_ENOUGH, &text), -EINVAL);
	assert_error_says("no such thing");
	expect_answer("second");
}

/* Of one request QEMU complains several times, and has begun to read the next one as its rest. */
static void what_qemu_could_not_read_is_over_before_the_next_command(void **state)
{
	static const char complaint[] = "{\"error\": {\"class\": \"GenericError\", \"desc\": "
					"\"JSON parse error, expecting value\"}}\r\n";
	const char *text;

	(void)state;
	say("{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error, stray "
	    "'-k'\"}}\r\n");
	say(complaint);
	say(EVENT);
	say(complaint);
	say("{\"return\": {}, \"id\": 3}\r\n{\"return\": \"second\", \"id\": 4}\r\n");
	assert_int_equal(qmp_execute(&monitor.qmp, "device_add", "{-k}", TIME_ENOUGH, &text),
			 -EINVAL);
	assert_error_says("stray '-k'");
	expect_answer("second");
}

static void an_answer_that_comes_late_is_not_taken_for_the_next_ones(void **state)
{
	const char *text;

	(void)state;
	assert_int_equal(qmp_execute(&monitor.qmp, NULL, "first", 1, &text), -ETIMEDOUT);
	say(EVENT "{\"return\": \"late\", \"id\": 2}\r\n{\"return\": \"in \\\"id\\\": 9 time\", "
		  "\"id\": 3}\r\n");
	expect_answer("in \"id\": 9 time");
}

static void an_answer_that_comes_late_can_be_waited_for(void **state)
{
	const char *text;

	(void)state;
	say("{\"return\": \"la");
	assert_int_equal(qmp_execute(&monitor.qmp, NULL, "first", 1, &text), -ETIMEDOUT);
	assert_int_equal(qmp_answer(&monitor.qmp, 1, &text), -ETIMEDOUT);
	say("te\", \"id\": 2}\r\n");
	assert_int_equal(qmp_answer(&monitor.qmp, TIME_ENOUGH, &text), 0);
	assert_string_equal(text, "late");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			an_error_is_an_answer_and_the_next_command_has_its_own, monitor_open,
			monitor_close),
		cmocka_unit_test_setup_teardown(
			what_qemu_could_not_read_is_over_before_the_next_command, monitor_open,
			monitor_close),
		cmocka_unit_test_setup_teardown(
			an_answer_that_comes_late_is_not_taken_for_the_next_ones, monitor_open,
			monitor_close),
		cmocka_unit_test_setup_teardown(an_answer_that_comes_late_can_be_waited_for,
						monitor_open, monitor_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
