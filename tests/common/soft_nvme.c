/* SPDX-License-Identifier: MIT */
#include "soft_nvme.h"

#include <stdlib.h>

#include "device/device.h"

#define BAR_SIZE 8192

static struct soft_nvme *to_drive(struct pci_function *f)
{
	return (struct soft_nvme *)f;
}

/* ---- memory ---- */

static void access_memory(struct soft_nvme *drive, uint64_t dma, void *data, size_t size,
			  bool write)
{
	struct soft_domain *sd = (struct soft_domain *)drive->engine->domain;
	const struct soft_access access = {dma, dma, data, size, write};
	struct dmaland_soft_fault fault;
	uint32_t command = 0;

	drive->engine->ops->config_read(drive->engine, PCI_COMMAND, 2, &command);
	if (!(command & PCI_COMMAND_MASTER))
		return;
	if (soft_domain_access(sd, &access, &fault) < size)
		drive->faults++;
}

static void complete_as(struct soft_nvme *drive, uint16_t qid, uint16_t sq_id, uint16_t cid,
			uint32_t dw0, int status)
{
	struct soft_nvme_queue *queue = &drive->queues[qid];
	struct nvme_completion completion = {
		.dw0 = htole32(dw0),
		.sq_head = htole16(queue->sq_head),
		.sq_id = htole16(sq_id),
		.cid = htole16(cid),
		.status = htole16((uint16_t)(status << 1 | (int)queue->phase)),
	};

	access_memory(drive, queue->cq + queue->cq_tail * sizeof(completion), &completion,
		      sizeof(completion), true);
	if (++queue->cq_tail == queue->cq_size) {
		queue->cq_tail = 0;
		queue->phase ^= 1;
	}
}

static void complete(struct soft_nvme *drive, uint16_t qid, const struct nvme_command *command,
		     uint32_t dw0, int status)
{
	complete_as(drive, qid, qid, le16toh(command->cid), dw0, status);
}

/* ---- data ---- */

static uint64_t list_entry(struct soft_nvme *drive, uint64_t at)
{
	uint64_t entry = 0;

	access_memory(drive, at, &entry, sizeof(entry), false);
	return le64toh(entry);
}

/* Between the media and memory, by PRPs of 4 KiB pages (NVMe 2.0, 4.1.1). */
static void move(struct soft_nvme *drive, const struct nvme_command *command, unsigned char *media,
		 size_t bytes)
{
	uint64_t page = le64toh(command->prp[0]), list = le64toh(command->prp[1]);
	size_t piece = 4096 - page % 4096, done = 0;
	bool is_list = bytes > piece + 4096;

	while (done < bytes) {
		if (piece > bytes - done)
			piece = bytes - done;
		access_memory(drive, page, media + done, piece,
			      command->opcode == DMALAND_NVME_READ);
		done += piece;
		piece = 4096;
		page = list;
		if (!is_list || done >= bytes)
			continue;
		page = list_entry(drive, list);
		if ((list + 8) % 4096 == 0 && bytes - done > 4096) {
			list = page;
			page = list_entry(drive, list);
		}
		list += 8;
	}
}

/* By an SGL: one data block, or one segment of them, of the exact length (NVMe 2.0, 4.1.2). 0 or a status. */
static int move_sgl(struct soft_nvme *drive, const struct nvme_command *command,
		    unsigned char *media, size_t bytes)
{
	enum { MOST = 256, LAST_SEGMENT = 0x30, LENGTH = 0x00f, TYPE = 0x011, COUNT = 0x00d };
	uint64_t list[2 * MOST] = {command->prp[0], command->prp[1]};
	size_t n = 1, sum = 0;

	drive->sgls_used++;
	if (le64toh(list[1]) >> 56 == LAST_SEGMENT) {
		size_t size = (uint32_t)le64toh(list[1]);

		if (size == 0 || size % 16 != 0 || size > sizeof(list))
			return COUNT | SOFT_NVME_DNR;
		access_memory(drive, le64toh(list[0]), list, size, false);
		n = size / 16;
	}
	for (size_t i = 0; i < n; i++) {
		if (le64toh(list[2 * i + 1]) >> 32 != 0)
			return TYPE | SOFT_NVME_DNR;
		sum += (uint32_t)le64toh(list[2 * i + 1]);
	}
	if (sum != bytes)
		return LENGTH | SOFT_NVME_DNR;
	for (size_t i = 0; i < n; i++) {
		size_t piece = (uint32_t)le64toh(list[2 * i + 1]);

		access_memory(drive, le64toh(list[2 * i]), media, piece,
			      command->opcode == DMALAND_NVME_READ);
		media += piece;
	}
	return 0;
}

static int carry_out(struct soft_nvme *drive, const struct nvme_command *command)
{
	uint64_t block = le32toh(command->cdw10) | (uint64_t)le32toh(command->cdw11) << 32;
	size_t blocks = (le32toh(command->cdw12) & 0xffff) + 1;
	uint64_t room = ((uint64_t)SOFT_NVME_BLOCKS * SOFT_NVME_BLOCK) >> drive->lba_shift;
	unsigned char *media = drive->media + (block << drive->lba_shift);

	if (command->opcode == DMALAND_NVME_FLUSH || command->opcode == DMALAND_NVME_DISCARD ||
	    command->opcode >= 0xc0)
		return 0;
	if (block > room || blocks > room - block)
		return 0x080 | SOFT_NVME_DNR;
	if (command->opcode == DMALAND_NVME_WRITE_ZEROES)
		memset(media, 0, blocks << drive->lba_shift);
	else if (command->opcode != DMALAND_NVME_READ && command->opcode != DMALAND_NVME_WRITE)
		return 0;
	else if (command->flags >> 6 == 1)
		return move_sgl(drive, command, media, blocks << drive->lba_shift);
	else
		move(drive, command, media, blocks << drive->lba_shift);
	return 0;
}

/* ---- admin commands ---- */

static void put(unsigned char *data, size_t at, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		data[at + i] = (unsigned char)(value >> 8 * i);
}

static int identify(struct soft_nvme *drive, const struct nvme_command *command)
{
	unsigned char data[4096] = {0};
	int status = 0, answer;

	switch (le32toh(command->cdw10) & 0xff) {
	case 0:
		drive->identified++;
		put(data, 0, drive->blocks, 8);
		data[24] = drive->tells_discards ? 1 << 4 : 0;
		put(data, 68, drive->npdg, 2);
		put(data, 70, drive->npda, 2);
		data[128 + 2] = drive->lba_shift;
		put(data, 128, drive->metadata, 2);
		break;
	case 1:
		memcpy(data + 24, "soft drive", 10);
		data[77] = 5; /* MDTS: 128 KiB */
		put(data, 88, drive->rtd3e, 4);
		put(data, 92, 1 << 8, 4); /* OAES: namespace attributes */
		put(data, 256, NVME_OACS_FORMAT, 2);
		data[258] = 3;
		data[259] = SOFT_NVME_REPORTS - 1;
		data[261] = 4;
		data[262] = 0;
		data[512] = drive->entry_sizes[0];
		data[513] = drive->entry_sizes[1];
		put(data, 516, 1, 4);
		put(data, 536, drive->sgls, 4);
		put(data, 520, 0x8d, 2);
		break;
	case 2:
		put(data, 0, 1, 4);
		break;
	default:
		status = 0x002 | SOFT_NVME_DNR;
	}
	answer = drive->answer ? drive->answer(drive, command, data) : SOFT_NVME_CARRY_OUT;
	if (answer != SOFT_NVME_CARRY_OUT)
		status = answer > 0 ? answer : 0;
	if (status == 0)
		access_memory(drive, le64toh(command->prp[0]), data, sizeof(data), true);
	return status;
}

/* The error log's only entry; the list of namespaces that have changed; any other page is zeroes. */
static void get_log(struct soft_nvme *drive, const struct nvme_command *command)
{
	size_t size = ((le32toh(command->cdw10) >> 16) + 1) * 4;
	unsigned int page = le32toh(command->cdw10) & 0xff;
	unsigned char data[4096] = {0};

	drive->logs_read[page]++;
	if (page == 4)
		memcpy(data, drive->changed, sizeof(drive->changed));
	if (page == 1) {
		put(data, 0, 1, 8);
		put(data, 8, drive->error_qid, 2);
		put(data, 10, drive->error_cid, 2);
		put(data, 12, 0x281 << 1, 2);
		put(data, 16, drive->error_block, 8);
		put(data, 24, 1, 4);
	}
	access_memory(drive, le64toh(command->prp[0]), data, size < 4096 ? size : 4096, true);
}

/*
 * End the held commands of a queue (0: of all), or one of them; completed with a status, or forgotten (below 0).
 * They touch their memory until then: each is carried out at the last moment.
 */
static unsigned int end_held(struct soft_nvme *drive, uint16_t qid, int cid, int status)
{
	unsigned int kept = 0, ended = 0;

	for (unsigned int i = 0; i < drive->held_count; i++) {
		bool match = (drive->held[i].qid == qid || qid == 0) &&
			     (cid < 0 || le16toh(drive->held[i].command.cid) == cid);

		if (!match) {
			drive->held[kept++] = drive->held[i];
			continue;
		}
		ended++;
		carry_out(drive, &drive->held[i].command);
		if (status >= 0)
			complete(drive, qid, &drive->held[i].command, 0, status);
	}
	drive->held_count = kept;
	return ended;
}

static int make_queue(struct soft_nvme *drive, const struct nvme_command *command, bool sq)
{
	uint32_t id = le32toh(command->cdw10) & 0xffff, size = (le32toh(command->cdw10) >> 16) + 1;
	struct soft_nvme_queue *queue = &drive->queues[id];

	if (id == 0 || id > SOFT_NVME_QUEUES || (sq ? queue->sq_made : queue->cq_made) ||
	    (sq && (!queue->cq_made || drive->keeps_half)))
		return 0x101 | SOFT_NVME_DNR;
	if (sq) {
		queue->sq_made = true;
		queue->sq = le64toh(command->prp[0]);
		queue->sq_size = size;
		queue->sq_head = queue->sq_tail = 0;
	} else {
		queue->cq_made = true;
		queue->cq = le64toh(command->prp[0]);
		queue->cq_size = size;
		queue->cq_tail = 0;
		queue->phase = 1;
	}
	return 0;
}

static int delete_queue(struct soft_nvme *drive, const struct nvme_command *command, bool sq)
{
	uint32_t id = le32toh(command->cdw10) & 0xffff;
	struct soft_nvme_queue *queue = &drive->queues[id % (SOFT_NVME_QUEUES + 1)];
	bool *made = sq ? &queue->sq_made : &queue->cq_made;

	if (id == 0 || id > SOFT_NVME_QUEUES || !*made || (!sq && drive->keeps_half))
		return 0x101 | SOFT_NVME_DNR;
	if (sq)
		end_held(drive, (uint16_t)id, -1, 0x008);
	*made = false;
	return 0;
}

/* Keep a request to report. False: it is over at once. */
static bool keep_report(struct soft_nvme *drive, const struct nvme_command *command)
{
	drive->reports_asked++;
	if (drive->lacks_reports || drive->babbles || drive->report_count == SOFT_NVME_REPORTS)
		return false;
	drive->reports[drive->report_count++] = *command;
	return true;
}

bool soft_nvme_report(struct soft_nvme *drive, uint32_t dw0)
{
	bool asked;

	pthread_mutex_lock(&drive->lock);
	asked = drive->report_count > 0;
	if (asked)
		complete(drive, 0, &drive->reports[--drive->report_count], dw0, 0);
	pthread_mutex_unlock(&drive->lock);
	return asked;
}

void soft_nvme_become(struct soft_nvme *drive, uint8_t lba_shift, uint64_t blocks)
{
	pthread_mutex_lock(&drive->lock);
	drive->lba_shift = lba_shift;
	drive->blocks = blocks;
	pthread_mutex_unlock(&drive->lock);
}

static void admin(struct soft_nvme *drive, const struct nvme_command *command)
{
	uint32_t dw10 = le32toh(command->cdw10), dw0 = 0;
	int status = 0;

	if (command->opcode == drive->silent_admin)
		return;
	if (command->opcode == NVME_ADMIN_FORMAT && drive->keeps_format) {
		drive->format = *command;
		atomic_store(&drive->formatting, true);
		return;
	}
	if (drive->answer && command->opcode != NVME_ADMIN_IDENTIFY)
		status = drive->answer(drive, command, NULL);
	if (status != SOFT_NVME_CARRY_OUT) {
		complete(drive, 0, command, 0, status);
		return;
	}
	switch (command->opcode) {
	case NVME_ADMIN_EVENT_REQUEST:
		if (keep_report(drive, command))
			return;
		dw0 = drive->babbles;
		if (!drive->babbles)
			status = (drive->lacks_reports ? 0x001 : 0x105) | SOFT_NVME_DNR;
		break;
	case NVME_ADMIN_IDENTIFY:
		status = identify(drive, command);
		break;
	case NVME_ADMIN_GET_LOG_PAGE:
		get_log(drive, command);
		break;
	case NVME_ADMIN_SET_FEATURES:
		dw0 = (drive->queues_claimed - 1u) << 16 | (drive->queues_claimed - 1u);
		break;
	case NVME_ADMIN_CREATE_CQ:
	case NVME_ADMIN_CREATE_SQ:
		status = make_queue(drive, command, command->opcode == NVME_ADMIN_CREATE_SQ);
		break;
	case NVME_ADMIN_DELETE_CQ:
	case NVME_ADMIN_DELETE_SQ:
		status = delete_queue(drive, command, command->opcode == NVME_ADMIN_DELETE_SQ);
		break;
	case NVME_ADMIN_FORMAT: /* as it was */
		break;
	case NVME_ADMIN_ABORT:
		dw0 = 1;
		if (drive->aborts &&
		    end_held(drive, dw10 & 0xffff, dw10 >> 16, drive->abort_status)) {
			dw0 = 0;
			drive->aborted++;
		}
		break;
	default:
		status = 0x001 | SOFT_NVME_DNR;
	}
	complete(drive, 0, command, dw0, status);
}

/* ---- I/O ---- */

/* Completions of nobody: of slots that were never used, of another time, of another queue, of no slot, with a head that is none. */
static void forge(struct soft_nvme *drive, uint16_t qid, uint16_t cid)
{
	complete_as(drive, qid, qid, 31, 0, 0x281 | SOFT_NVME_DNR);
	complete_as(drive, qid, qid, cid ^ 0x8000, 0, 0x281 | SOFT_NVME_DNR);
	complete_as(drive, qid, qid + 1, cid, 0, 0x281 | SOFT_NVME_DNR);
	complete_as(drive, qid, qid, 0xffff, 0, 0x281);
	drive->queues[qid].sq_head += 0x4000;
	complete_as(drive, qid, qid, cid, 0, 0x281 | SOFT_NVME_DNR);
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
			complete(drive, qid, command, 0, verdict & (SOFT_NVME_AGAIN - 1));
		return;
	}
	if (verdict == SOFT_NVME_FORGED)
		forge(drive, qid, le16toh(command->cid));
	if (verdict == SOFT_NVME_REPLAY)
		complete_as(drive, qid, qid, drive->last_cid, 0, 0x281 | SOFT_NVME_DNR);
	drive->last_cid = le16toh(command->cid);
	complete(drive, qid, command, drive->answer_dw0,
		 verdict == SOFT_NVME_NOTHING ? 0 : carry_out(drive, command));
	if (verdict == SOFT_NVME_TWICE)
		complete(drive, qid, command, 0, 0);
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
	end_held(drive, 0, -1, -1);
	drive->report_count = 0;
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
	if ((cc & NVME_CC_SHN_MASK) && !drive->never_shuts_down)
		drive->csts |= NVME_CSTS_SHST_COMPLETE;
}

static void serve(struct soft_nvme *drive, uint16_t qid)
{
	struct soft_nvme_queue *queue = &drive->queues[qid];

	while (queue->sq_made && queue->sq_head != queue->sq_tail &&
	       !atomic_load(&drive->formatting) && !(drive->csts & NVME_CSTS_CFS)) {
		struct nvme_command command = {0};

		access_memory(drive, queue->sq + queue->sq_head * sizeof(command), &command,
			      sizeof(command), false);
		queue->sq_head = (queue->sq_head + 1) % queue->sq_size;
		if (qid == 0)
			admin(drive, &command);
		else
			io(drive, qid, &command);
	}
}

static void doorbell(struct soft_nvme *drive, uint32_t number, uint32_t value)
{
	uint16_t qid = (uint16_t)(number / 2);
	struct soft_nvme_queue *queue = &drive->queues[qid];

	if (number % 2 || qid > SOFT_NVME_QUEUES || !queue->sq_made || value >= queue->sq_size)
		return;
	queue->sq_tail = value;
	serve(drive, qid);
}

size_t soft_nvme_look(struct soft_nvme *drive, uint64_t dma, void *data, size_t size)
{
	unsigned int faults = drive->faults;

	access_memory(drive, dma, data, size, false);
	return drive->faults == faults ? size : 0;
}

void soft_nvme_end_format(struct soft_nvme *drive)
{
	pthread_mutex_lock(&drive->lock);
	if (atomic_exchange(&drive->formatting, false))
		complete(drive, 0, &drive->format, 0, 0);
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
