/* SPDX-License-Identifier: MIT */
#include "syscalls.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"

#define TRACEFS "/sys/kernel/tracing"

static uint64_t tracepoint_id(const char *name)
{
	char path[128];
	unsigned long id = 0;
	FILE *f;

	snprintf(path, sizeof(path), TRACEFS "/events/%s/id", name);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%lu", &id) != 1)
		bench_fail("%s cannot be read: this kernel does not trace system calls", path);
	fclose(f);
	return id;
}

/* An event that counts this thread's passes of a tracepoint. */
static int event_open(const char *tracepoint, const char *filter)
{
	struct perf_event_attr attr = {.type = PERF_TYPE_TRACEPOINT,
				       .size = sizeof(attr),
				       .config = tracepoint_id(tracepoint)};
	int fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);

	if (fd < 0 || (filter && ioctl(fd, PERF_EVENT_IOC_SET_FILTER, filter)))
		bench_fail("the tracepoint %s cannot be counted: %s", tracepoint, strerror(errno));
	return fd;
}

void syscalls_open(struct syscalls *s)
{
	char filter[64];

	/* Mounted already, as likely as not. */
	mount("tracefs", TRACEFS, "tracefs", 0, NULL);
	snprintf(filter, sizeof(filter), "cmd == %u", (unsigned int)VFIO_IOMMU_MAP_DMA);
	s->maps = event_open("syscalls/sys_enter_ioctl", filter);
	s->all = event_open("raw_syscalls/sys_enter", NULL);
}

void syscalls_close(struct syscalls *s)
{
	close(s->maps);
	close(s->all);
}

static uint64_t event_read(int fd)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) != sizeof(count))
		bench_fail("a counter of system calls cannot be read: %s", strerror(errno));
	return count;
}

void syscalls_begin(struct syscalls *s)
{
	s->maps_before = event_read(s->maps);
	s->all_before = event_read(s->all);
}

uint64_t syscalls_end(struct syscalls *s, uint64_t *maps)
{
	uint64_t all = event_read(s->all) - s->all_before - 1; /* this read() */

	*maps = event_read(s->maps) - s->maps_before;
	return all - *maps;
}
