/* SPDX-License-Identifier: MIT */
/*
 * debug_registered.c - debug mode: has the program unmapped memory that is registered?
 *
 * Nothing here sees munmap(). The device goes on reaching the pages that were there when the memory
 * was registered, and the program sees others, or none. So the kernel is asked what is mapped there
 * (base/vma.h), and whether it is what was registered:
 *
 *   registered     |------------------------|
 *   mapped         | marked |   |      |marked|
 *                             ^ gone ^ others were put there
 *
 * Each kind of memory is known again by a mark that goes with the mapping:
 *
 *   private and anonymous   a memory policy, MPOL_LOCAL where it has none. A mapping that is new has none.
 *   shared, or hugetlbfs's  file and offset. Anonymous memory that is shared has a file of its own.
 *   other                   the advice MADV_RANDOM, which is about reading ahead from files and swap. So where
 *                           policies are not to be had (containers). Only /proc/self/smaps tells advice, slowly.
 *
 * All pages are there as long as they are pinned, so that neither policy nor advice changes anything.
 * What replaces pages inside of a mapping (MADV_DONTNEED, truncating a file) leaves the mark, and is
 * not found.
 */
#include "streaming/streaming_internal.h"

#include <errno.h>
#include <limits.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/vma.h"

enum {
	PAGES_ALONE = 16, /* their policies are asked for faster than how far a mapping goes */
	POLICY_GONE = -1, /* nothing is mapped */
	POLICY_UNKNOWN = INT_MAX,
};

/* ---- what is mapped, and whether it is marked ---- */

/* MPOL_DEFAULT is none. */
static int policy_at(uintptr_t address)
{
	int mode, code = errno;

	if (syscall(SYS_get_mempolicy, &mode, NULL, 0UL, address, MPOL_F_ADDR)) {
		mode = errno == EFAULT ? POLICY_GONE : POLICY_UNKNOWN;
		errno = code;
	}
	return mode;
}

/* What is mapped, one mapping after the other; or page by page. */
struct look {
	enum watch_mark mark; /* that is looked for */
	bool by_page;
	struct vma_reader reader;
	struct vma vma;
	int policy;
};

/* False: nothing can be known. */
static bool look_begin(struct look *look, enum watch_mark mark, uintptr_t begin, uintptr_t end)
{
	look->mark = mark;
	look->by_page = mark == MARK_POLICY && end - begin <= PAGES_ALONE * FRAME_SIZE;
	return look->by_page || vma_open(&look->reader, mark == MARK_ADVICE);
}

static void look_end(struct look *look)
{
	if (!look->by_page)
		vma_close(&look->reader);
}

/* As vma_next(); in a page by page look nothing is mapped where vma.begin is above the address. */
static bool look_at(struct look *look, uintptr_t address)
{
	if (!look->by_page && !vma_next(&look->reader, address, &look->vma))
		return false;
	if (look->mark == MARK_POLICY)
		look->policy = policy_at(address);
	if (look->by_page) {
		look->vma.end = align_down(address, FRAME_SIZE) + FRAME_SIZE;
		look->vma.begin = look->policy == POLICY_GONE ? look->vma.end : address;
	}
	return true;
}

static bool is_marked(const struct watch *watch, const struct look *look)
{
	const struct vma *vma = &look->vma;

	switch (watch->mark) {
	case MARK_POLICY:
		return look->policy > MPOL_DEFAULT;
	case MARK_FILE:
		return vma->inode == watch->inode && vma->device == watch->device &&
		       vma->offset - vma->begin == watch->offset;
	case MARK_ADVICE:
		return vma->random;
	default:
		return true;
	}
}

/* The first of these bytes that is not as it was registered; end: all are. */
static uintptr_t first_changed(const struct watch *watch, uintptr_t begin, uintptr_t end,
			       bool *gone)
{
	struct look look;

	*gone = false;
	if (!look_begin(&look, watch->mark, begin, end))
		return end;
	for (; begin < end; begin = look.vma.end) {
		if (!look_at(&look, begin)) {
			begin = end;
			break;
		}
		*gone = look.vma.begin > begin;
		if (*gone || !is_marked(watch, &look))
			break;
	}
	look_end(&look);
	return begin < end ? begin : end;
}

/* ---- marking ---- */

/* Of no bytes, too: then nothing is done. */
static void policy_set(uintptr_t begin, uintptr_t end, int mode, int *err)
{
	if (begin < end && syscall(SYS_mbind, begin, end - begin, mode, NULL, 0UL, 0U))
		*err = -errno;
}

/* Policies become others where they are as told. 0, or -errno: not all of them. */
static int policies_change(uintptr_t begin, uintptr_t end, int from, int to)
{
	uintptr_t run = begin; /* from here on they are as told */
	struct look look;
	int err = 0;

	if (!look_begin(&look, MARK_POLICY, begin, end))
		return 0;
	for (; begin < end && look_at(&look, begin) && look.vma.begin <= begin;
	     begin = look.vma.end) {
		if (look.policy == from)
			continue;
		policy_set(run, begin, to, &err);
		run = look.vma.end;
	}
	policy_set(run, begin < end ? begin : end, to, &err);
	look_end(&look);
	return err;
}

/* Whole pages; 0, or -errno: not all of them. */
static int mark_set(enum watch_mark mark, uintptr_t begin, uintptr_t end, bool marked)
{
	if (mark == MARK_POLICY)
		return policies_change(begin, end, marked ? MPOL_DEFAULT : MPOL_LOCAL,
				       marked ? MPOL_LOCAL : MPOL_DEFAULT);
	if (mark != MARK_ADVICE)
		return 0;
	return madvise((void *)begin, end - begin, marked ? MADV_RANDOM : MADV_NORMAL) ? -errno : 0;
}

/* By what one mapping is known again. */
static struct watch vma_watch(const struct vma *vma)
{
	if (!vma->inode && !vma->shared)
		return (struct watch){.mark = MARK_POLICY};
	if (!vma->shared && !vma->hugetlb)
		return (struct watch){.mark = MARK_ADVICE};
	return (struct watch){MARK_FILE, vma->inode, vma->device, vma->offset - vma->begin};
}

static bool watch_is(const struct watch *a, const struct watch *b)
{
	return a->mark == b->mark && a->inode == b->inode && a->device == b->device &&
	       a->offset == b->offset;
}

/* By what these bytes are, if they are of one kind. */
static struct watch memory_watch(uintptr_t begin, uintptr_t end)
{
	struct watch watch = {.mark = MARK_ADVICE}, one;
	struct vma_reader reader;
	struct vma vma;

	if (!vma_open(&reader, false))
		return watch;
	for (uintptr_t at = begin; at < end && vma_next(&reader, at, &vma); at = vma.end) {
		one = vma_watch(&vma);
		if (at == begin)
			watch = one;
		else if (!watch_is(&watch, &one))
			watch.mark = MARK_ADVICE;
	}
	vma_close(&reader);
	return watch;
}

/* Mark it. 0, or -errno; -EPERM, -ENOSYS: this mark is not to be had in this process. */
static int mark(const struct streaming *s, const struct registration *r)
{
	uintptr_t end = r->begin + r->length;
	int err = mark_set(r->watch.mark, align_down(r->begin, s->page), align_up(end, s->page),
			   true);
	bool gone;

	if (!err && r->watch.mark == MARK_POLICY && policy_at(r->begin) == POLICY_UNKNOWN)
		return -EPERM;
	if (!err && first_changed(&r->watch, r->begin, end, &gone) < end)
		return -EFAULT;
	return err;
}

/*
 * Registrations that have a mark: a mark is the process's, and another domain may have registered the same memory. As long as
 * there are others' at all, marks stay.
 */
static size_t marked_by_all;

static void count_mark(struct streaming *s, size_t n)
{
	__atomic_fetch_add(&marked_by_all, n, __ATOMIC_RELAXED);
	s->space->registered.marked += n;
}

/* But for pages of which others have a part. */
static void unmark(const struct streaming *s, const struct registration *r)
{
	const struct registered *registered = &s->space->registered;
	uintptr_t end = r->begin + r->length;
	uintptr_t first = align_down(r->begin, s->page), last = align_up(end, s->page);

	if (__atomic_load_n(&marked_by_all, __ATOMIC_RELAXED) != registered->marked)
		return;
	if (registered_overlap(registered, first, r->begin))
		first += s->page;
	if (registered_overlap(registered, end, last))
		last -= s->page;
	if (first < last)
		mark_set(r->watch.mark, first, last, false);
}

/* ---- what others call ---- */

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

void watch_begin(struct streaming *s, struct registration *r)
{
	int err;

	r->watch.mark = MARK_NONE;
	if (!s->options.debug)
		return;
	r->watch = memory_watch(r->begin, r->begin + r->length);
	count_mark(s, 1);
	err = mark(s, r);
	if (r->watch.mark == MARK_POLICY && (err == -EPERM || err == -ENOSYS)) {
		r->watch.mark = MARK_ADVICE;
		err = mark(s, r);
	}
	/* Of a part of a hugepage, or since the process may have no more mappings: only what is gone is found. */
	if (err)
		r->watch.mark = MARK_NONE;
}

void watch_end(struct streaming *s, struct registration *r)
{
	uintptr_t end = r->begin + r->length, at;
	bool gone;

	if (!s->options.debug)
		return;
	count_mark(s, (size_t)-1);
	at = first_changed(&r->watch, r->begin, end, &gone);
	if (at == end) {
		unmark(s, r);
		return;
	}
	report_changed(s, r, at, gone);
	log_line(DMALAND_LOG_ERR, "%s", error_last());
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
		at = first_changed(&r->watch, begin, begin + size, &gone);
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

		at = first_changed(&r->watch, r->begin, end, &gone);
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
