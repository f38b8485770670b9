/* SPDX-License-Identifier: MIT */
/*
 * revoke.h - mappings of a domain that wait to be unmapped
 *
 * In lazy mode a mapping that has ended waits here, and still counts against the domain's limits:
 * the device may reach it until it is revoked. Mappings come in groups of 64, with a bit each for those that
 * wait. Neighbours in a group are revoked by one call of the domain's unmap, whose range covers nothing but
 * what waits.
 *
 * Two limits hold at any call. By time: a group whose first mapping has waited for long enough is revoked, with
 * those that came later. By number: when it is reached, long rows of neighbours go first, and single ones may
 * stay, unless they alone are half of the limit.
 */
#ifndef BACKEND_REVOKE_H
#define BACKEND_REVOKE_H

#include "backend/backend.h"

/* Embedded in what has the mappings; zeroed at first. */
struct revoke_group {
	struct revoke_group *next; /* in the queue, while something waits */
	uint64_t waits;		   /* a bit for each mapping */
	uint64_t since_ns;	   /* when the first of these began to */
};

struct revoke_entry {
	dma_addr_t dma;
	size_t size;
	unsigned int maps; /* calls of the domain's map that made it */
};

struct revoke_queue {
	struct domain *domain;
	struct revoke_entry (*entry)(const struct revoke_group *group, unsigned int which);
	/* The device reaches it no more; or, where it could not be revoked, for good. */
	void (*released)(struct revoke_group *group, unsigned int which, bool revoked);
	unsigned int limit; /* mappings */
	uint64_t timeout_ns;

	/* When the first has waited for long enough; UINT64_MAX: nothing waits. Read without the lock. */
	uint64_t due_ns;

	pthread_mutex_t
		lock; /* held while the domain unmaps: who flushes waits for others' flushes */
	struct revoke_group *first, **end; /* the one that waits for longest is first */
	unsigned int count;		   /* of mappings */
	uint64_t calls, revoked;	   /* of the domain's unmap; mappings they ended */
};

/* The caller fills in domain, entry, released, limit and timeout_ns. 0 or -errno in words. */
int revoke_init(struct revoke_queue *queue);

/* Nothing may wait any more. */
void revoke_fini(struct revoke_queue *queue);

/* The mapping has ended. Revokes what is due. */
void revoke_later(struct revoke_queue *queue, struct revoke_group *group, unsigned int which);

/* Revoke all that waits. */
void revoke_flush(struct revoke_queue *queue);

/* Revoke what is due. */
void revoke_if_due(struct revoke_queue *queue);

unsigned int revoke_waiting(struct revoke_queue *queue);

#endif
