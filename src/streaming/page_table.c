/* SPDX-License-Identifier: MIT */
/*
 * page_table.c - from an address to what lives there, in one step
 *
 *   address  |  number of the table  |  frame: 18 bits  |  offset: 12 bits  |
 *                    hash -> bucket -> table -> words[frame]
 *
 * A table is 2 MiB of addresses of ours, of which pages are used as frames are set: 8 bytes for
 * 4 KiB that are mapped. Tables stay until the domain ends.
 */
#include "streaming/page_table.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "base/mutex.h"

static const size_t table_bytes =
	sizeof(struct frame_table) + TABLE_FRAMES * sizeof(((struct frame_table *)NULL)->words[0]);

int frames_init(struct frames *frames)
{
	int err;

	memset(frames, 0, sizeof(*frames));
	err = pthread_mutex_init(&frames->lock, NULL);
	return err ? error_set(err, "cannot make a lock for mappings: %s", strerror(err)) : 0;
}

void frames_fini(struct frames *frames)
{
	for (size_t i = 0; i < TABLE_BUCKETS; i++) {
		struct frame_table *table, *next;

		for (table = frames->buckets[i]; table; table = next) {
			next = table->next;
			munmap(table, table_bytes);
		}
	}
	pthread_mutex_destroy(&frames->lock);
}

/* The lock is held. */
static int table_make(struct frames *frames, uint64_t number)
{
	struct frame_table **bucket = &frames->buckets[number % TABLE_BUCKETS], *table;
	void *place = mmap(NULL, table_bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (place == MAP_FAILED)
		return error_mmap("no memory for the bookkeeping of mappings");
	table = place;
	table->number = number;
	table->next = *bucket;
	__atomic_store_n(bucket, table, __ATOMIC_RELEASE);
	return 0;
}

int frames_reserve(struct frames *frames, dma_addr_t dma, size_t size, bool may_make)
{
	int err = 0;

	for (uint64_t number = dma >> TABLE_SHIFT;
	     !err && number <= (dma + (size - 1)) >> TABLE_SHIFT; number++) {
		if (frames_word(frames, number << TABLE_SHIFT))
			continue;
		if (!may_make)
			return error_set(ENOMEM,
					 "no bookkeeping is ready for mappings at dma "
					 "address 0x%llx, and no_syscalls forbids to make it",
					 (unsigned long long)dma);
		mutex_lock(&frames->lock);
		if (!frames_word(frames, number << TABLE_SHIFT))
			err = table_make(frames, number);
		mutex_unlock(&frames->lock);
	}
	return err;
}

void frames_set(struct frames *frames, dma_addr_t dma, size_t size, uintptr_t word)
{
	uint64_t frame = dma >> FRAME_SHIFT, end = ((dma + (size - 1)) >> FRAME_SHIFT) + 1;

	while (frame < end) {
		uint64_t next = (frame / TABLE_FRAMES + 1) * TABLE_FRAMES;
		uintptr_t *place = frames_word(frames, frame << FRAME_SHIFT);
		uint64_t stop = next < end ? next : end;

		if (place)
			frames_fill(place, (size_t)(stop - frame), word);
		frame = stop;
	}
}

dma_addr_t frames_next(const struct frames *frames, dma_addr_t dma, dma_addr_t end)
{
	uint64_t frame = dma >> FRAME_SHIFT, last = (end - 1) >> FRAME_SHIFT;

	while (frame <= last) {
		uint64_t next = (frame / TABLE_FRAMES + 1) * TABLE_FRAMES;
		const uintptr_t *word = frames_word(frames, frame << FRAME_SHIFT);

		if (!word)
			frame = next;
		for (; frame < next && frame <= last; frame++, word++)
			if (__atomic_load_n(word, __ATOMIC_RELAXED))
				return frame << FRAME_SHIFT;
	}
	return end;
}
