/* SPDX-License-Identifier: MIT */
/*
 * test_file.c - files are waited for, however many the program may open yet
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"

static struct rlimit before;

/* poll() is refused from now on, or not. */
static void files_limit(bool limit)
{
	struct rlimit none = {0, before.rlim_max};
	struct pollfd file = {.fd = -1};

	assert_int_equal(setrlimit(RLIMIT_NOFILE, limit ? &none : &before), 0);
	assert_int_equal(poll(&file, 1, 0), limit ? -1 : 0);
}

static int setup(void **state)
{
	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	files_limit(false);
	return 0;
}

/* What n files of a pair are said to be ready for. */
static void expect(struct pollfd *files, unsigned int n, int timeout, const short *revents)
{
	int ready = 0;

	for (unsigned int i = 0; i < n; i++) {
		files[i].revents = -1;
		ready += revents[i] != 0;
	}
	assert_int_equal(file_poll(files, n, timeout), ready);
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(files[i].revents, revents[i]);
}

static void files_are_waited_for(bool limit)
{
	int pair[2];
	char byte = 'x';

	assert_int_equal(file_socketpair(pair), 0);
	files_limit(limit);
	{
		struct pollfd files[] = {{.fd = pair[0], .events = POLLIN},
					 {.fd = -1, .events = POLLIN},
					 {.fd = pair[1], .events = POLLOUT},
					 {.fd = pair[1], .events = POLLIN}};

		expect(files, 4, 0, (const short[]){0, 0, POLLOUT, 0});
		expect(files, 2, 1, (const short[]){0, 0});
		assert_int_equal(write(pair[1], &byte, 1), 1);
		expect(files, 4, -1, (const short[]){POLLIN, 0, POLLOUT, 0});
		expect(files, 1, -1, (const short[]){POLLIN});
		assert_int_equal(read(pair[0], &byte, 1), 1);
		close(pair[1]);
		assert_int_equal(file_poll(files, 1, -1), 1); /* its end */
		assert_true(files[0].revents & POLLIN);
	}
	close(pair[0]);
}

static void poll_is_what_waits(void **state)
{
	(void)state;
	files_are_waited_for(false);
}

static void a_limit_below_the_files_that_are_open_is_in_nobodys_way(void **state)
{
	(void)state;
	files_are_waited_for(true);
}

static void a_number_above_all_that_is_looked_at_is_refused(void **state)
{
	struct pollfd file = {.fd = 65536, .events = POLLIN};

	(void)state;
	files_limit(true);
	assert_int_equal(file_poll(&file, 1, 0), -1);
	assert_int_equal(errno, EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(poll_is_what_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_limit_below_the_files_that_are_open_is_in_nobodys_way, setup, teardown),
		cmocka_unit_test_setup_teardown(a_number_above_all_that_is_looked_at_is_refused,
						setup, teardown),
	};

	return cmocka_run_group_tests_name("files", tests, NULL, NULL);
}
