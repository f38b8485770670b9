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
 * The address space is cut into cells of 64 bytes on level 0, and 16 times as many on each level above.
 * A mapping is of the lowest level whose cells are as large as it, and of the cell where it begins. So
 * what lies at an address begins, on each level, in the cell of the address or in the one before.
 */
#include "streaming/streaming_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

enum { LEVELS = 15, CELL_SHIFT = 6, LEVEL_SHIFT = 4, BUCKET_BITS_MIN = 6 };

struct followed {
	struct followed *next;
	struct holding holding;
};

struct follow {
	pthread_mutex_t lock;
	uint64_t live;
	uint64_t level_live[LEVELS];
	unsigned int bits; /* log2 of the buckets: about as many as are live */
	struct followed **buckets;
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
static struct followed **bucket_of(const struct follow *follow, unsigned int level, uint64_t cell)
{
	uint64_t key = cell * LEVELS + level;

	return &follow->buckets[key * UINT64_C(0x9e3779b97f4a7c15) >> (64 - follow->bits)];
}

static void followed_push(struct follow *follow, struct followed *followed)
{
	unsigned int level = level_of(followed->holding.size);
	struct followed **bucket = bucket_of(follow, level, cell_of(level, followed->holding.dma));

	followed->next = *bucket;
	*bucket = followed;
}

int follow_start(struct streaming *s)
{
	struct follow *follow = calloc(1, sizeof(*follow));
	int err;

	if (follow)
		follow->buckets = calloc((size_t)1 << BUCKET_BITS_MIN, sizeof(*follow->buckets));
	if (!follow || !follow->buckets) {
		free(follow);
		return error_set(ENOMEM, "no memory for a device's mappings");
	}
	follow->bits = BUCKET_BITS_MIN;
	err = pthread_mutex_init(&follow->lock, NULL);
	if (err) {
		free(follow->buckets);
		free(follow);
		return error_set(err, "cannot make a lock for a device: %s", strerror(err));
	}
	s->follow = follow;
	return 0;
}

void follow_stop(struct streaming *s)
{
	struct followed *followed, *next;

	for (size_t i = 0; i < (size_t)1 << s->follow->bits; i++)
		for (followed = s->follow->buckets[i]; followed; followed = next) {
			next = followed->next;
			free(followed);
		}
	free(s->follow->buckets);
	pthread_mutex_destroy(&s->follow->lock);
	free(s->follow);
	s->follow = NULL;
}

uint64_t follow_live(struct streaming *s)
{
	return __atomic_load_n(&s->follow->live, __ATOMIC_RELAXED);
}

/* Twice as many buckets, if they can be had: without, looking takes longer. Not the lock's: malloc() may call the kernel. */
static void buckets_double(struct follow *follow, unsigned int bits)
{
	struct followed **buckets = calloc((size_t)2 << bits, sizeof(*buckets)), **old = buckets;
	struct followed *followed, *next;

	if (!buckets)
		return;
	pthread_mutex_lock(&follow->lock);
	if (follow->bits == bits) { /* else another thread was faster */
		old = follow->buckets;
		follow->buckets = buckets;
		follow->bits++;
		for (size_t i = 0; i < (size_t)1 << bits; i++)
			for (followed = old[i]; followed; followed = next) {
				next = followed->next;
				followed_push(follow, followed);
			}
	}
	pthread_mutex_unlock(&follow->lock);
	free(old);
}

/* The lock is held. */
static void live_count(struct follow *follow, size_t size, uint64_t more)
{
	follow->level_live[level_of(size)] += more;
	__atomic_store_n(&follow->live, follow->live + more, __ATOMIC_RELAXED);
}

int follow_begin(struct streaming *s, dma_addr_t dma, const struct piece *piece)
{
	struct followed *followed = malloc(sizeof(*followed));
	struct follow *follow = s->follow;
	unsigned int bits;
	bool crowded;

	if (!followed)
		return error_set(ENOMEM, "%s: no memory to follow a mapping", s->name);
	followed->holding =
		(struct holding){dma, piece->size, piece->ptr, piece->nents, piece->direction};
	pthread_mutex_lock(&follow->lock);
	followed_push(follow, followed);
	live_count(follow, piece->size, 1);
	bits = follow->bits;
	crowded = follow->live >> bits;
	pthread_mutex_unlock(&follow->lock);
	if (crowded)
		buckets_double(follow, bits);
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
		live_count(s->follow, followed->holding.size, -UINT64_C(1));
	}
	pthread_mutex_unlock(&s->follow->lock);
	free(followed);
}

/* One of a cell's that may be synced so; or another that lies there. The lock is held. */
static bool cell_sync(const struct follow *follow, unsigned int level, uint64_t cell,
		      dma_addr_t dma, size_t size, enum dma_data_direction direction,
		      struct holding *other)
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
