/* SPDX-License-Identifier: MIT */
/*
 * pools.c - `dmaland pools`: a drive's DMA pools while reads are in flight
 *
 * Reads are submitted and not reaped; so each holds what it needs while the pools are counted. What
 * they read goes to one buffer, since nobody looks at it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drive.h"
#include "report.h"

enum { READS_DEFAULT = 1024, SIZE_DEFAULT = 64 << 10 };

/* @size: bytes of each read; @commands: that the drive makes of all of them */
struct load {
	struct dmaland_nvme_queue *queue;
	struct dmaland_nvme_namespace ns;
	uint64_t reads, size;
	unsigned int left;
	const struct dmaland_nvme_request *failed; /* the first, and its status; NULL: none */
	int status;
	void *data;
	dma_addr_t data_dma;
	struct iovec iov;
	struct dmaland_nvme_request *requests;
};

static int size_choose(struct load *load, const struct arguments *arguments)
{
	const struct dmaland_nvme_namespace *ns = &load->ns;
	bool asked = arguments_have(arguments, 'Z');

	load->size = asked ? arguments->size : SIZE_DEFAULT;
	if (asked && load->size % ns->block_size)
		return fail("%llu bytes are not a multiple of the block size of %u",
			    (unsigned long long)load->size, ns->block_size);
	if (load->size < ns->block_size)
		load->size = ns->block_size;
	if (load->size / ns->block_size <= ns->blocks)
		return STATUS_OK;
	if (asked)
		return fail("reads of %llu bytes are larger than namespace %u, which has %llu "
			    "blocks of %u bytes",
			    (unsigned long long)load->size, ns->nsid,
			    (unsigned long long)ns->blocks, ns->block_size);
	load->size = ns->blocks * ns->block_size;
	return STATUS_OK;
}

/* All commands must find room in the queue, or some would wait and hold nothing. */
static int reads_choose(struct load *load, const struct drive *drive,
			const struct arguments *arguments)
{
	uint64_t most = drive->info.max_transfer - drive->info.max_transfer % load->ns.block_size;
	uint64_t commands = most ? (load->size + most - 1) / most : load->size;
	uint64_t fit = drive->info.max_queue_depth / commands;
	bool asked = arguments_have(arguments, 'R');

	load->reads = asked ? arguments->reads : READS_DEFAULT;
	if (load->reads <= fit)
		return STATUS_OK;
	if (asked || fit == 0)
		return fail("%llu reads of %s do not fit into a queue of this drive: it holds %llu",
			    (unsigned long long)load->reads, size_text(load->size).text,
			    (unsigned long long)fit);
	load->reads = fit;
	return STATUS_OK;
}

static void read_done(struct dmaland_nvme_request *request, int status)
{
	struct load *load = request->context;

	load->left--;
	if (status && !load->failed) {
		load->failed = request;
		load->status = status;
	}
}

static int load_submit(struct load *load)
{
	uint64_t blocks = load->size / load->ns.block_size;
	uint64_t places = load->ns.blocks / blocks;

	load->iov = (struct iovec){load->data, load->size};
	for (uint64_t i = 0; i < load->reads; i++) {
		load->requests[i] = (struct dmaland_nvme_request){
			.opcode = DMALAND_NVME_READ,
			.nsid = load->ns.nsid,
			.block = i % places * blocks,
			.blocks = blocks,
			.iov = &load->iov,
			.iov_count = 1,
			.done = read_done,
			.context = load,
		};
		if (dmaland_nvme_submit(load->queue, &load->requests[i]))
			return fail_library(NULL);
		load->left++;
	}
	return STATUS_OK;
}

static int load_begin(struct load *load, struct drive *drive, const struct arguments *arguments)
{
	int status = drive_namespace(drive, arguments->nsid, DRIVE_TRANSFERS, &load->ns);

	if (!status)
		status = size_choose(load, arguments);
	if (!status)
		status = reads_choose(load, drive, arguments);
	if (status || !load->reads)
		return status;
	load->requests = calloc(load->reads, sizeof(*load->requests));
	if (!load->requests)
		return fail("no memory for %llu requests", (unsigned long long)load->reads);
	load->data = dma_alloc_coherent(drive->dev, load->size, &load->data_dma, GFP_KERNEL);
	if (!load->data)
		return fail_library(NULL);
	load->queue = dmaland_nvme_queue_create(drive->ctrl, drive->info.max_queue_depth, 0);
	if (!load->queue)
		return fail_library(NULL);
	return load_submit(load);
}

/* Wait until all are done, also when a signal asks to end. */
static int load_reap(struct load *load)
{
	unsigned int idle = 0;

	while (load->left) {
		if (dmaland_nvme_poll(load->queue))
			idle = 0;
		else
			transfer_pause(idle++);
	}
	return load->failed ? request_failed(load->failed, load->status) : signals_status();
}

static void load_end(struct load *load, struct drive *drive)
{
	dmaland_nvme_queue_destroy(load->queue);
	dma_free_coherent(drive->dev, load->size, load->data, load->data_dma);
	free(load->requests);
}

enum { POOL_NAME, POOL_IN_USE, POOL_TOTAL, POOL_SIZE, POOL_PAGES, POOL_BAD_FREES, POOL_COLUMNS };

static const struct column pool_columns[POOL_COLUMNS] = {
	[POOL_NAME] = {"NAME", "name", COLUMN_TEXT, FIT_NO},
	[POOL_IN_USE] = {"IN USE", "in_use", COLUMN_NUMBER, FIT_NO},
	[POOL_TOTAL] = {"TOTAL", "total", COLUMN_NUMBER, FIT_NO},
	[POOL_SIZE] = {"SIZE", "size", COLUMN_NUMBER, FIT_NO},
	[POOL_PAGES] = {"PAGES", "pages", COLUMN_NUMBER, FIT_NO},
	[POOL_BAD_FREES] = {"BAD FREES", "bad_frees", COLUMN_NUMBER, FIT_NO},
};

static int report_pools(struct report *report, struct dmaland_device *dev)
{
	size_t count = dmaland_get_pools(dev, NULL, 0);
	struct dmaland_pool_stats *pools = calloc(count ? count : 1, sizeof(*pools));

	if (!pools)
		return fail("no memory for the figures of %zu pools", count);
	count = dmaland_get_pools(dev, pools, count);
	report_table(report, "pools", pool_columns, POOL_COLUMNS);
	for (size_t i = 0; i < count; i++) {
		report_row(report);
		report_text(report, POOL_NAME, pools[i].name);
		report_number(report, POOL_IN_USE, pools[i].in_use);
		report_number(report, POOL_TOTAL, pools[i].total);
		report_number(report, POOL_SIZE, pools[i].block_size);
		report_number(report, POOL_PAGES, pools[i].pages);
		report_number(report, POOL_BAD_FREES, pools[i].bad_frees);
	}
	free(pools);
	return STATUS_OK;
}

static void report_memory(struct report *report, struct dmaland_device *dev)
{
	struct dmaland_info info;
	char limit[32] = "";

	dmaland_get_info(dev, &info);
	if (info.mapping_limit)
		snprintf(limit, sizeof(limit), " of %u", info.mapping_limit);
	report_space(report);
	report_facts(report, "memory");
	report_fact(report, "memory", "%s mapped, %s of it in use; mappings: %u%s",
		    size_text(info.memory).text, size_text(info.memory_in_use).text, info.mappings,
		    limit);
	report_member_number(report, "mapped", info.memory);
	report_member_number(report, "in_use", info.memory_in_use);
	report_member_number(report, "mappings", info.mappings);
	if (info.mapping_limit)
		report_member_number(report, "mapping_limit", info.mapping_limit);
	else
		report_member_null(report, "mapping_limit");
}

static int report_load(struct report *report, const struct load *load, struct drive *drive)
{
	int status;

	report_note(report, "%llu reads of %s in flight", (unsigned long long)load->reads,
		    size_text(load->size).text);
	report_facts(report, "in_flight");
	report_member_number(report, "reads", load->reads);
	report_member_number(report, "size", load->size);
	report_space(report);
	status = report_pools(report, drive->dev);
	if (!status)
		report_memory(report, drive->dev);
	return status;
}

static int pools_run(const struct arguments *arguments)
{
	/* A drive that takes SGLs needs fewer lists, and so fewer blocks of pools to be looked at. */
	const struct dmaland_nvme_options options = {.size = sizeof(options), .no_sgls = true};
	struct load load = {0};
	struct report report;
	struct drive drive;
	int status = drive_open_with(&drive, arguments, &options);

	if (status)
		return status;
	report_begin(&report, arguments_have(arguments, 'J'));
	status = load_begin(&load, &drive, arguments);
	if (!status)
		status = report_load(&report, &load, &drive);
	if (!status)
		status = load_reap(&load);
	load_end(&load, &drive);
	drive_close(&drive);
	return report_end(&report, status);
}

const struct command pools_command = {
	.name = "pools",
	.summary = "a drive's DMA pools while reads are in flight",
	.options = "nRZJv",
	.operands = "SPEC",
	.least = 1,
	.most = 1,
	.help = "Submit reads to an NVMe drive, count its DMA pools before any is reaped, then\n"
		"reap all.\n\n"
		"  -n, --namespace=NSID  the namespace; 1 when left out\n"
		"      --reads=NUMBER    how many; 1024 when left out, or what fits into a queue\n"
		"      --size=BYTES      of each; 64K when left out\n"
		"      --json            as one JSON object\n"
		"  -v, --verbose         more messages on stderr\n\n"
		"More: man dmaland\n",
	.run = pools_run,
};
