/* SPDX-License-Identifier: MIT */
#include "load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE  ((size_t)4096)
#define PIECE ((size_t)65536) /* of the drive, for each slot */

/* Small ones are copied, where the others are mapped. */
static size_t slot_bytes(unsigned int number)
{
	return number % 2 ? PIECE : PAGE;
}

/* Where on the drive a slot's piece is, counted in pieces. */
static unsigned int place(const struct load_record *record, unsigned int number)
{
	return record->part * LOAD_SLOTS + number;
}

static uint64_t word(unsigned int number, size_t page, uint32_t generation, size_t i)
{
	return (uint64_t)generation << 32 | number << 24 | page << 16 | i;
}

static void page_write(char *data, unsigned int number, size_t page, uint32_t generation)
{
	uint64_t *words = (uint64_t *)data;

	for (size_t i = 0; i < PAGE / sizeof(*words); i++)
		words[i] = word(number, page, generation, i);
}

/* Does the page hold one generation as a whole, from first to last? */
static bool page_is(const char *data, unsigned int number, size_t page, uint32_t first,
		    uint32_t last)
{
	const uint64_t *words = (const uint64_t *)data;
	uint32_t generation = words[0] >> 32;

	if (generation < first || generation > last)
		return false;
	for (size_t i = 0; i < PAGE / sizeof(*words); i++)
		if (words[i] != word(number, page, generation, i))
			return false;
	return true;
}

static bool slot_is(const char *data, unsigned int number, const struct load_record *record)
{
	for (size_t at = 0; at < slot_bytes(number); at += PAGE)
		if (!page_is(data + at, place(record, number), at / PAGE, record->answered[number],
			     record->begun[number]))
			return false;
	return true;
}

static int slot_submit(struct load_slot *slot)
{
	struct load *load = slot->load;
	size_t bytes = slot_bytes(slot->number);
	char *data = load->memory + slot->number * PIECE;
	int code;

	if (slot->reading) {
		memset(data, 0xa5, bytes);
	} else {
		uint32_t generation = ++load->record->begun[slot->number];

		for (size_t at = 0; at < bytes; at += PAGE)
			page_write(data + at, place(load->record, slot->number), at / PAGE,
				   generation);
	}
	slot->request.opcode = slot->reading ? DMALAND_NVME_READ : DMALAND_NVME_WRITE;
	slot->under_way = true;
	load->under_way++;
	code = dmaland_nvme_submit(load->queue, &slot->request);
	if (code != 0) {
		slot->under_way = false;
		load->under_way--;
	}
	return code;
}

static void slot_done(struct dmaland_nvme_request *request, int status)
{
	struct load_slot *slot = request->context;
	struct load *load = slot->load;

	if (!slot->under_way)
		load->wrong = "a request was answered twice";
	slot->under_way = false;
	load->under_way--;
	load->answers++;
	if (status == 0 && slot->reading &&
	    !slot_is(load->memory + slot->number * PIECE, slot->number, load->record))
		load->wrong = "what was read is not what was written";
	if (status == 0 && !slot->reading)
		load->record->answered[slot->number] = load->record->begun[slot->number];
	slot->reading = !slot->reading;
	if (status == 0 && !load->ending && !load->wrong)
		status = slot_submit(slot);
	if (load->status == 0)
		load->status = status;
}

int load_begin(struct load *load, struct dmaland_nvme *ctrl, struct dmaland_nvme_queue *queue,
	       struct load_record *record)
{
	struct dmaland_nvme_namespace ns;
	int code = dmaland_nvme_get_namespace(ctrl, 1, &ns);

	*load = (struct load){.queue = queue, .record = record, .block_size = ns.block_size};
	if (code == 0) {
		load->memory = aligned_alloc(PIECE, LOAD_SLOTS * PIECE);
		code = load->memory ? 0 : -ENOMEM;
	}
	for (unsigned int i = 0; i < LOAD_SLOTS && code == 0; i++) {
		struct load_slot *slot = &load->slots[i];

		slot->load = load;
		slot->number = i;
		slot->segment.iov_base = load->memory + i * PIECE;
		slot->segment.iov_len = slot_bytes(i);
		slot->request.nsid = 1;
		slot->request.block = place(record, i) * PIECE / ns.block_size;
		slot->request.blocks = slot_bytes(i) / ns.block_size;
		slot->request.iov = &slot->segment;
		slot->request.iov_count = 1;
		slot->request.done = slot_done;
		slot->request.context = slot;
		code = slot_submit(slot);
	}
	return code;
}

const char *load_verify(struct dmaland_nvme *ctrl, struct dmaland_nvme_queue *queue,
			const struct load_record *record)
{
	struct dmaland_nvme_namespace ns;
	const char *wrong = NULL;
	char *data;

	if (dmaland_nvme_get_namespace(ctrl, 1, &ns) != 0)
		return dmaland_last_error();
	data = aligned_alloc(PIECE, PIECE);
	for (unsigned int i = 0; data && i < LOAD_SLOTS && !wrong; i++) {
		if (record->answered[i] == 0)
			continue;
		if (dmaland_nvme_read(queue, 1, place(record, i) * PIECE / ns.block_size,
				      slot_bytes(i) / ns.block_size, data) != 0)
			wrong = dmaland_last_error();
		else if (!slot_is(data, i, record))
			wrong = "the drive has lost what it said it had written";
	}
	free(data);
	return data ? wrong : "no memory";
}

void load_free(struct load *load)
{
	free(load->memory);
}
