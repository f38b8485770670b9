/* SPDX-License-Identifier: MIT */
/*
 * qemu_complaints.c - what QEMU says of a driver's mistakes, with what is known of the address
 *
 * QEMU lets an access of a device that reaches nothing succeed: what is read is zero, or left over. Only its log (-d guest_errors)
 * tells, a line for each 4 bytes of a block:
 *
 *	Invalid read at addr 0x7F10C8002000, size 4, region '(null)', reason: rejected
 *
 * No line names the device. All this runs in QEMU's thread, which must not wait for what others hold during an access to
 * QEMU: so it takes the lines' lock alone.
 */
#include "backend/qemu_complaints.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mutex.h"
#include "backend/qemu.h"

#define NOTHING "(null)" /* the region where none is */

struct complaint {
	bool write;
	uint64_t address;
	unsigned int size;
	char region[64];
};

static bool complaint_parse(const char *line, struct complaint *c)
{
	char access[8];

	if (sscanf(line, "Invalid %7s at addr 0x%" SCNx64 ", size %u, region '%63[^']'", access,
		   &c->address, &c->size, c->region) != 4)
		return false;
	c->write = strcmp(access, "write") == 0;
	return true;
}

static bool is_ram(const struct domain *domain, uint64_t address)
{
	for (size_t i = 0; i < domain->usable_count; i++)
		if (address >= domain->usable[i].first && address <= domain->usable[i].last)
			return true;
	return false;
}

/* The devices that may not do DMA, "qemu:edu@02, qemu:nvme@03"; false: there are none. */
static bool slaves(struct qemu_machine *machine, char *names, size_t size)
{
	struct qemu_listener *listener;
	size_t used = 0;

	names[0] = '\0';
	mutex_lock(&machine->lines.lock);
	for (listener = machine->lines.first; listener && used < size; listener = listener->next) {
		const struct qemu_function *q = qemu_of_listener(listener);

		if (__atomic_load_n(&q->begun, __ATOMIC_ACQUIRE) &&
		    !__atomic_load_n(&q->masters, __ATOMIC_RELAXED))
			used += (size_t)snprintf(names + used, size - used, "%s%s",
						 used ? ", " : "", q->function.name);
	}
	mutex_unlock(&machine->lines.lock);
	return used > 0;
}

/* Is there memory of this process at the address? (msync(2): ENOMEM where nothing is mapped) */
static bool is_mapped(uint64_t address)
{
	uintptr_t page = (uintptr_t)address & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);

	return msync((void *)page, 1, MS_ASYNC) == 0;
}

static void address_describe(struct qemu_machine *machine, uint64_t address, char *text,
			     size_t size)
{
	const struct domain *domain = &machine->ram.domain;
	uint64_t offset = address - (uintptr_t)domain->window;
	const struct iova_range *end = &domain->usable[domain->usable_count - 1];
	char names[256];

	if (is_ram(domain, address) && slaves(machine, names, sizeof(names)))
		snprintf(text, size, "bus mastering is off for %s: pci_set_master() switches it on",
			 names);
	else if (offset < domain->window_size)
		snprintf(text, size,
			 "this is a CPU address: the device reaches that memory at dma address "
			 "0x%" PRIx64,
			 qemu_ram_dma(offset));
	else if (is_mapped(address))
		snprintf(text, size,
			 "this is a CPU address: the device takes those that dma_map_single() or "
			 "dma_alloc_coherent() gave");
	else
		snprintf(text, size,
			 "there is nothing: the machine's memory ends at 0x%" PRIx64 "%s",
			 end->last,
			 address < (UINT64_C(1) << 32) && end->last >= (UINT64_C(1) << 32)
				 ? ", and has a hole for registers below 4 GiB"
				 : "");
}

void qemu_complain(void *context, char *line)
{
	struct qemu_machine *machine = context;
	struct qemu_complaints *seen = &machine->complaints;
	const char *name = machine->process.name, *last;
	struct complaint c = {0};
	bool access = complaint_parse(line, &c), nowhere;
	char text[400];

	nowhere = access && strcmp(c.region, NOTHING) == 0;
	if (access && seen->shown && c.address == seen->next && c.write == seen->write) {
		seen->next += c.size;
		return;
	}
	seen->next = access ? c.address + c.size : 0;
	seen->write = c.write;
	if (seen->shown >= QEMU_COMPLAINTS_SHOWN)
		return;
	seen->shown++;
	last = seen->shown == QEMU_COMPLAINTS_SHOWN ? "; further ones are not shown" : "";
	if (!nowhere) {
		log_line(DMALAND_LOG_ERR, "%s: QEMU says: %s%s", name, line, last);
		return;
	}
	address_describe(machine, c.address, text, sizeof(text));
	log_line(DMALAND_LOG_ERR, "%s: DMA fault: %s at dma address 0x%" PRIx64 ": %s%s", name,
		 c.write ? "write" : "read", c.address, text, last);
}
