/* SPDX-License-Identifier: MIT */
#include "callgrind.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

double answer_number(const char *answer, const char *word)
{
	const char *at = strstr(answer, word);

	if (!at)
		bench_fail("a second run of this program did not answer:\n%s", answer);
	return strtod(at + strlen(word), NULL);
}

static double callgrind_count(const char *const *valgrind, const char *const *arguments,
			      double *pairs)
{
	char answer[8192];
	int status = bench_run_self(valgrind, arguments, answer, sizeof(answer));

	if (status < 0)
		return NAN;
	if (status)
		bench_fail("valgrind failed:\n%s", answer);
	*pairs = answer_number(answer, "pairs:");
	return answer_number(answer, "Collected :");
}

double callgrind_run(const char *const *arguments, double *pairs)
{
	static const char *const valgrind[] = {"valgrind", "--tool=callgrind",
					       "--callgrind-out-file=/dev/null", NULL};

	return callgrind_count(valgrind, arguments, pairs);
}

double callgrind_run_in(const char *function, const char *const *arguments, double *pairs)
{
	char toggle[128];
	const char *const valgrind[] = {"valgrind", "--tool=callgrind",
					"--callgrind-out-file=/dev/null", toggle, NULL};

	snprintf(toggle, sizeof(toggle), "--toggle-collect=%s", function);
	return callgrind_count(valgrind, arguments, pairs);
}
