/* SPDX-License-Identifier: MIT */
/*
 * growth.h - what is counted by bench-growth: one step, beside n of something
 *
 * A topic has its rows in a file of its own, and a line in growth.c.
 */
#ifndef BENCH_GROWTH_H
#define BENCH_GROWTH_H

#include <stddef.h>

struct growth_row {
	const char *name; /* in the JSON */
	const char *what; /* a step, beside what */

	/* Make n of them, up to the row's max; what step and end get. Ends the program where it can't. */
	void *(*begin)(size_t n);
	void (*step)(void *state);
	void (*end)(void *state); /* NULL: the process ends, and that is enough */
	size_t max;
	size_t min; /* 0: 100 */

	/* A step does so much of what is said: figures are for one. 0: one; GROWTH_EACH: n. */
	size_t amount;
};

#define GROWTH_EACH ((size_t)-1)

extern const struct growth_row growth_arena_rows[];
extern const size_t growth_arena_count;

extern const struct growth_row growth_pool_rows[];
extern const size_t growth_pool_count;

extern const struct growth_row growth_streaming_rows[];
extern const size_t growth_streaming_count;

extern const struct growth_row growth_registered_rows[];
extern const size_t growth_registered_count;

#endif
