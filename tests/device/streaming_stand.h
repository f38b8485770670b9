/* SPDX-License-Identifier: MIT */
/*
 * streaming_stand.h - memory of the application, and a device that reads and writes it
 */
#ifndef TESTS_DEVICE_STREAMING_STAND_H
#define TESTS_DEVICE_STREAMING_STAND_H

#include "suite.h"
#include "mover.h"

enum { MOST = 96 << 10, GUARD = 4096, POISON = 0x6b };

extern struct mover m;
extern bool moves; /* the device can be told what to do */

/* Application memory, POISON all over, with room around what is mapped. */
extern unsigned char *memory, *model;
extern uint32_t mappings;
extern uint64_t bad_calls; /* that the test made */

/* Setups: the device as each is named. */
int open_device(void **state);
int open_lazy(void **state);
int open_without_syscalls(void **state);
int open_copying(void **state);
int open_mapping(void **state); /* everything, where it lies, where that can be */
int open_untrusted(void **state);
int open_debug(void **state);

/* All that the tests' lists have is copied. */
int open_copying_without_syscalls(void **state);

/* Nothing is left, and nobody complained. */
int close_device(void **state);

#define with(open, f) cmocka_unit_test_setup_teardown(f, open, close_device)

/* Ends the test where the device can't be told what to do. */
void need_mover(void);

/* Has the device a copy of its own of what is mapped? */
bool device_has_copies(void);

struct dmaland_streaming_stats stats_now(void);
dma_addr_t map(void *ptr, size_t size, enum dma_data_direction direction);
void random_fill(unsigned char *bytes, size_t size, uint64_t seed);

/* Through the device into size bytes at ptr, and around them nothing. */
void check_write(unsigned char *ptr, size_t size, enum dma_data_direction direction);

/* From them through the device into the scratch memory. */
void check_read(unsigned char *ptr, size_t size, enum dma_data_direction direction);

/* Sizes on both sides of where copying ends; 0 after the last. */
size_t size_number(int i);

#endif
