/* SPDX-License-Identifier: MIT */
/*
 * registered.c - memory of the application that is mapped for good
 *
 *   frames       |   A   |   A   | shared |   B   |   C   |
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
	struct registration *unused, *next;

	for (size_t i = 0; i < registered->count; i++)
		free(registered->sorted[i]);
	for (unused = registered->unused; unused; unused = next) {
		next = unused->next;
		free(unused);
	}
	free(registered->sorted);
	pthread_mutex_destroy(&registered->lock);
	frames_fini(&registered->frames);
}

/* ---- looking up ---- */

/* How many begin at or below an address. */
static size_t count_below(const struct registered *registered, uintptr_t address)
{
	size_t low = 0, high = registered->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (registered->sorted[middle]->begin <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

dma_addr_t registered_find(struct registered *registered, const void *ptr, size_t size)
{
	uintptr_t begin = (uintptr_t)ptr;
	dma_addr_t dma = DMA_MAPPING_ERROR;
	size_t below;

	if (!frames_get(&registered->frames, begin))
		return dma;
	spin_lock(&registered->spin);
	below = count_below(registered, begin);
	if (below) {
		const struct registration *r = registered->sorted[below - 1];

		if (size <= r->length && begin - r->begin <= r->length - size)
			dma = begin + r->dma_offset;
	}
	spin_unlock(&registered->spin);
	return dma;
}

struct registration *registered_overlap(const struct registered *registered, uintptr_t begin,
					uintptr_t end)
{
	size_t below = count_below(registered, end - 1);
	struct registration *last = below ? registered->sorted[below - 1] : NULL;

	return last && last->begin + last->length > begin ? last : NULL;
}

struct registration *registered_of(const struct registered *registered,
				   const struct streaming *owner)
{
	for (size_t i = 0; i < registered->count; i++)
		if (registered->sorted[i]->owner == owner)
			return registered->sorted[i];
	return NULL;
}

/* ---- changing ---- */

static int array_widen(struct registered *registered)
{
	size_t room = 2 * registered->room + 8;
	struct registration **wider, **old = registered->sorted;

	if (registered->count < registered->room)
		return 0;
	wider = malloc(room * sizeof(*wider));
	if (!wider)
		return -ENOMEM;
	if (registered->count)
		memcpy(wider, old, registered->count * sizeof(*wider));
	spin_lock(&registered->spin);
	registered->sorted = wider;
	registered->room = room;
	spin_unlock(&registered->spin);
	free(old);
	return 0;
}

static struct registration *registration_get(struct registered *registered)
{
	struct registration *r = registered->unused;

	if (r)
		registered->unused = r->next;
	else
		r = calloc(1, sizeof(*r));
	return r;
}

struct registration *registered_prepare(struct registered *registered, uintptr_t begin,
					size_t length)
{
	struct registration *r;

	if (frames_reserve(&registered->frames, begin, length, true))
		return NULL;
	r = array_widen(registered) ? NULL : registration_get(registered);
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

/* What the word of a frame must be: whose it is, shared, or nobody's. */
static uintptr_t word_of_frame(const struct registered *registered, uintptr_t frame)
{
	size_t below = count_below(registered, frame + (FRAME_SIZE - 1));
	const struct registration *last = below ? registered->sorted[below - 1] : NULL;
	const struct registration *other = below > 1 ? registered->sorted[below - 2] : NULL;

	if (!last || last->begin + last->length <= frame)
		return 0;
	if (other && other->begin + other->length > frame)
		return FRAME_SHARED;
	return (uintptr_t)last;
}

/* The words of all frames that these bytes are in; only the outer ones may have others in them. */
static void words_set(struct registered *registered, uintptr_t begin, size_t length,
		      uintptr_t inner)
{
	uintptr_t first = begin & ~(uintptr_t)(FRAME_SIZE - 1);
	uintptr_t last = (begin + length - 1) & ~(uintptr_t)(FRAME_SIZE - 1);

	if (last > first + FRAME_SIZE)
		frames_set(&registered->frames, first + FRAME_SIZE, last - first - FRAME_SIZE,
			   inner);
	frames_set(&registered->frames, first, 1, word_of_frame(registered, first));
	frames_set(&registered->frames, last, 1, word_of_frame(registered, last));
}

void registered_insert(struct registered *registered, struct registration *r, size_t length,
		       uint64_t dma_offset)
{
	size_t at;

	__atomic_store_n(&r->dma_offset, dma_offset, __ATOMIC_RELEASE);
	__atomic_store_n(&r->length, length, __ATOMIC_RELEASE);
	__atomic_store_n(&r->generation, r->generation + 1, __ATOMIC_RELEASE);
	spin_lock(&registered->spin);
	at = count_below(registered, r->begin);
	memmove(&registered->sorted[at + 1], &registered->sorted[at],
		(registered->count - at) * sizeof(registered->sorted[0]));
	registered->sorted[at] = r;
	__atomic_store_n(&registered->count, registered->count + 1, __ATOMIC_RELEASE);
	spin_unlock(&registered->spin);
	words_set(registered, r->begin, r->length, (uintptr_t)r);
}

void registered_remove(struct registered *registered, struct registration *r)
{
	size_t at;

	spin_lock(&registered->spin);
	at = count_below(registered, r->begin) - 1;
	memmove(&registered->sorted[at], &registered->sorted[at + 1],
		(registered->count - at - 1) * sizeof(registered->sorted[0]));
	__atomic_store_n(&registered->count, registered->count - 1, __ATOMIC_RELEASE);
	spin_unlock(&registered->spin);
	words_set(registered, r->begin, r->length, 0);
	__atomic_store_n(&r->length, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&r->generation, r->generation + 1, __ATOMIC_RELEASE);
}
