/* SPDX-License-Identifier: MIT */
/*
 * log.h - messages to the application's callback, or stderr
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <dmaland/device.h>

#define log_line dmaland_log

/*
 * Around a lock under which something may be logged: before it is taken, and after it is released.
 * This thread's lines are kept back meanwhile, since the callback may call the library.
 */
void log_hold(void);
void log_release(void);

#endif
