/* SPDX-License-Identifier: MIT */
/*
 * soft_nvme_admin.c - the admin commands of the drive in software: what it says of itself, its queues, its events
 */
#include "soft_nvme_parts.h"

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
		put(data, 256,
		    NVME_OACS_FORMAT | (drive->offers_shadows ? NVME_OACS_DOORBELL_BUFFER : 0), 2);
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
		soft_nvme_access(drive, le64toh(command->prp[0]), data, sizeof(data), true);
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
	soft_nvme_access(drive, le64toh(command->prp[0]), data, size < 4096 ? size : 4096, true);
}

/*
 * End the held commands of a queue (0: of all), or one of them; completed with a status, or forgotten (below 0).
 * They touch their memory until then: each is carried out at the last moment.
 */
unsigned int soft_nvme_end_held(struct soft_nvme *drive, uint16_t qid, int cid, int status)
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
		soft_nvme_carry_out(drive, &drive->held[i].command);
		if (status >= 0)
			soft_nvme_complete(drive, qid, &drive->held[i].command, 0, status);
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
		soft_nvme_end_held(drive, (uint16_t)id, -1, 0x008);
	*made = false;
	return 0;
}

/* Pages of 4 KiB (NVMe 2.0, 5.8). */
static int use_shadows(struct soft_nvme *drive, const struct nvme_command *command)
{
	uint32_t word;

	drive->shadows_told++;
	for (unsigned int i = 0; i < 2 * 2; i++) { /* the admin queue's two, in both buffers */
		soft_nvme_access(drive, le64toh(command->prp[i / 2]) + i % 2 * sizeof(word), &word,
				 sizeof(word), false);
		drive->shadows_old |= word != 0;
	}
	if (!drive->offers_shadows)
		return 0x001 | SOFT_NVME_DNR;
	if (le64toh(command->prp[0]) % 4096 || le64toh(command->prp[1]) % 4096)
		return 0x013 | SOFT_NVME_DNR;
	drive->shadows = le64toh(command->prp[0]);
	drive->events = le64toh(command->prp[1]);
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
		soft_nvme_complete(drive, 0, &drive->reports[--drive->report_count], dw0, 0);
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

void soft_nvme_admin(struct soft_nvme *drive, const struct nvme_command *command)
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
		soft_nvme_complete(drive, 0, command, 0, status);
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
	case NVME_ADMIN_DOORBELL_BUFFER:
		status = use_shadows(drive, command);
		break;
	case NVME_ADMIN_FORMAT: /* as it was */
		break;
	case NVME_ADMIN_ABORT:
		dw0 = 1;
		if (drive->aborts &&
		    soft_nvme_end_held(drive, dw10 & 0xffff, dw10 >> 16, drive->abort_status)) {
			dw0 = 0;
			drive->aborted++;
		}
		break;
	default:
		status = 0x001 | SOFT_NVME_DNR;
	}
	soft_nvme_complete(drive, 0, command, dw0, status);
}
