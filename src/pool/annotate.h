/* SPDX-License-Identifier: MIT */
/*
 * annotate.h - tell AddressSanitizer and Valgrind which blocks are free
 *
 * Both can be there without this library having been built for them: AddressSanitizer in the
 * program, which then has its functions; Valgrind around it. What is free is out of bounds for the
 * program; the library itself looks into it by functions with ANNOTATE_PEEKS, between
 * annotate_peek_begin() and _end().
 *
 * A block that is handed out counts as written, since neither of them sees the device write.
 */
#ifndef POOL_ANNOTATE_H
#define POOL_ANNOTATE_H

#include <stdbool.h>
#include <stddef.h>

#if defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#endif
#endif

#ifndef VALGRIND_MAKE_MEM_DEFINED
#define RUNNING_ON_VALGRIND 0
#define VALGRIND_CREATE_MEMPOOL(pool, zone, zeroed)
#define VALGRIND_DESTROY_MEMPOOL(pool)
#define VALGRIND_MEMPOOL_ALLOC(pool, address, size)
#define VALGRIND_MEMPOOL_FREE(pool, address)
#define VALGRIND_MAKE_MEM_DEFINED(address, size)
#define VALGRIND_MAKE_MEM_NOACCESS(address, size)
#define VALGRIND_DISABLE_ERROR_REPORTING
#define VALGRIND_ENABLE_ERROR_REPORTING
#endif

#define ANNOTATE_PEEKS __attribute__((noinline, no_sanitize("address")))

/* Of the sanitizer's runtime; NULL in programs without it. */
void __asan_poison_memory_region(const volatile void *address, size_t size) __attribute__((weak));
void __asan_unpoison_memory_region(const volatile void *address, size_t size) __attribute__((weak));

/* Is there anybody to tell? */
static inline bool annotate_wanted(void)
{
	return __asan_poison_memory_region || RUNNING_ON_VALGRIND;
}

static inline void annotate_pool_begin(const void *pool)
{
	(void)pool;
	VALGRIND_CREATE_MEMPOOL(pool, 0, 0);
}

static inline void annotate_pool_end(const void *pool)
{
	(void)pool;
	VALGRIND_DESTROY_MEMPOOL(pool);
}

/* Nobody may touch this until blocks of it are handed out. */
static inline void annotate_forbid(void *memory, size_t size)
{
	if (__asan_poison_memory_region)
		__asan_poison_memory_region(memory, size);
	VALGRIND_MAKE_MEM_NOACCESS(memory, size);
}

/* Anybody may. */
static inline void annotate_allow(void *memory, size_t size)
{
	if (__asan_unpoison_memory_region)
		__asan_unpoison_memory_region(memory, size);
	VALGRIND_MAKE_MEM_DEFINED(memory, size);
}

static inline void annotate_alloc(const void *pool, void *block, size_t size)
{
	(void)pool;
	VALGRIND_MEMPOOL_ALLOC(pool, block, size);
	annotate_allow(block, size);
}

static inline void annotate_free(const void *pool, void *block, size_t size)
{
	(void)pool;
	VALGRIND_MEMPOOL_FREE(pool, block);
	annotate_forbid(block, size);
}

static inline void annotate_peek_begin(void)
{
	VALGRIND_DISABLE_ERROR_REPORTING;
}

static inline void annotate_peek_end(void)
{
	VALGRIND_ENABLE_ERROR_REPORTING;
}

#endif
