/* SPDX-License-Identifier: MIT */
/*
 * streaming_stand.h - what tests of mappings stand on: a device in a domain that is no device's
 */
#ifndef TESTS_UNIT_STREAMING_STAND_H
#define TESTS_UNIT_STREAMING_STAND_H

#include "fake_domain.h"

extern struct fake_place place;
static struct streaming *const s = &place.streaming;

/* The application's, 0x11 at first. */
extern char memory[1 << 20];

void open_kind(enum fake_kind kind, struct streaming_options options);
struct dmaland_streaming_stats stats(void);

/* Nothing is mapped any more; what was logged is forgotten. */
void close_place(void);

/* The same, and nothing was logged. */
void close_quietly(void);

#endif
