/* SPDX-License-Identifier: MIT */
#include "nvme_probe.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>

#include "bench.h"
#include "drive.h"
#include "syscalls.h"
#include "vm.h"

#define PAGE	     ((size_t)4096)
#define REGION	     ((size_t)16 << 20) /* of the drive, from its beginning */
#define REGION_PAGES (REGION / PAGE)
#define HUGE_PAGE    ((size_t)2 << 20)
#define DELAY_ROUNDS 400000u /* of two instructions; a timer interrupt comes every 4,000,000 */
#define DROPPED_MAX  200     /* rounds in a row, before it is given up */

const struct nvme_load nvme_loads[NVME_LOADS] = {
	{"randread.4096.qd1", false, true, 4096, 1},
	{"randread.4096.qd32", false, true, 4096, 32},
	{"randread.65536.qd1", false, true, 65536, 1},
	{"randread.65536.qd32", false, true, 65536, 32},
	{"randwrite.4096.qd1", true, true, 4096, 1},
	{"randwrite.4096.qd32", true, true, 4096, 32},
	{"randwrite.65536.qd1", true, true, 65536, 1},
	{"randwrite.65536.qd32", true, true, 65536, 32},
	{"read.4096.qd1", false, false, 4096, 1},
	{"read.4096.qd32", false, false, 4096, 32},
	{"read.65536.qd1", false, false, 65536, 1},
	{"read.65536.qd32", false, false, 65536, 32},
	{"write.4096.qd1", true, false, 4096, 1},
	{"write.4096.qd32", true, false, 4096, 32},
	{"write.65536.qd1", true, false, 65536, 1},
	{"write.65536.qd32", true, false, 65536, 32},
};

struct probe {
	const struct contestant *contestant;
	void *context;
	char *buffers;
	struct drive_io ios[DRIVE_DEPTH];
	uint32_t written[REGION_PAGES]; /* when; 0: not yet */
	uint32_t generation;
	uint64_t random, next; /* next: page, of sequential loads */
	double clock;	       /* instructions that reading it takes */
	double hidden; /* beyond their own, in each delay of a load; the most of all loads */
};

/* ---- data: each page tells where it belongs and when it was written ---- */

static void page_stamp(char *page, uint64_t number, uint64_t generation)
{
	uint64_t *words = (uint64_t *)page;

	for (size_t i = 0; i < PAGE / sizeof(*words); i++)
		words[i] = number << 32 ^ generation << 12 ^ i;
}

static void page_check(const struct probe *p, const char *page, uint64_t number)
{
	const uint64_t *words = (const uint64_t *)page;

	for (size_t i = 0; i < PAGE / sizeof(*words); i++)
		if (words[i] != (number << 32 ^ (uint64_t)p->written[number] << 12 ^ i))
			bench_fail("%s: page %llu of the drive has wrong data", p->contestant->row,
				   (unsigned long long)number);
}

static void batch_stamp(struct probe *p, unsigned int count)
{
	p->generation++;
	for (unsigned int n = 0; n < count; n++)
		for (size_t at = 0; at < p->ios[n].bytes; at += PAGE) {
			uint64_t page = (p->ios[n].offset + at) / PAGE;

			p->written[page] = p->generation;
			page_stamp(p->ios[n].data + at, page, p->generation);
		}
}

static void batch_poison(struct probe *p, unsigned int count)
{
	for (unsigned int n = 0; n < count; n++)
		memset(p->ios[n].data, 0xa5, p->ios[n].bytes);
}

static void batch_check(struct probe *p, unsigned int count)
{
	for (unsigned int n = 0; n < count; n++)
		for (size_t at = 0; at < p->ios[n].bytes; at += PAGE)
			page_check(p, p->ios[n].data + at, (p->ios[n].offset + at) / PAGE);
}

/* ---- batches ---- */

static uint64_t random_next(struct probe *p)
{
	p->random ^= p->random << 13; /* Marsaglia's xorshift64 */
	p->random ^= p->random >> 7;
	p->random ^= p->random << 17;
	return p->random;
}

static void batch_make(struct probe *p, const struct nvme_load *load)
{
	uint64_t places = REGION / load->bytes;

	for (unsigned int n = 0; n < load->depth; n++) {
		uint64_t place = load->random ? random_next(p) : p->next++;

		p->ios[n] = (struct drive_io){.data = p->buffers + n * DRIVE_IO_MAX,
					      .offset = place % places * load->bytes,
					      .bytes = load->bytes,
					      .write = load->write};
	}
}

/* Not counted. */
static void batch_run(struct probe *p, unsigned int count, bool write)
{
	unsigned int done = 0;

	for (unsigned int n = 0; n < count; n++)
		p->ios[n].write = write;
	p->contestant->submit(p->context, p->ios, count);
	while (done < count)
		done += p->contestant->reap(p->context, count);
}

/* All of the region is written, so that whatever is read is known. */
static void region_fill(struct probe *p)
{
	static const struct nvme_load fill = {"fill", true, false, DRIVE_IO_MAX, DRIVE_DEPTH};

	for (size_t done = 0; done < REGION; done += DRIVE_ALL_BYTES) {
		batch_make(p, &fill);
		batch_stamp(p, fill.depth);
		batch_run(p, fill.depth, true);
	}
}

/* ---- rounds ---- */

static void delay(void)
{
	unsigned int rounds = DELAY_ROUNDS;

	__asm__ volatile("1: dec %0\n\tjnz 1b" : "+r"(rounds) : : "cc");
}

/* Instructions of a round; NAN when it is dropped. */
static double round_polled(struct probe *p, unsigned int count, double *hidden)
{
	double begun = bench_now(), submitted, waited, reaped;
	unsigned int done;

	p->contestant->submit(p->context, p->ios, count);
	submitted = bench_now();
	delay();
	waited = bench_now();
	done = p->contestant->reap(p->context, count);
	reaped = bench_now();
	*hidden = waited - submitted - p->clock - 2.0 * DELAY_ROUNDS;
	if (done == count)
		return submitted - begun + reaped - waited - 2 * p->clock;
	while (done < count)
		done += p->contestant->reap(p->context, count);
	return NAN;
}

/* The thread that runs when nobody else does: three instructions a time. */
static struct idler {
	pthread_t thread;
	uint64_t times;
	uint32_t stop;
} idler;

static void *idle(void *unused)
{
	static const struct sched_param param;

	(void)unused;
	if (sched_setscheduler(0, SCHED_IDLE, &param))
		bench_fail("no thread of the lowest priority can be had");
	__asm__ volatile("1: incq %0\n\tcmpl $0, %1\n\tje 1b"
			 : "+m"(idler.times)
			 : "m"(idler.stop)
			 : "cc", "memory");
	return NULL;
}

static void idler_start(void)
{
	if (pthread_create(&idler.thread, NULL, idle, NULL))
		bench_fail("no thread can be started");
}

static void idler_end(void)
{
	__atomic_store_n(&idler.stop, 1, __ATOMIC_RELAXED);
	pthread_join(idler.thread, NULL);
}

/* NAN when it had not to sleep. */
static double round_sleeping(struct probe *p, unsigned int count)
{
	uint64_t idled = __atomic_load_n(&idler.times, __ATOMIC_RELAXED);
	double begun = bench_now(), ended;

	p->contestant->submit(p->context, p->ios, count);
	p->contestant->reap(p->context, count);
	ended = bench_now();
	idled = __atomic_load_n(&idler.times, __ATOMIC_RELAXED) - idled;
	return idled ? ended - begun - p->clock - 3.0 * (double)idled : NAN;
}

/* A round with all that is not counted: data that are right before it, or after it. */
static double round_run(struct probe *p, const struct nvme_load *load, double *hidden)
{
	double instructions;

	batch_make(p, load);
	if (load->write)
		batch_stamp(p, load->depth);
	else
		batch_poison(p, load->depth);
	*hidden = 0;
	if (p->contestant->sleeps)
		instructions = round_sleeping(p, load->depth);
	else
		instructions = round_polled(p, load->depth, hidden);
	if (load->write) {
		batch_poison(p, load->depth);
		batch_run(p, load->depth, false);
	}
	batch_check(p, load->depth);
	return instructions;
}

static double load_measure(struct probe *p, const struct nvme_load *load, size_t rounds)
{
	double samples[BENCH_SAMPLES_MAX], hidden, least = INFINITY;
	unsigned int dropped = 0;

	round_run(p, load, &hidden);
	for (size_t i = 0; i < rounds;) {
		samples[i] = round_run(p, load, &hidden);
		least = fmin(least, hidden);
		if (!isnan(samples[i])) {
			i++;
			dropped = 0;
		} else if (++dropped == DROPPED_MAX) {
			bench_fail(
				"%s: the drive is never as fast, or as slow, as a round wants it",
				load->row);
		}
	}
	p->hidden = fmax(p->hidden, least);
	return bench_median(samples, rounds) / load->depth;
}

/* System calls of a round: the kernel's count, of this thread. NAN when it is dropped. */
static double round_syscalls(struct probe *p, const struct nvme_load *load)
{
	struct syscalls syscalls;
	uint64_t others, maps;
	unsigned int done;

	batch_make(p, load);
	if (load->write)
		batch_stamp(p, load->depth);
	syscalls_open(&syscalls);
	syscalls_begin(&syscalls);
	p->contestant->submit(p->context, p->ios, load->depth);
	delay();
	done = p->contestant->reap(p->context, load->depth);
	others = syscalls_end(&syscalls, &maps);
	syscalls_close(&syscalls);
	if (done == load->depth)
		return (double)(others + maps) / load->depth;
	while (done < load->depth)
		done += p->contestant->reap(p->context, load->depth);
	return NAN;
}

static double load_syscalls(struct probe *p, const struct nvme_load *load)
{
	for (unsigned int dropped = 0; dropped < DROPPED_MAX; dropped++) {
		double calls = round_syscalls(p, load);

		if (!isnan(calls))
			return calls;
	}
	bench_fail("%s: the drive is too slow for the delays", load->row);
}

/* ---- the process that answers ---- */

static char *buffers_get(void)
{
	char *memory = aligned_alloc(HUGE_PAGE, DRIVE_ALL_BYTES);

	if (!memory)
		bench_fail("no memory");
	madvise(memory, DRIVE_ALL_BYTES, MADV_HUGEPAGE);
	memset(memory, 0, DRIVE_ALL_BYTES);
	return memory;
}

static double clock_cost(void)
{
	double costs[BENCH_SAMPLES_MAX];

	for (size_t i = 0; i < BENCH_SAMPLES_MAX; i++) {
		double before = bench_now();

		costs[i] = bench_now() - before;
	}
	return bench_median(costs, BENCH_SAMPLES_MAX);
}

static void probe_run(const struct contestant *contestant, const char *drive, size_t rounds)
{
	static struct probe p;

	memset(&p, 0, sizeof(p));
	p.contestant = contestant;
	p.random = 0x9e3779b97f4a7c15u;
	p.buffers = buffers_get();
	p.context = contestant->open(drive, p.buffers);
	p.clock = clock_cost();
	if (contestant->sleeps)
		idler_start();
	region_fill(&p);
	for (size_t i = 0; i < NVME_LOADS; i++)
		printf("row instructions_per_io.%s.%s %.3f\n", contestant->row, nvme_loads[i].row,
		       load_measure(&p, &nvme_loads[i], rounds));
	for (size_t i = 0; i < NVME_LOADS; i++)
		printf("row syscalls_per_io.%s.%s %.3f\n", contestant->row, nvme_loads[i].row,
		       load_syscalls(&p, &nvme_loads[i]));
	printf("row hidden.%s %.3f\n", contestant->row, p.hidden);
	if (contestant->sleeps)
		idler_end();
	contestant->close(p.context);
	free(p.buffers);
}

int nvme_probe_answer(int argc, char **argv)
{
	struct utsname system;
	size_t rounds;

	if (argc != 4 || strcmp(argv[1], "--drive") != 0)
		return -1;
	rounds = strtoul(argv[3], NULL, 10);
	vm_clock_check();
	uname(&system);
	printf("linux: %s\n", system.release);
	if (argv[2][0] != '/') {
		probe_run(&drive_ours, argv[2], rounds);
		probe_run(&drive_ours_irq, argv[2], rounds);
		probe_run(&drive_ours_prepared, argv[2], rounds);
		probe_run(&drive_ours_plain, argv[2], rounds);
		return 0;
	}
#ifdef BENCH_IO_URING
	probe_run(&drive_io_uring, argv[2], rounds);
	probe_run(&drive_io_uring_irq, argv[2], rounds);
#endif
	return 0;
}
