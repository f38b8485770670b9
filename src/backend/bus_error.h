/* SPDX-License-Identifier: MIT */
/*
 * bus_error.h - accesses to mapped registers that survive when the registers are gone
 *
 * The kernel answers an access to a BAR that is not decoded, or not there any more, with SIGBUS. Each
 * access below notes its instruction in a table; where that raises SIGBUS, it is stepped over: a read
 * gives all ones and a write is lost, as on the bus. It costs one instruction a read.
 */
#ifndef BACKEND_BUS_ERROR_H
#define BACKEND_BUS_ERROR_H

#include <stdbool.h>
#include <stdint.h>

/*
 * From now on SIGBUS is stepped over where an access below raised it, at an address that is a
 * register as is_register() says, which must be async-signal-safe. Any other SIGBUS is handed to
 * whoever handled it before. Once or more; there is one is_register().
 */
void bus_error_watch(bool (*is_register)(uintptr_t address));

#ifdef __x86_64__

/* Where the instruction at 1 raised SIGBUS, it goes on at 2. Distances, so that nothing is relocated. */
#define BUS_ERROR_NOTE                                                                             \
	".pushsection dmaland_accesses,\"a\"\n"                                                    \
	".balign 4\n"                                                                              \
	".long 1b - ., 2b - .\n"                                                                   \
	".popsection"

#define BUS_ACCESS(bits)                                                                           \
	static inline uint##bits##_t bus_read##bits(const volatile void *address)                  \
	{                                                                                          \
		uint##bits##_t value = (uint##bits##_t) - 1;                                       \
                                                                                                   \
		__asm__ volatile("1: mov %1, %0\n2:\n" BUS_ERROR_NOTE                              \
				 : "+q"(value)                                                     \
				 : "m"(*(const volatile uint##bits##_t *)address));                \
		return value;                                                                      \
	}                                                                                          \
	static inline void bus_write##bits(uint##bits##_t value, volatile void *address)           \
	{                                                                                          \
		__asm__ volatile("1: mov %1, %0\n2:\n" BUS_ERROR_NOTE                              \
				 : "=m"(*(volatile uint##bits##_t *)address)                       \
				 : "q"(value));                                                    \
	}

#else /* no table: SIGBUS ends the process, as it does without us */

#ifdef __aarch64__

/*
 * One register for the address, and that not changed: a hypervisor that stands in for the device knows such
 * accesses from the CPU's description alone (Arm ARM, ESR_EL2.ISS: ISV).
 */
#define BUS_INSTRUCTION_8  "b %w0, "
#define BUS_INSTRUCTION_16 "h %w0, "
#define BUS_INSTRUCTION_32 " %w0, "
#define BUS_INSTRUCTION_64 " %0, "

#define BUS_ACCESS(bits)                                                                           \
	static inline uint##bits##_t bus_read##bits(const volatile void *address)                  \
	{                                                                                          \
		uint##bits##_t value;                                                              \
                                                                                                   \
		__asm__ volatile("ldr" BUS_INSTRUCTION_##bits "%1"                                 \
				 : "=r"(value)                                                     \
				 : "Q"(*(const volatile uint##bits##_t *)address));                \
		return value;                                                                      \
	}                                                                                          \
	static inline void bus_write##bits(uint##bits##_t value, volatile void *address)           \
	{                                                                                          \
		__asm__ volatile("str" BUS_INSTRUCTION_##bits "%1"                                 \
				 :                                                                 \
				 : "r"(value), "Q"(*(volatile uint##bits##_t *)address)            \
				 : "memory");                                                      \
	}

#else

#define BUS_ACCESS(bits)                                                                           \
	static inline uint##bits##_t bus_read##bits(const volatile void *address)                  \
	{                                                                                          \
		return *(const volatile uint##bits##_t *)address;                                  \
	}                                                                                          \
	static inline void bus_write##bits(uint##bits##_t value, volatile void *address)           \
	{                                                                                          \
		*(volatile uint##bits##_t *)address = value;                                       \
	}

#endif
#endif

BUS_ACCESS(8)
BUS_ACCESS(16)
BUS_ACCESS(32)
BUS_ACCESS(64)

#endif
