/* SPDX-License-Identifier: MIT */
/*
 * vma.c - what this process has mapped, as the kernel tells it
 *
 * The numbers of PROCMAP_QUERY are those of linux/fs.h, Linux 6.11, which older headers lack. The text
 * is that of proc_pid_maps(5), and for the advice proc_pid_smaps(5).
 */
#include "base/vma.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
	COVERING_OR_NEXT = 0x10,
	SHARED = 0x08,
	PAGE_MAX = 65536, /* of memory that is not hugetlb's: arm64 may have such */
};

struct query {
	uint64_t size; /* of this */
	uint64_t query_flags, query_addr;
	uint64_t vma_start, vma_end, vma_flags, vma_page_size, vma_offset;
	uint64_t inode;
	uint32_t dev_major, dev_minor;
	uint32_t vma_name_size, build_id_size; /* 0: not wanted */
	uint64_t vma_name_addr, build_id_addr;
};

_Static_assert(sizeof(struct query) == 104, "as the kernel has it");

#define QUERY _IOWR('f', 17, struct query)

static const struct vma vma_none = {.begin = UINTPTR_MAX, .end = UINTPTR_MAX};

bool vma_open(struct vma_reader *reader, bool advice)
{
	*reader = (struct vma_reader){.advice = advice};
	reader->fd = open(advice ? "/proc/self/smaps" : "/proc/self/maps", O_RDONLY | O_CLOEXEC);
	return reader->fd >= 0;
}

void vma_close(struct vma_reader *reader)
{
	if (reader->text)
		fclose(reader->text);
	else
		close(reader->fd);
}

static uint64_t device_of(uint64_t major, uint64_t minor)
{
	return major << 32 | minor;
}

/* 0, or -errno; -ENOTTY: this kernel, or this file, knows no such question. */
static int vma_query(int fd, uintptr_t address, struct vma *vma)
{
	struct query query = {
		.size = sizeof(query),
		.query_flags = COVERING_OR_NEXT,
		.query_addr = address,
	};
	int code = errno;

	if (ioctl(fd, QUERY, &query)) {
		int err = errno;

		errno = code;
		*vma = vma_none;
		return err == ENOENT ? 0 : -err;
	}
	*vma = (struct vma){
		.begin = query.vma_start,
		.end = query.vma_end,
		.inode = query.inode,
		.device = device_of(query.dev_major, query.dev_minor),
		.offset = query.vma_offset,
		.shared = query.vma_flags & SHARED,
		.hugetlb = query.vma_page_size > PAGE_MAX,
	};
	return 0;
}

/* The first line of one: "7f2a00000000-7f2a00001000 rw-s 00000000 00:01 1031 /memfd:name" */
static bool line_parse(const char *line, struct vma *vma)
{
	unsigned long begin, end, offset, inode;
	unsigned int major, minor;
	char access[5];

	if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu", &begin, &end, access, &offset, &major, &minor,
		   &inode) != 7)
		return false;
	*vma = (struct vma){
		.begin = begin,
		.end = end,
		.inode = inode,
		.device = device_of(major, minor),
		.offset = offset,
		.shared = access[3] == 's',
	};
	return true;
}

/* The next in the text. Lines that are longer than the buffer are those of names. */
static void text_read(struct vma_reader *reader, struct vma *vma)
{
	bool found = false;
	char line[256];

	while (fgets(line, sizeof(line), reader->text)) {
		bool starts = !reader->in_line;

		reader->in_line = !strchr(line, '\n');
		if (!starts)
			continue;
		if (line_parse(line, vma)) {
			found = true;
			if (!reader->advice)
				return;
		} else if (found && strncmp(line, "VmFlags:", 8) == 0) {
			vma->random = strstr(line, " rr ") || strstr(line, " rr\n");
			return;
		}
	}
	*vma = vma_none;
}

bool vma_next(struct vma_reader *reader, uintptr_t address, struct vma *vma)
{
	if (!reader->text && !reader->advice) {
		int err = vma_query(reader->fd, address, vma);

		if (err != -ENOTTY)
			return !err;
	}
	if (!reader->text)
		reader->text = fdopen(reader->fd, "r");
	if (!reader->text)
		return false;
	do
		text_read(reader, vma);
	while (vma->end <= address);
	return true;
}
