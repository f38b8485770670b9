/* SPDX-License-Identifier: MIT */
/*
 * qemu_refusal.h - QEMU's words for a refusal, as an error with its usual cure
 */
#ifndef BACKEND_QEMU_REFUSAL_H
#define BACKEND_QEMU_REFUSAL_H

/* text: of the monitor, or of stderr behind the argument that was refused. file: the image that it was about, or NULL. */
int qemu_refusal_error(const char *text, const char *file);

#endif
