/* SPDX-License-Identifier: MIT */
/*
 * vma.h - what this process has mapped, as the kernel tells it (the kernel's vm_area_struct)
 */
#ifndef BASE_VMA_H
#define BASE_VMA_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct vma {
	uintptr_t begin, end;
	uint64_t inode, device, offset; /* of the file, at begin; inode 0: anonymous memory */
	bool shared;
	bool hugetlb; /* by PROCMAP_QUERY alone */
	bool random;  /* has the advice MADV_RANDOM: with advice alone */
};

struct vma_reader {
	int fd;
	FILE *text; /* NULL while the kernel answers PROCMAP_QUERY */
	bool advice;
	bool in_line; /* of the text, what is read next is the rest of a line */
};

/*
 * Begin to look. By PROCMAP_QUERY a look takes the same time however much is mapped; a kernel before 6.11 writes all that
 * lies below, as text; and with its advice each time, which takes ten times as long. False: nothing can be known.
 */
bool vma_open(struct vma_reader *reader, bool advice);
void vma_close(struct vma_reader *reader);

/*
 * The first that ends above an address, which is not below the end of the one before. Where there is none, one without
 * bytes at the end of all addresses. False: nothing can be known.
 */
bool vma_next(struct vma_reader *reader, uintptr_t address, struct vma *vma);

#endif
