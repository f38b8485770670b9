/* SPDX-License-Identifier: MIT */
/*
 * device.c - open a device by its spec, set its masks, close it in order
 *
 * A device is a pci_function of a backend, the arena of its domain and its own limits. The arena is
 * made with the domain's first device and ends with its last.
 *
 * Closing goes: quiesce; report and free what was leaked; close register windows; end the arena;
 * let go of the function. Where the device can't be quiesced everything stays as it is: leaked.
 */
#include "device/device.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dmaland/coherent.h>
#include <dmaland/io.h>
#include "base/error.h"
#include "base/log.h"
#include "backend/mmio.h"
#include "memory/coherent.h"

/* Owns for good what a device that can't be quiesced may still reach. */
static const struct dma_limits leaked_limits;
static struct arena_tenant leaked = {.limits = &leaked_limits};

/* The options that this library knows; -EINVAL when the caller sets others. */
static int options_read(struct dmaland_options *known, const struct dmaland_options *given)
{
	const char *bytes = (const char *)given;

	memset(known, 0, sizeof(*known));
	if (!given)
		return 0;
	if (given->size < sizeof(given->size))
		return error_set(EINVAL,
				 "options.size is %zu: set it to sizeof(struct dmaland_options)",
				 given->size);
	for (size_t i = sizeof(*known); i < given->size; i++)
		if (bytes[i])
			return error_set(
				EINVAL,
				"options of %zu bytes, of which this dmaland knows %zu: it is "
				"older than the program, update it",
				given->size, sizeof(*known));
	memcpy(known, given, given->size < sizeof(*known) ? given->size : sizeof(*known));
	return 0;
}

/* The arena of the device's domain, made if it is the first. */
static int device_join_arena(struct dmaland_device *dev)
{
	struct domain *domain = dev->function->domain;
	struct arena *arena = NULL;
	int err = 0;

	pthread_mutex_lock(&domain->lock);
	if (!domain->owner)
		err = arena_create(domain, &arena);
	if (!err && !domain->owner)
		domain->owner = arena;
	dev->arena = domain->owner;
	if (!err)
		dev->arena->devices++;
	pthread_mutex_unlock(&domain->lock);
	return err;
}

/* End the arena with its last device. */
static void device_leave_arena(struct dmaland_device *dev)
{
	struct domain *domain = dev->function->domain;
	bool last;

	pthread_mutex_lock(&domain->lock);
	last = --dev->arena->devices == 0;
	if (last)
		domain->owner = NULL;
	pthread_mutex_unlock(&domain->lock);
	if (last)
		arena_destroy(dev->arena);
}

static int device_init(struct dmaland_device *dev)
{
	uint16_t vendor, id;
	int err = pthread_mutex_init(&dev->pools.lock, NULL);

	if (err)
		return error_set(err, "cannot make a lock for a device: %s", strerror(err));
	dev->limits.streaming_mask = dev->limits.coherent_mask = DMA_BIT_MASK(32);
	dev->coherent.limits = dev->orphans.limits = &dev->limits;
	err = pci_read_config_word(dev, PCI_VENDOR_ID, &vendor);
	if (!err)
		err = pci_read_config_word(dev, PCI_DEVICE_ID, &id);
	if (!err && vendor == 0xffff)
		err = error_set(ENODEV, "%s does not answer: its vendor id reads 0xffff",
				dev->function->name);
	if (!err)
		err = device_join_arena(dev);
	if (err)
		goto destroy_lock;
	err = device_announce(dev);
	if (err)
		goto leave_arena;
	dev->vendor = vendor;
	dev->id = id;
	return 0;

leave_arena:
	device_leave_arena(dev);
destroy_lock:
	pthread_mutex_destroy(&dev->pools.lock);
	return err;
}

struct dmaland_device *dmaland_open(const char *text, const struct dmaland_options *given)
{
	struct dmaland_options options;
	const struct backend *backend;
	struct dmaland_device *dev;
	struct spec spec;

	if (options_read(&options, given) ||
	    (options.share_with && dmaland_check(options.share_with)) || spec_parse(&spec, text))
		return NULL;
	dev = calloc(1, sizeof(*dev));
	if (!dev) {
		error_set(ENOMEM, "no memory for a device");
		goto free_spec;
	}
	dev->pool_debug = options.pool_debug;
	backend = backend_find(&spec);
	if (!backend)
		goto free_device;
	if (backend->open(&spec, options.share_with ? options.share_with->function : NULL,
			  options.memory_limit, &dev->function))
		goto free_device;
	if (device_init(dev))
		goto close_function;
	spec_fini(&spec);
	return dev;

close_function:
	dev->function->ops->close(dev->function);
free_device:
	free(dev);
free_spec:
	spec_fini(&spec);
	return NULL;
}

struct leak {
	struct dmaland_device *dev;
	size_t runs, bytes;
};

static void leak_count(struct arena *arena, struct page *first, void *context)
{
	struct leak *leak = context;

	(void)arena;
	if (first->tenant == &leak->dev->coherent) {
		leak->runs++;
		leak->bytes += (size_t)first->run_pages * ARENA_PAGE;
	}
}

static void report_leaks(struct dmaland_device *dev)
{
	struct leak leak = {.dev = dev};
	size_t pools = pool_list_stats(&dev->pools, NULL, 0);

	arena_for_each_run(dev->arena, &dev->limits, leak_count, &leak);
	if (pools || leak.runs)
		log_line(DMALAND_LOG_WARN,
			 "%s: device driver has pending DMA allocations while released from device "
			 "[pools=%zu] [coherent=%zu, %zu KiB]",
			 dev->function->name, pools, leak.runs, leak.bytes >> 10);
}

static void run_free(struct arena *arena, struct page *first, void *context)
{
	(void)context;
	arena_give(arena, first);
}

static void run_keep(struct arena *arena, struct page *first, void *context)
{
	(void)context;
	arena_hand_over(arena, first, &leaked);
}

void dmaland_close(struct dmaland_device *dev)
{
	if (!dev || dmaland_check(dev))
		return;
	report_leaks(dev);
	if (!pci_quiesce(dev)) {
		log_line(DMALAND_LOG_ERR,
			 "%s: cannot be stopped (%s); its memory stays mapped until the process "
			 "ends",
			 dev->function->name, error_last());
		arena_for_each_run(dev->arena, &dev->limits, run_keep, NULL);
		return;
	}
	while (dev->pools.first)
		dma_pool_destroy(dev->pools.first);
	arena_for_each_run(dev->arena, &dev->limits, run_free, NULL);
	mmio_close_all(dev->function);
	device_withdraw(dev);
	device_leave_arena(dev);
	dev->function->ops->close(dev->function);
	pthread_mutex_destroy(&dev->pools.lock);
	free(dev);
}

const char *dmaland_name(const struct dmaland_device *dev)
{
	return dev->function->name;
}

void dmaland_dev_log(const struct dmaland_device *dev, enum dmaland_log_level level,
		     const char *format, ...)
{
	char line[448];
	size_t length;
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	length = strlen(line);
	if (length && line[length - 1] == '\n')
		line[length - 1] = '\0';
	log_line(level, "%s: %s", dev->function->name, line);
}

void dmaland_get_info(struct dmaland_device *dev, struct dmaland_info *info)
{
	struct domain *domain = dev->function->domain;
	struct arena *arena = dev->arena;

	memset(info, 0, sizeof(*info));
	info->backend = domain->ops->backend;
	info->vendor_id = dev->vendor;
	info->device_id = dev->id;
	info->granule = domain->granule;
	if (dmaland_check(dev))
		return;
	info->numa_node = domain->numa_node;

	pthread_mutex_lock(&domain->lock);
	info->mapping_limit = domain->mapping_limit;
	info->mappings = domain->mappings;
	info->memory_limit = domain->memory_limit;
	info->memory = domain->memory;
	info->range_count = domain->usable_count;
	for (size_t i = 0; i < domain->usable_count && i < 16; i++)
		info->ranges[i] =
			(struct dmaland_range){domain->usable[i].first, domain->usable[i].last};
	pthread_mutex_unlock(&domain->lock);

	pthread_spin_lock(&arena->lock);
	info->memory_in_use = (arena->pages - arena->free_pages) * ARENA_PAGE;
	pthread_spin_unlock(&arena->lock);
}

/* ---- masks ---- */

/* Is there any address that the device can send and the domain can use? */
static int mask_check(struct dmaland_device *dev, uint64_t mask)
{
	struct domain *domain = dev->function->domain;
	uint64_t lowest;
	int err = dmaland_check(dev);

	if (err)
		return err;
	pthread_mutex_lock(&domain->lock);
	lowest = domain->usable_count ? domain->usable[0].first : UINT64_MAX;
	pthread_mutex_unlock(&domain->lock);
	if (lowest < domain->granule)
		lowest = domain->granule; /* 0 is never a dma address */
	if (mask < lowest || mask - lowest < domain->granule - 1)
		return error_set(EIO,
				 "%s: no usable dma address lies under the mask 0x%llx; the lowest "
				 "is 0x%llx",
				 dev->function->name, (unsigned long long)mask,
				 (unsigned long long)lowest);
	return 0;
}

int dma_set_mask(struct dmaland_device *dev, uint64_t mask)
{
	int err = mask_check(dev, mask);

	if (!err)
		dev->limits.streaming_mask = mask;
	return err;
}

int dma_set_coherent_mask(struct dmaland_device *dev, uint64_t mask)
{
	int err = mask_check(dev, mask);

	return err ? err : arena_set_mask(dev->arena, &dev->limits, mask, dev->function->name);
}

int dma_set_mask_and_coherent(struct dmaland_device *dev, uint64_t mask)
{
	int err = dma_set_coherent_mask(dev, mask);

	return err ? err : dma_set_mask(dev, mask);
}

uint64_t dma_get_mask(const struct dmaland_device *dev)
{
	return dev->limits.streaming_mask;
}
