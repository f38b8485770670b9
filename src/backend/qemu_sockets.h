/* SPDX-License-Identifier: MIT */
/*
 * qemu_sockets.h - end what QEMU waits for while it opens an image
 *
 * QEMU stands still while it opens an image: no access to a register of any device is answered. Where
 * the image is on a server that does not answer, that would be for good. Nothing of QEMU's can end it.
 * So the sockets that QEMU has opened since the command are shut down from outside: QEMU finds the
 * connection closed, and refuses the command in its own words.
 */
#ifndef BACKEND_QEMU_SOCKETS_H
#define BACKEND_QEMU_SOCKETS_H

#include <stdint.h>
#include <sys/types.h>

#define QEMU_FILES_MAX 65536 /* files above this number are left alone */

/* The numbers of the files that a process of QEMU has open. */
struct qemu_files {
	uint64_t open[QEMU_FILES_MAX / 64];
};

/* Where they can't be told, all are taken for open. */
void qemu_files_note(pid_t pid, struct qemu_files *files);

/* Shut down the sockets of our child that were not open then. */
void qemu_sockets_end(pid_t pid, const struct qemu_files *files);

#endif
