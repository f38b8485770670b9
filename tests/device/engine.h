/* SPDX-License-Identifier: MIT */
/*
 * engine.h - the engine of soft:, as its tests use it
 *
 * Memory of the test is mapped by the domain's own operations: what stands here is about the
 * address space, not about the calls above it.
 */
#ifndef TESTS_DEVICE_ENGINE_H
#define TESTS_DEVICE_ENGINE_H

#include "test.h"

#include <dmaland/soft.h>
#include "backend/backend.h"

enum { PAGE = 4096, BOTH_WAYS = DOMAIN_READ | DOMAIN_WRITE };

struct engine {
	struct dmaland_device *dev;
	struct domain *domain;
	char *bar;
};

/* Open an engine that does DMA, with wide masks; in the domain of another, unless it is NULL. */
void engine_open(struct engine *e, const char *spec, struct engine *share);
void engine_close(struct engine *e);

/* What the engine says when it is done. */
uint32_t engine_copy(struct engine *e, dma_addr_t from, dma_addr_t to, uint32_t length);
uint32_t engine_fill(struct engine *e, dma_addr_t to, uint32_t length, uint8_t byte);
void engine_misbehave(struct engine *e, uint32_t mode, uint32_t count);

/* The latest fault; there must have been this many. */
struct dmaland_soft_fault engine_fault(struct engine *e, size_t count);

/* Zeroed pages of the application. */
char *pages_new(size_t n);
void pages_free(char *pages, size_t n);

/* Whole granules at dma addresses that the domain has free; behind them one is left empty. */
dma_addr_t domain_map(struct domain *domain, void *cpu, size_t size, unsigned int access);
void domain_unmap(struct domain *domain, dma_addr_t dma, size_t size);

/* Dma addresses that nobody else gets, and back. */
dma_addr_t domain_take(struct domain *domain, size_t size);
void domain_give(struct domain *domain, dma_addr_t dma, size_t size);

/* ---- what most tests need: an engine, memory that it reaches, two pages of the application ---- */

enum { BUFFER = 65536 };

extern struct fixture {
	struct engine e;
	unsigned char *buffer; /* BUFFER bytes, coherent, 0 */
	dma_addr_t buffer_dma;
	char *page; /* 2 pages, once they are mapped */
	dma_addr_t page_dma;
} fx;

int engine_setup(void **state);
int engine_setup_coherent(void **state);
int engine_teardown(void **state);

#define engine_test(f) cmocka_unit_test_setup_teardown(f, engine_setup, engine_teardown)
#define coherent_engine_test(f)                                                                    \
	cmocka_unit_test_setup_teardown(f, engine_setup_coherent, engine_teardown)

/* Map the two pages, 0x11 all over; and end that. */
void map_page(unsigned int access);
void unmap_page(void);

/* Bring their contents to the device, where it has a copy of its own; or back from it. */
void sync_page(bool for_device);

bool all_bytes_are(const void *memory, size_t size, int byte);

#endif
