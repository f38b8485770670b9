/* SPDX-License-Identifier: MIT */
/*
 * test.h - cmocka with what it wants included before, and a log that tests can look into
 */
#ifndef TESTS_COMMON_TEST_H
#define TESTS_COMMON_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <dmaland/dmaland.h>

/* Lines of the library's log since the last log_clear(), joined by newlines. */
void log_capture(void);
void log_clear(void);
const char *log_text(void);
size_t log_lines(void);

/*
 * cmocka puts a handler of its own for SIGBUS around each test. Note the library's, when it is set up
 * outside of a test; and put it back inside of one.
 */
void bus_errors_note(void);
void bus_errors_to_library(void);

/* @amount of seconds, milliseconds or tries, times DMALAND_PATIENCE: how long a test waits for what is to come. */
unsigned int patience(unsigned int amount);

/*
 * watchdog() - end this process after patience(@seconds), with the stacks of its threads on stderr; 0: no more
 *
 * For what would hang: a child whose lock nobody releases. ThreadSanitizer keeps signals back, so there it ends without stacks.
 */
void watchdog(unsigned int seconds);

/* What can be had without taking it from others, in bytes. */
uint64_t memory_available(void);

/* Skip the test where less than this is available, and something for the rest. */
void need_memory(uint64_t bytes);

/* Skip where ThreadSanitizer takes part: it forgets a thread before the thread's last destructors are called. */
void need_last_destructors(void);

/* The pid of the only child process, or 0; QEMU is one. */
int only_child(void);

/* GFP_ATOMIC failed since another thread, off its CPU for now, held the arena: says nothing of what there is. */
static inline bool another_held_the_arena(void)
{
	return strstr(dmaland_last_error(), "another thread holds the arena");
}

#define assert_logged(text) assert_non_null(strstr(log_text(), text))
#define assert_error_says(text)                                                                    \
	do {                                                                                       \
		if (!strstr(dmaland_last_error(), text))                                           \
			fail_msg("the error is '%s', which lacks '%s'", dmaland_last_error(),      \
				 text);                                                            \
	} while (0)

/* xorshift64*: the same numbers in every run. */
static inline uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

static inline uint64_t random_below(uint64_t *state, uint64_t n)
{
	return (random_next(state) >> 16) % n;
}

#endif
