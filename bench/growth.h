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
	void (*end)(void *state);
	size_t max;
};

extern const struct growth_row growth_arena_rows[];
extern const size_t growth_arena_count;

#endif
