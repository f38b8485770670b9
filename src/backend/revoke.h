/* SPDX-License-Identifier: MIT */
/*
 * revoke.h - mappings of a domain that wait to be unmapped
 *
 * In lazy mode a mapping that has ended waits here, and still counts against the domain's limits:
 * the device may reach it until it is revoked. Neighbours are revoked by one call of the domain's
 * unmap, whose range covers nothing but what waits.
 *
 * Two limits hold at any call. By time: what has waited for long enough is revoked, and with it those
 * of its neighbours that wait, whenever they came; the others wait on, until their neighbours have
 * ended too. By number: when it is reached, long rows of neighbours go first, and single ones may
 * stay, unless they alone are half of the limit.
 */
#ifndef BACKEND_REVOKE_H
#define BACKEND_REVOKE_H

#include "backend/backend.h"

struct revoke_entry {
	dma_addr_t dma;
	size_t size;
	unsigned int maps; /* calls of the domain's map that made it */
	void *what;	   /* the caller's, for released() */
	uint64_t since_ns; /* the queue's: when it began to wait */
};

struct revoke_queue {
	struct domain *domain;
	/* The device reaches it no more; or, where it could not be revoked, for good. */
	void (*released)(void *what, bool revoked);
	unsigned int limit; /* entries */
	uint64_t timeout_ns;

	/* When the first has waited for long enough; UINT64_MAX: nothing waits. Read without the lock. */
	uint64_t due_ns;

	pthread_mutex_t
		lock; /* held while the domain unmaps: who flushes waits for others' flushes */
	/*
	 * By descending addresses, with room for limit of them: new ones are the lowest as often as
	 * not (iova/cache.h), and come to the end.
	 */
	struct revoke_entry *entries;
	unsigned int count;
	uint64_t calls, revoked; /* of the domain's unmap; mappings they ended */
};

/* 0 or -ENOMEM in words. */
int revoke_init(struct revoke_queue *queue, struct domain *domain, unsigned int limit,
		uint64_t timeout_ns, void (*released)(void *what, bool revoked));

/* Nothing may wait any more. */
void revoke_fini(struct revoke_queue *queue);

/* The mapping has ended. Revokes what is due. */
void revoke_later(struct revoke_queue *queue, const struct revoke_entry *entry);

/* Revoke all that waits. */
void revoke_flush(struct revoke_queue *queue);

/* Revoke what is due. */
void revoke_if_due(struct revoke_queue *queue);

unsigned int revoke_waiting(struct revoke_queue *queue);

#endif
