/* SPDX-License-Identifier: MIT */
/*
 * revoke.c - mappings of a domain that wait to be unmapped
 *
 *   queue --> group 0111101100000... --> group 0000000011111...
 *                    '--' ''                           '-----      a call for each row of neighbours
 */
#include "backend/revoke.h"

#include <limits.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mutex.h"

/* A row of neighbours that is worth a call; less where the limit is lower than some of them. */
enum { LONG_ROW = 32, LONG_ROW_PART = 8 };

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now); /* the vdso's: no system call */
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int revoke_init(struct revoke_queue *queue)
{
	int err = pthread_mutex_init(&queue->lock, NULL);

	queue->due_ns = UINT64_MAX;
	queue->end = &queue->first;
	return err ? error_set(err, "cannot make a lock for a domain: %s", strerror(err)) : 0;
}

void revoke_fini(struct revoke_queue *queue)
{
	pthread_mutex_destroy(&queue->lock);
}

/* ---- the lock is held ---- */

/* What waits from this one on, as far as it lies side by side; *n: how many. */
static struct revoke_entry row_find(const struct revoke_queue *queue,
				    const struct revoke_group *group, unsigned int first,
				    unsigned int *n)
{
	struct revoke_entry row = queue->entry(group, first), next;

	for (*n = 1; first + *n < 64 && group->waits >> (first + *n) & 1; ++*n) {
		next = queue->entry(group, first + *n);
		if (next.dma != row.dma + row.size)
			break;
		row.size += next.size;
		row.maps += next.maps;
	}
	return row;
}

static void row_revoke(struct revoke_queue *queue, struct revoke_group *group, unsigned int first,
		       unsigned int n, const struct revoke_entry *row)
{
	struct domain *domain = queue->domain;
	int err = domain->ops->unmap(domain, row->dma, row->size, row->maps);

	queue->calls++;
	queue->count -= n;
	if (err)
		log_line(DMALAND_LOG_ERR, "%zu KiB at dma address 0x%llx stay mapped: %s",
			 row->size >> 10, (unsigned long long)row->dma, error_last());
	else
		queue->revoked += n;
	for (unsigned int i = 0; i < n; i++)
		queue->released(group, first + i, !err);
}

/* Rows of at least so many. What is released may be in use again at once, and wait again when the lock is free. */
static void group_revoke(struct revoke_queue *queue, struct revoke_group *group,
			 unsigned int at_least)
{
	uint64_t left = group->waits, bits;

	while (left) {
		unsigned int first = (unsigned int)__builtin_ctzll(left), n;
		const struct revoke_entry row = row_find(queue, group, first, &n);

		bits = UINT64_MAX >> (64 - n) << first;
		left &= ~bits;
		if (n < at_least)
			continue;
		group->waits &= ~bits;
		row_revoke(queue, group, first, n, &row);
	}
}

static void group_append(struct revoke_queue *queue, struct revoke_group *group)
{
	group->next = NULL;
	*queue->end = group;
	queue->end = &group->next;
}

/* When the first group is due. */
static void due_set(struct revoke_queue *queue)
{
	uint64_t due = queue->first ? queue->first->since_ns + queue->timeout_ns : UINT64_MAX;

	__atomic_store_n(&queue->due_ns, due, __ATOMIC_RELAXED);
}

/* Revoke rows of at least so many; the others wait on. */
static void groups_revoke(struct revoke_queue *queue, unsigned int at_least)
{
	struct revoke_group *group = queue->first, *next;

	cancel_hold();
	queue->first = NULL;
	queue->end = &queue->first;
	for (; group; group = next) {
		next = group->next;
		group_revoke(queue, group, at_least);
		if (group->waits)
			group_append(queue, group);
	}
	due_set(queue);
	cancel_release();
}

static void revoke_all(struct revoke_queue *queue)
{
	groups_revoke(queue, 1);
}

/* The first ones wait longest. */
static void revoke_due(struct revoke_queue *queue, uint64_t now)
{
	struct revoke_group *group;

	if (now < queue->due_ns)
		return;
	cancel_hold();
	while ((group = queue->first) && group->since_ns <= now - queue->timeout_ns) {
		queue->first = group->next;
		if (!queue->first)
			queue->end = &queue->first;
		group_revoke(queue, group, 1);
	}
	due_set(queue);
	cancel_release();
}

/* The limit is reached. */
static void revoke_long_rows(struct revoke_queue *queue)
{
	unsigned int part = queue->limit / LONG_ROW_PART;

	groups_revoke(queue, part < LONG_ROW ? part : LONG_ROW);
	if (queue->count > queue->limit / 2)
		revoke_all(queue);
}

/* ---- what others call ---- */

static void queue_lock(struct revoke_queue *queue)
{
	log_hold();
	pthread_mutex_lock(&queue->lock);
}

static void queue_unlock(struct revoke_queue *queue)
{
	pthread_mutex_unlock(&queue->lock);
	log_release();
}

void revoke_later(struct revoke_queue *queue, struct revoke_group *group, unsigned int which)
{
	uint64_t now;

	queue_lock(queue);
	now = now_ns(); /* under the lock, so that no group that is there is younger */
	if (!group->waits) {
		group->since_ns = now;
		group_append(queue, group);
		due_set(queue);
	}
	group->waits |= UINT64_C(1) << which;
	if (++queue->count == queue->limit)
		revoke_long_rows(queue);
	revoke_due(queue, now);
	queue_unlock(queue);
}

void revoke_flush(struct revoke_queue *queue)
{
	queue_lock(queue);
	revoke_all(queue);
	queue_unlock(queue);
}

void revoke_if_due(struct revoke_queue *queue)
{
	uint64_t due = __atomic_load_n(&queue->due_ns, __ATOMIC_RELAXED);

	if (due == UINT64_MAX || now_ns() < due)
		return;
	queue_lock(queue);
	revoke_due(queue, now_ns());
	queue_unlock(queue);
}

unsigned int revoke_waiting(struct revoke_queue *queue)
{
	unsigned int count;

	pthread_mutex_lock(&queue->lock);
	count = queue->count;
	pthread_mutex_unlock(&queue->lock);
	return count;
}
