/* SPDX-License-Identifier: MIT */
/*
 * find.c - PCI devices by what they are: dmaland_find(), and "pci:VENDOR:DEVICE[,index=N]" in a spec
 *
 * A board keeps its ids when it is put into another slot or machine, and its address changes. Nothing is kept of a search:
 * sysfs is read anew each time, and devices are counted by ascending address.
 */
#include "device/device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mutex.h"
#include "backend/sysfs.h"

/* The device that is as many places behind the first one of its kind; how many there are of the kind, or -errno. */
static int kind_find(unsigned int vendor, unsigned int device, unsigned int index, char *address)
{
	char(*found)[SYSFS_ADDRESS] = NULL;
	int count = sysfs_find(vendor, device, &found);

	if (count > 0 && index < (unsigned int)count)
		strcpy(address, found[index]);
	free(found);
	return count;
}

int dmaland_find(unsigned int vendor, unsigned int device, unsigned int index, char *address,
		 size_t size)
{
	char found[SYSFS_ADDRESS] = "";
	int count;

	cancel_hold();
	count = kind_find(vendor, device, index, found);
	cancel_release();
	if (count < 0)
		return error_set(-count, "cannot read the PCI bus: %s", strerror(-count));
	if (!count)
		return error_set(ENODEV,
				 "there is no PCI device %04x:%04x (dmaland info lists them)",
				 vendor, device);
	if (!found[0])
		return error_set(ENODEV,
				 "of PCI device %04x:%04x there are %d, and index %u was asked; "
				 "they count from 0",
				 vendor, device, count, index);
	if (strlen(found) >= size)
		return error_set(EINVAL, "an address of %zu bytes does not fit into %zu",
				 strlen(found) + 1, size);
	strcpy(address, found);
	return 0;
}

const char *const find_keys[FIND_KEYS] = {[KEY_INDEX] = "index"};

int spec_find(struct spec *spec)
{
	const char *value = spec_take(spec, find_keys[KEY_INDEX]);
	unsigned int vendor, device, index = 0;
	int err;

	if (!sysfs_read_ids(spec->address, &vendor, &device))
		return error_set(EINVAL,
				 "'pci:%s' is not pci:VENDOR:DEVICE, hexadecimal numbers as "
				 "pci:1234:11e8 has them",
				 spec->address);
	if (value && !sysfs_read_index(value, &index))
		return error_set(EINVAL, "index=%s is not a number up to %u", value, UINT16_MAX);
	err = dmaland_find(vendor, device, index, spec->address, sizeof(spec->address));
	if (!err)
		spec->backend[0] = '\0';
	return err;
}
