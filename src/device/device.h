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

/* Take a spec apart; spec_fini() frees it. 0 or -errno in words. */
int spec_parse(struct spec *spec, const char *text);
void spec_fini(struct spec *spec);

/* Does the environment let GFP_ATOMIC make system calls? */
bool atomic_may_grow_wanted(void);

/* Bus mastering off, then a reset where the function has one. False: it may still do DMA. */
bool pci_quiesce(struct dmaland_device *dev);

#endif
