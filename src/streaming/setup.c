/* SPDX-License-Identifier: MIT */
/*
 * setup.c - making and ending a device's mappings, limits
 */
#include "streaming/streaming_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/mutex.h"

/* The kernel's defaults (include/linux/dma-mapping.h). */
#define SEG_SIZE_DEFAULT     65536u
#define SEG_BOUNDARY_DEFAULT DMA_BIT_MASK(32)

#define LAZY_COUNT_MAX 32768u /* half of what type1 may map in all */

/* ---- the domain's part ---- */

struct streaming_space *streaming_space_create(struct domain *domain, struct arena *arena)
{
	struct streaming_space *space = calloc(1, sizeof(*space));
	int err;

	if (!space) {
		error_set(ENOMEM, "no memory for a domain's mappings");
		return NULL;
	}
	space->domain = domain;
	space->arena = arena;
	if (frames_init(&space->frames))
		goto free_space;
	if (registered_init(&space->registered))
		goto free_frames;
	err = pthread_mutex_init(&space->lazy_lock, NULL);
	if (!err)
		return space;
	error_set(err, "cannot make a lock for mappings: %s", strerror(err));
	registered_fini(&space->registered);
free_frames:
	frames_fini(&space->frames);
free_space:
	free(space);
	return NULL;
}

void streaming_space_destroy(struct streaming_space *space)
{
	struct bounce_page *page, *next;

	if (space->revoke) {
		revoke_fini(space->revoke);
		free(space->revoke);
	}
	for (page = space->pages; page; page = next) {
		next = page->next;
		if (!page->is_ready)
			free(page);
	}
	bounce_ready_end(space);
	mappings_end(space);
	registered_fini(&space->registered);
	frames_fini(&space->frames);
	pthread_mutex_destroy(&space->lazy_lock);
	free(space);
}

/* The first lazy device of a domain says when its queue is emptied. */
static int revoke_make(struct streaming *s)
{
	struct streaming_space *space = s->space;
	unsigned int count = s->options.lazy_count ? s->options.lazy_count : LAZY_COUNT_DEFAULT;
	uint64_t ms = s->options.lazy_ms ? s->options.lazy_ms : LAZY_MS_DEFAULT;
	struct revoke_queue *queue;
	int err = 0;

	if (count > LAZY_COUNT_MAX)
		return error_set(EINVAL, "%s: lazy_count is %u and may be %u", s->name, count,
				 LAZY_COUNT_MAX);
	mutex_lock(&space->lazy_lock);
	if (space->revoke)
		goto unlock;
	queue = calloc(1, sizeof(*queue));
	if (!queue) {
		err = error_set(ENOMEM, "no memory for a domain's mappings");
		goto unlock;
	}
	*queue = (struct revoke_queue){.domain = space->domain,
				       .entry = mapped_entry,
				       .released = mapped_released,
				       .limit = count,
				       .timeout_ns = ms * 1000000};
	err = revoke_init(queue);
	if (err)
		free(queue);
	else
		__atomic_store_n(&space->revoke, queue, __ATOMIC_RELEASE);
unlock:
	mutex_unlock(&space->lazy_lock);
	return err;
}

/* ---- the device's part ---- */

/* Where registered memory is not translated the short way. */
static struct registered nothing_registered;

static int options_check(const struct streaming *s)
{
	const struct streaming_options *o = &s->options;

	if (o->untrusted && !streaming_can_map(s))
		return error_set(EOPNOTSUPP,
				 "%s: trusted=no needs memory to be mapped and revoked for each "
				 "transfer, and the backend %s can't",
				 s->name, s->space->domain->ops->backend);
	if (o->untrusted && o->lazy)
		return error_set(EINVAL,
				 "%s: a device that is not trusted can't keep what is unmapped: "
				 "trusted=no goes with strict unmapping only",
				 s->name);
	if (o->untrusted && o->no_syscalls)
		return error_set(EINVAL,
				 "%s: with trusted=no each transfer is mapped by a system call, "
				 "which no_syscalls forbids",
				 s->name);
	if (o->debug && o->no_syscalls)
		return error_set(EINVAL,
				 "%s: debug mode asks the kernel with each mapping of registered "
				 "memory, which no_syscalls forbids",
				 s->name);
	if (o->copy_below > BOUNCE_MAX)
		return error_set(EINVAL,
				 "%s: copy_below is %zu, and at most %zu bytes can be copied",
				 s->name, o->copy_below, BOUNCE_MAX);
	return 0;
}

/* Which sizes are copied and nothing else, and which take a slot of addresses: not where an address must look like the original's. */
static void limits_changed(struct streaming *s)
{
	const struct dma_limits *limits = s->limits;

	s->bounce_below = s->translates && !limits->min_align_mask ? s->copy_below : 0;
	s->slot_bytes = limits->min_align_mask < s->granule
				? iova_cache_slot_max(&s->iova, limits->seg_boundary)
				: 0;
}

static struct streaming *streaming_of_shrinker(struct arena_shrinker *shrinker)
{
	char *s = (char *)shrinker - offsetof(struct streaming, shrinker);

	return (struct streaming *)(void *)s;
}

/*
 * The arena, or somebody else's mapping, can't be had: what is only kept for later goes. Blocks to bounce
 * through go to pools whose shrinkers are younger, and are called after this.
 */
static void streaming_shrink(struct arena_shrinker *shrinker)
{
	struct streaming *s = streaming_of_shrinker(shrinker);

	if (!s->bounce_limits.keeps_idle)
		bounce_flush(s);
	streaming_flush(s);
	iova_cache_trim(&s->iova);
	granules_free(s);
}

static void streaming_count_idle(struct arena_shrinker *shrinker, struct arena_idle *idle)
{
	idle->parked += bounce_parked(streaming_of_shrinker(shrinker));
}

/* Threads that use other devices of the domain may be shrinking this one: not while its pools end. */
static void bounce_end_alone(struct streaming *s)
{
	arena_remove_shrinker(s->space->arena, &s->shrinker);
	bounce_end(s);
	arena_add_shrinker(s->space->arena, &s->shrinker);
}

static int locks_make(struct streaming *s)
{
	int err = pthread_mutex_init(&s->making, NULL);

	if (err)
		return error_set(err, "cannot make a lock for a device: %s", strerror(err));
	err = pthread_mutex_init(&s->pool_list.lock, NULL);
	if (!err)
		return 0;
	pthread_mutex_destroy(&s->making);
	return error_set(err, "cannot make a lock for a device: %s", strerror(err));
}

static void settings_fill(struct streaming *s)
{
	struct dma_limits *limits = s->own_limits;
	struct domain *domain = s->space->domain;

	limits->max_seg_size = SEG_SIZE_DEFAULT;
	limits->seg_boundary = SEG_BOUNDARY_DEFAULT;
	limits->min_align_mask = 0;
	s->bounce_limits.bouncing = true;
	s->bounce_limits.keeps_idle = s->options.no_syscalls;
	s->bounce_limits.coherent_mask = s->bounce_limits.streaming_mask = limits->streaming_mask;
	iova_cache_limit(&s->iova, limits->streaming_mask);
	s->translates = !s->options.untrusted;
	s->shadow = domain->ops->sync;
	s->copy_below = s->options.copy_below ? s->options.copy_below
			: domain->copy_below  ? domain->copy_below
					      : COPY_BELOW_DEFAULT;
	s->granule = domain->granule;
	s->page = (size_t)sysconf(_SC_PAGESIZE);
	s->short_below = s->options.debug || s->shadow ? 0 : SIZE_MAX / 2;
	s->holds_nothing = s->options.debug ? UINTPTR_MAX : FRAME_ARENA;
	limits_changed(s);
}

/* For each thread that there may be: pages are there once they are used. */
#define THREADS_BYTES (THREADS * sizeof(struct streaming_thread))

static int threads_make(struct streaming *s)
{
	void *memory = mmap(NULL, THREADS_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		return error_mmap("no memory for a device's mappings");
	s->threads = memory;
	s->all_slots = s->shared_slots = calloc(1, sizeof(*s->shared_slots));
	if (s->shared_slots)
		return 0;
	munmap(memory, THREADS_BYTES);
	return error_set(ENOMEM, "no memory for a device's mappings");
}

static void threads_free(struct streaming *s)
{
	struct thread_slots *slots, *next;

	for (slots = s->all_slots; slots; slots = next) {
		next = slots->next;
		free(slots);
	}
	munmap(s->threads, THREADS_BYTES);
}

/* Devices of one domain see the same memory: they are trusted all, or none. */
static int trust_check(struct streaming *s)
{
	bool untrusted = s->options.untrusted, mixed;

	spin_lock(&s->space->lock);
	mixed = s->space->users[!untrusted];
	if (!mixed)
		s->space->users[untrusted]++;
	spin_unlock(&s->space->lock);
	if (!mixed)
		return 0;
	return error_set(
		EINVAL,
		"%s is %s, and another device of its domain is %s: both would see the same "
		"memory; open it without share_with, or both alike",
		s->name, untrusted ? "not trusted" : "trusted",
		untrusted ? "trusted" : "not trusted");
}

/*
 * Where the device has a copy of its own of what is mapped, it has one of memory of the arena too: what a
 * driver forgets to sync shows, wherever its memory is from. Mapping it would be a system call, though.
 */
static bool arena_is_translated(const struct domain *domain,
				const struct streaming_options *options)
{
	return !options->untrusted && (!domain->ops->sync || options->no_syscalls);
}

int streaming_init(struct streaming *s, struct streaming_space *space, struct dma_limits *limits,
		   struct arena_tenant *orphans, const char *name,
		   const struct streaming_options *options)
{
	struct domain *domain = space->domain;
	int err;

	memset(s, 0, sizeof(*s));
	s->space = space;
	s->limits = s->own_limits = limits;
	s->pages = space->arena->pagemap.pages;
	s->window = (uintptr_t)domain->window;
	s->window_bytes = arena_is_translated(domain, options) ? domain->window_size : 0;
	s->frames = &space->frames;
	s->registered =
		options->untrusted || domain->ops->sync ? &nothing_registered : &space->registered;
	s->orphans = orphans;
	s->name = name;
	s->options = *options;
	iova_cache_init(&s->iova, &domain->iova, &domain->lock, domain->granule, &mapping_slab_ops);
	s->maps = domain->ops->map;
	err = options_check(s);
	if (!err && s->options.lazy)
		err = revoke_make(s);
	if (err)
		return err;
	settings_fill(s);
	err = threads_make(s);
	if (err)
		return err;
	err = locks_make(s);
	if (err) {
		threads_free(s);
		return err;
	}
	err = trust_check(s);
	if (err) {
		pthread_mutex_destroy(&s->pool_list.lock);
		pthread_mutex_destroy(&s->making);
		threads_free(s);
		return err;
	}
	s->shrinker =
		(struct arena_shrinker){.shrink = streaming_shrink, .count = streaming_count_idle};
	arena_add_shrinker(space->arena, &s->shrinker);
	if (s->options.debug)
		err = follow_start(s);
	else if (s->options.no_syscalls)
		err = bounce_prepare(s);
	if (err)
		streaming_fini(s);
	return err;
}

__attribute__((noinline)) void count_way_slowly(struct streaming *s, enum way way)
{
	if (thread_number_take())
		count_own(thread_at(s, thread_offset), way);
	else
		__atomic_fetch_add(&s->threads->ways[way], 1, __ATOMIC_RELAXED);
}

uint64_t streaming_count(const struct streaming *s, enum way way)
{
	uint32_t numbers = thread_numbers();
	uint64_t sum = 0;

	for (uint32_t i = 0; i < numbers; i++)
		sum += __atomic_load_n(&s->threads[i].ways[way], __ATOMIC_RELAXED);
	return sum;
}

static uint64_t live_bounced(const struct streaming *s)
{
	uint64_t ended = streaming_count(s, WAY_BOUNCE_END);

	return streaming_count(s, WAY_SMALL) + streaming_count(s, WAY_LIMIT) +
	       streaming_count(s, WAY_UNMAPPABLE) - ended;
}

static uint64_t live_mapped(const struct streaming *s)
{
	uint64_t ended = streaming_count(s, WAY_MAPPED_END);

	return streaming_count(s, WAY_MAPPED) + streaming_count(s, WAY_UNTRUSTED) - ended;
}

uint64_t streaming_live(struct streaming *s)
{
	return live_bounced(s) + live_mapped(s) + (s->follow ? follow_live(s) : 0);
}

/* The short ways lead to the long ones, which say why nothing is done. */
void streaming_disown(struct streaming *s)
{
	static const struct frames nothing_mapped;

	s->disowned = true;
	s->window_bytes = 0;
	s->frames = &nothing_mapped;
	s->registered = &nothing_registered;
	s->short_below = 0;
}

void streaming_fini(struct streaming *s)
{
	mapped_end(s);
	registrations_end(s);
	arena_remove_shrinker(s->space->arena, &s->shrinker);
	bounce_end(s);
	arena_forget(s->space->arena, &s->bounce_limits);
	iova_cache_trim(&s->iova);
	spin_lock(&s->space->lock);
	s->space->users[s->options.untrusted]--;
	spin_unlock(&s->space->lock);
	pthread_mutex_destroy(&s->pool_list.lock);
	pthread_mutex_destroy(&s->making);
	threads_free(s);
	if (s->follow)
		follow_stop(s);
}

/* ---- limits ---- */

bool streaming_can_map(const struct streaming *s)
{
	return s->maps;
}

bool streaming_merges(const struct streaming *s)
{
	return streaming_can_map(s) && !s->shadow && !s->options.no_syscalls;
}

size_t streaming_max_size(const struct streaming *s)
{
	if (s->translates && streaming_can_map(s))
		return SIZE_MAX;
	return BOUNCE_MAX - s->limits->min_align_mask;
}

/* Memory to bounce through under a new mask; where it can't be had the old one is in force again. */
static int bounce_prepare_or_widen(struct streaming *s, uint64_t before)
{
	if (bounce_prepare(s) == 0)
		return 0;
	bounce_end_alone(s);
	arena_set_mask(s->space->arena, &s->bounce_limits, before, s->name);
	bounce_prepare(s); /* what was ready before lies in the arena */
	return error_prefix("%s keeps its streaming mask 0x%llx", s->name,
			    (unsigned long long)before);
}

int streaming_set_mask(struct streaming *s, uint64_t mask)
{
	uint64_t before = s->bounce_limits.coherent_mask;
	int err;

	if (mask < before && live_bounced(s) == 0)
		bounce_end_alone(s);
	err = arena_set_mask(s->space->arena, &s->bounce_limits, mask, s->name);
	if (!err && s->options.no_syscalls && !s->pools[0])
		err = bounce_prepare_or_widen(s, before);
	if (err)
		return err;
	s->own_limits->streaming_mask = s->bounce_limits.streaming_mask = mask;
	iova_cache_limit(&s->iova, mask);
	return 0;
}

int streaming_set_boundary(struct streaming *s, uint64_t mask)
{
	if (mask + 1 && !is_power_of_two(mask + 1))
		return error_set(EINVAL, "%s: segment boundary 0x%llx is not a power of two less 1",
				 s->name, (unsigned long long)mask);
	s->own_limits->seg_boundary = mask;
	limits_changed(s);
	return 0;
}

int streaming_set_min_align(struct streaming *s, uint64_t mask)
{
	if (mask > 65535 || !is_power_of_two(mask + 1))
		return error_set(EINVAL,
				 "%s: minimum alignment mask 0x%llx is not a power of two, up to "
				 "65536, less 1",
				 s->name, (unsigned long long)mask);
	s->own_limits->min_align_mask = mask;
	limits_changed(s);
	return 0;
}

/* ---- the rest ---- */

void streaming_flush(struct streaming *s)
{
	struct revoke_queue *revoke = __atomic_load_n(&s->space->revoke, __ATOMIC_ACQUIRE);

	if (revoke)
		revoke_flush(revoke);
}

void streaming_get_stats(struct streaming *s, struct dmaland_streaming_stats *stats)
{
	struct revoke_queue *revoke = __atomic_load_n(&s->space->revoke, __ATOMIC_ACQUIRE);

	memset(stats, 0, sizeof(*stats));
	stats->translated_arena = streaming_count(s, WAY_ARENA);
	stats->translated_registered = streaming_count(s, WAY_REGISTERED);
	stats->bounced_small = streaming_count(s, WAY_SMALL);
	stats->bounced_limit = streaming_count(s, WAY_LIMIT);
	stats->bounced_unmappable = streaming_count(s, WAY_UNMAPPABLE);
	stats->bounced_untrusted = streaming_count(s, WAY_UNTRUSTED);
	stats->mapped = streaming_count(s, WAY_MAPPED);
	stats->failed = streaming_count(s, WAY_FAILED);
	stats->bad_calls = streaming_count(s, WAY_BAD_CALL);
	stats->live_bounced = live_bounced(s);
	stats->live_mapped = live_mapped(s);
	stats->copy_below = s->copy_below;
	if (!revoke)
		return;
	pthread_mutex_lock(&revoke->lock);
	stats->waiting = revoke->count;
	stats->revoke_calls = revoke->calls;
	stats->revoked = revoke->revoked;
	pthread_mutex_unlock(&revoke->lock);
}
