/* SPDX-License-Identifier: MIT */
/*
 * fake_domain.h - a domain without a device, for tests of the floors above it
 *
 * It gives real memory at dma addresses from ranges that the test chooses, maps what exists, and
 * counts. fake_device_read() and fake_device_write() are the device, behind an IOMMU.
 */
#ifndef TESTS_COMMON_FAKE_DOMAIN_H
#define TESTS_COMMON_FAKE_DOMAIN_H

#include "backend/backend.h"
#include "backend/window.h"
#include "memory/arena.h"
#include "pool/pool.h"
#include "streaming/streaming.h"

struct fake_mapping {
	dma_addr_t dma;
	char *cpu;
	char *copy; /* the device's own, where it has one */
	size_t size;
	unsigned int access;
};

struct fake_domain {
	struct domain domain;
	struct memory_window window;
	unsigned int provides, withdraws;
	unsigned int provides_left; /* then it fails; UINT_MAX: never */
	bool refuse_withdraw;
	void (*before_provide)(void *context); /* NULL: nothing happens */
	void *context;

	/* What was mapped; guarded by the domain's lock. */
	struct fake_mapping *mapped;
	size_t mapped_count, mapped_room;
	unsigned int maps, unmaps; /* calls */
	unsigned int maps_left;	   /* then map fails; UINT_MAX: never */
	int map_error;		   /* with this; 0: ENOMEM */
	bool refuse_unmap;
	enum domain_hand hand, hand_at_sync; /* the last, and the last before the last sync */
};

enum fake_kind {
	FAKE_PLAIN,  /* can't map what exists */
	FAKE_MAPS,   /* can */
	FAKE_SHADOW, /* can, and gives the device a copy of its own */
};

/* A domain, its arena, and what a device would hold. */
struct fake_place {
	struct fake_domain fake;
	struct arena *arena;
	struct dma_limits limits;
	struct arena_tenant coherent, orphans;
	struct pool_list pools;
	struct pool_place place;
	struct streaming_space *space; /* where streaming was begun */
	struct streaming streaming;
};

void fake_place_open(struct fake_place *p, const struct iova_range *ranges, size_t n);
void fake_place_close(struct fake_place *p);

/* All runs of a tenant go back. */
void fake_give_all(struct arena *arena, struct arena_tenant *tenant);

/* fake_place_open() on all addresses, and mappings on top of it. */
void fake_streaming_open(struct fake_place *p, enum fake_kind kind,
			 const struct streaming_options *options);
void fake_streaming_close(struct fake_place *p);

/* What the device does; false: the IOMMU stopped it. */
bool fake_device_read(struct fake_place *p, dma_addr_t dma, void *to, size_t size);
bool fake_device_write(struct fake_place *p, dma_addr_t dma, const void *from, size_t size);

/* As fixtures of cmocka: *state is a struct fake_place; the log is captured. */
int fake_place_setup(void **state);
int fake_place_teardown(void **state);

#define place_test(f) cmocka_unit_test_setup_teardown(f, fake_place_setup, fake_place_teardown)

#endif
