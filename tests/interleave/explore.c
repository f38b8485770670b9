/* SPDX-License-Identifier: MIT */
/*
 * explore.c - all orders of a few threads' steps, one after the other
 *
 * The threads are coroutines of one thread. At each step the one that runs may go on or another
 * one may; a schedule is the row of these choices. The first schedule always takes the first
 * choice; the next one repeats it up to the last place where there is another choice left, and
 * takes that: a depth-first search. A schedule may stop a thread that could go on only so many
 * times, since most faults need few of that (Musuvathi and Qadeer, PLDI 2007); 0 to 3 here. Where
 * one waits or ends, all others are tried.
 */
#include "explore.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define FIBERS 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define FIBERS 1
#endif
#ifdef FIBERS
#include <sanitizer/common_interface_defs.h>
enum { PREEMPTIONS_MAX = 2 }; /* it is several times as slow */
#else
enum { PREEMPTIONS_MAX = 100 };
#endif

#include "base/thread.h"
#include "steps.h"

enum { CHOICES_MAX = 4096, STEPS_MAX = 20000, STACK = 256 << 10, LOCKS_MAX = 8 };

struct strand {
	ucontext_t context;
	void *fake_stack; /* of ASan's */
	char *stack;
	void (*f)(void);
	const volatile void *waits; /* for this lock */
	size_t offset;		    /* its thread_offset */
	bool yields;		    /* until another one has gone on */
	bool done;
};

struct held {
	const volatile void *lock;
	const struct strand *by;
};

static struct {
	const struct scenario *scenario;
	const struct omission *broken;
	enum steps steps_are;
	struct exploration *result;
	struct strand strands[THREADS_MAX], main;
	const void *main_stack;
	size_t main_stack_size;
	struct strand *running;
	unsigned int n, current;
	struct held held[LOCKS_MAX];
	unsigned int preemptions_left;
	size_t depth, length, steps;
	unsigned char choice[CHOICES_MAX], choices[CHOICES_MAX];
	struct {
		unsigned char thread;
		const char *where;
	} trace[CHOICES_MAX]; /* where threads changed */
	size_t traced;
} run = {.running = &run.main};

void explore_fail(const char *format, ...)
{
	va_list args;

	if (run.result->failed)
		return;
	run.result->failed = true;
	va_start(args, format);
	vsnprintf(run.result->why, sizeof(run.result->why), format, args);
	va_end(args);
}

bool explore_failed(void)
{
	return run.result->failed;
}

/* ---- coroutines ---- */

static void strand_arrive(void)
{
#ifdef FIBERS
	const void *bottom;
	size_t size;

	__sanitizer_finish_switch_fiber(run.running->fake_stack, &bottom, &size);
	if (!run.main_stack) {
		run.main_stack = bottom;
		run.main_stack_size = size;
	}
#endif
}

static void strand_switch(struct strand *to)
{
	struct strand *from = run.running;

	from->offset = thread_offset;
	thread_offset = to->offset;
	run.running = to;
#ifdef FIBERS
	__sanitizer_start_switch_fiber(&from->fake_stack, to->stack ? to->stack : run.main_stack,
				       to->stack ? STACK : run.main_stack_size);
#endif
	swapcontext(&from->context, &to->context);
	strand_arrive();
}

static void strand_main(void)
{
	strand_arrive();
	run.running->f();
	run.running->done = true;
	strand_switch(&run.main);
}

static void strand_begin(struct strand *strand, void (*f)(void))
{
	strand->f = f;
	strand->done = strand->yields = false;
	strand->waits = NULL;
	strand->fake_stack = NULL;
	if (!strand->stack)
		strand->stack = malloc(STACK);
	getcontext(&strand->context);
	strand->context.uc_stack.ss_sp = strand->stack;
	strand->context.uc_stack.ss_size = STACK;
	strand->context.uc_link = NULL;
	makecontext(&strand->context, strand_main, 0);
}

/* ---- choices ---- */

static bool is_held(const volatile void *lock)
{
	for (unsigned int i = 0; i < LOCKS_MAX; i++)
		if (run.held[i].lock == lock)
			return true;
	return false;
}

static bool can_run(const struct strand *strand)
{
	return !strand->done && !(strand->waits && is_held(strand->waits));
}

static unsigned int choose(unsigned int n)
{
	if (n == 1)
		return 0;
	if (run.depth == CHOICES_MAX) {
		explore_fail("too many choices");
		return 0;
	}
	if (run.depth == run.length) {
		run.choice[run.length] = 0;
		run.choices[run.length++] = (unsigned char)n;
	}
	if (run.choices[run.depth] != n) {
		explore_fail("the schedule cannot be repeated: something else decides too");
		return 0;
	}
	return run.choice[run.depth++];
}

/* The schedule to come; false when there is none. */
static bool choices_advance(void)
{
	while (run.length && run.choice[run.length - 1] + 1 == run.choices[run.length - 1])
		run.length--;
	if (!run.length)
		return false;
	run.choice[run.length - 1]++;
	return true;
}

/* Who goes on: the one that runs comes first. NULL: nobody can. */
static struct strand *strand_choose(void)
{
	struct strand *can[THREADS_MAX], *next;
	bool may_go_on = can_run(&run.strands[run.current]) && !run.strands[run.current].yields;
	unsigned int n = 0;

	if (may_go_on)
		can[n++] = &run.strands[run.current];
	if (!may_go_on || run.preemptions_left)
		for (unsigned int i = 0; i < run.n; i++)
			if (i != run.current && can_run(&run.strands[i]))
				can[n++] = &run.strands[i];
	if (!n && can_run(&run.strands[run.current]))
		can[n++] = &run.strands[run.current];
	if (!n)
		return NULL;
	next = can[choose(n)];
	if (may_go_on && next != can[0])
		run.preemptions_left--;
	return next;
}

static void reschedule(const char *where)
{
	struct strand *next = strand_choose();

	if (next == &run.strands[run.current])
		return;
	if (run.traced < CHOICES_MAX) {
		run.trace[run.traced].thread = (unsigned char)run.current;
		run.trace[run.traced++].where = where;
	}
	if (!next) {
		strand_switch(&run.main); /* a deadlock, or all are done */
		return;
	}
	run.current = (unsigned int)(next - run.strands);
	strand_switch(next);
}

static void step_count(void)
{
	if (++run.steps > STEPS_MAX) {
		explore_fail("thread %u never ends", run.current);
		strand_switch(&run.main);
	}
}

void step_access(const volatile void *address)
{
	const struct strand *self = run.running;
	uintptr_t at = (uintptr_t)address - (uintptr_t)self->stack;

	if (run.steps_are != STEPS_ACCESSES || at < STACK || self == &run.main)
		return;
	step_count();
	reschedule("an access");
}

void step(const volatile void *address, const char *where)
{
	if (run.running == &run.main)
		return;
	if (run.steps_are == STEPS_ATOMIC && address && run.scenario->is_private &&
	    run.scenario->is_private(address))
		return;
	step_count();
	reschedule(where);
}

/* No order is lost: it goes on when the others wait or have ended, or let it. */
void step_wait(const char *where)
{
	struct strand *self = run.running;

	if (self == &run.main) {
		explore_fail("%s waits for nobody", where);
		return;
	}
	step_count();
	self->yields = true;
	reschedule(where);
	self->yields = false;
}

bool step_left_out(const char *where, const char *what)
{
	return run.broken && strcmp(run.broken->function, where) == 0 &&
	       strcmp(run.broken->what, what) == 0;
}

/* ---- what steps.h puts in the place of locks ---- */

static int lock_hold(const volatile void *lock, const char *where)
{
	for (unsigned int i = 0; i < LOCKS_MAX; i++)
		if (!run.held[i].lock) {
			run.held[i] = (struct held){lock, run.running};
			return 0;
		}
	explore_fail("%s: too many locks are held", where);
	return 0;
}

int step_lock(const volatile void *lock, const char *where)
{
	struct strand *self = run.running;

	step(NULL, where);
	if (step_left_out(where, "lock"))
		return 0;
	self->waits = lock;
	while (is_held(lock)) {
		if (self == &run.main) {
			explore_fail("%s: a lock was not released", where);
			break;
		}
		reschedule(where);
	}
	self->waits = NULL;
	return lock_hold(lock, where);
}

int step_trylock(const volatile void *lock, const char *where)
{
	step(NULL, where);
	if (!step_left_out(where, "lock") && is_held(lock))
		return EBUSY;
	return lock_hold(lock, where);
}

int step_unlock(const volatile void *lock, const char *where)
{
	for (unsigned int i = 0; i < LOCKS_MAX; i++)
		if (run.held[i].lock == lock && run.held[i].by == run.running)
			run.held[i].lock = NULL;
	step(NULL, where);
	return 0;
}

/* ---- what scenarios call ---- */

unsigned int explore_thread(void)
{
	return run.current;
}

void explore_as(unsigned int thread, void (*f)(void))
{
	struct strand *strand = &run.strands[thread];
	unsigned int was = run.current;
	size_t offset = thread_offset;

	run.current = thread;
	thread_offset = strand->offset;
	f();
	strand->offset = thread_offset;
	thread_offset = offset;
	run.current = was;
}

/* ---- schedules ---- */

static void schedule_run(void)
{
	struct strand *first;

	run.depth = run.steps = run.traced = 0;
	run.preemptions_left = run.scenario->preemptions < PREEMPTIONS_MAX
				       ? run.scenario->preemptions
				       : PREEMPTIONS_MAX;
	memset(run.held, 0, sizeof(run.held));
	for (unsigned int i = 0; i < THREADS_MAX; i++)
		run.strands[i].offset = 0;
	run.scenario->begin();
	for (unsigned int i = 0; i < run.n; i++)
		strand_begin(&run.strands[i], run.scenario->threads[i]);
	run.current = 0;
	run.strands[0].waits = NULL;
	first = &run.strands[choose(run.n)];
	while (first && !run.result->failed) {
		run.current = (unsigned int)(first - run.strands);
		strand_switch(first);
		first = strand_choose();
	}
	for (unsigned int i = 0; i < run.n && !run.result->failed; i++)
		if (!run.strands[i].done)
			explore_fail("a deadlock");
	if (!run.result->failed)
		run.scenario->end();
	if (run.steps > run.result->steps)
		run.result->steps = run.steps;
}

static void schedule_tell(void)
{
	struct exploration *result = run.result;
	size_t used = strlen(result->why);

	for (size_t i = 0; i < run.traced && used < sizeof(result->why); i++)
		used += (size_t)snprintf(result->why + used, sizeof(result->why) - used,
					 "%s thread %u up to %s", i ? "," : ";",
					 run.trace[i].thread, run.trace[i].where);
}

void explore(const struct scenario *scenario, enum steps steps, const struct omission *broken,
	     struct exploration *result)
{
	memset(result, 0, sizeof(*result));
	run.steps_are = steps;
	run.scenario = scenario;
	run.broken = broken;
	run.result = result;
	run.length = 0;
	run.n = 0;
	while (run.n < THREADS_MAX && scenario->threads[run.n])
		run.n++;
	do {
		schedule_run();
		result->schedules++;
	} while (!result->failed && choices_advance());
	if (result->failed)
		schedule_tell();
	for (unsigned int i = 0; i < THREADS_MAX; i++) {
		free(run.strands[i].stack);
		run.strands[i].stack = NULL;
	}
}
