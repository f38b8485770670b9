/* SPDX-License-Identifier: MIT */
/*
 * streaming_probe.h - figures that need a process of their own: under callgrind, or in the VM
 *
 * The benchmark starts itself again with `--probe ROW COUNT` or `--vm SPEC ADDRESS`; the second
 * process answers.
 */
#ifndef BENCH_STREAMING_PROBE_H
#define BENCH_STREAMING_PROBE_H

#include <stdbool.h>
#include <stddef.h>

/* Is this a process that was started to answer? Then its exit status, otherwise -1. */
int probe_answer(int argc, char **argv);

/* Instructions of a transfer on `soft:`, with the loop, by callgrind; NAN without valgrind. */
double probe_instructions(const char *row);

/*
 * Boot the VM with the script vm_sh and measure there: rows for vm_row(). False when there is no VM to be
 * had here.
 */
bool probe_vm(const char *vm_sh, char *answer, size_t size);

#endif
