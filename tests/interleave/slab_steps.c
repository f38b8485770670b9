/* SPDX-License-Identifier: MIT */
/*
 * slab_steps.c - slab.c, of which parts can be left out
 */
#include "pool/pool_internal.h"

/* The second look, at a slab that is this thread's. */
#define slab_is_complete(pool, slab)                                                               \
	(((slab)->owner == SLAB_IDLE && step_left_out(__func__, "second look")) ||                 \
	 slab_is_complete(pool, slab))

/* The count of changes beside the stack's first slab. */
#undef STEP_VALUE
#define STEP_VALUE(value) (step_left_out("stack", "count") ? (value)&LINK_MASK : (value))

#include "pool/slab.c"
