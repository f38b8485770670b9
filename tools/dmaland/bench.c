/* SPDX-License-Identifier: MIT */
/*
 * bench.c - `dmaland nvme bench`: how many requests of a kind a drive does
 *
 * So many requests are in flight as --depth says, each in a buffer of its own in DMA memory; one
 * that is done is submitted again for other blocks, from within its completion.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "drive.h"
#include "progress.h"
#include "report.h"

enum { DEPTH_DEFAULT = 32, SECONDS_DEFAULT = 5, SIZE_DEFAULT = 4096 };

struct bench_request {
	struct bench *bench;
	uint64_t begin;
	struct iovec iov;
	struct dmaland_nvme_request request;
};

/*
 * @places:   pieces of @size that the range has; @next: the place of the next one in sequence
 * @limit:    requests to do, or 0: until @end
 * @status:   of the first request that failed; nothing is submitted any more
 */
struct bench {
	struct drive drive;
	struct dmaland_nvme_namespace ns;
	struct dmaland_nvme_queue *queue;
	bool write, random, irq;
	uint64_t size, depth, first, places, next, limit, submitted, done, begin, end;
	unsigned short seed[3];
	unsigned int in_flight;
	int status;
	uint64_t failed_block;
	char *memory;
	dma_addr_t memory_dma;
	struct latency latency;
	struct bench_request *requests;
};

static uint64_t place_choose(struct bench *bench)
{
	uint64_t number;

	if (!bench->random)
		return bench->next++ % bench->places;
	number = (uint64_t)nrand48(bench->seed) << 31 | (uint64_t)nrand48(bench->seed);
	return number % bench->places;
}

static void request_submit(struct bench_request *one, uint64_t now)
{
	struct bench *bench = one->bench;
	uint64_t blocks = bench->size / bench->ns.block_size;

	one->request.block = bench->first + place_choose(bench) * blocks;
	one->begin = now;
	bench->status = dmaland_nvme_submit(bench->queue, &one->request);
	if (bench->status) {
		bench->failed_block = one->request.block;
		return;
	}
	bench->submitted++;
	bench->in_flight++;
}

static bool is_over(const struct bench *bench, uint64_t now)
{
	if (bench->status || signals_status())
		return true;
	return bench->limit ? bench->submitted >= bench->limit : now >= bench->end;
}

static void request_done(struct dmaland_nvme_request *request, int status)
{
	struct bench_request *one = request->context;
	struct bench *bench = one->bench;
	uint64_t now = nanoseconds_now();

	bench->in_flight--;
	if (status && !bench->status) {
		bench->status = status;
		bench->failed_block = request->block;
	}
	if (status)
		return;
	bench->done++;
	latency_add(&bench->latency, now - one->begin);
	if (!is_over(bench, now))
		request_submit(one, now);
}

/* Nothing was complete: sleep until an interrupt, or look again soon. */
static void bench_wait(struct bench *bench, unsigned int idle)
{
	if (bench->irq)
		dmaland_nvme_wait(bench->queue, -1);
	else
		transfer_pause(idle);
}

/* All is submitted and waited for; how long that took. */
static double bench_work(struct bench *bench)
{
	unsigned int idle = 0;

	bench->begin = nanoseconds_now();
	bench->end += bench->begin;
	for (uint64_t i = 0; i < bench->depth && !is_over(bench, bench->begin); i++)
		request_submit(&bench->requests[i], nanoseconds_now());
	while (bench->in_flight) {
		if (dmaland_nvme_poll(bench->queue))
			idle = 0;
		else
			bench_wait(bench, idle++);
		progress_update(bench->done * bench->size);
	}
	return (double)(nanoseconds_now() - bench->begin) / 1e9;
}

static int bench_choose(struct bench *bench, const struct arguments *arguments)
{
	const struct dmaland_nvme_info *info = &bench->drive.info;
	uint64_t blocks;
	int status = drive_range(&bench->ns, arguments, &bench->first, &blocks);

	if (status)
		return status;
	bench->size = arguments_have(arguments, 'Z') ? arguments->size : SIZE_DEFAULT;
	if (bench->size % bench->ns.block_size)
		return fail("%llu bytes are not a multiple of the block size of %u",
			    (unsigned long long)bench->size, bench->ns.block_size);
	bench->places = blocks / (bench->size / bench->ns.block_size);
	if (!bench->places)
		return fail("requests of %s are larger than the %llu blocks of %u bytes",
			    size_text(bench->size).text, (unsigned long long)blocks,
			    bench->ns.block_size);
	bench->depth = arguments_have(arguments, 'Q') ? arguments->depth : DEPTH_DEFAULT;
	if (bench->depth > info->max_queue_depth && arguments_have(arguments, 'Q'))
		return fail("a depth of %llu is more than a queue of this drive holds: %u",
			    (unsigned long long)bench->depth, info->max_queue_depth);
	if (bench->depth > info->max_queue_depth)
		bench->depth = info->max_queue_depth;
	bench->limit = arguments->requests;
	if (bench->limit && bench->depth > bench->limit)
		bench->depth = bench->limit;
	bench->end = (arguments_have(arguments, 'T') ? arguments->seconds : SECONDS_DEFAULT) *
		     1000000000;
	return STATUS_OK;
}

/* What is written is random, so that no drive makes it small. */
static int bench_begin(struct bench *bench)
{
	bench->requests = calloc(bench->depth, sizeof(*bench->requests));
	if (!bench->requests)
		return fail("no memory for %llu requests", (unsigned long long)bench->depth);
	bench->queue = dmaland_nvme_queue_create(bench->drive.ctrl, (unsigned int)bench->depth,
						 bench->irq ? DMALAND_NVME_QUEUE_IRQ : 0);
	if (!bench->queue)
		return fail_library(NULL);
	bench->memory = dma_alloc_coherent(bench->drive.dev, bench->depth * bench->size,
					   &bench->memory_dma, GFP_KERNEL);
	if (!bench->memory)
		return fail_library(NULL);
	for (uint64_t at = 0, n = bench->depth * bench->size; bench->write && at < n; at += 256)
		if (getrandom(bench->memory + at, n - at < 256 ? n - at : 256, 0) < 0)
			return fail("no random bytes can be had");
	for (uint64_t i = 0; i < bench->depth; i++) {
		struct bench_request *one = &bench->requests[i];

		one->bench = bench;
		one->iov = (struct iovec){bench->memory + i * bench->size, bench->size};
		one->request = (struct dmaland_nvme_request){
			.opcode = bench->write ? DMALAND_NVME_WRITE : DMALAND_NVME_READ,
			.nsid = bench->ns.nsid,
			.blocks = bench->size / bench->ns.block_size,
			.iov = &one->iov,
			.iov_count = 1,
			.done = request_done,
			.context = one,
		};
	}
	return STATUS_OK;
}

static void bench_end(struct bench *bench)
{
	dmaland_nvme_queue_destroy(bench->queue);
	dma_free_coherent(bench->drive.dev, bench->depth * bench->size, bench->memory,
			  bench->memory_dma);
	free(bench->requests);
}

static int bench_report(const struct bench *bench, double seconds, bool json)
{
	const struct latency *latency = &bench->latency;
	uint64_t rate = (uint64_t)((double)bench->done / (seconds > 1e-9 ? seconds : 1e-9));
	struct report report;
	const struct member members[] = {
		{"size", bench->size},
		{"depth", bench->depth},
		{"requests", bench->done},
		{"nanoseconds", (uint64_t)(seconds * 1e9)},
		{"requests_per_second", rate},
		{"bytes_per_second", rate * bench->size},
		{"latency_p50_ns", latency_percentile(latency, 500)},
		{"latency_p99_ns", latency_percentile(latency, 990)},
		{"latency_p999_ns", latency_percentile(latency, 999)},
		{"latency_max_ns", latency->max},
	};

	report_begin(&report, json);
	report_note(&report, "%llu %s %s of %s, %llu in flight, %s",
		    (unsigned long long)bench->done, bench->random ? "random" : "sequential",
		    bench->write ? "writes" : "reads", size_text(bench->size).text,
		    (unsigned long long)bench->depth, bench->irq ? "by interrupt" : "polled");
	report_facts(&report, "bench");
	report_fact(&report, "time", "%.2f s", seconds);
	report_fact(&report, "requests/s", "%llu", (unsigned long long)rate);
	report_fact(&report, "rate", "%s", rate_text(bench->done * bench->size, seconds).text);
	report_fact(&report, "latency", "%s", latency_words(latency).text);

	report_member_text(&report, "operation", bench->write ? "write" : "read");
	report_member_text(&report, "order", bench->random ? "random" : "sequential");
	report_member_text(&report, "completion", bench->irq ? "interrupt" : "polled");
	report_members(&report, members, sizeof(members) / sizeof(members[0]));
	return report_end(&report, STATUS_OK);
}

static int bench_measure(struct bench *bench, const struct arguments *arguments)
{
	int status = bench_begin(bench);
	double seconds;

	if (status)
		return status;
	progress_begin(bench->write ? "writing" : "reading", bench->limit * bench->size);
	seconds = bench_work(bench);
	progress_end();
	if (bench->status)
		return fail("%s blocks %llu to %llu failed: %s",
			    bench->write ? "writing" : "reading",
			    (unsigned long long)bench->failed_block,
			    (unsigned long long)(bench->failed_block +
						 bench->size / bench->ns.block_size - 1),
			    bench->status > 0 ? dmaland_nvme_status_text(bench->status)
					      : dmaland_last_error());
	status = bench_report(bench, seconds, arguments_have(arguments, 'J'));
	return status ? status : signals_status();
}

static int bench_run(const struct arguments *arguments)
{
	struct bench *bench;
	int status;

	if (arguments_have(arguments, 'T') && arguments_have(arguments, 'U'))
		return usage_error("nvme bench", "--time and --requests exclude each other");
	bench = calloc(1, sizeof(*bench));
	if (!bench)
		return fail("no memory");
	bench->write = arguments_have(arguments, 'W');
	bench->random = arguments_have(arguments, 'N');
	bench->irq = arguments_have(arguments, 'I');
	status = drive_open(&bench->drive, arguments);
	if (status) {
		free(bench);
		return status;
	}
	status = drive_namespace(&bench->drive, (uint32_t)arguments->nsid,
				 arguments_have(arguments, 'W') ? DRIVE_TRANSFERS | DRIVE_WRITES
								: DRIVE_TRANSFERS,
				 &bench->ns);
	if (!status)
		status = bench_choose(bench, arguments);
	if (!status && bench->write && !arguments_have(arguments, 's') &&
	    !arguments_have(arguments, 'c'))
		status = confirm_loss(&bench->drive, arguments, "what namespace %u holds (%s)",
				      bench->ns.nsid,
				      size_text(bench->ns.blocks * bench->ns.block_size).text);
	if (!status) {
		status = bench_measure(bench, arguments);
		bench_end(bench);
	}
	drive_close(&bench->drive);
	free(bench);
	return status;
}

const struct command nvme_bench_command = {
	.name = "nvme bench",
	.summary = "how many requests a drive does (--write destroys data)",
	.options = "nscyNWIZQTUJv",
	.operands = "SPEC",
	.least = 1,
	.most = 1,
	.help = "Keep a drive busy with requests of one kind, and say how many it does and how\n"
		"long they take. With --write what the blocks held is lost: without --start\n"
		"and --count a person at a terminal is asked before that.\n\n"
		"      --random          in random order; in sequence when left out\n"
		"      --write           write random bytes; read when left out\n"
		"  -y, --yes             do not ask\n"
		"      --irq             sleep until the drive interrupts; poll when left out\n"
		"      --size=BYTES      of each request; 4K when left out\n"
		"      --depth=NUMBER    requests in flight; 32 when left out\n"
		"      --time=SECONDS    how long; 5 when left out\n"
		"      --requests=NUMBER so many instead\n"
		"  -n, --namespace=NSID  the namespace; 1 when left out\n"
		"  -s, --start=BLOCK     the first block; 0 when left out\n"
		"  -c, --count=BLOCKS    of how many; to the namespace's end when left out\n"
		"      --json            as one JSON object\n"
		"  -v, --verbose         more messages on stderr\n\n"
		"More: man dmaland-nvme\n",
	.run = bench_run,
};
