/* SPDX-License-Identifier: MIT */
/*
 * soft.c - what a device of `soft:` did that it may not: the one call that is for one backend
 */
#include <errno.h>

#include <dmaland/soft.h>
#include "backend/soft.h"
#include "base/error.h"
#include "device/device.h"

size_t dmaland_soft_faults(struct dmaland_device *dev, struct dmaland_soft_fault *faults, size_t n)
{
	size_t count;

	if (!dev) {
		error_set(EINVAL, "dmaland_soft_faults: no device");
		return 0;
	}
	if (dmaland_check(dev))
		return 0;
	return soft_function_faults(dev->function, faults, n, &count) ? 0 : count;
}
