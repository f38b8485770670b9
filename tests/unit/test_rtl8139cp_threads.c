/* SPDX-License-Identifier: MIT */
/*
 * test_rtl8139cp_threads.c - of each card one thread sends, another receives and others do the rest, all at a time
 */
#include "rtl8139cp_stand.h"

#include <sched.h>
#include <time.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

enum { FRAMES = 3000, ON_THE_WAY = 32, BURST = 8 };

/* From one end to the other. Asserts are for the main thread: others count. */
static struct direction {
	unsigned int from;
	bool waits; /* the thread that receives does */
	_Atomic uint32_t sent, received;
	atomic_uint wrong;
	time_t end;
	struct dmaland_packet mine[ON_THE_WAY]; /* of the application's own */
	unsigned char memory[ON_THE_WAY][DMALAND_ETH_FRAME_LEN];
	_Atomic uint32_t released;
} directions[2];

static unsigned int length_of(uint32_t number)
{
	return 60 + number * 61 % (DMALAND_ETH_FRAME_LEN - 60 + 1);
}

static bool is_late(const struct direction *d)
{
	return time(NULL) > d->end || atomic_load(&d->wrong);
}

static void on_release(struct dmaland_packet *packet)
{
	atomic_fetch_add(&((struct direction *)packet->context)->released, 1);
}

/* Every other one from the card's memory, and so released by another thread than takes from there. */
static struct dmaland_packet *packet_for(struct direction *d, uint32_t number)
{
	unsigned int length = length_of(number), half = length / 2;
	struct dmaland_packet *packet;
	unsigned char *at;

	if (number % 2) {
		packet = dmaland_packet_alloc(ends[d->from].card, 0);
		at = packet ? dmaland_packet_put(packet, length) : NULL;
		if (at)
			frame_fill(at, !d->from, number, length);
		return packet;
	}
	packet = &d->mine[number / 2 % ON_THE_WAY];
	at = d->memory[number / 2 % ON_THE_WAY];
	frame_fill(at, !d->from, number, length);
	*packet = (struct dmaland_packet){
		.data = at, .len = half, .nr_frags = 1, .release = on_release, .context = d};
	packet->frags[0] = (struct dmaland_frag){at + half, length - half};
	return packet;
}

static void *sends(void *context)
{
	struct direction *d = context;

	while (atomic_load(&d->sent) < FRAMES && !is_late(d)) {
		uint32_t number = atomic_load(&d->sent);
		struct dmaland_packet *packet;

		/* the card has room for each, and what was sent was released */
		if (number - atomic_load(&d->received) >= ON_THE_WAY ||
		    dmaland_rtl8139cp_clean(ends[d->from].card) >= ON_THE_WAY) {
			sched_yield();
			continue;
		}
		packet = packet_for(d, number);
		if (packet && dmaland_rtl8139cp_send(ends[d->from].card, &packet, 1) == 1)
			atomic_fetch_add(&d->sent, 1);
		else
			atomic_fetch_add(&d->wrong, 1);
	}
	return NULL;
}

/* For the next frame, or what the other thread has sent. */
static bool is_woken(const struct direction *d)
{
	return dmaland_rtl8139cp_wait(ends[!d->from].card, (int)patience(60000)) == 1;
}

static bool is_over(const struct direction *d)
{
	return atomic_load(&d->received) == FRAMES || is_late(d);
}

/* In a thread of its own; the one that receives does not. */
static void *waits(void *context)
{
	struct direction *d = context;

	while (!is_over(d))
		if (!d->waits && dmaland_rtl8139cp_wait(ends[!d->from].card, 1) < 0)
			atomic_fetch_add(&d->wrong, 1);
		else
			sched_yield();
	return NULL;
}

/* All frames go to the card's address, which stays. */
static void *controls(void *context)
{
	static const unsigned char groups[2][DMALAND_ETH_ALEN] = {{0x01, 0, 0x5e, 0, 0, 1},
								  {0x01, 0, 0x5e, 0, 0, 2}};
	struct direction *d = context;
	struct end *end = &ends[!d->from];

	for (unsigned int i = 0; !is_over(d); i++) {
		unsigned char mac[DMALAND_ETH_ALEN];

		dmaland_rtl8139cp_set_filter(end->card, i % 2, groups[0], i % 3);
		dmaland_rtl8139cp_mac(end->card, mac);
		if (memcmp(mac, end->mac, sizeof(mac)) || dmaland_rtl8139cp_set_mac(end->card, mac))
			atomic_fetch_add(&d->wrong, 1);
		sched_yield();
	}
	return NULL;
}

static void *counts(void *context)
{
	struct dmaland_rtl8139cp_counters counters;
	struct direction *d = context;

	while (!is_over(d)) {
		if (dmaland_rtl8139cp_get_counters(ends[!d->from].card, &counters) ||
		    counters.rx_ok > FRAMES)
			atomic_fetch_add(&d->wrong, 1);
		if (dmaland_rtl8139cp_link(ends[0].card) != 100 ||
		    dmaland_rtl8139cp_link(ends[1].card) != 100)
			atomic_fetch_add(&d->wrong, 1);
		sched_yield();
	}
	return NULL;
}

static void *receives(void *context)
{
	struct direction *d = context;
	struct dmaland_packet *packets[BURST];
	unsigned char wanted[DMALAND_ETH_FRAME_LEN];

	while (atomic_load(&d->received) < FRAMES && !is_late(d)) {
		unsigned int n = dmaland_rtl8139cp_receive(ends[!d->from].card, packets, BURST);

		if (!n && d->waits && !is_woken(d))
			atomic_fetch_add(&d->wrong, 1);
		if (!n)
			sched_yield();
		for (unsigned int i = 0; i < n; i++) {
			uint32_t number = atomic_fetch_add(&d->received, 1);
			unsigned int length = length_of(number);

			frame_fill(wanted, !d->from, number, length);
			if (packets[i]->len != length || memcmp(packets[i]->data, wanted, length))
				atomic_fetch_add(&d->wrong, 1);
			dmaland_packet_free(packets[i]);
		}
	}
	return NULL;
}

static void frames_go_both_ways_at_a_time(void **state)
{
	static void *(*const does[])(void *) = {sends, receives, waits, controls, counts};

	(void)state;
	for (int way = 0; way < 3; way++) {
		struct dmaland_rtl8139cp_options options = {.size = sizeof(options),
							    .rx_way = (enum dmaland_rx_way)way,
							    .tx_way = (enum dmaland_tx_way)way};
		pthread_t threads[2][ARRAY_SIZE(does)];

		ends_open("soft:,copy_below=1", &options);
		for (unsigned int i = 0; i < 2; i++) {
			assert_true(dmaland_rtl8139cp_irq(ends[i].card) >= 0);
			memset(&directions[i], 0, sizeof(directions[i]));
			directions[i].from = i;
			directions[i].waits = way != 1;
			directions[i].end = time(NULL) + (time_t)patience(60);
		}
		for (unsigned int i = 0; i < 2 * ARRAY_SIZE(does); i++)
			assert_int_equal(pthread_create(&threads[i % 2][i / 2], NULL, does[i / 2],
							&directions[i % 2]),
					 0);
		for (unsigned int i = 0; i < 2 * ARRAY_SIZE(does); i++)
			pthread_join(threads[i % 2][i / 2], NULL);
		for (unsigned int i = 0; i < 2; i++) {
			assert_int_equal(atomic_load(&directions[i].wrong), 0);
			assert_int_equal(atomic_load(&directions[i].received), FRAMES);
			assert_int_equal(dmaland_rtl8139cp_clean(ends[i].card), 0);
			assert_int_equal(atomic_load(&directions[i].released), FRAMES / 2);
			assert_int_equal(stats(i).rx_packets, FRAMES);
			assert_int_equal(stats(i).tx_packets, FRAMES);
		}
		ends_close();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_go_both_ways_at_a_time),
	};

	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
