/* SPDX-License-Identifier: MIT */
/*
 * mover.h - a device that does to memory what a test tells it to
 *
 * QEMU's edu, an NVMe drive, or the engine of soft: each reads memory at a dma address into a place
 * of its own, and writes that to another. No driver stands between, so that the address can be any;
 * what the device says about it is not asked, only where the bytes are.
 */
#ifndef TESTS_DEVICE_MOVER_H
#define TESTS_DEVICE_MOVER_H

#include "test.h"

struct mover;

struct mover_ops {
	int (*start)(struct mover *m);
	void (*reads)(struct mover *m, dma_addr_t dma, size_t size);
	void (*writes)(struct mover *m, dma_addr_t dma, size_t size);
	/* Have it interrupt, of a vector that it uses, until it is told that this was handled. */
	void (*interrupts)(struct mover *m, unsigned int vector);
	void (*handled)(struct mover *m, unsigned int vector);
	void (*stop)(struct mover *m);
};

/* A ring pair of a drive. */
struct mover_ring {
	void *memory; /* a page of submissions, and one of completions */
	dma_addr_t dma;
	unsigned int at, id;
	uint16_t phase;
};

struct mover {
	struct dmaland_device *dev;
	const struct mover_ops *ops;
	char *bar;
	size_t unit;		/* sizes are multiples of it */
	size_t room;		/* bytes that it holds */
	unsigned int bits;	/* of its addresses */
	unsigned int vectors;	/* that it uses, of those that it has when it starts; 0: none */
	unsigned char *scratch; /* 64 KiB, coherent, that the device always reaches */
	dma_addr_t scratch_dma;
	char *store; /* of the engine, which has no place of its own */
	dma_addr_t store_dma;
	struct mover_ring admin, io; /* of a drive */
};

enum { MOVER_SCRATCH = 65536 };

/* Open it, with a mask as wide as it is. False: the device is none that can be told what to do. */
bool mover_open(struct mover *m, const char *spec, const struct dmaland_options *options);
void mover_close(struct mover *m);

/* The two halves of both: what is done to the device between them it finds when it starts. */
bool mover_begin(struct mover *m, const char *spec, const struct dmaland_options *options);
void mover_start(struct mover *m);
void mover_stop(struct mover *m);
void mover_end(struct mover *m);

/* The device reads memory; and writes what it holds. At most m->room bytes. */
void mover_reads(struct mover *m, dma_addr_t dma, size_t size);
void mover_writes(struct mover *m, dma_addr_t dma, size_t size);

/* From one dma address to another, of any number of units. */
void mover_move(struct mover *m, dma_addr_t from, dma_addr_t to, size_t size);

/* Have it hold so many bytes like this one. */
void mover_fill(struct mover *m, int byte, size_t size);

/* What it holds, until the next call. */
const unsigned char *mover_holds(struct mover *m, size_t size);

/* Mappings that the domain holds. */
uint32_t mappings_of(struct dmaland_device *dev);

bool all_are(const void *memory, size_t size, int byte);

#endif
