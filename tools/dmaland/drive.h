/* SPDX-License-Identifier: MIT */
/*
 * drive.h - an NVMe drive opened by its spec, and transfers of blocks with many requests in flight
 */
#ifndef DRIVE_H
#define DRIVE_H

#include <dmaland/dmaland.h>
#include <dmaland/nvme.h>

#include "command.h"
#include "latency.h"

struct drive {
	struct dmaland_device *dev;
	struct dmaland_nvme *ctrl;
	struct dmaland_nvme_info info;
};

/* 0, or a status with the user told. */
int drive_open(struct drive *drive, const struct arguments *arguments);
int drive_open_with(struct drive *drive, const struct arguments *arguments,
		    const struct dmaland_nvme_options *options);
void drive_close(struct drive *drive);

/*
 * A namespace that has blocks for what is to be done: with DRIVE_TRANSFERS they are read or written, so
 * that they have no metadata; with DRIVE_WRITES they are written in any order, so that there are no
 * zones. 0, or a status with the user told.
 */
enum drive_use { DRIVE_TRANSFERS = 1, DRIVE_WRITES = 2 };
int drive_namespace(struct drive *drive, uint32_t nsid, unsigned int use,
		    struct dmaland_nvme_namespace *ns);

/*
 * Much is about to be lost, which the format names: 0 when a person agrees, said --yes, or is not there; or a
 * status with the user told.
 */
int confirm_loss(const struct drive *drive, const struct arguments *arguments, const char *format,
		 ...) __attribute__((format(printf, 3, 4)));

/* Which blocks are meant by --start and --count: 0, or a status with the user told. */
int drive_range(const struct dmaland_nvme_namespace *ns, const struct arguments *arguments,
		uint64_t *first, uint64_t *blocks);

/*
 * A transfer: a ring of slots, each with a buffer in DMA memory of @slot_bytes (whole blocks).
 * Slots are filled and waited for in order; the drive works on all that lie between. How long each
 * request took, from submitting it until its completion was seen, is counted in @latency. It lasts
 * from @begin to @end: opening the drive, which takes as long as it takes, is no part of it.
 *
 *   first            first + used           depth
 *     | submitted         | free              |      (modulo depth)
 */
enum { TRANSFER_DEPTH = 16, TRANSFER_SLOT = 128 << 10 };

struct transfer;

struct transfer_slot {
	struct transfer *transfer;
	void *data;
	uint64_t block, blocks, begin;
	bool busy;
	int status; /* of the request, when it is not busy any more */
	struct iovec iov;
	struct dmaland_nvme_request request;
};

struct transfer {
	struct drive *drive;
	struct dmaland_nvme_namespace ns;
	struct dmaland_nvme_queue *queue;
	size_t slot_bytes;
	uint64_t slot_blocks;
	void *memory;
	dma_addr_t memory_dma;
	unsigned int depth, first, used;
	double begin, end;
	struct latency latency;
	struct transfer_slot slots[TRANSFER_DEPTH];
};

/* 0, or a status with the user told. */
int transfer_begin(struct transfer *transfer, struct drive *drive,
		   const struct dmaland_nvme_namespace *ns);

/* Requests in flight are given up; how their blocks look is not known. */
void transfer_end(struct transfer *transfer);

/* The buffer for the next request, or NULL while all are taken. */
void *transfer_buffer(struct transfer *transfer);

/* Can memory of a slot's size be handed to the drive where it lies, other than by copying? */
bool transfer_can_map(const struct transfer *transfer);

/*
 * Submit a request with other memory than that buffer, which stays there until the request is
 * waited for: 0, or -errno with nobody told.
 */
int transfer_submit_memory(struct transfer *transfer, enum dmaland_nvme_opcode opcode, void *data,
			   uint64_t block, uint64_t blocks);

/*
 * Submit a request with that buffer, or without any where the command has no data: 0, or a status
 * with the user told.
 */
int transfer_submit(struct transfer *transfer, enum dmaland_nvme_opcode opcode, uint64_t block,
		    uint64_t blocks);

/*
 * Wait for the oldest request: 0 with *slot set, or a status with the user told. Signals do not end
 * this: the drive answers, or is given up after a time; and a second signal ends the process.
 */
int transfer_wait(struct transfer *transfer, struct transfer_slot **slot);

/* Its slot is free again. */
void transfer_release(struct transfer *transfer);

/*
 * At the end, on stderr, with --verbose or where people watch: what was moved ("read"), how fast,
 * and how long requests took; with --verbose also how memory was handed to the drive.
 */
void transfer_say(const struct transfer *transfer, const struct arguments *arguments,
		  const char *what, uint64_t first, uint64_t blocks);

/* Wait a moment, after @idle polls with nothing done. */
void transfer_pause(unsigned int idle);

/* The user is told which blocks it was about, and why: STATUS_FAILED. */
int request_failed(const struct dmaland_nvme_request *request, int status);

#endif
