/* SPDX-License-Identifier: MIT */
/*
 * prepared_stand.h - a request that is prepared, its data, and what is said of it; beside nvme_stand.h
 */
#ifndef TESTS_UNIT_PREPARED_STAND_H
#define TESTS_UNIT_PREPARED_STAND_H

#include "nvme_stand.h"

enum { BLOCK = SOFT_NVME_BLOCK, PIECE = 8 * BLOCK, ROOM = 256 << 10, ROUNDS = 20 };

extern struct dmaland_nvme_request request;
extern struct iovec segments[2];
extern int result;
extern unsigned int dones;
extern unsigned char *room; /* ROOM bytes */

void on_done(struct dmaland_nvme_request *done, int code);

/* The request, not prepared; its data are one segment. */
void describe(uint8_t opcode, void *data, size_t bytes);
void prepare(void);
void wait_for(unsigned int count);

/* Submit it, and wait for its result. */
int run(void);

/* Neither way of submitting takes it, and the drive sees nothing. */
void refused(int code, const char *words);

/* done() of many that succeed. */
extern unsigned int many_done;
void count_done(struct dmaland_nvme_request *done, int code);

/* Mappings. */
uint64_t live(void);

int with_room(void **state);
int without_room(void **state);

#define with_a_drive(test) cmocka_unit_test_setup_teardown(test, with_room, without_room)

#endif
