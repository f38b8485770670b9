/* SPDX-License-Identifier: MIT */
/*
 * soft_domain.c - an address space in software: memory and mappings
 *
 *   dma   0        0x7c000000   0x80000000    0xfee00000 0xfef00000                    2^bits
 *         |  usable  |     hole     |   usable   |   hole   |    usable, taken from above |
 *
 * What is provided lies in the window; what is mapped, in the application.
 *
 * VFIO pins: a device keeps the pages that were mapped, also when the application unmaps them or
 * puts others there. Nothing is pinned here: the device sees what lies at the address then, and
 * where nothing does, that is a fault (DMALAND_SOFT_GONE).
 */
#include "backend/soft.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mutex.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22 /* Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

/*
 * As firmware and chipset of a PC have them: graphics memory, and where interrupts are sent. Each
 * begins at a multiple of the largest granule.
 */
static const struct iova_range holes[] = {
	{0x7c000000, 0x7fffffff},
	{0xfee00000, 0xfeefffff},
};
#define HOLES (sizeof(holes) / sizeof(holes[0]))

static struct soft_domain *to_soft_domain(struct domain *domain)
{
	return (struct soft_domain *)domain;
}

/* ---- what limits mappings ---- */

/*
 * Is the memory there, and may it be accessed so? The kernel faults it in as pinning would do, with
 * the same rules: a page that is written is no longer shared with anybody, so that it stays the one
 * that the application sees.
 */
static int memory_check(char *cpu, size_t size, unsigned int access)
{
	const char *verb = access & DOMAIN_WRITE ? "written" : "read";
	int advice = access & DOMAIN_WRITE ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
	int failed;

	do {
		failed = madvise(cpu, size, advice);
	} while (failed && errno == EINTR);
	if (!failed)
		return 0;
	if (errno == EINVAL && madvise(cpu, 0, advice))
		return error_set(EOPNOTSUPP, "soft: memory that exists can be mapped on Linux 5.14 "
					     "or later (MADV_POPULATE_READ)");
	return error_set(EFAULT,
			 "%zu KiB at %p cannot be mapped for the device: some of it is not there, "
			 "or may not be %s: see mmap() and mprotect() of the program",
			 size >> 10, (void *)cpu, verb);
}

static int check_mapping_limit(const struct domain *domain)
{
	if (domain->mappings < domain->mapping_limit)
		return 0;
	return error_set(ENOMEM,
			 "the address space holds %u mappings and may hold no more: unmap some, or "
			 "raise mappings=%u in the spec",
			 domain->mappings, domain->mapping_limit);
}

static int no_bookkeeping(void)
{
	return error_set(ENOMEM, "no memory for a domain's bookkeeping");
}

/* ---- ranges ---- */

/* Apart, so that a coherent machine pays for a look alone. */
static __attribute__((noinline)) bool owners_make(size_t size, struct soft_owners **owners)
{
	*owners = soft_owners_make(size);
	return *owners != NULL;
}

static __attribute__((noinline)) void owners_free(struct soft_range *range)
{
	soft_owners_free(range->owners);
	range->owners = NULL; /* of the note, too */
}

/* A range whose bytes are nobody's at first; NULL: no memory. The domain's lock is held, as for its end. */
static inline __attribute__((always_inline)) struct soft_range *
range_add(struct soft_domain *sd, dma_addr_t dma, size_t size, struct soft_range *before)
{
	struct soft_owners *owners = NULL;
	struct soft_range *range;

	if (sd->domain.ops->hand && !owners_make(size, &owners))
		return NULL;
	range = soft_ranges_add(&sd->ranges, dma, size, before);
	if (range)
		range->owners = owners;
	else if (owners)
		soft_owners_free(owners);
	return range;
}

static inline __attribute__((always_inline)) void range_remove(struct soft_domain *sd,
							       struct soft_range *range)
{
	if (range->owners)
		owners_free(range);
	soft_ranges_remove(&sd->ranges, range);
}

/* ---- the arena's memory ---- */

/* The domain's lock is held. */
static int chunk_make(struct soft_domain *sd, size_t size, size_t align, dma_addr_t last,
		      struct chunk *chunk)
{
	struct domain *domain = &sd->domain;
	struct soft_range *range;
	const struct iova_wish wish = {.size = size, .align = align, .last = last};
	int err = iova_space_take(&domain->iova, &wish, &chunk->dma);

	if (err == -ENOSPC)
		return error_set(
			ENOMEM,
			"no %zu KiB of dma addresses, aligned to %zu KiB, are free up to 0x%llx "
			"(%llu KiB are, in pieces): set a wider dma mask, or free some memory",
			size >> 10, align >> 10, (unsigned long long)last,
			(unsigned long long)(iova_space_free(&domain->iova, last) >> 10));
	if (err)
		return no_bookkeeping();
	chunk->size = size;
	err = window_take(&sd->window, size, align, &chunk->cpu);
	if (err)
		goto release;
	range = range_add(sd, chunk->dma, size, soft_ranges_before(&sd->ranges, chunk->dma));
	if (!range) {
		err = no_bookkeeping();
		goto give;
	}
	range->cpu = range->device = chunk->cpu;
	range->kind = DMALAND_SOFT_ARENA;
	range->access = DOMAIN_READ | DOMAIN_WRITE;
	return 0;

give:
	window_give(&sd->window, chunk->cpu, size);
release:
	iova_space_release(&domain->iova, chunk->dma, size);
	return err;
}

static int soft_provide(struct domain *domain, size_t size, size_t align, dma_addr_t last,
			struct chunk *chunk)
{
	struct chunk made;
	int err = domain_count_memory(domain, size);

	if (err)
		return err;
	mutex_lock(&domain->lock);
	err = check_mapping_limit(domain);
	if (!err)
		err = chunk_make(to_soft_domain(domain), size, align, last, &made);
	if (!err) {
		domain->mappings++;
		*chunk = made;
	}
	mutex_unlock(&domain->lock);
	if (err)
		domain_discount_memory(domain, size);
	return err;
}

static int soft_withdraw(struct domain *domain, const struct chunk *chunk)
{
	struct soft_domain *sd = to_soft_domain(domain);

	mutex_lock(&domain->lock);
	range_remove(sd, soft_ranges_find(&sd->ranges, chunk->dma));
	window_give(&sd->window, chunk->cpu, chunk->size);
	iova_space_release(&domain->iova, chunk->dma, chunk->size);
	domain->mappings--;
	mutex_unlock(&domain->lock);
	domain_discount_memory(domain, chunk->size);
	return 0;
}

/* ---- memory that exists ---- */

static bool is_usable(const struct domain *domain, dma_addr_t first, dma_addr_t last)
{
	for (size_t i = domain->usable_count; i-- > 0;) /* most are high */
		if (first >= domain->usable[i].first && last <= domain->usable[i].last)
			return true;
	return false;
}

static int check_arguments(const struct domain *domain, dma_addr_t dma, const char *cpu,
			   size_t size, unsigned int access)
{
	if (((dma | (uintptr_t)cpu | size) & (domain->granule - 1)) || !size || !access)
		return error_set(EINVAL,
				 "%zu bytes at %p cannot be mapped at dma address 0x%llx: only "
				 "whole granules of %zu bytes can, readable or writable",
				 size, (const void *)cpu, (unsigned long long)dma, domain->granule);
	return 0;
}

/* A device that joins may change what is usable: the domain's lock is held. */
static int check_addresses(const struct domain *domain, dma_addr_t dma, size_t size)
{
	dma_addr_t last = dma + (size - 1);

	if (!dma || last < dma || !is_usable(domain, dma, last))
		return error_set(
			EINVAL,
			"0x%llx to 0x%llx are not usable dma addresses (dmaland_get_info() "
			"tells the ranges)",
			(unsigned long long)dma, (unsigned long long)last);
	return 0;
}

/* Put a range into the address space; the domain's lock is held. */
static int range_map(struct soft_domain *sd, dma_addr_t dma, char *cpu, size_t size,
		     unsigned int access, char *device)
{
	struct soft_range *before = soft_ranges_before(&sd->ranges, dma + (size - 1)), *range;
	int err = check_mapping_limit(&sd->domain);

	if (err)
		return err;
	if (before && before->dma + (before->size - 1) >= dma)
		return error_set(EEXIST,
				 "something is mapped at dma address 0x%llx already, from 0x%llx "
				 "on, where %zu bytes at 0x%llx were asked",
				 (unsigned long long)(before->dma > dma ? before->dma : dma),
				 (unsigned long long)before->dma, size, (unsigned long long)dma);
	range = range_add(sd, dma, size, before);
	if (!range)
		return no_bookkeeping();
	range->cpu = cpu;
	range->device = device;
	range->kind = DMALAND_SOFT_MAPPING;
	range->access = access;
	sd->domain.mappings++;
	return 0;
}

/* Memory that is counted. */
static int memory_map(struct domain *domain, dma_addr_t dma, void *cpu, size_t size,
		      unsigned int access)
{
	char *device = cpu;
	int err = memory_check(cpu, size, access);

	if (err)
		return err;
	if (domain->ops->sync) {
		device = malloc(size);
		if (!device)
			return error_set(ENOMEM, "no memory for the device's copy of %zu KiB",
					 size >> 10);
		memset(device, DMALAND_SOFT_POISON, size);
	}
	pthread_mutex_lock(&domain->lock);
	err = check_addresses(domain, dma, size);
	if (!err)
		err = range_map(to_soft_domain(domain), dma, cpu, size, access, device);
	pthread_mutex_unlock(&domain->lock);
	if (err && device != cpu)
		free(device);
	return err;
}

/* Counted first, so that nothing is faulted in for what is refused. */
static int soft_map(struct domain *domain, dma_addr_t dma, void *cpu, size_t size,
		    unsigned int access)
{
	int err = check_arguments(domain, dma, cpu, size, access);

	if (!err)
		err = domain_count_memory(domain, size);
	if (err)
		return err;
	err = memory_map(domain, dma, cpu, size, access);
	if (err)
		domain_discount_memory(domain, size);
	return err;
}

/* The mapping, made by map, that begins at an address; the domain's lock is held. */
static struct soft_range *mapping_at(struct soft_domain *sd, dma_addr_t dma)
{
	struct soft_range *range = soft_ranges_at(&sd->ranges, dma);

	return range && range->kind == DMALAND_SOFT_MAPPING ? range : NULL;
}

/* Do n mappings fill dma..dma + size, of which this is the first? */
static bool mappings_fill(struct soft_domain *sd, const struct soft_range *range, size_t size,
			  unsigned int n)
{
	size_t sum = 0;

	for (; range && n; n--) {
		sum += range->size;
		if (n > 1)
			range = mapping_at(sd, range->dma + range->size);
	}
	return range && sum && sum == size;
}

static void range_unmap(struct soft_domain *sd, struct soft_range *range)
{
	char *copy = range->device != range->cpu ? range->device : NULL;

	range_remove(sd, range);
	sd->domain.mappings--;
	if (copy)
		free(copy);
}

static int soft_unmap(struct domain *domain, dma_addr_t dma, size_t size, unsigned int n)
{
	struct soft_domain *sd = to_soft_domain(domain);
	struct soft_range *range;
	int err = 0;

	pthread_mutex_lock(&domain->lock);
	range = mapping_at(sd, dma);
	if (!mappings_fill(sd, range, size, n))
		err = error_set(EINVAL,
				"%u mappings of %zu bytes together were to be unmapped at dma "
				"address 0x%llx, and there are others: nothing was unmapped",
				n, size, (unsigned long long)dma);
	while (!err && n--) {
		dma += range->size;
		range_unmap(sd, range);
		if (n)
			range = mapping_at(sd, dma);
	}
	pthread_mutex_unlock(&domain->lock);
	if (!err)
		domain_discount_memory(domain, size);
	return err;
}

static void soft_sync(struct domain *domain, dma_addr_t dma, size_t size, bool for_device)
{
	struct soft_domain *sd = to_soft_domain(domain);
	struct soft_range *range;
	size_t copied = 0;

	pthread_mutex_lock(&domain->lock);
	range = soft_ranges_find(&sd->ranges, dma);
	if (range && size <= range->size - (dma - range->dma)) {
		uint64_t at = dma - range->dma;

		/* What lies in the arena has no copy. */
		copied = range->device == range->cpu
				 ? size
				 : soft_memory_copy(range->cpu + at, range->device + at, size,
						    !for_device);
	}
	pthread_mutex_unlock(&domain->lock);
	if (copied < size)
		log_line(DMALAND_LOG_ERR,
			 "soft: %zu bytes at dma address 0x%llx cannot be synced %s the device: %s",
			 size, (unsigned long long)dma, for_device ? "for" : "from",
			 range ? "they reach over the mapping's end, or their memory is gone"
			       : "nothing is mapped there");
}

/* ---- beginning and end ---- */

static void soft_domain_destroy(struct domain *domain)
{
	struct soft_domain *sd = to_soft_domain(domain);
	struct soft_range *range;

	while ((range = soft_ranges_before(&sd->ranges, UINT64_MAX)))
		range_unmap(sd, range);
	soft_ranges_fini(&sd->ranges);
	window_close(&sd->window);
	free(domain->usable);
	domain_fini(domain);
	free(sd);
}

static const struct domain_ops soft_domain_ops = {
	.backend = "soft",
	.provide = soft_provide,
	.withdraw = soft_withdraw,
	.map = soft_map,
	.unmap = soft_unmap,
	.destroy = soft_domain_destroy,
};

/* With a copy for the device. */
static const struct domain_ops soft_copying_ops = {
	.backend = "soft",
	.provide = soft_provide,
	.withdraw = soft_withdraw,
	.map = soft_map,
	.unmap = soft_unmap,
	.sync = soft_sync,
	.hand = soft_hand,
	.destroy = soft_domain_destroy,
};

/* All addresses of this width but for the holes, in whole granules, and without address 0. */
static int domain_make_usable(struct domain *domain, unsigned int bits)
{
	uint64_t next = domain->granule, end = UINT64_C(1) << bits;

	domain->usable = calloc(HOLES + 1, sizeof(*domain->usable));
	if (!domain->usable)
		return no_bookkeeping();
	for (size_t i = 0; i <= HOLES && next < end; i++) {
		uint64_t last = i < HOLES && holes[i].first < end ? holes[i].first : end;

		domain->usable[domain->usable_count++] = (struct iova_range){next, last - 1};
		if (iova_space_add(&domain->iova, next, last - 1))
			return no_bookkeeping();
		next = last < end && i < HOLES ? align_up(holes[i].last + 1, domain->granule) : end;
	}
	return 0;
}

struct soft_domain *soft_domain_create(const struct soft_domain_options *options)
{
	const struct domain_ops *ops = options->coherent ? &soft_domain_ops : &soft_copying_ops;
	struct soft_domain *sd = calloc(1, sizeof(*sd));

	if (!sd) {
		error_set(ENOMEM, "no memory for a domain");
		return NULL;
	}
	if (soft_memory_check() || domain_init(&sd->domain, ops, options->memory_limit))
		goto free_domain;
	sd->domain.granule = options->granule;
	sd->domain.mapping_limit = options->mappings;
	sd->domain.write_only = 1;
	if (domain_make_usable(&sd->domain, options->bits) || window_open(&sd->window))
		goto fini;
	sd->domain.window = sd->window.base;
	sd->domain.window_size = sd->window.size;
	soft_ranges_init(&sd->ranges);
	return sd;

fini:
	free(sd->domain.usable);
	domain_fini(&sd->domain);
free_domain:
	free(sd);
	return NULL;
}

int soft_domain_of(struct pci_function *share, struct soft_domain **sd)
{
	if (share->domain->ops != &soft_domain_ops && share->domain->ops != &soft_copying_ops)
		return error_set(EINVAL,
				 "a device of soft: can share only another's memory, and %s is "
				 "none",
				 share->name);
	*sd = to_soft_domain(share->domain);
	return 0;
}

/* What is left of the usable ranges without these addresses; NULL: no memory. */
static struct iova_range *usable_without(const struct domain *domain,
					 const struct iova_range *reserved, size_t *count)
{
	struct iova_range *left = calloc(domain->usable_count + 1, sizeof(*left));

	*count = 0;
	for (size_t i = 0; left && i < domain->usable_count; i++) {
		struct iova_range r = domain->usable[i];

		if (r.last < reserved->first || r.first > reserved->last) {
			left[(*count)++] = r;
			continue;
		}
		if (r.first < reserved->first)
			left[(*count)++] = (struct iova_range){r.first, reserved->first - 1};
		if (r.last > reserved->last)
			left[(*count)++] = (struct iova_range){reserved->last + 1, r.last};
	}
	return left;
}

/* The domain's lock is held. */
static int reserve(struct soft_domain *sd, const struct iova_range *reserved)
{
	const struct soft_range *last = soft_ranges_before(&sd->ranges, reserved->last);
	struct domain *domain = &sd->domain;
	struct iova_range *left;
	size_t count;

	if (last && last->dma + (last->size - 1) >= reserved->first)
		return error_set(EBUSY,
				 "soft: the device can't use dma addresses 0x%llx to 0x%llx, and "
				 "%zu bytes are mapped at 0x%llx: open it before memory is "
				 "allocated, or without share_with",
				 (unsigned long long)reserved->first,
				 (unsigned long long)reserved->last, last->size,
				 (unsigned long long)last->dma);
	left = usable_without(domain, reserved, &count);
	if (!left || iova_space_restrict(&domain->iova, left, count)) {
		free(left);
		return no_bookkeeping();
	}
	free(domain->usable);
	domain->usable = left;
	domain->usable_count = count;
	return 0;
}

int soft_domain_reserve(struct soft_domain *sd, const struct iova_range *reserved)
{
	const uint64_t mask = sd->domain.granule - 1;
	const struct iova_range granules = {reserved->first & ~mask, reserved->last | mask};
	int err;

	mutex_lock(&sd->domain.lock);
	err = reserve(sd, &granules);
	mutex_unlock(&sd->domain.lock);
	return err;
}

unsigned int soft_domain_join(struct soft_domain *sd)
{
	unsigned int number;

	mutex_lock(&sd->domain.lock);
	sd->domain.devices++;
	number = sd->joined++;
	mutex_unlock(&sd->domain.lock);
	return number;
}

void soft_domain_leave(struct soft_domain *sd)
{
	unsigned int left;

	mutex_lock(&sd->domain.lock);
	left = --sd->domain.devices;
	mutex_unlock(&sd->domain.lock);
	if (!left)
		soft_domain_destroy(&sd->domain);
}
