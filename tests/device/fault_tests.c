/* SPDX-License-Identifier: MIT */
/*
 * fault_tests.c - what the engine of soft: may not do does not happen, and is told with its owner
 */
#include "suite.h"
#include "engine.h"

#include <errno.h>
#include <sys/mman.h>

static void an_address_that_was_never_mapped_is_nobodys(void **state)
{
	const dma_addr_t addresses[] = {0, 0x5000, 0xfee00000, UINT64_C(1) << 45, UINT64_MAX - 9};
	struct dmaland_soft_fault fault;
	size_t n = sizeof(addresses) / sizeof(addresses[0]);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(engine_copy(&fx.e, addresses[i], fx.buffer_dma, 5000),
				 DMALAND_SOFT_FAULT);
		fault = engine_fault(&fx.e, i + 1);
		assert_true(fault.address == addresses[i]);
		assert_int_equal(fault.length, 5000);
		assert_false(fault.write);
		assert_int_equal(fault.reason, DMALAND_SOFT_NOT_MAPPED);
		assert_int_equal(fault.kind, DMALAND_SOFT_NOBODY);
		assert_int_equal(readq(fx.e.bar + DMALAND_SOFT_DONE), 0);
	}
	assert_logged("soft:engine@0: DMA fault: read of 5000 bytes at dma address 0xfee00000: "
		      "nothing is mapped there (never mapped, or long ago)");
	assert_true(all_bytes_are(fx.buffer, BUFFER, 0));
}

static void what_was_unmapped_is_told_with_its_last_owner(void **state)
{
	struct dmaland_soft_fault fault;
	dma_addr_t was;
	char *lay;

	(void)state;
	map_page(DOMAIN_WRITE);
	lay = fx.page;
	was = fx.page_dma;
	assert_int_equal(engine_fill(&fx.e, was + 100, 8, 3), DMALAND_SOFT_OK);
	unmap_page();
	assert_int_equal(engine_fill(&fx.e, was + 100, 8, 3), DMALAND_SOFT_FAULT);
	fault = engine_fault(&fx.e, 1);
	assert_true(fault.address == was + 100);
	assert_int_equal(fault.length, 8);
	assert_true(fault.write);
	assert_int_equal(fault.reason, DMALAND_SOFT_NOT_MAPPED);
	assert_int_equal(fault.kind, DMALAND_SOFT_MAPPING);
	assert_true(fault.first == was);
	assert_int_equal(fault.size, 2 * PAGE);
	assert_ptr_equal(fault.memory, lay);
	assert_true(fault.unmapped && fault.writable && !fault.readable);
	assert_logged("unmapped by now: ");
	assert_logged("a mapping of memory at ");
	assert_logged("writable, not readable)");

	/* The arena's chunks too; and of several owners the last. */
	was = fx.buffer_dma;
	dma_free_coherent(fx.e.dev, BUFFER, fx.buffer, fx.buffer_dma);
	fx.buffer = dma_alloc_coherent(fx.e.dev, 40 << 20, &fx.buffer_dma, GFP_KERNEL);
	assert_non_null(fx.buffer);
	was = fx.buffer_dma;
	dma_free_coherent(fx.e.dev, 40 << 20, fx.buffer, fx.buffer_dma);
	fx.buffer = dma_alloc_coherent(fx.e.dev, BUFFER, &fx.buffer_dma, GFP_KERNEL);
	assert_int_equal(engine_fill(&fx.e, was, 8, 3), DMALAND_SOFT_FAULT);
	fault = engine_fault(&fx.e, 2);
	assert_int_equal(fault.kind, DMALAND_SOFT_ARENA);
	assert_true(fault.first == was && fault.unmapped && fault.readable && fault.writable);
	assert_true(fault.size >= 40 << 20);
}

static void directions_are_permissions(void **state)
{
	struct dmaland_soft_fault fault;

	(void)state;
	map_page(DOMAIN_READ);
	assert_int_equal(engine_copy(&fx.e, fx.page_dma, fx.buffer_dma, 2 * PAGE), DMALAND_SOFT_OK);
	assert_true(all_bytes_are(fx.buffer, 2 * PAGE, 0x11));
	assert_int_equal(engine_fill(&fx.e, fx.page_dma + 5, 10, 0), DMALAND_SOFT_FAULT);
	fault = engine_fault(&fx.e, 1);
	assert_true(fault.address == fx.page_dma + 5 && fault.length == 10 && fault.write);
	assert_int_equal(fault.reason, DMALAND_SOFT_DIRECTION);
	assert_int_equal(fault.kind, DMALAND_SOFT_MAPPING);
	assert_true(fault.readable && !fault.writable && !fault.unmapped);
	sync_page(false);
	assert_true(all_bytes_are(fx.page, 2 * PAGE, 0x11));
	assert_logged("it is not mapped for that");
	unmap_page();

	map_page(DOMAIN_WRITE);
	assert_int_equal(engine_copy(&fx.e, fx.page_dma, fx.buffer_dma, 10), DMALAND_SOFT_FAULT);
	fault = engine_fault(&fx.e, 2);
	assert_true(!fault.readable && fault.writable && !fault.write);
	assert_int_equal(fault.reason, DMALAND_SOFT_DIRECTION);
	assert_int_equal(engine_fill(&fx.e, fx.page_dma, 10, 0), DMALAND_SOFT_OK);
	unmap_page();
}

static void an_access_over_the_end_stops_there_and_names_whose_end(void **state)
{
	struct dmaland_soft_fault fault;

	(void)state;
	map_page(BOTH_WAYS);
	/* An empty place on both sides. */
	domain_unmap(fx.e.domain, fx.page_dma, 2 * PAGE);
	fx.page_dma = domain_take(fx.e.domain, 4 * PAGE) + PAGE;
	assert_int_equal(
		fx.e.domain->ops->map(fx.e.domain, fx.page_dma, fx.page, 2 * PAGE, BOTH_WAYS), 0);
	sync_page(true);
	assert_int_equal(engine_fill(&fx.e, fx.page_dma + 2 * PAGE - 10, 5000, 0x22),
			 DMALAND_SOFT_FAULT);
	fault = engine_fault(&fx.e, 1);
	assert_int_equal(fault.reason, DMALAND_SOFT_END);
	assert_true(fault.address == fx.page_dma + 2 * PAGE);
	assert_int_equal(fault.length, 4990);
	assert_int_equal(fault.kind, DMALAND_SOFT_MAPPING);
	assert_true(fault.first == fx.page_dma && fault.size == 2 * PAGE && !fault.unmapped);
	sync_page(false);
	assert_true(all_bytes_are(fx.page, 2 * PAGE - 10, 0x11));
	assert_true(all_bytes_are(fx.page + 2 * PAGE - 10, 10, 0x22));
	/* Exactly up to the end, and exactly from it. */
	assert_int_equal(engine_fill(&fx.e, fx.page_dma, 2 * PAGE, 0x33), DMALAND_SOFT_OK);
	assert_int_equal(engine_fill(&fx.e, fx.page_dma + 2 * PAGE, 1, 0x33), DMALAND_SOFT_FAULT);
	assert_int_equal(engine_fault(&fx.e, 2).reason, DMALAND_SOFT_NOT_MAPPED);
	/* One that begins before the mapping does not reach it. */
	assert_int_equal(engine_fill(&fx.e, fx.page_dma - 1, 2, 0x44), DMALAND_SOFT_FAULT);
	assert_int_equal(engine_fault(&fx.e, 3).reason, DMALAND_SOFT_NOT_MAPPED);
	sync_page(false);
	assert_true(all_bytes_are(fx.page, 2 * PAGE, 0x33));
	assert_int_equal(fx.e.domain->ops->unmap(fx.e.domain, fx.page_dma, 2 * PAGE, 1), 0);
	domain_give(fx.e.domain, fx.page_dma - PAGE, 4 * PAGE);
	pages_free(fx.page, 2);
}

static void neighbours_are_one_to_the_device_as_far_as_their_directions_go(void **state)
{
	dma_addr_t dma = domain_take(fx.e.domain, 3 * PAGE);
	char *memory = pages_new(3);
	struct dmaland_soft_fault fault;

	(void)state;
	/* The other way round for the CPU. */
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(fx.e.domain->ops->map(fx.e.domain, dma + i * PAGE,
						       memory + (2 - i) * PAGE, PAGE,
						       i < 2 ? BOTH_WAYS : DOMAIN_READ),
				 0);
	assert_int_equal(engine_fill(&fx.e, dma + PAGE - 10, 20, 5), DMALAND_SOFT_OK);
	assert_true(all_bytes_are(memory + 3 * PAGE - 10, 10, 5));
	assert_true(all_bytes_are(memory + PAGE, 10, 5));
	assert_int_equal(engine_fill(&fx.e, dma + 100, 3 * PAGE - 100, 6), DMALAND_SOFT_FAULT);
	fault = engine_fault(&fx.e, 1);
	assert_int_equal(fault.reason, DMALAND_SOFT_DIRECTION);
	assert_true(fault.address == dma + 2 * PAGE && fault.first == dma + 2 * PAGE);
	assert_int_equal(fault.length, PAGE);
	assert_true(all_bytes_are(memory, PAGE, 0));
	assert_true(all_bytes_are(memory + PAGE, PAGE, 6));
	assert_int_equal(fx.e.domain->ops->unmap(fx.e.domain, dma, 3 * PAGE, 3), 0);
	domain_give(fx.e.domain, dma, 3 * PAGE);
	pages_free(memory, 3);
}

static void memory_that_the_application_takes_away_is_a_fault_and_no_signal(void **state)
{
	struct dmaland_soft_fault fault;

	(void)state;
	map_page(BOTH_WAYS);
	assert_int_equal(mprotect(fx.page + PAGE, PAGE, PROT_READ), 0);
	assert_int_equal(engine_fill(&fx.e, fx.page_dma, 2 * PAGE, 1), DMALAND_SOFT_FAULT);
	fault = engine_fault(&fx.e, 1);
	assert_int_equal(fault.reason, DMALAND_SOFT_GONE);
	assert_true(fault.address == fx.page_dma + PAGE);
	assert_int_equal(fault.length, PAGE);
	assert_true(all_bytes_are(fx.page + PAGE, PAGE, 0x11));
	pages_free(fx.page, 2);
	assert_int_equal(engine_copy(&fx.e, fx.page_dma, fx.buffer_dma, 10), DMALAND_SOFT_FAULT);
	fault = engine_fault(&fx.e, 2);
	assert_int_equal(fault.reason, DMALAND_SOFT_GONE);
	assert_true(fault.address == fx.page_dma && !fault.write && !fault.unmapped);
	assert_logged("it is mapped, but the memory is gone");
	domain_unmap(fx.e.domain, fx.page_dma, 2 * PAGE);
}

static void lists_are_read_and_written_by_dma_too(void **state)
{
	struct dmaland_soft_descriptor d = {.source = 1,
					    .destination = fx.buffer_dma,
					    .length = 4,
					    .control = DMALAND_SOFT_FILL | DMALAND_SOFT_WRITE_BACK};
	struct dmaland_soft_fault fault;
	dma_addr_t last;

	(void)state;
	map_page(DOMAIN_READ);
	memcpy(fx.page, &d, sizeof(d));
	last = fx.page_dma + 2 * PAGE - sizeof(d);
	sync_page(true);
	/* The status can't be written back. */
	writeq(fx.page_dma, fx.e.bar + DMALAND_SOFT_DOORBELL);
	assert_int_equal(readl(fx.e.bar + DMALAND_SOFT_STATUS), DMALAND_SOFT_FAULT);
	fault = engine_fault(&fx.e, 1);
	assert_int_equal(fault.reason, DMALAND_SOFT_DIRECTION);
	assert_true(fault.address ==
		    fx.page_dma + offsetof(struct dmaland_soft_descriptor, status));
	assert_true(all_bytes_are(fx.buffer, 4, 1));
	unmap_page();

	/* The list has no end. */
	map_page(DOMAIN_READ);
	last = fx.page_dma + 2 * PAGE - sizeof(d);
	d.control = DMALAND_SOFT_FILL;
	memcpy(fx.page + 2 * PAGE - sizeof(d), &d, sizeof(d));
	sync_page(true);
	dma_free_coherent(fx.e.dev, BUFFER, fx.buffer, fx.buffer_dma);
	writeq(last, fx.e.bar + DMALAND_SOFT_DOORBELL);
	assert_int_equal(readl(fx.e.bar + DMALAND_SOFT_STATUS), DMALAND_SOFT_FAULT);
	fx.buffer = dma_alloc_coherent(fx.e.dev, BUFFER, &fx.buffer_dma, GFP_KERNEL);
	unmap_page();
	writeq(last, fx.e.bar + DMALAND_SOFT_DOORBELL);
	fault = engine_fault(&fx.e, 3);
	assert_int_equal(fault.reason, DMALAND_SOFT_NOT_MAPPED);
	assert_int_equal(fault.length, sizeof(d));
}

static void all_faults_are_counted_256_kept_and_16_shown(void **state)
{
	static struct dmaland_soft_fault faults[300];
	size_t lines = 0;

	(void)state;
	for (uint32_t i = 0; i < 300; i++)
		engine_fill(&fx.e, 0x1000 + i, 1, 0);
	assert_int_equal(dmaland_soft_faults(fx.e.dev, NULL, 0), 300);
	assert_int_equal(dmaland_soft_faults(fx.e.dev, faults, 300), 300);
	for (size_t i = 0; i < 256; i++)
		assert_true(faults[i].address == 0x1000 + 44 + i);
	assert_int_equal(faults[256].reason, 0);
	assert_int_equal(dmaland_soft_faults(fx.e.dev, faults, 2), 300);
	assert_true(faults[0].address == 0x1000 + 298 && faults[1].address == 0x1000 + 299);
	for (const char *at = log_text(); (at = strstr(at, "DMA fault")); at++)
		lines++;
	assert_int_equal(lines, 16);
	assert_non_null(strstr(strstr(log_text(), "0x100f"), "further faults are counted"));
	assert_int_equal(pci_reset_function(fx.e.dev), 0);
	engine_fault(&fx.e, 300);
	assert_int_equal(dmaland_soft_faults(NULL, NULL, 0), 0);
	assert_int_equal(errno, EINVAL);
}

int run_fault_tests(void)
{
	const struct CMUnitTest tests[] = {
		engine_test(an_address_that_was_never_mapped_is_nobodys),
		engine_test(what_was_unmapped_is_told_with_its_last_owner),
		engine_test(directions_are_permissions),
		engine_test(an_access_over_the_end_stops_there_and_names_whose_end),
		engine_test(lists_are_read_and_written_by_dma_too),
		engine_test(all_faults_are_counted_256_kept_and_16_shown),
	};
	/* The device has no copies here, whatever the suite's spec says. */
	const struct CMUnitTest coherent[] = {
		coherent_engine_test(
			neighbours_are_one_to_the_device_as_far_as_their_directions_go),
		coherent_engine_test(
			memory_that_the_application_takes_away_is_a_fault_and_no_signal),
	};
	int failed = cmocka_run_group_tests_name("faults", tests, NULL, NULL);

	return failed + cmocka_run_group_tests_name("faults, coherent", coherent, NULL, NULL);
}
