/* SPDX-License-Identifier: MIT */
/*
 * fake_domain.h - a domain without a device, for tests of the floors above it
 *
 * It gives real memory at dma addresses from ranges that the test chooses, and counts.
 */
#ifndef TESTS_COMMON_FAKE_DOMAIN_H
#define TESTS_COMMON_FAKE_DOMAIN_H

#include "backend/backend.h"
#include "backend/window.h"
#include "memory/arena.h"
#include "pool/pool.h"

struct fake_domain {
	struct domain domain;
	struct memory_window window;
	unsigned int provides, withdraws;
	unsigned int provides_left; /* then it fails; UINT_MAX: never */
	bool refuse_withdraw;
	void (*before_provide)(void *context); /* NULL: nothing happens */
	void *context;
};

/* A domain, its arena, and what a device would hold. */
struct fake_place {
	struct fake_domain fake;
	struct arena *arena;
	struct dma_limits limits;
	struct arena_tenant coherent, orphans;
	struct pool_list pools;
	struct pool_place place;
};

void fake_place_open(struct fake_place *p, const struct iova_range *ranges, size_t n);
void fake_place_close(struct fake_place *p);

/* As fixtures of cmocka: *state is a struct fake_place; the log is captured. */
int fake_place_setup(void **state);
int fake_place_teardown(void **state);

#define place_test(f) cmocka_unit_test_setup_teardown(f, fake_place_setup, fake_place_teardown)

#endif
