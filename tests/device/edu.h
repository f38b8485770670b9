/* SPDX-License-Identifier: MIT */
/*
 * edu.h - registers of QEMU's educational device (docs/specs/edu.txt), which copies memory and interrupts
 */
#ifndef EDU_H
#define EDU_H

enum {
	EDU_ID = 0x00,
	EDU_FACTORIAL = 0x08,
	EDU_STATUS = 0x20,
	EDU_RAISE = 0x60,
	EDU_HANDLED = 0x64,
	EDU_DMA_FROM = 0x80,
	EDU_DMA_TO = 0x88,
	EDU_DMA_COUNT = 0x90,
	EDU_DMA_COMMAND = 0x98,

	EDU_BUFFER = 0x40000, /* its own memory, at this dma address */
	EDU_ROOM = 2048,      /* of its 4096 bytes, which QEMU 7.2 does not like whole */

	/* EDU_DMA_COMMAND */
	EDU_START = 1,
	EDU_TO_MEMORY = 2,
};

#endif
