/* SPDX-License-Identifier: MIT */
/*
 * lookup.h - how others find the dma address of memory that was registered beforehand
 *
 * Stand-ins, written here: the data structures that SPDK (a table of two levels, in steps of 2 MiB)
 * and libvfn (a skip list under a read-write lock) use, with what a lookup there does and no more.
 * Neither has anything to do when a transfer ends. What dmaland does beside them is to look at the
 * device's limits, count, and check the end.
 */
#ifndef BENCH_LOOKUP_H
#define BENCH_LOOKUP_H

#include <stddef.h>
#include <stdint.h>

#define LOOKUP_NONE (~(uint64_t)0)
#define LOOKUP_STEP ((size_t)2 << 20) /* what a table registers */

struct lookup_table;
struct lookup_list;

struct lookup_table *lookup_table_make(void);
struct lookup_list *lookup_list_make(void);
void lookup_table_free(struct lookup_table *table);
void lookup_list_free(struct lookup_list *list);

/* Both are multiples of LOOKUP_STEP. */
void lookup_table_add(struct lookup_table *table, uintptr_t begin, size_t size, uint64_t dma);
void lookup_list_add(struct lookup_list *list, uintptr_t begin, size_t size, uint64_t dma);

/* The dma address, or LOOKUP_NONE; *size becomes less when less of it is in one piece. */
uint64_t lookup_table_find(const struct lookup_table *table, const void *ptr, uint64_t *size);
uint64_t lookup_list_find(struct lookup_list *list, const void *ptr);

#endif
