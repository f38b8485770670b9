/* SPDX-License-Identifier: MIT */
/*
 * engine_tests.c - the engine of soft: does what it is told; and misbehaves where it is told
 */
#include "suite.h"
#include "engine.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>

/* ---- what it can ---- */

static void the_engine_says_who_it_is(void **state)
{
	struct dmaland_info info;
	uint32_t class;

	(void)state;
	dmaland_get_info(fx.e.dev, &info);
	assert_string_equal(info.backend, "soft");
	assert_int_equal(info.vendor_id, DMALAND_SOFT_VENDOR);
	assert_int_equal(info.device_id, DMALAND_SOFT_DEVICE);
	assert_int_equal(pci_read_config_dword(fx.e.dev, 0x08, &class), 0);
	assert_int_equal(class >> 8, DMALAND_SOFT_CLASS);
	assert_int_equal(readl(fx.e.bar + DMALAND_SOFT_ID), DMALAND_SOFT_ID_VALUE);
	assert_memory_equal("soft", &(uint32_t){readl(fx.e.bar + DMALAND_SOFT_ID)}, 4);
	assert_int_equal(readl(fx.e.bar + DMALAND_SOFT_VERSION), 1);
	assert_int_equal(pci_resource_len(fx.e.dev, 0), 4096);
	assert_string_equal(dmaland_name(fx.e.dev), "soft:engine@0");
}

static void registers_answer_at_every_width(void **state)
{
	uint32_t bar, address;

	(void)state;
	writeq(0x1122334455667788, fx.e.bar + DMALAND_SOFT_SOURCE);
	assert_int_equal(readb(fx.e.bar + DMALAND_SOFT_SOURCE + 7), 0x11);
	assert_int_equal(readw(fx.e.bar + DMALAND_SOFT_SOURCE + 2), 0x5566);
	writew(0xaabb, fx.e.bar + DMALAND_SOFT_SOURCE + 4);
	assert_true(readq(fx.e.bar + DMALAND_SOFT_SOURCE) == 0x1122aabb55667788);
	writel(5, fx.e.bar + DMALAND_SOFT_ID);
	writeq(5, fx.e.bar + DMALAND_SOFT_DONE);
	writeq(5, fx.e.bar + 4088);
	assert_int_equal(readl(fx.e.bar + DMALAND_SOFT_ID), DMALAND_SOFT_ID_VALUE);
	assert_true(readq(fx.e.bar + DMALAND_SOFT_DONE) == 0);
	assert_true(readq(fx.e.bar + 4088) == 0);
	assert_int_equal(readl(fx.e.bar + DMALAND_SOFT_STATUS), DMALAND_SOFT_OK);

	/* A BAR's size shows in the bits that stay 0. */
	assert_int_equal(pci_read_config_dword(fx.e.dev, 0x10, &address), 0);
	assert_int_equal(pci_write_config_dword(fx.e.dev, 0x10, UINT32_MAX), 0);
	assert_int_equal(pci_read_config_dword(fx.e.dev, 0x10, &bar), 0);
	assert_int_equal(bar, 0xfffff000);
	assert_int_equal(pci_write_config_dword(fx.e.dev, 0x10, address), 0);

	assert_int_equal(pci_write_config_word(fx.e.dev, PCI_COMMAND, 0), 0);
	assert_int_equal(readl(fx.e.bar), UINT32_MAX);
	assert_int_equal(pci_enable_device(fx.e.dev), 0);
	assert_int_equal(readl(fx.e.bar), DMALAND_SOFT_ID_VALUE);
	assert_int_equal(pci_reset_function(fx.e.dev), 0);
	assert_true(readq(fx.e.bar + DMALAND_SOFT_SOURCE) == 0);
}

static void copies_and_fills_put_every_byte_in_place(void **state)
{
	unsigned char *model = malloc(BUFFER);
	uint64_t seed = 77;

	(void)state;
	assert_non_null(model);
	for (size_t i = 0; i < BUFFER; i++)
		model[i] = fx.buffer[i] = (unsigned char)random_next(&seed);
	for (int i = 0; i < 300; i++) {
		uint32_t length = (uint32_t)random_below(&seed, BUFFER / 4) + 1;
		uint64_t from = random_below(&seed, BUFFER / 2 - length);
		uint64_t to = BUFFER / 2 + random_below(&seed, BUFFER / 2 - length);

		if (i % 3) {
			assert_int_equal(engine_copy(&fx.e, fx.buffer_dma + from,
						     fx.buffer_dma + to, length),
					 DMALAND_SOFT_OK);
			memcpy(model + to, model + from, length);
		} else {
			assert_int_equal(engine_fill(&fx.e, fx.buffer_dma + to, length, (uint8_t)i),
					 DMALAND_SOFT_OK);
			memset(model + to, i & 0xff, length);
		}
		assert_int_equal(readq(fx.e.bar + DMALAND_SOFT_DONE), length);
		if (memcmp(model, fx.buffer, BUFFER))
			fail_msg("command %d changes other bytes than it should", i);
	}
	free(model);
	engine_fault(&fx.e, 0);
}

static void a_list_runs_in_order_and_its_status_is_written_back(void **state)
{
	enum { N = 40 };
	struct dmaland_soft_descriptor *list;
	dma_addr_t dma;

	(void)state;
	list = dma_alloc_coherent(fx.e.dev, N * sizeof(*list), &dma, GFP_KERNEL);
	assert_non_null(list);
	fx.buffer[0] = 1;
	/* Each copies the byte that the one before it has written. */
	for (uint32_t i = 0; i < N; i++)
		list[i] = (struct dmaland_soft_descriptor){
			.source = fx.buffer_dma + i,
			.destination = fx.buffer_dma + i + 1,
			.length = 1,
			.control = DMALAND_SOFT_COPY | (i % 2 ? DMALAND_SOFT_WRITE_BACK : 0)};
	list[30] = (struct dmaland_soft_descriptor){.source = 7,
						    .destination = fx.buffer_dma + 31,
						    .length = 1,
						    .control = DMALAND_SOFT_FILL |
							       DMALAND_SOFT_WRITE_BACK};
	list[35].control |= DMALAND_SOFT_LAST;
	writeq(dma, fx.e.bar + DMALAND_SOFT_DOORBELL);
	assert_int_equal(readl(fx.e.bar + DMALAND_SOFT_STATUS), DMALAND_SOFT_OK);
	assert_int_equal(readq(fx.e.bar + DMALAND_SOFT_DONE), 36);
	assert_true(all_bytes_are(fx.buffer, 31, 1));
	assert_true(all_bytes_are(fx.buffer + 31, 6, 7));
	assert_int_equal(fx.buffer[37], 0);
	for (uint32_t i = 0; i < N; i++)
		assert_int_equal(list[i].status,
				 i < 36 && (i % 2 || i == 30) ? DMALAND_SOFT_ENDED : 0);

	/* One that fails ends the list. */
	list[3].length = 0;
	list[5].status = 0;
	writeq(dma, fx.e.bar + DMALAND_SOFT_DOORBELL);
	assert_int_equal(readl(fx.e.bar + DMALAND_SOFT_STATUS), DMALAND_SOFT_INVALID);
	assert_int_equal(list[3].status, DMALAND_SOFT_ENDED | DMALAND_SOFT_INVALID);
	assert_int_equal(list[5].status, 0);
	assert_int_equal(readq(fx.e.bar + DMALAND_SOFT_DONE), 3);
	assert_true(readq(fx.e.bar + DMALAND_SOFT_DOORBELL) == 0);

	/* A doorbell in two halves rings with the upper one. */
	list[3].length = 1;
	writel((uint32_t)dma, fx.e.bar + DMALAND_SOFT_DOORBELL);
	assert_int_equal(list[5].status, 0);
	writel((uint32_t)(dma >> 32), fx.e.bar + DMALAND_SOFT_DOORBELL + 4);
	assert_int_equal(list[5].status, DMALAND_SOFT_ENDED);
	dma_free_coherent(fx.e.dev, N * sizeof(*list), list, dma);
	engine_fault(&fx.e, 0);
}

static void commands_that_make_no_sense_change_nothing(void **state)
{
	(void)state;
	assert_int_equal(engine_copy(&fx.e, fx.buffer_dma, fx.buffer_dma + 10, 0),
			 DMALAND_SOFT_INVALID);
	writel(1, fx.e.bar + DMALAND_SOFT_LENGTH);
	writel(3, fx.e.bar + DMALAND_SOFT_COMMAND);
	assert_int_equal(readl(fx.e.bar + DMALAND_SOFT_STATUS), DMALAND_SOFT_INVALID);
	assert_true(all_bytes_are(fx.buffer, BUFFER, 0));
	engine_fault(&fx.e, 0);
}

static void without_bus_mastering_nothing_is_done(void **state)
{
	(void)state;
	assert_int_equal(pci_clear_master(fx.e.dev), 0);
	assert_int_equal(engine_fill(&fx.e, fx.buffer_dma, 64, 9), DMALAND_SOFT_NO_MASTER);
	writeq(fx.buffer_dma, fx.e.bar + DMALAND_SOFT_DOORBELL);
	assert_int_equal(readl(fx.e.bar + DMALAND_SOFT_STATUS), DMALAND_SOFT_NO_MASTER);
	assert_true(all_bytes_are(fx.buffer, BUFFER, 0));
	assert_int_equal(pci_set_master(fx.e.dev), 0);
	assert_int_equal(engine_fill(&fx.e, fx.buffer_dma, 64, 9), DMALAND_SOFT_OK);
	assert_true(all_bytes_are(fx.buffer, 64, 9));
	engine_fault(&fx.e, 0);
}

/* ---- misbehaviour ---- */

static void an_overrun_hits_the_rest_of_the_mapping_and_no_more(void **state)
{
	struct dmaland_soft_fault fault;

	(void)state;
	map_page(DOMAIN_WRITE);
	engine_misbehave(&fx.e, DMALAND_SOFT_OVERRUN, 100);
	assert_int_equal(engine_fill(&fx.e, fx.page_dma + 10, 20, 2), DMALAND_SOFT_OK);
	assert_int_equal(readq(fx.e.bar + DMALAND_SOFT_DONE), 20);
	sync_page(false);
	assert_true(all_bytes_are(fx.page, 10, 0x11));
	assert_true(all_bytes_are(fx.page + 10, 20, 2));
	assert_true(all_bytes_are(fx.page + 30, 100, DMALAND_SOFT_GARBAGE));
	assert_true(all_bytes_are(fx.page + 130, 2 * PAGE - 130, 0x11));
	engine_fault(&fx.e, 0);

	/* Below the arena's chunk, which lies above it, is nothing: what is behind a chunk? */
	engine_misbehave(&fx.e, DMALAND_SOFT_OVERRUN, 1 << 30);
	assert_int_equal(engine_fill(&fx.e, fx.page_dma + 2 * PAGE - 8, 8, 2), DMALAND_SOFT_OK);
	fault = engine_fault(&fx.e, 1);
	assert_true(fault.write && fault.address >= fx.page_dma + 2 * PAGE);
	assert_true(fault.reason == DMALAND_SOFT_NOT_MAPPED || fault.reason == DMALAND_SOFT_END);
	engine_misbehave(&fx.e, 0, 0);
	assert_int_equal(engine_fill(&fx.e, fx.page_dma, 8, 2), DMALAND_SOFT_OK);
	engine_fault(&fx.e, 1);
	unmap_page();
}

static void a_source_is_overwritten_only_where_it_may_be_written(void **state)
{
	struct dmaland_soft_fault fault;

	(void)state;
	engine_misbehave(&fx.e, DMALAND_SOFT_WRITE_SOURCE, 0);
	map_page(DOMAIN_READ);
	assert_int_equal(engine_copy(&fx.e, fx.page_dma + 7, fx.buffer_dma, 5000), DMALAND_SOFT_OK);
	fault = engine_fault(&fx.e, 1);
	assert_int_equal(fault.reason, DMALAND_SOFT_DIRECTION);
	assert_true(fault.write && fault.address == fx.page_dma + 7 && fault.length == 5000);
	assert_true(all_bytes_are(fx.page, 2 * PAGE, 0x11));
	unmap_page();
	assert_true(all_bytes_are(fx.buffer, 5000, 0x11));
	assert_int_equal(engine_copy(&fx.e, fx.buffer_dma, fx.buffer_dma + 8192, 5000),
			 DMALAND_SOFT_OK);
	assert_true(all_bytes_are(fx.buffer + 8192, 5000, 0x11));
	assert_true(all_bytes_are(fx.buffer, 5000, DMALAND_SOFT_GARBAGE));
	engine_fault(&fx.e, 1);
}

static void a_late_write_comes_with_the_next_and_is_stopped_after_unmap(void **state)
{
	struct dmaland_soft_fault fault;

	(void)state;
	map_page(DOMAIN_WRITE);
	engine_misbehave(&fx.e, DMALAND_SOFT_LATE, 0);
	assert_int_equal(engine_fill(&fx.e, fx.buffer_dma, 5000, 1), DMALAND_SOFT_OK);
	assert_int_equal(readq(fx.e.bar + DMALAND_SOFT_DONE), 5000);
	assert_true(all_bytes_are(fx.buffer, 4096, 1));
	assert_true(all_bytes_are(fx.buffer + 4096, 904, 0));
	engine_misbehave(&fx.e, 0, 0);
	assert_int_equal(engine_fill(&fx.e, fx.buffer_dma + 8192, 1, 1), DMALAND_SOFT_OK);
	assert_true(all_bytes_are(fx.buffer, 5000, 1));
	assert_int_equal(fx.buffer[5000], 0);

	engine_misbehave(&fx.e, DMALAND_SOFT_LATE, 0);
	assert_int_equal(engine_fill(&fx.e, fx.page_dma + 1, 64, 9), DMALAND_SOFT_OK);
	sync_page(false);
	assert_true(all_bytes_are(fx.page, 2 * PAGE, 0x11));
	domain_unmap(fx.e.domain, fx.page_dma, 2 * PAGE);
	engine_misbehave(&fx.e, 0, 0);
	assert_int_equal(engine_fill(&fx.e, fx.buffer_dma, 1, 2), DMALAND_SOFT_OK);
	fault = engine_fault(&fx.e, 1);
	assert_int_equal(fault.reason, DMALAND_SOFT_NOT_MAPPED);
	assert_true(fault.write && fault.address == fx.page_dma + 1 && fault.length == 64);
	assert_true(fault.unmapped && fault.first == fx.page_dma);
	assert_true(all_bytes_are(fx.page, 2 * PAGE, 0x11));
	pages_free(fx.page, 2);

	/* A reset forgets it. */
	engine_misbehave(&fx.e, DMALAND_SOFT_LATE, 0);
	assert_int_equal(engine_fill(&fx.e, fx.buffer_dma + 100, 1, 77), DMALAND_SOFT_OK);
	assert_int_equal(pci_reset_function(fx.e.dev), 0);
	assert_int_equal(engine_fill(&fx.e, fx.buffer_dma + 9000, 1, 1), DMALAND_SOFT_OK);
	assert_int_equal(fx.buffer[100], 1);
}

static void random_writes_change_data_and_no_bookkeeping(void **state)
{
	enum { N = 500 };
	struct dma_pool *pool = dma_pool_create("victims", fx.e.dev, 64, 0, 0);
	static void *block[N];
	static dma_addr_t handle[N];
	struct dmaland_pool_stats stats;
	char *to_device = pages_new(16);
	dma_addr_t to_device_dma = domain_map(fx.e.domain, to_device, 16 * PAGE, DOMAIN_READ);
	size_t hit = 0, faults;

	(void)state;
	memset(to_device, 0x5a, 16 * PAGE);
	assert_non_null(pool);
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < N; i++)
			assert_non_null(block[i] = dma_pool_zalloc(pool, GFP_KERNEL, &handle[i]));
		engine_misbehave(&fx.e, DMALAND_SOFT_RANDOM, 200);
		assert_int_equal(engine_fill(&fx.e, fx.buffer_dma, 1, 0), DMALAND_SOFT_OK);
		for (int i = 0; i < N; i++) {
			hit += !all_bytes_are(block[i], 64, 0);
			dma_pool_free(pool, block[i], handle[i]);
		}
	}
	stats = pool_stats(fx.e.dev, "victims");
	assert_int_equal(stats.in_use, 0);
	assert_int_equal(stats.bad_frees, 0);
	dma_pool_destroy(pool);
	assert_true(hit > 20);
	assert_true(all_bytes_are(to_device, 16 * PAGE, 0x5a));
	faults = dmaland_soft_faults(fx.e.dev, NULL, 0);
	assert_true(faults > 100);
	assert_null(strstr(log_text(), "dma_pool"));
	domain_unmap(fx.e.domain, to_device_dma, 16 * PAGE);
	pages_free(to_device, 16);
}

static void a_device_that_vanishes_reads_all_ones_and_is_closed_in_order(void **state)
{
	struct engine gone;
	dma_addr_t handle;
	uint16_t word;
	unsigned char *memory;

	(void)state;
	engine_open(&gone, device_spec, NULL);
	memory = dma_alloc_coherent(gone.dev, PAGE, &handle, GFP_KERNEL);
	assert_non_null(memory);
	engine_misbehave(&gone, DMALAND_SOFT_VANISH, 0);
	assert_int_equal(readl(gone.bar), UINT32_MAX);
	assert_true(readq(gone.bar + 8) == UINT64_MAX);
	assert_int_equal(engine_fill(&gone, handle, 1, 5), UINT32_MAX);
	assert_int_equal(memory[0], 0);
	assert_false(pci_device_is_present(gone.dev));
	assert_int_equal(pci_read_config_word(gone.dev, 0, &word), -ENODEV);
	assert_int_equal(word, 0xffff);
	assert_error_says("gone");
	assert_int_equal(pci_set_master(gone.dev), -ENODEV);
	assert_int_equal(pci_reset_function(gone.dev), -ENODEV);
	dma_free_coherent(gone.dev, PAGE, memory, handle);
	engine_close(&gone);
	assert_string_equal(log_text(), "");
}

int run_engine_tests(void)
{
	const struct CMUnitTest tests[] = {
		engine_test(the_engine_says_who_it_is),
		engine_test(registers_answer_at_every_width),
		engine_test(copies_and_fills_put_every_byte_in_place),
		engine_test(a_list_runs_in_order_and_its_status_is_written_back),
		engine_test(commands_that_make_no_sense_change_nothing),
		engine_test(without_bus_mastering_nothing_is_done),
		engine_test(an_overrun_hits_the_rest_of_the_mapping_and_no_more),
		engine_test(a_source_is_overwritten_only_where_it_may_be_written),
		engine_test(a_late_write_comes_with_the_next_and_is_stopped_after_unmap),
		engine_test(random_writes_change_data_and_no_bookkeeping),
		engine_test(a_device_that_vanishes_reads_all_ones_and_is_closed_in_order),
	};

	return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
