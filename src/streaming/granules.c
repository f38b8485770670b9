/* SPDX-License-Identifier: MIT */
/*
 * granules.c - memory to copy through for devices that are not trusted
 *
 * Whole granules that hold nothing but one transfer. They are not the arena's, which the device
 * reaches always, but the process's own, and mapped for the transfer alone. Some are kept.
 */
#include "streaming/streaming_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "base/error.h"

#define KEPT_MAX ((size_t)4 << 20) /* bytes that are kept to be used again */

static struct granule_buffer *buffer_make(struct streaming *s, size_t size)
{
	struct granule_buffer *buffer = malloc(sizeof(*buffer));
	void *cpu = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (buffer && cpu != MAP_FAILED && madvise(cpu, size, MADV_DONTFORK) == 0) {
		*buffer = (struct granule_buffer){NULL, cpu, size};
		return buffer;
	}
	if (cpu != MAP_FAILED)
		munmap(cpu, size);
	free(buffer);
	error_set(ENOMEM, "%s: no memory for %zu KiB to copy through", s->name, size >> 10);
	return NULL;
}

struct granule_buffer *granules_get(struct streaming *s, size_t size)
{
	struct granule_buffer **link, *buffer;

	size = power_of_two_covering(size);
	spin_lock(&s->granules_lock);
	link = &s->granules;
	while (*link && (*link)->size != size)
		link = &(*link)->next;
	buffer = *link;
	if (buffer) {
		*link = buffer->next;
		s->granules_bytes -= size;
	}
	spin_unlock(&s->granules_lock);
	if (!buffer)
		return buffer_make(s, size);
	memset(buffer->cpu, 0, size);
	return buffer;
}

void granules_put(struct streaming *s, struct granule_buffer *buffer)
{
	bool keep;

	spin_lock(&s->granules_lock);
	keep = s->granules_bytes + buffer->size <= KEPT_MAX;
	if (keep) {
		buffer->next = s->granules;
		s->granules = buffer;
		s->granules_bytes += buffer->size;
	}
	spin_unlock(&s->granules_lock);
	if (keep)
		return;
	munmap(buffer->cpu, buffer->size);
	free(buffer);
}

void granules_free(struct streaming *s)
{
	struct granule_buffer *buffer, *next;

	spin_lock(&s->granules_lock);
	buffer = s->granules;
	s->granules = NULL;
	s->granules_bytes = 0;
	spin_unlock(&s->granules_lock);
	for (; buffer; buffer = next) {
		next = buffer->next;
		munmap(buffer->cpu, buffer->size);
		free(buffer);
	}
}
