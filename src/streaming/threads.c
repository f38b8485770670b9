/* SPDX-License-Identifier: MIT */
/*
 * threads.c - which shard is a thread's, and what becomes of it when the thread ends
 *
 *   thread --> number --> shard of that number, in each device: free slots, counters
 *
 * The first EXCLUSIVE_SHARDS threads at a time have a number of their own; the others share the rest.
 * A thread that ends gives the slots that are parked in its shards back to their pools, of all
 * devices that there are, and its number to the next that comes. So it must not meet a device that
 * is being closed: one lock guards the list of devices, the numbers, and emptying the stacks of
 * others. It is held for as long as it takes to give some hundred slots back, which makes no system
 * call.
 */
#include "streaming/streaming_internal.h"

#include "base/error.h"
#include "base/log.h"

/* So many keys have their place in each thread's descriptor; glibc allocates for those above. */
enum { KEYS_AT_HAND = 32 };

_Thread_local uint32_t streaming_shard __attribute__((tls_model("initial-exec"))) = UINT32_MAX;

static struct {
	pthread_once_t once;
	int error; /* of setting up */
	pthread_key_t key;
	uint32_t lock;	 /* base/spin.h: all that follows */
	uint32_t taken;	 /* a bit for each exclusive shard */
	uint32_t shared; /* threads that have no such one, ever */
	struct streaming *first;
} threads = {.once = PTHREAD_ONCE_INIT};

static void threads_lock(void)
{
	log_hold();
	spin_lock(&threads.lock);
}

static void threads_unlock(void)
{
	spin_unlock(&threads.lock);
	log_release();
}

/* Only its thread uses the stacks, and that one is here. */
static void shard_empty(struct streaming *s, struct shard *shard)
{
	struct bounce_slot *slot;

	for (size_t class = 0; class < BOUNCE_CLASSES; class ++)
		while ((slot = stack_pop(&shard->stacks[class])))
			if (slot_state(slot) == SLOT_PARKED) /* or unmapped twice: bounce.c */
				bounce_slot_put(s, slot);
}

static uint32_t number_share(void)
{
	return EXCLUSIVE_SHARDS + threads.shared++ % (SHARDS - EXCLUSIVE_SHARDS);
}

static void shard_set(uint32_t number)
{
	streaming_shard = number * (uint32_t)sizeof(struct shard);
}

/*
 * The key's value is the number, and 1. Destructors of other keys may still map, and it may be their
 * last round: so the thread shares from now on, since nobody would tell of its end again.
 */
static void thread_end(void *value)
{
	uint32_t number = (uint32_t)(uintptr_t)value - 1;

	threads_lock();
	for (struct streaming *s = threads.first; s; s = s->next)
		shard_empty(s, &s->shards[number]);
	threads.taken &= ~(1u << number);
	number = number_share();
	threads_unlock();
	shard_set(number);
}

static void threads_begin(void)
{
	threads.error = pthread_key_create(&threads.key, thread_end);
}

/* Without a key at hand nobody would say when the thread ends: it shares. */
static uint32_t number_choose(void)
{
	bool at_hand = !threads.error && threads.key < KEYS_AT_HAND;
	uint32_t number;

	threads_lock();
	number = (uint32_t)__builtin_ctz(~threads.taken);
	if (at_hand && number < EXCLUSIVE_SHARDS)
		threads.taken |= 1u << number;
	else
		number = number_share();
	threads_unlock();
	return number;
}

uint32_t streaming_shard_choose(void)
{
	uint32_t number;

	pthread_once(&threads.once, threads_begin);
	number = number_choose();
	if (number < EXCLUSIVE_SHARDS)
		pthread_setspecific(threads.key, (void *)(uintptr_t)(number + 1));
	shard_set(number);
	return streaming_shard;
}

__attribute__((noinline)) void count_way_shared(struct streaming *s, enum way way)
{
	count_in(s, shard_of(s), way);
}

void threads_add(struct streaming *s)
{
	threads_lock();
	s->next = threads.first;
	threads.first = s;
	threads_unlock();
}

void threads_remove(struct streaming *s)
{
	struct streaming **link = &threads.first;

	threads_lock();
	while (*link != s)
		link = &(*link)->next;
	*link = s->next;
	threads_unlock();
}

void threads_forget_slots(struct streaming *s)
{
	threads_lock();
	for (size_t i = 0; i < SHARDS; i++)
		for (size_t class = 0; class < BOUNCE_CLASSES; class ++)
			s->shards[i].stacks[class].count = 0;
	threads_unlock();
}

/* Of the other threads there are none here. */
void streaming_disown_threads(void)
{
	uint32_t number = streaming_shard / (uint32_t)sizeof(struct shard);

	threads.lock = 0;
	threads.first = NULL;
	threads.taken = number < EXCLUSIVE_SHARDS ? 1u << number : 0;
}
