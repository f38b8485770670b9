/* SPDX-License-Identifier: MIT */
#include "latency_probe.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dmaland/dmaland.h>

#include "bench.h"
#include "callgrind.h"

#define SAMPLES	      9u
#define SAMPLES_QUICK 3u
#define KEYS	      100
#define THREADS_MAX   8u
#define BLOCK_SIZE    64
#define BURST	      32
#define BURSTS	      5000u
#define PREFILLED     2048
#define FREED	      20000u
#define HOT_PAIRS     200000u

/* ---- threads ---- */

enum work { WORK_PAIRS, WORK_FREES };

/* Some threads that do the same on one pool. */
struct team {
	struct dma_pool *pool;
	enum work work;
	bool usual; /* with GFP_KERNEL, or after an allocation with it */
	/* They begin together, and end so: what one leaves behind would serve the next. */
	pthread_barrier_t together;
};

struct worker {
	struct team *team;
	pthread_t thread;
	double ns; /* CPU time of a pair, or of a free */
	void *vaddrs[FREED];
	dma_addr_t handles[FREED];
};

static double cpu_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void block_take(struct dma_pool *pool, void **vaddr, dma_addr_t *handle)
{
	*vaddr = dma_pool_alloc(pool, GFP_KERNEL, handle);
	if (!*vaddr)
		bench_fail("%s", dmaland_last_error());
}

/* GFP_ATOMIC may be refused: such a call is no pair, but its time counts. */
static size_t pairs_do(struct worker *w, gfp_t gfp)
{
	struct dma_pool *pool = w->team->pool;
	size_t pairs = 0;

	for (unsigned int i = 0; i < BURSTS; i++) {
		for (size_t k = 0; k < BURST; k++)
			w->vaddrs[k] = dma_pool_alloc(pool, gfp, &w->handles[k]);
		for (size_t k = 0; k < BURST; k++)
			if (w->vaddrs[k]) {
				dma_pool_free(pool, w->vaddrs[k], w->handles[k]);
				pairs++;
			}
	}
	return pairs;
}

static size_t frees_do(struct worker *w)
{
	for (size_t i = 0; i < FREED; i++)
		dma_pool_free(w->team->pool, w->vaddrs[i], w->handles[i]);
	return FREED;
}

static void *worker_run(void *context)
{
	struct worker *w = context;
	const struct team *team = w->team;
	dma_addr_t handle;
	double start;
	void *vaddr;
	size_t n;

	if (team->work == WORK_FREES && team->usual) {
		block_take(team->pool, &vaddr, &handle);
		dma_pool_free(team->pool, vaddr, handle);
	}
	pthread_barrier_wait(&w->team->together);
	start = cpu_now();
	n = team->work == WORK_FREES ? frees_do(w)
				     : pairs_do(w, team->usual ? GFP_KERNEL : GFP_ATOMIC);
	w->ns = n ? (cpu_now() - start) / (double)n : NAN;
	pthread_barrier_wait(&w->team->together);
	return NULL;
}

/* There are blocks in the pool, so that GFP_ATOMIC finds some. */
static void pool_prefill(struct dma_pool *pool, struct worker *w)
{
	for (size_t i = 0; i < PREFILLED; i++)
		block_take(pool, &w->vaddrs[i], &w->handles[i]);
	for (size_t i = 0; i < PREFILLED; i++)
		dma_pool_free(pool, w->vaddrs[i], w->handles[i]);
}

/* The mean of n threads, in a new pool. */
static double team_measure(struct dmaland_device *dev, struct worker *workers, unsigned int n,
			   enum work work, bool usual)
{
	struct team team = {.work = work, .usual = usual};
	double sum = 0;

	team.pool = dma_pool_create("bench", dev, BLOCK_SIZE, BLOCK_SIZE, 0);
	if (!team.pool)
		bench_fail("%s", dmaland_last_error());
	if (work == WORK_PAIRS)
		pool_prefill(team.pool, &workers[0]);
	pthread_barrier_init(&team.together, NULL, n);
	for (unsigned int i = 0; i < n; i++) {
		workers[i].team = &team;
		for (size_t k = 0; work == WORK_FREES && k < FREED; k++)
			block_take(team.pool, &workers[i].vaddrs[k], &workers[i].handles[k]);
	}
	for (unsigned int i = 0; i < n; i++)
		if (pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]))
			bench_fail("no thread");
	for (unsigned int i = 0; i < n; i++) {
		pthread_join(workers[i].thread, NULL);
		sum += workers[i].ns;
	}
	pthread_barrier_destroy(&team.together);
	dma_pool_destroy(team.pool);
	return sum / n;
}

/* ---- the process that answers ---- */

static struct dmaland_device *device_open(void)
{
	struct dmaland_device *dev = dmaland_open("soft:", NULL);

	if (!dev || dma_set_mask_and_coherent(dev, DMA_BIT_MASK(64)))
		bench_fail("%s", dmaland_last_error());
	return dev;
}

static int answer_threads(unsigned int n, bool keys, enum work work, bool usual)
{
	static struct worker workers[THREADS_MAX];
	struct dmaland_device *dev;
	pthread_key_t key;

	for (int i = 0; keys && i < KEYS; i++)
		if (pthread_key_create(&key, NULL))
			bench_fail("no %d keys", KEYS);
	dev = device_open();
	printf("ns: %.6f\n", team_measure(dev, workers, n, work, usual));
	dmaland_close(dev);
	return 0;
}

static double hot_measure(struct dma_pool *pool)
{
	double start = bench_now();
	dma_addr_t handle;
	void *vaddr;

	for (unsigned int i = 0; i < HOT_PAIRS; i++) {
		block_take(pool, &vaddr, &handle);
		dma_pool_free(pool, vaddr, handle);
	}
	return (bench_now() - start) / HOT_PAIRS;
}

static int answer_pools(unsigned int n)
{
	struct dmaland_device *dev = device_open();
	struct dma_pool **pools = calloc(n, sizeof(struct dma_pool *));
	dma_addr_t handle;
	void *vaddr;

	for (unsigned int i = 0; pools && i < n; i++) {
		pools[i] = dma_pool_create("bench", dev, BLOCK_SIZE, BLOCK_SIZE, 0);
		if (!pools[i])
			bench_fail("%s", dmaland_last_error());
		block_take(pools[i], &vaddr, &handle);
		dma_pool_free(pools[i], vaddr, handle);
	}
	if (!pools)
		bench_fail("no memory");
	hot_measure(pools[0]);
	printf("usual: %.6f\n", hot_measure(pools[0]));
	printf("here: %.6f\n", hot_measure(pools[n - 1]));
	for (unsigned int i = 0; i < n; i++)
		dma_pool_destroy(pools[i]);
	dmaland_close(dev);
	free(pools);
	return 0;
}

int latency_probe_answer(int argc, char **argv)
{
	unsigned int n;

	if (argc < 2 || strcmp(argv[1], "--probe") != 0)
		return -1;
	if (argc < 4)
		return 2;
	n = (unsigned int)strtoul(argv[3], NULL, 10);
	if (argc == 4 && n > 0 && strcmp(argv[2], "pools") == 0)
		return answer_pools(n);
	if (argc == 7 && n > 0 && n <= THREADS_MAX && strcmp(argv[2], "threads") == 0)
		return answer_threads(n, strcmp(argv[4], "keys") == 0,
				      strcmp(argv[5], "frees") == 0 ? WORK_FREES : WORK_PAIRS,
				      strcmp(argv[6], "usual") == 0);
	return 2;
}

/* ---- the process that asks ---- */

static void ask(const char *const *arguments, char *answer, size_t size)
{
	int status = bench_run_self(NULL, arguments, answer, size);

	if (status < 0)
		bench_fail("cannot run this program again: %s", strerror(errno));
	if (status)
		bench_fail("%s of %s failed:\n%s", arguments[1], arguments[2], answer);
}

static struct latency_pair pair_of(const double *usual, const double *here, unsigned int n)
{
	return (struct latency_pair){.usual = bench_median(usual, n),
				     .here = bench_median(here, n),
				     .ratio = bench_median_ratio(here, usual, n)};
}

static double threads_ask(unsigned int n, bool keys, enum work work, bool usual)
{
	char number[16], answer[1024];
	const char *arguments[] = {"--probe",
				   "threads",
				   number,
				   keys ? "keys" : "none",
				   work == WORK_FREES ? "frees" : "pairs",
				   usual ? "usual" : "here",
				   NULL};

	snprintf(number, sizeof(number), "%u", n);
	ask(arguments, answer, sizeof(answer));
	return answer_number(answer, "ns:");
}

static struct latency_pair work_measure(unsigned int n, bool keys, enum work work, bool quick)
{
	double usual[BENCH_SAMPLES_MAX], here[BENCH_SAMPLES_MAX];
	unsigned int samples = quick ? SAMPLES_QUICK : SAMPLES;

	for (unsigned int s = 0; s < samples; s++) {
		here[s] = threads_ask(n, keys, work, false);
		usual[s] = threads_ask(n, keys, work, true);
	}
	return pair_of(usual, here, samples);
}

struct latency_pair latency_atomic_threads(unsigned int n, bool keys, bool quick)
{
	return work_measure(n, keys, WORK_PAIRS, quick);
}

struct latency_pair latency_freeing_threads(unsigned int n, bool keys, bool quick)
{
	return work_measure(n, keys, WORK_FREES, quick);
}

struct latency_pair latency_pools(unsigned int n, bool quick)
{
	double usual[BENCH_SAMPLES_MAX], here[BENCH_SAMPLES_MAX];
	unsigned int samples = quick ? SAMPLES_QUICK : SAMPLES;
	char number[16], answer[1024];
	const char *arguments[] = {"--probe", "pools", number, NULL};

	snprintf(number, sizeof(number), "%u", n);
	for (unsigned int s = 0; s < samples; s++) {
		ask(arguments, answer, sizeof(answer));
		usual[s] = answer_number(answer, "usual:");
		here[s] = answer_number(answer, "here:");
	}
	return pair_of(usual, here, samples);
}
