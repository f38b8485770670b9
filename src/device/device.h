/* SPDX-License-Identifier: MIT */
/*
 * device.h - struct dmaland_device: the floors below, put together
 */
#ifndef DEVICE_DEVICE_H
#define DEVICE_DEVICE_H

#include <dmaland/device.h>
#include "backend/backend.h"
#include "memory/arena.h"
#include "pool/pool.h"
#include "streaming/streaming.h"

struct dmaland_device {
	struct pci_function *function;
	struct arena *arena; /* of the function's domain, which other devices may share */
	struct dma_limits limits;
	struct arena_tenant coherent; /* takes the runs of dma_alloc_coherent() */
	struct arena_tenant orphans;  /* has the pages of pools that were destroyed busy */
	struct pool_list pools;
	struct streaming streaming;
	gfp_t gfp;	 /* what any allocation may do: __GFP_RECLAIM, or 0 */
	bool pool_debug; /* from the options: all of them */
	uint16_t vendor, id;
	unsigned int enabled;	     /* by pci_enable_device(), so often; changed by atomic means */
	bool disowned;		     /* this is the child of a fork: arena->disowned too */
	struct dmaland_device *next; /* in the list of those that are open: fork.c */
};

/* Do children disown devices? It was set up when the library was loaded; 0 or -ENOMEM in words. */
int device_watch_forks(void);

/* From now on, until it is withdrawn, the device is one of them. Forks are held: base/fork.h. */
void device_announce(struct dmaland_device *dev);
void device_withdraw(struct dmaland_device *dev);

/* Options of a spec that are not the backend's, but of every device. */
enum device_key {
	KEY_TRUSTED,
	KEY_UNMAP,
	KEY_LAZY_COUNT,
	KEY_LAZY_MS,
	KEY_COPY_BELOW,
	KEY_NO_SYSCALLS,
	KEY_DMA_DEBUG,
	DEVICE_KEYS,
};
extern const char *const device_keys[DEVICE_KEYS];

/* The value of a key, taken out of the spec: it is not the backend's. NULL when there is none. */
const char *spec_take(struct spec *spec, const char *key);

/* Options of "pci:VENDOR:DEVICE", whatever the backend is. */
enum find_key { KEY_INDEX, FIND_KEYS };
extern const char *const find_keys[FIND_KEYS];

/* "pci:VENDOR:DEVICE" and its index become the address that they mean, with the best backend. 0, or -errno in words. */
int spec_find(struct spec *spec);

/* Are the options that are left those that the backend takes? 0, or -EINVAL in words. */
int spec_check_keys(const struct spec *spec, const struct backend *backend);

/* Take a spec apart; spec_fini() frees it. 0 or -errno in words. */
int spec_parse(struct spec *spec, const char *text);
void spec_fini(struct spec *spec);

/* Does the environment let GFP_ATOMIC make system calls? */
bool atomic_may_grow_wanted(void);

/* Bus mastering off, then a reset where the function has one. False: it may still do DMA. */
bool pci_quiesce(struct dmaland_device *dev);

#endif
