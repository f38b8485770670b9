/* SPDX-License-Identifier: MIT */
/*
 * realtime.h - the slowest call of a SCHED_FIFO thread, beside an ordinary one that uses the same pool
 *
 * The thread takes 1,024 blocks with GFP_ATOMIC and gives them back, and rests before it does so again: the
 * system stops a SCHED_FIFO thread that never does. Each call is timed by itself; the clock is in it.
 */
#ifndef BENCH_REALTIME_H
#define BENCH_REALTIME_H

#include <stdbool.h>
#include <stddef.h>

/* Nanoseconds of the slowest call. */
struct realtime_worst {
	double alone;  /* nobody else at the pool */
	double beside; /* the ordinary thread at work on it */
};

enum realtime_work {
	REALTIME_TRIM, /* dmaland_pool_trim() of n free blocks */
	REALTIME_GROW, /* n blocks taken from a pool that has none */
};

struct realtime_case {
	enum realtime_work work;
	size_t n;
	bool random; /* the free blocks came back at random */
};

/* May this process have SCHED_FIFO threads? */
bool realtime_allowed(void);

/*
 * Does the system stop a SCHED_FIFO thread that does not rest? Where it doesn't, one that spins for a lock
 * of an ordinary thread on its CPU does so for ever.
 */
bool realtime_is_bounded(void);

/* One sample, the ordinary thread on one CPU and the other on another. */
struct realtime_worst realtime_sample(const struct realtime_case *c, int ordinary_cpu,
				      int fifo_cpu);

/*
 * Both on one CPU for so long; alone is with a pool for each. The ordinary thread takes many blocks, gives
 * them back and trims.
 */
struct realtime_worst realtime_on_one_cpu(int cpu, double seconds);

#endif
