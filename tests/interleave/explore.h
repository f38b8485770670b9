/* SPDX-License-Identifier: MIT */
/*
 * explore.h - runs a scenario's threads in all orders of their steps
 */
#ifndef TESTS_INTERLEAVE_EXPLORE_H
#define TESTS_INTERLEAVE_EXPLORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { THREADS_MAX = 3 };

struct scenario {
	const char *name;
	void (*begin)(void);		    /* before each schedule */
	void (*threads[THREADS_MAX])(void); /* what is interleaved */
	void (*end)(void);		    /* after it: what must hold */
	/* Words that are one thread's, or that nobody relies on: no steps. NULL: none are. */
	bool (*is_private)(const volatile void *address);
	unsigned int preemptions; /* so often a thread that could go on has to wait */
};

struct exploration {
	size_t schedules, steps; /* steps of the longest */
	bool failed;
	char why[512]; /* with the schedule that failed */
};

/* Where another thread may go on: at atomic accesses and locks, or at every access to memory. */
enum steps { STEPS_ATOMIC, STEPS_ACCESSES };

/* A fault that is made, to see that it is found: what steps.h leaves out of a function. */
struct omission {
	const char *function, *what;
};

/* Stops at the first failure. broken may be NULL. */
void explore(const struct scenario *scenario, enum steps steps, const struct omission *broken,
	     struct exploration *result);

/* Memory is about to be read or written. */
void step_access(const volatile void *address);

/* The schedule is a wrong one; the first reason counts. */
__attribute__((format(printf, 1, 2))) void explore_fail(const char *format, ...);

/* Then nothing can be relied on. */
bool explore_failed(void);

/* The thread that runs. */
unsigned int explore_thread(void);

/* Run f as this thread, without steps; for begin and end. */
void explore_as(unsigned int thread, void (*f)(void));

/* This thread ends: somebody inherits its number. In its function, or by explore_as(). */
void explore_thread_end(void);

/* No thread has a number any more. */
void threads_reset(void);

/* Only so many numbers are made. */
void threads_limit(uint32_t most);

#endif
