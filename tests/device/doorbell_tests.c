/* SPDX-License-Identifier: MIT */
/*
 * doorbell_tests.c - how often the drive's registers are accessed
 *
 * Each access that the backend carries to the device is counted on its way.
 */
#include "suite.h"
#include "device/device.h"
#include "nvme_internal.h"
#include "ring.h"

#include <sched.h>
#include <stdlib.h>

enum { DEPTH = 32, ROUNDS = 20, BYTES = 4096 };

static const struct pci_function_ops *real;
static unsigned int accesses;

static uint64_t counted_read(struct pci_function *f, unsigned int bar, uint64_t offset,
			     unsigned int width)
{
	accesses++;
	return real->read(f, bar, offset, width);
}

static void counted_write(struct pci_function *f, unsigned int bar, uint64_t offset,
			  unsigned int width, uint64_t value)
{
	accesses++;
	real->write(f, bar, offset, width, value);
}

static unsigned int done_count;

static void on_done(struct dmaland_nvme_request *request, int status)
{
	(void)request;
	assert_int_equal(status, 0);
	done_count++;
}

/* All of a batch are complete: so many entries of the ring have the phase of this time round. */
static bool all_complete(const struct dmaland_nvme_queue *queue)
{
	const struct nvme_completion *entry = queue->cq_next;
	uint16_t phase = queue->phase;

	for (unsigned int i = 0; i < DEPTH; i++) {
		if ((le16toh(READ_ONCE(entry->status)) & 1) != phase)
			return false;
		if (++entry == queue->cq_end) {
			entry = queue->cq;
			phase ^= 1;
		}
	}
	return true;
}

static void shadow_doorbells_cost_a_sixteenth_of_an_access_a_request(void **state)
{
	struct dmaland_nvme_request requests[DEPTH], *list[DEPTH];
	struct iovec segments[DEPTH];
	struct pci_function_ops counting;
	struct drive d;
	char *memory = aligned_alloc(4096, (size_t)DEPTH * BYTES);
	unsigned int most = 0;

	(void)state;
	assert_non_null(memory);
	drive_open(&d, device_spec, 0);
	real = d.dev->function->ops;
	if (!d.info.shadow_doorbells || !real->write) {
		printf("skipped: the drive has no shadow doorbells, or its registers are mapped\n");
		drive_close(&d);
		free(memory);
		skip();
	}
	counting = *real;
	counting.read = counted_read;
	counting.write = counted_write;
	d.dev->function->ops = &counting;
	for (unsigned int round = 0; round < ROUNDS; round++) {
		accesses = done_count = 0;
		for (unsigned int i = 0; i < DEPTH; i++) {
			list[i] = &requests[i];
			segments[i] = (struct iovec){memory + (size_t)i * BYTES, BYTES};
			requests[i] = (struct dmaland_nvme_request){
				.opcode = round % 2 ? DMALAND_NVME_READ : DMALAND_NVME_WRITE,
				.nsid = 1,
				.block = i * BYTES / d.ns.block_size,
				.blocks = BYTES / d.ns.block_size,
				.iov = &segments[i],
				.iov_count = 1,
				.done = on_done,
			};
			memset(segments[i].iov_base, round % 2 ? 0 : (int)(round + i), BYTES);
		}
		assert_int_equal(dmaland_nvme_submit_bulk(d.queue, list, DEPTH), DEPTH);
		while (!all_complete(d.queue))
			sched_yield();
		while (done_count < DEPTH)
			dmaland_nvme_poll(d.queue);
		if (accesses > most)
			most = accesses;
		for (size_t i = 0; round % 2 && i < (size_t)DEPTH * BYTES; i++)
			assert_int_equal((unsigned char)memory[i],
					 (unsigned char)(round - 1 + i / BYTES));
	}
	d.dev->function->ops = real;
	assert_in_range(most, 0, DEPTH / 16);
	drive_close(&d);
	free(memory);
}

int run_doorbell_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shadow_doorbells_cost_a_sixteenth_of_an_access_a_request),
	};

	return cmocka_run_group_tests_name("doorbells", tests, NULL, NULL);
}
