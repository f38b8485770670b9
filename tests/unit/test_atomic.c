/* SPDX-License-Identifier: MIT */
/*
 * test_atomic.c - GFP_ATOMIC makes no system call, nor does free
 *
 * A fresh thread goes into strict seccomp, where the kernel ends it at any system call but read,
 * write and exit, and makes its first calls to a pool there, while another thread grows the pool
 * by system calls that take long, or holds the arena. And the log on the smallest stack.
 */
#include "test.h"

#include <errno.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "fake_domain.h"

enum { N = 500 };

static struct fake_place place;
static struct dma_pool *pool;
static atomic_bool growing;
static int result[2];

static void take_long(void *context)
{
	(void)context;
	atomic_store(&growing, true);
	poll(NULL, 0, 300);
}

static void *grow(void *context)
{
	dma_addr_t handle;

	place.fake.before_provide = take_long;
	while (dma_pool_alloc(pool, GFP_KERNEL, &handle))
		if (place.fake.provides > 3)
			break;
	return context;
}

static void *allocate_without_the_kernel(void *context)
{
	static dma_addr_t handles[N];
	static void *blocks[N];
	char answer = 'y';

	while (!atomic_load(&growing))
		;
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	for (int i = 0; i < N; i++) {
		do
			blocks[i] = dma_pool_alloc(pool, GFP_ATOMIC, &handles[i]);
		while (!blocks[i] && another_held_the_arena());
		if (!blocks[i])
			answer = 'n';
	}
	for (int i = 0; i < N; i++)
		if (blocks[i])
			dma_pool_free(pool, blocks[i], handles[i]);
	if (write(result[1], &answer, 1) != 1)
		answer = 'n';
	syscall(SYS_exit, 0);
	return context;
}

/* ---- beside a thread that holds the arena ---- */

enum { SLEEPERS = 2 };

static atomic_int trying, slept;
static atomic_bool may_go_on;
static struct page *run;

/* Without a system call nothing else can be waited for. */
static void *fail_without_the_kernel(void *context)
{
	struct page *first;
	char answer = 'n';

	prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	if (arena_take(place.arena, &place.coherent, ARENA_PAGE, ARENA_PAGE, GFP_ATOMIC, &first) ==
		    -ENOMEM &&
	    strstr(dmaland_last_error(), "another thread holds the arena"))
		answer = 'y';
	if (write(result[1], &answer, 1) != 1)
		answer = 'n';
	syscall(SYS_exit, 0);
	return context;
}

/* It holds the arena while others sleep for it; they go on, although nobody wakes them up. */
static void *release_without_the_kernel(void *context)
{
	char answer = 'y';

	prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	if (!rt_lock_try(&place.arena->lock))
		answer = 'n';
	atomic_store(&trying, 1);
	while (!atomic_load(&may_go_on))
		;
	rt_lock_release(&place.arena->lock);
	while (atomic_load(&slept) < SLEEPERS)
		;
	arena_give(place.arena, run);
	if (arena_take(place.arena, &place.coherent, ARENA_PAGE, ARENA_PAGE, GFP_ATOMIC, &run))
		answer = 'n';
	if (write(result[1], &answer, 1) != 1)
		answer = 'n';
	syscall(SYS_exit, 0);
	return context;
}

static void *sleep_for_the_arena(void *context)
{
	rt_lock_take(&place.arena->lock);
	rt_lock_release(&place.arena->lock);
	atomic_fetch_add(&slept, 1);
	return context;
}

static int answer_read(void)
{
	struct pollfd wait = {.fd = result[0], .events = POLLIN};
	char answer = '?';

	if (poll(&wait, 1, (int)patience(20000)) != 1 || read(result[0], &answer, 1) != 1)
		return 4;
	return answer == 'y' ? 0 : 5;
}

static int failing_child(void)
{
	pthread_t thread;

	rt_lock_take(&place.arena->lock);
	if (pthread_create(&thread, NULL, fail_without_the_kernel, NULL))
		return 3;
	return answer_read();
}

static int releasing_child(void)
{
	pthread_t thread, sleepers[SLEEPERS];

	if (arena_take(place.arena, &place.coherent, ARENA_PAGE, ARENA_PAGE, GFP_KERNEL, &run) ||
	    pthread_create(&thread, NULL, release_without_the_kernel, NULL))
		return 3;
	while (!atomic_load(&trying))
		;
	for (int i = 0; i < SLEEPERS; i++)
		if (pthread_create(&sleepers[i], NULL, sleep_for_the_arena, NULL))
			return 3;
	while (!pthread_mutex_trylock(&place.arena->lock.sleepers))
		pthread_mutex_unlock(&place.arena->lock.sleepers);
	atomic_store(&may_go_on, true);
	return answer_read();
}

/* Blocks of 256 bytes, so that 500 need pages of the arena and not of the pool alone. */
static int growing_child(void)
{
	pthread_t grower, atomic;
	dma_addr_t handle;

	pool = pool_create("atomic", &place.place, 256, 256, 0);
	for (int i = 0; i < 16 * 16; i++)
		if (!dma_pool_alloc(pool, GFP_KERNEL, &handle))
			return 2;
	if (pthread_create(&grower, NULL, grow, NULL) ||
	    pthread_create(&atomic, NULL, allocate_without_the_kernel, NULL))
		return 3;
	return answer_read();
}

/* With so many keys of the program's before the library's. */
static void run_child(int keys, int (*child)(void))
{
	int status;
	pid_t pid;

	assert_int_equal(pipe(result), 0);
	pid = fork();
	if (pid == 0) {
		pthread_key_t key;

		while (keys--)
			if (pthread_key_create(&key, NULL))
				_exit(1);
		fake_place_open(&place, NULL, 0);
		_exit(child());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void a_fresh_thread_allocates_and_frees_without_a_system_call(void **state)
{
	(void)state;
	run_child(0, growing_child);
}

/* glibc allocates memory for a thread's value of such a key. */
static void nor_does_it_where_the_program_has_many_keys_of_its_own(void **state)
{
	(void)state;
	run_child(40, growing_child);
}

static void an_arena_that_another_thread_holds_gives_nothing_to_gfp_atomic(void **state)
{
	(void)state;
	run_child(0, failing_child);
}

static void the_arena_is_given_back_without_a_system_call_to_those_who_sleep_for_it(void **state)
{
	(void)state;
	run_child(0, releasing_child);
}

/*
 * With the default sink, stderr; stdio has 8 KiB on the stack to format something for it. The program has some
 * of its stack for itself.
 */
static void *fail_on_a_small_stack(void *context)
{
	char nobodys[6000];

	memset(nobodys, 1, sizeof(nobodys));

	dma_pool_free(pool, nobodys, 0x1000);
	log_line(DMALAND_LOG_ERR, "%s", "not held");
	log_hold();
	for (int i = 0; i < 10; i++)
		log_line(DMALAND_LOG_ERR, "line %d", i);
	log_release();
	return context;
}

static void lines_of_the_log_fit_on_the_smallest_stack(void **state)
{
	pid_t child = fork();
	pthread_attr_t attr;
	pthread_t thread;
	int status;

	(void)state;
	if (child == 0) {
		dmaland_set_log(NULL, NULL);
		if (!freopen("/dev/null", "w", stderr))
			_exit(1);
		fake_place_open(&place, NULL, 0);
		pool = pool_create("small stacks", &place.place, 64, 64, 0);
		pthread_attr_init(&attr);
		pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN);
		_exit(pthread_create(&thread, &attr, fail_on_a_small_stack, NULL) ||
		      pthread_join(thread, NULL));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fresh_thread_allocates_and_frees_without_a_system_call),
		cmocka_unit_test(nor_does_it_where_the_program_has_many_keys_of_its_own),
		cmocka_unit_test(an_arena_that_another_thread_holds_gives_nothing_to_gfp_atomic),
		cmocka_unit_test(
			the_arena_is_given_back_without_a_system_call_to_those_who_sleep_for_it),
		cmocka_unit_test(lines_of_the_log_fit_on_the_smallest_stack),
	};

	log_capture();
	return cmocka_run_group_tests_name("atomic", tests, NULL, NULL);
}
