/* SPDX-License-Identifier: MIT */
/*
 * qemu_complaints.c - what QEMU says of a driver's mistakes, with what is known of the address
 *
 * QEMU lets an access of a device that reaches nothing succeed: what is read is zero, or left over. Only its log (-d guest_errors)
 * tells, a line for each 4 bytes of a block:
 *
 *	Invalid read at addr 0x7F10C8002000, size 4, region '(null)', reason: rejected
 *
 * No line names the device. QEMU's thread makes a sentence of it, and must not wait for what others hold during an access to
 * QEMU: so it takes the lines' lock alone. Another thread, which is started for the first sentence, hands it to the log, whose callback
 * may call the library: it gets its answers, as QEMU's thread goes on after a moment.
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
#include "backend/deadline.h"
#include "backend/qemu.h"

#define NOTHING "(null)" /* the region where none is */

/* How long QEMU's thread waits for the log, so that a line comes before the answer that followed it. */
#define SAID_TIMEOUT_MS 100

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
static bool not_masters(struct qemu_machine *machine, char *names, size_t size)
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

/* Where the device has registers: which device's, and where. */
static bool register_describe(struct qemu_machine *machine, uint64_t address, char *text,
			      size_t size)
{
	struct qemu_listener *listener;
	bool found = false;

	mutex_lock(&machine->lines.lock);
	for (listener = machine->lines.first; listener && !found; listener = listener->next) {
		const struct qemu_function *q = qemu_of_listener(listener);

		if (!__atomic_load_n(&q->begun, __ATOMIC_ACQUIRE))
			continue;
		for (unsigned int bar = 0; bar < PCI_STD_NUM_BARS && !found; bar++) {
			uint64_t offset = address - q->bars[bar].address;

			found = offset < q->bars[bar].size;
			if (found)
				snprintf(text, size, "0x%" PRIx64 " of BAR %u of %s", offset, bar,
					 q->function.name);
		}
	}
	mutex_unlock(&machine->lines.lock);
	return found;
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

	if (is_ram(domain, address) && not_masters(machine, names, sizeof(names)))
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

/* ---- to the log ---- */

int qemu_complaints_init(struct qemu_complaints *c)
{
	int err = pthread_mutex_init(&c->lock, NULL);

	if (err)
		return err;
	err = deadline_cond_init(&c->changed);
	if (err)
		pthread_mutex_destroy(&c->lock);
	return err;
}

void qemu_complaints_end(struct qemu_complaints *c)
{
	if (!c->has_thread)
		return;
	mutex_lock(&c->lock);
	c->end = true;
	pthread_cond_broadcast(&c->changed);
	mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	c->has_thread = false;
}

void qemu_complaints_fini(struct qemu_complaints *c)
{
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
}

static void *lines_say(void *context)
{
	struct qemu_complaints *c = context;

	mutex_lock(&c->lock);
	while (c->said < c->shown || !c->end) {
		if (c->said == c->shown) {
			pthread_cond_wait(&c->changed, &c->lock);
			continue;
		}
		mutex_unlock(&c->lock);
		log_line(DMALAND_LOG_ERR, "%s", c->lines[c->said]);
		mutex_lock(&c->lock);
		c->said++;
		pthread_cond_broadcast(&c->changed);
	}
	mutex_unlock(&c->lock);
	return NULL;
}

/* The next line is there. Without a thread it is said here. */
static void line_hand_over(struct qemu_complaints *c)
{
	struct timespec deadline = deadline_in(SAID_TIMEOUT_MS);
	int late = 0;

	if (!c->has_thread)
		c->has_thread = pthread_create(&c->thread, NULL, lines_say, c) == 0;
	mutex_lock(&c->lock);
	c->shown++;
	pthread_cond_broadcast(&c->changed);
	while (c->has_thread && c->said < c->shown && !late)
		late = pthread_cond_timedwait(&c->changed, &c->lock, &deadline);
	if (!c->has_thread)
		log_line(DMALAND_LOG_ERR, "%s", c->lines[c->said++]);
	mutex_unlock(&c->lock);
}

/* An access continues the last one when it is of the same kind, right behind it. */
static bool goes_on(struct qemu_complaints *seen, const struct complaint *c)
{
	bool does = seen->shown && c->address == seen->next && c->write == seen->write;

	seen->next = c->address + c->size;
	seen->write = c->write;
	return does;
}

void qemu_complain(void *context, char *line)
{
	struct qemu_machine *machine = context;
	struct qemu_complaints *seen = &machine->complaints;
	const char *name = machine->process.name, *last;
	struct complaint c = {0};
	bool access = complaint_parse(line, &c);
	char text[400], *to = seen->lines[seen->shown % QEMU_COMPLAINTS_SHOWN];
	const size_t size = sizeof(seen->lines[0]);

	if (goes_on(seen, &c) && access)
		return;
	if (seen->shown == QEMU_COMPLAINTS_SHOWN)
		return;
	last = seen->shown + 1 == QEMU_COMPLAINTS_SHOWN ? "; further ones are not shown" : "";
	if (!access || strcmp(c.region, NOTHING)) {
		snprintf(to, size, "%s: QEMU says: %s%s", name, line, last);
	} else if (register_describe(machine, c.address, text, sizeof(text))) {
		snprintf(to, size, "%s: %s at %s: there is no register%s", name,
			 c.write ? "write" : "read", text, last);
	} else {
		address_describe(machine, c.address, text, sizeof(text));
		snprintf(to, size, "%s: DMA fault: %s at dma address 0x%" PRIx64 ": %s%s", name,
			 c.write ? "write" : "read", c.address, text, last);
	}
	line_hand_over(seen);
}
