/* SPDX-License-Identifier: MIT */
/*
 * change.c - namespaces that others change: another controller, another host
 *
 * What is known is compared with what the drive says now, when it reports a change (event.c), after a
 * reset, and on demand. What differs becomes stale. Requests that were begun before go on where blocks
 * look as they did.
 */
#include "nvme_internal.h"

#include <errno.h>
#include <inttypes.h>

/* There is a doubt about a namespace: the next use asks the drive. */
void nvme_doubt_ns(struct dmaland_nvme *ctrl, uint32_t nsid)
{
	pthread_mutex_lock(&ctrl->lock);
	nvme_forget_ns(ctrl, nsid, false);
	pthread_mutex_unlock(&ctrl->lock);
}

/*
 * What a request was begun with is stale: may it go on? Then it goes by what is known now. Asks the
 * drive. Not after a format of our own, whose data are not what the request was about; nor where there are
 * other zones now, which the request was not checked for.
 */
bool nvme_may_go_on(struct dmaland_nvme *ctrl, struct dmaland_nvme_request *request)
{
	const struct nvme_ns *before = request->driver.ns, *ns;

	if (atomic_load(&before->formatted))
		return false;
	ns = nvme_find_ns(ctrl, request->nsid);
	if (!ns || !nvme_same_blocks(ns, before) || !nvme_same_zones(ns, before))
		return false;
	request->driver.ns = ns;
	return true;
}

static void log_change(struct dmaland_nvme *ctrl, uint32_t nsid)
{
	dmaland_log(DMALAND_LOG_WARN,
		    "%s: namespace %" PRIu32 " is not what it was: it is asked for again",
		    dmaland_name(ctrl->dev), nsid);
}

/* Whoever leads a reset, with ctrl->lock held: what is not as it was is stale. 0, or -errno. */
int nvme_check_namespaces_alone(struct dmaland_nvme *ctrl)
{
	struct nvme_ns *ns;

	for (ns = atomic_load_explicit(&ctrl->namespaces, memory_order_relaxed); ns;
	     ns = ns->next) {
		uint32_t nsid = ns->info.nsid;
		int changed;

		if (nvme_ns_id(ns) == NVME_STALE)
			continue;
		changed = nvme_ns_changed(ctrl, nvme_identify_alone, ns);
		if (changed < 0)
			return changed;
		if (changed == 0)
			continue;
		nvme_forget_ns(ctrl, nsid, false);
		log_change(ctrl, nsid);
	}
	return 0;
}

/* Ask about a namespace that is known. 1 when it has changed, 0 or -errno. */
int nvme_check_ns(struct dmaland_nvme *ctrl, uint32_t nsid)
{
	const struct nvme_ns *known = nvme_cached_ns(ctrl, nsid);
	int changed;

	if (!known)
		return 0;
	changed = nvme_ns_changed(ctrl, nvme_identify_set, known);
	if (changed <= 0)
		return changed;
	if (nvme_ns_id(known) == nsid) { /* no format of our own came between */
		nvme_doubt_ns(ctrl, nsid);
		log_change(ctrl, nsid);
	}
	return 1;
}

/* All that are known: how many have changed, or -errno. */
int nvme_check_namespaces(struct dmaland_nvme *ctrl)
{
	const struct nvme_ns *ns = atomic_load_explicit(&ctrl->namespaces, memory_order_acquire);
	int changed = 0;

	for (; ns; ns = ns->next) {
		int code = nvme_ns_id(ns) != NVME_STALE ? nvme_check_ns(ctrl, ns->info.nsid) : 0;

		if (code < 0)
			return code;
		changed += code;
	}
	return changed;
}

int dmaland_nvme_rescan(struct dmaland_nvme *ctrl)
{
	int code = dmaland_check(ctrl->dev);

	if (code != 0)
		return code;
	nvme_take_reports(ctrl);
	return nvme_check_namespaces(ctrl);
}
