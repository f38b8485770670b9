/* SPDX-License-Identifier: MIT */
/*
 * scenarios.h - what two or three threads do, a few calls each
 */
#ifndef TESTS_INTERLEAVE_SCENARIOS_H
#define TESTS_INTERLEAVE_SCENARIOS_H

#include "explore.h"

/* A file of scenarios. */
struct topic {
	const struct scenario *scenarios;
	size_t count;
};

extern const struct topic slab_scenarios, list_scenarios, pool_scenarios;

/* All of them, one after the other; NULL after the last. */
const struct scenario *scenario_at(size_t i);

#endif
