/* SPDX-License-Identifier: MIT */
/*
 * debug_mappings.c - debug mode: mappings that are translated, and so hold nothing
 *
 *   hash of level and cell --> |mapping| --> |mapping| ...      mapped, and not unmapped yet
 *
 * Outside of debug mode such a mapping leaves no trace, and its end can't be checked. Here each is
 * kept, as the kernel's dma-debug does. The same memory may be mapped more than once at a time: then
 * one of those that match ends.
 *
 * The address space is cut into cells of 64 bytes on level 0, and of 16 times as many on each level above.
 * A mapping is of the lowest level whose cells are as large as it, and of the cell where it begins. So
 * what lies at an address begins, on each level, in the cell of the address or in the one before.
 */
#include "streaming/streaming_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

enum { LEVELS = 15, CELL_SHIFT = 6, LEVEL_SHIFT = 4, BUCKET_BITS = 16 };

struct followed {
	struct followed *next;
	struct holding holding;
};

struct follow {
	pthread_mutex_t lock;
	uint64_t live;
	uint64_t level_live[LEVELS];
	struct followed *buckets[1 << BUCKET_BITS]; /* memory that is not there until it is used */
};

static unsigned int level_of(size_t size)
{
	unsigned int bits = size > 1 ? 64 - (unsigned int)__builtin_clzll(size - 1) : 0;
	unsigned int level =
		bits > CELL_SHIFT ? (bits - CELL_SHIFT + LEVEL_SHIFT - 1) / LEVEL_SHIFT : 0;

	return level < LEVELS ? level : LEVELS - 1;
}

static uint64_t cell_of(unsigned int level, dma_addr_t dma)
{
	return dma >> (CELL_SHIFT + LEVEL_SHIFT * level);
}

/* By Fibonacci hashing (Knuth, The Art of Computer Programming, 6.4). */
static struct followed **bucket_of(struct follow *follow, unsigned int level, uint64_t cell)
{
	uint64_t key = cell * LEVELS + level;

	return &follow->buckets[key * UINT64_C(0x9e3779b97f4a7c15) >> (64 - BUCKET_BITS)];
}

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

	for (size_t i = 0; s->follow->live; i++)
		for (followed = s->follow->buckets[i]; followed; followed = next) {
			next = followed->next;
			free(followed);
			s->follow->live--;
		}
	pthread_mutex_destroy(&s->follow->lock);
	free(s->follow);
	s->follow = NULL;
}

uint64_t follow_live(struct streaming *s)
{
	return __atomic_load_n(&s->follow->live, __ATOMIC_RELAXED);
}

/* The lock is held. */
static void live_count(struct follow *follow, unsigned int level, uint64_t more)
{
	follow->level_live[level] += more;
	__atomic_store_n(&follow->live, follow->live + more, __ATOMIC_RELAXED);
}

int follow_begin(struct streaming *s, dma_addr_t dma, const struct piece *piece)
{
	struct followed *followed = malloc(sizeof(*followed)), **bucket;
	unsigned int level = level_of(piece->size);

	if (!followed)
		return error_set(ENOMEM, "%s: no memory to follow a mapping", s->name);
	followed->holding =
		(struct holding){dma, piece->size, piece->ptr, piece->nents, piece->direction};
	bucket = bucket_of(s->follow, level, cell_of(level, dma));
	pthread_mutex_lock(&s->follow->lock);
	followed->next = *bucket;
	*bucket = followed;
	live_count(s->follow, level, 1);
	pthread_mutex_unlock(&s->follow->lock);
	return 0;
}

/* Where one that is as claimed is linked, or NULL; and another that begins at dma. The lock is held. */
static struct followed **followed_find(struct follow *follow, dma_addr_t dma,
				       const struct piece *claim, struct holding *other)
{
	for (unsigned int level = 0; level < LEVELS; level++) {
		struct followed **link = bucket_of(follow, level, cell_of(level, dma)), *followed;

		if (!follow->level_live[level])
			continue;
		for (; (followed = *link); link = &followed->next) {
			if (claim_holds(claim, dma, &followed->holding))
				return link;
			if (followed->holding.dma == dma)
				*other = followed->holding;
		}
	}
	return NULL;
}

bool follow_check(struct streaming *s, dma_addr_t dma, const struct piece *claim)
{
	struct holding other = {0};
	bool found;

	pthread_mutex_lock(&s->follow->lock);
	found = followed_find(s->follow, dma, claim, &other);
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
	struct followed **link, *followed = NULL;
	struct holding other;

	pthread_mutex_lock(&s->follow->lock);
	link = followed_find(s->follow, dma, claim, &other);
	if (link) {
		followed = *link;
		*link = followed->next;
		live_count(s->follow, level_of(followed->holding.size), -UINT64_C(1));
	}
	pthread_mutex_unlock(&s->follow->lock);
	free(followed);
}

/* One of a cell's that may be synced so; or another that lies there. The lock is held. */
static bool cell_sync(struct follow *follow, unsigned int level, uint64_t cell, dma_addr_t dma,
		      size_t size, enum dma_data_direction direction, struct holding *other)
{
	for (struct followed *f = *bucket_of(follow, level, cell); f; f = f->next) {
		if (sync_holds(dma, size, direction, &f->holding))
			return true;
		if (dma - f->holding.dma < f->holding.size)
			*other = f->holding;
	}
	return false;
}

bool follow_sync(struct streaming *s, dma_addr_t dma, size_t size,
		 enum dma_data_direction direction)
{
	struct follow *follow = s->follow;
	struct holding other = {0};
	bool found = false;

	pthread_mutex_lock(&follow->lock);
	for (unsigned int level = 0; level < LEVELS && !found; level++) {
		uint64_t cell = cell_of(level, dma);

		if (!follow->level_live[level])
			continue;
		found = cell_sync(follow, level, cell, dma, size, direction, &other) ||
			cell_sync(follow, level, cell - 1, dma, size, direction, &other);
	}
	pthread_mutex_unlock(&follow->lock);
	if (found)
		return true;
	if (other.size)
		report_bad_sync(s, dma, size, direction, &other);
	else
		report_not_allocated(s, dma, size, true);
	return false;
}
