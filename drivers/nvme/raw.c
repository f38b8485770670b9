/* SPDX-License-Identifier: MIT */
/*
 * raw.c - commands as the caller has them, for the admin queue and for queues of I/O
 *
 * The driver sees to the identifier and to where the data lie; all else is the caller's. Such a command
 * is never split nor given to the drive twice, since nobody knows what it does. How many bytes
 * it transfers only the drive knows, too: where that is more than the caller said, there are no
 * further addresses to be found in its PRPs.
 *
 * On a queue of I/O it is a request of the opcode DMALAND_NVME_RAW, which goes the way of those that
 * carry no data: see nvme_setup_no_data().
 */
#include "nvme_internal.h"

#include <errno.h>
#include <string.h>

/* May a command of this opcode transfer so much? 0 or -errno with the error set. */
static int check_data(struct dmaland_nvme *ctrl, uint8_t opcode, uint64_t bytes)
{
	if (bytes == 0)
		return 0;
	if (nvme_direction_of(opcode) != DMA_TO_DEVICE &&
	    nvme_direction_of(opcode) != DMA_FROM_DEVICE)
		return dmaland_set_error(
			EINVAL,
			"a command of opcode 0x%02x has no data, or goes both ways "
			"(bits 1:0), and %llu bytes were given",
			opcode, (unsigned long long)bytes);
	if (bytes % 4 != 0)
		return dmaland_set_error(
			EINVAL, "%llu bytes of data are no multiple of 4, as a drive wants",
			(unsigned long long)bytes);
	if (bytes > ctrl->info.max_transfer)
		return dmaland_set_error(
			EINVAL,
			"%llu bytes of data asked, and a command of %s carries %zu "
			"at most (info.max_transfer: MDTS, or options.max_transfer)",
			(unsigned long long)bytes, dmaland_name(ctrl->dev),
			ctrl->info.max_transfer);
	return 0;
}

/*
 * Map the data, by PRPs, which every command takes; lists end where the data do, whatever lay in their blocks
 * before. 0 or -errno.
 */
static int map_data(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
		    const struct iovec *iov, struct nvme_command *command)
{
	struct nvme_prp_pools by_prps = *pools;
	struct nvme_position at = {0, 0};
	int code;
	uint32_t i;

	nvme_use_sgls(&by_prps, 0);
	code = nvme_setup_data(&by_prps, iod, iov, &at, command);
	if (code != 0 || iod->list_count == 0)
		return code;
	for (i = 0; i < iod->list_count; i++)
		memset(iod->lists[i].vaddr, 0,
		       iod->small_list ? NVME_SMALL_LIST : pools->page_size);
	nvme_write_data(pools, iod, command);
	return 0;
}

static void fill(const struct dmaland_nvme_command *raw, struct nvme_command *command)
{
	command->opcode = raw->opcode;
	command->nsid = htole32(raw->nsid);
	command->cdw2 = htole32(raw->cdw2);
	command->cdw3 = htole32(raw->cdw3);
	command->cdw10 = htole32(raw->cdw10);
	command->cdw11 = htole32(raw->cdw11);
	command->cdw12 = htole32(raw->cdw12);
	command->cdw13 = htole32(raw->cdw13);
	command->cdw14 = htole32(raw->cdw14);
	command->cdw15 = htole32(raw->cdw15);
}

/* ---- on a queue of I/O ---- */

static uint64_t bytes_of(const struct dmaland_nvme_request *request)
{
	uint64_t bytes = 0;

	for (int i = 0; i < request->iov_count; i++)
		if (__builtin_add_overflow(bytes, request->iov[i].iov_len, &bytes))
			return UINT64_MAX;
	return bytes;
}

/* Is a raw request one? 0 or -errno with the error set. */
int nvme_check_raw(struct dmaland_nvme *ctrl, const struct dmaland_nvme_request *request)
{
	if (!request->raw || request->blocks != 0 || request->control != 0)
		return dmaland_set_error(EINVAL, "a raw request has a command, and neither blocks "
						 "nor control bits: those are the command's");
	if (request->iov_count < 0 || (request->iov_count > 0 && !request->iov))
		return dmaland_set_error(EINVAL, "%d segments at %p are no segments",
					 request->iov_count, (const void *)request->iov);
	for (int i = 0; i < request->iov_count; i++)
		if (!request->iov[i].iov_base && request->iov[i].iov_len > 0)
			return dmaland_set_error(EINVAL, "segment %d of %zu bytes is at NULL", i,
						 request->iov[i].iov_len);
	return check_data(ctrl, request->raw->opcode, bytes_of(request));
}

/*
 * A raw request is over, whose one command has completed if there is a status: just now, so that the
 * queue has the completion. Other commands' completions are looked at no further, and cost nothing.
 */
static void raw_done(struct dmaland_nvme_request *request, int status)
{
	const struct nvme_completion *completion = &request->driver.queue->completion;

	if (status >= 0) {
		request->raw->result[0] = le32toh(completion->dw0);
		request->raw->result[1] = le32toh(completion->dw1);
	}
	request->done = request->driver.done;
	request->done(request, status);
}

/* Take a slot's command from a raw request. 0 or -errno. */
int nvme_setup_raw(struct dmaland_nvme_queue *queue, struct nvme_iod *iod,
		   struct dmaland_nvme_request *request)
{
	struct nvme_command command;
	int code = 0;

	iod->bytes = bytes_of(request);
	iod->direction = nvme_direction_of(request->raw->opcode);
	if (iod->bytes > 0)
		code = map_data(&queue->ctrl->pools, iod, request->iov, &command);
	if (code != 0)
		return code;
	request->driver.left = 0;
	request->driver.queue = queue;
	request->driver.done = request->done;
	request->done = raw_done;
	return 0;
}

void nvme_fill_raw(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
		   struct nvme_command *command)
{
	fill(iod->request->raw, command);
	if (iod->bytes > 0)
		nvme_write_data(pools, iod, command);
}

/* ---- on the admin queue ---- */

/* Which the driver has to give itself, since they are about memory and queues of its own. */
static int check_admin(struct dmaland_nvme *ctrl, const struct dmaland_nvme_command *raw)
{
	switch (raw->opcode) {
	case NVME_ADMIN_DELETE_SQ:
	case NVME_ADMIN_CREATE_SQ:
	case NVME_ADMIN_DELETE_CQ:
	case NVME_ADMIN_CREATE_CQ:
	case NVME_ADMIN_EVENT_REQUEST:
	case NVME_ADMIN_DOORBELL_BUFFER:
		return dmaland_set_error(
			EPERM,
			"the admin command 0x%02x is the driver's own: it is about "
			"queues and events, which the driver makes and waits for",
			raw->opcode);
	}
	if (raw->size > 0 && !raw->data)
		return dmaland_set_error(EINVAL, "%zu bytes of data are at NULL", raw->size);
	return check_data(ctrl, raw->opcode, raw->size);
}

/* Format NVM, and Namespace Management and Attachment: what is known of namespaces is stale then. */
static bool changes_namespaces(uint8_t opcode)
{
	enum { MANAGEMENT = 0x0d, ATTACHMENT = 0x15 };

	return opcode == NVME_ADMIN_FORMAT || opcode == MANAGEMENT || opcode == ATTACHMENT;
}

static int submit_admin(struct dmaland_nvme *ctrl, struct dmaland_nvme_command *raw,
			struct nvme_command *command)
{
	bool format = raw->opcode == NVME_ADMIN_FORMAT;
	unsigned int timeout_ms = raw->timeout_ms;
	int status;

	if (timeout_ms == 0)
		timeout_ms = format ? ctrl->format_ms : ctrl->timeout_ms;
	if (!changes_namespaces(raw->opcode))
		return nvme_submit_sync_cmd(ctrl, command, timeout_ms, raw->result);
	nvme_begin_change(ctrl, format ? raw->nsid : UINT32_MAX, format);
	status = nvme_submit_sync_cmd(ctrl, command, timeout_ms, raw->result);
	nvme_end_change(ctrl, format ? raw->nsid : UINT32_MAX, format);
	return status;
}

int dmaland_nvme_admin(struct dmaland_nvme *ctrl, struct dmaland_nvme_command *raw)
{
	struct iovec iov = {raw->data, raw->size};
	struct nvme_iod iod = {.bytes = raw->size, .direction = nvme_direction_of(raw->opcode)};
	struct nvme_command command = {0};
	int status = dmaland_check(ctrl->dev);

	if (status == 0)
		status = check_admin(ctrl, raw);
	if (status != 0)
		return status;
	fill(raw, &command);
	nvme_init_iod(&iod);
	if (raw->size > 0) {
		status = map_data(&ctrl->pools, &iod, &iov, &command);
		if (status != 0)
			return status;
	}
	status = submit_admin(ctrl, raw, &command);
	nvme_settled(ctrl); /* if it is late, a reset has ended it */
	if (nvme_service(ctrl) == NVME_RUNAWAY)
		nvme_leak_iod(&iod);
	else
		nvme_unmap_data(&ctrl->pools, &iod, status == 0);
	return status;
}
