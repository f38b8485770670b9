/* SPDX-License-Identifier: MIT */
/*
 * test_interleave.c - calls of several threads in all orders of their small steps
 *
 * And, to see that wrong orders are found: the same with steps, locks and checks left out.
 */
#include "test.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scenarios.h"
#include "stage.h"

static void try_all(const struct scenario *scenario, enum steps steps)
{
	struct exploration result;

	explore(scenario, steps, NULL, &result);
	print_message("# %zu schedules of up to %zu %s, %u preemptions: %s\n", result.schedules,
		      result.steps, steps == STEPS_ACCESSES ? "accesses" : "steps",
		      scenario->preemptions, scenario->name);
	if (result.failed)
		stage_reopen();
	if (result.failed)
		fail_msg("schedule %zu: %s", result.schedules, result.why);
}

/* A thread is stopped between small steps a few times, and once at any access to memory. */
static void holds_in_all_orders(void **state)
{
	struct scenario scenario = *(const struct scenario *)*state;

	try_all(&scenario, STEPS_ATOMIC);
#ifdef STEPS_OF_ACCESSES
	scenario.preemptions = 1;
	try_all(&scenario, STEPS_ACCESSES);
#endif
}

#ifdef STEPS_OF_ACCESSES

static bool is_found_with(const struct scenario *scenario, enum steps steps,
			  const struct omission *broken)
{
	struct exploration result;

	explore(scenario, steps, broken, &result);
	return result.failed;
}

/* In a child, since what goes wrong may well crash. */
static bool is_found(const struct scenario *scenario, const struct omission *broken)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		struct rlimit no_core = {0, 0};
		struct scenario once = *scenario;

		setrlimit(RLIMIT_CORE, &no_core);
		assert_non_null(freopen("/dev/null", "w", stderr));
		assert_non_null(freopen("/dev/null", "w", stdout));
		signal(SIGSEGV, SIG_DFL);
		signal(SIGABRT, SIG_DFL);
		alarm(patience(60)); /* a list that was made a ring may never end */
		once.preemptions = 1;
		_exit(is_found_with(scenario, STEPS_ATOMIC, broken) ||
		      is_found_with(&once, STEPS_ACCESSES, broken));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status != 0;
}

static const struct scenario *scenario_named(const char *name)
{
	const struct scenario *scenario;

	for (size_t i = 0; (scenario = scenario_at(i)); i++)
		if (strcmp(scenario->name, name) == 0)
			return scenario;
	fail_msg("no scenario is '%s'", name);
	return NULL;
}

static void what_is_left_out_is_found(void **state)
{
	static const struct {
		struct omission omission;
		const char *scenario;
	} cases[] = {
		{{"slab_abandon", "settle"}, "a slab is abandoned while its blocks come back"},
		{{"free_remotely", "settle"},
		 "two threads can't adopt a slab while a third one steals"},
		{{"owner_mark", "&slab->owner"}, "two threads adopt a slab"},
		{{"slab_settle", "second look"}, "a slab is settled by two, and used between"},
		{{"cache_enter", "&cache->revoked"},
		 "a thread allocates while its lists are taken"},
		{{"stack", "count"}, "a slab is taken from the stack and comes back meanwhile"},
		{{"round_name", "&cache->at"},
		 "two frees of one block, and its page becomes another pool's"},
		{{"round_add_revoked", "&cache->busy"},
		 "a thread allocates while its lists are taken"},
		{{"round_add_claimed", "&cache->at"},
		 "a thread frees and takes what others complete while a third one steals"},
		{{"pool_trim", "lock"}, "two threads trim while a third one frees"},
		{{"pool_steal", "lock"}, "two threads inherit"},
		{{"pool_reap", "lock"}, "parts of pages are given back while another trims"},
		{{"cache_get", "lock"}, "threads without numbers"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (!is_found(scenario_named(cases[i].scenario), &cases[i].omission))
			fail_msg("%s() without its %s makes no difference in '%s'",
				 cases[i].omission.function, cases[i].omission.what,
				 cases[i].scenario);
}

#endif

/* [PATTERN]: only the tests with such names. */
int main(int argc, char **argv)
{
	const struct scenario *scenario;
	struct CMUnitTest *tests;
	size_t n = 0;
	int failed;

	while (scenario_at(n))
		n++;
	tests = calloc(n + 1, sizeof(*tests));
	assert_non_null(tests);
	for (n = 0; (scenario = scenario_at(n)); n++)
		tests[n] = (struct CMUnitTest){scenario->name, holds_in_all_orders, NULL, NULL,
					       (void *)(uintptr_t)scenario};
#ifdef STEPS_OF_ACCESSES
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(what_is_left_out_is_found);
#endif
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	log_capture();
	stage_open();
	failed = _cmocka_run_group_tests("interleaving", tests, n, NULL, NULL);
	stage_close();
	free(tests);
	return failed;
}
