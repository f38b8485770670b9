/* SPDX-License-Identifier: MIT */
/*
 * test_pool_thread_ends.c - a thread's last calls to a pool: in destructors, cancelled; and threads that only free
 *
 * The program's keys lie before the library's and behind them, so that destructors are called on
 * either side of the library's own.
 */
#include "test.h"

#include <limits.h>
#include <semaphore.h>
#include <stdlib.h>
#include <unistd.h>

#include "pool_stand.h"

enum {
	BLOCK = 64,
	ENDERS = SANITIZED ? 100 : 1000,
	EACH = 100, /* blocks that a thread takes */
};

static struct dmaland_device *dev;
static struct dma_pool *pool;

static void open_pool(void)
{
	log_capture();
	dev = stand_open(0, false);
	pool = dma_pool_create("ends", dev, BLOCK, 0, 0);
	assert_non_null(pool);
}

static void close_idle_pool(void)
{
	expect_idle(pool, slab_pages(dev, BLOCK));
	dma_pool_destroy(pool);
	dmaland_close(dev);
	assert_string_equal(log_text(), "");
}

/* ---- destructors ---- */

static pthread_key_t early, late; /* made before the library is called, and after it */

struct ender {
	struct blocks blocks;
	pthread_key_t key;
	int first_round, rounds; /* uses the pool from the one on; was called so often */
	bool ok;
};

static void use_while_ending(void *context)
{
	struct ender *e = context;

	if (++e->rounds < PTHREAD_DESTRUCTOR_ITERATIONS)
		pthread_setspecific(e->key, e);
	if (e->rounds < e->first_round)
		return;
	e->ok = e->ok && blocks_take(&e->blocks, 2, GFP_KERNEL) == 2;
	blocks_give(&e->blocks, 3);
}

static void *end_with_destructors(void *context)
{
	struct ender *e = context;

	e->ok = blocks_take(&e->blocks, EACH, GFP_KERNEL) == EACH;
	blocks_give(&e->blocks, EACH / 2);
	pthread_setspecific(e->key, e);
	return NULL;
}

/* The destructors' are a thread's first calls. */
static void *end_without_a_call_before(void *context)
{
	struct ender *e = context;

	e->ok = true;
	pthread_setspecific(e->key, e);
	return NULL;
}

static void end_one(struct ender *e, void *(*f)(void *))
{
	e->rounds = 0;
	thread_run(f, e);
	assert_true(e->ok);
	assert_int_equal(e->rounds, PTHREAD_DESTRUCTOR_ITERATIONS);
	blocks_give(&e->blocks, e->blocks.count);
}

static void end_many(void *(*f)(void *))
{
	struct ender e;

	need_last_destructors();
	open_pool();
	if (!late)
		assert_int_equal(pthread_key_create(&late, use_while_ending), 0);
	e.blocks = blocks_make(pool, EACH + 2);
	for (int i = 0; i < ENDERS; i++) {
		e.key = i % 2 ? early : late;
		e.first_round = 1 + i / 2 % PTHREAD_DESTRUCTOR_ITERATIONS;
		end_one(&e, f);
	}
	blocks_end(&e.blocks);
	print_message("# %zu pages before trimming\n", stand_stats(pool).pages);
	close_idle_pool();
}

static void threads_that_use_a_pool_in_their_destructors_leave_nothing(void **state)
{
	(void)state;
	end_many(end_with_destructors);
}

static void nor_do_threads_whose_first_call_is_in_a_destructor(void **state)
{
	(void)state;
	end_many(end_without_a_call_before);
}

/* ---- cancelled, and pthread_exit() ---- */

static sem_t allocated;

static void *wait_to_be_cancelled(void *context)
{
	struct blocks *b = context;

	blocks_take(b, EACH, GFP_KERNEL);
	blocks_give(b, EACH / 2);
	sem_post(&allocated);
	pause();
	return context; /* a signal, which fails the test */
}

static void *leave_by_pthread_exit(void *context)
{
	struct blocks *b = context;

	blocks_take(b, EACH, GFP_KERNEL);
	blocks_give(b, EACH / 2);
	pthread_exit(context);
}

static void threads_that_are_cancelled_leave_what_they_have_out_and_no_more(void **state)
{
	struct blocks b;

	(void)state;
	open_pool();
	b = blocks_make(pool, EACH);
	assert_int_equal(sem_init(&allocated, 0, 0), 0);
	for (int i = 0; i < ENDERS; i++) {
		pthread_t thread;

		thread_start(&thread, i % 2 ? wait_to_be_cancelled : leave_by_pthread_exit, &b);
		if (i % 2) {
			while (sem_wait(&allocated))
				;
			assert_int_equal(pthread_cancel(thread), 0);
		}
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(b.count, EACH / 2);
		assert_int_equal(stand_stats(pool).in_use, EACH / 2);
		blocks_give(&b, EACH);
	}
	sem_destroy(&allocated);
	blocks_end(&b);
	close_idle_pool();
}

/* Many of them, none of which ever allocates: who frees into a slab of nobody's becomes its owner. */
static void *free_some(void *context)
{
	blocks_give(context, EACH);
	return NULL;
}

static void threads_that_only_free_leave_nothing(void **state)
{
	struct blocks b;

	(void)state;
	open_pool();
	b = blocks_make(pool, (size_t)ENDERS * EACH);
	assert_int_equal(blocks_take(&b, b.room, GFP_KERNEL), b.room);
	blocks_census(&b, 1, BLOCK, BLOCK, 0);
	blocks_shuffle(&b, 3);
	for (int i = 0; i < ENDERS; i++)
		thread_run(free_some, &b);
	assert_int_equal(b.count, 0);
	blocks_end(&b);
	close_idle_pool();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_that_use_a_pool_in_their_destructors_leave_nothing),
		cmocka_unit_test(nor_do_threads_whose_first_call_is_in_a_destructor),
		cmocka_unit_test(threads_that_are_cancelled_leave_what_they_have_out_and_no_more),
		cmocka_unit_test(threads_that_only_free_leave_nothing),
	};

	if (pthread_key_create(&early, use_while_ending))
		return 1;
	return cmocka_run_group_tests_name("pool, ends of threads", tests, NULL, NULL);
}
