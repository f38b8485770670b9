/* SPDX-License-Identifier: MIT */
/*
 * report.c - what is said about bad calls
 *
 * The facts about unmap and sync, and their order, are those that the kernel's dma-debug gives (kernel/dma/debug.c).
 */
#include "streaming/streaming_internal.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/error.h"
#include "base/log.h"
#include "backend/mmio.h"

int request_check(struct streaming *s, const void *ptr, size_t size,
		  enum dma_data_direction direction, unsigned long attrs)
{
	if (!ptr)
		return error_set(EINVAL, "%s: NULL can't be mapped for the device", s->name);
	if (size == 0 || size > SIZE_MAX / 2 || (uintptr_t)ptr > UINTPTR_MAX - size)
		return error_set(EINVAL,
				 "%s: %zu bytes at %p can't be mapped for the device: 1 byte "
				 "at least, and all inside the address space",
				 s->name, size, ptr);
	if (!is_direction(direction))
		return error_set(EINVAL,
				 "%s: direction %d is none: DMA_TO_DEVICE, DMA_FROM_DEVICE or "
				 "DMA_BIDIRECTIONAL",
				 s->name, (int)direction);
	if (attrs & ~ATTRS_KNOWN)
		return error_set(EINVAL,
				 "%s: attributes 0x%lx are not for memory of a process, or not "
				 "known to this dmaland",
				 s->name, attrs & ~ATTRS_KNOWN);
	return 0;
}

/*
 * How many of these bytes, up to the first that is not mapped in the process? MS_ASYNC writes nothing
 * and only looks at the mappings (msync(2): ENOMEM), however many pages they have.
 */
static size_t bytes_mapped(uintptr_t begin, size_t size)
{
	size_t there = 0, missing = size;

	if (msync((void *)begin, size, MS_ASYNC) == 0 || errno != ENOMEM)
		return size;
	while (missing - there > FRAME_SIZE) {
		size_t middle = (there + (missing - there) / 2) & ~(size_t)(FRAME_SIZE - 1);

		if (middle == there)
			middle += FRAME_SIZE;
		if (msync((void *)begin, middle, MS_ASYNC) == 0)
			there = middle;
		else
			missing = middle;
	}
	return there;
}

int presence_check(struct streaming *s, const void *ptr, size_t size)
{
	size_t inside = (uintptr_t)ptr & (FRAME_SIZE - 1), there;
	uintptr_t window = (uintptr_t)s->space->domain->window;
	int code = errno;

	if (size < PRESENCE_CHECK_FROM)
		return 0;
	there = bytes_mapped((uintptr_t)ptr - inside, size + inside);
	errno = code;
	/* The arena's window is reserved, but not the program's. Memory that is mapped late lies below it. */
	if ((uintptr_t)ptr < window && there > window - ((uintptr_t)ptr - inside))
		there = window - ((uintptr_t)ptr - inside);
	if (there >= size + inside)
		return 0;
	return error_set(
		EFAULT,
		"%s: %zu bytes at %p can't be mapped for the device: only the first %zu of "
		"them are memory of this program: is the size right?",
		s->name, size, ptr, there > inside ? there - inside : 0);
}

int registers_check_near(struct streaming *s, const void *ptr, size_t size)
{
	if (!mmio_overlaps(ptr, size, false))
		return 0;
	return error_set(
		EINVAL,
		"%s: %zu bytes at %p are registers, a window of pci_iomap(), and no memory: use "
		"readl() and writel(); for a device to reach them, dma_map_resource(), or "
		"dmaland_register() of the window, where the backend maps registers (vfio)",
		s->name, size, ptr);
}

static const char *direction_name(enum dma_data_direction direction)
{
	switch (direction) {
	case DMA_BIDIRECTIONAL:
		return "DMA_BIDIRECTIONAL";
	case DMA_TO_DEVICE:
		return "DMA_TO_DEVICE";
	case DMA_FROM_DEVICE:
		return "DMA_FROM_DEVICE";
	default:
		return "DMA_NONE";
	}
}

static const char *family_name(uint32_t nents)
{
	return nents ? "scatter-gather" : "single";
}

void report_not_allocated(struct streaming *s, dma_addr_t dma, size_t size, bool sync)
{
	count_way(s, WAY_BAD_CALL);
	if (dma == DMA_MAPPING_ERROR)
		log_line(DMALAND_LOG_ERR,
			 "%s: device driver tries to %s an invalid DMA memory address", s->name,
			 sync ? "sync" : "free");
	else
		log_line(DMALAND_LOG_ERR,
			 "%s: device driver tries to %s DMA memory it has not allocated "
			 "[device address=0x%016llx] [size=%zu bytes]",
			 s->name, sync ? "sync" : "free", (unsigned long long)dma, size);
}

/* The first thing that is wrong, most telling first. */
void report_bad_unmap(struct streaming *s, dma_addr_t dma, const struct piece *claim,
		      const struct holding *holding)
{
	unsigned long long address = dma;

	if (dma != holding->dma) {
		report_not_allocated(s, dma, claim->size, false);
		return;
	}
	count_way(s, WAY_BAD_CALL);
	if (!claim->nents != !holding->nents)
		log_line(DMALAND_LOG_ERR,
			 "%s: device driver frees DMA memory with wrong function "
			 "[device address=0x%016llx] [size=%zu bytes] [mapped as %s] "
			 "[unmapped as %s]",
			 s->name, address, claim->size, family_name(holding->nents),
			 family_name(claim->nents));
	else if (claim->nents != holding->nents)
		log_line(DMALAND_LOG_ERR,
			 "%s: device driver frees DMA sg list with different entry count "
			 "[map count=%u] [unmap count=%u]",
			 s->name, holding->nents, claim->nents);
	else if (claim->size != holding->size)
		log_line(DMALAND_LOG_ERR,
			 "%s: device driver frees DMA memory with different size "
			 "[device address=0x%016llx] [map size=%zu bytes] [unmap size=%zu bytes]",
			 s->name, address, holding->size, claim->size);
	else if (claim->direction != holding->direction)
		log_line(DMALAND_LOG_ERR,
			 "%s: device driver frees DMA memory with different direction "
			 "[device address=0x%016llx] [size=%zu bytes] [mapped with %s] "
			 "[unmapped with %s]",
			 s->name, address, claim->size, direction_name(holding->direction),
			 direction_name(claim->direction));
	else
		log_line(DMALAND_LOG_ERR,
			 "%s: device driver frees DMA memory with different CPU address "
			 "[device address=0x%016llx] [size=%zu bytes] [cpu mapped=%p] "
			 "[cpu unmapped=%p]",
			 s->name, address, claim->size, (const void *)holding->original,
			 (const void *)claim->ptr);
}

void report_bad_sync(struct streaming *s, dma_addr_t dma, size_t size,
		     enum dma_data_direction direction, const struct holding *holding)
{
	unsigned long long address = dma;

	count_way(s, WAY_BAD_CALL);
	if (dma < holding->dma || dma - holding->dma > holding->size ||
	    size > holding->size - (dma - holding->dma))
		log_line(DMALAND_LOG_ERR,
			 "%s: device driver syncs DMA memory outside allocated range "
			 "[device address=0x%016llx] [allocation size=%zu bytes] "
			 "[sync offset+size=%llu]",
			 s->name, address, holding->size, address - holding->dma + size);
	else
		log_line(DMALAND_LOG_ERR,
			 "%s: device driver syncs DMA memory with different direction "
			 "[device address=0x%016llx] [size=%zu bytes] [mapped with %s] "
			 "[synced with %s]",
			 s->name, address, holding->size, direction_name(holding->direction),
			 direction_name(direction));
}

void report_bad_list(struct streaming *s, const char *what, int nents)
{
	count_way(s, WAY_BAD_CALL);
	log_line(DMALAND_LOG_ERR, "%s: device driver %s [count=%d]", s->name, what, nents);
}
