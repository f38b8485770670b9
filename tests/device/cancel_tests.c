/* SPDX-License-Identifier: MIT */
/*
 * cancel_tests.c - no call is a cancellation point, and none leaves a lock behind
 *
 * A thread is cancelled before it makes its calls. They come to their end, each with its result; then the
 * thread does at its own cancellation point, and the main thread makes the calls.
 */
#include "suite.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct caller {
	const char *(*calls)(void *context); /* what went wrong, or NULL */
	void *context;
	pthread_barrier_t cancelled;
	const char *wrong;
	bool ended;
};

static void *call_cancelled(void *context)
{
	struct caller *caller = context;
	int state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	pthread_barrier_wait(&caller->cancelled); /* begun */
	pthread_barrier_wait(&caller->cancelled);
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
	caller->wrong = caller->calls(caller->context);
	caller->ended = true;
	pthread_testcancel();
	return NULL;
}

static void calls_end_though_cancelled(const char *(*calls)(void *context), void *context)
{
	struct caller caller = {.calls = calls, .context = context};
	pthread_t thread;
	void *result;

	assert_int_equal(pthread_barrier_init(&caller.cancelled, NULL, 2), 0);
	assert_int_equal(pthread_create(&thread, NULL, call_cancelled, &caller), 0);
	pthread_barrier_wait(&caller.cancelled);
	assert_int_equal(pthread_cancel(thread), 0);
	pthread_barrier_wait(&caller.cancelled);
	assert_int_equal(pthread_join(thread, &result), 0);
	if (caller.wrong)
		fail_msg("%s: %s", caller.wrong, dmaland_last_error());
	assert_true(caller.ended);
	assert_ptr_equal(result, PTHREAD_CANCELED);
	pthread_barrier_destroy(&caller.cancelled);
}

#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition))                                                                  \
			return #condition;                                                         \
	} while (0)

/* Memory of a device: more than its arena has, so that it grows. */
static const char *take_memory(void *context)
{
	struct dmaland_device *dev = context;
	struct dma_pool *pool = dma_pool_create("cancelled", dev, 4096, 4096, 0);
	dma_addr_t dma;
	void *memory;

	MUST(pool);
	memory = dma_pool_alloc(pool, GFP_KERNEL, &dma);
	MUST(memory);
	dma_pool_free(pool, memory, dma);
	dmaland_pool_trim(pool);
	dmaland_trim(dev);
	dma_pool_destroy(pool);
	memory = dma_alloc_coherent(dev, (size_t)48 << 20, &dma, GFP_KERNEL);
	MUST(memory);
	dma_free_coherent(dev, (size_t)48 << 20, memory, dma);
	return NULL;
}

/* A bad free writes a line to the log; the callback has cancellation points. */
static void log_to_file(void *context, enum dmaland_log_level level, const char *line)
{
	(void)level;
	fprintf(context, "%s\n", line);
	fflush(context);
}

static const char *report(void *context)
{
	struct dmaland_device *dev = context;

	dma_free_coherent(dev, 4096, dev, 4096);
	return NULL;
}

static const char *map_memory(void *context)
{
	struct dmaland_device *dev = context;
	size_t size = (size_t)1 << 20;
	char *text = malloc(size);
	dma_addr_t dma;
	int err;

	MUST(text);
	memset(text, 0, size);
	dma = dma_map_single(dev, text, 64, DMA_BIDIRECTIONAL);
	MUST(!dma_mapping_error(dev, dma));
	dma_sync_single_for_cpu(dev, dma, 64, DMA_BIDIRECTIONAL);
	dma_unmap_single(dev, dma, 64, DMA_BIDIRECTIONAL);
	dma = dma_map_single(dev, text, size, DMA_BIDIRECTIONAL);
	if (!dma_mapping_error(dev, dma)) /* not on qemu: */
		dma_unmap_single(dev, dma, size, DMA_BIDIRECTIONAL);
	err = dmaland_register(dev, text, size);
	if (!err) {
		dmaland_check_registered(dev);
		err = dmaland_unregister(dev, text);
		MUST(!err);
	}
	dmaland_flush(dev);
	free(text);
	return NULL;
}

static const char *use_registers(void *context)
{
	struct dmaland_device *dev = context;
	uint32_t value;
	void *window;

	MUST(pci_read_config_dword(dev, 0, &value) == 0);
	MUST(pci_write_config_dword(dev, 0x10, 0) == 0);
	MUST(pci_reset_function(dev) == 0);
	MUST(pci_enable_device(dev) == 0 && pci_set_master(dev) == 0);
	MUST(pci_device_is_present(dev));
	if (pci_resource_len(dev, 0)) {
		window = pci_iomap(dev, 0, 0);
		MUST(window);
		value = readl(window);
		writel(value, window);
		pci_iounmap(dev, window);
	}
	MUST(pci_alloc_irq_vectors(dev, 1, 2, PCI_IRQ_ALL_TYPES) >= 1);
	MUST(dmaland_irq_mask(dev, 0) == 0 && dmaland_irq_unmask(dev, 0) == 0);
	pci_free_irq_vectors(dev);
	dmaland_get_events(dev);
	return NULL;
}

static const char *open_and_close(void *context)
{
	const char *spec = context;
	struct dmaland_device *dev = dmaland_open(spec, NULL);

	MUST(dev);
	dmaland_close(dev);
	return NULL;
}

/* fork() waits for other threads' calls, and closes files in the child. */
static const char *fork_once(void *context)
{
	enum { REACHED = 7 };
	pid_t pid = fork();
	int state, status = 0;

	(void)context;
	if (pid == 0)
		_exit(REACHED);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	while (pid > 0 && waitpid(pid, &status, 0) != pid)
		;
	pthread_setcancelstate(state, &state);
	return WIFEXITED(status) && WEXITSTATUS(status) == REACHED ? NULL : "fork()";
}

static void a_cancelled_thread_ends_its_calls_and_holds_no_lock(void **state)
{
	static const struct {
		const char *(*calls)(void *context);
	} cases[] = {{take_memory}, {map_memory}, {use_registers}, {fork_once}};
	struct dmaland_device *dev = dmaland_open(device_spec, NULL);

	(void)state;
	assert_non_null(dev);
	watchdog(120);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *wrong;

		calls_end_though_cancelled(cases[i].calls, dev);
		wrong = cases[i].calls(dev);
		if (wrong)
			fail_msg("%s: %s", wrong, dmaland_last_error());
	}
	watchdog(0);
	dmaland_close(dev);
}

static void a_cancelled_thread_opens_and_closes_a_device(void **state)
{
	const char *wrong;

	(void)state;
	watchdog(120);
	calls_end_though_cancelled(open_and_close, (void *)device_spec);
	calls_end_though_cancelled(fork_once, NULL);
	wrong = open_and_close((void *)device_spec);
	if (wrong)
		fail_msg("%s: %s", wrong, dmaland_last_error());
	watchdog(0);
}

static void a_cancelled_thread_ends_the_call_that_it_writes_to_the_log_in(void **state)
{
	struct dmaland_device *dev = dmaland_open(device_spec, NULL);
	FILE *file = fdopen(memfd_create("log", MFD_CLOEXEC), "w+");

	(void)state;
	assert_true(dev && file);
	dmaland_set_log(log_to_file, file);
	calls_end_though_cancelled(report, dev);
	log_capture();
	assert_true(ftell(file) > 0);
	fclose(file);
	dmaland_close(dev);
}

/* ---- drives ---- */

struct drive_calls {
	struct dmaland_device *dev;
	bool irq;
};

static const char *use_drive(void *context)
{
	const struct drive_calls *calls = context;
	struct dmaland_nvme *ctrl = dmaland_nvme_open(calls->dev, NULL);
	struct dmaland_nvme_namespace ns;
	struct dmaland_nvme_queue *queue;
	static char data[65536];
	size_t blocks;

	MUST(ctrl);
	MUST(dmaland_nvme_get_namespace(ctrl, 1, &ns) == 0);
	blocks = sizeof(data) / ns.block_size;
	queue = dmaland_nvme_queue_create(ctrl, 16, calls->irq ? DMALAND_NVME_QUEUE_IRQ : 0);
	MUST(queue);
	memset(data, 0x5a, sizeof(data));
	MUST(dmaland_nvme_write(queue, 1, 0, blocks, data) == 0);
	memset(data, 0, sizeof(data));
	MUST(dmaland_nvme_read(queue, 1, 0, blocks, data) == 0);
	MUST(data[0] == 0x5a);
	MUST(dmaland_nvme_flush(queue, 1) == 0);
	MUST(dmaland_nvme_reset(ctrl) == 0);
	MUST(dmaland_nvme_read(queue, 1, 0, blocks, data) == 0);
	dmaland_nvme_queue_destroy(queue);
	dmaland_nvme_close(ctrl);
	return NULL;
}

static void a_cancelled_thread_ends_its_calls_of_a_drive(void **state)
{
	(void)state;
	watchdog(120);
	for (int irq = 0; irq < 2; irq++) {
		struct drive_calls calls = {dmaland_open(device_spec, NULL), irq};
		const char *wrong;

		assert_non_null(calls.dev);
		calls_end_though_cancelled(use_drive, &calls);
		wrong = use_drive(&calls);
		if (wrong)
			fail_msg("%s: %s", wrong, dmaland_last_error());
		dmaland_close(calls.dev);
	}
	watchdog(0);
	log_clear(); /* of resets */
}

int run_cancel_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cancelled_thread_ends_its_calls_and_holds_no_lock),
		cmocka_unit_test(a_cancelled_thread_opens_and_closes_a_device),
		cmocka_unit_test(a_cancelled_thread_ends_the_call_that_it_writes_to_the_log_in),
	};
	const struct CMUnitTest drives[] = {
		cmocka_unit_test(a_cancelled_thread_ends_its_calls_of_a_drive),
	};
	int failed = cmocka_run_group_tests_name("cancel", tests, NULL, NULL);

	if (device_is_drive())
		failed += cmocka_run_group_tests_name("cancel of a drive", drives, NULL, NULL);
	return failed;
}
