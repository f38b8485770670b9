/* SPDX-License-Identifier: MIT */
/*
 * magazine.c - each thread's stacks of free blocks (after Bonwick and Adams, USENIX 2001)
 *
 *   thread --> table, by pool --> magazine: half |blk|blk|blk|   half |blk|blk|blk|
 *   pool   --> depot: full halves, empty halves
 *         \--> units with unused blocks
 *
 * A thread finds its magazine by the pool's id in a table of its own; nothing is to be registered. The
 * tops of the first ones lie in the thread's own segment, where the fast paths find them by one load.
 * The magazine is the pool's only if magazine->pool says so: when a pool ends, its magazines become
 * nobody's, wherever they are, and their threads find out at their next use.
 *
 * Where a magazine has neither block nor room, a half is exchanged with the thread's shelf, under its
 * lock. So that bookkeeping stays small there are halves for some of the pool's blocks only
 * (halves_max). Without a full or an empty one, blocks go from and to the bits of their units.
 *
 * Tables are never freed but kept to be used again by other threads. Some are kept ready, as are
 * halves: a fresh thread under GFP_ATOMIC, or one that only frees, gets its own without a system
 * call; when there are none it works without. So does a thread whose end was told.
 */
#include "pool/magazine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

enum { READY_TABLES = 2, READY_HALVES = 8 };

/* So many keys have their place in each thread's descriptor; glibc allocates for those above. */
enum { KEYS_AT_HAND = 32 };

/* Of threads that have none: read, and never written once it is filled in. */
static struct thread_magazines none;

/*
 * The same for threads whose end was told. A destructor of another key may still use pools, and it
 * may be the last round of destructors: nobody would tell again.
 */
static struct thread_magazines ended;

/* Where the magazines have their tops that shall have neither blocks nor room. */
static block_code closed[] = {CODE_NONE, CODE_END};

_Thread_local struct thread_magazines *thread_magazines __attribute__((tls_model("initial-exec"))) =
	&none;

/*
 * By the pool's id; the first stands for all that are not here. So few, since with all else that the library
 * has of a thread they are to be 128 bytes at most: what is found at a fixed offset from the thread's segment
 * lies in a place of 1664 bytes (glibc) for all libraries that a running program loads. clang would align them to
 * 16 bytes.
 */
static _Thread_local block_code *thread_tops[POOL_TOPS] __attribute__((
	tls_model("initial-exec"), aligned(8))) = {[0 ... POOL_TOPS - 1] = closed + 1};

/*
 * Lock order: registry.lock, then a pool's, then its shelves'. All are held for some loads and stores
 * only.
 */
static struct {
	pthread_once_t once;
	int error; /* of setting up */
	pthread_key_t key;
	pthread_spinlock_t lock;
	struct half *halves; /* to be used */
	struct thread_magazines *tables;
	unsigned int half_count, table_count, tables_made;
	bool id_taken[POOL_IDS];
} registry = {.once = PTHREAD_ONCE_INIT};

static void pool_unlink(struct dma_pool *pool, struct magazine *magazine)
{
	struct magazine **link = &pool->magazines;

	while (*link != magazine)
		link = &(*link)->next;
	*link = magazine->next;
}

/* Neither blocks nor room. */
static void magazine_close(struct magazine *magazine)
{
	magazine_set_top(magazine, closed + 1);
	half_set_count(magazine->other, 0);
}

static void table_close(struct thread_magazines *table)
{
	for (unsigned int i = 0; i < POOL_IDS; i++) {
		table->slots[i].own_top = closed + 1;
		table->slots[i].top = &table->slots[i].own_top;
	}
}

/* A half's blocks go to their units. Statistics count them as in use until they are there. */
static void half_put(struct dma_pool *pool, struct half *half)
{
	uint32_t n = half->count;

	half_set_count(half, 0);
	units_put_back(pool, half_begin(half), n);
}

static void put_both(struct dma_pool *pool, struct magazine *magazine)
{
	block_code *begin = half_begin(magazine->half);
	uint32_t n = magazine_count(magazine);

	half_put(pool, magazine->other);
	magazine_set_top(magazine, begin);
	units_put_back(pool, begin, n);
}

/* The table's blocks go back to their pools. It keeps the halves. */
static void table_give(struct thread_magazines *table)
{
	pthread_spin_lock(&registry.lock);
	for (unsigned int i = 1; i < POOL_IDS; i++) {
		struct magazine *magazine = &table->slots[i];
		struct dma_pool *pool = magazine->pool;

		if (!pool)
			continue;
		pthread_spin_lock(&pool->lock);
		pool_unlink(pool, magazine);
		put_both(pool, magazine);
		pthread_spin_unlock(&pool->lock);
		magazine_close(magazine);
		magazine->top = &magazine->own_top;
		__atomic_store_n(&magazine->pool, NULL, __ATOMIC_RELAXED);
	}
	table->next = registry.tables;
	registry.tables = table;
	registry.table_count++;
	pthread_spin_unlock(&registry.lock);
}

/* From now on the thread works without magazines. */
static void thread_end(void *context)
{
	table_give(context);
	thread_magazines = &ended;
}

static void registry_begin(void)
{
	pthread_spin_init(&registry.lock, PTHREAD_PROCESS_PRIVATE);
	registry.id_taken[0] = true;
	table_close(&none);
	table_close(&ended);
	registry.error = pthread_key_create(&registry.key, thread_end);
}

void magazines_disown(void)
{
	if (thread_magazines != &none)
		pthread_setspecific(registry.key, NULL);
	if (thread_magazines != &ended)
		thread_magazines = &none;
	for (unsigned int i = 0; i < POOL_TOPS; i++)
		thread_tops[i] = closed + 1;
	pthread_spin_init(&registry.lock, PTHREAD_PROCESS_PRIVATE);
	registry.halves = NULL;
	registry.tables = NULL;
	registry.half_count = registry.table_count = 0;
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

/* Keep some ready, faulted in; that none can be had is no failure, since pools work without. */
static void registry_fill(void)
{
	while (registry_count(&registry.table_count) < READY_TABLES) {
		struct thread_magazines *table = aligned_alloc(64, sizeof(*table));

		if (!table)
			return;
		memset(table, 0, sizeof(*table));
		table_close(table);
		pthread_spin_lock(&registry.lock);
		table->shelf = registry.tables_made++ % SHELVES;
		table->next = registry.tables;
		registry.tables = table;
		registry.table_count++;
		pthread_spin_unlock(&registry.lock);
	}
	while (registry_count(&registry.half_count) < READY_HALVES) {
		struct half *half = malloc(sizeof(*half));

		if (!half)
			return;
		memset(half, 0, sizeof(*half));
		pthread_spin_lock(&registry.lock);
		half_push(&registry.halves, half);
		registry.half_count++;
		pthread_spin_unlock(&registry.lock);
	}
}

/* This thread's own table, if it can have one. */
static bool thread_begin(gfp_t gfp)
{
	struct thread_magazines *table;

	if (thread_magazines != &none)
		return thread_magazines != &ended;
	if (!(gfp & __GFP_RECLAIM) && registry.key >= KEYS_AT_HAND)
		return false;
	table = table_pop();
	if (!table)
		return false;
	if (pthread_setspecific(registry.key, table)) {
		table_give(table);
		return false;
	}
	thread_magazines = table;
	return true;
}

/* Two halves for a magazine that never had some. */
static bool magazine_equip(struct magazine *magazine)
{
	if (magazine->half)
		return true;
	pthread_spin_lock(&registry.lock);
	if (registry.half_count >= 2) {
		registry.half_count -= 2;
		magazine->half = half_pop(&registry.halves);
		magazine->other = half_pop(&registry.halves);
	}
	pthread_spin_unlock(&registry.lock);
	return magazine->half;
}

static void half_set_room(struct half *half, uint32_t room)
{
	half_begin(half)[half->room] = CODE_NONE;
	half_begin(half)[room] = CODE_END;
	half->room = room;
}

/* Work on this half from now on; what it has is in its count. */
static void magazine_load(struct magazine *magazine, struct half *half)
{
	half_set_room(half, magazine->capacity);
	__atomic_store_n(&magazine->half, half, __ATOMIC_RELAXED);
	magazine_set_top(magazine, half_begin(half) + half->count);
	half_set_count(half, 0);
}

struct magazine *magazine_make(struct dma_pool *pool, gfp_t gfp)
{
	struct magazine *magazine;

	if (!pool->id)
		return NULL;
	if (gfp & __GFP_RECLAIM)
		registry_fill();
	if (!thread_begin(gfp))
		return NULL;
	magazine = magazine_of(pool);
	if (!magazine_equip(magazine))
		return NULL;
	magazine->capacity = pool->half_max < HALF_MIN ? pool->half_max : HALF_MIN;
	if (TOPS_BY_SEGMENT && pool->id < POOL_TOPS)
		magazine->top = &thread_tops[pool->id];
	magazine_load(magazine, magazine->half);
	__atomic_store_n(&magazine->pool, pool, __ATOMIC_RELAXED);
	pthread_spin_lock(&pool->lock);
	magazine->next = pool->magazines;
	pool->magazines = magazine;
	pthread_spin_unlock(&pool->lock);
	return magazine;
}

/* Where %fs finds a top, in any thread: they all have theirs at the same place. */
static uintptr_t tops_slot(uint32_t id)
{
#if TOPS_BY_SEGMENT
	return (uintptr_t)&thread_tops[id] -
	       *(uintptr_t __seg_fs *)0; /* psABI: %fs:0 is %fs's base */
#else
	return id;
#endif
}

int magazines_begin(struct dma_pool *pool)
{
	uint32_t id = pool->place.seldom ? POOL_TOPS : 1;

	pthread_once(&registry.once, registry_begin);
	if (registry.error)
		return error_set(registry.error,
				 "no thread-specific key is left for pools (%s): "
				 "PTHREAD_KEYS_MAX",
				 strerror(registry.error));
	pool->half_max = (uint32_t)(MAGAZINE_BYTES / 2 / pool->unit_size * pool->per_unit);
	if (pool->half_max > HALF_MAX)
		pool->half_max = HALF_MAX;
	pool->slot = tops_slot(0);
	if (!pool->half_max || !pool->blocks || pool->debug)
		return 0;
	registry_fill();
	pthread_spin_lock(&registry.lock);
	while (id < POOL_IDS && registry.id_taken[id])
		id++;
	if (id < POOL_IDS) {
		registry.id_taken[id] = true;
		pool->id = id;
		pool->shelf_count = SHELVES;
	}
	pthread_spin_unlock(&registry.lock);
	pool->slot = tops_slot(id < POOL_TOPS ? id : 0);
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
		const block_code *top = __atomic_load_n(m->top, __ATOMIC_RELAXED);
		struct half *half = __atomic_load_n(&m->half, __ATOMIC_RELAXED);
		const struct half *other = __atomic_load_n(&m->other, __ATOMIC_RELAXED);
		const block_code *begin = half_begin(half);

		/* Between two loads the thread may have exchanged its halves. */
		if (top >= begin && top <= begin + HALF_MAX)
			parked += (size_t)(top - begin);
		parked += __atomic_load_n(&other->count, __ATOMIC_RELAXED);
	}
	return parked;
}

static void magazine_swap(struct magazine *magazine)
{
	struct half *was = magazine->half, *other = magazine->other;

	half_set_count(was, magazine_count(magazine));
	__atomic_store_n(&magazine->other, was, __ATOMIC_RELAXED);
	magazine_load(magazine, other);
}

/* Use makes a magazine larger. */
static void magazine_widen(const struct dma_pool *pool, struct magazine *magazine)
{
	uint32_t twice = 2 * magazine->capacity;

	if (magazine->capacity == pool->half_max)
		return;
	magazine->capacity = twice < pool->half_max ? twice : pool->half_max;
	half_set_room(magazine->half, magazine->capacity);
}

/* What a shelf has, first a full half. Its lock is held. How many. */
static uint32_t fill_from(struct dma_pool *pool, struct shelf *shelf, struct magazine *magazine)
{
	block_code *begin = half_begin(magazine->half);
	uint32_t n;

	if (shelf->full && magazine->capacity == pool->half_max) {
		half_push(&shelf->empty, magazine->half);
		magazine_load(magazine, half_pop(&shelf->full));
		return magazine_count(magazine);
	}
	n = units_take(pool, shelf, begin, magazine->capacity);
	magazine_set_top(magazine, begin + n);
	return n;
}

/* The locks of all shelves are held. */
static uint32_t fill_searching(struct dma_pool *pool, struct magazine *magazine)
{
	block_code *begin = half_begin(magazine->half);
	struct shelf *shelf = NULL;
	uint32_t n;

	if (magazine->capacity == pool->half_max)
		shelf = depot_find_full(pool);
	if (shelf)
		return fill_from(pool, shelf, magazine);
	n = units_search(pool, begin, magazine->capacity);
	magazine_set_top(magazine, begin + n);
	return n;
}

/* Has the thread filled it several times? Then it had better have blocks of its own. */
static bool uses_much(const struct dma_pool *pool, const struct magazine *magazine)
{
	return magazine->capacity == pool->half_max && pool->half_max > HALF_MIN;
}

bool magazine_fill(struct dma_pool *pool, struct magazine *magazine, gfp_t gfp)
{
	struct shelf *own = shelf_of_thread(pool);
	uint32_t n;
	bool look;

	if (magazine->other->count) {
		magazine_swap(magazine);
		return true;
	}
	magazine_widen(pool, magazine);
	do {
		pthread_spin_lock(&own->lock);
		n = fill_from(pool, own, magazine);
		look = shelf_note_fill(own, n);
		pthread_spin_unlock(&own->lock);
	} while (!n && gfp & __GFP_RECLAIM && uses_much(pool, magazine) && depot_may_part(pool) &&
		 units_grow_apart(pool));
	if (!n) {
		shelves_lock(pool);
		n = fill_searching(pool, magazine);
		look = shelf_note_fill(own, n);
		shelves_unlock(pool);
	}
	if (look)
		pool_look(pool);
	return n;
}

void magazine_spill(struct dma_pool *pool, struct magazine *magazine)
{
	struct half *full = magazine->other;

	if (full->count && (full->count < pool->half_max || !depot_put(pool, &magazine->other)))
		half_put(pool, full);
	magazine_swap(magazine);
	magazine_widen(pool, magazine);
}

void magazine_flush(struct dma_pool *pool, struct magazine *magazine)
{
	pthread_spin_lock(&pool->lock);
	put_both(pool, magazine);
	pthread_spin_unlock(&pool->lock);
}
