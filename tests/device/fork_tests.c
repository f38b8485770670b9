/* SPDX-License-Identifier: MIT */
/*
 * fork_tests.c - a child inherits nothing of a device, and the parent does not notice it
 *
 * A test's child answers with the number of the line where something was not as it must be; 0: all
 * was well. cmocka's assertions belong to the parent.
 */
#include "suite.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <dmaland/soft.h>

#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition))                                                                  \
			return __LINE__;                                                           \
	} while (0)

static void child_ends(int line)
{
	if (line)
		fprintf(stderr, "fork_tests.c:%d: %s\n", line, dmaland_last_error());
	_exit(line ? 1 : 0);
}

struct inherited {
	struct dmaland_device *dev;
	struct dma_pool *pool;
	void *coherent, *block, *window;
	dma_addr_t coherent_dma, block_dma, bounced;
	size_t files; /* open before the device was */
	char *text;   /* the application's own */
};

static size_t open_files(void)
{
	DIR *files = opendir("/proc/self/fd");
	size_t n = 0;

	while (files && readdir(files))
		n++;
	if (files)
		closedir(files);
	return n;
}

static bool is_mapped(void *address)
{
	unsigned char there;

	return mincore((void *)((uintptr_t)address & ~(uintptr_t)4095), 1, &there) == 0;
}

static bool says_why(void)
{
	return errno == EPERM && strstr(dmaland_last_error(), "fork()") != NULL;
}

static int calls_fail(struct inherited *i)
{
	struct dmaland_options options = {.size = sizeof(options), .share_with = i->dev};
	struct dmaland_pool_stats stats;
	struct dmaland_info info;
	char text[64] = "?";
	void *blocks[2];
	dma_addr_t dma[2];
	uint32_t value;

	MUST(dmaland_check(i->dev) == -EPERM && says_why());
	MUST(!dma_alloc_coherent(i->dev, 4096, &dma[0], GFP_KERNEL) && says_why());
	MUST(!dma_alloc_coherent(i->dev, 4096, &dma[0], GFP_ATOMIC) && says_why());
	MUST(!dma_pool_create("child", i->dev, 64, 64, 0) && says_why());
	errno = 0;
	MUST(!dma_pool_alloc(i->pool, GFP_KERNEL, &dma[0]) && says_why());
	MUST(!dma_pool_alloc(i->pool, GFP_ATOMIC, &dma[0]) && says_why());
	MUST(dmaland_pool_alloc_bulk(i->pool, GFP_KERNEL, 2, blocks, dma) == 0 && says_why());
	errno = 0;
	dma_pool_free(i->pool, i->block, i->block_dma);
	MUST(says_why());
	dmaland_pool_free_bulk(i->pool, 1, &i->block, &i->block_dma);
	dmaland_pool_trim(i->pool);
	dmaland_pool_get_stats(i->pool, &stats);
	errno = 0;
	MUST(dmaland_get_pools(i->dev, &stats, 1) == 0 && says_why());
	errno = 0;
	MUST(dmaland_show_pools(i->dev, text, sizeof(text)) == 0 && says_why() && !text[0]);
	errno = 0;
	MUST(dmaland_soft_faults(i->dev, NULL, 0) == 0 && says_why());
	MUST(dmaland_pool_check(i->pool) == -EPERM && says_why());
	MUST(dmaland_check_registered(i->dev) == -EPERM);
	dma_free_coherent(i->dev, 4096, i->coherent, i->coherent_dma);
	MUST(dma_map_single(i->dev, i->text, 4, DMA_TO_DEVICE) == DMA_MAPPING_ERROR && says_why());
	MUST(dma_map_single(i->dev, i->coherent, 4, DMA_TO_DEVICE) == DMA_MAPPING_ERROR);
	dma_sync_single_for_cpu(i->dev, i->bounced, 4, DMA_BIDIRECTIONAL);
	dma_unmap_single(i->dev, i->bounced, 4, DMA_BIDIRECTIONAL);
	MUST(dmaland_register(i->dev, i->text, 4) == -EPERM);
	dmaland_flush(i->dev);
	dmaland_trim(i->dev);
	MUST(dmaland_virt_to_dma(i->dev, i->coherent, 1) == DMA_MAPPING_ERROR);
	MUST(dma_set_mask_and_coherent(i->dev, DMA_BIT_MASK(32)) == -EPERM);
	MUST(pci_read_config_dword(i->dev, 0, &value) == -EPERM && value == UINT32_MAX);
	MUST(pci_write_config_dword(i->dev, 0x10, 0) == -EPERM);
	MUST(pci_set_master(i->dev) == -EPERM && pci_reset_function(i->dev) == -EPERM);
	MUST(!pci_iomap(i->dev, 0, 0) && says_why());
	MUST(pci_alloc_irq_vectors(i->dev, 1, 1, PCI_IRQ_ALL_TYPES) == -EPERM && says_why());
	MUST(dmaland_irq(i->dev, 0) == -EPERM && dmaland_irq_mask(i->dev, 0) == -EPERM);
	MUST(dmaland_irq_unmask(i->dev, 0) == -EPERM && dmaland_event_fd(i->dev) == -EPERM);
	MUST(dmaland_get_events(i->dev) == 0);
	pci_free_irq_vectors(i->dev);
	MUST(!dmaland_open("soft:", &options) && says_why());
	dmaland_get_info(i->dev, &info);
	dma_pool_destroy(i->pool);
	dmaland_close(i->dev);
	return 0;
}

static int nothing_is_inherited(struct inherited *i)
{
	MUST(open_files() <= i->files);
	MUST(!is_mapped(i->coherent) && !is_mapped(i->block));
	if (i->window) {
		bus_errors_to_library();
		MUST(readl(i->window) == UINT32_MAX);
		writel(0, i->window);
		MUST(readl(i->window) == UINT32_MAX);
	}
	MUST(strcmp(i->text, "the application's") == 0);
	return 0;
}

/* Locks and pools of the library work in the child, for devices of its own. */
static int child_opens_its_own(struct inherited *i)
{
	struct dmaland_device *dev = dmaland_open("soft:", NULL);
	struct dma_pool *pool;
	dma_addr_t dma;
	void *block;

	(void)i;
	MUST(dev);
	pool = dma_pool_create("own", dev, 256, 256, 0);
	MUST(pool);
	block = dma_pool_alloc(pool, GFP_KERNEL, &dma);
	MUST(block && block != i->block);
	memset(block, 0x11, 256);
	dma_pool_free(pool, block, dma);
	dma_pool_destroy(pool);
	dmaland_close(dev);
	return 0;
}

static void in_child(int (*f)(struct inherited *), struct inherited *i)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		watchdog(60); /* a lock that nobody will ever release */
		child_ends(f(i));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void inherited_open(struct inherited *i)
{
	memset(i, 0, sizeof(*i));
	i->files = open_files();
	i->text = strdup("the application's");
	i->dev = dmaland_open(device_spec, NULL);
	assert_non_null(i->dev);
	assert_int_equal(pci_enable_device(i->dev), 0);
	if (pci_resource_len(i->dev, 0))
		i->window = pci_iomap(i->dev, 0, 0);
	assert_true(pci_alloc_irq_vectors(i->dev, 1, 2, PCI_IRQ_ALL_TYPES) >= 1);
	i->pool = dma_pool_create("parent", i->dev, 64, 64, 0);
	assert_non_null(i->pool);
	i->coherent = dma_alloc_coherent(i->dev, 4096, &i->coherent_dma, GFP_KERNEL);
	i->block = dma_pool_alloc(i->pool, GFP_KERNEL, &i->block_dma);
	assert_true(i->coherent && i->block);
	memset(i->coherent, 0x5a, 4096);
	i->bounced = dma_map_single(i->dev, i->text, 4, DMA_BIDIRECTIONAL);
	assert_int_equal(dma_mapping_error(i->dev, i->bounced), 0);
	log_clear();
}

/* As if there had been no child; nothing is reported that is still in use, or free already. */
static void inherited_close(struct inherited *i)
{
	struct dmaland_pool_stats stats;
	uint32_t ids;

	for (int k = 0; k < 4096; k++)
		assert_int_equal(((unsigned char *)i->coherent)[k], 0x5a);
	assert_int_equal(dmaland_check(i->dev), 0);
	assert_true(dmaland_irq(i->dev, 0) >= 0);
	assert_int_equal(dmaland_irq_mask(i->dev, 0), 0);
	assert_int_equal(dmaland_get_events(i->dev), 0);
	assert_int_equal(pci_read_config_dword(i->dev, 0, &ids), 0);
	assert_int_not_equal(ids, UINT32_MAX);
	dmaland_pool_get_stats(i->pool, &stats);
	assert_int_equal(stats.in_use, 1);
	dma_pool_free(i->pool, i->block, i->block_dma);
	dma_pool_destroy(i->pool);
	dma_free_coherent(i->dev, 4096, i->coherent, i->coherent_dma);
	dma_unmap_single(i->dev, i->bounced, 4, DMA_BIDIRECTIONAL);
	if (i->window)
		pci_iounmap(i->dev, i->window);
	dmaland_close(i->dev);
	assert_string_equal(log_text(), "");
	assert_int_equal(open_files(), i->files);
	free(i->text);
}

static void with_child(int (*f)(struct inherited *))
{
	struct inherited i;

	inherited_open(&i);
	in_child(f, &i);
	inherited_close(&i);
}

static void calls_with_a_device_fail_in_a_child(void **state)
{
	(void)state;
	with_child(calls_fail);
}

static void a_child_has_neither_files_nor_memory_of_a_device(void **state)
{
	(void)state;
	with_child(nothing_is_inherited);
}

static void a_child_can_open_a_device_of_its_own(void **state)
{
	(void)state;
	with_child(child_opens_its_own);
}

/* Somebody who holds the pool's and the registry's locks now and then, while others fork. */
static void *use_pools(void *context)
{
	struct inherited *i = context;

	while (__atomic_load_n(&i->files, __ATOMIC_RELAXED)) {
		struct dma_pool *pool = dma_pool_create("busy", i->dev, 128, 0, 0);
		void *blocks[200];
		dma_addr_t dma[200];
		size_t n = dmaland_pool_alloc_bulk(pool, GFP_KERNEL, 200, blocks, dma);

		dmaland_pool_free_bulk(pool, n, blocks, dma);
		dma_pool_destroy(pool);
	}
	return NULL;
}

static int calls_fail_and_work(struct inherited *i)
{
	int line = calls_fail(i);

	return line ? line : child_opens_its_own(i);
}

static void a_fork_in_the_middle_of_other_threads_calls_leaves_no_lock_behind(void **state)
{
	struct inherited i;
	pthread_t thread;
	size_t files;

	(void)state;
	inherited_open(&i);
	files = i.files;
	assert_int_equal(pthread_create(&thread, NULL, use_pools, &i), 0);
	for (int k = 0; k < 30; k++)
		in_child(calls_fail_and_work, &i);
	__atomic_store_n(&i.files, 0, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	i.files = files;
	inherited_close(&i);
}

/* ---- while another thread opens and closes ---- */

enum { OPENINGS = 2 };

struct opener {
	bool ends;
	pthread_mutex_t
		stay; /* held until the last fork is over: the thread is not to end before */
};

static void *open_and_close(void *context)
{
	struct opener *opener = context;

	for (int k = 0; k < OPENINGS; k++) {
		struct dmaland_device *dev = dmaland_open(device_spec, NULL);

		if (!dev)
			break;
		dmaland_close(dev);
	}
	__atomic_store_n(&opener->ends, true, __ATOMIC_RELEASE);
	pthread_mutex_lock(&opener->stay);
	pthread_mutex_unlock(&opener->stay);
	return NULL;
}

static int has_no_more_files(struct inherited *i)
{
	MUST(open_files() <= i->files);
	return child_opens_its_own(i);
}

static void a_fork_in_the_middle_of_opening_and_closing_leaks_no_file(void **state)
{
	struct inherited i = {.files = open_files()};
	struct opener opener = {.stay = PTHREAD_MUTEX_INITIALIZER};
	pthread_t thread;

	(void)state;
	pthread_mutex_lock(&opener.stay);
	assert_int_equal(pthread_create(&thread, NULL, open_and_close, &opener), 0);
	while (!__atomic_load_n(&opener.ends, __ATOMIC_ACQUIRE))
		in_child(has_no_more_files, &i);
	pthread_mutex_unlock(&opener.stay);
	pthread_join(thread, NULL);
	assert_int_equal(open_files(), i.files);
}

/* ---- drives ---- */

static int drive_is_the_parents(struct drive *d)
{
	static char data[4096];
	struct dmaland_nvme_namespace ns;

	MUST(dmaland_nvme_read(d->queue, 1, 0, 1, data) == -EPERM && says_why());
	MUST(dmaland_nvme_flush(d->queue, 1) == -EPERM);
	MUST(dmaland_nvme_identify(d->ctrl, 1, 0, data) == -EPERM);
	MUST(dmaland_nvme_get_namespace(d->ctrl, 1, &ns) == -EPERM);
	MUST(dmaland_nvme_poll(d->queue) == 0);
	MUST(dmaland_nvme_wait(d->queue, -1) == -EPERM);
	MUST(dmaland_nvme_reset(d->ctrl) == -EPERM && says_why());
	MUST(dmaland_nvme_format(d->ctrl, 1, 0, 0) == -EPERM);
	MUST(dmaland_nvme_get_log(d->ctrl, 2, UINT32_MAX, 0, data, 512) == -EPERM);
	MUST(!dmaland_nvme_queue_create(d->ctrl, 0, 0) && says_why());
	MUST(!dmaland_nvme_open(d->dev, NULL) && says_why());
	dmaland_nvme_queue_destroy(d->queue);
	dmaland_nvme_close(d->ctrl);
	dmaland_close(d->dev);
	return 0;
}

static void count_done(struct dmaland_nvme_request *request, int status)
{
	*(int *)request->context += status == 0 ? 1 : 1000;
}

/* The child is forked with a read in flight. */
static void a_drive_goes_on_in_the_parent_and_only_there(void **state)
{
	static char out[65536], in[65536];
	struct iovec iov = {in, sizeof(in)};
	int done = 0;
	struct dmaland_nvme_request request = {
		.opcode = DMALAND_NVME_READ,
		.nsid = 1,
		.iov = &iov,
		.iov_count = 1,
		.done = count_done,
		.context = &done,
	};
	struct drive d;
	size_t blocks;
	int status;
	pid_t pid;

	(void)state;
	drive_open(&d, device_spec, 0);
	blocks = sizeof(out) / d.ns.block_size;
	for (size_t k = 0; k < sizeof(out); k++)
		out[k] = (char)(k * 7 + k / 251);
	assert_int_equal(dmaland_nvme_write(d.queue, 1, 0, blocks, out), 0);
	request.blocks = blocks;
	assert_int_equal(dmaland_nvme_submit(d.queue, &request), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		watchdog(60);
		child_ends(drive_is_the_parents(&d));
	}
	while (done == 0)
		dmaland_nvme_poll(d.queue);
	assert_int_equal(done, 1);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	memset(in, 0, sizeof(in));
	assert_int_equal(dmaland_nvme_read(d.queue, 1, 0, blocks, in), 0);
	assert_memory_equal(in, out, sizeof(in));
	drive_close(&d);
}

/* Are the numbers from first to standard error free, but for the file that lists them? */
static bool numbers_are_free(int first)
{
	DIR *files = opendir("/proc/self/fd");
	const struct dirent *file;
	bool free = files != NULL;

	while (files && (file = readdir(files))) {
		int fd = file->d_name[0] == '.' ? -1 : atoi(file->d_name);

		free &= fd < first || fd > STDERR_FILENO || fd == dirfd(files);
	}
	if (files)
		closedir(files);
	return free;
}

/* The library's own lines go to standard error, which is closed. */
static int daemon_uses_a_device(int first)
{
	static unsigned char expected[4096];
	struct dmaland_device *dev;
	dma_addr_t dma, small;
	unsigned char *page;

	for (int fd = first; fd <= STDERR_FILENO; fd++)
		close(fd);
	dmaland_set_log(NULL, NULL);
	dev = dmaland_open(device_spec, NULL);
	MUST(dev && numbers_are_free(first));
	MUST(pci_enable_device(dev) == 0);
	MUST(pci_iomap(dev, 0, 0) || strstr(dmaland_last_error(), "has no memory BAR"));
	page = dma_alloc_coherent(dev, sizeof(expected), &dma, GFP_KERNEL);
	MUST(page);
	memset(page, 0x5a, sizeof(expected));
	memset(expected, 0x5a, sizeof(expected));
	small = dma_map_single(dev, &first, sizeof(first), DMA_TO_DEVICE);
	MUST(!dma_mapping_error(dev, small));
	pci_alloc_irq_vectors(dev, 1, 4, PCI_IRQ_ALL_TYPES); /* a device may have none */
	MUST(numbers_are_free(first));
	for (int i = 0; i < 1000; i++)
		dma_unmap_single(dev, 0x1234, 64, DMA_TO_DEVICE);
	MUST(write(STDERR_FILENO, "x", 1) < 0 && errno == EBADF);
	MUST(memcmp(page, expected, sizeof(expected)) == 0);
	dma_unmap_single(dev, small, sizeof(first), DMA_TO_DEVICE);
	dma_free_coherent(dev, sizeof(expected), page, dma);
	pci_free_irq_vectors(dev);
	dmaland_close(dev);
	MUST(numbers_are_free(first));
	return 0;
}

static int daemon_uses_a_drive(int first)
{
	struct drive d;

	for (int fd = first; fd <= STDERR_FILENO; fd++)
		close(fd);
	dmaland_set_log(NULL, NULL);
	d.dev = dmaland_open(device_spec, NULL);
	MUST(d.dev);
	d.ctrl = dmaland_nvme_open(d.dev, NULL);
	MUST(d.ctrl);
	d.queue = dmaland_nvme_queue_create(d.ctrl, 0, DMALAND_NVME_QUEUE_IRQ);
	MUST(d.queue && numbers_are_free(first));
	dmaland_nvme_close(d.ctrl);
	dmaland_close(d.dev);
	return 0;
}

static void daemon_run(int (*use)(int first), int first)
{
	int status, says = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1), line;
	pid_t pid = fork();

	assert_true(pid >= 0 && says >= 0);
	if (pid == 0) {
		watchdog(60);
		line = use(first);
		if (line)
			dprintf(says, "fork_tests.c:%d: %s\n", line, dmaland_last_error());
		_exit(line ? 1 : 0);
	}
	close(says);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* All three of them closed, as a daemon does; or standard error alone. */
static void no_file_of_a_device_is_standard_input_output_or_error(void **state)
{
	(void)state;
	for (int first = STDIN_FILENO; first <= STDERR_FILENO; first++)
		daemon_run(daemon_uses_a_device, first);
}

static void no_file_of_a_drive_is_standard_input_output_or_error(void **state)
{
	(void)state;
	daemon_run(daemon_uses_a_drive, STDIN_FILENO);
}

int run_fork_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_with_a_device_fail_in_a_child),
		cmocka_unit_test(a_child_has_neither_files_nor_memory_of_a_device),
		cmocka_unit_test(a_child_can_open_a_device_of_its_own),
		cmocka_unit_test(a_fork_in_the_middle_of_other_threads_calls_leaves_no_lock_behind),
		cmocka_unit_test(a_fork_in_the_middle_of_opening_and_closing_leaks_no_file),
		cmocka_unit_test(no_file_of_a_device_is_standard_input_output_or_error),
	};
	const struct CMUnitTest drives[] = {
		cmocka_unit_test(a_drive_goes_on_in_the_parent_and_only_there),
		cmocka_unit_test(no_file_of_a_drive_is_standard_input_output_or_error),
	};
	int failed = cmocka_run_group_tests_name("fork", tests, NULL, NULL);

	if (device_is_drive())
		failed += cmocka_run_group_tests_name("fork of a drive", drives, NULL, NULL);
	return failed;
}
