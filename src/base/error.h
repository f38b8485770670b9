/* SPDX-License-Identifier: MIT */
/*
 * error.h - a failure in words, kept per thread
 *
 * error_set(), which drivers know as dmaland_set_error(), stores the sentence that dmaland_last_error() returns, sets errno and returns
 * -code, so that a failing function can end in `return error_set(ENOMEM, ...)`.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <dmaland/device.h>

#define error_set dmaland_set_error

/* Put "what: " in front of the sentence that is there; errno and return value as error_set(). */
int error_prefix(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Put something behind the sentence that is there. */
int error_append(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* error_set() for a system call that failed with errno: "... : No such file". Returns -errno. */
int error_system(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* error_system() for mmap(): names the limit that was hit and its cure. Locked memory is -ENOMEM, too. */
int error_mmap(const char *format, ...) __attribute__((format(printf, 1, 2)));

const char *error_last(void);

/* What failed is tried again in another way: nothing has failed yet. */
void error_clear(void);

/* What is known of this thread's last failure, to be put back after something that may fail, too. */
struct error_state {
	int code, number; /* number: errno, whoever has set it */
	char text[1024];
};

void error_keep(struct error_state *state);
void error_put_back(const struct error_state *state);

/* In the child of a fork: what other threads had is to be had again. */
void error_in_child(void);

#endif
