/* SPDX-License-Identifier: MIT */
/*
 * rtl8139cp_stand.h - two cards in software on one cable, and frames between them
 *
 * ends_close() looks for what is left: mappings, memory, accesses of the chips that were not allowed.
 */
#ifndef TESTS_UNIT_RTL8139CP_STAND_H
#define TESTS_UNIT_RTL8139CP_STAND_H

#include "soft_rtl8139.h"

#include <dmaland/rtl8139cp.h>

enum { HEADER = 14, NUMBER_AT = HEADER };

struct end {
	struct soft_rtl8139 chip;
	struct dmaland_device *dev;
	struct dmaland_rtl8139cp *card;
	unsigned char mac[DMALAND_ETH_ALEN];
};

extern struct end ends[2];

/* By a spec of `soft:`, for both; options: of the card, or NULL. */
void ends_open(const char *spec, const struct dmaland_rtl8139cp_options *options);
void ends_close(void);

/* The first alone, whose frames are kept. */
void end_open(const char *spec, const struct dmaland_rtl8139cp_options *options);
void end_close(void);

/* The same for tests. */
int two_ends(void **state);
int two_ends_done(void **state);
int one_end(void **state);
int one_end_done(void **state);

#define with_two_cards(test) cmocka_unit_test_setup_teardown(test, two_ends, two_ends_done)
#define with_a_card(test)    cmocka_unit_test_setup_teardown(test, one_end, one_end_done)

struct dmaland_rtl8139cp_stats stats(unsigned int i);

/* Bytes of the number-th frame to an end; frame: DMALAND_ETH_FRAME_LEN bytes or length, if that is more. */
void frame_fill(unsigned char *frame, unsigned int to, uint32_t number, unsigned int length);

/* A packet that has them, in so many pieces. */
struct dmaland_packet *frame_make(unsigned int from, uint32_t number, unsigned int length,
				  unsigned int pieces);
void frame_check(unsigned int to, const unsigned char *data, unsigned int size, uint32_t number,
		 unsigned int length);

/* Send it, all at once, and the one that comes over the cable. */
void send_one(unsigned int from, struct dmaland_packet *packet);
struct dmaland_packet *receive_one(unsigned int to);

/* One frame goes this way, whole. */
void passes(unsigned int from, uint32_t number, unsigned int length, unsigned int pieces);

/* For packets of the test's own: how often each was released is in its context, an unsigned int. */
void count_released(struct dmaland_packet *packet);

/* Mappings and memory of the device now. */
struct dmaland_info info(unsigned int i);

#endif
