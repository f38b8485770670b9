/* SPDX-License-Identifier: MIT */
/*
 * progress.h - how far a transfer has come, as one line on a terminal
 */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* Are there people who watch stderr? */
bool progress_is_watched(void);

/* From now on, @verb ("reading") so many bytes; 0: not known how many. Nothing without a terminal. */
void progress_begin(const char *verb, uint64_t bytes);
void progress_update(uint64_t done);

/* The line is taken away, so that another can be printed; it comes back with the next update. */
void progress_hide(void);

/* There is nothing more to show. */
void progress_end(void);

#endif
