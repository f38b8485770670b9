/* SPDX-License-Identifier: MIT */
/*
 * control.c - the controller's registers, and the state that it is in (NVMe 2.0, 3.5 and 3.6)
 *
 *              reset: disabled, enabled again, the generation is one more
 *            ,-----------------------------------------------------------,
 *            v                                                           |
 *          LIVE ------> BUSY (the thread that made this step works) -----+-----> STOPPED, RUNAWAY
 *                                                                         stopped, or reset failed
 *
 * Who makes the step to BUSY leads: there is no thread of the driver's own. A queue can be used
 * while the controller's state is the one in which the drive was told of it, so that one comparison
 * keeps requests from queues that are no more. Other threads may still ring a doorbell that they
 * were about to when the state changed: it is that of a queue which the drive does not know then,
 * since each queue is made again only by the thread that uses it, and it is ignored (3.1.3 of the
 * PCIe transport: at most an asynchronous event, for which nobody asked).
 *
 * After a reset all that the drive was given is ours again: a disabled controller touches no memory.
 */
#include "nvme_internal.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
	STOP_MS = 1000, /* for a drive that is in trouble to become disabled */
	GONE = -1,	/* what registers read when nobody answers */
};

uint64_t nvme_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*
 * Before the next look at a drive that has not answered: many looks follow at once, for most answers come
 * soon, and the others are a millisecond apart. No cancellation point.
 */
void nvme_pause(unsigned int *looks)
{
	enum { AT_ONCE = 1000 };
	const struct timespec moment = {.tv_nsec = 1000000};
	int before;

	if (*looks < AT_ONCE) {
		*looks += 1;
		sched_yield();
		return;
	}
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	nanosleep(&moment, NULL);
	pthread_setcancelstate(before, &before);
}

/*
 * How long a command has been waited for, in ms. While a format is under way (held_until is
 * UINT64_MAX) the drive may carry out nothing else, so that time counts for no other command:
 * each has its time-out once more when the format is over.
 */
uint64_t nvme_waited(struct dmaland_nvme *ctrl, uint64_t begin, uint64_t now)
{
	uint64_t held = atomic_load_explicit(&ctrl->held_until, memory_order_relaxed);

	if (held > begin)
		begin = held;
	return now > begin ? now - begin : 0;
}

/*
 * Wait until the bits of CSTS have a value, for so many ms after begin. 0, or -ENODEV, -EIO (fatal) or -ETIMEDOUT with
 * words.
 */
static int wait_status(struct dmaland_nvme *ctrl, uint32_t bits, uint32_t value, uint64_t begin,
		       unsigned int ms, const char *wanted)
{
	bool is_cap_to = ms == nvme_cap_timeout_ms(ctrl->cap);
	unsigned int looks = 0;

	for (;;) {
		uint64_t now = nvme_now_ms();
		uint32_t csts = readl(ctrl->bar + NVME_REG_CSTS);

		if (csts == (uint32_t)GONE)
			return dmaland_set_error(
				ENODEV, "%s does not answer any more: its registers read all ones",
				dmaland_name(ctrl->dev));
		if ((csts & bits) == value)
			return 0;
		if ((csts & NVME_CSTS_CFS) && (bits & NVME_CSTS_RDY) && value != 0)
			return dmaland_set_error(
				EIO,
				"%s did not become %s: controller fatal status (CSTS.CFS); reset "
				"the device or power it off and on",
				dmaland_name(ctrl->dev), wanted);
		if (now - begin > ms)
			return dmaland_set_error(
				ETIMEDOUT,
				"controller %s did not become %s within %u ms%s: CSTS is 0x%x; "
				"reset the device or power it off and on",
				dmaland_name(ctrl->dev), wanted, ms, is_cap_to ? " (CAP.TO)" : "",
				csts);
		nvme_pause(&looks);
	}
}

static int nvme_wait_ready(struct dmaland_nvme *ctrl, bool ready, unsigned int ms)
{
	return wait_status(ctrl, NVME_CSTS_RDY, ready ? NVME_CSTS_RDY : 0, nvme_now_ms(), ms,
			   ready ? "ready" : "disabled");
}

int nvme_disable_ctrl(struct dmaland_nvme *ctrl, unsigned int ms)
{
	ctrl->cc &= ~(NVME_CC_EN | NVME_CC_SHN_MASK);
	writel(ctrl->cc, ctrl->bar + NVME_REG_CC);
	return nvme_wait_ready(ctrl, false, ms);
}

/*
 * Disable a controller as somebody else left it; that may be a process that was killed. Clearing
 * CC.EN of one that is on its way to ready is undefined (NVMe 2.0, 3.1.3.5), so it may arrive.
 */
int nvme_disable_as_found(struct dmaland_nvme *ctrl)
{
	unsigned int ms = nvme_cap_timeout_ms(ctrl->cap);

	ctrl->cc = readl(ctrl->bar + NVME_REG_CC);
	if ((ctrl->cc & NVME_CC_EN) && nvme_wait_ready(ctrl, true, ms) == -ENODEV)
		return -ENODEV;
	return nvme_disable_ctrl(ctrl, ms);
}

/* Give the controller the admin queue, and enable it. */
int nvme_enable_ctrl(struct dmaland_nvme *ctrl)
{
	const struct dmaland_nvme_queue *admin = ctrl->admin;
	uint32_t size = admin->entries - 1;

	nvme_mask_irqs(ctrl);
	writel(size << 16 | size, ctrl->bar + NVME_REG_AQA);
	writeq(admin->sq_dma, ctrl->bar + NVME_REG_ASQ);
	writeq(admin->cq_dma, ctrl->bar + NVME_REG_ACQ);
	ctrl->cc = NVME_CC_EN | NVME_CC_IOSQES | NVME_CC_IOCQES |
		   (ctrl->pools.page_shift - 12) << NVME_CC_MPS_SHIFT;
	if (nvme_cap_command_sets(ctrl->cap))
		ctrl->cc |= NVME_CC_CSS_ALL;
	writel(ctrl->cc, ctrl->bar + NVME_REG_CC);
	return nvme_wait_ready(ctrl, true, nvme_cap_timeout_ms(ctrl->cap));
}

/* Is the drive there and at work? 0, or an errno with the reason in what. */
int nvme_check_alive(struct dmaland_nvme *ctrl, char *what, size_t size)
{
	uint32_t csts = readl(ctrl->bar + NVME_REG_CSTS);

	if (csts == (uint32_t)GONE || !pci_device_is_present(ctrl->dev)) {
		snprintf(what, size, "the drive does not answer any more");
		return ENODEV;
	}
	if (csts & NVME_CSTS_CFS) {
		snprintf(what, size, "controller fatal status (CSTS.CFS)");
		return EIO;
	}
	if (!(csts & NVME_CSTS_RDY)) {
		snprintf(what, size, "the controller was disabled behind our back (CSTS is 0x%x)",
			 csts);
		return EIO;
	}
	return 0;
}

/*
 * Keep the drive from memory, and stop it with whatever it has. One of several ways is enough: no bus mastering, a
 * reset, a controller that says it is disabled, or nobody there. False when none is known to work.
 */
static bool nvme_quiesce(struct dmaland_nvme *ctrl, unsigned int ms)
{
	bool quiet = pci_clear_master(ctrl->dev) == 0;

	if (!pci_device_is_present(ctrl->dev))
		return true;
	if (quiet && !(ctrl->cc & NVME_CC_EN))
		return true;
	return pci_reset_function(ctrl->dev) == 0 ||
	       ((ctrl->cc & NVME_CC_EN) && nvme_disable_ctrl(ctrl, ms) == 0) || quiet;
}

/* LIVE -> BUSY, from the state that the caller saw; false when another thread was first. */
static bool take_lead(struct dmaland_nvme *ctrl, uint32_t state)
{
	return (state & NVME_SERVICE_MASK) == NVME_LIVE &&
	       atomic_compare_exchange_strong(&ctrl->state, &state, state | NVME_BUSY);
}

static void leave_lead(struct dmaland_nvme *ctrl, uint32_t generation, enum nvme_service service)
{
	atomic_store_explicit(&ctrl->state, generation * NVME_GENERATION | service,
			      memory_order_release);
}

static void end_stop(struct dmaland_nvme *ctrl, bool quiet)
{
	if (!quiet)
		dmaland_log(DMALAND_LOG_ERR,
			    "%s could not be stopped and may still write to memory that it was "
			    "given; what the driver gave it stays allocated",
			    dmaland_name(ctrl->dev));
	leave_lead(ctrl, nvme_state(ctrl) / NVME_GENERATION, quiet ? NVME_STOPPED : NVME_RUNAWAY);
}

/* Note why the controller is out of service; whoever leads. */
static void note_reason(struct dmaland_nvme *ctrl, int refuse, int cancel, const char *reason)
{
	snprintf(ctrl->why, sizeof(ctrl->why), "%s is out of service: %s; close and open it again",
		 dmaland_name(ctrl->dev), reason);
	ctrl->refuse = refuse;
	ctrl->cancel = cancel;
	dmaland_log(DMALAND_LOG_ERR, "%s", ctrl->why);
}

/*
 * Take the controller out of service, once. Requests in flight will end with the errno @cancel,
 * new ones are refused with @refuse; the format says why.
 */
void nvme_stop(struct dmaland_nvme *ctrl, int refuse, int cancel, const char *format, ...)
{
	char reason[180];
	va_list args;

	if (!take_lead(ctrl, nvme_state(ctrl)))
		return;
	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	note_reason(ctrl, refuse, cancel, reason);
	end_stop(ctrl, nvme_quiesce(ctrl, STOP_MS));
}

/* The state when nobody leads; who does has time-outs. */
uint32_t nvme_settled(struct dmaland_nvme *ctrl)
{
	unsigned int looks = 0;

	while (nvme_service(ctrl) == NVME_BUSY)
		nvme_pause(&looks);
	return nvme_state(ctrl);
}

/* Why a controller that is not live takes no commands. Returns -errno with the error set. */
int nvme_refuse(struct dmaland_nvme *ctrl)
{
	if ((nvme_settled(ctrl) & NVME_SERVICE_MASK) == NVME_LIVE)
		return dmaland_set_error(ECANCELED, "%s was reset meanwhile",
					 dmaland_name(ctrl->dev));
	return dmaland_set_error(ctrl->refuse, "%s", ctrl->why);
}

/* ---- reset ---- */

/*
 * The gentle way, and if the controller does not obey, the function's own reset. That comes first where the drive may have I/O
 * commands left: it ends them all, and QEMU's drive (7.2) does not survive that it is disabled with some (SIGSEGV).
 * 0 or -errno.
 */
static int disable_somehow(struct dmaland_nvme *ctrl, bool idle)
{
	int code = -EBUSY;

	if (idle) {
		code = nvme_disable_ctrl(ctrl, ctrl->reset_ms);
		if (code == 0 || code == -ENODEV)
			return code;
		dmaland_log(DMALAND_LOG_WARN, "%s; resetting the function", dmaland_last_error());
	}
	code = pci_reset_function(ctrl->dev); /* what is enabled stays so */
	if (code != 0 && code != -ENODEV && !idle)
		return nvme_disable_ctrl(ctrl, ctrl->reset_ms);
	return code == 0 ? nvme_disable_as_found(ctrl) : code;
}

/* Off and on again, with ctrl->lock held: no admin command of others is under way. */
static int restart(struct dmaland_nvme *ctrl)
{
	char what[160];
	bool idle;
	int code;

	idle = nvme_check_alive(ctrl, what, sizeof(what)) == 0 &&
	       nvme_delete_queues(ctrl, UINT_MAX);
	code = disable_somehow(ctrl, idle);
	if (code != 0)
		return code;
	nvme_forget_shadows(ctrl);
	nvme_reset_queue(ctrl->admin);
	nvme_make_prepared_stale(ctrl, UINT32_MAX);
	memset(ctrl->reports, 0, sizeof(ctrl->reports));
	atomic_store(&ctrl->admin_late, false);
	code = pci_set_master(ctrl->dev);
	if (code == 0)
		code = nvme_enable_ctrl(ctrl);
	if (code == 0)
		code = nvme_set_queue_count_again(ctrl);
	if (code == 0)
		code = nvme_setup_shadows_again(ctrl);
	if (code == 0)
		code = nvme_ask_for_reports_alone(ctrl);
	return code == 0 ? nvme_check_namespaces_alone(ctrl) : code;
}

static void give_in(struct dmaland_nvme *ctrl, int code, const char *reason)
{
	char words[300];

	snprintf(words, sizeof(words), "%s, and resetting it failed: %.120s", reason,
		 code > 0 ? dmaland_nvme_status_text(code) : dmaland_last_error());
	note_reason(ctrl, code == -ENODEV ? ENODEV : EIO, code == -ENODEV ? ENODEV : ECANCELED,
		    words);
	end_stop(ctrl, nvme_quiesce(ctrl, STOP_MS));
}

/*
 * Reset the controller, if it is in the state that the caller saw; else somebody else has done so.
 * Its queues are made again by their threads, see recover.c. A controller that can't be reset, or
 * is only being opened, is taken out of service.
 */
void nvme_reset(struct dmaland_nvme *ctrl, uint32_t state, const char *format, ...)
{
	char reason[120];
	va_list args;
	int code = -EIO;

	if (!take_lead(ctrl, state))
		return;
	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	if (!ctrl->opened) {
		note_reason(ctrl, EIO, ECANCELED, reason);
		end_stop(ctrl, nvme_quiesce(ctrl, STOP_MS));
		return;
	}
	dmaland_log(DMALAND_LOG_WARN, "%s: %s; resetting the controller", dmaland_name(ctrl->dev),
		    reason);
	atomic_fetch_add_explicit(&ctrl->stats.resets, 1, memory_order_relaxed);
	pthread_mutex_lock(&ctrl->lock);
	code = restart(ctrl);
	if (code == 0)
		leave_lead(ctrl, state / NVME_GENERATION + 1, NVME_LIVE);
	else
		give_in(ctrl, code, reason);
	pthread_mutex_unlock(&ctrl->lock);
}

int dmaland_nvme_reset(struct dmaland_nvme *ctrl)
{
	uint32_t state = nvme_state(ctrl);
	int code = dmaland_check(ctrl->dev);

	if (code != 0)
		return code;
	nvme_reset(ctrl, state, "a reset was asked for");
	state = nvme_settled(ctrl) & NVME_SERVICE_MASK;
	return state == NVME_LIVE ? 0 : nvme_refuse(ctrl);
}

/* ---- the end ---- */

/*
 * Tell a live controller to write back what it holds, and wait (NVMe 2.0, 3.6.1). Then stop it. One deadline holds
 * for the end of its queues and for writing back; a drive that is silent to the first has half of it for the second.
 */
void nvme_shutdown_ctrl(struct dmaland_nvme *ctrl)
{
	unsigned int ms = nvme_cap_timeout_ms(ctrl->cap);
	uint64_t begin = nvme_now_ms();
	char what[160];

	if (!take_lead(ctrl, nvme_state(ctrl)))
		return;
	snprintf(ctrl->why, sizeof(ctrl->why), "%s is closed", dmaland_name(ctrl->dev));
	ctrl->refuse = EIO;
	ctrl->cancel = ECANCELED;
	if (ctrl->cc & NVME_CC_EN) {
		bool idle = false;

		if (nvme_check_alive(ctrl, what, sizeof(what)) == 0) {
			pthread_mutex_lock(&ctrl->lock);
			idle = nvme_delete_queues(ctrl, ctrl->shutdown_ms / 2);
			pthread_mutex_unlock(&ctrl->lock);
		}
		writel(ctrl->cc | NVME_CC_SHN_NORMAL, ctrl->bar + NVME_REG_CC);
		if (wait_status(ctrl, NVME_CSTS_SHST_MASK, NVME_CSTS_SHST_COMPLETE, begin,
				ctrl->shutdown_ms, "shut down") != 0 ||
		    disable_somehow(ctrl, idle) != 0)
			dmaland_log(DMALAND_LOG_WARN, "%s", dmaland_last_error());
	}
	end_stop(ctrl, nvme_quiesce(ctrl, ms));
}
