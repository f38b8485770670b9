/* SPDX-License-Identifier: MIT */
/*
 * census.h - where every slab and block of a pool is
 */
#ifndef TESTS_INTERLEAVE_CENSUS_H
#define TESTS_INTERLEAVE_CENSUS_H

#include "pool/pool_internal.h"

/*
 * No thread is inside of the pool: each of its blocks is out, as is_out says too, or its slab has
 * its bit once. Each slab is in the one place that its owner says, and the counts agree.
 * explore_fail() otherwise.
 *
 * twice: some block was freed by two. Bits may be there twice then, until somebody collects them.
 */
void census(struct dma_pool *pool, bool (*is_out)(const void *vaddr), bool twice);

#endif
