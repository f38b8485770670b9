/* SPDX-License-Identifier: MIT */
/*
 * soak.c - many requests of several threads, each verified, while the drive fails them, is late and is reset:
 * ./soak SPEC [REQUESTS [THREADS]]
 *
 * SPEC is an NVMe drive, whose data are destroyed; `qemu:nvme` alone makes an image, of which some blocks
 * can't be read or written (blkdebug); `soft:nvme` is the drive of soft_nvme.h, which misbehaves at random.
 *
 * Each thread has a queue, polled or waited for, and slots, each with blocks of its own and one request at a time. What a block
 * should hold is known: a version, that its content is made from; two, after a write of which nobody
 * knows whether it was carried out, until the next read tells. Every request must be answered once,
 * every block read must be right, and in the end nothing may be held.
 */
#include "soft_nvme.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	SLOTS = 16,
	BLOCKS = 16,  /* of a slot */
	BYTES = 4096, /* of a block, at most */
	MOST_THREADS = 16,
	TIMEOUT = 400,
	IMAGE = 16 << 20,
	LATE_TIMES = 3, /* that a thread's requests are made late */
	STEPS = 40,	/* after each of which the controller is reset */
};

/* cmocka's assertions are for one thread. */
#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s; last error: %s\n", __FILE__, __LINE__,         \
				#condition, dmaland_last_error());                                 \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static const char *spec = "qemu:nvme";
static unsigned long requests = 200000;
static unsigned int threads = 4;

static struct dmaland_device *dev;
static struct dmaland_nvme *ctrl;
static struct dmaland_nvme_namespace ns;
static struct soft_nvme soft;
static char nowhere[8];

struct slot {
	struct worker *worker;
	struct dmaland_nvme_request request;
	struct iovec iov;
	unsigned char *data;
	uint32_t version[BLOCKS], other[BLOCKS]; /* what it holds, or may hold instead */
	bool unsure;
	bool in_flight;
	uint32_t writes; /* the version that is being written */
};

struct worker {
	pthread_t thread;
	unsigned int number;
	uint64_t seed;
	struct dmaland_nvme_queue *queue;
	struct slot slots[SLOTS];
	unsigned long submitted, answered, failed, cut_off, late;
	uint32_t version;
};

static atomic_ulong answered;
static sem_t progress; /* for each of STEPS parts of the requests, when it begins to be answered */

/* ---- what blocks hold ---- */

static uint64_t first_block(const struct slot *slot)
{
	return (slot->worker->number * SLOTS + (size_t)(slot - slot->worker->slots)) * BLOCKS;
}

/* Version 0 is zeroes. */
static void fill(unsigned char *data, uint64_t block, uint32_t version)
{
	uint64_t word = version ? (block << 32 | version) * 0x9e3779b97f4a7c15ull : 0;

	for (size_t i = 0; i < ns.block_size; i += sizeof(word))
		memcpy(data + i, &word, sizeof(word));
}

static bool holds(const unsigned char *data, uint64_t block, uint32_t version)
{
	unsigned char wanted[BYTES];

	fill(wanted, block, version);
	return memcmp(data, wanted, ns.block_size) == 0;
}

/* Blocks of the slot's request, relative to the slot. */
static void range_of(const struct slot *slot, size_t *from, size_t *to)
{
	*from = slot->request.block - first_block(slot);
	*to = *from + slot->request.blocks;
}

static void check_read(struct slot *slot)
{
	size_t from, to;

	range_of(slot, &from, &to);
	for (size_t i = from; i < to; i++) {
		const unsigned char *data = slot->data + (i - from) * ns.block_size;
		uint64_t block = first_block(slot) + i;
		bool first = holds(data, block, slot->version[i]);

		MUST(first || (slot->unsure && holds(data, block, slot->other[i])));
		if (!first)
			slot->version[i] = slot->other[i];
	}
	/* of an unsure slot all is read */
	slot->unsure = false;
}

static void note_written(struct slot *slot, int status)
{
	size_t from, to;

	range_of(slot, &from, &to);
	if (status != 0)
		memcpy(slot->other, slot->version, sizeof(slot->other));
	slot->unsure = status != 0;
	for (size_t i = from; i < to; i++)
		*(status == 0 ? &slot->version[i] : &slot->other[i]) = slot->writes;
}

/* ---- requests ---- */

static bool changes_blocks(const struct slot *slot)
{
	return slot->request.opcode == DMALAND_NVME_WRITE ||
	       slot->request.opcode == DMALAND_NVME_WRITE_ZEROES;
}

static void on_done(struct dmaland_nvme_request *request, int status)
{
	struct slot *slot = request->context;
	struct worker *worker = slot->worker;

	MUST(slot->in_flight);
	slot->in_flight = false;
	worker->answered++;
	if (atomic_fetch_add(&answered, 1) % (requests / STEPS) == 0)
		sem_post(&progress);
	worker->failed += status > 0;
	worker->cut_off += status == -ECANCELED;
	worker->late += status == -ETIMEDOUT;
	MUST(status >= 0 || status == -ECANCELED || status == -ETIMEDOUT);
	if (changes_blocks(slot))
		note_written(slot, status);
	else if (request->opcode == DMALAND_NVME_READ && status == 0)
		check_read(slot);
	else if (request->opcode == DMALAND_NVME_COMPARE)
		MUST(status != DMALAND_NVME_STATUS_COMPARE_FAILURE);
}

/* Content for a write, or for a compare with what is there. */
static void fill_request(struct slot *slot)
{
	size_t from, to;

	range_of(slot, &from, &to);
	for (size_t i = from; i < to; i++)
		fill(slot->data + (i - from) * ns.block_size, first_block(slot) + i,
		     slot->request.opcode == DMALAND_NVME_WRITE ? slot->writes : slot->version[i]);
}

static uint8_t choose_opcode(const struct slot *slot, uint64_t *seed)
{
	static const uint8_t opcodes[] = {
		DMALAND_NVME_READ,	   DMALAND_NVME_READ,  DMALAND_NVME_READ,
		DMALAND_NVME_WRITE,	   DMALAND_NVME_WRITE, DMALAND_NVME_WRITE,
		DMALAND_NVME_WRITE_ZEROES, DMALAND_NVME_FLUSH, DMALAND_NVME_COMPARE,
	};

	return slot->unsure ? DMALAND_NVME_READ : opcodes[random_below(seed, sizeof(opcodes))];
}

static void submit(struct slot *slot)
{
	struct worker *worker = slot->worker;
	size_t from = slot->unsure ? 0 : random_below(&worker->seed, BLOCKS);
	size_t blocks = slot->unsure ? BLOCKS : 1 + random_below(&worker->seed, BLOCKS - from);
	uint8_t opcode = choose_opcode(slot, &worker->seed);
	bool flush = opcode == DMALAND_NVME_FLUSH;

	slot->iov = (struct iovec){slot->data, blocks * ns.block_size};
	slot->request = (struct dmaland_nvme_request){
		.opcode = opcode,
		.nsid = 1,
		.block = flush ? 0 : first_block(slot) + from,
		.blocks = flush ? 0 : blocks,
		.iov = &slot->iov,
		.iov_count = !flush && opcode != DMALAND_NVME_WRITE_ZEROES,
		.done = on_done,
		.context = slot,
	};
	slot->writes = opcode == DMALAND_NVME_WRITE ? ++worker->version : 0;
	if (opcode == DMALAND_NVME_WRITE || opcode == DMALAND_NVME_COMPARE)
		fill_request(slot);
	else
		memset(slot->data, 0xdd, BLOCKS * ns.block_size);
	slot->in_flight = true;
	worker->submitted++;
	MUST(dmaland_nvme_submit(worker->queue, &slot->request) == 0);
}

static bool in_flight(const struct worker *worker)
{
	return worker->answered < worker->submitted;
}

static void attend(struct worker *worker)
{
	if (dmaland_nvme_poll(worker->queue) > 0)
		return;
	if (worker->queue->vector < 0)
		sched_yield();
	else
		MUST(dmaland_nvme_wait(worker->queue, -1) >= 0);
}

/* The drive is not told of any request, until all have been answered. */
static void be_late(struct worker *worker)
{
	volatile char *doorbell = worker->queue->sq_doorbell.reg;

	worker->queue->sq_doorbell = (struct nvme_doorbell){.reg = nowhere};
	for (unsigned int i = 0; i < SLOTS; i++)
		if (!worker->slots[i].in_flight)
			submit(&worker->slots[i]);
	while (in_flight(worker))
		attend(worker);
	worker->queue->sq_doorbell.reg = doorbell;
}

static void *work(void *context)
{
	struct worker *worker = context;
	unsigned long share = requests / threads, next_late = share / LATE_TIMES / 2;

	/* half of the requests wait for a slot; half of the threads for interrupts, where there are any */
	worker->queue = dmaland_nvme_queue_create(
		ctrl, SLOTS / 2,
		ctrl->vectors > 0 && worker->number % 2 ? DMALAND_NVME_QUEUE_IRQ : 0);
	MUST(worker->queue);
	while (worker->submitted < share || in_flight(worker)) {
		if (worker->submitted >= next_late && worker->submitted < share) {
			next_late += share / LATE_TIMES;
			be_late(worker);
		}
		for (unsigned int i = 0; i < SLOTS && worker->submitted < share; i++)
			if (!worker->slots[i].in_flight)
				submit(&worker->slots[i]);
		attend(worker);
	}
	dmaland_nvme_queue_destroy(worker->queue);
	return NULL;
}

/* ---- drives ---- */

static char directory[] = "/tmp/dmaland-soak-XXXXXX";
static char image[64], faults[64], made_spec[256];

/* Blocks of the first thread that fail: sectors of 512 bytes. */
static void make_image(void)
{
	FILE *f;
	int fd;

	MUST(mkdtemp(directory));
	snprintf(image, sizeof(image), "%s/image", directory);
	snprintf(faults, sizeof(faults), "%s/faults", directory);
	f = fopen(image, "w");
	MUST(f);
	fd = fileno(f);
	MUST(ftruncate(fd, IMAGE) == 0);
	fclose(f);
	f = fopen(faults, "w");
	MUST(f);
	fprintf(f, "[inject-error]\nevent = \"read_aio\"\nerrno = \"5\"\nsector = \"37\"\n"
		   "[inject-error]\nevent = \"write_aio\"\nerrno = \"5\"\nsector = \"85\"\n");
	fclose(f);
	snprintf(made_spec, sizeof(made_spec), "qemu:nvme,drive=blkdebug:%s:%s", faults, image);
	spec = made_spec;
}

/* With the drive's lock held. */
static int at_random(struct soft_nvme *drive, const struct nvme_command *command)
{
	static uint64_t seed = 4711;
	uint64_t n = random_below(&seed, 10000);

	(void)command;
	drive->aborts = n % 2;
	if (n < 2)
		return SOFT_NVME_HOLD;
	if (n < 4)
		return SOFT_NVME_TWICE;
	if (n < 6)
		return SOFT_NVME_FORGED;
	if (n < 16)
		return 0x280 | SOFT_NVME_DNR;
	return n < 500 ? 0x006 : SOFT_NVME_CARRY_OUT;
}

static void open_drive(void)
{
	const struct dmaland_nvme_options options = {
		.size = sizeof(options),
		.timeout_ms = patience(TIMEOUT),
		.abort_timeout_ms = patience(TIMEOUT) / 2,
	};

	if (strcmp(spec, "qemu:nvme") == 0)
		make_image();
	if (strcmp(spec, "soft:nvme") == 0) {
		dev = soft_nvme_open(&soft);
		soft.verdict = at_random;
	} else {
		dev = dmaland_open(spec, NULL);
	}
	MUST(dev);
	ctrl = dmaland_nvme_open(dev, &options);
	MUST(ctrl);
	MUST(dmaland_nvme_get_namespace(ctrl, 1, &ns) == 0);
	MUST(ns.block_size <= BYTES);
}

static void close_drive(void)
{
	struct dmaland_streaming_stats streaming;
	struct dmaland_pool_stats pools[16];
	size_t n;

	dmaland_nvme_close(ctrl);
	dmaland_get_streaming_stats(dev, &streaming);
	n = dmaland_get_pools(dev, pools, 16);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(pools[i].in_use, 0);
	assert_int_equal(streaming.live_mapped + streaming.live_bounced, 0);
	assert_int_equal(streaming.bad_calls, 0);
	log_clear();
	dmaland_close(dev);
	assert_string_equal(log_text(), ""); /* what was not freed is reported */
	if (strcmp(spec, "soft:nvme") == 0) {
		assert_int_equal(soft.faults, 0);
		soft_nvme_free(&soft);
	}
	if (spec == made_spec) {
		unlink(image);
		unlink(faults);
		rmdir(directory);
	}
}

/* ---- the run ---- */

static void start(struct worker *worker, unsigned int number)
{
	worker->number = number;
	worker->seed = 77 + number;
	for (unsigned int i = 0; i < SLOTS; i++) {
		struct slot *slot = &worker->slots[i];

		slot->worker = worker;
		slot->data = malloc((size_t)BLOCKS * BYTES);
		MUST(slot->data);
		/* what the drive holds at first is not known: zeroes */
		MUST(dmaland_nvme_write_zeroes(worker->queue, 1, first_block(slot), BLOCKS) == 0);
	}
}

static void every_request_is_answered_once_and_no_byte_is_wrong(void **state)
{
	static struct worker workers[MOST_THREADS];
	struct dmaland_nvme_stats stats;
	unsigned long failed = 0, cut_off = 0, late = 0, submitted = 0;
	struct dmaland_nvme_queue *queue;
	time_t begin = time(NULL);

	(void)state;
	MUST(sem_init(&progress, 0, 0) == 0);
	open_drive();
	queue = dmaland_nvme_queue_create(ctrl, 1, 0);
	MUST(queue);
	for (unsigned int i = 0; i < threads; i++) {
		workers[i].queue = queue;
		start(&workers[i], i);
	}
	dmaland_nvme_queue_destroy(queue);
	for (unsigned int i = 0; i < threads; i++)
		MUST(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
	/* the last part may lack what the threads do not divide */
	for (unsigned int i = 0; i < STEPS - 1; i++) {
		while (sem_wait(&progress) != 0)
			;
		MUST(dmaland_nvme_reset(ctrl) == 0);
	}
	for (unsigned int i = 0; i < threads; i++) {
		pthread_join(workers[i].thread, NULL);
		assert_int_equal(workers[i].answered, workers[i].submitted);
		submitted += workers[i].submitted;
		failed += workers[i].failed;
		cut_off += workers[i].cut_off;
		late += workers[i].late;
		for (unsigned int s = 0; s < SLOTS; s++)
			free(workers[i].slots[s].data);
	}
	dmaland_nvme_get_stats(ctrl, &stats);
	close_drive();
	fprintf(stderr,
		"# %lu requests, %u threads, %ld s: %lu failed, %lu cut off, %lu late; %llu "
		"repeated, "
		"%llu aborts, %llu queues made again, %llu resets, %llu completions ignored\n",
		submitted, threads, (long)(time(NULL) - begin), failed, cut_off, late,
		(unsigned long long)stats.repeated, (unsigned long long)stats.aborts,
		(unsigned long long)stats.queues_remade, (unsigned long long)stats.resets,
		(unsigned long long)stats.ignored);
	assert_true(stats.resets >= STEPS - 1);
	assert_true(stats.aborts > 0 && late > 0);
	if (spec == made_spec || strcmp(spec, "soft:nvme") == 0)
		assert_true(failed > 0 && stats.repeated > 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_request_is_answered_once_and_no_byte_is_wrong),
	};

	if (argc > 1)
		spec = argv[1];
	if (argc > 2)
		requests = strtoul(argv[2], NULL, 10);
	if (argc > 3)
		threads = (unsigned int)strtoul(argv[3], NULL, 10);
	if (threads == 0 || threads > MOST_THREADS || requests < 1000) {
		fprintf(stderr, "usage: %s SPEC [REQUESTS [THREADS]]: from 1000, to %d\n", argv[0],
			MOST_THREADS);
		return 2;
	}
	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
