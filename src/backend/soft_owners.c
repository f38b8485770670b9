/* SPDX-License-Identifier: MIT */
/*
 * soft_owners.c - who has the bytes of streaming mappings, where the machine is not coherent
 *
 *   map                         the device's
 *   dma_sync_*_for_cpu()        the CPU's: the device may neither read nor write them
 *   dma_sync_*_for_device()     the device's again
 *   unmap                       nobody's, which is not looked at
 *
 * Every range has a byte for each of its own:
 *
 *   0       in no mapping, as coherent memory
 *   n       in n mappings that are live at this dma address, and the device's
 *   0x81    in one, and the CPU's
 *
 * A sync names bytes, not a mapping. Where several have them, as two of registered memory may, it does not
 * tell which one: the bytes are the device's then, so that nothing is found that is not wrong. It is the
 * rule for all directions: what the device has written, and the CPU has but read, is given back too, since
 * some machines have it in their caches then (the MIPS ones of Loongson do).
 *
 * So that a fault can say whose bytes they are, each mapping is remembered by the page of the range that it begins
 * in: what that costs does not grow with the mappings that are live elsewhere, and it all goes with the range.
 */
#include "backend/soft.h"

#include <stdlib.h>
#include <string.h>

#include "base/mutex.h"

/* So many mappings, or more: how many is not known any more, until the range ends. */
#define MANY	   0x7f
#define OWNED_CPU  0x81
#define PAGE_SHIFT 12

struct soft_owner {
	dma_addr_t dma;
	size_t size;
	const void *memory;
	struct soft_owner *next;
};

/* Of a range. */
struct soft_owners {
	size_t pages;
	unsigned char *bytes;
	struct soft_owner *begun[]; /* in each page */
};

struct soft_owners *soft_owners_make(size_t size)
{
	size_t pages = ((size - 1) >> PAGE_SHIFT) + 1;
	size_t fixed = sizeof(struct soft_owners) + pages * sizeof(struct soft_owner *);
	struct soft_owners *owners = calloc(fixed + size, 1);

	if (!owners)
		return NULL;
	owners->pages = pages;
	owners->bytes = (unsigned char *)owners + fixed;
	return owners;
}

void soft_owners_free(struct soft_owners *owners)
{
	for (size_t i = 0; i < owners->pages; i++) {
		struct soft_owner *owner, *next;

		for (owner = owners->begun[i]; owner; owner = next) {
			next = owner->next;
			free(owner);
		}
	}
	free(owners);
}

/* Without memory for it the mapping is not named, that is all. */
static void owner_add(struct soft_owner **begun, dma_addr_t dma, size_t size, const void *memory)
{
	struct soft_owner *owner = malloc(sizeof(*owner));

	if (!owner)
		return;
	*owner = (struct soft_owner){dma, size, memory, *begun};
	*begun = owner;
}

static void owner_remove(struct soft_owner **link, dma_addr_t dma, size_t size)
{
	struct soft_owner *owner;

	while ((owner = *link) && (owner->dma != dma || owner->size != size))
		link = &owner->next;
	if (owner)
		*link = owner->next;
	free(owner);
}

static unsigned char handed(unsigned char byte, enum domain_hand what)
{
	unsigned char mappings = byte & MANY;

	switch (what) {
	case HAND_BEGIN:
		return (unsigned char)(mappings < MANY ? mappings + 1 : MANY);
	case HAND_END:
		return (unsigned char)(mappings && mappings < MANY ? mappings - 1 : mappings);
	case HAND_TO_CPU:
		return mappings == 1 ? OWNED_CPU : byte;
	default:
		return mappings;
	}
}

static void range_hand(struct soft_range *range, enum domain_hand what, dma_addr_t dma, size_t size,
		       const void *memory)
{
	size_t begin = dma - range->dma, rest = range->size - begin;
	unsigned char *bytes = range->owners->bytes + begin;
	struct soft_owner **begun = &range->owners->begun[begin >> PAGE_SHIFT];

	for (size_t i = 0; i < size && i < rest; i++)
		bytes[i] = handed(bytes[i], what);
	if (what == HAND_BEGIN)
		owner_add(begun, dma, size, memory);
	if (what == HAND_END)
		owner_remove(begun, dma, size);
}

void soft_hand(struct domain *domain, enum domain_hand what, dma_addr_t dma, size_t size,
	       const void *memory)
{
	struct soft_domain *sd = (struct soft_domain *)domain;
	struct soft_range *range;

	mutex_lock(&domain->lock);
	range = soft_ranges_find(&sd->ranges, dma);
	if (range)
		range_hand(range, what, dma, size, memory);
	mutex_unlock(&domain->lock);
}

size_t soft_owners_allow(const struct soft_range *range, dma_addr_t at, size_t size)
{
	const unsigned char *begin =
		range->owners ? range->owners->bytes + (at - range->dma) : NULL;
	const unsigned char *owned = begin ? memchr(begin, OWNED_CPU, size) : NULL;

	return owned ? (size_t)(owned - begin) : size;
}

void soft_owners_attribute(const struct soft_range *range, dma_addr_t at,
			   struct dmaland_soft_fault *fault)
{
	const struct soft_owner *owner = NULL;

	/* It may begin far below. */
	for (size_t i = ((at - range->dma) >> PAGE_SHIFT) + 1; i-- && !owner;) {
		owner = range->owners->begun[i];
		while (owner && at - owner->dma >= owner->size)
			owner = owner->next;
	}
	if (!owner)
		return;
	fault->kind = DMALAND_SOFT_MAPPING;
	fault->first = owner->dma;
	fault->size = owner->size;
	fault->memory = owner->memory;
}
