/* SPDX-License-Identifier: MIT */
#include "vm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define NO_VM	     69 /* vm.sh's exit status without kernel or QEMU */
#define OPTIONS_MAX  32
#define CLOCK_ROUNDS 100000u
#define SAMPLES	     9

bool vm_run(const char *vm_sh, const char *const *options, const char *const *arguments,
	    char *answer, size_t size)
{
	const char *before[OPTIONS_MAX] = {vm_sh, "--icount"};
	int status;

	for (size_t i = 2; *options && i < OPTIONS_MAX - 1; i++)
		before[i] = *options++;
	status = bench_run_self(before, arguments, answer, size);
	if (status && status != NO_VM)
		bench_fail("the VM's part failed, status %d:\n%s", status, answer);
	return !status;
}

bool vm_run_guest(const char *vm_sh, const char *append, const char *command,
		  const char *const *arguments, char *answer, size_t size)
{
	char guest_sh[4096];
	const char *options[] = {"--timeout", "500",	"--append", append,
				 "--",	      guest_sh, command,    NULL};
	const char *slash = strrchr(vm_sh, '/');

	snprintf(guest_sh, sizeof(guest_sh), "%.*sguest.sh", slash ? (int)(slash + 1 - vm_sh) : 0,
		 vm_sh);
	return vm_run(vm_sh, options, arguments, answer, size);
}

double vm_row(const char *answer, const char *name)
{
	char word[96];
	const char *at;

	snprintf(word, sizeof(word), "row %s ", name);
	at = strstr(answer, word);
	return at ? strtod(at + strlen(word), NULL) : NAN;
}

/* Two instructions a round take 2 ns a round, or the clock does not count them. */
void vm_clock_check(void)
{
	double ns[SAMPLES], median;

	for (size_t i = 0; i < SAMPLES; i++) {
		unsigned int rounds = CLOCK_ROUNDS;

		ns[i] = bench_now();
		__asm__ volatile("1: dec %0\n\tjnz 1b" : "+r"(rounds) : : "cc");
		ns[i] = bench_now() - ns[i];
	}
	median = bench_median(ns, SAMPLES);
	if (fabs(median / (2.0 * CLOCK_ROUNDS) - 1) > 0.02)
		bench_fail(
			"%u instructions take %.0f ns: no clock that counts them (vm.sh --icount)",
			2 * CLOCK_ROUNDS, median);
}
