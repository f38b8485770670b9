/* SPDX-License-Identifier: MIT */
/*
 * thread.c - numbers of threads
 *
 *   number  |  1  |  2  |  3      |  4   | ...     a robust mutex each, which the number's thread
 *            held  held  its owner  free           holds as long as it lives
 *                        died
 *
 * When a thread ends, the kernel marks the robust mutexes that it holds (Linux, robust-futexes.rst). Who wants a number tries
 * some mutexes: one whose owner died is his, number and all. The kernel does so after the last of the thread's own instructions, and
 * before pthread_join() returns.
 */
#include "base/thread.h"

#include <errno.h>
#include <pthread.h>

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

/*
 * So many are tried before a new one is made. With N threads and some that come and go, there are about
 * N / TRIES numbers of threads that have ended.
 */
enum { TRIES = 8 };

_Thread_local size_t thread_offset __attribute__((tls_model("initial-exec")));

static struct {
	pthread_mutex_t lives[THREADS];
	uint32_t made;	 /* numbers that there are; more when all are */
	uint32_t cursor; /* where to try next */
	bool began[THREADS];
} threads;

/*
 * ThreadSanitizer does not see that the kernel lets go of a thread's mutexes. What the thread did before a round of its
 * destructors comes before all that a later one does with its number.
 */
#ifdef __SANITIZE_THREAD__
static pthread_key_t end_key;
static bool end_key_made;

static void life_ends(void *life)
{
	__tsan_release(life);
	pthread_setspecific(end_key, life);
}

static void make_end_key(void)
{
	end_key_made = !pthread_key_create(&end_key, life_ends);
}

static void end_watch(uint32_t number)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, make_end_key);
	if (end_key_made)
		pthread_setspecific(end_key, &threads.lives[number]);
}

static void end_seen(uint32_t number)
{
	__tsan_acquire(&threads.lives[number]);
}
#else
static void end_watch(uint32_t number)
{
	(void)number;
}

static void end_seen(uint32_t number)
{
	(void)number;
}
#endif

static void life_begin(uint32_t number)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&threads.lives[number], &attr);
	pthread_mutexattr_destroy(&attr);
	pthread_mutex_trylock(&threads.lives[number]); /* nobody else knows it yet */
	__atomic_store_n(&threads.began[number], true, __ATOMIC_RELEASE);
}

bool thread_number_inherit(uint32_t number)
{
	if (!__atomic_load_n(&threads.began[number], __ATOMIC_ACQUIRE))
		return false;
	switch (pthread_mutex_trylock(&threads.lives[number])) {
	case EOWNERDEAD:
		pthread_mutex_consistent(&threads.lives[number]);
		end_seen(number);
		return true;
	case 0:
		return true;
	default:
		return false;
	}
}

void thread_number_release(uint32_t number)
{
	pthread_mutex_unlock(&threads.lives[number]);
}

uint32_t thread_numbers(void)
{
	uint32_t made = __atomic_load_n(&threads.made, __ATOMIC_ACQUIRE);

	return made < THREADS ? made + 1 : THREADS;
}

static uint32_t number_try(uint32_t tries)
{
	uint32_t made = thread_numbers() - 1;

	for (uint32_t i = 0; i < tries && i < made; i++) {
		uint32_t at = 1 + __atomic_fetch_add(&threads.cursor, 1, __ATOMIC_RELAXED) % made;

		if (thread_number_inherit(at))
			return at;
	}
	return 0;
}

static uint32_t number_make(void)
{
	uint32_t number;

	if (thread_numbers() == THREADS)
		return 0;
	number = 1 + __atomic_fetch_add(&threads.made, 1, __ATOMIC_ACQ_REL);
	if (number >= THREADS)
		return 0;
	life_begin(number);
	return number;
}

bool thread_number_take(void)
{
	uint32_t number;

	if (thread_offset)
		return true;
	number = number_try(TRIES);
	if (!number)
		number = number_make();
	if (!number)
		number = number_try(TRIES);
	if (number)
		end_watch(number);
	thread_offset = (size_t)number * THREAD_STRIDE;
	return number;
}

void threads_disown(void)
{
	for (uint32_t i = 1; i < THREADS; i++)
		threads.began[i] = false; /* those that are made from now on are above */
	thread_offset = 0;
}
