/* SPDX-License-Identifier: MIT */
/*
 * latency.c - how long requests took: counted by time, so that percentiles can be told
 */
#include "latency.h"

#include <stdio.h>
#include <time.h>

uint64_t nanoseconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The highest bit and the five below it. */
static unsigned int bucket_of(uint64_t nanoseconds)
{
	unsigned int shift;

	if (nanoseconds < LATENCY_STEPS)
		return (unsigned int)nanoseconds;
	shift = 58 - (unsigned int)__builtin_clzll(nanoseconds);
	return (shift + 1) * LATENCY_STEPS +
	       (unsigned int)(nanoseconds >> shift & (LATENCY_STEPS - 1));
}

/* The longest time that falls into a bucket. */
static uint64_t bucket_end(unsigned int bucket)
{
	unsigned int shift;

	if (bucket < LATENCY_STEPS)
		return bucket;
	shift = bucket / LATENCY_STEPS - 1;
	return ((uint64_t)(LATENCY_STEPS + bucket % LATENCY_STEPS + 1) << shift) - 1;
}

void latency_add(struct latency *latency, uint64_t nanoseconds)
{
	latency->count++;
	latency->buckets[bucket_of(nanoseconds)]++;
	if (nanoseconds > latency->max)
		latency->max = nanoseconds;
}

uint64_t latency_percentile(const struct latency *latency, unsigned int per_mille)
{
	uint64_t wanted = (latency->count * per_mille + 999) / 1000, seen = 0;

	for (unsigned int i = 0; i < LATENCY_BUCKETS && wanted; i++) {
		seen += latency->buckets[i];
		if (seen >= wanted)
			return bucket_end(i) < latency->max ? bucket_end(i) : latency->max;
	}
	return 0;
}

struct text time_text(uint64_t nanoseconds)
{
	static const char *const units[] = {"ns", "us", "ms", "s"};
	double value = (double)nanoseconds;
	unsigned int unit = 0;
	struct text text;

	while (value >= 1000 && unit < 3) {
		value /= 1000;
		unit++;
	}
	snprintf(text.text, sizeof(text.text), value < 10 && unit ? "%.2f %s" : "%.0f %s", value,
		 units[unit]);
	return text;
}

struct latency_words latency_words(const struct latency *latency)
{
	struct latency_words words;

	snprintf(words.text, sizeof(words.text), "p50 %s, p99 %s, p99.9 %s, max %s",
		 time_text(latency_percentile(latency, 500)).text,
		 time_text(latency_percentile(latency, 990)).text,
		 time_text(latency_percentile(latency, 999)).text, time_text(latency->max).text);
	return words;
}
