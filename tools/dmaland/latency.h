/* SPDX-License-Identifier: MIT */
/*
 * latency.h - how long requests took: counted by time, so that percentiles can be told
 *
 * Times fall into buckets: below 32 ns one for each nanosecond, above that 32 for each power of
 * two. So a percentile is at most 1/32 too large, and the whole is of fixed size.
 */
#ifndef LATENCY_H
#define LATENCY_H

#include <stdint.h>

#include "command.h"

enum { LATENCY_STEPS = 32, LATENCY_BUCKETS = 60 * LATENCY_STEPS };

/* @max: exact */
struct latency {
	uint64_t count, max;
	uint64_t buckets[LATENCY_BUCKETS];
};

uint64_t nanoseconds_now(void);
void latency_add(struct latency *latency, uint64_t nanoseconds);

/* So many of a thousand requests took no longer than that; 0 when there were none. */
uint64_t latency_percentile(const struct latency *latency, unsigned int per_mille);

/* A time in words, such as "85.3 us". */
struct text time_text(uint64_t nanoseconds);

/* "p50 85.3 us, p99 1.02 ms, p99.9 1.5 ms, max 1.61 ms" */
struct latency_words {
	char text[160];
} latency_words(const struct latency *latency);

#endif
