/* SPDX-License-Identifier: MIT */
/*
 * test_soft_owners.c - who has the bytes of a mapping on a machine that is not coherent
 *
 * Mappings of every way, which the device touches byte by byte and as a whole. What the CPU has is told by
 * `from` and `to`: none where both are the same.
 */
#include "test.h"

#include <stdlib.h>

#include <dmaland/dmaland.h>
#include <dmaland/soft.h>

#include "backend/soft.h"
#include "device/device.h"

enum { PAGE = 4096, MOST = 5 * PAGE };

static struct dmaland_device *dev;
static unsigned char *memory; /* MOST bytes of the application, and MOST of pools */
static unsigned char *pool;
static dma_addr_t pool_dma;
static struct dmaland_soft_fault fault; /* the last */

static void open_spec(const char *spec)
{
	log_clear();
	dev = dmaland_open(spec, NULL);
	if (!dev)
		fail_msg("%s: %s", spec, dmaland_last_error());
	assert_int_equal(dma_set_mask_and_coherent(dev, DMA_BIT_MASK(39)), 0);
	memory = aligned_alloc(PAGE, MOST);
	memset(memory, 1, MOST);
	pool = dma_alloc_coherent(dev, MOST, &pool_dma, GFP_KERNEL);
	assert_non_null(pool);
}

static void close_quietly(void)
{
	dma_free_coherent(dev, MOST, pool, pool_dma);
	dmaland_close(dev);
	free(memory);
	assert_string_equal(log_text(), "");
}

static dma_addr_t map(void *ptr, size_t size, enum dma_data_direction dir)
{
	dma_addr_t dma = dma_map_single(dev, ptr, size, dir);

	if (dma_mapping_error(dev, dma))
		fail_msg("%zu bytes: %s", size, dmaland_last_error());
	return dma;
}

/* What of it the device can do. */
static size_t touches(dma_addr_t dma, size_t size, bool write)
{
	static unsigned char bytes[MOST];
	const struct soft_access access = {dma, dma, bytes, size, write};

	return soft_domain_access((struct soft_domain *)dev->function->domain, &access, &fault);
}

static bool may_touch(dma_addr_t dma, size_t size, enum dma_data_direction dir)
{
	bool reads = dir == DMA_FROM_DEVICE || touches(dma, size, false) == size;
	bool writes = dir == DMA_TO_DEVICE || touches(dma, size, true) == size;

	if (dir == DMA_BIDIRECTIONAL)
		assert_int_equal(reads, writes);
	return reads && writes;
}

/* Of size bytes mapped at dma the CPU has those from `from` up to `to`, and they are ptr's: near the borders each. */
static void check_owners(const void *ptr, dma_addr_t dma, size_t size, enum dma_data_direction dir,
			 size_t from, size_t to)
{
	bool write = dir != DMA_TO_DEVICE;

	for (size_t i = 0; i < size; i++)
		if (i % 61 == 0 || i + 2 - from < 4 || i + 2 - to < 4 || i + 1 == size)
			assert_int_equal(may_touch(dma + i, 1, dir), i < from || i >= to);
	if (from == to) {
		assert_int_equal(touches(dma, size, write), size);
		return;
	}
	/* What goes on for long ends there. */
	assert_int_equal(touches(dma, size, write), from);
	assert_int_equal(fault.reason, DMALAND_SOFT_CPU);
	assert_int_equal(fault.write, write);
	assert_int_equal(fault.kind, DMALAND_SOFT_MAPPING);
	assert_true(fault.address == dma + from && fault.first == dma);
	assert_int_equal(fault.size, size);
	assert_ptr_equal(fault.memory, ptr);
	assert_false(fault.unmapped);
}

/* ---- each way ---- */

static void sync_cpu(dma_addr_t dma, size_t from, size_t to, enum dma_data_direction dir)
{
	dma_sync_single_range_for_cpu(dev, dma, from, to - from, dir);
}

static void sync_device(dma_addr_t dma, size_t from, size_t to, enum dma_data_direction dir)
{
	dma_sync_single_range_for_device(dev, dma, from, to - from, dir);
}

static void check_memory(unsigned char *ptr, size_t size, enum dma_data_direction dir)
{
	dma_addr_t dma = map(ptr, size, dir);
	size_t third = size / 3;

	check_owners(ptr, dma, size, dir, 0, 0);
	sync_cpu(dma, third, third + 1, dir);
	check_owners(ptr, dma, size, dir, third, third + 1);
	sync_cpu(dma, third, 2 * third, dir); /* some of it again */
	check_owners(ptr, dma, size, dir, third, 2 * third);
	sync_cpu(dma, 2 * third, size, dir);
	check_owners(ptr, dma, size, dir, third, size);
	sync_device(dma, third, third + 1, dir);
	check_owners(ptr, dma, size, dir, third + 1, size);
	sync_device(dma, size - 1, size, dir);
	check_owners(ptr, dma, size, dir, third + 1, size - 1);
	sync_cpu(dma, size - 1, size, dir);
	sync_device(dma, 0, size - 1, dir);
	check_owners(ptr, dma, size, dir, size - 1, size); /* far from where it begins */
	sync_cpu(dma, 0, size, dir);
	check_owners(ptr, dma, size, dir, 0, size);
	sync_device(dma, 0, size, dir);
	check_owners(ptr, dma, size, dir, 0, 0);
	sync_device(dma, 0, size, dir); /* it has it already */
	check_owners(ptr, dma, size, dir, 0, 0);

	/* What ended in the CPU's hands is the device's when it is mapped again. */
	sync_cpu(dma, 0, size, dir);
	dma_unmap_single(dev, dma, size, dir);
	dma = map(ptr, size, dir);
	check_owners(ptr, dma, size, dir, 0, 0);
	dma_unmap_single(dev, dma, size, dir);
}

static void check_sizes(unsigned char *from)
{
	static const size_t sizes[] = {3, 64, 1500, PAGE, 3 * PAGE - 77};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (int dir = DMA_BIDIRECTIONAL; dir <= DMA_FROM_DEVICE; dir++) {
			check_memory(from, sizes[i], (enum dma_data_direction)dir);
			check_memory(from + 13, sizes[i], (enum dma_data_direction)dir);
		}
}

static void what_is_synced_for_the_cpu_is_out_of_reach_to_the_byte(void **state)
{
	static const char *const specs[] = {"soft:,coherent=no", "soft:,coherent=no,trusted=no",
					    "soft:,coherent=no,copy_below=1",
					    "soft:,coherent=no,unmap=lazy",
					    "soft:,coherent=no,dma_debug=no"};

	(void)state;
	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		open_spec(specs[i]);
		check_sizes(memory);
		check_sizes(pool);
		if (dmaland_register(dev, memory + 5, MOST - 5) == 0) {
			check_sizes(memory + 5);
			assert_int_equal(dmaland_unregister(dev, memory + 5), 0);
		}
		close_quietly();
	}
}

static void a_coherent_machine_has_no_owners(void **state)
{
	static const char *const specs[] = {"soft:", "soft:,coherent=yes", "soft:,trusted=no",
					    "soft:,copy_below=1"};

	(void)state;
	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		open_spec(specs[i]);
		for (size_t size = 1; size < MOST; size *= 3) {
			unsigned char *ptr = size & 2 ? pool : memory;
			dma_addr_t dma = map(ptr, size, DMA_BIDIRECTIONAL);

			sync_cpu(dma, 0, size, DMA_BIDIRECTIONAL);
			check_owners(ptr, dma, size, DMA_BIDIRECTIONAL, 0, 0);
			dma_unmap_single(dev, dma, size, DMA_BIDIRECTIONAL);
		}
		close_quietly();
	}
}

/* ---- lists ---- */

static void a_list_is_handed_over_whole(void **state)
{
	const enum dma_data_direction dir = DMA_FROM_DEVICE;
	struct scatterlist sg[4];
	int n;

	(void)state;
	open_spec("soft:,coherent=no");
	sg_init_table(sg, 4);
	sg_set_buf(&sg[0], memory + 100, 50);
	sg_set_buf(&sg[1], memory + 150, 70); /* behind it: one segment */
	sg_set_buf(&sg[2], memory + PAGE, 2 * PAGE);
	sg_set_buf(&sg[3], pool + 9, 600);
	n = dma_map_sg(dev, sg, 4, dir);
	assert_int_equal(n, 3);
	for (int cpus = 0; cpus < 3; cpus++) {
		for (int i = 0; i < n; i++) {
			dma_addr_t dma = sg_dma_address(&sg[i]);
			size_t size = sg_dma_len(&sg[i]);

			assert_int_equal(touches(dma, size, true), cpus == 1 ? 0 : size);
			assert_int_equal(touches(dma + size - 1, 1, true), cpus != 1);
		}
		if (cpus)
			dma_sync_sg_for_device(dev, sg, 4, dir);
		else
			dma_sync_sg_for_cpu(dev, sg, 4, dir);
	}
	/* One element of it, as a driver that took one frame does. */
	dma_sync_single_for_cpu(dev, sg_dma_address(&sg[1]), 10, dir);
	assert_int_equal(touches(sg_dma_address(&sg[0]), 120, true), 120);
	assert_int_equal(touches(sg_dma_address(&sg[1]), 11, true), 0);
	assert_int_equal(touches(sg_dma_address(&sg[1]) + 10, 1, true), 1);
	dma_unmap_sg(dev, sg, 4, dir);
	close_quietly();
}

/* ---- several mappings of the same memory ---- */

static void mappings_with_addresses_of_their_own_have_owners_of_their_own(void **state)
{
	static const size_t sizes[] = {100, 2 * PAGE};

	(void)state;
	open_spec("soft:,coherent=no");
	for (size_t i = 0; i < 4; i++) {
		unsigned char *ptr = i & 1 ? pool : memory;
		size_t size = sizes[i / 2];
		dma_addr_t a = map(ptr, size, DMA_TO_DEVICE), b = map(ptr, size, DMA_TO_DEVICE);

		assert_true(a != b);
		sync_cpu(a, 10, 20, DMA_TO_DEVICE);
		check_owners(ptr, a, size, DMA_TO_DEVICE, 10, 20);
		check_owners(ptr, b, size, DMA_TO_DEVICE, 0, 0);
		dma_unmap_single(dev, b, size, DMA_TO_DEVICE);
		check_owners(ptr, a, size, DMA_TO_DEVICE, 10, 20);
		dma_unmap_single(dev, a, size, DMA_TO_DEVICE);
	}
	close_quietly();
}

/* Whose a sync is, where registered memory has two at one address, nobody can tell. */
static void bytes_of_two_mappings_at_one_address_are_the_devices(void **state)
{
	const enum dma_data_direction dir = DMA_BIDIRECTIONAL;
	dma_addr_t a, b;

	(void)state;
	open_spec("soft:,coherent=no");
	assert_int_equal(dmaland_register(dev, memory, MOST), 0);
	a = map(memory, 100, dir);
	sync_cpu(a, 40, 80, dir);
	check_owners(memory, a, 100, dir, 40, 80);
	b = map(memory + 60, 100, dir); /* its first 40 bytes are both's */
	assert_true(b == a + 60);
	check_owners(memory, a, 100, dir, 40, 60);
	sync_cpu(a, 0, 100, dir);
	check_owners(memory, a, 100, dir, 0, 60);
	check_owners(memory + 60, b, 100, dir, 0, 0);
	dma_unmap_single(dev, a, 100, dir);
	check_owners(memory + 60, b, 100, dir, 0, 0);
	sync_cpu(b, 0, 100, dir);
	check_owners(memory + 60, b, 100, dir, 0, 100);
	assert_int_equal(touches(a, 60, true), 60); /* registered, and not mapped */
	dma_unmap_single(dev, b, 100, dir);
	assert_int_equal(touches(a, MOST, true), MOST);

	/* They may begin together: the one that stays is named. */
	a = map(memory, 100, dir);
	b = map(memory, 200, dir);
	assert_true(a == b);
	dma_unmap_single(dev, a, 100, dir);
	sync_cpu(b, 50, 200, dir);
	check_owners(memory, b, 200, dir, 50, 200);
	dma_unmap_single(dev, b, 200, dir);
	assert_int_equal(dmaland_unregister(dev, memory), 0);
	close_quietly();
}

/* More than are counted: nothing is found that is not wrong, and it goes on elsewhere. */
static void any_number_of_mappings_may_be_at_one_address(void **state)
{
	const enum dma_data_direction dir = DMA_TO_DEVICE;
	enum { MANY = 300 };
	dma_addr_t dma = 0;

	(void)state;
	open_spec("soft:,coherent=no,dma_debug=no");
	assert_int_equal(dmaland_register(dev, memory, MOST), 0);
	for (int i = 0; i < MANY; i++)
		dma = map(memory + 64, 64, dir);
	for (int i = 0; i < MANY; i++) {
		sync_cpu(dma, 0, 64, dir);
		assert_int_equal(touches(dma, 64, false), 64);
		dma_unmap_single(dev, dma, 64, dir);
	}
	dma = map(memory + 128, 64, dir);
	sync_cpu(dma, 0, 64, dir);
	check_owners(memory + 128, dma, 64, dir, 0, 64);
	dma_unmap_single(dev, dma, 64, dir);
	assert_int_equal(dmaland_unregister(dev, memory), 0);
	close_quietly();
}

/* What was still mapped then is over with it, and not what a fault names later. */
static void what_is_unregistered_takes_its_mappings_along(void **state)
{
	const enum dma_data_direction dir = DMA_FROM_DEVICE;
	dma_addr_t over, dma;

	(void)state;
	open_spec("soft:,coherent=no,dma_debug=no"); /* which reports the mapping */
	assert_int_equal(dmaland_register(dev, memory, MOST), 0);
	over = map(memory, 2 * PAGE, dir);
	assert_int_equal(dmaland_unregister(dev, memory), 0);
	assert_int_equal(dmaland_register(dev, memory, MOST), 0);
	dma = map(memory + PAGE + 64, 100, dir);
	assert_true(dma == over + PAGE + 64);
	sync_cpu(dma, 0, 100, dir);
	check_owners(memory + PAGE + 64, dma, 100, dir, 0, 100);
	dma_unmap_single(dev, dma, 100, dir);
	assert_int_equal(dmaland_unregister(dev, memory), 0);
	close_quietly();
}

/* ---- what has no owner ---- */

static void coherent_memory_is_always_in_reach(void **state)
{
	dma_addr_t handle, dma;
	struct dma_pool *blocks;
	void *block;

	(void)state;
	open_spec(
		"soft:,coherent=no,dma_debug=no"); /* which reports a sync of what is not mapped */
	blocks = dma_pool_create("blocks", dev, 256, 64, 0);
	block = dma_pool_alloc(blocks, GFP_KERNEL, &handle);
	assert_non_null(block);
	sync_cpu(pool_dma, 0, MOST, DMA_BIDIRECTIONAL);
	sync_cpu(handle, 0, 256, DMA_BIDIRECTIONAL);
	assert_int_equal(touches(pool_dma, MOST, true), MOST);
	assert_int_equal(touches(handle, 256, true), 256);

	/* So too by its own address while a mapping of it is the CPU's. */
	dma = map(block, 256, DMA_FROM_DEVICE);
	assert_true(dma != handle);
	sync_cpu(dma, 0, 256, DMA_FROM_DEVICE);
	assert_int_equal(touches(dma, 256, true), 0);
	assert_int_equal(touches(handle, 256, true), 256);
	dma_unmap_single(dev, dma, 256, DMA_FROM_DEVICE);

	/* Which is what it is mapped to when it must not be copied. */
	dma = dma_map_single_attrs(dev, block, 256, DMA_FROM_DEVICE, DMA_ATTR_REQUIRE_COHERENT);
	assert_true(dma == handle);
	sync_cpu(dma, 0, 256, DMA_FROM_DEVICE);
	assert_int_equal(touches(dma, 256, true), 256);
	dma_unmap_single(dev, dma, 256, DMA_FROM_DEVICE);
	dma_pool_free(blocks, block, handle);
	dma_pool_destroy(blocks);
	close_quietly();
}

/* Where nothing may be mapped it is translated; but copied, and so owned, where it is not within a list's limits. */
static void without_system_calls_coherent_memory_stays_coherent(void **state)
{
	const enum dma_data_direction dir = DMA_FROM_DEVICE;
	const dma_addr_t boundary = 2 * PAGE;
	struct scatterlist sg;
	unsigned char *across;
	dma_addr_t dma;

	(void)state;
	open_spec("soft:,coherent=no,no_syscalls=yes");
	for (int i = 0; i < 2; i++) {
		dma = map(pool + 10, 100, dir);
		assert_true(dma == pool_dma + 10);
		sync_cpu(dma, 0, 100, dir);
		assert_int_equal(touches(dma, 100, true), 100);
		dma_unmap_single(dev, dma, 100, dir);
	}
	check_memory(memory + 10, 100, dir);

	assert_int_equal(dma_set_seg_boundary(dev, boundary - 1), 0);
	across = pool + (boundary - pool_dma % boundary) - 500;
	sg_init_one(&sg, across, 1000);
	assert_int_equal(dma_map_sg(dev, &sg, 1, dir), 1);
	dma = sg_dma_address(&sg);
	assert_true(dma - pool_dma >= MOST);
	sync_cpu(dma, 10, 1000, dir);
	check_owners(across, dma, 1000, dir, 10, 1000);
	dma_unmap_sg(dev, &sg, 1, dir);
	close_quietly();
}

/* Its bytes may be bounced through later. */
static void memory_that_was_translated_has_no_owner_afterwards(void **state)
{
	const enum dma_data_direction dir = DMA_FROM_DEVICE;
	enum { HALF = PAGE / 2 };
	static dma_addr_t dmas[1000];
	struct scatterlist sg;
	size_t n = 0;

	(void)state;
	open_spec("soft:,coherent=no,no_syscalls=yes");
	sg_init_one(&sg, pool, MOST);
	assert_int_equal(dma_map_sg(dev, &sg, 1, dir), 1);
	assert_true(sg_dma_address(&sg) == pool_dma);
	dma_unmap_sg(dev, &sg, 1, dir);
	dma_free_coherent(dev, MOST, pool, pool_dma);
	do {
		assert_true(n < sizeof(dmas) / sizeof(dmas[0]));
		dmas[n] = map(memory, HALF, dir);
	} while (dmas[n++] - pool_dma >= MOST);
	sync_cpu(dmas[n - 1], 0, HALF, dir);
	check_owners(memory, dmas[n - 1], HALF, dir, 0, HALF);
	while (n--)
		dma_unmap_single(dev, dmas[n], HALF, dir);
	pool = dma_alloc_coherent(dev, MOST, &pool_dma, GFP_KERNEL);
	assert_non_null(pool);
	close_quietly();
}

/* Its own address is all that there is: otherwise it is refused. */
static void coherence_that_cannot_be_had_is_refused(void **state)
{
	static const char *const specs[] = {"soft:,coherent=no", "soft:,coherent=no,trusted=no"};
	const unsigned long attrs = DMA_ATTR_REQUIRE_COHERENT;

	(void)state;
	for (int i = 0; i < 2; i++) {
		open_spec(specs[i]);
		if (i == 0)
			assert_int_equal(dma_set_mask(dev, DMA_BIT_MASK(32)), 0);
		assert_true(pool_dma > DMA_BIT_MASK(32));
		assert_true(dma_map_single_attrs(dev, pool, 100, DMA_TO_DEVICE, attrs) ==
			    DMA_MAPPING_ERROR);
		assert_error_says("DMA_ATTR_REQUIRE_COHERENT");
		assert_true(dma_map_single_attrs(dev, memory, 100, DMA_TO_DEVICE, attrs) ==
			    DMA_MAPPING_ERROR);
		assert_error_says("DMA_ATTR_REQUIRE_COHERENT");
		close_quietly();
	}
}

/* It waits to be revoked, and the device may touch it until then. */
static void what_ended_lazily_is_nobodys(void **state)
{
	const enum dma_data_direction dir = DMA_FROM_DEVICE;
	dma_addr_t dma;

	(void)state;
	open_spec("soft:,coherent=no,unmap=lazy,lazy_ms=1000000");
	dma = map(memory, PAGE, dir);
	sync_cpu(dma, 0, PAGE, dir);
	assert_int_equal(touches(dma, PAGE, true), 0);
	dma_unmap_single(dev, dma, PAGE, dir);
	assert_int_equal(touches(dma, PAGE, true), PAGE);
	close_quietly();
}

/* The driver has handed it over before, as the attribute says. */
static void what_is_mapped_without_a_sync_is_the_devices(void **state)
{
	dma_addr_t dma;

	(void)state;
	open_spec("soft:,coherent=no");
	dma = dma_map_single_attrs(dev, memory, 100, DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC);
	check_owners(memory, dma, 100, DMA_FROM_DEVICE, 0, 0);
	sync_cpu(dma, 0, 100, DMA_FROM_DEVICE);
	check_owners(memory, dma, 100, DMA_FROM_DEVICE, 0, 100);
	dma_unmap_single_attrs(dev, dma, 100, DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC);
	close_quietly();
}

static void a_sync_that_does_not_match_hands_nothing_over(void **state)
{
	dma_addr_t dma;

	(void)state;
	open_spec("soft:,coherent=no,dma_debug=no");
	assert_int_equal(dmaland_register(dev, memory, 1000), 0);
	dma = map(memory, 100, DMA_TO_DEVICE);
	sync_cpu(dma, 0, 1001, DMA_TO_DEVICE); /* also of bytes that are not registered */
	assert_logged("1001");
	check_owners(memory, dma, 100, DMA_TO_DEVICE, 0, 0);
	dma_unmap_single(dev, dma, 100, DMA_TO_DEVICE);
	assert_int_equal(dmaland_unregister(dev, memory), 0);
	log_clear();
	close_quietly();

	open_spec("soft:,coherent=no");
	dma = map(memory, 100, DMA_TO_DEVICE);
	sync_cpu(dma, 0, 101, DMA_TO_DEVICE);
	sync_cpu(dma, 0, 100, DMA_FROM_DEVICE);
	check_owners(memory, dma, 100, DMA_TO_DEVICE, 0, 0);
	log_clear();
	dma_unmap_single(dev, dma, 100, DMA_TO_DEVICE);
	close_quietly();
}

/* A device of the same address space gets the memory of a mapping that another left behind. */
static void what_a_device_leaves_behind_is_nobodys(void **state)
{
	struct dmaland_options options = {.size = sizeof(options)};
	struct dmaland_device *other;
	dma_addr_t dma;

	(void)state;
	open_spec("soft:,coherent=no");
	options.share_with = dev;
	other = dmaland_open("soft:", &options);
	assert_non_null(other);
	dma = dma_map_single(other, memory, 100, DMA_FROM_DEVICE);
	assert_false(dma_mapping_error(other, dma));
	dma_sync_single_for_cpu(other, dma, 100, DMA_FROM_DEVICE);
	assert_int_equal(touches(dma, 100, true), 0);
	dmaland_close(other);
	assert_logged("mappings=1");
	log_clear();
	if (touches(dma, 100, true) != 100)
		assert_int_equal(fault.reason, DMALAND_SOFT_NOT_MAPPED);
	close_quietly();
}

/* ---- what the program sees of it ---- */

static void a_fault_is_counted_and_says_what_cures_it(void **state)
{
	struct dmaland_soft_fault kept;
	dma_addr_t dma;
	char line[128];
	char *bar;

	(void)state;
	open_spec("soft:,coherent=no");
	assert_int_equal(pci_enable_device(dev), 0);
	assert_int_equal(pci_set_master(dev), 0);
	bar = pci_iomap(dev, 0, 0);
	dma = map(memory, 64, DMA_FROM_DEVICE);
	writeq(dma, bar + DMALAND_SOFT_DESTINATION);
	writel(64, bar + DMALAND_SOFT_LENGTH);
	writel(DMALAND_SOFT_FILL, bar + DMALAND_SOFT_COMMAND);
	assert_int_equal(readl(bar + DMALAND_SOFT_STATUS), DMALAND_SOFT_OK);
	sync_cpu(dma, 60, 64, DMA_FROM_DEVICE);
	assert_string_equal(log_text(), "");
	writel(DMALAND_SOFT_FILL, bar + DMALAND_SOFT_COMMAND);
	assert_int_equal(readl(bar + DMALAND_SOFT_STATUS), DMALAND_SOFT_FAULT);
	assert_int_equal(dmaland_soft_faults(dev, &kept, 1), 1);
	assert_int_equal(kept.reason, DMALAND_SOFT_CPU);
	assert_int_equal(kept.length, 4);
	snprintf(line, sizeof(line), "write of 4 bytes at dma address 0x%llx: it is the CPU's",
		 (unsigned long long)dma + 60);
	assert_logged(line);
	assert_logged("give it back by dma_sync_*_for_device() first");
	snprintf(line, sizeof(line), "a mapping of memory at %p", (void *)memory);
	assert_logged(line);
	log_clear();
	sync_device(dma, 60, 64, DMA_FROM_DEVICE);
	writel(DMALAND_SOFT_FILL, bar + DMALAND_SOFT_COMMAND);
	assert_int_equal(readl(bar + DMALAND_SOFT_STATUS), DMALAND_SOFT_OK);
	dma_unmap_single(dev, dma, 64, DMA_FROM_DEVICE);
	pci_iounmap(dev, bar);
	close_quietly();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_synced_for_the_cpu_is_out_of_reach_to_the_byte),
		cmocka_unit_test(a_coherent_machine_has_no_owners),
		cmocka_unit_test(a_list_is_handed_over_whole),
		cmocka_unit_test(mappings_with_addresses_of_their_own_have_owners_of_their_own),
		cmocka_unit_test(bytes_of_two_mappings_at_one_address_are_the_devices),
		cmocka_unit_test(any_number_of_mappings_may_be_at_one_address),
		cmocka_unit_test(what_is_unregistered_takes_its_mappings_along),
		cmocka_unit_test(coherent_memory_is_always_in_reach),
		cmocka_unit_test(without_system_calls_coherent_memory_stays_coherent),
		cmocka_unit_test(memory_that_was_translated_has_no_owner_afterwards),
		cmocka_unit_test(coherence_that_cannot_be_had_is_refused),
		cmocka_unit_test(what_ended_lazily_is_nobodys),
		cmocka_unit_test(what_is_mapped_without_a_sync_is_the_devices),
		cmocka_unit_test(a_sync_that_does_not_match_hands_nothing_over),
		cmocka_unit_test(what_a_device_leaves_behind_is_nobodys),
		cmocka_unit_test(a_fault_is_counted_and_says_what_cures_it),
	};

	log_capture();
	return cmocka_run_group_tests_name("soft_owners", tests, NULL, NULL);
}
