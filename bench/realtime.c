/* SPDX-License-Identifier: MIT */
#include "realtime.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <dmaland/dmaland.h>

#include "bench.h"

#define FIFO_PRIORITY  50
#define BLOCK_SIZE     64
#define BURST_BLOCKS   1024
#define BURST_ROUNDS   4
#define REST_NS	       200000
#define BURSTS	       100u /* that are watched in a sample; a trim that is long has more */
#define WINDOWS	       50u
#define SAMPLE_NS      2e9 /* then no further window is opened */
#define ORDINARY_CHURN 20000

/* ---- the SCHED_FIFO thread ---- */

struct fifo {
	struct dma_pool *pool;
	int cpu;
	pthread_t thread;
	pthread_barrier_t ready;
	_Atomic bool stop;
	_Atomic unsigned int bursts; /* ended */
	_Atomic uint64_t worst;	     /* ns; set to 0 by who watches */
};

static bool fifo_become(void)
{
	const struct sched_param param = {.sched_priority = FIFO_PRIORITY};

	return pthread_setschedparam(pthread_self(), SCHED_FIFO, &param) == 0;
}

static void rest(long ns)
{
	const struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

	nanosleep(&t, NULL);
}

/* A call has ended. */
static void call_note(struct fifo *f, double start)
{
	uint64_t ns = (uint64_t)(bench_now() - start);

	if (ns > atomic_load_explicit(&f->worst, memory_order_relaxed))
		atomic_store_explicit(&f->worst, ns, memory_order_relaxed);
}

static void burst(struct fifo *f, gfp_t gfp)
{
	static void *vaddrs[BURST_BLOCKS];
	static dma_addr_t handles[BURST_BLOCKS];

	for (size_t i = 0; i < BURST_BLOCKS; i++) {
		double start = bench_now();

		vaddrs[i] = dma_pool_alloc(f->pool, gfp, &handles[i]);
		call_note(f, start);
	}
	for (size_t i = 0; i < BURST_BLOCKS; i++) {
		double start = bench_now();

		if (vaddrs[i])
			dma_pool_free(f->pool, vaddrs[i], handles[i]);
		call_note(f, start);
	}
}

static void *fifo_run(void *context)
{
	struct fifo *f = context;

	bench_pin(f->cpu);
	burst(f, GFP_KERNEL); /* from now on there are blocks */
	if (!fifo_become())
		bench_fail("SCHED_FIFO was refused");
	pthread_barrier_wait(&f->ready);
	while (!atomic_load(&f->stop)) {
		for (unsigned int i = 0; i < BURST_ROUNDS; i++)
			burst(f, GFP_ATOMIC);
		atomic_fetch_add(&f->bursts, 1);
		rest(REST_NS);
	}
	return NULL;
}

static void fifo_begin(struct fifo *f)
{
	pthread_barrier_init(&f->ready, NULL, 2);
	if (pthread_create(&f->thread, NULL, fifo_run, f))
		bench_fail("no thread");
	pthread_barrier_wait(&f->ready);
}

static void fifo_end(struct fifo *f)
{
	atomic_store(&f->stop, true);
	pthread_join(f->thread, NULL);
	pthread_barrier_destroy(&f->ready);
}

/* Wait for the end of the burst that is on now. */
static void burst_await(const struct fifo *f)
{
	unsigned int before = atomic_load(&f->bursts);

	while (atomic_load(&f->bursts) == before)
		rest(REST_NS / 10);
}

/* ---- allowed? ---- */

static void *fifo_try(void *context)
{
	*(bool *)context = fifo_become();
	return NULL;
}

bool realtime_allowed(void)
{
	bool allowed = false;
	pthread_t thread;

	if (pthread_create(&thread, NULL, fifo_try, &allowed) == 0)
		pthread_join(thread, NULL);
	return allowed;
}

bool realtime_is_bounded(void)
{
	FILE *f = fopen("/proc/sys/kernel/sched_rt_runtime_us", "re");
	long us = -1;

	if (!f)
		return false;
	if (fscanf(f, "%ld", &us) != 1)
		us = -1;
	fclose(f);
	return us >= 0;
}

/* ---- the ordinary thread ---- */

struct ordinary {
	struct dma_pool *pool;
	void **vaddrs;
	dma_addr_t *handles;
	size_t n;
};

static struct dmaland_device *device_open(void)
{
	struct dmaland_device *dev = dmaland_open("soft:", NULL);

	if (!dev || dma_set_mask_and_coherent(dev, DMA_BIT_MASK(64)))
		bench_fail("%s", dmaland_last_error());
	return dev;
}

static struct dma_pool *pool_make(struct dmaland_device *dev)
{
	struct dma_pool *pool = dma_pool_create("bench", dev, BLOCK_SIZE, BLOCK_SIZE, 0);

	if (!pool)
		bench_fail("%s", dmaland_last_error());
	return pool;
}

static void ordinary_init(struct ordinary *o, struct dma_pool *pool, size_t n)
{
	*o = (struct ordinary){.pool = pool, .n = n};
	o->vaddrs = calloc(n, sizeof(*o->vaddrs));
	o->handles = calloc(n, sizeof(*o->handles));
	if (!o->vaddrs || !o->handles)
		bench_fail("no memory for %zu addresses of blocks", n);
}

static void ordinary_fini(struct ordinary *o)
{
	free(o->vaddrs);
	free(o->handles);
}

static void blocks_take(struct ordinary *o)
{
	for (size_t i = 0; i < o->n; i++) {
		o->vaddrs[i] = dma_pool_alloc(o->pool, GFP_KERNEL, &o->handles[i]);
		if (!o->vaddrs[i])
			bench_fail("%s", dmaland_last_error());
	}
}

static void blocks_give(struct ordinary *o)
{
	for (size_t i = 0; i < o->n; i++)
		dma_pool_free(o->pool, o->vaddrs[i], o->handles[i]);
}

static void blocks_shuffle(struct ordinary *o)
{
	uint64_t random = 0x9e3779b97f4a7c15u; /* the same numbers in every run */

	for (size_t i = o->n - 1; i > 0; i--) {
		void *vaddr = o->vaddrs[i];
		dma_addr_t handle = o->handles[i];
		size_t j;

		random ^= random << 13; /* Marsaglia's xorshift64 */
		random ^= random >> 7;
		random ^= random << 17;
		j = random % (i + 1);
		o->vaddrs[i] = o->vaddrs[j];
		o->handles[i] = o->handles[j];
		o->vaddrs[j] = vaddr;
		o->handles[j] = handle;
	}
}

/* Outside the windows: as the work wants to find it. */
static void work_prepare(const struct realtime_case *c, struct ordinary *o)
{
	if (c->work == REALTIME_GROW) {
		dmaland_pool_trim(o->pool);
		return;
	}
	blocks_take(o);
	if (c->random)
		blocks_shuffle(o);
	blocks_give(o);
}

static void work_do(const struct realtime_case *c, struct ordinary *o)
{
	if (c->work == REALTIME_GROW)
		blocks_take(o);
	else
		dmaland_pool_trim(o->pool);
}

static void work_undo(const struct realtime_case *c, struct ordinary *o)
{
	if (c->work == REALTIME_GROW)
		blocks_give(o);
}

/* ---- samples ---- */

static double worst_alone(struct fifo *f)
{
	unsigned int first;

	burst_await(f);
	atomic_store(&f->worst, 0);
	first = atomic_load(&f->bursts);
	while (atomic_load(&f->bursts) - first < BURSTS)
		burst_await(f);
	return (double)atomic_load(&f->worst);
}

/* From the end of a burst to the end of the one in which the work ends. */
static double worst_in_window(struct fifo *f, const struct realtime_case *c, struct ordinary *o,
			      unsigned int *bursts)
{
	unsigned int first;

	burst_await(f);
	atomic_store(&f->worst, 0);
	first = atomic_load(&f->bursts);
	work_do(c, o);
	burst_await(f);
	*bursts += atomic_load(&f->bursts) - first;
	return (double)atomic_load(&f->worst);
}

struct realtime_worst realtime_sample(const struct realtime_case *c, int ordinary_cpu, int fifo_cpu)
{
	struct dmaland_device *dev = device_open();
	struct fifo f = {.pool = pool_make(dev), .cpu = fifo_cpu};
	struct realtime_worst worst = {0, 0};
	double start = bench_now();
	unsigned int bursts = 0;
	struct ordinary o;
	cpu_set_t before;

	sched_getaffinity(0, sizeof(before), &before);
	bench_pin(ordinary_cpu);
	ordinary_init(&o, f.pool, c->n);
	fifo_begin(&f);
	for (unsigned int i = 0;
	     i == 0 || (i < WINDOWS && bursts < BURSTS && bench_now() - start < SAMPLE_NS); i++) {
		double ns;

		work_prepare(c, &o);
		if (i == 0)
			worst.alone = worst_alone(&f);
		ns = worst_in_window(&f, c, &o, &bursts);
		worst.beside = ns > worst.beside ? ns : worst.beside;
		work_undo(c, &o);
	}
	fifo_end(&f);
	sched_setaffinity(0, sizeof(before), &before); /* what is measured next has all CPUs */
	ordinary_fini(&o);
	dma_pool_destroy(f.pool);
	dmaland_close(dev);
	return worst;
}

/* ---- one CPU for both ---- */

struct churn {
	struct ordinary ordinary;
	int cpu;
	_Atomic bool stop;
};

static void *churn_run(void *context)
{
	struct churn *churn = context;

	bench_pin(churn->cpu);
	while (!atomic_load(&churn->stop)) {
		blocks_take(&churn->ordinary);
		blocks_give(&churn->ordinary);
		dmaland_pool_trim(churn->ordinary.pool);
	}
	return NULL;
}

static double worst_beside_churn(struct dma_pool *pool, struct dma_pool *churned, int cpu,
				 double seconds)
{
	struct fifo f = {.pool = pool, .cpu = cpu};
	struct churn churn = {.cpu = cpu};
	pthread_t thread;

	ordinary_init(&churn.ordinary, churned, ORDINARY_CHURN);
	fifo_begin(&f);
	atomic_store(&f.worst, 0);
	if (pthread_create(&thread, NULL, churn_run, &churn))
		bench_fail("no thread");
	for (double end = bench_now() + seconds * 1e9; bench_now() < end;)
		rest(1000000);
	fifo_end(&f);
	atomic_store(&churn.stop, true);
	pthread_join(thread, NULL);
	ordinary_fini(&churn.ordinary);
	return (double)atomic_load(&f.worst);
}

struct realtime_worst realtime_on_one_cpu(int cpu, double seconds)
{
	struct dmaland_device *dev = device_open();
	struct dma_pool *pool = pool_make(dev), *other = pool_make(dev);
	struct realtime_worst worst;

	worst.alone = worst_beside_churn(pool, other, cpu, seconds);
	worst.beside = worst_beside_churn(pool, pool, cpu, seconds);
	dma_pool_destroy(pool);
	dma_pool_destroy(other);
	dmaland_close(dev);
	return worst;
}
