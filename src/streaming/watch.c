/* SPDX-License-Identifier: MIT */
/*
 * watch.c - debug mode: has the program unmapped memory that is registered?
 *
 * Nothing here sees munmap(). The device goes on reaching the pages that were there when the memory
 * was registered, and the program sees others, or none. So memory that is registered in debug mode
 * gets a mark, which goes with the mapping that it is of, and is looked for in /proc/self/smaps:
 *
 *   registered     |------------------------|
 *   smaps          |  "rr"  |   |   ""   |"rr"|
 *                             ^ gone  ^ others were put there
 *
 * The mark is the advice MADV_RANDOM, which is about reading ahead from files and swap. All pages are
 * there as long as they are pinned, so that it changes nothing. What replaces pages inside of a
 * mapping (MADV_DONTNEED, truncating a file) leaves the mark, and is not found.
 */
#include "streaming/streaming_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mutex.h"

/* A mapping of smaps: from its first line, and from that of its flags. */
struct area {
	uintptr_t begin, end;
	bool marked;
};

/* The next area; false at the end. Lines that are longer than the buffer are those of names. */
static bool area_read(FILE *smaps, struct area *area)
{
	bool whole = true, inside = false;
	unsigned long begin, end;
	char line[256];

	while (fgets(line, sizeof(line), smaps)) {
		bool starts = whole;

		whole = strchr(line, '\n') != NULL;
		if (starts && sscanf(line, "%lx-%lx ", &begin, &end) == 2) {
			*area = (struct area){begin, end, false};
			inside = true;
		} else if (starts && inside && strncmp(line, "VmFlags:", 8) == 0) {
			area->marked = strstr(line, " rr ") || strstr(line, " rr\n");
			return true;
		}
	}
	return false;
}

/* The first of these bytes that is not as it was registered; end: all are. */
static uintptr_t first_changed(const struct registration *r, uintptr_t begin, uintptr_t end,
			       bool *gone)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	struct area area;

	*gone = false;
	if (!smaps)
		return end; /* nothing can be known */
	while (begin < end && area_read(smaps, &area)) {
		if (area.end <= begin)
			continue;
		*gone = area.begin > begin;
		if (*gone || (r->marked && !area.marked))
			break;
		begin = area.end;
	}
	fclose(smaps);
	return begin < end ? begin : end;
}

static int report_changed(struct streaming *s, const struct registration *r, uintptr_t at,
			  bool gone)
{
	return error_set(EFAULT,
			 "%s: %zu bytes at %p are registered, and from %p on the program has "
			 "unmapped them since%s: the device reaches the pages that were there: "
			 "dmaland_unregister() comes before munmap() and free()",
			 s->name, r->length, (void *)r->begin, (void *)at,
			 gone ? "" : ", and mapped others");
}

static void mark(const struct registration *r, bool marked)
{
	uintptr_t begin = r->begin & ~(uintptr_t)(FRAME_SIZE - 1);

	madvise((void *)begin, r->begin + r->length - begin, marked ? MADV_RANDOM : MADV_NORMAL);
}

/* One that shares a page with it keeps its mark. */
static void mark_again(struct streaming *s, uintptr_t page)
{
	const struct registration *other =
		registered_overlap(&s->space->registered, page, page + FRAME_SIZE);

	if (other && other->marked)
		mark(other, true);
}

void watch_begin(struct streaming *s, struct registration *r)
{
	bool gone;

	r->marked = false;
	if (!s->options.debug)
		return;
	mark(r, true);
	r->marked = true;
	/* Refused (a part of a hugepage): then only what is gone is found. */
	r->marked = first_changed(r, r->begin, r->begin + r->length, &gone) == r->begin + r->length;
}

void watch_end(struct streaming *s, struct registration *r)
{
	uintptr_t end = r->begin + r->length, at;
	bool gone;

	if (!s->options.debug)
		return;
	at = first_changed(r, r->begin, end, &gone);
	if (at < end) {
		report_changed(s, r, at, gone);
		log_line(DMALAND_LOG_ERR, "%s", error_last());
	} else if (r->marked) {
		mark(r, false);
	}
}

void watch_ended(struct streaming *s, uintptr_t begin, size_t length)
{
	if (!s->options.debug)
		return;
	mark_again(s, begin & ~(uintptr_t)(FRAME_SIZE - 1));
	mark_again(s, (begin + length - 1) & ~(uintptr_t)(FRAME_SIZE - 1));
}

int watch_check(struct streaming *s, const void *ptr, size_t size)
{
	struct registered *registered = &s->space->registered;
	uintptr_t begin = (uintptr_t)ptr, at = begin + size;
	const struct registration *r;
	bool gone;
	int err = 0;

	mutex_lock(&registered->lock);
	r = registered_overlap(registered, begin, at);
	if (r)
		at = first_changed(r, begin, begin + size, &gone);
	if (at < begin + size)
		err = report_changed(s, r, at, gone);
	mutex_unlock(&registered->lock);
	return err;
}

int streaming_check(struct streaming *s)
{
	struct registered *registered = &s->space->registered;
	int found = 0;

	if (!s->options.debug)
		return error_set(EOPNOTSUPP,
				 "%s: registered memory is not watched: options.dma_debug, or "
				 "dma_debug=yes in the spec",
				 s->name);
	log_hold();
	mutex_lock(&registered->lock);
	for (const struct registration *r = s->registrations; r; r = r->next) {
		uintptr_t end = r->begin + r->length, at;
		bool gone;

		at = first_changed(r, r->begin, end, &gone);
		if (at == end)
			continue;
		report_changed(s, r, at, gone);
		log_line(DMALAND_LOG_ERR, "%s", error_last());
		found++;
	}
	mutex_unlock(&registered->lock);
	log_release();
	return found;
}
