/* SPDX-License-Identifier: MIT */
/*
 * reserve.h - what is left free for GFP_ATOMIC, for each device under its own mask
 *
 * A device of a narrow mask can take only from low addresses, one of a wide mask from anywhere. So
 * what is free is counted for each mask, and each mask has a reserve that those of wider masks leave
 * alone: the kernel's zones and their lowmem_reserve, with the devices' masks for borders. Devices of
 * equal masks have one reserve in common. A chunk that a mask cuts counts for wider ones only.
 *
 * All of it is guarded by arena.lock; the list changes under `growing`, too.
 */
#ifndef MEMORY_RESERVE_H
#define MEMORY_RESERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "iova/limits.h"

struct arena;
struct arena_chunk;

struct arena_reserve {
	struct arena_reserve *next;	 /* ascending masks */
	const struct dma_limits *limits; /* whose; compared, and not looked into */
	uint64_t mask;			 /* its coherent mask */
};

/* Whom a caller leaves its reserve. */
enum reserve_leave {
	LEAVE_NOTHING,	/* nobody: who has just mapped as much */
	LEAVE_NARROWER, /* devices of narrower masks: GFP_ATOMIC, and who can't grow */
	LEAVE_ALL,	/* all devices */
	LEAVE_LOW,	/* and nothing is taken under narrower masks: who may grow instead */
};

/* The reserve of these limits, or NULL. */
struct arena_reserve *reserve_find(struct arena_reserve *list, const struct dma_limits *limits);

/* Put it where its mask belongs. */
void reserve_link(struct arena_reserve **list, struct arena_reserve *reserve);
void reserve_unlink(struct arena_reserve **list, const struct arena_reserve *reserve);

/* Its mask, as far as the domain goes: masks above the last address there are one. */
uint64_t reserve_mask(const struct arena *arena, const struct arena_reserve *reserve);

/* The first dma address above narrower masks than this one; 0: there are none. */
uint64_t zone_begin(const struct arena *arena, uint64_t mask);

/* The lowest dma address where n pages may be taken under a mask; above the mask: nowhere. */
uint64_t reserves_lowest(const struct arena *arena, uint64_t mask, size_t n,
			 enum reserve_leave leave);

/* Has it less than GFP_KERNEL leaves it? `growing` is held, and not the lock. */
bool reserve_is_short(struct arena *arena, const struct arena_reserve *reserve);

/* Would each mask below a limit have `keep` pages of its own left without a chunk that is free whole? */
bool reserves_hold(const struct arena *arena, size_t keep, const struct arena_chunk *without,
		   uint64_t limit);

#endif
