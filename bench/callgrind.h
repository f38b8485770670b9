/* SPDX-License-Identifier: MIT */
/*
 * callgrind.h - instructions of this program, counted by valgrind's callgrind
 *
 * The benchmark starts itself again under callgrind, a short and a long run: what starting costs is
 * in both.
 */
#ifndef BENCH_CALLGRIND_H
#define BENCH_CALLGRIND_H

/* The number behind a word in what a second run of this program said; without it the program ends. */
double answer_number(const char *answer, const char *word);

/*
 * Run this program with these arguments, which makes it say "pairs: N": the instructions in all,
 * and N. NAN when valgrind can't be run at all, with errno.
 */
double callgrind_run(const char *const *arguments, double *pairs);

/*
 * Those of a part alone, of all threads: what runs between callgrind_begin() and callgrind_end(), which
 * may come several times.
 */
double callgrind_run_part(const char *const *arguments, double *pairs);
void callgrind_begin(void);
void callgrind_end(void);

#endif
