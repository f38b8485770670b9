/* SPDX-License-Identifier: MIT */
/*
 * nvme_read.c - read one block of a drive and write it to stdout
 *
 *   ./nvme_read 0000:01:00.0 0 | od -Ax -tx1
 *   ./nvme_read qemu:nvme,drive=disk.img 7
 */
#include <stdio.h>
#include <stdlib.h>

#include <dmaland/dmaland.h>
#include <dmaland/nvme.h>

static int block_print(struct dmaland_nvme *ctrl, uint64_t block)
{
	struct dmaland_nvme_queue *queue = dmaland_nvme_queue_create(ctrl, 1, 0);
	struct dmaland_nvme_namespace ns;
	int err = -1;
	void *data;

	if (!queue || dmaland_nvme_get_namespace(ctrl, 1, &ns))
		return -1;
	data = malloc(ns.block_size); /* any memory will do */
	if (data)
		err = dmaland_nvme_read(queue, 1, block, 1, data);
	if (!err)
		fwrite(data, 1, ns.block_size, stdout);
	free(data);
	return err;
}

int main(int argc, char **argv)
{
	struct dmaland_device *dev;
	struct dmaland_nvme *ctrl;
	int err;

	if (argc != 3) {
		fprintf(stderr, "usage: nvme_read SPEC BLOCK\n");
		return 2;
	}
	dev = dmaland_open(argv[1], NULL);
	ctrl = dev ? dmaland_nvme_open(dev, NULL) : NULL;
	err = ctrl ? block_print(ctrl, strtoull(argv[2], NULL, 0)) : -1;
	if (err)
		fprintf(stderr, "nvme_read: %s\n", dmaland_last_error());
	dmaland_nvme_close(ctrl);
	dmaland_close(dev);
	return err ? 1 : 0;
}
