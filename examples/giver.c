/* SPDX-License-Identifier: MIT */
/*
 * giver.c - give a device away over a Unix socket, to a process that could not open it
 *
 *   giver SOCKET UID ADDRESS        as root; then, as the user UID:  taker SOCKET
 *
 * The socket belongs to UID, so that nobody else can connect. Who connects is sent the device's address
 * and two open files: a container that holds the device's IOMMU group, and the device itself. The group's file
 * stays here, and is closed: the receiver reaches this one device, and nothing else of its group.
 * From then on all is the receiver's; when it ends, however it ends, the device is free for the next.
 */
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { CONTAINER, DEVICE, FILES };

/* /dev/vfio/N, where N is the end of a link in sysfs. */
static int group_open(const char *address)
{
	char link[96], target[256] = "", path[288];

	snprintf(link, sizeof(link), "/sys/bus/pci/devices/%.32s/iommu_group", address);
	if (readlink(link, target, sizeof(target) - 1) < 0)
		return -1;
	snprintf(path, sizeof(path), "/dev/vfio%s", strrchr(target, '/'));
	return open(path, O_RDWR | O_CLOEXEC);
}

/* The order is the kernel's: Documentation/driver-api/vfio.rst. */
static int device_open(const char *address, int files[FILES])
{
	int group = group_open(address);

	files[DEVICE] = -1;
	files[CONTAINER] = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (group >= 0 && files[CONTAINER] >= 0 &&
	    ioctl(group, VFIO_GROUP_SET_CONTAINER, &files[CONTAINER]) == 0 &&
	    ioctl(files[CONTAINER], VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0)
		files[DEVICE] = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address);
	if (files[DEVICE] < 0)
		perror(address);
	if (group >= 0)
		close(group);
	return files[DEVICE];
}

static int files_send(int to, const char *address, const int files[FILES])
{
	struct iovec text = {(void *)address, strlen(address) + 1};
	union {
		char space[CMSG_SPACE(FILES * sizeof(int))];
		struct cmsghdr head;
	} control = {.head = {.cmsg_len = CMSG_LEN(FILES * sizeof(int)),
			      .cmsg_level = SOL_SOCKET,
			      .cmsg_type = SCM_RIGHTS}};
	struct msghdr message = {.msg_iov = &text,
				 .msg_iovlen = 1,
				 .msg_control = control.space,
				 .msg_controllen = sizeof(control.space)};

	memcpy(CMSG_DATA(&control.head), files, FILES * sizeof(int));
	return sendmsg(to, &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

static int socket_make(const char *path, uid_t uid)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
	umask(0177);
	if (fd >= 0 && bind(fd, (struct sockaddr *)&name, sizeof(name)) == 0 &&
	    listen(fd, 1) == 0 && chown(path, uid, (gid_t)-1) == 0)
		return fd;
	perror(path);
	return -1;
}

int main(int argc, char **argv)
{
	int listening = argc == 4 ? socket_make(argv[1], (uid_t)strtoul(argv[2], NULL, 10)) : -1;
	int files[FILES], to;

	if (argc != 4)
		fprintf(stderr, "usage: giver SOCKET UID ADDRESS\n");
	while (listening >= 0 && (to = accept4(listening, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		if (device_open(argv[3], files) >= 0 && files_send(to, argv[3], files))
			perror("sendmsg");
		for (int i = 0; i < FILES; i++)
			if (files[i] >= 0)
				close(files[i]);
		close(to);
	}
	return 1;
}
