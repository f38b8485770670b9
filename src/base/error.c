/* SPDX-License-Identifier: MIT */
/*
 * error.c - a failure in words, kept per thread
 *
 *   thread --> block: errno, sentence        taken at the thread's first failure, back at its end
 *
 * Reporting that memory ran out must not need memory, and a thread may have little of its own: all of a
 * program's libraries that are loaded by dlopen() share what glibc keeps for that in each thread. So the
 * first BLOCKS threads that fail have their sentence in an array; more have it from calloc().
 *
 * Destructors of thread-specific data may fail, too. The block is kept until their last round but one: in the last
 * one ThreadSanitizer has forgotten the thread.
 *
 * Programs print the sentence, and names in it are anybody's: so it has no control characters.
 */
#include "base/error.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/text.h"

enum { BLOCKS = 256 };

struct block {
	struct error_state state;
	unsigned int rounds; /* of destructors, since the thread ends */
};

static struct {
	pthread_key_t key;
	bool has_key; /* if not, the array's are never given back, and there are no others */
	uint64_t taken[BLOCKS / 64]; /* a bit a block */
	struct block blocks[BLOCKS];
} shared;

/* What threads without a block have. Nothing is written there. */
static struct error_state no_block = {
	.text = "a call failed, as errno says, and no memory was left to keep the reason in words"};
static struct error_state ended = {.text = "a call failed, as errno says, in one of the last "
					   "destructors of a thread that ends"};

/* NULL: nothing failed. */
static _Thread_local struct error_state *last;

static struct block *block_from_array(void)
{
	for (unsigned int i = 0; i < BLOCKS / 64; i++) {
		uint64_t taken = __atomic_load_n(&shared.taken[i], __ATOMIC_RELAXED);

		while (taken != UINT64_MAX) {
			unsigned int bit = (unsigned int)__builtin_ctzll(~taken);

			if (__atomic_compare_exchange_n(&shared.taken[i], &taken,
							taken | UINT64_C(1) << bit, false,
							__ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
				return &shared.blocks[i * 64 + bit];
		}
	}
	return NULL;
}

static void block_give(struct block *block)
{
	size_t i = (size_t)(block - shared.blocks);

	if (block >= shared.blocks && block < shared.blocks + BLOCKS)
		__atomic_fetch_and(&shared.taken[i / 64], ~(UINT64_C(1) << i % 64),
				   __ATOMIC_RELEASE);
	else
		free(block);
}

static void thread_end(void *context)
{
	struct block *block = context;

	if (++block->rounds < PTHREAD_DESTRUCTOR_ITERATIONS - 1 &&
	    pthread_setspecific(shared.key, block) == 0)
		return;
	last = &ended;
	block_give(block);
}

/*
 * When the library is loaded, so that the key is one of the first: glibc allocates memory for what a thread has
 * by those above 32.
 */
__attribute__((constructor(101))) static void key_make(void)
{
	shared.has_key = pthread_key_create(&shared.key, thread_end) == 0;
}

/* A block of its own for a thread that fails for the first time. */
static struct error_state *block_take(void)
{
	struct block *block = block_from_array();
	bool from_array = block;

	if (from_array)
		memset(block, 0, sizeof(*block));
	else if (shared.has_key)
		block = calloc(1, sizeof(*block));
	if (!block)
		return &no_block;
	if (shared.has_key && pthread_setspecific(shared.key, block) && !from_array) {
		free(block);
		return &no_block;
	}
	return &block->state;
}

/* Where this thread's failure is written; NULL where it has no place for it. */
static struct error_state *state_of_thread(void)
{
	if (!last || last == &no_block)
		last = block_take();
	return last == &no_block || last == &ended ? NULL : last;
}

/* Put the sentence together, or leave it at errno. */
__attribute__((format(printf, 2, 0))) static int failed(int code, const char *format, va_list args)
{
	struct error_state *state = state_of_thread();

	if (state) {
		vsnprintf(state->text, sizeof(state->text), format, args);
		text_clean(state->text);
		state->code = code;
	}
	errno = code;
	return -code;
}

__attribute__((format(printf, 1, 0))) static void vappend(const char *format, va_list args)
{
	struct error_state *state = state_of_thread();
	size_t used = state ? strlen(state->text) : 0;

	if (!state)
		return;
	vsnprintf(state->text + used, sizeof(state->text) - used, format, args);
	text_clean(state->text);
}

__attribute__((format(printf, 1, 2))) static void append(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vappend(format, args);
	va_end(args);
}

int dmaland_set_error(int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	failed(code, format, args);
	va_end(args);
	return -code;
}

int error_prefix(const char *format, ...)
{
	int code = errno;
	struct error_state *state = state_of_thread();
	char rest[sizeof(last->text)];
	va_list args;

	if (state)
		code = state->code;
	snprintf(rest, sizeof(rest), "%s", error_last());
	va_start(args, format);
	failed(code, format, args);
	va_end(args);
	append(": %s", rest);
	errno = code;
	return -code;
}

int error_append(const char *format, ...)
{
	int code = errno;
	const struct error_state *state = state_of_thread();
	va_list args;

	if (state)
		code = state->code;
	va_start(args, format);
	vappend(format, args);
	va_end(args);
	errno = code;
	return -code;
}

int error_system(const char *format, ...)
{
	int code = errno;
	va_list args;

	va_start(args, format);
	failed(code, format, args);
	va_end(args);
	append(": %s", strerror(code));
	errno = code;
	return -code;
}

/* Locked memory that is no more allowed is EAGAIN, addresses that are not, ENOMEM: mmap(2). */
int error_mmap(const char *format, ...)
{
	int code = errno, resource = code == EAGAIN ? RLIMIT_MEMLOCK : RLIMIT_AS;
	struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
	struct error_state *state;
	va_list args;

	if (code == EAGAIN || code == ENOMEM)
		getrlimit((__rlimit_resource_t)resource, &limit);
	va_start(args, format);
	failed(code, format, args);
	va_end(args);
	if (limit.rlim_cur == RLIM_INFINITY) {
		append(": %s", strerror(code));
	} else if (code == EAGAIN) {
		code = ENOMEM;
		append(": the program locks all that it maps (mlockall) and RLIMIT_MEMLOCK is %llu "
		       "KiB; raise it: ulimit -l, or LimitMEMLOCK= in the unit; or open devices "
		       "before mlockall()",
		       (unsigned long long)(limit.rlim_cur >> 10));
	} else {
		append(": RLIMIT_AS is %llu KiB; raise it: ulimit -v, or LimitAS= in the unit",
		       (unsigned long long)(limit.rlim_cur >> 10));
	}
	state = state_of_thread();
	if (state)
		state->code = code;
	errno = code;
	return -code;
}

const char *error_last(void)
{
	return last ? last->text : "";
}

void error_clear(void)
{
	struct error_state *state = last ? state_of_thread() : NULL;

	if (state)
		*state = (struct error_state){0};
}

void error_keep(struct error_state *state)
{
	if (last)
		*state = *last;
	else
		*state = (struct error_state){0};
	state->number = errno;
}

void error_put_back(const struct error_state *kept)
{
	struct error_state *state = last ? state_of_thread() : NULL;

	if (state)
		*state = *kept;
	errno = kept->number;
}

void error_in_child(void)
{
	struct block *own = (struct block *)(void *)last;
	size_t i = (size_t)(own - shared.blocks);

	for (unsigned int word = 0; word < BLOCKS / 64; word++)
		shared.taken[word] = 0;
	if (own >= shared.blocks && own < shared.blocks + BLOCKS)
		shared.taken[i / 64] = UINT64_C(1) << i % 64;
}

const char *dmaland_last_error(void)
{
	return error_last();
}
