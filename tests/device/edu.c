/* SPDX-License-Identifier: MIT */
/*
 * edu.c - a device that can send only 28 bits of address: ./edu SPEC [SHARED]
 *
 * SPEC names QEMU's educational device (docs/specs/edu in QEMU: 1234:11e8), which copies between
 * memory and a buffer of its own and clamps addresses above 28 bits, so that a wrong address shows
 * in the data. SHARED names another device that joins its domain; only then those tests run.
 */
#include "test.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "backend/qemu.h"
#include "device/device.h"
#include "edu.h"

static const char *spec, *shared_spec;
static struct dmaland_device *dev;
static char *bar;

static int open_with(const struct dmaland_options *options)
{
	dev = dmaland_open(spec, options);
	if (!dev)
		fail_msg("%s", dmaland_last_error());
	assert_int_equal(dma_set_mask_and_coherent(dev, DMA_BIT_MASK(28)), 0);
	assert_int_equal(pci_enable_device(dev), 0);
	assert_int_equal(pci_set_master(dev), 0);
	bar = pci_iomap(dev, 0, 0);
	assert_non_null(bar);
	assert_int_equal(readl(bar + EDU_ID) & 0xffff, 0x00ed);
	return 0;
}

static int open_edu(void **state)
{
	(void)state;
	return open_with(NULL);
}

static int close_edu(void **state)
{
	(void)state;
	pci_iounmap(dev, bar);
	dmaland_close(dev);
	return 0;
}

static void edu_copy(uint64_t from, uint64_t to, uint32_t count, uint32_t flags)
{
	struct timespec begin, now;

	writeq(from, bar + EDU_DMA_FROM);
	writeq(to, bar + EDU_DMA_TO);
	writeq(count, bar + EDU_DMA_COUNT);
	writel(EDU_START | flags, bar + EDU_DMA_COMMAND);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	while (readl(bar + EDU_DMA_COMMAND) & EDU_START) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec - begin.tv_sec > patience(20))
			fail_msg("the device does not end its transfer");
	}
}

/* Through the device's buffer from one dma address to another. */
static void edu_move(dma_addr_t from, dma_addr_t to, uint32_t count)
{
	edu_copy(from, EDU_BUFFER, count, 0);
	edu_copy(EDU_BUFFER, to, count, EDU_TO_MEMORY);
}

static void registers_of_a_bar_work(void **state)
{
	(void)state;
	writel(5, bar + EDU_FACTORIAL);
	while (readl(bar + EDU_STATUS) & 1)
		;
	assert_int_equal(readl(bar + EDU_FACTORIAL), 120);
}

static void dma_arrives_below_28_bits(void **state)
{
	struct dma_pool *pool = dma_pool_create("edu", dev, 256, 256, 4096);
	dma_addr_t from, to, page;
	unsigned char *a, *b, *c;

	(void)state;
	assert_non_null(pool);
	a = dma_pool_alloc(pool, GFP_KERNEL, &from);
	b = dma_pool_zalloc(pool, GFP_KERNEL, &to);
	c = dma_alloc_coherent(dev, 4096, &page, GFP_KERNEL);
	assert_true(a && b && c);
	for (int i = 0; i < 256; i++)
		a[i] = (unsigned char)(i * 7 + 1);
	edu_move(from, to, 256);
	assert_memory_equal(a, b, 256);
	edu_move(to, page + 1000, 256);
	assert_memory_equal(c + 1000, a, 256);
	assert_int_equal(c[999], 0);
	assert_int_equal(c[1256], 0);
	dma_pool_free(pool, a, from);
	dma_pool_free(pool, b, to);
	dma_pool_destroy(pool);
	dma_free_coherent(dev, 4096, c, page);
}

static void nothing_is_ever_allocated_above_the_mask(void **state)
{
	const uint64_t mask = DMA_BIT_MASK(24);
	struct dma_pool *pool;
	dma_addr_t handle, blocks = 0;

	(void)state;
	assert_int_equal(dma_set_mask_and_coherent(dev, mask), 0);
	pool = dma_pool_create("narrow", dev, 65536, 0, 0);
	while (dma_pool_alloc(pool, GFP_KERNEL, &handle)) {
		assert_true(handle + 65535 <= mask);
		blocks++;
	}
	assert_int_equal(errno, ENOMEM);
	assert_true(blocks >= 200); /* of the 256 that 24 bits hold */
	assert_int_equal(dma_set_coherent_mask(dev, DMA_BIT_MASK(22)), -EBUSY);
	assert_int_equal(dma_set_coherent_mask(dev, DMA_BIT_MASK(28)), 0);
	assert_non_null(dma_pool_alloc(pool, GFP_KERNEL, &handle));
	assert_true(handle > mask && handle + 65535 <= DMA_BIT_MASK(28));
}

static void devices_that_share_a_domain_see_each_others_memory(void **state)
{
	const struct dmaland_options options = {.size = sizeof(options), .share_with = dev};
	struct dmaland_device *other = dmaland_open(shared_spec, &options);
	struct dmaland_info a, b;
	dma_addr_t from, to;
	unsigned char *mine, *theirs;

	(void)state;
	if (!other)
		fail_msg("%s", dmaland_last_error());
	assert_int_equal(dma_set_mask_and_coherent(other, DMA_BIT_MASK(28)), 0);
	mine = dma_alloc_coherent(dev, 4096, &from, GFP_KERNEL);
	theirs = dma_alloc_coherent(other, 4096, &to, GFP_KERNEL);
	assert_true(mine && theirs);
	assert_true(from != to);
	memset(mine, 0x3c, 64);
	edu_move(from, to, 64);
	assert_memory_equal(mine, theirs, 64);
	dmaland_get_info(dev, &a);
	dmaland_get_info(other, &b);
	assert_int_equal(a.mappings, b.mappings);
	assert_int_equal(a.memory_in_use, 8192);

	dma_free_coherent(other, 4096, theirs, to);
	dmaland_close(other);
	edu_move(from, from + 128, 64); /* the domain goes on without it */
	assert_memory_equal(mine, mine + 128, 64);
	dma_free_coherent(dev, 4096, mine, from);
}

static unsigned int lines; /* of the log that were heard */

/* What takes the machine's lock. */
static void call_library(void *context, enum dmaland_log_level level, const char *line)
{
	dma_addr_t dma;
	void *memory = dma_alloc_coherent(dev, 64 << 20, &dma, GFP_KERNEL);

	(void)context;
	(void)level;
	assert_non_null(strstr(line, "stays taken: QEMU refuses to take dev"));
	assert_non_null(memory);
	dma_free_coherent(dev, 64 << 20, memory, dma);
	lines++;
}

/* QEMU does not know the device by this name: it can't be taken out. */
static void what_is_logged_of_a_device_that_stays_is_heard_without_a_lock(void **state)
{
	struct dmaland_options options = {.size = sizeof(options), .share_with = dev};
	struct dmaland_device *other;

	(void)state;
	other = dmaland_open(shared_spec, &options);
	assert_non_null(other);
	qemu_of(other->function)->plugged.number = 1000;
	lines = 0;
	dmaland_set_log(call_library, NULL);
	dmaland_close(other);
	log_capture();
	assert_int_equal(lines, 1);
}

/* Memory of the process, mapped to be read, arrives in memory mapped to be written. */
static void streaming_carries(char *from, char *to, uint32_t size)
{
	dma_addr_t source = dma_map_single(dev, from, size, DMA_TO_DEVICE);
	dma_addr_t target = dma_map_single(dev, to, size, DMA_FROM_DEVICE);

	if (dma_mapping_error(dev, source) || dma_mapping_error(dev, target))
		fail_msg("%u bytes: %s", size, dmaland_last_error());
	assert_true(source + size - 1 <= DMA_BIT_MASK(28) && target + size - 1 <= DMA_BIT_MASK(28));
	edu_move(source, target, size);
	dma_unmap_single(dev, source, size, DMA_TO_DEVICE);
	dma_unmap_single(dev, target, size, DMA_FROM_DEVICE);
	assert_memory_equal(from, to, size);
	assert_int_equal(to[size], 0);
}

/* Every way, strict, lazy and not trusted, as far as the backend can. */
static void what_is_mapped_for_a_transfer_arrives(void **state)
{
	static char from[8192] __attribute__((aligned(4096)));
	static char to[8193] __attribute__((aligned(4096)));
	static const uint32_t sizes[] = {1, 100, 2048, 4000}; /* edu takes 4095 at most */
	struct dmaland_options options[] = {
		{.size = sizeof(options[0])},
		{.size = sizeof(options[0]), .copy_below = 1},
		{.size = sizeof(options[0]), .copy_below = 1, .lazy = true},
		{.size = sizeof(options[0]), .untrusted = true},
	};

	log_clear();
	for (size_t i = 0; i < 16; i++) {
		uint32_t size = sizes[i % 4];

		if (options[i / 4].untrusted && strncmp(spec, "qemu:", 5) == 0)
			continue; /* refused: test_streaming.c */
		open_with(&options[i / 4]);
		memset(to, 0, sizeof(to));
		for (size_t k = 0; k < sizeof(from); k++)
			from[k] = (char)(k * 11 + i);
		streaming_carries(from, to, size);
		memset(to, 0, sizeof(to));
		streaming_carries(from + 77, to + 4000, size);
		close_edu(state);
	}
	assert_string_equal(log_text(), "");
}

/* The spec's options are told apart from the backend's, and win over those of the structure. */
static void options_of_mappings_can_stand_in_the_spec(void **state)
{
	static const struct {
		const char *options, *error;
	} cases[] = {
		{",copy_below=1234,unmap=lazy,lazy_count=8,lazy_ms=1,trusted=yes", NULL},
		{",copy_below=1234,unmap=strict,no_syscalls=yes", NULL},
		{",trusted=maybe", "it is yes or no"},
		{",unmap=later", "it is strict or lazy"},
		{",copy_below=2000000", "at most 1048576"},
		{",copy_below=-1", "not a number"},
		{",lazy_count=x", "not a number"},
		{",trusted=no,unmap=lazy", "trusted=no"},
	};
	const struct dmaland_options options = {.size = sizeof(options), .copy_below = 77};
	struct dmaland_streaming_stats stats;
	char text[256];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(text, sizeof(text), "%s%s", spec, cases[i].options);
		dev = dmaland_open(text, &options);
		if (!dev && !cases[i].error)
			fail_msg("%s: %s", text, dmaland_last_error());
		if (!dev) {
			assert_error_says(cases[i].error);
			continue;
		}
		assert_null(cases[i].error);
		dmaland_get_streaming_stats(dev, &stats);
		assert_int_equal(stats.copy_below, 1234);
		dmaland_close(dev);
	}
}

static void registered_memory_is_reached_where_it_lies(void **state)
{
	static char memory[3 * 4096];
	dma_addr_t dma;
	int err;

	(void)state;
	err = dmaland_register(dev, memory + 5, sizeof(memory) - 10);
	if (err == -EOPNOTSUPP) {
		assert_error_says("dma_alloc_coherent");
		return;
	}
	assert_int_equal(err, 0);
	memcpy(memory + 100, "registered", 10);
	dma = dma_map_single(dev, memory + 100, 8000, DMA_BIDIRECTIONAL);
	edu_move(dma, dma + 5000, 10);
	dma_unmap_single(dev, dma, 8000, DMA_BIDIRECTIONAL);
	assert_memory_equal(memory + 5100, "registered", 10);
	assert_int_equal(dmaland_unregister(dev, memory + 5), 0);
	edu_copy(EDU_BUFFER, dma + 6000, 10, EDU_TO_MEMORY);
	assert_int_equal(memory[6100], 0);
}

/* Where memory is mapped: what is only to be read is not written, and nothing is after unmapping. */
static void the_iommu_stops_what_was_not_given(void **state)
{
	static char memory[4 * 4096] __attribute__((aligned(4096)));
	struct dmaland_options options = {.size = sizeof(options), .copy_below = 1};
	struct dmaland_streaming_stats stats;
	dma_addr_t dma;

	open_with(&options);
	memset(memory, 'm', sizeof(memory));
	dma = dma_map_single(dev, memory + 4096, 4096, DMA_TO_DEVICE);
	dmaland_get_streaming_stats(dev, &stats);
	if (stats.mapped) {
		memset(memory + 4096, 'p', 64); /* what the device will try to write elsewhere */
		dma_sync_single_for_device(dev, dma, 64, DMA_TO_DEVICE);
		edu_copy(dma, EDU_BUFFER, 64, 0);
		edu_copy(EDU_BUFFER, dma + 64, 64, EDU_TO_MEMORY);
		edu_copy(EDU_BUFFER, dma - 64, 64, EDU_TO_MEMORY);
		dma_unmap_single(dev, dma, 4096, DMA_TO_DEVICE);
		edu_copy(EDU_BUFFER, dma + 64, 64, EDU_TO_MEMORY);
		for (size_t i = 0; i < sizeof(memory); i++)
			assert_int_equal(memory[i], i / 64 == 64 ? 'p' : 'm');
		dma = dma_map_single(dev, memory + 4096, 4096, DMA_FROM_DEVICE);
		memset(memory, 'M', sizeof(memory));
		dma_unmap_single(dev, dma, 4096, DMA_FROM_DEVICE);
		edu_copy(EDU_BUFFER, dma, 64, EDU_TO_MEMORY);
		for (size_t i = 0; i < sizeof(memory); i++)
			assert_int_equal(memory[i], 'M');
	} else {
		dma_unmap_single(dev, dma, 4096, DMA_TO_DEVICE);
	}
	close_edu(state);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(registers_of_a_bar_work, open_edu, close_edu),
		cmocka_unit_test_setup_teardown(dma_arrives_below_28_bits, open_edu, close_edu),
		cmocka_unit_test_setup_teardown(nothing_is_ever_allocated_above_the_mask, open_edu,
						close_edu),
		cmocka_unit_test(what_is_mapped_for_a_transfer_arrives),
		cmocka_unit_test(options_of_mappings_can_stand_in_the_spec),
		cmocka_unit_test_setup_teardown(registered_memory_is_reached_where_it_lies,
						open_edu, close_edu),
		cmocka_unit_test(the_iommu_stops_what_was_not_given),
	};
	const struct CMUnitTest shared[] = {
		cmocka_unit_test_setup_teardown(devices_that_share_a_domain_see_each_others_memory,
						open_edu, close_edu),
	};
	const struct CMUnitTest qemu[] = {
		cmocka_unit_test_setup_teardown(
			what_is_logged_of_a_device_that_stays_is_heard_without_a_lock, open_edu,
			close_edu),
	};
	int failed;

	if (argc < 2) {
		fprintf(stderr, "usage: %s SPEC [SHARED]\n", argv[0]);
		return 2;
	}
	spec = argv[1];
	shared_spec = argv[2];
	log_capture();
	failed = cmocka_run_group_tests_name("edu", tests, NULL, NULL);
	if (shared_spec)
		failed += cmocka_run_group_tests_name("edu, shared", shared, NULL, NULL);
	if (shared_spec && strncmp(spec, "qemu:", 5) == 0)
		failed += cmocka_run_group_tests_name("edu, in QEMU", qemu, NULL, NULL);
	return failed;
}
