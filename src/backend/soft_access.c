/* SPDX-License-Identifier: MIT */
/*
 * soft_access.c - a device's accesses to the address space, checked
 *
 * An access finds its range, then the kernel copies: process_vm_readv() and process_vm_writev() on
 * ourselves. So memory that the application has unmapped or protected meanwhile ends in EFAULT and
 * not in a signal; and what a device does behind the back of a thread is not taken by the
 * sanitizers for something that the thread does.
 */
#include "backend/soft.h"

#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mutex.h"

size_t soft_memory_copy(char *memory, void *data, size_t size, bool write)
{
	long call = write ? SYS_process_vm_writev : SYS_process_vm_readv;
	size_t done = 0;

	while (done < size) {
		struct iovec ours = {(char *)data + done, size - done};
		struct iovec theirs = {memory + done, size - done};
		long n = syscall(call, (long)getpid(), &ours, 1L, &theirs, 1L, 0L);

		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

int soft_memory_check(void)
{
	char from[8] = "dmaland", to[8] = "";

	if (soft_memory_copy(from, to, sizeof(to), false) == sizeof(to) &&
	    soft_memory_copy(to, from, sizeof(to), true) == sizeof(to))
		return 0;
	return error_system("soft: the kernel refuses process_vm_readv() and process_vm_writev(), "
			    "which the engine works by (a filter of system calls? docker run "
			    "--security-opt seccomp=unconfined)");
}

static void fault_attribute(struct dmaland_soft_fault *fault, const struct soft_range *range)
{
	fault->kind = range->kind;
	fault->first = range->dma;
	fault->size = range->size;
	fault->memory = range->cpu;
	fault->readable = range->access & DOMAIN_READ;
	fault->writable = range->access & DOMAIN_WRITE;
}

/* Nothing is mapped at an address: whose was it, or over whose end did the transfer run? */
static void fault_unmapped(struct soft_domain *sd, const struct soft_access *access, dma_addr_t at,
			   struct dmaland_soft_fault *fault)
{
	const struct soft_range *range = NULL;

	fault->reason = DMALAND_SOFT_NOT_MAPPED;
	if (at != access->begin)
		range = soft_ranges_find(&sd->ranges, at - 1);
	if (range) {
		fault->reason = DMALAND_SOFT_END;
		fault_attribute(fault, range);
		return;
	}
	range = soft_ranges_was(&sd->ranges, at);
	fault->unmapped = range != NULL;
	if (range)
		fault_attribute(fault, range);
}

/* Access one range, as far as it goes: the bytes; 0 with the fault. The domain's lock is held. */
static size_t range_access(struct soft_domain *sd, const struct soft_access *access, size_t done,
			   struct dmaland_soft_fault *fault)
{
	dma_addr_t at = access->dma + done;
	struct soft_range *range = soft_ranges_find(&sd->ranges, at);
	size_t size = access->size - done;
	uint64_t rest;

	if (!range) {
		fault_unmapped(sd, access, at, fault);
		return 0;
	}
	fault_attribute(fault, range);
	fault->reason = DMALAND_SOFT_DIRECTION;
	if (!(range->access & (access->write ? DOMAIN_WRITE : DOMAIN_READ)))
		return 0;
	rest = range->size - (at - range->dma);
	size = soft_owners_allow(range, at, size < rest ? size : (size_t)rest);
	if (!size) {
		fault->reason = DMALAND_SOFT_CPU;
		soft_owners_attribute(range, at, fault);
		return 0;
	}
	fault->reason = DMALAND_SOFT_GONE;
	return soft_memory_copy(range->device + (at - range->dma), (char *)access->data + done,
				size, access->write);
}

size_t soft_domain_access(struct soft_domain *sd, const struct soft_access *access,
			  struct dmaland_soft_fault *fault)
{
	size_t done = 0;

	memset(fault, 0, sizeof(*fault));
	mutex_lock(&sd->domain.lock);
	while (done < access->size) {
		size_t n = range_access(sd, access, done, fault);

		done += n;
		if (!n)
			break;
	}
	mutex_unlock(&sd->domain.lock);
	fault->address = access->dma + done;
	fault->write = access->write;
	return done;
}

dma_addr_t soft_domain_pick(struct soft_domain *sd, uint64_t number)
{
	struct soft_range *range;
	dma_addr_t dma = 0;

	mutex_lock(&sd->domain.lock);
	range = soft_ranges_pick(&sd->ranges, number);
	if (range)
		dma = range->dma + (number >> 20) % range->size;
	mutex_unlock(&sd->domain.lock);
	return dma;
}
