/* SPDX-License-Identifier: MIT */
/*
 * follow.c - debug mode: mappings that are translated, and so hold nothing
 *
 *   hash of the frame --> |mapping| --> |mapping| ...      mapped, and not unmapped yet
 *
 * Outside of debug mode such a mapping leaves no trace, and its end can't be checked. Here each is
 * kept, as the kernel's dma-debug does. The same memory may be mapped more than once at a time: then
 * one of those that match ends.
 */
#include "streaming/streaming_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

enum { BUCKETS = 1024 };

struct followed {
	struct followed *next;
	struct holding holding;
};

struct follow {
	pthread_mutex_t lock;
	uint64_t live;
	struct followed *buckets[BUCKETS];
};

int follow_start(struct streaming *s)
{
	struct follow *follow = calloc(1, sizeof(*follow));
	int err;

	if (!follow)
		return error_set(ENOMEM, "no memory for a device's mappings");
	err = pthread_mutex_init(&follow->lock, NULL);
	if (err) {
		free(follow);
		return error_set(err, "cannot make a lock for a device: %s", strerror(err));
	}
	s->follow = follow;
	return 0;
}

void follow_stop(struct streaming *s)
{
	struct followed *followed, *next;

	for (size_t i = 0; i < BUCKETS; i++)
		for (followed = s->follow->buckets[i]; followed; followed = next) {
			next = followed->next;
			free(followed);
		}
	pthread_mutex_destroy(&s->follow->lock);
	free(s->follow);
	s->follow = NULL;
}

uint64_t follow_live(struct streaming *s)
{
	return __atomic_load_n(&s->follow->live, __ATOMIC_RELAXED);
}

static struct followed **bucket_of(struct follow *follow, dma_addr_t dma)
{
	return &follow->buckets[(dma >> FRAME_SHIFT) % BUCKETS];
}

int follow_begin(struct streaming *s, dma_addr_t dma, const struct piece *piece)
{
	struct followed *followed = malloc(sizeof(*followed)), **bucket = bucket_of(s->follow, dma);

	if (!followed)
		return error_set(ENOMEM, "%s: no memory to follow a mapping", s->name);
	followed->holding =
		(struct holding){dma, piece->size, piece->ptr, piece->nents, piece->direction};
	pthread_mutex_lock(&s->follow->lock);
	followed->next = *bucket;
	*bucket = followed;
	__atomic_store_n(&s->follow->live, s->follow->live + 1, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&s->follow->lock);
	return 0;
}

bool follow_check(struct streaming *s, dma_addr_t dma, const struct piece *claim)
{
	struct holding other = {0};
	bool found = false;

	pthread_mutex_lock(&s->follow->lock);
	for (struct followed *f = *bucket_of(s->follow, dma); f && !found; f = f->next) {
		found = claim_holds(claim, dma, &f->holding);
		if (f->holding.dma == dma)
			other = f->holding;
	}
	pthread_mutex_unlock(&s->follow->lock);
	if (found)
		return true;
	if (other.size)
		report_bad_unmap(s, dma, claim, &other);
	else
		report_not_allocated(s, dma, claim->size, false);
	return false;
}

void follow_end(struct streaming *s, dma_addr_t dma, const struct piece *claim)
{
	struct followed **link = bucket_of(s->follow, dma), *followed;

	pthread_mutex_lock(&s->follow->lock);
	while ((followed = *link) && !claim_holds(claim, dma, &followed->holding))
		link = &followed->next;
	if (followed) {
		*link = followed->next;
		__atomic_store_n(&s->follow->live, s->follow->live - 1, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&s->follow->lock);
	free(followed);
}

/* A mapping may begin far below: all are looked at. */
bool follow_sync(struct streaming *s, dma_addr_t dma, size_t size,
		 enum dma_data_direction direction)
{
	struct holding other = {0};
	bool found = false;

	pthread_mutex_lock(&s->follow->lock);
	for (size_t i = 0; i < BUCKETS && !found; i++)
		for (struct followed *f = s->follow->buckets[i]; f && !found; f = f->next) {
			found = sync_holds(dma, size, direction, &f->holding);
			if (dma - f->holding.dma < f->holding.size)
				other = f->holding;
		}
	pthread_mutex_unlock(&s->follow->lock);
	if (found)
		return true;
	if (other.size)
		report_bad_sync(s, dma, size, direction, &other);
	else
		report_not_allocated(s, dma, size, true);
	return false;
}
