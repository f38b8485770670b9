/* SPDX-License-Identifier: MIT */
/*
 * event.c - what the drive reports unasked: Asynchronous Event Request (NVMe 2.0, 5.2)
 *
 *   request --> the drive's --> completes: an event --> its log page is read --> asked for once more
 *                                             |
 *                                             `--> ring --> dmaland_nvme_event()
 *
 * A few of these commands are always the drive's, and each keeps a slot of the admin queue. No thread
 * waits for them: whoever polls a queue looks once a tick, nvme_watch(), and so does whoever asks
 * for events. The drive sends no second event of a type before the log page of the first was read.
 *
 * A request that the drive fails is asked for once more after a pause, which doubles while that goes on. Two
 * statuses are no failures but say what the drive takes: fewer of them, or none. That holds until a reset.
 */
#include "ring.h"

#include <errno.h>
#include <stdio.h>

/* Types of events, and what of them concerns the driver (NVMe 2.0, 5.2.1, figures 145 to 150) */
enum {
	EVENT_ERROR = 0,
	EVENT_HEALTH = 1,
	EVENT_NOTICE = 2,
	EVENT_VENDOR = 7,
	NOTICE_NAMESPACE = 0,
	LOG_CHANGED_NAMESPACES = 4, /* 5.16.1.5 */
	CHANGED_MOST = 1024,
	MOST_DOUBLINGS = 6, /* of the pause, which begins as a tick: of half a second at most */
};

/*
 * Asynchronous Event Configuration (NVMe 2.0, 5.27.1.8): the five critical warnings of health; and notices of
 * namespaces and firmware, where the drive has them.
 */
static struct nvme_command configure(const struct dmaland_nvme *ctrl)
{
	enum { WARNINGS = 0x1f, NAMESPACES = 1 << 8, FIRMWARE = 1 << 9 };

	return (struct nvme_command){
		.opcode = NVME_ADMIN_SET_FEATURES,
		.cdw10 = htole32(NVME_FEATURE_EVENTS),
		.cdw11 = htole32(WARNINGS | (ctrl->report_kinds & (NAMESPACES | FIRMWARE))),
	};
}

static unsigned int reports_out(const struct dmaland_nvme *ctrl)
{
	unsigned int i, n = 0;

	for (i = 0; i < NVME_REPORTS; i++)
		n += ctrl->reports[i] != NULL;
	return n;
}

/* Give the drive the requests that it does not have, with ctrl->lock held. */
static void ask(struct dmaland_nvme *ctrl)
{
	unsigned int i, out = reports_out(ctrl);

	if (nvme_now_ms() < ctrl->report_again)
		return;
	for (i = 0; i < NVME_REPORTS && out < ctrl->report_limit; i++) {
		struct nvme_command command = {.opcode = NVME_ADMIN_EVENT_REQUEST};

		if (ctrl->reports[i])
			continue;
		ctrl->reports[i] = nvme_take_slot(ctrl->admin);
		if (!ctrl->reports[i])
			break;
		nvme_submit_cmd(ctrl->admin, ctrl->reports[i], &command);
		out++;
	}
	nvme_ring_sq(ctrl->admin);
}

/* A drive that was just enabled may take what it refused before. */
static void ask_anew(struct dmaland_nvme *ctrl)
{
	ctrl->report_limit = ctrl->report_most < NVME_REPORTS ? ctrl->report_most : NVME_REPORTS;
	ctrl->report_failures = 0;
	ctrl->report_again = 0;
	ask(ctrl);
}

/* A drive that refuses the configuration reports what it reports. 0 or -errno. */
int nvme_ask_for_reports(struct dmaland_nvme *ctrl)
{
	struct nvme_command command = configure(ctrl);
	int status = nvme_submit_sync_cmd(ctrl, &command, ctrl->timeout_ms, NULL);

	if (status < 0)
		return status;
	pthread_mutex_lock(&ctrl->lock);
	ask_anew(ctrl);
	pthread_mutex_unlock(&ctrl->lock);
	return 0;
}

/* After a reset. */
int nvme_ask_for_reports_alone(struct dmaland_nvme *ctrl)
{
	struct nvme_command command = configure(ctrl);
	int status = nvme_admin_alone(ctrl, &command, ctrl->queue_ms);

	if (status < 0)
		return status;
	ask_anew(ctrl);
	return 0;
}

/* ---- what comes ---- */

static void push(struct dmaland_nvme *ctrl, struct dmaland_nvme_event event)
{
	pthread_mutex_lock(&ctrl->lock);
	if (ctrl->event_count == NVME_EVENTS) {
		ctrl->first_event = (ctrl->first_event + 1) % NVME_EVENTS;
		ctrl->event_count--;
		ctrl->events_missed++;
	}
	ctrl->events[(ctrl->first_event + ctrl->event_count++) % NVME_EVENTS] = event;
	pthread_mutex_unlock(&ctrl->lock);
}

/* Which namespaces have changed is in a list of ids that ascend, or 0xffffffff where there are too many. */
static void take_changes(struct dmaland_nvme *ctrl, struct dmaland_nvme_event event,
			 const uint8_t *log)
{
	unsigned int i;

	for (i = 0; i < CHANGED_MOST && nvme_get32(log, 4 * i) > event.nsid; i++) {
		event.nsid = nvme_get32(log, 4 * i);
		if (event.nsid == UINT32_MAX)
			nvme_check_namespaces(ctrl);
		else
			nvme_check_ns(ctrl, event.nsid);
		push(ctrl, event);
	}
}

/*
 * Reading the log page lets the drive report again. Should that fail, nobody knows which namespaces
 * have changed.
 */
static void take_event(struct dmaland_nvme *ctrl, uint32_t dw0)
{
	struct dmaland_nvme_event event = {
		.type = dw0 & 7,
		.info = dw0 >> 8 & 0xff,
		.page = dw0 >> 16 & 0xff,
	};
	bool changes = event.type == EVENT_NOTICE && event.info == NOTICE_NAMESPACE;
	uint8_t log[NVME_ADMIN_DATA] = {0};
	int status = 0;

	if (changes)
		event.page = LOG_CHANGED_NAMESPACES;
	if (event.page != 0)
		status = dmaland_nvme_get_log(ctrl, event.page, UINT32_MAX, 0, log,
					      changes ? sizeof(log) : 512);
	if (changes && status != 0)
		nvme_doubt_ns(ctrl, UINT32_MAX);
	if (changes && status == 0)
		take_changes(ctrl, event, log);
	else
		push(ctrl, event);
}

/*
 * Ask again after a pause: each failure is an entry of the drive's error log. Those of one round, which come
 * together, count once; and what failed long ago does not count.
 */
static void put_off(struct dmaland_nvme *ctrl)
{
	uint64_t now = nvme_now_ms();

	if (now < ctrl->report_again)
		return;
	if (now - ctrl->report_again > (uint64_t)ctrl->tick_ms << MOST_DOUBLINGS)
		ctrl->report_failures = 0;
	ctrl->report_again = now + ((uint64_t)ctrl->tick_ms << ctrl->report_failures);
	if (ctrl->report_failures < MOST_DOUBLINGS)
		ctrl->report_failures++;
}

/*
 * The drive did not take a request, or gave it back. Where it holds as many as it can, the limit is one less;
 * one it always has (AERL counts from 0), so that a status that comes too early leaves it that.
 */
static void take_refusal(struct dmaland_nvme *ctrl, int status)
{
	const char *then = "it is asked again, after a while";

	if (status == NVME_STATUS_INVALID_OPCODE) {
		ctrl->report_limit = 0;
		then = "it reports nothing";
	} else if (status == NVME_STATUS_EVENT_LIMIT && ctrl->report_limit > 1) {
		ctrl->report_limit--;
		then = "it is asked for fewer at a time";
	} else {
		put_off(ctrl);
	}
	if (ctrl->report_said)
		return;
	ctrl->report_said = true;
	dmaland_log(DMALAND_LOG_WARN, "%s: Asynchronous Event Request: %s; %s; this is said once",
		    dmaland_name(ctrl->dev), dmaland_nvme_status_text(status), then);
}

/* A request that has completed, and is the drive's no more; with ctrl->lock held. */
static bool take_report(struct dmaland_nvme *ctrl, uint32_t *dw0)
{
	unsigned int i;

	for (i = 0; i < NVME_REPORTS; i++) {
		struct nvme_iod *iod = ctrl->reports[i];
		const struct nvme_completion *completion;
		int status;

		if (!iod || iod->busy)
			continue;
		completion = &ctrl->admin_done[iod - ctrl->admin->iods];
		ctrl->reports[i] = NULL;
		nvme_give_slot(ctrl->admin, iod);
		*dw0 = le32toh(completion->dw0);
		status = nvme_completion_status(completion);
		if (status == 0) {
			ctrl->report_failures = 0;
			return true;
		}
		take_refusal(ctrl, status);
	}
	return false;
}

/*
 * Take what the drive has reported, and ask for more; a few events at most, however many it sends. While
 * it formats it may answer nothing else, and nobody is to wait for that.
 */
void nvme_take_reports(struct dmaland_nvme *ctrl)
{
	uint32_t dw0[NVME_REPORTS];
	unsigned int n = 0, i;

	if (atomic_load_explicit(&ctrl->held_until, memory_order_relaxed) == UINT64_MAX ||
	    nvme_service(ctrl) != NVME_LIVE || pthread_mutex_trylock(&ctrl->lock) != 0)
		return;
	nvme_reap_admin(ctrl);
	while (n < NVME_REPORTS && take_report(ctrl, &dw0[n]))
		n++;
	if (n == 0 && nvme_service(ctrl) == NVME_LIVE)
		ask(ctrl);
	pthread_mutex_unlock(&ctrl->lock);
	if (n == 0)
		return;
	for (i = 0; i < n; i++)
		take_event(ctrl, dw0[i]);
	pthread_mutex_lock(&ctrl->lock);
	if (nvme_service(ctrl) == NVME_LIVE)
		ask(ctrl);
	pthread_mutex_unlock(&ctrl->lock);
}

int dmaland_nvme_event(struct dmaland_nvme *ctrl, struct dmaland_nvme_event *event)
{
	int code = dmaland_check(ctrl->dev), found;

	if (code != 0)
		return code;
	nvme_take_reports(ctrl);
	pthread_mutex_lock(&ctrl->lock);
	found = ctrl->event_count > 0;
	if (found) {
		*event = ctrl->events[ctrl->first_event];
		event->missed = ctrl->events_missed;
		ctrl->events_missed = 0;
		ctrl->first_event = (ctrl->first_event + 1) % NVME_EVENTS;
		ctrl->event_count--;
	}
	pthread_mutex_unlock(&ctrl->lock);
	if (!found && nvme_service(ctrl) > NVME_BUSY)
		return nvme_refuse(ctrl);
	return found;
}

/* ---- words ---- */

static const char *const errors[] = {
	"a doorbell of a queue that there is not was rung",
	"a doorbell was rung with a value that can't be",
	"its self-test failed",
	"persistent internal error",
	"transient internal error",
	"its firmware image could not be loaded",
};

static const char *const warnings[] = {
	"it has become less reliable",
	"its temperature is beyond a threshold",
	"its spare capacity is below the threshold",
};

static const char *const notices[] = {
	"a namespace has changed",
	"new firmware is being activated",
	"it has telemetry data",
	"access to namespaces has changed (ANA)",
	"its predictable latency has changed",
	"there are blocks that may be unreadable (LBA status)",
	"an endurance group needs a look",
};

const char *dmaland_nvme_event_text(const struct dmaland_nvme_event *event, char *text, size_t size)
{
	static const struct {
		const char *name;
		const char *const *words;
		size_t count;
	} types[] = {
		[EVENT_ERROR] = {"error", errors, sizeof(errors) / sizeof(errors[0])},
		[EVENT_HEALTH] = {"health", warnings, sizeof(warnings) / sizeof(warnings[0])},
		[EVENT_NOTICE] = {"notice", notices, sizeof(notices) / sizeof(notices[0])},
	};
	int n = 0;

	if (event->type == EVENT_NOTICE && event->info == NOTICE_NAMESPACE &&
	    event->nsid != UINT32_MAX && event->nsid != 0)
		n = snprintf(text, size, "namespace %u has changed", event->nsid);
	else if (event->type < sizeof(types) / sizeof(types[0]) &&
		 event->info < types[event->type].count)
		n = snprintf(text, size, "%s: %s", types[event->type].name,
			     types[event->type].words[event->info]);
	else
		n = snprintf(text, size, "%s type %u, 0x%02x, log page %u",
			     event->type == EVENT_VENDOR ? "the vendor's event," : "event,",
			     event->type, event->info, event->page);
	if (event->missed > 0 && n >= 0 && (size_t)n < size)
		snprintf(text + n, size - n, " (%llu before it were missed)",
			 (unsigned long long)event->missed);
	return text;
}
