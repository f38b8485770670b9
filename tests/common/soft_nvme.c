/* SPDX-License-Identifier: MIT */
/*
 * soft_nvme.c - the drive in software: its rings, registers and the function on the bus
 */
#include "soft_nvme_parts.h"

#include <stdlib.h>

#include "device/device.h"

#define BAR_SIZE 8192

static struct soft_nvme *to_drive(struct pci_function *f)
{
	return (struct soft_nvme *)f;
}

/* ---- completions ---- */

void soft_nvme_complete_as(struct soft_nvme *drive, uint16_t qid, uint16_t sq_id, uint16_t cid,
			   uint32_t dw0, int status)
{
	struct soft_nvme_queue *queue = &drive->queues[qid];
	struct nvme_completion completion = {
		.dw0 = htole32(dw0),
		.sq = htole32((uint32_t)sq_id << 16 | (queue->sq_head & 0xffff)),
		.cid = htole16(cid),
		.status = htole16((uint16_t)(status << 1 | (int)queue->phase)),
	};

	soft_nvme_access(drive, queue->cq + queue->cq_tail * sizeof(completion), &completion,
			 sizeof(completion), true);
	if (++queue->cq_tail == queue->cq_size) {
		queue->cq_tail = 0;
		queue->phase ^= 1;
	}
}

void soft_nvme_complete(struct soft_nvme *drive, uint16_t qid, const struct nvme_command *command,
			uint32_t dw0, int status)
{
	soft_nvme_complete_as(drive, qid, qid, le16toh(command->cid), dw0, status);
}

/* ---- I/O ---- */

/* Completions of nobody: of slots that were never used, of another time, of another queue, of no slot, with a head that is none. */
static void forge(struct soft_nvme *drive, uint16_t qid, uint16_t cid)
{
	soft_nvme_complete_as(drive, qid, qid, 31, 0, 0x281 | SOFT_NVME_DNR);
	soft_nvme_complete_as(drive, qid, qid, cid ^ 0x8000, 0, 0x281 | SOFT_NVME_DNR);
	soft_nvme_complete_as(drive, qid, qid + 1, cid, 0, 0x281 | SOFT_NVME_DNR);
	soft_nvme_complete_as(drive, qid, qid, 0xffff, 0, 0x281);
	drive->queues[qid].sq_head += 0x4000;
	soft_nvme_complete_as(drive, qid, qid, cid, 0, 0x281 | SOFT_NVME_DNR);
	drive->queues[qid].sq_head -= 0x4000;
}

static void io(struct soft_nvme *drive, uint16_t qid, const struct nvme_command *command)
{
	int verdict = drive->verdict ? drive->verdict(drive, command) : SOFT_NVME_CARRY_OUT;

	drive->commands++;
	if (verdict == SOFT_NVME_HOLD) {
		assert_true(drive->held_count < SOFT_NVME_HELD);
		drive->held[drive->held_count].qid = qid;
		drive->held[drive->held_count++].command = *command;
		return;
	}
	if (verdict > 0) {
		drive->error_qid = qid;
		drive->error_cid = le16toh(command->cid);
		for (int i = 0; i <= !!(verdict & SOFT_NVME_AGAIN); i++)
			soft_nvme_complete(drive, qid, command, 0, verdict & (SOFT_NVME_AGAIN - 1));
		return;
	}
	if (verdict == SOFT_NVME_FORGED)
		forge(drive, qid, le16toh(command->cid));
	if (verdict == SOFT_NVME_REPLAY)
		soft_nvme_complete_as(drive, qid, qid, drive->last_cid, 0, 0x281 | SOFT_NVME_DNR);
	drive->last_cid = le16toh(command->cid);
	soft_nvme_complete(drive, qid, command, drive->answer_dw0,
			   verdict == SOFT_NVME_NOTHING ? 0 : soft_nvme_carry_out(drive, command));
	if (verdict == SOFT_NVME_TWICE)
		soft_nvme_complete(drive, qid, command, 0, 0);
}

/* ---- registers ---- */

static void enable(struct soft_nvme *drive)
{
	struct soft_nvme_queue *queue = &drive->queues[0];

	drive->enables++;
	if (drive->never_ready)
		return;
	*queue = (struct soft_nvme_queue){
		.sq_made = true,
		.cq_made = true,
		.sq = drive->asq,
		.cq = drive->acq,
		.sq_size = (drive->aqa & 0xfff) + 1,
		.cq_size = (drive->aqa >> 16 & 0xfff) + 1,
		.phase = 1,
	};
	drive->csts = drive->fatal_when_ready ? NVME_CSTS_CFS : NVME_CSTS_RDY;
}

static void disable(struct soft_nvme *drive)
{
	soft_nvme_end_held(drive, 0, -1, -1);
	drive->report_count = 0;
	drive->shadows = drive->events = 0;
	memset(drive->queues, 0, sizeof(drive->queues));
	atomic_store(&drive->formatting, false);
	drive->csts = 0;
}

static void control(struct soft_nvme *drive, uint32_t cc)
{
	uint32_t before = drive->cc;

	drive->cc = cc;
	if (cc & ~before & NVME_CC_EN) {
		enable(drive);
	} else if (before & ~cc & NVME_CC_EN) {
		for (unsigned int i = 0; i < drive->held_count; i++)
			drive->cut_off += drive->held[i].qid > 0;
		disable(drive);
	}
	if ((cc & NVME_CC_SHN_MASK) && !drive->never_shuts_down && drive->shutdown_looks == 0)
		drive->csts |= NVME_CSTS_SHST_COMPLETE;
}

/* Doorbell Buffer Config: the n-th doorbell's value as it is in memory. */
static uint32_t look_at_shadow(struct soft_nvme *drive, unsigned int n)
{
	uint32_t value = 0, offset = n * nvme_cap_stride(drive->cap), event;

	soft_nvme_access(drive, drive->shadows + offset, &value, sizeof(value), false);
	event = drive->event ? drive->event(drive, le32toh(value)) : le32toh(value);
	event = htole32(event);
	soft_nvme_access(drive, drive->events + offset, &event, sizeof(event), true);
	soft_nvme_access(drive, drive->shadows + offset, &value, sizeof(value), false);
	return le32toh(value);
}

static bool has_commands(struct soft_nvme *drive, uint16_t qid)
{
	struct soft_nvme_queue *queue = &drive->queues[qid];

	if (drive->shadows && qid > 0) {
		uint32_t tail = look_at_shadow(drive, 2u * qid);

		look_at_shadow(drive, 2u * qid + 1);
		if (tail < queue->sq_size)
			queue->sq_tail = tail;
	}
	return queue->sq_head != queue->sq_tail;
}

static void serve(struct soft_nvme *drive, uint16_t qid)
{
	struct soft_nvme_queue *queue = &drive->queues[qid];

	while (queue->sq_made && has_commands(drive, qid) && !atomic_load(&drive->formatting) &&
	       !(drive->csts & NVME_CSTS_CFS)) {
		struct nvme_command command = {0};

		soft_nvme_access(drive, queue->sq + queue->sq_head * sizeof(command), &command,
				 sizeof(command), false);
		queue->sq_head = (queue->sq_head + 1) % queue->sq_size;
		if (qid == 0)
			soft_nvme_admin(drive, &command);
		else
			io(drive, qid, &command);
	}
}

static void doorbell(struct soft_nvme *drive, uint32_t number, uint32_t value)
{
	uint16_t qid = (uint16_t)(number / 2);
	struct soft_nvme_queue *queue = &drive->queues[qid % (SOFT_NVME_QUEUES + 1)];

	if (qid > 0)
		*(number % 2 ? &drive->cq_doorbells : &drive->doorbells) += 1;
	if (number % 2 || qid > SOFT_NVME_QUEUES || !queue->sq_made || value >= queue->sq_size)
		return;
	queue->sq_tail = value;
	serve(drive, qid);
}

void soft_nvme_look_at_shadows(struct soft_nvme *drive)
{
	pthread_mutex_lock(&drive->lock);
	for (uint16_t qid = 1; drive->shadows && qid <= SOFT_NVME_QUEUES; qid++)
		serve(drive, qid);
	pthread_mutex_unlock(&drive->lock);
}

void soft_nvme_end_format(struct soft_nvme *drive)
{
	pthread_mutex_lock(&drive->lock);
	if (atomic_exchange(&drive->formatting, false))
		soft_nvme_complete(drive, 0, &drive->format, 0, 0);
	for (uint16_t qid = 0; qid <= SOFT_NVME_QUEUES; qid++)
		serve(drive, qid);
	pthread_mutex_unlock(&drive->lock);
}

static uint64_t soft_nvme_read(struct pci_function *f, unsigned int bar, uint64_t offset,
			       unsigned int width)
{
	struct soft_nvme *drive = to_drive(f);
	uint64_t value = drive->cap;

	(void)bar;
	(void)width;
	if (atomic_load(&drive->gone))
		return UINT64_MAX;
	pthread_mutex_lock(&drive->lock);
	if (offset == NVME_REG_VS)
		value = 0x10400;
	else if (offset == NVME_REG_CC)
		value = drive->cc;
	else if (offset == NVME_REG_CSTS) {
		value = drive->csts;
		drive->status_reads++;
		if ((drive->cc & NVME_CC_SHN_MASK) && drive->shutdown_looks > 0 &&
		    --drive->shutdown_looks == 0)
			drive->csts |= NVME_CSTS_SHST_COMPLETE;
	} else if (offset != 0)
		value = 0;
	pthread_mutex_unlock(&drive->lock);
	return value;
}

static void soft_nvme_write(struct pci_function *f, unsigned int bar, uint64_t offset,
			    unsigned int width, uint64_t value)
{
	struct soft_nvme *drive = to_drive(f);

	(void)bar;
	(void)width;
	if (atomic_load(&drive->gone))
		return;
	pthread_mutex_lock(&drive->lock);
	if (offset == NVME_REG_CC)
		control(drive, (uint32_t)value);
	else if (offset == NVME_REG_AQA)
		drive->aqa = (uint32_t)value;
	else if (offset == NVME_REG_ASQ)
		drive->asq = value;
	else if (offset == NVME_REG_ACQ)
		drive->acq = value;
	else if (offset >= NVME_REG_DOORBELLS)
		doorbell(drive,
			 (uint32_t)(offset - NVME_REG_DOORBELLS) / nvme_cap_stride(drive->cap),
			 (uint32_t)value);
	pthread_mutex_unlock(&drive->lock);
}

/* ---- the function: the engine's, but for its class, registers and reset ---- */

static int soft_nvme_config_read(struct pci_function *f, unsigned int where, unsigned int width,
				 uint32_t *value)
{
	struct soft_nvme *drive = to_drive(f);
	int err = drive->engine->ops->config_read(drive->engine, where, width, value);

	if (where == 0x08 && width == 4)
		*value = drive->class_code << 8;
	if (where == 0x00 && atomic_load(&drive->gone))
		*value = UINT32_MAX;
	return err;
}

static int soft_nvme_config_write(struct pci_function *f, unsigned int where, unsigned int width,
				  uint32_t value)
{
	struct soft_nvme *drive = to_drive(f);

	return drive->engine->ops->config_write(drive->engine, where, width, value);
}

static int soft_nvme_bar(struct pci_function *f, unsigned int bar, uint64_t *size, void **direct)
{
	(void)f;
	*size = bar == 0 ? BAR_SIZE : 0;
	*direct = NULL;
	return 0;
}

static int soft_nvme_reset(struct pci_function *f)
{
	struct soft_nvme *drive = to_drive(f);

	pthread_mutex_lock(&drive->lock);
	disable(drive);
	drive->cc = 0;
	pthread_mutex_unlock(&drive->lock);
	return 0;
}

static bool soft_nvme_is_dead(struct pci_function *f)
{
	return atomic_load(&to_drive(f)->gone);
}

static void soft_nvme_close(struct pci_function *f)
{
	struct soft_nvme *drive = to_drive(f);

	drive->engine->ops->close(drive->engine);
}

static const struct pci_function_ops soft_nvme_ops = {
	.config_read = soft_nvme_config_read,
	.config_write = soft_nvme_config_write,
	.bar = soft_nvme_bar,
	.read = soft_nvme_read,
	.write = soft_nvme_write,
	.reset = soft_nvme_reset,
	.is_dead = soft_nvme_is_dead,
	.close = soft_nvme_close,
};

struct dmaland_device *soft_nvme_open(struct soft_nvme *drive)
{
	return soft_nvme_open_on(drive, "soft:");
}

struct dmaland_device *soft_nvme_open_on(struct soft_nvme *drive, const char *spec)
{
	struct dmaland_device *dev = dmaland_open(spec, NULL);

	if (!dev)
		fail_msg("%s", dmaland_last_error());
	memset(drive, 0, sizeof(*drive));
	pthread_mutex_init(&drive->lock, NULL);
	drive->silent_admin = -1;
	drive->abort_status = 0x007;
	drive->lba_shift = 9;
	drive->blocks = SOFT_NVME_BLOCKS;
	drive->queues_claimed = SOFT_NVME_QUEUES;
	drive->class_code = 0x010802;
	drive->cap = 63 | 1 << 16 | 1 << 24 | 1ull << 37;
	drive->entry_sizes[0] = 0x66;
	drive->entry_sizes[1] = 0x44;
	drive->media = calloc(SOFT_NVME_BLOCKS, SOFT_NVME_BLOCK);
	assert_non_null(drive->media);
	drive->engine = dev->function;
	drive->f.ops = &soft_nvme_ops;
	drive->f.domain = drive->engine->domain;
	drive->f.event_fd = -1;
	snprintf(drive->f.name, sizeof(drive->f.name), "soft:nvme");
	dev->function = &drive->f;
	return dev;
}

void soft_nvme_free(struct soft_nvme *drive)
{
	pthread_mutex_destroy(&drive->lock);
	free(drive->media);
}
