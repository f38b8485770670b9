/* SPDX-License-Identifier: MIT */
/*
 * log.h - messages to the application's callback, or stderr
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <dmaland/device.h>

#define log_line dmaland_log

#endif
