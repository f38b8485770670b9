/* SPDX-License-Identifier: MIT */
/*
 * test_interleave.c - calls of several threads in all orders of their small steps
 *
 * And, to see that wrong orders are found: the same with locks left out.
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

/* In a child, since what goes wrong may well crash. */
static bool is_found(const struct scenario *scenario, const char *broken)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		struct rlimit no_core = {0, 0};
		struct scenario once = *scenario;
		struct exploration result;

		setrlimit(RLIMIT_CORE, &no_core);
		assert_non_null(freopen("/dev/null", "w", stderr));
		assert_non_null(freopen("/dev/null", "w", stdout));
		signal(SIGSEGV, SIG_DFL);
		signal(SIGABRT, SIG_DFL);
		alarm(patience(60)); /* a list that was made a ring may never end */
		once.preemptions = 1;
		explore(&once, STEPS_ACCESSES, broken, &result);
		_exit(result.failed);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status != 0;
}

static void a_lock_that_is_left_out_is_found(void **state)
{
	static const char *const functions[] = {
		"magazine_fill", "depot_put",	"units_put_back", "shelves_lock", "magazine_make",
		"units_trim",	 "units_enter", "run_next",	  "run_take",	  "depot_grow",
		"table_pop",	 "table_give",	"magazines_end",
	};

	(void)state;
	for (size_t f = 0; f < sizeof(functions) / sizeof(functions[0]); f++) {
		size_t i = 0;

		while (i < SCENARIOS && (scenario_touches_blocks(&scenarios[i]) ||
					 !is_found(&scenarios[i], functions[f])))
			i++;
		if (i == SCENARIOS)
			fail_msg("%s() without its lock makes no difference", functions[f]);
		print_message("# %s() without its lock: found in '%s'\n", functions[f],
			      scenarios[i].name);
	}
}

#endif

int main(void)
{
	struct CMUnitTest tests[SCENARIOS + 1] = {{0}};
	size_t n = 0;
	int failed;

	for (size_t i = 0; i < SCENARIOS; i++)
		tests[n++] = (struct CMUnitTest){scenarios[i].name, holds_in_all_orders, NULL, NULL,
						 (void *)(uintptr_t)&scenarios[i]};
#ifdef STEPS_OF_ACCESSES
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(a_lock_that_is_left_out_is_found);
#endif
	log_capture();
	stage_open();
	failed = _cmocka_run_group_tests("interleaving", tests, n, NULL, NULL);
	stage_close();
	return failed;
}
