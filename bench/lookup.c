/* SPDX-License-Identifier: MIT */
#include "lookup.h"

#include <pthread.h>
#include <stdlib.h>

#include "bench.h"

static void *made(size_t size)
{
	void *memory = calloc(1, size);

	if (!memory)
		bench_fail("no memory");
	return memory;
}

/* ---- a table of 1 GiB each for each GiB of 48 bits ---- */

#define STEP_SHIFT  21
#define TABLE_SHIFT 30
#define TABLE_STEPS ((size_t)1 << (TABLE_SHIFT - STEP_SHIFT))
#define TABLES	    ((size_t)1 << (48 - TABLE_SHIFT))

struct lookup_table {
	uint64_t *tables[TABLES]; /* of TABLE_STEPS dma addresses */
};

struct lookup_table *lookup_table_make(void)
{
	return made(sizeof(struct lookup_table));
}

void lookup_table_free(struct lookup_table *table)
{
	for (size_t i = 0; i < TABLES; i++)
		free(table->tables[i]);
	free(table);
}

void lookup_table_add(struct lookup_table *table, uintptr_t begin, size_t size, uint64_t dma)
{
	for (size_t at = 0; at < size; at += LOOKUP_STEP) {
		uint64_t **steps = &table->tables[(begin + at) >> TABLE_SHIFT];

		if (!*steps) {
			*steps = made(TABLE_STEPS * sizeof(**steps));
			for (size_t i = 0; i < TABLE_STEPS; i++)
				(*steps)[i] = LOOKUP_NONE;
		}
		(*steps)[(begin + at) >> STEP_SHIFT & (TABLE_STEPS - 1)] = dma + at;
	}
}

static inline uint64_t table_step(const struct lookup_table *table, uintptr_t address)
{
	const uint64_t *steps = table->tables[address >> TABLE_SHIFT];

	return steps ? steps[address >> STEP_SHIFT & (TABLE_STEPS - 1)] : LOOKUP_NONE;
}

uint64_t lookup_table_find(const struct lookup_table *table, const void *ptr, uint64_t *size)
{
	uintptr_t address = (uintptr_t)ptr;
	uint64_t inside = address & (LOOKUP_STEP - 1), found = LOOKUP_STEP - inside, first, next;

	if (address >> 48)
		return LOOKUP_NONE;
	first = table_step(table, address);
	if (first == LOOKUP_NONE)
		return LOOKUP_NONE;
	for (next = first; found < *size; found += LOOKUP_STEP) {
		uint64_t following = table_step(table, address + found);

		if (following != next + LOOKUP_STEP)
			break;
		next = following;
	}
	if (found < *size)
		*size = found;
	return first + inside;
}

/* ---- a skip list ---- */

#define LIST_LEVELS 8

struct list_node {
	uintptr_t begin;
	size_t size;
	uint64_t dma;
	struct list_node *next[LIST_LEVELS];
};

struct lookup_list {
	pthread_rwlock_t lock;
	struct list_node head;
	int levels;	 /* in use */
	uint64_t random; /* the same numbers in every run */
};

struct lookup_list *lookup_list_make(void)
{
	struct lookup_list *list = made(sizeof(*list));

	pthread_rwlock_init(&list->lock, NULL);
	list->levels = 1;
	list->random = 0x9e3779b97f4a7c15u;
	return list;
}

void lookup_list_free(struct lookup_list *list)
{
	for (struct list_node *node = list->head.next[0], *next; node; node = next) {
		next = node->next[0];
		free(node);
	}
	pthread_rwlock_destroy(&list->lock);
	free(list);
}

/* One in two nodes is in the next level. */
static int levels_draw(struct lookup_list *list)
{
	int levels = 1;

	list->random ^= list->random << 13; /* Marsaglia's xorshift64 */
	list->random ^= list->random >> 7;
	list->random ^= list->random << 17;
	while (levels < LIST_LEVELS && list->random >> levels & 1)
		levels++;
	return levels;
}

void lookup_list_add(struct lookup_list *list, uintptr_t begin, size_t size, uint64_t dma)
{
	struct list_node *node = made(sizeof(*node)), *before = &list->head;
	int levels = levels_draw(list);

	*node = (struct list_node){begin, size, dma, {NULL}};
	for (int level = LIST_LEVELS - 1; level >= 0; level--) {
		while (before->next[level] && before->next[level]->begin < begin)
			before = before->next[level];
		if (level < levels) {
			node->next[level] = before->next[level];
			before->next[level] = node;
		}
	}
	list->levels = levels > list->levels ? levels : list->levels;
}

uint64_t lookup_list_find(struct lookup_list *list, const void *ptr)
{
	uintptr_t address = (uintptr_t)ptr;
	const struct list_node *node = &list->head;
	uint64_t dma = LOOKUP_NONE;

	pthread_rwlock_rdlock(&list->lock);
	for (int level = list->levels - 1; level >= 0 && dma == LOOKUP_NONE; level--) {
		const struct list_node *next;

		while ((next = node->next[level]) && next->begin + next->size <= address)
			node = next;
		if (next && next->begin <= address)
			dma = next->dma + (address - next->begin);
	}
	pthread_rwlock_unlock(&list->lock);
	return dma;
}
