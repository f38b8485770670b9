/* SPDX-License-Identifier: MIT */
/*
 * revoke.c - mappings of a domain that wait to be unmapped
 *
 *   waits, by address:  |m1|m2|m3|m4|  |m7|      |m12|m13|...|m64|
 *   unmap calls:        ------------   (waits)   -----------------
 */
#include "backend/revoke.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
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

int revoke_init(struct revoke_queue *queue, struct domain *domain, unsigned int limit,
		uint64_t timeout_ns, void (*released)(void *what, bool revoked))
{
	int err;

	memset(queue, 0, sizeof(*queue));
	queue->domain = domain;
	queue->released = released;
	queue->limit = limit;
	queue->timeout_ns = timeout_ns;
	queue->due_ns = UINT64_MAX;
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

/* ---- rows of neighbours; the lock is held ---- */

/* How many entries from the first on lie side by side. */
static unsigned int row_length(const struct revoke_entry *first, unsigned int count)
{
	unsigned int n = 1;

	while (n < count && first[n].dma + first[n].size == first[n - 1].dma)
		n++;
	return n;
}

static uint64_t row_since(const struct revoke_entry *first, unsigned int n)
{
	uint64_t since = first->since_ns;

	for (unsigned int i = 1; i < n; i++)
		if (first[i].since_ns < since)
			since = first[i].since_ns;
	return since;
}

static void row_revoke(struct revoke_queue *queue, const struct revoke_entry *first, unsigned int n)
{
	struct domain *domain = queue->domain;
	dma_addr_t dma = first[n - 1].dma;
	size_t size = (size_t)(first->dma - dma) + first->size;
	unsigned int maps = 0;
	int err;

	for (unsigned int i = 0; i < n; i++)
		maps += first[i].maps;
	err = domain->ops->unmap(domain, dma, size, maps);
	queue->calls++;
	if (err)
		log_line(DMALAND_LOG_ERR, "%zu KiB at dma address 0x%llx stay mapped: %s",
			 size >> 10, (unsigned long long)dma, error_last());
	else
		queue->revoked += n;
	for (unsigned int i = 0; i < n; i++)
		queue->released(first[i].what, !err);
}

/*
 * Revoke rows of at least so many entries, and those with an entry that waits since then or longer;
 * the others wait on.
 */
static void rows_revoke(struct revoke_queue *queue, unsigned int at_least, uint64_t since_ns)
{
	uint64_t oldest = UINT64_MAX;
	unsigned int kept = 0, n;

	cancel_hold();
	for (unsigned int i = 0; i < queue->count; i += n) {
		struct revoke_entry *row = &queue->entries[i];
		uint64_t since;

		n = row_length(row, queue->count - i);
		since = row_since(row, n);
		if (n >= at_least || since <= since_ns) {
			row_revoke(queue, row, n);
			continue;
		}
		if (since < oldest)
			oldest = since;
		memmove(&queue->entries[kept], row, n * sizeof(*row));
		kept += n;
	}
	queue->count = kept;
	__atomic_store_n(&queue->due_ns, kept ? oldest + queue->timeout_ns : UINT64_MAX,
			 __ATOMIC_RELAXED);
	cancel_release();
}

static void revoke_all(struct revoke_queue *queue)
{
	rows_revoke(queue, 1, 0);
}

static void revoke_due(struct revoke_queue *queue, uint64_t now)
{
	if (now >= queue->due_ns)
		rows_revoke(queue, UINT_MAX, now - queue->timeout_ns);
}

/* The limit is reached. */
static void revoke_long_rows(struct revoke_queue *queue)
{
	unsigned int part = queue->limit / LONG_ROW_PART;

	rows_revoke(queue, part < LONG_ROW ? part : LONG_ROW, 0);
	if (queue->count > queue->limit / 2)
		revoke_all(queue);
}

static void entry_insert(struct revoke_queue *queue, const struct revoke_entry *entry, uint64_t now)
{
	unsigned int low = 0, high = queue->count;

	while (low < high) {
		unsigned int middle = low + (high - low) / 2;

		if (queue->entries[middle].dma > entry->dma)
			low = middle + 1;
		else
			high = middle;
	}
	memmove(&queue->entries[low + 1], &queue->entries[low],
		(queue->count - low) * sizeof(*entry));
	queue->entries[low] = *entry;
	queue->entries[low].since_ns = now;
	if (queue->count++ == 0)
		__atomic_store_n(&queue->due_ns, now + queue->timeout_ns, __ATOMIC_RELAXED);
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

void revoke_later(struct revoke_queue *queue, const struct revoke_entry *entry)
{
	uint64_t now;

	queue_lock(queue);
	now = now_ns(); /* under the lock, so that no entry that is there is younger */
	entry_insert(queue, entry, now);
	if (queue->count == queue->limit)
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
