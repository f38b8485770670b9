/* SPDX-License-Identifier: MIT */
/*
 * nvme.c - the controller: open and close
 *
 *   open    disable whatever was set up before us, then let the device do DMA, give it an admin
 *           queue, enable it, ask what it is
 *   close   shut down, disable, keep it from memory, free all
 */
#include "nvme_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <dmaland/irq.h>

enum {
	DEFAULT_TIMEOUT_MS = 30000,
	DEFAULT_ABORT_MS = 5000,
	DEFAULT_QUEUE_MS = 5000,
	DEFAULT_FORMAT_MS = 600000,
	DEFAULT_SHUTDOWN_MS = 5000,
	DEFAULT_MAX_TRANSFER = 2 << 20, /* its PRPs fit in one list page of 4 KiB */
};

/* What CAP and the size of BAR 0 say: can this driver use the controller? */
static int check_capabilities(struct dmaland_nvme *ctrl, uint64_t length)
{
	const char *name = dmaland_name(ctrl->dev);
	size_t least = (size_t)1 << nvme_cap_mpsmin_shift(ctrl->cap);

	if (ctrl->cap == UINT64_MAX)
		return dmaland_set_error(ENODEV, "%s does not answer: its registers read all ones",
					 name);
	if (ctrl->cap == 0)
		return dmaland_set_error(
			ENODEV,
			"the capabilities of %s read 0 (CAP), as those of a virtual function "
			"do that is offline: its physical function gives it queues and puts it "
			"online "
			"(nvme virt-mgmt); or the drive is broken",
			name);
	if (!nvme_cap_nvm_command_set(ctrl->cap) && !nvme_cap_command_sets(ctrl->cap))
		return dmaland_set_error(EOPNOTSUPP,
					 "%s does not offer the NVM command set (CAP is 0x%llx)",
					 name, (unsigned long long)ctrl->cap);
	if (nvme_cap_mqes(ctrl->cap) == 0)
		return dmaland_set_error(EIO, "%s offers no queue (CAP.MQES is 0)", name);
	if (NVME_REG_DOORBELLS + 2 * nvme_cap_stride(ctrl->cap) > length)
		return dmaland_set_error(
			EIO,
			"BAR 0 of %s has %llu bytes, which have no room for doorbells "
			"of %u bytes each (CAP.DSTRD) from byte %u on",
			name, (unsigned long long)length, nvme_cap_stride(ctrl->cap),
			NVME_REG_DOORBELLS);
	if (least > NVME_MOST_PAGE)
		return dmaland_set_error(
			EOPNOTSUPP,
			"%s wants memory in pages of %zu KiB at least (CAP.MPSMIN), and this "
			"driver can give %u KiB at most",
			name, least >> 10, NVME_MOST_PAGE >> 10);
	return 0;
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
	ctrl->enabled = true;
	if (length < NVME_REG_DOORBELLS + 8)
		return dmaland_set_error(ENODEV,
					 "%s is no NVMe controller: its BAR 0 has %llu bytes",
					 dmaland_name(ctrl->dev), (unsigned long long)length);
	ctrl->bar = pci_iomap(ctrl->dev, 0, 0);
	if (!ctrl->bar)
		return -errno;
	ctrl->cap = readq(ctrl->bar + NVME_REG_CAP);
	ctrl->info.version = readl(ctrl->bar + NVME_REG_VS);
	code = check_capabilities(ctrl, length);
	if (code != 0)
		return code;
	ctrl->info.max_queue_depth = nvme_cap_mqes(ctrl->cap);
	if (ctrl->reset_ms == 0)
		ctrl->reset_ms = nvme_cap_timeout_ms(ctrl->cap);
	return nvme_disable_as_found(ctrl);
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
	ctrl->own_data =
		dma_alloc_coherent(ctrl->dev, ctrl->data_bytes, &ctrl->own_data_dma, GFP_KERNEL);
	if (!ctrl->own_data)
		return -errno;
	ctrl->admin = nvme_alloc_queue(ctrl, 0, NVME_ADMIN_DEPTH);
	if (!ctrl->admin)
		return -errno;
	nvme_empty_rings(ctrl->admin);
	code = pci_set_master(ctrl->dev);
	if (code == 0)
		nvme_setup_irqs(ctrl);
	return code;
}

/* Ages are counted in ticks: of half a second, or an eighth of the time-out where that is shorter. */
static void set_ticks(struct dmaland_nvme *ctrl)
{
	enum { MOST = 1 << 30 }; /* whose sums fit in nvme_iod.age */
	unsigned int tick = ctrl->timeout_ms / 8 < 500 ? ctrl->timeout_ms / 8 : 500;

	ctrl->tick_ms = tick > 0 ? tick : 1;
	ctrl->patience = ctrl->timeout_ms / ctrl->tick_ms + 1;
	ctrl->abort_patience = ctrl->abort_ms / ctrl->tick_ms + 1;
	if (ctrl->abort_ms / ctrl->tick_ms > MOST)
		ctrl->abort_patience = MOST;
}

/* Options of an older, shorter struct are zeroes from its end on; zero is the default. */
static void take_options(struct dmaland_nvme *ctrl, const struct dmaland_nvme_options *given)
{
	struct dmaland_nvme_options options = {0};

	if (given)
		memcpy(&options, given,
		       given->size < sizeof(options) ? given->size : sizeof(options));
	ctrl->timeout_ms = options.timeout_ms ? options.timeout_ms : DEFAULT_TIMEOUT_MS;
	ctrl->abort_ms = options.abort_timeout_ms ? options.abort_timeout_ms : DEFAULT_ABORT_MS;
	ctrl->queue_ms = options.queue_timeout_ms ? options.queue_timeout_ms : DEFAULT_QUEUE_MS;
	ctrl->reset_ms = options.reset_timeout_ms; /* until CAP is known */
	ctrl->format_ms = options.format_timeout_ms ? options.format_timeout_ms : DEFAULT_FORMAT_MS;
	ctrl->irq_types = options.irq_types ? options.irq_types : PCI_IRQ_ALL_TYPES;
	ctrl->max_transfer = options.max_transfer ? options.max_transfer : DEFAULT_MAX_TRANSFER;
	ctrl->no_sgls = options.no_sgls;
	ctrl->shutdown_given = options.shutdown_timeout_ms > 0;
	ctrl->shutdown_ms =
		ctrl->shutdown_given ? options.shutdown_timeout_ms : DEFAULT_SHUTDOWN_MS;
	set_ticks(ctrl);
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
	atomic_init(&ctrl->state, NVME_GENERATION | NVME_LIVE);
	pthread_mutex_init(&ctrl->line_lock, NULL);
	pthread_mutex_init(&ctrl->lock, NULL);
	pthread_mutex_init(&ctrl->format_lock, NULL);
	pthread_mutex_init(&ctrl->data_lock, NULL);
	take_options(ctrl, options);
	if (nvme_pci_enable(ctrl) != 0 || nvme_setup_memory(ctrl) != 0 ||
	    nvme_enable_ctrl(ctrl) != 0 || nvme_identify_controller(ctrl) != 0 ||
	    nvme_set_queue_count(ctrl) != 0 || nvme_setup_shadows(ctrl) != 0 ||
	    nvme_ask_for_reports(ctrl) != 0)
		return give_up(ctrl);
	ctrl->opened = true;
	return ctrl;
}

/* Free what the drive was given; not when it may still use it. */
static void free_memory(struct dmaland_nvme *ctrl)
{
	if (ctrl->admin)
		nvme_free_queue(ctrl->admin);
	nvme_release_shadows(ctrl);
	if (ctrl->own_data && nvme_service(ctrl) != NVME_RUNAWAY)
		dma_free_coherent(ctrl->dev, ctrl->data_bytes, ctrl->own_data, ctrl->own_data_dma);
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
		nvme_reap(queue);
		nvme_cancel_queue(queue, ctrl->cancel);
		nvme_free_queue(queue);
	}
	nvme_free_prepared(ctrl);
	free_memory(ctrl);
	nvme_free_namespaces(ctrl);
	nvme_release_irqs(ctrl);
	pci_iounmap(ctrl->dev, ctrl->bar);
	if (ctrl->enabled)
		pci_disable_device(ctrl->dev);
	pthread_mutex_destroy(&ctrl->data_lock);
	pthread_mutex_destroy(&ctrl->format_lock);
	pthread_mutex_destroy(&ctrl->lock);
	pthread_mutex_destroy(&ctrl->line_lock);
	free(ctrl);
}

void dmaland_nvme_get_info(struct dmaland_nvme *ctrl, struct dmaland_nvme_info *info)
{
	*info = ctrl->info;
}

void dmaland_nvme_get_stats(struct dmaland_nvme *ctrl, struct dmaland_nvme_stats *stats)
{
	const struct nvme_counters *counters = &ctrl->stats;

	*stats = (struct dmaland_nvme_stats){
		.repeated = atomic_load_explicit(&counters->repeated, memory_order_relaxed),
		.aborts = atomic_load_explicit(&counters->aborts, memory_order_relaxed),
		.queues_remade = atomic_load_explicit(&counters->remade, memory_order_relaxed),
		.resets = atomic_load_explicit(&counters->resets, memory_order_relaxed),
		.ignored = atomic_load_explicit(&counters->ignored, memory_order_relaxed),
	};
}
