/* SPDX-License-Identifier: MIT */
/*
 * load.h - a drive that is kept busy, with data that tell what became of each write
 *
 * Each slot has a request under way, on a piece of the drive that is its own: it writes a new
 * generation of its pages, reads them back, and so on. The record says which generations were begun and
 * which were answered; so after any end, also of the process, each page must hold one of those from the
 * last that was answered to the last that was begun.
 */
#ifndef TESTS_DEVICE_LOAD_H
#define TESTS_DEVICE_LOAD_H

#include <dmaland/dmaland.h>
#include <dmaland/nvme.h>

enum { LOAD_SLOTS = 32 };

/* Survives the process where it lies in shared memory. Zeroes: nothing was written yet. */
struct load_record {
	uint32_t begun[LOAD_SLOTS], answered[LOAD_SLOTS];
	unsigned int part; /* of the drive: each of several loads has its own, from 0 */
};

struct load_slot {
	struct dmaland_nvme_request request;
	struct iovec segment;
	struct load *load;
	unsigned int number;
	bool reading, under_way;
};

struct load {
	struct dmaland_nvme_queue *queue;
	struct load_record *record;
	char *memory;
	uint32_t block_size;
	unsigned int under_way; /* requests */
	unsigned long answers;
	bool ending;	   /* what is answered is not followed by another */
	int status;	   /* the first that was not 0; the load ends by itself then */
	const char *wrong; /* what no drive and no driver may do, or NULL */
	struct load_slot slots[LOAD_SLOTS];
};

/* Begin on a queue; 0, or -errno with dmaland_last_error(). */
int load_begin(struct load *load, struct dmaland_nvme *ctrl, struct dmaland_nvme_queue *queue,
	       struct load_record *record);

/* With nothing under way: is what the drive holds as the record says? NULL, or what is not. */
const char *load_verify(struct dmaland_nvme *ctrl, struct dmaland_nvme_queue *queue,
			const struct load_record *record);

/* With nothing under way. */
void load_free(struct load *load);

#endif
