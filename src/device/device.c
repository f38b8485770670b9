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
#include <dmaland/irq.h>
#include "base/error.h"
#include "base/fork.h"
#include "base/log.h"
#include "base/mutex.h"
#include "backend/mmio.h"
#include "memory/coherent.h"

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

/* ---- options of mappings: in the structure, or in the spec, which wins ---- */

static int read_choice(struct spec *spec, enum device_key key, const char *no, const char *yes,
		       bool *chosen)
{
	const char *value = spec_take(spec, device_keys[key]);

	if (value && strcmp(value, no) && strcmp(value, yes))
		return error_set(EINVAL, "%s=%s: it is %s or %s", device_keys[key], value, no, yes);
	if (value)
		*chosen = strcmp(value, yes) == 0;
	return 0;
}

static int read_number(struct spec *spec, enum device_key key, unsigned long *number)
{
	const char *value = spec_take(spec, device_keys[key]);
	char *end;

	if (!value)
		return 0;
	errno = 0;
	*number = strtoul(value, &end, 0);
	if (errno || *end || value[0] < '0' || value[0] > '9' || *number > UINT32_MAX)
		return error_set(EINVAL, "%s=%s is not a number up to %u", device_keys[key], value,
				 UINT32_MAX);
	return 0;
}

static int options_streaming(struct streaming_options *streaming,
			     const struct dmaland_options *options, const struct backend *backend,
			     struct spec *spec)
{
	unsigned long copy_below = options->copy_below, count = options->lazy_count;
	unsigned long ms = options->lazy_ms;
	bool untrusted = options->untrusted, lazy = options->lazy;
	bool no_syscalls = options->no_syscalls, debug;
	int err = read_choice(spec, KEY_TRUSTED, "yes", "no", &untrusted);

	if (!err)
		err = read_choice(spec, KEY_UNMAP, "strict", "lazy", &lazy);
	if (!err)
		err = read_choice(spec, KEY_NO_SYSCALLS, "no", "yes", &no_syscalls);
	debug = options->dma_debug || (backend->debug && !no_syscalls);
	if (!err)
		err = read_choice(spec, KEY_DMA_DEBUG, "no", "yes", &debug);
	if (!err)
		err = read_number(spec, KEY_LAZY_COUNT, &count);
	if (!err)
		err = read_number(spec, KEY_LAZY_MS, &ms);
	if (!err)
		err = read_number(spec, KEY_COPY_BELOW, &copy_below);
	*streaming = (struct streaming_options){.untrusted = untrusted,
						.lazy = lazy,
						.no_syscalls = no_syscalls,
						.debug = debug,
						.lazy_count = (unsigned int)count,
						.lazy_ms = (unsigned int)ms,
						.copy_below = copy_below};
	return err;
}

/* The arena of the domain, and the space of its mappings, if they are not there; its lock is held. */
static int domain_furnish(struct domain *domain)
{
	struct arena *arena;
	int err;

	if (domain->owner)
		return 0;
	err = arena_create(domain, &arena);
	if (err)
		return err;
	domain->mappings_owner = streaming_space_create(domain, arena);
	if (!domain->mappings_owner) {
		arena_destroy(arena);
		return -errno;
	}
	domain->owner = arena;
	return 0;
}

static int device_join_arena(struct dmaland_device *dev, bool *shared)
{
	struct domain *domain = dev->function->domain;
	int err;

	mutex_lock(&domain->lock);
	err = domain_furnish(domain);
	dev->arena = domain->owner;
	if (!err)
		*shared = dev->arena->devices++ > 0;
	mutex_unlock(&domain->lock);
	return err;
}

/* End the arena with its last device. */
static void device_leave_arena(struct dmaland_device *dev)
{
	struct domain *domain = dev->function->domain;
	struct streaming_space *space = domain->mappings_owner;
	bool last;

	mutex_lock(&domain->lock);
	last = --dev->arena->devices == 0;
	if (last)
		domain->owner = domain->mappings_owner = NULL;
	mutex_unlock(&domain->lock);
	if (!last)
		return;
	streaming_space_destroy(space);
	arena_destroy(dev->arena);
}

static int device_identify(struct dmaland_device *dev)
{
	int err = pci_read_config_word(dev, PCI_VENDOR_ID, &dev->vendor);

	if (!err)
		err = pci_read_config_word(dev, PCI_DEVICE_ID, &dev->id);
	if (!err && dev->vendor == 0xffff)
		err = error_set(ENODEV, "%s does not answer: its vendor id reads 0xffff",
				dev->function->name);
	return err;
}

static int device_init(struct dmaland_device *dev, const struct streaming_options *options)
{
	int err = pthread_mutex_init(&dev->pools.lock, NULL);
	bool shared = false;

	if (err)
		return error_set(err, "cannot make a lock for a device: %s", strerror(err));
	dev->limits.streaming_mask = dev->limits.coherent_mask = DMA_BIT_MASK(32);
	dev->coherent.limits = dev->orphans.limits = &dev->limits;
	err = device_identify(dev);
	if (err)
		goto destroy_lock;
	err = device_join_arena(dev, &shared);
	if (err)
		goto destroy_lock;
	err = streaming_init(&dev->streaming, dev->function->domain->mappings_owner, &dev->limits,
			     &dev->orphans, dev->function->name, options);
	if (err)
		goto leave_arena;
	device_announce(dev);
	if (shared) /* others may have all that lies under its mask; alone it gets memory when it asks */
		arena_prepare(dev->arena, &dev->coherent);
	return 0;
leave_arena:
	device_leave_arena(dev);
destroy_lock:
	pthread_mutex_destroy(&dev->pools.lock);
	return err;
}

bool atomic_may_grow_wanted(void)
{
	const char *value = secure_getenv("DMALAND_ATOMIC_MAY_GROW");

	return value && strcmp(value, "") && strcmp(value, "0");
}

struct dmaland_device *dmaland_open(const char *text, const struct dmaland_options *given)
{
	struct dmaland_options options;
	struct streaming_options streaming;
	struct open_options wanted;
	const struct backend *backend;
	struct dmaland_device *dev;
	struct spec spec;

	if (device_watch_forks() || options_read(&options, given) ||
	    (options.share_with && dmaland_check(options.share_with)) || spec_parse(&spec, text))
		return NULL;
	dev = calloc(1, sizeof(*dev));
	if (!dev) {
		error_set(ENOMEM, "no memory for a device");
		goto free_spec;
	}
	dev->pool_debug = options.pool_debug;
	dev->gfp = options.atomic_may_grow || atomic_may_grow_wanted() ? __GFP_RECLAIM : 0;
	wanted = (struct open_options){
		.share = options.share_with ? options.share_with->function : NULL,
		.memory_limit = options.memory_limit,
		.container_fd = options.container_fd,
		.group_fd = options.group_fd,
		.device_fd = options.device_fd,
	};
	fork_hold();
	backend = backend_find(&spec, &wanted);
	if (!backend || options_streaming(&streaming, &options, backend, &spec) ||
	    spec_check_keys(&spec, backend) || backend->open(&spec, &wanted, &dev->function))
		goto free_device;
	if (device_init(dev, &streaming))
		goto close_function;
	fork_release();
	spec_fini(&spec);
	return dev;

close_function:
	dev->function->ops->close(dev->function);
free_device:
	fork_release();
	free(dev);
free_spec:
	spec_fini(&spec);
	return NULL;
}

struct leak {
	size_t runs, bytes;
};

static void leak_count(struct arena *arena, struct page *first, void *context)
{
	struct leak *leak = context;

	(void)arena;
	leak->runs++;
	leak->bytes += (size_t)first->run_pages * ARENA_PAGE;
}

static void report_leaks(struct dmaland_device *dev)
{
	struct leak leak = {0};
	size_t pools = pool_list_stats(&dev->pools, NULL, 0);
	uint64_t mappings = streaming_live(&dev->streaming);

	arena_for_each_run_of(dev->arena, &dev->coherent, leak_count, &leak);
	if (pools || leak.runs || mappings)
		log_line(DMALAND_LOG_WARN,
			 "%s: device driver has pending DMA allocations while released from device "
			 "[pools=%zu] [coherent=%zu, %zu KiB] [mappings=%llu]",
			 dev->function->name, pools, leak.runs, leak.bytes >> 10,
			 (unsigned long long)mappings);
}

static void run_free(struct arena *arena, struct page *first, void *context)
{
	(void)context;
	arena_give(arena, first);
}

static void device_end(struct dmaland_device *dev)
{
	report_leaks(dev);
	if (!pci_quiesce(dev)) {
		log_line(DMALAND_LOG_ERR,
			 "%s: cannot be stopped (%s); its memory stays mapped until the process "
			 "ends",
			 dev->function->name, error_last());
		arena_keep_idle(dev->arena, &dev->limits);
		arena_keep_idle(dev->arena, &dev->streaming.bounce_limits);
		return;
	}
	streaming_fini(&dev->streaming);
	while (dev->pools.first)
		dma_pool_destroy(dev->pools.first);
	arena_for_each_run_of(dev->arena, &dev->coherent, run_free, NULL);
	arena_for_each_run_of(dev->arena, &dev->orphans, run_free, NULL);
	fork_hold();
	pci_free_irq_vectors(dev);
	mmio_close_all(dev->function);
	device_withdraw(dev);
	arena_forget(dev->arena, &dev->limits);
	device_leave_arena(dev);
	dev->function->ops->close(dev->function);
	fork_release();
	pthread_mutex_destroy(&dev->pools.lock);
	free(dev);
}

void dmaland_close(struct dmaland_device *dev)
{
	if (!dev || dmaland_check(dev))
		return;
	cancel_hold();
	device_end(dev);
	cancel_release();
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
	info->write_only = domain->write_only;

	mutex_lock(&domain->lock);
	info->mapping_limit = domain->mapping_limit;
	info->mappings = __atomic_load_n(&domain->mappings, __ATOMIC_RELAXED);
	info->memory_limit = domain->memory_limit;
	info->memory = __atomic_load_n(&domain->memory, __ATOMIC_RELAXED);
	info->range_count = domain->usable_count;
	for (size_t i = 0; i < domain->usable_count && i < 16; i++)
		info->ranges[i] =
			(struct dmaland_range){domain->usable[i].first, domain->usable[i].last};
	mutex_unlock(&domain->lock);

	rt_lock_take(&arena->lock);
	info->memory_in_use = (arena->pages - arena->free_pages) * ARENA_PAGE;
	rt_lock_release(&arena->lock);
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
	mutex_lock(&domain->lock);
	lowest = domain->usable_count ? domain->usable[0].first : UINT64_MAX;
	mutex_unlock(&domain->lock);
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

	return err ? err : streaming_set_mask(&dev->streaming, mask);
}

int dma_set_coherent_mask(struct dmaland_device *dev, uint64_t mask)
{
	int err = mask_check(dev, mask);

	return err ? err : arena_set_mask(dev->arena, &dev->limits, mask, dev->function->name);
}

int dma_set_mask_and_coherent(struct dmaland_device *dev, uint64_t mask)
{
	uint64_t before = dev->limits.coherent_mask;
	int err = dma_set_coherent_mask(dev, mask);
	struct error_state why;

	if (err)
		return err;
	err = dma_set_mask(dev, mask);
	if (!err)
		return 0;
	error_keep(&why);
	arena_set_mask(dev->arena, &dev->limits, before, dev->function->name);
	error_put_back(&why);
	return err;
}

uint64_t dma_get_mask(const struct dmaland_device *dev)
{
	return dev->limits.streaming_mask;
}
