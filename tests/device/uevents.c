/* SPDX-License-Identifier: MIT */
#include "uevents.h"

#include "test.h"

#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>

/* lib/kobject_uevent.c: group 1 */
int uevents_open(void)
{
	const struct sockaddr_nl all = {.nl_family = AF_NETLINK, .nl_groups = 1};
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)&all, sizeof(all)), 0);
	return fd;
}

/* "remove@/devices/pci0000:00/.../0000:01:00.0" */
bool is_removed_within(int uevents, const char *address, int ms)
{
	struct pollfd fd = {.fd = uevents, .events = POLLIN};
	char text[4096];

	while (poll(&fd, 1, ms) == 1) {
		ssize_t n = recv(uevents, text, sizeof(text) - 1, 0);
		const char *path;

		assert_true(n > 0);
		text[n] = '\0';
		path = strrchr(text, '/');
		if (strncmp(text, "remove@", 7) == 0 && path && strcmp(path + 1, address) == 0)
			return true;
	}
	return false;
}
