/* SPDX-License-Identifier: MIT */
/*
 * census.h - where every block of a pool is
 */
#ifndef TESTS_INTERLEAVE_CENSUS_H
#define TESTS_INTERLEAVE_CENSUS_H

#include "pool/magazine.h"

/*
 * No thread is inside of the pool: each of its blocks is out, as is_out says too, or once in a
 * magazine, in the depot or among the bits of its unit; and the counts agree. explore_fail()
 * otherwise.
 */
void census(struct dma_pool *pool, bool (*is_out)(const void *vaddr));

#endif
