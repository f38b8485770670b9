/* SPDX-License-Identifier: MIT */
/*
 * nvme.c - the controller: open, enable, stop, close (NVMe 2.0, 3.5 and 3.6)
 *
 *   open    disable whatever was set up before us, then let the device do DMA, give it an admin
 *           queue, enable it, ask what it is
 *   stop    take it out of service: a command took too long, or the drive is gone. The device is
 *           kept from memory first; each queue then ends its own requests when it is polled
 *   close   shut down, disable, keep it from memory, free all
 *
 * Interrupts are masked; the driver polls.
 */
#include "nvme_internal.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	DEFAULT_TIMEOUT_MS = 30000,
	DEFAULT_FORMAT_TIMEOUT_MS = 600000,
	DEFAULT_MAX_TRANSFER = 2 << 20, /* its PRPs fit in one list page of 4 KiB */
	DEFAULT_SHUTDOWN_MS = 5000,
	STOP_MS = 1000, /* for a drive that is in trouble to become disabled */
	ADMIN_DEPTH = 31,
	GONE = -1, /* what registers read when nobody answers */
};

uint64_t nvme_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Wait until the bits of CSTS have a value. 0, or -ENODEV, -EIO (fatal) or -ETIMEDOUT with words. */
static int wait_status(struct dmaland_nvme *ctrl, uint32_t bits, uint32_t value, unsigned int ms,
		       const char *wanted)
{
	bool is_cap_to = ms == nvme_cap_timeout_ms(ctrl->cap);
	uint64_t begin = nvme_now_ms();

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
		sched_yield();
	}
}

static int nvme_wait_ready(struct dmaland_nvme *ctrl, bool ready, unsigned int ms)
{
	return wait_status(ctrl, NVME_CSTS_RDY, ready ? NVME_CSTS_RDY : 0, ms,
			   ready ? "ready" : "disabled");
}

static int nvme_disable_ctrl(struct dmaland_nvme *ctrl, unsigned int ms)
{
	ctrl->cc &= ~(NVME_CC_EN | NVME_CC_SHN_MASK);
	writel(ctrl->cc, ctrl->bar + NVME_REG_CC);
	return nvme_wait_ready(ctrl, false, ms);
}

/*
 * Disable a controller as somebody else left it; that may be a process that was killed. Clearing
 * CC.EN of one that is on its way to ready is undefined (NVMe 2.0, 3.1.3.5), so it may arrive.
 */
static int disable_as_found(struct dmaland_nvme *ctrl)
{
	unsigned int ms = nvme_cap_timeout_ms(ctrl->cap);

	ctrl->cc = readl(ctrl->bar + NVME_REG_CC);
	if ((ctrl->cc & NVME_CC_EN) && nvme_wait_ready(ctrl, true, ms) == -ENODEV)
		return -ENODEV;
	return nvme_disable_ctrl(ctrl, ms);
}

/* Give the controller the admin queue, and enable it. */
static int nvme_enable_ctrl(struct dmaland_nvme *ctrl)
{
	const struct dmaland_nvme_queue *admin = ctrl->admin;
	uint32_t size = admin->entries - 1;

	writel(UINT32_MAX, ctrl->bar + NVME_REG_INTMS);
	writel(size << 16 | size, ctrl->bar + NVME_REG_AQA);
	writeq(admin->sq_dma, ctrl->bar + NVME_REG_ASQ);
	writeq(admin->cq_dma, ctrl->bar + NVME_REG_ACQ);
	ctrl->cc = NVME_CC_EN | NVME_CC_IOSQES | NVME_CC_IOCQES |
		   (ctrl->pools.page_shift - 12) << NVME_CC_MPS_SHIFT;
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
 * Keep the drive from memory, and disable it. One of several ways is enough: no bus mastering, a
 * reset, a controller that says it is disabled, or nobody there. False when none is known to work.
 */
static bool nvme_quiesce(struct dmaland_nvme *ctrl, unsigned int ms)
{
	bool quiet = pci_clear_master(ctrl->dev) == 0;

	if (!pci_device_is_present(ctrl->dev))
		return true;
	if ((ctrl->cc & NVME_CC_EN) && nvme_disable_ctrl(ctrl, ms) == 0)
		quiet = true;
	return quiet || pci_reset_function(ctrl->dev) == 0;
}

/* LIVE -> STOPPING; false when another thread was first. */
static bool begin_stop(struct dmaland_nvme *ctrl)
{
	enum nvme_service live = NVME_LIVE;

	return atomic_compare_exchange_strong(&ctrl->service, &live, NVME_STOPPING);
}

static void end_stop(struct dmaland_nvme *ctrl, bool quiet)
{
	if (!quiet)
		dmaland_log(DMALAND_LOG_ERR,
			    "%s could not be stopped and may still write to memory that it was "
			    "given; what the driver gave it stays allocated",
			    dmaland_name(ctrl->dev));
	atomic_store_explicit(&ctrl->service, quiet ? NVME_STOPPED : NVME_RUNAWAY,
			      memory_order_release);
}

/*
 * Take the controller out of service, once. Requests in flight will end with the errno @cancel,
 * new ones are refused with @refuse; the format says why.
 */
void nvme_stop(struct dmaland_nvme *ctrl, int refuse, int cancel, const char *format, ...)
{
	char reason[180];
	va_list args;

	if (!begin_stop(ctrl))
		return;
	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	snprintf(ctrl->why, sizeof(ctrl->why), "%s is out of service: %s; close and open it again",
		 dmaland_name(ctrl->dev), reason);
	ctrl->refuse = refuse;
	ctrl->cancel = cancel;
	dmaland_log(DMALAND_LOG_ERR, "%s", ctrl->why);
	end_stop(ctrl, nvme_quiesce(ctrl, STOP_MS));
}

/* Why a controller that is not live takes no commands. Returns -errno with the error set. */
int nvme_refuse(struct dmaland_nvme *ctrl)
{
	while (nvme_service(ctrl) == NVME_STOPPING)
		sched_yield();
	return dmaland_set_error(ctrl->refuse, "%s", ctrl->why);
}

/* Tell a live controller to write back what it holds, and wait (NVMe 2.0, 3.6.1). Then stop it. */
static void nvme_shutdown_ctrl(struct dmaland_nvme *ctrl)
{
	unsigned int ms = nvme_cap_timeout_ms(ctrl->cap);

	if (!begin_stop(ctrl))
		return;
	snprintf(ctrl->why, sizeof(ctrl->why), "%s is closed", dmaland_name(ctrl->dev));
	ctrl->refuse = EIO;
	ctrl->cancel = ECANCELED;
	if (ctrl->cc & NVME_CC_EN) {
		writel(ctrl->cc | NVME_CC_SHN_NORMAL, ctrl->bar + NVME_REG_CC);
		if (wait_status(ctrl, NVME_CSTS_SHST_MASK, NVME_CSTS_SHST_COMPLETE,
				ctrl->shutdown_ms, "shut down") != 0 ||
		    nvme_disable_ctrl(ctrl, ms) != 0)
			dmaland_log(DMALAND_LOG_WARN, "%s", dmaland_last_error());
	}
	end_stop(ctrl, nvme_quiesce(ctrl, ms));
}

/* The registers, and what they say of the controller. It can't do DMA yet. */
static int nvme_pci_enable(struct dmaland_nvme *ctrl)
{
	uint64_t length = pci_resource_len(ctrl->dev, 0);
	uint32_t class;
	int code = pci_read_config_dword(ctrl->dev, 0x08, &class);

	/* PCI Code and ID Assignment 1.11, 1.2: mass storage, NVM, NVM Express */
	if (code == 0 && class >> 8 != 0x010802)
		return dmaland_set_error(ENODEV, "%s is no NVMe controller: its class is 0x%06x",
					 dmaland_name(ctrl->dev), class >> 8);
	if (code == 0)
		code = pci_enable_device(ctrl->dev);
	if (code != 0)
		return code;
	if (length < NVME_REG_DOORBELLS + 8)
		return dmaland_set_error(ENODEV,
					 "%s is no NVMe controller: its BAR 0 has %llu bytes",
					 dmaland_name(ctrl->dev), (unsigned long long)length);
	ctrl->bar = pci_iomap(ctrl->dev, 0, 0);
	if (!ctrl->bar)
		return -errno;
	ctrl->cap = readq(ctrl->bar + NVME_REG_CAP);
	ctrl->info.version = readl(ctrl->bar + NVME_REG_VS);
	if (ctrl->cap == UINT64_MAX)
		return dmaland_set_error(ENODEV, "%s does not answer: its registers read all ones",
					 dmaland_name(ctrl->dev));
	if (!nvme_cap_nvm_command_set(ctrl->cap))
		return dmaland_set_error(EOPNOTSUPP,
					 "%s does not offer the NVM command set (CAP is 0x%llx)",
					 dmaland_name(ctrl->dev), (unsigned long long)ctrl->cap);
	if (nvme_cap_mqes(ctrl->cap) == 0 ||
	    NVME_REG_DOORBELLS + 2 * nvme_cap_stride(ctrl->cap) > length)
		return dmaland_set_error(EIO,
					 "%s offers no queue (CAP is 0x%llx, BAR 0 has %llu bytes)",
					 dmaland_name(ctrl->dev), (unsigned long long)ctrl->cap,
					 (unsigned long long)length);
	ctrl->info.max_queue_depth = nvme_cap_mqes(ctrl->cap);
	return disable_as_found(ctrl);
}

/* CC.MPS: the machine's page size where the controller can, the nearest where it can't. */
static size_t choose_page_size(uint64_t cap)
{
	size_t least = (size_t)1 << nvme_cap_mpsmin_shift(cap);
	size_t most = (size_t)1 << nvme_cap_mpsmax_shift(cap);
	size_t page = sysconf(_SC_PAGESIZE);

	if (page > most)
		page = most;
	return page < least ? least : page;
}

/* What the drive will be given, and leave to reach it. */
static int nvme_setup_memory(struct dmaland_nvme *ctrl)
{
	size_t page = choose_page_size(ctrl->cap);
	int code;

	ctrl->info.page_size = page;
	if (dma_set_mask_and_coherent(ctrl->dev, DMA_BIT_MASK(64)) != 0) {
		code = dma_set_mask_and_coherent(ctrl->dev, DMA_BIT_MASK(32));
		if (code != 0)
			return code;
	}
	code = nvme_setup_prp_pools(&ctrl->pools, ctrl->dev, page);
	if (code != 0)
		return code;
	ctrl->data_bytes = page > NVME_ADMIN_DATA ? page : NVME_ADMIN_DATA;
	ctrl->data = dma_alloc_coherent(ctrl->dev, ctrl->data_bytes, &ctrl->data_dma, GFP_KERNEL);
	if (!ctrl->data)
		return -errno;
	ctrl->admin = nvme_alloc_queue(ctrl, 0, ADMIN_DEPTH);
	if (!ctrl->admin)
		return -errno;
	return pci_set_master(ctrl->dev);
}

/* Options of an older, shorter struct are zeroes from its end on. */
static void take_options(struct dmaland_nvme *ctrl, const struct dmaland_nvme_options *given)
{
	struct dmaland_nvme_options options = {0};
	unsigned int eighth;

	if (given)
		memcpy(&options, given,
		       given->size < sizeof(options) ? given->size : sizeof(options));
	ctrl->timeout_ms = options.timeout_ms ? options.timeout_ms : DEFAULT_TIMEOUT_MS;
	ctrl->format_timeout_ms =
		options.format_timeout_ms ? options.format_timeout_ms : DEFAULT_FORMAT_TIMEOUT_MS;
	ctrl->max_transfer = options.max_transfer ? options.max_transfer : DEFAULT_MAX_TRANSFER;
	ctrl->shutdown_ms = DEFAULT_SHUTDOWN_MS;
	/* ages are counted in 16 bits */
	eighth = ctrl->timeout_ms / 8 < 500 ? ctrl->timeout_ms / 8 : 500;
	ctrl->tick_ms = ctrl->timeout_ms / 30000 > eighth ? ctrl->timeout_ms / 30000 : eighth;
	if (ctrl->tick_ms == 0)
		ctrl->tick_ms = 1;
	ctrl->patience = ctrl->timeout_ms / ctrl->tick_ms + 1;
}

/* Close what failed to open, and keep the words that say why. */
static struct dmaland_nvme *give_up(struct dmaland_nvme *ctrl)
{
	char words[512];
	int code = errno;

	snprintf(words, sizeof(words), "%s", dmaland_last_error());
	dmaland_nvme_close(ctrl);
	dmaland_set_error(code, "%s", words);
	return NULL;
}

struct dmaland_nvme *dmaland_nvme_open(struct dmaland_device *dev,
				       const struct dmaland_nvme_options *options)
{
	struct dmaland_nvme *ctrl;

	if (!dev) {
		dmaland_set_error(EINVAL, "dmaland_nvme_open: no device");
		return NULL;
	}
	if (dmaland_check(dev) != 0)
		return NULL;
	if (options && options->size == 0) {
		dmaland_set_error(
			EINVAL, "options.size is 0; set it to sizeof(struct dmaland_nvme_options)");
		return NULL;
	}
	ctrl = calloc(1, sizeof(*ctrl));
	if (!ctrl) {
		dmaland_set_error(ENOMEM, "no memory for a controller");
		return NULL;
	}
	ctrl->dev = dev;
	pthread_mutex_init(&ctrl->lock, NULL);
	take_options(ctrl, options);
	if (nvme_pci_enable(ctrl) != 0 || nvme_setup_memory(ctrl) != 0 ||
	    nvme_enable_ctrl(ctrl) != 0 || nvme_identify_controller(ctrl) != 0 ||
	    nvme_set_queue_count(ctrl) != 0)
		return give_up(ctrl);
	return ctrl;
}

/* Free what the drive was given; not when it may still use it. */
static void free_memory(struct dmaland_nvme *ctrl)
{
	if (ctrl->admin)
		nvme_free_queue(ctrl->admin);
	if (ctrl->data && nvme_service(ctrl) != NVME_RUNAWAY)
		dma_free_coherent(ctrl->dev, ctrl->data_bytes, ctrl->data, ctrl->data_dma);
	nvme_release_prp_pools(&ctrl->pools);
}

void dmaland_nvme_close(struct dmaland_nvme *ctrl)
{
	struct dmaland_nvme_queue *queue, *next;
	uint64_t begin = nvme_now_ms();

	if (!ctrl || dmaland_check(ctrl->dev) != 0)
		return;
	for (queue = ctrl->queues; queue; queue = queue->next)
		nvme_drain_queue(queue, begin);
	if (ctrl->bar)
		nvme_shutdown_ctrl(ctrl);
	for (queue = ctrl->queues; queue; queue = next) {
		next = queue->next;
		nvme_poll_cq(queue);
		nvme_cancel_queue(queue, ctrl->cancel);
		nvme_free_queue(queue);
	}
	free_memory(ctrl);
	nvme_free_namespaces(ctrl);
	pci_iounmap(ctrl->dev, ctrl->bar);
	pci_disable_device(ctrl->dev);
	pthread_mutex_destroy(&ctrl->lock);
	free(ctrl);
}

void dmaland_nvme_get_info(struct dmaland_nvme *ctrl, struct dmaland_nvme_info *info)
{
	*info = ctrl->info;
}
