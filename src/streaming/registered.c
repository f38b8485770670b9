/* SPDX-License-Identifier: MIT */
/*
 * registered.c - memory of the application that is mapped for good
 *
 *   frames       |   A   |   A   | B -> A |   B   |   C   |
 *   registered      AAAAAAAAAAAAAAAA BBBBBBBBBBB    CC
 */
#include "streaming/registered.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/spin.h"

int registered_init(struct registered *registered)
{
	int err;

	memset(registered, 0, sizeof(*registered));
	err = frames_init(&registered->frames);
	if (err)
		return err;
	err = pthread_mutex_init(&registered->lock, NULL);
	if (err) {
		frames_fini(&registered->frames);
		return error_set(err, "cannot make a lock for mappings: %s", strerror(err));
	}
	return 0;
}

void registered_fini(struct registered *registered)
{
	struct registration *r, *before;

	for (r = registered->made; r; r = before) {
		before = r->made;
		free(r);
	}
	pthread_mutex_destroy(&registered->lock);
	frames_fini(&registered->frames);
}

/* ---- the registrations in a frame ---- */

static uintptr_t frame_of(uintptr_t address)
{
	return address & ~(uintptr_t)(FRAME_SIZE - 1);
}

/* Where the list of a frame leads on from one that begins or ends in it. */
static struct registration **others_in(struct registration *r, uintptr_t frame)
{
	return &r->others[frame != frame_of(r->begin)];
}

static struct registration *first_of(uintptr_t word)
{
	return (struct registration *)(word & ~FRAME_SHARED);
}

/* The spinlock is held. */
static void frame_join(struct registered *registered, uintptr_t frame, struct registration *r)
{
	uintptr_t *word = frames_word(&registered->frames, frame);
	struct registration *first = first_of(*word);

	*others_in(r, frame) = first;
	__atomic_store_n(word, (uintptr_t)r | (first ? FRAME_SHARED : 0), __ATOMIC_RELEASE);
}

/* The spinlock is held. */
static void frame_leave(struct registered *registered, uintptr_t frame, struct registration *r)
{
	uintptr_t *word = frames_word(&registered->frames, frame);
	struct registration *first = first_of(*word), **link = &first;
	bool shared;

	while (*link != r)
		link = others_in(*link, frame);
	*link = *others_in(r, frame);
	shared = first && *others_in(first, frame);
	__atomic_store_n(word, (uintptr_t)first | (shared ? FRAME_SHARED : 0), __ATOMIC_RELEASE);
}

/*
 * One in a frame that has bytes from begin up to end, or NULL. The spinlock is held, or the mutex. In the middle
 * of a registration the spinlock does not keep it from ending.
 */
static struct registration *frame_overlap(const struct registered *registered, uintptr_t frame,
					  uintptr_t begin, uintptr_t end)
{
	uintptr_t word = frames_get(&registered->frames, frame);

	for (struct registration *r = first_of(word); r; r = *others_in(r, frame)) {
		uintptr_t first = __atomic_load_n(&r->begin, __ATOMIC_RELAXED);

		if (first < end && begin < first + __atomic_load_n(&r->length, __ATOMIC_RELAXED))
			return r;
		if (!(word & FRAME_SHARED))
			break;
	}
	return NULL;
}

/* ---- looking up ---- */

dma_addr_t registered_find(struct registered *registered, const void *ptr, size_t size)
{
	uintptr_t begin = (uintptr_t)ptr, word = frames_get(&registered->frames, begin);
	const struct registration *r = frame_registration(word);
	uint64_t offset;

	if (word & FRAME_SHARED) {
		spin_lock(&registered->spin);
		r = frame_overlap(registered, frame_of(begin), begin, begin + 1);
		spin_unlock(&registered->spin);
	}
	return r && registration_offset(r, ptr, size, &offset) ? begin + offset : DMA_MAPPING_ERROR;
}

struct registration *registered_overlap(const struct registered *registered, uintptr_t begin,
					uintptr_t end)
{
	uintptr_t frame = frame_of(begin);

	while ((frame = frames_next(&registered->frames, frame, end)) < end) {
		struct registration *r = frame_overlap(registered, frame, begin, end);

		if (r)
			return r;
		frame += FRAME_SIZE;
	}
	return NULL;
}

/* ---- changing ---- */

static struct registration *registration_get(struct registered *registered)
{
	struct registration *r = registered->unused;

	if (r) {
		registered->unused = r->next;
		return r;
	}
	r = calloc(1, sizeof(*r));
	if (r) {
		r->made = registered->made;
		registered->made = r;
	}
	return r;
}

struct registration *registered_prepare(struct registered *registered, uintptr_t begin,
					size_t length)
{
	struct registration *r;

	if (frames_reserve(&registered->frames, begin, length, true))
		return NULL;
	r = registration_get(registered);
	if (!r) {
		error_set(ENOMEM, "no memory for the bookkeeping of registered memory");
		return NULL;
	}
	__atomic_store_n(&r->begin, begin, __ATOMIC_RELEASE);
	return r;
}

void registered_recycle(struct registered *registered, struct registration *registration)
{
	registration->next = registered->unused;
	registered->unused = registration;
}

/* Its frames get words, or lose them. */
static void words_set(struct registered *registered, struct registration *r,
		      void (*edge)(struct registered *, uintptr_t, struct registration *),
		      uintptr_t inner)
{
	uintptr_t first = frame_of(r->begin), last = frame_of(r->begin + r->length - 1);

	spin_lock(&registered->spin);
	edge(registered, first, r);
	if (last > first)
		edge(registered, last, r);
	spin_unlock(&registered->spin);
	if (last > first + FRAME_SIZE)
		frames_set(&registered->frames, first + FRAME_SIZE, last - first - FRAME_SIZE,
			   inner);
}

void registered_insert(struct registered *registered, struct registration *r, size_t length,
		       uint64_t dma_offset, struct registration **of_owner)
{
	__atomic_store_n(&r->dma_offset, dma_offset, __ATOMIC_RELEASE);
	__atomic_store_n(&r->length, length, __ATOMIC_RELEASE);
	__atomic_store_n(&r->generation, r->generation + 1, __ATOMIC_RELEASE);
	r->next = *of_owner;
	r->link = of_owner;
	if (r->next)
		r->next->link = &r->next;
	*of_owner = r;
	words_set(registered, r, frame_join, (uintptr_t)r);
	__atomic_store_n(&registered->count, registered->count + 1, __ATOMIC_RELEASE);
}

void registered_orphan(struct registration *r)
{
	*r->link = r->next;
	if (r->next)
		r->next->link = r->link;
	r->owner = NULL;
}

void registered_remove(struct registered *registered, struct registration *r)
{
	registered_orphan(r);
	__atomic_store_n(&registered->count, registered->count - 1, __ATOMIC_RELEASE);
	words_set(registered, r, frame_leave, 0);
	__atomic_store_n(&r->length, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&r->generation, r->generation + 1, __ATOMIC_RELEASE);
}
