/* SPDX-License-Identifier: MIT */
/*
 * scenarios.h - what two or three threads do, a few calls each
 */
#ifndef TESTS_INTERLEAVE_SCENARIOS_H
#define TESTS_INTERLEAVE_SCENARIOS_H

#include "explore.h"

enum { SCENARIOS = 70 };

extern const struct scenario scenarios[SCENARIOS];

/* Then it can't be tried in the child of a fork, which does not have their memory. */
bool scenario_touches_blocks(const struct scenario *scenario);

#endif
