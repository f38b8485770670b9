/* SPDX-License-Identifier: MIT */
#include "scenarios.h"

static const struct topic *const topics[] = {&slab_scenarios, &list_scenarios, &pool_scenarios};

const struct scenario *scenario_at(size_t i)
{
	for (size_t t = 0; t < sizeof(topics) / sizeof(topics[0]); i -= topics[t++]->count)
		if (i < topics[t]->count)
			return &topics[t]->scenarios[i];
	return NULL;
}
