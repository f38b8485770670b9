/* SPDX-License-Identifier: MIT */
/*
 * test_arena_runs.c - which runs a tenant has, and how they are gone through
 */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/rt_lock.h"
#include "fake_domain.h"

enum { TENANTS = 3, RUNS_MAX = 256, STABLE = 40, THREADS = 3, ROUNDS = 3000 };

static atomic_size_t sections; /* how often the lock was taken so that one may sleep */

void __real_rt_lock_take(struct rt_lock *lock);
void __wrap_rt_lock_take(struct rt_lock *lock);

void __wrap_rt_lock_take(struct rt_lock *lock)
{
	atomic_fetch_add(&sections, 1);
	__real_rt_lock_take(lock);
}

static struct page *take(struct fake_place *p, struct arena_tenant *tenant, size_t pages)
{
	struct page *first;

	assert_int_equal(
		arena_take(p->arena, tenant, pages * ARENA_PAGE, ARENA_PAGE, GFP_KERNEL, &first),
		0);
	return first;
}

static void tenants_begin(struct fake_place *p, struct arena_tenant tenants[TENANTS])
{
	for (unsigned int t = 0; t < TENANTS; t++)
		tenants[t] = (struct arena_tenant){.limits = &p->limits};
}

/* What was visited, in order. */
struct seen {
	struct page *runs[RUNS_MAX];
	size_t count;
};

static void see(struct arena *arena, struct page *first, void *context)
{
	struct seen *seen = context;

	(void)arena;
	assert_true(seen->count < RUNS_MAX);
	seen->runs[seen->count++] = first;
}

static size_t times_seen(const struct seen *seen, const struct page *first)
{
	size_t times = 0;

	for (size_t i = 0; i < seen->count; i++)
		times += seen->runs[i] == first;
	return times;
}

static struct seen runs_of(struct fake_place *p, struct arena_tenant *tenant)
{
	struct seen seen = {.count = 0};

	arena_for_each_run_of(p->arena, tenant, see, &seen);
	return seen;
}

static void give_all(struct fake_place *p, struct arena_tenant tenants[TENANTS])
{
	for (unsigned int t = 0; t < TENANTS; t++) {
		fake_give_all(p->arena, &tenants[t]);
		assert_int_equal(tenants[t].runs, 0);
	}
	assert_int_equal(p->arena->free_pages, p->arena->pages);
}

/* Runs of all lengths. */
static void each_run_of_a_tenant_is_visited_once(void **state)
{
	static const size_t sizes[] = {1, 2, ARENA_PAGES_AT_ONCE, ARENA_PAGES_AT_ONCE + 1, 300};
	struct fake_place *p = *state;
	struct arena_tenant tenants[TENANTS];
	struct page *runs[TENANTS][5];
	struct seen seen;

	tenants_begin(p, tenants);
	assert_int_equal(runs_of(p, &tenants[0]).count, 0);
	for (size_t i = 0; i < 5; i++)
		for (unsigned int t = 0; t < TENANTS; t++)
			runs[t][i] = take(p, &tenants[t], sizes[i]);
	for (unsigned int t = 0; t < TENANTS; t++) {
		seen = runs_of(p, &tenants[t]);
		assert_int_equal(seen.count, 5);
		for (size_t i = 0; i < 5; i++)
			assert_ptr_equal(seen.runs[i], runs[t][4 - i]);
	}
	for (size_t i = 0; i < 5; i++) /* first, last, and between */
		arena_hand_over(p->arena, runs[0][2 * i % 5], &tenants[1]);
	assert_int_equal(runs_of(p, &tenants[0]).count, 0);
	seen = runs_of(p, &tenants[1]);
	assert_int_equal(seen.count, 10);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(times_seen(&seen, runs[0][i]), 1);
	give_all(p, tenants);
}

static void going_through_a_tenants_runs_costs_what_the_tenant_has(void **state)
{
	struct fake_place *p = *state;
	struct arena_tenant tenants[TENANTS];
	size_t before;

	tenants_begin(p, tenants);
	for (unsigned int i = 0; i < 10; i++) {
		take(p, &tenants[0], 1 + i);
		for (unsigned int j = 0; j < 500; j++)
			take(p, &tenants[1], 1);
		take(p, &tenants[2], 1000);
	}
	before = atomic_load(&sections);
	assert_int_equal(runs_of(p, &tenants[0]).count, 10);
	assert_int_equal(atomic_load(&sections) - before, 11); /* one each, and one to begin */
	give_all(p, tenants);
}

/* ---- what visit() may do ---- */

struct doing {
	struct fake_place *p;
	struct arena_tenant *own, *other;
	struct page **runs; /* the oldest first: visited last */
	size_t visits;
};

static void hand_over(struct arena *arena, struct page *first, void *context)
{
	struct doing *d = context;

	d->visits++;
	arena_hand_over(arena, first, d->other);
}

/* The one whose turn is next goes, and the one behind it goes to another tenant. */
static void give_next_ones(struct arena *arena, struct page *first, void *context)
{
	struct doing *d = context;

	if (d->visits++ == 0) {
		assert_ptr_equal(first, d->runs[5]);
		arena_give(arena, d->runs[4]);
		arena_hand_over(arena, d->runs[3], d->other);
	}
	assert_ptr_not_equal(first, d->runs[4]);
	assert_ptr_not_equal(first, d->runs[3]);
}

static void give_inside(struct arena *arena, struct page *first, void *context)
{
	struct doing *d = context;

	(void)first;
	d->visits++;
	fake_give_all(arena, d->own);
}

static void take_another(struct arena *arena, struct page *first, void *context)
{
	struct doing *d = context;

	(void)arena;
	(void)first;
	d->visits++;
	take(d->p, d->own, 1);
}

static void one_who_goes_through_runs_may_change_them(void **state)
{
	static const struct {
		void (*visit)(struct arena *arena, struct page *first, void *context);
		size_t visits, own, other;
	} cases[] = {
		{hand_over, 6, 0, 6},
		{give_next_ones, 4, 4, 1},
		{give_inside, 1, 0, 0},
		{take_another, 6, 12, 0},
	};
	struct fake_place *p = *state;
	struct arena_tenant tenants[TENANTS];
	struct page *runs[6];

	tenants_begin(p, tenants);
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		struct doing doing = {p, &tenants[0], &tenants[1], runs, 0};

		for (size_t i = 0; i < 6; i++)
			runs[i] = take(p, &tenants[0], 1);
		arena_for_each_run_of(p->arena, &tenants[0], cases[c].visit, &doing);
		assert_int_equal(doing.visits, cases[c].visits);
		assert_int_equal(runs_of(p, &tenants[0]).count, cases[c].own);
		assert_int_equal(runs_of(p, &tenants[1]).count, cases[c].other);
		assert_null(tenants[0].visits);
		give_all(p, tenants);
	}
}

/* ---- several threads ---- */

static struct {
	struct fake_place *p;
	struct arena_tenant tenants[TENANTS];
	struct page *stable[STABLE]; /* of tenant 0 all the time */
	atomic_uint running, failed;
} all;

/* Each with runs of its own, which go from tenant to tenant. */
static void *come_and_go(void *context)
{
	uint64_t seed = 1 + (uint64_t)(uintptr_t)context;
	struct page *runs[8] = {NULL};

	for (unsigned int i = 0; i < ROUNDS; i++) {
		struct page **run = &runs[random_below(&seed, 8)];
		struct arena_tenant *tenant = &all.tenants[random_below(&seed, TENANTS)];
		size_t pages = 1 + random_below(&seed, random_below(&seed, 4) ? 3 : 200);

		if (!*run) {
			if (arena_take(all.p->arena, tenant, pages * ARENA_PAGE, ARENA_PAGE,
				       GFP_KERNEL, run))
				atomic_fetch_add(&all.failed, 1);
		} else if (random_below(&seed, 2)) {
			arena_hand_over(all.p->arena, *run, tenant);
		} else {
			arena_give(all.p->arena, *run);
			*run = NULL;
		}
		if (i % 64 == 0)
			arena_trim(all.p->arena, 0);
	}
	for (unsigned int i = 0; i < 8; i++)
		if (runs[i])
			arena_give(all.p->arena, runs[i]);
	atomic_fetch_sub(&all.running, 1);
	return NULL;
}

/* Entries of others' runs are not looked into. */
static void what_stays_is_visited_once_while_other_runs_come_and_go(void **state)
{
	pthread_t threads[THREADS];
	size_t goes = 0;

	all.p = *state;
	tenants_begin(all.p, all.tenants);
	atomic_store(&all.running, THREADS);
	for (size_t i = 0; i < STABLE; i++) {
		all.stable[i] = take(all.p, &all.tenants[0], 1 + i % 3);
		take(all.p, &all.tenants[1 + i % 2], 40);
	}
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, (void *)i), 0);
	do {
		struct seen seen = runs_of(all.p, &all.tenants[0]);

		for (size_t i = 0; i < STABLE; i++)
			assert_int_equal(times_seen(&seen, all.stable[i]), 1);
		runs_of(all.p, &all.tenants[1]);
		goes++;
	} while (atomic_load(&all.running));
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_true(goes > 0);
	assert_int_equal(atomic_load(&all.failed), 0);
	assert_int_equal(runs_of(all.p, &all.tenants[0]).count, STABLE);
	give_all(all.p, all.tenants);
	arena_trim(all.p->arena, 0);
	assert_int_equal(all.p->arena->pages, 0);
}

/* ---- the lock ---- */

static void *give_one(void *run)
{
	arena_give(all.p->arena, run);
	return NULL;
}

/* It can't fail, so it sleeps. */
static void a_run_is_given_back_although_another_thread_holds_the_arena(void **state)
{
	struct fake_place *p = *state;
	pthread_t thread;
	struct page *run;

	all.p = p;
	run = take(p, &p->coherent, 1);
	assert_true(rt_lock_try(&p->arena->lock));
	assert_int_equal(pthread_create(&thread, NULL, give_one, run), 0);
	while (!pthread_mutex_trylock(&p->arena->lock.sleepers))
		pthread_mutex_unlock(&p->arena->lock.sleepers);
	assert_ptr_equal(page_tenant(run), &p->coherent);
	rt_lock_release(&p->arena->lock);
	pthread_join(thread, NULL);
	assert_int_equal(p->arena->free_pages, p->arena->pages);
}

static unsigned int counted;

static void *count_up(void *lock)
{
	for (unsigned int i = 0; i < ROUNDS; i++) {
		if (i % 3 == 0)
			rt_lock_take(lock);
		else if (i % 3 == 1)
			rt_lock_try_or_take(lock);
		else
			while (!rt_lock_try(lock))
				;
		counted++;
		rt_lock_release(lock);
	}
	return NULL;
}

static void one_thread_at_a_time_has_the_lock_however_it_is_taken(void **state)
{
	pthread_t threads[THREADS];
	struct rt_lock lock;

	(void)state;
	assert_int_equal(rt_lock_init(&lock), 0);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count_up, &lock), 0);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(counted, THREADS * ROUNDS);
	rt_lock_destroy(&lock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		place_test(each_run_of_a_tenant_is_visited_once),
		place_test(going_through_a_tenants_runs_costs_what_the_tenant_has),
		place_test(one_who_goes_through_runs_may_change_them),
		place_test(what_stays_is_visited_once_while_other_runs_come_and_go),
		place_test(a_run_is_given_back_although_another_thread_holds_the_arena),
		cmocka_unit_test(one_thread_at_a_time_has_the_lock_however_it_is_taken),
	};

	return cmocka_run_group_tests_name("a tenant's runs", tests, NULL, NULL);
}
