/* SPDX-License-Identifier: MIT */
/*
 * accesses.c - what the compiler calls before each access of the pool to memory
 *
 * The pool's files are compiled for ThreadSanitizer, which is not linked: its calls come here.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "explore.h"

void __tsan_init(void);
void __tsan_func_entry(void *caller);
void __tsan_func_exit(void);

void __tsan_init(void)
{
}

void __tsan_func_entry(void *caller)
{
	(void)caller;
}

void __tsan_func_exit(void)
{
}

/* The names are the compiler's. */
#define ACCESS(name)                                                                               \
	void name(void *address);                                                                  \
	void name(void *address)                                                                   \
	{                                                                                          \
		step_access(address);                                                              \
	}
#define RANGE(name)                                                                                \
	void name(void *address, size_t size);                                                     \
	void name(void *address, size_t size)                                                      \
	{                                                                                          \
		(void)size;                                                                        \
		step_access(address);                                                              \
	}

ACCESS(__tsan_read1)
ACCESS(__tsan_write1)
ACCESS(__tsan_read2)
ACCESS(__tsan_write2)
ACCESS(__tsan_read4)
ACCESS(__tsan_write4)
ACCESS(__tsan_read8)
ACCESS(__tsan_write8)
ACCESS(__tsan_read16)
ACCESS(__tsan_write16)
ACCESS(__tsan_unaligned_read2)
ACCESS(__tsan_unaligned_write2)
ACCESS(__tsan_unaligned_read4)
ACCESS(__tsan_unaligned_write4)
ACCESS(__tsan_unaligned_read8)
ACCESS(__tsan_unaligned_write8)
ACCESS(__tsan_unaligned_read16)
ACCESS(__tsan_unaligned_write16)
RANGE(__tsan_read_range)
RANGE(__tsan_write_range)

/* Atomic ones are steps already, by steps.h. */
#define OPERATION(bits, name, value_after)                                                         \
	uint##bits##_t __tsan_atomic##bits##_##name(volatile uint##bits##_t *at,                   \
						    uint##bits##_t value, int order);              \
	uint##bits##_t __tsan_atomic##bits##_##name(volatile uint##bits##_t *at,                   \
						    uint##bits##_t value, int order)               \
	{                                                                                          \
		uint##bits##_t was = *at;                                                          \
                                                                                                   \
		(void)order;                                                                       \
		*at = (uint##bits##_t)(value_after);                                               \
		return was;                                                                        \
	}
/* clang's, which has the expected value itself. */
#define COMPARE_VALUE(bits)                                                                        \
	uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(                                 \
		volatile uint##bits##_t *at, uint##bits##_t expected, uint##bits##_t value,        \
		int order, int failed);                                                            \
	uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(                                 \
		volatile uint##bits##_t *at, uint##bits##_t expected, uint##bits##_t value,        \
		int order, int failed)                                                             \
	{                                                                                          \
		uint##bits##_t was = *at;                                                          \
                                                                                                   \
		(void)order;                                                                       \
		(void)failed;                                                                      \
		*at = was == expected ? value : was;                                               \
		return was;                                                                        \
	}
#define COMPARE(bits, name)                                                                        \
	bool __tsan_atomic##bits##_##name(volatile uint##bits##_t *at, uint##bits##_t *expected,   \
					  uint##bits##_t value, int order, int failed);            \
	bool __tsan_atomic##bits##_##name(volatile uint##bits##_t *at, uint##bits##_t *expected,   \
					  uint##bits##_t value, int order, int failed)             \
	{                                                                                          \
		uint##bits##_t was = *at;                                                          \
                                                                                                   \
		(void)order;                                                                       \
		(void)failed;                                                                      \
		if (was != *expected) {                                                            \
			*at = was; /* as the CPU does: the memory is written to */                 \
			*expected = was;                                                           \
			return false;                                                              \
		}                                                                                  \
		*at = value;                                                                       \
		return true;                                                                       \
	}
#define ATOMIC(bits)                                                                               \
	uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *from, int order); \
	void __tsan_atomic##bits##_store(volatile uint##bits##_t *to, uint##bits##_t value,        \
					 int order);                                               \
	uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *from, int order)  \
	{                                                                                          \
		(void)order;                                                                       \
		return *from;                                                                      \
	}                                                                                          \
	void __tsan_atomic##bits##_store(volatile uint##bits##_t *to, uint##bits##_t value,        \
					 int order)                                                \
	{                                                                                          \
		(void)order;                                                                       \
		*to = value;                                                                       \
	}                                                                                          \
	OPERATION(bits, exchange, value)                                                           \
	OPERATION(bits, fetch_add, was + value)                                                    \
	OPERATION(bits, fetch_sub, was - value)                                                    \
	OPERATION(bits, fetch_or, was | value)                                                     \
	COMPARE(bits, compare_exchange_strong)                                                     \
	COMPARE(bits, compare_exchange_weak)                                                       \
	COMPARE_VALUE(bits)

ATOMIC(8)
ATOMIC(32)
ATOMIC(64)
