/* SPDX-License-Identifier: MIT */
#include "callgrind.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_include)
#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#endif
#endif

#include "bench.h"

#ifdef CALLGRIND_START_INSTRUMENTATION
#define CAN_BEGIN_LATER true
#else
#define CAN_BEGIN_LATER false
#define CALLGRIND_START_INSTRUMENTATION
#define CALLGRIND_STOP_INSTRUMENTATION
#endif

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

void callgrind_begin(void)
{
	CALLGRIND_START_INSTRUMENTATION;
}

void callgrind_end(void)
{
	CALLGRIND_STOP_INSTRUMENTATION;
}

/* Until callgrind_begin() the program is slowed down least. Some rows have a thousand threads. */
double callgrind_run_part(const char *const *arguments, double *pairs)
{
	static const char *const valgrind[] = {
		"valgrind",	      "--tool=callgrind",   "--callgrind-out-file=/dev/null",
		"--instr-atstart=no", "--max-threads=2000", NULL};

	if (!CAN_BEGIN_LATER)
		bench_fail("this was built without valgrind/callgrind.h: install valgrind, then "
			   "build anew");
	return callgrind_count(valgrind, arguments, pairs);
}
