/* SPDX-License-Identifier: MIT */
/*
 * thread.h - a small number for each thread, for what threads have each for themselves
 *
 * A number is a thread's until it ends, and then some later thread's, with whatever is kept under it. Nothing has to be
 * done when a thread ends, and nobody is told. So a number costs neither a key nor memory nor a system call, also in the
 * last destructor of a thread that ends.
 */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	THREADS = 1024,	     /* numbers are below; 0 is no thread's */
	THREAD_STRIDE = 128, /* bytes that something kept for each thread has */
};

/* This thread's number times THREAD_STRIDE; 0: it has none yet, or there are more threads than numbers. */
extern _Thread_local size_t thread_offset __attribute__((tls_model("initial-exec")));

/* Give this thread a number, if one is free. False if not. Waits for nobody, and makes no system call. */
bool thread_number_take(void);

/* Numbers that there are: below this, and above 0. */
uint32_t thread_numbers(void);

/* Take over the number of a thread that has ended, beside one's own. False if it lives, or another does so. */
bool thread_number_inherit(uint32_t number);

/* After it: whoever needs a number may have it. */
void thread_number_release(uint32_t number);

/* In the child of a fork: this thread has no number, and gets none that a thread of the parent had. */
void threads_disown(void);

#endif
