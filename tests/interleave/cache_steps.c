/* SPDX-License-Identifier: MIT */
/*
 * cache_steps.c - cache.c, of which parts can be left out
 */
#include "pool/pool_internal.h"

#define slab_settle(pool, slab)                                                                    \
	(step_left_out(__func__, "settle") ? (void)0 : slab_settle(pool, slab))

#include "pool/cache.c"
