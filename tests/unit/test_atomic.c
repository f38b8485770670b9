/* SPDX-License-Identifier: MIT */
/*
 * test_atomic.c - GFP_ATOMIC makes no system call, nor does free
 *
 * A fresh thread goes into strict seccomp, where the kernel ends it at any system call but read,
 * write and exit, and makes its first calls to a pool there, while another thread grows the pool
 * by system calls that take long.
 */
#include "test.h"

#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

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
		blocks[i] = dma_pool_alloc(pool, GFP_ATOMIC, &handles[i]);
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

/* Blocks of 256 bytes, so that 500 need pages of the arena and not of the pool alone. */
static int child(void)
{
	struct pollfd wait = {.fd = result[0], .events = POLLIN};
	pthread_t grower, atomic;
	dma_addr_t handle;
	char answer = '?';

	pool = pool_create("atomic", &place.place, 256, 256, 0);
	for (int i = 0; i < 16 * 16; i++)
		if (!dma_pool_alloc(pool, GFP_KERNEL, &handle))
			return 2;
	if (pthread_create(&grower, NULL, grow, NULL) ||
	    pthread_create(&atomic, NULL, allocate_without_the_kernel, NULL))
		return 3;
	if (poll(&wait, 1, (int)patience(20000)) != 1 || read(result[0], &answer, 1) != 1)
		return 4;
	return answer == 'y' ? 0 : 5;
}

/* With so many keys of the program's before the library's. */
static void run_child(int keys)
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
	run_child(0);
}

/* glibc allocates memory for a thread's value of such a key. */
static void nor_does_it_where_the_program_has_many_keys_of_its_own(void **state)
{
	(void)state;
	run_child(40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fresh_thread_allocates_and_frees_without_a_system_call),
		cmocka_unit_test(nor_does_it_where_the_program_has_many_keys_of_its_own),
	};

	log_capture();
	return cmocka_run_group_tests_name("atomic", tests, NULL, NULL);
}
