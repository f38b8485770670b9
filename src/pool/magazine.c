/* SPDX-License-Identifier: MIT */
/*
 * magazine.c - each thread's stacks of free blocks (after Bonwick and Adams, USENIX 2001)
 *
 *   thread --> slots[pool->id] --> magazine: |blk|blk|blk|  count, capacity
 *                             \--> nobody    (a magazine that is no pool's)
 *
 * A thread finds its magazine by the pool's id in a table of its own; nothing is to be registered. A
 * slot is never NULL, and its magazine is the pool's only if magazine->pool says so: when a pool
 * ends, its magazines become nobody's, wherever they are, and their threads find out at their next
 * use.
 *
 * There is no depot of full magazines: the state bytes of the units are one, at a byte a block where
 * an array of magazines takes 24. Filling and emptying goes by half a magazine under one lock.
 *
 * Tables and magazines are never freed but kept to be used again, so that a stale pointer in a slot
 * always leads to a magazine. Some are kept ready: a fresh thread under GFP_ATOMIC, or one that
 * only frees, gets its own without a system call; when there are none it works without.
 */
#include "pool/pool_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

enum { READY_TABLES = 2, READY_MAGAZINES = 4 };

static struct magazine nobody;
static struct thread_magazines none = {.slots = {[0 ... POOL_IDS - 1] = &nobody}};

_Thread_local struct thread_magazines *thread_magazines __attribute__((tls_model("initial-exec"))) =
	&none;

/* Lock order: registry.lock, then a pool's. Both are held for some loads and stores only. */
static struct {
	pthread_once_t once;
	int error; /* of setting up */
	pthread_key_t key;
	pthread_spinlock_t lock;
	struct magazine *magazines; /* to be used */
	struct thread_magazines *tables;
	unsigned int magazine_count, table_count;
	bool id_taken[POOL_IDS];
} registry = {.once = PTHREAD_ONCE_INIT};

/* A magazine ends with its thread or with its pool; the registry's lock is held. */
static void magazine_recycle(struct magazine *magazine)
{
	magazine->next = registry.magazines;
	registry.magazines = magazine;
	registry.magazine_count++;
}

static void pool_unlink(struct dma_pool *pool, struct magazine *magazine)
{
	struct magazine **link = &pool->magazines;

	while (*link != magazine)
		link = &(*link)->next;
	*link = magazine->next;
}

static void magazine_set_top(struct magazine *magazine, struct parked *top)
{
	__atomic_store_n(&magazine->top, top, __ATOMIC_RELAXED);
}

static void magazine_set_other_count(struct magazine *magazine, uint32_t count)
{
	__atomic_store_n(&magazine->other_count, count, __ATOMIC_RELAXED);
}

/* Neither blocks nor room. */
static void magazine_close(struct magazine *magazine)
{
	magazine_set_top(magazine, magazine->begin);
	magazine->end = magazine->begin;
	magazine_set_other_count(magazine, 0);
	magazine->capacity = 0;
}

/* Both halves are put away; the pool's lock is held. */
static void put_both(struct dma_pool *pool, struct magazine *magazine)
{
	pool->bad_frees += units_put(pool, magazine->other, magazine->other_count);
	pool->bad_frees +=
		units_put(pool, magazine->begin, (uint32_t)(magazine->top - magazine->begin));
	magazine_set_other_count(magazine, 0);
	magazine_set_top(magazine, magazine->begin);
}

/* A thread ends: its blocks go back to their pools. */
static void thread_end(void *context)
{
	struct thread_magazines *table = context;

	thread_magazines = &none;
	pthread_spin_lock(&registry.lock);
	for (unsigned int i = 1; i < POOL_IDS; i++) {
		struct magazine *magazine = table->slots[i];
		struct dma_pool *pool = magazine->pool;

		if (magazine == &nobody)
			continue;
		table->slots[i] = &nobody;
		if (pool) {
			pthread_spin_lock(&pool->lock);
			pool_unlink(pool, magazine);
			put_both(pool, magazine);
			pthread_spin_unlock(&pool->lock);
			magazine_close(magazine);
			__atomic_store_n(&magazine->pool, NULL, __ATOMIC_RELAXED);
		}
		magazine_recycle(magazine);
	}
	table->next = registry.tables;
	registry.tables = table;
	registry.table_count++;
	pthread_spin_unlock(&registry.lock);
}

static void registry_begin(void)
{
	pthread_spin_init(&registry.lock, PTHREAD_PROCESS_PRIVATE);
	registry.id_taken[0] = true;
	registry.error = pthread_key_create(&registry.key, thread_end);
}

static struct magazine *magazine_pop(void)
{
	struct magazine *magazine;

	pthread_spin_lock(&registry.lock);
	magazine = registry.magazines;
	if (magazine) {
		registry.magazines = magazine->next;
		registry.magazine_count--;
	}
	pthread_spin_unlock(&registry.lock);
	return magazine;
}

static struct thread_magazines *table_pop(void)
{
	struct thread_magazines *table;

	pthread_spin_lock(&registry.lock);
	table = registry.tables;
	if (table) {
		registry.tables = table->next;
		registry.table_count--;
	}
	pthread_spin_unlock(&registry.lock);
	return table;
}

static unsigned int registry_count(const unsigned int *count)
{
	unsigned int n;

	pthread_spin_lock(&registry.lock);
	n = *count;
	pthread_spin_unlock(&registry.lock);
	return n;
}

/* Keep some ready; that none can be had is no failure, since pools work without. */
static void registry_fill(void)
{
	while (registry_count(&registry.table_count) < READY_TABLES) {
		struct thread_magazines *table = malloc(sizeof(*table));

		if (!table)
			return;
		memcpy(table, &none, sizeof(*table));
		pthread_spin_lock(&registry.lock);
		table->next = registry.tables;
		registry.tables = table;
		registry.table_count++;
		pthread_spin_unlock(&registry.lock);
	}
	while (registry_count(&registry.magazine_count) < READY_MAGAZINES) {
		struct magazine *magazine = malloc(sizeof(*magazine));

		if (!magazine)
			return;
		memset(magazine, 0, sizeof(*magazine));
		pthread_spin_lock(&registry.lock);
		magazine_recycle(magazine);
		pthread_spin_unlock(&registry.lock);
	}
}

/* This thread's own table, if it can have one. */
static bool thread_begin(void)
{
	struct thread_magazines *table;

	if (thread_magazines != &none)
		return true;
	table = table_pop();
	if (!table)
		return false;
	if (pthread_setspecific(registry.key, table)) {
		thread_end(table);
		return false;
	}
	thread_magazines = table;
	return true;
}

struct magazine *magazine_get(struct dma_pool *pool, gfp_t gfp)
{
	struct magazine *magazine = magazine_of(pool);

	if (magazine->pool == pool)
		return magazine;
	if (!pool->id)
		return NULL;
	if (gfp & __GFP_RECLAIM)
		registry_fill();
	if (!thread_begin())
		return NULL;
	magazine = magazine_of(pool);
	if (magazine == &nobody)
		magazine = magazine_pop();
	if (!magazine)
		return NULL;
	__atomic_store_n(&magazine->begin, magazine->halves[0], __ATOMIC_RELAXED);
	magazine->other = magazine->halves[1];
	magazine_close(magazine);
	magazine->capacity = pool->half_max < HALF_MIN ? pool->half_max : HALF_MIN;
	magazine->end = magazine->begin + magazine->capacity;
	__atomic_store_n(&magazine->pool, pool, __ATOMIC_RELAXED);
	pthread_spin_lock(&pool->lock);
	magazine->next = pool->magazines;
	pool->magazines = magazine;
	pthread_spin_unlock(&pool->lock);
	thread_magazines->slots[pool->id] = magazine;
	return magazine;
}

int magazines_begin(struct dma_pool *pool)
{
	uint16_t id = 1;

	pthread_once(&registry.once, registry_begin);
	if (registry.error)
		return error_set(registry.error,
				 "no thread-specific key is left for pools (%s): "
				 "PTHREAD_KEYS_MAX",
				 strerror(registry.error));
	pool->half_max = (uint32_t)(MAGAZINE_BYTES / 2 / pool->unit_size * pool->per_unit);
	if (pool->half_max > HALF_MAX)
		pool->half_max = HALF_MAX;
	if (!pool->half_max)
		return 0;
	registry_fill();
	pthread_spin_lock(&registry.lock);
	while (id < POOL_IDS && registry.id_taken[id])
		id++;
	if (id < POOL_IDS) {
		registry.id_taken[id] = true;
		pool->id = id;
	}
	pthread_spin_unlock(&registry.lock);
	return 0;
}

void magazines_end(struct dma_pool *pool)
{
	struct magazine *magazine, *next;

	if (!pool->id)
		return;
	pthread_spin_lock(&registry.lock);
	for (magazine = pool->magazines; magazine; magazine = next) {
		next = magazine->next;
		magazine_close(magazine);
		__atomic_store_n(&magazine->pool, NULL, __ATOMIC_RELAXED);
	}
	pool->magazines = NULL;
	registry.id_taken[pool->id] = false;
	pthread_spin_unlock(&registry.lock);
}

size_t magazines_parked(const struct dma_pool *pool)
{
	size_t parked = 0;

	for (const struct magazine *m = pool->magazines; m; m = m->next) {
		const struct parked *top = __atomic_load_n(&m->top, __ATOMIC_RELAXED);
		const struct parked *begin = __atomic_load_n(&m->begin, __ATOMIC_RELAXED);

		/* Between two loads the thread may have swapped its halves. */
		if (top >= begin && top <= begin + HALF_MAX)
			parked += (size_t)(top - begin);
		parked += __atomic_load_n(&m->other_count, __ATOMIC_RELAXED);
	}
	return parked;
}

static void magazine_swap(struct magazine *magazine)
{
	struct parked *was = magazine->begin;
	uint32_t count = (uint32_t)(magazine->top - was);

	__atomic_store_n(&magazine->begin, magazine->other, __ATOMIC_RELAXED);
	magazine->end = magazine->begin + magazine->capacity;
	magazine_set_top(magazine, magazine->begin + magazine->other_count);
	magazine->other = was;
	magazine_set_other_count(magazine, count);
}

/* Use makes a magazine larger. */
static void magazine_widen(const struct dma_pool *pool, struct magazine *magazine)
{
	uint32_t twice = 2 * magazine->capacity;

	magazine->capacity = twice < pool->half_max ? twice : pool->half_max;
	magazine->end = magazine->begin + magazine->capacity;
}

bool magazine_fill(struct dma_pool *pool, struct magazine *magazine)
{
	uint32_t n;

	if (magazine->other_count) {
		magazine_swap(magazine);
		return true;
	}
	magazine_widen(pool, magazine);
	pthread_spin_lock(&pool->lock);
	n = units_take(pool, magazine->begin, magazine->capacity, BLOCK_PARKED);
	magazine_set_top(magazine, magazine->begin + n);
	pthread_spin_unlock(&pool->lock);
	return n;
}

void magazine_spill(struct dma_pool *pool, struct magazine *magazine)
{
	if (magazine->other_count) {
		pthread_spin_lock(&pool->lock);
		pool->bad_frees += units_put(pool, magazine->other, magazine->other_count);
		magazine_set_other_count(magazine, 0);
		pthread_spin_unlock(&pool->lock);
	}
	magazine_swap(magazine);
	magazine_widen(pool, magazine);
}

void magazine_flush(struct dma_pool *pool, struct magazine *magazine)
{
	pthread_spin_lock(&pool->lock);
	put_both(pool, magazine);
	pthread_spin_unlock(&pool->lock);
}
