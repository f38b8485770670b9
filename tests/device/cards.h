/* SPDX-License-Identifier: MIT */
/*
 * cards.h - two network cards on one hub, and frames between them
 *
 *   cards.c            the program
 *   cards_stand.c      the cards, frames
 *   cards_frames.c     frames are sent and received
 *   cards_control.c    address, filter, counters, interrupts, reset
 *   cards_processes.c  two processes, each with a card in a QEMU of its own
 */
#ifndef TESTS_DEVICE_CARDS_H
#define TESTS_DEVICE_CARDS_H

#include "test.h"

#include <dmaland/rtl8139cp.h>

enum { BURST = 16, HEADER = 14, NUMBER_AT = HEADER };

extern unsigned int packets_asked;
extern const char *specs[2], *other_spec;

struct end {
	struct dmaland_device *dev;
	struct dmaland_rtl8139cp *card;
	unsigned char mac[DMALAND_ETH_ALEN];
};

extern struct end ends[2];

void ends_open(const struct dmaland_rtl8139cp_options *options);
void ends_close(void);

/* The same for tests. */
int with_defaults(void **state);
int done(void **state);

/* A byte of the number-th frame behind its number, and how long it is. */
unsigned char content(uint32_t number, unsigned int at);
unsigned int length_of(uint32_t number);

/* The number-th frame from one end to the other; pieces: how many. */
struct dmaland_packet *frame_make(unsigned int from, uint32_t number, unsigned int length,
				  unsigned int pieces);
void frame_check(unsigned int to, const struct dmaland_packet *packet, uint32_t number,
		 unsigned int length);

/* So many, in so many pieces each; 0: a few. */
void send_and_receive(unsigned int from, uint32_t first, uint32_t n, unsigned int pieces);

/* For packets of the test's own: how many were released. */
extern unsigned int released;
void count_released(struct dmaland_packet *packet);

/* Each file's tests. */
int run_frame_tests(void);
int run_control_tests(void);
int run_process_tests(void);

#endif
