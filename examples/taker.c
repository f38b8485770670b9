/* SPDX-License-Identifier: MIT */
/*
 * taker.c - drive a drive that this process could not open: read its first block
 *
 *   taker SOCKET | od -Ax -tx1      SOCKET is giver's
 *
 * It needs no access to /dev/vfio, no sysfs and no capability; what it locks in memory counts against its
 * own limit (ulimit -l).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <dmaland/dmaland.h>
#include <dmaland/nvme.h>

enum { CONTAINER, DEVICE, FILES };

static int files_receive(const char *path, char *address, size_t size, int files[FILES])
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	struct iovec text = {address, size - 1};
	union {
		char space[CMSG_SPACE(FILES * sizeof(int))];
		struct cmsghdr head;
	} control = {0};
	struct msghdr message = {.msg_iov = &text,
				 .msg_iovlen = 1,
				 .msg_control = control.space,
				 .msg_controllen = sizeof(control.space)};
	int from = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	ssize_t n;

	snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
	if (connect(from, (struct sockaddr *)&name, sizeof(name)) ||
	    (n = recvmsg(from, &message, MSG_CMSG_CLOEXEC)) < 0) {
		perror(path);
		return -1;
	}
	close(from);
	address[n] = '\0';
	if (control.head.cmsg_len != CMSG_LEN(FILES * sizeof(int))) {
		fprintf(stderr, "taker: %s gives nothing\n", path);
		return -1;
	}
	memcpy(files, CMSG_DATA(&control.head), FILES * sizeof(int));
	return 0;
}

static int first_block_print(struct dmaland_device *dev)
{
	struct dmaland_nvme *ctrl = dmaland_nvme_open(dev, NULL);
	struct dmaland_nvme_queue *queue = ctrl ? dmaland_nvme_queue_create(ctrl, 0, 0) : NULL;
	struct dmaland_nvme_namespace ns;
	void *data = NULL;
	int failed = -1;

	if (queue && !dmaland_nvme_get_namespace(ctrl, 1, &ns) && (data = malloc(ns.block_size)))
		failed = dmaland_nvme_read(queue, 1, 0, 1, data);
	if (!failed)
		fwrite(data, 1, ns.block_size, stdout);
	free(data);
	dmaland_nvme_close(ctrl);
	return failed;
}

int main(int argc, char **argv)
{
	struct dmaland_options options = {.size = sizeof(options)};
	struct dmaland_device *dev;
	char address[64];
	int files[FILES], failed;

	if (argc != 2) {
		fprintf(stderr, "usage: taker SOCKET\n");
		return 2;
	}
	if (files_receive(argv[1], address, sizeof(address), files))
		return 1;
	options.container_fd = files[CONTAINER];
	options.device_fd = files[DEVICE];
	dev = dmaland_open(address, &options);
	close(files[CONTAINER]); /* the library has its own */
	close(files[DEVICE]);
	failed = dev ? first_block_print(dev) : -1;
	if (failed)
		fprintf(stderr, "taker: %s\n", dmaland_last_error());
	dmaland_close(dev);
	return failed ? 1 : 0;
}
