/* SPDX-License-Identifier: MIT */
/*
 * test_annotate.c - AddressSanitizer and Valgrind know which blocks are free
 *
 * The programs that misbehave are children: tests/annotate/use_after_free.c.
 */
#include "test.h"

#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static char output[65536];

/* What the child says, in output[]; its exit status. */
static int run_child(const char *before, const char *program, const char *what)
{
	char self[PATH_MAX], command[2 * PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	size_t used;
	int status;
	FILE *pipe;

	assert_true(n > 0);
	self[n] = '\0';
	snprintf(command, sizeof(command), "%s '%s/../annotate/%s' %s 2>&1", before, dirname(self),
		 program, what);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	used = fread(output, 1, sizeof(output) - 1, pipe);
	output[used] = '\0';
	status = pclose(pipe);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void expect_output(const char *text)
{
	if (!strstr(output, text))
		fail_msg("the child's output lacks '%s':\n%s", text, output);
}

/* The line that the child announced is the one that is reported. */
static void expect_line(void)
{
	char text[64];

	snprintf(text, sizeof(text), "use_after_free.c:%d", atoi(output));
	assert_true(atoi(output) > 0);
	expect_output(text);
}

static void expect_quiet(int status)
{
	if (status != 0 || output[0])
		fail_msg("status %d, and output:\n%s", status, output);
}

static const char *const asan = "ASAN_OPTIONS=exitcode=9:allow_addr2line=1";
static const char *const asan_debug =
	"ASAN_OPTIONS=exitcode=9:allow_addr2line=1 DMALAND_POOL_DEBUG=1";

static void asan_programs_are_told_of(const char *what)
{
	static const char *const programs[] = {"use_after_free_asan_shared",
					       "use_after_free_asan_static"};

	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(run_child(i / 2 ? asan_debug : asan, programs[i % 2], what), 9);
		expect_output("ERROR: AddressSanitizer: use-after-poison");
		expect_line();
	}
}

static void address_sanitizer_reports_a_use_after_free_at_the_line(void **state)
{
	(void)state;
	asan_programs_are_told_of("use_after_free");
}

static void address_sanitizer_reports_a_use_of_what_was_never_allocated(void **state)
{
	(void)state;
	asan_programs_are_told_of("use_before_alloc");
}

static void address_sanitizer_finds_nothing_in_a_good_program(void **state)
{
	(void)state;
	expect_quiet(run_child(asan, "use_after_free_asan_shared", ""));
	expect_quiet(run_child(asan, "use_after_free_asan_static", ""));
	expect_quiet(run_child(asan_debug, "use_after_free_asan_shared", ""));
	expect_quiet(run_child(asan_debug, "use_after_free_asan_static", ""));
}

/* Valgrind runs nothing with AddressSanitizer, and version 3.19 reads no debug information of clang 14. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__clang__)
static bool valgrind_is_here(void)
{
#if __has_include(<valgrind/memcheck.h>)
	if (system("valgrind --version >/dev/null 2>&1") == 0)
		return true;
	print_message("skipped: there is no valgrind: apt-get install valgrind\n");
#else
	print_message("skipped: the library was built without valgrind's headers\n");
#endif
	return false;
}

static const char *const valgrind = "valgrind -q --error-exitcode=9";
static const char *const valgrind_debug = "DMALAND_POOL_DEBUG=1 valgrind -q --error-exitcode=9";

static void valgrind_reports_a_use_after_free_at_the_line(void **state)
{
	(void)state;
	if (!valgrind_is_here())
		skip();
	for (int i = 0; i < 2; i++) {
		assert_int_equal(run_child(i ? valgrind_debug : valgrind, "use_after_free",
					   "use_after_free"),
				 9);
		expect_output("Invalid read of size 1");
		expect_output("17 bytes inside a block of size 100 free'd");
		expect_line();
		assert_int_equal(run_child(i ? valgrind_debug : valgrind, "use_after_free",
					   "use_before_alloc"),
				 9);
		expect_output("Invalid write of size 1");
		expect_line();
	}
}

static void valgrind_finds_nothing_in_a_good_program(void **state)
{
	(void)state;
	if (!valgrind_is_here())
		skip();
	expect_quiet(run_child(valgrind, "use_after_free", ""));
	expect_quiet(run_child(valgrind_debug, "use_after_free", ""));
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(address_sanitizer_reports_a_use_after_free_at_the_line),
		cmocka_unit_test(address_sanitizer_reports_a_use_of_what_was_never_allocated),
		cmocka_unit_test(address_sanitizer_finds_nothing_in_a_good_program),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__clang__)
		cmocka_unit_test(valgrind_reports_a_use_after_free_at_the_line),
		cmocka_unit_test(valgrind_finds_nothing_in_a_good_program),
#endif
	};

	return cmocka_run_group_tests_name("annotate", tests, NULL, NULL);
}
