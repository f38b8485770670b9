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

#include <string.h>

#include "base/bits.h"
#include "base/spin.h"

/* Slabs with nothing but free slots that a class keeps. */
enum { IDLE_MAX = 2 };

#define ALL_FREE UINT64_MAX

void iova_cache_init(struct iova_cache *cache, struct iova_space *space, pthread_mutex_t *lock,
		     uint64_t granule, const struct iova_slab_ops *ops)
{
	memset(cache, 0, sizeof(*cache));
	cache->space = space;
	cache->lock = lock;
	cache->ops = ops;
	cache->granule = granule;
	cache->shift = (unsigned int)__builtin_ctzll(granule);
	cache->generation = space->generation;
	cache->last = UINT64_MAX;
}

/* ---- ranges ---- */

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

/* ---- slabs in their class; the shard's lock is held ---- */

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

/* The lowest free slot. */
static inline unsigned int slot_take(struct iova_slab *slab)
{
	unsigned int which = (unsigned int)__builtin_ctzll(slab->free);

	if (slab->free == ALL_FREE)
		slab->class->idle--;
	slab->free &= slab->free - 1;
	if (!slab->free)
		slab_unlink(slab);
	return which;
}

/* Does a slab stay that is left with free slots only? If not, it is in no list any more. */
static inline bool slab_is_kept(struct iova_slab *slab)
{
	if (slab->class->idle < IDLE_MAX) {
		slab->class->idle++;
		return true;
	}
	slab_unlink(slab);
	return false;
}

/* ---- slabs come and go ---- */

/* With addresses and memory of its own; the space's lock is held. */
static struct iova_slab *slab_new(struct iova_cache *cache, uint64_t slot_size)
{
	uint64_t size = slot_size * IOVA_SLAB_SLOTS, first;
	/* Aligned, so that no slot crosses a boundary that the slab fits into. */
	const struct iova_wish wish = {
		.size = size, .align = power_of_two_covering(size), .last = cache->last};
	struct iova_slab *slab;

	if (iova_space_take(cache->space, &wish, &first))
		return NULL;
	slab = cache->ops->begin(cache, first, slot_size);
	if (slab)
		*slab = (struct iova_slab){
			.first = first, .slot_size = slot_size, .free = ALL_FREE};
	else
		iova_space_release(cache->space, first, size);
	return slab;
}

/*
 * A slot of a new slab, which is in its class when the space's lock is free: so that none is missed when
 * slabs are retired.
 */
static __attribute__((noinline)) struct iova_slab *
slab_make(struct iova_cache *cache, struct iova_shard *shard, struct iova_class *class,
	  uint64_t slot_size, unsigned int *which)
{
	struct iova_slab *slab;

	pthread_mutex_lock(cache->lock);
	slab = slab_new(cache, slot_size);
	if (slab) {
		spin_lock(&shard->lock);
		slab->generation = shard->generation;
		slab->shard = shard;
		slab->class = class;
		class->idle++;
		slab_append(slab);
		*which = slot_take(slab);
		spin_unlock(&shard->lock);
	}
	pthread_mutex_unlock(cache->lock);
	return slab;
}

/* Apart, so that who gives a slot back saves nothing for it. */
static __attribute__((noinline)) void slab_end(struct iova_cache *cache, struct iova_slab *slab)
{
	iova_cache_give(cache, slab->first, slab->slot_size * IOVA_SLAB_SLOTS);
	cache->ops->end(cache, slab);
}

/* Idle slabs leave their class, or all: the idle ones of these. */
static struct iova_slab *class_drain(struct iova_class *class, struct iova_slab *idle, bool all)
{
	struct iova_slab *slab, *next;

	for (slab = class->first; slab; slab = next) {
		next = slab->next;
		if (slab->free != ALL_FREE)
			continue;
		slab_unlink(slab);
		slab->next = idle;
		idle = slab;
	}
	class->idle = 0;
	if (all)
		class->first = class->last = NULL;
	return idle;
}

static void cache_drain(struct iova_cache *cache, bool all)
{
	for (size_t i = 0; i < IOVA_SHARDS; i++) {
		struct iova_shard *shard = &cache->shards[i];
		struct iova_slab *idle = NULL, *next;

		spin_lock(&shard->lock);
		shard->generation += all;
		for (size_t class = 0; class < IOVA_SLOT_GRANULES; class ++)
			idle = class_drain(&shard->classes[class], idle, all);
		spin_unlock(&shard->lock);
		for (; idle; idle = next) {
			next = idle->next;
			slab_end(cache, idle);
		}
	}
}

void iova_cache_trim(struct iova_cache *cache)
{
	cache_drain(cache, false);
}

void iova_cache_limit(struct iova_cache *cache, uint64_t last)
{
	pthread_mutex_lock(cache->lock);
	cache->last = last;
	pthread_mutex_unlock(cache->lock);
	cache_drain(cache, true);
}

uint64_t iova_cache_slot_max(const struct iova_cache *cache, uint64_t boundary)
{
	uint64_t most = IOVA_SLOT_GRANULES * cache->granule;
	uint64_t fits = boundary / IOVA_SLAB_SLOTS + 1; /* both are powers of two */

	return fits < most ? fits & ~(cache->granule - 1) : most;
}

/* ---- slots ---- */

static uint32_t space_generation(const struct iova_cache *cache)
{
	return __atomic_load_n(&cache->space->generation, __ATOMIC_RELAXED);
}

static __attribute__((noinline)) struct iova_slab *
retire_and_take(struct iova_cache *cache, uint64_t size, unsigned int number, unsigned int *which)
{
	uint32_t generation = space_generation(cache);

	cache_drain(cache, true);
	__atomic_store_n(&cache->generation, generation, __ATOMIC_RELEASE);
	return iova_cache_take_slot(cache, size, number, which);
}

/* What is rare is a jump, so that nothing is saved for it. */
struct iova_slab *iova_cache_take_slot(struct iova_cache *cache, uint64_t size, unsigned int number,
				       unsigned int *which)
{
	struct iova_shard *shard = &cache->shards[number % IOVA_SHARDS];
	struct iova_class *class = &shard->classes[(size >> cache->shift) - 1];
	struct iova_slab *slab;

	if (__builtin_expect(__atomic_load_n(&cache->generation, __ATOMIC_RELAXED) !=
				     space_generation(cache),
			     0))
		return retire_and_take(cache, size, number, which);
	spin_lock(&shard->lock);
	slab = class->first;
	if (slab)
		*which = slot_take(slab);
	spin_unlock(&shard->lock);
	return __builtin_expect(slab != NULL, 1) ? slab
						 : slab_make(cache, shard, class, size, which);
}

void iova_cache_give_slot(struct iova_cache *cache, struct iova_slab *slab, unsigned int which)
{
	struct iova_shard *shard = slab->shard;
	bool kept = true, retired;

	spin_lock(&shard->lock);
	retired = slab->generation != shard->generation;
	if (!retired && !slab->free)
		slab_append(slab);
	slab->free |= UINT64_C(1) << which;
	if (slab->free == ALL_FREE)
		kept = !retired && slab_is_kept(slab);
	spin_unlock(&shard->lock);
	if (!kept)
		slab_end(cache, slab);
}
