/* SPDX-License-Identifier: MIT */
/*
 * threads.c - in the place of base/thread.c: numbers for threads that are none
 */
#include "base/thread.h"

#include <string.h>

#include "explore.h"

_Thread_local size_t thread_offset __attribute__((tls_model("initial-exec")));

static struct {
	uint32_t made, most;
	bool held[THREADS];
} numbers;

void threads_reset(void)
{
	memset(&numbers, 0, sizeof(numbers));
	numbers.most = THREADS - 1;
	thread_offset = 0;
}

void threads_limit(uint32_t most)
{
	numbers.most = most;
}

uint32_t thread_numbers(void)
{
	return __atomic_load_n(&numbers.made, __ATOMIC_ACQUIRE) + 1;
}

bool thread_number_inherit(uint32_t number)
{
	return !__atomic_exchange_n(&numbers.held[number], true, __ATOMIC_ACQUIRE);
}

void thread_number_release(uint32_t number)
{
	__atomic_store_n(&numbers.held[number], false, __ATOMIC_RELEASE);
}

bool thread_number_take(void)
{
	if (thread_offset)
		return true;
	step(&numbers, __func__);
	for (uint32_t i = 1; i <= numbers.made && !thread_offset; i++)
		if (!numbers.held[i])
			thread_offset = (size_t)i * THREAD_STRIDE;
	if (!thread_offset && numbers.made < numbers.most)
		thread_offset = (size_t)++numbers.made * THREAD_STRIDE;
	if (thread_offset)
		numbers.held[thread_offset / THREAD_STRIDE] = true;
	return thread_offset;
}

void explore_thread_end(void)
{
	if (thread_offset)
		thread_number_release((uint32_t)(thread_offset / THREAD_STRIDE));
	thread_offset = 0;
}

void threads_disown(void)
{
	thread_offset = 0;
}
