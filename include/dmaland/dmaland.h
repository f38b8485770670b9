/* SPDX-License-Identifier: MIT */
/*
 * dmaland.h - the Linux DMA API, in user space: all of it
 */
#ifndef DMALAND_DMALAND_H
#define DMALAND_DMALAND_H

#include <dmaland/coherent.h>
#include <dmaland/device.h>
#include <dmaland/io.h>
#include <dmaland/irq.h>
#include <dmaland/pool.h>
#include <dmaland/scatterlist.h>
#include <dmaland/streaming.h>
#include <dmaland/types.h>

#endif
