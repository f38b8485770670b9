/* SPDX-License-Identifier: MIT */
/*
 * permissions.c - what a mapping lets the device do, and what it does not: ./permissions SPEC
 *
 * SPEC names QEMU's edu or an NVMe drive behind an IOMMU, or soft:. The device is told to write where
 * it may not; then the memory is looked at, which was poisoned before. The status of the device is
 * never asked: a drive takes a write that the IOMMU stopped for done.
 *
 * Each promise stands beside its control: the same write, where it is allowed, does arrive.
 *
 * Memory that may be written and not read is the exception: not every IOMMU can express it. The domain
 * says whether its own can (struct dmaland_info, write_only), and what the device reads is compared with
 * that. Where it can't, the device reads what it was to write, and nothing but that.
 */
#include "mover.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, PART = 1024, SECRET = 0x5a, MINE = 0x11, ATTACK = 0xa5, OTHER = 0x3c };

static const char *spec;
static struct mover m;
static unsigned char *pages; /* three, of the application; SECRET all over */
static uint32_t mappings;

static int begin(const struct dmaland_options *options)
{
	if (!mover_open(&m, spec, options))
		fail_msg("%s is no device that this can be tried with", spec);
	pages = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(pages, MAP_FAILED);
	memset(pages, SECRET, 3 * PAGE);
	mappings = mappings_of(m.dev);
	log_clear();
	return 0;
}

/* Everything is mapped where it lies, and nothing is copied. */
static int open_mapping(void **state)
{
	const struct dmaland_options options = {.size = sizeof(options), .copy_below = 1};

	(void)state;
	return begin(&options);
}

static int open_lazy(void **state)
{
	const struct dmaland_options options = {
		.size = sizeof(options), .copy_below = 1, .lazy = true, .lazy_ms = 3600000};

	(void)state;
	return begin(&options);
}

/* What is small is copied. */
static int open_copying(void **state)
{
	const struct dmaland_options options = {.size = sizeof(options), .copy_below = PAGE};

	(void)state;
	return begin(&options);
}

static int open_untrusted(void **state)
{
	const struct dmaland_options options = {.size = sizeof(options), .untrusted = true};

	(void)state;
	return begin(&options);
}

static int close_device(void **state)
{
	(void)state;
	dmaland_flush(m.dev);
	munmap(pages, 3 * PAGE);
	mover_close(&m);
	return 0;
}

static dma_addr_t map(void *ptr, size_t size, enum dma_data_direction direction)
{
	dma_addr_t dma = dma_map_single(m.dev, ptr, size, direction);

	if (dma_mapping_error(m.dev, dma))
		fail_msg("%s", dmaland_last_error());
	return dma;
}

/* The device writes ATTACK, in the parts that it can. */
static void attack(dma_addr_t dma, size_t size)
{
	mover_fill(&m, ATTACK, PART);
	for (size_t at = 0; at < size; at += PART)
		mover_writes(&m, dma + at, PART);
}

/* Bytes of a value in what the device reads there, having held something else. */
static size_t bytes_read(dma_addr_t dma, int value)
{
	const unsigned char *held;
	size_t n = 0;

	mover_fill(&m, (unsigned char)~value, PART);
	mover_reads(&m, dma, PART);
	held = mover_holds(&m, PART);
	for (size_t i = 0; i < PART; i++)
		n += held[i] == value;
	return n;
}

/* ---- directions ---- */

static void what_is_mapped_for_writing_is_written(void **state)
{
	static const enum dma_data_direction directions[] = {DMA_FROM_DEVICE, DMA_BIDIRECTIONAL};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		dma_addr_t dma = map(pages, PAGE, directions[i]);

		assert_int_equal(mappings_of(m.dev), mappings + 1);
		attack(dma, PAGE);
		dma_unmap_single(m.dev, dma, PAGE, directions[i]);
		assert_true(all_are(pages, PAGE, ATTACK));
		assert_true(all_are(pages + PAGE, PAGE, SECRET));
		memset(pages, SECRET, PAGE);
	}
}

static void what_is_mapped_to_the_device_is_read_and_not_written(void **state)
{
	dma_addr_t dma = map(pages, PAGE, DMA_TO_DEVICE);

	(void)state;
	assert_int_equal(bytes_read(dma, SECRET), PART);
	assert_int_equal(bytes_read(dma + PAGE - PART, SECRET), PART);
	attack(dma, PAGE);
	assert_true(all_are(pages, PAGE, SECRET));
	assert_int_equal(bytes_read(dma, SECRET), PART);
	dma_unmap_single(m.dev, dma, PAGE, DMA_TO_DEVICE);
	assert_true(all_are(pages, 3 * PAGE, SECRET));
}

/* The device has read n of PART bytes that it was to write alone. Is that what the domain says? */
static void check_says(size_t n)
{
	struct dmaland_info info;

	dmaland_get_info(m.dev, &info);
	if (info.write_only < 0) {
		assert_true(n == 0 || n == PART);
		print_message(
			"# the domain does not know whether it can express write-only: it %s\n",
			n ? "can't" : "can");
		return;
	}
	if (n != (info.write_only ? 0 : PART))
		fail_msg("the domain says that it %s express write-only, and %zu of %d bytes were "
			 "read",
			 info.write_only ? "can" : "can't", n, PART);
}

static void what_is_mapped_from_the_device_is_read_where_the_domain_says_so(void **state)
{
	dma_addr_t dma = map(pages + PAGE, PAGE, DMA_FROM_DEVICE);

	(void)state;
	check_says(bytes_read(dma, SECRET));
	check_says(bytes_read(dma + PAGE - PART, SECRET));
	dma_unmap_single(m.dev, dma, PAGE, DMA_FROM_DEVICE);
	assert_int_equal(bytes_read(dma, SECRET), 0);
	dma = map(pages, PAGE, DMA_BIDIRECTIONAL);
	assert_int_equal(bytes_read(dma, SECRET), PART);
	dma_unmap_single(m.dev, dma, PAGE, DMA_BIDIRECTIONAL);
}

/* On what the kernel says of the device: the IOMMU's unit, and no more. */
static void the_domain_knows_of_soft_and_of_vtd(void **state)
{
	const char *address = strchr(spec, ':') ? strchr(spec, ':') + 1 : spec;
	char path[128], unit[256] = "";
	struct dmaland_info info;

	(void)state;
	dmaland_get_info(m.dev, &info);
	assert_in_range(info.write_only + 1, 0, 2);
	if (strcmp(info.backend, "soft") == 0) {
		assert_int_equal(info.write_only, 1);
		return;
	}
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.12s/iommu", address);
	if (readlink(path, unit, sizeof(unit) - 1) > 0 && strstr(unit, "/dmar"))
		assert_int_equal(info.write_only, 0);
}

static void a_list_to_the_device_is_not_written(void **state)
{
	struct scatterlist sg[3];
	int n;

	(void)state;
	sg_init_table(sg, 3);
	for (int i = 0; i < 3; i++)
		sg_set_buf(&sg[i], pages + (2 - i) * PAGE, PAGE);
	n = dma_map_sg(m.dev, sg, 3, DMA_TO_DEVICE);
	assert_true(n > 0);
	for (int i = 0; i < n; i++) {
		assert_int_equal(bytes_read(sg_dma_address(&sg[i]), SECRET), PART);
		attack(sg_dma_address(&sg[i]), sg_dma_len(&sg[i]));
	}
	dma_unmap_sg(m.dev, sg, 3, DMA_TO_DEVICE);
	assert_true(all_are(pages, 3 * PAGE, SECRET));
	assert_int_equal(mappings_of(m.dev), mappings);
}

/* ---- after unmap ---- */

static void after_unmap_nothing_is_reached(void **state)
{
	(void)state;
	for (int direction = DMA_BIDIRECTIONAL; direction <= DMA_FROM_DEVICE; direction++) {
		dma_addr_t dma = map(pages, PAGE, (enum dma_data_direction)direction);

		if (direction != DMA_TO_DEVICE)
			attack(dma, PART); /* while it may: the IOMMU has cached the address */
		dma_unmap_single(m.dev, dma, PAGE, (enum dma_data_direction)direction);
		assert_int_equal(mappings_of(m.dev), mappings);
		memset(pages, SECRET, PAGE);
		attack(dma, PAGE);
		assert_int_equal(bytes_read(dma, SECRET), 0);
		assert_true(all_are(pages, 3 * PAGE, SECRET));
	}
}

static void in_lazy_mode_nothing_is_reached_after_a_flush(void **state)
{
	struct dmaland_streaming_stats stats;
	dma_addr_t dma = map(pages, PAGE, DMA_FROM_DEVICE);

	(void)state;
	attack(dma, PART);
	dma_unmap_single(m.dev, dma, PAGE, DMA_FROM_DEVICE);
	dmaland_get_streaming_stats(m.dev, &stats);
	assert_int_equal(stats.waiting, 1);

	/* It waits: so the device still reaches it, as the documents say. */
	memset(pages, SECRET, PAGE);
	attack(dma, PAGE);
	assert_true(all_are(pages, PAGE, ATTACK));

	dmaland_flush(m.dev);
	assert_int_equal(mappings_of(m.dev), mappings);
	memset(pages, SECRET, PAGE);
	attack(dma, PAGE);
	assert_int_equal(bytes_read(dma, SECRET), 0);
	assert_true(all_are(pages, 3 * PAGE, SECRET));
}

static void registered_memory_is_out_of_reach_when_that_ends(void **state)
{
	dma_addr_t dma;

	(void)state;
	assert_int_equal(dmaland_register(m.dev, pages + 100, 2 * PAGE), 0);
	dma = map(pages + 104, PAGE, DMA_TO_DEVICE);
	dma_unmap_single(m.dev, dma, PAGE, DMA_TO_DEVICE);
	attack(dma, PART); /* it stays writable, as the documents say */
	assert_true(all_are(pages + 104, PART, ATTACK));
	assert_int_equal(dmaland_unregister(m.dev, pages + 100), 0);
	memset(pages, SECRET, 3 * PAGE);
	attack(dma, PART);
	assert_int_equal(bytes_read(dma, SECRET), 0);
	assert_true(all_are(pages, 3 * PAGE, SECRET));
	assert_int_equal(mappings_of(m.dev), mappings);
}

/* ---- copies ---- */

static void what_is_copied_for_the_device_is_not_written(void **state)
{
	dma_addr_t dma = map(pages, PART, DMA_TO_DEVICE);

	(void)state;
	assert_int_equal(bytes_read(dma, SECRET), PART);
	attack(dma, PART);
	dma_unmap_single(m.dev, dma, PART, DMA_TO_DEVICE);
	assert_true(all_are(pages, PAGE, SECRET));
	attack(dma, PART);
	assert_true(all_are(pages, PAGE, SECRET));

	dma = map(pages, PART, DMA_FROM_DEVICE);
	attack(dma, PART);
	assert_true(all_are(pages, PAGE, SECRET)); /* only unmap brings it */
	dma_unmap_single(m.dev, dma, PART, DMA_FROM_DEVICE);
	assert_true(all_are(pages, PART, ATTACK));
	assert_true(all_are(pages + PART, PAGE - PART, SECRET));
	memset(pages, SECRET, PART);
	attack(dma, PART);
	assert_true(all_are(pages, PAGE, SECRET));
}

/* It holds what lay there, for what the device leaves alone to be there again. */
static void what_is_copied_from_the_device_can_be_read_by_it(void **state)
{
	dma_addr_t dma = map(pages, PART, DMA_FROM_DEVICE);

	(void)state;
	assert_int_equal(bytes_read(dma, SECRET), PART);
	dma_unmap_single(m.dev, dma, PART, DMA_FROM_DEVICE);
	assert_true(all_are(pages, PAGE, SECRET));
}

static void what_is_copied_from_an_untrusted_device_is_read_where_the_domain_says_so(void **state)
{
	dma_addr_t dma = map(pages + PART, PART, DMA_FROM_DEVICE);

	(void)state;
	check_says(bytes_read(dma, SECRET));
	dma_unmap_single(m.dev, dma, PART, DMA_FROM_DEVICE);
	assert_int_equal(bytes_read(dma, SECRET), 0);
}

/* ---- neighbours ---- */

static void neighbours_of_a_trusted_device_share_its_granule(void **state)
{
	dma_addr_t dma = map(pages + PART, PART, DMA_BIDIRECTIONAL);

	(void)state;
	assert_int_equal(bytes_read(dma + PART, SECRET), PART);
	attack(dma + PART, PART);
	assert_true(all_are(pages + 2 * PART, PART, ATTACK));
	dma_unmap_single(m.dev, dma, PART, DMA_BIDIRECTIONAL);
}

static void neighbours_are_out_of_reach_of_a_device_that_is_not_trusted(void **state)
{
	dma_addr_t dma, granule;

	(void)state;
	memset(pages + PAGE + PART, MINE, PART);
	dma = map(pages + PAGE + PART, PART, DMA_BIDIRECTIONAL);
	granule = dma & ~(dma_addr_t)(PAGE - 1);
	assert_int_equal(mappings_of(m.dev), mappings + 1);

	/* It sees what is mapped, and around it zeroes; beside that granule, nothing. */
	assert_int_equal(bytes_read(dma, MINE), PART);
	for (dma_addr_t at = granule; at < granule + PAGE; at += PART)
		if (at != dma)
			assert_int_equal(bytes_read(at, 0), PART);
	assert_int_equal(bytes_read(granule - PART, SECRET), 0);
	assert_int_equal(bytes_read(granule + PAGE, SECRET), 0);

	/* And of what it writes, only that is found again. */
	attack(granule, PAGE);
	dma_unmap_single(m.dev, dma, PART, DMA_BIDIRECTIONAL);
	assert_true(all_are(pages, PAGE + PART, SECRET));
	assert_true(all_are(pages + PAGE + PART, PART, ATTACK));
	assert_true(all_are(pages + PAGE + 2 * PART, 2 * PAGE - 2 * PART, SECRET));
}

static void what_an_untrusted_device_has_had_it_finds_no_more(void **state)
{
	const size_t small = 2 * PART;
	dma_addr_t first, second;

	(void)state;
	first = map(pages, small, DMA_TO_DEVICE);
	assert_int_equal(bytes_read(first + PART, SECRET), PART);
	dma_unmap_single(m.dev, first, small, DMA_TO_DEVICE);
	assert_int_equal(mappings_of(m.dev), mappings);
	assert_int_equal(bytes_read(first, SECRET), 0);

	/* The granule is used again, at this address or another, and is empty. */
	memset(pages + PAGE, OTHER, PART);
	second = map(pages + PAGE, PART, DMA_FROM_DEVICE);
	mover_fill(&m, MINE, PART);
	mover_writes(&m, second, PART);
	if (first != second)
		attack(first, PART);
	dma_unmap_single(m.dev, second, PART, DMA_FROM_DEVICE);
	assert_true(all_are(pages + PAGE, PART, MINE));
	second = map(pages + PAGE, PART, DMA_BIDIRECTIONAL);
	assert_int_equal(bytes_read(second + PART, 0), PART);
	assert_int_equal(bytes_read(second + PART, SECRET), 0);
	dma_unmap_single(m.dev, second, PART, DMA_BIDIRECTIONAL);
	assert_true(all_are(pages, PAGE, SECRET));
}

static void whole_granules_of_an_untrusted_device_are_mapped_and_revoked(void **state)
{
	dma_addr_t dma = map(pages + PAGE, PAGE, DMA_FROM_DEVICE);

	(void)state;
	attack(dma, PAGE);
	assert_true(all_are(pages + PAGE, PAGE, ATTACK)); /* where it lies */
	dma_unmap_single(m.dev, dma, PAGE, DMA_FROM_DEVICE);
	memset(pages + PAGE, MINE, PAGE);
	attack(dma, PAGE);
	assert_true(all_are(pages + PAGE, PAGE, MINE));
	assert_true(all_are(pages, PAGE, SECRET));
	assert_true(all_are(pages + 2 * PAGE, PAGE, SECRET));
}

#define with(open, f) cmocka_unit_test_setup_teardown(f, open, close_device)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		with(open_mapping, what_is_mapped_for_writing_is_written),
		with(open_mapping, what_is_mapped_to_the_device_is_read_and_not_written),
		with(open_mapping, what_is_mapped_from_the_device_is_read_where_the_domain_says_so),
		with(open_mapping, the_domain_knows_of_soft_and_of_vtd),
		with(open_mapping, a_list_to_the_device_is_not_written),
		with(open_mapping, after_unmap_nothing_is_reached),
		with(open_lazy, in_lazy_mode_nothing_is_reached_after_a_flush),
		with(open_mapping, registered_memory_is_out_of_reach_when_that_ends),
		with(open_copying, what_is_copied_for_the_device_is_not_written),
		with(open_copying, what_is_copied_from_the_device_can_be_read_by_it),
		with(open_untrusted,
		     what_is_copied_from_an_untrusted_device_is_read_where_the_domain_says_so),
		with(open_mapping, neighbours_of_a_trusted_device_share_its_granule),
		with(open_untrusted, neighbours_are_out_of_reach_of_a_device_that_is_not_trusted),
		with(open_untrusted, what_an_untrusted_device_has_had_it_finds_no_more),
		with(open_untrusted, whole_granules_of_an_untrusted_device_are_mapped_and_revoked),
	};

	if (argc != 2) {
		fprintf(stderr, "usage: %s SPEC\n", argv[0]);
		return 2;
	}
	spec = argv[1];
	log_capture();
	return cmocka_run_group_tests_name("permissions", tests, NULL, NULL);
}
