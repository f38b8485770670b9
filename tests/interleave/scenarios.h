/* SPDX-License-Identifier: MIT */
/*
 * scenarios.h - what two or three threads do, a few calls each
 */
#ifndef TESTS_INTERLEAVE_SCENARIOS_H
#define TESTS_INTERLEAVE_SCENARIOS_H

#include "explore.h"

enum { SCENARIOS = 26 };

extern const struct scenario scenarios[SCENARIOS];

#endif
