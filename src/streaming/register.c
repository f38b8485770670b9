/* SPDX-License-Identifier: MIT */
/*
 * register.c - memory of the application that a device reaches until further notice
 *
 * Which memory is registered, and finding it, is registered.c's; here it is mapped, and unmapped.
 */
#include "streaming/streaming_internal.h"

#include <errno.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mutex.h"
#include "backend/mmio.h"

static int overlap_check(struct streaming *s, uintptr_t begin, uintptr_t end)
{
	const struct registration *other = registered_overlap(&s->space->registered, begin, end);
	uintptr_t window = (uintptr_t)s->space->domain->window;

	if (begin < window + s->space->domain->window_size && end > window)
		return error_set(EEXIST,
				 "%s: memory at %p lies in the arena's window, which the device "
				 "reaches already",
				 s->name, (void *)begin);
	if (other)
		return error_set(
			EEXIST, "%s: %zu bytes at %p overlap %zu bytes at %p, which are registered",
			s->name, (size_t)(end - begin), (void *)begin, other->length,
			(void *)other->begin);
	return 0;
}

/* The lock is held. */
static int registration_map(struct streaming *s, struct registration *r, size_t length)
{
	struct domain *domain = s->space->domain;
	uintptr_t granule = s->granule;
	uintptr_t begin = r->begin & ~(granule - 1);
	uint64_t boundary = s->limits->seg_boundary;
	int err;

	r->owner = s;
	r->size = align_up(r->begin + length, granule) - begin;
	/* It is for many mappings: where it can't hold the boundary, parts of it may. */
	if (r->size - 1 > boundary)
		boundary = UINT64_MAX;
	err = mapped_take_range(s, (void *)begin, r->size, boundary, &r->dma);
	if (err)
		return err;
	err = frames_reserve(&s->space->frames, r->dma, r->size, true);
	if (!err)
		err = domain->ops->map(domain, r->dma, (void *)begin, r->size,
				       DOMAIN_READ | DOMAIN_WRITE);
	if (err) {
		iova_cache_give(&s->iova, r->dma, r->size);
		return err;
	}
	frames_set(&s->space->frames, r->dma, r->size, s->shadow ? (uintptr_t)r : FRAME_ARENA);
	registered_insert(&s->space->registered, r, length, r->dma - begin, &s->registrations);
	watch_begin(s, r);
	return 0;
}

static int register_once(struct streaming *s, void *ptr, size_t size)
{
	struct registered *registered = &s->space->registered;
	uintptr_t begin = (uintptr_t)ptr;
	struct registration *r;
	int err;

	mutex_lock(&registered->lock);
	err = presence_check(s, ptr, size);
	if (!err)
		err = overlap_check(s, begin, begin + size);
	if (err)
		goto unlock;
	r = registered_prepare(registered, begin, size);
	if (!r) {
		err = -ENOMEM;
		goto unlock;
	}
	err = registration_map(s, r, size);
	if (err)
		registered_recycle(registered, r);
unlock:
	mutex_unlock(&registered->lock);
	return err;
}

int streaming_register(struct streaming *s, void *ptr, size_t size)
{
	unsigned int given_up = 0;
	int err = request_check(s, ptr, size, DMA_BIDIRECTIONAL, 0);

	if (err)
		return err;
	if (!streaming_can_map(s))
		return error_set(
			EOPNOTSUPP,
			"%s: memory that exists can't be mapped by the backend %s: take it "
			"from dma_alloc_coherent() or a pool instead of registering it",
			s->name, s->space->domain->ops->backend);
	if (!s->translates)
		return error_set(
			EPERM,
			"%s: the device is not trusted (trusted=no), and registered memory "
			"would be open to it for good",
			s->name);
	if (mmio_overlaps(ptr, size, true))
		return error_set(
			EINVAL,
			"%s: %zu bytes at %p are a window of registers that this backend does "
			"not map, so that no device reaches them",
			s->name, size, ptr);
	do
		err = register_once(s, ptr, size);
	while (mapped_try_again(s, err, &given_up));
	return err;
}

int streaming_unregister(struct streaming *s, void *ptr)
{
	struct registered *registered = &s->space->registered;
	struct domain *domain = s->space->domain;
	uintptr_t begin = (uintptr_t)ptr;
	struct registration *r;
	int err;

	log_hold();
	mutex_lock(&registered->lock);
	r = registered_overlap(registered, begin, begin + 1);
	if (!r || r->begin != begin || r->owner != s) {
		err = error_set(ENOENT, "%s: nothing that this device has registered begins at %p",
				s->name, ptr);
		goto unlock;
	}
	watch_end(s, r);
	err = domain->ops->unmap(domain, r->dma, r->size, 1);
	if (err) {
		err = error_prefix("%s: memory at %p stays registered", s->name, ptr);
		watch_begin(s, r);
		goto unlock;
	}
	registered_remove(registered, r);
	frames_set(&s->space->frames, r->dma, r->size, 0);
	iova_cache_give(&s->iova, r->dma, r->size);
	registered_recycle(registered, r);
unlock:
	mutex_unlock(&registered->lock);
	log_release();
	return err;
}

void registrations_end(struct streaming *s)
{
	struct registered *registered = &s->space->registered;
	struct registration *r;

	/* The device's own list: nobody else changes it now. */
	while ((r = s->registrations)) {
		if (streaming_unregister(s, (void *)r->begin) == 0)
			continue;
		mutex_lock(&registered->lock);
		registered_orphan(r);
		mutex_unlock(&registered->lock);
	}
}
