/* SPDX-License-Identifier: MIT */
/*
 * admin.c - commands of the admin queue
 *
 * Any thread may have one under way: rings and slots are guarded by the controller's lock, and
 * whoever waits looks for the completions of all. What the drive answers is copied out of DMA memory
 * first and looked at then; the page that it comes in is one command's at a time.
 */
#include "ring.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	ALIVE_MS = 100, /* how often to ask a drive that is silent whether it is there */
	MOST_SHUTDOWN_MS = 60000,
};

static const char *command_name(uint8_t opcode)
{
	static _Thread_local char other[24];

	switch (opcode) {
	case NVME_ADMIN_DELETE_SQ:
		return "Delete I/O Submission Queue";
	case NVME_ADMIN_CREATE_SQ:
		return "Create I/O Submission Queue";
	case NVME_ADMIN_DELETE_CQ:
		return "Delete I/O Completion Queue";
	case NVME_ADMIN_CREATE_CQ:
		return "Create I/O Completion Queue";
	case NVME_ADMIN_GET_LOG_PAGE:
		return "Get Log Page";
	case NVME_ADMIN_IDENTIFY:
		return "Identify";
	case NVME_ADMIN_ABORT:
		return "Abort";
	case NVME_ADMIN_FORMAT:
		return "Format NVM";
	case NVME_ADMIN_DOORBELL_BUFFER:
		return "Doorbell Buffer Config";
	case NVME_ADMIN_SET_FEATURES:
		return "Set Features";
	default:
		snprintf(other, sizeof(other), "of opcode 0x%02x", opcode);
		return other;
	}
}

/* ---- one command: with ctrl->lock held but for the waiting ---- */

/* Note what has completed; its slot stays taken until whoever waits for it has seen. */
void nvme_reap_admin(struct dmaland_nvme *ctrl)
{
	struct nvme_completion completion;
	struct nvme_iod *iod;
	unsigned int n = 0;

	while (n < NVME_ADMIN_DEPTH && nvme_next_completion(ctrl->admin, &completion, &iod)) {
		n++;
		if (!iod)
			continue;
		ctrl->admin_done[iod - ctrl->admin->iods] = completion;
		iod->busy = false;
	}
	if (n > 0)
		nvme_ring_cq(ctrl->admin);
}

/* NULL when no slot is free. */
static struct nvme_iod *start(struct dmaland_nvme *ctrl, struct nvme_command *command)
{
	struct nvme_iod *iod = nvme_take_slot(ctrl->admin);

	if (!iod)
		return NULL;
	nvme_submit_cmd(ctrl->admin, iod, command);
	nvme_ring_sq(ctrl->admin);
	return iod;
}

static int finish(struct dmaland_nvme *ctrl, struct nvme_iod *iod,
		  const struct nvme_command *command, uint32_t *result)
{
	const struct nvme_completion *completion = &ctrl->admin_done[iod - ctrl->admin->iods];
	int status = nvme_completion_status(completion);

	if (result) {
		result[0] = le32toh(completion->dw0);
		result[1] = le32toh(completion->dw1);
	}
	nvme_give_slot(ctrl->admin, iod);
	if (status > 0)
		dmaland_set_error(EIO, "%s: %s: %s", dmaland_name(ctrl->dev),
				  command_name(command->opcode), dmaland_nvme_status_text(status));
	return status;
}

static int too_late(const struct nvme_command *command, unsigned int timeout_ms)
{
	return dmaland_set_error(ETIMEDOUT, "the admin command %s did not complete within %u ms",
				 command_name(command->opcode), timeout_ms);
}

/* A drive that is silent may be gone, or in need of a reset. */
static void ask_alive(struct dmaland_nvme *ctrl, uint32_t state, uint64_t now, uint64_t *asked)
{
	char what[160];
	int error;

	if (now - *asked < ALIVE_MS)
		return;
	*asked = now;
	error = nvme_check_alive(ctrl, what, sizeof(what));
	if (error == ENODEV)
		nvme_stop(ctrl, error, error, "%s", what);
	else if (error != 0)
		nvme_reset(ctrl, state, "%s", what);
}

/* A format itself is held back by none. */
static uint64_t waited(struct dmaland_nvme *ctrl, const struct nvme_command *command,
		       uint64_t begin, uint64_t now)
{
	return command->opcode == NVME_ADMIN_FORMAT ? now - begin : nvme_waited(ctrl, begin, now);
}

/*
 * An admin command to a controller in the state that the caller saw; others may be under way. A status; or -errno, with the error set: -ECANCELED
 * when a reset cut it off, -ETIMEDOUT: then it is still the drive's, and the caller takes the
 * next step of recovery.
 */
int nvme_admin(struct dmaland_nvme *ctrl, uint32_t state, struct nvme_command *command,
	       unsigned int timeout_ms, uint32_t *result)
{
	uint64_t begin = nvme_now_ms(), asked = begin, now;
	struct nvme_iod *iod = NULL;
	unsigned int looks = 0;
	int status;

	pthread_mutex_lock(&ctrl->lock);
	while ((state & NVME_SERVICE_MASK) == NVME_LIVE && nvme_state(ctrl) == state) {
		if (!iod)
			iod = start(ctrl, command);
		nvme_reap_admin(ctrl);
		if (iod && !iod->busy) {
			status = finish(ctrl, iod, command, result);
			pthread_mutex_unlock(&ctrl->lock);
			return status;
		}
		pthread_mutex_unlock(&ctrl->lock);
		now = nvme_now_ms();
		if (waited(ctrl, command, begin, now) > timeout_ms) {
			atomic_store(&ctrl->admin_late, true);
			return too_late(command, timeout_ms);
		}
		ask_alive(ctrl, state, now, &asked);
		nvme_pause(&looks);
		pthread_mutex_lock(&ctrl->lock);
	}
	pthread_mutex_unlock(&ctrl->lock);
	return nvme_refuse(ctrl);
}

/* An admin command of whoever leads a reset, and holds the lock for all of it. */
int nvme_admin_alone(struct dmaland_nvme *ctrl, struct nvme_command *command,
		     unsigned int timeout_ms)
{
	uint64_t begin = nvme_now_ms();
	struct nvme_iod *iod = NULL;
	unsigned int looks = 0;

	for (;;) {
		if (!iod)
			iod = start(ctrl, command);
		nvme_reap_admin(ctrl);
		if (iod && !iod->busy)
			return finish(ctrl, iod, command, NULL);
		if (nvme_now_ms() - begin > timeout_ms)
			return too_late(command, timeout_ms);
		nvme_pause(&looks);
	}
}

/*
 * Have the drive end all I/O commands before it is disabled, as the kernel's driver does; as far as it
 * answers, and for so many ms in all. ctrl->lock is held. Returns whether it has none left.
 */
bool nvme_delete_queues(struct dmaland_nvme *ctrl, unsigned int ms)
{
	const struct dmaland_nvme_queue *queue;
	uint64_t begin = nvme_now_ms();
	bool all = true;
	int status = 0;

	if (atomic_load(&ctrl->admin_late))
		return false;
	for (queue = ctrl->queues; queue && status >= 0; queue = queue->next) {
		struct nvme_command command = {
			.opcode = NVME_ADMIN_DELETE_SQ,
			.cdw10 = htole32(queue->qid),
		};
		uint64_t gone = nvme_now_ms() - begin;
		unsigned int left = gone < ms ? ms - (unsigned int)gone : 0;

		status = nvme_admin_alone(ctrl, &command,
					  left < ctrl->queue_ms ? left : ctrl->queue_ms);
		all = all && status >= 0;
	}
	return all;
}

/* An admin command without data; when it is late, the controller is reset. */
int nvme_submit_sync_cmd(struct dmaland_nvme *ctrl, struct nvme_command *command,
			 unsigned int timeout_ms, uint32_t *result)
{
	uint32_t state = nvme_settled(ctrl);
	int status = nvme_admin(ctrl, state, command, timeout_ms, result);

	if (status == -ETIMEDOUT) {
		nvme_reset(ctrl, state, "the admin command %s did not complete within %u ms",
			   command_name(command->opcode), timeout_ms);
		return too_late(command, timeout_ms);
	}
	return status;
}

/*
 * An admin command that fetches at most NVME_ADMIN_DATA bytes. It changes nothing, so that it is
 * repeated when a reset cuts it off.
 */
int nvme_fetch(struct dmaland_nvme *ctrl, struct nvme_command *command, void *data, size_t size)
{
	int status;

	pthread_mutex_lock(&ctrl->data_lock);
	command->prp[0] = htole64(ctrl->data_dma);
	do {
		memset(ctrl->data, 0, size);
		status = nvme_submit_sync_cmd(ctrl, command, ctrl->timeout_ms, NULL);
	} while (status == -ECANCELED);
	if (status == 0)
		memcpy(data, ctrl->data, size);
	pthread_mutex_unlock(&ctrl->data_lock);
	return status;
}

static struct nvme_command identify(unsigned int cns, unsigned int command_set, uint32_t nsid)
{
	return (struct nvme_command){
		.opcode = NVME_ADMIN_IDENTIFY,
		.nsid = htole32(nsid),
		.cdw10 = htole32(cns & 0xff),
		.cdw11 = htole32((uint32_t)command_set << 24),
	};
}

/* What a command set has of a namespace or of the controller: CSI, in dword 11, says which. */
int nvme_identify_set(struct dmaland_nvme *ctrl, unsigned int cns, unsigned int command_set,
		      uint32_t nsid, void *data)
{
	struct nvme_command command = identify(cns, command_set, nsid);

	return nvme_fetch(ctrl, &command, data, NVME_ADMIN_DATA);
}

/* The same for whoever leads a reset. */
int nvme_identify_alone(struct dmaland_nvme *ctrl, unsigned int cns, unsigned int command_set,
			uint32_t nsid, void *data)
{
	struct nvme_command command = identify(cns, command_set, nsid);
	int status;

	command.prp[0] = htole64(ctrl->own_data_dma);
	memset(ctrl->own_data, 0, NVME_ADMIN_DATA);
	status = nvme_admin_alone(ctrl, &command, ctrl->queue_ms);
	memcpy(data, ctrl->own_data, NVME_ADMIN_DATA);
	return status;
}

int nvme_identify(struct dmaland_nvme *ctrl, unsigned int cns, uint32_t nsid, void *data)
{
	return nvme_identify_set(ctrl, cns, DMALAND_NVME_SET_NVM, nsid, data);
}

/* NVMe 2.0, 5.17 */
int dmaland_nvme_identify(struct dmaland_nvme *ctrl, unsigned int cns, uint32_t nsid, void *data)
{
	int status = dmaland_check(ctrl->dev);

	return status != 0 ? status : nvme_identify(ctrl, cns, nsid, data);
}

/* Text of the drive without its padding, and without what a terminal would obey. */
static void copy_text(char *to, const uint8_t *from, size_t size)
{
	size_t i, end = 0;

	for (i = 0; i < size; i++) {
		to[i] = from[i] >= 0x20 && from[i] < 0x7f ? from[i] : '?';
		if (from[i] != ' ' && from[i] != 0)
			end = i + 1;
	}
	to[end] = 0;
}

/* A limit in the form "2 to the power of, in units of 2^unit_shift; 0: none". */
static size_t power_limit(unsigned int power, unsigned int unit_shift)
{
	if (power == 0 || power + unit_shift >= 8 * sizeof(size_t))
		return SIZE_MAX;
	return (size_t)1 << (power + unit_shift);
}

/* Which commands there are (ONCS), and which the driver knows. */
static void learn_commands(struct dmaland_nvme *ctrl, const uint8_t *data)
{
	struct dmaland_nvme_info *info = &ctrl->info;

	ctrl->oncs = nvme_get16(data, 520);
	info->commands =
		1u << DMALAND_NVME_FLUSH | 1u << DMALAND_NVME_WRITE | 1u << DMALAND_NVME_READ;
	if (ctrl->oncs & NVME_ONCS_COMPARE)
		info->commands |= 1u << DMALAND_NVME_COMPARE;
	if (ctrl->oncs & NVME_ONCS_DATASET_MANAGEMENT)
		info->commands |= 1u << DMALAND_NVME_DISCARD;
	if (ctrl->oncs & NVME_ONCS_WRITE_ZEROES)
		info->commands |= 1u << DMALAND_NVME_WRITE_ZEROES;
	if (ctrl->oncs & NVME_ONCS_VERIFY)
		info->commands |= 1u << DMALAND_NVME_VERIFY;
	info->can_format = nvme_get16(data, 256) & NVME_OACS_FORMAT;
	ctrl->offers_shadows = nvme_get16(data, 256) & NVME_OACS_DOORBELL_BUFFER;
	info->error_entries = data[262] + 1u; /* ELPE */
	ctrl->abort_limit = data[258] + 1u;   /* ACL */
	ctrl->report_most = data[259] + 1u;   /* AERL */
	ctrl->report_kinds = nvme_get32(data, 92);
	ctrl->log_offsets = data[261] & NVME_LPA_EXTENDED;
	ctrl->formats_all = data[524] & NVME_FNA_FORMATS_ALL;
}

/*
 * Limits of commands that carry no data (NVM 1.0, 4.1.5.2). A drive that does not tell is not asked
 * for more zeroes at once than it takes data, as the kernel's driver has it. Only a drive that says that
 * it knows the question is asked (CAP.CSS): others put an error into their log.
 */
static int identify_limits(struct dmaland_nvme *ctrl, size_t mdts)
{
	unsigned int shift = nvme_cap_mpsmin_shift(ctrl->cap);
	uint8_t data[NVME_ADMIN_DATA] = {0};
	int status = 0;

	if (nvme_cap_command_sets(ctrl->cap))
		status = nvme_identify(ctrl, NVME_IDENTIFY_CONTROLLER_SET, 0, data);
	if (status < 0)
		return status;
	ctrl->max_verify = power_limit(data[0], shift);
	ctrl->max_zeroes = data[1] > 0 ? power_limit(data[1], shift) : mdts;
	ctrl->discard_ranges = data[3] > 0 ? data[3] : NVME_DISCARD_RANGES;
	ctrl->discard_range_blocks = nvme_get32(data, 4);
	if (ctrl->discard_range_blocks == 0)
		ctrl->discard_range_blocks = UINT32_MAX;
	ctrl->discard_blocks = nvme_get64(data, 8);
	if (ctrl->discard_blocks == 0)
		ctrl->discard_blocks = UINT64_MAX;
	return 0;
}

/* What the controller says of itself (NVMe 2.0, 5.17.2.1). */
int nvme_identify_controller(struct dmaland_nvme *ctrl)
{
	struct dmaland_nvme_info *info = &ctrl->info;
	uint8_t data[NVME_ADMIN_DATA];
	uint32_t rtd3e;
	size_t mdts;
	int status = nvme_identify(ctrl, NVME_IDENTIFY_CONTROLLER, 0, data);

	if (status != 0)
		return status;
	copy_text(info->serial, data + 4, sizeof(info->serial) - 1);
	copy_text(info->model, data + 24, sizeof(info->model) - 1);
	copy_text(info->firmware, data + 64, sizeof(info->firmware) - 1);
	info->namespaces = nvme_get32(data, 516);
	learn_commands(ctrl, data);
	mdts = power_limit(data[77], nvme_cap_mpsmin_shift(ctrl->cap));
	info->max_transfer = mdts < ctrl->max_transfer ? mdts : ctrl->max_transfer;
	/* SQES, CQES: the sizes of entries, as powers of two; low nibble least, high nibble most */
	if ((data[512] & 0xf) > 6 || data[512] >> 4 < 6 || (data[513] & 0xf) > 4 ||
	    data[513] >> 4 < 4)
		return dmaland_set_error(EOPNOTSUPP,
					 "%s wants queue entries of other sizes than 64 and 16 "
					 "bytes (SQES 0x%02x, CQES 0x%02x)",
					 dmaland_name(ctrl->dev), data[512], data[513]);
	/* RTD3E: how long a shutdown takes, in us; 0: the drive does not say. It may say 71 minutes. */
	rtd3e = nvme_get32(data, 88);
	if (rtd3e > 0 && !ctrl->shutdown_given)
		ctrl->shutdown_ms = rtd3e / 1000 + 1000 < MOST_SHUTDOWN_MS ? rtd3e / 1000 + 1000
									   : MOST_SHUTDOWN_MS;
	if (!ctrl->no_sgls)
		nvme_use_sgls(&ctrl->pools, nvme_get32(data, 536));
	info->sgls = ctrl->pools.sgls;
	return identify_limits(ctrl, mdts);
}

/* Ask for all the queues that there are (NVMe 2.0, 5.27.1.5). */
static struct nvme_command ask_queues(void)
{
	enum { MOST = 0xfffe }; /* the largest number that may be asked, counted from 0 */

	return (struct nvme_command){
		.opcode = NVME_ADMIN_SET_FEATURES,
		.cdw10 = htole32(NVME_FEATURE_QUEUES),
		.cdw11 = htole32((uint32_t)MOST << 16 | MOST),
	};
}

/*
 * The drive says how many it has. One that refuses is opened without, so that it can be asked what is wrong
 * with it.
 */
int nvme_set_queue_count(struct dmaland_nvme *ctrl)
{
	struct nvme_command command = ask_queues();
	uint64_t bar = pci_resource_len(ctrl->dev, 0);
	uint64_t pair = 2 * nvme_cap_stride(ctrl->cap), room;
	uint32_t result[2], sqs, cqs;
	int status = nvme_submit_sync_cmd(ctrl, &command, ctrl->timeout_ms, result);

	if (status > 0) {
		ctrl->queues_refused = status;
		dmaland_log(DMALAND_LOG_WARN, "%s; it is opened without I/O queues",
			    dmaland_last_error());
		return 0;
	}
	if (status != 0)
		return status;
	sqs = (result[0] & 0xffff) + 1;
	cqs = (result[0] >> 16) + 1;
	ctrl->info.max_queues = sqs < cqs ? sqs : cqs;
	if (ctrl->info.max_queues > 0xffff)
		ctrl->info.max_queues = 0xffff;
	/* no doorbell may lie outside of the window, whatever the drive says */
	room = bar <= NVME_REG_DOORBELLS + pair ? 0 : (bar - NVME_REG_DOORBELLS) / pair - 1;
	if (ctrl->info.max_queues > room)
		ctrl->info.max_queues = room;
	return 0;
}

/* After a reset; should there be fewer now, making those that there were fails. */
int nvme_set_queue_count_again(struct dmaland_nvme *ctrl)
{
	struct nvme_command command = ask_queues();

	if (ctrl->info.max_queues == 0)
		return 0;
	return nvme_admin_alone(ctrl, &command, ctrl->queue_ms);
}

/* ---- queues and their commands: see recover.c for what follows from a time-out ---- */

static int delete_half(struct dmaland_nvme_queue *queue, uint8_t opcode)
{
	struct nvme_command command = {.opcode = opcode, .cdw10 = htole32(queue->qid)};

	return nvme_admin(queue->ctrl, queue->made, &command, queue->ctrl->queue_ms, NULL);
}

/* NVMe 2.0, 5.7: commands of the queue are over when this one is. */
int nvme_delete_sq(struct dmaland_nvme_queue *queue)
{
	return delete_half(queue, NVME_ADMIN_DELETE_SQ);
}

/* NVMe 2.0, 5.6 */
int nvme_delete_cq(struct dmaland_nvme_queue *queue)
{
	return delete_half(queue, NVME_ADMIN_DELETE_CQ);
}

/*
 * Tell the drive of a queue pair: the completion queue first (NVMe 2.0, 5.4 and 5.5). When that
 * fails half-way, the drive knows of no half; or it has to be reset.
 */
int nvme_create_queue(struct dmaland_nvme_queue *queue, uint32_t state)
{
	uint32_t id_and_size = (queue->entries - 1) << 16 | queue->qid;
	unsigned int timeout_ms = queue->ctrl->queue_ms;
	struct nvme_command create_cq = {
		.opcode = NVME_ADMIN_CREATE_CQ,
		.prp = {htole64(queue->cq_dma)},
		.cdw10 = htole32(id_and_size),
		.cdw11 = htole32(1), /* PC: physically contiguous */
	};
	struct nvme_command create_sq = {
		.opcode = NVME_ADMIN_CREATE_SQ,
		.prp = {htole64(queue->sq_dma)},
		.cdw10 = htole32(id_and_size),
		.cdw11 = htole32((uint32_t)queue->qid << 16 | 1), /* CQID, PC */
	};
	int status, undone;

	nvme_empty_rings(queue);
	if (queue->vector >= 0) /* IV and IEN */
		create_cq.cdw11 |= htole32((uint32_t)queue->vector << 16 | 1u << 1);
	status = nvme_admin(queue->ctrl, state, &create_cq, timeout_ms, NULL);
	if (status != 0)
		return status;
	status = nvme_admin(queue->ctrl, state, &create_sq, timeout_ms, NULL);
	if (status < 0)
		return status;
	if (status == 0) {
		queue->made = state;
		nvme_unmask_queue(queue);
		return 0;
	}
	queue->made = state; /* half of it, which is deleted again */
	undone = nvme_delete_cq(queue);
	if (undone > 0) /* the drive keeps it, identifier and memory, until it is reset */
		undone = -EIO;
	dmaland_set_error(EIO, "%s: Create I/O Submission Queue %u: %s",
			  dmaland_name(queue->ctrl->dev), queue->qid,
			  dmaland_nvme_status_text(status));
	return undone < 0 ? undone : status;
}

/* Ask the drive to abort a command (NVMe 2.0, 5.1). It may be over before that, or not be stopped. */
int nvme_abort(struct dmaland_nvme_queue *queue, uint16_t cid)
{
	struct nvme_command command = {
		.opcode = NVME_ADMIN_ABORT,
		.cdw10 = htole32((uint32_t)cid << 16 | queue->qid),
	};

	return nvme_admin(queue->ctrl, queue->made, &command, queue->ctrl->abort_ms, NULL);
}
