/* SPDX-License-Identifier: MIT */
/*
 * registered.c - memory of the application that is mapped for good
 *
 * The table is searched by halves. Who changes it makes the sequence odd, then even again; a reader
 * that sees it odd or changed begins anew. A table that became too small stays until the domain
 * ends, so that a reader never looks into memory that is gone.
 */
#include "streaming/registered.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

enum { ROOM_MIN = 8 };

static struct registered_table *table_make(size_t room, struct registered_table *older)
{
	struct registered_table *table = calloc(1, sizeof(*table) + room * sizeof(table->ranges[0]));

	if (!table) {
		error_set(ENOMEM, "no memory for the bookkeeping of registered memory");
		return NULL;
	}
	table->room = room;
	table->older = older;
	return table;
}

int registered_init(struct registered *registered)
{
	int err;

	memset(registered, 0, sizeof(*registered));
	registered->table = table_make(ROOM_MIN, NULL);
	if (!registered->table)
		return -ENOMEM;
	err = pthread_mutex_init(&registered->lock, NULL);
	if (err) {
		free(registered->table);
		return error_set(err, "cannot make a lock for mappings: %s", strerror(err));
	}
	return 0;
}

void registered_fini(struct registered *registered)
{
	struct registered_table *table, *older;
	struct registration *unused, *next;

	for (table = registered->table; table; table = older) {
		older = table->older;
		free(table);
	}
	for (unused = registered->unused; unused; unused = next) {
		next = unused->next;
		free(unused);
	}
	pthread_mutex_destroy(&registered->lock);
}

/* ---- looking up ---- */

/*
 * Index of the last range that begins at or below address, or -1. Each load orders those after it,
 * so that the sequence is read again last.
 */
static ptrdiff_t range_below(const struct registered_table *table, uintptr_t address)
{
	size_t low = 0, high = __atomic_load_n(&table->count, __ATOMIC_ACQUIRE);

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (__atomic_load_n(&table->ranges[middle].begin, __ATOMIC_ACQUIRE) <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return (ptrdiff_t)low - 1;
}

dma_addr_t registered_find(const struct registered *registered, const void *ptr, size_t size)
{
	uintptr_t begin = (uintptr_t)ptr;
	uint32_t sequence;
	dma_addr_t dma;

	do {
		const struct registered_table *table;
		const struct registered_range *range;
		ptrdiff_t at;

		sequence = __atomic_load_n(&registered->sequence, __ATOMIC_ACQUIRE);
		table = __atomic_load_n(&registered->table, __ATOMIC_ACQUIRE);
		at = range_below(table, begin);
		dma = DMA_MAPPING_ERROR;
		if (at < 0)
			continue;
		range = &table->ranges[at];
		if (begin < __atomic_load_n(&range->end, __ATOMIC_ACQUIRE) &&
		    size <= __atomic_load_n(&range->end, __ATOMIC_ACQUIRE) - begin)
			dma = begin + __atomic_load_n(&range->dma_offset, __ATOMIC_ACQUIRE);
	} while (__builtin_expect(
		sequence & 1 ||
			__atomic_load_n(&registered->sequence, __ATOMIC_ACQUIRE) != sequence,
		0));
	return dma;
}

struct registration *registered_overlap(const struct registered *registered, uintptr_t begin,
					uintptr_t end)
{
	const struct registered_table *table = registered->table;
	ptrdiff_t at = range_below(table, end - 1);

	return at >= 0 && table->ranges[at].end > begin ? table->ranges[at].registration : NULL;
}

struct registration *registered_of(const struct registered *registered,
				   const struct streaming *owner)
{
	const struct registered_table *table = registered->table;

	for (size_t i = 0; i < table->count; i++)
		if (table->ranges[i].registration->owner == owner)
			return table->ranges[i].registration;
	return NULL;
}

/* ---- changing ---- */

static void range_set(struct registered_range *range, const struct registered_range *value)
{
	__atomic_store_n(&range->begin, value->begin, __ATOMIC_RELEASE);
	__atomic_store_n(&range->end, value->end, __ATOMIC_RELEASE);
	__atomic_store_n(&range->dma_offset, value->dma_offset, __ATOMIC_RELEASE);
	range->registration = value->registration;
}

static void change_begin(struct registered *registered)
{
	__atomic_store_n(&registered->sequence, registered->sequence + 1, __ATOMIC_RELAXED);
}

static void change_end(struct registered *registered)
{
	__atomic_store_n(&registered->sequence, registered->sequence + 1, __ATOMIC_RELEASE);
}

static int table_widen(struct registered *registered)
{
	struct registered_table *table = registered->table, *wider;

	if (table->count < table->room)
		return 0;
	wider = table_make(2 * table->room, table);
	if (!wider)
		return -ENOMEM;
	wider->count = table->count;
	memcpy(wider->ranges, table->ranges, table->count * sizeof(table->ranges[0]));
	__atomic_store_n(&registered->table, wider, __ATOMIC_RELEASE);
	return 0;
}

struct registration *registered_prepare(struct registered *registered)
{
	struct registration *registration = registered->unused;

	if (table_widen(registered))
		return NULL;
	if (registration) {
		registered->unused = registration->next;
		return registration;
	}
	registration = calloc(1, sizeof(*registration));
	if (!registration)
		error_set(ENOMEM, "no memory for the bookkeeping of registered memory");
	return registration;
}

void registered_recycle(struct registered *registered, struct registration *registration)
{
	registration->next = registered->unused;
	registered->unused = registration;
}

void registered_insert(struct registered *registered, struct registration *registration,
		       uint64_t dma_offset)
{
	const struct registered_range range = {registration->begin, registration->end, dma_offset,
					       registration};
	struct registered_table *table = registered->table;
	size_t at = (size_t)(range_below(table, range.begin) + 1);

	change_begin(registered);
	for (size_t i = table->count; i > at; i--)
		range_set(&table->ranges[i], &table->ranges[i - 1]);
	range_set(&table->ranges[at], &range);
	__atomic_store_n(&table->count, table->count + 1, __ATOMIC_RELEASE);
	change_end(registered);
}

void registered_remove(struct registered *registered, struct registration *registration)
{
	struct registered_table *table = registered->table;
	size_t at = (size_t)range_below(table, registration->begin);

	change_begin(registered);
	for (size_t i = at; i + 1 < table->count; i++)
		range_set(&table->ranges[i], &table->ranges[i + 1]);
	__atomic_store_n(&table->count, table->count - 1, __ATOMIC_RELEASE);
	change_end(registered);
}
