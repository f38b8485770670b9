/* SPDX-License-Identifier: MIT */
/*
 * revoke.c - mappings of a domain that wait to be unmapped
 *
 *   waits, by address:  |m1|m2|m3|m4|  |m7|      |m12|m13|...|m64|
 *   unmap calls:        ------------   (waits)   -----------------
 */
#include "backend/revoke.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/log.h"

/* A row of neighbours that is worth a call; less where the limit is lower than some of them. */
enum { LONG_ROW = 32, LONG_ROW_PART = 8 };

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now); /* the vdso's: no system call */
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int revoke_init(struct revoke_queue *queue, struct domain *domain, unsigned int limit,
		uint64_t timeout_ns, void (*released)(void *what, bool revoked))
{
	int err;

	memset(queue, 0, sizeof(*queue));
	queue->domain = domain;
	queue->released = released;
	queue->limit = limit;
	queue->timeout_ns = timeout_ns;
	queue->entries = calloc(limit, sizeof(*queue->entries));
	if (!queue->entries)
		return error_set(ENOMEM, "no memory for %u mappings that wait to be revoked",
				 limit);
	err = pthread_mutex_init(&queue->lock, NULL);
	if (err) {
		free(queue->entries);
		return error_set(err, "cannot make a lock for a domain: %s", strerror(err));
	}
	return 0;
}

void revoke_fini(struct revoke_queue *queue)
{
	pthread_mutex_destroy(&queue->lock);
	free(queue->entries);
}

static int entry_compare(const void *a, const void *b)
{
	const struct revoke_entry *x = a, *y = b;

	return x->dma < y->dma ? -1 : x->dma > y->dma;
}

/* How many entries from the first on lie side by side. */
static unsigned int row_length(const struct revoke_entry *first, unsigned int count)
{
	unsigned int n = 1;

	while (n < count && first[n - 1].dma + first[n - 1].size == first[n].dma)
		n++;
	return n;
}

static void row_revoke(struct revoke_queue *queue, const struct revoke_entry *first, unsigned int n)
{
	struct domain *domain = queue->domain;
	size_t size = (size_t)(first[n - 1].dma - first->dma) + first[n - 1].size;
	unsigned int maps = 0;
	int err;

	for (unsigned int i = 0; i < n; i++)
		maps += first[i].maps;
	err = domain->ops->unmap(domain, first->dma, size, maps);
	queue->calls++;
	if (err)
		log_line(DMALAND_LOG_ERR, "%zu KiB at dma address 0x%llx stay mapped: %s",
			 size >> 10, (unsigned long long)first->dma, error_last());
	else
		queue->revoked += n;
	for (unsigned int i = 0; i < n; i++)
		queue->released(first[i].what, !err);
}

/* Revoke rows of at least so many entries; the others wait on. The lock is held. */
static void rows_revoke(struct revoke_queue *queue, unsigned int at_least)
{
	unsigned int kept = 0, n;

	qsort(queue->entries, queue->count, sizeof(queue->entries[0]), entry_compare);
	for (unsigned int i = 0; i < queue->count; i += n) {
		n = row_length(&queue->entries[i], queue->count - i);
		if (n >= at_least) {
			row_revoke(queue, &queue->entries[i], n);
			continue;
		}
		memmove(&queue->entries[kept], &queue->entries[i], n * sizeof(queue->entries[0]));
		kept += n;
	}
	queue->count = kept;
}

void revoke_later(struct revoke_queue *queue, const struct revoke_entry *entry)
{
	unsigned int part = queue->limit / LONG_ROW_PART;

	pthread_mutex_lock(&queue->lock);
	if (queue->count == 0)
		queue->since_ns = now_ns();
	queue->entries[queue->count++] = *entry;
	if (queue->count == queue->limit) {
		rows_revoke(queue, part < LONG_ROW ? part : LONG_ROW);
		if (queue->count > queue->limit / 2)
			rows_revoke(queue, 1);
	}
	pthread_mutex_unlock(&queue->lock);
}

void revoke_flush(struct revoke_queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	rows_revoke(queue, 1);
	pthread_mutex_unlock(&queue->lock);
}

void revoke_if_due(struct revoke_queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	if (queue->count && now_ns() - queue->since_ns >= queue->timeout_ns)
		rows_revoke(queue, 1);
	pthread_mutex_unlock(&queue->lock);
}

unsigned int revoke_waiting(struct revoke_queue *queue)
{
	unsigned int count;

	pthread_mutex_lock(&queue->lock);
	count = queue->count;
	pthread_mutex_unlock(&queue->lock);
	return count;
}
