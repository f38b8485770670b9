/* SPDX-License-Identifier: MIT */
/*
 * qemu_ram.c - the RAM of QEMU's machine: a file in memory that device models and we see
 *
 *   dma address   0  1 MiB               3 GiB           4 GiB                  end
 *                 |xx|------ RAM ----------|  registers   |------- RAM ----------|
 *                                          |              |
 *   file, window  0                      3 GiB ---------------- RAM ------------end
 *
 * The file is mapped whole, once. Memory is provided by taking a range of dma addresses and
 * looking up its place in that window. The file is sparse, so that RAM which was never provided
 * costs nothing. Below 1 MiB lie the PC's ROMs: nothing is taken there.
 */
#include "backend/qemu_ram.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mutex.h"
#include "backend/available.h"
#include "backend/window.h"

#define RAM_MIN	  (16 * MIB)
#define RAM_STEP  (2 * MIB)
#define RAM_FIRST MIB
#define RAM_HIGH  (4 * GIB)

/* Divides the split, so that an address and its dma address agree in the bits below. */
#define WINDOW_ALIGN GIB

static struct qemu_ram *ram_of(struct domain *domain)
{
	return (struct qemu_ram *)((char *)domain - offsetof(struct qemu_ram, domain));
}

/* The place of a dma address in the file, and in the window. */
static uint64_t ram_offset(uint64_t dma)
{
	return dma < RAM_HIGH ? dma : dma - RAM_HIGH + QEMU_RAM_SPLIT;
}

dma_addr_t qemu_ram_dma(uint64_t offset)
{
	return offset < QEMU_RAM_SPLIT ? offset : offset - QEMU_RAM_SPLIT + RAM_HIGH;
}

/* Give pages back to the system; they read as zeroes from then on. */
static void ram_clear(struct qemu_ram *ram, uint64_t offset, size_t size)
{
	if (fallocate(ram->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
		      (off_t)size))
		memset(ram->domain.window + offset, 0, size);
}

/* No place for size bytes up to last: is the RAM too small, or what the device can address? */
static int ram_is_short(struct qemu_ram *ram, size_t size, uint64_t last)
{
	const struct domain *domain = &ram->domain;
	uint64_t end = domain->usable[domain->usable_count - 1].last;
	uint64_t unused = iova_space_free(&domain->iova, last);
	uint64_t enough = 2 * GIB;

	while (enough < ram->size + size)
		enough *= 2;
	if (enough > QEMU_RAM_MAX)
		enough = QEMU_RAM_MAX;
	if (last >= end && enough >= ram->size + size)
		return error_set(ENOMEM,
				 "QEMU's RAM of %" PRIu64 " MiB is used up (%" PRIu64
				 " KiB free below %#" PRIx64
				 ", %zu KiB asked in one piece): open it with ram=%" PRIu64 "G",
				 ram->size / MIB, unused >> 10, end + 1, size >> 10, enough / GIB);
	return error_set(ENOMEM,
			 "QEMU's RAM of %" PRIu64 " MiB is used up (%" PRIu64
			 " KiB free up to %#" PRIx64
			 ", %zu KiB asked in one piece): free memory of the device, or widen its "
			 "DMA mask",
			 ram->size / MIB, unused >> 10, last, size >> 10);
}

/* With the lock held. */
static int chunk_take(struct qemu_ram *ram, size_t size, size_t align, dma_addr_t last,
		      struct chunk *chunk)
{
	const struct iova_wish wish = {.size = size, .align = align, .last = last};
	struct domain *domain = &ram->domain;
	uint64_t dma;
	int err = domain_check_limit(domain, size);

	if (!err)
		err = memory_check(size);
	if (err)
		return err;
	if (align > WINDOW_ALIGN)
		return error_set(ENOMEM,
				 "QEMU's RAM can be aligned to %" PRIu64
				 " MiB at most and %zu MiB were asked",
				 WINDOW_ALIGN / MIB, align >> 20);
	err = iova_space_take(&domain->iova, &wish, &dma);
	if (err == -ENOSPC)
		return ram_is_short(ram, size, last);
	if (err)
		return error_set(-err, "no memory for a domain's bookkeeping");

	/* A device that writes late may have left something since the memory came back. */
	ram_clear(ram, ram_offset(dma), size);
	*chunk = (struct chunk){domain->window + ram_offset(dma), dma, size};
	err = memory_populate(chunk->cpu, size);
	if (err) {
		ram_clear(ram, ram_offset(dma), size);
		iova_space_release(&domain->iova, dma, size);
		return error_set(ENOMEM, "cannot get %zu KiB of memory from the system: %s",
				 size >> 10, strerror(-err));
	}
	domain->memory += size;
	domain->mappings++;
	return 0;
}

int qemu_ram_provide(struct domain *domain, size_t size, size_t align, dma_addr_t last,
		     struct chunk *chunk)
{
	int err;

	mutex_lock(&domain->lock);
	err = chunk_take(ram_of(domain), size, align, last, chunk);
	mutex_unlock(&domain->lock);
	return err;
}

/* QEMU has all of its RAM at all times: a device that does not stop could still write here. */
int qemu_ram_withdraw(struct domain *domain, const struct chunk *chunk)
{
	mutex_lock(&domain->lock);
	ram_clear(ram_of(domain), ram_offset(chunk->dma), chunk->size);
	iova_space_release(&domain->iova, chunk->dma, chunk->size);
	domain->memory -= chunk->size;
	domain->mappings--;
	mutex_unlock(&domain->lock);
	return 0;
}

/* Map the file at an aligned address: reserve more, place it inside, cut off the rest. */
static int window_map(struct qemu_ram *ram)
{
	size_t size = ram->size, room = size + WINDOW_ALIGN, before;
	char *all, *window;
	int err;

	all = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (all == MAP_FAILED)
		return error_mmap("cannot reserve %zu MiB of addresses", room >> 20);
	before = -(uintptr_t)all & (WINDOW_ALIGN - 1);
	window = mmap(all + before, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, ram->fd,
		      0);
	if (window == MAP_FAILED || madvise(window, size, MADV_DONTFORK)) {
		err = error_mmap("cannot map QEMU's RAM of %zu MiB", size >> 20);
		munmap(all, room);
		return err;
	}
	if (before)
		munmap(all, before);
	munmap(window + size, WINDOW_ALIGN - before);
	ram->domain.window = window;
	ram->domain.window_size = size;
	ram->domain.window_cure = "open the device with a larger ram= in its spec";
	return 0;
}

static int file_open(struct qemu_ram *ram)
{
	int err;

	ram->fd = file_raise(memfd_create("dmaland-qemu-ram", MFD_CLOEXEC));
	if (ram->fd < 0)
		return error_system("cannot make a file in memory for QEMU's RAM");
	if (ftruncate(ram->fd, (off_t)ram->size))
		err = error_system("cannot make a file in memory of %" PRIu64 " MiB for QEMU's RAM",
				   ram->size / MIB);
	else
		err = window_map(ram);
	if (err)
		close(ram->fd);
	return err;
}

/* What devices can reach. */
static int usable_fill(struct qemu_ram *ram)
{
	struct domain *domain = &ram->domain;
	uint64_t low = ram->size < QEMU_RAM_SPLIT ? ram->size : QEMU_RAM_SPLIT;
	int err = 0;

	domain->usable = calloc(2, sizeof(*domain->usable));
	if (!domain->usable)
		return error_set(ENOMEM, "no memory for a domain's bookkeeping");
	domain->usable[0] = (struct iova_range){RAM_FIRST, low - 1};
	domain->usable[1] = (struct iova_range){RAM_HIGH, RAM_HIGH + (ram->size - low) - 1};
	domain->usable_count = ram->size > low ? 2 : 1;
	for (size_t i = 0; !err && i < domain->usable_count; i++)
		err = iova_space_add(&domain->iova, domain->usable[i].first,
				     domain->usable[i].last);
	return err ? error_set(ENOMEM, "no memory for a domain's bookkeeping") : 0;
}

int qemu_ram_init(struct qemu_ram *ram, const struct domain_ops *ops, uint64_t size,
		  uint64_t memory_limit)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int err;

	if (size < RAM_MIN || size > QEMU_RAM_MAX || size % RAM_STEP)
		return error_set(EINVAL,
				 "ram= is %" PRIu64 " bytes; QEMU can have %" PRIu64 "M to %" PRIu64
				 "G here, in steps of %" PRIu64 "M",
				 size, RAM_MIN / MIB, (uint64_t)(QEMU_RAM_MAX / GIB),
				 RAM_STEP / MIB);
	err = domain_init(&ram->domain, ops, memory_limit);
	if (err)
		return err;
	ram->size = size;
	ram->domain.granule = page > 4096 ? page : 4096;
	err = usable_fill(ram);
	if (!err)
		err = file_open(ram);
	if (err) {
		free(ram->domain.usable);
		domain_fini(&ram->domain);
	}
	return err;
}

void qemu_ram_fini(struct qemu_ram *ram)
{
	munmap(ram->domain.window, ram->domain.window_size);
	close(ram->fd);
	free(ram->domain.usable);
	domain_fini(&ram->domain);
}
