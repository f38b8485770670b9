/* SPDX-License-Identifier: MIT */
/*
 * prepare.c - requests that are prepared once and submitted many times
 *
 * What a submission would look up, map and write anew each time lies ready: the namespace, the mapping, the PRPs or
 * descriptors, the command but for its identifier, block and control bits. A prepared request is one command.
 *
 *   dmaland_nvme_prepare() --> submit_prepared() --> done() --> ... --> dmaland_nvme_unprepare()
 *   maps                       compares, copies        |                unmaps
 *                              ^-----------------------'
 *
 * It holds for the namespace as it was known then, and for the life of the controller up to its next reset: after that
 * it is stale, and never given to the drive any more. The mapping is the drive's all the time; memory that the
 * device sees a copy of is synced before the drive is told, and when it has answered.
 *
 * ctrl->prepared has all of them, so that closing the controller finds those that were not taken back.
 */
#include "ring.h"

#include <errno.h>
#include <stdlib.h>

/* ---- making ---- */

/* May a request be prepared? 0 or -errno with the error set. */
static int check_preparable(struct dmaland_nvme *ctrl, uint32_t state,
			    const struct dmaland_nvme_request *request, const struct nvme_ns **ns)
{
	int code;

	if (request->prepared)
		return dmaland_set_error(EALREADY, "the request is prepared already");
	if ((state & NVME_SERVICE_MASK) != NVME_LIVE)
		return nvme_refuse(ctrl);
	if (request->opcode == DMALAND_NVME_RAW || !nvme_has_data(request))
		return dmaland_set_error(EINVAL,
					 "only reads, writes and compares can be prepared, and "
					 "the request's opcode is %u",
					 request->opcode);
	code = nvme_check_request(ctrl, request, ns);
	if (code != 0)
		return code;
	if (request->blocks > (*ns)->most)
		return dmaland_set_error(
			EINVAL,
			"%llu blocks are asked, and a prepared request is one command, of "
			"%u blocks at most",
			(unsigned long long)request->blocks, (*ns)->most);
	return 0;
}

static bool needs_sync(struct dmaland_device *dev, const struct nvme_iod *iod)
{
	uint32_t i;

	if (nvme_is_piece(iod))
		return dma_need_sync(dev, iod->dma);
	for (i = 0; i < iod->sg_count && sg_dma_len(&iod->sg[i]) > 0; i++)
		if (dma_need_sync(dev, sg_dma_address(&iod->sg[i])))
			return true;
	return false;
}

/* Map the data, and write the command. 0 or -errno with the error set. */
static int fill_prepared(struct dmaland_nvme *ctrl, struct dmaland_nvme_prepared *prepared)
{
	const struct dmaland_nvme_request *request = prepared->request;
	struct nvme_iod *iod = &prepared->iod;
	struct nvme_position at = {0, 0};
	int code;

	nvme_init_iod(iod);
	iod->bytes = request->blocks << prepared->ns->block_shift;
	iod->direction = nvme_direction_of(request->opcode);
	nvme_fill_rw(request, &prepared->command, 0, request->blocks);
	prepared->command.cdw12 = htole32(request->blocks - 1);
	code = nvme_setup_data(&ctrl->pools, iod, request->iov, &at, &prepared->command);
	if (code != 0)
		return code;
	if (iod->gathered) {
		nvme_unmap_data(&ctrl->pools, iod, false);
		return dmaland_set_error(
			EOPNOTSUPP,
			"the data lie where PRPs can't say, so that each transfer would be copied: "
			"such a request can't be prepared; begin pieces at multiples of 4, and "
			"all but the first at pages");
	}
	prepared->syncs = needs_sync(ctrl->dev, iod);
	return 0;
}

/* Others may make it stale from then on; or have, since its namespace was looked up. */
static void add_prepared(struct dmaland_nvme *ctrl, struct dmaland_nvme_prepared *prepared)
{
	const struct nvme_ns *ns = prepared->ns;

	pthread_mutex_lock(&ctrl->lock);
	if (nvme_ns_id(ns) != prepared->nsid || nvme_state(ctrl) != prepared->state)
		atomic_store(&prepared->stale, true);
	else if (prepared->blocks <= ns->max_blocks && !prepared->syncs)
		atomic_store(&prepared->starts, ns->info.blocks - prepared->blocks + 1);
	prepared->next = ctrl->prepared;
	ctrl->prepared = prepared;
	pthread_mutex_unlock(&ctrl->lock);
}

int dmaland_nvme_prepare(struct dmaland_nvme *ctrl, struct dmaland_nvme_request *request)
{
	struct dmaland_nvme_prepared *prepared;
	const struct nvme_ns *ns;
	int code = dmaland_check(ctrl->dev);
	uint32_t state;

	if (code != 0)
		return code;
	state = nvme_settled(ctrl);
	code = check_preparable(ctrl, state, request, &ns);
	if (code != 0)
		return code;
	prepared = calloc(1, sizeof(*prepared));
	if (!prepared)
		return dmaland_set_error(ENOMEM, "no memory for a prepared request");
	prepared->request = request;
	prepared->ctrl = ctrl;
	prepared->ns = ns;
	prepared->iov = request->iov;
	prepared->blocks = request->blocks;
	prepared->nsid = request->nsid;
	prepared->opcode = request->opcode;
	prepared->state = state;
	code = fill_prepared(ctrl, prepared);
	if (code != 0) {
		free(prepared);
		return code;
	}
	add_prepared(ctrl, prepared);
	request->prepared = prepared;
	return 0;
}

/* UINT32_MAX: of all namespaces. ctrl->lock is held, so that none is added as its namespace changes. */
void nvme_make_prepared_stale(struct dmaland_nvme *ctrl, uint32_t nsid)
{
	struct dmaland_nvme_prepared *prepared;

	for (prepared = ctrl->prepared; prepared; prepared = prepared->next) {
		if (nsid != UINT32_MAX && prepared->nsid != nsid)
			continue;
		atomic_store_explicit(&prepared->stale, true, memory_order_relaxed);
		atomic_store_explicit(&prepared->starts, 0, memory_order_relaxed);
	}
}

/* ---- submitting ---- */

/* What submit_prepared() looks at, closer and with words. 0, and then it is taken; or -errno with the error set. */
int nvme_check_prepared(struct dmaland_nvme_queue *queue, struct dmaland_nvme_request *request)
{
	struct dmaland_nvme_prepared *prepared = request->prepared;
	const struct nvme_ns *ns = prepared->ns;
	int code = 0;

	if (prepared->ctrl != queue->ctrl || prepared->request != request)
		return dmaland_set_error(EINVAL,
					 "the request was not prepared for this controller, or is "
					 "a copy of one that was");
	if (request->opcode != prepared->opcode || request->nsid != prepared->nsid ||
	    request->blocks != prepared->blocks || request->iov != prepared->iov)
		return dmaland_set_error(
			EINVAL, "the request is not what was prepared: only block, control, "
				"done and context may be changed");
	if (nvme_service(queue->ctrl) > NVME_BUSY)
		return nvme_refuse(queue->ctrl);
	if (nvme_prepared_is_stale(prepared))
		return dmaland_set_error(
			ESTALE, "the namespace has changed, or the controller was reset, since "
				"the request was prepared; prepare it anew");
	code = nvme_check_range(request, ns);
	if (code == 0 && request->opcode == DMALAND_NVME_WRITE)
		code = nvme_check_zoned_write(request, ns, ns->most);
	if (code == 0 && request->blocks > nvme_zone_left(ns, request->block))
		code = dmaland_set_error(EOPNOTSUPP,
					 "a prepared request is one command, and these blocks "
					 "are of two zones");
	if (code != 0)
		return code;
	if (!nvme_take_prepared(prepared))
		return dmaland_set_error(EALREADY,
					 "the request is under way; it can be submitted again when "
					 "it is done()");
	return 0;
}

/* The drive is about to be told of it, or has answered. */
void nvme_sync_prepared(struct dmaland_nvme_prepared *prepared, bool for_device)
{
	const struct nvme_iod *iod = &prepared->iod;
	enum dma_data_direction direction = (enum dma_data_direction)iod->direction;
	struct dmaland_device *dev = prepared->ctrl->dev;

	if (nvme_is_piece(iod) && for_device)
		dma_sync_single_for_device(dev, iod->dma, iod->bytes, direction);
	else if (nvme_is_piece(iod))
		dma_sync_single_for_cpu(dev, iod->dma, iod->bytes, direction);
	else if (for_device)
		dma_sync_sg_for_device(dev, iod->sg, (int)iod->sg_count, direction);
	else
		dma_sync_sg_for_cpu(dev, iod->sg, (int)iod->sg_count, direction);
}

/* ---- the end ---- */

/* Unmap what was prepared; not what a drive that could not be stopped may still reach. */
static void free_prepared(struct dmaland_nvme *ctrl, struct dmaland_nvme_prepared *prepared)
{
	prepared->request->prepared = NULL;
	if (nvme_service(ctrl) == NVME_RUNAWAY)
		nvme_leak_iod(&prepared->iod);
	else
		nvme_unmap_data(&ctrl->pools, &prepared->iod, false);
	free(prepared);
}

int dmaland_nvme_unprepare(struct dmaland_nvme *ctrl, struct dmaland_nvme_request *request)
{
	struct dmaland_nvme_prepared *prepared = request->prepared, **link;
	int code = dmaland_check(ctrl->dev);

	if (code != 0)
		return code;
	if (!prepared || prepared->ctrl != ctrl || prepared->request != request)
		return dmaland_set_error(EINVAL,
					 "the request is not prepared, or not for this controller");
	if (!nvme_take_prepared(prepared))
		return dmaland_set_error(EBUSY,
					 "the request is under way: the drive may use its memory "
					 "until it is done()");
	pthread_mutex_lock(&ctrl->lock);
	for (link = &ctrl->prepared; *link != prepared; link = &(*link)->next)
		;
	*link = prepared->next;
	pthread_mutex_unlock(&ctrl->lock);
	free_prepared(ctrl, prepared);
	return 0;
}

/* The controller is closed, and nothing is under way. */
void nvme_free_prepared(struct dmaland_nvme *ctrl)
{
	while (ctrl->prepared) {
		struct dmaland_nvme_prepared *prepared = ctrl->prepared;

		ctrl->prepared = prepared->next;
		free_prepared(ctrl, prepared);
	}
}
