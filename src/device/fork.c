/* SPDX-License-Identifier: MIT */
/*
 * fork.c - what a child process inherits of devices: nothing
 *
 * The arena and the registers are not inherited (MADV_DONTFORK), and the child must not speak on the
 * parent's file descriptors. So in the child each open device is disowned: its files are closed, its
 * function answers everything with EPERM, its memory gives nothing, and no lock of it is taken any
 * more, since a thread of the parent may hold it for good. The parent does not notice.
 *
 * No thread is opening or closing a device at that moment: see base/fork.h.
 *
 * The handlers are set up when the library is loaded. fork() calls handlers in the reverse order of
 * their setting up, so a program's own run before these hold the library. A lock that its handler
 * takes may then be held by a thread that is in a call of the library: the call comes to its end.
 */
#include <pthread.h>

#include "backend/mmio.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/mutex.h"
#include "base/thread.h"
#include "device/device.h"
#include "pool/pool.h"

static struct {
	pthread_mutex_t lock;
	struct dmaland_device *first;
	int error; /* of setting up */
} devices = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Files are closed: fork() is no cancellation point in the child either. */
static void child_begins(void)
{
	cancel_hold();
	fork_in_child();
	error_in_child();
	threads_disown();
	for (struct dmaland_device *dev = devices.first; dev; dev = dev->next) {
		mmio_disown(dev->function);
		pci_function_disown(dev->function);
		streaming_disown(&dev->streaming);
		dev->arena->disowned = dev->disowned = true;
	}
	devices.first = NULL;
	cancel_release();
}

/* The first priority that is not the compiler's: before the constructors of a program that is linked statically. */
__attribute__((constructor(101))) static void watch_forks(void)
{
	devices.error = pthread_atfork(fork_before, fork_in_parent, child_begins);
}

int device_watch_forks(void)
{
	return devices.error ? error_set(devices.error, "no memory to watch for fork()") : 0;
}

void device_announce(struct dmaland_device *dev)
{
	pthread_mutex_lock(&devices.lock);
	dev->next = devices.first;
	devices.first = dev;
	pthread_mutex_unlock(&devices.lock);
}

void device_withdraw(struct dmaland_device *dev)
{
	struct dmaland_device **link = &devices.first;

	pthread_mutex_lock(&devices.lock);
	while (*link != dev)
		link = &(*link)->next;
	*link = dev->next;
	pthread_mutex_unlock(&devices.lock);
}

int dmaland_check(const struct dmaland_device *dev)
{
	return dev->disowned ? error_forked(dev->function->name) : 0;
}
