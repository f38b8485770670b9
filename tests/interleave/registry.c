/* SPDX-License-Identifier: MIT */
/*
 * registry.c - magazine.c, and what lets each schedule begin where the program begins
 */
#include "pool/magazine.c"

#include "explore.h"

static void table_free(struct thread_magazines *table)
{
	for (unsigned int i = 0; i < POOL_IDS; i++) {
		free(table->slots[i].half);
		free(table->slots[i].other);
	}
	free(table);
}

void registry_reset(void)
{
	struct thread_magazines *table;

	while ((table = registry.tables)) {
		registry.tables = table->next;
		table_free(table);
	}
	while (registry.halves)
		free(half_pop(&registry.halves));
	memset(&registry, 0, sizeof(registry));
	registry.once = (pthread_once_t)PTHREAD_ONCE_INIT;
}
