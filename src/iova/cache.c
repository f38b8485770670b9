/* SPDX-License-Identifier: MIT */
/*
 * cache.c - dma addresses for mappings that come and go
 *
 *   cache --> shard --> class of 1 granule   --> slab |xx..xxxx| --> slab |........|
 *                  \--> class of 16 granules --> slab |xxx.....|
 *
 * The slots of a slab have one exact size and not the next power of two, so that neighbours leave no
 * gap between them. A slab that gets a slot back goes to the end of its list: the one in front is
 * used up first. Ranges are taken straight from the space.
 */
#include "iova/cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/spin.h"

/* Slabs with nothing but free slots that a class keeps. */
enum { IDLE_MAX = 2 };

struct iova_slab {
	uint64_t first; /* of its addresses */
	uint64_t slot_size;
	char *records; /* the user's, one for each slot */
	size_t record_size;
	uint64_t free;	 /* a bit a slot */
	uint64_t usable; /* those that may be free; all, as long as the space is not restricted */
	unsigned int taken; /* slots */
	struct iova_shard *shard;
	struct iova_class *class;	   /* of the shard */
	struct iova_slab *next, *previous; /* in its class; meaningless while nothing is free */
	struct iova_slab *next_of_all, *previous_of_all; /* in its shard */
};

void iova_cache_init(struct iova_cache *cache, struct iova_space *space, pthread_mutex_t *lock,
		     uint64_t granule, const struct iova_records *records)
{
	memset(cache, 0, sizeof(*cache));
	cache->space = space;
	cache->lock = lock;
	cache->records = records;
	cache->granule = granule;
	cache->shift = (unsigned int)__builtin_ctzll(granule);
	cache->generation = space->generation;
	cache->last = UINT64_MAX;
}

/* Of slabs with a slot that could not be revoked the addresses are never used again. */
void iova_cache_fini(struct iova_cache *cache)
{
	struct iova_slab *slab, *next;

	iova_cache_trim(cache);
	for (size_t i = 0; i < IOVA_SHARDS; i++)
		for (slab = cache->shards[i].all; slab; slab = next) {
			next = slab->next_of_all;
			free(slab);
		}
}

static uint64_t slab_size(const struct iova_slab *slab)
{
	return slab->slot_size * IOVA_SLAB_SLOTS;
}

/* ---- lists; the shard's lock is held ---- */

static size_t class_of(const struct iova_cache *cache, uint64_t slot_size)
{
	return (size_t)(slot_size >> cache->shift) - 1;
}

static void slab_append(struct iova_slab *slab)
{
	struct iova_class *class = slab->class;

	slab->next = NULL;
	slab->previous = class->last;
	if (slab->previous)
		slab->previous->next = slab;
	else
		class->first = slab;
	class->last = slab;
}

static void slab_unlink(struct iova_slab *slab)
{
	struct iova_class *class = slab->class;

	if (slab->previous)
		slab->previous->next = slab->next;
	else
		class->first = slab->next;
	if (slab->next)
		slab->next->previous = slab->previous;
	else
		class->last = slab->previous;
}

static void slab_enroll(struct iova_slab *slab)
{
	struct iova_shard *shard = slab->shard;

	slab->next_of_all = shard->all;
	slab->previous_of_all = NULL;
	if (shard->all)
		shard->all->previous_of_all = slab;
	shard->all = slab;
}

static void slab_strike(struct iova_slab *slab)
{
	if (slab->previous_of_all)
		slab->previous_of_all->next_of_all = slab->next_of_all;
	else
		slab->shard->all = slab->next_of_all;
	if (slab->next_of_all)
		slab->next_of_all->previous_of_all = slab->previous_of_all;
}

/* The record of the lowest free slot. */
static inline void *slot_take(struct iova_slab *slab)
{
	unsigned int slot = (unsigned int)__builtin_ctzll(slab->free);

	if (slab->taken++ == 0)
		slab->class->idle--;
	slab->free &= slab->free - 1;
	if (!slab->free)
		slab_unlink(slab);
	return slab->records + slot * slab->record_size;
}

/* A slot of a slab that is there, or NULL. */
static inline void *find_slot(struct iova_shard *shard, struct iova_class *class)
{
	void *record = NULL;

	spin_lock(&shard->lock);
	if (class->first)
		record = slot_take(class->first);
	spin_unlock(&shard->lock);
	return record;
}

/* ---- slabs ---- */

static void slots_fill(struct iova_slab *slab)
{
	for (unsigned int i = 0; i < IOVA_SLAB_SLOTS; i++) {
		void *record = slab->records + i * slab->record_size;

		*(struct iova_slot *)record = (struct iova_slot){slab, UINT64_C(1) << i};
	}
}

/* Addresses and records for a new slab; the space's lock is held. */
static int slab_furnish(struct iova_cache *cache, struct iova_slab *slab)
{
	uint64_t size = slab_size(slab);
	/* Aligned, so that no slot crosses a boundary that the slab fits into. */
	const struct iova_wish wish = {
		.size = size, .align = power_of_two_covering(size), .last = cache->last};
	int err = iova_space_take(cache->space, &wish, &slab->first);

	if (err)
		return err;
	slab->records = cache->records->begin(cache, slab->first, slab->slot_size);
	if (slab->records) {
		slots_fill(slab);
		return 0;
	}
	iova_space_release(cache->space, slab->first, size);
	return -ENOMEM;
}

/*
 * A slot of a new slab, which is enrolled under the space's lock: so that none is missed when the
 * space is restricted.
 */
static __attribute__((noinline)) void *slab_make(struct iova_cache *cache, struct iova_shard *shard,
						 struct iova_class *class, uint64_t slot_size)
{
	struct iova_slab *slab = malloc(sizeof(*slab));
	void *record = NULL;

	if (!slab)
		return NULL;
	*slab = (struct iova_slab){.slot_size = slot_size,
				   .record_size = cache->records->size,
				   .free = UINT64_MAX,
				   .usable = UINT64_MAX,
				   .shard = shard,
				   .class = class};
	pthread_mutex_lock(cache->lock);
	if (!slab_furnish(cache, slab)) {
		spin_lock(&shard->lock);
		slab_enroll(slab);
		slab_append(slab);
		class->idle++;
		record = slot_take(slab);
		spin_unlock(&shard->lock);
	}
	pthread_mutex_unlock(cache->lock);
	if (!record)
		free(slab);
	return record;
}

static void slab_end(struct iova_cache *cache, struct iova_slab *slab)
{
	iova_cache_give(cache, slab->first, slab_size(slab));
	cache->records->end(cache, slab->records);
	free(slab);
}

/* The slots of a slab that may be handed out. */
static uint64_t usable_slots(const struct iova_cache *cache, const struct iova_slab *slab)
{
	uint64_t usable = 0;

	for (unsigned int i = 0; i < IOVA_SLAB_SLOTS; i++) {
		uint64_t first = slab->first + i * slab->slot_size;
		uint64_t last = first + (slab->slot_size - 1);

		if (last <= cache->last && iova_space_has(cache->space, first, last))
			usable |= UINT64_C(1) << i;
	}
	return usable;
}

/* Both locks are held. */
static void slab_restrict(struct iova_slab *slab, uint64_t usable)
{
	uint64_t before = slab->free;

	slab->usable = usable;
	slab->free &= usable;
	if (!before || slab->free)
		return;
	slab_unlink(slab);
	if (!slab->taken)
		slab->class->idle--;
}

/* Something can't be handed out any more. Slabs that nobody uses go back; of the others slots are dropped. */
static void cache_restrict(struct iova_cache *cache)
{
	iova_cache_trim(cache);
	pthread_mutex_lock(cache->lock);
	for (size_t i = 0; i < IOVA_SHARDS; i++) {
		struct iova_shard *shard = &cache->shards[i];

		spin_lock(&shard->lock);
		for (struct iova_slab *slab = shard->all; slab; slab = slab->next_of_all)
			slab_restrict(slab, usable_slots(cache, slab));
		spin_unlock(&shard->lock);
	}
	__atomic_store_n(&cache->generation, cache->space->generation, __ATOMIC_RELEASE);
	pthread_mutex_unlock(cache->lock);
}

void iova_cache_limit(struct iova_cache *cache, uint64_t last)
{
	pthread_mutex_lock(cache->lock);
	cache->last = last;
	pthread_mutex_unlock(cache->lock);
	cache_restrict(cache);
}

uint64_t iova_cache_slot_max(const struct iova_cache *cache, uint64_t boundary)
{
	uint64_t most = IOVA_SLOT_GRANULES * cache->granule;
	uint64_t fits = boundary / IOVA_SLAB_SLOTS + 1; /* both are powers of two */

	return fits < most ? fits & ~(cache->granule - 1) : most;
}

static __attribute__((noinline)) void *restrict_and_take(struct iova_cache *cache, uint64_t size,
							 unsigned int number)
{
	cache_restrict(cache);
	return iova_cache_take_slot(cache, size, number);
}

/* What is rare is a jump, so that nothing is saved for it. */
void *iova_cache_take_slot(struct iova_cache *cache, uint64_t size, unsigned int number)
{
	struct iova_shard *shard = &cache->shards[number % IOVA_SHARDS];
	struct iova_class *class = &shard->classes[class_of(cache, size)];
	void *record;

	if (__builtin_expect(__atomic_load_n(&cache->generation, __ATOMIC_RELAXED) !=
				     __atomic_load_n(&cache->space->generation, __ATOMIC_RELAXED),
			     0))
		return restrict_and_take(cache, size, number);
	record = find_slot(shard, class);
	return __builtin_expect(record != NULL, 1) ? record : slab_make(cache, shard, class, size);
}

int iova_cache_take(struct iova_cache *cache, const struct iova_wish *wish, uint64_t *first)
{
	int err;

	pthread_mutex_lock(cache->lock);
	err = iova_space_take(cache->space, wish, first);
	pthread_mutex_unlock(cache->lock);
	return err;
}

void iova_cache_give(struct iova_cache *cache, uint64_t first, uint64_t size)
{
	pthread_mutex_lock(cache->lock);
	iova_space_release(cache->space, first, size);
	pthread_mutex_unlock(cache->lock);
}

/* A slab is left with free slots only. Kept? If not, it is in no list any more. */
static inline bool slab_is_kept(struct iova_slab *slab)
{
	if (slab->free && slab->class->idle < IDLE_MAX) {
		slab->class->idle++;
		return true;
	}
	if (slab->free)
		slab_unlink(slab);
	slab_strike(slab);
	return false;
}

void iova_cache_give_slot(struct iova_cache *cache, const struct iova_slot *slot)
{
	struct iova_slab *slab = slot->slab;
	struct iova_shard *shard = slab->shard;
	uint64_t bit = slot->bit;
	bool kept = true;

	spin_lock(&shard->lock);
	bit &= slab->usable;
	if (!slab->free && bit)
		slab_append(slab);
	slab->free |= bit;
	if (--slab->taken == 0)
		kept = slab_is_kept(slab);
	spin_unlock(&shard->lock);
	if (!kept)
		slab_end(cache, slab);
}

static struct iova_slab *find_idle(struct iova_shard *shard, struct iova_class *class)
{
	struct iova_slab *slab;

	spin_lock(&shard->lock);
	slab = class->first;
	while (slab && slab->taken)
		slab = slab->next;
	if (slab) {
		slab_unlink(slab);
		slab_strike(slab);
		class->idle--;
	}
	spin_unlock(&shard->lock);
	return slab;
}

void iova_cache_trim(struct iova_cache *cache)
{
	struct iova_slab *slab;

	for (size_t i = 0; i < IOVA_SHARDS; i++)
		for (size_t class = 0; class < IOVA_SLOT_GRANULES; class ++)
			while ((slab = find_idle(&cache->shards[i],
						 &cache->shards[i].classes[class])))
				slab_end(cache, slab);
}
