/* SPDX-License-Identifier: MIT */
/*
 * admin.c - commands of the admin queue, and what they tell of namespaces
 *
 * Admin commands are carried out one at a time, under the controller's lock, and waited for. What
 * the drive answers is copied out of DMA memory first and looked at then.
 */
#include "nvme_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { ALIVE_MS = 100 }; /* how often to ask a drive that is silent whether it is there */

static const char *command_name(uint8_t opcode)
{
	switch (opcode) {
	case NVME_ADMIN_DELETE_SQ:
		return "Delete I/O Submission Queue";
	case NVME_ADMIN_CREATE_SQ:
		return "Create I/O Submission Queue";
	case NVME_ADMIN_DELETE_CQ:
		return "Delete I/O Completion Queue";
	case NVME_ADMIN_CREATE_CQ:
		return "Create I/O Completion Queue";
	case NVME_ADMIN_IDENTIFY:
		return "Identify";
	default:
		return "Set Features";
	}
}

/* Wait for one command of the admin queue. 0, or -errno: then the controller is stopped. */
static int wait_admin(struct dmaland_nvme *ctrl, const struct nvme_iod *wanted, const char *name,
		      struct nvme_completion *completion)
{
	uint64_t begin = nvme_now_ms(), asked = begin;
	char what[160];

	for (;;) {
		uint64_t now = nvme_now_ms();
		struct nvme_iod *iod;
		int error;

		while (nvme_next_completion(ctrl->admin, completion, &iod)) {
			nvme_ring_cq(ctrl->admin);
			if (iod == wanted)
				return 0;
		}
		if (now - asked >= ALIVE_MS) {
			error = nvme_check_alive(ctrl, what, sizeof(what));
			if (error != 0)
				nvme_stop(ctrl, error, error, "%s", what);
			asked = now;
		}
		if (nvme_service(ctrl) != NVME_LIVE)
			return nvme_refuse(ctrl);
		if (now - begin > ctrl->timeout_ms) {
			nvme_stop(ctrl, EIO, ECANCELED,
				  "the admin command %s did not complete within %u ms", name,
				  ctrl->timeout_ms);
			nvme_refuse(ctrl);
			errno = ETIMEDOUT;
			return -ETIMEDOUT;
		}
		sched_yield();
	}
}

/* One admin command, with ctrl->lock held; its data, if any, are in ctrl->data. */
static int submit_locked(struct dmaland_nvme *ctrl, struct nvme_command *command, uint32_t *result)
{
	const char *name = command_name(command->opcode);
	struct nvme_completion completion;
	struct nvme_iod *iod;
	int status;

	if (nvme_service(ctrl) != NVME_LIVE)
		return nvme_refuse(ctrl);
	iod = nvme_take_slot(ctrl->admin);
	if (!iod)
		return dmaland_set_error(EBUSY, "the admin queue is full");
	nvme_submit_cmd(ctrl->admin, iod, command);
	nvme_ring_sq(ctrl->admin);
	status = wait_admin(ctrl, iod, name, &completion);
	nvme_give_slot(ctrl->admin, iod);
	if (status != 0)
		return status;
	if (result)
		*result = le32toh(completion.dw0);
	status = nvme_completion_status(&completion);
	if (status > 0)
		dmaland_set_error(EIO, "%s: %s: %s", dmaland_name(ctrl->dev), name,
				  dmaland_nvme_status_text(status));
	return status;
}

/* An admin command without data. */
int nvme_submit_sync_cmd(struct dmaland_nvme *ctrl, struct nvme_command *command, uint32_t *result)
{
	int status;

	pthread_mutex_lock(&ctrl->lock);
	status = submit_locked(ctrl, command, result);
	pthread_mutex_unlock(&ctrl->lock);
	return status;
}

/* NVMe 2.0, 5.17 */
int dmaland_nvme_identify(struct dmaland_nvme *ctrl, unsigned int cns, uint32_t nsid, void *data)
{
	struct nvme_command command = {
		.opcode = NVME_ADMIN_IDENTIFY,
		.nsid = htole32(nsid),
		.prp = {htole64(ctrl->data_dma)},
		.cdw10 = htole32(cns & 0xff),
	};
	int status = dmaland_check(ctrl->dev);

	if (status != 0)
		return status;
	pthread_mutex_lock(&ctrl->lock);
	memset(ctrl->data, 0, NVME_IDENTIFY_SIZE);
	status = submit_locked(ctrl, &command, NULL);
	if (status == 0)
		memcpy(data, ctrl->data, NVME_IDENTIFY_SIZE);
	pthread_mutex_unlock(&ctrl->lock);
	return status;
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

static uint32_t get32(const uint8_t *data, size_t offset)
{
	uint32_t value;

	memcpy(&value, data + offset, sizeof(value));
	return le32toh(value);
}

static uint64_t get64(const uint8_t *data, size_t offset)
{
	uint64_t value;

	memcpy(&value, data + offset, sizeof(value));
	return le64toh(value);
}

/* A limit in the form "2 to the power of, in units of 2^unit_shift; 0: none". */
static size_t power_limit(unsigned int power, unsigned int unit_shift)
{
	if (power == 0 || power + unit_shift >= 8 * sizeof(size_t))
		return SIZE_MAX;
	return (size_t)1 << (power + unit_shift);
}

/* What the controller says of itself (NVMe 2.0, 5.17.2.1). */
int nvme_identify_controller(struct dmaland_nvme *ctrl)
{
	struct dmaland_nvme_info *info = &ctrl->info;
	uint8_t data[NVME_IDENTIFY_SIZE];
	uint32_t rtd3e;
	size_t mdts;
	int status = dmaland_nvme_identify(ctrl, NVME_IDENTIFY_CONTROLLER, 0, data);

	if (status != 0)
		return status;
	copy_text(info->serial, data + 4, sizeof(info->serial) - 1);
	copy_text(info->model, data + 24, sizeof(info->model) - 1);
	copy_text(info->firmware, data + 64, sizeof(info->firmware) - 1);
	info->namespaces = get32(data, 516);
	mdts = power_limit(data[77], nvme_cap_mpsmin_shift(ctrl->cap));
	info->max_transfer = mdts < ctrl->max_transfer ? mdts : ctrl->max_transfer;
	/* SQES, CQES: the sizes of entries, as powers of two; low nibble least, high nibble most */
	if ((data[512] & 0xf) > 6 || data[512] >> 4 < 6 || (data[513] & 0xf) > 4 ||
	    data[513] >> 4 < 4)
		return dmaland_set_error(EOPNOTSUPP,
					 "%s wants queue entries of other sizes than 64 and 16 "
					 "bytes (SQES 0x%02x, CQES 0x%02x)",
					 dmaland_name(ctrl->dev), data[512], data[513]);
	/* RTD3E: how long a shutdown takes, in us; 0: the drive does not say */
	rtd3e = get32(data, 88);
	if (rtd3e > 0)
		ctrl->shutdown_ms = rtd3e / 1000 + 1000;
	return 0;
}

/* Ask for all the queues that there are; the drive says how many it has (NVMe 2.0, 5.27.1.5). */
int nvme_set_queue_count(struct dmaland_nvme *ctrl)
{
	enum { MOST = 0xfffe }; /* the largest number that may be asked, counted from 0 */
	struct nvme_command command = {
		.opcode = NVME_ADMIN_SET_FEATURES,
		.cdw10 = htole32(NVME_FEATURE_QUEUES),
		.cdw11 = htole32((uint32_t)MOST << 16 | MOST),
	};
	uint64_t bar = pci_resource_len(ctrl->dev, 0);
	uint64_t pair = 2 * nvme_cap_stride(ctrl->cap), room;
	uint32_t result, sqs, cqs;
	int status = nvme_submit_sync_cmd(ctrl, &command, &result);

	if (status != 0)
		return status;
	sqs = (result & 0xffff) + 1;
	cqs = (result >> 16) + 1;
	ctrl->info.max_queues = sqs < cqs ? sqs : cqs;
	if (ctrl->info.max_queues > 0xffff)
		ctrl->info.max_queues = 0xffff;
	/* no doorbell may lie outside of the window, whatever the drive says */
	room = bar <= NVME_REG_DOORBELLS + pair ? 0 : (bar - NVME_REG_DOORBELLS) / pair - 1;
	if (ctrl->info.max_queues > room)
		ctrl->info.max_queues = room;
	return 0;
}

/* A drive that won't let go of a queue may still write to it, and is stopped. */
static int delete_half(struct dmaland_nvme_queue *queue, uint8_t opcode)
{
	struct nvme_command command = {.opcode = opcode, .cdw10 = htole32(queue->qid)};
	int status = nvme_submit_sync_cmd(queue->ctrl, &command, NULL);

	if (status > 0)
		nvme_stop(queue->ctrl, EIO, ECANCELED, "%s of queue %u failed: %s",
			  command_name(opcode), queue->qid, dmaland_nvme_status_text(status));
	return status;
}

/* NVMe 2.0, 5.7 */
int nvme_delete_sq(struct dmaland_nvme_queue *queue)
{
	return delete_half(queue, NVME_ADMIN_DELETE_SQ);
}

/* NVMe 2.0, 5.6 */
int nvme_delete_cq(struct dmaland_nvme_queue *queue)
{
	return delete_half(queue, NVME_ADMIN_DELETE_CQ);
}

/* Tell the drive of a queue pair: the completion queue first (NVMe 2.0, 5.4 and 5.5). */
int nvme_create_queue(struct dmaland_nvme_queue *queue)
{
	uint32_t id_and_size = (queue->entries - 1) << 16 | queue->qid;
	struct nvme_command create_cq = {
		.opcode = NVME_ADMIN_CREATE_CQ,
		.prp = {htole64(queue->cq_dma)},
		.cdw10 = htole32(id_and_size),
		.cdw11 = htole32(1), /* PC: physically contiguous; IEN 0: no interrupts */
	};
	struct nvme_command create_sq = {
		.opcode = NVME_ADMIN_CREATE_SQ,
		.prp = {htole64(queue->sq_dma)},
		.cdw10 = htole32(id_and_size),
		.cdw11 = htole32((uint32_t)queue->qid << 16 | 1), /* CQID, PC */
	};
	int status = nvme_submit_sync_cmd(queue->ctrl, &create_cq, NULL);

	if (status != 0)
		return status;
	status = nvme_submit_sync_cmd(queue->ctrl, &create_sq, NULL);
	if (status > 0) {
		nvme_delete_cq(queue);
		dmaland_set_error(EIO, "%s: Create I/O Submission Queue %u: %s",
				  dmaland_name(queue->ctrl->dev), queue->qid,
				  dmaland_nvme_status_text(status));
	}
	return status;
}

/* -ENODEV in words. QEMU's and most drives' NN is a highest id, not a count: count the active. */
static int no_such_namespace(struct dmaland_nvme *ctrl, uint32_t nsid)
{
	uint32_t ids[NVME_IDENTIFY_SIZE / sizeof(uint32_t)];
	size_t n = 0;

	if (dmaland_nvme_identify(ctrl, NVME_IDENTIFY_ACTIVE_LIST, 0, ids) != 0)
		return dmaland_set_error(ENODEV, "namespace %" PRIu32 " does not exist", nsid);
	while (n < sizeof(ids) / sizeof(ids[0]) && ids[n] != 0)
		n++;
	return dmaland_set_error(ENODEV,
				 "namespace %" PRIu32 " does not exist (the drive has %zu%s)", nsid,
				 n, n == sizeof(ids) / sizeof(ids[0]) ? " or more" : "");
}

/* From Identify Namespace (NVM 1.0, 4.1.5.1) to what we keep. 0 or -errno. */
static int parse_namespace(struct dmaland_nvme *ctrl, const uint8_t *data, struct nvme_ns *ns)
{
	unsigned int formats = data[25] + 1;
	/* FLBAS: bits 6:5 are the upper ones, where there are more than 16 formats */
	unsigned int format = (data[26] & 0xf) | (formats > 16 ? (data[26] & 0x60) >> 1 : 0);
	uint32_t lbaf = format < 64 ? get32(data, 128 + 4 * format) : 0;
	uint64_t most;

	ns->info.blocks = get64(data, 0);
	if (ns->info.blocks == 0)
		return no_such_namespace(ctrl, ns->info.nsid);
	ns->block_shift = lbaf >> 16 & 0xff;
	if (format >= formats || ns->block_shift < 9 || ns->block_shift > 31 ||
	    ns->info.blocks > UINT64_MAX >> ns->block_shift)
		return dmaland_set_error(EOPNOTSUPP,
					 "namespace %u has format %u of %u, with %llu blocks of "
					 "2^%u bytes, which this driver can't use",
					 ns->info.nsid, format, formats,
					 (unsigned long long)ns->info.blocks, ns->block_shift);
	ns->info.block_size = 1u << ns->block_shift;
	ns->info.metadata = lbaf & 0xffff;
	most = ctrl->info.max_transfer >> ns->block_shift;
	if (most > 65536)
		most = 65536; /* NLB has 16 bits and counts from 0 (NVM 1.0, 3.2.4) */
	ns->max_blocks = most > 0 ? most : 1;
	return 0;
}

/* Ask the drive. The namespace, or NULL with the error set. */
static struct nvme_ns *identify_ns(struct dmaland_nvme *ctrl, uint32_t nsid)
{
	uint8_t data[NVME_IDENTIFY_SIZE];
	struct nvme_ns *ns;
	int status = dmaland_nvme_identify(ctrl, NVME_IDENTIFY_NAMESPACE, nsid, data);

	if (status == NVME_STATUS_INVALID_NAMESPACE)
		no_such_namespace(ctrl, nsid);
	if (status != 0)
		return NULL;
	ns = calloc(1, sizeof(*ns));
	if (!ns) {
		dmaland_set_error(ENOMEM, "no memory for a namespace");
		return NULL;
	}
	ns->info.nsid = nsid;
	if (parse_namespace(ctrl, data, ns) != 0) {
		int code = errno;

		free(ns);
		errno = code;
		return NULL;
	}
	return ns;
}

static const struct nvme_ns *cached_ns(struct dmaland_nvme *ctrl, uint32_t nsid)
{
	const struct nvme_ns *ns = atomic_load_explicit(&ctrl->namespaces, memory_order_acquire);

	while (ns && ns->info.nsid != nsid)
		ns = ns->next;
	return ns;
}

/*
 * A namespace, or NULL with the error set. Found without a lock once somebody has asked for it:
 * the list only grows at its head. Two threads that ask at once may both add it, harmlessly.
 */
const struct nvme_ns *nvme_find_ns(struct dmaland_nvme *ctrl, uint32_t nsid)
{
	const struct nvme_ns *known = cached_ns(ctrl, nsid);
	struct nvme_ns *ns;

	if (known)
		return known;
	if (nsid == 0 || nsid == UINT32_MAX) {
		dmaland_set_error(EINVAL, "0x%" PRIx32 " is no namespace; they count from 1", nsid);
		return NULL;
	}
	if (nsid > ctrl->info.namespaces) {
		no_such_namespace(ctrl, nsid);
		return NULL;
	}
	ns = identify_ns(ctrl, nsid);
	if (!ns)
		return NULL;
	ns->next = atomic_load_explicit(&ctrl->namespaces, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(&ctrl->namespaces, &ns->next, ns,
						      memory_order_release, memory_order_relaxed))
		;
	return ns;
}

void nvme_free_namespaces(struct dmaland_nvme *ctrl)
{
	struct nvme_ns *ns = atomic_load_explicit(&ctrl->namespaces, memory_order_acquire);

	while (ns) {
		struct nvme_ns *next = ns->next;

		free(ns);
		ns = next;
	}
}

int dmaland_nvme_get_namespace(struct dmaland_nvme *ctrl, uint32_t nsid,
			       struct dmaland_nvme_namespace *info)
{
	const struct nvme_ns *ns = dmaland_check(ctrl->dev) == 0 ? nvme_find_ns(ctrl, nsid) : NULL;

	if (!ns)
		return -errno;
	*info = ns->info;
	return 0;
}
