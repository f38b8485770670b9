/* SPDX-License-Identifier: MIT */
/*
 * spin.h - a lock for a few loads and stores, without a call
 */
#ifndef BASE_SPIN_H
#define BASE_SPIN_H

#include <stdint.h>

/* Says to the CPU that it waits. */
static inline void spin_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static inline void spin_lock(uint32_t *lock)
{
	while (__builtin_expect(__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE), 0))
		while (__atomic_load_n(lock, __ATOMIC_RELAXED))
			spin_relax();
}

static inline void spin_unlock(uint32_t *lock)
{
	__atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}

#endif
