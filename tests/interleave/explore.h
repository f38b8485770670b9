/* SPDX-License-Identifier: MIT */
/*
 * explore.h - runs a scenario's threads in all orders of their steps
 */
#ifndef TESTS_INTERLEAVE_EXPLORE_H
#define TESTS_INTERLEAVE_EXPLORE_H

#include <stdbool.h>
#include <stddef.h>

enum { THREADS_MAX = 3 };

struct scenario {
	const char *name;
	void (*begin)(void);		    /* before each schedule */
	void (*threads[THREADS_MAX])(void); /* what is interleaved */
	void (*end)(void);		    /* after it: what must hold */
	unsigned int preemptions;	    /* so often a thread that could go on has to wait */
};

struct exploration {
	size_t schedules, steps; /* steps of the longest */
	bool failed;
	char why[512]; /* with the schedule that failed */
};

/* Where another thread may go on: at atomic accesses and locks, or at every access to memory. */
enum steps { STEPS_ATOMIC, STEPS_ACCESSES };

/*
 * Stops at the first failure. To see that faults are found one may be made: the function of this
 * name takes no lock. NULL: none is.
 */
void explore(const struct scenario *scenario, enum steps steps, const char *broken,
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

/* This thread ends: its magazines go back. In its function, or by explore_as(). */
void explore_thread_end(void);

/* No thread has a table any more: forget all that is kept ready, as at the program's start. */
void registry_reset(void);

#endif
