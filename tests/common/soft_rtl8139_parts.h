/* SPDX-License-Identifier: MIT */
/*
 * soft_rtl8139_parts.h - what the files of the card in software share
 *
 *   soft_rtl8139.c        registers, interrupts, the function on the bus
 *   soft_rtl8139_rings.c  memory, descriptors, frames
 *
 * The chip's lock is held, where nothing else is said.
 */
#ifndef TESTS_COMMON_SOFT_RTL8139_PARTS_H
#define TESTS_COMMON_SOFT_RTL8139_PARTS_H

#include "soft_rtl8139.h"

#include <endian.h>

static inline uint64_t reg_get(const struct soft_rtl8139 *chip, unsigned int reg,
			       unsigned int width)
{
	uint64_t value = 0;

	memcpy(&value, chip->regs + reg, width);
	return le64toh(value);
}

static inline void reg_put(struct soft_rtl8139 *chip, unsigned int reg, unsigned int width,
			   uint64_t value)
{
	value = htole64(value);
	memcpy(chip->regs + reg, &value, width);
}

/* soft_rtl8139.c: interrupt for these bits of ISR */
void soft_rtl8139_raise_locked(struct soft_rtl8139 *chip, uint16_t what);

/* soft_rtl8139_rings.c: an access, as of soft_rtl8139_access() */
bool soft_rtl8139_access_locked(struct soft_rtl8139 *chip, dma_addr_t dma, void *data, size_t size,
				bool write);

#endif
