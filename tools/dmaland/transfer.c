/* SPDX-License-Identifier: MIT */
/*
 * transfer.c - blocks of a namespace, many requests in flight, in bounded memory
 *
 * All buffers are one piece of coherent memory, so that the drive reads and writes them directly,
 * on any backend. Memory of the caller's can stand in for a buffer.
 */
#include "drive.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "progress.h"

/* Bytes of a slot: what the drive takes at once, in whole blocks, at least one. */
static size_t slot_size(const struct drive *drive, uint32_t block_size)
{
	size_t most = drive->info.max_transfer;

	if (most > TRANSFER_SLOT)
		most = TRANSFER_SLOT;
	return most > block_size ? most - most % block_size : block_size;
}

int transfer_begin(struct transfer *transfer, struct drive *drive,
		   const struct dmaland_nvme_namespace *ns)
{
	memset(transfer, 0, sizeof(*transfer));
	transfer->drive = drive;
	transfer->ns = *ns;
	transfer->depth = TRANSFER_DEPTH;
	if (transfer->depth > drive->info.max_queue_depth)
		transfer->depth = drive->info.max_queue_depth;
	transfer->slot_bytes = slot_size(drive, ns->block_size);
	transfer->slot_blocks = transfer->slot_bytes / ns->block_size;
	transfer->queue = dmaland_nvme_queue_create(drive->ctrl, transfer->depth, 0);
	if (!transfer->queue)
		return fail_library(NULL);
	transfer->memory = dma_alloc_coherent(drive->dev, transfer->depth * transfer->slot_bytes,
					      &transfer->memory_dma, GFP_KERNEL);
	if (!transfer->memory) {
		transfer_end(transfer);
		return fail_library(NULL);
	}
	for (unsigned int i = 0; i < transfer->depth; i++) {
		transfer->slots[i].transfer = transfer;
		transfer->slots[i].data = (char *)transfer->memory + i * transfer->slot_bytes;
	}
	transfer->begin = seconds_now();
	return STATUS_OK;
}

void transfer_end(struct transfer *transfer)
{
	transfer->end = seconds_now();
	dmaland_nvme_queue_destroy(transfer->queue);
	dma_free_coherent(transfer->drive->dev, transfer->depth * transfer->slot_bytes,
			  transfer->memory, transfer->memory_dma);
}

static struct transfer_slot *slot_next(struct transfer *transfer)
{
	return &transfer->slots[(transfer->first + transfer->used) % transfer->depth];
}

void *transfer_buffer(struct transfer *transfer)
{
	return transfer->used < transfer->depth ? slot_next(transfer)->data : NULL;
}

static void slot_done(struct dmaland_nvme_request *request, int status)
{
	struct transfer_slot *slot = request->context;

	latency_add(&slot->transfer->latency, nanoseconds_now() - slot->begin);
	slot->status = status;
	slot->busy = false;
}

static int slot_submit(struct transfer *transfer, enum dmaland_nvme_opcode opcode, void *data,
		       uint64_t block, uint64_t blocks)
{
	struct transfer_slot *slot = slot_next(transfer);
	int code;

	slot->block = block;
	slot->blocks = blocks;
	slot->iov = (struct iovec){data, (size_t)blocks * transfer->ns.block_size};
	slot->request = (struct dmaland_nvme_request){
		.opcode = (uint8_t)opcode,
		.nsid = transfer->ns.nsid,
		.block = block,
		.blocks = blocks,
		.iov = &slot->iov,
		.iov_count = data != NULL,
		.done = slot_done,
		.context = slot,
	};
	slot->busy = true;
	slot->begin = nanoseconds_now();
	code = dmaland_nvme_submit(transfer->queue, &slot->request);
	if (code)
		slot->busy = false;
	else
		transfer->used++;
	return code;
}

bool transfer_can_map(const struct transfer *transfer)
{
	struct dmaland_device *dev = transfer->drive->dev;
	struct dmaland_streaming_stats stats;

	dmaland_get_streaming_stats(dev, &stats);
	return dma_max_mapping_size(dev) == SIZE_MAX && stats.copy_below <= transfer->slot_bytes;
}

int transfer_submit_memory(struct transfer *transfer, enum dmaland_nvme_opcode opcode, void *data,
			   uint64_t block, uint64_t blocks)
{
	return slot_submit(transfer, opcode, data, block, blocks);
}

static bool has_data(enum dmaland_nvme_opcode opcode)
{
	return opcode == DMALAND_NVME_READ || opcode == DMALAND_NVME_WRITE;
}

int transfer_submit(struct transfer *transfer, enum dmaland_nvme_opcode opcode, uint64_t block,
		    uint64_t blocks)
{
	void *data = has_data(opcode) ? slot_next(transfer)->data : NULL;

	return slot_submit(transfer, opcode, data, block, blocks) ? fail_library(NULL) : STATUS_OK;
}

/*
 * A completion is mostly near: look again at once. When it takes its time, the processor may be
 * what the drive's model in QEMU waits for.
 */
void transfer_pause(unsigned int idle)
{
	static const struct timespec moment = {.tv_nsec = 50000};

	if (idle >= 256)
		nanosleep(&moment, NULL);
	else if (idle >= 16)
		sched_yield();
}

static const char *opcode_text(uint8_t opcode)
{
	switch (opcode) {
	case DMALAND_NVME_READ:
		return "reading";
	case DMALAND_NVME_WRITE:
		return "writing";
	case DMALAND_NVME_WRITE_ZEROES:
		return "zeroing";
	case DMALAND_NVME_VERIFY:
		return "verifying";
	default:
		return "discarding";
	}
}

int request_failed(const struct dmaland_nvme_request *request, int status)
{
	const char *why = status > 0 ? dmaland_nvme_status_text(status) : dmaland_last_error();

	return fail("%s blocks %llu to %llu of namespace %u failed: %s",
		    opcode_text(request->opcode), (unsigned long long)request->block,
		    (unsigned long long)(request->block + request->blocks - 1), request->nsid, why);
}

int transfer_wait(struct transfer *transfer, struct transfer_slot **slot)
{
	unsigned int idle = 0;

	*slot = &transfer->slots[transfer->first];
	while ((*slot)->busy) {
		if (dmaland_nvme_poll(transfer->queue))
			idle = 0;
		else
			transfer_pause(idle++);
	}
	return (*slot)->status ? request_failed(&(*slot)->request, (*slot)->status) : STATUS_OK;
}

void transfer_release(struct transfer *transfer)
{
	transfer->first = (transfer->first + 1) % transfer->depth;
	transfer->used--;
}

static void say_ways(const struct transfer *transfer)
{
	struct dmaland_streaming_stats stats;

	dmaland_get_streaming_stats(transfer->drive->dev, &stats);
	fprintf(stderr, "requests: %llu mapped where they lie, %llu in DMA memory, %llu copied\n",
		(unsigned long long)stats.mapped,
		(unsigned long long)(stats.translated_arena + stats.translated_registered),
		(unsigned long long)(stats.bounced_small + stats.bounced_limit +
				     stats.bounced_unmappable + stats.bounced_untrusted));
}

void transfer_say(const struct transfer *transfer, const struct arguments *arguments,
		  const char *what, uint64_t first, uint64_t blocks)
{
	uint64_t bytes = blocks * transfer->ns.block_size;
	double seconds = transfer->end - transfer->begin;

	if (!arguments_have(arguments, 'v') && !progress_is_watched())
		return;
	fprintf(stderr, "%s %s: %llu blocks of %u bytes from block %llu, %.2f s, %s\n", what,
		size_text(bytes).text, (unsigned long long)blocks, transfer->ns.block_size,
		(unsigned long long)first, seconds, rate_text(bytes, seconds).text);
	if (transfer->latency.count)
		fprintf(stderr, "latency of %llu requests: %s\n",
			(unsigned long long)transfer->latency.count,
			latency_words(&transfer->latency).text);
	if (arguments_have(arguments, 'v'))
		say_ways(transfer);
}
