/* SPDX-License-Identifier: MIT */
/*
 * irq_stand.h - what tests of interrupts stand on: a device with vectors, and whether they interrupted
 */
#ifndef TESTS_DEVICE_IRQ_STAND_H
#define TESTS_DEVICE_IRQ_STAND_H

#include "mover.h"

enum { WAIT_MS = 20000 };

extern const char *spec;

/* The device, working, with vectors of this kind; false when it has none. */
bool irq_begin(struct mover *m, unsigned int kind, unsigned int most);
void irq_end(struct mover *m);

/* A drive was given commands to start with; their interrupts are on their way until masked. */
void start_is_over(struct mover *m);

/* Did the vector interrupt? It is taken. */
bool taken_within(struct mover *m, unsigned int vector, int ms);

#define assert_interrupt(m, vector)                                                                \
	do {                                                                                       \
		if (!taken_within(m, vector, (int)patience(WAIT_MS)))                              \
			fail_msg("vector %u did not interrupt within %u ms", vector,               \
				 patience(WAIT_MS));                                               \
	} while (0)
#define assert_quiet(m, vector) assert_false(taken_within(m, vector, 0))

/* What a driver does. */
void handle(struct mover *m, unsigned int vector);

/* irq_machine.c */
int run_machine_irq_tests(void);

#endif
